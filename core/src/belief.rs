//! Whether what is known of earlier attempts still speaks against a new one.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::class::Class;
use crate::environment::{Comparison, Difference, Environment};
use crate::settings::Settings;
use crate::time_text::{as_seconds, period};

/// How many attempts are remembered, and so the highest `negative-cache-min-failures`.
pub const MAX_ATTEMPTS: u32 = 32;

/// How far a failure may be in the future, in seconds: clocks are set back by a little all the time, and what a clock
/// wrote that was far ahead must not be believed until that time comes.
pub const CLOCK_TOLERANCE: i64 = 300;

/// How one attempt to build ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// When; in JSON, seconds since 1970.
    #[serde(serialize_with = "as_seconds")]
    pub time: Timestamp,
    /// What failed, or nothing if it succeeded.
    pub failure: Option<FailedAttempt>,
}

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedAttempt {
    /// What kind of failure it was.
    pub class: Class,
    /// The builder's exit code, if it exited.
    pub exit_code: Option<i32>,
    /// Where it happened.
    pub environment: Environment,
}

/// What earlier attempts say of a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Belief {
    /// It would fail. So it is believed until then, or for ever.
    Fails {
        /// The place of the attempt that says so, the newest one that counts.
        attempt: usize,
        /// When it is tried again.
        until: Option<Timestamp>,
    },
    /// Nobody knows.
    Open(Doubt),
}

/// Why earlier failures do not speak against a new attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The last attempt succeeded.
    Succeeded,
    /// The settings do not want failures of this class.
    Unwanted(Class),
    /// It happened somewhere else, as it were.
    Elsewhere(Vec<Difference>),
    /// The clock was ahead when it was recorded, or is behind now.
    Future(Timestamp),
    /// It failed too rarely.
    TooFew {
        /// How often in a row.
        failures: u32,
        /// How often it would have to.
        needed: u32,
        /// Whether that is because it has succeeded before.
        flaky: bool,
    },
    /// It was believed until then.
    Expired(Timestamp),
    /// The user has asked for a new attempt since.
    RetryRequested(Timestamp),
}

/// Whether a failure was followed by a success at some time. `attempts` are the newest first.
pub fn is_flaky(attempts: &[Attempt]) -> bool {
    attempts.iter().any(|attempt| attempt.failure.is_none())
}

/// What `attempts`, the newest first, say of a new one `here`.
pub fn believe(attempts: &[Attempt], here: &Comparison, settings: &Settings, now: Timestamp) -> Belief {
    let in_a_row = attempts.iter().map_while(|attempt| Some((attempt.time, attempt.failure.as_ref()?)));
    let latest = now.saturating_add(SignedDuration::from_secs(CLOCK_TOLERANCE)).unwrap_or(Timestamp::MAX);
    let mut counting: Vec<(usize, Timestamp)> = Vec::new();
    let mut doubt = Doubt::Succeeded;
    for (place, (time, failure)) in in_a_row.enumerate() {
        let differences = here.differences(&failure.environment, failure.class);
        let of_this_one = if !settings.records(failure.class) {
            Doubt::Unwanted(failure.class)
        } else if !differences.is_empty() {
            Doubt::Elsewhere(differences)
        } else if settings.ttl.is_some() && time > latest {
            Doubt::Future(time)
        } else {
            counting.push((place, time));
            continue;
        };
        // What there is to say of the newest is what a person wants to know.
        if doubt == Doubt::Succeeded {
            doubt = of_this_one;
        }
    }
    let Some(&(attempt, newest)) = counting.first() else { return Belief::Open(doubt) };
    let flaky = is_flaky(attempts);
    let needed = settings.min_failures.max(if flaky { 2 } else { 1 });
    let failures = u32::try_from(counting.len()).unwrap_or(u32::MAX);
    if failures < needed {
        return Belief::Open(Doubt::TooFew { failures, needed, flaky });
    }
    let until =
        settings.lifetime(failures - needed).map(|lifetime| newest.saturating_add(lifetime).unwrap_or(Timestamp::MAX));
    match until {
        Some(until) if until <= now => Belief::Open(Doubt::Expired(until)),
        until => Belief::Fails { attempt, until },
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::Succeeded => f.write_str("it has succeeded since"),
            Doubt::Unwanted(class) => {
                write!(f, "failures of the class '{class}' are not counted by the settings in force")
            }
            Doubt::Elsewhere(differences) => {
                let list: Vec<String> = differences.iter().map(ToString::to_string).collect();
                write!(f, "it failed in another environment: {}", list.join("; "))
            }
            Doubt::Future(time) => {
                write!(f, "it is said to have failed at {time}, which is yet to come: a clock was wrong")
            }
            Doubt::TooFew { failures, needed, flaky } => {
                let why = if *flaky { " as it has succeeded after a failure before" } else { "" };
                let times = if *failures == 1 { "once".to_owned() } else { format!("{failures} times") };
                write!(f, "it failed only {times} in a row, and {needed} times are needed{why}")
            }
            Doubt::RetryRequested(time) => write!(f, "a new attempt was asked for at {time}"),
            Doubt::Expired(until) => write!(f, "the failure was believed until {until}"),
        }
    }
}

/// How long a failure is believed, in words.
pub fn lifetime_text(lifetime: Option<SignedDuration>) -> String {
    lifetime.map_or("for ever".to_owned(), period)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400;
    const NOW: i64 = 1_000 * DAY;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn somewhere(sandbox: &str) -> Environment {
        Environment::new(&BTreeMap::from([("sandbox".to_owned(), sandbox.to_owned())]), BTreeMap::new())
    }

    fn failed(second: i64) -> Attempt {
        failed_of(Class::Builder, "true", second)
    }

    fn failed_of(class: Class, sandbox: &str, second: i64) -> Attempt {
        Attempt {
            time: at(second),
            failure: Some(FailedAttempt { class, exit_code: Some(1), environment: somewhere(sandbox) }),
        }
    }

    fn succeeded(second: i64) -> Attempt {
        Attempt { time: at(second), failure: None }
    }

    fn with(attempts: &[Attempt], change: impl Fn(&mut Settings)) -> Belief {
        let mut settings = Settings::default();
        change(&mut settings);
        believe(attempts, &Comparison::with(&somewhere("true")), &settings, at(NOW))
    }

    fn until(second: i64) -> Belief {
        Belief::Fails { attempt: 0, until: Some(at(second)) }
    }

    #[test]
    fn how_long_a_failure_is_believed() {
        let hour_ago = NOW - 3_600;
        let days = |n: i64| Some(SignedDuration::from_secs(n * DAY));
        type Lifetime = Option<SignedDuration>;
        let table: [(&[i64], Lifetime, Lifetime, Belief); 11] = [
            (&[hour_ago], days(7), days(90), until(hour_ago + 7 * DAY)),
            (&[hour_ago, NOW - 8 * DAY], days(7), days(90), until(hour_ago + 14 * DAY)),
            (&[hour_ago; 3], days(7), days(90), until(hour_ago + 28 * DAY)),
            (&[hour_ago; 9], days(7), days(90), until(hour_ago + 90 * DAY)),
            (&[hour_ago; 9], days(7), None, until(hour_ago + 7 * 256 * DAY)),
            (&[hour_ago; 32], days(7), None, Belief::Fails { attempt: 0, until: Some(Timestamp::MAX) }),
            (&[hour_ago], days(100), days(90), until(hour_ago + 90 * DAY)),
            (&[0], None, days(90), Belief::Fails { attempt: 0, until: None }),
            (&[NOW - 7 * DAY], days(7), days(90), Belief::Open(Doubt::Expired(at(NOW)))),
            (&[NOW + 200], days(7), days(90), until(NOW + 200 + 7 * DAY)),
            (&[NOW + 301], days(7), days(90), Belief::Open(Doubt::Future(at(NOW + 301)))),
        ];
        for (times, ttl, max_ttl, expected) in table {
            let attempts: Vec<Attempt> = times.iter().map(|time| failed(*time)).collect();
            let belief = with(&attempts, |settings| (settings.ttl, settings.max_ttl) = (ttl, max_ttl));
            assert_eq!(belief, expected, "{times:?} {ttl:?} {max_ttl:?}");
        }
    }

    #[test]
    fn what_came_before_matters() {
        let too_few = |failures, needed, flaky| Belief::Open(Doubt::TooFew { failures, needed, flaky });
        let week = |second| until(second + 7 * DAY);
        let table: [(&[Attempt], u32, Belief); 8] = [
            (&[], 1, Belief::Open(Doubt::Succeeded)),
            (&[succeeded(NOW), failed(NOW - 9)], 1, Belief::Open(Doubt::Succeeded)),
            (&[failed(NOW), succeeded(NOW - 1), failed(NOW - 9)], 1, too_few(1, 2, true)),
            (&[failed(NOW), failed(NOW - 1), succeeded(NOW - 2), failed(NOW - 9)], 1, week(NOW)),
            (&[failed(NOW), failed(NOW - 1), succeeded(NOW - 2), failed(NOW - 9)], 3, too_few(2, 3, true)),
            (&[failed(NOW)], 2, too_few(1, 2, false)),
            (&[failed(NOW), failed(NOW - 5)], 2, week(NOW)),
            (&[failed(NOW), failed_of(Class::Builder, "false", NOW - 5)], 2, too_few(1, 2, false)),
        ];
        for (attempts, min_failures, expected) in table {
            assert_eq!(with(attempts, |settings| settings.min_failures = min_failures), expected, "{attempts:?}");
        }
    }

    #[test]
    fn which_failures_count() {
        let difference =
            Difference { factor: "sandbox", recorded: Some("false".to_owned()), now: Some("true".to_owned()) };
        let elsewhere = [failed_of(Class::Builder, "false", NOW)];
        assert_eq!(with(&elsewhere, |_| ()), Belief::Open(Doubt::Elsewhere(vec![difference])));
        // An older failure in this environment still counts.
        let older = Belief::Fails { attempt: 1, until: Some(at(NOW + 6 * DAY)) };
        assert_eq!(with(&[elsewhere[0].clone(), failed(NOW - DAY)], |_| ()), older);
        for (class, with_timeouts, with_fetches) in [
            (Class::Builder, true, true),
            (Class::Output, true, true),
            (Class::Timeout, true, false),
            (Class::Silence, true, false),
            (Class::LogLimit, true, false),
            (Class::Fetch, false, true),
            (Class::Transient, false, false),
            (Class::NotTheBuilder, false, false),
        ] {
            let attempts = [failed_of(class, "true", NOW)];
            let fails = |timeouts, fixed_output| {
                let belief =
                    with(&attempts, |settings| (settings.timeouts, settings.fixed_output) = (timeouts, fixed_output));
                matches!(belief, Belief::Fails { .. })
            };
            assert_eq!(fails(false, false), matches!(class, Class::Builder | Class::Output), "{class}");
            assert_eq!((fails(true, false), fails(false, true)), (with_timeouts, with_fetches), "{class}");
        }
    }

    fn any_attempt() -> impl Strategy<Value = Attempt> {
        (0..5u8, prop::sample::select(&["true", "false"][..]), -20..20i64).prop_map(
            |(kind, sandbox, days)| match kind {
                0 => succeeded(NOW + days * DAY),
                1 => failed_of(Class::Timeout, sandbox, NOW + days * DAY),
                _ => failed_of(Class::Builder, sandbox, NOW + days * DAY),
            },
        )
    }

    proptest! {
        #[test]
        fn never_outside_life_time_and_environment(
            attempts in prop::collection::vec(any_attempt(), 0..8),
            ttl in 1..10i64, max in 1..40i64, min_failures in 1..4u32,
        ) {
            let belief = with(&attempts, |settings| {
                settings.ttl = Some(SignedDuration::from_secs(ttl * DAY));
                settings.max_ttl = Some(SignedDuration::from_secs(max * DAY));
                settings.min_failures = min_failures;
            });
            if let Belief::Fails { attempt, until } = belief {
                prop_assert_eq!(attempts[attempt].failure.as_ref().map(|failed| failed.class), Some(Class::Builder));
                let until = until.unwrap();
                prop_assert!(until > at(NOW) && until <= at(NOW + CLOCK_TOLERANCE + max * DAY));
                let counting: Vec<&Attempt> = attempts
                    .iter()
                    .take_while(|attempt| attempt.failure.is_some())
                    .filter(|a| **a == failed(a.time.as_second()) && a.time <= at(NOW + CLOCK_TOLERANCE))
                    .collect();
                prop_assert!(counting.len() >= min_failures as usize);
                prop_assert!(!is_flaky(&attempts) || counting.len() >= 2);
                let longest = (ttl << (counting.len() - 1)).min(max) * DAY;
                prop_assert!(until <= at(counting[0].time.as_second() + longest));
            }
        }

        #[test]
        fn a_success_is_never_refused(attempts in prop::collection::vec(any_attempt(), 0..8), min_failures in 1..4u32) {
            let mut attempts = attempts;
            attempts.insert(0, succeeded(NOW));
            prop_assert_eq!(with(&attempts, |settings| settings.min_failures = min_failures), Belief::Open(Doubt::Succeeded));
        }
    }
}
