//! What the client whom this process serves has said; see [`nix_negative_cache_core::channel`]. nix-daemon has a process
//! for each of its connections.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use nix_negative_cache_core::settings::Settings;

static SAID: Mutex<BTreeMap<&'static str, String>> = Mutex::new(BTreeMap::new());

/// Keeps what the client says of a setting.
pub fn says(name: &'static str, value: String) {
    SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(name, value);
}

/// Settings as the client wants them, as far as that is less strict.
pub fn relaxed(mut settings: Settings) -> Settings {
    for (name, value) in SAID.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        settings.relax(name, value);
    }
    settings
}
