//! Keeps failures of the cache from becoming failures of a build.
//!
//! The first failure in a process, be it an error or a panic, becomes a warning and switches the cache off in that
//! process: what failed once would most likely fail for each derivation.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use nix_negative_cache_core::database::DatabaseError;
use nix_negative_cache_core::settings::SettingError;

static OFF: AtomicBool = AtomicBool::new(false);

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A failure behind the bridge.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A database can't be used.
    #[error("building without the negative cache: {0}")]
    Database(#[from] DatabaseError),
    /// A setting has a value that nobody can read.
    #[error("building without the negative cache: {0}")]
    Setting(#[from] SettingError),
    /// A panic, and where it was.
    #[error("building without the negative cache: {0}")]
    Panic(String),
    /// What a function of Nix's C API says is wrong.
    #[cfg(c_api)]
    #[error("negative cache: {0}")]
    CApi(String),
    /// An exception that Nix threw while it was asked something. C++ has kept the exception and deals with it.
    #[error("{0}")]
    Nix(#[from] cxx::Exception),
}

/// Runs `work`. Once the cache is off, `work` does not run, and the answer is the default.
///
/// # Errors
///
/// The first failure of this process, so that it is reported once, and every exception of Nix.
pub fn guarded<T: Default>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    if OFF.load(Ordering::Relaxed) {
        return Ok(T::default());
    }
    match caught(work) {
        // Nix meets the same error by itself.
        Err(failure @ Failure::Nix(_)) => Err(failure),
        Err(failure) if !OFF.swap(true, Ordering::Relaxed) => Err(failure),
        result => Ok(result.unwrap_or_default()),
    }
}

/// Runs `work`. A panic becomes an error.
///
/// # Errors
///
/// Those of `work`.
pub fn caught<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    keep_panics_quiet();
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    result.unwrap_or_else(|_| {
        // At the end of a process, this thread may have no such variable any more.
        let place = PANIC.try_with(|place| place.borrow().clone()).unwrap_or_default();
        Err(Failure::Panic(format!("internal error {place}; please report it")))
    })
}

/// Keeps the place of a panic for the warning instead of printing it. The hook is that of this library's own copy of
/// the standard library; Nix and other plugins are not affected.
fn keep_panics_quiet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        panic::set_hook(Box::new(|info| {
            let message = info.payload_as_str().unwrap_or("");
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let _ = PANIC.try_with(|kept| kept.replace(format!("at {place} ({message})")));
        }));
    });
}

/// Panics if the environment asks for it, in builds made for the test of this module.
pub fn fault_point() {
    #[cfg(feature = "fault-injection")]
    if std::env::var_os("NIX_NEGATIVE_CACHE_PANIC").is_some() {
        panic!("asked for by the environment");
    }
}
