//! Which failures may be published in a binary cache: those that say something about the derivation, and nothing about the
//! machine.

use serde::Serialize;
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use crate::belief::{Belief, Origin, Source, is_flaky};
use crate::class::Class;
use crate::environment::{Environment, NAMESPACES};
use crate::record::FailureRecord;

/// What is known of how a failed build was closed off from its machine. The names are those in databases and JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Display, EnumString, IntoStaticStr, Serialize)]
#[strum(serialize_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Nothing.
    #[default]
    Unknown,
    /// It ran in a sandbox without network.
    Sandbox,
    /// The derivation has `negativeCache = "local"`.
    Local,
}

/// Where failures happened that are published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// On this machine.
    #[default]
    Here,
    /// On Hydras, from which a person has imported them.
    Hydra,
}

impl Place {
    /// Whether a failure from there happened in this place.
    pub fn is_of(self, origin: Option<&Origin>) -> bool {
        match (self, origin) {
            (Place::Here, None) => true,
            // What is not believed enough to refuse anything is not told to others.
            (Place::Hydra, Some(origin)) => {
                matches!(origin.source, Source::Hydra { .. }) && !origin.source.only_warns()
            }
            _ => false,
        }
    }
}

/// Why a failure is not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub enum Bar {
    /// Its class.
    Class,
    /// It is doubtful.
    Doubtful,
    /// It was learned elsewhere itself.
    Learned,
    /// Another machine, or a daemon, has built it.
    OtherMachine,
    /// It has succeeded after a failure.
    Flaky,
    /// It is not believed here.
    NotBelieved,
    /// The derivation wants it.
    Local,
    /// There was no sandbox, as far as is known.
    NoSandbox,
    /// The sandbox showed more of the machine.
    SandboxPaths,
    /// Something else is special about this machine.
    Special,
}

impl Bar {
    /// All of them, in the order of the manual.
    pub const ALL: &[Bar] = <Bar as VariantArray>::VARIANTS;

    /// The rule that keeps the failure here, as the manual and `publish --dry-run` say it.
    pub fn rule(self) -> &'static str {
        match self {
            Bar::Class => "its class is neither `builder` nor `output`",
            Bar::Doubtful => "it is doubtful",
            Bar::Learned => "it was learned from a binary cache, a file or a Hydra, and not from where `--origin` says",
            Bar::OtherMachine => "it was not built by a Nix on this machine that has the plugin",
            Bar::Flaky => "it has succeeded after a failure",
            Bar::NotBelieved => "it is not believed here, or it failed less often than `negative-cache-min-failures`",
            Bar::Local => "its derivation has `negativeCache = \"local\"`",
            Bar::NoSandbox => "it did not run in a sandbox without network, as far as is known",
            Bar::SandboxPaths => "`sandbox-paths` has more than `/bin/sh`",
            Bar::Special => {
                "it ran with `pre-build-hook`, `impersonate-linux-26`, `allow-new-privileges`, without `filter-syscalls`, on an \
                 emulated system, or below a limit of memory or file size"
            }
        }
    }
}

/// Whether a record of a failure in this place may be published that says `belief` about a new attempt here and now.
///
/// # Errors
///
/// Why it is not, by the first rule that keeps it here.
pub fn portable(record: &FailureRecord, belief: &Belief, place: Place) -> Result<(), Bar> {
    let newest = record.summary.history.first().and_then(|attempt| attempt.failure.as_ref());
    let Some(newest) = newest else { return Err(Bar::NotBelieved) };
    let environment = &newest.environment;
    let bars = [
        (!matches!(newest.class, Class::Builder | Class::Output), Bar::Class),
        (newest.doubtful.is_some(), Bar::Doubtful),
        (!place.is_of(newest.origin.as_ref()), Bar::Learned),
        (environment.is_elsewhere(), Bar::OtherMachine),
        (is_flaky(&record.summary.history), Bar::Flaky),
        (!matches!(belief, Belief::Fails { attempt: 0, .. }), Bar::NotBelieved),
        (record.scope == Scope::Local, Bar::Local),
        (record.scope != Scope::Sandbox || environment.factor(NAMESPACES) == Some("false"), Bar::NoSandbox),
        (!sees_only_a_shell(environment, &record.store_dir), Bar::SandboxPaths),
        (is_special(environment, &record.summary.system), Bar::Special),
    ];
    match bars.into_iter().find(|(applies, _)| *applies) {
        Some((_, bar)) => Err(bar),
        None => Ok(()),
    }
}

/// Whether a sandbox has nothing of the machine but the `/bin/sh` that Nix or a distribution gives it.
fn sees_only_a_shell(environment: &Environment, store_dir: &str) -> bool {
    let words = environment.factor("sandbox-paths").unwrap_or_default().split_whitespace();
    words.into_iter().all(|word| match word.split_once('=') {
        Some(("/bin/sh", shell)) => [store_dir, "/bin", "/usr"]
            .iter()
            .any(|place| shell.strip_prefix(place).is_some_and(|rest| rest.starts_with('/') && !rest.contains("/../"))),
        _ => word == "/bin/sh",
    })
}

/// Whether something about the machine could have made the build fail that other machines do not have.
fn is_special(environment: &Environment, system: &str) -> bool {
    let value = |name: &str| environment.factor(name).unwrap_or_default();
    let is_limited = |name: &str| !matches!(value(name), "" | "unlimited");
    !value("pre-build-hook").is_empty()
        || value("filter-syscalls") == "false"
        || value("impersonate-linux-26") == "true"
        || value("allow-new-privileges") == "true"
        || value("extra-platforms").split_whitespace().any(|platform| platform == system)
        || ["limit-memory", "limit-data", "limit-file-size"].into_iter().any(is_limited)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::belief::{Attempt, Doubt, Origin, Source};
    use crate::record::tests::record;

    const FAILS: Belief = Belief::Fails { attempt: 0, until: None };

    fn with(factors: &[(&str, &str)]) -> FailureRecord {
        let mut record = record();
        let factors: BTreeMap<String, String> =
            factors.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        record.scope = Scope::Sandbox;
        record.summary.history[0].failure.as_mut().unwrap().environment = Environment::new(&BTreeMap::new(), factors);
        record
    }

    #[test]
    fn what_may_travel() {
        let shell = "/bin/sh=/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-busybox/bin/busybox";
        for factors in [
            vec![],
            vec![("sandbox-paths", shell), ("filter-syscalls", "true"), ("kernel", "6.1")],
            vec![("sandbox-paths", "/bin/sh=/usr/bin/dash"), ("limit-memory", "unlimited")],
            vec![("extra-platforms", "i686-linux"), ("limit-open-files", "1024")],
        ] {
            assert_eq!(portable(&with(&factors), &FAILS, Place::Here), Ok(()), "{factors:?}");
        }
    }

    #[test]
    fn what_stays_here() {
        for (factors, bar) in [
            (("sandbox-paths", "/bin/sh=/home/me/sh"), Bar::SandboxPaths),
            (("sandbox-paths", "/bin/sh=/usr/../home/me/sh"), Bar::SandboxPaths),
            (("sandbox-paths", "/bin/sh=/usr/bin/dash /dev/kvm"), Bar::SandboxPaths),
            (("pre-build-hook", "/etc/hook"), Bar::Special),
            (("filter-syscalls", "false"), Bar::Special),
            (("impersonate-linux-26", "true"), Bar::Special),
            (("allow-new-privileges", "true"), Bar::Special),
            (("extra-platforms", "i686-linux x86_64-linux"), Bar::Special),
            (("limit-memory", "1000000"), Bar::Special),
            (("machine", "ssh://other"), Bar::OtherMachine),
            (("namespaces", "false"), Bar::NoSandbox),
        ] {
            assert_eq!(portable(&with(&[factors]), &FAILS, Place::Here), Err(bar), "{factors:?}");
        }
        type Change = fn(&mut FailureRecord);
        let changes: [(Change, Bar); 8] = [
            (|record| record.scope = Scope::Local, Bar::Local),
            (|record| record.scope = Scope::Unknown, Bar::NoSandbox),
            (|record| record.summary.history.clear(), Bar::NotBelieved),
            (
                |record| {
                    let time = record.summary.last_failure;
                    record.summary.history.push(Attempt { asked: time, time, failure: None });
                },
                Bar::Flaky,
            ),
            (|record| record.summary.history[0].failure.as_mut().unwrap().class = Class::Fetch, Bar::Class),
            (|record| record.summary.history[0].failure.as_mut().unwrap().class = Class::Timeout, Bar::Class),
            (|record| record.summary.history[0].failure.as_mut().unwrap().doubtful = Some(1), Bar::Doubtful),
            (
                |record| {
                    let source = Source::Cache { cache: "http://a".to_owned(), key: "ci-1:x".to_owned() };
                    let origin = Origin { source, attempts: 1 };
                    record.summary.history[0].failure.as_mut().unwrap().origin = Some(origin);
                },
                Bar::Learned,
            ),
        ];
        for (change, bar) in changes {
            let mut record = with(&[]);
            change(&mut record);
            assert_eq!(portable(&record, &FAILS, Place::Here), Err(bar));
        }
        assert_eq!(portable(&with(&[]), &Belief::Open(Doubt::Succeeded), Place::Here), Err(Bar::NotBelieved));
    }

    #[test]
    fn what_a_hydra_has_seen_travels_if_that_is_asked_for() {
        let from = |source: Source| {
            let mut record = with(&[]);
            record.summary.history[0].failure.as_mut().unwrap().origin = Some(Origin { source, attempts: 1 });
            [Place::Here, Place::Hydra].map(|place| portable(&record, &FAILS, place))
        };
        let hydra = |warn_only| Source::Hydra { hydra: "https://a".to_owned(), build: 1, warn_only };
        assert_eq!(from(hydra(false)), [Err(Bar::Learned), Ok(())]);
        assert_eq!(from(hydra(true)), [Err(Bar::Learned); 2]);
        assert_eq!(from(Source::File { file: "a".to_owned() }), [Err(Bar::Learned); 2]);
        assert_eq!(portable(&with(&[]), &FAILS, Place::Hydra), Err(Bar::Learned));
    }
}
