//! Decides what is done about a request: which derivations are refused, because they are known to fail or need one that is.
//!
//! A plan is what Nix would build for the request. Its derivations have indexes, which are positions in its list. A plan can
//! have thousands of derivations, and few of them have anything to do with a failure. So the plan is asked about few of them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::decision::{self, Decision};
use crate::record::Output;
use crate::settings::Settings;
use crate::store_path::derivation_name;

/// A derivation of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedDerivation {
    /// Its path.
    pub path: String,
    /// Its outputs, with the keys by which failures are found. Empty if the derivation opted out, or if the keys are not
    /// known yet.
    pub outputs: Vec<Output>,
    /// Whether these are the outputs of the derivation that it resolves to. Nix was not asked about those.
    pub is_resolved: bool,
    /// The system it is for.
    pub system: String,
    /// Whether it is a fetch: its output is fixed, however it is made.
    pub is_fetch: bool,
    /// Whether it may be substituted (`allowSubstitutes`).
    pub may_be_substituted: bool,
}

/// Which derivations a plan lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// The derivations that Nix would have built a moment ago, when it was asked about the same request.
    LastAnswer,
    /// The requested derivations.
    Requested,
    /// The derivations that may have to be built, as Nix's database tells. Nix is not asked. All that Nix would build is in this
    /// list, and some that it would not build.
    Unbuilt,
    /// The derivations that Nix would build. Nix is asked for them.
    All,
}

/// The derivations that a plan lists, by their indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The directory that their paths are in.
    pub store_dir: String,
    /// The last parts of their paths.
    pub base_names: Vec<String>,
    /// The indexes of the requested derivations.
    pub requested: Vec<usize>,
    /// Whether something else is requested as well, such as a store path.
    pub other_requests: bool,
}

impl Listed {
    fn paths(&self) -> Vec<String> {
        self.base_names.iter().map(|name| format!("{}/{name}", self.store_dir)).collect()
    }

    /// The names of the derivations, without hash and extension.
    fn names(&self) -> Vec<&str> {
        self.base_names.iter().map(|base_name| derivation_name(base_name)).collect()
    }
}

/// What Nix would build for a request. An index is a position in the list that was made last.
pub trait Plan {
    /// What goes wrong when Nix is asked.
    type Error;

    /// Whether nothing has to be built. Nix's answer of a moment ago tells that. Without such an answer, and if the plan
    /// `may_look`, the outputs of a few requests tell it by being valid.
    ///
    /// # Errors
    ///
    /// Those of Nix.
    fn nothing_to_build(&self, may_look: bool) -> Result<bool, Self::Error>;
    /// Lists derivations. None if they are not known: Nix was not asked a moment ago, or a request names a derivation that
    /// another build has yet to make.
    ///
    /// # Errors
    ///
    /// Those of Nix.
    fn list(&mut self, which: List) -> Result<Option<Listed>, Self::Error>;
    /// Reads a derivation.
    ///
    /// # Errors
    ///
    /// Those of Nix, for example if the derivation is not in the store.
    fn derivation(&mut self, index: usize) -> Result<PlannedDerivation, Self::Error>;
    /// The indexes of the derivations that mention the one at `index`: those that need its outputs, and those that have the
    /// derivation itself as a source.
    ///
    /// # Errors
    ///
    /// Those of Nix.
    fn mentioned_by(&self, index: usize) -> Result<Vec<usize>, Self::Error>;
    /// Whether the derivation at `user` needs an output of the one at `index`. In the list [`List::Unbuilt`] this output must also
    /// be one that is neither valid nor can be substituted.
    ///
    /// # Errors
    ///
    /// Those of Nix, for example if the derivation at `user` can't be read.
    fn needs(&self, user: usize, index: usize) -> Result<bool, Self::Error>;
    /// Whether an output that is requested of the derivation at `index` is neither valid nor can be substituted. Of the requested
    /// derivations in [`List::Unbuilt`] this is not known before.
    ///
    /// # Errors
    ///
    /// Those of Nix.
    fn is_wanted(&self, index: usize) -> Result<bool, Self::Error>;
    /// Whether [`Plan::needs`] and [`Plan::is_wanted`] were sure of all their answers since the list was made. If not, only Nix can
    /// tell what it would build.
    fn is_sure(&self) -> bool;
    /// Whether any requested derivation may need any of `derivations`, directly or not. False if that is certain.
    ///
    /// # Errors
    ///
    /// Those of Nix.
    fn may_need(&self, derivations: &[String]) -> Result<bool, Self::Error>;
    /// Whether any output of a derivation that was read is valid or can be substituted.
    ///
    /// # Errors
    ///
    /// Those of Nix.
    fn can_be_had(&self, index: usize) -> Result<bool, Self::Error>;
    /// Whether a derivation is in the store, and an output that a request wants of it is neither there nor can be substituted.
    /// False if only Nix can tell.
    ///
    /// # Errors
    ///
    /// Those of Nix.
    fn must_be_built(&self, index: usize) -> Result<bool, Self::Error>;
}

/// What is known of failures, and which of the derivations of a plan that concerns.
pub trait Failures {
    /// What goes wrong when they are looked up.
    type Error;

    /// Whether the first question would open a database. That takes longer than to see whether a few outputs are there.
    ///
    /// # Errors
    ///
    /// Those of the databases.
    fn would_open(&self) -> Result<bool, Self::Error>;
    /// Whether any failure is known.
    ///
    /// # Errors
    ///
    /// Those of the databases.
    fn are_any(&self) -> Result<bool, Self::Error>;
    /// Whether the output with this key failed when it was last built.
    ///
    /// # Errors
    ///
    /// Those of the databases.
    fn include(&self, key: &str) -> Result<bool, Self::Error>;
    /// The derivations that are known to fail; none if there are more than `most`.
    ///
    /// # Errors
    ///
    /// Those of the databases.
    fn derivations(&self, most: usize) -> Result<Option<Vec<String>>, Self::Error>;
    /// Forgets what was found, because the plan is about to list other derivations.
    fn start_over(&mut self);
    /// Finds those of `derivations` that are known to fail by their own paths, and returns their indexes and outputs.
    ///
    /// # Errors
    ///
    /// Those of the databases.
    fn find_by_derivation(&mut self, derivations: &[String]) -> Result<Vec<usize>, Self::Error>;
    /// Which of `names` are also names of known failures, by index.
    ///
    /// # Errors
    ///
    /// Those of the databases.
    fn candidates(&self, names: &[&str]) -> Result<Vec<usize>, Self::Error>;
    /// Finds those of `derivations`, which come with their indexes, that are known to fail by their outputs.
    ///
    /// # Errors
    ///
    /// Those of the databases.
    fn find_by_output(&mut self, derivations: &[(usize, PlannedDerivation)]) -> Result<(), Self::Error>;
    /// Whether binary caches are asked for failures.
    ///
    /// # Errors
    ///
    /// Those of the settings.
    fn asks_caches(&self) -> Result<bool, Self::Error>;
    /// Whether any cache carries failures.
    ///
    /// # Errors
    ///
    /// Those of the settings, or if the user interrupts it.
    fn caches_carry_any(&mut self) -> Result<bool, Self::Error>;
    /// Whether caches may know anything about derivations, whose paths have these last parts: there is a cache that carries
    /// failures, and it was not asked about the same derivations lately.
    ///
    /// # Errors
    ///
    /// Those of the databases, or if the user interrupts it.
    fn caches_may_know(&mut self, base_names: &[String]) -> Result<bool, Self::Error>;
    /// Remembers that caches know nothing about derivations, whose paths have these last parts.
    ///
    /// # Errors
    ///
    /// Those of the databases.
    fn caches_know_nothing(&mut self, base_names: &[String]) -> Result<(), Self::Error>;
    /// Asks binary caches whether `derivations` have failed elsewhere. Returns whether anything new became known.
    ///
    /// # Errors
    ///
    /// Those of the databases, or if the user interrupts it.
    fn learn(&mut self, derivations: &[PlannedDerivation]) -> Result<bool, Self::Error>;
    /// Asks binary caches whether failures that were found, and that came from them, were withdrawn since. Returns whether
    /// any was. It is not known any more then.
    ///
    /// # Errors
    ///
    /// Those of the databases, or if the user interrupts it.
    fn were_withdrawn(&mut self, indexes: &[usize]) -> Result<bool, Self::Error>;
    /// The indexes of all that was found since [`Failures::start_over`].
    fn found(&self) -> BTreeSet<usize>;
    /// Whether a failure was found since [`Failures::start_over`] that does not stand in the way.
    fn doubts(&self) -> bool;
}

/// What is done about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestDecision {
    /// What stands in the way, by the indexes of the derivations that the plan has listed last.
    pub decision: Decision,
    /// Whether every requested derivation is itself known to fail, so that nothing is left to build.
    pub refuses_all: bool,
    /// Whether Nix was asked what it would build, or need not be.
    pub asked: bool,
    /// The keys of the outputs of the derivations that the user is warned about.
    pub warned_keys: Vec<String>,
}

impl RequestDecision {
    fn of(decision: Decision) -> RequestDecision {
        RequestDecision { decision, refuses_all: false, asked: true, warned_keys: Vec::new() }
    }
}

/// Decides about a request.
///
/// # Errors
///
/// Those of the plan and of the failures.
pub fn decide<E>(
    plan: &mut impl Plan<Error = E>,
    failures: &mut impl Failures<Error = E>,
    settings: &Settings,
    keep_going: bool,
) -> Result<RequestDecision, E> {
    // Where nothing is to be built, nobody need know what failed, and no database need be opened.
    let asks_caches = failures.asks_caches()?;
    if plan.nothing_to_build(failures.would_open()?)? || !(asks_caches || failures.are_any()?) {
        return Ok(RequestDecision { asked: false, ..RequestDecision::of(Decision::Build) });
    }
    let mut may_learn = asks_caches;
    loop {
        let decided = decide_by_records(plan, failures, settings, keep_going)?;
        let refuses = match &decided.decision {
            Decision::Refuse { known, .. } if asks_caches && failures.were_withdrawn(known)? => continue,
            Decision::Refuse { .. } => !keep_going,
            Decision::Build | Decision::Warn(_) => false,
        };
        if refuses || !may_learn {
            return Ok(decided);
        }
        may_learn = false;
        let CachesAsked { learned, asked_nix } = learn(plan, failures)?;
        // Caches were asked about other lists of derivations, to which the indexes of the decision do not refer.
        if !learned && decided.decision == Decision::Build {
            return Ok(RequestDecision { asked: decided.asked || asked_nix, ..decided });
        }
    }
}

/// Refuses a request before Nix is asked what it would build, if the databases and a look at few derivations are enough for that.
/// `None` if they are not: this says nothing about the request.
///
/// # Errors
///
/// Those of the plan and of the failures.
pub fn refuse_at_once<E>(
    plan: &mut impl Plan<Error = E>,
    failures: &mut impl Failures<Error = E>,
    settings: &Settings,
    keep_going: bool,
) -> Result<Option<RequestDecision>, E> {
    /// To ask whether these are needed takes less time than to list what is not built.
    const FEW: usize = 5000;
    // Where nothing is to be built, no database need be opened.
    if settings.warn || plan.nothing_to_build(failures.would_open()?)? || !failures.are_any()? {
        return Ok(None);
    }
    let decided = match decide_by_requests(plan, failures, settings, keep_going)? {
        Some(decided) => Some(decided),
        // Most requests have nothing to do with any failure.
        None => match failures.derivations(FEW)? {
            Some(known) if !plan.may_need(&known)? => None,
            _ => decide_by_unbuilt(plan, failures, settings, keep_going)?,
        },
    };
    match decided {
        Some(RequestDecision { decision: Decision::Refuse { known, .. }, .. })
            if failures.were_withdrawn(&known)? =>
        {
            Ok(None)
        }
        decided => Ok(decided.filter(|decided| matches!(decided.decision, Decision::Refuse { .. }))),
    }
}

/// What of Nix's last answer is known to fail and would stand in the way of the request.
///
/// # Errors
///
/// Those of the plan and of the failures.
pub fn foresee<E>(
    plan: &mut impl Plan<Error = E>,
    failures: &mut impl Failures<Error = E>,
    settings: &Settings,
) -> Result<Decision, E> {
    if !failures.are_any()? {
        return Ok(Decision::Build);
    }
    let Some(listed) = plan.list(List::LastAnswer)? else { return Ok(Decision::Build) };
    let settings = Settings { warn: true, ..settings.clone() };
    Ok(decide_by_plan(plan, &listed, failures, &settings, false)?.decision)
}

/// What came of a question to binary caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CachesAsked {
    /// Whether a failure became known.
    pub learned: bool,
    /// Whether Nix has told what it would build.
    pub asked_nix: bool,
}

/// Asks binary caches about the derivations that Nix would build: first about the requested ones, which may settle all.
///
/// # Errors
///
/// Those of the plan and of the failures.
pub fn learn<E>(plan: &mut impl Plan<Error = E>, failures: &mut impl Failures<Error = E>) -> Result<CachesAsked, E> {
    let mut asked = CachesAsked::default();
    let listed = match plan.list(List::LastAnswer)? {
        Some(listed) => listed,
        // To ask Nix what it would build can take longer than to ask the caches whether they carry any failures.
        None if !failures.caches_carry_any()? => return Ok(asked),
        None => plan.list(List::All)?.unwrap_or_default(),
    };
    asked.asked_nix = true;
    if !failures.caches_may_know(&listed.base_names)? {
        return Ok(asked);
    }
    // A question takes a round trip, however many derivations it is about, but many of them take long as well.
    const FEW: usize = 64;
    let all = 0..listed.base_names.len();
    let requested: BTreeSet<usize> =
        if all.len() > FEW { listed.requested.iter().copied().collect() } else { all.clone().collect() };
    let others = all.filter(|index| !requested.contains(index)).collect();
    for indexes in [requested.iter().copied().collect::<Vec<_>>(), others] {
        let derivations: Vec<_> = indexes.into_iter().map(|index| plan.derivation(index)).collect::<Result<_, E>>()?;
        if failures.learn(&derivations)? {
            asked.learned = true;
            return Ok(asked);
        }
    }
    failures.caches_know_nothing(&listed.base_names)?;
    Ok(asked)
}

/// Decides by what the databases say.
fn decide_by_records<E>(
    plan: &mut impl Plan<Error = E>,
    failures: &mut impl Failures<Error = E>,
    settings: &Settings,
    keep_going: bool,
) -> Result<RequestDecision, E> {
    if !failures.are_any()? {
        return Ok(RequestDecision { asked: false, ..RequestDecision::of(Decision::Build) });
    }
    if let Some(decision) = decide_by_requests(plan, failures, settings, keep_going)? {
        return Ok(decision);
    }
    // What Nix said a moment ago may have become wrong: others build and upload.
    if let Some(listed) = plan.list(List::LastAnswer)? {
        let decision = decide_by_plan(plan, &listed, failures, settings, keep_going)?;
        if !any_can_be_had(plan, &decision.decision)? {
            return Ok(decision);
        }
    } else if let Some(decision) = decide_by_unbuilt(plan, failures, settings, keep_going)? {
        return Ok(decision);
    }
    let listed = plan.list(List::All)?.unwrap_or_default();
    decide_by_plan(plan, &listed, failures, settings, keep_going)
}

/// Decides by the paths of the requested derivations alone, if that is enough: if the requests themselves are known to fail, it
/// does not matter what else would be built, and Nix need not be asked, which takes long.
fn decide_by_requests<E>(
    plan: &mut impl Plan<Error = E>,
    failures: &mut impl Failures<Error = E>,
    settings: &Settings,
    keep_going: bool,
) -> Result<Option<RequestDecision>, E> {
    // A warning names all that is known to fail.
    if settings.warn {
        return Ok(None);
    }
    let Some(requested) = plan.list(List::Requested)? else { return Ok(None) };
    failures.start_over();
    let derivations = requested.paths();
    let found = failures.find_by_derivation(&derivations)?;
    let are_all = found.len() == derivations.len() && !requested.other_requests;
    if found.is_empty() || (keep_going && !are_all) {
        return Ok(None);
    }
    for index in &found {
        if !plan.must_be_built(*index)? {
            return Ok(None);
        }
    }
    let indexes: HashSet<usize> = found.into_iter().collect();
    let decision = decide_with(plan, settings, keep_going, &indexes, &failures.found())?;
    let refuses_all = are_all && matches!(&decision, Decision::Refuse { known, .. } if known.len() == indexes.len());
    Ok(Some(RequestDecision { refuses_all, ..RequestDecision::of(decision) }))
}

/// Decides by what is not built, of which Nix would build a part, without asking Nix for that part. `None` if only Nix can tell.
fn decide_by_unbuilt<E>(
    plan: &mut impl Plan<Error = E>,
    failures: &mut impl Failures<Error = E>,
    settings: &Settings,
    keep_going: bool,
) -> Result<Option<RequestDecision>, E> {
    let Some(listed) = plan.list(List::Unbuilt)? else { return Ok(None) };
    let decided = decide_by_plan(plan, &listed, failures, settings, keep_going)?;
    let refuses = matches!(decided.decision, Decision::Refuse { .. });
    // Doubted failures may be ones of derivations that Nix would not build, of which there is nothing to say.
    if !plan.is_sure() || (failures.doubts() && !refuses) {
        return Ok(None);
    }
    // Where the first failure ends the request, Nix need not know what else it would build.
    Ok(Some(RequestDecision { asked: refuses && !keep_going, ..decided }))
}

/// Decides by all that Nix would build, which the plan has listed, or by a list that has all that in it.
fn decide_by_plan<E>(
    plan: &mut impl Plan<Error = E>,
    listed: &Listed,
    failures: &mut impl Failures<Error = E>,
    settings: &Settings,
    keep_going: bool,
) -> Result<RequestDecision, E> {
    failures.start_over();
    let requested: HashSet<usize> = listed.requested.iter().copied().collect();
    let mut keys = BTreeMap::new();
    look_at(plan, failures, requested.iter().copied().collect(), &mut keys)?;
    // Where the requests themselves are refused, nothing else matters.
    let enough = if keep_going || settings.warn { requested.len() } else { requested.len().min(1) };
    let found = failures.found().into_iter().collect();
    if wanted(plan, found)?.len() < enough {
        let candidates = failures.candidates(&listed.names())?;
        look_at(plan, failures, candidates.into_iter().collect(), &mut keys)?;
    }
    let found = failures.found();
    let requested = if found.is_empty() { requested } else { wanted(plan, requested)? };
    let decision = decide_with(plan, settings, keep_going, &requested, &found)?;
    let mut decision = RequestDecision::of(decision);
    if let Decision::Warn(warned) = &decision.decision {
        decision.warned_keys = warned.iter().filter_map(|index| keys.remove(index)).flatten().collect();
    }
    Ok(decision)
}

/// Those of the requested derivations of which an output must be built.
fn wanted<E>(plan: &impl Plan<Error = E>, requested: HashSet<usize>) -> Result<HashSet<usize>, E> {
    let mut wanted = HashSet::new();
    for index in requested {
        if plan.is_wanted(index)? {
            wanted.insert(index);
        }
    }
    Ok(wanted)
}

fn decide_with<E>(
    plan: &impl Plan<Error = E>,
    settings: &Settings,
    keep_going: bool,
    requested: &HashSet<usize>,
    known: &BTreeSet<usize>,
) -> Result<Decision, E> {
    let mentioned_by = |index| plan.mentioned_by(index);
    decision::decide(settings, keep_going, requested, known, mentioned_by, |user, index| plan.needs(user, index))
}

/// Decides about a single derivation that is about to be built.
///
/// # Errors
///
/// Those of `failures`.
pub fn decide_single<E>(
    failures: &mut impl Failures<Error = E>,
    derivation: &PlannedDerivation,
    settings: &Settings,
) -> Result<Decision, E> {
    let asks_caches = failures.asks_caches()?;
    loop {
        failures.start_over();
        failures.find_by_output(&[(0, derivation.clone())])?;
        // Nothing else needs it: it is the request.
        let mentioned_by = |_| Ok(Vec::new());
        let requested = HashSet::from([0]);
        let decision =
            decision::decide(settings, false, &requested, &failures.found(), mentioned_by, |_, _| Ok(false))?;
        match &decision {
            Decision::Refuse { known, .. } if asks_caches && failures.were_withdrawn(known)? => {}
            Decision::Refuse { .. } | Decision::Build | Decision::Warn(_) => return Ok(decision),
        }
    }
}

/// Asks binary caches about a single derivation, unless enough is known of it already. Returns whether a failure became known.
///
/// # Errors
///
/// Those of `failures`.
pub fn learn_single<E>(
    failures: &mut impl Failures<Error = E>,
    derivation: &PlannedDerivation,
    settings: &Settings,
) -> Result<bool, E> {
    if !failures.asks_caches()? || decide_single(failures, derivation, settings)? != Decision::Build {
        return Ok(false);
    }
    // The question is about the outputs, whatever the derivation is called.
    let about = plain_keys(&derivation.outputs);
    if !failures.caches_may_know(&about)? {
        return Ok(false);
    }
    let learned = failures.learn(std::slice::from_ref(derivation))?;
    if !learned {
        failures.caches_know_nothing(&about)?;
    }
    Ok(learned)
}

/// Looks up what is known of the derivations at `indexes` that were not looked at before. `keys` has the keys of the outputs
/// of those that were.
fn look_at<E>(
    plan: &mut impl Plan<Error = E>,
    failures: &mut impl Failures<Error = E>,
    indexes: BTreeSet<usize>,
    keys: &mut BTreeMap<usize, Vec<String>>,
) -> Result<(), E> {
    let mut derivations = Vec::new();
    for index in indexes {
        if keys.contains_key(&index) {
            continue;
        }
        let derivation = plan.derivation(index)?;
        let keys = keys.entry(index).or_insert_with(|| plain_keys(&derivation.outputs));
        // Whether all that is wanted of what it resolves to can be had shows later.
        if derivation.is_resolved && any_known(failures, keys)? && plan.can_be_had(index)? {
            continue;
        }
        if !derivation.outputs.is_empty() {
            derivations.push((index, derivation));
        }
    }
    failures.find_by_output(&derivations)
}

/// The keys of outputs, without the names of the outputs.
pub fn plain_keys(outputs: &[Output]) -> Vec<String> {
    outputs.iter().map(|output| output.key.to_string()).collect()
}

/// Whether any of these keys is that of a known failure.
///
/// # Errors
///
/// Those of `failures`.
pub fn any_known<E>(failures: &impl Failures<Error = E>, keys: &[String]) -> Result<bool, E> {
    for key in keys {
        if failures.include(key)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an output of what stands in the way can be had.
fn any_can_be_had<E>(plan: &impl Plan<Error = E>, decision: &Decision) -> Result<bool, E> {
    if let Decision::Refuse { known, .. } = decision {
        for index in known {
            if plan.can_be_had(*index)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// A derivation of a made-up plan.
    #[derive(Clone, Copy, Default)]
    struct MadeUp {
        name: &'static str,
        /// The names of those that need it.
        users: &'static [&'static str],
        requested: bool,
        /// Whether its output can be substituted although Nix has said that it would be built.
        substitutable: bool,
    }

    /// Made-up derivations, of which Nix would build all, and what was asked about them.
    struct MadeUpPlan {
        all: Vec<MadeUp>,
        was_asked: bool,
        /// Whether what is not built is known without asking Nix.
        has_database: bool,
        is_unbuilt: bool,
        is_unsure: Cell<bool>,
        other_requests: bool,
        listed: Vec<MadeUp>,
        questions: RefCell<Vec<&'static str>>,
    }

    impl MadeUpPlan {
        fn new(all: &[MadeUp]) -> MadeUpPlan {
            MadeUpPlan {
                all: all.to_vec(),
                was_asked: false,
                has_database: false,
                is_unbuilt: false,
                is_unsure: Cell::new(false),
                other_requests: false,
                listed: Vec::new(),
                questions: RefCell::default(),
            }
        }

        fn ask(&self, question: &'static str) {
            self.questions.borrow_mut().push(question);
        }

        /// Whether the output is missing, as far as the list does not tell that.
        fn is_missing(&self, index: usize) -> bool {
            !self.is_unbuilt || !self.listed[index].substitutable
        }
    }

    impl Plan for MadeUpPlan {
        type Error = &'static str;

        fn nothing_to_build(&self, _: bool) -> Result<bool, &'static str> {
            Ok(self.was_asked && self.all.is_empty())
        }

        fn list(&mut self, which: List) -> Result<Option<Listed>, &'static str> {
            self.listed = self.all.clone();
            self.is_unbuilt = which == List::Unbuilt;
            match which {
                List::LastAnswer if !self.was_asked => return Ok(None),
                List::Unbuilt if !self.has_database => return Ok(None),
                List::LastAnswer | List::Unbuilt => {}
                List::Requested => self.listed.retain(|derivation| derivation.requested),
                List::All => self.ask("all"),
            }
            let requested = (0..self.listed.len()).filter(|index| self.listed[*index].requested).collect();
            let base_names = self.listed.iter().map(|derivation| format!("0-{}.drv", derivation.name)).collect();
            let other_requests = self.other_requests;
            Ok(Some(Listed { store_dir: "/s".to_owned(), base_names, requested, other_requests }))
        }

        fn derivation(&mut self, index: usize) -> Result<PlannedDerivation, &'static str> {
            self.ask(self.listed[index].name);
            let name = self.listed[index].name;
            if name == "unreadable" {
                return Err("cannot be read");
            }
            let outputs = vec![Output { name: "out".to_owned(), key: format!("/s/1-{name}").as_str().into() }];
            let (path, system) = (format!("/s/0-{name}.drv"), "x86_64-linux".to_owned());
            Ok(PlannedDerivation {
                path,
                outputs,
                is_resolved: false,
                system,
                is_fetch: false,
                may_be_substituted: true,
            })
        }

        fn mentioned_by(&self, index: usize) -> Result<Vec<usize>, &'static str> {
            Ok((0..self.listed.len()).filter(|user| *user != index).collect())
        }

        fn needs(&self, user: usize, index: usize) -> Result<bool, &'static str> {
            Ok(self.listed[index].users.contains(&self.listed[user].name) && self.is_missing(index))
        }

        fn is_wanted(&self, index: usize) -> Result<bool, &'static str> {
            Ok(self.is_missing(index))
        }

        fn is_sure(&self) -> bool {
            !self.is_unsure.get()
        }

        fn may_need(&self, derivations: &[String]) -> Result<bool, &'static str> {
            Ok(self.all.iter().any(|made_up| derivations.contains(&format!("/s/0-{}.drv", made_up.name))))
        }

        fn can_be_had(&self, index: usize) -> Result<bool, &'static str> {
            Ok(self.listed[index].substitutable)
        }

        fn must_be_built(&self, index: usize) -> Result<bool, &'static str> {
            Ok(!self.listed[index].substitutable)
        }
    }

    /// Made-up failures, by the names of the derivations.
    #[derive(Default)]
    struct MadeUpFailures {
        /// Those that are known by the output only: another derivation with the same output has failed.
        by_output: Vec<&'static str>,
        /// Those that are known by the path of the derivation as well.
        by_derivation: Vec<&'static str>,
        /// Those that binary caches know.
        elsewhere: Vec<&'static str>,
        /// Whether the caches carry no failures at all.
        carry_nothing: bool,
        /// Those that were learned and then withdrawn.
        withdrawn: bool,
        /// What binary caches were asked about.
        asked: Vec<String>,
        /// What they know nothing about.
        unknown: Vec<String>,
        found: BTreeSet<usize>,
    }

    impl Failures for MadeUpFailures {
        type Error = &'static str;

        fn would_open(&self) -> Result<bool, &'static str> {
            Ok(false)
        }

        fn are_any(&self) -> Result<bool, &'static str> {
            Ok(!self.by_output.is_empty() || !self.by_derivation.is_empty())
        }

        fn include(&self, key: &str) -> Result<bool, &'static str> {
            let mut names = self.by_output.iter().chain(&self.by_derivation);
            Ok(names.any(|name| key == format!("/s/1-{name}")))
        }

        fn derivations(&self, _: usize) -> Result<Option<Vec<String>>, &'static str> {
            Ok(Some(self.by_derivation.iter().map(|name| format!("/s/0-{name}.drv")).collect()))
        }

        fn start_over(&mut self) {
            self.found.clear();
        }

        fn doubts(&self) -> bool {
            false
        }

        fn find_by_derivation(&mut self, derivations: &[String]) -> Result<Vec<usize>, &'static str> {
            let failed = |path: &String| self.by_derivation.iter().any(|name| *path == format!("/s/0-{name}.drv"));
            self.found = (0..derivations.len()).filter(|index| failed(&derivations[*index])).collect();
            Ok(self.found.iter().copied().collect())
        }

        fn candidates(&self, names: &[&str]) -> Result<Vec<usize>, &'static str> {
            let known = |name: &str| self.by_output.contains(&name) || self.by_derivation.contains(&name);
            Ok((0..names.len()).filter(|index| known(names[*index])).collect())
        }

        fn find_by_output(&mut self, derivations: &[(usize, PlannedDerivation)]) -> Result<(), &'static str> {
            for (index, derivation) in derivations {
                if any_known(self, &plain_keys(&derivation.outputs))? {
                    self.found.insert(*index);
                }
            }
            Ok(())
        }

        fn asks_caches(&self) -> Result<bool, &'static str> {
            Ok(!self.elsewhere.is_empty())
        }

        fn caches_carry_any(&mut self) -> Result<bool, &'static str> {
            Ok(!self.carry_nothing)
        }

        fn caches_may_know(&mut self, base_names: &[String]) -> Result<bool, &'static str> {
            Ok(self.unknown != base_names)
        }

        fn caches_know_nothing(&mut self, base_names: &[String]) -> Result<(), &'static str> {
            self.unknown = base_names.to_vec();
            Ok(())
        }

        fn learn(&mut self, derivations: &[PlannedDerivation]) -> Result<bool, &'static str> {
            self.asked.extend(derivations.iter().map(|derivation| derivation.path.clone()));
            let known =
                |name: &&&str| derivations.iter().any(|derivation| derivation.path == format!("/s/0-{name}.drv"));
            let learned: Vec<&str> = self.elsewhere.iter().filter(known).copied().collect();
            self.by_output.extend(&learned);
            Ok(!learned.is_empty())
        }

        fn were_withdrawn(&mut self, _: &[usize]) -> Result<bool, &'static str> {
            let withdrawn = std::mem::take(&mut self.withdrawn);
            if withdrawn {
                self.by_output.clear();
            }
            Ok(withdrawn)
        }

        fn found(&self) -> BTreeSet<usize> {
            self.found.clone()
        }
    }

    const TOP: MadeUp = MadeUp { name: "top", users: &[], requested: true, substitutable: false };
    const BOTTOM: MadeUp = MadeUp { name: "bottom", users: &["middle"], requested: false, substitutable: false };
    const MIDDLE: MadeUp = MadeUp { name: "middle", users: &["top"], requested: false, substitutable: false };
    const OTHER: MadeUp = MadeUp { name: "other", users: &["top"], requested: false, substitutable: false };

    fn by_output(names: &[&'static str]) -> MadeUpFailures {
        MadeUpFailures { by_output: names.to_vec(), ..MadeUpFailures::default() }
    }

    fn by_derivation(names: &[&'static str]) -> MadeUpFailures {
        MadeUpFailures { by_derivation: names.to_vec(), ..MadeUpFailures::default() }
    }

    fn decided(plan: &mut MadeUpPlan, mut failures: MadeUpFailures, keep_going: bool) -> RequestDecision {
        decide(plan, &mut failures, &Settings::default(), keep_going).expect("a decision")
    }

    #[test]
    fn without_failures_nix_is_asked_nothing() {
        let mut plan = MadeUpPlan::new(&[BOTTOM, MIDDLE, TOP]);
        let decision = decided(&mut plan, MadeUpFailures::default(), false);
        assert_eq!(decision, RequestDecision { asked: false, ..RequestDecision::of(Decision::Build) });
        assert!(plan.questions.borrow().is_empty());
    }

    #[test]
    fn a_dependency_that_fails_refuses_what_needs_it_and_nothing_else_is_read() {
        let mut plan = MadeUpPlan::new(&[BOTTOM, MIDDLE, OTHER, TOP]);
        let decision = decided(&mut plan, by_output(&["bottom"]), false);
        assert_eq!(decision, RequestDecision::of(Decision::Refuse { known: vec![0], dependents: vec![1, 3] }));
        assert_eq!(*plan.questions.borrow(), ["all", "top", "bottom"]);
    }

    #[test]
    fn a_request_that_is_known_to_fail_by_its_path_is_refused_without_asking() {
        let mut plan = MadeUpPlan::new(&[BOTTOM, MIDDLE, TOP]);
        let decided = decided(&mut plan, by_derivation(&["top"]), false);
        let refused = Decision::Refuse { known: vec![0], dependents: vec![] };
        assert_eq!(decided, RequestDecision { refuses_all: true, ..RequestDecision::of(refused) });
        assert!(plan.questions.borrow().is_empty());
    }

    #[test]
    fn a_known_failure_is_not_all_if_something_else_is_requested() {
        let mut plan = MadeUpPlan { other_requests: true, ..MadeUpPlan::new(&[BOTTOM, MIDDLE, TOP]) };
        let refused = RequestDecision::of(Decision::Refuse { known: vec![0], dependents: vec![] });
        assert_eq!(decided(&mut plan, by_derivation(&["top"]), false), refused);
        assert!(plan.questions.borrow().is_empty());
        decided(&mut plan, by_derivation(&["top"]), true);
        assert_eq!(plan.questions.borrow()[0], "all");
    }

    #[test]
    fn with_keep_going_one_failing_request_of_two_is_not_all() {
        let second = MadeUp { name: "second", ..TOP };
        let mut plan = MadeUpPlan::new(&[second, TOP]);
        let decision = decided(&mut plan, by_derivation(&["top"]), true);
        assert_eq!(decision, RequestDecision::of(Decision::Refuse { known: vec![1], dependents: vec![] }));
        assert_eq!(plan.questions.borrow()[0], "all");
    }

    #[test]
    fn what_can_be_substituted_after_all_is_asked_about_again() {
        let mut plan = MadeUpPlan::new(&[MadeUp { substitutable: true, ..BOTTOM }, MIDDLE, TOP]);
        plan.was_asked = true;
        decided(&mut plan, by_output(&["bottom"]), false);
        assert!(plan.questions.borrow().contains(&"all"));

        let mut plan = MadeUpPlan::new(&[BOTTOM, MIDDLE, TOP]);
        plan.was_asked = true;
        decided(&mut plan, by_output(&["bottom"]), false);
        assert!(!plan.questions.borrow().contains(&"all"));
    }

    #[test]
    fn what_is_there_needs_no_database() {
        let mut plan = MadeUpPlan::new(&[]);
        plan.was_asked = true;
        let decision = decided(&mut plan, by_output(&["bottom"]), false);
        assert_eq!(decision.decision, Decision::Build);
        assert!(plan.questions.borrow().is_empty());
    }

    fn with_database(all: &[MadeUp]) -> MadeUpPlan {
        MadeUpPlan { has_database: true, ..MadeUpPlan::new(all) }
    }

    #[test]
    fn what_is_not_built_tells_which_known_failures_are_needed() {
        let mut plan = with_database(&[BOTTOM, MIDDLE, OTHER, TOP]);
        let decision = decided(&mut plan, by_output(&["bottom"]), false);
        assert_eq!(decision, RequestDecision::of(Decision::Refuse { known: vec![0], dependents: vec![1, 3] }));
        assert_eq!(*plan.questions.borrow(), ["top", "bottom"]);

        // What can be substituted is not built, and what only it needs is not built either.
        for substitutable in [BOTTOM.name, MIDDLE.name, TOP.name] {
            let all = [BOTTOM, MIDDLE, OTHER, TOP]
                .map(|made_up| MadeUp { substitutable: made_up.name == substitutable, ..made_up });
            let mut plan = with_database(&all);
            let decision = decided(&mut plan, by_output(&["bottom"]), false);
            assert_eq!(decision, RequestDecision { asked: false, ..RequestDecision::of(Decision::Build) });
            assert!(!plan.questions.borrow().contains(&"all"));
        }
    }

    #[test]
    fn a_request_that_is_known_to_fail_and_can_be_substituted_hides_no_other_failure() {
        let second = MadeUp { name: "second", ..TOP };
        let mut plan = with_database(&[BOTTOM, MIDDLE, second, MadeUp { substitutable: true, ..TOP }]);
        let decision = decided(&mut plan, by_output(&["top", "second"]), false);
        assert_eq!(decision.decision, Decision::Refuse { known: vec![2], dependents: vec![] });
        let above = MadeUp { users: &["second"], ..BOTTOM };
        let mut plan = with_database(&[above, second, MadeUp { substitutable: true, ..TOP }]);
        let decision = decided(&mut plan, by_output(&["top", "bottom"]), false);
        assert_eq!(decision.decision, Decision::Refuse { known: vec![0], dependents: vec![1] });
    }

    #[test]
    fn nix_is_asked_where_the_plan_is_not_sure() {
        let mut plan = with_database(&[BOTTOM, MIDDLE, TOP]);
        plan.is_unsure.set(true);
        let decision = decided(&mut plan, by_output(&["bottom"]), false);
        assert!(matches!(decision.decision, Decision::Refuse { .. }));
        assert!(plan.questions.borrow().contains(&"all"));
        let mut failures = by_output(&["bottom"]);
        let refused = refuse_at_once(&mut plan, &mut failures, &Settings::default(), false);
        assert_eq!(refused, Ok(None));
    }

    #[test]
    fn refusing_at_once_asks_nix_nothing() {
        let at_once = |plan: &mut MadeUpPlan, mut failures: MadeUpFailures, settings: &Settings| {
            let refused = refuse_at_once(plan, &mut failures, settings, false).expect("an answer");
            assert!(!plan.questions.borrow().contains(&"all"));
            refused.map(|refused| refused.decision)
        };
        let (normal, warn) = (Settings::default(), Settings { warn: true, ..Settings::default() });
        let mut plan = with_database(&[BOTTOM, MIDDLE, OTHER, TOP]);
        let refused = Some(Decision::Refuse { known: vec![0], dependents: vec![1, 3] });
        assert_eq!(at_once(&mut plan, by_derivation(&["bottom"]), &normal), refused);
        assert_eq!(at_once(&mut plan, by_derivation(&["bottom"]), &warn), None);
        assert_eq!(at_once(&mut plan, by_derivation(&["something else"]), &normal), None);
        assert_eq!(at_once(&mut plan, MadeUpFailures::default(), &normal), None);
        let withdrawn = MadeUpFailures { withdrawn: true, ..by_derivation(&["bottom"]) };
        assert_eq!(at_once(&mut plan, withdrawn, &normal), None);
        let mut valid = MadeUpPlan { was_asked: true, ..with_database(&[]) };
        assert_eq!(at_once(&mut valid, by_derivation(&["bottom"]), &normal), None);
        assert!(valid.questions.borrow().is_empty());
        let refused = Some(Decision::Refuse { known: vec![0], dependents: vec![] });
        assert_eq!(at_once(&mut MadeUpPlan::new(&[TOP]), by_derivation(&["top"]), &normal), refused);
    }

    #[test]
    fn warnings_name_the_keys_of_the_outputs() {
        let settings = Settings { warn: true, ..Settings::default() };
        let mut plan = MadeUpPlan::new(&[BOTTOM, MIDDLE, OTHER, TOP]);
        let decision =
            decide(&mut plan, &mut by_derivation(&["bottom", "other"]), &settings, false).expect("a decision");
        assert_eq!(decision.decision, Decision::Warn(vec![0, 2]));
        assert_eq!(decision.warned_keys, ["/s/1-bottom", "/s/1-other"]);
    }

    fn elsewhere(names: &[&'static str]) -> MadeUpFailures {
        MadeUpFailures { elsewhere: names.to_vec(), ..MadeUpFailures::default() }
    }

    #[test]
    fn of_many_derivations_caches_are_asked_about_the_requests_first() {
        let settings = Settings::default();
        let many = [BOTTOM; 70];
        for (failures, asked, refused) in [(elsewhere(&["top"]), 1, vec![71]), (elsewhere(&["other"]), 72, vec![70])] {
            let (mut plan, mut failures) = (MadeUpPlan::new(&[&many[..], &[OTHER, TOP]].concat()), failures);
            let decision = decide(&mut plan, &mut failures, &settings, false).expect("a decision").decision;
            assert!(matches!(decision, Decision::Refuse { known, .. } if known == refused));
            assert_eq!((failures.asked.len(), failures.asked[0].as_str()), (asked, "/s/0-top.drv"));
        }
    }

    #[test]
    fn caches_are_asked_once_and_only_if_nothing_is_refused_yet() {
        let settings = Settings::default();
        let mut plan = MadeUpPlan::new(&[BOTTOM, MIDDLE, TOP]);
        let mut failures = elsewhere(&["something else"]);
        let decided = decide(&mut plan, &mut failures, &settings, false).expect("a decision");
        assert_eq!((decided, failures.asked.len()), (RequestDecision::of(Decision::Build), 3));
        decide(&mut plan, &mut failures, &settings, false).expect("a decision");
        assert_eq!(failures.asked.len(), 3, "nothing came of it the last time");

        let mut plan = MadeUpPlan::new(&[BOTTOM, MIDDLE, OTHER, TOP]);
        let mut failures = MadeUpFailures { by_output: vec!["bottom"], ..elsewhere(&["other"]) };
        let decided = decide(&mut plan, &mut failures, &settings, false).expect("a decision");
        assert!(matches!(decided.decision, Decision::Refuse { known, .. } if known == [0]));
        assert!(failures.asked.is_empty());
        // With keep-going, the others are asked about as well.
        let decided = decide(&mut plan, &mut failures, &settings, true).expect("a decision");
        assert!(matches!(decided.decision, Decision::Refuse { known, .. } if known == [0, 2]));
    }

    #[test]
    fn nix_is_not_asked_where_no_cache_carries_failures() {
        let mut plan = MadeUpPlan::new(&[BOTTOM, MIDDLE, TOP]);
        let mut failures = MadeUpFailures { carry_nothing: true, ..elsewhere(&["something else"]) };
        let decided = decide(&mut plan, &mut failures, &Settings::default(), false).expect("a decision");
        assert_eq!(decided, RequestDecision { asked: false, ..RequestDecision::of(Decision::Build) });
        assert!(plan.questions.borrow().is_empty());
    }

    #[test]
    fn a_failure_that_was_withdrawn_refuses_nothing() {
        let mut plan = MadeUpPlan::new(&[BOTTOM, MIDDLE, TOP]);
        let mut failures =
            MadeUpFailures { by_output: vec!["bottom"], withdrawn: true, ..elsewhere(&["something else"]) };
        let decided = decide(&mut plan, &mut failures, &Settings::default(), false).expect("a decision");
        assert_eq!(decided.decision, Decision::Build);
    }

    #[test]
    fn an_error_of_nix_is_passed_on() {
        let mut plan = MadeUpPlan::new(&[MadeUp { name: "unreadable", ..TOP }]);
        let error = decide(&mut plan, &mut by_output(&["x"]), &Settings::default(), false);
        assert_eq!(error, Err("cannot be read"));
    }

    fn single() -> PlannedDerivation {
        let outputs = vec![Output { name: "out".to_owned(), key: "/s/1-x".into() }];
        let (path, system) = ("/s/0-x.drv".to_owned(), "x86_64-linux".to_owned());
        PlannedDerivation { path, outputs, is_resolved: false, system, is_fetch: false, may_be_substituted: true }
    }

    #[test]
    fn a_single_derivation_is_its_own_request() {
        let settings = Settings::default();
        assert_eq!(decide_single(&mut by_output(&["y"]), &single(), &settings), Ok(Decision::Build));
        let refused = Decision::Refuse { known: vec![0], dependents: vec![] };
        assert_eq!(decide_single(&mut by_output(&["x"]), &single(), &settings), Ok(refused));
        let mut withdrawn = MadeUpFailures { by_output: vec!["x"], withdrawn: true, ..elsewhere(&["z"]) };
        assert_eq!(decide_single(&mut withdrawn, &single(), &settings), Ok(Decision::Build));
    }

    #[test]
    fn caches_are_asked_about_a_single_derivation_once_and_only_if_nothing_is_known() {
        let settings = Settings::default();
        let mut failures = elsewhere(&["y"]);
        assert_eq!(learn_single(&mut failures, &single(), &settings), Ok(false));
        assert_eq!(learn_single(&mut failures, &single(), &settings), Ok(false));
        assert_eq!(failures.asked, ["/s/0-x.drv"]);

        let mut failures = elsewhere(&["x"]);
        assert_eq!(learn_single(&mut failures, &single(), &settings), Ok(true));
        assert_eq!(learn_single(&mut failures, &single(), &settings), Ok(false));
        assert_eq!(failures.asked.len(), 1);

        let mut failures = MadeUpFailures { by_output: vec!["x"], ..elsewhere(&["x"]) };
        assert_eq!(learn_single(&mut failures, &single(), &settings), Ok(false));
        assert!(failures.asked.is_empty());
    }
}
