//! What one line of a log tells of: the rooms that know words come together here. What it is worth is for [`super::judge`] to say.

use super::line::{Line, Shape};
use super::sentences::{Tells, said};
use super::signals::{self, Ended};
use super::system_messages::{self, SystemMessage};

/// How much of a line is kept, in bytes.
const KEPT: usize = 300;

/// What one line tells of.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What kind of line it is.
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

/// Why a shortage is no evidence.
pub const OWN_LIMIT: &str = "it has a limit of its own";

/// Why a signal is no evidence.
pub const OWN_SIGNAL: &str = "it sends the signal itself";

/// What a text has words of, in whatever sentence.
pub fn mentioned(text: &str) -> Vec<Tells> {
    const WORDS: [(Tells, &[&str]); 9] = [
        (Tells::Memory, &["memory", "oom", "alloc", "enomem", "heap"]),
        (Tells::Killed, &["kill", "signal", "sigterm", "terminat"]),
        (Tells::Disk, &["space", "/dev/full", "quota", "disk", "storagefull", "enospc", "edquot"]),
        (Tells::InputOutput, &["i/o", "input/output", "eio", "read-only", "readonly", "erofs", "stale"]),
        (Tells::Processes, &["fork", "thread", "process"]),
        (Tells::Files, &["open files", "emfile", "enfile", "descriptor"]),
        (Tells::Port, &["in use", "inuse", "port", "bind", "listen"]),
        (
            Tells::Faltered,
            &[
                "connection",
                "timeout",
                "timed",
                "reset",
                "refused",
                "retry",
                "backoff",
                "pipe",
                "network",
                "http",
                "50",
            ],
        ),
        (Tells::Unreachable, &["connection", "refused", "network", "connect", "resolve", "dns", "unreachable", "http"]),
    ];
    let text = text.to_lowercase();
    WORDS.iter().filter(|(_, words)| words.iter().any(|word| text.contains(word))).map(|(tells, _)| *tells).collect()
}

/// What a limit that the build sets itself can be reached by: the size of a disk image, a time, or what ulimit(1) counts.
pub fn limited(line: &str) -> &'static [Tells] {
    let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
    if has(&["mkfs", "mke2fs", "mformat", "mcopy", "cptofs", "genimage", "losetup", "loop", "image", "disk"]) {
        &[Tells::Disk]
    } else if has(&["watchdog", "time", "Time"]) {
        &[Tells::Killed]
    } else {
        &[Tells::Memory, Tells::Processes, Tells::Files, Tells::FileSize, Tells::Killed]
    }
}

/// Whether a line says that a process was ended because it took too long.
pub fn is_watched(line: &str) -> bool {
    ["timeout", "TIMEOUT", "timed out"].iter().any(|word| line.contains(word))
}

/// Reads one line as the builder wrote it.
pub fn read(bytes: &[u8]) -> Reading {
    let line = Line::read(bytes);
    let message = line.message();
    let mut reading =
        Reading { shape: line.shape, strong: None, weak: None, objection: None, cause: false, line: kept(message) };
    if matches!(reading.shape, Shape::Passed | Shape::Failed) {
        reading.line = kept(&line.whole);
        // A test's name can be anything, but not its exit status.
        let by_status = ["137", "143"].iter().any(|status| message.contains(status));
        if reading.shape == Shape::Failed && by_status && signals::ended(message) == Some(Ended::Killed) {
            reading.shape = Shape::Message;
            reading.strong = Some(Tells::Killed);
        }
        return reading;
    }
    if message.is_empty() {
        return reading;
    }
    let said = said(message);
    reading.objection = if said.expectation {
        Some(Tells::Expectation.cause())
    } else if said.own_limit {
        Some(OWN_LIMIT)
    } else if signals::sends_signals(message) {
        Some(OWN_SIGNAL)
    } else {
        None
    };
    if reading.shape == Shape::Noise {
        // Only a command or a line of code can show what a build does on purpose.
        reading.objection = reading.objection.filter(|_| !is_warning(&line.whole));
        reading.line = kept(&line.whole);
        return reading;
    }
    reading.cause = said.cause || is_diagnostic(message);
    // A list of the tests that failed adds nothing to what was said of each.
    if message.starts_with("FAILED ") || message.starts_with("ERROR ") {
        return Reading { cause: false, objection: None, ..reading };
    }
    // A test that wants it, or a second try: the line says nothing of this failure.
    if said.strong.contains(&Tells::Answer) && said.expectation {
        // A checksum that is another one than it should be.
        reading.strong = Some(Tells::Answer);
    }
    let is_format = ["%s", "%w", "%v", "%d", "%q"].iter().any(|directive| message.contains(directive));
    if said.expectation || said.recovery || is_format || is_absurd(message) {
        return reading;
    }
    let strong = said.strong.iter().copied().find(|tells| !tells.is_network());
    // A compiler quotes names and texts of the program in its messages; only what it says of itself counts.
    let strong = strong.filter(|_| !reading.cause);
    let by_signal =
        signals::ended(message).filter(|_| !reading.cause || message.contains("exit") || message.contains("signal"));
    let by_message = system_messages::find(message)
        .or_else(|| system_messages::after_process(message))
        .and_then(|found| of_system_message(message, found));
    let network = said.strong.iter().chain(&said.weak).copied().find(|tells| tells.is_network());
    let answer = said.strong.contains(&Tells::Answer).then_some(Tells::Answer);
    let network = of_status(message)
        .or(answer)
        .or(network)
        .or(by_message.map(|(tells, _)| tells).filter(|tells| tells.is_network()));
    // Where only what the build started can answer, the network has no part in it.
    let network = network.filter(|_| !is_own_host(message));
    if by_signal == Some(Ended::Killed) {
        reading.strong = Some(Tells::Killed);
    } else if let Some((tells, false)) = by_message.filter(|(tells, _)| !tells.is_network()) {
        reading.strong = Some(tells);
    } else if strong.is_some() {
        reading.strong = strong;
    } else {
        reading.strong = network;
    }
    // Its own words for a slow network are no limit of a test.
    if network.is_some() && reading.objection == Some(OWN_LIMIT) {
        reading.objection = None;
    }
    reading.weak = said
        .weak
        .iter()
        .copied()
        .find(|tells| !tells.is_network())
        .or(by_message.filter(|(_, weak)| *weak).map(|(tells, _)| tells));
    if by_signal == Some(Ended::Terminated) {
        reading.weak = Some(Tells::Killed);
    }
    // What is evidence is no cause of its own.
    reading.cause &= reading.strong.is_none() || reading.strong.is_some_and(Tells::is_network);
    reading
}

/// What the message of a C library tells of, and whether it is weak evidence.
fn of_system_message(line: &str, found: SystemMessage) -> Option<(Tells, bool)> {
    let lower = || line.to_lowercase();
    Some(match found.name {
        "ENOMEM" | "EHWPOISON" | "ENOBUFS" => (Tells::Memory, lower().contains("static tls")),
        "ENOSPC" | "EDQUOT" => {
            (Tells::Disk, ["/dev/full", "/mnt/", "mkfs", "mke2fs"].iter().any(|path| line.contains(path)))
        }
        "EIO" | "ESTALE" | "EUCLEAN" | "EREMOTEIO" => (Tells::InputOutput, false),
        // Many places are read-only for each builder; the folder of the build is not.
        "EROFS"
            if [
                "/nix/store",
                "/homeless-shelter",
                "/etc",
                "/usr",
                "/var",
                "/proc",
                "/sys",
                "/dev",
                "/root",
                "/home",
            ]
            .iter()
            .any(|path| line.contains(path)) =>
        {
            return None;
        }
        "EROFS" => (Tells::InputOutput, false),
        "EFBIG" | "SIGXFSZ" | "SIGXCPU" => (Tells::FileSize, false),
        "EMFILE" | "ENFILE" => (Tells::Files, false),
        "ETXTBSY" => (Tells::Busy, false),
        "EBUSY" => (Tells::Busy, !lower().contains("kvm")),
        "EADDRINUSE" => (Tells::Port, false),
        "EAGAIN" => {
            let lower = lower();
            let of_processes = [
                "fork",
                "thread",
                "clone",
                "spawn",
                "exec",
                "pool",
                "process",
                "make",
                "bash",
                "/sh",
                "what():",
                "system_error",
                "worker",
                "libgomp",
            ]
            .iter()
            .any(|word| lower.contains(word));
            (Tells::Processes, !of_processes)
        }
        "SIGKILL" | "SIGTERM" => {
            let after = line[found.end..].trim();
            let ends = after.is_empty()
                || after.starts_with([']', ')', '.'])
                || after.starts_with("signal")
                || line[found.end..].starts_with("  ");
            let opens = matches!(found.opener, None | Some(':' | '：' | '[' | '(' | ']' | '0'..='9'));
            // Erlang calls a process of its own so that another one ended.
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

/// What the status of an answer tells of: `503`, `HTTP 429`.
fn of_status(message: &str) -> Option<Tells> {
    let lower = message.to_lowercase();
    let at = [
        "http error ",
        "status code ",
        "status code: ",
        "response code ",
        "http status ",
        "status: ",
        "status was '",
        "returned error: ",
        "http/1.1 ",
        "http/2 ",
        "http/1.0 ",
        "response ",
        "http ",
        "error ",
        "status=",
        "code: ",
        "statuscode: ",
        "code=",
        "status code was ",
        "got ",
        "returned ",
        "status ",
    ];
    at.iter().find_map(|before| {
        let digits = lower[lower.find(before)? + before.len()..].trim_start_matches(['\'', '"', '(', ':', ' ']);
        let code = digits.get(..3).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()))?;
        if digits[3..].starts_with(|c: char| c.is_alphanumeric()) {
            return None;
        }
        let of_http = ["http", "url", "server", "download", "fetch", "request", "response", "status"]
            .iter()
            .any(|word| lower.contains(word));
        match (code, of_http) {
            (
                "408" | "425" | "429" | "500" | "502" | "503" | "504" | "520" | "521" | "522" | "523" | "524" | "529",
                true,
            ) => Some(Tells::Faltered),
            ("400" | "401" | "402" | "403" | "404" | "405" | "406" | "407" | "410" | "451", true) => {
                Some(Tells::Answer)
            }
            _ => None,
        }
    })
}

/// Whether a line is a compiler's: `x.c:12:3: error: …`.
fn is_diagnostic(message: &str) -> bool {
    let marks = [
        ": error: ",
        ": error[",
        ": fatal error: ",
        ": Error: ",
        ": ERROR: ",
        ": error ",
        ": syntax error",
        " error: ",
    ];
    // What the engine of a build says of what it ran.
    if message.contains("error MSB") {
        return false;
    }
    let of_typescript = message.match_indices("TS").any(|(place, _)| {
        let digits = message[place + 2..].bytes().take_while(u8::is_ascii_digit).count();
        digits == 4 && message[place + 6..].starts_with(':')
    });
    of_typescript
        || marks.iter().any(|mark| {
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
    ["localhost", "127.0.0.1", "/run/", "[::1]", "0.0.0.0", "::1", ".localdomain", "unix:/", ".sock"].iter().any(|host| message.contains(host))
        // The resolver of a machine without a network.
        && !message.contains(":53: ")
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
