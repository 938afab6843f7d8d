//! Reading records: from rows of several tables to a [`FailureRecord`] or a [`FailureSummary`].

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::rc::Rc;

use jiff::Timestamp;
use rusqlite::types::{Type, Value};
use rusqlite::vtab::array::Array;
use rusqlite::{Connection, params_from_iter};

use super::columns::{ATTEMPT, DETAILS, Milliseconds, NamedRow, OUTPUT, RETRY, SUMMARY};
use super::{Database, DatabaseError, FailureId};
use crate::belief::{Attempt, FailedAttempt, Origin};
use crate::environment::Environment;
use crate::record::{FailureRecord, FailureSummary, Output, RetryRequest};

impl Database {
    /// The records of `failures`. A failure that was forgotten in the meantime has none.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn records_of(&self, failures: &[FailureId]) -> Result<HashMap<FailureId, FailureRecord>, DatabaseError> {
        let failures: BTreeSet<FailureId> = failures.iter().copied().collect();
        let wanted: Array = Rc::new(failures.iter().map(|id| Value::Integer(id.0)).collect());
        self.read_records(Some(&wanted)).map(HashMap::from_iter).map_err(self.failed())
    }

    /// The record of a failure; `None` if it was forgotten in the meantime.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn record(&self, id: FailureId) -> Result<Option<FailureRecord>, DatabaseError> {
        Ok(self.records_of(&[id])?.remove(&id))
    }

    /// All records, newest first.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn records(&self) -> Result<Vec<FailureRecord>, DatabaseError> {
        let records = self.read_records(None).map_err(self.failed())?;
        Ok(newest_first(records, |record| record.summary.last_failure))
    }

    /// All records, newest first, as far as lists need them.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn summaries(&self) -> Result<Vec<FailureSummary>, DatabaseError> {
        let read = || {
            let transaction = self.connection.unchecked_transaction()?;
            let mut summaries = failures(&transaction, None, &[SUMMARY], summary)?;
            let all = summaries.iter_mut().map(|(id, summary)| (*id, summary));
            self.read_attempts_and_retries(&transaction, None, all.collect())?;
            transaction.commit()?;
            Ok(summaries)
        };
        Ok(newest_first(read().map_err(self.failed())?, |summary| summary.last_failure))
    }

    /// The records of some failures, or of all, in the order of their ids. Each table is read once for all of them.
    fn read_records(&self, wanted: Option<&Array>) -> rusqlite::Result<Vec<(FailureId, FailureRecord)>> {
        // One transaction, so that all tables are read in the same state.
        let transaction = self.connection.unchecked_transaction()?;
        let mut records = failures(&transaction, wanted, &[SUMMARY, DETAILS], record)?;
        let summaries = records.iter_mut().map(|(id, record)| (*id, &mut record.summary));
        self.read_attempts_and_retries(&transaction, wanted, summaries.collect())?;
        let all = records.iter_mut().map(|(id, record)| (*id, record));
        attach(&transaction, wanted, "output", OUTPUT, all, |row, record| {
            record.outputs.push(Output { name: row.get("name")?, key: row.get("path")? });
            Ok(())
        })?;
        for (_, record) in &mut records {
            record.outputs.sort_by(|one, other| one.name.cmp(&other.name));
        }
        transaction.commit()?;
        Ok(records)
    }

    /// The ids of all failures and when they happened last, newest first.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn newest_first(&self) -> Result<Vec<(FailureId, Timestamp)>, DatabaseError> {
        let read = || {
            let query = "SELECT id, last_failure FROM failure ORDER BY last_failure DESC, id DESC";
            let mut statement = self.connection.prepare_cached(query)?;
            let rows = statement.query_map([], |row| {
                let Milliseconds(time) = row.get(1)?;
                Ok((row.get(0)?, time))
            })?;
            rows.collect::<rusqlite::Result<_>>()
        };
        read().map_err(self.failed())
    }

    /// Adds their attempts and requests to retry to `summaries`, which are in the order of their ids.
    fn read_attempts_and_retries(
        &self,
        connection: &Connection,
        wanted: Option<&Array>,
        mut summaries: Vec<(FailureId, &mut FailureSummary)>,
    ) -> rusqlite::Result<()> {
        let mut environments = HashMap::new();
        let all = summaries.iter_mut().map(|(id, summary)| (*id, &mut **summary));
        attach(connection, wanted, "attempt", ATTEMPT, all, |row, summary| {
            let time = row.time("time")?;
            let failure = match row.get("class")? {
                None => None,
                Some(class) => Some(FailedAttempt {
                    class,
                    exit_code: row.get("exit_code")?,
                    environment: self.environment(connection, &mut environments, row.get("environment")?)?,
                    doubtful: row.get::<Option<i64>>("doubtful")?.map(i64::cast_unsigned),
                    origin: row.get::<Option<String>>("origin")?.map(|json| origin(&json)).transpose()?,
                }),
            };
            let asked = row.get::<Option<Milliseconds>>("asked")?.map_or(time, |Milliseconds(asked)| asked);
            summary.history.push(Attempt { asked, time, failure });
            Ok(())
        })?;
        let all = summaries.iter_mut().map(|(id, summary)| (*id, &mut **summary));
        attach(connection, wanted, "retry", RETRY, all, |row, summary| {
            summary.retries.push(RetryRequest { user: row.get("user")?, time: row.time("time")? });
            Ok(())
        })?;
        for (_, summary) in summaries {
            summary.history.reverse();
            summary.retries.sort_by_key(|retry| retry.user);
        }
        Ok(())
    }

    /// The environment with this id. Those that this read has met before are in `read`; of others, the text is looked
    /// up.
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
        let json = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?.get_ref("factors")?.as_str()?;
        let mut known = self.environments.borrow_mut();
        let environment: Environment = match known.get(json) {
            Some(environment) => environment.clone(),
            None => serde_json::from_str(json).map_err(unreadable)?,
        };
        if known.len() < MANY && !known.contains_key(json) {
            known.insert(json.to_owned(), environment.clone());
        }
        read.insert(number, environment.clone());
        Ok(environment)
    }
}

fn summary(row: &NamedRow<'_>) -> rusqlite::Result<FailureSummary> {
    Ok(FailureSummary {
        derivation: row.get("drv_path")?,
        name: row.get("name")?,
        system: row.get("system")?,
        class: row.get("class")?,
        exit_code: row.get("exit_code")?,
        first_failure: row.time("first_failure")?,
        last_failure: row.time("last_failure")?,
        attempts: row.get("attempts")?,
        history: Vec::new(),
        retries: Vec::new(),
        duration_ms: row.get("duration_ms")?,
    })
}

fn record(row: &NamedRow<'_>) -> rusqlite::Result<FailureRecord> {
    // The deciding line is only for people to read, so one that can't be read is as good as none.
    let deciding_line: Option<String> = row.get("evidence")?;
    let deciding_line = deciding_line.and_then(|json| serde_json::from_str(&json).ok());
    Ok(FailureRecord {
        summary: summary(row)?,
        outputs: Vec::new(),
        store_dir: row.get("store_dir")?,
        message: row.get("message")?,
        log: row.get("log")?,
        host: row.get("host")?,
        nix_version: row.get("nix_version")?,
        plugin_version: row.get("plugin_version")?,
        scope: row.get("scope")?,
        deciding_line,
    })
}

fn newest_first<R>(mut records: Vec<(FailureId, R)>, last_failure: fn(&R) -> Timestamp) -> Vec<R> {
    records.sort_by_key(|(id, record)| Reverse((last_failure(record), *id)));
    records.into_iter().map(|(_, record)| record).collect()
}

/// What `convert` makes of these columns of some failures (`wanted`, in their order) or of all, in the order of their ids.
fn failures<R>(
    connection: &Connection,
    wanted: Option<&Array>,
    columns: &[&[&str]],
    convert: fn(&NamedRow<'_>) -> rusqlite::Result<R>,
) -> rusqlite::Result<Vec<(FailureId, R)>> {
    let columns = [&["id"], columns.concat().as_slice()].concat();
    let mut statement = connection.prepare_cached(&in_order("failure", &columns, "id", wanted))?;
    let rows = statement.query_map(params_from_iter(wanted), |row| {
        let row = NamedRow { row, columns: &columns };
        Ok((row.get("id")?, convert(&row)?))
    })?;
    rows.collect()
}

/// A query for the rows of a table that belong to some failures (`wanted`, in their order) or to all, in the order of the
/// failures, whose ids are in the column `key`.
fn in_order(table: &str, columns: &[&str], key: &str, wanted: Option<&Array>) -> String {
    let columns = columns.join(", ");
    match wanted {
        Some(_) => {
            format!("SELECT {columns} FROM rarray(?1) AS wanted CROSS JOIN {table} ON {table}.{key} = wanted.value")
        }
        None => format!("SELECT {columns} FROM {table} ORDER BY {key}"),
    }
}

/// Calls `add` with each row of a table that belongs to one of `records`, and with that record. The records are in the
/// order of their ids; the rows of each record come in the order of the table.
fn attach<'a, R: 'a>(
    connection: &Connection,
    wanted: Option<&Array>,
    table: &str,
    columns: &[&str],
    records: impl Iterator<Item = (FailureId, &'a mut R)>,
    mut add: impl FnMut(&NamedRow<'_>, &mut R) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&in_order(table, columns, "failure", wanted))?;
    let mut rows = statement.query(params_from_iter(wanted))?;
    let mut records = records.peekable();
    while let Some(row) = rows.next()? {
        let row = NamedRow { row, columns };
        let failure: FailureId = row.get("failure")?;
        while records.next_if(|(id, _)| *id < failure).is_some() {}
        if let Some((_, record)) = records.peek_mut().filter(|(id, _)| *id == failure) {
            add(&row, record)?;
        }
    }
    Ok(())
}

/// Where a failure was learned. If it can't be read, nobody can be believed.
pub(super) fn origin(json: &str) -> rusqlite::Result<Origin> {
    serde_json::from_str(json).map_err(unreadable)
}

fn unreadable(why: impl Into<Box<dyn Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, why.into())
}
