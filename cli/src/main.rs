//! `nix-negative-cache`: looks at and forgets the failures that the plugin recorded. Only `check` needs Nix; the others
//! ask it for its settings if it is there.

mod args;
mod nix;
mod output;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use jiff::Zoned;
use nix_negative_cache_core::database::{Database, DatabaseError, FailureId};
use nix_negative_cache_core::record::FailureRecord;

use args::{
    Arguments, CheckArguments, Command, ExplainArguments, ForgetArguments, ListArguments, SettingsArguments,
    ShowArguments,
};
use nix::{Circumstances, NixError};
use output::Judged;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
enum Failure {
    /// There is no such record: not an error of the database, and told apart by the exit status.
    NothingFound(String),
    /// What `check` is there to tell.
    Known,
    Other(String),
}

impl From<NixError> for Failure {
    fn from(error: NixError) -> Self {
        Failure::Other(error.to_string())
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Failure::Other(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Other(format!("cannot write the output: {error}"))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = io::stdout().lock();
    let result = run(&arguments, &mut out);
    match out.flush().map_err(Failure::from).and(result) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::NothingFound(message)) => {
            eprintln!("nix-negative-cache: {message}");
            ExitCode::from(args::NOTHING_FOUND)
        }
        Err(Failure::Known) => ExitCode::from(args::KNOWN_FAILURE),
        Err(Failure::Other(message)) => {
            eprintln!("nix-negative-cache: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    match &arguments.command {
        Command::List(list) => list_failures(arguments, list, out),
        Command::Show(show) => show_failures(arguments, show, out),
        Command::Forget(forget) => forget_failures(arguments, forget, out),
        Command::Explain(explain) => explain_paths(arguments, explain, out),
        Command::Check(check) => check_derivations(arguments, check, out),
        Command::Path => Ok(writeln!(out, "{}", arguments.database.path().display())?),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            let name = command.get_name().to_owned();
            clap_complete::generate(*shell, &mut command, name, out);
            Ok(())
        }
    }
}

fn list_failures(arguments: &Arguments, list: &ListArguments, out: &mut impl Write) -> Result<(), Failure> {
    let path = arguments.database.path();
    let mut records = match Database::open(&path)? {
        Some(database) => database.records()?,
        None => Vec::new(),
    };
    if !list.all {
        records.retain(FailureRecord::stands);
    }
    if let Some(name) = &list.name {
        records.retain(|record| name.is_match(&record.name));
    }
    if let Some(since) = list.since {
        let start = Zoned::now().checked_sub(since).map_err(|error| Failure::Other(error.to_string()))?.timestamp();
        records.retain(|record| record.last_failure >= start);
    }
    let records = judged(&list.settings, records);
    if list.json {
        Ok(output::json(&records, out)?)
    } else if records.is_empty() {
        eprintln!("no such failure is recorded in '{}'", path.display());
        Ok(())
    } else {
        output::table(&records, out)?;
        // Apart from the table, for those who count its lines.
        out.flush()?;
        if records.iter().any(Judged::is_believed) {
            eprintln!("{LIFTED_BY}");
        }
        Ok(())
    }
}

/// What a list says once for all its failures.
const LIFTED_BY: &str = "What is believed is built again\n  with --option negative-cache-retry true,\n  after \
    nix-negative-cache forget PATH,\n  in another environment, or when its time is over.";

/// Records with what they say of a new attempt.
fn judged(settings: &SettingsArguments, records: Vec<FailureRecord>) -> Vec<Judged> {
    if records.is_empty() {
        return Vec::new();
    }
    Judged::all(records, &Circumstances::ask(settings))
}

/// What is recorded for each of `paths`, and the paths without a record.
fn find(database: Option<&Database>, paths: &[String]) -> Result<(Vec<FailureId>, Vec<String>), Failure> {
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for path in paths {
        let ids = database.map(|database| database.find([path.as_str()])).transpose()?.unwrap_or_default();
        if ids.is_empty() {
            unknown.push(path.clone());
        }
        for id in ids {
            if !found.contains(&id) {
                found.push(id);
            }
        }
    }
    Ok((found, unknown))
}

fn nothing_known(arguments: &Arguments, paths: &[String]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| format!("'{path}'")).collect();
    format!("no failure of {} is recorded in '{}'", paths.join(", "), arguments.database.path().display())
}

fn show_failures(arguments: &Arguments, show: &ShowArguments, out: &mut impl Write) -> Result<(), Failure> {
    let database = Database::open(&arguments.database.path())?;
    let (found, unknown) = find(database.as_ref(), &show.paths)?;
    let records = judged(&show.settings, records_of(database.as_ref(), found)?);
    if show.json {
        output::json(&records, out)?;
    } else {
        output::full(&records, out)?;
    }
    if unknown.is_empty() { Ok(()) } else { Err(Failure::NothingFound(nothing_known(arguments, &unknown))) }
}

fn records_of(database: Option<&Database>, found: Vec<FailureId>) -> Result<Vec<FailureRecord>, Failure> {
    let mut records = Vec::new();
    for id in found {
        records.extend(database.map(|database| database.record(id)).transpose()?.flatten());
    }
    Ok(records)
}

fn explain_paths(arguments: &Arguments, explain: &ExplainArguments, out: &mut impl Write) -> Result<(), Failure> {
    let database = Database::open(&arguments.database.path())?;
    let circumstances = Circumstances::ask(&explain.settings);
    for (place, path) in explain.paths.iter().enumerate() {
        if place > 0 {
            writeln!(out)?;
        }
        // A derivation may have its record by its outputs.
        let mut names = BTreeSet::from([path.clone()]);
        if path.ends_with(".drv") {
            names.extend(nix::outputs(&names));
        }
        let (found, _) = find(database.as_ref(), &names.into_iter().collect::<Vec<_>>())?;
        let records = Judged::all(records_of(database.as_ref(), found)?, &circumstances);
        // What is not in the store any more can't be built, and Nix can't tell; a record still has something to say.
        let derivation = records.first().map_or(path, |judged| &judged.derivation).to_owned();
        let needed = nix::would_build(std::slice::from_ref(&derivation)).ok();
        output::explanation(path, &records, &circumstances.settings, out)?;
        let Some(needed) = needed else { continue };
        if !needed.contains(&derivation) {
            writeln!(out, "But there is nothing to build: Nix has its outputs, or would download them.")?;
        } else if records.iter().all(|judged| !judged.stands_in_the_way(&circumstances.settings)) {
            let others = known(database.as_ref(), &needed, &circumstances)?;
            for judged in others {
                writeln!(out, "But it needs '{}', which is known to fail.", judged.derivation)?;
            }
        }
    }
    Ok(())
}

/// Those of `derivations` that would be refused.
fn known(
    database: Option<&Database>,
    derivations: &BTreeSet<String>,
    circumstances: &Circumstances,
) -> Result<Vec<Judged>, Failure> {
    let Some(database) = database else { return Ok(Vec::new()) };
    let outputs = nix::outputs(derivations);
    let found = database.find(derivations.iter().chain(&outputs).map(String::as_str))?;
    let mut judged = Judged::all(records_of(Some(database), found)?, circumstances);
    judged.retain(|judged| judged.stands_in_the_way(&circumstances.settings));
    Ok(judged)
}

fn check_derivations(arguments: &Arguments, check: &CheckArguments, out: &mut impl Write) -> Result<(), Failure> {
    let circumstances = Circumstances::ask(&check.settings);
    if !circumstances.settings.enabled {
        eprintln!("nix-negative-cache: 'negative-cache' is off: nothing stands in the way");
    }
    let database = Database::open(&arguments.database.path())?;
    let mut needed = nix::would_build(&check.derivations)?;
    if !check.closure {
        needed.retain(|path| check.derivations.contains(path));
    }
    let known = known(database.as_ref(), &needed, &circumstances)?;
    if check.json {
        output::json(&known, out)?;
    } else {
        output::obstacles(&known, out)?;
    }
    if known.is_empty() { Ok(()) } else { Err(Failure::Known) }
}

fn forget_failures(arguments: &Arguments, forget: &ForgetArguments, out: &mut impl Write) -> Result<(), Failure> {
    let path = arguments.database.path();
    let mut database = Database::open(&path)?;
    let (mut found, unknown) = find(database.as_ref(), &forget.paths)?;
    if let Some(database) = &database
        && (forget.all || forget.name.is_some())
    {
        let chosen = |record: &FailureRecord| forget.name.as_ref().is_none_or(|name| name.is_match(&record.name));
        let records = database.records()?;
        let derivations: Vec<&str> =
            records.iter().filter(|record| chosen(record)).map(|record| record.derivation.as_str()).collect();
        found.extend(database.find(derivations)?);
    }
    let count = match &mut database {
        Some(database) => database.forget_failures(&found)?,
        None => 0,
    };
    if count == 0 {
        let message = if forget.paths.is_empty() {
            format!("no such failure is recorded in '{}'; nothing to forget", path.display())
        } else {
            format!("{}; nothing to forget", nothing_known(arguments, &unknown))
        };
        return Err(Failure::NothingFound(message));
    }
    if !unknown.is_empty() {
        eprintln!("nix-negative-cache: {}", nothing_known(arguments, &unknown));
    }
    Ok(writeln!(out, "forgot {count} {}", if count == 1 { "failure" } else { "failures" })?)
}
