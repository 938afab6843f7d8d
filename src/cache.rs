//! The cache of this process: turns what C++ sends into the core's types, and keeps the database open.

use std::collections::HashMap;
use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, PoisonError};

use nix_negative_cache_core::database::{Database, DatabaseError, default_path};
use nix_negative_cache_core::judgement::{self, Evidence, Judgement, Reason};
use nix_negative_cache_core::log_tail::{LogTail, printable};
use nix_negative_cache_core::record::{self, Failure, FailureRecord};
use nix_negative_cache_core::refusal;
use nix_negative_cache_core::store_path::{DerivationPath, OutputPath};
use nix_negative_cache_core::verdict::{self, Missing};

use crate::boundary::fault_point;
use crate::{EndedBuild, FailureAttributes, KnownFailure, MissingDerivation, Policy, Status, Verdict};

/// The open databases by path, and the process that opened them: nix-daemon forks for each connection, and a
/// connection to SQLite must not be used after a fork (sqlite.org/howtocorrupt.html, 2.6).
struct Databases {
    process: u32,
    open: HashMap<PathBuf, Database>,
}

static DATABASES: Mutex<Option<Databases>> = Mutex::new(None);

fn database_path(policy: &Policy) -> PathBuf {
    match policy.database.as_slice() {
        [] => default_path(Path::new(OsStr::from_bytes(&policy.state_dir))),
        path => PathBuf::from(OsStr::from_bytes(path)),
    }
}

/// The path of the database, if the companion program, called in this environment, would look for another one.
fn unusual_database(policy: &Policy) -> Option<PathBuf> {
    let state_dir = env::var_os("NIX_STATE_DIR").unwrap_or("/nix/var/nix".into());
    let path = database_path(policy);
    (path != default_path(Path::new(&state_dir))).then_some(path)
}

/// Calls `work` with the database of `policy`, which is `None` if there is none yet.
fn with_database<T>(
    policy: &Policy,
    create: bool,
    work: impl FnOnce(Option<&mut Database>) -> Result<T, DatabaseError>,
) -> Result<T, String> {
    fault_point();
    let path = database_path(policy);
    let mut databases = DATABASES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(inherited) = databases.take_if(|databases| databases.process != process::id()) {
        // Closing it here could release the parent's locks.
        std::mem::forget(inherited);
    }
    let databases = databases.get_or_insert_with(|| Databases { process: process::id(), open: HashMap::new() });
    let result = (|| {
        if !databases.open.contains_key(&path) {
            let database = if create { Some(Database::open_or_create(&path)?) } else { Database::open(&path)? };
            if let Some(database) = database {
                databases.open.insert(path.clone(), database);
            }
        }
        work(databases.open.get_mut(&path))
    })();
    result.map_err(|error| error.to_string())
}

/// Whether any failure is known that could stand in the way.
pub fn has_known_failures(policy: &Policy) -> Result<bool, String> {
    if !policy.for_core().consults() {
        return Ok(false);
    }
    with_database(policy, false, |database| match database {
        Some(database) => database.is_empty().map(|empty| !empty),
        None => Ok(false),
    })
}

/// Whether the output `key` is known to fail and that could stand in the way.
pub fn is_known_failure(policy: &Policy, key: &str) -> Result<bool, String> {
    if !policy.for_core().consults() {
        return Ok(false);
    }
    with_database(policy, false, |database| match database {
        Some(database) => database.is_known(&OutputPath::from(key)),
        None => Ok(false),
    })
}

/// The verdict on a request for `requested` that would build `missing`.
pub fn judge_request(policy: &Policy, requested: &[String], missing: &[MissingDerivation]) -> Result<Verdict, String> {
    let requested = requested.iter().map(|path| path.as_str().into()).collect();
    let unusual_database = unusual_database(policy);

    let missing: Vec<Missing> = missing
        .iter()
        .map(|missing| Missing {
            derivation: missing.path.as_str().into(),
            outputs: missing.outputs.iter().map(|path| path.as_str().into()).collect(),
            inputs: missing.inputs.iter().map(|path| path.as_str().into()).collect(),
        })
        .collect();
    with_database(policy, false, |database| {
        let Some(database) = database else { return Ok(Verdict::default()) };
        let failures = database.known(missing.iter().flat_map(|missing| &missing.outputs))?;
        let mut records: HashMap<usize, FailureRecord> = HashMap::new();
        for (place, missing) in missing.iter().enumerate() {
            if let Some(id) = missing.outputs.iter().find_map(|output| failures.get(output))
                && let Some(record) = database.record(*id)?
            {
                records.insert(place, record);
            }
        }
        let known = records.keys().copied().collect();
        let now = jiff::Timestamp::now();
        let database = unusual_database.as_deref();
        let say = |places: &[usize], text: &dyn Fn(&FailureRecord) -> String| {
            places.iter().map(|place| KnownFailure { place: *place, text: text(&records[place]) }).collect()
        };
        let mut verdict = Verdict::default();
        match verdict::decide(&policy.for_core(), &requested, &missing, &known) {
            verdict::Verdict::Build => {}
            verdict::Verdict::Warn(known) => {
                verdict.warnings = say(&known, &|record| refusal::warning(record, now, database));
            }
            verdict::Verdict::Refuse { known, dependents } => {
                let wording = policy.wording.for_core();
                verdict.known = say(&known, &|record| refusal::refusal(record, now, database, &wording));
                verdict.dependents = dependents;
            }
        }
        Ok(verdict)
    })
}

/// Records or forgets what `build` ended with. Returns why its failure is not recorded, if so.
pub fn build_ended(policy: &Policy, build: &EndedBuild, log: &LogTail) -> Result<Option<Reason>, String> {
    // Most builds succeed, and nobody reads their logs.
    let log = if build.status == Status::Built { String::new() } else { log.text() };
    let derivation = DerivationPath::from(build.derivation.as_str());
    let evidence = Evidence {
        derivation: &derivation,
        status: build.status.for_core(),
        message: &build.message,
        fixed_output: build.fixed_output,
        impure: build.impure,
        builtin: build.builtin,
        remote: build.remote,
        outputs_known: !build.outputs.is_empty(),
        normal_mode: build.normal_mode,
        interrupted: build.interrupted,
        recursive: build.recursive,
        log: &log,
    };
    match judgement::judge(&evidence) {
        Judgement::Ignore(reason) => Ok(Some(reason)),
        Judgement::Forget => with_database(policy, false, |database| {
            let Some(database) = database else { return Ok(None) };
            let outputs: Vec<OutputPath> = build.outputs.iter().map(|output| output.path.as_str().into()).collect();
            database.forget(&outputs).map(|_| None)
        }),
        Judgement::Record(exit_code) => {
            let outputs = build.outputs.iter();
            let failure = Failure {
                derivation: derivation.clone(),
                outputs: outputs
                    .map(|output| record::Output { name: output.name.clone(), path: output.path.as_str().into() })
                    .collect(),
                store_dir: build.store_dir.clone(),
                name: build.name.clone(),
                system: build.system.clone(),
                exit_code,
                message: build.message.lines().map(|line| printable(line.as_bytes())).collect::<Vec<_>>().join("\n"),
                log,
                time: jiff::Timestamp::now(),
                duration_ms: build.duration_ms,
                host: gethostname::gethostname().to_string_lossy().into_owned(),
                nix_version: policy.nix_version.clone(),
            };
            with_database(policy, true, |database| match database {
                Some(database) => database.insert(&failure).map(|()| None),
                None => Ok(None),
            })
        }
    }
}

/// The failure that is known by any of `paths`.
pub fn known_failure(policy: &Policy, paths: &[String]) -> Result<Option<FailureAttributes>, String> {
    let record = with_database(policy, false, |database| {
        let Some(database) = database else { return Ok(None) };
        match database.find(paths.iter().map(String::as_str))?.first() {
            Some(id) => database.record(*id),
            None => Ok(None),
        }
    })?;
    Ok(record.map(|record| FailureAttributes {
        out_path: main_output(&record),
        reason: record.reason(),
        derivation: record.derivation.to_string(),
        exit_code: record.exit_code.into(),
        first_failure: record.first_failure.as_second(),
        last_failure: record.last_failure.as_second(),
        attempts: record.attempts.into(),
        name: record.name,
        system: record.system,
        log: record.log,
        host: record.host,
        nix_version: record.nix_version,
    }))
}

/// The path that a derivation stands for where a string is needed.
fn main_output(record: &FailureRecord) -> String {
    let out = record.outputs.iter().find(|output| output.name == "out").or(record.outputs.first());
    out.map(|output| output.path.to_string()).unwrap_or_default()
}
