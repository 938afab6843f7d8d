//! `nix-negative-cache import hydra`: what a Hydra has seen fail.
//!
//! [`client`] sends questions to the Hydra, and [`pace`] limits how many. [`answers`] reads the answers, and [`sieve`] tells which builds
//! of a list are worth a request. [`workers`] ask about many builds at once. The core decides which builds count. Each failure is
//! recorded as soon as it is found, and so is the number of each build that was looked at. So an import that was interrupted can go on,
//! and the next one asks only about what is new.

mod answers;
pub mod arguments;
mod client;
mod pace;
mod sieve;
mod workers;

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use nix_negative_cache_core::database::Learning;
use nix_negative_cache_core::elsewhere::LearnedFailure;
use nix_negative_cache_core::failure_object::PERIOD;
use nix_negative_cache_core::hydra::{HydraBuild, LeftOut, REMEMBERED};

use answers::Page;
use arguments::{HydraArguments, Jobset};
use client::{AskError, Client, Kind, Question, shown};
use sieve::{LeftOutOfLists, Sieve};
use workers::{Finding, Left, Task, Wanted};

use crate::args::Arguments;
use crate::streams::Output;
use crate::target::{Target, folder_of, what_becomes_of};
use crate::{Failure, counted, nix, say_with_name};

/// How many pages of evaluations are looked at: more than any jobset has in a week.
const MOST_PAGES: u32 = 100;

/// Records failures that a Hydra has seen.
///
/// # Errors
///
/// If the server can't be asked, or something can't be recorded. What was recorded until then stays.
pub fn import(arguments: &Arguments, hydra: &HydraArguments, out: &mut Output) -> Result<(), Failure> {
    // Nix may not be there; then all is as by default.
    let (_, configured) = nix::settings_in_force().unwrap_or_default();
    let mut target = Target::new(arguments, configured, hydra.dry_run)?;
    let server = hydra.server.as_str();
    if !hydra.server.is_secure() {
        say_with_name(&format!("'{server}' is not asked over https: whoever is on the way there can make failures up"));
    }
    let client = Client::new(hydra.server.clone(), hydra.rate, hydra.timeout).map_err(Failure::Other)?;
    let now = Timestamp::now();
    let noted =
        |of: &str| target.existing().map_or_else(|| Ok(HashMap::new()), |database| database.known_builds(of, now));
    let (known, read) = (noted(server)?, noted(&evaluations_of(hydra))?);
    if !known.is_empty() && !hydra.dry_run {
        // One wish holds for all that came from a Hydra.
        target.database()?.set_warn_only(server, hydra.warn_only)?;
    }
    let mut import = Import {
        client: &client,
        target,
        arguments: hydra,
        now,
        known,
        read,
        until: Timestamp::MAX,
        learned: Vec::new(),
        left: BTreeMap::new(),
        left_of_lists: LeftOutOfLists::default(),
        not_asked_for: None,
        unread: (0, 0),
        trouble: None,
        unasked: (0, 0),
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
    /// When the import began. From then on it is counted how long a note stands.
    now: Timestamp,
    /// The builds that need not be asked about again, and until when.
    known: HashMap<u64, Timestamp>,
    /// The evaluations of which that is true for all builds that are asked for.
    read: HashMap<u64, Timestamp>,
    /// Until when that is true for what was read of the present evaluation.
    until: Timestamp,
    /// What became of failures.
    learned: Vec<Learning>,
    /// What was left out and why, with numbers.
    left: BTreeMap<LeftOut, usize>,
    /// The same of builds that were not asked about by themselves.
    left_of_lists: LeftOutOfLists,
    /// Why the one build that was asked for is not imported, if that does not follow from the build.
    not_asked_for: Option<&'static str>,
    /// How many builds and evaluations could not be read.
    unread: (usize, usize),
    /// Why the first of them could not.
    trouble: Option<String>,
    /// How many builds and evaluations were not asked for, because the import had to stop.
    unasked: (usize, usize),
    /// The folder of the store that the failures are of.
    folder: Option<String>,
}

impl Import<'_> {
    fn all(&mut self, out: &mut Output) -> Result<(), Failure> {
        if let Some(build) = self.arguments.build {
            if self.known.contains_key(&build) {
                self.not_asked_for = Some("imported or left out before");
                return Ok(());
            }
            return self.work(vec![Task::Number(build)], out);
        }
        if let Some(evaluation) = self.arguments.eval {
            return self.evaluation(evaluation, out)?.map_or(Ok(()), |why| Err(Failure::Other(why)));
        }
        let Some(jobset) = &self.arguments.jobset else { return Ok(()) };
        let evaluations = self.evaluations(jobset)?;
        for (place, evaluation) in evaluations.iter().enumerate() {
            if self.client.is_stopped() {
                self.unasked.1 = evaluations.len() - place;
                break;
            }
            match self.evaluation(*evaluation, out) {
                Ok(None) => {}
                Ok(Some(why)) => {
                    self.unread.1 += 1;
                    self.trouble.get_or_insert(why);
                }
                Err(failure) => {
                    self.unasked.1 = evaluations.len() - place;
                    return Err(match failure {
                        Failure::Other(why) => Failure::Other(format!("{why}{}", self.what_is_left())),
                        other => other,
                    });
                }
            }
        }
        Ok(())
    }

    /// The evaluations of a jobset that may have something new, newest first.
    fn evaluations(&self, Jobset { project, name }: &Jobset) -> Result<Vec<u64>, Failure> {
        let oldest = self.now.as_second() - PERIOD;
        let mut found = Vec::new();
        let bar = spinner(format!("reading the evaluations of {project}/{name}"));
        'pages: for number in 1..=MOST_PAGES {
            let path = format!("/jobset/{project}/{name}/evals?page={number}");
            let Page { evals, next } =
                self.ask(&path, answers::page).map_err(|error| Failure::Other(error.to_string()))?;
            for evaluation in &evals {
                let is_old = evaluation.timestamp.is_some_and(|time| time < oldest);
                if is_old && !self.arguments.latest {
                    break 'pages;
                }
                if !self.read.contains_key(&evaluation.id) {
                    found.push(evaluation.id);
                }
                if self.arguments.latest {
                    break 'pages;
                }
            }
            if evals.is_empty() || next.is_none() {
                break;
            }
        }
        bar.finish_and_clear();
        Ok(found)
    }

    /// Imports the failures of an evaluation. Notes it if nothing is left to be asked for. Returns why it can't be read, if that says
    /// nothing of other evaluations.
    fn evaluation(&mut self, number: u64, out: &mut Output) -> Result<Option<String>, Failure> {
        let tasks = match self.tasks(number) {
            Ok(Some(tasks)) => tasks,
            Ok(None) => {
                return Ok(Some(format!(
                    "evaluation {number} has too many failures; ask for some of them with --job or --system"
                )));
            }
            Err(error @ (AskError::Missing(_) | AskError::TooLarge(_))) => return Ok(Some(error.to_string())),
            Err(error) => return Err(Failure::Other(error.to_string())),
        };
        self.work(tasks, out)?;
        let until = self.until.min(self.now + REMEMBERED);
        if until > self.now && !self.target.is_tried() {
            self.target.database()?.note_builds(&evaluations_of(self.arguments), &[(number, until)])?;
        }
        Ok(None)
    }

    /// The requests that an evaluation takes. If the server can list the builds in time, only the logs are asked for; otherwise each
    /// build is. `None` if the list has more failures than can be kept.
    fn tasks(&mut self, number: u64) -> Result<Option<Vec<Task>>, AskError> {
        let bar = spinner(format!("reading the builds of evaluation {number}"));
        let path = format!("/eval/{number}/builds");
        let is_wanted = |build: &HydraBuild| is_wanted(self.arguments, build);
        let sieve = Sieve::new(&self.known, &is_wanted, self.now, &self.left_of_lists);
        let listed = self.client.ask(Question { path: &path, kind: Kind::LongJson }, |answer| {
            sieve.restart();
            answers::builds(answer, &|build| sieve.keeps(build, Timestamp::now()))
        });
        bar.finish_and_clear();
        let (until, left) = sieve.finish();
        match listed {
            Ok(None) => Ok(None),
            Ok(Some(builds)) => {
                self.until = until;
                self.left_of_lists.add(left);
                Ok(Some(builds.into_iter().map(|build| Task::Log(Box::new(build))).collect()))
            }
            Err(AskError::Failed(why)) => {
                say_with_name(&format!("{why}; so its builds are asked for one by one, which takes longer"));
                let evaluation = self.ask(&format!("/eval/{number}"), answers::evaluation)?;
                let known = evaluation.builds.iter().filter_map(|build| self.known.get(build));
                self.until = known.min().copied().unwrap_or(Timestamp::MAX);
                let builds = evaluation.builds.into_iter().filter(|build| !self.known.contains_key(build));
                Ok(Some(builds.map(Task::Number).collect()))
            }
            Err(error) => Err(error),
        }
    }

    /// Until when a build that was left out for this need not be asked about again.
    fn until(&self, why: &LeftOut) -> Timestamp {
        self.now + why.stands_for()
    }

    fn ask<T>(
        &self,
        path: &str,
        read: impl Fn(ureq::BodyReader<'static>) -> Result<T, client::ReadError>,
    ) -> Result<T, AskError> {
        self.client.ask(Question { path, kind: Kind::Json }, read)
    }

    fn work(&mut self, tasks: Vec<Task>, out: &mut Output) -> Result<(), Failure> {
        let bar = progress(tasks.len());
        let (client, arguments) = (self.client, self.arguments);
        let is_wanted = |build: &HydraBuild| is_wanted(arguments, build);
        let wanted = Wanted { is_wanted: &is_wanted, warn_only: arguments.warn_only };
        let worked = workers::work(client, tasks, &wanted, |findings| {
            bar.inc(findings.len() as u64);
            bar.suspend(|| self.record(findings, out))
        });
        bar.finish_and_clear();
        let unasked = worked?;
        self.unasked.0 += unasked;
        if unasked > 0 {
            self.until = self.now;
        }
        Ok(())
    }

    /// Records what was found, and then that it need not be asked for again.
    fn record(&mut self, findings: Vec<Finding>, out: &mut Output) -> Result<(), Failure> {
        let is_one = self.arguments.build.is_some();
        let (mut failures, mut known): (Vec<LearnedFailure>, Vec<(u64, Timestamp)>) = (Vec::new(), Vec::new());
        for Finding { build, derivation, result } in findings {
            let left = match result {
                Ok(failure) => {
                    failures.push(failure);
                    known.push((build, self.now + REMEMBERED));
                    continue;
                }
                // That is an answer about one of many, and an error if it is about the one that somebody has named.
                Err(Left::Unread(AskError::Missing(_))) if !is_one => Left::Out(LeftOut::Missing),
                Err(left) => left,
            };
            match left {
                Left::Unwanted if is_one => self.not_asked_for = Some("left out by --job or --system"),
                Left::Unwanted => {}
                Left::Unread(error) => {
                    self.until = self.now;
                    self.unread.0 += 1;
                    self.trouble.get_or_insert_with(|| error.to_string());
                }
                Left::Out(why) => {
                    known.push((build, self.until(&why)));
                    // Most builds have succeeded.
                    if is_one || !matches!(why, LeftOut::OtherEnd { .. }) {
                        if let Some(derivation) = derivation.filter(|_| self.target.is_tried()) {
                            writeln!(out, "{}: {why}", shown(&derivation))?;
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
        self.until = known.iter().map(|(_, until)| *until).fold(self.until, Timestamp::min);
        known.retain(|(_, until)| *until > self.now);
        if self.target.is_tried() {
            let now = Timestamp::now();
            for (failure, learning) in failures.iter().zip(&learned) {
                writeln!(out, "{}: {}", failure.object.drv_path, what_becomes_of(failure, *learning, now))?;
            }
            // The server need not be asked for what nobody reads.
            if out.is_dropped {
                self.client.stop();
            }
        } else if !known.is_empty() {
            self.target.database()?.note_builds(self.client.server(), &known)?;
        }
        self.learned.extend(learned);
        self.known.extend(known);
        Ok(())
    }

    /// Says what was done.
    ///
    /// # Errors
    ///
    /// If some builds, or evaluations, could not be read.
    fn finish(&mut self, arguments: &Arguments, out: &mut Output) -> Result<(), Failure> {
        for (why, count) in std::mem::take(&mut self.left_of_lists).counts {
            *self.left.entry(why).or_default() += count;
        }
        let left = self.left.iter().map(|(why, count)| (*count, why.to_string().into()));
        let one = self.not_asked_for.map(|why| (1, why.into()));
        self.target.summary(&self.learned, left.chain(one), self.client.server(), out)?;
        if !self.target.is_tried() && self.target.existing().is_some() {
            self.target.database()?.drop_old_builds(self.now)?;
        }
        self.target.say_who_decides(arguments, self.folder.as_deref());
        let Some(why) = &self.trouble else { return Ok(()) };
        let (count, left) = (builds_and_evaluations(self.unread), self.what_is_left());
        Err(Failure::Other(format!("{count} could not be read{left}, which the same command tries again: {why}")))
    }

    /// What was not asked for, in parentheses, if there is anything.
    fn what_is_left(&self) -> String {
        let unasked = builds_and_evaluations(self.unasked);
        if unasked.is_empty() { String::new() } else { format!(" (not asked for: {unasked})") }
    }
}

/// So many builds and evaluations, in words; nothing if there are none.
fn builds_and_evaluations((builds, evaluations): (usize, usize)) -> String {
    let counts = [(builds, "build"), (evaluations, "evaluation")].into_iter().filter(|(count, _)| *count > 0);
    counts.map(|(count, what)| counted(count, what)).collect::<Vec<_>>().join(", ")
}

/// The name by which it is noted which evaluations were read: what is read of one depends on what is asked for. No URL has a space.
fn evaluations_of(HydraArguments { server, job, system, .. }: &HydraArguments) -> String {
    let job = job.as_ref().map(regex::Regex::as_str);
    format!("{} evaluations {job:?} {system:?}", server.as_str())
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
