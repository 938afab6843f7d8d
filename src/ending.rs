//! How a build ended, for C++ and Rust alike. It has a bridge of its own, because `cpp/compat/` uses this type and
//! nothing else of Rust.

use nix_negative_cache_core::build_status::BuildStatus;
use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::record::Believed;

pub use ffi::Ending;

#[cxx::bridge(namespace = "negative_cache::core")]
mod ffi {
    /// How Nix reports the end of a build (`BuildResult::Status`), as far as that matters.
    #[derive(Debug)]
    enum Ending {
        Built,
        PermanentFailure,
        TimedOut,
        LogLimitExceeded,
        TransientFailure,
        OutputRejected,
        /// It did not succeed, and only the messages tell how it ended.
        Reported,
        /// Anything else.
        Other,
    }
}

impl From<Ending> for BuildStatus {
    fn from(ending: Ending) -> BuildStatus {
        match ending {
            Ending::Built => BuildStatus::Built,
            Ending::PermanentFailure => BuildStatus::PermanentFailure,
            Ending::TimedOut => BuildStatus::TimedOut,
            Ending::LogLimitExceeded => BuildStatus::LogLimitExceeded,
            Ending::TransientFailure => BuildStatus::TransientFailure,
            Ending::OutputRejected => BuildStatus::OutputRejected,
            Ending::Reported => BuildStatus::Reported,
            _ => BuildStatus::Other,
        }
    }
}

impl From<Believed<'_>> for Ending {
    /// How the original failure ended. Whatever failed on another machine, Nix takes for a failure of its build hook, but for
    /// limits (`DerivationGoal::buildDone`, since 2.29 or so `DerivationBuildingGoal`).
    fn from(failure: Believed<'_>) -> Ending {
        match failure.class {
            Class::Timeout | Class::Silence | Class::LogLimit => failure.class.into(),
            _ if failure.elsewhere => Ending::Other,
            class => class.into(),
        }
    }
}

impl From<Class> for Ending {
    /// How the original failures of a class ended. A refusal stands for such an ending.
    fn from(class: Class) -> Ending {
        match class.into() {
            BuildStatus::Built => Ending::Built,
            BuildStatus::PermanentFailure => Ending::PermanentFailure,
            BuildStatus::TimedOut => Ending::TimedOut,
            BuildStatus::LogLimitExceeded => Ending::LogLimitExceeded,
            BuildStatus::TransientFailure => Ending::TransientFailure,
            BuildStatus::OutputRejected => Ending::OutputRejected,
            BuildStatus::Reported => Ending::Reported,
            BuildStatus::Other => Ending::Other,
        }
    }
}
