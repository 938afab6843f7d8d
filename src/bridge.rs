//! The bridge between C++ and Rust: what each side may ask the other.
//!
//! Calls from C++ that could panic go through [`guarded`] or [`caught`], so that no panic reaches C++. An exception
//! that C++ throws while Rust asks it something becomes an error here. C++ throws it again, unchanged, when Rust has
//! returned (`fromCore` in cpp/guard.hh).

use std::borrow::Cow;
use std::pin::Pin;

use cxx::CxxString;
use nix_negative_cache_core::channel::{self, Message};
use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::decision;
use nix_negative_cache_core::judgement;
use nix_negative_cache_core::record::Output;
use nix_negative_cache_core::request::{self, Failures, Listed};
use nix_negative_cache_core::settings;
use nix_negative_cache_core::store_url;

use nix_version::Nix;

use crate::caches::NixsCaches;
use crate::counting;
use crate::guard::{Failure, caught, guarded};
use crate::hook;
use crate::lookup::{self, Lookup};
use crate::policy::Policy;
use crate::recording::{self, Outcome};
use crate::running_build::RunningBuild;

pub use crate::ending::Ending;
use ffi::*;
pub use ffi::{
    CacheAnswers, CacheQuestion, CacheSettings, Caches, Circumstances, EndedBuild, FoundPath, KnownFailure,
    RefusedDerivation,
};

/// The types and functions that both sides see.
#[cxx::bridge(namespace = "negative_cache::core")]
mod ffi {
    /// The type of the value of a setting.
    enum SettingKind {
        Switch,
        Number,
        Text,
    }

    /// A setting that the plugin adds to Nix; see `SettingInfo` in the core.
    struct SettingInfo {
        name: &'static str,
        kind: SettingKind,
        /// The default of a number.
        number: u64,
        /// The default of a text.
        text: &'static str,
        description: &'static str,
    }

    /// A setting and its value, as `nix config show` prints it.
    #[derive(Clone, PartialEq)]
    struct SettingValue {
        name: String,
        value: String,
    }

    /// A store and the settings in force for it.
    #[derive(Clone, Default, PartialEq)]
    struct Circumstances {
        /// The settings of Nix that matter, and the plugin's own.
        settings: Vec<SettingValue>,
        /// The path of the database file; empty for the store's own.
        database: Vec<u8>,
        /// The path of the program that is started after a failure was recorded; empty for none.
        hook: Vec<u8>,
        /// Whether a daemon builds. Then the database of the store is the daemon's.
        asks_daemon: bool,
        /// Whether that daemon has the plugin on.
        daemon_decides: bool,
        /// Whether this process is a daemon that serves a client.
        served: bool,
        /// The id of the user who makes requests of this process.
        user: u32,
        /// The path of the state directory of the store.
        state_dir: Vec<u8>,
        /// The directory that has the store's files.
        real_store_dir: Vec<u8>,
        /// The directory that has the directories in which builds run.
        build_dir: Vec<u8>,
        /// The version of Nix.
        nix_version: String,
        /// The first word of "last 3 log lines:", as this Nix spells it for a real failure.
        last_log_lines: String,
        /// How many lines of the log are shown at most (`log-lines`).
        log_lines: usize,
        /// The text before and after the derivation's path in this Nix's advice on how to see the whole log.
        before_full_logs: String,
        after_full_logs: String,
    }

    /// An output of a derivation.
    #[derive(Clone)]
    struct OutputKey {
        /// Its name, such as `out` or `dev`.
        name: String,
        /// The key by which its failure is found: its store path or, if that path follows from its content, the
        /// identity of its realisation.
        key: String,
    }

    /// Which derivations a plan lists.
    enum List {
        /// The derivations of which Nix said a moment ago that it would build them for the same request.
        LastAnswer,
        /// The requested derivations.
        Requested,
        /// The derivations that may have to be built, as Nix's database tells.
        Unbuilt,
        /// The derivations of which Nix says that it would build them. Nix is asked for this list.
        All,
    }

    /// The derivations that a plan lists, by their indexes.
    struct PlanList {
        /// Whether the derivations are known. If not, there is no list.
        is_known: bool,
        /// The directory that their paths are in.
        store_dir: String,
        /// The last parts of their paths.
        base_names: Vec<String>,
        /// The indexes of the requested derivations.
        requested: Vec<usize>,
        /// Whether something else is requested as well, such as a store path.
        other_requests: bool,
    }

    /// A derivation of a plan; see `PlannedDerivation` in the core.
    #[derive(Clone, Default)]
    struct PlannedDerivation {
        path: String,
        outputs: Vec<OutputKey>,
        is_resolved: bool,
        system: String,
        is_fetch: bool,
        may_be_substituted: bool,
    }

    /// What the settings say of binary caches that are asked for failures.
    #[derive(Default)]
    struct CacheSettings {
        /// The public keys of those who are believed.
        trusted_public_keys: Vec<String>,
        /// The URLs of the caches; empty for those that Nix uses.
        urls: Vec<String>,
        /// How long they may take to answer, all together.
        timeout_ms: u64,
    }

    /// A question to a binary cache; see `Question` in `core/src/elsewhere.rs`.
    struct CacheQuestion {
        cache: usize,
        path: String,
    }

    /// A path that a binary cache has; see `FoundPath` in `core/src/elsewhere.rs`.
    struct FoundPath {
        question: usize,
        keys: Vec<String>,
        nar_size: u64,
        references: Vec<String>,
    }

    /// The NAR of a path of a binary cache, if it came and is what the cache says.
    struct Nar {
        is_there: bool,
        bytes: Vec<u8>,
    }

    /// What binary caches have answered.
    struct CacheAnswers {
        nars: Vec<Nar>,
        paths: Vec<FoundPath>,
    }

    /// The outputs that a derivation needs of another one; see `InputDerivation` in the core.
    struct InputDerivation {
        path: String,
        outputs: Vec<String>,
    }

    /// What the text of a derivation says of the derivations that it needs.
    #[derive(Default)]
    struct InputDerivations {
        /// Whether the text has the usual form. If not, Nix has to read it.
        is_known: bool,
        inputs: Vec<InputDerivation>,
    }

    /// What binary caches are asked about a derivation; see `PlainDerivation` in the core.
    #[derive(Default)]
    struct PlainDerivation {
        /// Whether it is one. If not, Nix has to read it.
        is_plain: bool,
        outputs: Vec<OutputKey>,
        system: String,
    }

    /// A known failure, and the text about it that follows the derivation's path in quotes.
    struct KnownFailure {
        /// Its index in the plan.
        index: usize,
        text: String,
        /// How Nix reported the end of the original failure.
        ending: Ending,
    }

    /// A derivation that is refused, as it is counted; see `RefusedDerivation` in the core.
    #[derive(Clone)]
    struct RefusedDerivation {
        path: String,
        name: String,
        system: String,
        failure_class: String,
        /// Where the failure was learned; empty if it happened here.
        origin: String,
        /// How long the build took that failed.
        duration_ms: i64,
    }

    /// What to do about a request. If nothing is refused, it is built.
    #[derive(Default)]
    struct Decision {
        warnings: Vec<KnownFailure>,
        /// Derivations that failed before, but whose failure does not stand in the way.
        doubted: Vec<KnownFailure>,
        refused: Vec<KnownFailure>,
        /// Those of `refused` as they are counted.
        counted: Vec<RefusedDerivation>,
        /// The indexes of the derivations that need one of `refused`.
        dependents: Vec<usize>,
        /// Whether each requested derivation is itself a known failure, so that nothing is left to do.
        refuses_all: bool,
        /// Whether Nix was asked what it would build, or does not need to be asked.
        asked: bool,
        /// Keys of the outputs that the user was warned about.
        warned_keys: Vec<String>,
    }

    /// A build that has ended; see `Evidence` and `Failure` in the core.
    struct EndedBuild {
        derivation: String,
        outputs: Vec<OutputKey>,
        store_dir: String,
        name: String,
        system: String,
        ending: Ending,
        messages: Vec<String>,
        fixed_output: bool,
        impure: bool,
        builtin: bool,
        /// The other machine that was asked to build it; empty if this machine built it.
        machine: String,
        /// The machine that the other machine asked in its turn; empty if that one built it itself.
        delegate: String,
        normal_mode: bool,
        interrupted: bool,
        recursive: bool,
        opted_out: bool,
        /// Whether there should have been a sandbox, and Nix could make none.
        without_sandbox: bool,
        /// Whether the derivation has `__noChroot`.
        no_chroot: bool,
        /// Whether the derivation has `negativeCache = "local"`, so that its failure is not published.
        stays_here: bool,
    }

    /// How the end of a build was recorded.
    #[derive(Default)]
    struct Recorded {
        /// Whether a new record was written.
        is_recorded: bool,
        /// Why its failure is not recorded; empty if there is nothing to say.
        reason: String,
        /// What makes its recorded failure doubtful; empty if nothing does.
        doubtful: String,
    }

    /// What an error of Nix says about a derivation that failed and was not judged; see `Unbuilt` in the core.
    #[derive(Default)]
    struct Unbuilt {
        derivations: Vec<String>,
        /// Why its failure is not recorded; empty if there is nothing to say.
        reason: String,
    }

    #[namespace = "negative_cache::core"]
    extern "C++" {
        include!("nix-negative-cache-plugin/src/ending.rs.h");
        type Ending = crate::ending::Ending;
    }

    extern "Rust" {
        /// Which Nix runs, if a plugin with this note does not fit it; empty if it does. `determinate` is the version of
        /// Determinate Nix; empty in any other.
        fn unfit(note: &str, version: &str, determinate: &str) -> String;

        /// The settings in force and what follows from them, for a request.
        type Policy;

        /// The policy that follows from these circumstances.
        fn new_policy(circumstances: Circumstances) -> Box<Policy>;
        /// The names of Nix's settings that matter.
        fn settings_of_nix() -> Vec<String>;
        /// Whether the user is only warned of known failures.
        fn warns(self: &Policy) -> bool;

        /// The settings that the plugin adds to Nix.
        fn settings_of_plugin() -> Vec<SettingInfo>;
        /// What is wrong with a value of a text setting; empty if the value is valid.
        fn problem_with(setting: &str, value: &str) -> String;

        /// A build that runs.
        type RunningBuild;

        /// A build that starts now.
        fn start_build(policy: &Policy) -> Box<RunningBuild>;
        /// Adds a line of its log, without the end of the line.
        fn log_line(build: &mut RunningBuild, line: &[u8]);
        /// Records how a build ended.
        fn build_ended(policy: &Policy, build: &EndedBuild, running: &RunningBuild) -> Result<Recorded>;
        /// Starts the program that is to hear of the failure of a build, which was just recorded. Returns a warning if that can't
        /// be; empty if there is none.
        fn start_hook(policy: &Policy, build: &EndedBuild) -> Result<String>;
        /// Reads an error about a derivation that was not judged.
        fn unbuilt(message: &CxxString, store_dir: &CxxString) -> Result<Unbuilt>;
        /// Whether any failure is recorded that a success would lift.
        fn has_records(policy: &Policy) -> Result<bool>;
        /// Removes a few records if there are too many, or if they are too old.
        fn tidy(policy: &Policy) -> Result<()>;

        /// Counts derivations that are refused. Nothing is written yet.
        fn count_refusals(policy: &Policy, refused: &Vec<RefusedDerivation>) -> Result<()>;
        /// Writes what was counted, unless that was done a moment ago. Returns whether anything is left to write.
        fn write_counts(policy: &Policy) -> Result<bool>;
        /// Writes what is left.
        fn write_all_counts() -> Result<()>;

        /// What the settings say of binary caches. None is asked if the settings can't be read.
        fn cache_settings(self: &Policy) -> CacheSettings;
        /// The URL of a store without secrets, which others may see.
        fn shown_url(url: &str) -> String;

        /// Decides about a request. Caches may be asked for failures.
        fn decide(
            policy: &Policy,
            plan: Pin<&mut BuildPlan>,
            caches: Pin<&mut Caches>,
            keep_going: bool,
        ) -> Result<Decision>;
        /// Refuses a request before Nix is asked what it would build, if that is possible. Otherwise the decision is empty.
        fn refuse_at_once(
            policy: &Policy,
            plan: Pin<&mut BuildPlan>,
            caches: Pin<&mut Caches>,
            keep_going: bool,
        ) -> Result<Decision>;
        /// What a dry run says of what would be refused, after Nix has answered what it would build.
        fn foresee(policy: &Policy, plan: Pin<&mut BuildPlan>) -> Result<Vec<KnownFailure>>;
        /// Asks caches whether a derivation has failed elsewhere, unless enough is known of it. Returns whether a failure became
        /// known.
        fn learn(policy: &Policy, derivation: &PlannedDerivation, caches: Pin<&mut Caches>) -> Result<bool>;
        /// Asks caches about all that a request would build, also if they were asked lately. Returns whether a failure became
        /// known.
        fn learn_all(policy: &Policy, plan: Pin<&mut BuildPlan>, caches: Pin<&mut Caches>) -> Result<bool>;
        /// Reads which outputs of others the derivation with this text needs.
        fn input_derivations(text: &[u8]) -> InputDerivations;
        /// Reads what caches are asked about the derivation with this text.
        fn plain_derivation(text: &[u8]) -> PlainDerivation;
        /// Decides about a derivation that is about to be built. Caches may be asked whether what they have told was withdrawn.
        fn decide_derivation(
            policy: &Policy,
            derivation: &PlannedDerivation,
            caches: Pin<&mut Caches>,
        ) -> Result<Decision>;
        /// Whether there is a database that can be asked. This costs less than to make the key of an output.
        fn has_database(policy: &Policy) -> Result<bool>;
        /// Whether the output with this key failed when it was last built.
        fn is_known_failure(policy: &Policy, key: &CxxString) -> Result<bool>;
        /// The failure known by any of `paths`, as JSON; empty if there is none. `is_no_fetch` tells that their derivation is known to
        /// be no fetch, and `told` that the daemon knows a failure.
        fn known_failure(policy: &Policy, paths: &Vec<String>, is_no_fetch: bool, told: bool) -> Result<String>;
        /// Whether a daemon builds that has the plugin on, and so is asked what is known.
        fn daemon_decides(self: &Policy) -> bool;
        /// The question to a daemon whether it answers others, as the last part of the store path to ask for.
        fn question_whether_daemon_answers() -> String;
        /// The question to a daemon whether `path` is known to fail, as the last part of the store path to ask for; empty
        /// if `path` is no store path.
        fn question_to_daemon(path: &str) -> String;

        /// Whether the last part of a store path is a message of a client; see `core/src/channel.rs`.
        fn is_message(base_name: &str) -> bool;
        /// The hash part of the path that a message asks about. Empty if it asks about none.
        fn hash_part_asked_about(base_name: &str) -> String;
        /// Whether a message wants caches to be asked.
        fn wants_fetch(base_name: &str) -> bool;
        /// Does what the message of a client says. Returns whether the path is to be reported as valid, which answers a
        /// greeting, and a question with yes. If it asks about a derivation, `outputs` are the keys of its outputs, and
        /// `is_no_fetch` tells that it is known to be no fetch.
        fn hear(
            policy: &Policy,
            store_dir: &CxxString,
            base_name: &CxxString,
            outputs: &Vec<String>,
            is_no_fetch: bool,
        ) -> Result<bool>;
        /// The messages of a client to a daemon, as the last parts of the store paths to ask for. The first message is
        /// a greeting, which a daemon with the plugin answers.
        fn messages_to_daemon(policy: &Policy) -> Vec<String>;
    }

    #[namespace = "negative_cache"]
    unsafe extern "C++" {
        include!("entry.hh");
        include!("guard.hh");
        include!("build_plan.hh");
        include!("caches.hh");

        /// Registers the plugin with Nix; never throws.
        fn enter();

        /// What a request would build; see `Plan` in the core.
        type BuildPlan;

        fn nothing_to_build(self: &BuildPlan, may_look: bool) -> Result<bool>;
        fn list(self: Pin<&mut BuildPlan>, which: List) -> Result<PlanList>;
        fn derivation(self: Pin<&mut BuildPlan>, index: usize) -> Result<PlannedDerivation>;
        fn mentioned_by(self: &BuildPlan, index: usize) -> Result<Vec<usize>>;
        fn needs(self: &BuildPlan, user: usize, index: usize) -> Result<bool>;
        fn is_wanted(self: &BuildPlan, index: usize) -> Result<bool>;
        fn is_sure(self: &BuildPlan) -> bool;
        fn may_need(self: &BuildPlan, derivations: &Vec<String>) -> Result<bool>;
        fn can_be_had(self: &BuildPlan, index: usize) -> Result<bool>;
        fn must_be_built(self: &BuildPlan, index: usize) -> Result<bool>;

        /// Binary caches that are asked for failures; see `Caches` in `core/src/elsewhere.rs`.
        type Caches;

        fn store_dir(self: &Caches) -> String;
        fn may_be_asked(self: &Caches) -> bool;
        fn why_not_asked(self: &Caches) -> String;
        fn all_answered(self: &Caches) -> bool;
        fn urls(self: &Caches) -> Vec<String>;
        fn query(self: Pin<&mut Caches>, questions: &Vec<CacheQuestion>) -> Result<Vec<FoundPath>>;
        fn read(self: Pin<&mut Caches>, nars: &Vec<usize>, questions: &Vec<CacheQuestion>) -> Result<CacheAnswers>;
        fn note(self: &Caches, cache: usize, path: &str, text: &str);
        fn leave_out(self: &Caches, cache: usize, why: &str);
        fn ask_nobody(self: &Caches, why: &str);
    }
}

/// Nix calls this function when it has loaded the plugin (`initPlugins` in plugin.cc, since Nix 2.22).
// SAFETY: the name is Nix's, and each plugin has its own: Nix looks it up in this library's handle.
#[unsafe(no_mangle)]
pub extern "C" fn nix_plugin_entry() {
    enter();
}

fn unfit(note: &str, version: &str, determinate: &str) -> String {
    let running = if determinate.is_empty() { Nix::released(version) } else { Nix::determinate(determinate) };
    if Nix::from_note(note).fits(&running) { String::new() } else { running.to_string() }
}

impl From<&OutputKey> for Output {
    fn from(output: &OutputKey) -> Output {
        Output { name: output.name.clone(), key: output.key.as_str().into() }
    }
}

impl From<&Output> for OutputKey {
    fn from(output: &Output) -> OutputKey {
        OutputKey { name: output.name.clone(), key: output.key.to_string() }
    }
}

impl From<PlannedDerivation> for request::PlannedDerivation {
    fn from(planned: PlannedDerivation) -> request::PlannedDerivation {
        let PlannedDerivation { path, outputs, is_resolved, system, is_fetch, may_be_substituted } = planned;
        let outputs = outputs.iter().map(Output::from).collect();
        request::PlannedDerivation { path, outputs, is_resolved, system, is_fetch, may_be_substituted }
    }
}

/// The plan of a request, which C++ keeps.
struct NixsPlan<'a>(Pin<&'a mut BuildPlan>);

impl request::Plan for NixsPlan<'_> {
    type Error = Failure;

    fn nothing_to_build(&self, may_look: bool) -> Result<bool, Failure> {
        Ok(self.0.nothing_to_build(may_look)?)
    }

    fn list(&mut self, which: request::List) -> Result<Option<Listed>, Failure> {
        let which = match which {
            request::List::LastAnswer => List::LastAnswer,
            request::List::Requested => List::Requested,
            request::List::Unbuilt => List::Unbuilt,
            request::List::All => List::All,
        };
        let PlanList { is_known, store_dir, base_names, requested, other_requests } = self.0.as_mut().list(which)?;
        Ok(is_known.then_some(Listed { store_dir, base_names, requested, other_requests }))
    }

    fn derivation(&mut self, index: usize) -> Result<request::PlannedDerivation, Failure> {
        Ok(self.0.as_mut().derivation(index)?.into())
    }

    fn mentioned_by(&self, index: usize) -> Result<Vec<usize>, Failure> {
        Ok(self.0.mentioned_by(index)?)
    }

    fn needs(&self, user: usize, index: usize) -> Result<bool, Failure> {
        Ok(self.0.needs(user, index)?)
    }

    fn is_wanted(&self, index: usize) -> Result<bool, Failure> {
        Ok(self.0.is_wanted(index)?)
    }

    fn is_sure(&self) -> bool {
        self.0.is_sure()
    }

    fn may_need(&self, derivations: &[String]) -> Result<bool, Failure> {
        Ok(self.0.may_need(&derivations.to_vec())?)
    }

    fn can_be_had(&self, index: usize) -> Result<bool, Failure> {
        Ok(self.0.can_be_had(index)?)
    }

    fn must_be_built(&self, index: usize) -> Result<bool, Failure> {
        Ok(self.0.must_be_built(index)?)
    }
}

fn new_policy(circumstances: Circumstances) -> Box<Policy> {
    // The failure is reported when the policy is used.
    Box::new(caught(|| Ok(Policy::of(circumstances))).unwrap_or_else(Policy::broken))
}

fn input_derivations(text: &[u8]) -> InputDerivations {
    let read = caught(|| Ok(nix_negative_cache_core::input_derivations::input_derivations(text)));
    match read.ok().flatten() {
        Some(inputs) => {
            let names = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
            let owned = inputs
                .into_iter()
                .map(|input| InputDerivation { path: input.path.to_owned(), outputs: names(input.outputs) });
            InputDerivations { is_known: true, inputs: owned.collect() }
        }
        None => InputDerivations::default(),
    }
}

fn plain_derivation(text: &[u8]) -> PlainDerivation {
    let read = caught(|| Ok(nix_negative_cache_core::plain_derivation::plain_derivation(text)));
    match read.ok().flatten() {
        Some(plain) => {
            let key = |(name, path): (&str, &str)| OutputKey { name: name.to_owned(), key: path.to_owned() };
            let outputs = plain.outputs.into_iter().map(key).collect();
            PlainDerivation { is_plain: true, outputs, system: plain.system.to_owned() }
        }
        None => PlainDerivation::default(),
    }
}

fn settings_of_nix() -> Vec<String> {
    Policy::settings_of_nix().into_iter().map(str::to_owned).collect()
}

fn settings_of_plugin() -> Vec<SettingInfo> {
    let info = |setting: &settings::SettingInfo| {
        let (kind, number, text) = match setting.kind {
            settings::Kind::Switch => (SettingKind::Switch, 0, ""),
            settings::Kind::Number(number) => (SettingKind::Number, number, ""),
            settings::Kind::Text(text) => (SettingKind::Text, 0, text),
        };
        SettingInfo { name: setting.name, kind, number, text, description: setting.description }
    };
    settings::ALL.iter().map(info).collect()
}

fn problem_with(setting: &str, value: &str) -> String {
    let problem = caught(|| Ok(settings::SettingInfo::named(setting).and_then(|setting| setting.problem_with(value))));
    problem.unwrap_or_default().map(|error| error.to_string()).unwrap_or_default()
}

fn start_build(policy: &Policy) -> Box<RunningBuild> {
    Box::new(guarded(|| Ok(RunningBuild::start(policy))).unwrap_or_default())
}

fn log_line(build: &mut RunningBuild, line: &[u8]) {
    let _ = guarded(|| {
        build.log_line(line);
        Ok(())
    });
}

/// A reason as users read it.
fn in_full(reason: &dyn std::fmt::Display, class: Class) -> String {
    format!("{reason} (class '{class}')")
}

fn build_ended(policy: &Policy, build: &EndedBuild, running: &RunningBuild) -> Result<Recorded, Failure> {
    Ok(match guarded(|| recording::build_ended(policy, build, running))? {
        Outcome::Silent => Recorded::default(),
        Outcome::Recorded => Recorded { is_recorded: true, ..Recorded::default() },
        Outcome::Doubtful(why) => Recorded { is_recorded: true, doubtful: why.to_string(), ..Recorded::default() },
        Outcome::NotRecorded(class, reason) => Recorded { reason: in_full(&reason, class), ..Recorded::default() },
    })
}

fn start_hook(policy: &Policy, build: &EndedBuild) -> Result<String, Failure> {
    Ok(guarded(|| hook::start(policy, build))?.unwrap_or_default())
}

fn unbuilt(message: &CxxString, store_dir: &CxxString) -> Result<Unbuilt, Failure> {
    guarded(|| {
        let unbuilt = judgement::unbuilt(&message.to_string_lossy(), &store_dir.to_string_lossy());
        let reason = unbuilt.reason.map(|reason| in_full(&reason, Class::NotTheBuilder)).unwrap_or_default();
        Ok(Unbuilt { derivations: unbuilt.derivations, reason })
    })
}

fn has_records(policy: &Policy) -> Result<bool, Failure> {
    guarded(|| recording::has_records(policy))
}

fn tidy(policy: &Policy) -> Result<(), Failure> {
    guarded(|| recording::tidy(policy))
}

#[expect(clippy::ptr_arg, reason = "the bridge passes vectors")]
fn count_refusals(policy: &Policy, refused: &Vec<RefusedDerivation>) -> Result<(), Failure> {
    guarded(|| {
        counting::refused(policy, refused);
        Ok(())
    })
}

fn write_counts(policy: &Policy) -> Result<bool, Failure> {
    guarded(|| Ok(counting::write(policy)))
}

fn write_all_counts() -> Result<(), Failure> {
    guarded(|| {
        counting::write_rest();
        Ok(())
    })
}

fn decide(
    policy: &Policy,
    plan: Pin<&mut BuildPlan>,
    caches: Pin<&mut Caches>,
    keep_going: bool,
) -> Result<Decision, Failure> {
    decide_by(policy, plan, caches, keep_going, |plan, lookup, settings| {
        request::decide(plan, lookup, settings, keep_going).map(Some)
    })
}

fn refuse_at_once(
    policy: &Policy,
    plan: Pin<&mut BuildPlan>,
    caches: Pin<&mut Caches>,
    keep_going: bool,
) -> Result<Decision, Failure> {
    decide_by(policy, plan, caches, keep_going, |plan, lookup, settings| {
        request::refuse_at_once(plan, lookup, settings, keep_going)
    })
}

/// What `decide` decides, and what to say of it. The decision is empty if there is none.
fn decide_by(
    policy: &Policy,
    plan: Pin<&mut BuildPlan>,
    caches: Pin<&mut Caches>,
    keep_going: bool,
    decide: impl FnOnce(
        &mut NixsPlan<'_>,
        &mut Lookup<'_>,
        &settings::Settings,
    ) -> Result<Option<request::RequestDecision>, Failure>,
) -> Result<Decision, Failure> {
    guarded(|| {
        let mut lookup = Lookup::new(policy, Some(NixsCaches::new(caches)));
        let decided = decide(&mut NixsPlan(plan), &mut lookup, policy.settings()?)?;
        decided.map_or_else(|| Ok(Decision::default()), |decided| in_words(lookup, decided, keep_going))
    })
}

fn foresee(policy: &Policy, plan: Pin<&mut BuildPlan>) -> Result<Vec<KnownFailure>, Failure> {
    guarded(|| {
        let mut lookup = Lookup::new(policy, None);
        let decision = request::foresee(&mut NixsPlan(plan), &mut lookup, policy.settings()?)?;
        lookup.foreseen(&decision)
    })
}

/// A decision, and what to say of it.
fn in_words(lookup: Lookup<'_>, decided: request::RequestDecision, keep_going: bool) -> Result<Decision, Failure> {
    let in_words = lookup.in_words(&decided.decision, keep_going)?;
    let dependents = match decided.decision {
        decision::Decision::Refuse { dependents, .. } => dependents,
        decision::Decision::Build | decision::Decision::Warn(_) => Vec::new(),
    };
    let words: Decision = in_words.into();
    let warned_keys = [words.warned_keys, decided.warned_keys].concat();
    Ok(Decision { dependents, refuses_all: decided.refuses_all, asked: decided.asked, warned_keys, ..words })
}

fn decide_derivation(
    policy: &Policy,
    derivation: &PlannedDerivation,
    caches: Pin<&mut Caches>,
) -> Result<Decision, Failure> {
    guarded(|| {
        let mut lookup = Lookup::new(policy, Some(NixsCaches::new(caches)));
        let decision = request::decide_single(&mut lookup, &derivation.clone().into(), policy.settings()?)?;
        Ok(lookup.in_words(&decision, false)?.into())
    })
}

fn learn(policy: &Policy, derivation: &PlannedDerivation, caches: Pin<&mut Caches>) -> Result<bool, Failure> {
    guarded(|| {
        let mut lookup = Lookup::new(policy, Some(NixsCaches::new(caches)));
        request::learn_single(&mut lookup, &derivation.clone().into(), policy.settings()?)
    })
}

fn learn_all(policy: &Policy, plan: Pin<&mut BuildPlan>, caches: Pin<&mut Caches>) -> Result<bool, Failure> {
    guarded(|| {
        let caches = NixsCaches::new(caches).asked_anew();
        let mut lookup = Lookup::new(policy, Some(caches));
        Ok(lookup.asks_caches()? && request::learn(&mut NixsPlan(plan), &mut lookup)?.learned)
    })
}

impl From<lookup::InWords> for Decision {
    fn from(in_words: lookup::InWords) -> Decision {
        let lookup::InWords { warnings, doubted, refused, counted, warned_keys } = in_words;
        Decision { warnings, doubted, refused, counted, warned_keys, ..Decision::default() }
    }
}

fn has_database(policy: &Policy) -> Result<bool, Failure> {
    guarded(|| lookup::has_database(policy))
}

fn is_known_failure(policy: &Policy, key: &CxxString) -> Result<bool, Failure> {
    // This is asked for each output that is missing. A key is nearly always ASCII, which is quick to check.
    let key = key.to_str().map_or_else(|_| key.to_string_lossy(), Cow::Borrowed);
    guarded(|| lookup::is_known_failure(policy, &key))
}

#[expect(clippy::ptr_arg, reason = "the bridge passes vectors")]
fn known_failure(policy: &Policy, paths: &Vec<String>, is_no_fetch: bool, told: bool) -> Result<String, Failure> {
    guarded(|| {
        let failure = lookup::known_failure(policy, paths, is_no_fetch, told)?;
        Ok(failure.and_then(|failure| serde_json::to_string(&failure).ok()).unwrap_or_default())
    })
}

fn is_message(base_name: &str) -> bool {
    guarded(|| Ok(Message::parse(base_name).is_some())).unwrap_or(false)
}

fn shown_url(url: &str) -> String {
    caught(|| Ok(store_url::shown(url))).unwrap_or_default()
}

fn hash_part_asked_about(base_name: &str) -> String {
    match caught(|| Ok(Message::parse(base_name))) {
        Ok(Some(Message::Fetch(hash_part) | Message::IsKnown(hash_part) | Message::IsRefused(hash_part))) => hash_part,
        _ => String::new(),
    }
}

fn wants_fetch(base_name: &str) -> bool {
    matches!(caught(|| Ok(Message::parse(base_name))), Ok(Some(Message::Fetch(_))))
}

#[expect(clippy::ptr_arg, reason = "the bridge passes vectors")]
fn hear(
    policy: &Policy,
    store_dir: &CxxString,
    base_name: &CxxString,
    outputs: &Vec<String>,
    is_no_fetch: bool,
) -> Result<bool, Failure> {
    guarded(|| {
        let Some(message) = Message::parse(&base_name.to_string_lossy()) else { return Ok(false) };
        recording::hear(policy, &store_dir.to_string_lossy(), message, outputs, is_no_fetch)
    })
}

fn question_whether_daemon_answers() -> String {
    Message::Answers.to_base_name()
}

fn question_to_daemon(path: &str) -> String {
    let question = caught(|| Ok(Message::is_known(path)));
    question.unwrap_or_default().map(|message| message.to_base_name()).unwrap_or_default()
}

fn messages_to_daemon(policy: &Policy) -> Vec<String> {
    // If the settings can't be read, another function reports that.
    let settings = caught(|| Ok(channel::settings_to_tell(policy.configured()?))).unwrap_or_default();
    [Message::Hello].iter().chain(&settings).map(Message::to_base_name).collect()
}
