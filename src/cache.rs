//! The cache of this process: turns what C++ sends into the core's types, and keeps the database open.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use nix_negative_cache_core::belief::{Belief, believe};
use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::database::{Database, DatabaseError};
use nix_negative_cache_core::judgement::{self, Evidence, Judgement, Reason};
use nix_negative_cache_core::log_tail::printable;
use nix_negative_cache_core::record::{self, Believed, Failure, FailureRecord};
use nix_negative_cache_core::refusal;
use nix_negative_cache_core::store_path::{DerivationPath, OutputPath};
use nix_negative_cache_core::verdict::{self, Missing};

use crate::boundary::fault_point;
use crate::policy::Policy;
use crate::running_build::RunningBuild;
use crate::{EndedBuild, FailureAttributes, KnownFailure, MissingDerivation, Status, Verdict};

/// The open databases by path, and the process that opened them: nix-daemon forks for each connection, and a
/// connection to SQLite must not be used after a fork (sqlite.org/howtocorrupt.html, 2.6).
struct Databases {
    process: u32,
    open: HashMap<PathBuf, Database>,
}

static DATABASES: Mutex<Option<Databases>> = Mutex::new(None);

/// Calls `work` with the database of `policy`, which is `None` if there is none yet.
fn with_database<T>(
    policy: &Policy,
    create: bool,
    work: impl FnOnce(Option<&mut Database>) -> Result<T, DatabaseError>,
) -> Result<T, String> {
    fault_point();
    let path = policy.database.clone();
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
    if !policy.settings()?.consults() {
        return Ok(false);
    }
    with_database(policy, false, |database| match database {
        Some(database) => database.is_empty().map(|empty| !empty),
        None => Ok(false),
    })
}

/// Whether the output `key` failed when it was last built and that could stand in the way.
pub fn is_known_failure(policy: &Policy, key: &str) -> Result<bool, String> {
    if !policy.settings()?.consults() {
        return Ok(false);
    }
    with_database(policy, false, |database| match database {
        Some(database) => database.is_known(&OutputPath::from(key)),
        None => Ok(false),
    })
}

/// What the record of a derivation says of a new attempt.
fn belief(policy: &Policy, record: &FailureRecord, now: Timestamp) -> Result<Belief, String> {
    Ok(believe(&record.history, policy.environment(), policy.settings()?, now))
}

/// The verdict on a request for `requested` that would build `missing`.
pub fn judge_request(policy: &Policy, requested: &[String], missing: &[MissingDerivation]) -> Result<Verdict, String> {
    let requested = requested.iter().map(|path| path.as_str().into()).collect();
    let missing: Vec<Missing> = missing
        .iter()
        .map(|missing| Missing {
            derivation: missing.path.as_str().into(),
            outputs: missing.outputs.iter().map(|path| path.as_str().into()).collect(),
            inputs: missing.inputs.iter().map(|path| path.as_str().into()).collect(),
        })
        .collect();
    let (version, records) = with_database(policy, false, |database| {
        let mut records: BTreeMap<usize, FailureRecord> = BTreeMap::new();
        let Some(database) = database else { return Ok((None, records)) };
        let version = database.version()?;
        let failures = database.known(missing.iter().flat_map(|missing| &missing.outputs))?;
        for (place, missing) in missing.iter().enumerate() {
            if let Some(id) = missing.outputs.iter().find_map(|output| failures.get(output))
                && let Some(record) = database.record(*id)?
            {
                records.insert(place, record);
            }
        }
        Ok((Some(version), records))
    })?;

    let mut verdict = Verdict::default();
    let now = Timestamp::now();
    let mut known = HashMap::new();
    for (place, record) in &records {
        let place = *place;
        match belief(policy, record, now)? {
            Belief::Fails { attempt, .. } => {
                known.insert(place, record.believed(attempt));
            }
            Belief::Open(doubt) => verdict.doubted.push(KnownFailure {
                place,
                text: format!("failed before, but may be built: {doubt}"),
                status: record.class.into(),
            }),
        }
    }
    // Who asks again gets the same answer, and should get it quickly: Nix asks often.
    let doubted = verdict.doubted.iter().flat_map(|doubted| missing[doubted.place].outputs.clone());
    with_database(policy, false, |database| match (database, version) {
        (Some(database), Some(version)) => database.set_aside(version, doubted),
        _ => Ok(()),
    })?;
    let say = |places: &[usize], text: &dyn Fn(&Believed<'_>) -> String| {
        let said = places.iter().filter_map(|place| Some((*place, known.get(place)?)));
        said.map(|(place, believed)| KnownFailure { place, text: text(believed), status: believed.class.into() })
            .collect()
    };
    let database = policy.unusual_database();
    let places = known.keys().copied().collect();
    match verdict::decide(policy.settings()?, &requested, &missing, &places) {
        verdict::Verdict::Build => {}
        verdict::Verdict::Warn(places) => {
            verdict.warnings = say(&places, &|believed| refusal::warning(believed, now, database));
        }
        verdict::Verdict::Refuse { known: places, dependents } => {
            let wording = policy.wording();
            verdict.known = say(&places, &|believed| refusal::refusal(believed, now, database, &wording));
            verdict.dependents = dependents;
        }
    }
    Ok(verdict)
}

/// Records how `build` ended. Returns the class of a failure that is not recorded, and why it is not.
pub fn build_ended(
    policy: &Policy,
    build: &EndedBuild,
    running: &RunningBuild,
) -> Result<Option<(Class, Reason)>, String> {
    let settings = policy.settings()?;
    let settled = build.status == Status::Built || build.status == Status::Other;
    // Most builds succeed, and nobody reads their logs.
    let log = if build.status == Status::Built { String::new() } else { running.log.text() };
    let derivation = DerivationPath::from(build.derivation.as_str());
    let evidence = Evidence {
        derivation: &derivation,
        status: build.status.for_core(),
        message: &build.message,
        log: &log,
        fixed_output: build.fixed_output,
        impure: build.impure,
        builtin: build.builtin,
        remote: build.remote,
        outputs_known: !build.outputs.is_empty(),
        normal_mode: build.normal_mode,
        interrupted: build.interrupted,
        recursive: build.recursive,
        opted_out: build.opted_out,
        shortage: if settled { None } else { running.shortage(policy) },
    };
    match judgement::judge(&evidence, settings) {
        Judgement::Ignore(class, reason) => Ok(Some((class, reason))),
        Judgement::Succeeded => with_database(policy, false, |database| {
            let Some(database) = database else { return Ok(None) };
            let outputs: Vec<OutputPath> = build.outputs.iter().map(|output| output.path.as_str().into()).collect();
            database.succeed(&outputs, Timestamp::now()).map(|_| None)
        }),
        Judgement::Record(class, exit_code) => {
            let environment = policy.environment().clone();
            let environment = if build.without_sandbox { environment.without_sandbox() } else { environment };
            let outputs = build.outputs.iter();
            let failure = Failure {
                derivation: derivation.clone(),
                outputs: outputs
                    .map(|output| record::Output { name: output.name.clone(), path: output.path.as_str().into() })
                    .collect(),
                store_dir: build.store_dir.clone(),
                name: build.name.clone(),
                system: build.system.clone(),
                class,
                exit_code,
                environment,
                message: build.message.lines().map(|line| printable(line.as_bytes())).collect::<Vec<_>>().join("\n"),
                log,
                time: Timestamp::now(),
                duration_ms: i64::try_from(running.duration().as_millis()).unwrap_or(i64::MAX),
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

/// The failure that is known by any of `paths`, if it is believed.
pub fn known_failure(policy: &Policy, paths: &[String]) -> Result<Option<FailureAttributes>, String> {
    let record = with_database(policy, false, |database| {
        let Some(database) = database else { return Ok(None) };
        match database.find(paths.iter().map(String::as_str))?.first() {
            Some(id) => database.record(*id),
            None => Ok(None),
        }
    })?;
    let Some(record) = record else { return Ok(None) };
    let Belief::Fails { attempt, until } = belief(policy, &record, Timestamp::now())? else { return Ok(None) };
    let believed = record.believed(attempt);
    let (reason, class_name, exit_code) = (believed.reason.clone(), believed.class.to_string(), believed.exit_code);
    Ok(Some(FailureAttributes {
        out_path: main_output(&record),
        reason,
        derivation: record.derivation.to_string(),
        class_name,
        exit_code: exit_code.into_iter().map(Into::into).collect(),
        first_failure: record.first_failure.as_second(),
        last_failure: record.last_failure.as_second(),
        attempts: record.attempts.into(),
        believed_until: until.into_iter().map(|until| until.as_second()).collect(),
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
