//! Weighs what a log says: whether its failure would come again, would pass, or nobody can tell.
//!
//! The rules, in short; `docs/manual.md` has them for people.
//!
//! - Strong evidence of a shortage, a kill or a passing fault counts wherever it stands, as what comes after it in a parallel build may
//!   be long.
//! - What the network did counts only among the last lines that say something, and only where there is a network.
//! - Against evidence speak a test that expects it, a cause of its own, and tests that went on after it. Then nobody can tell.

use std::collections::VecDeque;

use super::identity::identity;
use super::line::{Line, Shape};
use super::lines::shorten;
use super::sentences::{Tells, said};
use super::signals::{self, Ended};
use super::system_messages::{self, SystemMessage};
use super::tail::LogTail;
use super::triggers::is_worth_reading;
use crate::evidence::DecidingLine;

/// How many of the last lines that say something are looked at for the network, and tell failures apart.
const LAST: usize = 20;

/// How many lines before and after a piece of evidence are looked at for what speaks against it.
const NEAR: u64 = 8;

/// How many tests have to pass after a piece of evidence for the build to have gone on as if nothing had happened.
const WENT_ON: u64 = 3;

/// How much of a line is kept, in bytes.
const KEPT: usize = 300;

/// How many lines that speak against evidence are kept.
const OBJECTIONS: usize = 12;

/// How many pieces of evidence are kept from the beginning, and as many from the end.
const PIECES: usize = 8;

/// What is known of a build besides its log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// Whether it ran in a sandbox without a network; `None` if nobody knows.
    pub sandboxed: Option<bool>,
    /// Whether it was a download, for which the network is all that matters.
    pub fixed_output: bool,
}

/// What a log says of its failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogVerdict {
    /// Nothing speaks for a failure that would pass.
    Clear,
    /// It may pass, or not.
    Doubtful(DecidingLine),
    /// It would pass.
    Transient(DecidingLine),
}

/// What a piece of evidence is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// The failure would pass.
    Strong,
    /// It may pass, or not.
    Doubtful,
    /// What speaks against it leaves nothing of it.
    Nothing,
}

/// A piece of evidence, and what it is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighed {
    /// The line, with what speaks against it.
    pub line: DecidingLine,
    /// What it is worth.
    pub weight: Weight,
}

/// A piece of evidence.
#[derive(Clone, Debug)]
struct Piece {
    tells: Tells,
    weak: bool,
    line: String,
    number: u64,
    /// What speaks against it, and in which line that is.
    against: Option<(u64, String)>,
    /// Whether nothing is left of it.
    void: bool,
    /// How many tests had passed before it.
    passed: u64,
}

impl Piece {
    /// Takes note of a line that speaks against it. Nothing is left of it if that line is about the same, as a test is that wants it; or
    /// if the build went on to fail for a cause of its own.
    fn object(&mut self, objection: &Objection) {
        // Its own limits and signals are no matter of the network.
        if self.tells.is_network() && objection.own_doing() {
            return;
        }
        if objection.about.contains(&self.tells) {
            self.void = true;
            self.against = Some((objection.number, objection.text.clone()));
        } else if objection.named {
            // A test that is about something else.
            return;
        }
        match self.against {
            None => self.against = Some((objection.number, objection.text.clone())),
            Some((first, _)) => self.void |= objection.cause && objection.number > first.max(self.number) + NEAR,
        }
    }
}

/// A line that speaks against evidence.
#[derive(Clone, Debug)]
struct Objection {
    number: u64,
    text: String,
    /// What it is about.
    about: Vec<Tells>,
    /// Whether it is the name of a test.
    named: bool,
    /// Whether it is a definite cause.
    cause: bool,
}

impl Objection {
    fn own_doing(&self) -> bool {
        self.text.starts_with(OWN_LIMIT) || self.text.starts_with(OWN_SIGNAL)
    }
}

/// A log that is being read.
#[derive(Clone, Debug, Default)]
pub struct LogJudge {
    tail: LogTail,
    /// How many lines there were.
    number: u64,
    first: Vec<Piece>,
    last: VecDeque<Piece>,
    /// The last lines by which tests say what they want or are about, or the build what limits it sets and which signals it sends.
    objections: VecDeque<Objection>,
    /// The last line that names a definite cause.
    cause: Option<Objection>,
    /// How many tests passed.
    passed: u64,
}

/// What one line is about.
struct Reading {
    shape: Shape,
    strong: Option<Tells>,
    weak: Option<Tells>,
    /// Why it speaks against evidence near it.
    objection: Option<&'static str>,
    cause: bool,
    line: String,
}

fn kept(text: &str) -> String {
    text[..text.floor_char_boundary(KEPT)].to_owned()
}

impl LogJudge {
    /// Reads the next line, without its end.
    pub fn line(&mut self, line: &[u8]) {
        self.number += 1;
        self.tail.push(line);
        if is_worth_reading(&line[..line.len().min(super::lines::HALF)])
            || line.len() > super::lines::HALF && is_worth_reading(&shorten(line)[super::lines::HALF..])
        {
            self.read(line);
        }
    }

    /// The end of the log that a record keeps.
    pub fn tail(&self) -> &LogTail {
        &self.tail
    }

    #[inline(never)]
    fn read(&mut self, line: &[u8]) {
        let line = shorten(line);
        let reading = read(&line);
        self.passed += u64::from(reading.shape == Shape::Passed);
        if matches!(reading.shape, Shape::Passed | Shape::Failed) {
            let about = mentioned(&reading.line);
            if !about.is_empty() {
                let text = format!("a test is about it: {}", reading.line);
                let objection = Objection { number: self.number, text, about, named: true, cause: false };
                self.near(objection);
            }
            return;
        }
        if let Some(why) = reading.objection {
            let about = match why {
                OWN_SIGNAL => vec![Tells::Killed],
                // A limit is no test of what happens beyond it.
                OWN_LIMIT => Vec::new(),
                _ => mentioned(&reading.line),
            };
            let text = format!("{why}: {}", reading.line);
            self.near(Objection { number: self.number, text, about, named: false, cause: false });
        }
        if reading.shape == Shape::Noise {
            return;
        }
        if reading.cause {
            let text = format!("{}: {}", Tells::Cause.cause(), reading.line);
            self.cause = Some(Objection { number: self.number, text, about: Vec::new(), named: false, cause: true });
        }
        let (tells, weak) = match (reading.strong, reading.weak) {
            (Some(tells), _) => (tells, false),
            (None, Some(tells)) => (tells, true),
            (None, None) => return,
        };
        if tells.is_network() {
            return;
        }
        let watched = tells == Tells::Killed && ["timeout", "TIMEOUT", "timed out"].iter().any(|word| reading.line.contains(word));
        let against = watched.then(|| (self.number, format!("{}: {}", OWN_LIMIT, reading.line)));
        let mut piece = Piece { tells, weak, line: reading.line, number: self.number, against, void: false, passed: self.passed };
        self.consider_neighbours(&mut piece);
        if self.first.len() < PIECES {
            self.first.push(piece);
        } else {
            if self.last.len() == PIECES {
                self.last.pop_front();
            }
            self.last.push_back(piece);
        }
    }

    /// Adds what speaks against a piece of evidence in the lines around it that were read so far.
    fn consider_neighbours(&self, piece: &mut Piece) {
        for objection in self.objections.iter().chain(&self.cause) {
            if piece.number.abs_diff(objection.number) <= NEAR && piece.number != objection.number {
                piece.object(objection);
            }
        }
    }

    /// Adds an objection to the evidence before it, and keeps it for that which follows.
    fn near(&mut self, objection: Objection) {
        let pieces = self.first.iter_mut().chain(&mut self.last);
        pieces.filter(|piece| objection.number - piece.number <= NEAR).for_each(|piece| piece.object(&objection));
        if self.objections.len() == OBJECTIONS {
            self.objections.pop_front();
        }
        self.objections.push_back(objection);
    }

    /// What the log says, if this was all of it: by the last piece of evidence that nothing speaks against or, if there is none, by the
    /// last one that is left of all.
    pub fn verdict(&self, facts: Facts) -> LogVerdict {
        let mut verdict = LogVerdict::Clear;
        for Weighed { line, weight } in self.evidence(facts) {
            match (weight, &verdict) {
                (Weight::Strong, _) => verdict = LogVerdict::Transient(line),
                (Weight::Doubtful, LogVerdict::Clear | LogVerdict::Doubtful(_)) => verdict = LogVerdict::Doubtful(line),
                _ => {}
            }
        }
        verdict
    }

    /// All evidence that is kept of the log, in its order, if this was all of it.
    pub fn evidence(&self, facts: Facts) -> Vec<Weighed> {
        let mut pieces: Vec<Piece> = self.first.iter().chain(&self.last).cloned().chain(self.of_last_lines(facts)).collect();
        pieces.sort_by_key(|piece| piece.number);
        let weighed = pieces.into_iter().map(|mut piece| {
            self.weigh(&mut piece, facts);
            let weight = match (piece.weak, &piece.against) {
                _ if piece.void => Weight::Nothing,
                (true, Some(_)) => Weight::Nothing,
                (false, None) => Weight::Strong,
                _ => Weight::Doubtful,
            };
            let line = DecidingLine {
                cause: piece.tells.cause().to_owned(),
                line: piece.line,
                number: piece.number,
                of: self.number,
                against: piece.against.map(|(_, text)| text),
            };
            Weighed { line, weight }
        });
        weighed.collect()
    }

    /// Adds what speaks against a piece of evidence from the rest of the log.
    fn weigh(&self, piece: &mut Piece, facts: Facts) {
        let number = piece.number;
        if piece.tells == Tells::Port && facts.sandboxed == Some(true) {
            piece.against.get_or_insert_with(|| (number, "in a sandbox, no other process uses its addresses".to_owned()));
        }
        if let Some(cause) = self.cause.as_ref().filter(|cause| cause.number > number) {
            piece.object(cause);
        }
        // What runs tests side by side goes on when one of them is killed.
        let alone = !piece.tells.is_network() && !matches!(piece.tells, Tells::Killed | Tells::Busy);
        if alone && self.passed - piece.passed >= WENT_ON {
            piece.against.get_or_insert_with(|| (number, "the tests went on after it".to_owned()));
        }
    }

    /// What only the last lines can tell: what the network did, and what languages without letters of their own say, which are passed
    /// over as they stream by.
    fn of_last_lines(&self, facts: Facts) -> Vec<Piece> {
        let mut pieces = Vec::new();
        // A server that answered is there: what else is said of the download says no more.
        let answered = |(_, reading): (u64, Reading)| reading.strong == Some(Tells::Answer);
        let answered = facts.fixed_output && self.recent_messages().take(LAST).any(answered);
        for (place, (number, reading)) in self.recent_messages().enumerate() {
            let (Some(tells), weak) = (reading.strong.or(reading.weak), reading.strong.is_none()) else { continue };
            let known = self.first.iter().chain(&self.last).any(|piece| piece.number == number);
            let weak = match tells {
                _ if known || place >= LAST && tells.is_network() => continue,
                // There is none, so that it says nothing.
                Tells::Faltered | Tells::Unreachable | Tells::Answer if facts.sandboxed == Some(true) && !facts.fixed_output => continue,
                Tells::Faltered => weak,
                // What a server says to a download is what the download is about.
                Tells::Answer | Tells::Unreachable if answered => continue,
                Tells::Answer if facts.fixed_output => continue,
                Tells::Unreachable => !facts.fixed_output,
                Tells::Answer => true,
                _ => weak,
            };
            let mut piece = Piece { tells, weak, line: reading.line, number, against: None, void: false, passed: self.passed };
            self.consider_neighbours(&mut piece);
            pieces.push(piece);
        }
        pieces.reverse();
        pieces
    }

    /// The last lines that say something, the last one first, with their numbers.
    fn recent_messages(&self) -> impl Iterator<Item = (u64, Reading)> {
        let numbered = self.tail.recent().enumerate().map(|(back, line)| (self.number - back as u64, read(&shorten(line))));
        numbered.filter(|(_, reading)| reading.shape == Shape::Message && !reading.line.is_empty())
    }

    /// What tells this failure from another one: see [`identity`].
    pub fn identity(&self) -> u64 {
        let last: Vec<(u64, Reading)> = self.recent_messages().take(LAST).collect();
        let telling: Vec<&str> = last.iter().map(|(_, reading)| reading.line.as_str()).filter(|line| is_worth_reading(line.as_bytes())).collect();
        if telling.is_empty() { identity(last.iter().map(|(_, reading)| reading.line.as_str())) } else { identity(telling) }
    }
}

/// Why a shortage is no evidence.
const OWN_LIMIT: &str = "it has a limit of its own";

/// Why a signal is no evidence.
const OWN_SIGNAL: &str = "it sends the signal itself";

/// What a text has words of, in whatever sentence.
fn mentioned(text: &str) -> Vec<Tells> {
    const WORDS: [(Tells, &[&str]); 9] = [
        (Tells::Memory, &["memory", "oom", "alloc", "enomem", "heap"]),
        (Tells::Killed, &["kill", "signal", "sigterm", "terminat"]),
        (Tells::Disk, &["space", "/dev/full", "quota", "disk", "storagefull", "enospc", "edquot"]),
        (Tells::InputOutput, &["i/o", "input/output", "eio", "read-only", "readonly", "erofs", "stale"]),
        (Tells::Processes, &["fork", "thread", "process"]),
        (Tells::Files, &["open files", "emfile", "enfile", "descriptor"]),
        (Tells::Port, &["in use", "inuse", "port", "bind", "listen"]),
        (Tells::Faltered, &["connection", "timeout", "timed", "reset", "refused", "retry", "backoff", "pipe", "network", "http", "50"]),
        (Tells::Unreachable, &["connection", "refused", "network", "connect", "resolve", "dns", "unreachable", "http"]),
    ];
    let text = text.to_lowercase();
    WORDS.iter().filter(|(_, words)| words.iter().any(|word| text.contains(word))).map(|(tells, _)| *tells).collect()
}

/// Reads one line.
fn read(bytes: &[u8]) -> Reading {
    let line = Line::read(bytes);
    let message = line.message();
    let mut reading = Reading { shape: line.shape, strong: None, weak: None, objection: None, cause: false, line: kept(message) };
    if matches!(reading.shape, Shape::Passed | Shape::Failed) {
        reading.line = kept(&line.whole);
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
    let by_signal = signals::ended(message).filter(|_| !reading.cause || message.contains("exit") || message.contains("signal"));
    let by_message = system_messages::find(message)
        .or_else(|| system_messages::after_process(message))
        .and_then(|found| of_system_message(message, found));
    let network = said.strong.iter().chain(&said.weak).copied().find(|tells| tells.is_network());
    let answer = said.strong.contains(&Tells::Answer).then_some(Tells::Answer);
    let network = of_status(message).or(answer).or(network).or(by_message.map(|(tells, _)| tells).filter(|tells| tells.is_network()));
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
    reading.weak = said.weak.iter().copied().find(|tells| !tells.is_network()).or(by_message.filter(|(_, weak)| *weak).map(|(tells, _)| tells));
    if by_signal == Some(Ended::TerminatedByShell) {
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
        "ENOSPC" | "EDQUOT" => (Tells::Disk, ["/dev/full", "/mnt/", "mkfs", "mke2fs"].iter().any(|path| line.contains(path))),
        "EIO" | "ESTALE" | "EUCLEAN" | "EREMOTEIO" => (Tells::InputOutput, false),
        // Many places are read-only for each builder; the folder of the build is not.
        "EROFS" if ["/nix/store", "/homeless-shelter", "/etc", "/usr", "/var", "/proc", "/sys", "/dev", "/root", "/home"].iter().any(|path| line.contains(path)) => return None,
        "EROFS" => (Tells::InputOutput, false),
        "EFBIG" | "SIGXFSZ" | "SIGXCPU" => (Tells::FileSize, false),
        "EMFILE" | "ENFILE" => (Tells::Files, false),
        "ETXTBSY" => (Tells::Busy, false),
        "EBUSY" => (Tells::Busy, !lower().contains("kvm")),
        "EADDRINUSE" => (Tells::Port, false),
        "EAGAIN" => {
            let lower = lower();
            let of_processes = ["fork", "thread", "clone", "spawn", "exec", "pool", "process", "make", "bash", "/sh"].iter().any(|word| lower.contains(word));
            (Tells::Processes, !of_processes)
        }
        "SIGKILL" | "SIGTERM" => {
            let after = line[found.end..].trim();
            let ends = after.is_empty() || after.starts_with([']', ')', '.']) || after.starts_with("signal") || line[found.end..].starts_with("  ");
            let opens = matches!(found.opener, None | Some(':' | '：' | '[' | '(' | ']' | '0'..='9'));
            // Erlang calls a process of its own so that another one ended.
            if !(ends && opens) || line.contains("***:") || line.contains("exit: killed") || line.contains("reason: killed") {
                return None;
            }
            (Tells::Killed, found.name == "SIGTERM")
        }
        "ECONNRESET" | "ETIMEDOUT" | "ECONNABORTED" => (Tells::Faltered, false),
        "ECONNREFUSED" | "ENETUNREACH" | "EHOSTUNREACH" | "ENETDOWN" | "EHOSTDOWN" | "EAI_AGAIN" | "EAI_NONAME" => (Tells::Unreachable, false),
        _ => return None,
    })
}

fn is_warning(line: &str) -> bool {
    line.contains("warning") || line.contains("Warning")
}

/// What the status of an answer tells of: `503`, `HTTP 429`.
fn of_status(message: &str) -> Option<Tells> {
    let lower = message.to_lowercase();
    let at = ["http error ", "status code ", "status code: ", "response code ", "http status ", "status: ", "status was '", "returned error: ", "http/1.1 ", "http/2 ", "http/1.0 ", "response ", "http ", "error ", "status=", "code: ", "statuscode: ", "code=", "status code was ", "got ", "returned ", "status "];
    at.iter().find_map(|before| {
        let digits = lower[lower.find(before)? + before.len()..].trim_start_matches(['\'', '"', '(', ':', ' ']);
        let code = digits.get(..3).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()))?;
        if digits[3..].starts_with(|c: char| c.is_alphanumeric()) {
            return None;
        }
        let of_http = ["http", "url", "server", "download", "fetch", "request", "response", "status"].iter().any(|word| lower.contains(word));
        match (code, of_http) {
            ("408" | "425" | "429" | "500" | "502" | "503" | "504" | "520" | "521" | "522" | "523" | "524" | "529", true) => Some(Tells::Faltered),
            ("400" | "401" | "402" | "403" | "404" | "405" | "406" | "407" | "410" | "451", true) => Some(Tells::Answer),
            _ => None,
        }
    })
}

/// Whether a line is a compiler's: `x.c:12:3: error: …`.
fn is_diagnostic(message: &str) -> bool {
    let marks = [": error: ", ": error[", ": fatal error: ", ": Error: ", ": ERROR: ", ": error ", ": syntax error", " error: "];
    // What the engine of a build says of what it ran.
    if message.contains("error MSB") {
        return false;
    }
    let of_typescript = message.match_indices("TS").any(|(place, _)| {
        let digits = message[place + 2..].bytes().take_while(u8::is_ascii_digit).count();
        digits == 4 && message[place + 6..].starts_with(':')
    });
    of_typescript || marks.iter().any(|mark| {
        message.find(mark).is_some_and(|place| {
            let before = message[..place].trim_end_matches([')', ' ']);
            before.ends_with(|c: char| c.is_ascii_digit()) && before.contains([':', '(', ',']) && !before.starts_with("collect2")
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
        let number = if hexadecimal { u128::from_str_radix(number, 16).map_or(0.0, |number| number as f64) } else { number.trim_end_matches('.').parse().unwrap_or(0.0) };
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
        assert_eq!(strong("It appears as if there is not enough space for /dev/shm/vader_segment.localhost.1000.1 (the shared"), Some(Tells::Disk));
        assert_eq!(strong("17>error: RPC failed; HTTP 429 curl 22 The requested URL returned error: 429"), Some(Tells::Faltered));
    }
}
