//! From how a build ended to whether it is recorded.
//!
//! A failure is recorded only with proof that the builder ran and exited by itself; a recorded failure that
//! would not happen again is the worst mistake this project can make.

use std::fmt;

use crate::log_tail::printable;
use crate::store_path::DerivationPath;

/// How Nix says a build ended (`BuildResult::Status` in build-result.hh), as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The builder ran and its outputs are registered.
    Built,
    /// The builder failed, for good as far as Nix can tell.
    PermanentFailure,
    /// `timeout` or `max-silent-time`.
    TimedOut,
    /// `max-build-log-size`.
    LogLimitExceeded,
    /// Nix suspects that a new attempt could succeed: disk full, or a derivation with network access.
    TransientFailure,
    /// Every other end: dependencies, substitution, hash mismatch, missing features, interruption.
    Other,
}

/// What is known of a build that ended.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The derivation as Nix names it in its messages.
    pub derivation: &'a DerivationPath,
    /// Nix's verdict.
    pub status: Status,
    /// Nix's message, colours included.
    pub message: &'a str,
    /// Whether the outputs' hashes are given (they may come over the network).
    pub fixed_output: bool,
    /// Whether the derivation is impure, built anew each time.
    pub impure: bool,
    /// Whether the builder is one of Nix's own (`builtin:fetchurl`).
    pub builtin: bool,
    /// Whether another machine built it.
    pub remote: bool,
    /// Whether all output paths are known before the build.
    pub outputs_known: bool,
    /// Whether this is a build for its own sake, not a check or a repair of valid outputs.
    pub normal_mode: bool,
    /// Whether this process was told to stop before the build ended.
    pub interrupted: bool,
    /// Whether the builder may use Nix itself (`recursive-nix`), so that its failure may be that of another build.
    pub recursive: bool,
    /// The end of the log.
    pub log: &'a str,
}

/// What to do about a build that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It succeeded: earlier failures of these outputs are forgotten.
    Forget,
    /// Its builder failed by itself with this code: recorded.
    Record(i32),
    /// Nothing is recorded.
    Ignore(Reason),
}

/// Why the end of a build is not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// A fetch depends on what is outside.
    FixedOutput,
    /// An impure derivation is built anew each time.
    Impure,
    /// Builders inside Nix fetch and unpack.
    Builtin,
    /// The exit code of a builder elsewhere is not known here.
    Remote,
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
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::NotTheBuilder => "the builder did not fail",
            Reason::Transient => "Nix takes the failure for a passing one",
            Reason::Timeout => "a time limit ended the build",
            Reason::LogLimit => "the limit on the size of the log ended the build",
            Reason::Signal => "a signal ended the builder or something it ran",
            Reason::FixedOutput => "the derivation has a fixed output",
            Reason::Impure => "the derivation is impure",
            Reason::Builtin => "the builder is part of Nix",
            Reason::Remote => "it was built on another machine",
            Reason::OutputsUnknown => "its output paths are not known before the build",
            Reason::CheckOrRepair => "it was a check or a repair",
            Reason::Interrupted => "Nix was interrupted",
            Reason::NoExitCode => "the builder's exit code is not known",
            Reason::Recursive => "the builder uses Nix",
            Reason::NotStarted => "the builder could not be started",
        })
    }
}

/// Judges how a build ended. The order of the rules is from the general to the particular, so that the reason
/// given is the one a person would give.
pub fn judge(evidence: &Evidence<'_>) -> Judgement {
    match evidence.status {
        Status::Built => return Judgement::Forget,
        Status::PermanentFailure => {}
        Status::TimedOut => return Judgement::Ignore(Reason::Timeout),
        Status::LogLimitExceeded => return Judgement::Ignore(Reason::LogLimit),
        Status::TransientFailure => return Judgement::Ignore(Reason::Transient),
        Status::Other => return Judgement::Ignore(Reason::NotTheBuilder),
    }
    let conditions = [
        (evidence.interrupted, Reason::Interrupted),
        (!evidence.normal_mode, Reason::CheckOrRepair),
        (evidence.builtin, Reason::Builtin),
        (evidence.fixed_output, Reason::FixedOutput),
        (evidence.impure, Reason::Impure),
        (!evidence.outputs_known, Reason::OutputsUnknown),
        (evidence.remote, Reason::Remote),
        (evidence.recursive, Reason::Recursive),
        (could_not_be_started(evidence.log), Reason::NotStarted),
    ];
    if let Some((_, reason)) = conditions.iter().find(|(holds, _)| *holds) {
        return Judgement::Ignore(*reason);
    }
    match builder_end(evidence.derivation, evidence.message) {
        // A shell exits with 128 + N when what it ran was killed by signal N (POSIX, Shell Command Language, 2.8.2);
        // there are 64 signals (signal(7)).
        Some(BuilderEnd::ExitCode(code @ (1..=128 | 193..=255))) => Judgement::Record(code),
        Some(_) => Judgement::Ignore(Reason::Signal),
        None => Judgement::Ignore(Reason::NoExitCode),
    }
}

/// Whether the log ends with the failure of `execve` that Nix reports from the builder's process (`runChild`) as exit
/// code 1, unless what is wrong is the derivation's fault and stays so.
fn could_not_be_started(log: &str) -> bool {
    const LASTING: [&str; 6] = [
        "No such file or directory",
        "Permission denied",
        "Exec format error",
        "Not a directory",
        "Argument list too long",
        "Too many levels of symbolic links",
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
}

/// Reads the builder's exit code from Nix's message, the only place that has it (`statusToString`, processes.cc).
///
/// The message also quotes the log, which the builder controls, so only its beginning counts:
/// `builder for '…' failed with exit code N` up to Nix 2.30 (derivation-goal.cc),
/// `Cannot build '…'.` and `Reason: builder failed with exit code N.` since (derivation-building-goal.cc).
fn builder_end(derivation: &DerivationPath, message: &str) -> Option<BuilderEnd> {
    let plain: Vec<String> = message.lines().take(2).map(|line| printable(line.as_bytes())).collect();
    let first = plain.first()?;
    let end = match first.strip_prefix(&format!("builder for '{derivation}' ")) {
        Some(end) => end,
        None if *first == format!("Cannot build '{derivation}'.") => {
            plain.get(1)?.trim_start().strip_prefix("Reason: builder ")?
        }
        None => return None,
    };
    if end.starts_with("failed due to signal ") {
        return Some(BuilderEnd::Signal);
    }
    let code = end.strip_prefix("failed with exit code ")?;
    let code = code.trim_end_matches([';', ',', '.']);
    code.parse().ok().map(BuilderEnd::ExitCode)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DRV: &str = "/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv";

    fn judged(status: Status, message: &str, change: impl Fn(&mut Evidence<'_>)) -> Judgement {
        let derivation = DerivationPath::from(DRV);
        let mut evidence = Evidence {
            derivation: &derivation,
            status,
            message,
            fixed_output: false,
            impure: false,
            builtin: false,
            remote: false,
            outputs_known: true,
            normal_mode: true,
            interrupted: false,
            recursive: false,
            log: "",
        };
        change(&mut evidence);
        judge(&evidence)
    }

    fn message(end: &str) -> String {
        format!("builder for '\x1b[35;1m{DRV}\x1b[0m' {end}")
    }

    #[test]
    fn messages_of_each_nix() {
        use Judgement::*;
        let table = [
            (message("failed with exit code 1"), Record(1)),
            (message("failed with exit code 3;\n       last 1 log lines:\n       > hello"), Record(3)),
            (
                format!(
                    "Cannot build '{DRV}'.\nReason: \x1b[31;1mbuilder failed with exit code 2\x1b[0m.\nOutput paths:"
                ),
                Record(2),
            ),
            (format!("Cannot build '{DRV}'.\n       Reason: builder failed with exit code 2."), Record(2)),
            (message("failed with exit code 128"), Record(128)),
            (message("failed with exit code 137"), Ignore(Reason::Signal)),
            (message("failed with exit code 192"), Ignore(Reason::Signal)),
            (message("failed with exit code 255"), Record(255)),
            (message("failed due to signal 9 (Killed)"), Ignore(Reason::Signal)),
            (
                format!("Cannot build '{DRV}'.\nReason: builder failed due to signal 15 (Terminated)."),
                Ignore(Reason::Signal),
            ),
            (message("failed"), Ignore(Reason::NoExitCode)),
            ("builder for '/nix/store/other.drv' failed with exit code 1".to_owned(), Ignore(Reason::NoExitCode)),
            (message("died\nbuilder failed with exit code 1"), Ignore(Reason::NoExitCode)),
            (format!("some text\nbuilder for '{DRV}' failed with exit code 1"), Ignore(Reason::NoExitCode)),
            (String::new(), Ignore(Reason::NoExitCode)),
        ];
        for (message, expected) in table {
            assert_eq!(judged(Status::PermanentFailure, &message, |_| ()), expected, "{message}");
        }
    }

    #[test]
    fn only_a_permanent_failure_of_a_plain_derivation_counts() {
        use Judgement::*;
        let failed = message("failed with exit code 1");
        type Change = fn(&mut Evidence<'_>);
        let table: [(Change, Judgement); 16] = [
            (|_| (), Record(1)),
            (|e| e.status = Status::Built, Forget),
            (|e| e.status = Status::TimedOut, Ignore(Reason::Timeout)),
            (|e| e.status = Status::LogLimitExceeded, Ignore(Reason::LogLimit)),
            (|e| e.status = Status::TransientFailure, Ignore(Reason::Transient)),
            (|e| e.status = Status::Other, Ignore(Reason::NotTheBuilder)),
            (|e| e.fixed_output = true, Ignore(Reason::FixedOutput)),
            (|e| e.impure = true, Ignore(Reason::Impure)),
            (|e| e.builtin = true, Ignore(Reason::Builtin)),
            (|e| e.remote = true, Ignore(Reason::Remote)),
            (|e| e.normal_mode = false, Ignore(Reason::CheckOrRepair)),
            (|e| e.interrupted = true, Ignore(Reason::Interrupted)),
            (|e| e.recursive = true, Ignore(Reason::Recursive)),
            (|e| e.log = "error: executing '/bin/sh': Cannot allocate memory\n", Ignore(Reason::NotStarted)),
            (|e| e.log = "error: executing 'y': No such file or directory\n", Record(1)),
            (|e| e.log = "executing '/bin/sh': Text file busy\nand then it ran\n", Record(1)),
        ];
        for (change, expected) in table {
            assert_eq!(judged(Status::PermanentFailure, &failed, change), expected);
        }
        assert_eq!(
            judged(Status::PermanentFailure, &failed, |e| e.outputs_known = false),
            Ignore(Reason::OutputsUnknown)
        );
    }

    proptest! {
        #[test]
        fn no_log_can_pass_for_an_exit_code(log in ".*") {
            let end = message(&format!("failed due to signal 9 (Killed);\nlast 1 log lines:\n> {log}"));
            prop_assert_eq!(judged(Status::PermanentFailure, &end, |_| ()), Judgement::Ignore(Reason::Signal));
            prop_assert_eq!(judged(Status::PermanentFailure, &log, |_| ()), Judgement::Ignore(Reason::NoExitCode));
        }
    }
}
