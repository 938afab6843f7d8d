//! Opening a database: the connection to SQLite, and what makes it ready to read and to write.

use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::fs::File;
use std::mem::{ManuallyDrop, take};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::vtab::array::load_module;
use rusqlite::{Connection, OpenFlags, ffi};

use super::freshness::Remembered;
use super::location::{self, Audience};
use super::{Database, DatabaseError, schema};
use crate::counts::Counts;

/// How long a process waits for another one that writes. A build is never held up for longer: what can't be read
/// or written by then is given up with a warning.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes a connection wait while another process has the database, for at most [`BUSY_TIMEOUT`].
pub(super) fn wait_when_busy(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(wait_a_moment))
}

/// Waits for a moment, and returns whether to try again. `waits` is how often the connection has already waited for the same
/// lock.
///
/// SQLite's own handler waits for longer and longer, up to a tenth of a second. If many processes want to write, those that have
/// waited long are overtaken by those that have just come. Here all of them try equally often.
fn wait_a_moment(waits: c_int) -> bool {
    const MOMENT: Duration = Duration::from_millis(2);
    thread_local! {
        static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    let now = Instant::now();
    if waits == 0 {
        SINCE.set(Some(now));
    }
    let goes_on = SINCE.get().is_some_and(|since| now.duration_since(since) < BUSY_TIMEOUT);
    if goes_on {
        thread::sleep(MOMENT);
    }
    goes_on
}

impl Database {
    /// Opens the database at `path` if there is one.
    ///
    /// # Errors
    ///
    /// If a file is there that is no database of this program, that can't be trusted, or that SQLite can't open. A
    /// damaged database in a default place is moved away.
    pub fn open(path: &Path) -> Result<Option<Database>, DatabaseError> {
        if location::exists(path)? { Database::connect(path, false).map(Some) } else { Ok(None) }
    }

    /// Opens somebody else's database at `path` if there is one. A damaged one is left where it is.
    ///
    /// # Errors
    ///
    /// If a file is there that is no database of this program, that can't be trusted, or that SQLite can't open.
    pub fn open_readonly(path: &Path) -> Result<Option<Database>, DatabaseError> {
        if location::exists(path)? { Database::connect(path, true).map(Some) } else { Ok(None) }
    }

    /// Opens the database at `path`. If it is not there, it is made for `audience`, with its folder.
    ///
    /// # Errors
    ///
    /// If a file is there that is no database of this program, that can't be trusted, or that SQLite can't open. Or if
    /// it can't be made.
    pub fn open_or_create(path: &Path, audience: Audience) -> Result<Database, DatabaseError> {
        if !location::exists(path)? {
            location::create(path, audience)?;
            location::exists(path)?;
        }
        Database::connect(path, false)
    }

    /// Copies the database to `path`, where nothing is, for this user alone.
    ///
    /// # Errors
    ///
    /// If it can't be read, or the copy can't be written.
    pub fn copy(&self, path: &Path) -> Result<(), DatabaseError> {
        location::create(path, Audience::Owner)?;
        let copy = || {
            self.connection.execute("VACUUM INTO ?1", [path.to_string_lossy()])?;
            // The copy has the mode of other files.
            Connection::open(path)?.pragma_update(None, "journal_mode", "wal")
        };
        copy().map_err(|source| DatabaseError::Sqlite { path: path.to_owned(), source })
    }

    fn connect(path: &Path, readonly: bool) -> Result<Database, DatabaseError> {
        // Where this user may not write, SQLite opens it for reading.
        let access = if readonly { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let failed = |source| match readonly {
            true => DatabaseError::Sqlite { path: path.to_owned(), source },
            false => DatabaseError::of_sqlite(path, source),
        };
        let connect = || {
            let connection = Connection::open_with_flags(path, flags)?;
            wait_when_busy(&connection)?;
            load_module(&connection)?;
            Ok(connection)
        };
        let mut connection = connect().map_err(failed)?;
        if connection.is_readonly("main").unwrap_or(false) {
            schema::check(&connection, path)?;
        } else {
            schema::migrate(&mut connection, path)?;
            keep_readable(&connection).map_err(failed)?;
        }
        let wal_index = wal_index(&connection, path).map_err(failed)?.map(ManuallyDrop::new);
        Ok(Database {
            path: path.to_owned(),
            connection,
            wal_index,
            remembered: Remembered::default(),
            counts: Counts::default(),
            writes: 0,
            environments: RefCell::default(),
            writes_as_it_should: false,
        })
    }

    /// The connection, ready to write. Most processes only read, and do without these settings.
    pub(super) fn writing(&mut self) -> rusqlite::Result<&mut Connection> {
        // Commits of this connection are not among those that `others` counts.
        let Remembered { others, ref mut unknown, .. } = self.remembered;
        self.remembered = Remembered { others, unknown: take(unknown), ..Remembered::default() };
        if !self.writes_as_it_should {
            self.connection.pragma_update(None, "foreign_keys", true)?;
            // In WAL mode the database stays sound without a wait for the disk at each commit; after a power failure the
            // last records may be missing (sqlite.org/pragma.html, synchronous).
            self.connection.pragma_update(None, "synchronous", "normal")?;
            self.writes_as_it_should = true;
        }
        Ok(&mut self.connection)
    }
}

/// Leaves the write-ahead log and its index behind when the last process closes the database. A user who may not make
/// these files could not read the database otherwise (sqlite.org/wal.html, "Read-Only Databases").
#[allow(unsafe_code)]
pub(super) fn keep_readable(connection: &Connection) -> rusqlite::Result<()> {
    // Or the log would stay as long as it ever was.
    connection.pragma_update(None, "journal_size_limit", 0)?;
    let mut on: c_int = 1;
    // SAFETY: the connection is open for as long as it is borrowed; this operation reads and writes one int
    // (sqlite.org/c3ref/c_fcntl_begin_atomic_write.html).
    let result = unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_PERSIST_WAL,
            (&raw mut on).cast(),
        )
    };
    // A file system that can't do without is no reason not to use the database.
    debug_assert!(result == ffi::SQLITE_OK || result == ffi::SQLITE_NOTFOUND);
    Ok(())
}

/// The wal-index, by which processes tell each other what is in the write-ahead log. A file of that name that is left
/// over from another journal mode says nothing.
fn wal_index(connection: &Connection, path: &Path) -> rusqlite::Result<Option<File>> {
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    Ok(if mode == "wal" { File::open(location::beside(path, "-shm")).ok() } else { None })
}
