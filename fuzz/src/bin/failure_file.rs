//! A file of failures, as somebody hands it on.

#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use nix_negative_cache_core::failure_file;
use nix_negative_cache_fuzz::assert_plain;

fuzz_target!(|data: &[u8]| {
    let now = Timestamp::from_second(1_000_100).expect("a time");
    let failures = match failure_file::read(data, "a file", now) {
        Ok(failures) => failures,
        Err(error) => {
            assert_plain(&error.to_string());
            return;
        }
    };
    for object in failures.iter().map(|failure| &failure.object) {
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
