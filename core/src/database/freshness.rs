//! What a connection remembers of its answers, and how it finds out that another process has written since.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::FileExt;

use jiff::Timestamp;

use super::{Database, DatabaseError, FailureId};
use crate::record::FailureRecord;
use crate::store_path::OutputKey;

/// The header of the wal-index, which each commit of any process changes.
type Stamp = [u8; 48];

/// A state of the database. Each commit leads to another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// What SQLite counts of the commits of others (`PRAGMA data_version`).
    others: i64,
    /// How often this connection wrote.
    ours: u64,
}

/// Answers that are still right while the database is in the state that `stamp` and `others` tell. A daemon asks the
/// same questions often over one connection.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    pub(super) stamp: Option<Stamp>,
    pub(super) others: i64,
    /// Outputs that do not matter to anybody.
    pub(super) unknown: HashSet<OutputKey>,
    /// Whether nothing is known to fail.
    pub(super) empty: Option<bool>,
    /// The derivations that were looked up last, and what is recorded of them.
    pub(super) derivations: Option<(Vec<String>, HashMap<FailureId, FailureRecord>)>,
    /// Failures whose last use is not to be noted again, and since when.
    pub(super) used: Option<(Vec<FailureId>, Timestamp)>,
}

impl Database {
    /// The state that the database is in at this moment.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn version(&mut self) -> Result<Version, DatabaseError> {
        self.revalidate()?;
        Ok(Version { others: self.remembered.others, ours: self.writes })
    }

    /// Sets outputs aside whose failures do not count at the moment: they are not known until one of them is written
    /// to, or another process writes. Does nothing if the database has changed since it had the `version` in which the
    /// caller looked at the outputs.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn set_aside(
        &mut self,
        version: Version,
        outputs: impl IntoIterator<Item = OutputKey>,
    ) -> Result<(), DatabaseError> {
        if self.version()? == version {
            self.remembered.unknown.extend(outputs);
        }
        Ok(())
    }

    /// Forgets all answers if another process has written since they were given.
    pub(super) fn revalidate(&mut self) -> Result<(), DatabaseError> {
        // In this order: what is written between the two is seen the next time.
        let stamp = self.stamp();
        if stamp.is_some() && stamp == self.remembered.stamp {
            return Ok(());
        }
        let query = || {
            let mut statement = self.connection.prepare_cached("PRAGMA data_version")?;
            statement.query_row([], |row| row.get(0))
        };
        let others = query().map_err(self.failed())?;
        if others != self.remembered.others {
            self.remembered = Remembered { others, ..Remembered::default() };
        }
        self.remembered.stamp = stamp;
        Ok(())
    }

    /// The header of the wal-index, which tells quickly whether anything was written: readers of a database in WAL mode
    /// compare it for that (sqlite.org/walformat.html, 2.1). It is there for as long as a connection is. `None` if it
    /// can't be read.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let mut stamp = [0; 48];
        self.wal_index.as_ref()?.read_exact_at(&mut stamp, 0).ok()?;
        Some(stamp)
    }
}
