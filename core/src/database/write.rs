//! Writing: failures, successes and requests to retry, and forgetting. Each is one short transaction.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::vtab::array::Array;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::lookup::{standing, text_array};
use super::open::BUSY_TIMEOUT;
use super::{Database, DatabaseError, FailureId};
use crate::belief::{Attempt, FailedAttempt, MAX_ATTEMPTS};
use crate::record::{Failure, PLUGIN_VERSION};
use crate::store_path::OutputPath;

impl Database {
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

    /// Calls `work` with a connection that does not wait for others.
    pub(super) fn at_once<T>(&mut self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let connection = self.writing()?;
        connection.busy_timeout(Duration::ZERO)?;
        let result = work(connection);
        connection.busy_timeout(BUSY_TIMEOUT)?;
        result
    }
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
