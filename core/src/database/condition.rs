//! What is in a database, looked at without changing anything.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::location::{beside, is_damage};
use super::{DatabaseError, open::wait_when_busy, schema};

/// The state of a database.
#[derive(Debug)]
pub enum Condition {
    /// As it should be.
    Sound {
        /// How many records it has.
        records: u64,
        /// Whether it has a write-ahead log, with files beside it that readers need.
        logs_ahead: bool,
    },
    /// SQLite finds that it is damaged, or none of its databases; this is what it says.
    Broken(String),
    /// So many rows belong to no record.
    Orphans(u64),
    /// An older version wrote it, or has begun to.
    OlderSchema,
}

/// Looks at the database at `path` without changing anything.
///
/// # Errors
///
/// If a newer version wrote the database, or this user can't read it.
pub fn examine(path: &Path) -> Result<Condition, DatabaseError> {
    let failed = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) => DatabaseError::Unshared { path: path.to_owned() },
        _ => DatabaseError::Sqlite { path: path.to_owned(), source },
    };
    // Before SQLite has it open, whose locks go with the first descriptor of the file that is closed.
    let logs_ahead = logs_ahead(path);
    let connection = match open(path).and_then(|connection| Ok((damage(&connection)?, connection))) {
        Ok((None, connection)) => connection,
        Ok((Some(damage), _)) => return Ok(Condition::Broken(damage)),
        Err(error) if is_damage(&error) => return Ok(Condition::Broken(error.to_string())),
        Err(error) => return Err(failed(error)),
    };
    match schema::check(&connection, path) {
        Ok(()) => {}
        Err(DatabaseError::OlderSchema { .. }) => return Ok(Condition::OlderSchema),
        Err(error) => return Err(error),
    }
    let count = |query: &str| connection.query_row(query, [], |row| row.get::<_, u64>(0)).map_err(failed);
    match count("SELECT count(*) FROM pragma_foreign_key_check")? {
        0 => Ok(Condition::Sound { records: count("SELECT count(*) FROM failure")?, logs_ahead }),
        orphans => Ok(Condition::Orphans(orphans)),
    }
}

/// What the file itself says of its journal (sqlite.org/fileformat.html, 1.3.3).
fn logs_ahead(path: &Path) -> bool {
    let mut version = [0; 1];
    File::open(path).and_then(|file| file.read_exact_at(&mut version, 18)).is_ok() && version == [2]
}

/// What is damaged, if anything.
fn damage(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok((found != "ok").then_some(found))
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    // SQLite has the files beside it where a symbolic link leads.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    // Otherwise SQLite would make them, whose lack is something to find out. Without an index nobody else
    // has it open, and without a log all is in the file itself.
    let absent_or_empty = |suffix| fs::metadata(beside(path, suffix)).map_or(true, |file| file.len() == 0);
    let immutable = !beside(path, "-shm").exists() && absent_or_empty("-wal");
    /// What stands for itself in a path of a URI, besides letters and digits.
    const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');
    let mut uri = format!("file:{}", percent_encode(path.as_os_str().as_bytes(), ENCODED));
    if immutable {
        uri.push_str("?immutable=1");
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri, flags)?;
    wait_when_busy(&connection)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::Database;
    use super::super::location::Audience;
    use super::*;

    #[test]
    fn looking_changes_nothing_whatever_the_path() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("100% new?immutable=0#1 \u{e9}/failures.sqlite");
        drop(Database::open_or_create(&path, Audience::Everybody).unwrap());
        let files = || fs::read_dir(path.parent().unwrap()).unwrap().count();
        let all = files();
        let look = || assert!(matches!(examine(&path).unwrap(), Condition::Sound { records: 0, logs_ahead: true }));
        look();
        assert_eq!((all, files()), (3, 3));
        for (removed, left) in [("-shm", 2), ("-wal", 1)] {
            fs::remove_file(beside(&path, removed)).unwrap();
            look();
            assert_eq!(files(), left, "{removed}");
        }
    }
}
