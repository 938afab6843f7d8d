//! Whether another process keeps a database to itself.
//!
//! Every process that writes holds a lock for a moment. SQLite waits for it for some seconds; one that lasts longer keeps
//! others from recording, or even from reading.

use std::fs::File;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix_negative_cache_core::database::location::beside;
use rustix::process::{Flock, FlockType, Pid, fcntl_getlk};

/// A lock that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Whose it is; none if that can't be seen, as in a container.
    pub process: Option<i32>,
    /// Whether it keeps others from reading, too.
    pub is_exclusive: bool,
}

impl Lock {
    /// The lock that somebody holds on the database at `path`, for as long as a process of Nix would wait for it.
    ///
    /// This process must not have the database open: closing a file that SQLite has locked would take away the lock.
    pub fn of(path: &Path) -> Option<Lock> {
        const PATIENCE: Duration = Duration::from_secs(5);
        let since = Instant::now();
        let lock = Lock::at_once(path)?;
        while since.elapsed() < PATIENCE {
            sleep(Duration::from_millis(20));
            if Lock::at_once(path) != Some(lock) {
                return None;
            }
        }
        Some(lock)
    }

    fn at_once(path: &Path) -> Option<Lock> {
        // The bytes that SQLite locks to write: `PENDING_BYTE` to the end of the shared ones, and `WAL_WRITE_LOCK` in the
        // index of the log (sqlite.org/fileformat.html, 1.3.9 and 2.3.1; walformat.html, 2.3). Locks to read don't count.
        let file = lock(path, 0x4000_0000, 512);
        let (lock, is_exclusive) =
            file.map(|lock| (lock, true)).or_else(|| Some((lock(&beside(path, "-shm"), 120, 1)?, false)))?;
        Some(Lock { process: lock.pid.map(|process| Pid::as_raw(Some(process))), is_exclusive })
    }
}

/// The lock that keeps this process from getting one to read these bytes of a file.
fn lock(path: &Path, start: u64, length: u64) -> Option<Flock> {
    let file = File::open(path).ok()?;
    fcntl_getlk(&file, &Flock { start, length, ..FlockType::ReadLock.into() }).ok()?
}
