//! The circumstances of a request: a store, and the settings in force for it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix_negative_cache_core::database::location::{Audience, default_path, personal_path};
use nix_negative_cache_core::environment::{Environment, FACTORS, SandboxFacts, sandboxed};
use nix_negative_cache_core::machine;
use nix_negative_cache_core::refusal;
use nix_negative_cache_core::settings::{self, SettingError, Settings};

use crate::bridge::{CacheSettings, Circumstances, EndedBuild};
use crate::client;
use crate::guard::Failure;

/// For how long the state of the machine counts as unchanged, from one request to the next.
const UNCHANGED: Duration = Duration::from_secs(1);

/// The setting that names programs which start builders in the place of Nix.
const EXTERNAL_BUILDERS: &str = "external-builders";

/// The settings in force and what follows from them, for a request.
#[derive(Clone)]
pub struct Policy {
    circumstances: Arc<Circumstances>,
    /// The plugin's settings as they are configured, or what is wrong with them.
    configured: Result<Settings, NoSettings>,
    /// The same settings, less strict if the client of this process wants that.
    settings: Result<Settings, NoSettings>,
    /// The values of Nix's settings that matter.
    nix_settings: Arc<BTreeMap<String, String>>,
    /// The environment, and when it was looked at. Policies of requests of the same moment share it.
    environment: Arc<OnceLock<(Instant, Environment)>>,
    /// The database file that this process writes to; none if this user has no place for one.
    pub database: Option<PathBuf>,
    /// Who may read it.
    pub audience: Audience,
    /// The daemon's database, which is only read; none unless a daemon builds.
    pub daemons: Option<PathBuf>,
    /// The program that is started after a failure was recorded.
    pub hook: Option<PathBuf>,
    daemon_decides: bool,
    /// The user who makes the request.
    pub user: u32,
    /// When the request was made.
    pub made: Timestamp,
    served: bool,
    real_store_dir: PathBuf,
    build_dir: PathBuf,
    /// The version of Nix.
    pub nix_version: String,
}

/// Why there are no settings.
#[derive(Clone, Debug)]
enum NoSettings {
    /// One of them has a value that can't be read.
    Wrong(SettingError),
    /// No policy could be made, for this reason.
    Broken(String),
}

impl From<&NoSettings> for Failure {
    fn from(why: &NoSettings) -> Failure {
        match why {
            NoSettings::Wrong(error) => Failure::Setting(error.clone()),
            NoSettings::Broken(text) => Failure::Panic(text.clone()),
        }
    }
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

impl Policy {
    /// The policy for a new request in these circumstances. As a rule these are the circumstances of the last request,
    /// and most of its policy can be kept.
    pub fn of(circumstances: Circumstances) -> Policy {
        static LAST: Mutex<Option<Policy>> = Mutex::new(None);
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        let policy = match &*last {
            Some(last) if *last.circumstances == circumstances => last.renewed(),
            _ => Policy::new(circumstances),
        };
        *last = Some(policy.clone());
        policy
    }

    fn new(circumstances: Circumstances) -> Policy {
        let settings = circumstances.settings.iter().map(|setting| (setting.name.clone(), setting.value.clone()));
        let nix_settings: BTreeMap<String, String> = settings.collect();
        let of_the_store = match circumstances.database.as_slice() {
            [] => default_path(&path(&circumstances.state_dir)),
            chosen => path(chosen),
        };
        let configured = Settings::new(&nix_settings).map_err(NoSettings::Wrong);
        let settings = configured.clone().map(client::relaxed);
        let (database, audience, daemons) = match circumstances.asks_daemon {
            false => (Some(of_the_store), Audience::Everybody, None),
            true => (personal_path(), Audience::Owner, Some(of_the_store)),
        };
        Policy {
            configured,
            settings,
            nix_settings: Arc::new(nix_settings),
            environment: Arc::default(),
            database,
            audience,
            daemons,
            hook: Some(path(&circumstances.hook)).filter(|hook| !hook.as_os_str().is_empty()),
            daemon_decides: circumstances.daemon_decides,
            user: circumstances.user,
            made: Timestamp::now(),
            served: circumstances.served,
            real_store_dir: path(&circumstances.real_store_dir),
            build_dir: path(&circumstances.build_dir),
            nix_version: circumstances.nix_version.clone(),
            circumstances: Arc::new(circumstances),
        }
    }

    /// The same policy for a new request. Only the wishes of the client and the state of the machine may have changed.
    fn renewed(&self) -> Policy {
        let mut renewed = self.clone();
        if renewed.environment.get().is_some_and(|(when, _)| when.elapsed() > UNCHANGED) {
            renewed.environment = Arc::default();
        }
        renewed.settings = renewed.configured.clone().map(client::relaxed);
        renewed.made = Timestamp::now();
        renewed
    }

    /// The settings of Nix that [`Policy::of`] wants to know, besides the plugin's own.
    pub fn settings_of_nix() -> Vec<&'static str> {
        let factors = FACTORS.iter().filter(|factor| factor.setting).map(|factor| factor.name);
        factors.chain(settings::OF_NIX.iter().copied()).chain(machine::SETTINGS).chain([EXTERNAL_BUILDERS]).collect()
    }

    /// A policy for when none can be made. Each use of its settings returns the error `why`. This does nothing that could
    /// fail again.
    pub fn broken(why: Failure) -> Policy {
        let why = match why {
            Failure::Setting(error) => NoSettings::Wrong(error),
            Failure::Panic(text) => NoSettings::Broken(text),
            other => NoSettings::Broken(other.to_string()),
        };
        Policy {
            circumstances: Arc::default(),
            configured: Err(why.clone()),
            settings: Err(why),
            nix_settings: Arc::default(),
            environment: Arc::default(),
            database: None,
            audience: Audience::Owner,
            daemons: None,
            hook: None,
            daemon_decides: false,
            user: 0,
            made: Timestamp::MIN,
            served: false,
            real_store_dir: PathBuf::new(),
            build_dir: PathBuf::new(),
            nix_version: String::new(),
        }
    }

    /// Whether a daemon builds, and this process asks it to.
    pub fn asks_daemon(&self) -> bool {
        self.daemons.is_some()
    }

    /// Whether a daemon builds that has the plugin on.
    pub fn daemon_decides(&self) -> bool {
        self.daemon_decides
    }

    /// All databases, this user's own first.
    pub fn databases(&self) -> impl Iterator<Item = &Path> {
        self.database.iter().chain(&self.daemons).map(PathBuf::as_path)
    }

    /// The databases that are consulted about requests. A daemon that decides by itself knows more about the place
    /// where it builds, so all is left to it. But if the user only wants to be warned, the daemon is told to refuse
    /// nothing, and the databases are consulted here.
    pub fn consulted(&self) -> impl Iterator<Item = &Path> {
        self.databases().filter(|_| !self.daemon_decides || self.warns())
    }

    /// Whether the user is only warned of known failures.
    pub fn warns(&self) -> bool {
        self.settings.as_ref().is_ok_and(|settings| settings.warn)
    }

    /// What the settings say of binary caches. None is asked if the settings can't be read.
    pub fn cache_settings(&self) -> CacheSettings {
        let of = |settings: &Settings| CacheSettings {
            trusted_public_keys: settings.trusted_public_keys.clone(),
            urls: settings.substituters.clone(),
            timeout_ms: u64::try_from(settings.timeout.as_millis()).unwrap_or(u64::MAX),
        };
        self.settings.as_ref().map(of).unwrap_or_default()
    }

    /// The plugin's settings as they are configured. They decide what other users get to see.
    ///
    /// # Errors
    ///
    /// What is wrong with a setting.
    pub fn configured(&self) -> Result<&Settings, Failure> {
        self.configured.as_ref().map_err(Failure::from)
    }

    /// The plugin's settings for this request.
    ///
    /// # Errors
    ///
    /// What is wrong with a setting.
    pub fn settings(&self) -> Result<&Settings, Failure> {
        self.settings.as_ref().map_err(Failure::from)
    }

    /// The environment, which is all that can change the outcome of a build. It is only looked at when there is
    /// something to record or to compare with.
    pub fn environment(&self) -> &Environment {
        let (_, environment) = self.environment.get_or_init(|| {
            let factors = machine::factors(&self.nix_settings, &self.build_dir, &self.nix_version);
            let environment = Environment::new(&self.nix_settings, factors);
            (Instant::now(), if self.asks_daemon() { environment.as_clients_see() } else { environment })
        });
        environment
    }

    /// Whether the builder of `build` ran in a sandbox without network. This is only known of a build in this process.
    pub fn sandboxed(&self, build: &EndedBuild) -> Option<bool> {
        if self.asks_daemon() || !build.machine.is_empty() {
            return None;
        }
        let setting = |name: &str| self.nix_settings.get(name).map_or("", String::as_str);
        sandboxed(&SandboxFacts {
            setting: setting("sandbox"),
            external_builders: setting(EXTERNAL_BUILDERS),
            no_chroot: build.no_chroot,
            uses_network: build.fixed_output || build.impure,
            fell_back: build.without_sandbox,
            store_is_elsewhere: self.real_store_dir != Path::new(&build.store_dir),
        })
    }

    /// The control group that all builds of this process run below, if they have groups of their own.
    pub fn group_of_builds(&self) -> Option<PathBuf> {
        if self.asks_daemon() {
            return None;
        }
        machine::group_of_builds(&self.nix_settings, Path::new("/proc/self/cgroup"), Path::new("/proc/mounts"))
    }

    /// The folders that a build fills.
    pub fn folders(&self) -> [PathBuf; 2] {
        [self.build_dir.clone(), self.real_store_dir.clone()]
    }

    /// The words around a failure that is known from `database`, as a person reads them.
    pub fn wording<'a>(&'a self, database: &'a Path) -> refusal::Wording<'a> {
        let Circumstances { last_log_lines, log_lines, before_full_logs, after_full_logs, .. } = &*self.circumstances;
        let state_dir = env::var_os("NIX_STATE_DIR").unwrap_or("/nix/var/nix".into());
        let usual = database == default_path(Path::new(&state_dir)) || Some(database) == personal_path().as_deref();
        let foreign = self.daemons.as_deref() == Some(database) || (self.served && self.user != 0);
        refusal::Wording {
            last: last_log_lines,
            log_lines: *log_lines,
            full_logs: (before_full_logs, after_full_logs),
            database: (!usual).then_some(database),
            // The settings of a client do not reach the daemon, unless it has the plugin as well.
            retry: if self.served { refusal::Retry::Companion } else { refusal::Retry::Option },
            may_forget: !foreign,
        }
    }
}
