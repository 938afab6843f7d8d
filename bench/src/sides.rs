//! The sides of comparisons that are not programs of their own. Another process times them.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Subcommand;
use jiff::Timestamp;
use nix_negative_cache_core::belief::Belief;
use nix_negative_cache_core::database::Database;
use nix_negative_cache_core::database::location::Audience;
use nix_negative_cache_core::environment::Comparison;
use nix_negative_cache_core::log::judge::LogJudge;
use nix_negative_cache_core::record::FailureRecord;
use nix_negative_cache_core::settings::Settings;
use rusqlite::{Connection, OptionalExtension, params};

use crate::records::{self, failure};
use crate::{Result, daemon, installation};

#[derive(Subcommand)]
pub enum Side {
    /// Restores the kept state of a store.
    Reset { root: PathBuf },
    /// Consults a database about derivations, opening it each time.
    Consult { database: PathBuf, paths: PathBuf, times: u32 },
    /// Asks SQLite for the row of each output of the same derivations.
    Query { database: PathBuf, paths: PathBuf, times: u32 },
    /// Records a failure.
    Record { database: PathBuf, number: u32 },
    /// Commits one row durably.
    Commit { database: PathBuf, number: u32 },
    /// Runs another side in `count` processes at once, each with its own number.
    AtOnce { count: u32, side: String, database: PathBuf },
    /// Makes the files that the next two sides need.
    Fixture { folder: PathBuf },
    /// Consults an open database about derivations, `times` times.
    ConsultOnce { database: PathBuf, paths: PathBuf, times: u32 },
    /// Records `times` failures in an open database.
    RecordTimes { database: PathBuf, times: u32 },
    /// Judges a thousand lines of a log, `times` times.
    JudgeLines { times: u32 },
    /// Asks a daemon `times` times for a derivation that it refuses.
    Ask { socket: PathBuf, derivation: String, times: u32 },
}

impl Side {
    pub fn run(&self) -> Result<()> {
        match self {
            Side::Reset { root } => installation::reset(root),
            Side::Consult { database, paths, times } => consult(database, paths, *times),
            Side::Query { database, paths, times } => query(database, paths, *times),
            Side::Record { database, number } => record(database, *number),
            Side::Commit { database, number } => commit(database, *number),
            Side::AtOnce { count, side, database } => at_once(*count, side, database),
            Side::Fixture { folder } => fixture(folder),
            Side::ConsultOnce { database, paths, times } => consult_open(&open(database)?, &read_paths(paths)?, *times),
            Side::RecordTimes { database, times } => record_times(&mut open(database)?, *times),
            Side::JudgeLines { times } => {
                judge_lines(*times);
                Ok(())
            }
            Side::Ask { socket, derivation, times } => daemon::ask(socket, derivation, *times),
        }
    }
}

fn read_paths(paths: &Path) -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string(paths)?;
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    Ok(lines.map(|(derivation, output)| (derivation.to_owned(), output.to_owned())).collect())
}

fn open(database: &Path) -> Result<Database> {
    Ok(Database::open(database)?.ok_or("there is no database")?)
}

fn consult(database: &Path, paths: &Path, times: u32) -> Result<()> {
    let paths = read_paths(paths)?;
    (0..times).try_for_each(|_| consult_open(&open(database)?, &paths, 1))
}

/// Consults as the plugin does: first about the requested derivation, which is the first one; and about the others only if
/// that one is not refused.
fn consult_open(database: &Database, paths: &[(String, String)], times: u32) -> Result<()> {
    let names: Vec<&str> = paths.iter().map(|(derivation, _)| records::name_of(derivation)).collect();
    for _ in 0..times {
        if believed(database, &paths[..1])? == 0 {
            let candidates = database.candidates(&names)?;
            let candidates: Vec<_> = candidates.into_iter().map(|place| paths[place].clone()).collect();
            black_box(believed(database, &candidates)?);
        }
    }
    Ok(())
}

fn record_times(database: &mut Database, times: u32) -> Result<()> {
    let template = records::made_up();
    for number in 0..times {
        database.insert(&failure(
            &template,
            &format!("/nix/store/{number}-x.drv"),
            &format!("/nix/store/{number}-x"),
        ))?;
    }
    Ok(())
}

/// Makes a database with a thousand failures, and two lists of a thousand derivations: with none, or one in a hundred, of them.
fn fixture(folder: &Path) -> Result<()> {
    let folder = folder.join("fixture");
    fs::create_dir(&folder)?;
    let template = records::made_up();
    let path = |kind: &str, number: u32| format!("/nix/store/{number:0>32}-{kind}-{number}");
    let failures: Vec<_> = (0..1000).map(|number| path("known", number)).collect();
    let failures: Vec<_> = failures.iter().map(|output| failure(&template, &format!("{output}.drv"), output)).collect();
    records::database(&folder.join("database.sqlite"), &failures, 0)?;
    for percent in [0, 1] {
        let kind = |number: u32| if number % 100 >= 100 - percent { "known" } else { "new" };
        let paths = (0..1000).map(|number| path(kind(number), number));
        let paths: Vec<_> = paths.map(|output| (format!("{output}.drv"), output)).collect();
        records::write_paths(&folder.join(format!("paths-{percent}")), &paths)?;
    }
    Ok(())
}

/// How many of these derivations are believed to fail.
fn believed(database: &Database, paths: &[(String, String)]) -> Result<usize> {
    let outputs: Vec<_> = paths.iter().map(|(_, output)| output.as_str().into()).collect();
    let known: Vec<_> = database.known(&outputs)?.into_values().collect();
    let records = database.records_of(&known)?;
    let (settings, now) = (Settings::default(), Timestamp::now());
    let believed = records.values().filter(|record| {
        let here = record.summary.history.first().and_then(|attempt| attempt.failure.as_ref());
        let here = here.map(|failure| failure.environment.clone()).unwrap_or_default();
        matches!(record.summary.belief(0, &Comparison::with(&here), &settings, now), Belief::Fails { .. })
    });
    Ok(believed.count())
}

fn query(database: &Path, paths: &Path, times: u32) -> Result<()> {
    let paths = read_paths(paths)?;
    for _ in 0..times {
        let connection = Connection::open(database)?;
        let mut statement = connection.prepare("SELECT failure FROM output WHERE path = ?1")?;
        for (_, output) in &paths {
            black_box(statement.query_row([output], |row| row.get::<_, i64>(0)).optional()?);
        }
    }
    Ok(())
}

/// Judges lines of 80 characters that say nothing about the failure, as most lines of logs do.
fn judge_lines(times: u32) {
    const LINE: &[u8] = b"gcc -DHAVE_CONFIG_H -I. -I.. -Iinclude -g -O2 -c -o src/hqueue/x.o src/hqueue.c ";
    let mut log = LogJudge::default();
    for _ in 0..times * 1000 {
        log.line(black_box(LINE));
    }
    black_box(&log);
}

/// Records a failure like the first one of the database, but with its own path for each number.
fn record(path: &Path, number: u32) -> Result<()> {
    let mut database = Database::open_or_create(path, Audience::Everybody)?;
    let first = database.find([TEMPLATE])?;
    let first = database.records_of(&first)?.into_values().next().ok_or("the database has no record")?;
    let output = format!("{}/{number:0>32}-recorded", first.store_dir);
    database.insert(&failure(&first, &format!("{output}.drv"), &output))?;
    Ok(())
}

/// The derivation that [`make_database`] records.
const TEMPLATE: &str = "template";

fn commit(database: &Path, number: u32) -> Result<()> {
    let connection = Connection::open(database)?;
    connection.busy_timeout(std::time::Duration::from_secs(60))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.execute("INSERT INTO row VALUES (?1)", params![number])?;
    Ok(())
}

fn at_once(count: u32, side: &str, database: &Path) -> Result<()> {
    let bench = std::env::current_exe()?;
    let start = |number: u32| Command::new(&bench).args(["side", side]).arg(database).arg(number.to_string()).spawn();
    let children: std::io::Result<Vec<_>> = (0..count).map(start).collect();
    for mut child in children? {
        if !child.wait()?.success() {
            return Err(format!("one of {count} processes failed").into());
        }
    }
    Ok(())
}

/// Makes the table of [`Side::Commit`].
pub fn make_table(database: &Path) -> Result<()> {
    records::remove(database);
    let connection = Connection::open(database)?;
    connection.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE row (number INTEGER)")?;
    Ok(())
}

/// A database for [`Side::Record`].
pub fn make_database(database: &Path, template: &FailureRecord) -> Result<()> {
    records::database(database, &[failure(template, TEMPLATE, "template-output")], 0)
}
