//! The text of a derivation, which anybody may write into a store.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nix_negative_cache_core::input_derivations::input_derivations;

fuzz_target!(|data: &[u8]| {
    for input in input_derivations(data).into_iter().flatten() {
        assert!(!input.path.contains(['"', '\\']));
    }
});
