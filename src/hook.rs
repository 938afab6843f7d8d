//! The program of `negative-cache-hook`: it is started after a failure was recorded, and gets the record.

use std::env;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix_negative_cache_core::hook::{Distrusted, WITHIN_HOOK, distrusted, environment};
use nix_negative_cache_core::machine;
use nix_negative_cache_core::record::FailureRecord;
use nix_negative_cache_core::record_json::RecordJson;

use crate::bridge::EndedBuild;
use crate::connections::with_own;
use crate::detached;
use crate::guard::Failure;
use crate::policy::Policy;

/// How many hooks of this process may run at the same time. A hook that hangs must not fill the machine with processes.
const MOST: usize = 64;

/// Why no hook is started.
#[derive(Debug, thiserror::Error)]
enum NotStarted {
    #[error("{0}")]
    Distrusted(Distrusted),
    #[error("{MOST} that this process has started are still running")]
    TooMany,
    #[error("{0}")]
    Failed(#[from] io::Error),
}

/// Starts the hook for the failure of `build`, which was just recorded. The result is a warning, once in a process, if it can't be
/// started: that is no reason to do without the cache.
///
/// # Errors
///
/// Those of the database.
pub fn start(policy: &Policy, build: &EndedBuild) -> Result<Option<String>, Failure> {
    static WARNED: AtomicBool = AtomicBool::new(false);
    let Some(hook) = policy.hook.as_deref().filter(|_| env::var_os(WITHIN_HOOK).is_none()) else { return Ok(None) };
    let Some(record) = recorded(policy, build)? else { return Ok(None) };
    match start_with(hook, &record) {
        Err(why) if !WARNED.swap(true, Ordering::Relaxed) => {
            Ok(Some(format!("the hook '{}' is not started: {why}", hook.display())))
        }
        _ => Ok(None),
    }
}

/// What is recorded of a build.
fn recorded(policy: &Policy, build: &EndedBuild) -> Result<Option<FailureRecord>, Failure> {
    let outputs = build.outputs.iter().map(|output| output.key.as_str());
    let record = with_own(policy, false, |database| {
        let Some(database) = database else { return Ok(None) };
        let found = database.find(outputs)?;
        found.first().map_or(Ok(None), |id| database.record(*id))
    })?;
    Ok(record.map(|mut record| {
        if policy.asks_daemon() {
            record.summary.as_clients_see();
        }
        record
    }))
}

fn start_with(hook: &Path, record: &FailureRecord) -> Result<(), NotStarted> {
    static RUNNING: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running.retain(detached::is_running);
    if running.len() >= MOST {
        return Err(NotStarted::TooMany);
    }
    // Root builds for everybody, so nobody else may have a say in what it runs.
    if machine::user() == 0
        && let Some(why) = distrusted(hook)?
    {
        return Err(NotStarted::Distrusted(why));
    }
    let variable = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        CString::new(name.into_vec()).ok()
    };
    let environment: Vec<CString> = environment(env::vars_os()).into_iter().filter_map(variable).collect();
    let program = CString::new(hook.as_os_str().as_bytes()).map_err(io::Error::from)?;
    let mut json = serde_json::to_vec(&RecordJson::of(record)).map_err(io::Error::from)?;
    json.push(b'\n');
    // A hook of which nobody can tell whether it runs is not counted (before Linux 5.3).
    running.extend(detached::watch(detached::start(&program, &environment, &json)?));
    Ok(())
}
