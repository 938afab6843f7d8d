//! Writing: failures, successes and requests to retry, and forgetting. Each is one short transaction.

use std::collections::HashSet;
use std::rc::Rc;

use jiff::Timestamp;
use rusqlite::types;
use rusqlite::vtab::array::Array;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::columns::{self, ATTEMPT, BOOKKEEPING, DETAILS, Milliseconds, OUTPUT, SUMMARY, Value};
use super::elsewhere::keep_out;
use super::freshness::Remembered;
use super::lookup::{standing, text_array};
use super::open::wait_when_busy;
use super::{Database, DatabaseError, FailureId};
use crate::belief::{Attempt, FailedAttempt, MAX_ATTEMPTS, Origin, Source};
use crate::environment::Environment;
use crate::record::{Failure, PLUGIN_VERSION};
use crate::store_path::OutputKey;

impl Database {
    /// Records a failure: as a new record, or as one more attempt of the record that its outputs have.
    ///
    /// # Errors
    ///
    /// If the database can't be read or written.
    pub fn insert(&mut self, failure: &Failure) -> Result<(), DatabaseError> {
        let failed = self.failed();
        for output in &failure.outputs {
            self.remembered.unknown.remove(&output.key);
        }
        self.writes += 1;
        self.in_transaction(|transaction| put(transaction, failure, None)).map_err(failed)
    }

    /// Notes that `outputs` were built, so that their earlier failures do not stand any more. Returns how many failures
    /// that were.
    ///
    /// # Errors
    ///
    /// If the database can't be read or written.
    pub fn succeed<'a>(
        &mut self,
        outputs: impl IntoIterator<Item = &'a OutputKey>,
        time: Timestamp,
    ) -> Result<usize, DatabaseError> {
        let outputs = text_array(outputs.into_iter().map(OutputKey::as_str));
        let failed = self.failed();
        // Most builds succeed and were never known to fail: no write lock for those.
        if standing(&self.connection, &outputs).map_err(&failed)?.is_empty() {
            return Ok(0);
        }
        let succeed = |transaction: &Transaction<'_>| {
            let standing: HashSet<FailureId> = standing(transaction, &outputs)?.into_values().collect();
            for id in &standing {
                transaction
                    .prepare_cached("UPDATE failure SET stands = 0, used = ?2 WHERE id = ?1")?
                    .execute(params![id, Milliseconds(time)])?;
                add_attempt(transaction, *id, &Attempt { asked: time, time, failure: None })?;
                drop_oldest_attempts(transaction, *id)?;
            }
            Ok(standing.len())
        };
        self.in_transaction(succeed).map_err(failed)
    }

    /// Forgets failures. Returns how many of them there were.
    ///
    /// # Errors
    ///
    /// If the database can't be read or written.
    pub fn forget_failures(&mut self, failures: &[FailureId]) -> Result<usize, DatabaseError> {
        let failed = self.failed();
        let forget = |transaction: &Transaction<'_>| {
            keep_out(transaction, &failures.iter().map(|id| id.0).collect::<Vec<_>>())?;
            let mut statement = transaction.prepare_cached("DELETE FROM failure WHERE id = ?1")?;
            failures.iter().map(|id| statement.execute([id])).sum()
        };
        self.in_transaction(forget).map_err(failed)
    }

    /// Notes that `user` wants failures to be tried once more. Returns how many of them there were. The next attempt
    /// ends the request.
    ///
    /// # Errors
    ///
    /// If the database can't be read or written.
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

    /// Forgets all answers, because this connection is about to write.
    pub(super) fn changed(&mut self) {
        self.writes += 1;
        self.remembered = Remembered::default();
    }

    pub(super) fn in_transaction<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        // Immediate: a transaction that starts as a reader can't wait for its turn to write.
        let transaction = self.writing()?.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = work(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }

    /// Calls `work` with a connection that does not wait for other processes.
    pub(super) fn at_once<T>(&mut self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let connection = self.writing()?;
        connection.busy_handler(None)?;
        let result = work(connection);
        wait_when_busy(connection)?;
        result
    }
}

/// Records a failure: as a new record, or as one more attempt of the record that its outputs have. `learned` tells where it was
/// learned, and when it first failed there.
pub(super) fn put(
    transaction: &Transaction<'_>,
    failure: &Failure,
    learned: Option<(&Origin, Option<Timestamp>)>,
) -> rusqlite::Result<()> {
    let outputs = text_array(failure.outputs.iter().map(|output| output.key.as_str()));
    let earlier: Vec<i64> = transaction
        .prepare_cached("SELECT DISTINCT failure FROM output WHERE path IN rarray(?1)")?
        .query_map([&outputs], |row| row.get("failure"))?
        .collect::<Result<_, _>>()?;
    // The statements about earlier records cost more than all others, and most failures have no earlier record.
    let has_earlier = !earlier.is_empty();
    let earlier: Array = Rc::new(earlier.into_iter().map(types::Value::Integer).collect());
    let (first, last_used, attempts): (Option<Milliseconds>, Option<Milliseconds>, u32) = transaction
        .prepare_cached(
            "SELECT min(first_failure) AS first, max(used) AS used, min(coalesce(sum(attempts), 0), 4294967295) AS attempts
             FROM failure WHERE id IN rarray(?1)",
        )?
        .query_row([&earlier], |row| Ok((row.get("first")?, row.get("used")?, row.get("attempts")?)))?;
    if has_earlier {
        transaction.prepare_cached("DELETE FROM output WHERE failure IN rarray(?1)")?.execute([&earlier])?;
    }
    let deciding_line = failure.deciding_line.as_ref().map(serde_json::to_string).transpose();
    let deciding_line = deciding_line.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let time = Milliseconds(failure.time);
    let first_elsewhere = learned.and_then(|(_, first)| first).map(Milliseconds);
    let first_failure = first.or(first_elsewhere).unwrap_or(time);
    let used = match learned.map(|(origin, _)| &origin.source) {
        None => failure.time,
        // It was asked for by a build, which uses it from this moment on.
        Some(Source::Cache { .. }) => Timestamp::now(),
        // It may never be: a large file must not take the room of what is used.
        Some(Source::File { .. } | Source::Hydra { .. }) => {
            last_used.map_or(failure.time, |Milliseconds(used)| used.max(failure.time))
        }
    };
    // What is learned counts all attempts that were made there, also those that were learned before.
    let attempts = match learned {
        Some((origin, _)) => attempts.max(origin.attempts),
        None => attempts.saturating_add(1),
    };
    let values: &[Value<'_>] = &[
        (":drv_path", &failure.derivation),
        (":name", &failure.name),
        (":class", &failure.class),
        (":exit_code", &failure.exit_code),
        (":last_failure", &time),
        (":attempts", &attempts),
        (":duration_ms", &failure.duration_ms),
        (":store_dir", &failure.store_dir),
        (":system", &failure.system),
        (":message", &failure.message),
        (":log", &failure.log),
        (":first_failure", &first_failure),
        (":host", &failure.host),
        (":nix_version", &failure.nix_version),
        (":plugin_version", &PLUGIN_VERSION),
        (":evidence", &deciding_line),
        (":scope", &failure.scope),
        (":used", &Milliseconds(used)),
    ];
    let id = columns::insert(transaction, "failure", &[SUMMARY, DETAILS, BOOKKEEPING], values)?;
    for output in &failure.outputs {
        let values: &[Value<'_>] = &[(":failure", &id), (":name", &output.name), (":path", &output.key)];
        columns::insert(transaction, "output", &[OUTPUT], values)?;
    }
    if has_earlier {
        // Everybody can make up a fetch that fails and has the outputs of one that works.
        let same = "UPDATE attempt SET failure = ?1 WHERE failure IN (SELECT id FROM failure
                        WHERE id IN rarray(?2) AND (?3 != 'fetch' OR drv_path = ?4))";
        transaction.prepare_cached(same)?.execute(params![id, earlier, failure.class, failure.derivation])?;
        transaction.prepare_cached("DELETE FROM failure WHERE id IN rarray(?1)")?.execute([&earlier])?;
    }
    let failed = FailedAttempt {
        class: failure.class,
        exit_code: failure.exit_code,
        environment: failure.environment.clone(),
        doubtful: failure.doubtful,
        origin: learned.map(|(origin, _)| origin.clone()),
    };
    add_attempt(transaction, id, &Attempt { asked: failure.asked, time: failure.time, failure: Some(failed) })?;
    // Another program may have left attempts behind that this new record inherits. Then its next attempt drops the
    // oldest.
    if has_earlier { drop_oldest_attempts(transaction, id) } else { Ok(()) }
}

/// Adds an attempt to a failure.
fn add_attempt(transaction: &Transaction<'_>, failure: FailureId, attempt: &Attempt) -> rusqlite::Result<()> {
    let failed = attempt.failure.as_ref();
    let environment = failed.map(|failed| environment_id(transaction, &failed.environment)).transpose()?;
    let origin = failed.and_then(|failed| failed.origin.as_ref()).map(serde_json::to_string).transpose();
    let origin = origin.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let values: &[Value<'_>] = &[
        (":failure", &failure),
        (":time", &Milliseconds(attempt.time)),
        (":class", &failed.map(|failed| failed.class)),
        (":exit_code", &failed.and_then(|failed| failed.exit_code)),
        (":environment", &environment),
        (":asked", &Milliseconds(attempt.asked)),
        (":doubtful", &failed.and_then(|failed| failed.doubtful).map(u64::cast_signed)),
        (":origin", &origin),
    ];
    columns::insert(transaction, "attempt", &[ATTEMPT], values)?;
    Ok(())
}

/// Drops the oldest attempts of a failure that are more than [`MAX_ATTEMPTS`].
fn drop_oldest_attempts(transaction: &Transaction<'_>, failure: FailureId) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "DELETE FROM attempt WHERE failure = ?1 AND id NOT IN
                 (SELECT id FROM attempt WHERE failure = ?1 ORDER BY id DESC LIMIT ?2)",
        )?
        .execute(params![failure, MAX_ATTEMPTS])?;
    Ok(())
}

/// The number of an environment, which gets one if it has none.
fn environment_id(transaction: &Transaction<'_>, environment: &Environment) -> rusqlite::Result<i64> {
    let json = serde_json::to_string(environment);
    let json = json.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    transaction
        .prepare_cached("INSERT INTO environment (factors) VALUES (?1) ON CONFLICT DO NOTHING")?
        .execute([&json])?;
    transaction.prepare_cached("SELECT id FROM environment WHERE factors = ?1")?.query_row([&json], |row| row.get("id"))
}
