//! What only Nix knows: the settings in force, and what it would build. Nix is asked through its programs, which speak
//! for the version, the configuration and the plugins that the user has.

use std::array;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::os::unix::process::CommandExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anstream::adapter::strip_str;
use jiff::Timestamp;
use nix_negative_cache_core::belief::{Attempt, Belief};
use nix_negative_cache_core::channel::Message;
use nix_negative_cache_core::environment::{Comparison, Environment};
use nix_negative_cache_core::machine;
use nix_negative_cache_core::record::FailureSummary;
use nix_negative_cache_core::settings::{DATABASE, Settings};
use nix_version::{Nix, NixVersion};

use crate::args::SettingsArguments;
use crate::databases::{Builder, SeenRecord};
use crate::streams::say;

/// A program of Nix that failed, or could not be run.
#[derive(Debug, Default, thiserror::Error)]
#[error("{0}")]
pub struct NixError(String);

impl NixError {
    fn not_run(program: &str, error: &io::Error) -> NixError {
        NixError(format!("cannot run '{program}': {error}; is Nix in PATH?"))
    }

    /// Whether Nix has no log.
    pub fn is_missing_log(&self) -> bool {
        self.0.contains("is not available") || self.is_unknown_path()
    }

    /// Whether Nix does not know a path.
    pub fn is_unknown_path(&self) -> bool {
        let said = &self.0;
        said.contains("is not in the store")
            || said.contains("is not in the Nix store")
            || said.contains("is not valid")
            || (said.contains("getting status of '") && said.contains("No such file or directory"))
    }

    /// What to tell who runs a command that needs Nix: which right this user lacks if that is why it failed.
    pub fn to_user(&self) -> String {
        let last = self.0.lines().rev().find_map(|line| line.split_once("error: "));
        let Some((_, error)) = last else { return self.0.clone() };
        let path = error.split('\'').nth(1).unwrap_or_default();
        let is_denied = error.contains("Permission denied")
            || error.contains("Operation not permitted")
            || error.contains("readonly database")
            || error.contains("Read-only file system");
        if error.starts_with("cannot connect to socket") && !is_denied {
            format!("nix-daemon does not answer at '{path}'; start it, as with  systemctl start nix-daemon  ({error})")
        } else if error.starts_with("cannot connect to socket") {
            format!("this user has no right to write to '{path}', the socket of nix-daemon; ask who runs it ({error})")
        } else if is_denied {
            format!(
                "this user has no right to write to '{path}', which Nix does when it opens the store; run this as the owner \
                 of the store, or have nix-daemon do it:  export NIX_REMOTE=daemon  ({error})"
            )
        } else {
            self.0.clone()
        }
    }
}

/// Standard output and standard error of a command that succeeds.
///
/// # Errors
///
/// If the command can't be run or fails.
pub fn run(
    program: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<(String, String), NixError> {
    let output = Command::new(program).args(arguments).output().map_err(|error| NixError::not_run(program, &error))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), strip_str(&text(&output.stderr)).to_string());
    if output.status.success() {
        Ok((out, error))
    } else {
        Err(NixError(format!("'{program}' failed: {}", error.trim())))
    }
}

/// Standard output of a command that evaluates. What Nix says meanwhile is for the user: it may download, and build what the
/// expression is derived from.
fn run_evaluation(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String, NixError> {
    let output = Command::new(program)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| NixError::not_run(program, &error))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(NixError(format!("'{program}' failed ({}); its own message is above", output.status)))
    }
}

/// What decides whether a record is believed besides the record itself: the settings in force, the user, and where a
/// build would happen.
#[derive(Debug)]
pub struct BeliefContext {
    /// The plugin's settings.
    pub settings: Settings,
    /// Who asks.
    user: u32,
    /// Where builds would happen; not known without Nix.
    environments: Option<Environments>,
    /// Whether the user tries out other settings than those in force.
    tries_out: bool,
}

/// Where a build would happen here, and where one by the daemon.
#[derive(Debug)]
pub struct Environments {
    values: BTreeMap<String, String>,
    version: String,
    state_dir: PathBuf,
    here: OnceCell<Comparison>,
    daemons: OnceCell<Comparison>,
}

impl Environments {
    /// Asks Nix.
    ///
    /// # Errors
    ///
    /// If Nix can't be run or fails.
    pub fn ask(state_dir: &Path) -> Result<Environments, NixError> {
        // At once, as most of the time goes into starting Nix.
        let (configuration, version) = thread::scope(|scope| {
            let version = scope.spawn(|| version(&[]));
            (configuration(&[]), version.join())
        });
        let Configuration { values, .. } = configuration?;
        let version = version.unwrap_or_else(|panic| resume_unwind(panic))?;
        let state_dir = state_dir.to_owned();
        Ok(Environments { values, version, state_dir, here: OnceCell::new(), daemons: OnceCell::new() })
    }

    /// That of the builds that a database is about.
    pub fn of(&self, builder: Builder) -> &Comparison {
        let environment = |version: &str| {
            let build_dir = machine::build_dir(&self.values, &self.state_dir, version);
            Environment::new(&self.values, machine::factors(&self.values, &build_dir, version))
        };
        match builder {
            Builder::Here => self.here.get_or_init(|| Comparison::with(&environment(&self.version))),
            Builder::Daemon => self.daemons.get_or_init(|| {
                let version = store(&[]).ok().and_then(|store| store.version);
                // As far as its users can see.
                Comparison::with(&environment(version.as_ref().unwrap_or(&self.version)).as_clients_see())
            }),
        }
    }
}

impl BeliefContext {
    /// Asks Nix, and says so on standard error if it does not answer.
    pub fn ask(state_dir: &Path, arguments: &SettingsArguments) -> BeliefContext {
        let mut context = match asked(state_dir) {
            Ok(context) => context,
            Err(error) => {
                say(format_args!("nix-negative-cache: the default settings are assumed: {error}"));
                let settings = Settings { enabled: true, ..Settings::default() };
                BeliefContext { settings, user: machine::user(), environments: None, tries_out: false }
            }
        };
        context.tries_out = arguments.try_out();
        let settings = &mut context.settings;
        if let Some(ttl) = arguments.ttl {
            settings.ttl = ttl.0;
        }
        if let Some(max_ttl) = arguments.max_ttl {
            settings.max_ttl = max_ttl.0;
        }
        if let Some(min_failures) = arguments.min_failures {
            settings.min_failures = min_failures;
        }
        context
    }

    /// For which of these derivations the Nix that builds answers each question with yes. `None` if it does not answer, or if
    /// other settings than its own are tried out.
    pub fn ask_builder<'a, const N: usize>(
        &self,
        derivations: &[&'a str],
        questions: [Question; N],
    ) -> Option<[BTreeSet<&'a str>; N]> {
        if self.tries_out || derivations.is_empty() {
            return None;
        }
        match ask(derivations, questions) {
            Ok(answers) => answers,
            Err(error) => {
                let why = error.to_user();
                say(format_args!("nix-negative-cache: it is not known what the Nix that builds believes: {why}"));
                None
            }
        }
    }

    /// Whether the Nix in PATH has loaded the plugin.
    pub fn loads_plugin(&self) -> bool {
        self.environments.is_some()
    }

    /// What a record says of a new attempt.
    pub fn belief<R: AsRef<FailureSummary>>(
        &self,
        SeenRecord { record, by, .. }: &SeenRecord<R>,
        now: Timestamp,
    ) -> Belief {
        let record = record.as_ref();
        // Where nobody knows what has changed, nothing has.
        let last = |attempts: &[Attempt]| {
            attempts.iter().find_map(|attempt| Some(attempt.failure.as_ref()?.environment.clone())).unwrap_or_default()
        };
        let assumed;
        let here = match &self.environments {
            Some(environments) => environments.of(*by),
            None => {
                assumed = Comparison::with(&last(&record.history));
                &assumed
            }
        };
        record.belief(self.user, here, &self.settings, now)
    }
}

fn asked(state_dir: &Path) -> Result<BeliefContext, NixError> {
    let environments = Environments::ask(state_dir)?;
    if !environments.values.contains_key(ENABLE) {
        return Err(NixError("this Nix has not loaded the plugin; see 'plugin-files' in nix.conf".to_owned()));
    }
    Ok(BeliefContext {
        settings: Settings::new(&environments.values).map_err(|error| NixError(error.to_string()))?,
        user: machine::user(),
        environments: Some(environments),
        tries_out: false,
    })
}

/// A setting that only a Nix with the plugin knows. It switches the plugin on.
pub const ENABLE: &str = "negative-cache";

/// Runs the program `nix` with some of its options before the command.
fn nix(options: &[&str], command: &[&str]) -> Result<(String, String), NixError> {
    run("nix", [options, &["--extra-experimental-features", "nix-command"], command].concat())
}

/// The version of the Nix in PATH.
///
/// # Errors
///
/// If Nix can't be run or fails.
pub fn version(options: &[&str]) -> Result<String, NixError> {
    Ok(printed_version(options)?.split_whitespace().last().unwrap_or("").to_owned())
}

/// The Nix in PATH, as plugins tell one from another.
///
/// # Errors
///
/// If Nix can't be run or fails.
pub fn in_path(options: &[&str]) -> Result<Nix, NixError> {
    printed_version(options).map(|text| Nix::printed(&text))
}

/// What Nix prints about its version.
fn printed_version(options: &[&str]) -> Result<String, NixError> {
    nix(options, &["--version"]).map(|(out, _)| out)
}

/// The plugin's settings in force, and the file of the database if one of them names it.
///
/// # Errors
///
/// If Nix can't be run or fails, or has no plugin.
pub fn settings_in_force() -> Result<(Settings, Option<PathBuf>), NixError> {
    let Configuration { values, .. } = configuration(&[])?;
    let settings = Settings::new(&values).map_err(|error| NixError(error.to_string()))?;
    let database = values.get(DATABASE).filter(|path| !path.is_empty()).map(PathBuf::from);
    Ok((settings, database))
}

/// Whether a daemon builds that has the plugin, which decides by a database of its own. `folder` is that of the store.
pub fn daemon_decides(folder: &str) -> bool {
    let is_daemon = || store(&[]).is_ok_and(|store| store.url == "daemon" || store.url.starts_with("unix:"));
    is_daemon() && is_valid(&[], &format!("{folder}/{}", Message::Answers.to_base_name())).unwrap_or(false)
}

/// The settings in force.
#[derive(Debug)]
pub struct Configuration {
    /// By their names.
    pub values: BTreeMap<String, String>,
    /// What Nix warned of.
    pub said: String,
}

/// Asks the Nix in PATH for the settings in force with these options.
///
/// # Errors
///
/// If Nix can't be run or fails.
pub fn configuration(options: &[&str]) -> Result<Configuration, NixError> {
    // Before 2.20 the command had another name.
    let (out, said) = nix(options, &["config", "show"]).or_else(|_| nix(options, &["show-config"]))?;
    Ok(Configuration { values: settings(&out), said })
}

/// A store that answers.
#[derive(Debug)]
pub struct Store {
    /// As Nix calls it.
    pub url: String,
    /// The version of the Nix that serves it, if it tells.
    pub version: Option<String>,
}

/// Asks the store that Nix uses with these options.
///
/// # Errors
///
/// If Nix can't be run or fails.
pub fn store(options: &[&str]) -> Result<Store, NixError> {
    // Before 2.16 it was only called so.
    let (out, said) = nix(options, &["store", "ping"])?;
    let said = out + &said;
    let line = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    Ok(Store { url: line("Store URL:").unwrap_or_default(), version: line("Version:") })
}

/// Whether the plugin for this version of Nix can ask such a store for failures.
///
/// # Errors
///
/// If it can't.
pub fn plugin_asks(url: &str, version: &str) -> Result<(), NixError> {
    // Nix has spoken to S3 as to other binary caches since 2.33. Until then, Nix may know the kind, and the plugin does not.
    let is_old = NixVersion::parse(version).is_some_and(|version| !version.is_at_least(2, 33));
    if url.starts_with("s3://") && is_old {
        return Err(NixError("stores of this kind can't be asked".to_owned()));
    }
    Ok(())
}

/// Asks a store that may be far away whether it has a path, and waits no longer than `limit`. What Nix remembers of its
/// last answers does not count.
///
/// # Errors
///
/// If the store can't be reached in time.
pub fn has_path(url: &str, path: &str, limit: Duration) -> Result<bool, NixError> {
    let fresh = ["narinfo-cache-negative-ttl", "narinfo-cache-positive-ttl"];
    let fresh = fresh.into_iter().flat_map(|name| ["--option", name, "0"]);
    let arguments = ["path-info", "--store", url, path];
    let once = ["--option", "download-attempts", "1", "--option", "substituters", ""];
    let failed = |error: io::Error| NixError::not_run("nix", &error);
    let mut process = Command::new("nix")
        .args(["--extra-experimental-features", "nix-command"])
        .args(arguments)
        .args(once)
        .args(fresh)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let end = Instant::now() + limit;
    let status = loop {
        if let Some(status) = process.try_wait().map_err(failed)? {
            break status;
        }
        if Instant::now() >= end {
            let _ = process.kill();
            let _ = process.wait();
            return Err(NixError(format!("it did not answer within {} seconds", limit.as_secs())));
        }
        thread::sleep(Duration::from_millis(10));
    };
    let mut said = String::new();
    if let Some(mut stream) = process.stderr.take() {
        // What a process says that has ended is in the pipe, unless something that it started still writes.
        let _ = stream.read_to_string(&mut said);
    }
    match NixError(said) {
        _ if status.success() => Ok(true),
        error if error.is_unknown_path() => Ok(false),
        error => Err(error),
    }
}

/// Asks where `options` lead whether a path is valid. With the path of a message, that is how a plugin there hears it, see
/// [`nix_negative_cache_core::channel`]; it calls valid the greeting, and what it answers with yes.
///
/// # Errors
///
/// If Nix can't be run or fails.
pub fn is_valid(options: &[&str], path: &str) -> Result<bool, NixError> {
    match run("nix-store", [options, &["--check-validity", path]].concat()) {
        Err(error) if error.0.contains("is not valid") => Ok(false),
        other => other.map(|_| true),
    }
}

/// Runs `nix` with the terminal of this process, so that people see what it does. With the plugin, if it is loaded, switched
/// off.
///
/// # Errors
///
/// Why it can't be run, or how it failed.
pub fn run_in_sight<'a>(loads_plugin: bool, arguments: impl IntoIterator<Item = &'a str>) -> Result<(), NixError> {
    // Without the plugin, Nix would complain of the setting.
    let off: &[&str] = if loads_plugin { &["--option", ENABLE, "false"] } else { &[] };
    let status = Command::new("nix")
        .args(off)
        .args(["--extra-experimental-features", "nix-command"])
        .args(arguments)
        .stdin(Stdio::inherit())
        // What this process prints may be read by a program.
        .stdout(io::stderr())
        .status()
        .map_err(|error| NixError::not_run("nix", &error))?;
    if status.success() { Ok(()) } else { Err(NixError(format!("'nix' failed ({status}); its own message is above"))) }
}

/// How many paths of messages a command line gets.
const MESSAGES_AT_ONCE: usize = 500;

/// A question about a derivation, as a message; see [`Message::is_known`] and [`Message::is_refused`].
pub type Question = fn(&str) -> Option<Message>;

/// Asks the Nix that would build `derivations` some questions about each of them. With a daemon, this is the daemon, whose
/// settings, version and environment its clients do not see. Returns, for each question, those for which the answer is yes.
/// `None` if this Nix has no plugin that answers, or if the plugin is off.
///
/// # Errors
///
/// If Nix can't be run or fails.
pub fn ask<'a, const N: usize>(
    derivations: &[&'a str],
    questions: [Question; N],
) -> Result<Option<[BTreeSet<&'a str>; N]>, NixError> {
    let mut answers: Option<[BTreeSet<&str>; N]> = None;
    let is_answered = put(&[], derivations, &Message::Answers, questions, |yes, _| {
        let answers = answers.get_or_insert_with(|| array::from_fn(|_| BTreeSet::new()));
        answers.iter_mut().zip(yes).for_each(|(all, yes)| all.extend(yes));
    })?;
    Ok(answers.filter(|_| is_answered))
}

/// Puts questions about derivations, after a greeting. `take` gets, for each question, the derivations for which the answer is
/// yes, and what Nix said meanwhile. Returns whether the greeting is answered.
fn put<'a, const N: usize>(
    options: &[&str],
    derivations: &[&'a str],
    greeting: &Message,
    questions: [Question; N],
    mut take: impl FnMut([Vec<&'a str>; N], String),
) -> Result<bool, NixError> {
    for (folder, derivations) in by_folder(derivations) {
        let path = |message: &Message| format!("{folder}/{}", message.to_base_name());
        let greeting = path(greeting);
        for some in derivations.chunks(MESSAGES_AT_ONCE / N) {
            let asked = questions.map(|question| {
                let messages = some.iter().map(|derivation| Some((*derivation, path(&question(derivation)?))));
                messages.flatten().collect::<Vec<_>>()
            });
            let messages = asked.iter().flatten().map(|(_, path)| path.as_str());
            let arguments = options.iter().copied().chain(["--check-validity", "--print-invalid", &greeting]);
            let (out, said) = match run("nix-store", arguments.chain(messages)) {
                // It is a record of another store directory.
                Err(error) if error.0.contains("is not in the Nix store") => continue,
                other => other?,
            };
            let no: BTreeSet<&str> = out.lines().map(str::trim).collect();
            if no.contains(greeting.as_str()) {
                return Ok(false);
            }
            let is_yes = |path: &String| !no.contains(path.as_str());
            let yes = asked.each_ref().map(|asked| {
                asked.iter().filter(|(_, path)| is_yes(path)).map(|(derivation, _)| *derivation).collect()
            });
            take(yes, said);
        }
    }
    Ok(true)
}

/// What binary caches said of derivations, as the Nix that builds has asked them.
#[derive(Debug, Default)]
pub struct Fetched<'a> {
    /// The derivations that are known to fail elsewhere, and believed to.
    pub known: BTreeSet<&'a str>,
    /// What the plugin said of the caches, in lines.
    pub said: Vec<String>,
}

/// Has the Nix that would build derivations ask its binary caches about them. `None` if it has no plugin that does, or if the
/// plugin is off.
///
/// # Errors
///
/// If Nix can't be run or fails.
pub fn fetch<'a>(derivations: &[&'a str]) -> Result<Option<Fetched<'a>>, NixError> {
    let mut fetched = Fetched::default();
    // What is remembered not to be there may be there now.
    let options = ["-v", "--option", "narinfo-cache-negative-ttl", "0"];
    let is_answered = put(&options, derivations, &Message::Fetches, [Message::fetch], |[known], said| {
        fetched.known.extend(known);
        fetched.said.extend(said_by_plugin(&said));
    })?;
    Ok(is_answered.then_some(fetched))
}

/// The lines that begin with the plugin's name, without it and without colours.
fn said_by_plugin(said: &str) -> Vec<String> {
    let lines = said.lines().map(|line| strip_str(line).to_string());
    lines.filter_map(|line| Some(line.trim().strip_prefix("negative cache: ")?.to_owned())).collect()
}

/// Derivations by the folders that they are in.
fn by_folder<'a>(derivations: &[&'a str]) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for derivation in derivations {
        folders.entry(derivation.rsplit_once('/').map_or("", |(folder, _)| folder)).or_default().push(derivation);
    }
    folders
}

/// The derivations of flake references, which Nix evaluates if the user's configuration lets it.
///
/// # Errors
///
/// If Nix can't be run or fails.
pub fn derivations_of_flakes(references: &[&str]) -> Result<Vec<String>, NixError> {
    let options = ["--extra-experimental-features", "nix-command", "path-info", "--derivation", "--"];
    let out = run_evaluation("nix", options.iter().chain(references))?;
    Ok(out.lines().map(|line| line.trim().to_owned()).collect())
}

/// The derivations of attributes of a file, or of the whole file if there are none.
///
/// # Errors
///
/// If Nix can't be run or fails.
pub fn instantiate(file: &str, attributes: &[&str]) -> Result<Vec<String>, NixError> {
    if file == "-" {
        return Err(NixError("'-' is no file: write the expression to one, and name it".to_owned()));
    }
    // Not an option of Nix.
    let file = if file.starts_with('-') { Cow::Owned(format!("./{file}")) } else { Cow::Borrowed(file) };
    let attributes = attributes.iter().flat_map(|attribute| ["--attr", attribute]);
    // Nothing needs the derivation for longer than this program runs.
    let out = run_evaluation("nix-instantiate", ["--no-gc-warning", &*file].into_iter().chain(attributes))?;
    // Another output than the first one is named after the path.
    let path = |line: &str| line.trim().split('!').next().unwrap_or_default().to_owned();
    Ok(out.lines().map(path).collect())
}

/// Reads Nix's log of a derivation or output, piece by piece, until `take` breaks off. If a pager may have the terminal, the
/// process of Nix is none that an interrupt from it ends. Returns whether anything was read.
///
/// # Errors
///
/// If the log can't be written. If Nix can't be run or fails, the error is in the result.
pub fn read_log(
    path: &str,
    beside_pager: bool,
    mut take: impl FnMut(&mut dyn BufRead) -> io::Result<ControlFlow<()>>,
) -> io::Result<(bool, Result<(), NixError>)> {
    let program = "nix-store";
    let mut command = Command::new(program);
    command.args(["--read-log", path]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if beside_pager {
        command.process_group(0);
    }
    let mut process = match command.spawn() {
        Ok(process) => process,
        Err(error) => return Ok((false, Err(NixError::not_run(program, &error)))),
    };
    let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
    let (copied, said): (io::Result<(bool, io::Result<bool>)>, String) = thread::scope(|scope| {
        let said = scope.spawn(|| {
            let mut said = Vec::new();
            // What is missing of a message is missing.
            let _ = stderr.map(|mut stderr| stderr.read_to_end(&mut said));
            String::from_utf8_lossy(&said).trim().to_owned()
        });
        // Closed before the wait for what it says, as the process goes on writing otherwise.
        let copied = stdout.map_or(Ok((false, Ok(true))), |stdout| {
            let (mut stdout, mut any) = (BufReader::new(stdout), false);
            let is_whole = loop {
                match stdout.fill_buf() {
                    Ok([]) => break Ok(true),
                    Ok(_) => any = true,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => break Err(error),
                }
                if take(&mut stdout)?.is_break() {
                    break Ok(false);
                }
            };
            Ok((any, is_whole))
        });
        (copied, said.join().unwrap_or_default())
    });
    let status = process.wait();
    let (any, is_whole) = copied?;
    let result = match (is_whole, status) {
        (Ok(false), _) => Ok(()),
        (Ok(true), Ok(status)) if status.success() => Ok(()),
        (Ok(true), Ok(_)) => Err(NixError(format!("'{program}' failed: {said}"))),
        (Err(error), _) | (_, Err(error)) => Err(NixError(format!("what '{program}' prints can't be read: {error}"))),
    };
    Ok((any, result))
}

/// The derivation that made an output that Nix has.
pub fn deriver(path: &str) -> Option<String> {
    let (out, _) = run("nix-store", ["--query", "--deriver", path]).ok()?;
    Some(out.trim().to_owned()).filter(|path| path.ends_with(".drv"))
}

/// What `nix-store` says of its folders, such as "State directory".
pub fn folder(name: &str, options: &[&str]) -> Option<String> {
    let (out, _) = run("nix-store", [options, &["-v", "--version"]].concat()).ok()?;
    out.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(|value| unquoted(value.trim()))
}

/// A path as Nix 2.34 prints some: in quotes, with a backslash before each quote and backslash of its own (`std::quoted`).
fn unquoted(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else { return text.to_owned() };
    let mut escaped = false;
    inner
        .chars()
        .filter(|c| {
            escaped = *c == '\\' && !escaped;
            !escaped
        })
        .collect()
}

/// Reads lines such as `cores = 4`; a line that does not begin so goes on with the value of the line before it.
fn settings(text: &str) -> BTreeMap<String, String> {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let mut settings: BTreeMap<String, String> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines() {
        match line.split_once(" =") {
            Some((name, value)) if is_name(name) => {
                settings.insert(name.to_owned(), value.strip_prefix(' ').unwrap_or(value).to_owned());
                last = name.to_owned();
            }
            _ => {
                if let Some(value) = settings.get_mut(&last) {
                    value.push('\n');
                    value.push_str(line);
                }
            }
        }
    }
    settings
}

/// The derivations that Nix would build for these.
///
/// # Errors
///
/// If Nix can't be run or fails.
pub fn would_build(derivations: &[String]) -> Result<BTreeSet<String>, NixError> {
    let options = ["--realise", "--dry-run", "--option", "print-missing", "true"].map(str::to_owned);
    let (_, said) = run("nix-store", options.iter().chain(derivations))?;
    // Nix takes that for no reason to fail.
    let unknown = announced(&said, "don't know how to build these paths");
    if let Some(path) = unknown.first() {
        return Err(NixError(format!("'{path}' is not in the store, so that nobody knows what would be built for it")));
    }
    Ok(announced(&said, " will be built:"))
}

/// Reads the paths under a line such as "these 2 derivations will be built:" (`printMissing` in libmain/shared.cc).
fn announced(said: &str, heading: &str) -> BTreeSet<String> {
    let lines = said.lines().skip_while(|line| !line.contains(heading)).skip(1);
    lines.map_while(|line| line.strip_prefix("  ")).map(|path| path.trim().to_owned()).collect()
}

/// How many paths a command line is given at most; the system has a limit.
const PATHS_AT_ONCE: usize = 1000;

/// The outputs of derivations, as far as their paths are known before the build.
pub fn outputs(derivations: &BTreeSet<String>) -> BTreeSet<String> {
    let derivations: Vec<String> = derivations.iter().cloned().collect();
    derivations.chunks(PATHS_AT_ONCE).flat_map(outputs_of).collect()
}

fn outputs_of(derivations: &[String]) -> Vec<String> {
    let options = ["--query", "--outputs"].map(str::to_owned);
    match run("nix-store", options.iter().chain(derivations)) {
        Ok((out, _)) => out.lines().map(str::to_owned).collect(),
        // One of them has none.
        Err(_) if derivations.len() > 1 => {
            let (first, second) = derivations.split_at(derivations.len() / 2);
            [outputs_of(first), outputs_of(second)].concat()
        }
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_may_have_several_lines() {
        let read = settings("builders = ssh://a x86_64-linux\nssh://b\ncores = 4\nsubstituters = \n");
        assert_eq!(read["builders"], "ssh://a x86_64-linux\nssh://b");
        assert_eq!((read["cores"].as_str(), read["substituters"].as_str()), ("4", ""));
    }

    #[test]
    fn a_right_that_is_missing_is_named() {
        let told = |said: &str| NixError(format!("'nix-store' failed: warning: x\nerror: {said}")).to_user();
        for said in [
            "opening lock file '/var/db/big-lock': Permission denied",
            "could not set permissions on '/var/db/big-lock' to 755: Operation not permitted",
        ] {
            let told = told(said);
            assert!(told.starts_with("this user has no right to write to '/var/db/big-lock', which Nix"), "{told}");
            assert!(
                told.contains(said) && told.contains("owner of the store") && told.contains("NIX_REMOTE"),
                "{told}"
            );
        }
        let socket = |why: &str| told(&format!("cannot connect to socket at '/socket': {why}"));
        assert!(socket("Connection refused").starts_with("nix-daemon does not answer at '/socket'"));
        assert!(socket("Permission denied").starts_with("this user has no right to write to '/socket', the socket"));
        assert_eq!(told("a 'x' of another kind"), "'nix-store' failed: warning: x\nerror: a 'x' of another kind");
    }

    #[test]
    fn what_the_plugin_says_is_told_from_the_rest() {
        let said = "warning: x\n\u{1b}[35;1mnegative cache:\u{1b}[0m 'https://cache' was asked for 4 failures and has 1\n\
                    negative cache: it is not believed\nchecking\n";
        let lines = ["'https://cache' was asked for 4 failures and has 1", "it is not believed"];
        assert_eq!(said_by_plugin(said), lines);
    }

    #[test]
    fn paths_may_be_in_quotes() {
        for (printed, path) in [("/nix/var/nix", "/nix/var/nix"), (r#""/nix/var/nix""#, "/nix/var/nix")] {
            assert_eq!(unquoted(printed), path);
        }
        assert_eq!(unquoted(r#""/a \"b\" \\c""#), r#"/a "b" \c"#);
    }

    #[test]
    fn only_what_will_be_built_is_announced() {
        let said = "warning: x\nthese 2 derivations will be built:\n  /nix/store/a.drv\n  /nix/store/b.drv\n\
                    these 3 paths will be fetched (1.00 MiB download, 2.00 MiB unpacked):\n  /nix/store/c\n";
        let built = announced(said, " will be built:");
        assert_eq!(built.into_iter().collect::<Vec<_>>(), ["/nix/store/a.drv", "/nix/store/b.drv"]);
        assert!(announced("", " will be built:").is_empty());
    }
}
