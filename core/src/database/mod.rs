//! The database of failure records: one SQLite file, shared by every Nix process that may write to it, and read by
//! others.
//!
//! Records are found by output path, as in Nix before 2.0 (`queryFailedPaths`): derivations that differ only in how
//! their fixed-output inputs are fetched have the same outputs and share a record.
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::counts::Counts;
use crate::environment::Environment;
use freshness::Remembered;

mod changes;
mod cleanup;
mod columns;
pub mod condition;
mod counts;
mod elsewhere;
mod error;
mod freshness;
mod hydra;
pub mod location;
mod lookup;
mod open;
mod overview;
mod read;
mod schema;
mod write;

pub use changes::{Change, Seen, What};
pub use counts::{By, JudgedBuilds};
pub use elsewhere::{Learning, Published};
pub use error::DatabaseError;
pub use freshness::Version;
pub use overview::Overview;

/// The id of a record in the database. It is good until the record is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FailureId(i64);

/// An open database.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    connection: Connection,
    /// The wal-index, if the database has one. Never closed: with the first descriptor of the file that a process closes, it
    /// loses all of SQLite's locks on it (sqlite.org/howtocorrupt.html, 2.2).
    wal_index: Option<ManuallyDrop<File>>,
    remembered: Remembered,
    /// What was counted and not written yet.
    counts: Counts,
    /// How often this connection wrote.
    writes: u64,
    /// What texts of environments say, of those that were read lately.
    environments: RefCell<HashMap<String, Environment>>,
    /// Whether the connection was made ready to write.
    writes_as_it_should: bool,
}

impl Database {
    fn failed(&self) -> impl Fn(rusqlite::Error) -> DatabaseError + use<> {
        let path = self.path.clone();
        let readonly = self.is_readonly();
        move |source| match readonly {
            true => DatabaseError::Sqlite { path: path.clone(), source },
            false => DatabaseError::of_sqlite(&path, source),
        }
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this process may only read.
    pub fn is_readonly(&self) -> bool {
        self.connection.is_readonly("main").unwrap_or(true)
    }
}

#[cfg(test)]
mod tests;
