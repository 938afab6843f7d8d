//! A build that runs: what has to be kept of it until it ends.

use std::time::{Duration, Instant};

use nix_negative_cache_core::log_tail::LogTail;
use nix_negative_cache_core::machine::{Counters, Shortage, full_disk};

use crate::policy::Policy;

/// A build from its start to its end.
#[derive(Default)]
pub struct RunningBuild {
    started: Option<Instant>,
    counters: Counters,
    /// The end of its log so far.
    pub log: LogTail,
}

impl RunningBuild {
    /// A build that starts now.
    pub fn start() -> RunningBuild {
        RunningBuild { started: Some(Instant::now()), counters: Counters::read(), log: LogTail::default() }
    }

    /// How long it ran, if it ends now.
    pub fn duration(&self) -> Duration {
        self.started.map(|started| started.elapsed()).unwrap_or_default()
    }

    /// What was wrong with the machine meanwhile, if it ends now.
    pub fn shortage(&self, policy: &Policy) -> Option<Shortage> {
        let folders = policy.folders();
        let of_memory = || self.counters.shortage(&Counters::read(), self.duration());
        full_disk(folders.iter().map(|folder| folder.as_path())).or_else(of_memory)
    }
}
