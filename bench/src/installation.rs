//! Nix installations for the benchmarks, which the cache folder keeps from one run to the next.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::{Result, RunArguments};

const CLOSURES: &str = include_str!("../closure.nix");

/// Which plugin a process loads, and whether it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// Stock Nix.
    Absent,
    /// Loaded, and `negative-cache` off.
    Off,
    /// Loaded and on.
    On,
}

/// A store with its state, and several configurations that share it.
pub struct Installation {
    root: PathBuf,
    nix: PathBuf,
    plugin: PathBuf,
}

impl Installation {
    /// The installation of this name. It is made anew if `closure.nix` has changed since.
    pub fn named(arguments: &RunArguments, name: &str) -> Result<Installation> {
        let root = arguments.cache.join(name);
        let installation = Installation { root, nix: arguments.nix.clone(), plugin: arguments.plugin.clone() };
        let made_with = installation.path("closure.nix");
        if fs::read_to_string(&made_with).ok().as_deref() != Some(CLOSURES) {
            let _ = fs::remove_dir_all(&installation.root);
            fs::create_dir_all(installation.path("home"))?;
            fs::write(&made_with, CLOSURES)?;
        }
        Ok(installation)
    }

    /// A path in the installation's folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The database of failures that is used if no setting names one.
    pub fn database(&self) -> PathBuf {
        self.path("var/negative-cache/failures.sqlite")
    }

    /// Gives a command the environment of this installation.
    pub fn environment(&self, command: &mut Command) {
        command
            .current_dir(&self.root)
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.nix.display()))
            .env("HOME", self.path("home"))
            .env("NIX_STORE_DIR", self.path("store"))
            .env("NIX_STATE_DIR", self.path("var"))
            .env("NIX_LOG_DIR", self.path("log"))
            .env("NIX_LOCALSTATE_DIR", self.path("var"))
            .env("NIX_DAEMON_SOCKET_PATH", self.path("socket"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .stdin(Stdio::null());
    }

    /// The beginning of a command line. The command after it runs with the plugin in this state and with more settings.
    pub fn with(&self, plugin: Plugin, settings: &[&str]) -> Result<String> {
        let mut text =
            "substituters =\nbuild-users-group =\nsandbox = false\nexperimental-features = nix-command\n".to_owned();
        if plugin != Plugin::Absent {
            text += &format!("plugin-files = {}\n", self.plugin.display());
        }
        if plugin == Plugin::On {
            text += "negative-cache = true\n";
        }
        for setting in settings {
            text += &format!("{setting}\n");
        }
        // Each configuration has its own folder, so that both sides of a comparison can run at any time.
        let name = text.bytes().fold(0u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let folder = self.path(&format!("etc-{name:x}"));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("nix.conf"), text)?;
        Ok(format!("/usr/bin/env {}", shell_words::quote(&format!("NIX_CONF_DIR={}", folder.display()))))
    }

    /// The output of a command, which must succeed.
    pub fn output(&self, line: &str) -> Result<String> {
        let mut command = Command::new("/bin/sh");
        self.environment(&mut command);
        let output = command.args(["-c", line]).output()?;
        if !output.status.success() {
            return Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// The path of the derivation of an expression that uses the names of `closure.nix`.
    pub fn instantiate(&self, expression: &str) -> Result<String> {
        // Thousands of derivations take a while to evaluate, so each expression is evaluated only once.
        let known = self.path("instantiated");
        let lines = fs::read_to_string(&known).unwrap_or_default();
        if let Some(path) = lines.lines().find_map(|line| line.strip_suffix(expression)) {
            return Ok(path.trim().to_owned());
        }
        let stock = self.with(Plugin::Absent, &[])?;
        let whole = format!("with import {}; {expression}", self.path("closure.nix").display());
        let path = self.output(&format!("{stock} nix-instantiate --expr {}", shell_words::quote(&whole)))?;
        fs::write(&known, format!("{lines}{path} {expression}\n"))?;
        Ok(path)
    }

    /// The path of the output of a derivation, built or not.
    pub fn output_of(&self, derivation: &str) -> Result<String> {
        let stock = self.with(Plugin::Absent, &[])?;
        self.output(&format!("{stock} nix-store --query --outputs {derivation}"))
    }

    /// Keeps the state of the store for [`reset`], unless a state is kept already.
    pub fn keep_state(&self) -> Result<()> {
        if self.path("kept.sqlite").exists() {
            return Ok(());
        }
        let database = self.path("var/db/db.sqlite");
        Connection::open(&database)?.query_row("PRAGMA wal_checkpoint(truncate)", [], |_| Ok(()))?;
        fs::copy(database, self.path("kept.sqlite"))?;
        Ok(())
    }

    /// Keeps the state of the store for [`reset`], in place of the state that is kept already.
    pub fn keep_state_anew(&self) -> Result<()> {
        let _ = fs::remove_file(self.path("kept.sqlite"));
        self.keep_state()
    }

    /// Restores the state of the store that is kept, if one is.
    pub fn restore_state(&self) -> Result<()> {
        if self.path("kept.sqlite").exists() { reset(&self.root) } else { Ok(()) }
    }

    /// A command that restores the kept state of the store.
    pub fn reset_command(&self) -> Result<String> {
        let bench = std::env::current_exe()?;
        Ok(format!("{} side reset {}", bench.display(), self.root.display()))
    }
}

/// Restores the kept state of the store in `root`, and removes all that is not valid then.
pub fn reset(root: &Path) -> Result<()> {
    let database = root.join("var/db/db.sqlite");
    alone(&database)?;
    // A rename replaces the database at once, so that no process finds half of it.
    let copy = database.with_extension("copy");
    fs::copy(root.join("kept.sqlite"), &copy)?;
    fs::rename(copy, &database)?;
    let kept: HashSet<PathBuf> = Connection::open(&database)?
        .prepare("SELECT path FROM ValidPaths")?
        .query_map([], |row| row.get::<_, String>(0).map(PathBuf::from))?
        .collect::<rusqlite::Result<_>>()?;
    for entry in fs::read_dir(root.join("store"))? {
        let path = entry?.path();
        if kept.contains(&path) || path.file_name() == Some(".links".as_ref()) {
            continue;
        }
        if path.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
    }
    let _ = fs::remove_dir_all(root.join("var/negative-cache"));
    Ok(())
}

/// Waits until no process has the database open, and removes its log. A daemon's process has the database open for a while
/// after its client is gone.
fn alone(database: &Path) -> Result<()> {
    let connection = Connection::open(database)?;
    let start = Instant::now();
    while let Err(error) = connection.pragma_update(None, "journal_mode", "delete") {
        if start.elapsed() > Duration::from_secs(10) {
            return Err(format!("'{}' stays in use: {error}", database.display()).into());
        }
        sleep(Duration::from_millis(2));
    }
    Ok(())
}
