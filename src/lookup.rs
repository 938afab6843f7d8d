//! Looks up known failures: for requests, for derivations that are about to be built, and for `builtins.knownFailure`.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use nix_negative_cache_core::belief::{Belief, Doubt, Source, believe};
use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::counts;
use nix_negative_cache_core::database::{Database, DatabaseError, FailureId};
use nix_negative_cache_core::decision::Decision;
use nix_negative_cache_core::elsewhere::Learned;
use nix_negative_cache_core::environment::Comparison;
use nix_negative_cache_core::failure_object::{main_output, period, signer_of};
use nix_negative_cache_core::record::{Believed, FailureRecord, Output};
use nix_negative_cache_core::refusal::{self, Wording};
use nix_negative_cache_core::request::{Failures, PlannedDerivation};
use nix_negative_cache_core::store_path::OutputKey;
use serde::Serialize;

use crate::bridge::{KnownFailure, RefusedDerivation};
use crate::caches::NixsCaches;
use crate::connections::{self, consulting, with_own};
use crate::guard::Failure;
use crate::policy::Policy;

/// A failure that is believed.
struct BelievedFailure {
    database: PathBuf,
    id: FailureId,
    record: FailureRecord,
    /// The index of the attempt that the belief rests on.
    attempt: usize,
}

impl BelievedFailure {
    fn believed(&self) -> Believed<'_> {
        self.record.believed(self.attempt)
    }

    /// The outputs of the derivation.
    fn outputs(&self) -> &[Output] {
        &self.record.outputs
    }

    fn counted(&self) -> RefusedDerivation {
        let counted = counts::RefusedDerivation::of(&self.record, self.attempt);
        RefusedDerivation {
            path: counted.derivation.to_string(),
            name: counted.name,
            system: counted.system,
            failure_class: counted.class.to_string(),
            origin: counted.origin.unwrap_or_default(),
            duration_ms: self.record.summary.duration_ms,
        }
    }

    /// By what it is known if it came from a binary cache, which can withdraw it.
    fn learned(&self) -> Option<Learned> {
        let believed = self.believed();
        let main = main_output(&self.record.outputs, |output| &output.name)?;
        let signer_key = believed.origin?.key()?.to_owned();
        Some(Learned { key: main.key.clone(), period: period(believed.time), signer_key })
    }
}

/// The known failures of the derivations of one request.
pub struct Lookup<'a> {
    policy: &'a Policy,
    now: Timestamp,
    /// Whether this is the first request of the process. Later requests need the database open anyway.
    is_first: bool,
    /// The believed failures, by the indexes of the derivations.
    found: BTreeMap<usize, BelievedFailure>,
    /// The same of those that only warn.
    warning: BTreeMap<usize, BelievedFailure>,
    /// Derivations that failed before, but whose failure does not stand in the way.
    doubted: Vec<KnownFailure>,
    /// The binary caches that may know more, if they may be asked.
    caches: Option<NixsCaches<'a>>,
}

/// A record as this process sees it. A client of a daemon does not see what only the daemon knows.
fn seen(policy: &Policy, mut record: FailureRecord) -> FailureRecord {
    if policy.asks_daemon() {
        record.summary.as_clients_see();
    }
    record
}

/// Whether `question` returns true for any of the consulted databases.
fn any_database(
    policy: &Policy,
    question: impl Fn(&mut Database) -> Result<bool, DatabaseError>,
) -> Result<bool, Failure> {
    if !policy.settings()?.consults() {
        return Ok(false);
    }
    for path in policy.consulted() {
        if consulting(policy, path, &question)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether there is a database that can be asked.
///
/// # Errors
///
/// Those of the databases and settings.
pub fn has_database(policy: &Policy) -> Result<bool, Failure> {
    any_database(policy, |_| Ok(true))
}

/// Whether the output `key` failed when it was last built, and that failure could stand in the way.
///
/// # Errors
///
/// Those of the databases and settings.
pub fn is_known_failure(policy: &Policy, key: &str) -> Result<bool, Failure> {
    let output = OutputKey::from(key);
    any_database(policy, |database| database.is_known(&output))
}

impl<'a> Lookup<'a> {
    /// A lookup that has found nothing yet.
    pub fn new(policy: &'a Policy, caches: Option<NixsCaches<'a>>) -> Lookup<'a> {
        static CAME_BEFORE: AtomicBool = AtomicBool::new(false);
        let is_first = !CAME_BEFORE.swap(true, Ordering::Relaxed);
        let (found, warning) = (BTreeMap::new(), BTreeMap::new());
        Lookup { policy, now: Timestamp::now(), is_first, found, warning, doubted: Vec::new(), caches }
    }

    /// What to say of the failures at `indexes`.
    fn say(&self, indexes: &[usize], text: fn(&Believed<'_>, Timestamp, &Wording<'_>) -> String) -> Vec<KnownFailure> {
        let failure = |index| self.found.get(index).or_else(|| self.warning.get(index));
        let found = indexes.iter().filter_map(|index| Some((*index, failure(index)?)));
        let said = found.map(|(index, failure)| {
            let believed = failure.believed();
            let text = text(&believed, self.now, &self.policy.wording(&failure.database));
            KnownFailure { index, text, ending: believed.into() }
        });
        said.collect()
    }

    /// What to say of a decision, in the types of the bridge. Failures that refuse something are marked as used. If something is
    /// refused, nothing else is built without `keep_going`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn in_words(mut self, decision: &Decision, keep_going: bool) -> Result<InWords, Failure> {
        let mut words = InWords { doubted: std::mem::take(&mut self.doubted), ..InWords::default() };
        match decision {
            Decision::Build => {}
            Decision::Warn(warned) => words.warnings = self.say(warned, refusal::warning),
            Decision::Refuse { known, .. } => {
                words.refused = self.say(known, refusal::refusal);
                words.counted = known.iter().filter_map(|index| Some(self.found.get(index)?.counted())).collect();
                self.note_use(known)?;
            }
        }
        if keep_going || !matches!(decision, Decision::Refuse { .. }) {
            let only_warning = self.only_warning();
            words.warnings.extend(self.say(&only_warning, refusal::warning));
            let outputs =
                only_warning.iter().filter_map(|index| self.warning.get(index)).flat_map(BelievedFailure::outputs);
            words.warned_keys = outputs.map(|output| output.key.to_string()).collect();
        }
        Ok(words)
    }

    /// What a dry run says of the known failures of a decision to warn.
    ///
    /// # Errors
    ///
    /// Those of the settings.
    pub fn foreseen(&self, decision: &Decision) -> Result<Vec<KnownFailure>, Failure> {
        let text = if self.policy.settings()?.warn { refusal::foreseen_warning } else { refusal::foreseen };
        let mut said = match decision {
            Decision::Warn(warned) => self.say(warned, text),
            Decision::Build | Decision::Refuse { .. } => Vec::new(),
        };
        said.extend(self.say(&self.only_warning(), refusal::foreseen_warning));
        Ok(said)
    }

    /// The derivations of which nothing but warnings is known.
    fn only_warning(&self) -> Vec<usize> {
        self.warning.keys().filter(|index| !self.found.contains_key(index)).copied().collect()
    }

    fn note_use(&self, indexes: &[usize]) -> Result<(), DatabaseError> {
        let own = |failure: &&BelievedFailure| Some(failure.database.as_path()) == self.policy.database.as_deref();
        let used: Vec<FailureId> =
            indexes.iter().filter_map(|index| self.found.get(index)).filter(own).map(|failure| failure.id).collect();
        with_own(self.policy, false, |database| {
            database.into_iter().for_each(|database| database.note_use(&used, self.now));
            Ok(())
        })
    }
}

/// The failures to tell the user about, for a decision.
#[derive(Default)]
pub struct InWords {
    /// Failures of derivations that are built all the same.
    pub warnings: Vec<KnownFailure>,
    /// Failures that do not stand in the way.
    pub doubted: Vec<KnownFailure>,
    /// Failures of derivations that are refused.
    pub refused: Vec<KnownFailure>,
    /// The same as they are counted.
    pub counted: Vec<RefusedDerivation>,
    /// The keys of the outputs of the derivations that are warned about because no more than warnings is known of them.
    pub warned_keys: Vec<String>,
}

impl Failures for Lookup<'_> {
    type Error = Failure;

    fn would_open(&self) -> Result<bool, Failure> {
        Ok(self.is_first && self.policy.settings()?.consults() && connections::would_open(self.policy))
    }

    fn are_any(&self) -> Result<bool, Failure> {
        any_database(self.policy, |database| database.is_empty().map(|empty| !empty))
    }

    fn include(&self, key: &str) -> Result<bool, Failure> {
        is_known_failure(self.policy, key)
    }

    fn derivations(&self, most: usize) -> Result<Option<Vec<String>>, Failure> {
        let mut all = Vec::new();
        for path in self.policy.consulted() {
            match consulting(self.policy, path, |database| database.derivations(most).map(Some))? {
                Some(Some(derivations)) => all.extend(derivations),
                Some(None) => return Ok(None),
                // There is no such database.
                None => {}
            }
        }
        Ok((all.len() <= most).then_some(all))
    }

    fn start_over(&mut self) {
        self.found.clear();
        self.warning.clear();
        self.doubted.clear();
    }

    /// A failure that is recorded for the derivation itself counts, whatever else the derivation needs. Fetches are not
    /// found in this way, because the output of a fetch may be available from elsewhere.
    fn find_by_derivation(&mut self, derivations: &[String]) -> Result<Vec<usize>, Failure> {
        let policy = self.policy;
        let mut found = Vec::new();
        let here = LazyCell::new(|| Comparison::with(policy.environment()));
        for path in policy.consulted() {
            let records = consulting(policy, path, |database| database.known_derivations(derivations))?;
            for (id, record) in records {
                let index = derivations.iter().position(|derivation| derivation == record.summary.derivation.as_str());
                let Some(index) = index.filter(|index| !self.found.contains_key(index)) else { continue };
                let record = seen(policy, record);
                let belief = record.summary.belief(policy.user, &here, policy.settings()?, self.now);
                let Belief::Fails { attempt, .. } = belief else { continue };
                if record.summary.class != Class::Fetch && record.summary.attempt_counts(attempt, false) {
                    found.push(index);
                    self.found.insert(index, BelievedFailure { database: path.to_owned(), id, record, attempt });
                }
            }
        }
        Ok(found)
    }

    fn candidates(&self, names: &[&str]) -> Result<Vec<usize>, Failure> {
        let mut indexes = BTreeSet::new();
        for path in self.policy.consulted() {
            indexes.extend(consulting(self.policy, path, |database| database.candidates(names))?);
        }
        Ok(indexes.into_iter().collect())
    }

    /// A failed fetch only counts for the same derivation. All fetches of one output have the same key, so anybody
    /// could make one that fails.
    fn find_by_output(&mut self, derivations: &[(usize, PlannedDerivation)]) -> Result<(), Failure> {
        let policy = self.policy;
        let here = LazyCell::new(|| Comparison::with(policy.environment()));
        for path in policy.consulted() {
            let looked_up = consulting(policy, path, |database| {
                let version = database.version()?;
                let keys = derivations.iter().flat_map(|(_, derivation)| &derivation.outputs);
                let failures = database.known(keys.map(|output| &output.key))?;
                let ids: BTreeSet<FailureId> = failures.values().copied().collect();
                let records = database.records_of(&ids.into_iter().collect::<Vec<_>>())?;
                Ok(Some((version, failures, records)))
            })?;
            let Some((version, failures, records)) = looked_up else { continue };
            let mut doubted: Vec<OutputKey> = Vec::new();
            for (index, derivation) in derivations {
                let mut keys = derivation.outputs.iter().map(|output| &output.key);
                let Some(id) = keys.find_map(|key| failures.get(key)) else { continue };
                let Some(record) = records.get(id) else { continue };
                if !record.summary.counts_for([derivation.path.as_str()]) {
                    continue;
                }
                let record = seen(policy, record.clone());
                let belief = record.summary.belief(policy.user, &here, policy.settings()?, self.now);
                if let Belief::Fails { attempt, .. } | Belief::Open(Doubt::OnlyWarns(attempt)) = belief
                    && !record.summary.attempt_counts(attempt, !derivation.is_fetch)
                {
                    continue;
                }
                match belief {
                    Belief::Fails { attempt, .. } => {
                        let failure = BelievedFailure { database: path.to_owned(), id: *id, record, attempt };
                        self.found.entry(*index).or_insert(failure);
                    }
                    Belief::Told => {}
                    Belief::Open(Doubt::OnlyWarns(attempt)) => {
                        let failure = BelievedFailure { database: path.to_owned(), id: *id, record, attempt };
                        self.warning.entry(*index).or_insert(failure);
                        doubted.extend(derivation.outputs.iter().map(|output| output.key.clone()));
                    }
                    Belief::Open(doubt) => {
                        self.doubted.push(KnownFailure {
                            index: *index,
                            text: format!("failed before, but may be built: {doubt}"),
                            ending: record.summary.class.into(),
                        });
                        doubted.extend(derivation.outputs.iter().map(|output| output.key.clone()));
                    }
                }
            }
            // Nix asks often. To ask again gives the same answer, which should come quickly.
            consulting(policy, path, |database| database.set_aside(version, doubted))?;
        }
        Ok(())
    }

    fn asks_caches(&self) -> Result<bool, Failure> {
        self.caches.as_ref().map_or(Ok(false), |caches| caches.may_be_asked(self.policy))
    }

    fn caches_carry_any(&mut self) -> Result<bool, Failure> {
        match &mut self.caches {
            Some(caches) => caches.carry_any(self.policy),
            None => Ok(false),
        }
    }

    fn caches_may_know(&mut self, base_names: &[String]) -> Result<bool, Failure> {
        match &mut self.caches {
            Some(caches) => caches.may_know(self.policy, base_names),
            None => Ok(false),
        }
    }

    fn caches_know_nothing(&mut self, base_names: &[String]) -> Result<(), Failure> {
        self.caches.as_ref().map_or(Ok(()), |caches| caches.know_nothing(self.policy, base_names))
    }

    fn learn(&mut self, derivations: &[PlannedDerivation]) -> Result<bool, Failure> {
        let Some(caches) = &mut self.caches else { return Ok(false) };
        caches.learn(self.policy, derivations)
    }

    fn were_withdrawn(&mut self, indexes: &[usize]) -> Result<bool, Failure> {
        let own = self.policy.database.as_deref();
        let found = indexes.iter().filter_map(|index| self.found.get(index));
        let learned: Vec<Learned> = found
            .filter(|failure| Some(failure.database.as_path()) == own)
            .filter_map(BelievedFailure::learned)
            .collect();
        match &mut self.caches {
            Some(caches) if !learned.is_empty() => caches.forget_withdrawn(self.policy, &learned),
            _ => Ok(false),
        }
    }

    fn found(&self) -> BTreeSet<usize> {
        self.found.keys().copied().collect()
    }

    fn doubts(&self) -> bool {
        !(self.doubted.is_empty() && self.warning.is_empty())
    }
}

/// What a message asks about: a path, of which only the hash part is told.
pub struct Asked<'a> {
    /// The directory of the store.
    pub store_dir: &'a str,
    /// The hash part.
    pub hash_part: &'a str,
    /// If it is that of a derivation in the store, the keys of its outputs. Another derivation with the same outputs may have
    /// failed.
    pub outputs: &'a [String],
    /// Whether it is known that the derivation is no fetch.
    pub is_no_fetch: bool,
}

/// Whether a record of this path speaks against a new attempt, as `belief` reads it.
fn any_record(
    policy: &Policy,
    asked: &Asked<'_>,
    belief: impl Fn(&FailureRecord) -> Result<Belief, Failure>,
) -> Result<bool, Failure> {
    let Asked { store_dir, hash_part, outputs, is_no_fetch } = *asked;
    let start = format!("{store_dir}/{hash_part}-");
    for path in policy.databases() {
        let records = consulting(policy, path, |database| {
            let mut found = database.find_by_hash_part(store_dir, hash_part)?;
            found.extend(database.find(outputs.iter().map(String::as_str))?);
            Ok(database.records_of(&found)?.into_values().collect::<Vec<_>>())
        })?;
        for record in records {
            // A fetch counts for the same derivation only.
            let counts = record.summary.class != Class::Fetch || record.summary.derivation.as_str().starts_with(&start);
            if counts
                && let Belief::Fails { attempt, .. } = belief(&record)?
                && record.summary.attempt_counts(attempt, is_no_fetch)
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether a path is known to fail. A request to retry does not count: it does not make the
/// derivation one that works.
///
/// # Errors
///
/// Those of the databases and settings.
pub fn is_known(policy: &Policy, asked: &Asked<'_>) -> Result<bool, Failure> {
    let (here, now) = (Comparison::with(policy.environment()), Timestamp::now());
    let belief = |record: &FailureRecord| Ok(believe(&record.summary.history, &here, policy.settings()?, now));
    any_record(policy, asked, belief)
}

/// Whether a path is known to fail by what a binary cache says.
///
/// # Errors
///
/// Those of the databases and settings.
pub fn is_known_elsewhere(policy: &Policy, asked: &Asked<'_>) -> Result<bool, Failure> {
    let (here, now) = (Comparison::with(policy.environment()), Timestamp::now());
    any_record(policy, asked, |record| {
        let belief = believe(&record.summary.history, &here, policy.settings()?, now);
        let is_learned = match &belief {
            Belief::Fails { attempt, .. } => record.believed(*attempt).origin.is_some(),
            _ => false,
        };
        Ok(if is_learned { belief } else { Belief::Open(Doubt::Succeeded) })
    })
}

/// Whether a derivation would be refused to the user, if it had to be built.
///
/// # Errors
///
/// Those of the databases and settings.
pub fn is_refused(policy: &Policy, asked: &Asked<'_>) -> Result<bool, Failure> {
    if !policy.settings()?.consults() || policy.warns() {
        return Ok(false);
    }
    let (here, now) = (Comparison::with(policy.environment()), Timestamp::now());
    let belief = |record: &FailureRecord| Ok(record.summary.belief(policy.user, &here, policy.settings()?, now));
    any_record(policy, asked, belief)
}

/// The failure that is known by any of `paths`, if it is believed; `is_no_fetch` is whether it is known that their derivation is no
/// fetch. If a daemon has `told` that it knows one, that counts, and the databases are only asked what they have of it.
///
/// # Errors
///
/// Those of the databases and settings.
pub fn known_failure(
    policy: &Policy,
    paths: &[String],
    is_no_fetch: bool,
    told: bool,
) -> Result<Option<FailureAttributes>, Failure> {
    let now = Timestamp::now();
    // The word of a daemon is about its own records.
    let own = policy.database.as_deref();
    for path in policy.databases().filter(|path| !told || Some(*path) != own) {
        let record =
            consulting(policy, path, |database| match database.find(paths.iter().map(String::as_str))?.first() {
                Some(id) => database.record(*id),
                None => Ok(None),
            })?;
        let record = record.filter(|record| record.summary.counts_for(paths.iter().map(String::as_str)));
        let Some(record) = record.map(|record| seen(policy, record)) else { continue };
        let here = Comparison::with(policy.environment());
        match believe(&record.summary.history, &here, policy.settings()?, now) {
            Belief::Fails { attempt, until } if record.summary.attempt_counts(attempt, is_no_fetch) => {
                return Ok(Some(attributes(record, attempt, until)));
            }
            // The daemon sees more than this process. Until when it believes the failure is not known.
            _ if told => {
                let last = record.summary.history.iter().position(|attempt| attempt.failure.is_some());
                return Ok(Some(attributes(record, last.unwrap_or(0), None)));
            }
            _ => {}
        }
    }
    Ok(told.then(|| FailureAttributes::unknown(paths)))
}

/// What `builtins.knownFailure` returns. What is not known is null.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureAttributes {
    drv_path: Option<String>,
    out_path: Option<String>,
    name: Option<String>,
    system: Option<String>,
    class: Option<String>,
    exit_code: Option<i32>,
    reason: String,
    log: Option<String>,
    /// In seconds since 1970, as all times here.
    first_failure: Option<i64>,
    last_failure: Option<i64>,
    attempts: Option<u32>,
    /// `None` also means for ever.
    believed_until: Option<i64>,
    host: Option<String>,
    nix_version: Option<String>,
    /// Of a failure that was learned elsewhere.
    origin: Option<Origin>,
}

/// Where a failure was learned, for expressions.
#[derive(Debug, Default, Serialize)]
struct Origin {
    /// The URL of the binary cache.
    cache: Option<String>,
    /// The name of the key that has signed the failure.
    key: Option<String>,
    /// The file that it was imported from.
    file: Option<String>,
    /// The build of a Hydra that it was imported from.
    hydra: Option<String>,
}

impl Origin {
    fn of(source: &Source, derivation: &str) -> Origin {
        match source.clone() {
            Source::Cache { cache, key } => {
                Origin { cache: Some(cache), key: Some(signer_of(&key).to_owned()), ..Origin::default() }
            }
            Source::File { file } => Origin { file: Some(file), ..Origin::default() },
            Source::Hydra { .. } => {
                Origin { hydra: source.build_and_log(derivation).map(|(build, _)| build), ..Origin::default() }
            }
        }
    }
}

impl FailureAttributes {
    /// A failure of which only the daemon knows more.
    fn unknown(paths: &[String]) -> FailureAttributes {
        let (derivations, outputs): (Vec<&String>, Vec<&String>) =
            paths.iter().partition(|path| path.ends_with(".drv"));
        let first = |paths: Vec<&String>| paths.first().map(|path| (*path).clone());
        FailureAttributes {
            drv_path: first(derivations),
            out_path: first(outputs),
            reason: "the daemon knows that it fails".to_owned(),
            ..FailureAttributes::default()
        }
    }
}

fn attributes(record: FailureRecord, attempt: usize, until: Option<Timestamp>) -> FailureAttributes {
    let believed = record.believed(attempt);
    let (reason, class, exit_code) = (believed.reason.clone(), believed.class.to_string(), believed.exit_code);
    let origin = believed.origin.map(|origin| Origin::of(&origin.source, record.summary.derivation.as_str()));
    let is_from_here = record.origin().is_none();
    FailureAttributes {
        origin,
        out_path: main_output(&record.outputs, |output| &output.name).map(|output| output.key.to_string()),
        reason,
        drv_path: Some(record.summary.derivation.to_string()),
        class: Some(class),
        exit_code,
        first_failure: Some(record.summary.first_failure.as_second()),
        last_failure: Some(record.summary.last_failure.as_second()),
        attempts: Some(record.summary.attempts),
        believed_until: until.map(|until| until.as_second()),
        name: Some(record.summary.name),
        system: Some(record.summary.system),
        log: Some(record.log),
        host: is_from_here.then_some(record.host),
        nix_version: Some(record.nix_version),
    }
}
