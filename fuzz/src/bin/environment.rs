//! The environment of an attempt, JSON in a database: two of them, one after the other.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::environment::{Environment, FACTORS, MACHINE};
use nix_negative_cache_fuzz::split;

fuzz_target!(|data: &[u8]| {
    let (recorded, now) = split(data);
    let Ok(recorded) = serde_json::from_slice::<Environment>(recorded) else { return };
    let written = serde_json::to_string(&recorded).expect("what was read can be written");
    assert_eq!(serde_json::from_str::<Environment>(&written).ok().as_ref(), Some(&recorded));
    let now = serde_json::from_slice(now).unwrap_or_default();
    for &class in Class::ALL {
        // The machine is looked for among the builders.
        assert!(recorded.differences(&recorded, class).iter().all(|difference| difference.factor == MACHINE));
        for difference in recorded.differences(&now, class) {
            assert!(difference.recorded != difference.now || difference.factor == MACHINE);
            let factor = FACTORS.iter().find(|factor| factor.name == difference.factor).expect("a factor that exists");
            assert!(factor.only.is_none_or(|only| only == class));
            assert!(difference.to_string().starts_with(factor.name));
        }
    }
});
