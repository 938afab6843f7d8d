//! Whether what is known of earlier attempts still speaks against a new one.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize, Serializer};

use crate::class::Class;
use crate::environment::{Comparison, Difference, Environment};
use crate::failure_object;
use crate::settings::Settings;
use crate::time_text::{as_seconds, period};

/// How many attempts are remembered, and so the highest `negative-cache-min-failures`.
pub const MAX_ATTEMPTS: u32 = 32;

/// How far a failure may be in the future, in seconds: clocks are set back by a little all the time, and what a clock
/// wrote that was far ahead must not be believed until that time comes.
pub const CLOCK_TOLERANCE: i64 = 300;

/// One attempt to build, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// When the request for it was made; if that is not known, when it ended. In JSON, seconds since 1970.
    #[serde(serialize_with = "as_seconds")]
    pub asked: Timestamp,
    /// When it ended; in JSON, seconds since 1970.
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
    /// For a doubtful failure, its identity, which two failures share if the telling last lines of their logs are the
    /// same. Such a failure counts only when it has come twice in a row. A clear one, which counts by itself, has none. In
    /// JSON, whether it is doubtful.
    #[serde(serialize_with = "is_there")]
    pub doubtful: Option<u64>,
    /// Where it was learned; `None` if this plugin saw it.
    pub origin: Option<Origin>,
}

/// Where a failure was learned that this plugin did not see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// From whom.
    #[serde(flatten)]
    pub source: Source,
    /// How many times it had failed in a row there.
    pub attempts: u32,
}

/// From whom a failure was learned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Source {
    /// A binary cache.
    Cache {
        /// The URL of the cache.
        cache: String,
        /// The public key that has signed the failure, as `negative-cache-trusted-public-keys` has it.
        key: String,
    },
    /// A file that a person has imported, and so believes.
    File {
        /// The name of the file.
        file: String,
    },
    /// A Hydra of which a person has imported a build.
    Hydra {
        /// The URL of the Hydra, without a slash at its end.
        hydra: String,
        /// The number of the build.
        build: u64,
        /// Whether the person wants it to warn, and nothing to be refused because of it.
        #[serde(default, rename = "warnOnly", skip_serializing_if = "std::ops::Not::not")]
        warn_only: bool,
    },
}

impl Source {
    /// The URLs of the build and of its log, if it was learned from a Hydra. `derivation` is the one that failed.
    pub fn build_and_log(&self, derivation: &str) -> Option<(String, String)> {
        let Source::Hydra { hydra, build, .. } = self else { return None };
        let name = derivation.rsplit('/').next().unwrap_or_default();
        Some((format!("{hydra}/build/{build}"), format!("{hydra}/log/{name}")))
    }

    /// Whether nothing is refused because of it.
    pub fn only_warns(&self) -> bool {
        matches!(self, Source::Hydra { warn_only: true, .. })
    }
}

impl Origin {
    /// The public key that has signed the failure, if it was learned from a binary cache.
    pub fn key(&self) -> Option<&str> {
        match &self.source {
            Source::Cache { key, .. } => Some(key),
            Source::File { .. } | Source::Hydra { .. } => None,
        }
    }

    /// From whom it was learned, as it is counted: all builds of a Hydra are one, and so are all files, which may have a new name
    /// each day.
    pub fn counted_as(&self) -> String {
        match &self.source {
            Source::Hydra { hydra, .. } => format!("hydra: {hydra}"),
            Source::File { .. } => "imported from files".to_owned(),
            Source::Cache { .. } => self.to_string(),
        }
    }

    /// Whether a person means it by this text: the URL of the cache, or the name of the key; of imports, `file` or the name of
    /// the file, and `hydra` or the URL of the Hydra.
    pub fn is_called(&self, text: &str) -> bool {
        match &self.source {
            Source::Cache { cache, key } => {
                text.trim_end_matches('/') == cache.trim_end_matches('/') || text == failure_object::signer_of(key)
            }
            Source::File { file } => text == "file" || text == file,
            Source::Hydra { hydra, .. } => text == "hydra" || text.trim_end_matches('/') == hydra,
        }
    }
}

impl fmt::Display for Origin {
    /// As people are told in parentheses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Cache { cache, key } => write!(f, "{cache}, key {}", failure_object::signer_of(key)),
            Source::File { file } => write!(f, "imported from {file}"),
            Source::Hydra { hydra, build, .. } => write!(f, "hydra: {hydra}/build/{build}"),
        }
    }
}

impl FailedAttempt {
    /// Whether it is the same failure as another one, as far as that can be told.
    fn is_same(&self, other: &FailedAttempt) -> bool {
        let essence = |failure: &FailedAttempt| (failure.class, failure.exit_code, failure.doubtful);
        essence(self) == essence(other)
    }
}

fn is_there<S: Serializer>(identity: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(identity.is_some())
}

/// Whether earlier attempts speak against a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Belief {
    /// A new attempt would fail.
    Fails {
        /// The index of the attempt that says so: the newest one that counts.
        attempt: usize,
        /// When the failure stops being believed; `None` for never.
        until: Option<Timestamp>,
    },
    /// A daemon says that a new attempt would fail. The daemon sees more than this process, which does not know until when
    /// the failure is believed.
    Told,
    /// A new attempt may succeed.
    Open(Doubt),
}

impl Belief {
    /// The same after a daemon has said whether the failure is `known`. What the daemon says counts, but for the wish of the
    /// user for one more attempt.
    pub fn told(self, known: bool) -> Belief {
        match (self, known) {
            (Belief::Open(doubt @ Doubt::RetryRequested(_)), _) => Belief::Open(doubt),
            (Belief::Open(_), true) => Belief::Told,
            (Belief::Fails { .. } | Belief::Told, false) => Belief::Open(Doubt::Daemon),
            (belief, _) => belief,
        }
    }
}

/// Why earlier failures do not speak against a new attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The last attempt succeeded.
    Succeeded,
    /// The settings do not want failures of this class.
    Unwanted(Class),
    /// It happened in an environment that differs in these ways.
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
        /// Whether that is because the failure is doubtful.
        doubtful: bool,
    },
    /// It was believed until then.
    Expired(Timestamp),
    /// The user has asked for a new attempt since.
    RetryRequested(Timestamp),
    /// The daemon that builds does not believe it.
    Daemon,
    /// It comes from a binary cache, and the key with this name that has signed it is not trusted.
    Untrusted(String),
    /// It comes from a binary cache, where it ran in a sandbox, and here is none.
    NoSandbox,
    /// A person who imported it wants to be warned of it only. The index is that of the attempt, which would count otherwise.
    OnlyWarns(usize),
}

/// Whether a failure was followed by a success at some time. `attempts` are the newest first.
pub fn is_flaky(attempts: &[Attempt]) -> bool {
    attempts.iter().any(|attempt| attempt.failure.is_none())
}

/// An attempt that failed and counts: its class is wanted, it happened in this environment, and its time can be right.
struct Counting<'a> {
    index: usize,
    attempt: &'a Attempt,
    failure: &'a FailedAttempt,
}

/// Whether `attempts`, newest first, speak against a new one `here`.
///
/// Clear failures count together. A doubtful one counts only together with others that are the same, and only if no
/// other failure came between them: see [`repetitions`]. If the newest failure is doubtful and has not come often
/// enough, older clear ones still count by themselves. A failure that was learned elsewhere counts by itself as well.
pub fn believe(attempts: &[Attempt], here: &Comparison, settings: &Settings, now: Timestamp) -> Belief {
    match (believe_seen(attempts, here, settings, now), believe_learned(attempts, here, settings, now)) {
        (Some(fails @ Belief::Fails { .. }), _) => fails,
        (_, Some(fails @ (Belief::Fails { .. } | Belief::Open(Doubt::OnlyWarns(_))))) => fails,
        (seen, learned) => seen.or(learned).unwrap_or(Belief::Open(Doubt::Succeeded)),
    }
}

/// What the newest failure says that was learned elsewhere since the last success. `None` if there is no such failure.
fn believe_learned(attempts: &[Attempt], here: &Comparison, settings: &Settings, now: Timestamp) -> Option<Belief> {
    let flaky = is_flaky(attempts);
    let needed = settings.min_failures.max(if flaky { 2 } else { 1 });
    let longest = SignedDuration::from_secs(failure_object::PERIOD);
    let lifetime = settings.lifetime(0).map_or(longest, |wanted| wanted.min(longest));
    let learned = in_a_row(attempts)
        .filter_map(|(index, attempt, failure)| Some((index, attempt, failure.class, failure.origin.as_ref()?)));
    let beliefs = learned.map(|(index, attempt, class, origin)| {
        let until = attempt.time.saturating_add(lifetime).unwrap_or(Timestamp::MAX);
        if let Some(key) = origin.key().filter(|key| !settings.trusts(key)) {
            Belief::Open(Doubt::Untrusted(failure_object::signer_of(key).to_owned()))
        } else if !settings.records(class) {
            Belief::Open(Doubt::Unwanted(class))
        } else if !here.is_sandboxed() {
            Belief::Open(Doubt::NoSandbox)
        } else if attempt.time > latest(now) {
            Belief::Open(Doubt::Future(attempt.time))
        } else if origin.attempts < needed {
            Belief::Open(Doubt::TooFew { failures: origin.attempts, needed, flaky, doubtful: false })
        } else if until <= now {
            Belief::Open(Doubt::Expired(until))
        } else if origin.source.only_warns() {
            Belief::Open(Doubt::OnlyWarns(index))
        } else {
            Belief::Fails { attempt: index, until: Some(until) }
        }
    });
    let mut newest = None;
    for belief in beliefs {
        if matches!(belief, Belief::Fails { .. }) {
            return Some(belief);
        }
        newest.get_or_insert(belief);
    }
    newest
}

/// The failures since the last success, newest first, with their indexes.
fn in_a_row(attempts: &[Attempt]) -> impl Iterator<Item = (usize, &Attempt, &FailedAttempt)> {
    let failures = attempts.iter().map_while(|attempt| Some((attempt, attempt.failure.as_ref()?)));
    failures.enumerate().map(|(index, (attempt, failure))| (index, attempt, failure))
}

/// The latest time that a failure can have that happened by `now`.
pub(crate) fn latest(now: Timestamp) -> Timestamp {
    now.saturating_add(SignedDuration::from_secs(CLOCK_TOLERANCE)).unwrap_or(Timestamp::MAX)
}

/// What the failures say that this plugin has seen itself. `None` if there was none since the last success.
fn believe_seen(attempts: &[Attempt], here: &Comparison, settings: &Settings, now: Timestamp) -> Option<Belief> {
    let counting = match counting(attempts, here, settings, now) {
        Ok(counting) => counting,
        Err(doubt) => return doubt.map(Belief::Open),
    };
    let flaky = is_flaky(attempts);
    let judge = |newest: &Counting<'_>, failures: usize| {
        let doubtful = newest.failure.doubtful.is_some();
        let needed = settings.min_failures.max(if flaky || doubtful { 2 } else { 1 });
        let failures = u32::try_from(failures).unwrap_or(u32::MAX);
        if failures < needed {
            return Belief::Open(Doubt::TooFew { failures, needed, flaky, doubtful });
        }
        let lifetime = settings.lifetime(failures - needed);
        let until = lifetime.map(|lifetime| newest.attempt.time.saturating_add(lifetime).unwrap_or(Timestamp::MAX));
        match until {
            Some(until) if until <= now => Belief::Open(Doubt::Expired(until)),
            until => Belief::Fails { attempt: newest.index, until },
        }
    };
    let mut clear = counting.iter().filter(|counting| counting.failure.doubtful.is_none());
    let by_clear_ones = clear.next().map(|newest| judge(newest, 1 + clear.count()));
    let doubtful = counting.first().filter(|newest| newest.failure.doubtful.is_some());
    let by_doubtful_ones = doubtful.map(|newest| judge(newest, repetitions(&counting)));
    match (by_doubtful_ones, by_clear_ones) {
        (Some(Belief::Open(_)), fails @ Some(Belief::Fails { .. })) => fails,
        (belief @ Some(_), _) | (None, belief) => belief,
    }
}

/// The failures since the last success that count here, newest first.
///
/// # Errors
///
/// If none counts: why the newest one does not, if there is one.
fn counting<'a>(
    attempts: &'a [Attempt],
    here: &Comparison,
    settings: &Settings,
    now: Timestamp,
) -> Result<Vec<Counting<'a>>, Option<Doubt>> {
    let mut counting = Vec::new();
    let mut doubt = None;
    for (index, attempt, failure) in in_a_row(attempts) {
        if failure.origin.is_some() {
            continue;
        }
        let differences = here.differences(&failure.environment, failure.class);
        let of_this_one = if !settings.records(failure.class) {
            Doubt::Unwanted(failure.class)
        } else if !differences.is_empty() {
            Doubt::Elsewhere(differences)
        } else if settings.ttl.is_some() && attempt.time > latest(now) {
            Doubt::Future(attempt.time)
        } else {
            counting.push(Counting { index, attempt, failure });
            continue;
        };
        // What there is to say of the newest is what a person wants to know.
        doubt.get_or_insert(of_this_one);
    }
    if counting.is_empty() { Err(doubt) } else { Ok(counting) }
}

/// How often the newest failure has come in a row, exactly the same each time.
///
/// Attempts that overlapped in time count once. A process that waited for another one's build shares the state of the
/// machine with it, so its own failure after that proves nothing new.
fn repetitions(counting: &[Counting<'_>]) -> usize {
    let Some(newest) = counting.first() else { return 0 };
    let row: Vec<&Attempt> = counting
        .iter()
        .take_while(|older| older.failure.is_same(newest.failure))
        .map(|counting| counting.attempt)
        .collect();
    // From the oldest on, which lets as many count as can.
    let mut count = 0;
    let mut last_end = None;
    for attempt in row.into_iter().rev() {
        // If the clock was set back during the attempt, it began before what it then said.
        if last_end.is_none_or(|end| attempt.asked.min(attempt.time) > end) {
            count += 1;
            last_end = Some(attempt.time);
        }
    }
    count
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
            Doubt::TooFew { failures, needed, doubtful: true, .. } => {
                let times = if *needed == 2 { "twice".to_owned() } else { format!("{needed} times") };
                write!(
                    f,
                    "the failure is doubtful: it counts once it has come {times} in a row with the same exit code and the \
                     same last lines"
                )?;
                if *failures > 1 { write!(f, ", and has come {failures} times so far") } else { Ok(()) }
            }
            Doubt::TooFew { failures, needed, flaky, .. } => {
                let why = if *flaky { " as it has succeeded after a failure before" } else { "" };
                let times = if *failures == 1 { "once".to_owned() } else { format!("{failures} times") };
                write!(f, "it failed only {times} in a row, and {needed} times are needed{why}")
            }
            Doubt::RetryRequested(time) => write!(f, "a new attempt was asked for at {time}"),
            Doubt::Expired(until) => write!(f, "the failure was believed until {until}"),
            Doubt::Daemon => f.write_str("the daemon that builds does not believe it"),
            Doubt::Untrusted(signer) => {
                write!(f, "the key '{signer}' has signed it, which is not among 'negative-cache-trusted-public-keys'")
            }
            Doubt::NoSandbox => f.write_str("it failed in a sandbox elsewhere, and here is none"),
            Doubt::OnlyWarns(_) => f.write_str("it was imported with --warn-only"),
        }
    }
}

/// How long a failure is believed, in words.
pub fn lifetime_text(lifetime: Option<SignedDuration>) -> String {
    lifetime.map_or("for ever".to_owned(), period)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_daemon_has_the_last_word_but_for_retries() {
        let fails = || Belief::Fails { attempt: 0, until: None };
        let retry = || Belief::Open(Doubt::RetryRequested(at(1)));
        for (belief, known, told) in [
            (fails(), true, fails()),
            (fails(), false, Belief::Open(Doubt::Daemon)),
            (Belief::Open(Doubt::Succeeded), true, Belief::Told),
            (Belief::Open(Doubt::Succeeded), false, Belief::Open(Doubt::Succeeded)),
            (retry(), true, retry()),
            (retry(), false, retry()),
        ] {
            assert_eq!(belief.told(known), told);
        }
    }

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
        let environment = somewhere(sandbox);
        let failure = FailedAttempt { class, exit_code: Some(1), environment, doubtful: None, origin: None };
        Attempt { asked: at(second), time: at(second), failure: Some(failure) }
    }

    fn changed(mut attempt: Attempt, change: impl Fn(&mut FailedAttempt)) -> Attempt {
        attempt.failure.iter_mut().for_each(change);
        attempt
    }

    fn doubtful(identity: u64, second: i64) -> Attempt {
        changed(failed(second), |failure| failure.doubtful = Some(identity))
    }

    fn asked(second: i64, attempt: Attempt) -> Attempt {
        Attempt { asked: at(second), ..attempt }
    }

    fn succeeded(second: i64) -> Attempt {
        Attempt { asked: at(second), time: at(second), failure: None }
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
        let too_few =
            |failures, needed, flaky| Belief::Open(Doubt::TooFew { failures, needed, flaky, doubtful: false });
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

    #[test]
    fn doubtful_failures_count_when_they_come_twice() {
        let few = |failures, needed, flaky| Belief::Open(Doubt::TooFew { failures, needed, flaky, doubtful: true });
        let week = |second| until(second + 7 * DAY);
        let fortnight = |second| until(second + 14 * DAY);
        let older = |attempt, second: i64| Belief::Fails { attempt, until: Some(at(second + 7 * DAY)) };
        let exit_code = |code, attempt| changed(attempt, |failure| failure.exit_code = Some(code));
        let (d, f) = (doubtful, failed);
        let table: [(&str, &[Attempt], u32, Belief); 22] = [
            ("once", &[d(1, NOW)], 1, few(1, 2, false)),
            ("twice", &[d(1, NOW), d(1, NOW - 9)], 1, week(NOW)),
            ("three times", &[d(1, NOW), d(1, NOW - 5), d(1, NOW - 9)], 1, fortnight(NOW)),
            ("other last lines", &[d(2, NOW), d(1, NOW - 9)], 1, few(1, 2, false)),
            ("another exit code", &[exit_code(2, d(1, NOW)), d(1, NOW - 9)], 1, few(1, 2, false)),
            ("not in a row", &[d(1, NOW), d(2, NOW - 5), d(1, NOW - 9)], 1, few(1, 2, false)),
            ("only the newest row", &[d(2, NOW), d(1, NOW - 5), d(1, NOW - 9)], 1, few(1, 2, false)),
            ("the row ends at another", &[d(1, NOW), d(1, NOW - 5), d(2, NOW - 9)], 1, week(NOW)),
            ("a success between", &[d(1, NOW), succeeded(NOW - 5), d(1, NOW - 9)], 1, few(1, 2, true)),
            ("twice after a success", &[d(1, NOW), d(1, NOW - 5), succeeded(NOW - 9), f(NOW - 10)], 1, week(NOW)),
            ("three are wanted", &[d(1, NOW), d(1, NOW - 5)], 3, few(2, 3, false)),
            ("three of three", &[d(1, NOW), d(1, NOW - 5), d(1, NOW - 9)], 3, week(NOW)),
            ("a clear one before", &[d(1, NOW), f(NOW - 9)], 1, older(1, NOW - 9)),
            ("a clear one between", &[d(1, NOW), f(NOW - 5), d(1, NOW - 9)], 1, older(1, NOW - 5)),
            ("a clear one before the row", &[d(1, NOW), d(1, NOW - 5), f(NOW - 9)], 1, week(NOW)),
            ("a clear one that is over", &[d(1, NOW), f(NOW - 8 * DAY)], 1, few(1, 2, false)),
            ("a clear one before a success", &[d(1, NOW), succeeded(NOW - 5), f(NOW - 9)], 1, few(1, 2, true)),
            ("one clear one is too few", &[d(1, NOW), f(NOW - 9)], 2, few(1, 2, false)),
            ("two clear ones", &[d(1, NOW), f(NOW - 5), f(NOW - 9)], 2, older(1, NOW - 5)),
            ("a clear one after", &[f(NOW), d(1, NOW - 9)], 1, week(NOW)),
            (
                "does not help a clear one",
                &[f(NOW), d(1, NOW - 5), d(1, NOW - 9)],
                2,
                Belief::Open(Doubt::TooFew { failures: 1, needed: 2, flaky: false, doubtful: false }),
            ),
            ("over", &[d(1, NOW - 7 * DAY), d(1, NOW - 8 * DAY)], 1, Belief::Open(Doubt::Expired(at(NOW)))),
        ];
        for (name, attempts, min_failures, expected) in table {
            assert_eq!(with(attempts, |settings| settings.min_failures = min_failures), expected, "{name}");
        }
        // What does not count here is neither in a row nor between.
        let elsewhere = changed(doubtful(1, NOW - 5), |failure| failure.environment = somewhere("false"));
        assert_eq!(with(&[d(1, NOW), elsewhere.clone()], |_| ()), few(1, 2, false));
        assert_eq!(with(&[d(1, NOW), elsewhere, d(1, NOW - 9)], |_| ()), week(NOW));
    }

    #[test]
    fn attempts_of_the_same_time_are_one() {
        let few = Belief::Open(Doubt::TooFew { failures: 1, needed: 2, flaky: false, doubtful: true });
        let d = |began: i64, ended: i64| asked(NOW + began, doubtful(1, NOW + ended));
        let week = |ended: i64| until(NOW + ended + 7 * DAY);
        let table: [(&str, &[Attempt], Belief); 8] = [
            ("one after the other", &[d(-40, -30), d(-60, -50)], week(-30)),
            ("asked for meanwhile", &[d(-55, -30), d(-60, -50)], few.clone()),
            ("asked for in the same moment", &[d(-50, -30), d(-60, -50)], few.clone()),
            ("it waited for two", &[d(-60, -10), d(-60, -30), d(-60, -50)], few.clone()),
            ("a third one later", &[d(-20, -10), d(-55, -30), d(-60, -50)], week(-10)),
            ("the newest was asked for before all others", &[d(-90, -10), d(-40, -30), d(-60, -50)], week(-10)),
            ("the clock was set back", &[d(-20, -50), d(-60, -40)], few.clone()),
            ("before anything can be known", &[asked(-NOW, d(0, -10)), d(-60, -50)], few),
        ];
        for (name, attempts, expected) in table {
            assert_eq!(with(attempts, |_| ()), expected, "{name}");
        }
        // Clear failures are proof by themselves.
        let clear = [asked(NOW - 60, failed(NOW - 30)), asked(NOW - 60, failed(NOW - 50))];
        assert_eq!(with(&clear, |settings| settings.min_failures = 2), week(-30));
    }

    #[test]
    fn what_is_said_of_too_few_failures() {
        let said = |failures, needed, flaky, doubtful| Doubt::TooFew { failures, needed, flaky, doubtful }.to_string();
        assert_eq!(said(1, 2, false, false), "it failed only once in a row, and 2 times are needed");
        assert!(said(2, 3, true, false).ends_with("3 times are needed as it has succeeded after a failure before"));
        let twice = "the failure is doubtful: it counts once it has come twice in a row with the same exit code and the same \
                     last lines";
        assert_eq!((said(1, 2, false, true), said(1, 2, true, true)), (twice.to_owned(), twice.to_owned()));
        let three_times = twice.replace("twice", "3 times");
        assert_eq!(said(2, 3, false, true), format!("{three_times}, and has come 2 times so far"));
    }

    fn any_attempt() -> impl Strategy<Value = Attempt> {
        (0..8u8, prop::sample::select(&["true", "false"][..]), -20..20i64, 0..4i64).prop_map(
            |(kind, sandbox, days, before)| {
                let second = NOW + days * DAY;
                let attempt = match kind {
                    0 => succeeded(second),
                    1 => failed_of(Class::Timeout, sandbox, second),
                    2..5 => failed_of(Class::Builder, sandbox, second),
                    5 | 6 => doubtful(1, second),
                    _ => doubtful(2, second),
                };
                asked(second - before * DAY, attempt)
            },
        )
    }

    /// Whether so many of `attempts`, the newest first, came one after the other.
    fn came_apart(attempts: &[&Attempt], number: usize) -> bool {
        let some = |chosen: u32| {
            let indices = (0..attempts.len()).filter(|index| chosen & (1 << index) != 0);
            indices.map(|index| attempts[index]).collect::<Vec<_>>()
        };
        (0..1 << attempts.len())
            .map(some)
            .any(|chosen| chosen.len() == number && chosen.windows(2).all(|pair| pair[0].asked > pair[1].time))
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
                let believed = &attempts[attempt];
                let failure = believed.failure.as_ref().unwrap();
                prop_assert_eq!(failure.class, Class::Builder);
                let until = until.unwrap();
                prop_assert!(until > at(NOW) && until <= at(NOW + CLOCK_TOLERANCE + max * DAY));
                let counting: Vec<&Attempt> = attempts
                    .iter()
                    .take_while(|attempt| attempt.failure.is_some())
                    .filter(|a| a.time <= at(NOW + CLOCK_TOLERANCE))
                    .filter(|a| a.failure.as_ref().is_some_and(|f| f.class == Class::Builder && f.environment == somewhere("true")))
                    .collect();
                let same = |other: &&&Attempt| other.failure.as_ref().is_some_and(|f| f.doubtful == failure.doubtful);
                let mut supporting: Vec<&Attempt> = counting.iter().filter(same).copied().collect();
                let mut needed = min_failures as usize;
                if failure.doubtful.is_some() {
                    needed = needed.max(2);
                    prop_assert!(std::ptr::eq(counting[0], believed), "only the newest row counts");
                    supporting = counting.iter().take_while(same).copied().collect();
                    prop_assert!(came_apart(&supporting, needed));
                }
                prop_assert!(std::ptr::eq(supporting[0], believed), "an older one than there is");
                prop_assert!(supporting.len() >= needed);
                prop_assert!(!is_flaky(&attempts) || supporting.len() >= 2);
                let longest = (ttl << (supporting.len() - 1)).min(max) * DAY;
                prop_assert!(until <= at(believed.time.as_second() + longest));
            }
        }

        #[test]
        fn a_doubtful_failure_counts_from_its_second_time_on(
            identities in prop::collection::vec(1..3u64, 1..8), between in 0..3i64,
        ) {
            // One after the other, the newest first, each asked for a second or more after the one before it ended.
            let attempts: Vec<Attempt> = identities
                .iter()
                .zip(0..)
                .map(|(identity, index)| asked(NOW - 10 * index - between, doubtful(*identity, NOW - 10 * index)))
                .collect();
            let row = identities.iter().take_while(|identity| **identity == identities[0]).count();
            let belief = with(&attempts, |settings| settings.ttl = None);
            prop_assert_eq!(matches!(belief, Belief::Fails { attempt: 0, .. }), row >= 2, "{:?}", belief);
        }

        #[test]
        fn a_success_is_never_refused(attempts in prop::collection::vec(any_attempt(), 0..8), min_failures in 1..4u32) {
            let mut attempts = attempts;
            attempts.insert(0, succeeded(NOW));
            prop_assert_eq!(with(&attempts, |settings| settings.min_failures = min_failures), Belief::Open(Doubt::Succeeded));
        }
    }
    #[test]
    fn all_builds_of_a_hydra_and_all_files_are_counted_as_one() {
        let counted = |source| Origin { source, attempts: 1 }.counted_as();
        let built =
            |build| counted(Source::Hydra { hydra: "https://hydra.example.org".to_owned(), build, warn_only: false });
        assert_eq!((built(1), built(2)), ("hydra: https://hydra.example.org".to_owned(), built(1)));
        let file = |file: &str| counted(Source::File { file: file.to_owned() });
        assert_eq!(file("monday"), file("tuesday"));
    }
}
