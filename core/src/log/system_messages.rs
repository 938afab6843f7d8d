//! The texts of C libraries for errors and signals, in all languages (`strerror`, `strsignal`). A builder has its own
//! language and its own C library, so this module does not ask the C library of this process. `scripts/system-messages`
//! makes the table.

use std::collections::HashMap;
use std::sync::LazyLock;

/// A text of a C library in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemMessage {
    /// The name of the error or signal, such as `ENOSPC` or `SIGKILL`.
    pub name: &'static str,
    /// Where the text begins, in bytes.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// The last character before it that is no blank; `None` at the beginning of the line.
    pub opener: Option<char>,
}

/// The name of an error or signal, and a text for it.
type Text = (&'static str, &'static str);

/// The texts by their first letters.
static TEXTS: LazyLock<HashMap<[u8; 3], Vec<Text>>> = LazyLock::new(|| {
    let mut texts: HashMap<_, Vec<_>> = HashMap::new();
    for (name, text) in include_str!("system_messages.tsv").lines().filter_map(entry) {
        if let Some(key) = key(text) {
            texts.entry(key).or_default().push((name, text));
        }
    }
    // Of two texts of which one begins with the other, the longer one is meant.
    texts.values_mut().for_each(|texts| texts.sort_by_key(|(_, text)| std::cmp::Reverse(text.len())));
    texts
});

/// The name and the text in a line of the table. Whether the text is English matters to the build script only.
fn entry(line: &'static str) -> Option<Text> {
    line.strip_suffix("\ten").unwrap_or(line).split_once('\t')
}

fn key(text: &str) -> Option<[u8; 3]> {
    let [one, two, three, ..] = text.as_bytes() else { return None };
    Some([one, two, three].map(u8::to_ascii_lowercase))
}

/// The message that `line` has at `start`, if it ends there as a word does. Go and others write the first letter small.
fn at(line: &str, start: usize) -> Option<SystemMessage> {
    let rest = line.get(start..)?;
    let (name, text) = TEXTS.get(&key(rest)?)?.iter().find(|(_, text)| {
        rest.get(..text.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(text))
            && !rest[text.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_')
    })?;
    let opener = line[..start].trim_end().chars().next_back();
    Some(SystemMessage { name, start, end: start + text.len(), opener })
}

/// The last message in `line` that stands where programs put it: at the beginning, after a colon, a bracket or a quote.
pub fn find(line: &str) -> Option<SystemMessage> {
    let opens = |c: char| {
        matches!(
            c,
            ':' | '：' | '(' | '[' | '{' | '\'' | '"' | '`' | '‘' | '“' | '«' | '<' | ']' | ')' | '=' | ',' | '-'
        )
    };
    let after = line.char_indices().rev().filter(|(_, c)| opens(*c)).map(|(place, c)| place + c.len_utf8());
    let starts = after.map(|place| place + line[place..].len() - line[place..].trim_start().len());
    starts.chain([0]).find_map(|start| at(line, start))
}

/// The message of a signal after the number of a process, as shells print it: `x.sh: line 4: 4711 Killed   ./x`.
pub fn after_process(line: &str) -> Option<SystemMessage> {
    let mut digits = 0;
    for (place, c) in line.char_indices() {
        match c {
            '0'..='9' => digits += 1,
            // In a sandbox, the processes of a builder have small numbers. A single digit counts behind a colon only.
            ' ' if digits >= 2 || digits == 1 && line[..place - 1].trim_end().ends_with(':') => {
                let start = place + line[place..].len() - line[place..].trim_start().len();
                let found = at(line, start).filter(|found| found.name.starts_with("SIG"));
                // Behind it is the command, in a column of its own.
                if let Some(found) = found.filter(|found| line[found.end..].starts_with("  ")) {
                    return Some(found);
                }
                digits = 0;
            }
            _ => digits = 0,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_where_programs_put_them() {
        let name = |line: &str| find(line).map(|found| found.name);
        for (line, expected) in [
            ("cp: error writing 'x': No space left on device", Some("ENOSPC")),
            ("write /build/x: no space left on device", Some("ENOSPC")),
            ("cp: 'x' の書き込みエラー: デバイスに空き領域がありません", Some("ENOSPC")),
            ("cp: Fehler beim Schreiben von 'x': Auf dem Gerät ist kein Speicherplatz mehr verfügbar", Some("ENOSPC")),
            ("OSError: [Errno 28] No space left on device: '/build/x'", Some("ENOSPC")),
            ("x: too many open files in system", Some("ENFILE")),
            ("x: Too many open files", Some("EMFILE")),
            ("sh: out of memory", Some("ENOMEM")),
            ("it says that there is no space left on device", None),
            ("x: Killedness", None),
        ] {
            assert_eq!(name(line), expected, "{line}");
        }
    }

    #[test]
    fn what_shells_say_of_signals() {
        let name = |line: &str| after_process(line).map(|found| found.name);
        assert_eq!(name("/build/run.sh: line 12:  4711 Killed                  ./tests"), Some("SIGKILL"));
        assert_eq!(name("./genera.sh: línea 45: 31337 Terminado (killed)      ./gen-tablas"), Some("SIGKILL"));
        assert_eq!(name("script: line 1:     3 Killed                  sleep 9"), Some("SIGKILL"));
        assert_eq!(name("/build/x: line 3:     5 Terminated              foo"), Some("SIGTERM"));
        assert_eq!(name("killed 12 mutants"), None);
        assert_eq!(name("round 3 Killed   goblins"), None);
    }

    #[test]
    fn the_table_is_whole() {
        let lines = include_str!("system_messages.tsv").lines();
        let names: std::collections::BTreeSet<&str> = lines.map(|line| entry(line).unwrap().0).collect();
        assert_eq!(names.len(), 31, "{names:?}");
        for (name, text) in TEXTS.values().flatten() {
            assert!(find(text).is_some(), "{name} {text}");
        }
    }
}
