//! A file of failures, as somebody hands it on; what is after the first NUL is its name.

#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use nix_negative_cache_core::elsewhere::LearnedFailure;
use nix_negative_cache_core::failure_file;
use nix_negative_cache_fuzz::{assert_plain, split};

fuzz_target!(|data: &[u8]| {
    let now = Timestamp::from_second(1_000_100).expect("a time");
    let (file, name) = split(data);
    let failures = match failure_file::read(file, &String::from_utf8_lossy(name), 1000, now) {
        Ok(file) => file.failures,
        Err(error) => {
            assert_plain(&error.to_string());
            return;
        }
    };
    for LearnedFailure { object, origin } in &failures {
        let origin = origin.to_string();
        assert_plain(&origin);
        assert!(!origin.contains(['\n', '\t']) && origin.len() < 200, "it is short: {origin:?}");
        let texts = [&object.drv_path, &object.name, &object.system, &object.reason, &object.nix_version];
        for text in texts.into_iter().chain([&object.plugin_version]) {
            assert_plain(text);
            assert!(!text.contains('\n'), "it is one line: {text:?}");
        }
        assert_plain(&object.log);
        assert!(!object.outputs.is_empty());
        object.outputs.iter().for_each(|(name, key)| assert_plain(&format!("{name}{key}")));
    }
});
