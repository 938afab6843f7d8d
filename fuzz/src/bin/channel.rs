//! What any user may ask nix-daemon for, and the plugin in it takes for a message.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nix_negative_cache_core::channel::Message;
use nix_negative_cache_core::settings::Settings;

fuzz_target!(|text: &str| {
    let Some(message) = Message::parse(text) else { return };
    assert_eq!(Message::parse(&message.to_base_name()), Some(message.clone()));
    if let Message::Setting(name, value) = message {
        let mut settings = Settings::default();
        settings.relax(name, &value);
        let before = Settings::default();
        assert!(settings.retry >= before.retry && settings.min_failures >= before.min_failures);
        assert!(settings.ttl.is_some() && settings.ttl <= before.ttl && settings.max_ttl <= before.max_ttl);
    }
});
