//! Writes to the database: how builds ended, and what clients of the daemon want.

use jiff::Timestamp;
use nix_negative_cache_core::channel::Message;
use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::counts::Verdict;
use nix_negative_cache_core::judgement::{self, Judgement, Reason, Suspicion};
use nix_negative_cache_core::log::tail::{beginning, printable};
use nix_negative_cache_core::portable::Scope;
use nix_negative_cache_core::record::{self, Failure as RecordedFailure};
use nix_negative_cache_core::store_path::{DerivationPath, OutputKey};

use crate::bridge::{EndedBuild, Ending};
use crate::client;
use crate::connections::with_own;
use crate::counting;
use crate::guard::Failure;
use crate::lookup;
use crate::policy::Policy;
use crate::running_build::RunningBuild;

/// Whether there is any failure in the database that this process writes to. A success would lift it.
///
/// # Errors
///
/// Those of the database.
pub fn has_records(policy: &Policy) -> Result<bool, Failure> {
    Ok(with_own(policy, false, |database| match database {
        Some(database) => database.is_empty().map(|empty| !empty),
        None => Ok(false),
    })?)
}

/// How the end of a build was recorded.
#[derive(Default)]
pub enum Outcome {
    /// There is nothing to say of it.
    #[default]
    Silent,
    /// It is recorded.
    Recorded,
    /// It is recorded, but doubtful.
    Doubtful(Suspicion),
    /// Its failure is not recorded.
    NotRecorded(Class, Reason),
}

/// Records how `build` ended.
///
/// # Errors
///
/// Those of the database and settings.
pub fn build_ended(policy: &Policy, build: &EndedBuild, running: &RunningBuild) -> Result<Outcome, Failure> {
    let settings = policy.configured()?;
    let settled = build.ending == Ending::Built || build.ending == Ending::Other;
    let derivation = DerivationPath::from(build.derivation.as_str());
    let outputs: Vec<OutputKey> = build.outputs.iter().map(|output| output.key.as_str().into()).collect();
    let ended = judgement::EndedBuild {
        derivation: &derivation,
        status: build.ending.into(),
        messages: &build.messages,
        log: &running.log,
        fixed_output: build.fixed_output,
        impure: build.impure,
        builtin: build.builtin,
        machine: [&build.delegate, &build.machine].into_iter().map(String::as_str).find(|machine| !machine.is_empty()),
        outputs: &outputs,
        normal_mode: build.normal_mode,
        interrupted: build.interrupted,
        recursive: build.recursive,
        opted_out: build.opted_out,
        sandboxed: policy.sandboxed(build),
        shortage: if settled { None } else { running.shortage() },
        by_daemon: policy.asks_daemon(),
    };
    match judgement::judge(&ended, settings) {
        // The daemon has judged this failure itself. It knows more than its client, also if it has recorded nothing. A
        // user who switched the plugin off leaves no records in the daemon that builds for this user.
        Judgement::Ignore(..) | Judgement::Record(..) if policy.daemon_decides() || !policy.settings()?.enabled => {
            Ok(Outcome::Silent)
        }
        Judgement::Ignore(class, reason) => {
            counting::failed(policy, class, Verdict::from(&reason));
            Ok(Outcome::NotRecorded(class, reason))
        }
        Judgement::Succeeded => {
            with_own(policy, false, |database| match database {
                Some(database) => database.succeed(&outputs, Timestamp::now()).map(|_| ()),
                None => Ok(()),
            })?;
            Ok(Outcome::Silent)
        }
        Judgement::Record(class, exit_code, doubtful) => {
            let environment = policy.environment().clone();
            let environment = if build.without_sandbox { environment.without_sandbox() } else { environment };
            let environment = if build.machine.is_empty() { environment } else { environment.on(&build.machine) };
            let message = judgement::telling_message(&ended).or(build.messages.first().map(String::as_str));
            let message = beginning(message.unwrap_or_default());
            let message = if settings.keep_log { &message } else { judgement::without_quoted_log(&message) };
            let deciding_line = match &doubtful {
                Some(Suspicion::Log(line)) if settings.keep_log => Some(line.clone()),
                Some(Suspicion::Log(line)) => Some(line.clone().without_text()),
                Some(Suspicion::ByDaemon) | None => None,
            };
            let here = || rustix::system::uname().nodename().to_string_lossy().into_owned();
            let failure = RecordedFailure {
                derivation: derivation.clone(),
                outputs: build.outputs.iter().map(record::Output::from).collect(),
                store_dir: build.store_dir.clone(),
                name: build.name.clone(),
                system: build.system.clone(),
                class,
                exit_code,
                environment,
                message: message.to_owned(),
                log: if settings.keep_log { running.log.tail().text() } else { String::new() },
                asked: policy.made,
                time: Timestamp::now(),
                doubtful: doubtful.is_some().then(|| running.log.identity()),
                deciding_line,
                duration_ms: i64::try_from(running.duration().as_millis()).unwrap_or(i64::MAX),
                host: if build.machine.is_empty() { here() } else { printable(build.machine.as_bytes()) },
                nix_version: if build.machine.is_empty() { policy.nix_version.clone() } else { "unknown".to_owned() },
                scope: match policy.sandboxed(build) {
                    _ if build.stays_here => Scope::Local,
                    Some(true) => Scope::Sandbox,
                    _ => Scope::Unknown,
                },
            };
            let has_database = with_own(policy, true, |database| match database {
                Some(database) => database.insert(&failure).map(|()| true),
                None => Ok(false),
            })?;
            counting::failed(policy, class, if doubtful.is_some() { Verdict::Doubtful } else { Verdict::Recorded });
            Ok(match doubtful {
                _ if !has_database => Outcome::Silent,
                Some(suspicion) => Outcome::Doubtful(suspicion),
                None => Outcome::Recorded,
            })
        }
    }
}

/// Removes a few of the records that are too many or too old.
///
/// # Errors
///
/// Those of the database and settings.
pub fn tidy(policy: &Policy) -> Result<(), Failure> {
    let settings = policy.configured()?;
    let (most, oldest) = (settings.max_records, settings.past_life(Timestamp::now()));
    Ok(with_own(policy, false, |database| match database {
        Some(database) => database.tidy(most, oldest).map(|_| ()),
        None => Ok(()),
    })?)
}

/// Does what a message of the client says; see [`nix_negative_cache_core::channel`]. If it asks about a derivation, `outputs` are
/// the keys of its outputs, and `is_no_fetch` is whether it is known that it is no fetch. Returns whether the answer is yes.
///
/// # Errors
///
/// Those of the database and settings.
pub fn hear(
    policy: &Policy,
    store_dir: &str,
    message: Message,
    outputs: &[String],
    is_no_fetch: bool,
) -> Result<bool, Failure> {
    let asked = |hash_part| lookup::Asked { store_dir, hash_part, outputs, is_no_fetch };
    match message {
        Message::Hello | Message::Answers | Message::Fetches => return Ok(true),
        Message::Fetch(hash_part) => return lookup::is_known_elsewhere(policy, &asked(&hash_part)),
        Message::IsKnown(hash_part) => return lookup::is_known(policy, &asked(&hash_part)),
        Message::IsRefused(hash_part) => return lookup::is_refused(policy, &asked(&hash_part)),
        Message::Setting(name, value) => client::says(name, value),
        Message::Retry(hash_part) => with_own(policy, false, |database| {
            let Some(database) = database else { return Ok(()) };
            let failures = database.find_by_hash_part(store_dir, &hash_part)?;
            database.request_retry(&failures, policy.user, Timestamp::now()).map(|_| ())
        })?,
    }
    Ok(false)
}
