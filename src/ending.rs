//! How a build ended, for C++ and Rust alike. A bridge of its own, as the C++ side needs it where it knows nothing of the rest.

use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::judgement::Status;

pub use ffi::Ending;

#[cxx::bridge(namespace = "negative_cache::core")]
mod ffi {
    /// How Nix says that a build ended (`BuildResult::Status`), as far as that matters.
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

impl From<Ending> for Status {
    fn from(ending: Ending) -> Status {
        match ending {
            Ending::Built => Status::Built,
            Ending::PermanentFailure => Status::PermanentFailure,
            Ending::TimedOut => Status::TimedOut,
            Ending::LogLimitExceeded => Status::LogLimitExceeded,
            Ending::TransientFailure => Status::TransientFailure,
            Ending::OutputRejected => Status::OutputRejected,
            Ending::Reported => Status::Reported,
            _ => Status::Other,
        }
    }
}

/// How the failure had ended that a refusal stands for.
impl From<Class> for Ending {
    fn from(class: Class) -> Ending {
        match class {
            Class::Builder => Ending::PermanentFailure,
            Class::Timeout | Class::Silence => Ending::TimedOut,
            Class::LogLimit => Ending::LogLimitExceeded,
            Class::Fetch => Ending::TransientFailure,
            Class::Output => Ending::OutputRejected,
            Class::Transient | Class::NotTheBuilder => Ending::Other,
        }
    }
}
