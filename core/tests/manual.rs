//! The manual says what the code says: its tables, which on failure are printed as they should be, and all messages.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::environment::FACTORS;
use regex::Regex;

const MANUAL: &str = include_str!("../../docs/manual.md");
const MESSAGES: &str = include_str!("../../docs/messages.md");

#[track_caller]
fn is_in_the_manual(table: &str) {
    assert!(MANUAL.contains(table), "docs/manual.md does not have this table:\n\n{table}");
}

#[test]
fn classes() {
    let mut table = "| Class | Rule | Recorded | Source |\n| --- | --- | --- | --- |\n".to_owned();
    for &class in Class::ALL {
        let description = class.description();
        table.push_str(&format!(
            "| `{class}` | {} | {} | {} |\n",
            description.rule, description.recorded, description.source
        ));
    }
    is_in_the_manual(&table);
}

#[test]
fn environment() {
    let mut table = "| What | Built again after | Because |\n| --- | --- | --- |\n".to_owned();
    for factor in FACTORS {
        let only = factor.only.map(|class| format!(" (class `{class}` only)")).unwrap_or_default();
        let name = if factor.setting { format!("`{}`", factor.name) } else { factor.name.to_owned() };
        table.push_str(&format!("| {name}{only} | {} | {} |\n", factor.direction, factor.why));
    }
    is_in_the_manual(&table);
}

/// A text in a source that has words.
struct Literal {
    file: PathBuf,
    /// With `…` for what is put in.
    text: String,
    /// The code before it, without white space at its end.
    before: String,
}

/// What looks like a message and is none.
const NO_MESSAGES: [&str; 30] = [
    // What others print.
    "No such file or directory",
    "Permission denied",
    "Not a directory",
    "Argument list too long",
    "Too many levels of symbolic links",
    "Exec format error",
    "note: build failure may have been caused by lack of free disk space",
    "build of '…' on '…' failed: ",
    "builder for '",
    "' failed to produce output path for output '",
    "cycle detected in build of '",
    "' in the references of output '",
    "' is not allowed to refer to the following paths:",
    "' is too large at ",
    "closure of path '",
    // Nix's own errors, said in its place.
    "… dependencies of derivation '…' failed to build",
    "Cannot build '…'.…Reason: ",
    "…Output paths:",
    "build of … failed",
    "build failed",
    " of silence",
    // Parts of messages that are in the tables of the manual.
    "any change",
    "switched on",
    "switched off",
    "something added",
    "raised or removed",
    "no longer among the builders",
    // Whose fault it would be that somebody sees it.
    "there is no class '…'",
    "asked for by the environment",
    // The name of a goal in debug output.
    "negative cache",
];

/// Whether a text is for machines, for who reads the code, or explains itself, as the code before it shows.
fn is_no_message(file: &Path, before: &str) -> bool {
    // What Nix says of settings, the table of settings has in its own words.
    if file.ends_with("cpp/settings.cc") && !before.ends_with("UsageError(") {
        return true;
    }
    // The words of logs.
    if ["log/line.rs", "log/signals.rs"].iter().any(|end| file.ends_with(end)) {
        return true;
    }
    const CODE: [&str; 12] = [
        "reason =",
        ".contains(",
        "starts_with(",
        "strip_prefix(",
        "strip_prefix(&format!(",
        ".split_once(",
        ".find(",
        "if first == format!(",
        "nix::folder(",
        "announced(&said,",
        "line(",
        "debug(",
    ];
    // The doctor's advice is what to do.
    const ADVICE: [&str; 5] = [".advice(", ".advice(format!(", ".aftermath(", "let advice =", "let advice = format!("];
    CODE.iter().chain(&ADVICE).any(|end| before.ends_with(end))
}

/// All texts of the sources of the plugin, its loader and the program, but for their tests.
fn literals() -> Vec<Literal> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in ["cpp", "src", "core/src", "cli/src", "loader/src"] {
        sources(&root.join(folder), &mut files);
    }
    files.sort();
    files.into_iter().flat_map(|file| literals_of(&file)).collect()
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("a source").path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|end| ["rs", "cc", "hh"].iter().any(|code| end == *code))
            && !path.ends_with("tests.rs")
        {
            files.push(path);
        }
    }
}

fn literals_of(file: &Path) -> Vec<Literal> {
    /// Comments, texts as they are, characters, then texts.
    static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
        let token = r#"(?s)//[^\n]*|/\*.*?\*/|R"\(.*?\)"|r\#".*?"\#|'(?:\\.|[^'\\])'|"((?:[^"\\]|\\.)*)""#;
        Regex::new(token).expect("a regular expression")
    });
    static PUT_IN: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\{[^{}]*\}|%[sd]|\\n *|\s\s+|^(nix-negative-cache|warning): ").expect("a regular expression")
    });
    static CONTINUED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\\\n\s*").expect("a regular expression"));
    let source = fs::read_to_string(file).expect("a source");
    let source = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let source = source.split("#[cfg(test)]\npub(crate) mod tests").next().unwrap_or_default();
    let mut texts: Vec<(String, String)> = Vec::new();
    let mut last_end = 0;
    for found in TOKEN.captures_iter(source) {
        let Some(text) = found.get(1) else { continue };
        let before = source[last_end..text.start() - 1].trim_end();
        let text = CONTINUED.replace_all(text.as_str(), "").replace("\\\"", "\"");
        match texts.last_mut() {
            // C++ puts texts together that stand beside each other.
            Some((_, last)) if before.is_empty() => last.push_str(&text),
            _ => texts.push((before.to_owned(), text)),
        }
        last_end = found.get_match().end();
    }
    let literal = |(before, text): (String, String)| Literal {
        file: file.to_owned(),
        text: PUT_IN
            .replace_all(&text, |found: &regex::Captures<'_>| if found[0].trim().is_empty() { " " } else { "…" })
            .into_owned(),
        before,
    };
    texts.into_iter().map(literal).collect()
}

fn fragments(message: &str) -> impl Iterator<Item = &str> {
    static WORDS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?i)[a-z]'? '?[a-z]").expect("a regular expression"));
    message.split('…').map(str::trim).filter(|fragment| WORDS.is_match(fragment))
}

#[test]
fn every_message_is_in_the_manual() {
    let sql = Regex::new(r"^\s*(--|SELECT|PRAGMA|CREATE|ALTER|INSERT|UPDATE|DELETE) ").unwrap();
    let mut excused = vec![false; NO_MESSAGES.len()];
    let mut missing = Vec::new();
    for Literal { file, text, before } in literals() {
        if let Some(place) = NO_MESSAGES.iter().position(|no_message| *no_message == text) {
            excused[place] = true;
        } else if !is_no_message(&file, &before) && !sql.is_match(&text) {
            let missing_here = fragments(&text).filter(|part| !MESSAGES.contains(part) && !MANUAL.contains(part));
            missing.extend(missing_here.map(|part| format!("{}: {part}", file.display())));
        }
    }
    assert!(missing.is_empty(), "docs/messages.md does not have:\n{}", missing.join("\n"));
    let stale: Vec<&&str> =
        NO_MESSAGES.iter().zip(&excused).filter(|(_, excused)| !**excused).map(|(text, _)| text).collect();
    assert!(stale.is_empty(), "no source has these texts any more: {stale:?}");
}

#[test]
fn every_message_of_the_manual_is_in_the_code() {
    let texts: Vec<String> = literals().into_iter().map(|literal| literal.text).collect();
    let message = Regex::new(r"`([^`]*)`").unwrap();
    let rows = MESSAGES.lines().filter(|line| line.starts_with("| `"));
    let mut known = 0;
    for row in rows {
        let first = row.split(" | ").next().unwrap_or_default();
        for found in message.captures_iter(first) {
            for part in fragments(&found[1]) {
                assert!(texts.iter().any(|text| text.contains(part)), "no source says '{part}': {row}");
                known += 1;
            }
        }
    }
    assert!(known > 100, "only {known} messages were found");
}
