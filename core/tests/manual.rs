//! The documents agree with the code: the tables of the manual, and all messages. A table that differs is printed as it
//! should be.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::counts::Verdict;
use nix_negative_cache_core::environment::FACTORS;
use nix_negative_cache_core::portable::Bar;
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

#[test]
fn portable() {
    let mut table = "| A failure stays on the machine if |\n| --- |\n".to_owned();
    for bar in Bar::ALL {
        table.push_str(&format!("| {} |\n", bar.rule()));
    }
    is_in_the_manual(&format!("{table}\n"));
}

#[test]
fn what_becomes_of_failed_builds() {
    let mut table = "| Verdict | As `stats` says it, below `NOT RECORDED, BECAUSE` |\n| --- | --- |\n".to_owned();
    for verdict in Verdict::ALL {
        table.push_str(&format!("| `{verdict}` | {} |\n", verdict.in_words()));
    }
    is_in_the_manual(&format!("{table}\n"));
}

/// A text with words in a source file.
struct Literal {
    file: PathBuf,
    /// The text, with `…` in the place of each argument.
    text: String,
    /// The code before the text, without white space at its end.
    before: String,
}

/// Texts that look like messages but are none.
const NO_MESSAGES: [&str; 31] = [
    // These are printed by other programs.
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
    // These are Nix's own errors, which the plugin prints in its place.
    "… dependencies of derivation '…' failed to build",
    "Cannot build '…'.…Reason: ",
    "…Output paths:",
    "build of … failed",
    "build failed",
    " of silence",
    // These parts of messages are in the tables of the manual.
    "any change",
    "switched on",
    "switched off",
    "something added",
    "raised or removed",
    "no longer among the builders",
    // Only a developer can cause these.
    "there is no class '…'",
    "asked for by the environment",
    // This is the content of the marker.
    "This binary cache carries build failures of nix-negative-cache.…",
    // This is the name of a goal in debug output.
    "negative cache",
];

/// Whether the code before a text shows that it is no message: it is for machines or for developers, or it explains itself.
fn is_no_message(file: &Path, before: &str) -> bool {
    // The manual has its own words for the descriptions of settings.
    if file.ends_with("core/src/settings.rs") && before.ends_with("description:") {
        return true;
    }
    // These are words that the plugin looks for in logs.
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
    // The advice of `doctor` already says what to do.
    const ADVICE: [&str; 5] = [".advice(", ".advice(format!(", ".aftermath(", "let advice =", "let advice = format!("];
    CODE.iter().chain(&ADVICE).any(|end| before.ends_with(end))
}

/// All texts in the sources of the plugin, the loader and the program, without those of their tests.
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
    /// Comments, raw strings and characters, which are skipped; and at last strings, which are captured.
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
            // C++ joins adjacent strings.
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

/// The rows of the tables of messages: what the first column has, and the rest.
fn rows_of_messages() -> impl Iterator<Item = (&'static str, &'static str)> {
    let rows = MESSAGES.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split_once(" | ").expect("a second column"))
}

/// The lists of messages that need no explanation.
fn unexplained() -> impl Iterator<Item = &'static str> {
    MESSAGES
        .split("\n\n")
        .filter(|paragraph| ["Needs no ", "Need no "].iter().any(|start| paragraph.starts_with(start)))
}

fn fragments(message: &str) -> impl Iterator<Item = &str> {
    static WORDS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?i)[a-z]'? '?[a-z]").expect("a regular expression"));
    message.split('…').map(str::trim).filter(|fragment| WORDS.is_match(fragment))
}

#[test]
fn every_message_is_in_the_manual() {
    let sql = Regex::new(r"^\s*(--|SELECT|PRAGMA|CREATE|ALTER|INSERT|UPDATE|DELETE|VACUUM) ").unwrap();
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
    let rows = rows_of_messages().map(|(message, _)| message);
    let mut known = 0;
    for place in rows.chain(unexplained()) {
        for found in message.captures_iter(place) {
            for part in fragments(&found[1]) {
                assert!(texts.iter().any(|text| text.contains(part)), "no source says '{part}': {place}");
                known += 1;
            }
        }
    }
    assert!(known > 200, "only {known} messages were found");
}

#[test]
fn every_row_says_more_than_its_message() {
    for (message, meaning) in rows_of_messages() {
        let says = meaning.trim_matches(['|', ' ', '.']);
        assert!(!says.is_empty() && !message.contains(says), "this message needs no row: {message}");
    }
}
