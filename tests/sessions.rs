//! The console sessions of README.md and docs/*.md, played on real Nix.
//!
//! A block fenced as `console` has commands after `$ `. Below each command is what it prints, on standard error as well. A
//! line that is `…`, or begins with `… `, stands for any number of lines. Another `…` stands for a part of a line; in a path
//! of a command, the shell fills it in. The line before a block is a comment that readers do not see:
//!
//! - `<!-- session: FOLDER -->` plays it with the files of `tests/sessions/FOLDER`; what its `setup` says is said to the
//!   shell first. Blocks of one document that have the same comment are one session, and what follows a comma in it tells
//!   sessions with the same files apart.
//! - `<!-- not run: WHY -->` is for what can't be played. Without a comment, a block is played in an empty folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use nix_negative_cache_tests::{Scratch, TWO_USERS, beside_a_daemon, in_older_words, left_out};
use regex::{Captures, Regex};
use snapbox::Assert;

/// A command and its output.
#[derive(Debug)]
struct Step {
    line: usize,
    command: String,
    expected: String,
}

/// The blocks of one session, or a block that is not played.
#[derive(Debug, Default)]
struct Session {
    folder: Option<String>,
    not_run: Option<String>,
    steps: Vec<Step>,
}

/// The sessions of a document, by the comments of their blocks. A block without a comment has the number of its line.
fn sessions(document: &str) -> BTreeMap<String, Session> {
    let mut sessions: BTreeMap<String, Session> = BTreeMap::new();
    let mut lines = document.lines().enumerate();
    let mut before = "";
    while let Some((number, line)) = lines.next() {
        if line == "```console" {
            let comment = before.strip_prefix("<!-- ").and_then(|comment| comment.strip_suffix(" -->"));
            let key = comment.map_or(format!("line {}", number + 1), str::to_owned);
            let session = sessions.entry(key).or_default();
            match comment.map(|comment| comment.split_once(": ").unwrap_or((comment, ""))) {
                None => {}
                Some(("session", text)) => session.folder = text.split(',').next().map(str::to_owned),
                Some(("not run", why)) => session.not_run = Some(why.to_owned()),
                Some(_) => panic!("line {number}: what is '{before}'?"),
            }
            let block = lines.by_ref().take_while(|(_, line)| *line != "```");
            session.steps.extend(steps(block.map(|(number, line)| (number + 1, line))));
        } else if line.starts_with("```") {
            for (number, line) in lines.by_ref().take_while(|(_, line)| *line != "```") {
                assert!(!line.starts_with("$ "), "line {}: a session that is not fenced as `console`", number + 1);
            }
        }
        before = line;
    }
    sessions
}

fn steps<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (number, line) in lines {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => {
                steps.push(Step { line: number, command: command.to_owned(), expected: String::new() });
            }
            (None, Some(step)) if step.command.ends_with('\\') => step.command.push_str(&format!("\n{line}")),
            (None, Some(step)) => step.expected.push_str(&format!("{line}\n")),
            (None, None) => panic!("line {number}: a session begins with a command, not with '{line}'"),
        }
    }
    steps
}

/// Separates the outputs of the commands of a session.
const SEPARATOR: char = '\u{1e}';

/// Plays a session. The error says what differs.
fn play(session: &Session) -> Result<(), String> {
    let nix = Scratch::new();
    if let Some(folder) = &session.folder {
        copy(&Path::new("sessions").join(folder), &nix.path("work"));
    }
    // One shell runs all commands, so each command sees the exit status of the one before it.
    let mut script = "exec 2>&1; PATH=${COMPANION%/*}:$PATH; [ ! -e setup ] || . ./setup\n".to_owned();
    for step in &session.steps {
        let command = step.command.replace("/nix/store/…-", "$NIX_STORE_DIR/*-");
        script.push_str(&format!("status=$?; printf '\\036'; (exit $status)\n{command}\n"));
    }
    // The `setup` of a session with several users needs this.
    let ran = nix.run_with(&script, &[("BESIDE_A_DAEMON", &beside_a_daemon(TWO_USERS))]);
    let printed: Vec<&str> = ran.stdout.split(SEPARATOR).collect();
    if printed.len() != session.steps.len() + 1 {
        return Err(format!("not all of it was played: {ran}"));
    }
    for (step, printed) in session.steps.iter().zip(&printed[1..]) {
        let printed = alike(&with_usual_paths(&nix, printed));
        let expected = pattern(&alike(&step.expected));
        let compare = Assert::new().normalize_paths(false).try_eq(Some(&step.command), printed.into(), expected.into());
        compare.map_err(|difference| format!("line {}: {difference}", step.line))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) {
    let folder = fs::read_dir(from).unwrap_or_else(|error| panic!("'{}': {error}", from.display()));
    for entry in folder {
        let entry = entry.expect("an entry of the folder");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a file of the session");
    }
}

/// The output, with the paths of an ordinary installation.
fn with_usual_paths(nix: &Scratch, printed: &str) -> String {
    let mut printed = printed.to_owned();
    for (folder, usual) in
        [("store", "/nix/store"), ("var", "/nix/var/nix"), ("work", "/home/me/project"), ("home", "/home/me")]
    {
        printed = printed.replace(&*nix.path(folder).to_string_lossy(), usual);
    }
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    printed
        .replace(&format!(" on {host}:"), " on laptop:")
        .replace(&format!("Host:           {host}\n"), "Host:           laptop\n")
}

/// Replaces everything that differs between runs, machines and versions of Nix by the same text. This is also done to the
/// expected output, so documents can show realistic times.
fn alike(text: &str) -> String {
    static DIFFERENT: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let differences = [
            (r"\x1b\[[0-9;]*m", ""),
            (r"[0-9a-df-np-sv-z]{32}-", "…-"),
            (r"\b[0-9a-f]{40}\b", "COMMIT"),
            (r"\bjust now\b|\b[0-9]+ (second|minute|hour|day|week|month|year)s? ago\b", "AGO"),
            (r"\b([0-9]+ [dhm] )*[0-9]+(\.[0-9])? (ms|[dhms])\b", "SPAN"),
            (r"\b20[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2} [A-Z]+", "MOMENT"),
            (r"\b(x86_64|aarch64)-linux\b", "SYSTEM"),
            (r"\b[0-9]+ bytes\b", "SIZE"),
            // Versions of Nix word the end of a log differently. `in_older_words` has other differences.
            (r"\bFor full logs, run:?\s+'?(nix log [^'\n]*)'?\.?", "For full logs, run: $1"),
            // The width of a column depends on its content.
            (r"(?m)(\S)  +", "$1  "),
            (r"(?m) +$", ""),
        ];
        differences.map(|(regex, same)| (Regex::new(regex).expect("a regular expression"), same)).into()
    });
    DIFFERENT.iter().fold(in_older_words(text), |text, (regex, same)| regex.replace_all(&text, *same).into_owned())
}

/// The expected output as a pattern of snapbox.
fn pattern(expected: &str) -> String {
    static LINES: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^…(| .*)$|…").expect("a regular expression"));
    let pattern =
        LINES.replace_all(expected, |found: &Captures<'_>| if found.get(1).is_some() { "..." } else { "[..]" });
    pattern.into_owned()
}

fn documents() -> Vec<PathBuf> {
    let docs = fs::read_dir("../docs").expect("the folder of documents").map(|entry| entry.expect("a document").path());
    let mut documents: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|ext| ext == "md")).collect();
    documents.sort();
    documents.insert(0, "../README.md".into());
    documents
}

#[test]
fn what_the_documents_show_is_what_happens() {
    if left_out() {
        return;
    }
    let (mut played, mut folders, mut different) = (0, BTreeSet::new(), Vec::new());
    for path in documents() {
        let document = fs::read_to_string(&path).expect("a document");
        for (key, session) in sessions(&document) {
            match &session.not_run {
                Some(why) => println!("{}: not run: {why}", path.display()),
                None => {
                    played += 1;
                    folders.extend(session.folder.clone());
                    different.extend(play(&session).err().map(|why| format!("{}: {key}: {why}", path.display())));
                }
            }
        }
    }
    assert!(different.is_empty(), "{} of {played} sessions differ:\n{}", different.len(), different.join("\n"));
    for folder in fs::read_dir("sessions").expect("the folder of sessions") {
        let name = folder.expect("a folder").file_name();
        assert!(folders.contains(&*name.to_string_lossy()), "no session is about tests/sessions/{}", name.display());
    }
}

#[test]
fn a_session_that_differs_is_told() {
    if left_out() {
        return;
    }
    let play = |block: &str| {
        let document = format!("<!-- session: library -->\n```console\n{block}\n```\n");
        let sessions = sessions(&document);
        play(sessions.values().next().expect("a session"))
    };
    for right in [
        "$ echo one two; false\none …\n$ echo $?\n1",
        "$ echo one\n…\none\n…",
        "$ echo one; echo two; echo three\n… two lines …\nthree",
        "$ echo after 5 ms, 4 minutes ago\nafter 2 m 12 s, 2 hours ago",
    ] {
        play(right).expect(right);
    }
    for wrong in [
        "$ echo one\ntwo",
        "$ echo one",
        "$ true\none",
        "$ echo one; echo two\none",
        "$ echo one two three\none … four",
        "$ echo one; echo two; echo three\n…\ntwo",
        "$ exit\n$ echo one\none",
        "$ nix-build -A library\n… it does not fail …\nerror: '/nix/store/…-library.drv' is not built again…\n…",
    ] {
        play(wrong).expect_err(wrong);
    }
}
