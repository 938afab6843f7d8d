//! The failure record: what is kept of a derivation whose builder failed.

use jiff::Timestamp;
use serde::Serialize;

use crate::belief::{Attempt, Belief, Doubt, Origin, Source, believe, is_flaky};
use crate::class::Class;
use crate::deciding_line::DecidingLine;
use crate::environment::{Comparison, Environment};
use crate::portable::Scope;
use crate::settings::Settings;
use crate::store_path::{DerivationPath, OutputKey};
use crate::time_text::as_seconds;

/// The version that records carry as `pluginVersion`.
pub const PLUGIN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// One output of a derivation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Output {
    /// The output's name, such as `out` or `dev`.
    pub name: String,
    /// What the output is known by before it is built.
    #[serde(rename = "path")]
    pub key: OutputKey,
}

/// One failure, as it is about to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The derivation that was built.
    pub derivation: DerivationPath,
    /// All outputs of the derivation; failures are found by any of them.
    pub outputs: Vec<Output>,
    /// The directory that the paths are in, such as `/nix/store`.
    pub store_dir: String,
    /// The derivation's name, without hash and `.drv`.
    pub name: String,
    /// The system it was built for, such as `x86_64-linux`.
    pub system: String,
    /// What kind of failure it is.
    pub class: Class,
    /// The builder's exit code, if it exited.
    pub exit_code: Option<i32>,
    /// Where it happened.
    pub environment: Environment,
    /// What Nix said of the failure, without colours.
    pub message: String,
    /// The last lines of the log; see [`crate::log::tail`].
    pub log: String,
    /// When the build was asked for.
    pub asked: Timestamp,
    /// When the build ended.
    pub time: Timestamp,
    /// For a doubtful failure, its identity; see [`crate::belief::FailedAttempt::doubtful`].
    pub doubtful: Option<u64>,
    /// The line of the log that decided what this failure is, if one did.
    pub deciding_line: Option<DecidingLine>,
    /// How long the builder ran, in milliseconds.
    pub duration_ms: i64,
    /// The machine that Nix ran on.
    pub host: String,
    /// The version of the Nix that built.
    pub nix_version: String,
    /// How it was closed off from the machine.
    pub scope: Scope,
}

/// The part of a [`FailureRecord`] that decides whether it is believed, and that lists show. There may be many of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureSummary {
    /// The derivation that failed last; another one with the same outputs shares the record.
    #[serde(rename = "drvPath")]
    pub derivation: DerivationPath,
    /// The derivation's name.
    pub name: String,
    /// The system it was built for.
    pub system: String,
    /// What kind of failure the last one was.
    pub class: Class,
    /// The builder's exit code, if it exited.
    pub exit_code: Option<i32>,
    /// When these outputs first failed; in JSON, seconds since 1970.
    #[serde(serialize_with = "as_seconds")]
    pub first_failure: Timestamp,
    /// When it last failed; in JSON, seconds since 1970.
    #[serde(serialize_with = "as_seconds")]
    pub last_failure: Timestamp,
    /// How many times it was built and failed.
    pub attempts: u32,
    /// The last attempts, newest first, with successes after a failure.
    pub history: Vec<Attempt>,
    /// Who has asked for a new attempt.
    pub retries: Vec<RetryRequest>,
    /// How long the last attempt's builder ran, in milliseconds.
    pub duration_ms: i64,
}

/// All that is known of the failures of some outputs: the last [`Failure`], and the attempts before and after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureRecord {
    /// The part of it that lists show.
    #[serde(flatten)]
    pub summary: FailureSummary,
    /// All outputs of the derivation.
    pub outputs: Vec<Output>,
    /// The directory that the paths are in.
    pub store_dir: String,
    /// What Nix said of the failure.
    pub message: String,
    /// The last lines of the log.
    pub log: String,
    /// The line of the log that decided what the last failure is, if one did.
    #[serde(rename = "evidence")]
    pub deciding_line: Option<DecidingLine>,
    /// The machine of the last attempt.
    pub host: String,
    /// The Nix of the last attempt.
    pub nix_version: String,
    /// The plugin that recorded the last attempt.
    pub plugin_version: String,
    /// How the last attempt was closed off from its machine.
    pub scope: Scope,
}

impl AsRef<FailureSummary> for FailureSummary {
    fn as_ref(&self) -> &FailureSummary {
        self
    }
}

impl AsRef<FailureSummary> for FailureRecord {
    fn as_ref(&self) -> &FailureSummary {
        &self.summary
    }
}

/// The request of a user to try a failure once more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RetryRequest {
    /// The id of the user.
    pub user: u32,
    /// When the user asked; in JSON, seconds since 1970.
    #[serde(serialize_with = "as_seconds")]
    pub time: Timestamp,
}

impl FailureSummary {
    /// Takes out of the environments of its attempts what only the daemon knows that made them, so that a client of
    /// that daemon can compare them with its own.
    pub fn as_clients_see(&mut self) {
        for failure in self.history.iter_mut().filter_map(|attempt| attempt.failure.as_mut()) {
            failure.environment = std::mem::take(&mut failure.environment).as_clients_see();
        }
    }

    /// Whether the attempts speak against a new one that `user` would make `here`.
    pub fn belief(&self, user: u32, here: &Comparison, settings: &Settings, now: Timestamp) -> Belief {
        match self.retry_requested(user) {
            Some(time) => Belief::Open(Doubt::RetryRequested(time)),
            None => believe(&self.history, here, settings, now),
        }
    }

    /// The reason of the last failure in a few words.
    pub fn reason(&self) -> String {
        reason(self.class, self.exit_code)
    }

    /// Whether the record says anything of a build of one of `derivations`. A fetch counts for the same derivation
    /// only: its output is the same however it is made, so everybody can make up a fetch that fails and has that
    /// output.
    pub fn counts_for<'a>(&self, derivations: impl IntoIterator<Item = &'a str>) -> bool {
        self.class != Class::Fetch || derivations.into_iter().any(|derivation| derivation == self.derivation.as_str())
    }

    /// When `user` has asked for a new attempt, if there was none since.
    pub fn retry_requested(&self, user: u32) -> Option<Timestamp> {
        let last = self.history.first().map(|attempt| attempt.time);
        let request = self.retries.iter().find(|retry| retry.user == user && Some(retry.time) >= last);
        request.map(|retry| retry.time)
    }

    /// Whether the last failure is a doubtful one. It stays one when it has come often enough to count.
    pub fn is_doubtful(&self) -> bool {
        let last = self.history.iter().find_map(|attempt| attempt.failure.as_ref());
        last.is_some_and(|failure| failure.doubtful.is_some())
    }

    /// Where the last failure was learned, if it did not happen here.
    pub fn origin(&self) -> Option<&Origin> {
        self.history.iter().find_map(|attempt| attempt.failure.as_ref())?.origin.as_ref()
    }

    /// Whether the failed attempt with this index says anything of a build of a derivation, of which it may be known that it is
    /// no fetch. A Hydra does not tell which of its builds were fetches, so what it tells counts for no derivation that may be one.
    pub fn attempt_counts(&self, attempt: usize, is_no_fetch: bool) -> bool {
        let failure = self.history.get(attempt).and_then(|attempt| attempt.failure.as_ref());
        let origin = failure.and_then(|failure| failure.origin.as_ref());
        is_no_fetch || !origin.is_some_and(|origin| matches!(origin.source, Source::Hydra { .. }))
    }

    /// Whether the last failure is from where a person means by this text: `here`, or as [`Origin::is_called`] says.
    pub fn is_from(&self, text: &str) -> bool {
        self.origin().map_or(text == "here", |origin| origin.is_called(text))
    }

    /// The class in lists, with the exit code, whether it failed and succeeded by turns, whether it is doubtful, and whether
    /// it was learned elsewhere.
    pub fn class_in_lists(&self) -> String {
        let code = self.exit_code.map(|code| format!(" ({code})")).unwrap_or_default();
        let flaky = if is_flaky(&self.history) { ", flaky" } else { "" };
        let doubtful = if self.is_doubtful() { ", doubtful" } else { "" };
        let elsewhere = if self.origin().is_some() { ", elsewhere" } else { "" };
        format!("{}{code}{flaky}{doubtful}{elsewhere}", self.class)
    }

    /// Whether the last attempt failed.
    pub fn stands(&self) -> bool {
        self.history.first().is_some_and(|attempt| attempt.failure.is_some())
    }
}

impl FailureRecord {
    /// Where the last failure was learned, if it did not happen here.
    pub fn origin(&self) -> Option<&Origin> {
        self.summary.origin()
    }

    /// Where the last failure happened, in words that follow "it failed".
    pub fn place(&self) -> String {
        match self.origin() {
            Some(origin) => format!("elsewhere ({origin})"),
            None => format!("on {}", self.host),
        }
    }

    /// The failure that a belief rests on.
    pub fn believed(&self, attempt: usize) -> Believed<'_> {
        let (time, class, exit_code, elsewhere, origin) = match self.summary.history.get(attempt) {
            Some(Attempt { time, failure: Some(failed), .. }) => {
                (*time, failed.class, failed.exit_code, failed.environment.is_elsewhere(), failed.origin.as_ref())
            }
            _ => (self.summary.last_failure, self.summary.class, self.summary.exit_code, false, None),
        };
        let reason = reason(class, exit_code);
        Believed { record: self, time, class, exit_code, elsewhere, origin, reason, is_last: attempt == 0 }
    }
}

/// The failure of a record that a belief rests on. It need not be the last one; of the last one more is known.
#[derive(Clone, Debug)]
pub struct Believed<'a> {
    /// The whole record.
    pub record: &'a FailureRecord,
    /// When it happened.
    pub time: Timestamp,
    /// What kind of failure it was.
    pub class: Class,
    /// The builder's exit code, if it exited.
    pub exit_code: Option<i32>,
    /// Whether another machine built it.
    pub elsewhere: bool,
    /// Where it was learned, if it did not happen here.
    pub origin: Option<&'a Origin>,
    /// The reason in a few words, as refusals and `builtins.knownFailure` give it.
    pub reason: String,
    /// Whether it is the last one, so that the log is its.
    pub is_last: bool,
}

fn reason(class: Class, exit_code: Option<i32>) -> String {
    match (class, exit_code) {
        (Class::Timeout, _) => "it took too long ('timeout')".to_owned(),
        (Class::Silence, _) => "it was silent for too long ('max-silent-time')".to_owned(),
        (Class::LogLimit, _) => "it logged too much ('max-build-log-size')".to_owned(),
        (Class::Output, _) => "the builder succeeded, but an output is missing or was rejected".to_owned(),
        (_, Some(code)) => format!("builder failed with exit code {code}"),
        // A Hydra does not tell it.
        (Class::Builder, None) => "builder failed".to_owned(),
        (class, None) => format!("failure of the class '{class}'"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::belief::FailedAttempt;

    /// A record for tests of what is said of it.
    pub(crate) fn record() -> FailureRecord {
        let time = Timestamp::from_second(1_000_000).unwrap();
        FailureRecord {
            summary: FailureSummary {
                derivation: "/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv".into(),
                name: "x".to_owned(),
                system: "x86_64-linux".to_owned(),
                class: Class::Builder,
                exit_code: Some(1),
                first_failure: time,
                last_failure: time,
                attempts: 1,
                history: vec![Attempt {
                    asked: time,
                    time,
                    failure: Some(FailedAttempt {
                        class: Class::Builder,
                        exit_code: Some(1),
                        environment: Environment::default(),
                        doubtful: None,
                        origin: None,
                    }),
                }],
                retries: Vec::new(),
                duration_ms: 12_000,
            },
            outputs: vec![],
            store_dir: "/nix/store".to_owned(),
            message: String::new(),
            log: "executing 'y': No such file or directory\n".to_owned(),
            deciding_line: None,
            host: "h".to_owned(),
            nix_version: "2.8.0".to_owned(),
            plugin_version: "0".to_owned(),
            scope: Scope::default(),
        }
    }

    #[test]
    fn reasons_in_a_few_words() {
        assert_eq!(record().summary.reason(), "builder failed with exit code 1");
        let of = |class| reason(class, None);
        assert_eq!(of(Class::Builder), "builder failed");
        assert_eq!(of(Class::Timeout), "it took too long ('timeout')");
        assert_eq!(of(Class::LogLimit), "it logged too much ('max-build-log-size')");
        assert_eq!(of(Class::Output), "the builder succeeded, but an output is missing or was rejected");
    }

    #[test]
    fn lists_say_what_is_flaky_or_doubtful() {
        let mut record = record();
        assert_eq!((record.summary.is_doubtful(), record.summary.class_in_lists()), (false, "builder (1)".to_owned()));
        if let Some(failure) = &mut record.summary.history[0].failure {
            failure.doubtful = Some(7);
        }
        assert_eq!(
            (record.summary.is_doubtful(), record.summary.class_in_lists()),
            (true, "builder (1), doubtful".to_owned())
        );
        let time = record.summary.last_failure;
        record.summary.history.insert(0, Attempt { asked: time, time, failure: None });
        assert_eq!(record.summary.class_in_lists(), "builder (1), flaky, doubtful");
    }

    #[test]
    fn programs_read_whether_each_failure_is_doubtful() {
        let mut record = record();
        let json = |record: &FailureRecord| serde_json::to_value(record).unwrap();
        let read = json(&record);
        assert_eq!((&read["history"][0]["failure"]["doubtful"], &read["evidence"]), (&false.into(), &().into()));
        if let Some(failure) = &mut record.summary.history[0].failure {
            failure.doubtful = Some(u64::MAX);
        }
        record.deciding_line = Some(DecidingLine {
            cause: "out of memory".to_owned(),
            line: "cc1plus: out of memory".to_owned(),
            number: 12,
            of: 18,
            against: None,
        });
        let read = json(&record);
        assert_eq!(read["history"][0]["failure"]["doubtful"], true);
        assert_eq!((&read["evidence"]["number"], &read["evidence"]["cause"]), (&12.into(), &"out of memory".into()));
    }
}
