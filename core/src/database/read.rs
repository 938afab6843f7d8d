//! Reading records: from rows of several tables to a [`FailureRecord`] or a [`FailureSummary`].

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::rc::Rc;

use jiff::Timestamp;
use rusqlite::types::{Type, Value, ValueRef};
use rusqlite::vtab::array::Array;
use rusqlite::{Connection, Row, params_from_iter};

use super::{Database, DatabaseError, FailureId};
use crate::belief::{Attempt, FailedAttempt};
use crate::class::Class;
use crate::environment::Environment;
use crate::evidence::DecidingLine;
use crate::record::{FailureRecord, FailureSummary, Output, RetryRequest, Summarised};
use crate::store_path::{DerivationPath, OutputPath};

impl Database {
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

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    let milliseconds: i64 = row.get(column)?;
    Timestamp::from_millisecond(milliseconds)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, milliseconds))
}
