//! What has changed since the last look, for those who follow the database. A look costs more than a question whether there is
//! anything new ([`Database::version`]), but does not read what has not changed, and holds no transaction afterwards.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::vtab::array::Array;
use rusqlite::{Connection, OptionalExtension, params};

use super::columns::Milliseconds;
use super::{Database, DatabaseError, FailureId};
use crate::counts::Day;
use crate::record::FailureRecord;
use crate::store_path::DerivationPath;

/// Something that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When; the time of the look if the database does not tell.
    pub time: Timestamp,
    /// The derivation.
    pub derivation: DerivationPath,
    /// What it was.
    pub what: What,
}

/// What has changed of a derivation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A failure was recorded, here or elsewhere. This is its record at the time of the look.
    Recorded(Box<FailureRecord>),
    /// It was built, so that its failure does not stand any more.
    Built,
    /// Its record was forgotten, withdrawn, or removed because nobody has used it for long.
    Forgotten,
    /// This user wants the next build to try it once more.
    Retry(u32),
    /// It was refused so many times.
    Refused(i64),
}

/// What was there at the last look.
#[derive(Debug)]
pub struct Seen {
    records: HashMap<FailureId, SeenRecord>,
    retries: HashSet<(FailureId, u32, i64)>,
    /// The last attempts, with their ids and times, the newest one last. SQLite gives the id of a row that is gone to a later one,
    /// so an id alone does not tell what is new.
    attempts: Vec<(i64, i64)>,
    /// How often each derivation of a row of `refusal` was refused, by the id of the row, for the last days.
    refusals: HashMap<i64, i64>,
    /// If none of these attempts is there any more: the time after which attempts are new.
    since: i64,
}

/// A record at the last look.
#[derive(Debug)]
struct SeenRecord {
    derivation: DerivationPath,
    /// The id and time of its last attempt.
    attempt: (i64, i64),
}

/// How many of the last attempts are kept in mind.
const LAST_ATTEMPTS: usize = 256;

impl Seen {
    /// For a database that was not there before this time: all that happened later is new.
    pub fn nothing_since(time: Timestamp) -> Seen {
        Seen {
            records: HashMap::new(),
            retries: HashSet::new(),
            attempts: Vec::new(),
            refusals: HashMap::new(),
            since: time.as_millisecond(),
        }
    }
}

impl Database {
    /// All that is there now.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn seen(&self, now: Timestamp) -> Result<Seen, DatabaseError> {
        let read = || {
            let mut seen = Seen::nothing_since(Timestamp::MAX);
            let transaction = self.connection.unchecked_transaction()?;
            seen.look(&transaction, now)?;
            transaction.commit()?;
            Ok(seen)
        };
        read().map_err(self.failed())
    }

    /// What has changed since `seen`, which becomes what is there now.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn changes(&self, seen: &mut Seen, now: Timestamp) -> Result<Vec<Change>, DatabaseError> {
        let look = |seen: &mut Seen| {
            // One transaction, so that all tables are read in the same state.
            let transaction = self.connection.unchecked_transaction()?;
            let changes = seen.look(&transaction, now)?;
            transaction.commit()?;
            Ok(changes)
        };
        let found = look(seen).map_err(self.failed())?;
        let recorded: Vec<FailureId> = found.iter().filter_map(|found| found.recorded()).collect();
        let records = self.records_of(&recorded)?;
        let change = |found: Found| {
            let what = match found.what {
                // If it is gone again already, the next look tells that.
                FoundWhat::Recorded(id) => What::Recorded(Box::new(records.get(&id)?.clone())),
                FoundWhat::Other(what) => what,
            };
            Some(Change { time: found.time, derivation: found.derivation, what })
        };
        Ok(found.into_iter().filter_map(change).collect())
    }
}

/// A change whose record is still to be read.
struct Found {
    time: Timestamp,
    derivation: DerivationPath,
    what: FoundWhat,
}

enum FoundWhat {
    Recorded(FailureId),
    Other(What),
}

impl Found {
    fn recorded(&self) -> Option<FailureId> {
        match self.what {
            FoundWhat::Recorded(id) => Some(id),
            FoundWhat::Other(_) => None,
        }
    }
}

/// An attempt that is new.
struct NewAttempt {
    id: i64,
    failure: FailureId,
    time: Timestamp,
    failed: bool,
}

impl Seen {
    fn look(&mut self, connection: &Connection, now: Timestamp) -> rusqlite::Result<Vec<Found>> {
        let mut found = Vec::new();
        let attempts = self.new_attempts(connection)?;
        let mut gone = self.replaced(connection, &attempts)?;
        gone.extend(self.records(connection)?);
        for attempt in &attempts {
            let Some(record) = self.records.get_mut(&attempt.failure) else { continue };
            record.attempt = (attempt.id, attempt.time.as_millisecond());
            let what = match attempt.failed {
                true => FoundWhat::Recorded(attempt.failure),
                false => FoundWhat::Other(What::Built),
            };
            found.push(Found { time: attempt.time, derivation: record.derivation.clone(), what });
        }
        for (user, time, derivation) in self.new_retries(connection)? {
            found.push(Found { time, derivation, what: FoundWhat::Other(What::Retry(user)) });
        }
        found.sort_by_key(|found| found.time);
        // They are written down some time after they have happened.
        for (derivation, count) in self.new_refusals(connection, now)? {
            found.push(Found { time: now, derivation, what: FoundWhat::Other(What::Refused(count)) });
        }
        for SeenRecord { derivation, attempt } in gone {
            // Each new attempt makes a new record, which takes over the attempts of the old one.
            if !is_there(connection, attempt)? {
                found.push(Found { time: now, derivation, what: FoundWhat::Other(What::Forgotten) });
            }
        }
        self.remember_attempts(connection)?;
        Ok(found)
    }

    /// The attempts that are new, in their order.
    fn new_attempts(&self, connection: &Connection) -> rusqlite::Result<Vec<NewAttempt>> {
        let mut last = None;
        for attempt in self.attempts.iter().rev() {
            if is_there(connection, *attempt)? {
                last = Some(attempt.0);
                break;
            }
        }
        let (after, since) = last.map_or((0, self.since), |last| (last, i64::MIN));
        let mut statement = connection.prepare_cached(
            "SELECT id, failure, time, class IS NOT NULL AS failed FROM attempt WHERE id > ?1 AND time > ?2 ORDER BY id",
        )?;
        let rows = statement.query_map([after, since], |row| {
            let Milliseconds(time) = row.get("time")?;
            Ok(NewAttempt { id: row.get("id")?, failure: row.get("failure")?, time, failed: row.get("failed")? })
        })?;
        rows.collect()
    }

    /// The records that were gone before one of these attempts was made, whose record has taken over their ids.
    fn replaced(&mut self, connection: &Connection, attempts: &[NewAttempt]) -> rusqlite::Result<Vec<SeenRecord>> {
        let mut replaced = Vec::new();
        for NewAttempt { failure, .. } in attempts {
            if let Some(record) = self.records.get(failure)
                && !is_there(connection, record.attempt)?
            {
                replaced.extend(self.records.remove(failure));
            }
        }
        Ok(replaced)
    }

    /// Takes over which records there are, and returns those that are gone.
    fn records(&mut self, connection: &Connection) -> rusqlite::Result<Vec<SeenRecord>> {
        let mut statement = connection.prepare_cached("SELECT id FROM failure")?;
        let there = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<HashSet<FailureId>>>()?;
        let new: Vec<Value> =
            there.iter().filter(|id| !self.records.contains_key(id)).map(|id| Value::Integer(id.0)).collect();
        let gone: Vec<FailureId> = self.records.keys().filter(|id| !there.contains(id)).copied().collect();
        let gone = gone.iter().filter_map(|id| self.records.remove(id)).collect();
        let new: Array = Rc::new(new);
        let mut statement = connection.prepare_cached(
            "SELECT failure.id AS id, drv_path, coalesce(max(attempt.id), 0) AS attempt, coalesce(attempt.time, 0) AS time
             FROM rarray(?1) AS wanted CROSS JOIN failure ON failure.id = wanted.value
             LEFT JOIN attempt ON attempt.failure = failure.id GROUP BY failure.id",
        )?;
        let rows = statement.query_map([new], |row| {
            let attempt = (row.get("attempt")?, row.get("time")?);
            Ok((row.get("id")?, SeenRecord { derivation: row.get("drv_path")?, attempt }))
        })?;
        for row in rows {
            let (id, record) = row?;
            self.records.insert(id, record);
        }
        Ok(gone)
    }

    /// The requests to retry that are new: by whom, when, and of which derivation.
    fn new_retries(&mut self, connection: &Connection) -> rusqlite::Result<Vec<(u32, Timestamp, DerivationPath)>> {
        let mut statement = connection.prepare_cached("SELECT failure, user, time FROM retry")?;
        let rows = statement.query_map([], |row| Ok((row.get("failure")?, row.get("user")?, row.get("time")?)))?;
        let retries = rows.collect::<rusqlite::Result<HashSet<(FailureId, u32, i64)>>>()?;
        let is_new = |retry: &&(FailureId, u32, i64)| !self.retries.contains(retry);
        let new = retries.iter().filter(is_new).filter_map(|(failure, user, time)| {
            let derivation = self.records.get(failure)?.derivation.clone();
            Some((*user, Timestamp::from_millisecond(*time).ok()?, derivation))
        });
        let new = new.collect();
        self.retries = retries;
        Ok(new)
    }

    /// The derivations that were refused, and how often.
    fn new_refusals(
        &mut self,
        connection: &Connection,
        now: Timestamp,
    ) -> rusqlite::Result<Vec<(DerivationPath, i64)>> {
        // A process may write down what it has counted before midnight.
        let yesterday = Day(Day::of(now).0.saturating_sub(1));
        let mut statement =
            connection.prepare_cached("SELECT id, drv_path, refusals FROM refusal WHERE day >= ?1 ORDER BY id")?;
        let rows =
            statement.query_map([yesterday], |row| Ok((row.get("id")?, row.get("drv_path")?, row.get("refusals")?)))?;
        let (mut refusals, mut new) = (HashMap::new(), Vec::new());
        for row in rows {
            let (id, derivation, count) = row?;
            refusals.insert(id, count);
            let more = count - self.refusals.get(&id).copied().unwrap_or_default();
            if more > 0 {
                new.push((derivation, more));
            }
        }
        self.refusals = refusals;
        Ok(new)
    }

    fn remember_attempts(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached("SELECT id, time FROM attempt ORDER BY id DESC LIMIT ?1")?;
        let rows = statement.query_map([LAST_ATTEMPTS], |row| Ok((row.get("id")?, row.get("time")?)))?;
        self.attempts = rows.collect::<rusqlite::Result<_>>()?;
        self.attempts.reverse();
        // Of an empty table, all that comes is new.
        self.since = self.attempts.iter().map(|(_, time)| *time).max().unwrap_or(i64::MIN);
        Ok(())
    }
}

/// Whether there is still this attempt.
fn is_there(connection: &Connection, (id, time): (i64, i64)) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM attempt WHERE id = ?1 AND time = ?2")?;
    Ok(statement.query_row(params![id, time], |_| Ok(())).optional()?.is_some())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::counts::RefusedDerivation;
    use crate::database::location::Audience;
    use crate::database::tests::{database, failure, outputs};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Two connections: one that writes, and one that follows.
    fn followed() -> (TempDir, Database, Database) {
        let (folder, database) = database();
        let follower = Database::open_readonly(database.path()).unwrap().unwrap();
        (folder, database, follower)
    }

    /// What has changed, in words.
    fn changes(follower: &Database, seen: &mut Seen) -> Vec<String> {
        let word = |change: Change| {
            let name = change.derivation.as_str().trim_start_matches("/nix/store/").trim_end_matches(".drv").to_owned();
            match change.what {
                What::Recorded(record) => format!("{name} failed {} times", record.summary.attempts),
                What::Built => format!("{name} built"),
                What::Forgotten => format!("{name} forgotten"),
                What::Retry(user) => format!("{name} retried by {user}"),
                What::Refused(count) => format!("{name} refused {count}"),
            }
        };
        follower.changes(seen, at(100_000)).unwrap().into_iter().map(word).collect()
    }

    fn forget(database: &mut Database, output: &str) {
        let found = database.find([format!("/nix/store/{output}").as_str()]).unwrap();
        assert_eq!(database.forget_failures(&found).unwrap(), 1);
    }

    #[test]
    fn each_change_is_told_once_and_in_order() {
        let (_folder, mut database, follower) = followed();
        database.insert(&failure("old", &["old"], 10)).unwrap();
        let mut seen = follower.seen(at(100_000)).unwrap();
        assert!(changes(&follower, &mut seen).is_empty());
        database.insert(&failure("b", &["b"], 20)).unwrap();
        database.insert(&failure("a", &["a"], 30)).unwrap();
        database.insert(&failure("old", &["old"], 40)).unwrap();
        assert_eq!(changes(&follower, &mut seen), ["b failed 1 times", "a failed 1 times", "old failed 2 times"]);
        assert!(changes(&follower, &mut seen).is_empty());
        let found = database.find(["/nix/store/a"]).unwrap();
        database.request_retry(&found, 7, at(50)).unwrap();
        database.succeed(&outputs(&["b"]), at(60)).unwrap();
        forget(&mut database, "old");
        assert_eq!(changes(&follower, &mut seen), ["a retried by 7", "b built", "old forgotten"]);
        database.insert(&failure("a", &["a"], 70)).unwrap();
        database.succeed(&outputs(&["a"]), at(80)).unwrap();
        assert_eq!(changes(&follower, &mut seen), ["a failed 2 times", "a built"]);
        assert!(changes(&follower, &mut seen).is_empty());
    }

    /// SQLite gives the ids of what was forgotten to what comes next.
    #[test]
    fn what_comes_in_the_place_of_what_was_forgotten_is_new() {
        let (_folder, mut database, follower) = followed();
        for name in ["a", "b"] {
            database.insert(&failure(name, &[name], 10)).unwrap();
        }
        let mut seen = follower.seen(at(100_000)).unwrap();
        forget(&mut database, "b");
        database.insert(&failure("c", &["c"], 20)).unwrap();
        assert_eq!(changes(&follower, &mut seen), ["c failed 1 times", "b forgotten"]);
        forget(&mut database, "a");
        forget(&mut database, "c");
        database.insert(&failure("c", &["c"], 30)).unwrap();
        let mut found = changes(&follower, &mut seen);
        found[1..].sort();
        assert_eq!(found, ["c failed 1 times", "a forgotten", "c forgotten"]);
        forget(&mut database, "c");
        assert_eq!(changes(&follower, &mut seen), ["c forgotten"]);
        database.insert(&failure("d", &["d"], 5)).unwrap();
        assert_eq!(changes(&follower, &mut seen), ["d failed 1 times"]);
    }

    #[test]
    fn of_a_new_database_only_what_has_just_happened_is_new() {
        let (_folder, mut database, follower) = followed();
        for second in [10, 20, 30] {
            let name = second.to_string();
            database.insert(&failure(&name, &[&name], second)).unwrap();
        }
        let mut seen = Seen::nothing_since(at(15));
        assert_eq!(changes(&follower, &mut seen), ["20 failed 1 times", "30 failed 1 times"]);
        assert!(changes(&follower, &mut seen).is_empty());
    }

    #[test]
    fn refusals_are_told_by_how_many_are_new() {
        let (folder, mut database, follower) = followed();
        let mut other =
            Database::open_or_create(&folder.path().join("a/failures.sqlite"), Audience::Everybody).unwrap();
        let refuse = |database: &mut Database, name: &str, times: usize| {
            for _ in 0..times {
                let refused = RefusedDerivation {
                    derivation: format!("/nix/store/{name}.drv").into(),
                    name: name.to_owned(),
                    system: String::new(),
                    class: crate::class::Class::Builder,
                    origin: None,
                };
                database.counts().refused(refused, 1, at(100_000));
            }
            database.write_counts();
        };
        refuse(&mut database, "a", 2);
        let mut seen = follower.seen(at(100_000)).unwrap();
        refuse(&mut other, "a", 3);
        refuse(&mut database, "b", 1);
        assert_eq!(changes(&follower, &mut seen), ["a refused 3", "b refused 1"]);
        assert!(changes(&follower, &mut seen).is_empty());
    }
}
