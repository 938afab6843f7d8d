//! The database of failure records: one SQLite file, shared by every Nix process that may write to it.
//!
//! Records are found by output path, as in Nix before 2.0 (`queryFailedPaths`): derivations that differ only in how
//! their fixed-output inputs are fetched have the same outputs and share a record.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::{Type, Value};
use rusqlite::vtab::array::{Array, load_module};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use crate::belief::{Attempt, FailedAttempt, MAX_ATTEMPTS};
use crate::class::Class;
use crate::environment::Environment;
use crate::record::{Failure, FailureRecord, Output, PLUGIN_VERSION};
use crate::store_path::{DerivationPath, OutputPath};

/// Marks the file as ours (`PRAGMA application_id`): "nnc1".
const APPLICATION_ID: i32 = 0x6e6e_6331;

/// What brings a database from each version of its schema to the next (`PRAGMA user_version`).
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE failure (
        id             INTEGER PRIMARY KEY,
        drv_path       TEXT    NOT NULL,
        store_dir      TEXT    NOT NULL,
        name           TEXT    NOT NULL,
        system         TEXT    NOT NULL,
        exit_code      INTEGER NOT NULL,
        message        TEXT    NOT NULL,
        log            TEXT    NOT NULL,
        first_failure  INTEGER NOT NULL, -- milliseconds since 1970, as last_failure
        last_failure   INTEGER NOT NULL,
        attempts       INTEGER NOT NULL,
        duration_ms    INTEGER NOT NULL,
        host           TEXT    NOT NULL,
        nix_version    TEXT    NOT NULL,
        plugin_version TEXT    NOT NULL
    ) STRICT;
    CREATE INDEX failure_drv_path ON failure (drv_path);
    CREATE INDEX failure_last_failure ON failure (last_failure);
    CREATE TABLE output (
        path    TEXT    NOT NULL PRIMARY KEY,
        failure INTEGER NOT NULL REFERENCES failure (id) ON DELETE CASCADE,
        name    TEXT    NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX output_failure ON output (failure);
",
    "
    -- What failed not by its builder has no exit code.
    ALTER TABLE failure RENAME COLUMN exit_code TO old_exit_code;
    ALTER TABLE failure ADD COLUMN exit_code INTEGER;
    UPDATE failure SET exit_code = old_exit_code;
    ALTER TABLE failure DROP COLUMN old_exit_code;
    ALTER TABLE failure ADD COLUMN class TEXT NOT NULL DEFAULT 'builder';
    -- Whether the last attempt failed.
    ALTER TABLE failure ADD COLUMN stands INTEGER NOT NULL DEFAULT 1;
    CREATE INDEX failure_stands ON failure (id) WHERE stands;
    CREATE TABLE attempt (
        id          INTEGER PRIMARY KEY, -- in the order of the attempts
        failure     INTEGER NOT NULL REFERENCES failure (id) ON DELETE CASCADE,
        time        INTEGER NOT NULL,    -- milliseconds since 1970
        class       TEXT,                -- NULL for a success
        exit_code   INTEGER,
        environment TEXT                 -- JSON
    ) STRICT;
    CREATE INDEX attempt_failure ON attempt (failure);
    -- Where these happened is not known, so they do not count; but they are still there to look at.
    INSERT INTO attempt (failure, time, class, exit_code, environment)
        SELECT id, last_failure, 'builder', exit_code, '{}' FROM failure ORDER BY last_failure;
",
];

/// How long a process waits for another one that writes. A build is never held up for longer: what can't be read
/// or written by then is given up with a warning.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the database of a store is by default.
///
/// `state_dir` is the store's state directory, such as `/nix/var/nix`.
pub fn default_path(state_dir: &Path) -> PathBuf {
    state_dir.join("negative-cache").join("failures.sqlite")
}

/// Why the database can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Its folder can't be made.
    #[error("cannot create the folder of the failure database '{path}': {source}")]
    Folder {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is something else at its path.
    #[error("the failure database '{path}' is not a regular file; move it away or choose another database")]
    NotAFile {
        /// The database file.
        path: PathBuf,
    },
    /// It holds something else than failure records.
    #[error("'{path}' is the database of another program; choose another file for the failure database")]
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// A newer version wrote it.
    #[error(
        "the failure database '{path}' has version {found} of its schema, this program knows {known}; \
         upgrade nix-negative-cache or choose another database"
    )]
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// The version it has.
        found: usize,
        /// The newest version known here.
        known: usize,
    },
    /// SQLite could not open, read or write it.
    #[error("cannot use the failure database '{path}': {source}")]
    Sqlite {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// The names of one record in the database; good until the record is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FailureId(i64);

/// What changes with each commit of any process.
type Stamp = [u8; 48];

/// A state of the database: another one after each commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// What SQLite counts of the commits of others (`PRAGMA data_version`).
    others: i64,
    /// How often this connection wrote.
    ours: u64,
}

/// Outputs that do not matter to anybody, in the state of the database that the rest tells.
#[derive(Debug, Default)]
struct Unknown {
    stamp: Option<Stamp>,
    others: i64,
    outputs: HashSet<OutputPath>,
}

/// An open database.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    connection: Connection,
    /// The wal-index, if the database has one. Never closed: with the first descriptor of the file that a process closes, it
    /// loses all of SQLite's locks on it (sqlite.org/howtocorrupt.html, 2.2).
    wal_index: Option<ManuallyDrop<File>>,
    unknown: Unknown,
    /// How often this connection wrote.
    writes: u64,
}

impl Database {
    /// Opens the database at `path` if there is one.
    pub fn open(path: &Path) -> Result<Option<Database>, DatabaseError> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => Database::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map(Some),
            // Opening a FIFO would wait for a writer.
            Ok(_) => Err(DatabaseError::NotAFile { path: path.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // SQLite's own words would leave out that it is the folder that can't be read.
            Err(source) => Err(DatabaseError::Folder { path: path.to_owned(), source }),
        }
    }

    /// Opens the database at `path`, made if it is not there, with its folder.
    pub fn open_or_create(path: &Path) -> Result<Database, DatabaseError> {
        if let Some(database) = Database::open(path)? {
            return Ok(database);
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|source| DatabaseError::Folder { path: path.to_owned(), source })?;
        }
        Database::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Database, DatabaseError> {
        let failed = |source| DatabaseError::Sqlite { path: path.to_owned(), source };
        let mut connection =
            Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
        load_module(&connection).map_err(failed)?;
        migrate(&mut connection, path)?;
        let wal_index = wal_index(&connection, path).map_err(failed)?.map(ManuallyDrop::new);
        Ok(Database { path: path.to_owned(), connection, wal_index, unknown: Unknown::default(), writes: 0 })
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> DatabaseError + use<> {
        let path = self.path.clone();
        move |source| DatabaseError::Sqlite { path: path.clone(), source }
    }

    /// Whether nothing is known to fail, so that there is nothing to ask.
    pub fn is_empty(&self) -> Result<bool, DatabaseError> {
        let query = || {
            let mut statement =
                self.connection.prepare_cached("SELECT NOT EXISTS (SELECT 1 FROM failure WHERE stands)")?;
            statement.query_row([], |row| row.get(0))
        };
        query().map_err(self.failed())
    }

    /// Which of `outputs` failed when they were last built.
    pub fn known<'a>(
        &self,
        outputs: impl IntoIterator<Item = &'a OutputPath>,
    ) -> Result<HashMap<OutputPath, FailureId>, DatabaseError> {
        let wanted = text_array(outputs.into_iter().map(OutputPath::as_str));
        standing(&self.connection, &wanted).map_err(self.failed())
    }

    /// Whether `output` failed when it was last built, and was not set aside since. Costs next to nothing if that was not
    /// so when this was last asked, and no other process has written since.
    pub fn is_known(&mut self, output: &OutputPath) -> Result<bool, DatabaseError> {
        self.revalidate()?;
        if self.unknown.outputs.contains(output) {
            return Ok(false);
        }
        let known = !self.known([output])?.is_empty();
        if !known {
            self.unknown.outputs.insert(output.clone());
        }
        Ok(known)
    }

    /// The state that the database is in now.
    pub fn version(&mut self) -> Result<Version, DatabaseError> {
        self.revalidate()?;
        Ok(Version { others: self.unknown.others, ours: self.writes })
    }

    /// Sets outputs aside whose failures do not count: they pass for not known until they are written to, or another
    /// process writes. Does nothing if the database has changed since it had the `version` in which they were looked at.
    pub fn set_aside(
        &mut self,
        version: Version,
        outputs: impl IntoIterator<Item = OutputPath>,
    ) -> Result<(), DatabaseError> {
        if self.version()? == version {
            self.unknown.outputs.extend(outputs);
        }
        Ok(())
    }

    /// Forgets what is in memory if another process has written.
    fn revalidate(&mut self) -> Result<(), DatabaseError> {
        // In this order: what is written between the two is seen the next time.
        let stamp = self.stamp();
        if stamp.is_some() && stamp == self.unknown.stamp {
            return Ok(());
        }
        let query = || {
            let mut statement = self.connection.prepare_cached("PRAGMA data_version")?;
            statement.query_row([], |row| row.get(0))
        };
        let others = query().map_err(self.failed())?;
        if others != self.unknown.others {
            self.unknown.outputs.clear();
        }
        self.unknown.stamp = stamp;
        self.unknown.others = others;
        Ok(())
    }

    /// What tells quickly whether anything was written: the header of the wal-index, which readers of a database in WAL
    /// mode compare to see that (sqlite.org/walformat.html, 2.1). It is there for as long as a connection is. `None` if
    /// it can't be read.
    fn stamp(&self) -> Option<Stamp> {
        let mut stamp = [0; 48];
        self.wal_index.as_ref()?.read_exact_at(&mut stamp, 0).ok()?;
        Some(stamp)
    }

    /// What is recorded for `paths`, each an output path or the path of a derivation.
    pub fn find<'a>(&self, paths: impl IntoIterator<Item = &'a str>) -> Result<Vec<FailureId>, DatabaseError> {
        let wanted = text_array(paths);
        let query = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT output.failure FROM rarray(?1) AS wanted CROSS JOIN output ON output.path = wanted.value
                 UNION SELECT failure.id FROM rarray(?1) AS wanted CROSS JOIN failure
                 ON failure.drv_path = wanted.value",
            )?;
            let rows = statement.query_map([wanted], |row| row.get(0).map(FailureId))?;
            rows.collect::<Result<_, _>>()
        };
        query().map_err(self.failed())
    }

    /// The record of a failure, unless it was forgotten in the meantime.
    pub fn record(&self, id: FailureId) -> Result<Option<FailureRecord>, DatabaseError> {
        let query = || {
            let mut statement = self.connection.prepare_cached(&format!("{SELECT_RECORD} WHERE id = ?1"))?;
            let record = statement.query_row([id.0], record_of_one_table).optional()?;
            record.map(|(_, record)| self.completed(id.0, record)).transpose()
        };
        query().map_err(self.failed())
    }

    /// All records, newest first.
    pub fn records(&self) -> Result<Vec<FailureRecord>, DatabaseError> {
        let query = || {
            let mut statement =
                self.connection.prepare_cached(&format!("{SELECT_RECORD} ORDER BY last_failure DESC, id DESC"))?;
            let rows = statement.query_map([], record_of_one_table)?;
            rows.map(|row| row.and_then(|(id, record)| self.completed(id, record))).collect::<Result<_, _>>()
        };
        query().map_err(self.failed())
    }

    /// With what other tables have of it.
    fn completed(&self, id: i64, mut record: FailureRecord) -> rusqlite::Result<FailureRecord> {
        let mut outputs =
            self.connection.prepare_cached("SELECT name, path FROM output WHERE failure = ?1 ORDER BY name")?;
        let outputs = outputs.query_map([id], |row| {
            Ok(Output { name: row.get(0)?, path: OutputPath::from(row.get::<_, String>(1)?) })
        })?;
        record.outputs = outputs.collect::<Result<_, _>>()?;
        let mut attempts = self.connection.prepare_cached(
            "SELECT time, class, exit_code, environment FROM attempt WHERE failure = ?1 ORDER BY id DESC",
        )?;
        let attempts = attempts.query_map([id], |row| {
            let failure = match row.get::<_, Option<String>>("class")? {
                Some(_) => Some(FailedAttempt {
                    class: class(row)?,
                    exit_code: row.get("exit_code")?,
                    environment: environment(row)?,
                }),
                None => None,
            };
            Ok(Attempt { time: time(row, "time")?, failure })
        })?;
        record.history = attempts.collect::<Result<_, _>>()?;
        Ok(record)
    }

    /// Records a failure: a new record, or one more attempt of the one that these outputs have.
    pub fn insert(&mut self, failure: &Failure) -> Result<(), DatabaseError> {
        let failed = self.failed();
        let insert = |transaction: &Transaction<'_>| {
            let outputs = text_array(failure.outputs.iter().map(|output| output.path.as_str()));
            let earlier: Vec<i64> = transaction
                .prepare_cached("SELECT DISTINCT failure FROM output WHERE path IN rarray(?1)")?
                .query_map([&outputs], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let earlier: Array = Rc::new(earlier.into_iter().map(Value::Integer).collect());
            let (first, attempts): (Option<i64>, u32) = transaction
                .prepare_cached(
                    "SELECT min(first_failure), coalesce(sum(attempts), 0) FROM failure WHERE id IN rarray(?1)",
                )?
                .query_row([&earlier], |row| Ok((row.get(0)?, row.get(1)?)))?;
            transaction.prepare_cached("DELETE FROM output WHERE failure IN rarray(?1)")?.execute([&earlier])?;
            let time = failure.time.as_millisecond();
            transaction
                .prepare_cached(
                    "INSERT INTO failure (drv_path, store_dir, name, system, class, exit_code, message, log,
                         first_failure, last_failure, attempts, duration_ms, host, nix_version, plugin_version)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
                )?
                .execute(params![
                    failure.derivation.as_str(),
                    failure.store_dir,
                    failure.name,
                    failure.system,
                    failure.class.name(),
                    failure.exit_code,
                    failure.message,
                    failure.log,
                    first.unwrap_or(time),
                    time,
                    attempts + 1,
                    failure.duration_ms,
                    failure.host,
                    failure.nix_version,
                    PLUGIN_VERSION,
                ])?;
            let id = transaction.last_insert_rowid();
            let mut statement =
                transaction.prepare_cached("INSERT INTO output (path, failure, name) VALUES (?1, ?2, ?3)")?;
            for output in &failure.outputs {
                statement.execute(params![output.path.as_str(), id, output.name])?;
            }
            transaction
                .prepare_cached("UPDATE attempt SET failure = ?1 WHERE failure IN rarray(?2)")?
                .execute(params![id, earlier])?;
            transaction.prepare_cached("DELETE FROM failure WHERE id IN rarray(?1)")?.execute([&earlier])?;
            let failed = FailedAttempt {
                class: failure.class,
                exit_code: failure.exit_code,
                environment: failure.environment.clone(),
            };
            add_attempt(transaction, id, time, Some(&failed))
        };
        self.writes += 1;
        for output in &failure.outputs {
            self.unknown.outputs.remove(&output.path);
        }
        in_transaction(&mut self.connection, insert).map_err(failed)
    }

    /// Remembers that `outputs` were built, so that earlier failures do not stand any more; says of how many.
    pub fn succeed<'a>(
        &mut self,
        outputs: impl IntoIterator<Item = &'a OutputPath>,
        time: Timestamp,
    ) -> Result<usize, DatabaseError> {
        let outputs = text_array(outputs.into_iter().map(OutputPath::as_str));
        let failed = self.failed();
        // Most builds succeed and were never known to fail: no write lock for those.
        if standing(&self.connection, &outputs).map_err(&failed)?.is_empty() {
            return Ok(0);
        }
        let succeed = |transaction: &Transaction<'_>| {
            let standing: HashSet<FailureId> = standing(transaction, &outputs)?.into_values().collect();
            for FailureId(id) in &standing {
                transaction.prepare_cached("UPDATE failure SET stands = 0 WHERE id = ?1")?.execute([id])?;
                add_attempt(transaction, *id, time.as_millisecond(), None)?;
            }
            Ok(standing.len())
        };
        in_transaction(&mut self.connection, succeed).map_err(failed)
    }

    /// Forgets the given failures; says how many there were.
    pub fn forget_failures(&mut self, failures: &[FailureId]) -> Result<usize, DatabaseError> {
        let failed = self.failed();
        let forget = |transaction: &Transaction<'_>| {
            let mut statement = transaction.prepare_cached("DELETE FROM failure WHERE id = ?1")?;
            failures.iter().map(|id| statement.execute([id.0])).sum()
        };
        in_transaction(&mut self.connection, forget).map_err(failed)
    }
}

const SELECT_RECORD: &str = "SELECT id, drv_path, store_dir, name, system, class, exit_code, message, log,
    first_failure, last_failure, attempts, duration_ms, host, nix_version, plugin_version FROM failure";

fn record_of_one_table(row: &Row<'_>) -> rusqlite::Result<(i64, FailureRecord)> {
    let record = FailureRecord {
        derivation: DerivationPath::from(row.get::<_, String>("drv_path")?),
        outputs: Vec::new(),
        store_dir: row.get("store_dir")?,
        name: row.get("name")?,
        system: row.get("system")?,
        class: class(row)?,
        exit_code: row.get("exit_code")?,
        message: row.get("message")?,
        log: row.get("log")?,
        first_failure: time(row, "first_failure")?,
        last_failure: time(row, "last_failure")?,
        attempts: row.get("attempts")?,
        history: Vec::new(),
        duration_ms: row.get("duration_ms")?,
        host: row.get("host")?,
        nix_version: row.get("nix_version")?,
        plugin_version: row.get("plugin_version")?,
    };
    Ok((row.get("id")?, record))
}

/// Which of `outputs` failed when they were last built.
fn standing(connection: &Connection, outputs: &Array) -> rusqlite::Result<HashMap<OutputPath, FailureId>> {
    let mut statement = connection.prepare_cached(
        "SELECT output.path, output.failure FROM rarray(?1) AS wanted
         CROSS JOIN output ON output.path = wanted.value
         CROSS JOIN failure ON failure.id = output.failure AND failure.stands",
    )?;
    let rows = statement
        .query_map([outputs], |row| Ok((OutputPath::from(row.get::<_, String>(0)?), FailureId(row.get(1)?))))?;
    rows.collect()
}

fn unreadable(row: &Row<'_>, column: &str, why: impl Into<Box<dyn Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(row.as_ref().column_index(column).unwrap_or(0), Type::Text, why.into())
}

fn class(row: &Row<'_>) -> rusqlite::Result<Class> {
    let name: String = row.get("class")?;
    Class::named(&name).ok_or_else(|| unreadable(row, "class", format!("there is no class '{name}'")))
}

fn environment(row: &Row<'_>) -> rusqlite::Result<Environment> {
    let json: String = row.get("environment")?;
    serde_json::from_str(&json).map_err(|error| unreadable(row, "environment", error))
}

/// Adds an attempt that failed, or a success, and drops the oldest ones that nobody will ask for any more.
fn add_attempt(
    transaction: &Transaction<'_>,
    failure: i64,
    time: i64,
    failed: Option<&FailedAttempt>,
) -> rusqlite::Result<()> {
    let environment = failed.map(|failed| serde_json::to_string(&failed.environment)).transpose();
    let environment = environment.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let class = failed.map(|failed| failed.class.name());
    let exit_code = failed.and_then(|failed| failed.exit_code);
    transaction
        .prepare_cached(
            "INSERT INTO attempt (failure, time, class, exit_code, environment) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![failure, time, class, exit_code, environment])?;
    transaction
        .prepare_cached(
            "DELETE FROM attempt WHERE failure = ?1 AND id NOT IN
                 (SELECT id FROM attempt WHERE failure = ?1 ORDER BY id DESC LIMIT ?2)",
        )?
        .execute(params![failure, MAX_ATTEMPTS])?;
    Ok(())
}

fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    let milliseconds: i64 = row.get(column)?;
    Timestamp::from_millisecond(milliseconds).map_err(|_| {
        rusqlite::Error::IntegralValueOutOfRange(row.as_ref().column_index(column).unwrap_or(0), milliseconds)
    })
}

fn text_array<'a>(texts: impl IntoIterator<Item = &'a str>) -> Array {
    Rc::new(texts.into_iter().map(|text| Value::Text(text.to_owned())).collect())
}

fn in_transaction<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    // Immediate: a transaction that starts as a reader can't wait for its turn to write.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let result = work(&transaction)?;
    transaction.commit()?;
    Ok(result)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), DatabaseError> {
    let failed = |source| DatabaseError::Sqlite { path: path.to_owned(), source };
    if schema_version(connection, path)? == MIGRATIONS.len() {
        return Ok(());
    }
    // Changes how the file is written, so it can't be part of the transaction; a file system without shared memory
    // keeps the rollback journal, which works as well.
    match connection.pragma_update(None, "journal_mode", "wal") {
        Err(rusqlite::Error::SqliteFailure(error, _)) if error.code == ErrorCode::DatabaseBusy => {}
        result => result.map_err(failed)?,
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    // Another process may have been faster.
    for migration in &MIGRATIONS[schema_version(&transaction, path)?..] {
        transaction.execute_batch(migration).map_err(failed)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64).map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// The version of the schema, between 0 (an empty file) and the newest known one.
fn schema_version(connection: &Connection, path: &Path) -> Result<usize, DatabaseError> {
    // One statement, so that no other process can make the schema between two looks at it.
    let query =
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
                     EXISTS (SELECT 1 FROM sqlite_schema)";
    let (application, version, has_tables): (i32, i64, bool) = connection
        .query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .map_err(|source| DatabaseError::Sqlite { path: path.to_owned(), source })?;
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    match application {
        APPLICATION_ID if version <= MIGRATIONS.len() => Ok(version),
        APPLICATION_ID => {
            Err(DatabaseError::NewerSchema { path: path.to_owned(), found: version, known: MIGRATIONS.len() })
        }
        0 if version == 0 && !has_tables => Ok(0),
        _ => Err(DatabaseError::Foreign { path: path.to_owned() }),
    }
}

/// The file that tells processes what is in the write-ahead log. One that is left over from another journal mode says
/// nothing.
fn wal_index(connection: &Connection, path: &Path) -> rusqlite::Result<Option<File>> {
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    let mut index = path.to_owned().into_os_string();
    index.push("-shm");
    Ok(if mode == "wal" { File::open(index).ok() } else { None })
}

#[cfg(test)]
mod tests;
