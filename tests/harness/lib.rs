//! A Nix installation of its own for each test: store, state, logs, configuration and home in a temporary folder.
//!
//! Which Nix and which plugin come from the environment, set by `./dev test`.

pub mod caches;
pub mod comparison;
pub mod hydra;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, OnceLock};

use nix_version::{Nix, NixVersion};
use regex::Regex;
use serde_json::Value;
use tempfile::TempDir;

/// How a refusal is told from everything else that Nix says.
pub const REFUSED: &str = "is not built again: it failed";

/// What makes the following commands clients of a daemon that know nothing of the plugin.
pub const CLIENT: &str = "export NIX_REMOTE=daemon NIX_CONFIG='substituters ='";

/// What lets two unprivileged users of every Debian, `games` and `news`, do things: `as USER COMMAND…`. Their store is
/// `auto`, so that they ask the daemon because they may not write to the store; see also [`Scratch::users_ask`]. The variables
/// `WITH` and `WITHOUT` are configurations of Nix with the plugin on and without it.
pub const TWO_USERS: &str = r#"
    chmod 755 ..; cp -r $INSTALLATION ../installation; cp $COMPANION ../companion
    for user in games news; do mkdir -p ../home-$user; chown $user: ../home-$user; done
    as() {
        local user=$1; shift
        if [ "$1" = nix-build ]; then shift; set -- nix-build --no-out-link "$@"; fi
        env HOME=$PWD/../home-$user COMPANION=$PWD/../companion ${USERS_ASK:+NIX_REMOTE=$USERS_ASK} \
            setpriv --reuid $user --regid $user --clear-groups "$@"
    }
    WITHOUT='substituters ='
    WITH=$WITHOUT$'\n'"negative-cache = true"$'\n'"plugin-files = $PWD/../installation/loader/libnix_negative_cache.so"
    export NIX_CONFIG=$WITHOUT
"#;

/// What makes other machines: `machine NAME [LINE OF nix.conf]` makes one without the plugin that builds in a store of its
/// own, below `../NAME`; called again, it changes the configuration. What is in `../NAME/before` is run in front of the
/// machine's nix-daemon. `builders NAME` is the setting that has builds run there; `legacy_builders NAME` is the same by the older
/// protocol, which `nix-store --serve` speaks; `by_path NAME` leaves out the daemon.
pub const MACHINES: &str = r#"
    machine() {
        local folder=$(realpath -m ../$1)
        mkdir -p $folder/conf
        printf '%s\n' 'substituters =' 'build-users-group =' "sandbox-paths = $(seen_by_builders)" "$2" > $folder/conf/nix.conf
        printf '%s\n' '#!'$NIX_BUILD_SHELL 'unset NIX_REMOTE NIX_CONFIG' \
            "export NIX_CONF_DIR=$folder/conf NIX_STATE_DIR=$folder/nix/var NIX_LOG_DIR=$folder/nix/log" \
            "program=$(type -P nix-daemon); [ \"\$1\" != --serve ] || program=$(type -P nix-store)" \
            "exec \$(cat $folder/before 2> /dev/null) \$program \"\$@\"" > $folder/serve
        chmod +x $folder/serve
    }
    builders() {
        local folder=$(realpath -m ../$1)
        echo "ssh-ng://localhost?remote-program=$folder/serve&remote-store=local?root=$folder $SYSTEM - 1 1"
    }
    legacy_builders() { builders $1 | sed s/^ssh-ng:/ssh:/; }
    by_path() { echo "$(realpath -m ../$1) $SYSTEM - 1 1"; }
    seen_by_builders() { echo "/bin=/bin /usr=/usr /lib=/lib /lib64=/lib64 $(realpath ../runs)"; }
    SYSTEM=$(nix-instantiate --eval --expr builtins.currentSystem | tr -d '"')
"#;

/// Shell commands that set `DIRECT` to the path of the plugin that the loader opens in this Nix, and `FOLDER` to the name of the
/// plugin's folder.
pub const DIRECT: &str = r"FOLDER=$(nix --version | sed 's/.*(Determinate Nix \(.*\)).*/determinate-nix-\1/; t; s/.* /nix-/')
    DIRECT=$INSTALLATION/$FOLDER/libnix_negative_cache.so";

/// Each derivation writes a line to a file outside the store when its builder runs: that is how runs are counted.
const DERIVATIONS: &str = r#"
rec {
  runs = "@FOLDER@/runs";
  drv = name: script: attrs: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" "PATH=@PROGRAMS@; echo run >> ${runs}/${name}; ${script}" ];
  } // attrs);

  ok = name: drv name "echo done > $out" { };
  fail = name: drv name "echo it is broken; exit 3" { };
  needs = name: inputs: drv name "echo done > $out" { inherit inputs; };
  fetch = how: drv "fetched" "${how}; echo data > $out" {
    outputHash = "6667b2d1aab6a00caa5aee5af8ad9f1465e567abf1c209d15727d57b3e8f6e5f";
    outputHashAlgo = "sha256"; outputHashMode = "flat";
  };
  floating = { __contentAddressed = true; outputHashAlgo = "sha256"; outputHashMode = "recursive"; };
}
"#;

/// Derivations for sandboxes, from which nothing can be counted: `drv NAME SCRIPT ATTRIBUTES`.
const DERIVATIONS_IN_SANDBOX: &str = r#"
{
  drv = name: script: attrs: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" script ];
  } // attrs);
}
"#;

/// Whether this is a run in short: `./dev test --all` runs what says the same on every Nix in full on the first one, and sets
/// `NNC_SHORT` for the others.
pub fn short() -> bool {
    std::env::var_os("NNC_SHORT").is_some_and(|value| !value.is_empty())
}

/// Whether the test that asks is left out of a run in short, as it says the same on every Nix. Says so if it is.
pub fn left_out() -> bool {
    let short = short();
    if short {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        say_left_out(&test);
    }
    short
}

/// What the Nix under test prints as its version.
static PRINTED_VERSION: LazyLock<String> =
    LazyLock::new(|| Scratch::stock().run("nix --version").exits(0).stdout.trim().to_owned());

/// The Nix under test, with its flavour.
pub fn this_nix() -> &'static Nix {
    static THIS: LazyLock<Nix> = LazyLock::new(|| Nix::printed(&PRINTED_VERSION));
    &THIS
}

/// Says what a run in short leaves out.
pub fn say_left_out(what: &str) {
    say(&format!("Left out in short: {what}"));
}

/// Says something also from within a test that passes, whose output nobody sees otherwise.
pub fn say(text: &str) {
    // `eprintln` is captured.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Where the programs of the system are. `NNC_PATH` names their folders on a system that has them elsewhere, as NixOS does.
static PROGRAMS: LazyLock<String> =
    LazyLock::new(|| std::env::var("NNC_PATH").unwrap_or_else(|_| "/usr/bin:/bin:/usr/sbin:/sbin".to_owned()));

/// The path of bash.
static BASH: LazyLock<String> = LazyLock::new(|| {
    let found = PROGRAMS.split(':').map(|folder| format!("{folder}/bash")).find(|path| Path::new(path).exists());
    found.unwrap_or_else(|| panic!("there is no bash in {}", *PROGRAMS))
});

/// The name of the user who runs the tests.
static USER: LazyLock<String> = LazyLock::new(|| {
    let output = Command::new("id").arg("-un").output().expect("id");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
});

fn from_environment(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: run the tests with ./dev test")))
}

/// The folder that has the folder of a loader, and those of the plugins beside it.
fn installation_of(loader: &Path) -> &Path {
    loader.ancestors().nth(2).expect("a loader in an installation")
}

/// The plugin that Nix loads, by way of the loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plugin {
    /// As it is installed.
    Normal,
    /// With a core that can be made to panic.
    Faulty,
    /// None: stock Nix.
    None,
}

/// A Nix installation.
pub struct Scratch {
    /// Removed with it, unless it is somebody else's.
    folder: Option<TempDir>,
    root: PathBuf,
    config: String,
    plugin: Plugin,
    /// The store that the users of [`TWO_USERS`] name; empty if they name none.
    users_ask: &'static str,
}

impl Scratch {
    /// With the plugin loaded and `negative-cache` on.
    pub fn new() -> Scratch {
        let scratch = Scratch::without_setting();
        scratch.config("negative-cache = true")
    }

    /// The same with builders that see nothing of the machine but a shell, so that other machines can rely on their failures.
    /// Expressions see `drv NAME SCRIPT ATTRIBUTES`.
    pub fn in_sandbox() -> Scratch {
        let scratch = Scratch::new().config("sandbox = true").config("sandbox-paths = /bin/sh=/bin/bash-static");
        scratch.write("work/lib.nix", DERIVATIONS_IN_SANDBOX);
        scratch
    }

    /// With the plugin loaded, and nothing said of `negative-cache`.
    pub fn without_setting() -> Scratch {
        let folder = temporary_folder();
        let mut scratch = Scratch::at(folder.path().to_owned());
        scratch.folder = Some(folder);
        scratch
    }

    /// The same in a folder that is there and empty, and stays.
    fn at(root: PathBuf) -> Scratch {
        for name in ["etc", "home", "runs", "work"] {
            fs::create_dir(root.join(name)).expect("a folder of the test");
        }
        let scratch = Scratch { folder: None, config: String::new(), plugin: Plugin::Normal, root, users_ask: "" };
        // As root without build users and without mount namespaces: works anywhere, and builders can be counted.
        // A daemon trusts root by default. Whoever else runs the tests is trusted as well.
        scratch.write(
            "etc/nix.conf",
            &format!(
                "substituters =\nbuild-users-group =\nsandbox = false\ntrusted-users = root {}\n\
                 experimental-features = nix-command flakes ca-derivations impure-derivations\n",
                *USER
            ),
        );
        let derivations = DERIVATIONS.replace("@FOLDER@", &scratch.path("").to_string_lossy());
        scratch.write("work/lib.nix", &derivations.replace("@PROGRAMS@", &PROGRAMS));
        scratch
    }

    /// Without the plugin.
    pub fn stock() -> Scratch {
        let mut scratch = Scratch::without_setting();
        scratch.plugin = Plugin::None;
        scratch
    }

    /// Adds a line to NIX_CONFIG.
    pub fn config(mut self, line: &str) -> Scratch {
        self.config.push_str(line);
        self.config.push('\n');
        self
    }

    /// Loads the plugin whose core can be made to panic.
    pub fn faulty(mut self) -> Scratch {
        self.plugin = Plugin::Faulty;
        self
    }

    /// Has the users of [`TWO_USERS`] name this store.
    pub fn users_ask(mut self, store: &'static str) -> Scratch {
        self.users_ask = store;
        self
    }

    /// A path in the folder of the test.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Writes a file in the folder of the test.
    pub fn write(&self, relative: &str, text: &str) {
        fs::write(self.path(relative), text).expect("a file of the test");
    }

    /// Writes `default.nix`, an expression that sees what `lib.nix` defines.
    pub fn expression(&self, expression: &str) {
        self.write("work/default.nix", &format!("with import ./lib.nix;\n{expression}\n"));
    }

    /// Runs a line of shell in the work folder.
    pub fn run(&self, line: &str) -> Ran {
        self.run_with(line, &[])
    }

    /// Runs a line of shell with more variables.
    pub fn run_with(&self, line: &str, variables: &[(&str, &str)]) -> Ran {
        let plugin = match self.plugin {
            Plugin::Normal => Some(from_environment("NNC_PLUGIN")),
            Plugin::Faulty => Some(from_environment("NNC_FAULTY_PLUGIN")),
            Plugin::None => None,
        };
        let plugin_files = plugin.iter().map(|plugin| format!("plugin-files = {}\n", plugin.display()));
        let path = format!("{}:{}", from_environment("NNC_NIX_BIN").display(), *PROGRAMS);
        // No command takes long, unless it hangs, which must not keep the tests from ending.
        let output = Command::new("timeout")
            .args(["--kill-after=5", "120", &BASH, "-c", line])
            .current_dir(self.path("work"))
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.path("home"))
            .env("NIX_CONF_DIR", self.path("etc"))
            .env("NIX_STORE_DIR", self.path("store"))
            .env("NIX_STATE_DIR", self.path("var"))
            .env("NIX_LOG_DIR", self.path("log"))
            .env("NIX_LOCALSTATE_DIR", self.path("var"))
            .env("TZ", "UTC")
            // nix-shell takes its shell from nixpkgs otherwise.
            .env("NIX_BUILD_SHELL", &*BASH)
            .env("USERS_ASK", self.users_ask)
            .env("NIX_CONFIG", self.config.clone() + &plugin_files.collect::<String>())
            .env("COMPANION", from_environment("NNC_COMPANION"))
            .envs(plugin.as_deref().map(|plugin| ("INSTALLATION", installation_of(plugin))))
            .envs(plugin.as_deref().map(|plugin| ("PLUGIN", plugin)))
            .envs(self.sanitizers())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("bash");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        self.assert_no_findings();
        Ran {
            line: line.to_owned(),
            status: output.status.code().or(output.status.signal().map(|signal| 128 + signal)).unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: in_older_words(&text(output.stderr)),
        }
    }

    /// What a plugin needs that was built with sanitizers, if it was: `NNC_SANITIZERS` names their libraries. Nix itself was
    /// not, and what its garbage collector holds passes for lost.
    fn sanitizers(&self) -> Vec<(&'static str, String)> {
        let Ok(libraries) = std::env::var("NNC_SANITIZERS") else { return Vec::new() };
        let findings = format!("log_path={}", self.path("findings").display());
        vec![
            ("LD_PRELOAD", libraries),
            ("ASAN_OPTIONS", format!("detect_leaks=0:{findings}")),
            ("UBSAN_OPTIONS", format!("print_stacktrace=1:{findings}")),
        ]
    }

    /// Asserts that the sanitizers found nothing, in no process.
    fn assert_no_findings(&self) {
        let files = fs::read_dir(&self.root).into_iter().flatten().flatten();
        for file in files.filter(|file| file.file_name().to_string_lossy().starts_with("findings")) {
            let text = fs::read_to_string(file.path()).unwrap_or_default();
            // It also warns of Nix's coroutines, whose stacks it does not know.
            assert!(!text.contains("ERROR:") && !text.contains("runtime error:"), "{text}");
        }
    }

    /// How often the builder of a derivation of this name ran.
    pub fn runs(&self, name: &str) -> usize {
        fs::read_to_string(self.path("runs").join(name)).map(|runs| runs.lines().count()).unwrap_or(0)
    }

    /// The default database of this installation.
    pub fn database(&self) -> PathBuf {
        self.path("var/negative-cache/failures.sqlite")
    }

    /// Makes every attempt so many days older, as if they had passed; or younger, as if the clock had been set back.
    pub fn age(&self, days: i64) {
        let sql = format!(
            "UPDATE attempt SET time = time - {days} * 86400000; UPDATE failure SET used = used - {days} * 86400000"
        );
        self.run(&format!("sqlite3 {} '{sql}'", self.database().display())).exits(0);
    }

    /// All records, newest first, as the companion program prints them.
    pub fn records(&self) -> Vec<Value> {
        let listed = self.run("$COMPANION list --json").exits(0);
        match serde_json::from_str(&listed.stdout) {
            Ok(Value::Array(records)) => records,
            other => panic!("{other:?} of {listed:?}"),
        }
    }

    /// The names of the recorded derivations, sorted.
    pub fn recorded(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.records().iter().map(|record| record["name"].as_str().unwrap_or("?").to_owned()).collect();
        names.sort();
        names
    }

    /// Whether the Nix under test is at least this version.
    pub fn nix_is_at_least(&self, major: u32, minor: u32) -> bool {
        // The same one for all tests of a process.
        static VERSION: OnceLock<NixVersion> = OnceLock::new();
        let version = VERSION.get_or_init(|| {
            NixVersion::parse(PRINTED_VERSION.rsplit(' ').next().unwrap_or("")).expect("a version of Nix")
        });
        version.is_at_least(major, minor)
    }

    /// The system that the Nix under test builds for, such as `x86_64-linux`.
    pub fn system(&self) -> &'static str {
        static SYSTEM: OnceLock<String> = OnceLock::new();
        SYSTEM.get_or_init(|| {
            let system = self.run("nix-instantiate --eval --expr builtins.currentSystem").exits(0).stdout;
            system.trim().trim_matches('"').to_owned()
        })
    }

    /// The database of a user of [`TWO_USERS`].
    pub fn personal_database(&self, user: &str) -> PathBuf {
        self.path(&format!("home-{user}/.local/state/nix/negative-cache/failures.sqlite"))
    }

    /// Makes a program in the work folder.
    pub fn script(&self, name: &str, text: &str) {
        let path = self.path("work").join(name);
        fs::write(&path, format!("#!{}\n{text}\n", *BASH)).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Store paths are read-only, which root does not notice but others do.
        let _ = Command::new("chmod").args(["-R", "u+w"]).arg(&self.root).output();
    }
}

fn temporary_folder() -> TempDir {
    tempfile::Builder::new().prefix("nnc").tempdir().expect("a temporary folder")
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// The command.
    pub line: String,
    /// Its exit status; 128 and the signal if one ended it.
    pub status: i32,
    /// What it printed.
    pub stdout: String,
    /// What it said; where Nix since 2.29 or so has other words for the end of a build, in the older ones.
    pub stderr: String,
}

impl Ran {
    /// Asserts the exit status.
    #[track_caller]
    pub fn exits(self, status: i32) -> Ran {
        assert_eq!(self.status, status, "{self}");
        self
    }

    /// Asserts that standard error has `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Ran {
        assert!(self.stderr.contains(text), "it does not say: {text}\n{self}");
        self
    }

    /// Asserts that standard error does not have `text`.
    #[track_caller]
    pub fn does_not_say(self, text: &str) -> Ran {
        assert!(!self.stderr.contains(text), "it says: {text}\n{self}");
        self
    }

    /// Asserts how often standard error has `text`.
    #[track_caller]
    pub fn says_times(self, text: &str, times: usize) -> Ran {
        assert_eq!(self.stderr.matches(text).count(), times, "how often it says: {text}\n{self}");
        self
    }

    /// Fails unless it printed the text, among others.
    #[track_caller]
    pub fn prints_part(self, text: &str) -> Ran {
        assert!(self.stdout.contains(text), "does not print {text:?}: {self}");
        self
    }

    /// Asserts what is on standard output, but for white space around it.
    #[track_caller]
    pub fn prints(self, text: &str) -> Ran {
        assert_eq!(self.stdout.trim(), text, "{self}");
        self
    }
}

/// With the words that Nix up to 2.28 has for the end of a build.
pub fn in_older_words(text: &str) -> String {
    static WORDS: LazyLock<[(Regex, &str); 5]> = LazyLock::new(|| {
        let words = |pattern: &str| Regex::new(pattern).expect("a pattern of the test");
        [
            (words(r"Cannot build '([^']*)'\.\s+Reason: builder ([^\n]*)\."), "builder for '$1' $2"),
            (words(r"Cannot build '([^']*)'\.\s+It is "), "'$1' is "),
            (
                words(r"Cannot build '([^']*)'\.\s+Reason: (\d+) dependenc(?:y|ies) failed\."),
                "$2 dependencies of derivation '$1' failed to build",
            ),
            (words(r"\n +Output paths:(?:\n +/\S+)+"), ""),
            (words(r"Last (\d+) log lines:"), "last $1 log lines:"),
        ]
    });
    WORDS.iter().fold(text.to_owned(), |text, (newer, older)| newer.replace_all(&text, *older).into_owned())
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "$ {}\n{}{}(exit status {})", self.line, self.stderr, self.stdout, self.status)
    }
}

/// A library to preload, made in a folder of what is in `preloaded`.
pub fn to_preload(name: &str, folder: &Path) -> PathBuf {
    compiled("gcc", &format!("preloaded/{name}.c"), folder)
}

/// A plugin of the tests, made in a folder of a file in `plugins`. Those in C++ use Nix's headers, and are compiled as build.rs
/// compiles the plugin: PKG_CONFIG and CXX name the programs if they are set.
pub fn plugin_of_the_tests(file: &str, folder: &Path) -> PathBuf {
    let compiler = match file.ends_with(".c") {
        true => "gcc -Wall -Wextra -pthread",
        // The later of two standards counts. pkg-config names none for the oldest Nix.
        false => "${CXX:-g++} -std=c++17 $(${PKG_CONFIG:-pkg-config} --cflags nix-store)",
    };
    compiled(compiler, &format!("plugins/{file}"), folder)
}

/// A library, made in a folder of a file beside this one. The compiler is named by words of shell.
fn compiled(compiler: &str, file: &str, folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness").join(file);
    let library = folder.join(source.file_name().unwrap_or_default()).with_extension("so");
    let headers = from_environment("NNC_NIX_BIN").with_file_name("lib/pkgconfig");
    let headers = std::env::var_os("PKG_CONFIG_PATH").unwrap_or(headers.into());
    let compiled = Command::new("bash")
        .args(["-c", &format!("{compiler} -shared -fPIC -o \"$@\""), "bash"])
        .args([&library, &source])
        .env("PKG_CONFIG_PATH", headers)
        .output()
        .expect("bash");
    assert!(compiled.status.success(), "{file}: {}", String::from_utf8_lossy(&compiled.stderr));
    library
}

/// Whether there is anything at `path`.
pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Shell that waits until a daemon listens on a socket in the folder of the test. The socket is there, but refuses connections,
/// for a moment before that. The kernel marks sockets that listen with the flag `__SO_ACCEPTCON`.
pub const UNTIL_A_DAEMON_LISTENS: &str = r#"
    listens() { grep -q " 00010000 .* ${PWD%/*}/\(work/../\)*socket$" /proc/net/unix; }
    for i in $(seq 200); do listens && break; sleep 0.05; done; listens || echo 'no daemon listens' >&2"#;

/// Starts a daemon of the installation on a socket of its own, runs a line of shell, and stops it.
pub fn with_daemon(nix: &Scratch, line: &str) -> Ran {
    nix.run(&beside_a_daemon(line))
}

/// The same with [`TWO_USERS`].
pub fn among_users(nix: &Scratch, line: &str) -> Ran {
    nix.run(&beside_a_daemon(&format!("{TWO_USERS}\n{line}")))
}

/// The same beside a daemon that does not load the plugin.
pub fn among_users_of_a_stock_daemon(nix: &Scratch, line: &str) -> Ran {
    nix.run(&beside_a_stock_daemon(&format!("{TWO_USERS}\n{line}")))
}

/// The same as distributions set Nix up: the daemon has build users and makes sandboxes, with the plugin or as `stock` has
/// it. The build users are in a copy of the system's files that only the processes of the test see.
pub fn as_a_distribution(nix: &Scratch, stock: bool, line: &str) -> Ran {
    const SET_UP: &str = r#"
        for file in passwd group; do cp /etc/$file ../$file; done
        for i in 1 2 3 4; do echo "nncbld$i:x:$((31000 + i)):31000::/var/empty:/usr/sbin/nologin" >> ../passwd; done
        echo 'nncbld:x:31000:nncbld1,nncbld2,nncbld3,nncbld4' >> ../group
        for file in passwd group; do mount --bind ../$file /etc/$file; done
        chmod 1777 ../runs; mkdir -p -m 1775 ../store; chgrp 31000 ../store
        grep -v '^sandbox\|^build-users' ../etc/nix.conf > ../nix.conf
        printf '%s\n' 'sandbox = true' 'build-users-group = nncbld' \
            "sandbox-paths = /bin=/bin /usr=/usr /lib=/lib /lib64=/lib64 $(realpath ../runs)" >> ../nix.conf
        mv ../nix.conf ../etc/nix.conf
    "#;
    // Since 2.30, no folder above that of a build may be one that everybody may write to, as /tmp is.
    const OUTSIDE_TMP: &str = r#"
        mkdir -m 755 ../builds; mount --bind ../builds /opt; echo 'build-dir = /opt' >> ../etc/nix.conf
    "#;
    let outside = if nix.nix_is_at_least(2, 30) { OUTSIDE_TMP } else { "" };
    let line = format!("{TWO_USERS}\n{line}");
    let line = if stock { beside_a_stock_daemon(&line) } else { beside_a_daemon(&line) };
    nix.script("distribution", &format!("{SET_UP}{outside}\n{line}"));
    nix.run("unshare -m ./distribution")
}

/// A line of shell that is run beside a daemon which does not load the plugin.
pub fn beside_a_stock_daemon(line: &str) -> String {
    let daemon = beside_a_daemon(&format!("export NIX_CONFIG=$OWN\n{line}"));
    format!("OWN=$NIX_CONFIG NIX_CONFIG='substituters ='; {daemon}")
}

/// A line of shell that does so.
pub fn beside_a_daemon(line: &str) -> String {
    // A daemon that finds no state directory, but a socket, takes it for that of another daemon. Clients since 2.35 open the
    // folder of the store. Told to end, the daemon of 2.35 now and then aborts, which bash would say.
    format!(
        "export NIX_DAEMON_SOCKET_PATH=$PWD/../socket; mkdir -p ../var ../store; rm -f ../socket; \
         nix-daemon > ../daemon-log 2>&1 & daemon=$!; trap 'kill $daemon; wait $daemon 2> /dev/null' EXIT; \
         {UNTIL_A_DAEMON_LISTENS}; {line}"
    )
}
