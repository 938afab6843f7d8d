//! What is published: failures that others can rely on and that were not published before, and withdrawals of those that
//! have succeeded since.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::io::{self, Write};

use jiff::Timestamp;
use nix_negative_cache_core::database::{Database, DatabaseError, Published};
use nix_negative_cache_core::failure_object::{
    Address, FailureObject, Kind, ObjectError, PERIOD, main_output, period, withdrawal_bytes,
};
use nix_negative_cache_core::portable::{Bar, Place, portable};
use nix_negative_cache_core::record::FailureRecord;
use nix_negative_cache_core::store_path::OutputKey;
use regex::Regex;
use serde::Serialize;

use crate::args::PublishArguments;
use crate::databases::{Databases, SeenRecord};
use crate::nix::BeliefContext;
use crate::{Failure, start_of};

/// Which records were asked for.
pub enum Wanted<'a> {
    /// Those of these derivations or outputs.
    Paths(&'a [String]),
    /// Those that stand, with such a name, and of no earlier time.
    Some { name: Option<&'a Regex>, start: Option<Timestamp> },
}

impl<'a> Wanted<'a> {
    /// Those of a command line.
    ///
    /// # Errors
    ///
    /// If its span of time is too long.
    pub fn of(arguments: &'a PublishArguments) -> Result<Wanted<'a>, Failure> {
        if !arguments.paths.is_empty() {
            return Ok(Wanted::Paths(&arguments.paths));
        }
        Ok(Wanted::Some { name: arguments.name.as_ref(), start: start_of(arguments.since)? })
    }

    /// The paths that were asked for, if some were.
    pub fn paths(&self) -> &[String] {
        match self {
            Wanted::Paths(paths) => paths,
            Wanted::Some { .. } => &[],
        }
    }

    /// The records of a database that were asked for. Adds the paths with a record to `found`.
    fn records(&self, database: &Database, found: &mut BTreeSet<String>) -> Result<Vec<FailureRecord>, DatabaseError> {
        match self {
            Wanted::Paths(paths) => {
                let mut ids = BTreeSet::new();
                for path in *paths {
                    let some = database.find([path.as_str()])?;
                    if !some.is_empty() {
                        found.insert(path.clone());
                    }
                    ids.extend(some);
                }
                ids.into_iter().filter_map(|id| database.record(id).transpose()).collect()
            }
            Wanted::Some { name, start } => {
                let mut records = database.records()?;
                records.retain(|record| {
                    let summary = &record.summary;
                    summary.stands()
                        && name.is_none_or(|name| name.is_match(&summary.name))
                        && start.is_none_or(|start| summary.last_failure >= start)
                });
                Ok(records)
            }
        }
    }
}

/// What an object is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Failure,
    Withdrawal,
}

/// An object to publish.
#[derive(Debug)]
pub struct Object {
    pub purpose: Purpose,
    /// The index, among the databases that this user may write to, of the one it comes from.
    pub database: usize,
    /// The derivation that failed or, for a withdrawal, has succeeded.
    pub derivation: String,
    pub store_dir: String,
    /// Its store path; not known as long as nobody knows who signs it.
    pub path: Option<String>,
    pub content: Vec<u8>,
    /// What to note when it is published.
    pub published: Option<Published>,
}

/// Why a failure stays on this machine. Its text is a sentence without an end.
#[derive(Debug)]
pub enum Reason {
    /// It is not portable.
    Bar(Bar),
    /// It has succeeded since.
    Succeeded,
    /// Nobody elsewhere would believe it any more.
    Old,
    /// It has no output, or is not in the form of an object.
    Unfit(ObjectError),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Bar(bar) => f.write_str(bar.rule()),
            Reason::Succeeded => f.write_str("it has succeeded since"),
            Reason::Old => {
                f.write_str("it failed more than 7 days ago, and nobody elsewhere believes a failure for longer")
            }
            Reason::Unfit(error) => write!(f, "it {error}"),
        }
    }
}

/// What is published, and what is not.
#[derive(Debug, Default)]
pub struct Plan {
    pub objects: Vec<Object>,
    /// Derivations whose failures are not published.
    pub staying: Vec<(String, Reason)>,
    /// How many of the failures that were asked for are published or withdrawn, by this plan or before.
    pub published: usize,
    /// The paths with a record, of those that were asked for.
    pub found: BTreeSet<String>,
}

/// What a plan is made for.
#[derive(Clone, Copy)]
struct Publication<'a> {
    context: &'a BeliefContext,
    signer: Option<&'a str>,
    place: Place,
    with_log: bool,
    now: Timestamp,
}

impl Plan {
    /// Makes the plan for a destination, whose signer may have to be named yet.
    ///
    /// # Errors
    ///
    /// If a database can't be read.
    pub fn make(
        databases: &mut Databases,
        wanted: &Wanted<'_>,
        context: &BeliefContext,
        destination: &str,
        signer: Option<&str>,
        place: Place,
        no_log: bool,
    ) -> Result<Plan, DatabaseError> {
        let with_log = !no_log && context.settings.keep_log;
        let publication = Publication { context, signer, place, with_log, now: Timestamp::now() };
        let mut plan = Plan::default();
        for (index, database) in databases.writable().enumerate() {
            let published = database.published(destination)?;
            let records = wanted.records(database, &mut plan.found)?;
            plan.add_failures(publication, index, Databases::seen(database, records), &published);
            plan.add_withdrawals(publication, index, database, &published)?;
        }
        Ok(plan)
    }

    fn add_failures(
        &mut self,
        publication: Publication<'_>,
        database: usize,
        records: Vec<SeenRecord>,
        published: &[Published],
    ) {
        let of_signer = |published: &&Published| Some(published.signer.as_str()) == publication.signer;
        let known: HashSet<(&OutputKey, i64)> =
            published.iter().filter(of_signer).map(|published| (&published.key, published.period)).collect();
        for seen in records {
            let Publication { context, place, with_log, now, .. } = publication;
            match portable_object(context, place, with_log, now, &seen) {
                Err(reason) => self.staying.push((seen.record.summary.derivation.to_string(), reason)),
                Ok((key, period, content)) => {
                    self.published += 1;
                    if known.contains(&(&key, period)) {
                        continue;
                    }
                    let record = seen.record;
                    let (path, published) = publication.named(Kind::Failure, key, period, &record.store_dir);
                    self.objects.push(Object {
                        purpose: Purpose::Failure,
                        database,
                        derivation: record.summary.derivation.to_string(),
                        store_dir: record.store_dir,
                        path,
                        content,
                        published,
                    });
                }
            }
        }
    }

    /// Withdraws published failures of derivations that have succeeded since, unless nobody believes them any more. Of failures
    /// that were forgotten, nothing is known.
    fn add_withdrawals(
        &mut self,
        publication: Publication<'_>,
        index: usize,
        database: &Database,
        published: &[Published],
    ) -> Result<(), DatabaseError> {
        let oldest = period(publication.now) - 1;
        for Published { key, period, signer, withdrawn } in published {
            let by_signer = publication.signer.is_none_or(|name| name == signer);
            if *withdrawn || !by_signer || *period < oldest {
                continue;
            }
            for id in database.find([key.as_str()])? {
                let Some(record) = database.record(id)? else { continue };
                let is_success = record.summary.history.first().is_some_and(|attempt| attempt.failure.is_none());
                let is_main = main_output(&record.outputs, |output| &output.name).is_some_and(|main| main.key == *key);
                if !is_success || !is_main {
                    continue;
                }
                let derivation = record.summary.derivation.to_string();
                if let Some(place) = self.staying.iter().position(|(staying, _)| *staying == derivation) {
                    self.staying.remove(place);
                    self.published += 1;
                }
                let named = Publication { signer: Some(signer), ..publication };
                let (path, published) = named.named(Kind::Withdrawal, key.clone(), *period, &record.store_dir);
                self.objects.push(Object {
                    purpose: Purpose::Withdrawal,
                    database: index,
                    derivation,
                    store_dir: record.store_dir,
                    path,
                    content: withdrawal_bytes(key),
                    published,
                });
            }
        }
        Ok(())
    }
}

/// The output, the period and the bytes of the object of a failure, if it may be published.
///
/// # Errors
///
/// Why it may not.
pub fn portable_object(
    context: &BeliefContext,
    place: Place,
    with_log: bool,
    now: Timestamp,
    seen: &SeenRecord,
) -> Result<(OutputKey, i64, Vec<u8>), Reason> {
    let record = &seen.record;
    if !record.summary.stands() {
        return Err(Reason::Succeeded);
    }
    portable(record, &context.belief(seen, now), place).map_err(Reason::Bar)?;
    if now.as_second() - record.summary.last_failure.as_second() > PERIOD {
        return Err(Reason::Old);
    }
    let output = main_output(&record.outputs, |output| &output.name);
    let output = output.ok_or(Reason::Unfit(ObjectError::OtherOutput))?;
    let content = FailureObject::of(record, with_log).to_bytes().map_err(Reason::Unfit)?;
    Ok((output.key.clone(), period(record.summary.last_failure), content))
}

impl Publication<'_> {
    /// The path of an object, and what to note of it; nothing if nobody knows who signs.
    fn named(self, kind: Kind, key: OutputKey, period: i64, store_dir: &str) -> (Option<String>, Option<Published>) {
        let Some(signer) = self.signer else { return (None, None) };
        let path = Address { kind, key: &key, period, signer }.path(store_dir);
        let withdrawn = kind == Kind::Withdrawal;
        (Some(path), Some(Published { key, period, signer: signer.to_owned(), withdrawn }))
    }
}

/// A plan for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonPlan<'a> {
    destination: &'a str,
    signer: Option<&'a str>,
    failures: Vec<JsonObject<'a>>,
    withdrawals: Vec<JsonObject<'a>>,
    staying: Vec<JsonStaying<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonObject<'a> {
    drv_path: &'a str,
    path: Option<&'a str>,
    /// The bytes, which are text.
    content: Cow<'a, str>,
}

impl<'a> JsonObject<'a> {
    fn of(object: &'a Object) -> JsonObject<'a> {
        let Object { derivation, path, content, .. } = object;
        JsonObject { drv_path: derivation, path: path.as_deref(), content: String::from_utf8_lossy(content) }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonStaying<'a> {
    drv_path: &'a str,
    why: String,
}

impl Plan {
    fn objects_for(&self, purpose: Purpose) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(move |object| object.purpose == purpose)
    }

    /// Prints the plan for programs.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub fn json(&self, destination: &str, signer: Option<&str>, out: &mut impl Write) -> io::Result<()> {
        let objects = |purpose| self.objects_for(purpose).map(JsonObject::of).collect();
        let staying = self.staying.iter().map(|(drv_path, why)| JsonStaying { drv_path, why: why.to_string() });
        let plan = JsonPlan {
            destination,
            signer,
            failures: objects(Purpose::Failure),
            withdrawals: objects(Purpose::Withdrawal),
            staying: staying.collect(),
        };
        serde_json::to_writer_pretty(&mut *out, &plan)?;
        writeln!(out)
    }

    /// Prints the plan for people.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub fn print(&self, destination: &str, signer: Option<&str>, out: &mut impl Write) -> io::Result<()> {
        if signer.is_none() {
            writeln!(
                out,
                "Nobody is named who signs, so the paths are not known. Add  --key-file FILE  or  --signer NAME."
            )?;
        }
        let signed = signer.map(|name| format!(", signed by {name}")).unwrap_or_default();
        for (purpose, what) in [
            (Purpose::Failure, "These failures would be published in"),
            (Purpose::Withdrawal, "These failures would be withdrawn from"),
        ] {
            let mut objects = self.objects_for(purpose).peekable();
            if objects.peek().is_some() {
                writeln!(out, "{what} {destination}{signed}:")?;
            }
            for Object { derivation, path, content, .. } in objects {
                writeln!(out, "{derivation}")?;
                writeln!(out, "  {}", path.as_deref().unwrap_or("a path that is not known yet"))?;
                writeln!(out, "  {}", String::from_utf8_lossy(content).trim_end())?;
            }
        }
        if self.objects.is_empty() {
            writeln!(out, "Nothing new would be published in {destination}.")?;
        }
        if !self.staying.is_empty() {
            writeln!(out, "These failures stay on this machine:")?;
        }
        for (derivation, why) in &self.staying {
            writeln!(out, "{derivation}: {why}")?;
        }
        Ok(())
    }
}
