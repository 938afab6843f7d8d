//! The text of a derivation, which anybody may write into a store.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nix_negative_cache_core::plain_derivation::plain_derivation;
use nix_negative_cache_core::store_path::is_store_path;

fuzz_target!(|data: &[u8]| {
    let Some(plain) = plain_derivation(data) else { return };
    assert!(!plain.system.contains(['"', '\\']));
    assert!(!plain.outputs.is_empty());
    for (name, path) in plain.outputs {
        assert!(is_store_path(path) && !name.contains(['"', '\\']));
    }
});
