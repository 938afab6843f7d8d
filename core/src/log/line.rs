//! A line of a log: takes off what tools put in front of their messages, and tells by the shape what kind of line it is.

use std::borrow::Cow;

use super::tail::printable;

/// The kind of a line, as far as its shape tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A message.
    Message,
    /// The name of a test that passed.
    Passed,
    /// The name of a test that failed. Tests may be named after the fault that they are about.
    Failed,
    /// A line that says nothing of why a build failed: progress, a command, a frame of a stack, a line of source code, advice.
    Noise,
}

/// A line, ready to be matched.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// All of it, without colours and control characters.
    pub whole: Cow<'a, str>,
    /// Where the message begins.
    start: usize,
    /// What it is.
    pub shape: Shape,
}

impl<'a> Line<'a> {
    /// Reads a line as the builder wrote it.
    pub fn read(bytes: &'a [u8]) -> Line<'a> {
        let plain = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
        let whole = match std::str::from_utf8(bytes) {
            Ok(text) if bytes.iter().all(plain) => Cow::Borrowed(text.trim_end()),
            _ => Cow::Owned(printable(bytes)),
        };
        let mut start = labels(&whole);
        let mut shape = shape(&whole[start..]);
        // Each of several programs may have put something in front of the line.
        loop {
            let more = prefixes(&whole[start..]);
            if more == 0 {
                break;
            }
            start += more;
            start += labels(&whole[start..]);
            if shape == Shape::Message {
                shape = self::shape(&whole[start..]);
            }
        }
        Line { whole, start, shape }
    }

    /// The message, without what tools put in front of it.
    pub fn message(&self) -> &str {
        self.whole[self.start..].trim_end()
    }
}

/// Where `text` goes on after `skipped` bytes and the blanks behind them.
fn blanks(text: &str, skipped: usize) -> usize {
    text.len() - text[skipped..].trim_start().len()
}

/// The length of the labels at the beginning of `text`: times, steps, the names of workers and machines.
fn labels(text: &str) -> usize {
    let mut start = blanks(text, 0);
    while let Some(length) = label(&text[start..]) {
        start = blanks(text, start + length);
    }
    start
}

fn label(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    if first.is_ascii_digit() || matches!(first, '[' | '(' | '#' | '+') {
        time(text).or_else(|| step(text))
    } else if !first.is_alphanumeric() && !first.is_ascii() {
        // Marks and emoji that tools draw in front of lines.
        Some(first.len_utf8())
    } else {
        worker(text)
    }
}

/// A time or date at the beginning, in brackets or not.
fn time(text: &str) -> Option<usize> {
    let (open, close) = match text.as_bytes().first()? {
        b'[' => (1, Some(']')),
        b'(' => (1, Some(')')),
        _ => (0, None),
    };
    let of_time =
        |c: char| c.is_ascii_digit() || matches!(c, ':' | '.' | '-' | '/' | '+' | 'T' | 'Z' | ',' | 's' | ' ');
    let inside = &text[open..];
    let end = match close {
        Some(close) => inside.find(close)?,
        None => inside.find([' ', '\t'])?,
    };
    let stamp = inside[..end].trim();
    let digits = stamp.chars().filter(char::is_ascii_digit).count();
    let parts = stamp.chars().filter(|c| matches!(c, ':' | '.')).count();
    let is_time = stamp.len() <= 40
        && digits >= 2
        && stamp.chars().all(of_time)
        && (parts >= 1 || stamp.matches('-').count() == 2 || stamp.matches('/').count() == 2)
        // `[ 3/40]` and `2.34` of a version at the beginning are no times, but then nothing is lost.
        && stamp.starts_with(|c: char| c.is_ascii_digit() || c == '+');
    is_time.then_some(open + end + close.map_or(0, char::len_utf8))
}

/// The number of a step as BuildKit (`#15 131.5`) and gclient (`17>`) print it.
fn step(text: &str) -> Option<usize> {
    let digits = text.strip_prefix('#').unwrap_or(text);
    let number = digits.find(|c: char| !c.is_ascii_digit()).filter(|length| (1..=5).contains(length))?;
    let before = text.len() - digits.len();
    let after = &digits[number..];
    (before == 1 && after.starts_with(' ') || before == 0 && after.starts_with('>')).then_some(before + number + 1)
}

/// The name of a worker or machine as those who run several print it: `worker-3 | `, `machine # `, `builder3> `, `| `.
fn worker(text: &str) -> Option<usize> {
    let of_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/' | '@');
    let name = text.find(|c: char| !of_name(c))?;
    if name > 40 {
        return None;
    }
    let after = text[name..].trim_start_matches(' ');
    let gap = text.len() - name - after.len();
    let bar = ["| ", "│ "].into_iter().find(|bar| after.starts_with(bar));
    if let Some(bar) = bar {
        return Some(name + gap + bar.len());
    }
    if name > 0 && gap <= 1 && after.starts_with("# ") {
        return Some(name + gap + 2);
    }
    // `make[1]>` is none; `> ` alone is a quotation.
    (gap == 0 && after.starts_with("> ")).then_some(name + 2)
}

/// The length of the prefixes at the beginning of `text` that say how bad it is: tags in brackets, levels, marks, quotes.
fn prefixes(text: &str) -> usize {
    /// What tools call the level of a message, with what is behind it.
    const LEVELS: [&str; 15] = [
        "error:",
        "fatal error:",
        "fatal:",
        "panic:",
        "npm err!",
        "npm error",
        "error",
        "note:",
        "e:",
        "err:",
        "severe:",
        "critical:",
        "uncaught error:",
        "unhandled exception:",
        "exception:",
    ];
    let mut start = blanks(text, 0);
    loop {
        let rest = &text[start..];
        let Some(first) = rest.chars().next() else { return start };
        if matches!(first, '\'' | '"') && is_quotation(rest) {
            return start;
        }
        let length = if first == '[' {
            // `[build]`, `[ERROR]`, `[+0.5s]`, but no list.
            rest.find(']')
                .filter(|end| *end <= 40 && !rest[..*end].contains(['"', '\'', ',']) && rest.len() > end + 1)
                .map(|end| end + 1)
        } else if matches!(first, '*' | '>' | '-' | '!' | '~' | '=' | '|' | '"' | '\'' | '`')
            && rest[1..].starts_with([' ', '>', '*', '!', '=', '-', '~'])
            || matches!(first, '"' | '\'' | '`' | '✗' | '✘' | '✖' | '×' | '•' | '→' | '»' | '❌' | '│' | '└' | '├')
        {
            Some(first.len_utf8())
        } else if rest.starts_with("E   ") {
            // What pytest puts before the lines of an error.
            Some(4)
        } else {
            let level = |level: &&str| {
                rest.get(..level.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(level))
                    && rest[level.len()..].starts_with(' ')
            };
            LEVELS.iter().find(|name| level(name)).map(|level| level.len())
        };
        match length {
            Some(length) if rest.len() > length => start = blanks(text, start + length),
            _ => return start,
        }
    }
}

/// What kind of line `text` is, which has no labels any more.
fn shape(text: &str) -> Shape {
    let first = text.as_bytes().first().copied().unwrap_or(b' ');
    if is_passed(text) {
        return Shape::Passed;
    }
    if is_failed(text) {
        return Shape::Failed;
    }
    let noise = match first {
        b' ' => true,
        b'[' => {
            is_counter(text)
                || ["[ RUN", "[---", "[==="].iter().any(|start| text.starts_with(start))
                || text.contains(":WARNING:")
                || text.contains(":INFO:")
        }
        b'(' => is_counter(text) || text.starts_with("(/nix/store/") || text.starts_with("(finished"),
        b'0'..=b'9' => is_counter(text) || is_source_line(text) || is_item(text),
        // A command that a shell was told to print, or a line of a difference.
        b'+' => true,
        b'-' => text[1..].starts_with(|c: char| c.is_alphabetic() || matches!(c, '-' | '"' | '\'')),
        b'$' | b'%' => text[1..].starts_with(' ') || is_doing(text),
        b'/' => !text.contains([' ', ':']),
        b'\'' | b'"' => is_quotation(text),
        b'#' => {
            text[1..].starts_with(|c: char| c.is_ascii_digit()) || text.starts_with("# ./") || text.starts_with("# /")
        }
        b'|' | b'^' | b'~' => true,
        b'@' => true,
        b'm' if ["msgid ", "msgstr ", "msgstr["].iter().any(|start| text.starts_with(start)) => true,
        _ => is_command(text) || is_progress(text) || is_frame(text) || is_advice(text),
    };
    if noise { Shape::Noise } else { Shape::Message }
}

/// Progress of a tool: `[12/40]`, `[ 40%]`, `[12 of 40]`, `(3/7)`.
fn is_counter(text: &str) -> bool {
    let inside = text.strip_prefix(['[', '(']).unwrap_or("");
    let Some(end) = inside.find([']', ')']) else { return false };
    let digits = inside[..end].chars().filter(char::is_ascii_digit).count();
    let other = |c: char| !(c.is_ascii_digit() || matches!(c, ' ' | '/' | '%' | ',' | '.' | ':') || "of".contains(c));
    digits > 0 && inside[..end].contains(['/', '%', 'o']) && !inside[..end].contains(other)
        // samurai and ninja put the end of a job behind its number.
        && !inside[end..].to_ascii_lowercase().contains("signal")
}

/// A text in quotes and nothing else: tests show in this way what they wanted and what they got.
fn is_quotation(text: &str) -> bool {
    let quote = |c: char| matches!(c, '\'' | '"');
    text.trim_end_matches([',', ';'])
        .strip_suffix(quote)
        .is_some_and(|inside| inside.len() > 1 && !inside[1..].contains(quote))
}

/// Source code as compilers quote it: `  118 | code`.
fn is_source_line(text: &str) -> bool {
    text.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').starts_with(['|', '│'])
}

/// Numbered advice, `1. Set this`, or a numbered test, `1) its name`.
fn is_item(text: &str) -> bool {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.starts_with(". ") || rest.starts_with(") ")
}

fn is_passed(text: &str) -> bool {
    let ends = [" ... ok", "... passed", " PASSED", " OK", " ... OK"];
    let starts = [
        "ok ",
        "PASS:",
        "PASS ",
        "--- PASS",
        "[       OK",
        "✔ ",
        "✓ ",
        "XFAIL:",
        "SKIP:",
        "PASSED ",
        "ok\t",
        "[OK]",
        "[PASS]",
        "[ OK ]",
    ];
    starts.iter().any(|start| text.starts_with(start))
        || ends.iter().any(|end| text.ends_with(end))
        || text.contains(" PASSED ")
        || (text.contains("Passed ") && text.contains("Test "))
        || text.contains("  OK  ")
}

fn is_failed(text: &str) -> bool {
    ["___", "● ", "FAIL: ", "FAIL ", "--- FAIL", "FAILED:", "not ok ", "[FAIL]", "[  FAILED", "XPASS"]
        .iter()
        .any(|start| text.starts_with(start))
        && !text.starts_with("FAILED: [code=")
        || text.contains(" ... ") && [" FAIL", " FAILED", " ERROR"].iter().any(|end| text.ends_with(end))
}

/// A command that a tool prints before it runs it.
fn is_command(text: &str) -> bool {
    let Some((word, rest)) = text.split_once(' ') else { return false };
    if word.ends_with(':') && word != "libtool:" {
        return false;
    }
    let program = word.rsplit('/').next().unwrap_or(word);
    let compilers = [
        "gcc",
        "g++",
        "cc",
        "c++",
        "clang",
        "clang++",
        "ld",
        "ar",
        "ranlib",
        "gfortran",
        "rustc",
        "javac",
        "ghc",
        "cpp",
        "as",
        "nvcc",
        "ocamlfind",
        "ocamlopt",
        "ocamlc",
        "install",
        "mkdir",
        "sed",
        "rm",
        "cp",
        "mv",
        "ln",
        "cd",
        "echo",
        "env",
        "python3",
        "python",
        "perl",
        "sh",
        "bash",
        "moc",
        "libtool:",
        "lua",
        "cmake",
        "ninja",
        "make",
        "gmake",
    ];
    let has_option = rest.starts_with('-')
        || rest.contains(" -")
        || rest.starts_with("/")
        || rest.starts_with("compile:")
        || rest.starts_with("link:");
    (compilers.contains(&program) || word.contains("-gcc") || word.contains("-g++"))
        && has_option
        && !rest.contains(": ")
}

fn is_progress(text: &str) -> bool {
    const VERBS: [&str; 46] = [
        "checking ",
        "Checking ",
        "Compiling ",
        "Building ",
        "Linking ",
        "Downloading ",
        "Downloaded ",
        "Fetching ",
        "Generating ",
        "Copying ",
        "Installing ",
        "installing ",
        "adding ",
        "creating ",
        "copying ",
        "patching ",
        "applying ",
        "unpacking ",
        "reading ",
        "writing ",
        "bundled ",
        "Running phase",
        "Finished ",
        "Started ",
        "Starting ",
        "starting ",
        "=== RUN",
        "--- ",
        "-- ",
        "=== ",
        "--> ",
        "Entering directory",
        "CC ",
        "CXX ",
        "LD ",
        "AR ",
        "GEN ",
        "CCLD ",
        "COQC ",
        "Retrying",
        "retrying",
        "Collecting ",
        "Using cached ",
        "Progress",
        "Restored ",
        "Executed ",
    ];
    VERBS.iter().any(|verb| text.starts_with(verb))
        || is_doing(text)
        || (text.starts_with("make")
            && (text.contains(": Entering directory")
                || text.contains(": Leaving directory")
                || text.contains("Waiting for unfinished")))
}

/// A tool says what it is about to do, or warns.
fn is_doing(text: &str) -> bool {
    let first = text.split([' ', ':', '[']).next().unwrap_or("");
    let warning =
        ["warning", "warn", "w", "info", "debug", "%warning"].iter().any(|word| first.eq_ignore_ascii_case(word));
    let doing =
        first.len() > 4 && first.ends_with("ing") && first.chars().all(char::is_alphabetic) && !text.contains(": ");
    let lower = || text.to_lowercase();
    let warning = warning || text.starts_with("%Warning");
    warning && (text.contains(": ") || text.contains("@"))
        || doing
            && !["fail", "error", "timed out", "killed", "giving up", "cancel"]
                .iter()
                .any(|word| lower().contains(word))
}

/// A frame of a stack, or a line around one.
fn is_frame(text: &str) -> bool {
    const BEGINNINGS: [&str; 11] = [
        "at ",
        "File \"",
        "goroutine ",
        "created by ",
        "stack backtrace:",
        "Stack dump",
        "Thread model:",
        "PLEASE submit",
        "in expression starting",
        "runtime.",
        "Traceback (most recent",
    ];
    BEGINNINGS.iter().any(|begin| text.starts_with(begin))
        || (text.contains(".go:") && text.contains(" +0x"))
        || (text.contains(": 0x") && text.starts_with(|c: char| c.is_ascii_digit()))
}

/// Advice that tools give whenever a build fails.
fn is_advice(text: &str) -> bool {
    const BEGINNINGS: [&str; 14] = [
        "note: run with",
        "See http",
        "See `",
        "For more information",
        "Re-run ",
        "To see the full",
        "Use --",
        "After correcting",
        "A complete log",
        "Here are a few things",
        "If this ",
        "If you ",
        "Hint:",
        "hint:",
    ];
    BEGINNINGS.iter().any(|begin| text.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_come_off() {
        let message = "gcc: fatal error: Killed signal terminated program cc1";
        let table = [
            "",
            "  ",
            "\x1b[1m\x1b[31m",
            "2026-03-02T10:00:01.3344592Z ",
            "2026/03/02 10:14:55 ",
            "10:14:55 ",
            "12.3 ",
            "[+0.5s] ",
            "[ 31.120001] ",
            "#15 131.5 ",
            "machine # ",
            "machine # [   31.12] ",
            "worker-3 | ",
            "⚠️  aarch64   | ",
            "17>",
            "builder3> ",
            "| ",
            "[build] ",
            "[ERROR] ",
            "error: ",
            "npm ERR! ",
            "    [junit] ",
            "E   ",
            "worker-3 | [build] 10:14:55 error: ",
            "> ",
        ];
        for prefix in table {
            let text = format!("{prefix}{message}");
            let line = Line::read(text.as_bytes());
            assert_eq!((line.message(), line.shape), (message, Shape::Message), "{prefix:?}");
        }
    }

    #[test]
    fn shapes() {
        for (text, shape) in [
            ("[12/40] Building CXX object killed.o", Shape::Noise),
            ("[ 40%] Building CXX object killed.o", Shape::Noise),
            ("checking for kill... yes", Shape::Noise),
            ("gcc -O2 -c -o killed.o killed.c", Shape::Noise),
            ("\tat org.acme.Killed(Killed.java:1)", Shape::Noise),
            ("+ ./tool --killed", Shape::Noise),
            (" 118 |  x => \"No space left on device\",", Shape::Noise),
            ("    'No space left on device'", Shape::Noise),
            ("-  \"ECONNRESET\",", Shape::Noise),
            ("ok 1 - says: out of memory", Shape::Passed),
            ("PASS: tests/oom", Shape::Passed),
            ("test tests::oom ... ok", Shape::Passed),
            ("Killed", Shape::Message),
            ("ninja: job terminated due to signal 9: cd /build && x", Shape::Message),
            ("make: *** [Makefile:12: check] Error 137", Shape::Message),
            ("  = note: collect2: fatal error: ld terminated with signal 9 [Killed]", Shape::Message),
        ] {
            assert_eq!(Line::read(text.as_bytes()).shape, shape, "{text}");
        }
    }
}
