//! The settings as `nix config show` prints them, `name = value` on each line.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use nix_negative_cache_core::belief::MAX_ATTEMPTS;
use nix_negative_cache_core::settings::{Settings, exit_codes, min_failures};

fuzz_target!(|text: &str| {
    let values: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    match Settings::new(&values) {
        Err(error) => {
            let error = error.to_string();
            assert!(values.iter().any(|(name, value)| error.contains(name) && error.contains(value)));
        }
        Ok(settings) => {
            assert!((1..=MAX_ATTEMPTS).contains(&settings.min_failures));
            assert!(settings.transient_exit_codes.iter().all(|code| (1..=255).contains(code)));
            assert_eq!(settings.lifetime(0).is_none(), settings.ttl.is_none());
            // What is confirmed more often is believed longer, up to the maximum.
            let lifetimes: Vec<_> = [0, 1, 2, 31, 32, 62, 63, 64, u32::MAX].map(|n| settings.lifetime(n)).into();
            assert!(lifetimes.is_sorted());
            assert!(lifetimes.iter().flatten().all(|lifetime| lifetime.is_positive()));
            assert!(settings.max_ttl.is_none_or(|max| lifetimes.iter().flatten().all(|lifetime| *lifetime <= max)));
        }
    }
    if let Ok(codes) = exit_codes(text) {
        let words: Vec<String> = codes.iter().map(ToString::to_string).collect();
        assert_eq!(exit_codes(&words.join(" ")), Ok(codes));
    }
    assert!(min_failures(text).is_ok_and(|number| (1..=MAX_ATTEMPTS).contains(&number)) || min_failures(text).is_err());
});
