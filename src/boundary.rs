//! What keeps failures of the cache from becoming failures of a build.
//!
//! The first failure in a process, be it an error or a panic, is reported once and switches the cache off in that
//! process: what failed once would most likely fail for each derivation.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

static OFF: AtomicBool = AtomicBool::new(false);

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `work` unless the cache is off. The error is the warning to print: of an error its text, of a panic where it
/// was; empty if it was said before.
pub fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    if OFF.load(Ordering::Relaxed) {
        return Err(String::new());
    }
    keep_panics_quiet();
    let problem = match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error,
        Err(_) => format!("internal error {}; please report it", PANIC.with_borrow(String::clone)),
    };
    if OFF.swap(true, Ordering::Relaxed) {
        return Err(String::new());
    }
    Err(format!("building without the negative cache: {problem}"))
}

/// Keeps the place of a panic for the warning instead of printing it. The hook is that of this library's own copy of
/// the standard library; Nix and other plugins are not affected.
fn keep_panics_quiet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        panic::set_hook(Box::new(|info| {
            let message = info.payload_as_str().unwrap_or("");
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            PANIC.set(format!("at {place} ({message})"));
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
