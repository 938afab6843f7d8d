//! What a person reads when a derivation is known to fail.
//!
//! Each text continues a sentence that begins with the derivation's path in quotes, so that Nix can print the path
//! in its own way.

use std::path::Path;

use jiff::Timestamp;

use crate::class::Class;
use crate::log::tail::beginning;
use crate::record::{Believed, FailureRecord};
use crate::time_text::{ago, span};

/// The words of this version of Nix for a real failure (`DerivationGoal::buildDone`), and what the user can do.
#[derive(Clone, Copy, Debug)]
pub struct Wording<'a> {
    /// The first word of "last 3 log lines:".
    pub last: &'a str,
    /// How many lines of the log are shown at most (`log-lines`).
    pub log_lines: usize,
    /// The text before and after the derivation's path in the sentence that says how to see the whole log.
    pub full_logs: (&'a str, &'a str),
    /// The database that has the record, if the companion program would not look there by itself.
    pub database: Option<&'a Path>,
    /// How the user can have it built all the same.
    pub retry: Retry,
    /// Whether this user may have it forgotten.
    pub may_forget: bool,
}

/// How a user can have a refused derivation built all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// With a setting.
    Option,
    /// With the companion program, as the setting would not reach the daemon that builds.
    Companion,
}

/// Prints a command in bold, as Nix does. Nix removes the escapes if the output is no terminal.
fn bold(text: &str) -> String {
    format!("\x1b[1m{text}\x1b[0m")
}

/// The command line of the companion program for a record.
fn companion(command: &str, record: &FailureRecord, wording: &Wording<'_>) -> String {
    let option = wording.database.map(|path| format!(" --database {}", path.display())).unwrap_or_default();
    format!("nix-negative-cache {command} {}{option}", record.summary.derivation)
}

/// What Nix said of the failure, if nothing else says what is wrong. For an output, that is often several lines.
fn message(believed: &Believed<'_>) -> Option<String> {
    let tells = believed.class == Class::Output && believed.is_last && !believed.record.message.is_empty();
    // The text comes from the database, and another program could have written anything there.
    tells.then(|| beginning(&believed.record.message))
}

/// Continues `'…'`: why the derivation is refused, the end of its log, and what can be done.
pub fn refusal(believed: &Believed<'_>, now: Timestamp, wording: &Wording<'_>) -> String {
    let record = believed.record;
    let ago = ago(believed.time, now);
    let mut text = match believed.origin {
        Some(_) => format!("is not built: it failed {ago} elsewhere\n"),
        None => format!("is not built again: it failed {ago}\n"),
    };
    let attempts = if record.summary.attempts == 1 {
        "1 attempt".to_owned()
    } else {
        format!("{} attempts", record.summary.attempts)
    };
    let attempts = match believed.origin {
        Some(origin) => format!("{attempts}; {origin}"),
        None => attempts,
    };
    let took = span(record.summary.duration_ms);
    text.push_str(&match message(believed) {
        Some(message) => format!("Reason: {message}\nIt ended after {took} ({attempts})\n"),
        None if believed.is_last => format!("Reason: {}, after {took} ({attempts})\n", believed.reason),
        None => format!("Reason: {} ({attempts})\n", believed.reason),
    });
    let lines: Vec<&str> = record.log.lines().collect();
    let shown = &lines[lines.len().saturating_sub(wording.log_lines)..];
    if !believed.is_last {
        text.push_str("Its log was replaced by that of a later attempt, which does not count here\n");
    } else if lines.is_empty() {
        text.push_str("There is no log of it\n");
    } else {
        if !shown.is_empty() {
            text.push_str(&format!("{} {} log lines:\n", wording.last, shown.len()));
        }
        for line in shown {
            text.push_str(&format!("> {line}\n"));
        }
        // Only the machine that built it has the whole log, and a Hydra shows it.
        match believed.origin {
            None => {
                let (before, after) = wording.full_logs;
                text.push_str(&format!("{before}{}{after}\n", record.summary.derivation));
            }
            Some(origin) => {
                if let Some((_, log)) = origin.source.build_and_log(record.summary.derivation.as_str()) {
                    text.push_str(&format!("For full logs, see {log}\n"));
                }
            }
        }
    }
    text.push_str(&match wording.retry {
        Retry::Option => format!("To build it anyway, add  {}", bold("--option negative-cache-retry true")),
        Retry::Companion => {
            format!("To have the next build try it, run  {}", bold(&companion("retry", record, wording)))
        }
    });
    if wording.may_forget {
        text.push_str(&format!("\nTo forget this failure, run  {}", bold(&companion("forget", record, wording))));
    }
    text
}

/// Continues `'…'`: the warning of `negative-cache-action = warn`.
pub fn warning(believed: &Believed<'_>, now: Timestamp, wording: &Wording<'_>) -> String {
    format!("is built although it failed {}", when_and_why(believed, now, wording))
}

/// Continues `'…'`: the warning of a dry run about what would be refused.
pub fn foreseen(believed: &Believed<'_>, now: Timestamp, wording: &Wording<'_>) -> String {
    format!("would not be built: it failed {}", when_and_why(believed, now, wording))
}

/// Continues `'…'`: the warning of a dry run about what would be built with `negative-cache-action = warn`.
pub fn foreseen_warning(believed: &Believed<'_>, now: Timestamp, wording: &Wording<'_>) -> String {
    format!("would be built although it failed {}", when_and_why(believed, now, wording))
}

/// Continues `it failed …`, in one line.
fn when_and_why(believed: &Believed<'_>, now: Timestamp, wording: &Wording<'_>) -> String {
    format!(
        "{}{} ({}); for its log, run  {}",
        ago(believed.time, now),
        if believed.origin.is_some() { " elsewhere" } else { "" },
        believed.reason,
        companion("show", believed.record, wording)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::belief::Attempt;
    use crate::class::Class;
    use crate::record::tests::record;

    const WORDING: Wording = Wording {
        last: "last",
        log_lines: 2,
        full_logs: ("For full logs, run 'nix log ", "'."),
        database: None,
        retry: Retry::Option,
        may_forget: true,
    };

    #[test]
    fn a_refusal_says_when_why_and_what_to_do() {
        let now = Timestamp::from_second(1_000_240).unwrap();
        assert_eq!(
            refusal(&record().believed(0), now, &WORDING),
            "is not built again: it failed 4 minutes ago\n\
             Reason: builder failed with exit code 1, after 12 s (1 attempt)\n\
             last 1 log lines:\n\
             > executing 'y': No such file or directory\n\
             For full logs, run 'nix log /nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv'.\n\
             To build it anyway, add  \x1b[1m--option negative-cache-retry true\x1b[0m\n\
             To forget this failure, run  \x1b[1mnix-negative-cache forget \
             /nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv\x1b[0m"
        );
    }

    #[test]
    fn several_attempts_and_no_log() {
        let mut record = FailureRecord { log: String::new(), ..record() };
        record.summary.attempts = 3;
        let text = refusal(
            &record.believed(0),
            record.summary.last_failure,
            &Wording { database: Some(Path::new("/db")), ..WORDING },
        );
        assert!(
            text.contains("it failed just now\n") && text.contains("(3 attempts)\nThere is no log of it\n"),
            "{text}"
        );
        assert!(text.ends_with("-x.drv --database /db\x1b[0m"), "{text}");
    }

    #[test]
    fn whom_a_daemon_serves_is_told_what_works_there() {
        let wording = Wording { retry: Retry::Companion, may_forget: false, ..WORDING };
        let text = refusal(&record().believed(0), record().summary.last_failure, &wording);
        assert!(
            text.ends_with(
                "To have the next build try it, run  \x1b[1mnix-negative-cache retry \
                 /nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv\x1b[0m"
            ),
            "{text}"
        );
    }

    #[test]
    fn as_many_lines_as_nix_would_show() {
        let record = FailureRecord { log: "one\ntwo\nthree\n".to_owned(), ..record() };
        let text = refusal(&record.believed(0), record.summary.last_failure, &WORDING);
        assert!(text.contains("\nlast 2 log lines:\n> two\n> three\nFor full"), "{text}");
    }

    #[test]
    fn of_an_older_attempt_less_is_known() {
        let mut record = record();
        (record.summary.attempts, record.summary.class, record.summary.exit_code) = (2, Class::Timeout, None);
        let later = Timestamp::from_second(1_000_120).unwrap();
        record.summary.last_failure = later;
        record.summary.history.insert(0, Attempt { asked: later, time: later, failure: None });
        let text = refusal(&record.believed(1), Timestamp::from_second(1_000_240).unwrap(), &WORDING);
        assert!(
            text.starts_with(
                "is not built again: it failed 4 minutes ago\nReason: builder failed with exit code 1 (2 attempts)\n\
                 Its log was replaced by"
            ),
            "{text}"
        );
    }

    #[test]
    fn what_is_wrong_with_an_output_is_said_in_full() {
        let mut record = FailureRecord {
            message: "output 'x' is not allowed to refer to the following paths:\n  'a'\n  '\x1b[31mb'".to_owned(),
            ..record()
        };
        record.summary.class = Class::Output;
        if let Some(failure) = &mut record.summary.history[0].failure {
            (failure.class, failure.exit_code) = (Class::Output, None);
        }
        let now = Timestamp::from_second(1_000_240).unwrap();
        let text = refusal(&record.believed(0), now, &WORDING);
        assert!(text.contains("Reason: output 'x' is not allowed to refer to the following paths:\n  'a'\n  'b'\nIt ended after 12 s (1 attempt)\n"), "{text}");
        record.message.clear();
        let text = refusal(&record.believed(0), now, &WORDING);
        assert!(
            text.contains("Reason: the builder succeeded, but an output is missing or was rejected, after 12 s"),
            "{text}"
        );
    }

    #[test]
    fn a_warning_is_one_line() {
        let text = warning(&record().believed(0), Timestamp::from_second(1_007_200).unwrap(), &WORDING);
        assert_eq!(
            text,
            "is built although it failed 2 hours ago (builder failed with exit code 1); for its log, run  \
             nix-negative-cache show /nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv"
        );
    }
}
