//! Counts by day: of refusals, and of builds that failed. They are collected in memory and written in batches, for which nobody
//! waits: a batch that can't be written at once is kept for the next time.

use std::mem;
use std::rc::Rc;

use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, Value, ValueRef};
use rusqlite::vtab::array::Array;
use rusqlite::{Connection, ErrorCode, Row, Transaction, TransactionBehavior, params};

use super::{Database, DatabaseError};
use crate::class::Class;
use crate::counts::{Counts, Day, Tally, Verdict};

/// A process asks for old counts to be removed after each so many derivations that were not refused before on the same day.
const TIDIED_AFTER: i64 = 64;

/// As many old counts are removed at a time.
const STEP: i64 = 4096;

/// By what refusals are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The name of the derivation.
    Name,
    /// The class of the failure.
    Class,
    /// Where the failure was learned, as people are told. Empty if it happened here.
    Origin,
}

impl By {
    fn column(self) -> &'static str {
        match self {
            By::Name => "name",
            By::Class => "class",
            By::Origin => "origin",
        }
    }
}

/// Builds that failed on one day and were judged alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JudgedBuilds {
    /// The day.
    pub day: Day,
    /// The class of the failures.
    pub class: Class,
    /// What became of them.
    pub verdict: Verdict,
    /// How many there were.
    pub count: i64,
}

impl Database {
    /// What is counted from now on, until it is written.
    pub fn counts(&mut self) -> &mut Counts {
        &mut self.counts
    }

    /// Writes what was counted, if that is possible without waiting for another process. Returns whether old counts should
    /// be removed after that (see [`Database::tidy`]).
    pub fn write_counts(&mut self) -> bool {
        let counts = mem::take(&mut self.counts);
        if counts.is_empty() || self.is_readonly() {
            return false;
        }
        // Counts change nothing that was asked about failures.
        let remembered = mem::take(&mut self.remembered);
        let written = self.at_once(|connection| write(connection, &counts));
        self.remembered = remembered;
        match written {
            Ok(is_time_to_tidy) => is_time_to_tidy,
            Err(error) => {
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) {
                    self.counts = counts;
                }
                false
            }
        }
    }

    /// The refusals since a day, or all, in groups: by a property, and what was saved. Of refusals long ago only the class and the
    /// origin are known.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn refusals(&self, by: By, since: Option<Day>) -> Result<Vec<(String, Tally)>, DatabaseError> {
        let mut groups = self.grouped_refusals(by.column(), since)?;
        if by == By::Name {
            groups.retain(|(key, _): &(String, Tally)| !key.is_empty());
        }
        Ok(groups)
    }

    /// The refusals of each day since `since`, or of all days, the oldest day first. A day without refusals is not among them, nor
    /// are days long ago.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn refusals_by_day(&self, since: Option<Day>) -> Result<Vec<(Day, Tally)>, DatabaseError> {
        let mut days = self.grouped_refusals("day", since)?;
        days.retain(|(day, _): &(Day, Tally)| !day.is_earlier());
        Ok(days)
    }

    fn grouped_refusals<K: FromSql>(&self, column: &str, since: Option<Day>) -> Result<Vec<(K, Tally)>, DatabaseError> {
        let query = || {
            let select = format!(
                "SELECT {column}, sum(refusals), sum(saved_ms) FROM refusal WHERE day >= ?1 GROUP BY {column} ORDER BY {column}"
            );
            let mut statement = self.connection.prepare(&select)?;
            let rows = statement.query_map([first(since)], |row| {
                Ok((row.get(0)?, Tally { refusals: row.get(1)?, saved_ms: row.get(2)? }))
            })?;
            rows.collect::<rusqlite::Result<_>>()
        };
        query().map_err(self.failed())
    }

    /// The builds that failed since a day, or all, the oldest day first: how many were recorded, and why others were not. The day
    /// of builds long ago is none, see [`Day::is_earlier`].
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn judged_builds(&self, since: Option<Day>) -> Result<Vec<JudgedBuilds>, DatabaseError> {
        let query = || {
            let select = "SELECT day, class, verdict, builds FROM judged WHERE day >= ?1 ORDER BY day, class, verdict";
            let mut statement = self.connection.prepare(select)?;
            let rows = statement.query_map([first(since)], |row| {
                Ok(JudgedBuilds { day: row.get(0)?, class: row.get(1)?, verdict: row.get(2)?, count: row.get(3)? })
            })?;
            rows.collect::<rusqlite::Result<_>>()
        };
        query().map_err(self.failed())
    }
}

/// The first day that counts.
fn first(since: Option<Day>) -> Day {
    since.unwrap_or(Day(i64::MIN))
}

/// Writes counts. Returns whether it is time to remove old ones.
fn write(connection: &Connection, counts: &Counts) -> rusqlite::Result<bool> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let mut is_time_to_tidy = false;
    for ((day, refused), tally) in &counts.refusals {
        let before = connection.last_insert_rowid();
        transaction
            .prepare_cached(
                "INSERT INTO refusal (day, drv_path, name, system, class, origin, refusals, saved_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (day, drv_path, class, origin)
                     DO UPDATE SET refusals = refusals + excluded.refusals, saved_ms = saved_ms + excluded.saved_ms",
            )?
            .execute(params![
                day,
                refused.derivation,
                refused.name,
                refused.system,
                refused.class,
                refused.origin.as_deref().unwrap_or_default(),
                tally.refusals,
                tally.saved_ms
            ])?;
        let row = connection.last_insert_rowid();
        // An update leaves the id of the last inserted row as it was.
        is_time_to_tidy |= row != before && row % TIDIED_AFTER == 0;
    }
    for ((day, class, verdict), count) in &counts.failures {
        transaction
            .prepare_cached(
                "INSERT INTO judged (day, class, verdict, builds) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (day, class, verdict) DO UPDATE SET builds = builds + excluded.builds",
            )?
            .execute(params![day, class, verdict, count])?;
    }
    transaction.commit()?;
    Ok(is_time_to_tidy)
}

/// Removes the days and the derivations from counts of days before `oldest`, and from those of refusals that are more than `most`,
/// the oldest first. Their sums are kept, so that nothing seems to be less than it was. One call does that only for some.
pub(super) fn sum_up_old(connection: &Connection, most: i64, oldest: Day) -> rusqlite::Result<()> {
    // Ids are given in the order in which derivations were first refused on a day. The sums have no derivation.
    let old = "SELECT id FROM refusal WHERE drv_path <> '' AND day < ?1
               UNION SELECT id FROM refusal WHERE drv_path <> '' AND id <= (SELECT max(id) FROM refusal) - ?2 LIMIT ?3";
    let ids = |row: &Row<'_>| Ok(Value::Integer(row.get(0)?));
    let mut statement = connection.prepare_cached(old)?;
    let old: Vec<Value> = statement.query_map(params![oldest, most, STEP], ids)?.collect::<Result<_, _>>()?;
    let is_any_judged = "SELECT EXISTS (SELECT 1 FROM judged WHERE day < ?1 AND day <> ?2)";
    let mut statement = connection.prepare_cached(is_any_judged)?;
    let is_any_judged: bool = statement.query_row([oldest, Day::EARLIER], |row| row.get(0))?;
    if old.is_empty() && !is_any_judged {
        return Ok(());
    }
    let old: Array = Rc::new(old);
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    transaction.execute(
        "INSERT INTO refusal (day, drv_path, name, system, class, origin, refusals, saved_ms)
             SELECT ?2, '', '', '', class, origin, sum(refusals), sum(saved_ms) FROM refusal
             WHERE id IN rarray(?1) GROUP BY class, origin
         ON CONFLICT (day, drv_path, class, origin)
             DO UPDATE SET refusals = refusals + excluded.refusals, saved_ms = saved_ms + excluded.saved_ms",
        params![old, Day::EARLIER],
    )?;
    transaction.execute("DELETE FROM refusal WHERE id IN rarray(?1)", [old])?;
    transaction.execute(
        "INSERT INTO judged (day, class, verdict, builds)
             SELECT ?2, class, verdict, sum(builds) FROM judged WHERE day < ?1 AND day <> ?2 GROUP BY class, verdict
         ON CONFLICT (day, class, verdict) DO UPDATE SET builds = builds + excluded.builds",
        [oldest, Day::EARLIER],
    )?;
    transaction.execute("DELETE FROM judged WHERE day < ?1 AND day <> ?2", [oldest, Day::EARLIER])?;
    transaction.commit()
}

impl FromSql for Day {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Day> {
        value.as_i64().map(Day)
    }
}

impl ToSql for Day {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.into())
    }
}

impl FromSql for Verdict {
    /// One that a newer version wrote is as good as unknown.
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Verdict> {
        Ok(value.as_str()?.parse().unwrap_or(Verdict::Other))
    }
}

impl ToSql for Verdict {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.name().into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use jiff::Timestamp;
    use tempfile::TempDir;

    use super::*;
    use crate::counts::RefusedDerivation;
    use crate::database::location::Audience;

    fn database() -> (TempDir, Database) {
        let folder = TempDir::new().unwrap();
        let database = Database::open_or_create(&folder.path().join("a/failures.sqlite"), Audience::Everybody).unwrap();
        (folder, database)
    }

    fn another(folder: &TempDir) -> Database {
        Database::open(&folder.path().join("a/failures.sqlite")).unwrap().unwrap()
    }

    fn refused(name: &str) -> RefusedDerivation {
        RefusedDerivation {
            derivation: format!("/nix/store/{name}.drv").into(),
            name: name.to_owned(),
            system: "x86_64-linux".to_owned(),
            class: Class::Builder,
            origin: None,
        }
    }

    fn time(day: i64) -> Timestamp {
        Timestamp::from_millisecond(day * 86_400_000 + 5).unwrap()
    }

    fn tally(refusals: i64, saved_ms: i64) -> Tally {
        Tally { refusals, saved_ms }
    }

    #[test]
    fn batches_add_up_by_day_and_derivation() {
        let (folder, mut database) = database();
        let mut other = another(&folder);
        for _ in 0..3 {
            database.counts().refused(refused("a"), 1000, time(7));
        }
        database.counts().refused(refused("a"), 500, time(8));
        let elsewhere = RefusedDerivation { origin: Some("a cache".to_owned()), class: Class::Output, ..refused("b") };
        other.counts().refused(elsewhere, 10, time(8));
        other.counts().refused(refused("a"), 1000, time(7));
        assert!(database.refusals_by_day(None).unwrap().is_empty(), "nothing is written before that is asked for");
        database.write_counts();
        other.write_counts();
        database.write_counts();
        assert_eq!(database.refusals_by_day(None).unwrap(), [(Day(7), tally(4, 4000)), (Day(8), tally(2, 510))]);
        assert_eq!(database.refusals_by_day(Some(Day(8))).unwrap(), [(Day(8), tally(2, 510))]);
        let by = |by| {
            database
                .refusals(by, None)
                .unwrap()
                .into_iter()
                .map(|(key, tally)| (key, tally.refusals))
                .collect::<Vec<_>>()
        };
        let rows = |rows: [(&str, i64); 2]| rows.map(|(key, count)| (key.to_owned(), count)).to_vec();
        assert_eq!(by(By::Name), rows([("a", 5), ("b", 1)]));
        assert_eq!(by(By::Class), rows([("builder", 5), ("output", 1)]));
        assert_eq!(by(By::Origin), rows([("", 5), ("a cache", 1)]));
    }

    #[test]
    fn builds_that_failed_are_counted_by_what_became_of_them() {
        let (_folder, mut database) = database();
        for _ in 0..2 {
            database.counts().failed(Class::Builder, Verdict::Recorded, time(7));
            database.counts().failed(Class::Transient, Verdict::Signal, time(7));
            database.write_counts();
        }
        database.connection.execute("UPDATE judged SET verdict = 'unheard-of' WHERE class = 'transient'", []).unwrap();
        let judged = |class, verdict| JudgedBuilds { day: Day(7), class, verdict, count: 2 };
        let expected = [judged(Class::Builder, Verdict::Recorded), judged(Class::Transient, Verdict::Other)];
        assert_eq!(database.judged_builds(None).unwrap(), expected);
        assert!(database.judged_builds(Some(Day(8))).unwrap().is_empty());
    }

    #[test]
    fn a_locked_database_is_not_waited_for() {
        let (folder, mut database) = database();
        let mut other = another(&folder);
        let transaction = other.connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        database.counts().refused(refused("a"), 1, time(7));
        let start = Instant::now();
        database.write_counts();
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        drop(transaction);
        assert!(database.refusals_by_day(None).unwrap().is_empty());
        database.write_counts();
        assert_eq!(database.refusals_by_day(None).unwrap(), [(Day(7), tally(1, 1))], "it is kept for the next time");
    }

    #[test]
    fn a_full_database_costs_nothing() {
        let (_folder, mut database) = database();
        let pages: i64 = database.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        database.connection.pragma_update(None, "max_page_count", pages).unwrap();
        for number in 0..1000 {
            database.counts().refused(refused(&format!("{number:0100}")), 1, time(7));
        }
        assert!(!database.write_counts() && database.counts().is_empty());
        assert!(database.refusals_by_day(None).unwrap().is_empty());
        database.counts().refused(refused("a"), 1, time(7));
        database.write_counts();
        assert_eq!(database.refusals_by_day(None).unwrap(), [(Day(7), tally(1, 1))]);
    }

    #[test]
    fn a_database_that_can_only_be_read_counts_nothing() {
        let (folder, database) = database();
        drop(database);
        let mut database = Database::open_readonly(&folder.path().join("a/failures.sqlite")).unwrap().unwrap();
        database.counts().refused(refused("a"), 1, time(7));
        assert!(!database.write_counts() && database.counts().is_empty());
        assert!(database.refusals_by_day(None).unwrap().is_empty());
    }

    /// A daemon is asked the same for many times, over one connection.
    #[test]
    fn counting_leaves_what_is_remembered() {
        let (folder, mut database) = database();
        let mut other = another(&folder);
        assert!(database.is_empty().unwrap());
        database.counts().refused(refused("a"), 1, time(7));
        database.write_counts();
        assert_eq!(database.remembered.empty, Some(true));
        assert!(database.is_empty().unwrap());
        other.counts().refused(refused("a"), 1, time(7));
        other.write_counts();
        database.revalidate().unwrap();
        assert_eq!(database.remembered.empty, None, "another process may have written anything");
    }

    #[test]
    fn old_counts_go() {
        let (_folder, mut database) = database();
        let mut asked_to_tidy = 0;
        for number in 0..200 {
            database.counts().refused(refused(&number.to_string()), 1, time(number / 20));
            database.counts().failed(Class::Builder, Verdict::Recorded, time(number / 20));
            asked_to_tidy += i32::from(database.write_counts());
        }
        assert_eq!(asked_to_tidy, 3);
        let days = |database: &Database| {
            let days = database.refusals_by_day(None).unwrap();
            days.into_iter().map(|(day, tally)| (day.0, tally.refusals)).collect::<Vec<_>>()
        };
        database.tidy(1000, Some(time(4))).unwrap();
        assert_eq!(days(&database), (4..10).map(|day| (day, 20)).collect::<Vec<_>>());
        let judged = database.judged_builds(None).unwrap();
        assert_eq!((judged.len(), judged[0].day, judged[0].count), (7, Day::EARLIER, 80));
        database.tidy(50, None).unwrap();
        assert_eq!(days(&database), [(7, 9), (8, 20), (9, 20)]);
        // Nothing is lost but the days and the derivations.
        database.tidy(50, Some(time(4))).unwrap();
        assert_eq!(database.refusals(By::Class, None).unwrap(), [("builder".to_owned(), tally(200, 200))]);
        assert_eq!(database.refusals(By::Name, None).unwrap().len(), 49);
        assert_eq!(database.judged_builds(None).unwrap().iter().map(|judged| judged.count).sum::<i64>(), 200);
    }
}
