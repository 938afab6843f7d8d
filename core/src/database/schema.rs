//! The tables of the database, and what brings those of older versions up to date.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::DatabaseError;

/// Marks the file as ours (`PRAGMA application_id`): "nnc1".
pub(super) const APPLICATION_ID: i32 = 0x6e6e_6331;

/// What brings a database from each version of its schema to the next (`PRAGMA user_version`).
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE failure (
        id             INTEGER PRIMARY KEY,
        drv_path       TEXT    NOT NULL,
        store_dir      TEXT    NOT NULL,
        name           TEXT    NOT NULL,
        system         TEXT    NOT NULL,
        exit_code      INTEGER NOT NULL,
        message        TEXT    NOT NULL,
        log            TEXT    NOT NULL,
        first_failure  INTEGER NOT NULL, -- milliseconds since 1970, as last_failure
        last_failure   INTEGER NOT NULL,
        attempts       INTEGER NOT NULL,
        duration_ms    INTEGER NOT NULL,
        host           TEXT    NOT NULL,
        nix_version    TEXT    NOT NULL,
        plugin_version TEXT    NOT NULL
    ) STRICT;
    CREATE INDEX failure_drv_path ON failure (drv_path);
    CREATE INDEX failure_last_failure ON failure (last_failure);
    CREATE TABLE output (
        path    TEXT    NOT NULL PRIMARY KEY,
        failure INTEGER NOT NULL REFERENCES failure (id) ON DELETE CASCADE,
        name    TEXT    NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX output_failure ON output (failure);
",
    "
    -- What failed not by its builder has no exit code.
    ALTER TABLE failure RENAME COLUMN exit_code TO old_exit_code;
    ALTER TABLE failure ADD COLUMN exit_code INTEGER;
    UPDATE failure SET exit_code = old_exit_code;
    ALTER TABLE failure DROP COLUMN old_exit_code;
    ALTER TABLE failure ADD COLUMN class TEXT NOT NULL DEFAULT 'builder';
    -- Whether the last attempt failed.
    ALTER TABLE failure ADD COLUMN stands INTEGER NOT NULL DEFAULT 1;
    CREATE INDEX failure_stands ON failure (id) WHERE stands;
    CREATE TABLE attempt (
        id          INTEGER PRIMARY KEY, -- in the order of the attempts
        failure     INTEGER NOT NULL REFERENCES failure (id) ON DELETE CASCADE,
        time        INTEGER NOT NULL,    -- milliseconds since 1970
        class       TEXT,                -- NULL for a success
        exit_code   INTEGER,
        environment TEXT                 -- JSON
    ) STRICT;
    CREATE INDEX attempt_failure ON attempt (failure);
    -- Where these happened is not known, so they do not count; but they are still there to look at.
    INSERT INTO attempt (failure, time, class, exit_code, environment)
        SELECT id, last_failure, 'builder', exit_code, '{}' FROM failure ORDER BY last_failure;
",
    "
    -- When the record was last written or stood in somebody's way, in milliseconds since 1970.
    ALTER TABLE failure ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
    UPDATE failure SET used = last_failure;
    CREATE INDEX failure_used ON failure (used);
    DROP INDEX failure_last_failure;
    -- Who wants to see a failure tried once more.
    CREATE TABLE retry (
        failure INTEGER NOT NULL REFERENCES failure (id) ON DELETE CASCADE,
        user    INTEGER NOT NULL, -- as the system numbers them
        time    INTEGER NOT NULL, -- milliseconds since 1970
        PRIMARY KEY (failure, user)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- A few environments have all attempts in common.
    CREATE TABLE environment (
        id      INTEGER PRIMARY KEY,
        factors TEXT    NOT NULL UNIQUE -- JSON
    ) STRICT;
    INSERT INTO environment (factors) SELECT DISTINCT environment FROM attempt WHERE environment IS NOT NULL;
    ALTER TABLE attempt RENAME COLUMN environment TO old_environment;
    ALTER TABLE attempt ADD COLUMN environment INTEGER REFERENCES environment (id); -- NULL for a success
    UPDATE attempt SET environment = (SELECT id FROM environment WHERE factors = old_environment);
    ALTER TABLE attempt DROP COLUMN old_environment;
    CREATE INDEX attempt_environment ON attempt (environment);
    CREATE TRIGGER environment_unused AFTER DELETE ON attempt BEGIN
        DELETE FROM environment WHERE id = OLD.environment
            AND NOT EXISTS (SELECT 1 FROM attempt WHERE environment = OLD.environment);
    END;
    -- What derivations are called tells at once that most of them never failed.
    CREATE INDEX failure_name ON failure (name) WHERE stands;
    DROP INDEX failure_stands;
    DROP INDEX output_failure;
    CREATE INDEX output_failure ON output (failure, name);
",
    "
    -- When the build was asked for, in milliseconds since 1970; NULL if that is not known.
    ALTER TABLE attempt ADD COLUMN asked INTEGER;
    -- The identity of a doubtful failure, the 64 bits as a signed number; NULL for a clear failure or a success.
    ALTER TABLE attempt ADD COLUMN doubtful INTEGER;
    -- The line of the log that decided what the failure is, as JSON; NULL if none did.
    ALTER TABLE failure ADD COLUMN evidence TEXT;
",
    "
    -- The binary cache that a failure was learned from, as JSON; NULL if it was seen here, and for a success.
    ALTER TABLE attempt ADD COLUMN origin TEXT;
    -- How the build was closed off from the machine.
    ALTER TABLE failure ADD COLUMN scope TEXT NOT NULL DEFAULT 'unknown';
    -- Failures from binary caches that are not learned, because they were forgotten here.
    CREATE TABLE kept_out (
        path   TEXT    NOT NULL, -- as in output
        period INTEGER NOT NULL, -- of 7 days since 1970
        PRIMARY KEY (path, period)
    ) STRICT, WITHOUT ROWID;
    -- Questions to binary caches that need not be asked again soon, because nothing came of them.
    CREATE TABLE asked (
        question INTEGER PRIMARY KEY, -- a hash
        time     INTEGER NOT NULL     -- milliseconds since 1970
    ) STRICT;
    -- Which failures were published at which destination.
    CREATE TABLE published (
        destination TEXT    NOT NULL,
        path        TEXT    NOT NULL, -- as in output
        period      INTEGER NOT NULL,
        signer      TEXT    NOT NULL,
        withdrawn   INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (destination, path, period, signer)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- Refusals by day and derivation. They stay when the record is forgotten.
    CREATE TABLE refusal (
        id       INTEGER PRIMARY KEY, -- in the order in which they were first counted
        day      INTEGER NOT NULL,    -- of UTC, since 1970
        drv_path TEXT    NOT NULL,
        name     TEXT    NOT NULL,
        system   TEXT    NOT NULL,
        class    TEXT    NOT NULL,
        origin   TEXT    NOT NULL,    -- as people are told; empty if the failure was seen here
        refusals INTEGER NOT NULL,
        saved_ms INTEGER NOT NULL,    -- how long the refused builds took when they failed, all together
        UNIQUE (day, drv_path, class, origin)
    ) STRICT;
    -- Builds that failed, by day.
    CREATE TABLE judged (
        day     INTEGER NOT NULL,
        class   TEXT    NOT NULL,
        verdict TEXT    NOT NULL, -- whether they were recorded, and if not, why
        builds  INTEGER NOT NULL,
        PRIMARY KEY (day, class, verdict)
    ) STRICT, WITHOUT ROWID;
  ",
    "
    -- Builds and evaluations of Hydras that need not be asked about again, and until when.
    CREATE TABLE hydra_build (
        server TEXT    NOT NULL, -- its URL; for evaluations, a name that begins with it
        build  INTEGER NOT NULL,
        until  INTEGER NOT NULL, -- in milliseconds since 1970
        PRIMARY KEY (server, build)
    ) STRICT, WITHOUT ROWID;
",
];

/// Brings the schema up to date.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), DatabaseError> {
    let failed = |source| DatabaseError::of_sqlite(path, source);
    if schema_version(connection, path)? == MIGRATIONS.len() {
        return Ok(());
    }
    // Changes how the file is written, so it can't be part of the transaction; a file system without shared memory
    // keeps the rollback journal, which works as well.
    match connection.pragma_update(None, "journal_mode", "wal") {
        Err(rusqlite::Error::SqliteFailure(error, _)) if error.code == ErrorCode::DatabaseBusy => {}
        result => result.map_err(failed)?,
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    // Another process may have been faster.
    for migration in &MIGRATIONS[schema_version(&transaction, path)?..] {
        transaction.execute_batch(migration).map_err(failed)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64).map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// The version of the schema, between 0 (an empty file) and the newest known one.
fn schema_version(connection: &Connection, path: &Path) -> Result<usize, DatabaseError> {
    // One statement, so that no other process can make the schema between two looks at it.
    let query = "SELECT (SELECT application_id FROM pragma_application_id) AS application,
                     (SELECT user_version FROM pragma_user_version) AS version,
                     EXISTS (SELECT 1 FROM sqlite_schema) AS has_tables";
    let (application, version, has_tables): (i32, i64, bool) = connection
        .query_row(query, [], |row| Ok((row.get("application")?, row.get("version")?, row.get("has_tables")?)))
        .map_err(|source| DatabaseError::of_sqlite(path, source))?;
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    match application {
        APPLICATION_ID if version <= MIGRATIONS.len() => Ok(version),
        APPLICATION_ID => {
            Err(DatabaseError::NewerSchema { path: path.to_owned(), found: version, known: MIGRATIONS.len() })
        }
        0 if version == 0 && !has_tables => Ok(0),
        _ => Err(DatabaseError::Foreign { path: path.to_owned() }),
    }
}

/// Whether a database that can only be read is one that this program knows how to read.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), DatabaseError> {
    let path = path.to_owned();
    match schema_version(connection, &path) {
        Ok(version) if version == MIGRATIONS.len() => Ok(()),
        Ok(_) => Err(DatabaseError::OlderSchema { path }),
        Err(DatabaseError::Sqlite { source, .. }) if source.sqlite_error_code() == Some(ErrorCode::CannotOpen) => {
            Err(DatabaseError::Unshared { path })
        }
        Err(error) => Err(error),
    }
}
