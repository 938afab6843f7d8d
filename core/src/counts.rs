//! What is counted by day: refusals, and what became of builds that failed. The [`crate::database`] keeps the counts for longer
//! than the records that they are about.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use crate::belief::Origin;
use crate::class::Class;
use crate::judgement::Reason;
use crate::machine::Shortage;
use crate::record::FailureRecord;
use crate::store_path::DerivationPath;

/// As many different things are counted at most until the counts are written.
const MOST_PENDING: usize = 10_000;

/// No refusal counts for more than this: a year, in milliseconds. What others publish may claim anything.
const LONGEST_BUILD: i64 = 365 * 24 * 60 * 60 * 1000;

/// A derivation that was refused, as it is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RefusedDerivation {
    /// Its path.
    pub derivation: DerivationPath,
    /// Its name, without hash and `.drv`.
    pub name: String,
    /// The system it is for.
    pub system: String,
    /// The class of the failure.
    pub class: Class,
    /// Where the failure was learned, as people are told; `None` if it happened here.
    pub origin: Option<String>,
}

impl RefusedDerivation {
    /// The derivation of a record, refused because of the attempt with this index.
    pub fn of(record: &FailureRecord, attempt: usize) -> RefusedDerivation {
        let believed = record.believed(attempt);
        RefusedDerivation {
            derivation: record.summary.derivation.clone(),
            name: record.summary.name.clone(),
            system: record.summary.system.clone(),
            class: believed.class,
            origin: believed.origin.map(Origin::counted_as),
        }
    }
}

/// What became of a build that failed. Its names are those in databases and JSON.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Display, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "kebab-case")]
pub enum Verdict {
    /// It was recorded.
    Recorded,
    /// It was recorded, and counts when it has come again.
    Doubtful,
    /// A signal.
    Signal,
    /// An exit code of those that pass.
    ExitCode,
    /// A lack of memory.
    Memory,
    /// A full disk.
    Disk,
    /// The log.
    Log,
    /// Nix takes it for a passing one.
    Transient,
    /// The builder could not be started.
    NotStarted,
    /// A limit on the time.
    Timeout,
    /// The limit on the log.
    LogLimit,
    /// A fetch.
    Fetch,
    /// The builder did not fail.
    NotTheBuilder,
    /// The exit code is not known.
    NoExitCode,
    /// Nix was interrupted.
    Interrupted,
    /// A check or repair.
    CheckOrRepair,
    /// The derivation wants to be kept out.
    OptedOut,
    /// An impure derivation.
    Impure,
    /// Its output paths are not known before the build.
    OutputsUnknown,
    /// The builder uses Nix.
    Recursive,
    /// Something that only a newer version knows.
    Other,
}

impl Verdict {
    /// All verdicts, in the order of the manual.
    pub const ALL: &[Verdict] = <Verdict as VariantArray>::VARIANTS;

    /// The name in databases and JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether the failure was recorded.
    pub fn is_recorded(self) -> bool {
        matches!(self, Verdict::Recorded | Verdict::Doubtful)
    }

    /// The verdict in words. For what was not recorded, these are the words of [`Reason`] without what only a single build has.
    pub fn in_words(self) -> &'static str {
        match self {
            Verdict::Recorded => "recorded",
            Verdict::Doubtful => "recorded, doubtful",
            Verdict::Signal => "a signal ended the builder or something it ran",
            Verdict::ExitCode => "the builder's exit code says that its failure will pass",
            Verdict::Memory => "the machine was short of memory",
            Verdict::Disk => "a file system was full",
            Verdict::Log => "the log tells of a cause that passes",
            Verdict::Transient => "Nix takes the failure for a passing one",
            Verdict::NotStarted => "the builder could not be started",
            Verdict::Timeout => "a time limit ended the build",
            Verdict::LogLimit => "the limit on the size of the log ended the build",
            Verdict::Fetch => "it is a fetch",
            Verdict::NotTheBuilder => "the builder did not fail",
            Verdict::NoExitCode => "the builder's exit code is not known",
            Verdict::Interrupted => "Nix was interrupted",
            Verdict::CheckOrRepair => "it was a check or a repair",
            Verdict::OptedOut => "the derivation has 'negativeCache = false'",
            Verdict::Impure => "the derivation is impure",
            Verdict::OutputsUnknown => "its output paths are not known before the build",
            Verdict::Recursive => "the builder uses Nix",
            Verdict::Other => "another reason",
        }
    }
}

impl From<&Reason> for Verdict {
    fn from(reason: &Reason) -> Verdict {
        match reason {
            Reason::NotTheBuilder => Verdict::NotTheBuilder,
            Reason::Transient => Verdict::Transient,
            Reason::Timeout => Verdict::Timeout,
            Reason::LogLimit => Verdict::LogLimit,
            Reason::Signal => Verdict::Signal,
            Reason::ExitCode(_) => Verdict::ExitCode,
            Reason::Shortage(Shortage::OutOfMemory | Shortage::MemoryPressure) => Verdict::Memory,
            Reason::Shortage(Shortage::Disk(_)) => Verdict::Disk,
            Reason::Log(_) => Verdict::Log,
            Reason::Fetch => Verdict::Fetch,
            Reason::Impure => Verdict::Impure,
            Reason::OutputsUnknown => Verdict::OutputsUnknown,
            Reason::CheckOrRepair => Verdict::CheckOrRepair,
            Reason::Interrupted => Verdict::Interrupted,
            Reason::NoExitCode => Verdict::NoExitCode,
            Reason::Recursive => Verdict::Recursive,
            Reason::NotStarted => Verdict::NotStarted,
            Reason::OptedOut => Verdict::OptedOut,
        }
    }
}

/// A number of refusals, and how long the builds took that failed instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there were.
    pub refusals: i64,
    /// The sum of the times of the builds, in milliseconds.
    pub saved_ms: i64,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: Tally) {
        self.refusals = self.refusals.saturating_add(other.refusals);
        self.saved_ms = self.saved_ms.saturating_add(other.saved_ms);
    }
}

/// A day of UTC, as a number of days since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(pub i64);

impl Day {
    const MILLISECONDS: i64 = 24 * 60 * 60 * 1000;

    /// The day of a time.
    pub fn of(time: Timestamp) -> Day {
        Day(time.as_millisecond().div_euclid(Day::MILLISECONDS))
    }

    /// The day of the counts that are kept without their day and derivation, because they are old.
    pub(crate) const EARLIER: Day = Day(0);

    /// Whether it stands for days long ago.
    pub fn is_earlier(self) -> bool {
        self == Day::EARLIER
    }

    /// The date. A day that no clock can have is the first one that can be written.
    pub fn date(self) -> Date {
        let start = self.0.checked_mul(Day::MILLISECONDS).and_then(|start| Timestamp::from_millisecond(start).ok());
        start.map_or(Date::MIN, |start| start.to_zoned(TimeZone::UTC).date())
    }
}

/// Counts that are not written yet.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub(crate) refusals: HashMap<(Day, RefusedDerivation), Tally>,
    pub(crate) failures: HashMap<(Day, Class, Verdict), i64>,
}

impl Counts {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.refusals.is_empty() && self.failures.is_empty()
    }

    /// Counts a refusal of a derivation, whose build took so long when it failed.
    pub fn refused(&mut self, derivation: RefusedDerivation, duration_ms: i64, time: Timestamp) {
        let has_room = self.refusals.len() < MOST_PENDING;
        let one = Tally { refusals: 1, saved_ms: duration_ms.clamp(0, LONGEST_BUILD) };
        let key = (Day::of(time), derivation);
        match self.refusals.get_mut(&key) {
            Some(tally) => tally.add(one),
            None if has_room => drop(self.refusals.insert(key, one)),
            None => {}
        }
    }

    /// Counts a build that failed.
    pub fn failed(&mut self, class: Class, verdict: Verdict, time: Timestamp) {
        *self.failures.entry((Day::of(time), class, verdict)).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_utc() {
        let day = |text: &str| Day::of(text.parse().unwrap());
        assert_eq!(day("1970-01-01T00:00:00Z"), Day(0));
        assert_eq!(
            (day("2026-11-26T23:59:59.999Z").date(), day("1969-12-31T23:00:00Z")),
            (Date::constant(2026, 11, 26), Day(-1))
        );
        assert_eq!(Day(i64::MAX).date(), Date::MIN);
    }

    #[test]
    fn what_is_pending_is_bounded() {
        let mut counts = Counts::default();
        let refused = |number: usize| RefusedDerivation {
            derivation: format!("/nix/store/{number}.drv").into(),
            name: "x".to_owned(),
            system: String::new(),
            class: Class::Builder,
            origin: None,
        };
        for number in 0..MOST_PENDING + 10 {
            counts.refused(refused(number), i64::MAX, Timestamp::UNIX_EPOCH);
        }
        counts.refused(refused(0), -1, Timestamp::UNIX_EPOCH);
        assert_eq!(counts.refusals.len(), MOST_PENDING);
        assert_eq!(counts.refusals[&(Day(0), refused(0))], Tally { refusals: 2, saved_ms: LONGEST_BUILD });
    }

    #[test]
    fn verdicts_have_names_and_words_of_their_own() {
        for verdict in Verdict::ALL {
            assert_eq!(verdict.name().parse(), Ok(*verdict));
            assert_eq!(Verdict::ALL.iter().filter(|other| other.in_words() == verdict.in_words()).count(), 1);
        }
    }
}
