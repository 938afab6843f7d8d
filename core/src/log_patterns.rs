//! What the end of a log says of a failure that may not happen again. The patterns are data: `log_patterns.toml`.

use std::sync::LazyLock;

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

/// What a pattern is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A shortage on this machine.
    Machine,
    /// A connection that did not come about.
    Network,
    /// A server that said no.
    Answer,
}

/// A line that tells of a failure which may not happen again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// What the line is about, as people read it.
    pub cause: &'static str,
    /// What kind of thing that is.
    pub kind: Kind,
    /// The line.
    pub line: &'a str,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    lines: usize,
    error: String,
    report: String,
    pattern: Vec<Pattern>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pattern {
    cause: String,
    kind: Kind,
    regex: String,
    /// Whether its lines start in a way of their own.
    #[serde(default)]
    unprefixed: bool,
    #[cfg_attr(not(test), expect(dead_code, reason = "for the test, next to the pattern that they show"))]
    samples: Vec<String>,
    #[cfg_attr(not(test), expect(dead_code, reason = "for the test, next to the pattern that they show"))]
    innocent: Vec<String>,
}

struct Patterns {
    lines: usize,
    report: Regex,
    patterns: Vec<(Pattern, Regex)>,
}

fn parse(text: &str) -> Result<Patterns, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    // Without Unicode: what they look for has none, and each process that sees a failure compiles them.
    let compile = |regex: &str| RegexBuilder::new(regex).unicode(false).build().map_err(|error| error.to_string());
    let compiled = |pattern: Pattern| {
        if !pattern.unprefixed && !pattern.regex.starts_with('@') {
            return Err(format!("'{}' has no start: write '@' or 'unprefixed = true'", pattern.regex));
        }
        let regex = compile(&pattern.regex.replacen('@', &file.error, 1))?;
        Ok((pattern, regex))
    };
    Ok(Patterns {
        lines: file.lines,
        report: compile(&file.report)?,
        patterns: file.pattern.into_iter().map(compiled).collect::<Result<_, String>>()?,
    })
}

static PATTERNS: LazyLock<Result<Patterns, String>> = LazyLock::new(|| parse(include_str!("log_patterns.toml")));

impl Patterns {
    fn find<'a>(&'static self, log: &'a str) -> Option<Found<'a>> {
        log.lines().rev().map(str::trim_end).filter(|line| !line.is_empty()).take(self.lines).find_map(|line| {
            if self.report.is_match(line.as_bytes()) {
                return None;
            }
            let (pattern, _) = self.patterns.iter().find(|(_, regex)| regex.is_match(line.as_bytes()))?;
            Some(Found { cause: &pattern.cause, kind: pattern.kind, line })
        })
    }
}

/// The last line of `log` that tells of a failure which may not happen again, if one of its last lines does.
pub fn find(log: &str) -> Option<Found<'_>> {
    PATTERNS.as_ref().ok().and_then(|patterns| patterns.find(log))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns() -> &'static Patterns {
        PATTERNS.as_ref().unwrap()
    }

    #[test]
    fn each_pattern_finds_its_samples_and_not_the_innocent() {
        for (pattern, regex) in &patterns().patterns {
            assert!(!pattern.samples.is_empty() && !pattern.innocent.is_empty(), "{}", pattern.regex);
            for sample in &pattern.samples {
                assert!(regex.is_match(sample.as_bytes()), "{}: {sample}", pattern.regex);
                let found = find(sample).unwrap_or_else(|| panic!("taken for a report: {sample}"));
                assert_eq!(found.cause, pattern.cause, "{sample}");
            }
            for line in &pattern.innocent {
                assert_eq!(find(line), None, "{line}");
            }
        }
    }

    #[test]
    fn only_the_last_lines_count() {
        let error = "cp: error writing 'x': No space left on device\n";
        let after = |lines: usize| format!("{error}{}", "and so on\n\n".repeat(lines));
        assert!(find(&after(patterns().lines - 1)).is_some());
        assert_eq!(find(&after(patterns().lines)), None);
    }

    #[test]
    fn what_test_suites_print_is_not_taken_for_an_error() {
        let logs = [
            "running 3 tests\ntest net::refused ... ok\ntest net::other ... FAILED\n\nfailures:\n    net::other\n\n\
             test result: FAILED. 2 passed; 1 failed; 0 ignored\n\nerror: test failed, to rerun pass `--lib`\n",
            "    def test_refused():\n>       connect()\nE       ConnectionRefusedError: [Errno 111] Connection refused\n\
             \ntest_net.py:3: ConnectionRefusedError\n=== short test summary info ===\n\
             FAILED test_net.py::test_refused - ConnectionRefusedError: [Errno 111] Connection refused\n\
             === 1 failed in 0.05s ===\n",
            "--- FAIL: TestDial (0.00s)\n    dial_test.go:9: dial tcp 127.0.0.1:1: connect: connection refused\nFAIL\n\
             exit status 1\nFAIL\texample.invalid/x\t0.003s\n",
            "ok 1 - out of memory is reported\nnot ok 2 - connection refused\n# 1 test failed\n",
            "PASS: t/disk: No space left on device\nFAIL: t/other\nmake: *** [Makefile:9: check] Error 1\n",
            "1/2 net         OK\n2/2 refused     FAIL 0.01s exit status 1\n",
        ];
        for log in logs {
            assert_eq!(find(log), None, "{log}");
        }
    }
}
