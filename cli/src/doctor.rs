//! `nix-negative-cache doctor`: what is wrong with the installation, in words, and what to do about it.
//!
//! [`facts`] are gathered first; each check, of the [`installation`] or of a [`database`], is a function of them that
//! returns what it found; [`repair`] is what `--fix` does about it.

mod daemon_process;
mod database;
mod facts;
mod installation;
mod locks;
mod repair;

use std::io::{self, Write};
use std::iter;

use database::check_database;
use facts::Facts;
use installation::{
    check_caches, check_daemon, check_nix, check_plugin, check_plugin_files, check_restart, check_settings, check_store,
};
use repair::Repair;

use crate::args::DatabaseArguments;
use crate::wrapping::{width_of, wrapped};

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Ok,
    /// Nothing is wrong, but somebody may want to know.
    Note,
    Problem,
    /// It was wrong.
    Fixed,
}

impl Mark {
    fn word(self) -> &'static str {
        match self {
            Mark::Ok => "ok",
            Mark::Note => "note",
            Mark::Problem => "problem",
            Mark::Fixed => "fixed",
        }
    }
}

/// What a check found.
#[derive(Debug)]
struct Finding {
    mark: Mark,
    what: String,
    /// Why it matters, and what to do.
    advice: Vec<String>,
    /// What still has to be known when it is repaired.
    aftermath: Option<&'static str>,
    repair: Option<Repair>,
}

impl Finding {
    fn new(mark: Mark, what: impl Into<String>) -> Finding {
        Finding { mark, what: what.into(), advice: Vec::new(), aftermath: None, repair: None }
    }

    fn ok(what: impl Into<String>) -> Finding {
        Finding::new(Mark::Ok, what)
    }

    fn note(what: impl Into<String>) -> Finding {
        Finding::new(Mark::Note, what)
    }

    fn problem(what: impl Into<String>) -> Finding {
        Finding::new(Mark::Problem, what)
    }

    fn advice(mut self, advice: impl Into<String>) -> Finding {
        self.advice.push(advice.into());
        self
    }

    /// Advice that is as good when it is repaired.
    fn aftermath(mut self, aftermath: &'static str) -> Finding {
        self.aftermath = Some(aftermath);
        self.advice(aftermath)
    }

    /// Can be put right by somebody: by `repair` if this process may, or else as `otherwise` says.
    fn repaired_by(mut self, repair: Repair, may: bool, otherwise: impl Into<String>) -> Finding {
        if may {
            self.repair = Some(repair);
            self
        } else {
            self.advice(otherwise)
        }
    }
}

/// Repairs bring to light what was behind them; but not for ever.
const ROUNDS: usize = 6;

/// Checks everything, and with `fix` repairs what can be repaired. Returns whether nothing is wrong any more.
pub fn run(arguments: &DatabaseArguments, fix: bool, out: &mut impl Write) -> io::Result<bool> {
    let mut findings = examine(&Facts::gather(arguments));
    let (mut fixed, mut tried) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut repairs: Vec<(Repair, Option<&str>)> = findings
            .iter()
            .filter_map(|finding| Some((finding.repair.clone()?, finding.aftermath)))
            .filter(|(repair, _)| !tried.contains(repair))
            .collect();
        // Whether the rest is for this process to repair is known when everything belongs to whom it should.
        if repairs.iter().any(|(repair, _)| repair.is_about_rights()) {
            repairs.retain(|(repair, _)| repair.is_about_rights());
        }
        if !fix || repairs.is_empty() {
            break;
        }
        for (repair, aftermath) in repairs {
            fixed.push(match repair.make() {
                Ok(done) => aftermath.into_iter().fold(Finding::new(Mark::Fixed, done), Finding::advice),
                Err(why) => Finding::note(format!("Not fixed: {why}")),
            });
            tried.push(repair);
        }
        findings = examine(&Facts::gather(arguments));
    }
    report(&fixed, out)?;
    report(&findings, out)?;
    let problems = findings.iter().filter(|finding| finding.mark == Mark::Problem).count();
    let repairable = findings.iter().filter(|finding| finding.repair.is_some()).count();
    match problems {
        0 => writeln!(out, "Nothing is wrong.")?,
        1 => writeln!(out, "There is 1 problem.")?,
        _ => writeln!(out, "There are {problems} problems.")?,
    }
    if repairable > 0 && !fix {
        writeln!(out, "To repair what can be repaired, run  nix-negative-cache doctor --fix")?;
    }
    Ok(problems == 0)
}

/// All that the checks find.
fn examine(facts: &Facts) -> Vec<Finding> {
    let checks = [
        check_nix,
        check_plugin,
        check_plugin_files,
        check_settings,
        check_caches,
        check_store,
        check_daemon,
        check_restart,
    ];
    let mut findings: Vec<Finding> = checks.into_iter().flat_map(|check| check(facts)).collect();
    for database in &facts.databases {
        findings.extend(check_database(facts, database));
    }
    findings
}

/// Prints findings, each with its advice under it; as wide as it likes where there is no terminal.
fn report(findings: &[Finding], out: &mut impl Write) -> io::Result<()> {
    /// The columns of the mark.
    const MARK: usize = 9;
    let width = width_of(io::stdout()).map_or(usize::MAX, |width| width.saturating_sub(MARK));
    for Finding { mark, what, advice, .. } in findings {
        let texts = iter::once(what).chain(advice).flat_map(|text| text.lines());
        let marks = iter::once(mark.word()).chain(iter::repeat(""));
        for (mark, line) in marks.zip(texts.flat_map(|text| wrapped(text, width, 0))) {
            writeln!(out, "{}", format!("{mark:MARK$}{line}").trim_end())?;
        }
    }
    Ok(())
}

/// A user, as the system numbers them.
fn user_name(uid: u32) -> String {
    if uid == 0 { "root".to_owned() } else { format!("user {uid}") }
}
