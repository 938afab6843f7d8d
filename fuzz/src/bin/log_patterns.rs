//! What the end of a log says: any text, as `judge` alone sees to it that it is printable.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nix_negative_cache_core::log_patterns::find;

fuzz_target!(|log: &str| {
    let Some(found) = find(log) else { return };
    assert!(!found.cause.is_empty());
    assert!(log.lines().any(|line| line.trim_end() == found.line), "{:?} is not a line", found.line);
    // A line speaks for itself, and not for ever.
    assert_eq!(find(found.line).as_ref(), Some(&found));
    assert_eq!(find(&format!("{log}\n{}", "and so on\n".repeat(25))), None);
});
