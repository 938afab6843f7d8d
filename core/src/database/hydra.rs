//! Which builds of Hydras need not be asked about again: those that were imported, or left out for good.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Transaction, params};

use super::columns::Milliseconds;
use super::{Database, DatabaseError};

/// How long builds are remembered. Evaluations carry builds of earlier ones along for longer than a failure is believed.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(90 * 24);

impl Database {
    /// The builds of a Hydra that need not be asked about again.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn known_builds(&self, server: &str) -> Result<HashSet<u64>, DatabaseError> {
        let query = || {
            let mut statement = self.connection.prepare_cached("SELECT build FROM hydra_build WHERE server = ?1")?;
            let rows = statement.query_map([server], |row| row.get::<_, i64>("build").map(i64::cast_unsigned))?;
            rows.collect::<rusqlite::Result<_>>()
        };
        query().map_err(self.failed())
    }

    /// Notes builds of a Hydra that need not be asked about again.
    ///
    /// # Errors
    ///
    /// If the database can't be read or written.
    pub fn note_builds(&mut self, server: &str, builds: &[u64], now: Timestamp) -> Result<(), DatabaseError> {
        let failed = self.failed();
        let note = |transaction: &Transaction<'_>| {
            let mut statement = transaction
                .prepare_cached("INSERT OR REPLACE INTO hydra_build (server, build, time) VALUES (?1, ?2, ?3)")?;
            for build in builds {
                statement.execute(params![server, build.cast_signed(), Milliseconds(now)])?;
            }
            Ok(())
        };
        self.in_transaction(note).map_err(failed)
    }

    /// Has all failures that were imported from a Hydra only warn, or refuse again.
    ///
    /// # Errors
    ///
    /// If the database can't be read or written.
    pub fn set_warn_only(&mut self, server: &str, warn_only: bool) -> Result<(), DatabaseError> {
        let failed = self.failed();
        self.changed();
        let set = |transaction: &Transaction<'_>| {
            transaction.execute(
                "UPDATE attempt SET origin = CASE
                     WHEN ?2 THEN json_set(origin, '$.warnOnly', json('true'))
                     ELSE json_remove(origin, '$.warnOnly') END
                 WHERE json_extract(origin, '$.hydra') = ?1 AND (json_extract(origin, '$.warnOnly') IS NOT NULL) != ?2",
                params![server, warn_only],
            )
        };
        self.in_transaction(set).map(|_| ()).map_err(failed)
    }

    /// Drops what was noted of builds long ago.
    ///
    /// # Errors
    ///
    /// If the database can't be read or written.
    pub fn drop_old_builds(&mut self, now: Timestamp) -> Result<(), DatabaseError> {
        let failed = self.failed();
        let oldest = Milliseconds(now.saturating_sub(REMEMBERED).unwrap_or(Timestamp::MIN));
        let drop =
            |transaction: &Transaction<'_>| transaction.execute("DELETE FROM hydra_build WHERE time < ?1", [oldest]);
        self.in_transaction(drop).map(|_| ()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::location::Audience;
    use super::*;

    #[test]
    fn builds_are_remembered_for_some_time_and_by_server() {
        let folder = TempDir::new().unwrap();
        let mut database = Database::open_or_create(&folder.path().join("a/failures.sqlite"), Audience::Owner).unwrap();
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        database.note_builds("https://a", &[1, u64::MAX], now).unwrap();
        database.note_builds("https://b", &[2], now + SignedDuration::from_hours(1)).unwrap();
        let known = |database: &Database, server| database.known_builds(server).unwrap();
        assert_eq!(known(&database, "https://a"), HashSet::from([1, u64::MAX]));
        assert_eq!(known(&database, "https://c"), HashSet::new());
        database.drop_old_builds(now + REMEMBERED + SignedDuration::from_mins(1)).unwrap();
        assert_eq!(
            (known(&database, "https://a"), known(&database, "https://b")),
            (HashSet::new(), HashSet::from([2]))
        );
    }
}
