//! Counts refusals, and builds that failed, for `nix-negative-cache stats`. Counts are kept in memory and written in batches: at the
//! ends of requests, at most once in a [`PAUSE`], and when the process ends. A count that can't be kept or
//! written is left out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::counts::{Counts, RefusedDerivation as Counted, Verdict};

use crate::bridge::RefusedDerivation;
use crate::connections::{each_open, each_open_if_unused, with_own};
use crate::policy::Policy;
use crate::recording;

/// How long counts are collected before they are written. A daemon can refuse thousands of derivations in a second.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps a count in the database that this process writes to, if there is one.
fn count(policy: &Policy, work: impl FnOnce(&mut Counts)) {
    // If the database can't be used, something that matters more says so.
    let _ = with_own(policy, false, |database| {
        if let Some(database) = database.filter(|database| !database.is_readonly()) {
            work(database.counts());
        }
        Ok(())
    });
}

/// Counts derivations that are refused.
pub fn refused(policy: &Policy, refused: &[RefusedDerivation]) {
    if refused.is_empty() {
        return;
    }
    let now = Timestamp::now();
    count(policy, |counts| {
        for refused in refused {
            // It is the name of one.
            let Ok(class) = refused.failure_class.parse() else { continue };
            let counted = Counted {
                derivation: refused.path.as_str().into(),
                name: refused.name.clone(),
                system: refused.system.clone(),
                class,
                origin: Some(&refused.origin).filter(|origin| !origin.is_empty()).cloned(),
            };
            counts.refused(counted, refused.duration_ms, now);
        }
    });
}

/// Counts a build that failed.
pub fn failed(policy: &Policy, class: Class, verdict: Verdict) {
    count(policy, |counts| counts.failed(class, verdict, Timestamp::now()));
}

/// Writes what was counted, unless this process did so a moment ago. Returns whether anything is left.
pub fn write(policy: &Policy) -> bool {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut is_anything_left = false;
    each_open(|database| is_anything_left |= !database.counts().is_empty());
    if !is_anything_left {
        return false;
    }
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_some_and(|last| last.elapsed() < PAUSE) {
        return true;
    }
    *last = Some(Instant::now());
    let (mut is_time_to_tidy, mut is_anything_left) = (false, false);
    each_open(|database| {
        is_time_to_tidy |= database.write_counts();
        is_anything_left |= !database.counts().is_empty();
    });
    if is_time_to_tidy {
        // What can't be tidied now is tidied when something is recorded.
        let _ = recording::tidy(policy);
    }
    is_anything_left
}

/// Writes what is left when the process ends.
pub fn write_rest() {
    each_open_if_unused(|database| {
        database.write_counts();
    });
}
