//! `nix-negative-cache fetch`: what binary caches say of derivations, for people who want to know why a failure from elsewhere
//! counts or does not.

use std::collections::BTreeSet;
use std::io::Write;

use jiff::Timestamp;

use crate::args::{Arguments, FetchArguments, SettingsArguments};
use crate::databases::Databases;
use crate::nix::{self, BeliefContext};
use crate::output::Judged;
use crate::{Failure, say_with_name};

/// Has the Nix that builds ask its caches about each path, and prints what they said.
///
/// # Errors
///
/// If nobody can be asked, or one of the paths is not known to fail elsewhere.
pub fn fetch(arguments: &Arguments, fetch: &FetchArguments, out: &mut impl Write) -> Result<(), Failure> {
    let context = BeliefContext::ask(&arguments.database.store_state(), &SettingsArguments::default());
    if context.loads_plugin() && context.settings.trusted_public_keys.is_empty() {
        return Err(Failure::Other(
            "no binary cache is asked, as nobody's key is trusted; put the public key of who publishes failures into the \
             setting 'negative-cache-trusted-public-keys' in nix.conf, and restart nix-daemon if there is one"
                .to_owned(),
        ));
    }
    let mut unknown = Vec::new();
    for path in &fetch.what.paths {
        // What was learned meanwhile is in them, too.
        let databases = Databases::open_visible(arguments.database.paths())?;
        let Some(derivation) = derivation_of(path, &databases)? else {
            say_with_name(&format!("it is not known which derivation makes '{path}'; give the path of the derivation"));
            unknown.push(path.as_str());
            continue;
        };
        drop(databases);
        if nix::is_valid(&[], &derivation).is_ok_and(|is_valid| !is_valid) {
            say_with_name(&format!(
                "'{derivation}' is not in the store, so its outputs are not known; instantiate it again"
            ));
            unknown.push(path.as_str());
            continue;
        }
        let Some(fetched) = nix::fetch(&[derivation.as_str()])? else { return Err(nobody_asks()) };
        writeln!(out, "{derivation}")?;
        for line in &fetched.said {
            writeln!(out, "  {line}")?;
        }
        if fetched.known.is_empty() {
            writeln!(out, "  not known to fail elsewhere")?;
            unknown.push(path.as_str());
            continue;
        }
        match record(arguments, &derivation, &context)? {
            Some(record) => writeln!(out, "  known to fail elsewhere: it {}", record.in_a_line(Timestamp::now()))?,
            None => writeln!(out, "  known to fail elsewhere, and why is only known to the daemon that builds")?,
        }
    }
    if unknown.is_empty() {
        Ok(())
    } else {
        let unknown: Vec<String> = unknown.into_iter().map(|path| format!("'{path}'")).collect();
        Err(Failure::NothingFound(format!("no failure of {} is known elsewhere", unknown.join(", "))))
    }
}

fn nobody_asks() -> Failure {
    Failure::Other(
        "the Nix that builds has no plugin that asks binary caches; it is off there ('negative-cache'), or older than this \
         program; run  nix-negative-cache doctor"
            .to_owned(),
    )
}

/// The derivation of a path: the path itself, or that of an output. `None` if nobody knows it.
///
/// # Errors
///
/// If a database can't be read.
pub fn derivation_of(path: &str, databases: &Databases) -> Result<Option<String>, Failure> {
    if path.ends_with(".drv") {
        return Ok(Some(path.to_owned()));
    }
    let records = databases.records_of(&databases.find([path])?)?;
    let recorded = records.into_iter().next().map(|seen| seen.record.summary.derivation.to_string());
    Ok(recorded.or_else(|| nix::deriver(path)))
}

/// What is recorded of a derivation that failed elsewhere.
fn record(arguments: &Arguments, derivation: &str, context: &BeliefContext) -> Result<Option<Judged>, Failure> {
    let databases = Databases::open_visible(arguments.database.paths())?;
    let mut names = BTreeSet::from([derivation.to_owned()]);
    names.extend(nix::outputs(&names));
    let found = databases.find(names.iter().map(String::as_str))?;
    let judged = Judged::all(databases.records_of(&found)?, context);
    Ok(judged.into_iter().find(Judged::is_from_elsewhere))
}
