//! How fast a server is asked, and whether it is asked at all.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lets requests go one by one, with the same span of time between them, until somebody stops them. Shared by all threads that ask.
pub struct Pace {
    interval: Duration,
    state: Mutex<State>,
    /// Wakes those that wait, so that nobody who has to end waits for them.
    stopped: Condvar,
}

struct State {
    /// When the next request may go.
    next: Instant,
    is_stopped: bool,
}

impl Pace {
    /// So many requests per second.
    pub fn new(per_second: u32) -> Pace {
        let state = State { next: Instant::now(), is_stopped: false };
        let interval = Duration::from_secs(1) / per_second.max(1);
        Pace { interval, state: Mutex::new(state), stopped: Condvar::new() }
    }

    /// Waits until the next request may go. Returns whether any may.
    pub fn wait(&self) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        let turn = state.next.max(now);
        state.next = turn + self.interval;
        drop(state);
        self.rest(turn - now)
    }

    /// Waits. Returns whether requests may go.
    pub fn rest(&self, time: Duration) -> bool {
        let waited = self.stopped.wait_timeout_while(self.state(), time, |state| !state.is_stopped);
        !waited.unwrap_or_else(PoisonError::into_inner).0.is_stopped
    }

    /// Lets no request go for some time.
    pub fn hold(&self, time: Duration) {
        let mut state = self.state();
        state.next = state.next.max(Instant::now() + time);
    }

    /// Lets no request go any more.
    pub fn stop(&self) {
        self.state().is_stopped = true;
        self.stopped.notify_all();
    }

    /// Whether no request may go any more.
    pub fn is_stopped(&self) -> bool {
        self.state().is_stopped
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn requests_go_one_by_one_and_wait_when_told_to() {
        let pace = Pace::new(50);
        let start = Instant::now();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| pace.wait());
            }
        });
        assert!(start.elapsed() >= Duration::from_millis(60), "{:?}", start.elapsed());
        let start = Instant::now();
        pace.hold(Duration::from_millis(100));
        assert!(pace.wait());
        assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    }

    #[test]
    fn who_waits_is_woken_by_a_stop() {
        let pace = Pace::new(1);
        pace.hold(Duration::from_secs(3600));
        // The test itself would take an hour if one of them were not woken.
        thread::scope(|scope| {
            let waiting = scope.spawn(|| pace.wait());
            let resting = scope.spawn(|| pace.rest(Duration::from_secs(3600)));
            pace.stop();
            assert!(!waiting.join().unwrap() && !resting.join().unwrap());
        });
        assert!(!pace.wait() && pace.is_stopped());
    }
}
