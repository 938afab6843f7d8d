//! `watch`: follows the databases, and prints a line for each failure that is recorded, refused or lifted.
//!
//! The databases are looked at twice a second, which costs a read of 48 bytes for each if nothing has changed. Between the looks
//! no transaction is open, so that the write-ahead log can be emptied, and a database can come, go, and be replaced.

use std::borrow::Cow;
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use nix_negative_cache_core::database::{Change, Database, DatabaseError, Seen, Version, What};
use nix_negative_cache_core::record::FailureRecord;
use nix_negative_cache_core::record_json::RecordJson;
use nix_negative_cache_core::time_text::{as_seconds, span};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;

use crate::args::{Arguments, WatchArguments};
use crate::databases::{Builder, Databases};
use crate::look::{Look, visible};
use crate::output::zone;
use crate::{Failure, say_with_name};

/// How often the databases are looked at.
const PAUSE: Duration = Duration::from_millis(500);

/// Follows the databases until nobody reads standard output any more.
pub fn watch(arguments: &Arguments, watch: &WatchArguments, out: &mut impl Write) -> Result<(), Failure> {
    let mut all: Vec<Followed> = arguments.database.paths().into_iter().map(Followed::new).collect();
    let (look, zone) = (Look::of_stdout(true), zone());
    let mut is_first = true;
    loop {
        let now = Timestamp::now();
        for followed in &mut all {
            for change in followed.changes(now) {
                if watch.json {
                    serde_json::to_writer(&mut *out, &Line::of(&change, &followed.path)).map_err(io::Error::from)?;
                    writeln!(out)?;
                } else {
                    writeln!(out, "{}", in_words(&change, &look, &zone))?;
                }
                out.flush()?;
            }
        }
        if mem::take(&mut is_first) {
            let paths: Vec<String> = all.iter().map(|followed| format!("'{}'", followed.path.display())).collect();
            say_with_name(&format!("watching {}; Control-C ends it", paths.join(" and ")));
        }
        if !wait_for_a_moment()? {
            return Ok(());
        }
    }
}

/// Waits until it is time for the next look. Returns whether there is still somebody who reads standard output.
fn wait_for_a_moment() -> Result<bool, Failure> {
    let stdout = io::stdout();
    let mut streams = [PollFd::new(&stdout, PollFlags::empty())];
    let pause = Timespec { tv_sec: 0, tv_nsec: i64::from(PAUSE.subsec_nanos()) };
    match poll(&mut streams, Some(&pause)) {
        // Once the last reader of a pipe has gone, `poll` reports an error (POLLERR), at once and without being asked for it.
        Ok(_) => Ok(streams[0].revents().is_empty()),
        Err(Errno::INTR) => Ok(true),
        Err(error) => Err(Failure::Other(format!("cannot wait for the failure databases: {error}"))),
    }
}

/// A database that may come, go, and be replaced.
struct Followed {
    path: PathBuf,
    open: Option<Open>,
    /// The last look at which it could be read, or was not there. What has happened later is new.
    since: Option<Timestamp>,
    /// Why it could not be used at the last look, and whether that was said.
    problem: Option<(String, bool)>,
}

/// A database that is there.
struct Open {
    database: Database,
    /// The file, by device and number.
    file: (u64, u64),
    seen: Seen,
    version: Version,
}

impl Open {
    /// Opens a database. `since` is the time after which all that is in it is new, if it was not there before.
    fn new(
        path: &Path,
        file: &Metadata,
        since: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Option<Open>, DatabaseError> {
        let Some(mut database) = Database::open_readonly(path)? else { return Ok(None) };
        // In this order: what is written between the two is seen the next time.
        let version = database.version()?;
        let (seen, version) = match since {
            None => (database.seen(now)?, version),
            Some(since) => (Seen::nothing_since(since), Version::default()),
        };
        Ok(Some(Open { database, file: identity(file), seen, version }))
    }

    fn changes(&mut self, now: Timestamp) -> Result<Vec<Change>, DatabaseError> {
        let version = self.database.version()?;
        if version == self.version {
            return Ok(Vec::new());
        }
        let mut changes = self.database.changes(&mut self.seen, now)?;
        self.version = version;
        if !changes.is_empty() && Databases::builder(&self.database) == Builder::Daemon {
            for change in &mut changes {
                if let What::Recorded(record) = &mut change.what {
                    record.summary.as_clients_see();
                }
            }
        }
        Ok(changes)
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

impl Followed {
    fn new(path: PathBuf) -> Followed {
        Followed { path, open: None, since: None, problem: None }
    }

    /// What has changed since the last look. At the first look, nothing has.
    fn changes(&mut self, now: Timestamp) -> Vec<Change> {
        match self.look(now) {
            Ok(changes) => {
                self.problem = None;
                self.since = Some(now);
                changes
            }
            Err(error) => {
                if self.lasts(error.to_string()) {
                    // What is in it when it can be read again may be old.
                    self.open = None;
                    self.since = None;
                }
                Vec::new()
            }
        }
    }

    fn look(&mut self, now: Timestamp) -> Result<Vec<Change>, DatabaseError> {
        let file = fs::metadata(&self.path).ok();
        if self.open.as_ref().map(|open| open.file) != file.as_ref().map(identity) {
            self.open = None;
        }
        if let Some(file) = file.filter(|_| self.open.is_none()) {
            let since = self.since.map(|since| before_it_was_made(&file, since));
            self.open = Open::new(&self.path, &file, since, now)?;
        }
        self.open.as_mut().map_or_else(|| Ok(Vec::new()), |open| open.changes(now))
    }

    /// Whether the database has had a problem for some time, which is said once. Another process may be just about to make it.
    fn lasts(&mut self, problem: String) -> bool {
        let before = self.problem.take();
        let lasts = before.as_ref().is_some_and(|(before, _)| *before == problem);
        let said = before.is_some_and(|(_, said)| said && lasts);
        if lasts && !said {
            say_with_name(&problem);
        }
        self.problem = Some((problem, lasts));
        lasts
    }
}

/// The time after which all that is in a database is new, which was not there at the time `since`. Of a file that was made since, this
/// is a while before: a failure is older than the file that is made for it.
fn before_it_was_made(file: &Metadata, since: Timestamp) -> Timestamp {
    const A_MOMENT: SignedDuration = SignedDuration::from_secs(1);
    const A_WHILE: SignedDuration = SignedDuration::from_secs(10);
    let earlier = |by| since.saturating_sub(by).unwrap_or(since);
    let made = file.created().ok().and_then(|made| Timestamp::try_from(made).ok());
    if made.is_some_and(|made| made > earlier(A_MOMENT)) { earlier(A_WHILE) } else { since }
}

/// A change for people.
fn in_words(change: &Change, look: &Look, zone: &TimeZone) -> String {
    let time = change.time.to_zoned(zone.clone()).strftime("%H:%M:%S");
    let derivation = visible(change.derivation.as_str());
    let path = look.path(&derivation);
    let (aside, event) = (look.aside(), event(&change.what));
    let line = |what: &str| format!("{aside}{time}{aside:#}  {event:8}  {path}{what}");
    match &change.what {
        What::Recorded(record) => line(&visible(&failed(record))),
        What::Refused(1) => line(""),
        What::Refused(count) => line(&format!(" ({count} times)")),
        What::Built => line(": it was built"),
        What::Forgotten => line(": it was forgotten"),
        What::Retry(user) => line(&format!(": the user with the id {user} has asked for a new attempt")),
    }
}

fn failed(record: &FailureRecord) -> String {
    let summary = &record.summary;
    let (reason, attempts, duration) = (summary.reason(), summary.attempts, span(summary.duration_ms));
    let doubtful = if summary.is_doubtful() { "; doubtful" } else { "" };
    let elsewhere = record.origin().map(|origin| format!("; elsewhere: {origin}")).unwrap_or_default();
    let attempts = if attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") };
    format!(": {reason}, after {duration} ({attempts}{doubtful}{elsewhere})")
}

/// The name of a change.
fn event(what: &What) -> &'static str {
    match what {
        What::Recorded(_) => "recorded",
        What::Refused(_) => "refused",
        What::Built | What::Forgotten | What::Retry(_) => "lifted",
    }
}

/// A change for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    event: &'static str,
    #[serde(serialize_with = "as_seconds")]
    time: Timestamp,
    drv_path: &'a str,
    /// The database.
    database: Cow<'a, str>,
    /// What has lifted the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'static str>,
    /// Who has asked for a new attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<u32>,
    /// How often it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<i64>,
    /// What is recorded of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<RecordJson<'a>>,
}

impl<'a> Line<'a> {
    fn of(change: &'a Change, database: &'a Path) -> Line<'a> {
        let Change { time, derivation, what } = change;
        let (by, user, count, record) = match what {
            What::Recorded(record) => (None, None, None, Some(RecordJson::of(record))),
            What::Refused(count) => (None, None, Some(*count), None),
            What::Built => (Some("build"), None, None, None),
            What::Forgotten => (Some("forget"), None, None, None),
            What::Retry(user) => (Some("retry"), Some(*user), None, None),
        };
        Line {
            event: event(what),
            time: *time,
            drv_path: derivation.as_str(),
            database: database.to_string_lossy(),
            by,
            user,
            count,
            record,
        }
    }
}
