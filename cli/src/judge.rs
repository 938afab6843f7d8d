//! `judge`: what is made of a log, for people who want to know, and to report mistakes.

use std::fs::File;
use std::io::{self, Read, Write};

use nix_negative_cache_core::judgement::{Judgement, Suspicion, judge_exit};
use nix_negative_cache_core::log::judge::{Facts, LogJudge, Weighed, Weight};
use nix_negative_cache_core::log::lines::Lines;
use nix_negative_cache_core::settings::Settings;

use crate::Failure;
use crate::args::JudgeArguments;

/// Judges the log that is named.
pub fn judge_log(arguments: &JudgeArguments, out: &mut impl Write) -> Result<(), Failure> {
    let log = match &arguments.file {
        Some(path) => {
            let unreadable =
                |error: io::Error| Failure::Other(format!("cannot read the log '{}': {error}", path.display()));
            read(File::open(path).map_err(unreadable)?).map_err(unreadable)?
        }
        None => read(io::stdin().lock())
            .map_err(|error| Failure::Other(format!("cannot read the log from standard input: {error}")))?,
    };
    let facts = Facts {
        // A sandbox is what the user says; where they do not, it is not known.
        sandboxed: arguments.sandbox.then_some(true),
        fixed_output: arguments.fixed_output,
    };
    match judge_exit(arguments.exit_code, &log, facts, &Settings::default()) {
        Judgement::Record(class, _, None) => {
            writeln!(out, "clear: recorded with the class '{class}', and believed at once")?
        }
        Judgement::Record(class, _, Some(suspicion)) => {
            writeln!(
                out,
                "doubtful: recorded with the class '{class}', and believed once the same failure has come twice in a row"
            )?;
            if let Suspicion::Log(line) = suspicion {
                writeln!(out, "decided by: {}", line.text())?;
            }
        }
        Judgement::Ignore(class, reason) => writeln!(out, "not recorded: {reason} (class '{class}')")?,
        Judgement::Succeeded => {}
    }
    for Weighed { line, weight } in log.evidence(facts) {
        let weight = match weight {
            Weight::Strong => "strong evidence",
            Weight::Doubtful => "doubtful evidence",
            Weight::Nothing => "no evidence",
        };
        writeln!(out, "{weight}: {}", line.text())?;
    }
    Ok(())
}

/// Reads a log in pieces, as it may be large.
fn read(mut source: impl Read) -> io::Result<LogJudge> {
    let (mut log, mut lines) = (LogJudge::default(), Lines::default());
    let mut piece = vec![0; 64 * 1024];
    loop {
        match source.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => lines.push(&piece[..length], |line| log.line(line)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    lines.finish(|line| log.line(line));
    Ok(log)
}
