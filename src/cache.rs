//! The cache of this process: turns what C++ sends into the core's types, and keeps the database open.

use std::mem;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use nix_negative_cache_core::belief::{Belief, believe};
use nix_negative_cache_core::channel::Message;
use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::database::location::Audience;
use nix_negative_cache_core::database::{Database, DatabaseError};
use nix_negative_cache_core::deciding_line::DecidingLine;
use nix_negative_cache_core::environment::Comparison;
use nix_negative_cache_core::judgement::{self, Judgement, Reason};
use nix_negative_cache_core::log::tail::{beginning, printable};
use nix_negative_cache_core::record::{self, Failure, FailureRecord};
use nix_negative_cache_core::store_path::{DerivationPath, OutputKey};

use crate::boundary::fault_point;
use crate::client;
use crate::policy::Policy;
use crate::running_build::RunningBuild;
use crate::{EndedBuild, FailureAttributes, Status};

/// The open databases by path, one or two, and the process that opened them: nix-daemon forks for each connection, and a
/// connection to SQLite must not be used after a fork (sqlite.org/howtocorrupt.html, 2.6).
struct Databases {
    process: u32,
    open: Vec<(PathBuf, Database)>,
}

impl Databases {
    fn at(&mut self, path: &Path) -> Option<&mut Database> {
        // Byte by byte: comparing paths by their components takes longer than all else that most questions need.
        self.open.iter_mut().find(|(open, _)| open.as_os_str() == path.as_os_str()).map(|(_, database)| database)
    }
}

static DATABASES: Mutex<Databases> = Mutex::new(Databases { process: 0, open: Vec::new() });

/// The databases that this process has opened.
fn databases() -> MutexGuard<'static, Databases> {
    let mut databases = DATABASES.lock().unwrap_or_else(PoisonError::into_inner);
    let process = this_process();
    if databases.process != process {
        // Closing those of another one here could release its locks.
        mem::forget(mem::replace(&mut *databases, Databases { process, open: Vec::new() }));
    }
    databases
}

/// What tells this process from those that it was forked from and that are forked from it: how many forks there are
/// between it and the one that loaded the plugin. Asking for its id is a system call.
fn this_process() -> u32 {
    static FORKS: AtomicU32 = AtomicU32::new(0);
    extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler does nothing that is not safe after a fork.
    static COUNTS: LazyLock<bool> = LazyLock::new(|| unsafe { libc::pthread_atfork(None, None, Some(in_child)) } == 0);
    if *COUNTS { FORKS.load(Ordering::Relaxed) } else { process::id() }
}

/// What is to be done with a database.
enum Access {
    /// Written to; made if it is not there.
    Make(Audience),
    /// Written to.
    Write,
    /// Only read: it is somebody else's.
    Read,
}

/// Calls `work` with the database at `path`, which is `None` if there is none.
fn with_database<T>(
    path: &Path,
    access: Access,
    work: impl FnOnce(Option<&mut Database>) -> Result<T, DatabaseError>,
) -> Result<T, DatabaseError> {
    fault_point();
    let mut databases = databases();
    if databases.at(path).is_none() {
        let database = match access {
            Access::Make(audience) => Some(Database::open_or_create(path, audience)?),
            Access::Write => Database::open(path)?,
            Access::Read => Database::open_readonly(path)?,
        };
        if let Some(database) = database {
            databases.open.push((path.to_owned(), database));
        }
    }
    work(databases.at(path))
}

/// Calls `work` with the database that this process writes to, if it is there; made if `create`.
pub fn with_own<T>(
    policy: &Policy,
    create: bool,
    work: impl FnOnce(Option<&mut Database>) -> Result<T, DatabaseError>,
) -> Result<T, String> {
    let Some(path) = &policy.database else { return work(None).map_err(|error| error.to_string()) };
    let access = if create { Access::Make(policy.audience) } else { Access::Write };
    with_database(path, access, work).map_err(|error| error.to_string())
}

/// Calls `work` with a database of `policy` that is only consulted.
pub fn consulting<T: Default>(
    policy: &Policy,
    path: &Path,
    work: impl FnOnce(&mut Database) -> Result<T, DatabaseError>,
) -> Result<T, String> {
    let access = if policy.daemons.as_deref() == Some(path) { Access::Read } else { Access::Write };
    let result = with_database(path, access, |database| database.map_or_else(|| Ok(T::default()), work));
    match result {
        // It is not this user's to mend, and the daemon, if it has the plugin, says so itself.
        Err(_) if policy.daemons.as_deref() == Some(path) => Ok(T::default()),
        result => result.map_err(|error| error.to_string()),
    }
}

/// Whether `question` has the answer yes for one of the databases.
fn any_database(
    policy: &Policy,
    question: impl Fn(&mut Database) -> Result<bool, DatabaseError>,
) -> Result<bool, String> {
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

/// Whether there is a database that would have to be opened first to be asked, which takes about a millisecond.
pub fn has_unopened_database(policy: &Policy) -> Result<bool, String> {
    if !policy.settings()?.consults() {
        return Ok(false);
    }
    let mut databases = databases();
    Ok(policy.consulted().any(|path| databases.at(path).is_none() && path.exists()))
}

/// Whether there is a database to be asked about anything.
pub fn has_database(policy: &Policy) -> Result<bool, String> {
    any_database(policy, |_| Ok(true))
}

/// Whether any failure is known that could stand in the way.
pub fn has_known_failures(policy: &Policy) -> Result<bool, String> {
    any_database(policy, |database| database.is_empty().map(|empty| !empty))
}

/// Whether any failure is recorded where this process records them, which a success would lift.
pub fn has_records(policy: &Policy) -> Result<bool, String> {
    with_own(policy, false, |database| database.map_or(Ok(false), |database| database.is_empty().map(|empty| !empty)))
}

/// Whether the output `key` failed when it was last built and that could stand in the way.
pub fn is_known_failure(policy: &Policy, key: &str) -> Result<bool, String> {
    let output = OutputKey::from(key);
    any_database(policy, |database| database.is_known(&output))
}

/// A record as this process sees it.
pub fn seen(policy: &Policy, mut record: FailureRecord) -> FailureRecord {
    if policy.asks_daemon() {
        record.summary.as_clients_see();
    }
    record
}

/// Whether the daemon has recorded a failure of these outputs by itself since the request was made. When a build started is
/// not known so well on this side: the daemon may say so late.
fn daemon_recorded(policy: &Policy, outputs: &[OutputKey]) -> Result<bool, String> {
    let Some(path) = &policy.daemons else { return Ok(false) };
    consulting(policy, path, |database| {
        for id in database.known(outputs)?.into_values() {
            if database
                .record(id)?
                .is_some_and(|record| record.summary.last_failure.as_millisecond() >= policy.made.as_millisecond())
            {
                return Ok(true);
            }
        }
        Ok(false)
    })
}

/// What became of the end of a build.
pub enum Outcome {
    /// There is nothing to say of it.
    Silent,
    /// It is recorded, but doubtful.
    Doubtful(DecidingLine),
    /// Its failure is not recorded.
    NotRecorded(Class, Reason),
}

/// Records how `build` ended.
pub fn build_ended(policy: &Policy, build: &EndedBuild, running: &RunningBuild) -> Result<Outcome, String> {
    let settings = policy.configured()?;
    let settled = build.status == Status::Built || build.status == Status::Other;
    let derivation = DerivationPath::from(build.derivation.as_str());
    let outputs: Vec<OutputKey> = build.outputs.iter().map(|output| output.path.as_str().into()).collect();
    let ended = judgement::EndedBuild {
        derivation: &derivation,
        status: build.status.for_core(),
        messages: &build.messages,
        log: &running.log,
        fixed_output: build.fixed_output,
        impure: build.impure,
        builtin: build.builtin,
        machine: (!build.machine.is_empty()).then_some(build.machine.as_str()),
        outputs: &outputs,
        normal_mode: build.normal_mode,
        interrupted: build.interrupted,
        recursive: build.recursive,
        opted_out: build.opted_out,
        sandboxed: policy.sandboxed(build),
        shortage: if settled { None } else { running.shortage() },
    };
    match judgement::judge(&ended, settings) {
        Judgement::Ignore(class, reason) => Ok(Outcome::NotRecorded(class, reason)),
        Judgement::Succeeded => with_own(policy, false, |database| {
            let Some(database) = database else { return Ok(Outcome::Silent) };
            database.succeed(&outputs, Timestamp::now()).map(|_| Outcome::Silent)
        }),
        Judgement::Record(class, exit_code, doubtful) => {
            let environment = policy.environment().clone();
            let environment = if build.without_sandbox { environment.without_sandbox() } else { environment };
            let environment = if build.machine.is_empty() { environment } else { environment.on(&build.machine) };
            if daemon_recorded(policy, &outputs)? {
                return Ok(Outcome::Silent);
            }
            let message = judgement::telling_message(&ended).or(build.messages.first().map(String::as_str));
            let message = message.unwrap_or_default();
            let here = || rustix::system::uname().nodename().to_string_lossy().into_owned();
            let failure = Failure {
                derivation: derivation.clone(),
                outputs: build
                    .outputs
                    .iter()
                    .map(|output| record::Output { name: output.name.clone(), key: output.path.as_str().into() })
                    .collect(),
                store_dir: build.store_dir.clone(),
                name: build.name.clone(),
                system: build.system.clone(),
                class,
                exit_code,
                environment,
                message: beginning(message),
                log: running.log.tail().text(),
                asked: policy.made,
                time: Timestamp::now(),
                doubtful: doubtful.is_some().then(|| running.log.identity()),
                deciding_line: doubtful.clone(),
                duration_ms: i64::try_from(running.duration().as_millis()).unwrap_or(i64::MAX),
                host: if build.machine.is_empty() { here() } else { printable(build.machine.as_bytes()) },
                nix_version: policy.nix_version.clone(),
            };
            with_own(policy, true, |database| match database {
                Some(database) => {
                    database.insert(&failure).map(|()| doubtful.map_or(Outcome::Silent, Outcome::Doubtful))
                }
                None => Ok(Outcome::Silent),
            })
        }
    }
}

/// Takes a step towards a database with no more records than it should have.
pub fn tidy(policy: &Policy) -> Result<(), String> {
    let settings = policy.configured()?;
    let (most, oldest) = (settings.max_records, settings.past_life(Timestamp::now()));
    with_own(policy, false, |database| {
        let Some(database) = database else { return Ok(()) };
        database.tidy(most, oldest).map(|_| ())
    })
}

/// Does what the client whom this process serves says; see [`nix_negative_cache_core::channel`].
pub fn hear(policy: &Policy, store_dir: &str, message: Message) -> Result<(), String> {
    match message {
        Message::Hello => Ok(()),
        Message::Setting(name, value) => {
            client::says(name, value);
            Ok(())
        }
        Message::Retry(hash_part) => with_own(policy, false, |database| {
            let Some(database) = database else { return Ok(()) };
            let failures = database.find_by_hash_part(store_dir, &hash_part)?;
            database.request_retry(&failures, policy.user, Timestamp::now()).map(|_| ())
        }),
    }
}

/// The failure that is known by any of `paths`, if it is believed.
pub fn known_failure(policy: &Policy, paths: &[String]) -> Result<Option<FailureAttributes>, String> {
    let now = Timestamp::now();
    for path in policy.databases() {
        let record =
            consulting(policy, path, |database| match database.find(paths.iter().map(String::as_str))?.first() {
                Some(id) => database.record(*id),
                None => Ok(None),
            })?;
        let record = record.filter(|record| record.summary.counts_for(paths.iter().map(String::as_str)));
        let Some(record) = record.map(|record| seen(policy, record)) else { continue };
        // A wish to see it tried again does not make it one that works.
        let here = Comparison::with(policy.environment());
        if let Belief::Fails { attempt, until } = believe(&record.summary.history, &here, policy.settings()?, now) {
            return Ok(Some(attributes(record, attempt, until)));
        }
    }
    Ok(None)
}

fn attributes(record: FailureRecord, attempt: usize, until: Option<Timestamp>) -> FailureAttributes {
    let believed = record.believed(attempt);
    let (reason, class_name, exit_code) = (believed.reason.clone(), believed.class.to_string(), believed.exit_code);
    FailureAttributes {
        out_path: main_output(&record),
        reason,
        derivation: record.summary.derivation.to_string(),
        class_name,
        exit_code: exit_code.into_iter().map(Into::into).collect(),
        first_failure: record.first_failure.as_second(),
        last_failure: record.summary.last_failure.as_second(),
        attempts: record.summary.attempts.into(),
        believed_until: until.into_iter().map(|until| until.as_second()).collect(),
        name: record.summary.name,
        system: record.system,
        log: record.log,
        host: record.host,
        nix_version: record.nix_version,
    }
}

/// The path that a derivation stands for where a string is needed.
fn main_output(record: &FailureRecord) -> String {
    let out = record.outputs.iter().find(|output| output.name == "out").or(record.outputs.first());
    out.map(|output| output.key.to_string()).unwrap_or_default()
}
