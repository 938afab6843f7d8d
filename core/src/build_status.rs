//! How Nix says that a build ended: the one type for it between C++ and the records.
//!
//! A build that ended comes with one. [`crate::judgement`] finds its [`Class`] with it, the messages and the log, and the
//! class is what records keep. A refusal stands for a failure of a class, and is reported to Nix as one with the status
//! that such a failure has.

use crate::class::Class;

/// How Nix says a build ended (`BuildResult::Status` in build-result.hh), as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildStatus {
    /// The builder ran and its outputs are registered.
    Built,
    /// The builder failed, for good as far as Nix can tell.
    PermanentFailure,
    /// `timeout` or `max-silent-time`.
    TimedOut,
    /// `max-build-log-size`.
    LogLimitExceeded,
    /// Nix suspects that a new attempt could succeed: disk full, or a derivation with network access.
    TransientFailure,
    /// The builder ran to its end, but what it made is not what its derivation asks for. Nix up to 2.33 says so of hash
    /// mismatches as well.
    OutputRejected,
    /// Every other end: dependencies, substitution, hash mismatch, missing features, interruption.
    Other,
    /// It did not succeed, and only the messages tell how it ended.
    Reported,
}

impl From<Class> for BuildStatus {
    /// How Nix would report a failure of this class.
    fn from(class: Class) -> BuildStatus {
        match class {
            Class::Builder => BuildStatus::PermanentFailure,
            Class::Timeout | Class::Silence => BuildStatus::TimedOut,
            Class::LogLimit => BuildStatus::LogLimitExceeded,
            Class::Fetch => BuildStatus::TransientFailure,
            Class::Output => BuildStatus::OutputRejected,
            Class::Transient | Class::NotTheBuilder => BuildStatus::Other,
        }
    }
}
