//! The circumstances of a request: a store, and the settings in force for it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix_negative_cache_core::database::default_path;
use nix_negative_cache_core::environment::Environment;
use nix_negative_cache_core::machine;
use nix_negative_cache_core::refusal;
use nix_negative_cache_core::settings::Settings;

use crate::{Circumstances, Wording};

/// What is to be done in some circumstances.
pub struct Policy {
    settings: Result<Settings, String>,
    /// All settings of Nix.
    all_settings: BTreeMap<String, String>,
    environment: OnceLock<Environment>,
    /// The database file.
    pub database: PathBuf,
    real_store_dir: PathBuf,
    /// The version of Nix.
    pub nix_version: String,
    wording: Wording,
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

impl Policy {
    /// From what C++ knows.
    pub fn new(circumstances: &Circumstances) -> Policy {
        let settings = circumstances.settings.iter().map(|setting| (setting.name.clone(), setting.value.clone()));
        let all_settings: BTreeMap<String, String> = settings.collect();
        let state_dir = path(&circumstances.state_dir);
        let database = match circumstances.database.as_slice() {
            [] => default_path(&state_dir),
            chosen => path(chosen),
        };
        Policy {
            settings: Settings::new(&all_settings),
            all_settings,
            environment: OnceLock::new(),
            database,
            real_store_dir: path(&circumstances.real_store_dir),
            nix_version: circumstances.nix_version.clone(),
            wording: circumstances.wording.clone(),
        }
    }

    /// Where there can be none.
    pub fn broken(why: String) -> Policy {
        Policy {
            settings: Err(why),
            all_settings: BTreeMap::new(),
            environment: OnceLock::new(),
            database: PathBuf::new(),
            real_store_dir: PathBuf::new(),
            nix_version: String::new(),
            wording: Wording::default(),
        }
    }

    /// Whether known failures are only warned of.
    pub fn warns(&self) -> bool {
        self.settings.as_ref().is_ok_and(|settings| settings.warn)
    }

    /// The plugin's settings.
    pub fn settings(&self) -> Result<&Settings, String> {
        self.settings.as_ref().map_err(String::clone)
    }

    /// What can change the outcome of a build. Not looked at before there is something to record or to compare with.
    pub fn environment(&self) -> &Environment {
        self.environment.get_or_init(|| {
            Environment::new(&self.all_settings, machine::factors(&self.all_settings, &self.nix_version))
        })
    }

    /// The folders that a build fills.
    pub fn folders(&self) -> [PathBuf; 2] {
        [machine::build_folder(&self.all_settings), self.real_store_dir.clone()]
    }

    /// The database, if the companion program, called in this environment, would look for another one.
    pub fn unusual_database(&self) -> Option<&Path> {
        let state_dir = env::var_os("NIX_STATE_DIR").unwrap_or("/nix/var/nix".into());
        (self.database != default_path(Path::new(&state_dir))).then_some(&self.database)
    }

    /// How to word a refusal.
    pub fn wording(&self) -> refusal::Wording<'_> {
        let Wording { last, log_lines, before_full_logs, after_full_logs } = &self.wording;
        refusal::Wording { last, log_lines: *log_lines, full_logs: (before_full_logs, after_full_logs) }
    }
}
