//! A running build: all that is kept of it until it ends.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix_negative_cache_core::log::judge::LogJudge;
use nix_negative_cache_core::machine::{Counters, Shortage, full_disk};
use rustix::time::{ClockId, clock_gettime};

use crate::policy::Policy;

/// How often the disk is looked at while a build logs, at most.
const LOOK_AT_DISK: Duration = Duration::from_millis(5);

/// For how long the counters that were read last are used for builds that start. A shortage in that time counts for
/// these builds as well.
const LATELY: Duration = Duration::from_millis(250);

/// The time since an arbitrary moment, up to one tick of the kernel behind (1 to 10 ms). A builder can print a million lines in a second, and to
/// read the exact time takes several times as long.
fn coarse_now() -> Duration {
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::MonotonicCoarse;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Monotonic;
    let now = clock_gettime(CLOCK);
    Duration::new(now.tv_sec.cast_unsigned(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The counters of the machine and of the control group of builds when a build starts.
fn counters(group: Option<&Path>) -> Counters {
    static LAST: Mutex<Option<(Instant, Option<PathBuf>, Counters)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    match &*last {
        Some((when, of, counters)) if when.elapsed() < LATELY && of.as_deref() == group => *counters,
        _ => {
            let counters = Counters::read(group);
            *last = Some((Instant::now(), group.map(Path::to_owned), counters));
            counters
        }
    }
}

/// A build from its start to its end.
#[derive(Default)]
pub struct RunningBuild {
    started: Option<Instant>,
    /// The control group that builds run below, if they have groups of their own. The group of this build itself is
    /// gone when the plugin hears of its end.
    group: Option<PathBuf>,
    counters: Counters,
    /// Its log so far.
    pub log: LogJudge,
    /// The folders that it fills.
    folders: Vec<PathBuf>,
    /// On the coarse clock.
    looked_at_disk: Option<Duration>,
    disk: Option<Shortage>,
}

impl RunningBuild {
    /// A build that starts now.
    pub fn start(policy: &Policy) -> RunningBuild {
        let group = policy.group_of_builds();
        RunningBuild {
            started: Some(Instant::now()),
            counters: counters(group.as_deref()),
            group,
            folders: policy.folders().into(),
            ..RunningBuild::default()
        }
    }

    /// A line of its log.
    pub fn log_line(&mut self, line: &[u8]) {
        self.log.line(line);
        // A lack of space may be over when the builder ends: other processes fill and free the disk as well.
        let now = coarse_now();
        if self.looked_at_disk.is_none_or(|last| now.saturating_sub(last) >= LOOK_AT_DISK) {
            self.looked_at_disk = Some(now);
            self.disk = self.disk_shortage().or(self.disk.take());
        }
    }

    fn disk_shortage(&self) -> Option<Shortage> {
        full_disk(self.folders.iter().map(PathBuf::as_path))
    }

    /// How long the build took, if it ends at this moment.
    pub fn duration(&self) -> Duration {
        self.started.map(|started| started.elapsed()).unwrap_or_default()
    }

    /// What the machine lacked during the build, if the build ends at this moment.
    pub fn shortage(&self) -> Option<Shortage> {
        let of_memory = || self.counters.shortage(&Counters::read(self.group.as_deref()), self.duration());
        self.disk.clone().or_else(|| self.disk_shortage()).or_else(of_memory)
    }
}
