//! What is known to fail of a request, and what is done about that.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use jiff::Timestamp;
use nix_negative_cache_core::belief::Belief;
use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::database::FailureId;
use nix_negative_cache_core::environment::Comparison;
use nix_negative_cache_core::record::{self, Believed, FailureRecord};
use nix_negative_cache_core::store_path::OutputKey;
use nix_negative_cache_core::{decision, refusal};

use crate::cache::{consulting, seen, with_own};
use crate::policy::Policy;
use crate::{FailedRequest, KnownFailure, MissingDerivation, MissingDerivations, Output, Verdict};

/// A failure that stands in the way.
struct Known {
    database: PathBuf,
    id: FailureId,
    record: FailureRecord,
    /// The place of the attempt that it rests on.
    attempt: usize,
}

impl Known {
    fn believed(&self) -> Believed<'_> {
        self.record.believed(self.attempt)
    }
}

/// A request that is looked at.
pub struct Consultation {
    now: Timestamp,
    /// By the places of the derivations among all that would be built.
    known: BTreeMap<usize, Known>,
    /// What failed before but does not stand in the way.
    doubted: Vec<KnownFailure>,
}

impl Consultation {
    /// Of which nothing is known yet.
    pub fn new() -> Consultation {
        Consultation { now: Timestamp::now(), known: BTreeMap::new(), doubted: Vec::new() }
    }

    /// The places of those of `names` that something is called that is known to fail.
    pub fn candidates(policy: &Policy, names: &[&str]) -> Result<Vec<usize>, String> {
        let mut places = BTreeSet::new();
        for path in policy.consulted() {
            places.extend(consulting(policy, path, |database| database.candidates(names))?);
        }
        Ok(places.into_iter().collect())
    }

    /// Which of the requested derivations are known to fail by their own paths: all that is known of those holds, whatever
    /// else they need. A fetch may be had in other ways, so it is not looked up like that.
    pub fn look_by_derivation(
        &mut self,
        policy: &Policy,
        derivations: &[String],
    ) -> Result<Vec<FailedRequest>, String> {
        let mut failed = Vec::new();
        let here = LazyCell::new(|| Comparison::with(policy.environment()));
        for path in policy.consulted() {
            let records = consulting(policy, path, |database| database.known_derivations(derivations))?;
            for (id, record) in records {
                let place = derivations.iter().position(|derivation| derivation == record.summary.derivation.as_str());
                let Some(place) = place.filter(|place| !self.known.contains_key(place)) else { continue };
                let record = seen(policy, record);
                let belief = record.summary.belief(policy.user, &here, policy.settings()?, self.now);
                if let (Belief::Fails { attempt, .. }, false) = (belief, record.summary.class == Class::Fetch) {
                    let output =
                        |output: &record::Output| Output { name: output.name.clone(), path: output.key.to_string() };
                    failed.push(FailedRequest { place, outputs: record.outputs.iter().map(output).collect() });
                    self.known.insert(place, Known { database: path.to_owned(), id, record, attempt });
                }
            }
        }
        Ok(failed)
    }

    /// Looks up what is known of `missing`. Of a fetch, only what happened to the same one counts: the output of a fetch is
    /// the same however it is made, so that everybody can make up one that fails.
    pub fn look(&mut self, policy: &Policy, missing: &[MissingDerivation]) -> Result<(), String> {
        let here = LazyCell::new(|| Comparison::with(policy.environment()));
        for path in policy.consulted() {
            let keys: Vec<Vec<OutputKey>> = missing
                .iter()
                .map(|missing| missing.outputs.iter().map(|key| OutputKey::from(key.as_str())).collect())
                .collect();
            let found = consulting(policy, path, |database| {
                let version = database.version()?;
                let failures = database.known(keys.iter().flatten())?;
                let ids: BTreeSet<FailureId> = failures.values().copied().collect();
                let records = database.records_of(&ids.into_iter().collect::<Vec<_>>())?;
                Ok(Some((version, failures, records)))
            })?;
            let Some((version, failures, records)) = found else { continue };
            let mut doubted: Vec<OutputKey> = Vec::new();
            for (missing, keys) in missing.iter().zip(keys) {
                let Some(id) = keys.iter().find_map(|key| failures.get(key)) else { continue };
                let Some(record) = records.get(id) else { continue };
                if !record.summary.counts_for([missing.path.as_str()]) {
                    continue;
                }
                let record = seen(policy, record.clone());
                match record.summary.belief(policy.user, &here, policy.settings()?, self.now) {
                    Belief::Fails { attempt, .. } => {
                        let known = Known { database: path.to_owned(), id: *id, record, attempt };
                        self.known.entry(missing.place).or_insert(known);
                    }
                    Belief::Open(doubt) => {
                        self.doubted.push(KnownFailure {
                            place: missing.place,
                            text: format!("failed before, but may be built: {doubt}"),
                            status: record.summary.class.into(),
                        });
                        doubted.extend(keys);
                    }
                }
            }
            // Who asks again gets the same answer, and should get it quickly: Nix asks often.
            consulting(policy, path, |database| database.set_aside(version, doubted))?;
        }
        Ok(())
    }

    /// How many of the derivations that were looked up are known to fail.
    pub fn known_count(&self) -> usize {
        self.known.len()
    }

    /// What is done about the request for the derivations at the places `requested`.
    pub fn verdict(
        &mut self,
        policy: &Policy,
        requested: &[usize],
        keep_going: bool,
        missing: &MissingDerivations,
    ) -> Result<Verdict, String> {
        let mut verdict = Verdict { doubted: std::mem::take(&mut self.doubted), ..Verdict::default() };
        let requested: HashSet<usize> = requested.iter().copied().collect();
        let places: BTreeSet<usize> = self.known.keys().copied().collect();
        let users = |place| Ok::<_, String>(missing.users(place));
        let say = |places: &[usize], text: fn(&Believed<'_>, Timestamp, &refusal::Wording<'_>) -> String| {
            let said = places.iter().filter_map(|place| Some((*place, self.known.get(place)?)));
            let said = said.map(|(place, known)| {
                let believed = known.believed();
                let text = text(&believed, self.now, &policy.wording(&known.database));
                KnownFailure { place, text, status: believed.class.into() }
            });
            said.collect()
        };
        match decision::decide(policy.settings()?, keep_going, &requested, &places, users)? {
            decision::Decision::Build => {}
            decision::Decision::Warn(places) => verdict.warnings = say(&places, refusal::warning),
            decision::Decision::Refuse { known: places, dependents } => {
                verdict.known = say(&places, refusal::refusal);
                verdict.dependents = dependents;
                self.note_use(policy, &places)?;
            }
        }
        Ok(verdict)
    }

    fn note_use(&self, policy: &Policy, places: &[usize]) -> Result<(), String> {
        let own = |known: &&Known| Some(known.database.as_path()) == policy.database.as_deref();
        let used: Vec<FailureId> =
            places.iter().filter_map(|place| self.known.get(place)).filter(own).map(|known| known.id).collect();
        with_own(policy, false, |database| {
            database.into_iter().for_each(|database| database.note_use(&used, self.now));
            Ok(())
        })
    }
}
