//! Weighs what a log says: the failure would come again, or it would pass, or nobody can tell.
//!
//! These are the rules in short; `docs/manual.md` has them for users.
//!
//! - Strong evidence of a shortage, a kill or a passing fault counts wherever it stands: in a parallel build, much can come
//!   after it.
//! - Evidence about the network counts only among the last lines that say something, and only if there is a network.
//! - A test that expects the evidence speaks against it, as does a cause of the build's own, and as do tests that went on
//!   after it. Then nobody can tell.

use std::collections::VecDeque;

use super::identity::identity;
use super::line::Shape;
use super::lines::shorten;
use super::reading::{OWN_LIMIT, OWN_SIGNAL, Reading, is_watched, limited, mentioned, read};
use super::sentences::Tells;
use super::tail::LogTail;
use super::triggers::is_worth_reading;
use crate::deciding_line::DecidingLine;

/// How many of the last lines that say something are searched for evidence about the network, and make up the identity
/// of a failure.
const LAST: usize = 20;

/// How many lines before and after a piece of evidence are searched for objections to it.
const NEAR: u64 = 8;

/// How many tests must pass after a piece of evidence to show that the build went on as if nothing had happened.
const WENT_ON: u64 = 3;

/// How many objections are kept.
const OBJECTIONS: usize = 12;

/// How many pieces of evidence are kept from the beginning of the log, and how many from its end.
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
    /// No evidence is left that the failure would pass.
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
    /// The objections leave nothing of it.
    Nothing,
}

/// A piece of evidence with its weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighed {
    /// The line, with the objection to it.
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
    /// The objection to it, and the number of the line that has it.
    against: Option<(u64, String)>,
    /// Whether nothing is left of it.
    void: bool,
    /// How many tests had passed before it.
    passed: u64,
}

impl Piece {
    /// Takes note of an objection. Nothing is left of the evidence if the objection is about the same thing, as a test that
    /// expects it is, or if the build went on to fail for a cause of its own.
    fn object(&mut self, objection: &Objection) {
        if objection.only.is_some_and(|only| !only.contains(&self.tells)) {
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

/// A line that speaks against evidence near it.
#[derive(Clone, Debug)]
struct Objection {
    number: u64,
    text: String,
    /// What it is about.
    about: Vec<Tells>,
    /// What it can speak against, if not against everything.
    only: Option<&'static [Tells]>,
    /// Whether it is the name of a test.
    named: bool,
    /// Whether it is a definite cause.
    cause: bool,
}

/// A log that is being read.
#[derive(Clone, Debug, Default)]
pub struct LogJudge {
    tail: LogTail,
    /// How many lines there were.
    number: u64,
    first: Vec<Piece>,
    last: VecDeque<Piece>,
    /// The last objections: lines that say what tests expect or are about, what limits the build sets, and which signals it
    /// sends.
    objections: VecDeque<Objection>,
    /// The last line that names a definite cause.
    cause: Option<Objection>,
    /// How many tests passed.
    passed: u64,
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
                let objection = Objection { number: self.number, text, about, only: None, named: true, cause: false };
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
            let only = match why {
                OWN_SIGNAL => Some(&[Tells::Killed][..]),
                OWN_LIMIT => Some(limited(&reading.line)),
                _ => None,
            };
            self.near(Objection { number: self.number, text, about, only, named: false, cause: false });
        }
        if reading.shape == Shape::Noise {
            return;
        }
        if reading.cause {
            let text = format!("{}: {}", Tells::Cause.cause(), reading.line);
            self.cause =
                Some(Objection { number: self.number, text, about: Vec::new(), only: None, named: false, cause: true });
        }
        let (tells, weak) = match (reading.strong, reading.weak) {
            (Some(tells), _) => (tells, false),
            (None, Some(tells)) => (tells, true),
            (None, None) => return,
        };
        if tells.is_network() {
            return;
        }
        let watched = tells == Tells::Killed && is_watched(&reading.line);
        let against = watched.then(|| (self.number, format!("{}: {}", OWN_LIMIT, reading.line)));
        let mut piece =
            Piece { tells, weak, line: reading.line, number: self.number, against, void: false, passed: self.passed };
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

    /// Adds the objections to a piece of evidence from the lines near it that were read so far.
    fn consider_neighbours(&self, piece: &mut Piece) {
        for objection in self.objections.iter().chain(&self.cause) {
            // A compiler that crashes only sometimes names its crash as well.
            let crash = piece.tells == Tells::Hardware && objection.cause;
            if !crash && piece.number.abs_diff(objection.number) <= NEAR && piece.number != objection.number {
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

    /// The verdict on the log, if this was all of it. The last piece of evidence without an objection decides; if there is
    /// none, the last piece of which anything is left.
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
        let mut pieces: Vec<Piece> =
            self.first.iter().chain(&self.last).cloned().chain(self.of_last_lines(facts)).collect();
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
            piece
                .against
                .get_or_insert_with(|| (number, "in a sandbox, no other process uses its addresses".to_owned()));
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

    /// The evidence that is looked for among the last lines only: about the network, and in languages for which no trigger
    /// stands, so that their lines are passed over as they stream by.
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
                Tells::Faltered | Tells::Unreachable | Tells::Answer
                    if facts.sandboxed == Some(true) && !facts.fixed_output =>
                {
                    continue;
                }
                Tells::Faltered => weak,
                // What a server says to a download is what the download is about.
                Tells::Answer | Tells::Unreachable if answered => continue,
                Tells::Answer if facts.fixed_output => continue,
                Tells::Unreachable => !facts.fixed_output,
                Tells::Answer => true,
                _ => weak,
            };
            let mut piece =
                Piece { tells, weak, line: reading.line, number, against: None, void: false, passed: self.passed };
            self.consider_neighbours(&mut piece);
            pieces.push(piece);
        }
        pieces.reverse();
        pieces
    }

    /// The last lines that say something, the last one first, with their numbers.
    fn recent_messages(&self) -> impl Iterator<Item = (u64, Reading)> {
        let numbered =
            self.tail.recent().enumerate().map(|(back, line)| (self.number - back as u64, read(&shorten(line))));
        numbered.filter(|(_, reading)| reading.shape == Shape::Message && !reading.line.is_empty())
    }

    /// What tells this failure from another one: see [`identity`].
    pub fn identity(&self) -> u64 {
        let last: Vec<(u64, Reading)> = self.recent_messages().take(LAST).collect();
        let telling: Vec<&str> = last
            .iter()
            .map(|(_, reading)| reading.line.as_str())
            .filter(|line| is_worth_reading(line.as_bytes()))
            .collect();
        if telling.is_empty() {
            identity(last.iter().map(|(_, reading)| reading.line.as_str()))
        } else {
            identity(telling)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::lines::Lines;

    fn judged(log: &str) -> LogJudge {
        let mut judge = LogJudge::default();
        log.lines().for_each(|line| judge.line(line.as_bytes()));
        judge
    }

    fn word(log: &str, sandboxed: Option<bool>, fixed_output: bool) -> &'static str {
        match judged(log).verdict(Facts { sandboxed, fixed_output }) {
            LogVerdict::Clear => "clear",
            LogVerdict::Doubtful(_) => "doubtful",
            LogVerdict::Transient(_) => "transient",
        }
    }

    #[test]
    fn where_evidence_counts() {
        let noise = "gcc -O2 -c -o src/x.o src/x.c\nsrc/x.c: In function 'main':\n".repeat(200);
        let killed = "g++: fatal error: Killed signal terminated program cc1plus\n";
        let table = [
            (format!("{killed}{noise}make: *** [Makefile:1: all] Error 2"), "transient"),
            (format!("{noise}{noise}tool: out of memory"), "transient"),
            ("java.lang.OutOfMemoryError: Java heap space".to_owned(), "doubtful"),
            (format!("{killed}{noise}x.c:3:1: error: unknown type name 'x'"), "doubtful"),
            ("tool: out of memory\nok 1 - a\nok 2 - b\nok 3 - c\nnot ok 4 - d".to_owned(), "doubtful"),
            ("tool: out of memory\nok 1 - out of memory is reported\nnot ok 2 - d".to_owned(), "clear"),
            ("    kill(pid, SIGKILL);\nchild exited with signal 9\nFAIL: x".to_owned(), "clear"),
            ("+ ulimit -n 6\nsort: open failed: Too many open files".to_owned(), "doubtful"),
            ("memory allocation of 9223372036854775807 bytes failed".to_owned(), "clear"),
            ("mkdir: cannot create directory '/homeless-shelter': Read-only file system".to_owned(), "clear"),
            ("mkdir: cannot create directory 'x': Read-only file system".to_owned(), "transient"),
            (noise.clone(), "clear"),
            (String::new(), "clear"),
        ];
        for (log, expected) in table {
            assert_eq!(word(&log, None, false), expected, "{log}");
        }
    }

    #[test]
    fn what_the_network_says() {
        let reset = "curl: (56) Recv failure: Connection reset by peer";
        let resolve = "curl: (6) Could not resolve host: example.invalid";
        let missing = "curl: (22) The requested URL returned error: 404";
        let local = "curl: (7) Failed to connect to localhost port 80: Connection refused";
        let far = format!("{reset}\n{}", "linked the program\n".repeat(30));
        // In a sandbox; without one; where it is not known; of a download.
        for (log, expected) in [
            (reset, ["clear", "transient", "transient", "transient"]),
            (resolve, ["clear", "doubtful", "doubtful", "transient"]),
            (missing, ["clear", "doubtful", "doubtful", "clear"]),
            (local, ["clear"; 4]),
            (far.as_str(), ["clear"; 4]),
        ] {
            let facts = [(Some(true), false), (Some(false), false), (None, false), (None, true)];
            assert_eq!(facts.map(|(sandboxed, fixed_output)| word(log, sandboxed, fixed_output)), expected, "{log}");
        }
        let port = "server: bind: Address already in use";
        assert_eq!([Some(true), None].map(|sandboxed| word(port, sandboxed, false)), ["doubtful", "transient"]);
    }

    #[test]
    fn the_line_that_decides() {
        let LogVerdict::Transient(line) =
            judged("working\n[12:00:01] \x1b[31mcc1: out of memory\x1b[0m\nmake: *** [all] Error 1\n")
                .verdict(Facts::default())
        else {
            panic!("not transient")
        };
        assert_eq!(line.text(), "out of memory, in line 2 of 3: cc1: out of memory");
        let LogVerdict::Doubtful(line) = judged("tool: out of memory\nexpected 1, got 2").verdict(Facts::default())
        else {
            panic!("not doubtful")
        };
        assert_eq!(line.against.as_deref(), Some("a test expects it: expected 1, got 2"));
    }

    #[test]
    fn translations_in_the_last_lines() {
        assert_eq!(word("cp: scrittura di 'x': Spazio esaurito sul device", None, false), "transient");
        assert_eq!(word("make: *** [Makefile:1: x] 強制終了", None, false), "transient");
    }

    fn any_line() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ -~]{0,60}",
            prop::sample::select(vec![
                "cc1: out of memory".to_owned(),
                "Killed".to_owned(),
                "ok 1 - killed".to_owned(),
                "expected Killed".to_owned(),
                "x.c:1:2: error: no".to_owned(),
                "curl: (6) Could not resolve host: x".to_owned(),
                "cp: Auf dem Gerät ist kein Speicherplatz mehr verfügbar".to_owned(),
            ]),
        ]
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(lines in prop::collection::vec(any_line(), 0..40), size in 1..50usize) {
            let text = lines.join("\n");
            let (mut log, mut splitter) = (LogJudge::default(), Lines::default());
            text.as_bytes().chunks(size).for_each(|piece| splitter.push(piece, |line| log.line(line)));
            splitter.finish(|line| log.line(line));
            let whole = judged(&text);
            prop_assert_eq!(log.verdict(Facts::default()), whole.verdict(Facts::default()));
            prop_assert_eq!(log.identity(), whole.identity());
        }

        #[test]
        fn memory_does_not_grow(lines in prop::collection::vec(any_line(), 1..20), times in 1..200usize) {
            let mut log = LogJudge::default();
            for _ in 0..times {
                lines.iter().for_each(|line| log.line(line.as_bytes()));
            }
            prop_assert!(log.first.len() <= PIECES && log.last.len() <= PIECES && log.objections.len() <= OBJECTIONS);
            let kept: usize = log.first.iter().chain(&log.last).map(|piece| piece.line.len()).sum();
            prop_assert!(kept <= 2 * PIECES * 300);
        }

        #[test]
        fn any_bytes_can_be_judged(log in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..40)) {
            let mut judge = LogJudge::default();
            log.iter().for_each(|line| judge.line(line));
            for sandboxed in [None, Some(true)] {
                judge.verdict(Facts { sandboxed, fixed_output: false });
            }
            judge.identity();
        }
    }
}
