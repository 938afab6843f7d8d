//! What the client of this process has said; see [`nix_negative_cache_core::channel`]. There is only one client,
//! because nix-daemon has a process for each connection.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use nix_negative_cache_core::settings::Settings;

static SAID: Mutex<BTreeMap<&'static str, String>> = Mutex::new(BTreeMap::new());

/// Keeps the value that the client wants for a setting.
pub fn says(name: &'static str, value: String) {
    SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(name, value);
}

/// The settings that the client wants, as far as they are less strict than `settings`.
pub fn relaxed(mut settings: Settings) -> Settings {
    for (name, value) in SAID.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        settings.relax(name, value);
    }
    settings
}
