//! The plugin: the bridge between Nix and the core.
//!
//! Plain data crosses it in both directions, in shared structures. Rust never calls C++ except to start it, so that
//! no C++ exception can meet Rust; and everything that C++ calls here goes through [`boundary::guarded`], so that no
//! panic can meet C++.

mod boundary;
mod cache;

use nix_negative_cache_core::judgement;
use nix_negative_cache_core::log_tail;
use nix_negative_cache_core::refusal;
use nix_negative_cache_core::verdict;

use cxx::CxxString;
use ffi::*;

/// The types and functions that C++ sees.
#[cxx::bridge(namespace = "negative_cache::core")]
mod ffi {
    /// How Nix words what it says of a real failure; see `Wording` in the core.
    struct Wording {
        last: String,
        log_lines: usize,
        before_full_logs: String,
        after_full_logs: String,
    }

    /// The settings in force for a store.
    struct Policy {
        /// The path of the database file; empty for the store's own.
        database: Vec<u8>,
        /// The path of the state directory of the store.
        state_dir: Vec<u8>,
        /// `negative-cache-retry`.
        retry: bool,
        /// Whether `negative-cache-action` is `warn`.
        warn: bool,
        /// Nix's `keep-failed`.
        keep_failed: bool,
        /// The version of Nix.
        nix_version: String,
        wording: Wording,
    }

    /// A derivation that Nix would build, with paths as Nix prints them.
    struct MissingDerivation {
        path: String,
        outputs: Vec<String>,
        inputs: Vec<String>,
    }

    /// What to say of a known failure, after its path in quotes.
    struct KnownFailure {
        /// Its place among the missing derivations.
        place: usize,
        text: String,
    }

    /// What to do about a request. Nothing known means: build.
    #[derive(Default)]
    struct Verdict {
        /// What to warn of, if not empty.
        trouble: String,
        warnings: Vec<KnownFailure>,
        known: Vec<KnownFailure>,
        /// The places of what needs one of `known`.
        dependents: Vec<usize>,
    }

    /// How Nix says a build ended.
    enum Status {
        Built,
        PermanentFailure,
        TimedOut,
        LogLimitExceeded,
        TransientFailure,
        Other,
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
        message: String,
        fixed_output: bool,
        impure: bool,
        builtin: bool,
        remote: bool,
        normal_mode: bool,
        interrupted: bool,
        recursive: bool,
        duration_ms: i64,
    }

    /// What became of an ended build.
    struct Recorded {
        /// What to warn of, if not empty.
        trouble: String,
        /// Why its failure is not recorded, if not empty.
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
        exit_code: i64,
        reason: String,
        log: String,
        first_failure: i64,
        last_failure: i64,
        attempts: i64,
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
        type LogTail;

        fn new_log_tail() -> Box<LogTail>;
        fn push(self: &mut LogTail, line: &[u8]);

        /// Whether there is anything to consult: if not, Nix need not be asked what is missing.
        fn has_known_failures(policy: &Policy) -> Answer;
        /// Decides about a request for the derivations `requested` that would build `missing`.
        fn judge_request(policy: &Policy, requested: &Vec<String>, missing: &Vec<MissingDerivation>) -> Verdict;
        /// Whether the output `key` is known to fail, by a path or otherwise.
        fn is_known_failure(policy: &Policy, key: &CxxString) -> Answer;
        /// Records or forgets.
        fn build_ended(policy: &Policy, build: &EndedBuild, log: &LogTail) -> Recorded;
        /// The failure known by any of `paths`.
        fn known_failure(policy: &Policy, paths: &Vec<String>) -> LookedUp;
    }

    #[namespace = "negative_cache"]
    unsafe extern "C++" {
        include!("entry.hh");

        /// Registers the plugin with Nix; never throws.
        fn enter();
    }
}

/// What Nix calls once the plugin is loaded (`initPlugins` in plugin.cc, since Nix 2.22).
// SAFETY: the name is Nix's, and each plugin has its own: Nix looks it up in this library's handle.
#[unsafe(no_mangle)]
pub extern "C" fn nix_plugin_entry() {
    enter();
}

/// The end of a running build's log.
pub struct LogTail(log_tail::LogTail);

fn new_log_tail() -> Box<LogTail> {
    Box::new(LogTail(log_tail::LogTail::default()))
}

impl LogTail {
    fn push(&mut self, line: &[u8]) {
        let _ = boundary::guarded(|| {
            self.0.push(line);
            Ok(())
        });
    }
}

impl From<Result<bool, String>> for Answer {
    fn from(answer: Result<bool, String>) -> Self {
        match answer {
            Ok(yes) => Answer { trouble: String::new(), yes },
            Err(trouble) => Answer { trouble, yes: false },
        }
    }
}

fn has_known_failures(policy: &Policy) -> Answer {
    boundary::guarded(|| cache::has_known_failures(policy)).into()
}

fn is_known_failure(policy: &Policy, key: &CxxString) -> Answer {
    boundary::guarded(|| cache::is_known_failure(policy, &key.to_string_lossy())).into()
}

#[expect(clippy::ptr_arg, reason = "the bridge passes vectors")]
fn judge_request(policy: &Policy, requested: &Vec<String>, missing: &Vec<MissingDerivation>) -> Verdict {
    match boundary::guarded(|| cache::judge_request(policy, requested, missing)) {
        Ok(verdict) => verdict,
        Err(trouble) => Verdict { trouble, ..Verdict::default() },
    }
}

fn build_ended(policy: &Policy, build: &EndedBuild, log: &LogTail) -> Recorded {
    match boundary::guarded(|| cache::build_ended(policy, build, &log.0)) {
        Ok(reason) => {
            Recorded { trouble: String::new(), reason: reason.map(|reason| reason.to_string()).unwrap_or_default() }
        }
        Err(trouble) => Recorded { trouble, reason: String::new() },
    }
}

#[expect(clippy::ptr_arg, reason = "the bridge passes vectors")]
fn known_failure(policy: &Policy, paths: &Vec<String>) -> LookedUp {
    let (found, trouble) = match boundary::guarded(|| cache::known_failure(policy, paths)) {
        Ok(found) => (found, String::new()),
        Err(trouble) => (None, trouble),
    };
    LookedUp { trouble, found: found.is_some(), failure: found.unwrap_or_default() }
}

impl Policy {
    fn for_core(&self) -> verdict::Policy {
        let action = if self.warn { verdict::Action::Warn } else { verdict::Action::Fail };
        verdict::Policy { retry: self.retry, keep_failed: self.keep_failed, action }
    }
}

impl Wording {
    fn for_core(&self) -> refusal::Wording<'_> {
        refusal::Wording {
            last: &self.last,
            log_lines: self.log_lines,
            full_logs: (&self.before_full_logs, &self.after_full_logs),
        }
    }
}

impl Status {
    fn for_core(self) -> judgement::Status {
        match self {
            Status::Built => judgement::Status::Built,
            Status::PermanentFailure => judgement::Status::PermanentFailure,
            Status::TimedOut => judgement::Status::TimedOut,
            Status::LogLimitExceeded => judgement::Status::LogLimitExceeded,
            Status::TransientFailure => judgement::Status::TransientFailure,
            _ => judgement::Status::Other,
        }
    }
}
