//! The classes of failures: what kind of thing ended a build.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

/// What kind of thing ended a build that failed. Its names are those in databases, JSON and lists; the variants are in the
/// order of the manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Display, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Class {
    /// The builder ran and exited by itself with a code.
    Builder,
    /// The builder ran to its end, but an output is missing, refers to what it may not, or is too large.
    Output,
    /// Something that passes: a signal, a full disk, lack of memory, the network.
    Transient,
    /// `timeout`.
    Timeout,
    /// `max-silent-time`.
    Silence,
    /// `max-build-log-size`.
    #[strum(serialize = "limit")]
    LogLimit,
    /// The builder of a fixed-output derivation, or one that is part of Nix.
    Fetch,
    /// Everything else that Nix reports.
    #[strum(serialize = "other")]
    NotTheBuilder,
}

/// What the manual says of a class.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// What belongs to it.
    pub rule: &'static str,
    /// Where Nix, or what else, says so.
    pub source: &'static str,
    /// Whether it is recorded.
    pub recorded: &'static str,
}

impl Class {
    /// All classes, in the order of the manual.
    pub const ALL: &[Class] = <Class as VariantArray>::VARIANTS;

    /// The name in databases, JSON and lists.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The class in words.
    pub fn description(self) -> Description {
        let (rule, source, recorded) = match self {
            Class::Builder => (
                "The builder ran, here or on another machine, and exited by itself with a code.",
                "`PermanentFailure` and \"failed with exit code N\" (`DerivationGoal::buildDone`)",
                "yes",
            ),
            Class::Output => (
                "The builder ran to its end, but an output is missing, refers to what it may not, or is too large; not of \
                 fixed-output derivations and `builtin:` builders.",
                "`OutputRejected` (`DerivationGoal::buildDone`, `LocalDerivationGoal::registerOutputs`)",
                "yes",
            ),
            Class::Transient => (
                "Killed by a signal, or a shell says so with 129 to 192, unless programs raise that signal themselves (132, 133, \
                 134, 136, 139, 159); an exit code of `negative-cache-transient-exit-codes`; the builder could not be started; the \
                 disk was full, or is; a process was killed for lack of memory, or the machine was short of it; the log has strong \
                 evidence of a shortage, a kill or a passing fault, and nothing against it.",
                "signal(7); POSIX, Shell Command Language, 2.8.2; sysexits.h; \
                 `LocalDerivationGoal::cleanupDecideWhetherDiskFull`; /proc/vmstat `oom_kill`, or `memory.events` with `use-cgroups`; \
                 /proc/pressure/memory; `core/src/log`",
                "never",
            ),
            Class::Timeout => (
                "It took longer than `timeout`.",
                "`TimedOut` (`Worker::waitForInput`)",
                "with `negative-cache-timeouts`",
            ),
            Class::Silence => (
                "It printed nothing for longer than `max-silent-time`.",
                "`TimedOut` (`Worker::waitForInput`)",
                "with `negative-cache-timeouts`",
            ),
            Class::LogLimit => (
                "It printed more than `max-build-log-size`.",
                "`LogLimitExceeded` (`DerivationGoal::handleChildOutput`)",
                "with `negative-cache-timeouts`",
            ),
            Class::Fetch => (
                "The builder of a fixed-output derivation, or a `builtin:` one, exited by itself with a code.",
                "`TransientFailure` (`DerivationGoal::buildDone`); `BasicDerivation::isBuiltin`",
                "with `negative-cache-fixed-output`",
            ),
            Class::NotTheBuilder => (
                "Everything else: features, system, dependencies, substitutes, hash mismatches, no free build user, \
                 interrupted, the daemon stopped, checks and repairs, impure derivations, builders \
                 that use Nix, `negativeCache = false`.",
                "every other `BuildResult::Status` (build-result.hh)",
                "never",
            ),
        };
        Description { rule, source, recorded }
    }
}

impl<'de> Deserialize<'de> for Class {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Class, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|_| de::Error::custom("there is no such class"))
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
