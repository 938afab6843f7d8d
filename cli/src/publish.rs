//! `nix-negative-cache publish`: failures for others, in a binary cache.
//!
//! [`plan`] chooses what is published. [`cache_folder`] is the folder to which it is written as a binary cache, [`key`] signs
//! it, and stock `nix copy` uploads it to its [`destination`]. What went where is noted in the database that it came from.

mod cache_folder;
mod destination;
mod key;
mod plan;

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Write};
use std::path::Path;

use jiff::Timestamp;
use nix_negative_cache_core::database::DatabaseError;

use cache_folder::CacheFolder;
use destination::Destination;
use key::{KeyError, SigningKey};
pub use plan::portable_object;
use plan::{Object, Plan, Purpose, Wanted};

use crate::args::{Arguments, PublishArguments, SettingsArguments};
use crate::databases::Databases;
use crate::nix::{self, BeliefContext, NixError};
use crate::{Failure, counted, nothing_known, say_with_name};

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Failure::Other(error.to_string())
    }
}

/// Who signs.
enum Signer {
    /// This program.
    Here(SigningKey),
    /// The cache, or Nix during the copy, with a key of this name.
    Other(String),
    /// Nobody was named.
    Nobody,
}

impl Signer {
    fn of(arguments: &PublishArguments, destination: &Destination) -> Result<Signer, KeyError> {
        Ok(match (&arguments.key_file, &arguments.signer, &destination.key_file) {
            (Some(file), _, _) => Signer::Here(SigningKey::read(file)?),
            (None, Some(name), _) => Signer::Other(name.clone()),
            (None, None, Some(file)) => Signer::Other(SigningKey::read(file)?.name),
            (None, None, None) => Signer::Nobody,
        })
    }

    fn name(&self) -> Option<&str> {
        match self {
            Signer::Here(key) => Some(&key.name),
            Signer::Other(name) => Some(name),
            Signer::Nobody => None,
        }
    }

    fn key(&self) -> Option<&SigningKey> {
        match self {
            Signer::Here(key) => Some(key),
            Signer::Other(_) | Signer::Nobody => None,
        }
    }
}

/// Publishes what was asked for, or says what would be published.
///
/// # Errors
///
/// If it can't be published, or something that was asked for is not recorded.
pub fn publish(arguments: &Arguments, publish: &PublishArguments, out: &mut impl Write) -> Result<(), Failure> {
    let destination = Destination::new(&publish.to);
    let signer = Signer::of(publish, &destination)?;
    if signer.name().is_none() && !publish.dry_run {
        return Err(Failure::Other(
            "nobody is named who signs; add  --key-file FILE  with a key that nix-store --generate-binary-cache-key makes, or  \
             --signer NAME  if the cache signs by itself"
                .to_owned(),
        ));
    }
    let mut databases = Databases::open(arguments.database.paths())?;
    let wanted = Wanted::of(publish)?;
    let context = BeliefContext::ask(&arguments.database.store_state(), &SettingsArguments::default());
    let plan = Plan::make(
        &mut databases,
        &wanted,
        &context,
        &destination.name,
        signer.name(),
        publish.place(),
        publish.no_log,
    )?;
    let unknown: Vec<String> = wanted.paths().iter().filter(|path| !plan.found.contains(*path)).cloned().collect();
    // What another user has is not this user's to publish, and no record at all is something else.
    let foreign = match unknown.first() {
        Some(path) => databases.readonly_with(Some(path))?,
        None if databases.writable().next().is_none() => databases.readonly_with(None)?,
        None => None,
    };
    if let Some(path) = foreign {
        return Err(Failure::Other(format!("only the owner of '{}' may publish its failures", path.display())));
    }
    let asks_for_paths = !wanted.paths().is_empty();
    if publish.dry_run {
        if publish.json {
            plan.json(&destination.name, signer.name(), out)?;
        } else {
            plan.print(&destination.name, signer.name(), out)?;
        }
    } else {
        if !plan.objects.is_empty() {
            upload(&plan.objects, &destination, signer.key(), &context)?;
            note(&mut databases, &plan.objects, &destination)?;
        }
        for (derivation, why) in plan.staying.iter().filter(|_| asks_for_paths) {
            say_with_name(&format!("'{derivation}' stays on this machine: {why}"));
        }
        if !plan.objects.is_empty() || plan.published > 0 || !asks_for_paths {
            let staying = if asks_for_paths { 0 } else { plan.staying.len() };
            writeln!(out, "{}", summary(&plan.objects, staying, &destination.name))?;
        }
    }
    if !unknown.is_empty() {
        return Err(Failure::NothingFound(nothing_known(&databases, &unknown)));
    }
    if asks_for_paths && plan.published == 0 && !publish.dry_run {
        return Err(Failure::Other("nothing that was asked for can be published".to_owned()));
    }
    Ok(())
}

/// What was done, in a line; `staying` is how many failures are not published.
fn summary(objects: &[Object], staying: usize, destination: &str) -> String {
    let count = |purpose: Purpose| objects.iter().filter(|object| object.purpose == purpose).count();
    let done = if objects.is_empty() {
        format!("there is nothing new to publish in {destination}")
    } else {
        let failures = counted(count(Purpose::Failure), "failure");
        format!("published {failures} and {} to {destination}", counted(count(Purpose::Withdrawal), "withdrawal"))
    };
    match staying {
        0 => done,
        1 => format!("{done}; 1 other stays on this machine (see --dry-run)"),
        staying => format!("{done}; {staying} others stay on this machine (see --dry-run)"),
    }
}

/// How many bytes of paths a command line gets; the system has a limit.
const BYTES_AT_ONCE: usize = 256 * 1024;

/// Writes objects to a folder and has Nix copy them from there.
fn upload(
    objects: &[Object],
    destination: &Destination,
    key: Option<&SigningKey>,
    context: &BeliefContext,
) -> Result<(), Failure> {
    let unwritable = |error: io::Error| {
        let folder = env::temp_dir();
        Failure::Other(format!("cannot write what is to be published to '{}': {error}; set TMPDIR", folder.display()))
    };
    let mut stores: BTreeMap<&str, Vec<(&str, &Object)>> = BTreeMap::new();
    for object in objects {
        if let Some(path) = &object.path {
            stores.entry(&object.store_dir).or_default().push((path, object));
        }
    }
    for (store_dir, objects) in stores {
        let folder = CacheFolder::new(store_dir, key).map_err(unwritable)?;
        for (path, object) in &objects {
            folder.add(path, &object.content).map_err(unwritable)?;
        }
        let paths: Vec<&str> = objects.into_iter().map(|(path, _)| path).collect();
        for some in in_pieces(&paths, BYTES_AT_ONCE) {
            copy(folder.path(), &destination.url, some, context).map_err(|why| {
                Failure::Other(format!(
                    "nothing was noted as published in {}: {why}. Correct what it says, and run this again",
                    destination.name
                ))
            })?;
        }
    }
    Ok(())
}

fn copy(folder: &Path, url: &str, paths: &[&str], context: &BeliefContext) -> Result<(), NixError> {
    let from = format!("file://{}", folder.display());
    let arguments = ["copy", "--from", &from, "--to", url].into_iter().chain(paths.iter().copied());
    nix::run_in_sight(context.loads_plugin(), arguments)
}

/// Pieces of a list, each with at most so many bytes, or of one text.
fn in_pieces<'a, 'b>(mut texts: &'a [&'b str], bytes: usize) -> Vec<&'a [&'b str]> {
    let mut pieces = Vec::new();
    while !texts.is_empty() {
        let mut left = bytes;
        let fits = |text: &&&str| {
            let rest = left.checked_sub(text.len() + 1);
            left = rest.unwrap_or(left);
            rest.is_some()
        };
        let count = texts.iter().take_while(fits).count().max(1);
        let (piece, rest) = texts.split_at(count);
        pieces.push(piece);
        texts = rest;
    }
    pieces
}

/// Notes what was published, each in the database that it came from.
fn note(databases: &mut Databases, objects: &[Object], destination: &Destination) -> Result<(), DatabaseError> {
    let now = Timestamp::now();
    for (index, database) in databases.writable().enumerate() {
        let published: Vec<_> = objects.iter().filter(|object| object.database == index).collect();
        let published: Vec<_> = published.into_iter().filter_map(|object| object.published.clone()).collect();
        if !published.is_empty() {
            database.note_published(&destination.name, &published, now)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_in_a_line_what_was_done() {
        assert_eq!(summary(&[], 0, "file:///a"), "there is nothing new to publish in file:///a");
        let object = |purpose| Object {
            purpose,
            database: 0,
            derivation: String::new(),
            store_dir: String::new(),
            path: None,
            content: Vec::new(),
            published: None,
        };
        let objects = [Purpose::Failure, Purpose::Withdrawal, Purpose::Withdrawal].map(object);
        let done = "published 1 failure and 2 withdrawals to file:///a";
        assert_eq!(summary(&objects, 1, "file:///a"), format!("{done}; 1 other stays on this machine (see --dry-run)"));
        let staying = "3 others stay on this machine (see --dry-run)";
        assert_eq!(summary(&objects, 3, "file:///a"), format!("{done}; {staying}"));
    }

    #[test]
    fn long_lists_go_in_pieces() {
        assert!(in_pieces(&[], 8).is_empty());
        let texts = ["abc", "abc", "abc", "a text that is longer", "abc"];
        let pieces = in_pieces(&texts, 8);
        assert_eq!(pieces, [&texts[..2], &texts[2..3], &texts[3..4], &texts[4..]]);
    }
}
