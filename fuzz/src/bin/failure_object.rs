//! A failure object as a binary cache has it: a NAR, or after a zero byte the content of its file.

#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use nix_negative_cache_core::failure_object::{
    Address, FailureObject, Kind, MAX_CONTENT, MAX_NAR, content_of, main_output, nar,
};
use nix_negative_cache_core::store_path::OutputKey;
use nix_negative_cache_fuzz::assert_plain;

const STORE: &str = "/nix/store";
const KEY: &str = "/nix/store/zzz0h4gj6rsaw6xnsq7vj128dpiawa94-x";

fuzz_target!(|data: &[u8]| {
    let content = match data.split_first() {
        Some((0, content)) => content,
        _ => {
            let Ok(content) = content_of(data) else { return };
            assert_eq!(nar(content), data, "there is one NAR of a file");
            content
        }
    };
    let key = OutputKey::from(KEY);
    let address = Address { kind: Kind::Failure, key: &key, period: 1, signer: "ci-1" };
    let now = Timestamp::from_second(1_000_100).expect("a time");
    let Ok(object) = FailureObject::read(content, &address, STORE, "x86_64-linux", now) else { return };
    assert!(content.len() <= MAX_CONTENT && nar(content).len() as u64 <= MAX_NAR);
    let outputs: Vec<_> = object.outputs.iter().collect();
    assert_eq!(
        main_output(&outputs, |(name, _)| name).map(|(_, key)| *key),
        Some(&key),
        "it is about what was asked for"
    );
    for text in
        [&object.drv_path, &object.name, &object.system, &object.reason, &object.nix_version, &object.plugin_version]
    {
        assert_plain(text);
        assert!(!text.contains('\n'), "it is one line: {text:?}");
    }
    assert_plain(&object.log);
    object.outputs.iter().for_each(|(name, key)| assert_plain(&format!("{name}{key}")));
});
