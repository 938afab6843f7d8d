//! `nix-negative-cache import hydra`: what a Hydra has seen fail.
//!
//! [`client`] asks it, not faster than [`pace`] lets it, [`answers`] reads what it says, and [`workers`] ask about many builds. Which
//! builds count is decided by the core. What was found is recorded as it comes, together with the numbers of the builds, so that
//! whoever interrupts an import can go on with it, and the next one asks only about what is new.

mod answers;
pub mod arguments;
mod client;
mod pace;
mod workers;

use std::collections::{BTreeMap, HashSet};
use std::io::Write;

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use nix_negative_cache_core::database::Learning;
use nix_negative_cache_core::elsewhere::LearnedFailure;
use nix_negative_cache_core::failure_object::PERIOD;
use nix_negative_cache_core::hydra::{HydraBuild, LeftOut};

use answers::Page;
use arguments::{HydraArguments, Jobset};
use client::{AskError, Client, Question};
use workers::{Finding, Left, Task, Wanted};

use crate::args::Arguments;
use crate::look::visible;
use crate::target::{Target, folder_of, left_out, what_becomes_of};
use crate::{Failure, counted, nix, say_with_name};

/// How many failures of one evaluation are kept in memory at most.
const MOST_FAILURES: usize = 50_000;

/// How many pages of evaluations are looked at: more than any jobset has in a week.
const MOST_PAGES: u32 = 100;

/// Records failures that a Hydra has seen.
///
/// # Errors
///
/// If the server can't be asked, or something can't be recorded. What was recorded until then stays.
pub fn import(arguments: &Arguments, hydra: &HydraArguments, out: &mut impl Write) -> Result<(), Failure> {
    // Nix may not be there; then all is as by default.
    let (_, configured) = nix::settings_in_force().unwrap_or_default();
    let mut target = Target::new(arguments, configured, hydra.dry_run)?;
    let server = hydra.server.as_str();
    if !hydra.server.is_secure() {
        say_with_name(&format!("'{server}' is not asked over https: whoever is on the way there can make failures up"));
    }
    let client = Client::new(hydra.server.clone(), hydra.rate, hydra.timeout).map_err(Failure::Other)?;
    let known = target.existing().map_or_else(|| Ok(HashSet::new()), |database| database.known_builds(server))?;
    if !known.is_empty() && !hydra.dry_run {
        // One wish holds for all that a Hydra told.
        target.database()?.set_warn_only(server, hydra.warn_only)?;
    }
    let mut import = Import {
        client: &client,
        target,
        arguments: hydra,
        now: Timestamp::now(),
        known,
        learned: Vec::new(),
        left: BTreeMap::new(),
        unread: Vec::new(),
        folder: None,
    };
    let result = import.all(out);
    // What was recorded before an error is told as well.
    if result.is_ok() || !import.learned.is_empty() {
        import.finish(arguments, out)?;
    }
    result
}

/// An import that is going on.
struct Import<'a> {
    client: &'a Client,
    target: Target,
    arguments: &'a HydraArguments,
    now: Timestamp,
    /// The builds that need not be asked about again.
    known: HashSet<u64>,
    /// What became of failures.
    learned: Vec<Learning>,
    /// What was left out and why, with numbers.
    left: BTreeMap<LeftOut, usize>,
    /// Why builds could not be read.
    unread: Vec<AskError>,
    /// The folder of the store that the failures are of.
    folder: Option<String>,
}

impl Import<'_> {
    fn all(&mut self, out: &mut impl Write) -> Result<(), Failure> {
        if let Some(build) = self.arguments.build {
            let tasks = if self.known.contains(&build) { vec![] } else { vec![Task::Number(build)] };
            return self.work(tasks, out);
        }
        if let Some(evaluation) = self.arguments.eval {
            return self.evaluation(evaluation, out);
        }
        let Some(jobset) = &self.arguments.jobset else { return Ok(()) };
        for evaluation in self.evaluations(jobset)? {
            self.evaluation(evaluation, out)?;
        }
        Ok(())
    }

    /// The evaluations of a jobset that may have something new, newest first.
    fn evaluations(&self, Jobset { project, name }: &Jobset) -> Result<Vec<u64>, Failure> {
        let oldest = self.now.as_second() - PERIOD;
        let mut found = Vec::new();
        let bar = spinner(format!("reading the evaluations of {project}/{name}"));
        for number in 1..=MOST_PAGES {
            let path = format!("/jobset/{project}/{name}/evals?page={number}");
            let Page { evals, next } = self.ask(&path, answers::page)?;
            for evaluation in &evals {
                if evaluation.timestamp.is_some_and(|time| time < oldest) && !found.is_empty() {
                    return Ok(found);
                }
                // Without their numbers, only the list of the builds tells.
                let is_new =
                    evaluation.builds.is_empty() || evaluation.builds.iter().any(|build| !self.known.contains(build));
                if is_new {
                    found.push(evaluation.id);
                }
                if self.arguments.latest {
                    return Ok(found);
                }
            }
            if evals.is_empty() || next.is_none() {
                break;
            }
        }
        bar.finish_and_clear();
        Ok(found)
    }

    /// Imports the failures of an evaluation: by the list of its builds, if the server can make it in time, or else one by one.
    fn evaluation(&mut self, number: u64, out: &mut impl Write) -> Result<(), Failure> {
        let bar = spinner(format!("reading the builds of evaluation {number}"));
        let path = format!("/eval/{number}/builds");
        let listed = self.client.ask(Question { path: &path, is_heavy: true }, |answer| {
            answers::builds(answer, MOST_FAILURES, &|build| {
                !self.known.contains(&build.id)
                    && !matches!(build.may_count(self.now), Err(LeftOut::OtherEnd))
                    && is_wanted(self.arguments, build)
            })
        });
        bar.finish_and_clear();
        let tasks: Vec<Task> = match listed {
            Ok(Some(builds)) => builds.into_iter().map(Task::Log).collect(),
            Ok(None) => {
                return Err(Failure::Other(format!(
                    "evaluation {number} has more than {MOST_FAILURES} failures; ask for some of them with --job or --system"
                )));
            }
            Err(AskError::Failed(why)) => {
                say_with_name(&format!("{why}; so its builds are asked for one by one, which takes longer"));
                let evaluation = self.ask(&format!("/eval/{number}"), answers::evaluation)?;
                let builds = evaluation.builds.into_iter().filter(|build| !self.known.contains(build));
                builds.map(Task::Number).collect()
            }
            Err(error) => return Err(Failure::Other(error.to_string())),
        };
        self.work(tasks, out)
    }

    fn ask<T>(
        &self,
        path: &str,
        read: impl Fn(ureq::BodyReader<'static>) -> Result<T, client::ReadError>,
    ) -> Result<T, Failure> {
        self.client.ask(Question { path, is_heavy: false }, read).map_err(|error| Failure::Other(error.to_string()))
    }

    fn work(&mut self, tasks: Vec<Task>, out: &mut impl Write) -> Result<(), Failure> {
        let bar = progress(tasks.len());
        let (client, arguments) = (self.client, self.arguments);
        let is_wanted = |build: &HydraBuild| is_wanted(arguments, build);
        let wanted = Wanted { is_wanted: &is_wanted, warn_only: arguments.warn_only, now: self.now };
        let worked = workers::work(client, tasks, &wanted, |findings| {
            bar.inc(findings.len() as u64);
            bar.suspend(|| self.record(findings, out))
        });
        bar.finish_and_clear();
        worked
    }

    /// Records what was found, and then that it need not be asked for again.
    fn record(&mut self, findings: Vec<Finding>, out: &mut impl Write) -> Result<(), Failure> {
        let (mut failures, mut known): (Vec<LearnedFailure>, Vec<u64>) = (Vec::new(), Vec::new());
        for Finding { build, derivation, result } in findings {
            match result {
                Ok(failure) => {
                    failures.push(failure);
                    known.push(build);
                }
                Err(Left::Unwanted) => {}
                Err(Left::Unread(error)) => self.unread.push(error),
                Err(Left::Out(why)) => {
                    if why.is_final() {
                        known.push(build);
                    }
                    if why != LeftOut::OtherEnd {
                        if let Some(derivation) = derivation.filter(|_| self.target.is_tried()) {
                            writeln!(out, "{}: {why}", visible(&derivation))?;
                        }
                        *self.left.entry(why).or_default() += 1;
                    }
                }
            }
        }
        if self.folder.is_none() {
            self.folder = folder_of(failures.first()).map(str::to_owned);
        }
        let learned = if failures.is_empty() { Vec::new() } else { self.target.import(&failures)? };
        if self.target.is_tried() {
            for (failure, learning) in failures.iter().zip(&learned) {
                writeln!(out, "{}: {}", failure.object.drv_path, what_becomes_of(failure, *learning, self.now))?;
            }
        } else if !known.is_empty() {
            self.target.database()?.note_builds(self.client.server(), &known, self.now)?;
        }
        self.learned.extend(learned);
        self.known.extend(known);
        Ok(())
    }

    /// Says what was done.
    ///
    /// # Errors
    ///
    /// If some builds could not be read.
    fn finish(&mut self, arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
        let count = |wanted: Learning| self.learned.iter().filter(|learning| **learning == wanted).count();
        self.target.summary(count(Learning::Recorded), self.client.server(), out)?;
        let others = [Learning::Known, Learning::Contradicted, Learning::KeptOut, Learning::OtherOutputs];
        let others = others.into_iter().filter_map(|learning| Some((count(learning), left_out(learning)?.to_owned())));
        let left = self.left.iter().map(|(why, count)| (*count, why.to_string()));
        for (count, what) in others.chain(left).filter(|(count, _)| *count > 0) {
            write!(out, "; {count} {what}")?;
        }
        writeln!(out)?;
        if !self.target.is_tried()
            && let Some(database) = self.target.existing().is_some().then(|| self.target.database())
        {
            database?.drop_old_builds(self.now)?;
        }
        self.target.say_who_decides(arguments, self.folder.as_deref());
        match self.unread.as_slice() {
            [] => Ok(()),
            [why, ..] => {
                let count = counted(self.unread.len(), "build");
                Err(Failure::Other(format!("{count} could not be read, which the same command tries again: {why}")))
            }
        }
    }
}

/// Whether a build is one of those that were asked for.
fn is_wanted(HydraArguments { job, system, .. }: &HydraArguments, build: &HydraBuild) -> bool {
    job.as_ref().is_none_or(|job| job.is_match(&build.job))
        && system.as_ref().is_none_or(|system| *system == build.system)
}

/// A bar on standard error, if that is a terminal.
fn progress(length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} builds, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// What is going on, on standard error, if that is a terminal.
fn spinner(what: String) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what);
    bar.tick();
    bar
}
