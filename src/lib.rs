//! The plugin: the bridge between Nix and the core.
//!
//! Plain data crosses it in both directions, in shared structures. Rust calls C++ only where that never throws, so that
//! no C++ exception can meet Rust; and everything that C++ calls here goes through [`boundary::guarded`], so that no
//! panic can meet C++.

mod boundary;
mod cache;
mod client;
mod consultation;
mod policy;
mod running_build;

use std::borrow::Cow;

use nix_negative_cache_core::build_status::BuildStatus;
use nix_negative_cache_core::channel::{self, Message};
use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::judgement;
use nix_negative_cache_core::settings;

use cache::Outcome;
use consultation::Consultation;
use cxx::CxxString;
use ffi::*;
use policy::Policy;
use running_build::RunningBuild;

/// The types and functions that C++ sees.
#[cxx::bridge(namespace = "negative_cache::core")]
mod ffi {
    /// How Nix words what it says of a real failure; see `Wording` in the core.
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Wording {
        last: String,
        log_lines: usize,
        before_full_logs: String,
        after_full_logs: String,
    }

    /// A setting, as `nix config show` prints it.
    #[derive(PartialEq)]
    struct Setting {
        name: String,
        value: String,
    }

    /// A store and the settings in force for it.
    #[derive(PartialEq)]
    struct Circumstances {
        /// The settings of Nix that matter, and the plugin's own.
        settings: Vec<Setting>,
        /// The path of the database file; empty for the store's own.
        database: Vec<u8>,
        /// Whether a daemon builds, whose database this is.
        asks_daemon: bool,
        /// Whether that daemon has the plugin on.
        daemon_decides: bool,
        /// Whether this process is a daemon that serves a client.
        served: bool,
        /// The user who makes requests of this process, as the system numbers them.
        user: u32,
        /// The path of the state directory of the store.
        state_dir: Vec<u8>,
        /// Where the store's files are.
        real_store_dir: Vec<u8>,
        /// Where the directories are that builds run in.
        build_dir: Vec<u8>,
        /// The version of Nix.
        nix_version: String,
        wording: Wording,
    }

    /// A derivation that Nix would build, with paths as Nix prints them.
    struct MissingDerivation {
        /// Its place among all of them.
        place: usize,
        path: String,
        /// What its outputs are known by.
        outputs: Vec<String>,
    }

    /// A requested derivation that is known to fail.
    struct FailedRequest {
        /// Its place among the requested ones.
        place: usize,
        /// All that it would make.
        outputs: Vec<Output>,
    }

    /// Those, or trouble.
    #[derive(Default)]
    struct FailedRequests {
        trouble: String,
        requests: Vec<FailedRequest>,
    }

    /// The places of derivations, or trouble.
    #[derive(Default)]
    struct Places {
        trouble: String,
        places: Vec<usize>,
    }

    /// What to say of a known failure, after its path in quotes.
    struct KnownFailure {
        /// Its place among the missing derivations.
        place: usize,
        text: String,
        /// How Nix said that the failure which this stands for had ended.
        status: Status,
    }

    /// What to do about a request. Nothing known means: build.
    #[derive(Default)]
    struct Verdict {
        /// What to warn of, if not empty.
        trouble: String,
        warnings: Vec<KnownFailure>,
        /// What failed before but does not stand in the way.
        doubted: Vec<KnownFailure>,
        known: Vec<KnownFailure>,
        /// The places of what needs one of `known`.
        dependents: Vec<usize>,
    }

    /// How Nix says a build ended.
    #[derive(Debug)]
    enum Status {
        Built,
        PermanentFailure,
        TimedOut,
        LogLimitExceeded,
        TransientFailure,
        OutputRejected,
        Other,
        /// Not a success; the messages tell.
        Reported,
    }

    /// An output of a derivation.
    struct Output {
        name: String,
        /// Its store path; or, if that follows from its content, the identity of its realisation.
        path: String,
    }

    /// A build that ended; see `Evidence` and `Failure` in the core.
    struct EndedBuild {
        derivation: String,
        outputs: Vec<Output>,
        store_dir: String,
        name: String,
        system: String,
        status: Status,
        messages: Vec<String>,
        fixed_output: bool,
        impure: bool,
        builtin: bool,
        /// Which other machine built it, if not empty.
        machine: String,
        normal_mode: bool,
        interrupted: bool,
        recursive: bool,
        opted_out: bool,
        /// Whether there should have been a sandbox, and Nix could make none.
        without_sandbox: bool,
        /// Whether the derivation has `__noChroot`.
        no_chroot: bool,
    }

    /// What became of an ended build.
    #[derive(Default)]
    struct Recorded {
        /// What to warn of, if not empty.
        trouble: String,
        /// Why its failure is not recorded, if not empty.
        reason: String,
        /// Why its failure is recorded but doubtful, if not empty.
        doubtful: String,
    }

    /// What Nix says of a derivation that failed and was not judged; see `Unbuilt` in the core.
    #[derive(Default)]
    struct Unbuilt {
        derivations: Vec<String>,
        /// Why its failure is not recorded; empty if there is nothing to say.
        reason: String,
    }

    /// A yes or no, or trouble.
    struct Answer {
        trouble: String,
        yes: bool,
    }

    /// What `builtins.knownFailure` returns.
    #[derive(Default)]
    struct FailureAttributes {
        derivation: String,
        out_path: String,
        name: String,
        system: String,
        class_name: String,
        /// Of what exited.
        exit_code: Vec<i64>,
        reason: String,
        log: String,
        first_failure: i64,
        last_failure: i64,
        attempts: i64,
        /// Unless it is believed for ever.
        believed_until: Vec<i64>,
        host: String,
        nix_version: String,
    }

    /// A known failure, if there is one.
    struct LookedUp {
        trouble: String,
        found: bool,
        failure: FailureAttributes,
    }

    extern "Rust" {
        type Policy;

        /// What is to be done in these circumstances.
        fn new_policy(circumstances: &Circumstances) -> Box<Policy>;
        /// The settings of Nix that matter.
        fn settings_of_nix() -> Vec<String>;
        /// The same for a new request, if the circumstances are the same.
        fn renewed_policy(policy: &Policy) -> Box<Policy>;
        /// Whether known failures are only warned of.
        fn warns(self: &Policy) -> bool;

        /// The default of `negative-cache-ttl`, in seconds.
        fn default_ttl() -> u64;
        /// The default of `negative-cache-max-ttl`, in seconds.
        fn default_max_ttl() -> u64;
        /// The default of `negative-cache-max-records`.
        fn default_max_records() -> u64;
        /// The default of `negative-cache-transient-exit-codes`.
        fn default_transient_exit_codes() -> &'static str;
        /// What is wrong with a value of `negative-cache-min-failures`; empty if nothing is.
        fn problem_with_min_failures(value: &str) -> String;
        /// What is wrong with a value of `negative-cache-transient-exit-codes`; empty if nothing is.
        fn problem_with_exit_codes(value: &str) -> String;

        type RunningBuild;

        /// A build that starts now.
        fn start_build(policy: &Policy) -> Box<RunningBuild>;
        /// A line of its log, without its end.
        fn log_line(build: &mut RunningBuild, line: &[u8]);

        /// Whether a database would have to be opened first to be consulted.
        fn has_unopened_database(policy: &Policy) -> Answer;
        /// Whether there is anything to consult: if not, Nix need not be asked what is missing.
        fn has_known_failures(policy: &Policy) -> Answer;
        /// Whether any failure is recorded that a success would lift.
        fn has_records(policy: &Policy) -> Answer;
        /// The places of those of `names` (of derivations) that something is called that is known to fail.
        fn candidates(policy: &Policy, names: &[&str]) -> Places;

        type Consultation;

        /// A request that is looked at.
        fn new_consultation() -> Box<Consultation>;
        /// Looks up which of the requested `derivations` are known to fail by their own paths, whatever else they need. Their
        /// places are those in the list.
        fn look_by_derivation(
            consultation: &mut Consultation,
            policy: &Policy,
            derivations: &Vec<String>,
        ) -> FailedRequests;
        /// Looks up what is known of some of the derivations that it would build. Returns what to warn of.
        fn look(consultation: &mut Consultation, policy: &Policy, missing: &Vec<MissingDerivation>) -> String;
        /// How many of them are known to fail.
        fn known_count(self: &Consultation) -> usize;
        /// What is done about the request for the derivations at the places `requested`.
        fn verdict(
            consultation: &mut Consultation,
            policy: &Policy,
            requested: &[usize],
            keep_going: bool,
            missing: &MissingDerivations,
        ) -> Verdict;

        /// Whether there is a database to be asked about anything. Costs less than to make the key of an output.
        fn has_database(policy: &Policy) -> Answer;
        /// Whether the output `key` failed when it was last built, by a path or otherwise.
        fn is_known_failure(policy: &Policy, key: &CxxString) -> Answer;
        /// Records how a build ended.
        fn build_ended(policy: &Policy, build: &EndedBuild, running: &RunningBuild) -> Recorded;
        /// Reads an error of a derivation that was not judged.
        fn unbuilt(message: &CxxString, store_dir: &CxxString) -> Unbuilt;
        /// Does without a few of the records that are too many or too old, if there are any. Returns what to warn of.
        fn tidy(policy: &Policy) -> String;

        /// Whether the last part of a store path is a message of a client, see `core/src/channel.rs`.
        fn is_message(base_name: &str) -> bool;
        /// Whether it asks if the plugin is there.
        fn is_greeting(base_name: &str) -> bool;
        /// Does what it says. Returns what to warn of.
        fn hear(policy: &Policy, store_dir: &CxxString, base_name: &CxxString) -> String;
        /// What a client asks a daemon first, likewise: whether the plugin is there.
        fn greeting() -> String;
        /// What a client says to a daemon, if anything: the last parts of the store paths to ask for.
        fn settings_to_tell(policy: &Policy) -> Vec<String>;

        /// The failure known by any of `paths`.
        fn known_failure(policy: &Policy, paths: &Vec<String>) -> LookedUp;
    }

    #[namespace = "negative_cache"]
    unsafe extern "C++" {
        include!("entry.hh");
        include!("missing.hh");

        /// Registers the plugin with Nix; never throws.
        fn enter();

        /// The derivations that a request would build, by their places.
        type MissingDerivations;

        /// The places of those that need the one at `place`; never throws.
        fn users(self: &MissingDerivations, place: usize) -> Vec<usize>;
    }
}

/// What Nix calls once the plugin is loaded (`initPlugins` in plugin.cc, since Nix 2.22).
// SAFETY: the name is Nix's, and each plugin has its own: Nix looks it up in this library's handle.
#[unsafe(no_mangle)]
pub extern "C" fn nix_plugin_entry() {
    enter();
}

fn default_ttl() -> u64 {
    settings::DEFAULT_TTL
}

fn default_max_ttl() -> u64 {
    settings::DEFAULT_MAX_TTL
}

fn default_transient_exit_codes() -> &'static str {
    settings::DEFAULT_TRANSIENT_EXIT_CODES
}

fn default_max_records() -> u64 {
    settings::DEFAULT_MAX_RECORDS
}

fn problem_with_min_failures(value: &str) -> String {
    settings::min_failures(value).err().unwrap_or_default()
}

fn problem_with_exit_codes(value: &str) -> String {
    settings::exit_codes(value).err().unwrap_or_default()
}

fn new_policy(circumstances: &Circumstances) -> Box<Policy> {
    let policy = boundary::guarded(|| Ok(Policy::new(circumstances)));
    Box::new(policy.unwrap_or_else(Policy::broken))
}

fn renewed_policy(policy: &Policy) -> Box<Policy> {
    let policy = boundary::guarded(|| Ok(policy.renewed()));
    Box::new(policy.unwrap_or_else(Policy::broken))
}

fn settings_of_nix() -> Vec<String> {
    Policy::settings_of_nix().into_iter().map(str::to_owned).collect()
}

fn start_build(policy: &Policy) -> Box<RunningBuild> {
    Box::new(boundary::guarded(|| Ok(RunningBuild::start(policy))).unwrap_or_default())
}

fn log_line(build: &mut RunningBuild, line: &[u8]) {
    let _ = boundary::guarded(|| {
        build.log_line(line);
        Ok(())
    });
}

impl From<Result<bool, String>> for Answer {
    fn from(answer: Result<bool, String>) -> Self {
        match answer {
            Ok(yes) => Answer { trouble: String::new(), yes },
            Err(trouble) => Answer { trouble, yes: false },
        }
    }
}

fn has_unopened_database(policy: &Policy) -> Answer {
    boundary::guarded(|| cache::has_unopened_database(policy)).into()
}

fn has_known_failures(policy: &Policy) -> Answer {
    boundary::guarded(|| cache::has_known_failures(policy)).into()
}

fn has_records(policy: &Policy) -> Answer {
    boundary::guarded(|| cache::has_records(policy)).into()
}

fn has_database(policy: &Policy) -> Answer {
    boundary::guarded(|| cache::has_database(policy)).into()
}

fn is_known_failure(policy: &Policy, key: &CxxString) -> Answer {
    // Asked for each output that is not there, and as a rule nothing but ASCII, which is quick to check.
    let key = key.to_str().map_or_else(|_| key.to_string_lossy(), Cow::Borrowed);
    boundary::guarded(|| cache::is_known_failure(policy, &key)).into()
}

fn candidates(policy: &Policy, names: &[&str]) -> Places {
    match boundary::guarded(|| Consultation::candidates(policy, names)) {
        Ok(places) => Places { trouble: String::new(), places },
        Err(trouble) => Places { trouble, places: Vec::new() },
    }
}

fn new_consultation() -> Box<Consultation> {
    Box::new(Consultation::new())
}

#[expect(clippy::ptr_arg, reason = "the bridge passes vectors")]
fn look_by_derivation(consultation: &mut Consultation, policy: &Policy, derivations: &Vec<String>) -> FailedRequests {
    match boundary::guarded(|| consultation.look_by_derivation(policy, derivations)) {
        Ok(requests) => FailedRequests { trouble: String::new(), requests },
        Err(trouble) => FailedRequests { trouble, requests: Vec::new() },
    }
}

#[expect(clippy::ptr_arg, reason = "the bridge passes vectors")]
fn look(consultation: &mut Consultation, policy: &Policy, missing: &Vec<MissingDerivation>) -> String {
    boundary::guarded(|| consultation.look(policy, missing)).err().unwrap_or_default()
}

fn verdict(
    consultation: &mut Consultation,
    policy: &Policy,
    requested: &[usize],
    keep_going: bool,
    missing: &MissingDerivations,
) -> Verdict {
    match boundary::guarded(|| consultation.verdict(policy, requested, keep_going, missing)) {
        Ok(verdict) => verdict,
        Err(trouble) => Verdict { trouble, ..Verdict::default() },
    }
}

/// A reason as it is said.
fn in_full(reason: &dyn std::fmt::Display, class: Class) -> String {
    format!("{reason} (class '{class}')")
}

fn build_ended(policy: &Policy, build: &EndedBuild, running: &RunningBuild) -> Recorded {
    let mut recorded = Recorded::default();
    match boundary::guarded(|| cache::build_ended(policy, build, running)) {
        Ok(Outcome::Silent) => {}
        Ok(Outcome::Doubtful(line)) => recorded.doubtful = line.text(),
        Ok(Outcome::NotRecorded(class, reason)) => recorded.reason = in_full(&reason, class),
        Err(trouble) => recorded.trouble = trouble,
    }
    recorded
}

fn unbuilt(message: &CxxString, store_dir: &CxxString) -> Unbuilt {
    let read = || Ok(judgement::unbuilt(&message.to_string_lossy(), &store_dir.to_string_lossy()));
    let judgement::Unbuilt { derivations, reason } = boundary::guarded(read).unwrap_or_default();
    Unbuilt { derivations, reason: reason.map(|reason| in_full(&reason, Class::NotTheBuilder)).unwrap_or_default() }
}

fn tidy(policy: &Policy) -> String {
    boundary::guarded(|| cache::tidy(policy)).err().unwrap_or_default()
}

fn is_message(base_name: &str) -> bool {
    boundary::guarded(|| Ok(Message::parse(base_name).is_some())).unwrap_or(false)
}

fn is_greeting(base_name: &str) -> bool {
    boundary::guarded(|| Ok(Message::parse(base_name) == Some(Message::Hello))).unwrap_or(false)
}

fn hear(policy: &Policy, store_dir: &CxxString, base_name: &CxxString) -> String {
    let heard = boundary::guarded(|| match Message::parse(&base_name.to_string_lossy()) {
        Some(message) => cache::hear(policy, &store_dir.to_string_lossy(), message),
        None => Ok(()),
    });
    heard.err().unwrap_or_default()
}

fn greeting() -> String {
    Message::Hello.to_base_name()
}

fn settings_to_tell(policy: &Policy) -> Vec<String> {
    let said = boundary::guarded(|| Ok(channel::settings_to_tell(policy.configured()?)));
    said.unwrap_or_default().iter().map(Message::to_base_name).collect()
}

#[expect(clippy::ptr_arg, reason = "the bridge passes vectors")]
fn known_failure(policy: &Policy, paths: &Vec<String>) -> LookedUp {
    let (found, trouble) = match boundary::guarded(|| cache::known_failure(policy, paths)) {
        Ok(found) => (found, String::new()),
        Err(trouble) => (None, trouble),
    };
    LookedUp { trouble, found: found.is_some(), failure: found.unwrap_or_default() }
}

impl Status {
    fn for_core(self) -> BuildStatus {
        match self {
            Status::Built => BuildStatus::Built,
            Status::PermanentFailure => BuildStatus::PermanentFailure,
            Status::TimedOut => BuildStatus::TimedOut,
            Status::LogLimitExceeded => BuildStatus::LogLimitExceeded,
            Status::TransientFailure => BuildStatus::TransientFailure,
            Status::OutputRejected => BuildStatus::OutputRejected,
            Status::Reported => BuildStatus::Reported,
            _ => BuildStatus::Other,
        }
    }
}

impl From<Class> for Status {
    fn from(class: Class) -> Self {
        match BuildStatus::from(class) {
            BuildStatus::Built => Status::Built,
            BuildStatus::PermanentFailure => Status::PermanentFailure,
            BuildStatus::TimedOut => Status::TimedOut,
            BuildStatus::LogLimitExceeded => Status::LogLimitExceeded,
            BuildStatus::TransientFailure => Status::TransientFailure,
            BuildStatus::OutputRejected => Status::OutputRejected,
            BuildStatus::Reported => Status::Reported,
            BuildStatus::Other => Status::Other,
        }
    }
}
