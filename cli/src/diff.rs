//! `nix-negative-cache diff`: what has changed between the environment of a failure and here.

use std::io::{self, Write};

use jiff::Timestamp;
use nix_negative_cache_core::belief::{Attempt, FailedAttempt};
use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::environment::{Change, Environment};
use nix_negative_cache_core::time_text::{ago, as_seconds};
use serde::Serialize;

use crate::args::{Arguments, DiffArguments};
use crate::databases::SeenRecord;
use crate::look::Look;
use crate::nix::Environments;
use crate::{Failure, databases, find, nothing_known};

/// The last attempt of a record that failed, and what has changed since.
struct Compared<'a> {
    record: &'a SeenRecord,
    time: Timestamp,
    failure: &'a FailedAttempt,
    /// `None` if nothing is known of the environment in which it failed.
    changes: Option<Vec<Change>>,
}

impl<'a> Compared<'a> {
    fn with(record: &'a SeenRecord, here: &Environment) -> Option<Compared<'a>> {
        let failed = |attempt: &'a Attempt| Some((attempt.time, attempt.failure.as_ref()?));
        let (time, failure) = record.record.summary.history.iter().find_map(failed)?;
        let is_known = failure.origin.is_none() && !failure.environment.is_unknown();
        let changes = is_known.then(|| failure.environment.changes(here, failure.class));
        Some(Compared { record, time, failure, changes })
    }

    fn print(&self, look: &Look, now: Timestamp, out: &mut impl Write) -> io::Result<()> {
        let (heading, old, new, aside) = (look.heading(), look.before(), look.after(), look.aside());
        let summary = &self.record.record.summary;
        let path = look.path(summary.derivation.as_str());
        writeln!(out, "{heading}{path}{heading:#} failed {}", ago(self.time, now))?;
        match (&self.changes, &self.failure.origin) {
            (Some(changes), _) if changes.is_empty() => writeln!(out, "  the environment here is the same"),
            (Some(changes), _) => changes.iter().try_for_each(|Change { difference, matters }| {
                let (recorded, here) = difference.values();
                if *matters {
                    writeln!(out, "  {} was {old}{recorded}{old:#} and is {new}{here}{new:#}", difference.factor)
                } else {
                    let factor = difference.factor;
                    writeln!(out, "  {aside}{factor} was {recorded} and is {here}, which does not matter{aside:#}")
                }
            }),
            (None, Some(_)) => {
                writeln!(out, "  it failed {}, and the environment there is not known", self.record.record.place())
            }
            (None, None) => writeln!(out, "  the environment in which it failed is not known"),
        }
    }

    fn json(&self) -> Json<'_> {
        let Compared { record, time, failure, changes } = self;
        let change = |Change { difference, matters }: &Change| JsonChange {
            factor: difference.factor,
            recorded: difference.recorded.clone(),
            now: difference.now.clone(),
            matters: *matters,
        };
        Json {
            drv_path: record.record.summary.derivation.as_str(),
            time: *time,
            class: failure.class,
            same: changes.as_ref().map(Vec::is_empty),
            changes: changes.as_ref().map(|changes| changes.iter().map(change).collect()),
        }
    }
}

/// The same for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    drv_path: &'a str,
    #[serde(serialize_with = "as_seconds")]
    time: Timestamp,
    class: Class,
    same: Option<bool>,
    changes: Option<Vec<JsonChange>>,
}

#[derive(Debug, Serialize)]
struct JsonChange {
    factor: &'static str,
    recorded: Option<String>,
    now: Option<String>,
    matters: bool,
}

/// Prints what has changed.
///
/// # Errors
///
/// If nothing is recorded of one of the paths, or Nix does not say what the environment is here.
pub fn diff(arguments: &Arguments, diff: &DiffArguments, out: &mut impl Write) -> Result<(), Failure> {
    let databases = databases(arguments)?;
    let (found, unknown) = find(&databases, &diff.what.paths)?;
    let records = databases.records_of(&found)?;
    let mut compared = Vec::new();
    if !records.is_empty() {
        let environments = Environments::ask(&arguments.database.store_state())?;
        let with_here = |seen| Compared::with(seen, environments.of(seen.by).now());
        compared = records.iter().filter_map(with_here).collect();
    }
    if diff.json {
        let all: Vec<Json<'_>> = compared.iter().map(Compared::json).collect();
        serde_json::to_writer_pretty(&mut *out, &all).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        let (look, now) = (Look::of_stdout(true), Timestamp::now());
        compared.iter().try_for_each(|compared| compared.print(&look, now, out))?;
    }
    if unknown.is_empty() { Ok(()) } else { Err(Failure::NothingFound(nothing_known(&databases, &unknown))) }
}
