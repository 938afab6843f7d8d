//! The databases that may know something: this user's own, of what a daemon built for them, and that of the store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix_negative_cache_core::counts::{Day, Tally};
use nix_negative_cache_core::database::location::personal_path;
use nix_negative_cache_core::database::{By, Database, DatabaseError, FailureId};
use nix_negative_cache_core::machine;
use nix_negative_cache_core::record::{FailureRecord, FailureSummary};

use crate::say_with_name;

/// A record in one of these databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId {
    /// The index of the database.
    index: usize,
    id: FailureId,
}

/// Whose build it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builder {
    /// This user's Nix.
    Here,
    /// A daemon for this user, who can't see all of where that builds.
    Daemon,
}

/// A record, or as much of it as lists need, as this user sees it.
#[derive(Debug)]
pub struct SeenRecord<R = FailureRecord> {
    pub record: R,
    pub by: Builder,
    /// Whether this user may forget it.
    pub may_forget: bool,
}

/// Marks a record of a database with whose build it was; `summary` is the part of it that this user may not see all of.
fn known<R>(mut record: R, database: &Database, summary: fn(&mut R) -> &mut FailureSummary) -> SeenRecord<R> {
    let by = Databases::builder(database);
    if by == Builder::Daemon {
        summary(&mut record).as_clients_see();
    }
    SeenRecord { record, by, may_forget: !database.is_readonly() }
}

/// All databases that are there.
#[derive(Debug)]
pub struct Databases {
    paths: Vec<PathBuf>,
    open: Vec<Database>,
}

impl Databases {
    /// Opens those of `paths` that are there.
    ///
    /// # Errors
    ///
    /// If one of them can't be opened.
    pub fn open(paths: Vec<PathBuf>) -> Result<Databases, DatabaseError> {
        let open: Result<Vec<_>, _> = paths.iter().filter_map(|path| Database::open(path).transpose()).collect();
        Ok(Databases { open: open?, paths })
    }

    /// Opens those of `paths` that are there, and that this user may see. Says what is left out. This is for questions that
    /// are also put to the daemon that builds, which sees them all.
    ///
    /// # Errors
    ///
    /// If one of them can't be opened.
    pub fn open_visible(paths: Vec<PathBuf>) -> Result<Databases, DatabaseError> {
        let mut open = Vec::new();
        for path in &paths {
            match Database::open(path) {
                Ok(database) => open.extend(database),
                Err(error @ DatabaseError::Hidden { .. }) => say_with_name(&error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Ok(Databases { open, paths })
    }

    /// Those that are there.
    pub fn all_open(&self) -> &[Database] {
        &self.open
    }

    /// Their paths in quotes, for messages.
    pub fn names(&self) -> String {
        let names: Vec<String> = self.paths.iter().map(|path| format!("'{}'", path.display())).collect();
        names.join(" or ")
    }

    /// Whose builds a database is about.
    pub fn builder(database: &Database) -> Builder {
        let personal = personal_path().as_deref() == Some(database.path());
        if personal || database.is_readonly() { Builder::Daemon } else { Builder::Here }
    }

    /// All records, newest first.
    ///
    /// # Errors
    ///
    /// If a database can't be read.
    pub fn records(&self) -> Result<Vec<SeenRecord>, DatabaseError> {
        self.all(Database::records, |record| &mut record.summary)
    }

    /// All records, newest first, as far as lists need them.
    ///
    /// # Errors
    ///
    /// If a database can't be read.
    pub fn summaries(&self) -> Result<Vec<SeenRecord<FailureSummary>>, DatabaseError> {
        self.all(Database::summaries, |summary| summary)
    }

    fn all<R: AsRef<FailureSummary>>(
        &self,
        read: fn(&Database) -> Result<Vec<R>, DatabaseError>,
        summary: fn(&mut R) -> &mut FailureSummary,
    ) -> Result<Vec<SeenRecord<R>>, DatabaseError> {
        let mut records = Vec::new();
        for database in &self.open {
            records.extend(read(database)?.into_iter().map(|record| known(record, database, summary)));
        }
        records.sort_by_key(|known| std::cmp::Reverse(known.record.as_ref().last_failure));
        Ok(records)
    }

    /// All failures and when they happened last, newest first.
    ///
    /// # Errors
    ///
    /// If a database can't be read.
    pub fn newest_first(&self) -> Result<Vec<(RecordId, Timestamp)>, DatabaseError> {
        let mut all = Vec::new();
        for (index, database) in self.open.iter().enumerate() {
            let failures = database.newest_first()?;
            all.extend(failures.into_iter().map(|(id, time)| (RecordId { index, id }, time)));
        }
        all.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        Ok(all)
    }

    /// The records of failures in the order of `wanted`, unless they were forgotten in the meantime.
    ///
    /// # Errors
    ///
    /// If a database can't be read.
    pub fn records_in_order(&self, wanted: &[RecordId]) -> Result<Vec<SeenRecord>, DatabaseError> {
        let mut read = HashMap::new();
        for (index, database) in self.open.iter().enumerate() {
            let ids = wanted.iter().filter(|wanted| wanted.index == index).map(|wanted| wanted.id);
            for (id, record) in database.records_of(&ids.collect::<Vec<_>>())? {
                read.insert(RecordId { index, id }, known(record, database, |record| &mut record.summary));
            }
        }
        Ok(wanted.iter().filter_map(|id| read.remove(id)).collect())
    }

    /// The refusals since a day, or all of them, with those of days long ago.
    ///
    /// # Errors
    ///
    /// If a database can't be read.
    pub fn refusals(&self, since: Option<Day>) -> Result<Tally, DatabaseError> {
        let mut all = Tally::default();
        for database in &self.open {
            for (_, tally) in database.refusals(By::Class, since)? {
                all.add(tally);
            }
        }
        Ok(all)
    }

    /// The refusals of each day since `since`, or of all days, and how many builds failed on that day. Of days long ago only the sum is
    /// kept, so they are not listed.
    ///
    /// # Errors
    ///
    /// If a database can't be read.
    pub fn counted_by_day(&self, since: Option<Day>) -> Result<BTreeMap<Day, (Tally, i64)>, DatabaseError> {
        let mut days: BTreeMap<Day, (Tally, i64)> = BTreeMap::new();
        for database in &self.open {
            for (day, tally) in database.refusals_by_day(since)? {
                days.entry(day).or_default().0.add(tally);
            }
            for judged in database.judged_builds(since)?.into_iter().filter(|judged| !judged.day.is_earlier()) {
                let failed = &mut days.entry(judged.day).or_default().1;
                *failed = failed.saturating_add(judged.count);
            }
        }
        Ok(days)
    }

    /// What is recorded for any of `paths`, which are those of derivations or outputs.
    ///
    /// # Errors
    ///
    /// If a database can't be read.
    pub fn find<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a str> + Clone,
    ) -> Result<BTreeSet<RecordId>, DatabaseError> {
        let mut found = BTreeSet::new();
        for (index, database) in self.open.iter().enumerate() {
            found.extend(database.find(paths.clone())?.into_iter().map(|id| RecordId { index, id }));
        }
        Ok(found)
    }

    /// The outputs with a record whose paths begin with this text.
    ///
    /// # Errors
    ///
    /// If a database can't be read.
    pub fn outputs_starting_with(&self, start: &str) -> Result<Vec<String>, DatabaseError> {
        let mut outputs = Vec::new();
        for database in &self.open {
            outputs.extend(database.outputs_starting_with(start)?.iter().map(ToString::to_string));
        }
        Ok(outputs)
    }

    /// The records that were found, unless they were forgotten in the meantime.
    ///
    /// # Errors
    ///
    /// If a database can't be read.
    pub fn records_of(&self, found: &BTreeSet<RecordId>) -> Result<Vec<SeenRecord>, DatabaseError> {
        let mut records = Vec::new();
        for &RecordId { index, id } in found {
            let database = &self.open[index];
            records.extend(database.record(id)?.map(|record| known(record, database, |record| &mut record.summary)));
        }
        Ok(records)
    }

    /// The databases that this user may write to.
    pub fn writable(&mut self) -> impl Iterator<Item = &mut Database> {
        self.open.iter_mut().filter(|database| !database.is_readonly())
    }

    /// A database that this user may only read: one that has a record of this path, if one is given.
    ///
    /// # Errors
    ///
    /// If a database can't be read.
    pub fn readonly_with(&self, path: Option<&str>) -> Result<Option<&Path>, DatabaseError> {
        for database in self.open.iter().filter(|database| database.is_readonly()) {
            let has_it = path.map_or(Ok(true), |path| Ok(!database.find([path])?.is_empty()))?;
            if has_it {
                return Ok(Some(database.path()));
            }
        }
        Ok(None)
    }

    /// The databases that this user may only read, and that have something.
    ///
    /// # Errors
    ///
    /// If a database can't be read.
    pub fn readonly(&mut self) -> Result<Vec<PathBuf>, DatabaseError> {
        let mut paths = Vec::new();
        for database in self.open.iter_mut().filter(|database| database.is_readonly()) {
            if !database.is_empty()? {
                paths.push(database.path().to_owned());
            }
        }
        Ok(paths)
    }

    /// Records of a database as this user sees them.
    pub fn seen(database: &Database, records: Vec<FailureRecord>) -> Vec<SeenRecord> {
        records.into_iter().map(|record| known(record, database, |record| &mut record.summary)).collect()
    }

    /// Forgets what was found. Returns how many that were, and the databases that this user may not change.
    ///
    /// # Errors
    ///
    /// If a database can't be read or written.
    pub fn forget(&mut self, found: &BTreeSet<RecordId>) -> Result<(usize, Vec<PathBuf>), DatabaseError> {
        let (mut count, mut foreign) = (0, Vec::new());
        for (index, database) in self.open.iter_mut().enumerate() {
            let ids: Vec<FailureId> = found.iter().filter(|found| found.index == index).map(|found| found.id).collect();
            if !ids.is_empty() && database.is_readonly() {
                foreign.push(database.path().to_owned());
            } else if !ids.is_empty() {
                count += database.forget_failures(&ids)?;
            }
        }
        Ok((count, foreign))
    }

    /// Asks for a new attempt of what was found, as far as this user may write it down. Returns the records that somebody
    /// else has to be asked about.
    ///
    /// # Errors
    ///
    /// If a database can't be read or written.
    pub fn request_retry(&mut self, found: &BTreeSet<RecordId>) -> Result<Vec<RecordId>, DatabaseError> {
        let mut left = Vec::new();
        for &RecordId { index, id } in found {
            let database = &mut self.open[index];
            if database.is_readonly() {
                left.push(RecordId { index, id });
            } else {
                database.request_retry(&[id], machine::user(), Timestamp::now())?;
            }
        }
        Ok(left)
    }

    /// The database that has a record.
    pub fn path_of(&self, found: RecordId) -> &Path {
        self.open[found.index].path()
    }

    /// The derivation of a record, and whether the next attempt of this user will be made; none if it is gone.
    ///
    /// # Errors
    ///
    /// If a database can't be read.
    pub fn retry_requested(&self, found: RecordId) -> Result<Option<(String, bool)>, DatabaseError> {
        let record = self.open[found.index].record(found.id)?;
        let requested = |record: &FailureRecord| record.summary.retry_requested(machine::user()).is_some();
        Ok(record.map(|record| (record.summary.derivation.to_string(), requested(&record))))
    }
}
