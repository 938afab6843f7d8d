//! Cleaning up: which records are in use, removing those that nobody uses, in small steps, and a log that has become long.

use std::fs::{self, Metadata};
use std::rc::Rc;

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::vtab::array::Array;
use rusqlite::{ErrorCode, Row, Transaction, params};

use super::{Database, DatabaseError, FailureId, counts, location};
use crate::counts::Day;

/// How long the write-ahead log may be, in bytes: twice as long as SQLite lets it become if nobody reads for long.
pub(super) const LONG_LOG: u64 = 8 << 20;

impl Database {
    /// Notes that failures stood in the way of a request, once a day at most. If the note can't be written at once, it
    /// is left out.
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

    /// Removes some of the records that are too many (more than `most`) or that nobody has used since `oldest`, the
    /// longest unused first. Returns how many were removed. One call removes only a few, and none while another process
    /// writes. Counts of as long ago are summed up, and of refusals as many are kept as records. If the write-ahead log has become
    /// long, it is emptied.
    ///
    /// # Errors
    ///
    /// If the database can't be read or written.
    pub fn tidy(&mut self, most: u64, oldest: Option<Timestamp>) -> Result<usize, DatabaseError> {
        /// As many as a process deletes at a time.
        const STEP: i64 = 64;
        if self.is_readonly() {
            return Ok(0);
        }
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let oldest_day = oldest.map_or(Day(i64::MIN), Day::of);
        let oldest = oldest.map_or(i64::MIN, |oldest| oldest.as_millisecond());
        let failed = self.failed();
        let tidied = self.at_once(|connection| {
            // Records matter more than counts.
            let _ = counts::sum_up_old(connection, most, oldest_day);
            let surplus = "SELECT max(0, count(*) - ?1) FROM failure";
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
        self.empty_long_log();
        match tidied {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(0),
            tidied => tidied.map_err(failed),
        }
    }

    /// Empties the write-ahead log if it is longer than [`LONG_LOG`] and nobody needs it. The log grows with all that is
    /// written while another process reads one state of the database for long, and SQLite alone cuts it only when two more
    /// processes have written. This waits for no lock: it copies what the log has while others read and write, and takes the
    /// lock of a writer only to cut a log that is copied already.
    fn empty_long_log(&mut self) {
        let is_long = |log: Metadata| log.len() > LONG_LOG;
        if !fs::metadata(location::beside(&self.path, "-wal")).is_ok_and(is_long) {
            return;
        }
        // It is only about space, so what does not work now may work the next time.
        let _ = self.at_once(|connection| {
            let copied = |row: &Row<'_>| Ok(row.get::<_, i64>("log")? == row.get::<_, i64>("checkpointed")?);
            if connection.query_row("PRAGMA wal_checkpoint(passive)", [], copied)? {
                connection.query_row("PRAGMA wal_checkpoint(truncate)", [], |_| Ok(()))?;
            }
            Ok(())
        });
    }

    /// Removes rows that belong to no record, and returns how many there were. SQLite gives the id of a record that is
    /// gone to a later record, which must not inherit anything.
    ///
    /// # Errors
    ///
    /// If the database can't be read or written.
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
}
