//! Judges builds that ended: what class a failure has, and whether it is recorded.
//!
//! A failure is recorded only with proof that the builder ran and exited by itself, or that the user wants others
//! recorded as well; a recorded failure that would not happen again is the worst mistake this project can make.

use std::fmt;

use crate::build_status::BuildStatus;
use crate::class::Class;
use crate::deciding_line::DecidingLine;
use crate::log::judge::{Facts, LogJudge, LogVerdict};
use crate::log::tail::printable;
use crate::machine::Shortage;
use crate::settings::Settings;
use crate::store_path::{DerivationPath, OutputKey, is_in_names};

/// A build that ended, with all that a judgement looks at.
#[derive(Clone, Debug)]
pub struct EndedBuild<'a> {
    /// The derivation as Nix names it in its messages.
    pub derivation: &'a DerivationPath,
    /// How it ended, as Nix says.
    pub status: BuildStatus,
    /// What Nix said of the build, colours included: of a build in this process, the error of its goal; of one on
    /// another machine, also what the build hook said; of one that a daemon did, everything that could be about it.
    pub messages: &'a [String],
    /// The log.
    pub log: &'a LogJudge,
    /// Whether the outputs' hashes are given (they may come over the network).
    pub fixed_output: bool,
    /// Whether the derivation is impure, built anew each time.
    pub impure: bool,
    /// Whether the builder is one of Nix's own (`builtin:fetchurl`).
    pub builtin: bool,
    /// The machine whose Nix started the builder, if it was not this one.
    pub machine: Option<&'a str>,
    /// The keys of the outputs, under which a failure is recorded. Empty if there are none before the build.
    pub outputs: &'a [OutputKey],
    /// Whether this is a build of missing outputs, not a check or a repair of valid ones.
    pub normal_mode: bool,
    /// Whether this process was told to stop before the build ended.
    pub interrupted: bool,
    /// Whether the builder may use Nix itself (`recursive-nix`), so that its failure may be that of another build.
    pub recursive: bool,
    /// Whether the derivation has `negativeCache = false`.
    pub opted_out: bool,
    /// Whether the builder ran in a sandbox without network, if this process knows that.
    pub sandboxed: Option<bool>,
    /// What was wrong with the machine.
    pub shortage: Option<Shortage>,
    /// Whether a daemon started the builder, so that this process does not know what the machine lacked meanwhile, or
    /// what limited the builder.
    pub by_daemon: bool,
}

/// What to do about a build that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The build succeeded: earlier failures of its outputs do not count any more.
    Succeeded,
    /// The build failed and is recorded: its class, the exit code of the builder if it exited, and what makes the failure
    /// doubtful, if anything does. A doubtful failure counts once it has come twice in a row.
    Record(Class, Option<i32>, Option<Suspicion>),
    /// The build failed and is not recorded.
    Ignore(Class, Reason),
}

/// What makes a failure doubtful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// A line of the log.
    Log(DecidingLine),
    /// Only the daemon that started the builder can know what the machine lacked, or what limited the builder.
    ByDaemon,
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Suspicion::Log(line) => write!(f, "the log tells of {}", line.text()),
            Suspicion::ByDaemon => f.write_str("only the daemon knows the disk, memory and limits of its builds"),
        }
    }
}

/// Why the end of a build is not recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nix reports something else than a failure of the builder.
    NotTheBuilder,
    /// Nix itself takes the failure for a passing one.
    Transient,
    /// A time limit ended the build.
    Timeout,
    /// The limit on the log's size ended the build.
    LogLimit,
    /// The builder was killed by a signal, or says that something it ran was.
    Signal,
    /// The builder says so itself, with this exit code.
    ExitCode(i32),
    /// The machine is to blame.
    Shortage(Shortage),
    /// The log says what is to blame.
    Log(DecidingLine),
    /// A fetch depends on what is outside.
    Fetch,
    /// An impure derivation is built anew each time.
    Impure,
    /// There is no output path to record it under.
    OutputsUnknown,
    /// A check or repair says nothing about the build of missing outputs.
    CheckOrRepair,
    /// The process was being stopped.
    Interrupted,
    /// Nix's message has no exit code of this derivation's builder.
    NoExitCode,
    /// The builder could use Nix, and may have failed because a build inside it did.
    Recursive,
    /// The builder could not be started, for want of something that may be there next time.
    NotStarted,
    /// The derivation wants to be kept out.
    OptedOut,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::NotTheBuilder => "the builder did not fail",
            Reason::Transient => "Nix takes the failure for a passing one",
            Reason::Timeout => "a time limit ended the build",
            Reason::LogLimit => "the limit on the size of the log ended the build",
            Reason::Signal => "a signal ended the builder or something it ran",
            Reason::ExitCode(code) => {
                return write!(f, "with exit code {code} a builder says that its failure will pass");
            }
            Reason::Shortage(Shortage::OutOfMemory) => "the kernel killed a process for lack of memory meanwhile",
            Reason::Shortage(Shortage::MemoryPressure) => "the machine was short of memory meanwhile",
            Reason::Shortage(Shortage::Disk(folder)) => {
                return write!(f, "the file system of '{}' is full", folder.display());
            }
            Reason::Log(line) => return write!(f, "the log tells of {}", line.text()),
            Reason::Fetch => "it is a fetch",
            Reason::Impure => "the derivation is impure",
            Reason::OutputsUnknown => "its output paths are not known before the build",
            Reason::CheckOrRepair => "it was a check or a repair",
            Reason::Interrupted => "Nix was interrupted",
            Reason::NoExitCode => "the builder's exit code is not known",
            Reason::Recursive => "the builder uses Nix",
            Reason::NotStarted => "the builder could not be started",
            Reason::OptedOut => "the derivation has 'negativeCache = false'",
        })
    }
}

/// Judges how a build ended.
pub fn judge(build: &EndedBuild<'_>, settings: &Settings) -> Judgement {
    if build.status == BuildStatus::Built {
        return Judgement::Succeeded;
    }
    classify(build, &settings.transient_exit_codes).judgement(settings)
}

/// A failure with its class.
struct Failed {
    class: Class,
    /// Why it is not recorded unless the settings want its class; `None` if its class is always recorded.
    reason: Option<Reason>,
    exit_code: Option<i32>,
    /// What makes it doubtful.
    doubtful: Option<Suspicion>,
}

impl Failed {
    fn judgement(self, settings: &Settings) -> Judgement {
        match self.reason {
            Some(reason) if !settings.records(self.class) => Judgement::Ignore(self.class, reason),
            _ => Judgement::Record(self.class, self.exit_code, self.doubtful),
        }
    }

    fn not_recorded(class: Class, reason: Reason) -> Failed {
        Failed { class, reason: Some(reason), exit_code: None, doubtful: None }
    }

    fn transient(reason: Reason) -> Failed {
        Failed::not_recorded(Class::Transient, reason)
    }

    fn other(reason: Reason) -> Failed {
        Failed::not_recorded(Class::NotTheBuilder, reason)
    }
}

/// Finds the class of a failure. The rules go from the general to the particular, so that the reason is the one that a
/// person would give.
fn classify(build: &EndedBuild<'_>, transient_exit_codes: &[i32]) -> Failed {
    let fetch = build.fixed_output || build.builtin;
    // What the builder did on another machine, Nix takes for a failure of the build hook.
    if build.status == BuildStatus::Other && (build.machine.is_none() || telling(build).is_none()) {
        return Failed::other(Reason::NotTheBuilder);
    }
    let disk_full = build.messages.iter().any(|message| message.contains(DISK_FULL));
    let conditions = [
        (build.interrupted, Reason::Interrupted),
        (!build.normal_mode, Reason::CheckOrRepair),
        (build.opted_out, Reason::OptedOut),
        (build.impure, Reason::Impure),
        (build.outputs.is_empty(), Reason::OutputsUnknown),
        (build.recursive, Reason::Recursive),
    ];
    if let Some((_, reason)) = conditions.into_iter().find(|(holds, _)| *holds) {
        return Failed::other(reason);
    }
    match build.status {
        BuildStatus::TimedOut | BuildStatus::LogLimitExceeded => classify_limit(build, fetch),
        BuildStatus::OutputRejected => classify_rejected_output(build, fetch),
        // Nix says so of each fixed-output derivation, and of others if the disk is full, which it notes.
        _ if disk_full => Failed::transient(Reason::Transient),
        BuildStatus::TransientFailure if !fetch => Failed::transient(Reason::Transient),
        _ => classify_end(build, transient_exit_codes, fetch),
    }
}

/// Finds the class of a failure that a limit caused.
fn classify_limit(build: &EndedBuild<'_>, fetch: bool) -> Failed {
    let (class, reason) = match build.status {
        BuildStatus::LogLimitExceeded => (Class::LogLimit, Reason::LogLimit),
        // `Worker::waitForInput` has two messages: "timed out after 5 seconds", and "… of silence".
        _ if build.messages.iter().any(|message| message.contains("of silence")) => (Class::Silence, Reason::Timeout),
        _ => (Class::Timeout, Reason::Timeout),
    };
    // How long a fetch takes is up to the network. What is short of memory, or lost a process, may wait for ever.
    match passing_cause(build, fetch) {
        Err(cause) => Failed::transient(cause),
        Ok(_) if fetch => Failed::transient(reason),
        Ok(doubtful) => Failed { class, reason: Some(reason), exit_code: None, doubtful },
    }
}

/// Finds the class of a build whose builder exited with 0, but whose outputs were rejected.
fn classify_rejected_output(build: &EndedBuild<'_>, fetch: bool) -> Failed {
    // A fetch gets what is outside, and its hash mismatch is rejected in the same way.
    if fetch {
        return Failed::other(Reason::NotTheBuilder);
    }
    // A builder that does not check for errors exits with 0 although a shortage kept it from making its output.
    match passing_cause(build, fetch) {
        Err(cause) => Failed::transient(cause),
        Ok(doubtful) => Failed { class: Class::Output, reason: None, exit_code: None, doubtful },
    }
}

/// What the machine or the log say against blaming the derivation. If they are sure, that is the error; if not, the
/// suspicion is returned.
fn passing_cause(build: &EndedBuild<'_>, fetch: bool) -> Result<Option<Suspicion>, Reason> {
    if let Some(shortage) = &build.shortage {
        return Err(Reason::Shortage(shortage.clone()));
    }
    let told = told_by_log(build.log, Facts { sandboxed: build.sandboxed, fixed_output: fetch })?;
    // Of another machine, nothing else can ever be known than what its Nix says of the builder.
    Ok(told.or((build.by_daemon && build.machine.is_none()).then_some(Suspicion::ByDaemon)))
}

/// The same of the log alone.
fn told_by_log(log: &LogJudge, facts: Facts) -> Result<Option<Suspicion>, Reason> {
    match log.verdict(facts) {
        LogVerdict::Transient(line) => Err(Reason::Log(line)),
        LogVerdict::Doubtful(line) => Ok(Some(Suspicion::Log(line))),
        LogVerdict::Clear => Ok(None),
    }
}

/// Nix's note that the disk is full (`DerivationGoal::buildDone`).
const DISK_FULL: &str = "note: build failure may have been caused by lack of free disk space";

/// Whether a shell says with this exit code that a signal from outside ended a command. A shell exits with 128 + N for
/// signal N (POSIX, Shell Command Language, 2.8.2), and there are 64 signals (signal(7)). Some of them a program raises
/// by faults of its own: SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGSEGV and SIGSYS. A full disk can raise SIGBUS as well.
fn is_signal_from_outside(code: i32) -> bool {
    (129..=192).contains(&code) && !matches!(code - 128, 4 | 5 | 6 | 8 | 11 | 31)
}

/// Finds the class of a failure of the builder.
fn classify_end(build: &EndedBuild<'_>, transient_exit_codes: &[i32], fetch: bool) -> Failed {
    match telling(build).map(|(_, end)| end) {
        None => Failed::other(Reason::NoExitCode),
        Some(BuilderEnd::OutputRejected) => classify_rejected_output(build, fetch),
        Some(BuilderEnd::Signal) => Failed::transient(Reason::Signal),
        Some(BuilderEnd::ExitCode(code)) => {
            classify_exit(code, transient_exit_codes, build.log, fetch, || passing_cause(build, fetch))
        }
    }
}

/// Finds the class of the failure of a builder that exited with a code.
fn classify_exit(
    code: i32,
    transient_exit_codes: &[i32],
    log: &LogJudge,
    fetch: bool,
    passing_cause: impl FnOnce() -> Result<Option<Suspicion>, Reason>,
) -> Failed {
    if is_signal_from_outside(code) {
        return Failed::transient(Reason::Signal);
    }
    if transient_exit_codes.contains(&code) {
        return Failed::transient(Reason::ExitCode(code));
    }
    if could_not_be_started(&log.tail().text()) {
        return Failed::transient(Reason::NotStarted);
    }
    let (class, reason) = if fetch { (Class::Fetch, Some(Reason::Fetch)) } else { (Class::Builder, None) };
    match passing_cause() {
        Err(cause) => Failed::transient(cause),
        Ok(doubtful) => Failed { class, reason, exit_code: Some(code), doubtful },
    }
}

/// Judges a builder that exited with `code` by its log and these facts alone, as if nothing else could be said of its
/// build.
pub fn judge_exit(code: i32, log: &LogJudge, facts: Facts, settings: &Settings) -> Judgement {
    let told = || told_by_log(log, facts);
    classify_exit(code, &settings.transient_exit_codes, log, facts.fixed_output, told).judgement(settings)
}

/// Whether the log ends with the failure of `execve` that Nix reports from the builder's process (`runChild`) as exit
/// code 1, unless what is wrong is the derivation's fault and stays so.
fn could_not_be_started(log: &str) -> bool {
    // An "Exec format error" stays as well, unless somebody registers an emulator. `extra-platforms`, which mostly changes
    // with that, is part of the environment.
    const LASTING: [&str; 6] = [
        "No such file or directory",
        "Permission denied",
        "Not a directory",
        "Argument list too long",
        "Too many levels of symbolic links",
        "Exec format error",
    ];
    let last = log.lines().rfind(|line| !line.is_empty()).unwrap_or("");
    match last.split_once("executing '").and_then(|(_, rest)| rest.rsplit_once("': ")) {
        Some((_, error)) => !LASTING.contains(&error.trim()),
        None => false,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum BuilderEnd {
    ExitCode(i32),
    Signal,
    /// It exited with 0, but an output of it was rejected.
    OutputRejected,
}

/// The message that tells how the builder ended, if one does.
pub fn telling_message<'a>(build: &EndedBuild<'a>) -> Option<&'a str> {
    telling(build).map(|(message, _)| message)
}

fn telling<'a>(build: &EndedBuild<'a>) -> Option<(&'a str, BuilderEnd)> {
    let end = |message: &'a String| Some((message.as_str(), builder_end(build, message)?));
    build.messages.iter().find_map(end)
}

/// Reads the builder's exit code from Nix's message, the only place that has it (`statusToString`, processes.cc).
///
/// The message also quotes the log, which the builder controls, so only its beginning counts:
/// `builder for '…' failed with exit code N` up to Nix 2.30 (derivation-goal.cc),
/// `Cannot build '…'.` and `Reason: builder failed with exit code N.` since (derivation-building-goal.cc). Of a build on
/// another machine only the build hook knows, which says `build of '…' on 'MACHINE' failed: ` before that (build-remote.cc).
/// Loggers say `error: ` before anything.
fn builder_end(build: &EndedBuild<'_>, message: &str) -> Option<BuilderEnd> {
    let derivation = build.derivation;
    let plain: Vec<String> = message.lines().take(2).map(|line| printable(line.as_bytes())).collect();
    let first = plain.first()?;
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let first = match build.machine {
        // The goal's own message says with what exit code the build hook ended, in the words for a builder's.
        Some(machine) => first.strip_prefix(&format!("build of '{derivation}' on '{machine}' failed: "))?,
        None => first,
    };
    if says_output_rejected(build, first) {
        return Some(BuilderEnd::OutputRejected);
    }
    let end = match first.strip_prefix(&format!("builder for '{derivation}' ")) {
        Some(end) => end,
        None if first == format!("Cannot build '{derivation}'.") => {
            plain.get(1)?.trim_start().strip_prefix("Reason: builder ")?
        }
        None => return None,
    };
    if end.starts_with("failed due to signal ") {
        return Some(BuilderEnd::Signal);
    }
    let code = end.strip_prefix("failed with exit code ")?;
    // Up to Nix 2.3, which another machine may have, the log follows in the same line: `1; last 10 log lines:`.
    let code = code.split_once("; last ").map_or(code, |(code, _)| code);
    let code = code.trim_end_matches([';', ',', '.']);
    code.parse().ok().filter(|code| (1..=255).contains(code)).map(BuilderEnd::ExitCode)
}

/// A message of Nix, in plain text, up to the log that it quotes.
pub fn without_quoted_log(message: &str) -> &str {
    // "last 10 log lines:"; since 2.29 or so "Last 10 log lines:".
    let is_heading = |(start, word): &(usize, &str)| {
        let rest = message[start + word.len()..].trim_start_matches(|c: char| c.is_ascii_digit());
        rest.len() < message.len() - start - word.len() && rest.starts_with(" log lines:")
    };
    let heading = ["last ", "Last "].iter().filter_map(|word| message.match_indices(word).find(is_heading)).min();
    heading.map_or(message, |(start, _)| message[..start].trim_end_matches([';', ' ', '\n']))
}

/// Whether a sentence of Nix's rejects an output of this derivation (`registerOutputs` and `checkOutputs` in
/// local-derivation-goal.cc, later derivation-builder.cc and derivation-check.cc). Some name the derivation, others only the
/// output.
fn says_output_rejected(build: &EndedBuild<'_>, sentence: &str) -> bool {
    const OF_THE_DERIVATION: [(&str, &str); 2] = [
        ("builder for '", "' failed to produce output path for output '"),
        ("cycle detected in build of '", "' in the references of output '"),
    ];
    const OF_AN_OUTPUT: [(&str, &str); 3] = [
        ("output '", "' is not allowed to refer to the following paths:"),
        ("path '", "' is too large at "),
        ("closure of path '", "' is too large at "),
    ];
    let about = |(before, after): &(&str, &str)| {
        let (path, _) = sentence.strip_prefix(before)?.split_once(after)?;
        Some(path)
    };
    OF_THE_DERIVATION.iter().filter_map(about).any(|path| path == build.derivation.as_str())
        || OF_AN_OUTPUT.iter().filter_map(about).any(|path| build.outputs.iter().any(|output| output.as_str() == path))
}

/// What Nix says of a derivation that failed although its builder did not: the builder could not be started, or its
/// outputs could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unbuilt {
    /// The derivations that Nix names, as it prints them.
    pub derivations: Vec<String>,
    /// Why the failure is not recorded. `None` if another failure is to blame: that of a dependency, or a known one.
    pub reason: Option<String>,
}

/// Reads an error that Nix reports of a derivation which was not judged. Store paths begin with `store_dir`.
pub fn unbuilt(message: &str, store_dir: &str) -> Unbuilt {
    let mut lines = message.lines().map(|line| printable(line.as_bytes()));
    let first = lines.next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(&first);
    let (named, sentence) = if first.starts_with("Cannot build '") {
        let second = lines.next().unwrap_or_default();
        let sentence = second.trim().trim_start_matches("Reason: ").to_owned();
        (first.to_owned(), sentence)
    } else {
        (first.to_owned(), first.to_owned())
    };
    let count = sentence.trim_start_matches(|c: char| c.is_ascii_digit());
    let dependency = count.len() < sentence.len() && count.starts_with(" dependenc");
    let refused = sentence.contains("is not built again: it failed");
    // A line can be as long as a log.
    let end = sentence.floor_char_boundary(LONGEST_REASON);
    let sentence = sentence[..end].trim_end_matches(['.', ':', ' ']);
    let said = !sentence.is_empty() && !dependency && !refused;
    Unbuilt {
        derivations: derivations_in(&named, store_dir),
        reason: said.then(|| format!("{}: {sentence}", Reason::NotTheBuilder)),
    }
}

/// How much of what Nix says is quoted in a reason, in bytes.
const LONGEST_REASON: usize = 300;

/// The paths of derivations in a text, in their order.
fn derivations_in(text: &str, store_dir: &str) -> Vec<String> {
    let start = format!("{store_dir}/");
    let path = |(place, _): (usize, &str)| {
        let name = &text[place + start.len()..];
        let name = &name[..name.find(|c| !is_in_names(c)).unwrap_or(name.len())];
        name.ends_with(".drv").then(|| format!("{start}{name}"))
    };
    text.match_indices(&start).filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DRV: &str = "/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv";
    const OUT: &str = "/nix/store/2bkmr3zjd3xq9pgnhmsp2s4j2ndyk3dj-x";

    fn judged(status: BuildStatus, message: &str, change: impl FnOnce(&mut EndedBuild<'_>)) -> Judgement {
        let derivation = DerivationPath::from(DRV);
        let messages = [message.to_owned()];
        let outputs = [OUT.into()];
        let mut build = EndedBuild {
            derivation: &derivation,
            status,
            messages: &messages,
            fixed_output: false,
            impure: false,
            builtin: false,
            machine: None,
            outputs: &outputs,
            normal_mode: true,
            interrupted: false,
            recursive: false,
            opted_out: false,
            sandboxed: None,
            shortage: None,
            by_daemon: false,
            log: &LogJudge::default(),
        };
        change(&mut build);
        judge(&build, &Settings::default())
    }

    /// A log with these lines, which lives as long as the test.
    fn log(text: &str) -> &'static LogJudge {
        let mut log = LogJudge::default();
        text.lines().for_each(|line| log.line(line.as_bytes()));
        Box::leak(Box::new(log))
    }

    /// The only line of a log, which tells of a cause.
    fn told(cause: &str, line: &str) -> Reason {
        Reason::Log(DecidingLine { cause: cause.to_owned(), line: line.to_owned(), number: 1, of: 1, against: None })
    }

    fn message(end: &str) -> String {
        format!("builder for '\x1b[35;1m{DRV}\x1b[0m' {end}")
    }

    fn record(code: i32) -> Judgement {
        Judgement::Record(Class::Builder, Some(code), None)
    }

    fn transient(reason: Reason) -> Judgement {
        Judgement::Ignore(Class::Transient, reason)
    }

    fn other(reason: Reason) -> Judgement {
        Judgement::Ignore(Class::NotTheBuilder, reason)
    }

    #[test]
    fn messages_about_what_others_built() {
        let builder = message("failed with exit code 3;\n       last 1 log lines:\n       > hello");
        let hook = |on: &str| {
            format!(
                "\x1b[31;1merror:\x1b[0m build of '\x1b[35;1m{DRV}\x1b[0m' on '\x1b[35;1m{on}\x1b[0m' failed: {builder}"
            )
        };
        let judged = |status, machine, message: &str| judged(status, message, |e| e.machine = machine);
        let remote = Some("ssh://b");
        assert_eq!(judged(BuildStatus::Other, remote, &hook("ssh://b")), record(3));
        assert_eq!(judged(BuildStatus::Reported, remote, &hook("ssh://b")), record(3));
        assert_eq!(judged(BuildStatus::Other, remote, &hook("ssh://c")), other(Reason::NotTheBuilder));
        // What the build hook exits with says nothing of the builder.
        assert_eq!(judged(BuildStatus::Other, remote, &builder), other(Reason::NotTheBuilder));
        assert_eq!(judged(BuildStatus::Reported, remote, &builder), other(Reason::NoExitCode));
        assert_eq!(judged(BuildStatus::Other, None, &hook("ssh://b")), other(Reason::NotTheBuilder));
        assert_eq!(judged(BuildStatus::Reported, None, &format!("error: {builder}")), record(3));
        assert_eq!(judged(BuildStatus::Reported, None, "error: unexpected EOF"), other(Reason::NoExitCode));
        let full = format!("{builder}\n{DISK_FULL}");
        assert_eq!(judged(BuildStatus::Reported, None, &full), transient(Reason::Transient));
        // Up to Nix 2.3, the log begins in the same line.
        let older =
            "build of '@' on 'ssh://b' failed: builder for '@' failed with exit code 3; last 1 log lines:\n  hello";
        assert_eq!(judged(BuildStatus::Other, remote, &older.replace('@', DRV)), record(3));
    }

    #[test]
    fn what_a_daemon_built_is_doubtful() {
        let said = message("failed with exit code 3");
        let by_daemon = |machine| move |build: &mut EndedBuild<'_>| (build.by_daemon, build.machine) = (true, machine);
        let doubtful = |suspicion| Judgement::Record(Class::Builder, Some(3), Some(suspicion));
        assert_eq!(judged(BuildStatus::Reported, &said, by_daemon(None)), doubtful(Suspicion::ByDaemon));
        let elsewhere = format!("build of '{DRV}' on 'ssh://b' failed: {said}");
        assert_eq!(judged(BuildStatus::Reported, &elsewhere, by_daemon(Some("ssh://b"))), record(3));
        let known =
            |build: &mut EndedBuild<'_>| (build.by_daemon, build.shortage) = (true, Some(Shortage::OutOfMemory));
        assert_eq!(judged(BuildStatus::Reported, &said, known), transient(Reason::Shortage(Shortage::OutOfMemory)));
    }

    #[test]
    fn a_message_without_the_log_that_it_quotes() {
        let told = format!("builder for '{DRV}' failed with exit code 3");
        for message in [
            format!("{told};\nlast 1 log lines:\n> hello\nFor full logs, run x"),
            format!("{told}; last 10 log lines:\n  hello"),
            told.clone(),
        ] {
            assert_eq!(without_quoted_log(&message), told);
        }
        let newer = format!("Cannot build '{DRV}'.\nReason: builder failed with exit code 1.");
        assert_eq!(without_quoted_log(&format!("{newer}\nLast 25 log lines:\n> hello")), newer);
        let rejected = format!("output '{OUT}' is not allowed to refer to the following paths:\n{OUT}\nlast words");
        assert_eq!(without_quoted_log(&rejected), rejected);
    }

    #[test]
    fn messages_of_each_nix() {
        let table = [
            (message("failed with exit code 1"), record(1)),
            (message("failed with exit code 3;\n       last 1 log lines:\n       > hello"), record(3)),
            (
                format!(
                    "Cannot build '{DRV}'.\nReason: \x1b[31;1mbuilder failed with exit code 2\x1b[0m.\nOutput paths:"
                ),
                record(2),
            ),
            (format!("Cannot build '{DRV}'.\n       Reason: builder failed with exit code 2."), record(2)),
            (message("failed with exit code 75"), transient(Reason::ExitCode(75))),
            (message("failed with exit code 128"), record(128)),
            (message("failed with exit code 137"), transient(Reason::Signal)),
            (message("failed with exit code 143"), transient(Reason::Signal)),
            (message("failed with exit code 135"), transient(Reason::Signal)),
            (message("failed with exit code 132"), record(132)),
            (message("failed with exit code 134"), record(134)),
            (message("failed with exit code 139"), record(139)),
            (message("failed with exit code 192"), transient(Reason::Signal)),
            (message("failed with exit code 255"), record(255)),
            (message("failed due to signal 9 (Killed)"), transient(Reason::Signal)),
            (
                format!("Cannot build '{DRV}'.\nReason: builder failed due to signal 15 (Terminated)."),
                transient(Reason::Signal),
            ),
            (message("failed"), other(Reason::NoExitCode)),
            ("builder for '/nix/store/other.drv' failed with exit code 1".to_owned(), other(Reason::NoExitCode)),
            (message("died\nbuilder failed with exit code 1"), other(Reason::NoExitCode)),
            (format!("some text\nbuilder for '{DRV}' failed with exit code 1"), other(Reason::NoExitCode)),
            (String::new(), other(Reason::NoExitCode)),
        ];
        for (message, expected) in table {
            assert_eq!(judged(BuildStatus::PermanentFailure, &message, |_| ()), expected, "{message}");
        }
    }

    #[test]
    fn what_nix_says_of_what_it_did_not_build() {
        let (other_system, features) = ("a 'mips-linux' with features {} is required to build", "but I am a 'x'");
        let reason = |said: &str| Some(format!("the builder did not fail: {said}"));
        let table = [
            (
                format!("{other_system} '\x1b[35;1m{DRV}\x1b[0m', {features}"),
                1,
                reason(&format!("{other_system} '{DRV}', {features}")),
            ),
            (
                format!("error: Cannot build '{DRV}'.\n       Reason: required system or feature not available\nmore"),
                1,
                reason("required system or feature not available"),
            ),
            (
                format!("file '{OUT}' has an unsupported type"),
                0,
                reason(&format!("file '{OUT}' has an unsupported type")),
            ),
            (format!("2 dependencies of derivation '{DRV}' failed to build"), 1, None),
            (format!("Cannot build '{DRV}'.\nReason: 1 dependency failed."), 1, None),
            (format!("'{DRV}' is not built again: it failed 4 minutes ago"), 1, None),
            (format!("Cannot build '{DRV}'.\nIt is not built again: it failed just now"), 1, None),
            (String::new(), 0, None),
        ];
        for (message, named, reason) in table {
            let expected = Unbuilt { derivations: vec![DRV.to_owned(); named], reason };
            assert_eq!(unbuilt(&message, "/nix/store"), expected, "{message}");
        }
        let long = unbuilt(&"é".repeat(1_000_000), "/nix/store").reason.unwrap();
        assert!(long.len() < 400, "{long}");
    }

    #[test]
    fn outputs_that_are_rejected() {
        let recorded = Judgement::Record(Class::Output, None, None);
        let missing = format!("builder for '{DRV}' failed to produce output path for output 'out' at '{OUT}'");
        let sentences = [
            missing.clone(),
            format!("\x1b[31;1merror:\x1b[0m {missing}"),
            format!("cycle detected in build of '{DRV}' in the references of output 'a' from output 'b'"),
            format!("output '\x1b[35;1m{OUT}\x1b[0m' is not allowed to refer to the following paths:\n  /nix/store/y"),
            format!("path '{OUT}' is too large at 5 bytes; limit is 1 bytes"),
            format!("closure of path '{OUT}' is too large at 5 bytes; limit is 1 bytes"),
        ];
        for sentence in &sentences {
            assert_eq!(judged(BuildStatus::OutputRejected, sentence, |_| ()), recorded, "{sentence}");
            assert_eq!(judged(BuildStatus::Reported, sentence, |_| ()), recorded, "{sentence}");
            let plain = sentence.trim_start_matches("\x1b[31;1merror:\x1b[0m ");
            let hook = format!("error: build of '{DRV}' on 'ssh://b' failed: {plain}");
            for status in [BuildStatus::Other, BuildStatus::Reported] {
                assert_eq!(judged(status, &hook, |e| e.machine = Some("ssh://b")), recorded, "{hook}");
            }
            // The same of another derivation.
            let of_another = sentence.replace("-x", "-y");
            assert_eq!(judged(BuildStatus::Reported, &of_another, |_| ()), other(Reason::NoExitCode), "{of_another}");
        }
        // Of a build in this process, Nix's status is enough.
        assert_eq!(judged(BuildStatus::OutputRejected, "suspicious ownership", |_| ()), recorded);
        let full = "cp: error writing 'x': No space left on device";
        type Change = fn(&mut EndedBuild<'_>);
        let table: [(Change, Judgement); 6] = [
            (|e| e.fixed_output = true, other(Reason::NotTheBuilder)),
            (|e| e.builtin = true, other(Reason::NotTheBuilder)),
            (|e| e.impure = true, other(Reason::Impure)),
            (|e| e.normal_mode = false, other(Reason::CheckOrRepair)),
            (
                |e| e.log = log("cp: error writing 'x': No space left on device\n"),
                transient(told("no space left", full)),
            ),
            (|e| e.shortage = Some(Shortage::OutOfMemory), transient(Reason::Shortage(Shortage::OutOfMemory))),
        ];
        for (change, expected) in table {
            for status in [BuildStatus::OutputRejected, BuildStatus::Reported] {
                assert_eq!(judged(status, &missing, change), expected);
            }
        }
    }

    #[test]
    fn only_a_permanent_failure_of_a_plain_derivation_counts() {
        let failed = message("failed with exit code 1");
        let ignored = |class, reason| Judgement::Ignore(class, reason);
        let full = "cp: error writing 'x': No space left on device";
        type Change = fn(&mut EndedBuild<'_>);
        let table: [(Change, Judgement); 27] = [
            (|_| (), record(1)),
            (|e| e.status = BuildStatus::Built, Judgement::Succeeded),
            (|e| e.status = BuildStatus::TimedOut, ignored(Class::Timeout, Reason::Timeout)),
            (|e| e.status = BuildStatus::LogLimitExceeded, ignored(Class::LogLimit, Reason::LogLimit)),
            (|e| e.status = BuildStatus::TransientFailure, transient(Reason::Transient)),
            (|e| e.status = BuildStatus::Other, other(Reason::NotTheBuilder)),
            (|e| e.fixed_output = true, ignored(Class::Fetch, Reason::Fetch)),
            (
                |e| (e.fixed_output, e.status) = (true, BuildStatus::TransientFailure),
                ignored(Class::Fetch, Reason::Fetch),
            ),
            (|e| e.builtin = true, ignored(Class::Fetch, Reason::Fetch)),
            (|e| e.impure = true, other(Reason::Impure)),
            (|e| (e.machine, e.status) = (Some("ssh://b"), BuildStatus::Other), other(Reason::NotTheBuilder)),
            (|e| e.status = BuildStatus::Reported, record(1)),
            (|e| e.normal_mode = false, other(Reason::CheckOrRepair)),
            (|e| e.interrupted = true, other(Reason::Interrupted)),
            (|e| (e.interrupted, e.status) = (true, BuildStatus::TimedOut), other(Reason::Interrupted)),
            (|e| e.recursive = true, other(Reason::Recursive)),
            (|e| e.opted_out = true, other(Reason::OptedOut)),
            (|e| e.outputs = &[], other(Reason::OutputsUnknown)),
            (|e| e.shortage = Some(Shortage::OutOfMemory), transient(Reason::Shortage(Shortage::OutOfMemory))),
            (|e| e.shortage = Some(Shortage::MemoryPressure), transient(Reason::Shortage(Shortage::MemoryPressure))),
            (
                |e| e.shortage = Some(Shortage::Disk("/x".into())),
                transient(Reason::Shortage(Shortage::Disk("/x".into()))),
            ),
            (
                |e| e.log = log("cp: error writing 'x': No space left on device\n"),
                transient(told("no space left", full)),
            ),
            (|e| e.log = log("PASS: No space left on device\n"), record(1)),
            (|e| e.log = log("error: executing '/bin/sh': Cannot allocate memory\n"), transient(Reason::NotStarted)),
            (|e| e.log = log("error: executing 'x': Exec format error\n"), record(1)),
            (|e| e.log = log("error: executing 'y': No such file or directory\n"), record(1)),
            (
                |e| (e.fixed_output, e.log) = (true, log("curl: (6) Could not resolve host: x")),
                transient(told("a network that could not be reached", "curl: (6) Could not resolve host: x")),
            ),
        ];
        for (change, expected) in table {
            assert_eq!(judged(BuildStatus::PermanentFailure, &failed, change), expected);
        }
    }

    #[test]
    fn what_the_settings_want_recorded_is() {
        let settings = Settings { timeouts: true, fixed_output: true, ..Settings::default() };
        let failed = message("failed with exit code 22");
        let answer = "curl: (22) The requested URL returned error: 404\n";
        type Change = fn(&mut EndedBuild<'_>);
        let builder: Change = |e| (e.fixed_output, e.log) = (false, log("working\n"));
        let timeout = "building of 'x' timed out after 5 seconds";
        let table: [(BuildStatus, &str, Change, Judgement); 9] = [
            (BuildStatus::TimedOut, timeout, builder, Judgement::Record(Class::Timeout, None, None)),
            (
                BuildStatus::TimedOut,
                "building of 'x' timed out after 5 seconds of silence",
                builder,
                Judgement::Record(Class::Silence, None, None),
            ),
            (BuildStatus::LogLimitExceeded, "killed", builder, Judgement::Record(Class::LogLimit, None, None)),
            (BuildStatus::TimedOut, timeout, |_| (), transient(Reason::Timeout)),
            (
                BuildStatus::TimedOut,
                timeout,
                |e| (e.fixed_output, e.log) = (false, log("Killed\n")),
                transient(told("something it ran was killed", "Killed")),
            ),
            (
                BuildStatus::TimedOut,
                timeout,
                |e| e.shortage = Some(Shortage::OutOfMemory),
                transient(Reason::Shortage(Shortage::OutOfMemory)),
            ),
            (BuildStatus::TransientFailure, &failed, |_| (), Judgement::Record(Class::Fetch, Some(22), None)),
            (BuildStatus::TransientFailure, &failed, |e| e.interrupted = true, other(Reason::Interrupted)),
            (
                BuildStatus::TransientFailure,
                &failed,
                |e| e.log = log("curl: (7) Failed to connect"),
                transient(told("a network that could not be reached", "curl: (7) Failed to connect")),
            ),
        ];
        for (status, message, change, expected) in table {
            let changed = |build: &mut EndedBuild<'_>| {
                (build.fixed_output, build.log) = (true, log(answer));
                change(build);
            };
            let mut judgement = None;
            judged(status, message, |build| {
                changed(build);
                judgement = Some(judge(build, &settings));
            });
            assert_eq!(judgement, Some(expected), "{message}");
        }
        let full = format!("{failed}\n{DISK_FULL}");
        assert_eq!(
            judged(BuildStatus::TransientFailure, &full, |build| build.fixed_output = true),
            transient(Reason::Transient)
        );
    }

    proptest! {
        #[test]
        fn no_log_can_pass_for_an_exit_code(log in ".*") {
            let end = message(&format!("failed due to signal 9 (Killed);\nlast 1 log lines:\n> {log}"));
            prop_assert_eq!(judged(BuildStatus::PermanentFailure, &end, |_| ()), transient(Reason::Signal));
            prop_assert_eq!(judged(BuildStatus::PermanentFailure, &log, |_| ()), other(Reason::NoExitCode));
        }
    }
}
