//! What needs a derivation that is known to fail: the store of the Nix in PATH knows, as far as it has derivations.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::thread;

use nix_negative_cache_core::store_path::{derivation_name, is_store_path};

use super::model::Entry;
use crate::nix::{self, NixError};

/// How many failures are asked about. Nix is started for each.
pub const ASKED: usize = 100;

/// How many dependents are named.
const NAMED: usize = 50;

/// How many processes of Nix run at once.
const AT_ONCE: usize = 4;

/// What known failures block.
pub enum Blocking {
    /// As the store knows; first those that block most.
    Known {
        failures: Vec<Blocker>,
        /// How many failures were asked about.
        asked: usize,
        /// How many of them the store does not have.
        gone: usize,
        /// How many more failures are believed.
        others: usize,
    },
    /// The store can't be asked.
    Unknown(String),
}

/// A known failure that blocks something.
pub struct Blocker {
    pub name: String,
    /// The number of the failure on the page.
    pub number: usize,
    /// How many derivations need it.
    pub count: usize,
    /// The names of some of them.
    pub named: Vec<String>,
}

impl Blocker {
    /// How many dependents are not named.
    pub fn unnamed(&self) -> usize {
        self.count - self.named.len()
    }
}

/// Asks Nix what `believed` failures block; there are `others` more.
pub fn ask(believed: &[&Entry], others: usize) -> Blocking {
    match known(believed, others) {
        Ok(known) => known,
        Err(error) => Blocking::Unknown(error.to_user()),
    }
}

fn known(believed: &[&Entry], others: usize) -> Result<Blocking, NixError> {
    let is_path = |path: &str| path.starts_with('/') && is_store_path(path);
    let paths: Vec<&str> =
        believed.iter().map(|entry| entry.derivation.as_str()).filter(|path| is_path(path)).collect();
    let there = valid(&paths)?;
    let there: Vec<&Entry> =
        believed.iter().copied().filter(|entry| there.contains(entry.derivation.as_str())).collect();
    let of_some = |some: &[&Entry]| some.iter().map(|entry| dependents(&entry.derivation)).collect::<Vec<_>>();
    let dependents: Vec<_> = thread::scope(|scope| {
        let pieces = there.chunks(there.len().div_ceil(AT_ONCE).max(1));
        let running: Vec<_> = pieces.map(|some| scope.spawn(|| of_some(some))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    let mut failures = Vec::new();
    for (entry, dependents) in there.iter().zip(dependents) {
        let mut names = dependents?;
        let count = names.len();
        if count > 0 {
            names.sort_unstable();
            names.truncate(NAMED);
            failures.push(Blocker { name: entry.name.clone(), number: entry.number, count, named: names });
        }
    }
    failures.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.name.cmp(&other.name)));
    Ok(Blocking::Known { failures, asked: believed.len(), gone: believed.len() - there.len(), others })
}

/// Those of `paths` that the store has. It would call others paths that nothing needs.
fn valid<'a>(paths: &[&'a str]) -> Result<BTreeSet<&'a str>, NixError> {
    if paths.is_empty() {
        return Ok(BTreeSet::new());
    }
    let (out, _) = nix::run("nix-store", ["--check-validity", "--print-invalid"].iter().chain(paths))?;
    let invalid: BTreeSet<&str> = out.lines().map(str::trim).collect();
    Ok(paths.iter().copied().filter(|path| !invalid.contains(path)).collect())
}

/// The names of the derivations that need this one, in one step or in many.
fn dependents(derivation: &str) -> Result<Vec<String>, NixError> {
    let (out, _) = nix::run("nix-store", ["--query", "--referrers-closure", derivation])?;
    let others = out.lines().map(str::trim).filter(|path| *path != derivation && path.ends_with(".drv"));
    let name = |path: &str| path.rsplit('/').next().map(derivation_name).unwrap_or_default().to_owned();
    Ok(others.map(name).collect())
}
