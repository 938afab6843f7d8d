//! The database of failure records: one SQLite file, shared by every Nix process that may write to it, and read by
//! others.
//!
//! Records are found by output path, as in Nix before 2.0 (`queryFailedPaths`): derivations that differ only in how
//! their fixed-output inputs are fetched have the same outputs and share a record.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::error::Error;
use std::fs::File;
use std::io;
use std::mem::{ManuallyDrop, take};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::{Type, Value, ValueRef};
use rusqlite::vtab::array::{Array, load_module};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, Row, Transaction, TransactionBehavior, ffi, params, params_from_iter,
};

use crate::belief::{Attempt, FailedAttempt, MAX_ATTEMPTS};
use crate::class::Class;
use crate::environment::Environment;
use crate::evidence::DecidingLine;
use crate::record::{Failure, FailureRecord, FailureSummary, Output, PLUGIN_VERSION, RetryRequest, Summarised};
use crate::store_path::{DerivationPath, OutputPath};

pub mod condition;
pub mod place;
mod schema;

use place::Audience;

/// How long a process waits for another one that writes. A build is never held up for longer: what can't be read
/// or written by then is given up with a warning.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

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
    /// Others than root could have written it.
    #[error("the failure database '{path}' is not used: it or its folder {why}; run  nix-negative-cache doctor --fix")]
    Untrusted {
        /// The database file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// Its owner has left nothing by which others could read it.
    #[error(
        "the failure database '{path}' can't be read by this user at the moment; it can be again after the next build of \
         its owner, or  nix-negative-cache doctor --fix"
    )]
    Unshared {
        /// The database file.
        path: PathBuf,
    },
    /// It is damaged, and was moved away.
    #[error(
        "the failure database '{path}' is broken ({source}); it was moved to '{broken}', and a new one will be made"
    )]
    Broken {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
        /// Where it is now.
        broken: PathBuf,
    },
    /// An older version wrote it, and this user may not change that.
    #[error(
        "the failure database '{path}' was written by an older version; its owner's next build, or  nix-negative-cache \
         doctor --fix  brings it up to date"
    )]
    OlderSchema {
        /// The database file.
        path: PathBuf,
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

impl DatabaseError {
    /// What SQLite's error says of the database at `path`. One that is damaged is moved away.
    fn of_sqlite(path: &Path, source: rusqlite::Error) -> DatabaseError {
        let path = path.to_owned();
        if place::is_damage(&source)
            && let Some(broken) = place::move_away(&path)
        {
            return DatabaseError::Broken { path, source, broken };
        }
        DatabaseError::Sqlite { path, source }
    }
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

/// What was asked in the state of the database that `stamp` and `others` tell. Who asks again gets the same answer, and
/// should get it quickly: a daemon is asked often over one connection.
#[derive(Debug, Default)]
struct Remembered {
    stamp: Option<Stamp>,
    others: i64,
    /// Outputs that do not matter to anybody.
    unknown: HashSet<OutputPath>,
    /// Whether nothing is known to fail.
    empty: Option<bool>,
    /// The derivations that were looked up last, and what is recorded of them.
    derivations: Option<(Vec<String>, HashMap<FailureId, FailureRecord>)>,
    /// Failures whose last use is not to be noted again, and since when.
    used: Option<(Vec<FailureId>, Timestamp)>,
}

/// An open database.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    connection: Connection,
    /// The wal-index, if the database has one. Never closed: with the first descriptor of the file that a process closes, it
    /// loses all of SQLite's locks on it (sqlite.org/howtocorrupt.html, 2.2).
    wal_index: Option<ManuallyDrop<File>>,
    remembered: Remembered,
    /// How often this connection wrote.
    writes: u64,
    /// What texts of environments say, of those that were read lately.
    environments: RefCell<HashMap<String, Environment>>,
    /// Whether the connection was made ready to write.
    writes_as_it_should: bool,
}

impl Database {
    /// Opens the database at `path` if there is one.
    pub fn open(path: &Path) -> Result<Option<Database>, DatabaseError> {
        if place::exists(path)? { Database::connect(path, false).map(Some) } else { Ok(None) }
    }

    /// Opens somebody else's database at `path` if there is one. Nothing is done about what is wrong with it.
    pub fn open_readonly(path: &Path) -> Result<Option<Database>, DatabaseError> {
        if place::exists(path)? { Database::connect(path, true).map(Some) } else { Ok(None) }
    }

    /// Opens the database at `path`, made for `audience` if it is not there, with its folder.
    pub fn open_or_create(path: &Path, audience: Audience) -> Result<Database, DatabaseError> {
        if !place::exists(path)? {
            place::create(path, audience)?;
            place::exists(path)?;
        }
        Database::connect(path, false)
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
            connection.busy_timeout(BUSY_TIMEOUT)?;
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
            writes: 0,
            environments: RefCell::default(),
            writes_as_it_should: false,
        })
    }

    /// The connection, to write. Most processes only read, and can do without what that takes.
    fn writing(&mut self) -> rusqlite::Result<&mut Connection> {
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

    fn failed(&self) -> impl Fn(rusqlite::Error) -> DatabaseError + use<> {
        let path = self.path.clone();
        let readonly = self.is_readonly();
        move |source| match readonly {
            true => DatabaseError::Sqlite { path: path.clone(), source },
            false => DatabaseError::of_sqlite(&path, source),
        }
    }

    /// Whether nothing is known to fail, so that there is nothing to ask.
    pub fn is_empty(&mut self) -> Result<bool, DatabaseError> {
        self.revalidate()?;
        if let Some(empty) = self.remembered.empty {
            return Ok(empty);
        }
        let query = || {
            let mut statement =
                self.connection.prepare_cached("SELECT NOT EXISTS (SELECT 1 FROM failure WHERE stands)")?;
            statement.query_row([], |row| row.get(0))
        };
        let empty = query().map_err(self.failed())?;
        self.remembered.empty = Some(empty);
        Ok(empty)
    }

    /// The places of those of `names` that anything is called that is known to fail. Of most derivations that tells enough:
    /// those of the same output have the same name.
    pub fn candidates(&self, names: &[&str]) -> Result<Vec<usize>, DatabaseError> {
        let query = || {
            /// As many names are read in the time that one is looked for.
            const AT_ONCE: usize = 4;
            let span = "SELECT coalesce((SELECT max(id) FROM failure) - (SELECT min(id) FROM failure) + 1, 0)";
            let most: usize = self.connection.prepare_cached(span)?.query_row([], |row| row.get(0))?;
            let mut known: HashSet<String> = HashSet::new();
            if most <= names.len().saturating_mul(AT_ONCE) {
                let mut statement = self.connection.prepare_cached("SELECT name FROM failure WHERE stands")?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    let name = row.get_ref(0)?.as_str()?;
                    if !known.contains(name) {
                        known.insert(name.to_owned());
                    }
                }
            } else {
                let wanted: BTreeSet<&str> = names.iter().copied().collect();
                let mut statement = self.connection.prepare_cached(
                    "SELECT wanted.value FROM rarray(?1) AS wanted
                     WHERE EXISTS (SELECT 1 FROM failure WHERE stands AND name = wanted.value)",
                )?;
                let rows = statement.query_map([text_array(wanted)], |row| row.get(0))?;
                known = rows.collect::<Result<_, _>>()?;
            }
            Ok((0..names.len()).filter(|place| known.contains(names[*place])).collect())
        };
        query().map_err(self.failed())
    }

    /// Which of `outputs` failed when they were last built.
    pub fn known<'a>(
        &self,
        outputs: impl IntoIterator<Item = &'a OutputPath>,
    ) -> Result<HashMap<OutputPath, FailureId>, DatabaseError> {
        // In their order, neighbours are on the same page.
        let wanted: BTreeSet<&str> = outputs.into_iter().map(OutputPath::as_str).collect();
        standing(&self.connection, &text_array(wanted)).map_err(self.failed())
    }

    /// Whether `output` failed when it was last built, and was not set aside since. Costs next to nothing if that was not
    /// so when this was last asked, and no other process has written since.
    pub fn is_known(&mut self, output: &OutputPath) -> Result<bool, DatabaseError> {
        self.revalidate()?;
        if self.remembered.unknown.contains(output) {
            return Ok(false);
        }
        let known = !self.known([output])?.is_empty();
        if !known {
            self.remembered.unknown.insert(output.clone());
        }
        Ok(known)
    }

    /// The state that the database is in now.
    pub fn version(&mut self) -> Result<Version, DatabaseError> {
        self.revalidate()?;
        Ok(Version { others: self.remembered.others, ours: self.writes })
    }

    /// Sets outputs aside whose failures do not count: they pass for not known until they are written to, or another
    /// process writes. Does nothing if the database has changed since it had the `version` in which they were looked at.
    pub fn set_aside(
        &mut self,
        version: Version,
        outputs: impl IntoIterator<Item = OutputPath>,
    ) -> Result<(), DatabaseError> {
        if self.version()? == version {
            self.remembered.unknown.extend(outputs);
        }
        Ok(())
    }

    /// Forgets what is in memory if another process has written.
    fn revalidate(&mut self) -> Result<(), DatabaseError> {
        // In this order: what is written between the two is seen the next time.
        let stamp = self.stamp();
        if stamp.is_some() && stamp == self.remembered.stamp {
            return Ok(());
        }
        let query = || {
            let mut statement = self.connection.prepare_cached("PRAGMA data_version")?;
            statement.query_row([], |row| row.get(0))
        };
        let others = query().map_err(self.failed())?;
        if others != self.remembered.others {
            self.remembered = Remembered { others, ..Remembered::default() };
        }
        self.remembered.stamp = stamp;
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

    /// What is recorded of `derivations` themselves that failed when they were last built.
    pub fn known_derivations(
        &mut self,
        derivations: &[String],
    ) -> Result<HashMap<FailureId, FailureRecord>, DatabaseError> {
        /// As many as are remembered.
        const FEW: usize = 8;
        self.revalidate()?;
        if let Some((_, records)) = self.remembered.derivations.as_ref().filter(|(asked, _)| asked == derivations) {
            return Ok(records.clone());
        }
        let wanted = text_array(derivations.iter().map(String::as_str));
        let query = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT failure.id FROM rarray(?1) AS wanted CROSS JOIN failure ON failure.drv_path = wanted.value
                 AND failure.stands",
            )?;
            let rows = statement.query_map([wanted], |row| row.get(0).map(FailureId))?;
            rows.collect::<Result<Vec<_>, _>>()
        };
        let found = query().map_err(self.failed())?;
        let records = self.records_of(&found)?;
        if derivations.len() <= FEW {
            self.remembered.derivations = Some((derivations.to_vec(), records.clone()));
        }
        Ok(records)
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

    /// The records of failures, but of those that were forgotten in the meantime.
    pub fn records_of(&self, failures: &[FailureId]) -> Result<HashMap<FailureId, FailureRecord>, DatabaseError> {
        let failures: BTreeSet<FailureId> = failures.iter().copied().collect();
        let wanted: Array = Rc::new(failures.iter().map(|id| Value::Integer(id.0)).collect());
        self.read_records(Some(&wanted)).map(HashMap::from_iter).map_err(self.failed())
    }

    /// The record of a failure, unless it was forgotten in the meantime.
    pub fn record(&self, id: FailureId) -> Result<Option<FailureRecord>, DatabaseError> {
        Ok(self.records_of(&[id])?.remove(&id))
    }

    /// All records, newest first.
    pub fn records(&self) -> Result<Vec<FailureRecord>, DatabaseError> {
        self.read_records(None).map(newest_first).map_err(self.failed())
    }

    /// All records, newest first, as far as lists need them.
    pub fn summaries(&self) -> Result<Vec<FailureSummary>, DatabaseError> {
        let read = || {
            let transaction = self.connection.unchecked_transaction()?;
            let summaries = self.read(&transaction, None, SUMMARY, summary)?;
            transaction.commit()?;
            Ok(summaries)
        };
        read().map(newest_first).map_err(self.failed())
    }

    /// The records of some failures, or of all, in the order of their ids.
    fn read_records(&self, wanted: Option<&Array>) -> rusqlite::Result<Vec<(FailureId, FailureRecord)>> {
        // All of the same state.
        let transaction = self.connection.unchecked_transaction()?;
        let columns = format!("{SUMMARY}, {DETAILS}");
        let mut records = self.read(&transaction, wanted, &columns, record_of_one_table)?;
        attach(&transaction, &mut records, wanted, "output", "failure, name, path", |row, record| {
            record.outputs.push(Output { name: row.get(1)?, path: OutputPath::from(row.get::<_, String>(2)?) });
            Ok(())
        })?;
        for (_, record) in &mut records {
            record.outputs.sort_by(|one, other| one.name.cmp(&other.name));
        }
        transaction.commit()?;
        Ok(records)
    }

    /// What `convert` makes of these columns of some failures, or of all, in the order of their ids, with their attempts and
    /// requests to retry. Each table is read once for all of them.
    fn read<R: Summarised>(
        &self,
        connection: &Connection,
        wanted: Option<&Array>,
        columns: &str,
        convert: fn(&Row<'_>) -> rusqlite::Result<R>,
    ) -> rusqlite::Result<Vec<(FailureId, R)>> {
        let mut statement = connection.prepare_cached(&in_order("failure", columns, "id", wanted))?;
        let rows = statement.query_map(params_from_iter(wanted), |row| Ok((FailureId(row.get(0)?), convert(row)?)))?;
        let mut records: Vec<(FailureId, R)> = rows.collect::<Result<_, _>>()?;
        let mut environments = HashMap::new();
        attach(
            connection,
            &mut records,
            wanted,
            "attempt",
            "failure, time, class, exit_code, environment, asked, doubtful",
            |row, record| {
                let failure = match row.get_ref(2)? {
                    ValueRef::Null => None,
                    _ => Some(FailedAttempt {
                        class: class(row, 2)?,
                        exit_code: row.get(3)?,
                        environment: self.environment(connection, &mut environments, row.get(4)?)?,
                        doubtful: row.get::<_, Option<i64>>(6)?.map(i64::cast_unsigned),
                    }),
                };
                let asked = match row.get_ref(5)? {
                    ValueRef::Null => time(row, 1)?,
                    _ => time(row, 5)?,
                };
                record.summary_mut().history.push(Attempt { asked, time: time(row, 1)?, failure });
                Ok(())
            },
        )?;
        attach(connection, &mut records, wanted, "retry", "failure, user, time", |row, record| {
            record.summary_mut().retries.push(RetryRequest { user: row.get(1)?, time: time(row, 2)? });
            Ok(())
        })?;
        for (_, record) in &mut records {
            let summary = record.summary_mut();
            summary.history.reverse();
            summary.retries.sort_by_key(|retry| retry.user);
        }
        Ok(records)
    }

    /// The environment with this number, which is among those that were `read` before or is read.
    fn environment(
        &self,
        connection: &Connection,
        read: &mut HashMap<Option<i64>, Environment>,
        number: Option<i64>,
    ) -> rusqlite::Result<Environment> {
        const MANY: usize = 16;
        if let Some(environment) = read.get(&number) {
            return Ok(environment.clone());
        }
        let mut statement = connection.prepare_cached("SELECT factors FROM environment WHERE id = ?1")?;
        let mut rows = statement.query([number])?;
        let json = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?.get_ref(0)?.as_str()?;
        let mut known = self.environments.borrow_mut();
        let environment: Environment = match known.get(json) {
            Some(environment) => environment.clone(),
            None => serde_json::from_str(json).map_err(|error| unreadable(0, error))?,
        };
        if known.len() < MANY && !known.contains_key(json) {
            known.insert(json.to_owned(), environment.clone());
        }
        read.insert(number, environment.clone());
        Ok(environment)
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
            let evidence = failure.evidence.as_ref().map(serde_json::to_string).transpose();
            let evidence = evidence.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
            transaction
                .prepare_cached(
                    "INSERT INTO failure (drv_path, store_dir, name, system, class, exit_code, message, log,
                         first_failure, last_failure, used, attempts, duration_ms, host, nix_version, plugin_version, evidence)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
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
                    evidence,
                ])?;
            let id = transaction.last_insert_rowid();
            let mut statement =
                transaction.prepare_cached("INSERT INTO output (path, failure, name) VALUES (?1, ?2, ?3)")?;
            for output in &failure.outputs {
                statement.execute(params![output.path.as_str(), id, output.name])?;
            }
            // Everybody can make up a fetch that fails and has the outputs of one that works.
            let same = "UPDATE attempt SET failure = ?1 WHERE failure IN (SELECT id FROM failure
                            WHERE id IN rarray(?2) AND (?3 != 'fetch' OR drv_path = ?4))";
            transaction.prepare_cached(same)?.execute(params![
                id,
                earlier,
                failure.class.name(),
                failure.derivation.as_str()
            ])?;
            transaction.prepare_cached("DELETE FROM failure WHERE id IN rarray(?1)")?.execute([&earlier])?;
            let failed = FailedAttempt {
                class: failure.class,
                exit_code: failure.exit_code,
                environment: failure.environment.clone(),
                doubtful: failure.doubtful,
            };
            add_attempt(transaction, id, &Attempt { asked: failure.asked, time: failure.time, failure: Some(failed) })
        };
        self.writes += 1;
        for output in &failure.outputs {
            self.remembered.unknown.remove(&output.path);
        }
        self.in_transaction(insert).map_err(failed)
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
                transaction
                    .prepare_cached("UPDATE failure SET stands = 0, used = ?2 WHERE id = ?1")?
                    .execute(params![id, time.as_millisecond()])?;
                add_attempt(transaction, *id, &Attempt { asked: time, time, failure: None })?;
            }
            Ok(standing.len())
        };
        self.in_transaction(succeed).map_err(failed)
    }

    /// Forgets the given failures; says how many there were.
    pub fn forget_failures(&mut self, failures: &[FailureId]) -> Result<usize, DatabaseError> {
        let failed = self.failed();
        let forget = |transaction: &Transaction<'_>| {
            let mut statement = transaction.prepare_cached("DELETE FROM failure WHERE id = ?1")?;
            failures.iter().map(|id| statement.execute([id.0])).sum()
        };
        self.in_transaction(forget).map_err(failed)
    }

    /// What is recorded for the store paths in `store_dir` with this hash part, derivations or outputs.
    pub fn find_by_hash_part(&self, store_dir: &str, hash_part: &str) -> Result<Vec<FailureId>, DatabaseError> {
        // What begins with the first is between the two, as `.` comes right after `-`.
        let (first, end) = (format!("{store_dir}/{hash_part}-"), format!("{store_dir}/{hash_part}."));
        let query = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT failure FROM output WHERE path >= ?1 AND path < ?2
                 UNION SELECT id FROM failure WHERE drv_path >= ?1 AND drv_path < ?2",
            )?;
            let rows = statement.query_map([&first, &end], |row| row.get(0).map(FailureId))?;
            rows.collect::<Result<_, _>>()
        };
        query().map_err(self.failed())
    }

    /// Notes that a user wants to see failures tried once more; says how many there were. A later attempt ends it.
    pub fn request_retry(
        &mut self,
        failures: &[FailureId],
        user: u32,
        time: Timestamp,
    ) -> Result<usize, DatabaseError> {
        let failed = self.failed();
        let time = time.as_millisecond();
        // Who asks again and again must not make everybody wait for the disk.
        let fresh = "SELECT EXISTS (SELECT 1 FROM retry WHERE failure = ?1 AND user = ?2 AND time > ?3 - 1000
                     AND time > (SELECT max(time) FROM attempt WHERE attempt.failure = ?1))";
        let mut asked = Vec::new();
        for FailureId(id) in failures {
            let fresh: bool = self
                .connection
                .prepare_cached(fresh)
                .and_then(|mut statement| statement.query_row(params![id, user, time], |row| row.get(0)))
                .map_err(&failed)?;
            if !fresh {
                asked.push(*id);
            }
        }
        if asked.is_empty() {
            return Ok(failures.len());
        }
        let request = |transaction: &Transaction<'_>| {
            let mut statement = transaction.prepare_cached(
                "INSERT OR REPLACE INTO retry (failure, user, time) SELECT id, ?2, ?3 FROM failure WHERE id = ?1",
            )?;
            asked.iter().map(|id| statement.execute(params![id, user, time])).sum()
        };
        let count: usize = self.in_transaction(request).map_err(&failed)?;
        self.writes += 1;
        Ok(failures.len() - asked.len() + count)
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this process may only read.
    pub fn is_readonly(&self) -> bool {
        self.connection.is_readonly("main").unwrap_or(true)
    }

    /// Notes that failures stood in somebody's way, once a day at most. What can't be noted at once is not.
    pub fn note_use(&mut self, failures: &[FailureId], time: Timestamp) {
        const DAY: i64 = 24 * 60 * 60 * 1000;
        const HOUR: i64 = DAY / 24;
        let lately = |(ids, since): &(Vec<FailureId>, Timestamp)| {
            ids == failures && time.as_millisecond() - since.as_millisecond() < HOUR
        };
        if self.remembered.used.as_ref().is_some_and(lately) || self.is_readonly() {
            return;
        }
        let ids: Array = Rc::new(failures.iter().map(|id| Value::Integer(id.0)).collect());
        let (now, before) = (time.as_millisecond(), time.as_millisecond() - DAY);
        let is_old = || {
            let old = "SELECT EXISTS (SELECT 1 FROM failure WHERE id IN rarray(?1) AND used < ?2)";
            self.connection.prepare_cached(old)?.query_row(params![ids, before], |row| row.get(0))
        };
        if is_old().unwrap_or(false) {
            let note = "UPDATE failure SET used = ?3 WHERE id IN rarray(?1) AND used < ?2";
            // It only decides about the order in which records go.
            let _ = self.at_once(|connection| connection.prepare_cached(note)?.execute(params![ids, before, now]));
        } else {
            self.remembered.used = Some((failures.to_vec(), time));
        }
    }

    /// Takes a step towards a database that has no more than `most` failures, and none that nobody used since `oldest`;
    /// says how many went. Does nothing while another process writes.
    pub fn tidy(&mut self, most: u64, oldest: Option<Timestamp>) -> Result<usize, DatabaseError> {
        /// As many as a process deletes at a time.
        const STEP: i64 = 64;
        if self.is_readonly() {
            return Ok(0);
        }
        let oldest = oldest.map_or(i64::MIN, |oldest| oldest.as_millisecond());
        let failed = self.failed();
        let tidied = self.at_once(|connection| {
            let surplus = "SELECT max(0, count(*) - ?1) FROM failure";
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let surplus: i64 = connection.prepare_cached(surplus)?.query_row([most], |row| row.get(0))?;
            let old = "SELECT EXISTS (SELECT 1 FROM failure WHERE used < ?1)";
            let old: bool = connection.prepare_cached(old)?.query_row([oldest], |row| row.get(0))?;
            if surplus == 0 && !old {
                return Ok(0);
            }
            let delete = "DELETE FROM failure WHERE id IN (SELECT id FROM failure WHERE used < ?1
                              UNION SELECT id FROM (SELECT id FROM failure ORDER BY used, id LIMIT ?2) LIMIT ?3)";
            connection.prepare_cached(delete)?.execute(params![oldest, surplus.min(STEP), STEP])
        });
        match tidied {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(0),
            tidied => tidied.map_err(failed),
        }
    }

    /// Does without what belongs to no record; says how much there was. SQLite gives the number of a record that is gone to
    /// a later one, which must not inherit anything.
    pub fn drop_orphans(&mut self) -> Result<usize, DatabaseError> {
        let failed = self.failed();
        let drop = |transaction: &Transaction<'_>| {
            let mut count = 0;
            for table in ["output", "attempt", "retry"] {
                let delete = format!("DELETE FROM {table} WHERE failure NOT IN (SELECT id FROM failure)");
                count += transaction.execute(&delete, [])?;
            }
            Ok(count)
        };
        self.writes += 1;
        self.in_transaction(drop).map_err(failed)
    }

    fn in_transaction<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        // Immediate: a transaction that starts as a reader can't wait for its turn to write.
        let transaction = self.writing()?.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = work(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }

    /// Calls `work` with a connection that does not wait for others.
    fn at_once<T>(&mut self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let connection = self.writing()?;
        connection.busy_timeout(Duration::ZERO)?;
        let result = work(connection);
        connection.busy_timeout(BUSY_TIMEOUT)?;
        result
    }
}

/// The columns of `failure` that a list needs, the id first.
const SUMMARY: &str = "id, drv_path, name, class, exit_code, last_failure, attempts, duration_ms";

fn summary(row: &Row<'_>) -> rusqlite::Result<FailureSummary> {
    Ok(FailureSummary {
        derivation: DerivationPath::from(row.get::<_, String>(1)?),
        name: row.get(2)?,
        class: class(row, 3)?,
        exit_code: row.get(4)?,
        last_failure: time(row, 5)?,
        attempts: row.get(6)?,
        history: Vec::new(),
        retries: Vec::new(),
        duration_ms: row.get(7)?,
    })
}

/// The others, behind those.
const DETAILS: &str = "store_dir, system, message, log, first_failure, host, nix_version, plugin_version,
     evidence";

fn record_of_one_table(row: &Row<'_>) -> rusqlite::Result<FailureRecord> {
    Ok(FailureRecord {
        summary: summary(row)?,
        outputs: Vec::new(),
        store_dir: row.get(8)?,
        system: row.get(9)?,
        message: row.get(10)?,
        log: row.get(11)?,
        first_failure: time(row, 12)?,
        host: row.get(13)?,
        nix_version: row.get(14)?,
        plugin_version: row.get(15)?,
        evidence: evidence(row, 16)?,
    })
}

fn newest_first<R: Summarised>(mut records: Vec<(FailureId, R)>) -> Vec<R> {
    records.sort_by_key(|(id, record)| Reverse((record.summary().last_failure, *id)));
    records.into_iter().map(|(_, record)| record).collect()
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

/// A query for the rows of a table that belong to some failures (`wanted`, in their order) or to all, in the order of the
/// failures, which are in `key`.
fn in_order(table: &str, columns: &str, key: &str, wanted: Option<&Array>) -> String {
    match wanted {
        Some(_) => {
            format!("SELECT {columns} FROM rarray(?1) AS wanted CROSS JOIN {table} ON {table}.{key} = wanted.value")
        }
        None => format!("SELECT {columns} FROM {table} ORDER BY {key}"),
    }
}

/// Calls `add` with each row of a table that belongs to one of `records`, and the record; those of each in the order of the
/// rows. The failure is the first of the columns.
fn attach<R>(
    connection: &Connection,
    records: &mut [(FailureId, R)],
    wanted: Option<&Array>,
    table: &str,
    columns: &str,
    mut add: impl FnMut(&Row<'_>, &mut R) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&in_order(table, columns, "failure", wanted))?;
    let mut rows = statement.query(params_from_iter(wanted))?;
    let mut records = records.iter_mut().peekable();
    while let Some(row) = rows.next()? {
        let failure = FailureId(row.get(0)?);
        while records.next_if(|(id, _)| *id < failure).is_some() {}
        if let Some((_, record)) = records.peek_mut().filter(|(id, _)| *id == failure) {
            add(row, record)?;
        }
    }
    Ok(())
}

fn unreadable(column: usize, why: impl Into<Box<dyn Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, why.into())
}

fn class(row: &Row<'_>, column: usize) -> rusqlite::Result<Class> {
    let name = row.get_ref(column)?.as_str()?;
    Class::named(name).ok_or_else(|| unreadable(column, format!("there is no class '{name}'")))
}

/// The line that decided. It is for people only, so one that can't be read is as good as none.
fn evidence(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<DecidingLine>> {
    let json = row.get_ref(column)?.as_str_or_null()?;
    Ok(json.and_then(|json| serde_json::from_str(json).ok()))
}

/// Adds an attempt and drops the oldest ones that nobody will ask for any more.
fn add_attempt(transaction: &Transaction<'_>, failure: i64, attempt: &Attempt) -> rusqlite::Result<()> {
    let failed = attempt.failure.as_ref();
    let environment = failed.map(|failed| serde_json::to_string(&failed.environment)).transpose();
    let environment = environment.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let class = failed.map(|failed| failed.class.name());
    let exit_code = failed.and_then(|failed| failed.exit_code);
    let doubtful = failed.and_then(|failed| failed.doubtful).map(u64::cast_signed);
    let (asked, time) = (attempt.asked.as_millisecond(), attempt.time.as_millisecond());
    if let Some(environment) = &environment {
        transaction
            .prepare_cached("INSERT INTO environment (factors) VALUES (?1) ON CONFLICT DO NOTHING")?
            .execute([environment])?;
    }
    transaction
        .prepare_cached(
            "INSERT INTO attempt (failure, time, class, exit_code, environment, asked, doubtful)
             VALUES (?1, ?2, ?3, ?4, (SELECT id FROM environment WHERE factors = ?5), ?6, ?7)",
        )?
        .execute(params![failure, time, class, exit_code, environment, asked, doubtful])?;
    transaction
        .prepare_cached(
            "DELETE FROM attempt WHERE failure = ?1 AND id NOT IN
                 (SELECT id FROM attempt WHERE failure = ?1 ORDER BY id DESC LIMIT ?2)",
        )?
        .execute(params![failure, MAX_ATTEMPTS])?;
    Ok(())
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    let milliseconds: i64 = row.get(column)?;
    Timestamp::from_millisecond(milliseconds)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, milliseconds))
}

fn text_array<'a>(texts: impl IntoIterator<Item = &'a str>) -> Array {
    Rc::new(texts.into_iter().map(|text| Value::Text(text.to_owned())).collect())
}

/// Leaves the write-ahead log and its index behind when the last process closes the database: who may not make them could
/// not read it otherwise (sqlite.org/wal.html, "Read-Only Databases").
#[allow(unsafe_code)]
fn keep_readable(connection: &Connection) -> rusqlite::Result<()> {
    // Or the log would stay as long as it ever was.
    connection.pragma_update(None, "journal_size_limit", 0)?;
    let mut on: std::ffi::c_int = 1;
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

/// The file that tells processes what is in the write-ahead log. One that is left over from another journal mode says
/// nothing.
fn wal_index(connection: &Connection, path: &Path) -> rusqlite::Result<Option<File>> {
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    Ok(if mode == "wal" { File::open(place::beside(path, "-shm")).ok() } else { None })
}

#[cfg(test)]
mod tests;
