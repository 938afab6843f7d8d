//! The columns of each table, in one list for reading and writing, and what their values are in Rust.
//!
//! A new column of `failure` needs a migration in [`super::schema`], its name in a list here, a field of the record that
//! [`super::read`] fills in, and a value in [`super::write`]. The tests fail if the name or the value is forgotten. No test
//! notices a forgotten field.

use jiff::Timestamp;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row};

use super::FailureId;
use crate::class::Class;
use crate::portable::Scope;
use crate::store_path::{DerivationPath, OutputKey};

/// The columns of `failure` that decide whether a record is believed, and that lists show.
pub const SUMMARY: &[&str] =
    &["drv_path", "name", "system", "class", "exit_code", "first_failure", "last_failure", "attempts", "duration_ms"];

/// The columns of `failure` that only whole records have.
pub const DETAILS: &[&str] =
    &["store_dir", "message", "log", "host", "nix_version", "plugin_version", "evidence", "scope"];

/// The columns of `failure` that are no part of a record, but for its id and `stands`, which SQLite fills in.
pub const BOOKKEEPING: &[&str] = &["used"];

/// The columns of `output`.
pub const OUTPUT: &[&str] = &["failure", "name", "path"];

/// The columns of `attempt`, but for its id.
pub const ATTEMPT: &[&str] = &["failure", "time", "class", "exit_code", "environment", "asked", "doubtful", "origin"];

/// The columns of `retry`.
pub const RETRY: &[&str] = &["failure", "user", "time"];

/// A value for a column, which is named as a parameter: `:drv_path`.
pub type Value<'a> = (&'static str, &'a dyn ToSql);

/// Inserts a row that has a value for each of `columns`.
///
/// # Errors
///
/// If SQLite can't write it.
pub fn insert(
    connection: &Connection,
    table: &str,
    columns: &[&[&str]],
    values: &[Value<'_>],
) -> rusqlite::Result<FailureId> {
    let columns = columns.concat();
    let (names, parameters) = (columns.join(", "), columns.join(", :"));
    let mut statement = connection.prepare_cached(&format!("INSERT INTO {table} ({names}) VALUES (:{parameters})"))?;
    // SQLite would take a missing value for NULL.
    debug_assert_eq!(statement.parameter_count(), values.len());
    statement.execute(values)?;
    Ok(FailureId(connection.last_insert_rowid()))
}

/// A time in the database: milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Milliseconds(pub Timestamp);

impl FromSql for Milliseconds {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Milliseconds> {
        let milliseconds = value.as_i64()?;
        let time = Timestamp::from_millisecond(milliseconds);
        time.map(Milliseconds).map_err(|_| FromSqlError::OutOfRange(milliseconds))
    }
}

impl ToSql for Milliseconds {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_millisecond().into())
    }
}

/// A row of a table, by the names of the columns that were asked for. [`Row::get`] takes names as well, but has SQLite
/// spell them out for each value, which takes longer than to read it.
pub struct NamedRow<'a> {
    /// The row.
    pub row: &'a Row<'a>,
    /// Its columns, in their order.
    pub columns: &'a [&'a str],
}

impl NamedRow<'_> {
    /// The value in a column.
    ///
    /// # Errors
    ///
    /// If the column is not there or holds something else.
    pub fn get<T: FromSql>(&self, column: &str) -> rusqlite::Result<T> {
        let index = self.columns.iter().position(|name| *name == column);
        self.row.get(index.ok_or_else(|| rusqlite::Error::InvalidColumnName(column.to_owned()))?)
    }

    /// The time in a column.
    ///
    /// # Errors
    ///
    /// If the column is not there or holds no time.
    pub fn time(&self, column: &str) -> rusqlite::Result<Timestamp> {
        self.get(column).map(|Milliseconds(time)| time)
    }
}

impl FromSql for FailureId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<FailureId> {
        value.as_i64().map(FailureId)
    }
}

impl ToSql for FailureId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.into())
    }
}

impl FromSql for Class {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Class> {
        let name = value.as_str()?;
        name.parse().map_err(|_| FromSqlError::Other(format!("there is no class '{name}'").into()))
    }
}

impl ToSql for Class {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.name().into())
    }
}

impl FromSql for Scope {
    /// A scope that a newer version wrote is as good as unknown.
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Scope> {
        Ok(value.as_str()?.parse().unwrap_or_default())
    }
}

impl ToSql for Scope {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(<&str>::from(self).into())
    }
}

impl FromSql for DerivationPath {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<DerivationPath> {
        value.as_str().map(DerivationPath::from)
    }
}

impl ToSql for DerivationPath {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for OutputKey {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<OutputKey> {
        value.as_str().map(OutputKey::from)
    }
}

impl ToSql for OutputKey {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tempfile::TempDir;

    use super::super::Database;
    use super::super::location::Audience;
    use super::*;

    #[test]
    fn all_columns_of_the_schema_are_listed() {
        let folder = TempDir::new().unwrap();
        let database = Database::open_or_create(&folder.path().join("a/failures.sqlite"), Audience::Owner).unwrap();
        let failure = [SUMMARY, DETAILS, BOOKKEEPING, &["id", "stands"]].concat();
        let attempt = [ATTEMPT, &["id"]].concat();
        for (table, columns) in
            [("failure", failure), ("output", OUTPUT.to_vec()), ("attempt", attempt), ("retry", RETRY.to_vec())]
        {
            let mut statement = database.connection.prepare("SELECT name FROM pragma_table_info(?1)").unwrap();
            let names = statement.query_map([table], |row| row.get("name")).unwrap();
            let names: BTreeSet<String> = names.collect::<Result<_, _>>().unwrap();
            assert_eq!(names, columns.into_iter().map(str::to_owned).collect(), "{table}");
        }
    }
}
