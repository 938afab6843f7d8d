//! Asks about many builds, a few at a time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix_negative_cache_core::elsewhere::LearnedFailure;
use nix_negative_cache_core::hydra::{HydraBuild, HydraLog, LeftOut};

use super::answers;
use super::client::{AskError, Client, Kind, Question};

/// How many requests are under way at the same time.
const AT_ONCE: usize = 4;

/// After how many builds in a row that can't be read the server is left alone.
const GIVE_UP: usize = 12;

/// How many lines of the end of a log are asked for. What decides is near the end.
const TAIL: usize = 1000;

/// How many results are handed over at once at most, and after which time at the latest. What an interrupt loses is no more.
const BATCH: (usize, Duration) = (64, Duration::from_secs(1));

/// What is asked for.
#[derive(Debug)]
pub enum Task {
    /// A build of which only the number is known.
    Number(u64),
    /// The log of a build that failed.
    Log(Box<HydraBuild>),
}

/// Which failures are wanted, and what for.
pub struct Wanted<'a> {
    /// Whether a build is one of those that were asked for.
    pub is_wanted: &'a (dyn Fn(&HydraBuild) -> bool + Sync),
    /// Whether nothing is to be refused because of them.
    pub warn_only: bool,
}

/// What was found out about a build.
#[derive(Debug)]
pub struct Finding {
    /// The number of the build.
    pub build: u64,
    /// Its derivation, if the build could be read.
    pub derivation: Option<String>,
    /// The failure, or why it is left out.
    pub result: Result<LearnedFailure, Left>,
}

/// Why there is no failure.
#[derive(Debug)]
pub enum Left {
    /// It does not count.
    Out(LeftOut),
    /// It is not one that was asked for.
    Unwanted,
    /// The server has not answered.
    Unread(AskError),
}

/// Carries out `tasks`, and hands what comes of them to `each`. Stops the client if that fails, or if the server answers nothing any
/// more. Returns how many builds were not asked for, because the client was stopped; they have no finding.
///
/// # Errors
///
/// Those of `each`.
pub fn work<E>(
    client: &Client,
    tasks: impl IntoIterator<Item = Task>,
    wanted: &Wanted<'_>,
    mut each: impl FnMut(Vec<Finding>) -> Result<(), E>,
) -> Result<usize, E> {
    let queue: Mutex<VecDeque<Task>> = Mutex::new(tasks.into_iter().collect());
    let (unread, unasked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (sender, receiver) = mpsc::sync_channel(BATCH.0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            let (sender, queue, unread, unasked) = (sender.clone(), &queue, &unread, &unasked);
            scope.spawn(move || {
                let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                while let Some(task) = next() {
                    let finding = carry_out(client, task, wanted);
                    match &finding.result {
                        // So does all that is left in the queue, at once.
                        Err(Left::Unread(AskError::Stopped)) => {
                            unasked.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        // A server that has no such build, or a large one, has answered.
                        Err(Left::Unread(error)) if !matches!(error, AskError::Missing(_) | AskError::TooLarge(_)) => {
                            if unread.fetch_add(1, Ordering::Relaxed) + 1 >= GIVE_UP {
                                client.stop();
                            }
                        }
                        _ => unread.store(0, Ordering::Relaxed),
                    }
                    // Nobody listens any more if what was found can't be recorded.
                    if sender.send(finding).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut handed = Ok(());
        let mut is_over = false;
        while !is_over && handed.is_ok() {
            let mut batch = Vec::new();
            let end = Instant::now() + BATCH.1;
            while batch.len() < BATCH.0 && !is_over {
                match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
                    Ok(finding) => batch.push(finding),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => is_over = true,
                }
            }
            if !batch.is_empty() {
                handed = each(batch);
            }
        }
        if handed.is_err() {
            client.stop();
        }
        drop(receiver);
        handed
    })?;
    Ok(unasked.into_inner())
}

fn carry_out(client: &Client, task: Task, wanted: &Wanted<'_>) -> Finding {
    let (number, known) = match task {
        Task::Number(number) => (number, None),
        Task::Log(build) => (build.id, Some(*build)),
    };
    let finding = |derivation, result| Finding { build: number, derivation, result };
    let build = match known.map_or_else(|| ask_for_build(client, number), Ok) {
        Ok(build) => build,
        Err(error) => return finding(None, Err(Left::Unread(error))),
    };
    // An import may take hours, and builds end meanwhile.
    let now = Timestamp::now();
    let result = match build.may_count(now) {
        Err(left_out) => Err(Left::Out(left_out)),
        Ok(()) if !(wanted.is_wanted)(&build) => Err(Left::Unwanted),
        Ok(()) => ask_for_log(client, &build)
            .and_then(|log| build.failure(client.server(), wanted.warn_only, &log, now).map_err(Left::Out)),
    };
    finding(Some(build.derivation), result)
}

fn ask_for_build(client: &Client, number: u64) -> Result<HydraBuild, AskError> {
    let path = format!("/build/{number}");
    let build = client.ask(Question { path: &path, kind: Kind::Json }, answers::build)?;
    if build.id == number {
        Ok(build)
    } else {
        Err(AskError::Refused(format!("the server tells of the build {} when it is asked for {number}", build.id)))
    }
}

/// The log of a build, as far as it is read.
fn ask_for_log(client: &Client, build: &HydraBuild) -> Result<HydraLog, Left> {
    // What is no path of a derivation is left out for that, and is no part of a URL.
    let Some(name) = build.derivation_name() else { return Ok(HydraLog::default()) };
    let path = format!("/log/{name}?tail={TAIL}");
    client.ask(Question { path: &path, kind: Kind::Log }, answers::log).map_err(without_log)
}

/// What becomes of a build whose log is not to be had. What the server says of one log alone is an answer: another try would not help, and
/// it says nothing of other logs.
fn without_log(error: AskError) -> Left {
    match error {
        // Storage that does not list what it has says so of all that it does not have (S3).
        AskError::Missing(_) | AskError::Forbidden(_) => Left::Out(LeftOut::NoLog),
        AskError::Unreadable(_) => Left::Out(LeftOut::Unreadable),
        AskError::TooLarge(_) => Left::Out(LeftOut::LogTooLarge),
        error @ (AskError::Failed(_) | AskError::Refused(_) | AskError::Later(_) | AskError::Stopped) => {
            Left::Unread(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_not_to_be_had_is_no_trouble_of_the_server() {
        let text = String::new;
        for (error, left_out) in [
            (AskError::Missing(text()), Some(LeftOut::NoLog)),
            (AskError::Forbidden(text()), Some(LeftOut::NoLog)),
            (AskError::Unreadable(text()), Some(LeftOut::Unreadable)),
            (AskError::TooLarge(text()), Some(LeftOut::LogTooLarge)),
            (AskError::Failed(text()), None),
            (AskError::Refused(text()), None),
            (AskError::Stopped, None),
        ] {
            let left = match without_log(error) {
                Left::Out(left_out) => Some(left_out),
                Left::Unwanted | Left::Unread(_) => None,
            };
            assert_eq!(left, left_out);
        }
    }
}
