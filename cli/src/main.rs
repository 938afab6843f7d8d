//! `nix-negative-cache`: looks at and forgets the failures that the plugin recorded. Those commands that
//! say what is believed ask Nix for its settings, and `check`, `fetch`, `diff`, `publish` and `doctor` can't do without it. Called by the name of one of Nix's programs, it is that program (`shim`).
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod completions;
mod databases;
mod diff;
mod doctor;
mod export;
mod fetch;
mod files;
mod hydra;
mod installables;
/// What the loader finds, found in the same way. The loader itself can't be linked: it acts when it is loaded.
#[path = "../../loader/src/installation.rs"]
mod installation;
mod judge;
mod links;
mod log;
mod look;
mod man;
mod nix;
mod output;
mod pager;
mod publish;
mod report;
mod shim;
mod stats;
mod streams;
mod target;
mod watch;
mod wrapping;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, ExitCode};

use anstream::{AutoStream, ColorChoice};
use jiff::{Span, Timestamp, Zoned};
use nix_negative_cache_core::channel::Message;
use nix_negative_cache_core::database::DatabaseError;
use nix_negative_cache_core::record::FailureSummary;
use nix_negative_cache_core::settings::Settings;
use nix_negative_cache_core::store_path::is_store_path;

use args::{
    Arguments, CheckArguments, Command, ExplainArguments, ForgetArguments, ImportArguments, ImportCommand,
    ListArguments, Order, RetryArguments, SettingsArguments, ShimCommand, ShowArguments,
};
use databases::{Databases, RecordId, SeenRecord};
use judge::judge_log;
use links::LinkError;
use look::{Look, visible};
use nix::{BeliefContext, NixError};
use output::Judged;
use pager::Paged;
use shim::ShimError;
use streams::{Output, say};

/// Why a command did not do what it was asked to.
#[derive(Debug)]
enum Failure {
    /// There is no such record: not an error of the database, and told apart by the exit status.
    NothingFound(String),
    /// What `check` is there to tell.
    Known,
    /// What `doctor` is there to tell.
    Unwell,
    /// An argument is not what it must be, which only shows when it is looked up.
    Argument(String),
    /// Nix or another program did not start.
    NotStarted(ShimError),
    Other(String),
}

impl From<NixError> for Failure {
    fn from(error: NixError) -> Self {
        Failure::Other(error.to_user())
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Failure::Other(error.to_string())
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Failure::Other(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Other(format!("cannot write the output: {error}"))
    }
}

fn main() -> ExitCode {
    let mut out = Output::standard();
    if let Some(words) = completions::asked() {
        let completed = completions::complete(&words, &mut out).and_then(|()| out.flush());
        return if completed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let (result, status) = match Arguments::given() {
        Ok(mut arguments) => (evaluate(&mut arguments).and_then(|()| run(&arguments, &mut out)), 0),
        Err(error) => (explain_arguments(&error, &mut out), u8::try_from(error.exit_code()).unwrap_or(1)),
    };
    match out.flush().map_err(Failure::from).and(result) {
        Ok(()) => ExitCode::from(status),
        Err(Failure::NothingFound(message)) => {
            say_with_name(&message);
            ExitCode::from(args::NOTHING_FOUND)
        }
        Err(Failure::Argument(message)) => {
            say_with_name(&message);
            ExitCode::from(args::WRONG_ARGUMENTS)
        }
        Err(Failure::Known) => ExitCode::from(args::KNOWN_FAILURE),
        Err(Failure::Unwell) => ExitCode::FAILURE,
        Err(Failure::NotStarted(error)) => {
            say(&error);
            u8::try_from(error.status()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(Failure::Other(message)) => {
            say_with_name(&message);
            ExitCode::FAILURE
        }
    }
}

/// Prints the help or the version that was asked for, or what is wrong with the arguments, as wide as the terminal: clap
/// arranges all but the usage and its errors.
fn explain_arguments(error: &clap::Error, out: &mut impl Write) -> Result<(), Failure> {
    let (width, colours) = if error.use_stderr() {
        (wrapping::width_of(io::stderr()), AutoStream::choice(&io::stderr()))
    } else {
        (wrapping::help_width(), AutoStream::choice(&io::stdout()))
    };
    let text = error.render();
    let text = if colours == ColorChoice::Never { text.to_string() } else { text.ansi().to_string() };
    let lines = text.lines().flat_map(|line| {
        let line = line.trim_end();
        let indent = if line.contains("Usage:") { "Usage: ".len() } else { line.len() - line.trim_start().len() };
        width.map_or_else(|| vec![line.to_owned()], |width| wrapping::wrapped(line, width, indent))
    });
    let text = lines.map(|line| line + "\n").collect::<String>();
    if error.use_stderr() {
        say(text.trim_end_matches('\n'));
        return Ok(());
    }
    Ok(out.write_all(text.as_bytes())?)
}

/// Says something on standard error, after the name of the program. What is in a path, for one, is nothing that the terminal
/// obeys.
pub fn say_with_name(message: &str) {
    say(format_args!("nix-negative-cache: {}", visible(message)));
}

/// So many of something, in words.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Has Nix evaluate what the arguments name derivations by, if it takes that.
fn evaluate(arguments: &mut Arguments) -> Result<(), Failure> {
    if let Some((paths, expression)) = arguments.command.installables() {
        installables::resolve(paths, expression)?;
    }
    Ok(())
}

fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Failure> {
    match &arguments.command {
        Command::List(list) => list_failures(arguments, list, out),
        Command::Show(show) => show_failures(arguments, show, out),
        Command::Forget(forget) => forget_failures(arguments, forget, out),
        Command::Explain(explain) => explain_paths(arguments, explain, out),
        Command::Diff(diff) => diff::diff(arguments, diff, out),
        Command::Log(log) => log::log(arguments, log, out),
        Command::Judge(judge) => judge_log(judge, out),
        Command::Check(check) => check_derivations(arguments, check, out),
        Command::Retry(retry) => retry_failures(arguments, retry, out),
        Command::Export(export) => export::export(arguments, export, out),
        Command::Import(ImportArguments { from: Some(ImportCommand::Hydra(hydra)), .. }) => {
            hydra::import(arguments, hydra, out)
        }
        Command::Import(ImportArguments { file, dry_run, .. }) => {
            export::import(arguments, file.as_deref().unwrap_or(Path::new("")), *dry_run, out)
        }
        Command::Report(report) => report::report(arguments, report, out),
        Command::Publish(publish) => publish::publish(arguments, publish, out),
        Command::Fetch(fetch) => fetch::fetch(arguments, fetch, out),
        Command::Stats(stats) => stats::stats(arguments, stats, out),
        Command::Watch(follow) => watch::watch(arguments, follow, out),
        Command::Doctor(doctor) => {
            if doctor::run(&arguments.database, doctor.fix, out)? {
                Ok(())
            } else {
                Err(Failure::Unwell)
            }
        }
        Command::Path => {
            let paths = arguments.database.paths();
            Ok(paths.iter().try_for_each(|path| writeln!(out, "{}", path.display()))?)
        }
        Command::Run { command } => Err(run_command(command)?),
        Command::Shim(ShimCommand::Install { folder }) => install_links(folder, out),
        Command::Shim(ShimCommand::Remove { folder }) => {
            if links::remove(folder)? == 0 {
                return Err(Failure::NothingFound(format!(
                    "there is no link of this program in '{}'",
                    folder.display()
                )));
            }
            Ok(())
        }
        Command::Man { folder } => man::write(folder)
            .map_err(|error| Failure::Other(format!("cannot write man pages to '{}': {error}", folder.display()))),
        Command::Completions { shell } => Ok(out.write_all(&completions::script(*shell))?),
    }
}

/// Becomes a command; comes back only if it can't.
fn run_command(command: &[OsString]) -> Result<Failure, Failure> {
    let Some(program) = command.first() else { return Err(Failure::Other("run what?".to_owned())) };
    let error = match shim::program(program) {
        Some(nix) => shim::become_nix(nix, command.to_vec()),
        None => {
            let path = env::var_os("PATH").unwrap_or_default();
            let folders = [links::folder()?].into_iter().chain(env::split_paths(&path));
            let path = env::join_paths(folders)
                .map_err(|error| Failure::Other(format!("the folder of the links can't be in PATH: {error}")))?;
            let error = process::Command::new(program).args(&command[1..]).env("PATH", path).exec();
            ShimError::CannotRun(program.into(), error)
        }
    };
    Ok(Failure::NotStarted(error))
}

fn install_links(folder: &Path, out: &mut impl Write) -> Result<(), Failure> {
    links::install(folder)?;
    let folder = std::path::absolute(folder)
        .map_err(|error| Failure::Other(format!("the folder of this process can't be found: {error}")))?;
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|other| other == folder) {
        writeln!(
            out,
            "'{}' is in PATH; if other programs of Nix are found before these, move it further to the front",
            folder.display()
        )?;
    } else {
        writeln!(out, "to use it, put this into your shell's profile:  export PATH=\"{}:$PATH\"", folder.display())?;
    }
    Ok(())
}

fn databases(arguments: &Arguments) -> Result<Databases, Failure> {
    Ok(Databases::open(arguments.database.paths())?)
}

fn list_failures(arguments: &Arguments, list: &ListArguments, out: &mut impl Write) -> Result<(), Failure> {
    let databases = databases(arguments)?;
    if list.json {
        let (records, settings) = chosen(arguments, list, databases.records()?)?;
        return Ok(output::json(&records, &[], &settings, out)?);
    }
    let (records, _) = chosen(arguments, list, databases.summaries()?)?;
    if records.is_empty() {
        say(format_args!("no such failure is recorded in {}", databases.names()));
        return Ok(());
    }
    let (look, mut out) = paged(list.paging.no_pager, out);
    output::table(&records, &look, &mut out)?;
    let mut advice = Vec::new();
    if records.iter().any(Judged::is_believed) {
        let may_forget = records.iter().filter(|judged| judged.is_believed()).all(Judged::may_forget);
        let width = wrapping::width_of(io::stderr()).unwrap_or(usize::MAX);
        let text = lifted_by(if may_forget { "forget" } else { "retry" });
        advice.extend(text.lines().flat_map(|line| wrapping::wrapped(line, width, 4)));
    }
    // Apart from the table, for those who count its lines; but a pager has the screen.
    if out.is_paged() {
        advice.drain(..).try_for_each(|line| writeln!(out, "{line}"))?;
    }
    out.finish()?;
    advice.into_iter().for_each(say);
    // There may be many, and the process is about to end.
    std::mem::forget(records);
    Ok(())
}

/// Standard output for something that may be long, and how it looks there.
fn paged<W: Write>(no_pager: bool, out: &mut W) -> (Look, Paged<'_, W>) {
    let pages = pager::may_page(!no_pager);
    (Look::of_stdout(pager::shows_colours(pages)), Paged::new(out, pages))
}

/// What was asked for of `records`.
fn chosen<R: AsRef<FailureSummary>>(
    arguments: &Arguments,
    list: &ListArguments,
    mut records: Vec<SeenRecord<R>>,
) -> Result<(Vec<Judged<R>>, Settings), Failure> {
    if !list.all {
        records.retain(|known| known.record.as_ref().stands());
    }
    if let Some(name) = &list.name {
        records.retain(|known| name.is_match(&known.record.as_ref().name));
    }
    if let Some(start) = start_of(list.since)? {
        records.retain(|known| known.record.as_ref().last_failure >= start);
    }
    records.retain(|known| {
        let record = known.record.as_ref();
        list.class.is_none_or(|class| record.class == class)
            && list.system.as_ref().is_none_or(|system| record.system == *system)
            && list.origin.as_ref().is_none_or(|origin| record.is_from(origin))
    });
    match list.sort {
        // As they come.
        Order::Last => {}
        Order::First => records.sort_by_key(|known| Reverse(known.record.as_ref().first_failure)),
        Order::Name => records.sort_by(|one, other| one.record.as_ref().name.cmp(&other.record.as_ref().name)),
        Order::Duration => records.sort_by_key(|known| Reverse(known.record.as_ref().duration_ms)),
        Order::Attempts => records.sort_by_key(|known| Reverse(known.record.as_ref().attempts)),
    }
    Ok(judged(arguments, &list.settings, records))
}

/// When a span of time began that ends now.
fn start_of(span: Option<Span>) -> Result<Option<Timestamp>, Failure> {
    let start = span.map(|span| Zoned::now().checked_sub(span)).transpose();
    Ok(start.map_err(|error| Failure::Other(error.to_string()))?.map(|start| start.timestamp()))
}

/// What a list says once for all its failures.
fn lifted_by(command: &str) -> String {
    format!(
        "What is believed is built again\n  with --option negative-cache-retry true,\n  after \
         nix-negative-cache {command} PATH,\n  in another environment, or when its time is over."
    )
}

/// Records with what they say of a new attempt, by these settings.
fn judged<R: AsRef<FailureSummary>>(
    arguments: &Arguments,
    settings: &SettingsArguments,
    records: Vec<SeenRecord<R>>,
) -> (Vec<Judged<R>>, Settings) {
    if records.is_empty() {
        return (Vec::new(), Settings::default());
    }
    let context = BeliefContext::ask(&arguments.database.store_state(), settings);
    (Judged::all(records, &context), context.settings)
}

/// What is recorded for `paths`, and the paths without a record.
fn find(databases: &Databases, paths: &[String]) -> Result<(BTreeSet<RecordId>, Vec<String>), Failure> {
    let (mut found, mut unknown) = (BTreeSet::new(), Vec::new());
    for path in paths {
        let records = databases.find([path.as_str()])?;
        if records.is_empty() {
            unknown.push(path.clone());
        }
        found.extend(records);
    }
    Ok((found, unknown))
}

fn nothing_known(databases: &Databases, paths: &[String]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| format!("'{path}'")).collect();
    format!("no failure of {} is recorded in {}", paths.join(", "), databases.names())
}

fn show_failures(arguments: &Arguments, show: &ShowArguments, out: &mut impl Write) -> Result<(), Failure> {
    let databases = databases(arguments)?;
    let (found, unknown) = find(&databases, &show.what.paths)?;
    let records = databases.records_of(&found)?;
    if show.explain || show.settings.try_out() {
        let (records, settings) = judged(arguments, &show.settings, records);
        if show.json {
            output::json(&records, &[], &settings, out)?;
        } else {
            output::recorded_and_believed(&records, &settings, out)?;
        }
    } else if show.json {
        output::recorded_json(&records, out)?;
    } else {
        output::recorded(&records, out)?;
    }
    if unknown.is_empty() { Ok(()) } else { Err(Failure::NothingFound(nothing_known(&databases, &unknown))) }
}

fn explain_paths(arguments: &Arguments, explain: &ExplainArguments, out: &mut impl Write) -> Result<(), Failure> {
    let databases = Databases::open_visible(arguments.database.paths())?;
    let context = BeliefContext::ask(&arguments.database.store_state(), &explain.settings);
    let (mut explained, mut unknown) = (0, Vec::new());
    for path in &explain.what.paths {
        // A derivation may have its record by its outputs.
        let mut names = BTreeSet::from([path.clone()]);
        if path.ends_with(".drv") {
            names.extend(nix::outputs(&names));
        }
        let found = databases.find(names.iter().map(String::as_str))?;
        let mut records = databases.records_of(&found)?;
        records.retain(|known| !path.ends_with(".drv") || known.record.summary.counts_for([path.as_str()]));
        let records = Judged::all(records, &context);
        // What is not in the store any more can't be built, and Nix can't tell; a record still has something to say.
        let derivation = records.first().map_or(path.as_str(), Judged::derivation).to_owned();
        let needed = nix::would_build(std::slice::from_ref(&derivation));
        let is_unknown = needed.as_ref().is_err_and(NixError::is_unknown_path);
        if records.is_empty() && (is_unknown || !is_store_path(path)) {
            unknown.push(path.clone());
            continue;
        }
        if let Err(error) = &needed
            && !is_unknown
        {
            say_with_name(&format!("it is not known whether there is anything to build: {}", error.to_user()));
        }
        if explained > 0 {
            writeln!(out)?;
        }
        explained += 1;
        let is_needed = needed.as_ref().map_or(true, |needed| needed.contains(&derivation));
        output::explanation(path, &records, &context.settings, is_needed, out)?;
        if let Ok(needed) = needed
            && is_needed
            && records.iter().all(|judged| !judged.stands_in_the_way(&context.settings))
        {
            let Obstacles { known, told } = obstacles(&databases, &needed, &context)?;
            for other in known.iter().map(Judged::derivation).chain(told.iter().map(String::as_str)) {
                if other == derivation {
                    writeln!(out, "But the daemon that builds would refuse it. Why is not known here.")?;
                } else {
                    writeln!(out, "But it needs '{other}', which is known to fail.")?;
                }
            }
        }
    }
    if unknown.is_empty() { Ok(()) } else { Err(Failure::NothingFound(nothing_known(&databases, &unknown))) }
}

/// What stands in the way of builds.
struct Obstacles {
    /// Records of derivations that would be refused.
    known: Vec<Judged>,
    /// Other derivations of which only the daemon that builds knows that it would refuse them.
    told: Vec<String>,
}

/// What stands in the way of builds of `derivations`.
fn obstacles(
    databases: &Databases,
    derivations: &BTreeSet<String>,
    context: &BeliefContext,
) -> Result<Obstacles, Failure> {
    let outputs = nix::outputs(derivations);
    let found = databases.find(derivations.iter().chain(&outputs).map(String::as_str))?;
    let mut records = databases.records_of(&found)?;
    records.retain(|known| known.record.summary.counts_for(derivations.iter().map(String::as_str)));
    let mut judged = Judged::all(records, context);
    judged.retain(|judged| judged.stands_in_the_way(&context.settings));
    let is_judged = |path: &&str| judged.iter().any(|judged| judged.derivation() == *path);
    let others: Vec<&str> = derivations.iter().map(String::as_str).filter(|path| !is_judged(path)).collect();
    let [mut told] = context.ask_builder(&others, [Message::is_refused]).unwrap_or_default();
    // What failed may be another derivation with the same outputs.
    if judged.iter().any(|judged| !derivations.contains(judged.derivation())) {
        told.retain(|path| {
            let outputs = nix::outputs(&BTreeSet::from([(*path).to_owned()]));
            !judged.iter().any(|judged| judged.has_any_of(&outputs))
        });
    }
    let told = told.into_iter().map(str::to_owned).collect();
    Ok(Obstacles { known: judged, told })
}

/// The derivations of `paths`: of an output, that which is recorded or which Nix knows.
fn derivations(databases: &Databases, paths: &[String]) -> Result<Vec<String>, Failure> {
    let derivation = |path: &String| {
        fetch::derivation_of(path, databases)?.ok_or_else(|| {
            Failure::Argument(format!(
                "'{path}' is not the path of a derivation, which ends with .drv, nor an output of which one is known"
            ))
        })
    };
    paths.iter().map(derivation).collect()
}

fn check_derivations(arguments: &Arguments, check: &CheckArguments, out: &mut impl Write) -> Result<(), Failure> {
    let context = BeliefContext::ask(&arguments.database.store_state(), &check.settings);
    let databases = Databases::open_visible(arguments.database.paths())?;
    let derivations = derivations(&databases, &check.derivations)?;
    let mut needed = nix::would_build(&derivations)?;
    if !check.closure {
        needed.retain(|path| derivations.contains(path));
    }
    if !check.offline && context.settings.enabled && !context.settings.trusted_public_keys.is_empty() {
        // What would be built for these is asked about as well.
        let wanted: Vec<&str> = derivations.iter().map(String::as_str).collect();
        // It is a question of what is known, and what is known here stands.
        if let Err(error) = nix::fetch(&wanted) {
            say_with_name(&format!("binary caches were not asked: {}", error.to_user()));
        }
    }
    let Obstacles { known, told } = obstacles(&databases, &needed, &context)?;
    if !context.settings.enabled && known.is_empty() && told.is_empty() {
        say_with_name("'negative-cache' is off: nothing stands in the way");
    }
    if check.json {
        output::json(&known, &told, &context.settings, out)?;
    } else {
        output::obstacles(&known, &told, out)?;
    }
    if known.is_empty() && told.is_empty() { Ok(()) } else { Err(Failure::Known) }
}

fn forget_failures(arguments: &Arguments, forget: &ForgetArguments, out: &mut impl Write) -> Result<(), Failure> {
    let mut databases = databases(arguments)?;
    let (mut found, unknown) = find(&databases, &forget.paths)?;
    if forget.all || forget.name.is_some() {
        let chosen = |record: &FailureSummary| forget.name.as_ref().is_none_or(|name| name.is_match(&record.name));
        let records = databases.summaries()?;
        let chosen = records.iter().map(|known| &known.record).filter(|record| chosen(record));
        let derivations: Vec<&str> = chosen.map(|record| record.derivation.as_str()).collect();
        found.extend(databases.find(derivations)?);
    }
    let (count, foreign) = databases.forget(&found)?;
    if count > 0 {
        writeln!(out, "forgot {}", counted(count, "failure"))?;
    }
    if let Some(path) = foreign.first() {
        return Err(Failure::Other(format!(
            "only the owner of '{}' may forget its failures; to try a failure once more, run  nix-negative-cache retry PATH",
            path.display()
        )));
    }
    if count == 0 {
        let message = if forget.paths.is_empty() {
            format!("no such failure is recorded in {}; nothing to forget", databases.names())
        } else {
            format!("{}; nothing to forget", nothing_known(&databases, &unknown))
        };
        return Err(Failure::NothingFound(message));
    }
    if !unknown.is_empty() {
        say_with_name(&nothing_known(&databases, &unknown));
    }
    Ok(())
}

fn retry_failures(arguments: &Arguments, retry: &RetryArguments, out: &mut impl Write) -> Result<(), Failure> {
    let mut databases = databases(arguments)?;
    let (found, unknown) = find(&databases, &retry.what.paths)?;
    let mut requested = found.clone();
    // Who may not write it down tells the daemon, which may.
    for foreign in databases.request_retry(&found)? {
        let Some((derivation, _)) = databases.retry_requested(foreign)? else { continue };
        if let Some(message) = Message::retry(&derivation) {
            let folder = derivation.rsplit_once('/').map_or("", |(folder, _)| folder);
            let asked = nix::is_valid(&[], &format!("{folder}/{}", message.to_base_name()));
            asked.map_err(|error| {
                Failure::Other(format!(
                    "only the owner of '{}' may note there that '{derivation}' is to be tried once more, and the daemon was \
                     not told: {}",
                    databases.path_of(foreign).display(),
                    error.to_user()
                ))
            })?;
        }
        if let Some((derivation, false)) = databases.retry_requested(foreign)? {
            return Err(Failure::Other(format!(
                "the daemon did not hear that '{derivation}' is to be tried once more; does it load the plugin, with \
                 'negative-cache = true', and was it restarted since nix.conf has that? With the plugin in your own nix.conf, \
                 --option negative-cache-retry true works as well"
            )));
        }
        requested.remove(&foreign);
        writeln!(out, "the next build of '{derivation}' will be tried")?;
    }
    for found in requested {
        if let Some((derivation, true)) = databases.retry_requested(found)? {
            writeln!(out, "the next build of '{derivation}' will be tried")?;
        }
    }
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(Failure::NothingFound(format!("{}; nothing to retry", nothing_known(&databases, &unknown))))
    }
}
