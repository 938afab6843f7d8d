//! What one line of a log tells of. This module puts together what those that know words find in it; [`super::judge`] says
//! what it is worth.

use super::line::{Line, Shape};
use super::sentences::{
    BEFORE_STATUS, DIAGNOSTIC_MARKS, DISK_IMAGES, FINAL_STATUSES, HTTP, MENTIONS, OWN_HOSTS, PASSING_STATUSES,
    PROCESS_MAKERS, READ_ONLY_FOLDERS, SMALL_FILE_SYSTEMS, Said, TIMEOUTS, TIMERS, Tells, said,
};
use super::signals::{self, Ended};
use super::system_messages::{self, SystemMessage};

/// How much of a line is kept, in bytes.
const KEPT: usize = 300;

/// What one line tells of.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What kind of line it is, as far as its shape tells.
    pub shape: Shape,
    /// What it is strong evidence of.
    pub strong: Option<Tells>,
    /// What it is weak evidence of.
    pub weak: Option<Tells>,
    /// Why it speaks against evidence near it.
    pub objection: Option<&'static str>,
    /// Whether it names a definite cause, which has nothing to do with a shortage.
    pub cause: bool,
    /// The beginning of it, without what tools put in front of their messages.
    pub line: String,
}

fn kept(text: &str) -> String {
    text[..text.floor_char_boundary(KEPT)].to_owned()
}

/// The objection of a line that sets a limit: a shortage is of its own making.
pub const OWN_LIMIT: &str = "it has a limit of its own";

/// The objection of a line that sends signals.
pub const OWN_SIGNAL: &str = "it sends the signal itself";

/// What a text mentions, in whatever sentence.
pub fn mentioned(text: &str) -> Vec<Tells> {
    let text = text.to_lowercase();
    MENTIONS.iter().filter(|(_, words)| has_any(&text, words)).map(|(tells, _)| *tells).collect()
}

/// What the limit that a line sets can be the cause of. It limits the size of a disk image, a time, or what ulimit(1) counts.
pub fn limited(line: &str) -> &'static [Tells] {
    if has_any(line, &DISK_IMAGES) {
        &[Tells::Disk]
    } else if has_any(line, &TIMERS) {
        &[Tells::Killed]
    } else {
        &[Tells::Memory, Tells::Processes, Tells::Files, Tells::FileSize, Tells::Killed]
    }
}

/// Whether a line says that a process was ended because it took too long.
pub fn is_watched(line: &str) -> bool {
    has_any(line, &TIMEOUTS)
}

/// Whether a text has one of these words, be it part of a longer one.
fn has_any(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

/// Reads one line as the builder wrote it.
pub fn read(bytes: &[u8]) -> Reading {
    let line = Line::read(bytes);
    let message = line.message();
    match line.shape {
        Shape::Passed | Shape::Failed => read_test_result(&line),
        shape if message.is_empty() => Reading::of(shape, message),
        Shape::Noise => read_noise(&line),
        Shape::Message => read_message(message),
    }
}

impl Reading {
    /// A line of which nothing is known but its shape.
    fn of(shape: Shape, line: &str) -> Reading {
        Reading { shape, strong: None, weak: None, objection: None, cause: false, line: kept(line) }
    }
}

/// Reads the result of a test. The name of a test can be anything, but not its exit status.
fn read_test_result(line: &Line<'_>) -> Reading {
    let message = line.message();
    let reading = Reading::of(line.shape, &line.whole);
    let by_status = ["137", "143"].iter().any(|status| message.contains(status));
    if line.shape == Shape::Failed && by_status && signals::ended(message) == Some(Ended::Killed) {
        return Reading { shape: Shape::Message, strong: Some(Tells::Killed), ..reading };
    }
    reading
}

/// Reads a line that says nothing of why a build failed. Only a command or a line of code can show what a build does on
/// purpose.
fn read_noise(line: &Line<'_>) -> Reading {
    let message = line.message();
    let objection = objection(message, &said(message)).filter(|_| !is_warning(&line.whole));
    Reading { objection, ..Reading::of(Shape::Noise, &line.whole) }
}

/// Reads a message.
fn read_message(message: &str) -> Reading {
    let said = said(message);
    let mut reading = Reading::of(Shape::Message, message);
    // A list of the tests that failed adds nothing to what was said of each.
    if message.starts_with("FAILED ") || message.starts_with("ERROR ") {
        return reading;
    }
    reading.objection = objection(message, &said);
    reading.cause = said.cause || is_diagnostic(message);
    if said.expectation || said.recovery || is_format(message) || is_absurd(message) {
        // The line tells of a test that expects it, or of a second try, so it says nothing of this failure. But a checksum
        // that is not the expected one is an answer of a server.
        reading.strong = (said.strong.contains(&Tells::Answer) && said.expectation).then_some(Tells::Answer);
        return reading;
    }
    weigh_evidence(message, &said, &mut reading);
    reading
}

/// Why a message speaks against evidence near it.
fn objection(message: &str, said: &Said) -> Option<&'static str> {
    if said.expectation {
        Some(Tells::Expectation.cause())
    } else if said.own_limit {
        Some(OWN_LIMIT)
    } else if signals::sends_signals(message) {
        Some(OWN_SIGNAL)
    } else {
        None
    }
}

/// Whether a message still has the places where values would be put in.
fn is_format(message: &str) -> bool {
    ["%s", "%w", "%v", "%d", "%q"].iter().any(|directive| message.contains(directive))
}

/// Decides what a message is evidence of, by signals, errors of the system and sentences, in this order. `reading` says
/// whether the message names a definite cause.
fn weigh_evidence(message: &str, said: &Said, reading: &mut Reading) {
    // A compiler quotes names and texts of the program in its messages; only what it says of itself counts.
    let by_signal =
        signals::ended(message).filter(|_| !reading.cause || message.contains("exit") || message.contains("signal"));
    let by_sentence = said.strong.iter().copied().find(|tells| !tells.is_network()).filter(|_| !reading.cause);
    let by_error = system_messages::find(message)
        .or_else(|| system_messages::after_process(message))
        .and_then(|found| of_system_message(message, found));
    let network = of_network(message, said, by_error.map(|(tells, _)| tells));
    let by_error = by_error.filter(|(tells, _)| !tells.is_network());
    reading.strong = if by_signal == Some(Ended::Killed) {
        Some(Tells::Killed)
    } else if let Some((tells, false)) = by_error {
        Some(tells)
    } else {
        by_sentence.or(network)
    };
    // Words such as "timed out" are about the network then, not about a limit of a test.
    if network.is_some() && reading.objection == Some(OWN_LIMIT) {
        reading.objection = None;
    }
    reading.weak = if by_signal == Some(Ended::Terminated) {
        Some(Tells::Killed)
    } else {
        let by_sentence = said.weak.iter().copied().find(|tells| !tells.is_network());
        by_sentence.or(by_error.filter(|(_, weak)| *weak).map(|(tells, _)| tells))
    };
    // What is evidence is no cause of its own.
    reading.cause &= reading.strong.is_none_or(Tells::is_network);
}

/// What a message tells of the network. Where only what the build started can answer, the network has no part in it.
fn of_network(message: &str, said: &Said, by_error: Option<Tells>) -> Option<Tells> {
    let by_sentence = said.strong.iter().chain(&said.weak).copied().find(|tells| tells.is_network());
    let answer = said.strong.contains(&Tells::Answer).then_some(Tells::Answer);
    let network = of_status(message).or(answer).or(by_sentence).or(by_error.filter(|tells| tells.is_network()));
    network.filter(|_| !is_own_host(message))
}

/// What the message of a C library tells of, and whether it is weak evidence.
fn of_system_message(line: &str, found: SystemMessage) -> Option<(Tells, bool)> {
    let lower = || line.to_lowercase();
    Some(match found.name {
        "ENOMEM" | "EHWPOISON" | "ENOBUFS" => (Tells::Memory, lower().contains("static tls")),
        "ENOSPC" | "EDQUOT" => (Tells::Disk, has_any(line, &SMALL_FILE_SYSTEMS)),
        "EIO" | "ESTALE" | "EUCLEAN" | "EREMOTEIO" => (Tells::InputOutput, false),
        "EROFS" if has_any(line, &READ_ONLY_FOLDERS) => return None,
        "EROFS" => (Tells::InputOutput, false),
        "EFBIG" | "SIGXFSZ" | "SIGXCPU" => (Tells::FileSize, false),
        "EMFILE" | "ENFILE" => (Tells::Files, false),
        "ETXTBSY" => (Tells::Busy, false),
        "EBUSY" => (Tells::Busy, !lower().contains("kvm")),
        "EADDRINUSE" => (Tells::Port, false),
        "EAGAIN" => (Tells::Processes, !has_any(&lower(), &PROCESS_MAKERS)),
        "SIGKILL" | "SIGTERM" => {
            let after = line[found.end..].trim();
            let ends = after.is_empty()
                || after.starts_with([']', ')', '.'])
                || after.starts_with("signal")
                || line[found.end..].starts_with("  ");
            let opens = matches!(found.opener, None | Some(':' | '：' | '[' | '(' | ']' | '0'..='9'));
            // Erlang says so of one of its own processes that another one ended.
            if !(ends && opens)
                || line.contains("***:")
                || line.contains("exit: killed")
                || line.contains("reason: killed")
            {
                return None;
            }
            (Tells::Killed, found.name == "SIGTERM")
        }
        "ECONNRESET" | "ETIMEDOUT" | "ECONNABORTED" => (Tells::Faltered, false),
        "ECONNREFUSED" | "ENETUNREACH" | "EHOSTUNREACH" | "ENETDOWN" | "EHOSTDOWN" | "EAI_AGAIN" | "EAI_NONAME" => {
            (Tells::Unreachable, false)
        }
        _ => return None,
    })
}

fn is_warning(line: &str) -> bool {
    line.contains("warning") || line.contains("Warning")
}

/// What the status in an answer of a server tells of: `503`, `HTTP 429`.
fn of_status(message: &str) -> Option<Tells> {
    let lower = message.to_lowercase();
    BEFORE_STATUS.iter().find_map(|before| {
        let digits = lower[lower.find(before)? + before.len()..].trim_start_matches(['\'', '"', '(', ':', ' ']);
        let code = digits.get(..3).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()))?;
        if digits[3..].starts_with(|c: char| c.is_alphanumeric()) {
            return None;
        }
        if !has_any(&lower, &HTTP) {
            None
        } else if PASSING_STATUSES.contains(&code) {
            Some(Tells::Faltered)
        } else {
            FINAL_STATUSES.contains(&code).then_some(Tells::Answer)
        }
    })
}

/// Whether a line is a message of a compiler: `x.c:12:3: error: …`.
fn is_diagnostic(message: &str) -> bool {
    // MSBuild says so of the tools that it ran.
    if message.contains("error MSB") {
        return false;
    }
    let of_typescript = message.match_indices("TS").any(|(place, _)| {
        let digits = message[place + 2..].bytes().take_while(u8::is_ascii_digit).count();
        digits == 4 && message[place + 6..].starts_with(':')
    });
    of_typescript
        || DIAGNOSTIC_MARKS.iter().any(|mark| {
            message.find(mark).is_some_and(|place| {
                let before = message[..place].trim_end_matches([')', ' ']);
                before.ends_with(|c: char| c.is_ascii_digit())
                    && before.contains([':', '(', ','])
                    && !before.starts_with("collect2")
            })
        })
}

/// Whether a line tells of an allocation that no machine could make.
fn is_absurd(message: &str) -> bool {
    /// A tebibyte.
    const ABSURD: f64 = 1024.0 * 1024.0 * 1024.0 * 1024.0;
    let mut rest = message;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let hexadecimal = rest[start..].starts_with("0x");
        let digits = if hexadecimal { &rest[start + 2..] } else { &rest[start..] };
        let of_number = |c: char| c.is_ascii_digit() || c == '.' || hexadecimal && c.is_ascii_hexdigit();
        let length = digits.find(|c| !of_number(c)).unwrap_or(digits.len());
        let (number, behind) = digits.split_at(length);
        let number = if hexadecimal {
            u128::from_str_radix(number, 16).map_or(0.0, |number| number as f64)
        } else {
            number.trim_end_matches('.').parse().unwrap_or(0.0)
        };
        let unit = behind.trim_start_matches([' ', '-']).to_lowercase();
        let scale = match unit.get(..2) {
            Some("by" | "b " | "b)") => 1.0,
            Some("kb" | "ki") => 1024.0,
            Some("mb" | "mi") => 1024.0 * 1024.0,
            Some("gb" | "gi") => 1024.0 * 1024.0 * 1024.0,
            Some("tb" | "ti" | "pb" | "pi" | "eb" | "ei") => ABSURD,
            _ if hexadecimal => 0.0,
            _ => 0.0,
        };
        if number * scale >= ABSURD {
            return true;
        }
        rest = &rest[start + 1..];
        rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    }
    false
}

/// Whether a connection was to the machine itself, where only what the build started can answer.
fn is_own_host(message: &str) -> bool {
    // The last one is how the resolver of a machine without a network answers.
    has_any(message, &OWN_HOSTS) && !message.contains(":53: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line() {
        let strong = |line: &str| read(line.as_bytes()).strong;
        assert_eq!(strong("The exit codes of the workers are {SIGKILL(-9)}"), Some(Tells::Killed));
        assert_eq!(
            strong(
                "It appears as if there is not enough space for /dev/shm/vader_segment.localhost.1000.1 (the shared"
            ),
            Some(Tells::Disk)
        );
        assert_eq!(
            strong("17>error: RPC failed; HTTP 429 curl 22 The requested URL returned error: 429"),
            Some(Tells::Faltered)
        );
    }
}
