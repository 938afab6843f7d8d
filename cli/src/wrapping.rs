//! Text that fits the terminal. Lines end between words; a path, and whatever else has no space in it, stays whole, so that it
//! can be copied.

use std::env;
use std::io;
use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;

/// How wide a terminal is; none if the stream is no terminal.
pub fn width_of(stream: impl AsFd) -> Option<usize> {
    tcgetwinsize(stream).ok().map(|size| usize::from(size.ws_col)).filter(|width| *width > 0)
}

/// How wide the help may be: as the terminal or, where there is none, as the environment says.
pub fn help_width() -> Option<usize> {
    width_of(io::stdout()).or_else(|| env::var("COLUMNS").ok()?.parse().ok()).filter(|width| *width > 0)
}

/// The lines of a text that is to have so many columns; lines after the first one begin with `indent` spaces.
///
/// A part between two spaces and the next two is a command line to copy, and stays whole as well.
pub fn wrapped(text: &str, width: usize, indent: usize) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for (space, word) in words(text) {
        if line.trim_start().is_empty() || columns(&line) + space.len() + columns(word) <= width {
            line.push_str(space);
            line.push_str(word);
        } else {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent) + word));
        }
    }
    lines.push(line);
    lines
}

/// The words of a text, each with the space before it.
fn words(text: &str) -> Vec<(&str, &str)> {
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (space, after) = rest.split_at(rest.len() - rest.trim_start_matches(' ').len());
        let is_command = space.len() == 2 && !words.is_empty();
        let end = after.find(if is_command { "  " } else { " " }).unwrap_or(after.len());
        let (word, after) = after.split_at(end);
        words.push((space, word));
        rest = after;
    }
    words
}

/// How many columns a text takes, without its escape sequences for colours.
fn columns(text: &str) -> usize {
    let mut parts = text.split('\x1b');
    let first = parts.next().map_or(0, |text| text.chars().count());
    first + parts.map(|part| part.split_once('m').map_or(0, |(_, text)| text.chars().count())).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_between_words() {
        assert_eq!(wrapped("one two three", 8, 2), ["one two", "  three"]);
        assert_eq!(wrapped("  one two", 40, 2), ["  one two"]);
        assert_eq!(wrapped("", 8, 0), [""]);
        assert_eq!(wrapped("see '/a/path/that/is/longer' there", 10, 0), ["see", "'/a/path/that/is/longer'", "there"]);
        assert_eq!(wrapped("\x1b[1mone\x1b[0m two", 7, 0), ["\x1b[1mone\x1b[0m two"]);
    }

    #[test]
    fn a_command_line_stays_whole() {
        assert_eq!(wrapped("as root, run  rm -f /a /b  or not", 12, 0), ["as root, run", "rm -f /a /b", "or not"]);
    }
}
