//! What happened elsewhere: failures that were learned from binary caches or files, and failures that were published in caches.

use std::collections::HashSet;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rusqlite::types::Value;
use rusqlite::vtab::array::Array;
use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};

use super::columns::Milliseconds;
use super::lookup::text_array;
use super::write::put;
use super::{Database, DatabaseError};
use crate::elsewhere::{Learned, LearnedFailure};
use crate::environment::Environment;
use crate::failure_object::{PERIOD, period, time};
use crate::portable::Scope;
use crate::record::{Failure, Output};
use crate::store_path::OutputKey;

/// How many failures one transaction of an import records.
const PIECE: usize = 2000;
/// How long an import lets others write after each transaction. A process that waits looks again after at most as long.
const PAUSE: Duration = Duration::from_millis(20);

/// What became of a failure that happened elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learning {
    /// It was recorded.
    Recorded,
    /// It was known, or a newer one from elsewhere.
    Known,
    /// A newer attempt was made here.
    Contradicted,
    /// It was forgotten or withdrawn here.
    KeptOut,
    /// A record of other outputs has one of its outputs.
    OtherOutputs,
}

/// A failure that was published.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Published {
    /// The output that its object is named after.
    pub key: OutputKey,
    /// Its period.
    pub period: i64,
    /// The name of the key that signed it.
    pub signer: String,
    /// Whether its withdrawal was published, too.
    pub withdrawn: bool,
}

impl LearnedFailure {
    /// The failure as it is recorded.
    fn as_recorded(&self) -> Option<Failure> {
        let object = &self.object;
        let outputs = object.outputs.iter().map(|(name, key)| Output { name: name.clone(), key: key.clone() });
        let derivation = object.drv_path.as_str();
        Some(Failure {
            derivation: derivation.into(),
            outputs: outputs.collect(),
            store_dir: derivation.rsplit_once('/')?.0.to_owned(),
            name: object.name.clone(),
            system: object.system.clone(),
            class: object.class,
            exit_code: object.exit_code,
            environment: Environment::default(),
            message: object.reason.clone(),
            log: object.log.clone(),
            asked: time(object.last_failure)?,
            time: time(object.last_failure)?,
            doubtful: None,
            deciding_line: None,
            duration_ms: object.duration_ms,
            host: "unknown".to_owned(),
            nix_version: object.nix_version.clone(),
            scope: Scope::Sandbox,
        })
    }
}

impl Database {
    /// Records failures that were learned from binary caches, and keeps out those that were `withdrawn` before they were
    /// learned. An attempt that was made here is newer evidence than a failure that happened elsewhere before it, which is left
    /// out then. Returns how many were recorded.
    ///
    /// # Errors
    ///
    /// If the database can't be read or written.
    pub fn learn<'a>(
        &mut self,
        failures: &[LearnedFailure],
        withdrawn: impl IntoIterator<Item = &'a Learned>,
    ) -> Result<usize, DatabaseError> {
        let failed = self.failed();
        let learn = |transaction: &Transaction<'_>| {
            withdrawn.into_iter().try_for_each(|learned| keep_one_out(transaction, learned))?;
            let learned = failures.iter().map(|failure| learn_one(transaction, failure));
            let learned = learned.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(learned.into_iter().filter(|learning| *learning == Learning::Recorded).count())
        };
        self.changed();
        self.in_transaction(learn).map_err(failed)
    }

    /// Records failures that a person imports, as [`Database::learn`] does. What was learned and then forgotten here is kept out.
    /// Says what became of each. Each piece is one transaction, so that a build that records something does not wait for all of them.
    ///
    /// # Errors
    ///
    /// If the database can't be read or written. What was recorded until then stays.
    pub fn import(&mut self, failures: &[LearnedFailure]) -> Result<Vec<Learning>, DatabaseError> {
        let failed = self.failed();
        self.changed();
        let mut learned = Vec::with_capacity(failures.len());
        let mut import = |piece: &[LearnedFailure]| {
            let transaction = self.writing()?.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for failure in piece {
                learned.push(if is_kept_out(&transaction, failure)? {
                    Learning::KeptOut
                } else {
                    learn_one(&transaction, failure)?
                });
            }
            transaction.commit()
        };
        for (index, piece) in failures.chunks(PIECE).enumerate() {
            if index > 0 {
                thread::sleep(PAUSE);
            }
            import(piece).map_err(&failed)?;
        }
        Ok(learned)
    }

    /// Forgets failures that were withdrawn, and keeps them out. All that is known of their outputs goes: what was known
    /// before, the failure had replaced.
    ///
    /// # Errors
    ///
    /// If the database can't be read or written.
    pub fn withdraw<'a>(&mut self, withdrawn: impl IntoIterator<Item = &'a Learned>) -> Result<(), DatabaseError> {
        let failed = self.failed();
        let withdraw = |transaction: &Transaction<'_>| {
            for learned in withdrawn {
                keep_one_out(transaction, learned)?;
                let delete = "DELETE FROM failure WHERE id IN (SELECT failure FROM output WHERE path = ?1)";
                transaction.prepare_cached(delete)?.execute([&learned.key])?;
            }
            Ok(())
        };
        self.changed();
        self.in_transaction(withdraw).map_err(failed)
    }

    /// For which of `outputs` failures of some period are kept out.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn kept_out<'a>(
        &self,
        outputs: impl IntoIterator<Item = &'a OutputKey>,
    ) -> Result<HashSet<(OutputKey, i64)>, DatabaseError> {
        let wanted = text_array(outputs.into_iter().map(OutputKey::as_str));
        let query = || {
            let any = "SELECT EXISTS (SELECT 1 FROM kept_out)";
            if !self.connection.prepare_cached(any)?.query_row([], |row| row.get::<_, bool>(0))? {
                return Ok(HashSet::new());
            }
            let query = "SELECT path, period FROM rarray(?1) AS wanted CROSS JOIN kept_out ON path = wanted.value";
            let mut statement = self.connection.prepare_cached(query)?;
            let rows = statement.query_map([wanted], |row| Ok((row.get("path")?, row.get("period")?)))?;
            rows.collect::<rusqlite::Result<_>>()
        };
        query().map_err(self.failed())
    }

    /// Whether nothing came of a question to binary caches within the last hour (see `narinfo-cache-negative-ttl`).
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn was_asked(&self, question: u64, now: Timestamp) -> Result<bool, DatabaseError> {
        let query = "SELECT EXISTS (SELECT 1 FROM asked WHERE question = ?1 AND time BETWEEN ?2 AND ?3)";
        let since = Milliseconds(an_hour_before(now));
        let asked = || {
            let mut statement = self.connection.prepare_cached(query)?;
            statement.query_row(params![question.cast_signed(), since, Milliseconds(now)], |row| row.get(0))
        };
        asked().map_err(self.failed())
    }

    /// Notes that nothing came of a question. If the note can't be written at once, it is left out.
    pub fn note_asked(&mut self, question: u64, now: Timestamp) {
        let _ = self.at_once(|connection| {
            let since = Milliseconds(an_hour_before(now));
            connection.prepare_cached("DELETE FROM asked WHERE time < ?1")?.execute([since])?;
            let note = "INSERT OR REPLACE INTO asked (question, time) VALUES (?1, ?2)";
            connection.prepare_cached(note)?.execute(params![question.cast_signed(), Milliseconds(now)])
        });
    }

    /// What was published at a destination.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn published(&self, destination: &str) -> Result<Vec<Published>, DatabaseError> {
        let query = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT path, period, signer, withdrawn FROM published WHERE destination = ?1 ORDER BY path, period, signer",
            )?;
            let rows = statement.query_map([destination], |row| {
                Ok(Published {
                    key: row.get("path")?,
                    period: row.get("period")?,
                    signer: row.get("signer")?,
                    withdrawn: row.get("withdrawn")?,
                })
            })?;
            rows.collect::<rusqlite::Result<_>>()
        };
        query().map_err(self.failed())
    }

    /// Notes what was published at a destination. What was published so long ago that nobody believes it any more is dropped.
    ///
    /// # Errors
    ///
    /// If the database can't be read or written.
    pub fn note_published(
        &mut self,
        destination: &str,
        published: &[Published],
        now: Timestamp,
    ) -> Result<(), DatabaseError> {
        let failed = self.failed();
        let note = |transaction: &Transaction<'_>| {
            let old = period(now) - 2;
            transaction.prepare_cached("DELETE FROM published WHERE period < ?1")?.execute([old])?;
            let mut statement = transaction.prepare_cached(
                "INSERT OR REPLACE INTO published (destination, path, period, signer, withdrawn) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for Published { key, period, signer, withdrawn } in published {
                statement.execute(params![destination, key, period, signer, withdrawn])?;
            }
            Ok(())
        };
        self.in_transaction(note).map_err(failed)
    }
}

/// Records a failure that happened elsewhere, unless something newer is known.
fn learn_one(transaction: &Transaction<'_>, failure: &LearnedFailure) -> rusqlite::Result<Learning> {
    let Some(recorded) = failure.as_recorded() else { return Ok(Learning::Known) };
    let outputs = text_array(recorded.outputs.iter().map(|output| output.key.as_str()));
    // A derivation has the same outputs everywhere. The failure would take over the records of others, which are evidence.
    let others: bool = transaction
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM output
                 WHERE failure IN (SELECT failure FROM output WHERE path IN rarray(?1))
                 GROUP BY failure HAVING count(*) != ?2 OR sum(path IN rarray(?1)) != ?2)",
        )?
        .query_row(params![outputs, recorded.outputs.len()], |row| row.get(0))?;
    if others {
        return Ok(Learning::OtherOutputs);
    }
    let newest: Option<(Milliseconds, bool, bool)> = transaction
        .prepare_cached(
            "SELECT time, origin IS NULL AS here, class IS NOT NULL AS failed FROM attempt
             WHERE failure IN (SELECT failure FROM output WHERE path IN rarray(?1)) ORDER BY time DESC, id DESC LIMIT 1",
        )?
        .query_row([&outputs], |row| Ok((row.get("time")?, row.get("here")?, row.get("failed")?)))
        .optional()?;
    match newest {
        Some((Milliseconds(newest), here, failed)) if newest >= recorded.time => {
            // Objects have seconds.
            let is_same = failed && newest.as_second() == recorded.time.as_second();
            Ok(if here && !is_same { Learning::Contradicted } else { Learning::Known })
        }
        _ => {
            put(transaction, &recorded, Some((&failure.origin, time(failure.object.first_failure))))?;
            Ok(Learning::Recorded)
        }
    }
}

/// Whether a failure was forgotten or withdrawn here.
fn is_kept_out(transaction: &Transaction<'_>, failure: &LearnedFailure) -> rusqlite::Result<bool> {
    let outputs = text_array(failure.object.outputs.values().map(OutputKey::as_str));
    let Some(time) = time(failure.object.last_failure) else { return Ok(false) };
    transaction
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM kept_out WHERE path IN rarray(?1) AND period = ?2)")?
        .query_row(params![outputs, period(time)], |row| row.get(0))
}

fn keep_one_out(transaction: &Transaction<'_>, learned: &Learned) -> rusqlite::Result<()> {
    let keep_out = "INSERT OR IGNORE INTO kept_out (path, period) VALUES (?1, ?2)";
    transaction.prepare_cached(keep_out)?.execute(params![learned.key, learned.period])?;
    Ok(())
}

fn an_hour_before(now: Timestamp) -> Timestamp {
    now.saturating_sub(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MIN)
}

/// Keeps failures out that came from binary caches and are about to be forgotten. A later attempt elsewhere is another matter.
pub(super) fn keep_out(transaction: &Transaction<'_>, failures: &[i64]) -> rusqlite::Result<()> {
    let ids: Array = Rc::new(failures.iter().copied().map(Value::Integer).collect());
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO kept_out (path, period)
             SELECT output.path, attempt.time / (?2 * 1000) FROM attempt JOIN output ON output.failure = attempt.failure
             WHERE attempt.failure IN rarray(?1) AND attempt.origin IS NOT NULL",
        )?
        .execute(params![ids, PERIOD])?;
    let old = "DELETE FROM kept_out WHERE period < ?1";
    transaction.prepare_cached(old)?.execute([period(Timestamp::now()) - 2])?;
    Ok(())
}
