//! Which builds and evaluations of Hydras need not be asked about again: those that were imported, or left out.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{Transaction, params};

use super::columns::Milliseconds;
use super::{Database, DatabaseError};

impl Database {
    /// The builds of a Hydra that need not be asked about again, and until when. In place of the URL of the Hydra, `of` can be any
    /// other name for numbers: evaluations are noted as builds are.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn known_builds(&self, of: &str, now: Timestamp) -> Result<HashMap<u64, Timestamp>, DatabaseError> {
        let query = || {
            let mut statement = self
                .connection
                .prepare_cached("SELECT build, until FROM hydra_build WHERE server = ?1 AND until > ?2")?;
            let rows = statement.query_map(params![of, Milliseconds(now)], |row| {
                let Milliseconds(until) = row.get("until")?;
                Ok((row.get::<_, i64>("build")?.cast_unsigned(), until))
            })?;
            rows.collect::<rusqlite::Result<_>>()
        };
        query().map_err(self.failed())
    }

    /// Notes builds of a Hydra, or other numbers, that need not be asked about again until some time.
    ///
    /// # Errors
    ///
    /// If the database can't be read or written.
    pub fn note_builds(&mut self, of: &str, builds: &[(u64, Timestamp)]) -> Result<(), DatabaseError> {
        let failed = self.failed();
        let note = |transaction: &Transaction<'_>| {
            let mut statement = transaction
                .prepare_cached("INSERT OR REPLACE INTO hydra_build (server, build, until) VALUES (?1, ?2, ?3)")?;
            for (build, until) in builds {
                statement.execute(params![of, build.cast_signed(), Milliseconds(*until)])?;
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

    /// Drops what was noted of builds and has passed.
    ///
    /// # Errors
    ///
    /// If the database can't be read or written.
    pub fn drop_old_builds(&mut self, now: Timestamp) -> Result<(), DatabaseError> {
        let failed = self.failed();
        let drop = |transaction: &Transaction<'_>| {
            transaction.execute("DELETE FROM hydra_build WHERE until <= ?1", [Milliseconds(now)])
        };
        self.in_transaction(drop).map(|_| ()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use tempfile::TempDir;

    use super::super::location::Audience;
    use super::*;
    use crate::hydra::REMEMBERED;

    #[test]
    fn builds_are_remembered_for_some_time_and_by_server() {
        let folder = TempDir::new().unwrap();
        let mut database = Database::open_or_create(&folder.path().join("a/failures.sqlite"), Audience::Owner).unwrap();
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        let [hour, day] = [1, 24].map(|hours| now + SignedDuration::from_hours(hours));
        let long = now + REMEMBERED;
        database.note_builds("https://a", &[(1, long), (u64::MAX, day), (3, now)]).unwrap();
        database.note_builds("https://b", &[(2, long)]).unwrap();
        let known = |database: &Database, server, now| database.known_builds(server, now).unwrap();
        assert_eq!(known(&database, "https://a", now), HashMap::from([(1, long), (u64::MAX, day)]));
        assert_eq!(known(&database, "https://a", day), HashMap::from([(1, long)]));
        assert_eq!(known(&database, "https://c", now), HashMap::new());
        database.drop_old_builds(day).unwrap();
        assert_eq!(known(&database, "https://a", hour), HashMap::from([(1, long)]));
        database.drop_old_builds(long).unwrap();
        assert_eq!((known(&database, "https://a", now), known(&database, "https://b", now)), Default::default());
    }
}
