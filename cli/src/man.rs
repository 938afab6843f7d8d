//! The man pages.

use std::env;
use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use jiff::Timestamp;

use crate::args::Arguments;

/// How long a line of a page is at most, without the paths and commands in it that are longer.
const WIDTH: usize = 80;

/// Writes a page for each command.
///
/// # Errors
///
/// If one can't be written.
pub fn write(folder: &Path) -> io::Result<()> {
    let generated = tempfile::tempdir()?;
    clap_mangen::generate_to(Arguments::command(), generated.path())?;
    for page in fs::read_dir(generated.path())? {
        let page = page?;
        let text = fs::read_to_string(page.path())?;
        fs::write(folder.join(page.file_name()), tidy(&text))?;
    }
    Ok(())
}

/// The same page, as people write one: mandoc(1) finds nothing to say about it.
fn tidy(page: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in page.lines().map(str::trim_end) {
        let last = lines.last().map(String::as_str);
        match (last, line) {
            // Space is a break already, and so is the beginning of a paragraph.
            (Some(".sp" | ".br" | ".RS" | ".RE" | ".PP"), ".br") => {}
            (Some(".br"), ".sp" | ".RS" | ".RE" | ".TP" | ".PP" | ".SH") => {
                lines.pop();
                lines.push(line.to_owned());
            }
            _ if line.is_empty() => {}
            _ if line.starts_with(".TH ") => lines.push(titled(line)),
            _ if line.starts_with('.') || line.starts_with('\'') => lines.push(line.to_owned()),
            _ => lines.extend(wrapped(line)),
        }
    }
    lines.join("\n") + "\n"
}

/// The request that begins a page, with the title in capitals and a date, which clap_mangen leaves out.
fn titled(request: &str) -> String {
    let title = request.split(' ').nth(1).unwrap_or_default().to_uppercase();
    let program = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
    format!(".TH {title} 1 {} \"{program}\"", date())
}

/// The day on which the pages are written, unless who builds a package says another one
/// (reproducible-builds.org/docs/source-date-epoch).
fn date() -> String {
    let epoch = env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    let time = epoch.and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or_else(Timestamp::now);
    time.strftime("%F").to_string()
}

/// A line of text in lines that are short. No line may begin like a request.
fn wrapped(line: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in line.split(' ') {
        match lines.last_mut() {
            Some(last) if last.is_empty() => last.push_str(word),
            Some(last) if last.len() + 1 + word.len() < WIDTH => {
                last.push(' ');
                last.push_str(word);
            }
            _ if word.starts_with(['.', '\'']) => lines.push(format!("\\&{word}")),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_tidied_without_other_words() {
        let text = "word ".repeat(16) + ".x and 'more' text that is too long for a line";
        let tidied = tidy(&format!(".SH A \n{text}\n.br\n\n.sp\n.br\nb\n"));
        let words = format!(".SH A {text} .sp b ").replace(" .x", " \\&.x");
        assert_eq!(tidied.replace('\n', " "), words, "{tidied}");
        assert!(tidied.lines().all(|line| line.len() < WIDTH && !line.starts_with(".x")), "{tidied}");
    }
}
