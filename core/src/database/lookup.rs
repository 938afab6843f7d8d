//! Finding failures: by output, by derivation, by name, and by hash part. What is recorded of them, [`super::read`] reads.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use rusqlite::Connection;
use rusqlite::types::Value;
use rusqlite::vtab::array::Array;

use super::columns::NamedRow;
use super::{Database, DatabaseError, FailureId};
use crate::record::FailureRecord;
use crate::store_path::OutputKey;

impl Database {
    /// Whether no failure is known, so that there is nothing to ask.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn is_empty(&mut self) -> Result<bool, DatabaseError> {
        self.revalidate()?;
        if let Some(empty) = self.remembered.empty {
            return Ok(empty);
        }
        let query = || {
            let mut statement =
                self.connection.prepare_cached("SELECT NOT EXISTS (SELECT 1 FROM failure WHERE stands)")?;
            statement.query_row([], |row| row.get(0))
        };
        let empty = query().map_err(self.failed())?;
        self.remembered.empty = Some(empty);
        Ok(empty)
    }

    /// The outputs with a record whose paths begin with this text.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn outputs_starting_with(&self, start: &str) -> Result<Vec<OutputKey>, DatabaseError> {
        let query = || {
            // No character comes after the last one of Unicode.
            let mut statement = self
                .connection
                .prepare_cached("SELECT path FROM output WHERE path BETWEEN ?1 AND ?1 || ?2 ORDER BY path")?;
            let rows = statement.query_map([start, "\u{10ffff}"], |row| row.get("path"))?;
            rows.collect::<rusqlite::Result<_>>()
        };
        query().map_err(self.failed())
    }

    /// Which of `names`, by index, are also the name of a known failure. Derivations with the same output have the same
    /// name, so the others need no closer look.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn candidates(&self, names: &[&str]) -> Result<Vec<usize>, DatabaseError> {
        let query = || {
            /// As many names are read in the time that one is looked for.
            const AT_ONCE: usize = 4;
            let span = "SELECT coalesce((SELECT max(id) FROM failure) - (SELECT min(id) FROM failure) + 1, 0)";
            let most: usize = self.connection.prepare_cached(span)?.query_row([], |row| row.get(0))?;
            let mut known: foldhash::HashSet<String> = foldhash::HashSet::default();
            if most <= names.len().saturating_mul(AT_ONCE) {
                let mut statement = self.connection.prepare_cached("SELECT name FROM failure WHERE stands")?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    // By index: SQLite takes longer to spell out a column's name than to read its value.
                    let name = row.get_ref(0)?.as_str()?;
                    if !known.contains(name) {
                        known.insert(name.to_owned());
                    }
                }
            } else {
                let wanted: BTreeSet<&str> = names.iter().copied().collect();
                let mut statement = self.connection.prepare_cached(
                    "SELECT wanted.value FROM rarray(?1) AS wanted
                     WHERE EXISTS (SELECT 1 FROM failure WHERE stands AND name = wanted.value)",
                )?;
                let rows = statement.query_map([text_array(wanted)], |row| row.get(0))?;
                known = rows.collect::<Result<_, _>>()?;
            }
            Ok((0..names.len()).filter(|index| known.contains(names[*index])).collect())
        };
        query().map_err(self.failed())
    }

    /// The known failures of `outputs`: those of outputs that failed when they were last built.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn known<'a>(
        &self,
        outputs: impl IntoIterator<Item = &'a OutputKey>,
    ) -> Result<HashMap<OutputKey, FailureId>, DatabaseError> {
        // In their order, neighbours are on the same page.
        let wanted: BTreeSet<&str> = outputs.into_iter().map(OutputKey::as_str).collect();
        standing(&self.connection, &text_array(wanted)).map_err(self.failed())
    }

    /// Whether `output` failed when it was last built, and was not set aside since. The answer no is remembered, so it
    /// costs next to nothing until another process writes.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn is_known(&mut self, output: &OutputKey) -> Result<bool, DatabaseError> {
        self.revalidate()?;
        if self.remembered.unknown.contains(output) {
            return Ok(false);
        }
        let known = !self.known([output])?.is_empty();
        if !known {
            self.remembered.unknown.insert(output.clone());
        }
        Ok(known)
    }

    /// The records of those of `derivations` that failed when they were last built.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn known_derivations(
        &mut self,
        derivations: &[String],
    ) -> Result<HashMap<FailureId, FailureRecord>, DatabaseError> {
        /// As many as are remembered.
        const FEW: usize = 8;
        self.revalidate()?;
        if let Some((_, records)) = self.remembered.derivations.as_ref().filter(|(asked, _)| asked == derivations) {
            return Ok(records.clone());
        }
        let wanted = text_array(derivations.iter().map(String::as_str));
        let query = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT failure.id FROM rarray(?1) AS wanted CROSS JOIN failure ON failure.drv_path = wanted.value
                 AND failure.stands",
            )?;
            let rows = statement.query_map([wanted], |row| row.get("id"))?;
            rows.collect::<Result<Vec<_>, _>>()
        };
        let found = query().map_err(self.failed())?;
        let records = self.records_of(&found)?;
        if derivations.len() <= FEW {
            self.remembered.derivations = Some((derivations.to_vec(), records.clone()));
        }
        Ok(records)
    }

    /// The derivations that are known to fail; none if there are more than `most`.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn derivations(&mut self, most: usize) -> Result<Option<Vec<String>>, DatabaseError> {
        let query = || {
            let mut statement = self.connection.prepare_cached("SELECT drv_path FROM failure WHERE stands LIMIT ?1")?;
            let rows = statement.query_map([most.saturating_add(1)], |row| row.get(0))?;
            rows.collect::<Result<Vec<String>, _>>()
        };
        let derivations = query().map_err(self.failed())?;
        Ok((derivations.len() <= most).then_some(derivations))
    }

    /// The failures of `paths`, each the path of a derivation or the key of an output.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn find<'a>(&self, paths: impl IntoIterator<Item = &'a str>) -> Result<Vec<FailureId>, DatabaseError> {
        let wanted = text_array(paths);
        let query = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT output.failure FROM rarray(?1) AS wanted CROSS JOIN output ON output.path = wanted.value
                 UNION SELECT failure.id FROM rarray(?1) AS wanted CROSS JOIN failure
                 ON failure.drv_path = wanted.value",
            )?;
            let rows = statement.query_map([wanted], |row| row.get("failure"))?;
            rows.collect::<Result<_, _>>()
        };
        query().map_err(self.failed())
    }

    /// The failures of the store paths in `store_dir` with this hash part, be they derivations or outputs.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn find_by_hash_part(&self, store_dir: &str, hash_part: &str) -> Result<Vec<FailureId>, DatabaseError> {
        // What begins with the first is between the two, as `.` comes right after `-`.
        let (first, end) = (format!("{store_dir}/{hash_part}-"), format!("{store_dir}/{hash_part}."));
        let query = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT failure FROM output WHERE path >= ?1 AND path < ?2
                 UNION SELECT id FROM failure WHERE drv_path >= ?1 AND drv_path < ?2",
            )?;
            let rows = statement.query_map([&first, &end], |row| row.get("failure"))?;
            rows.collect::<Result<_, _>>()
        };
        query().map_err(self.failed())
    }
}

/// Which of `outputs` failed when they were last built.
pub(super) fn standing(connection: &Connection, outputs: &Array) -> rusqlite::Result<HashMap<OutputKey, FailureId>> {
    let mut statement = connection.prepare_cached(
        "SELECT output.path, output.failure FROM rarray(?1) AS wanted
         CROSS JOIN output ON output.path = wanted.value
         CROSS JOIN failure ON failure.id = output.failure AND failure.stands",
    )?;
    let rows = statement.query_map([outputs], |row| {
        let row = NamedRow { row, columns: &["path", "failure"] };
        Ok((row.get("path")?, row.get("failure")?))
    })?;
    rows.collect()
}

pub(super) fn text_array<'a>(texts: impl IntoIterator<Item = &'a str>) -> Array {
    Rc::new(texts.into_iter().map(|text| Value::Text(text.to_owned())).collect())
}
