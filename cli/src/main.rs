//! `nix-negative-cache`: looks at and forgets the failures that the plugin recorded. Needs no Nix.

mod args;
mod output;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use jiff::Zoned;
use nix_negative_cache_core::database::{Database, DatabaseError, FailureId};
use nix_negative_cache_core::record::FailureRecord;

use args::{Arguments, Command, ForgetArguments, ListArguments, ShowArguments};

/// Why a command did not do what it was asked to.
#[derive(Debug)]
enum Failure {
    /// There is no such record: not an error of the database, and told apart by the exit status.
    NothingFound(String),
    Other(String),
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
    match run(&arguments, &mut out).and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::NothingFound(message)) => {
            eprintln!("nix-negative-cache: {message}");
            ExitCode::from(args::NOTHING_FOUND)
        }
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
    if let Some(name) = &list.name {
        records.retain(|record| name.is_match(&record.name));
    }
    if let Some(since) = list.since {
        let start = Zoned::now().checked_sub(since).map_err(|error| Failure::Other(error.to_string()))?.timestamp();
        records.retain(|record| record.last_failure >= start);
    }
    if list.json {
        Ok(output::json(&records, out)?)
    } else if records.is_empty() {
        eprintln!("no such failure is recorded in '{}'", path.display());
        Ok(())
    } else {
        Ok(output::table(&records, out)?)
    }
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
    let mut records: Vec<FailureRecord> = Vec::new();
    for id in found {
        records.extend(database.as_ref().map(|database| database.record(id)).transpose()?.flatten());
    }
    if show.json {
        output::json(&records, out)?;
    } else {
        output::full(&records, out)?;
    }
    if unknown.is_empty() { Ok(()) } else { Err(Failure::NothingFound(nothing_known(arguments, &unknown))) }
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
