//! The databases that this process has open.

use std::mem;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, TryLockError};

use nix_negative_cache_core::database::location::Audience;
use nix_negative_cache_core::database::{Database, DatabaseError};

use crate::guard::fault_point;
use crate::policy::Policy;

/// The open databases by path, one or two, and the process that opened them. nix-daemon forks for each connection, and
/// a connection to SQLite must not be used after a fork (sqlite.org/howtocorrupt.html, 2.6).
struct Connections {
    process: u32,
    open: Vec<(PathBuf, Database)>,
}

impl Connections {
    fn at(&mut self, path: &Path) -> Option<&mut Database> {
        // Byte by byte: comparing paths by their components takes longer than all else that most questions need.
        self.open.iter_mut().find(|(open, _)| open.as_os_str() == path.as_os_str()).map(|(_, database)| database)
    }
}

static CONNECTIONS: Mutex<Connections> = Mutex::new(Connections { process: 0, open: Vec::new() });

/// The connections of this process.
fn connections() -> MutexGuard<'static, Connections> {
    of_this_process(CONNECTIONS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The same, without those that another process has opened.
fn of_this_process(mut connections: MutexGuard<'static, Connections>) -> MutexGuard<'static, Connections> {
    let process = this_process();
    if connections.process != process {
        // To close the connections of another process here could release the locks of that process.
        mem::forget(mem::replace(&mut *connections, Connections { process, open: Vec::new() }));
    }
    connections
}

/// A number that tells this process from its ancestors and its children: the number of forks between this process and
/// the one that loaded the plugin. To ask for the process id would take a system call.
fn this_process() -> u32 {
    static FORKS: AtomicU32 = AtomicU32::new(0);
    extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler does nothing that is not safe after a fork.
    static COUNTS: LazyLock<bool> = LazyLock::new(|| unsafe { libc::pthread_atfork(None, None, Some(in_child)) } == 0);
    if *COUNTS { FORKS.load(Ordering::Relaxed) } else { process::id() }
}

/// How a database is used.
enum Access {
    /// It is written to, and created if it does not exist.
    Make(Audience),
    /// It is written to.
    Write,
    /// It is only read, because it belongs to somebody else.
    Read,
}

/// Calls `work` with the database at `path`, or with `None` if there is no database.
fn with_database<T>(
    path: &Path,
    access: Access,
    work: impl FnOnce(Option<&mut Database>) -> Result<T, DatabaseError>,
) -> Result<T, DatabaseError> {
    fault_point();
    let mut connections = connections();
    if connections.at(path).is_none() {
        let database = match access {
            Access::Make(audience) => Some(Database::open_or_create(path, audience)?),
            Access::Write => Database::open(path)?,
            Access::Read => Database::open_readonly(path)?,
        };
        if let Some(database) = database {
            connections.open.push((path.to_owned(), database));
        }
    }
    work(connections.at(path))
}

/// Calls `work` with the database that this process writes to, or with `None` if there is no database. With `create`, a
/// missing database is created.
///
/// # Errors
///
/// Those of the database.
pub fn with_own<T>(
    policy: &Policy,
    create: bool,
    work: impl FnOnce(Option<&mut Database>) -> Result<T, DatabaseError>,
) -> Result<T, DatabaseError> {
    let Some(path) = &policy.database else { return work(None) };
    let access = if create { Access::Make(policy.audience) } else { Access::Write };
    with_database(path, access, work)
}

/// Calls `work` with each database that is open. None is opened.
pub fn each_open(work: impl FnMut(&mut Database)) {
    connections().open.iter_mut().map(|(_, database)| database).for_each(work);
}

/// The same, unless somebody uses the databases right now. It is called when a process ends, which can be at any moment, also while
/// its own thread uses them.
pub fn each_open_if_unused(work: impl FnMut(&mut Database)) {
    let connections = match CONNECTIONS.try_lock() {
        Ok(connections) => connections,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return,
    };
    of_this_process(connections).open.iter_mut().map(|(_, database)| database).for_each(work);
}

/// Calls `work` with a database of `policy` that is only consulted. Without a database, the answer is the default.
///
/// # Errors
///
/// Those of the database, unless it is the daemon's. This user can't mend the daemon's database, and a daemon with the
/// plugin reports such errors itself.
pub fn consulting<T: Default>(
    policy: &Policy,
    path: &Path,
    work: impl FnOnce(&mut Database) -> Result<T, DatabaseError>,
) -> Result<T, DatabaseError> {
    let is_daemons = policy.daemons.as_deref() == Some(path);
    let access = if is_daemons { Access::Read } else { Access::Write };
    match with_database(path, access, |database| database.map_or_else(|| Ok(T::default()), work)) {
        Err(_) if is_daemons => Ok(T::default()),
        result => result,
    }
}

/// Whether a consulted database exists but is not open yet. To open it takes about a millisecond.
pub fn would_open(policy: &Policy) -> bool {
    let mut connections = connections();
    policy.consulted().any(|path| connections.at(path).is_none() && path.exists())
}
