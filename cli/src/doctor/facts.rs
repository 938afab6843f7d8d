//! What the checks go by. Gathering it changes nothing.

use std::env;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix_negative_cache_core::channel::Message;
use nix_negative_cache_core::database::DatabaseError;
use nix_negative_cache_core::database::condition::{Condition, examine};
use nix_negative_cache_core::database::location::{self, Audience, default_path, personal_path};
use nix_negative_cache_core::failure_object::marker;
use nix_negative_cache_core::machine;
use nix_negative_cache_core::settings::{SettingError, Settings};

use super::daemon_process::{DaemonProcess, socket};
use super::locks::Lock;
use crate::args::DatabaseArguments;
use crate::installation::Installation;
use crate::nix::{self, Configuration, ENABLE, NixError, Store};

/// All of it.
#[derive(Debug)]
pub struct Facts {
    /// Whose rights this process has.
    pub user: u32,
    pub nix: Nix,
    pub store: StoreFacts,
    /// The daemon, if Nix asks one or one listens.
    pub daemon: Option<StoreFacts>,
    /// Its process, if it is on this machine and can be told.
    pub daemon_process: Option<DaemonProcess>,
    pub databases: Vec<DatabaseFacts>,
    /// The binary caches that are asked for failures, if somebody's key is trusted.
    pub caches: Vec<CacheFacts>,
}

/// A binary cache.
#[derive(Debug)]
pub struct CacheFacts {
    pub url: String,
    /// Whether it has the marker of those that carry failures.
    pub has_marker: Result<bool, NixError>,
}

/// The Nix in PATH.
#[derive(Debug)]
pub struct Nix {
    /// The program; none if there is no Nix in PATH.
    pub program: Option<PathBuf>,
    pub version: Result<nix_version::Nix, NixError>,
    pub configuration: Result<Configuration, NixError>,
    /// Whether it starts at least without its plugins.
    pub starts_without_plugins: bool,
    /// The plugin's files, as far as one can tell, of those in `plugin-files`: loaders, or plugins themselves.
    pub plugins: Vec<PathBuf>,
    /// The loaders among them, and what is installed beside each.
    pub loaders: Vec<(PathBuf, Installation)>,
    /// Where Nix itself has its state, and where this program thinks so.
    pub state: (Option<PathBuf>, PathBuf),
}

/// A store, or the daemon that serves it.
#[derive(Debug)]
pub struct StoreFacts {
    pub store: Result<Store, NixError>,
    /// Whether the plugin is on there.
    pub plugin_on: Result<bool, NixError>,
}

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// This user's, of what a daemon built.
    Own,
    /// The store's.
    Stores,
    /// The store's, in another place that the settings name.
    Chosen,
    /// The one that was named on the command line.
    Named,
}

/// A database, and the files around it.
#[derive(Debug)]
pub struct DatabaseFacts {
    pub role: Role,
    pub path: PathBuf,
    pub audience: Audience,
    /// To whom it should belong; none if that is for its owner to say.
    pub owner: Option<u32>,
    /// Whether its folder is there for it alone.
    pub has_own_folder: bool,
    pub folder: Option<Metadata>,
    /// The file itself, or the symbolic link in its place.
    pub file: io::Result<Option<Metadata>>,
    /// Where a symbolic link in its place leads to.
    pub target: Option<PathBuf>,
    /// The write-ahead log and its index.
    pub beside: [(PathBuf, Option<Metadata>); 2],
    /// Those that were moved away.
    pub broken: Vec<(PathBuf, Metadata)>,
    /// What keeps others from writing to it.
    pub lock: Option<Lock>,
    /// What is in it; none if it was not looked into.
    pub condition: Option<Result<Condition, DatabaseError>>,
}

impl Facts {
    /// Gathers them.
    pub fn gather(arguments: &DatabaseArguments) -> Facts {
        let assumed_state = arguments.store_state();
        let nix = Nix::gather(&assumed_state);
        let store_dir = nix::folder("Store directory", &WITHOUT_PLUGINS);
        let greeting =
            store_dir.as_ref().map(|folder| format!("{folder}/{}", Message::Hello.to_base_name())).unwrap_or_default();
        let store = StoreFacts::gather(&[], &greeting);
        let url = store.store.as_ref().ok().map(|store| store.url.as_str());
        let socket = socket(nix.state.0.as_deref().unwrap_or(&assumed_state), url);
        let is_there = is_socket(&socket);
        let asked = store.is_daemon();
        let daemon = (!asked && is_there).then(|| StoreFacts::gather(&["--store", "daemon"], &greeting));
        let daemon_process = nix::folder("System configuration file", &WITHOUT_PLUGINS)
            .filter(|_| is_there)
            .and_then(|file| DaemonProcess::of(&socket, Path::new(&file), PLUGIN));
        let user = machine::user();
        let databases = places(arguments, &nix);
        let databases = databases.into_iter();
        let databases = databases.map(|(role, path, audience)| DatabaseFacts::gather(role, path, audience, user));
        let databases = databases.collect();
        let caches = store_dir.map(|folder| caches(&nix, &marker(&folder))).unwrap_or_default();
        Facts { user, nix, store, daemon, daemon_process, databases, caches }
    }

    /// Whether the plugin is on in a daemon that builds for this user.
    pub fn daemon_has_plugin_on(&self) -> bool {
        self.store.is_daemon() && matches!(self.store.plugin_on, Ok(true))
    }

    /// The daemon, whether it builds for this user or only for others.
    pub fn any_daemon(&self) -> Option<&StoreFacts> {
        if self.store.is_daemon() { Some(&self.store) } else { self.daemon.as_ref() }
    }
}

/// What the files of the loader and of the plugins are called.
const PLUGIN: &str = "libnix_negative_cache.so";

/// What has Nix start without its plugins.
const WITHOUT_PLUGINS: [&str; 3] = ["--option", "plugin-files", ""];

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

impl Nix {
    fn gather(state: &Path) -> Nix {
        let configuration = nix::configuration(&[]);
        let without_plugins =
            if configuration.is_err() { nix::in_path(&WITHOUT_PLUGINS) } else { Err(NixError::default()) };
        let starts_without_plugins = without_plugins.is_ok();
        let version = without_plugins.or_else(|_| nix::in_path(&[]));
        let plugins = configuration.as_ref().map(plugins).unwrap_or_default();
        let loaders = plugins.iter().filter(|file| is_loader(file));
        let loaders = loaders.map(|file| (file.clone(), Installation::around(file))).collect();
        let own_state = nix::folder("State directory", &WITHOUT_PLUGINS).map(PathBuf::from);
        Nix {
            program: in_path("nix"),
            version,
            configuration,
            starts_without_plugins,
            plugins,
            loaders,
            state: (own_state, state.to_owned()),
        }
    }

    /// The value of a setting, if Nix tells.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.configuration.as_ref().ok()?.values.get(name).map(String::as_str)
    }

    /// The plugins that loaders open in this Nix.
    pub fn opened_plugins(&self) -> impl Iterator<Item = PathBuf> {
        let version = self.version.as_ref().ok();
        self.loaders.iter().filter_map(move |(_, installation)| installation.plugin(version?))
    }

    /// Whether it loads the plugin.
    pub fn loads_plugin(&self) -> bool {
        self.setting(ENABLE).is_some()
    }

    /// The plugin's settings, if it loads the plugin, or what is wrong with them.
    pub fn settings(&self) -> Option<Result<Settings, SettingError>> {
        let values = &self.configuration.as_ref().ok()?.values;
        self.loads_plugin().then(|| Settings::new(values))
    }

    /// Whether the plugin is loaded and on.
    pub fn has_plugin_on(&self) -> bool {
        self.setting(ENABLE) == Some("true")
    }
}

/// The file that a command runs.
fn in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let runs = |file: &PathBuf| {
        fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    env::split_paths(&path).map(|folder| folder.join(program)).find(runs)
}

/// The files of `plugin-files` that are the plugin: by their names, or as there is no other.
fn plugins(configuration: &Configuration) -> Vec<PathBuf> {
    let files = configuration.values.get("plugin-files").map_or("", String::as_str).split_whitespace();
    let files: Vec<PathBuf> = files.flat_map(|path| in_folder(Path::new(path))).collect();
    let ours = |file: &Path| {
        let path = file.to_string_lossy().replace('_', "-");
        path.contains("negative-cache")
    };
    match files.as_slice() {
        [_] => files,
        _ => files.into_iter().filter(|file| ours(file)).collect(),
    }
}

/// A loader is in a folder of that name; a plugin is in one that has its version.
fn is_loader(file: &Path) -> bool {
    let in_loader = |file: &Path| file.parent().and_then(Path::file_name).is_some_and(|folder| folder == "loader");
    in_loader(file) || fs::canonicalize(file).is_ok_and(|file| in_loader(&file))
}

/// A file, or those in a folder (`initPlugins` loads them all).
fn in_folder(path: &Path) -> Vec<PathBuf> {
    match fs::read_dir(path) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_) => vec![path.to_owned()],
    }
}

impl StoreFacts {
    fn gather(options: &[&str], greeting: &str) -> StoreFacts {
        // The program `nix` takes it after the command only.
        let url = options.last().copied().map(|url| ["--option", "store", url]);
        let store = nix::store(url.as_ref().map_or(&[], |options| options));
        let plugin_on = nix::is_valid(options, greeting);
        StoreFacts { store, plugin_on }
    }

    /// Whether a daemon of this machine answers, or would.
    pub fn is_daemon(&self) -> bool {
        match &self.store {
            Ok(store) => store.url == "daemon" || store.url.starts_with("unix://"),
            // What a client says of a daemon that is not there.
            Err(error) => error.to_string().contains("cannot connect to socket"),
        }
    }
}

/// How long a binary cache has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks all binary caches at once that would be asked for failures.
fn caches(nix: &Nix, marker: &str) -> Vec<CacheFacts> {
    let Some(Ok(settings)) = nix.settings() else { return Vec::new() };
    if !settings.enabled || settings.trusted_public_keys.is_empty() {
        return Vec::new();
    }
    let mut urls = settings.substituters;
    if urls.is_empty() {
        let substituters = nix.setting("substituters").unwrap_or_default();
        urls = substituters.split_whitespace().map(str::to_owned).collect();
    }
    let version = nix.version.as_ref().map_or("", |nix| nix.version.as_str());
    let ask = |url: String| CacheFacts {
        has_marker: nix::plugin_asks(&url, version).and_then(|()| nix::has_path(&url, marker, PATIENCE)),
        url,
    };
    thread::scope(|scope| {
        let asked: Vec<_> = urls.into_iter().map(|url| scope.spawn(move || ask(url))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// The databases to look at, and who should be able to read each.
fn places(arguments: &DatabaseArguments, nix: &Nix) -> Vec<(Role, PathBuf, Audience)> {
    if let Some(path) = arguments.chosen() {
        // Whose it is, only its place can tell; what is closed stays so.
        let folder = path.parent().and_then(|folder| fs::metadata(folder).ok());
        let closed = folder.is_some_and(|folder| folder.mode() & 0o077 == 0);
        let personal = personal_path().as_deref() == Some(path) || home(path).is_some();
        let audience = if closed || personal { Audience::Owner } else { Audience::Everybody };
        return vec![(Role::Named, path.to_owned(), audience)];
    }
    let stores = match nix.setting("negative-cache-database") {
        Some(path) if !path.is_empty() => (Role::Chosen, PathBuf::from(path), Audience::Everybody),
        _ => (Role::Stores, default_path(&arguments.store_state()), Audience::Everybody),
    };
    let own = personal_path().map(|path| (Role::Own, path, Audience::Owner));
    own.into_iter().chain([stores]).collect()
}

/// The home of the user whose own database is at `path`, if it is there.
fn home(path: &Path) -> Option<&Path> {
    let in_home = Path::new(".local/state/nix/negative-cache/failures.sqlite");
    path.ends_with(in_home).then(|| path.ancestors().nth(in_home.components().count())).flatten()
}

impl DatabaseFacts {
    fn gather(role: Role, path: PathBuf, audience: Audience, user: u32) -> DatabaseFacts {
        let folder = path.parent().and_then(|folder| fs::symlink_metadata(folder).ok());
        let file = match fs::symlink_metadata(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let beside = ["-wal", "-shm"].map(|suffix| {
            let path = location::beside(&path, suffix);
            let found = fs::symlink_metadata(&path).ok();
            (path, found)
        });
        let mut facts = DatabaseFacts {
            role,
            owner: expected_owner(role, &path, user),
            has_own_folder: location::has_own_folder(&path),
            folder,
            target: fs::read_link(&path).ok(),
            broken: broken(&path),
            lock: None,
            condition: None,
            file,
            beside,
            audience,
            path,
        };
        let is_file = fs::metadata(&facts.path).is_ok_and(|file| file.is_file());
        if is_file && (user != 0 || facts.is_trusted()) {
            facts.lock = Lock::of(&fs::canonicalize(&facts.path).unwrap_or_else(|_| facts.path.clone()));
            // Otherwise it would wait for those seconds once more, in vain.
            if facts.lock.is_none_or(|lock| !lock.is_exclusive) {
                facts.condition = Some(examine(&facts.path));
            }
        }
        facts
    }

    /// Whether root may have anything to do with it: who can change a folder can have others' programs change other files.
    fn is_trusted(&self) -> bool {
        let folder = self.path.parent().map(fs::metadata).transpose().ok().flatten();
        let beside = self.beside.iter().filter_map(|(_, found)| found.as_ref());
        let file = fs::metadata(&self.path).ok();
        let mut all = folder.iter().chain(&file).chain(beside);
        folder.is_some() && file.is_some() && all.all(|found| location::distrust(found).is_none())
    }
}

/// To whom a database should belong: a user's to the user, a store's to whom the store belongs.
fn expected_owner(role: Role, path: &Path, user: u32) -> Option<u32> {
    let owner = |path: &Path| fs::metadata(path).ok().map(|found| found.uid());
    match role {
        Role::Own => Some(user),
        Role::Stores | Role::Chosen | Role::Named => match home(path) {
            Some(home) => owner(home),
            None if location::has_own_folder(path) => owner(path.parent()?.parent()?),
            None => None,
        },
    }
}

/// The databases that were moved away from `path`.
fn broken(path: &Path) -> Vec<(PathBuf, Metadata)> {
    let prefix = location::broken_path(path);
    let (Some(folder), Some(prefix)) = (path.parent(), prefix.file_name()) else { return Vec::new() };
    let prefix = prefix.to_string_lossy();
    let is_one = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&*prefix) && !name.ends_with("-wal") && !name.ends_with("-shm")
    };
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut broken: Vec<_> =
        entries.filter(is_one).filter_map(|path| Some((fs::symlink_metadata(&path).ok()?, path))).collect();
    broken.sort_by(|(_, a), (_, b)| a.cmp(b));
    broken.into_iter().map(|(found, path)| (path, found)).collect()
}

/// What a plugin file, and the folders above it, let others do.
#[derive(Debug)]
pub struct PluginFile {
    pub metadata: Metadata,
    /// Whether everybody can reach and read it.
    pub everybody_reads: bool,
    /// Whether others than its owner can change it or put another one in its place.
    pub others_write: bool,
}

impl PluginFile {
    /// Looks at it, through symbolic links, as Nix does.
    pub fn look(path: &Path) -> io::Result<PluginFile> {
        let real = fs::canonicalize(path)?;
        let metadata = fs::metadata(&real)?;
        let enters = |folder: &Path| fs::metadata(folder).is_ok_and(|found| found.mode() & 0o001 != 0);
        let everybody_reads = metadata.mode() & 0o004 != 0 && real.ancestors().skip(1).all(enters);
        // Where the sticky bit is set, what is there can't be replaced.
        let open = |found: Metadata| found.mode() & 0o002 != 0 && found.mode() & 0o1000 == 0;
        let folder_open = real.parent().and_then(|folder| fs::metadata(folder).ok()).is_some_and(open);
        // Many systems give each user a group of the same number.
        let group = metadata.mode() & 0o020 != 0 && metadata.gid() != 0 && metadata.gid() != metadata.uid();
        Ok(PluginFile { others_write: metadata.mode() & 0o002 != 0 || group || folder_open, everybody_reads, metadata })
    }
}

/// What the settings in the configuration have that no Nix knows, of ours.
pub fn unknown_settings(said: &str) -> Vec<String> {
    let name = |line: &str| Some(line.split_once("unknown setting '")?.1.split_once('\'')?.0.to_owned());
    let mut names: Vec<String> = said.lines().filter_map(name).filter(|name| name.starts_with(ENABLE)).collect();
    names.dedup();
    names
}
