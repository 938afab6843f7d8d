//! How fast a server is asked.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Lets requests go one by one, with the same span of time between them. Shared by all threads that ask.
pub struct Pace {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    /// So many requests per second.
    pub fn new(per_second: u32) -> Pace {
        Pace { interval: Duration::from_secs(1) / per_second.max(1), next: Mutex::new(Instant::now()) }
    }

    /// Waits until the next request may go.
    pub fn wait(&self) {
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = (*next).max(now);
        *next = turn + self.interval;
        drop(next);
        thread::sleep(turn - now);
    }

    /// Lets no request go for some time.
    pub fn hold(&self, time: Duration) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = (*next).max(Instant::now() + time);
    }
}

#[cfg(test)]
mod tests {
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
        pace.hold(Duration::from_millis(100));
        let start = Instant::now();
        pace.wait();
        assert!(start.elapsed() >= Duration::from_millis(90), "{:?}", start.elapsed());
    }
}
