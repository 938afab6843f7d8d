//! Why the database can't be used.

use std::io;
use std::path::{Path, PathBuf};

use super::location;

/// Why the database can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Its folder can't be made.
    #[error("cannot create the folder of the failure database '{path}': {source}")]
    Folder {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody can tell whether it is there.
    #[error("cannot look for the failure database '{path}': {source}")]
    Hidden {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than root could have written it.
    #[error("the failure database '{path}' is not used: it or its folder {why}; run  nix-negative-cache doctor --fix")]
    Untrusted {
        /// The database file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// Its owner has left nothing by which others could read it.
    #[error(
        "the failure database '{path}' can't be read by this user at the moment; it can be again after the next build of \
         its owner, or  nix-negative-cache doctor --fix"
    )]
    Unshared {
        /// The database file.
        path: PathBuf,
    },
    /// It is damaged, and was moved away.
    #[error(
        "the failure database '{path}' is broken ({source}); it was moved to '{broken}', and a new one will be made"
    )]
    Broken {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
        /// Where it is now.
        broken: PathBuf,
    },
    /// An older version wrote it, and this user may not change that.
    #[error(
        "the failure database '{path}' was written by an older version; its owner's next build, or  nix-negative-cache \
         doctor --fix  brings it up to date"
    )]
    OlderSchema {
        /// The database file.
        path: PathBuf,
    },
    /// There is something else at its path.
    #[error("the failure database '{path}' is not a regular file; move it away or choose another database")]
    NotAFile {
        /// The database file.
        path: PathBuf,
    },
    /// It holds something else than failure records.
    #[error("'{path}' is the database of another program; choose another file for the failure database")]
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// A newer version wrote it.
    #[error(
        "the failure database '{path}' has version {found} of its schema, this program knows {known}; \
         upgrade nix-negative-cache or choose another database"
    )]
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// The version it has.
        found: usize,
        /// The newest version known here.
        known: usize,
    },
    /// SQLite could not open, read or write it.
    #[error("cannot use the failure database '{path}': {source}")]
    Sqlite {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

impl DatabaseError {
    /// What SQLite's error says of the database at `path`. One that is damaged is moved away.
    pub(super) fn of_sqlite(path: &Path, source: rusqlite::Error) -> DatabaseError {
        let path = path.to_owned();
        if location::is_damage(&source)
            && let Some(broken) = location::move_away(&path)
        {
            return DatabaseError::Broken { path, source, broken };
        }
        DatabaseError::Sqlite { path, source }
    }
}
