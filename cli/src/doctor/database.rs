//! The checks of a database and of its place.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::Timestamp;
use nix_negative_cache_core::database::condition::Condition;
use nix_negative_cache_core::database::location::{self, Audience};
use nix_negative_cache_core::time_text::moment;

use super::facts::{DatabaseFacts, Facts, Role};
use super::locks::Lock;
use super::repair::Repair;
use super::{Finding, Mark, user_name};
use crate::output::zone;

/// Whether a database can be used, by those who should and nobody else.
pub fn check_database(facts: &Facts, database: &DatabaseFacts) -> Vec<Finding> {
    let name = name(database);
    let mut findings = check_folder(facts, database);
    if !findings.is_empty() && !database.has_own_folder {
        // What is in the wrong place is not put right there.
        return findings;
    }
    let file = match &database.file {
        // What is wrong with the folder says it all.
        Err(_) if !findings.is_empty() => return findings,
        Err(error) => return vec![Finding::problem(format!("{name} can't be looked at: {error}"))],
        Ok(None) if findings.is_empty() => {
            findings.push(check_absent(facts, database));
            findings.extend(check_broken(database));
            return findings;
        }
        Ok(None) => return findings,
        Ok(Some(file)) => file,
    };
    if let Some(target) = &database.target {
        let what = format!("{name} is a symbolic link to '{}'", target.display());
        findings.push(match fs::metadata(&database.path) {
            Ok(_) => {
                Finding::note(what).advice("Modes and owners are not looked at through it, and nothing is repaired.")
            }
            Err(error) => Finding::problem(what)
                .advice(format!("It leads nowhere ({error}), so that no failure can be recorded; remove it.")),
        });
    } else if !file.is_file() {
        let problem = Finding::problem(format!("{name} is not a regular file"));
        findings.push(problem.advice("Nothing is recorded and nothing refused; move it away."));
        return findings;
    } else {
        findings.extend(check_files(facts, database));
    }
    let is_wrong = findings.iter().any(|finding| finding.mark == Mark::Problem);
    findings.extend(database.lock.map(|lock| check_lock(&name, lock)));
    findings.extend(match &database.condition {
        None if is_wrong || database.lock.is_some() => None,
        None => Some(check_foreign(database)),
        // Why it can't be read is said.
        Some(Err(_)) if is_wrong => None,
        Some(_) => Some(check_content(facts, database)),
    });
    findings.extend(check_broken(database));
    findings
}

/// Whether a database that is not there could be made by who would write to it.
fn check_absent(facts: &Facts, database: &DatabaseFacts) -> Finding {
    let name = name(database);
    let asks_daemon = facts.store.is_daemon();
    let (writes, failed) = match database.role {
        Role::Own => (asks_daemon, "nothing that a daemon built has failed"),
        Role::Stores | Role::Chosen | Role::Named => (!asks_daemon, "nothing has failed"),
    };
    match location::may_write(&database.path) {
        Err(error) if writes && facts.nix.has_plugin_on() => {
            let problem = Finding::problem(format!("{name} can't be made: {error}"));
            problem.advice("So no failure can be recorded. See who may write to the folders above.")
        }
        _ => Finding::ok(format!("{name} is not there yet: {failed}")),
    }
}

/// What a database is called.
fn name(database: &DatabaseFacts) -> String {
    let whose = match database.role {
        Role::Own => "This user's own database",
        Role::Stores => "The store's database",
        Role::Chosen | Role::Named => "The database",
    };
    format!("{whose} '{}'", database.path.display())
}

/// Whether this process may change the mode of what belongs to `uid`, and its owner.
fn may_correct(facts: &Facts, uid: u32, owner: Option<u32>) -> bool {
    facts.user == 0 || (facts.user == uid && owner.is_none_or(|owner| owner == uid))
}

/// What to do where this process may not repair anything, or not there.
fn elsewhere(database: &DatabaseFacts) -> String {
    if let (Some(_), Ok(target)) = (&database.target, fs::canonicalize(&database.path)) {
        return format!(
            "To have it repaired there, run  nix-negative-cache --database {} doctor --fix",
            target.display()
        );
    }
    let option = match database.role {
        Role::Stores | Role::Chosen => String::new(),
        Role::Own | Role::Named => format!(" --database {}", database.path.display()),
    };
    format!("It takes other rights: as root, run  nix-negative-cache{option} doctor --fix")
}

/// Whether a file or folder has the mode and the owner that it should have.
fn check_mode(
    facts: &Facts,
    database: &DatabaseFacts,
    path: &Path,
    found: &Metadata,
    mode: u32,
    owner: Option<u32>,
) -> Option<Finding> {
    let (is, wrong_owner) = (found.mode() & 0o777, owner.filter(|owner| *owner != found.uid()));
    if is == mode && wrong_owner.is_none() {
        return None;
    }
    let what = match wrong_owner {
        Some(owner) => format!("belongs to {}, not to {}", user_name(found.uid()), user_name(owner)),
        None => format!("has the mode {is:04o}, not {mode:04o}"),
    };
    let problem = Finding::problem(format!("'{}' {what}", path.display()));
    let may = may_correct(facts, found.uid(), wrong_owner);
    let problem = if is & 0o022 & !mode != 0 || wrong_owner == Some(0) {
        if may {
            problem
                .aftermath("Others may have written there: see  nix-negative-cache list  and, in doubt, forget --all.")
        } else {
            problem.advice("Others may have written there: see  nix-negative-cache list  for what they made up.")
        }
    } else if mode & 0o004 != 0 && is & mode & 0o044 != mode & 0o044 {
        problem.advice("Users of the daemon can't read what failed.")
    } else if wrong_owner.is_some() {
        problem.advice("Its owner's Nix can't record what fails.")
    } else {
        problem
    };
    let repair = Repair::Correct { path: path.to_owned(), mode, owner: wrong_owner };
    Some(problem.repaired_by(repair, may, elsewhere(database)))
}

/// Whether the folder of a database lets the right people in.
fn check_folder(facts: &Facts, database: &DatabaseFacts) -> Vec<Finding> {
    let (Some(folder), Some(found)) = (database.path.parent(), &database.folder) else { return Vec::new() };
    if !database.has_own_folder {
        // It is there for other things as well, and not ours to change.
        let why = fs::metadata(folder).ok().filter(|_| facts.user == 0).and_then(|found| location::distrust(&found));
        let problem = why.map(|why| {
            Finding::problem(format!(
                "The folder '{}' {why}, so that root does not use a database there",
                folder.display()
            ))
            .advice("Choose another place for the database.")
        });
        return problem.into_iter().collect();
    }
    if found.is_symlink() {
        let note = Finding::note(format!("The folder '{}' is a symbolic link", folder.display()));
        return vec![note.advice("Its mode and owner are not looked at, and nothing is repaired.")];
    }
    if !found.is_dir() {
        let problem = Finding::problem(format!("'{}' is not a folder", folder.display()));
        return vec![problem.advice("No failure can be recorded; move it away.")];
    }
    check_mode(facts, database, folder, found, database.audience.modes()[0], database.owner).into_iter().collect()
}

/// Whether the files of a database can be read by who should, and be written to by nobody else.
fn check_files(facts: &Facts, database: &DatabaseFacts) -> Vec<Finding> {
    let Ok(Some(file)) = &database.file else { return Vec::new() };
    // Root does not use what could be written by others.
    let owner = database.owner.or((facts.user == 0).then_some(0));
    let mode = database.audience.modes()[1];
    let mut findings: Vec<Finding> =
        check_mode(facts, database, &database.path, file, mode, owner).into_iter().collect();
    if file.nlink() > 1 {
        let problem = Finding::problem(format!("'{}' has other names (hard links)", database.path.display()));
        findings.push(
            problem.advice(format!("Find them, and do without:  find / -xdev -samefile {}", database.path.display())),
        );
    }
    let mut missing = Vec::new();
    for (path, found) in &database.beside {
        match found {
            None => missing.push(path),
            Some(found) if found.is_file() => findings.extend(check_mode(facts, database, path, found, mode, owner)),
            Some(_) => {
                let problem = Finding::problem(format!("'{}' is not a regular file", path.display()));
                findings.push(problem.advice("SQLite can't use the database with it there; remove it."));
            }
        }
    }
    let needed = matches!(database.condition, Some(Ok(Condition::Sound { logs_ahead: true, .. })));
    if let Some(path) = missing.first().filter(|_| database.audience == Audience::Everybody && needed) {
        let problem = Finding::problem(format!("'{}' is missing", path.display()))
            .advice("Without it, who may not write to the database can't read it either.");
        let may = facts.user == 0 || facts.user == file.uid();
        findings.push(problem.repaired_by(Repair::Open(database.path.clone()), may, elsewhere(database)));
    }
    findings
}

/// The problem that a process causes for others by keeping a database locked.
fn check_lock(name: &str, lock: Lock) -> Finding {
    let who = lock.process.map_or("another process".to_owned(), |process| format!("process {process}"));
    let problem = Finding::problem(format!("{name} has been locked by {who} for at least 5 seconds"));
    let problem = if lock.is_exclusive {
        problem.advice("As long as it holds the lock, nothing is refused and nothing is recorded.")
    } else {
        problem.advice("As long as it holds the lock, no failure is recorded. Earlier records are still used.")
    };
    match lock.process {
        Some(process) => problem.advice(format!("See what it is:  ps -fp {process}")),
        None => problem.advice("It may run in a container, or on another machine."),
    }
}

/// What is in a database that this process has no business with.
fn check_foreign(database: &DatabaseFacts) -> Finding {
    let owner = database.owner.map_or("somebody else".to_owned(), user_name);
    Finding::note(format!("{} belongs to {owner}, and root leaves it alone", name(database)))
        .advice(format!("To have it looked into, run  nix-negative-cache doctor  as {owner}"))
}

/// Whether what is in a database is as it should be.
fn check_content(facts: &Facts, database: &DatabaseFacts) -> Finding {
    let name = name(database);
    let Ok(Some(file)) = &database.file else { return Finding::ok(name) };
    // Nothing is changed through a symbolic link.
    let may = database.target.is_none() && (facts.user == 0 || facts.user == file.uid());
    let path = database.path.clone();
    match &database.condition {
        None => Finding::ok(name),
        Some(Err(error)) => Finding::problem(error.to_string()),
        Some(Ok(Condition::Broken(why))) => {
            let problem = Finding::problem(format!("{name} is broken: {why}"))
                .advice("Nothing is refused and nothing recorded until it is moved away.")
                .aftermath("What it knew is lost, unless somebody mends what was moved away.");
            let otherwise = if database.has_own_folder {
                elsewhere(database)
            } else {
                format!("Move it away, if it is a database of this program at all:  mv {0} {0}.broken", path.display())
            };
            problem.repaired_by(Repair::MoveAway(path), may && database.has_own_folder, otherwise)
        }
        Some(Ok(Condition::OlderSchema)) => {
            Finding::problem(format!("{name} was written by an older version, or is empty"))
                .advice("Who may not write to it can't read it. The next build of its owner brings it up to date, too.")
                .repaired_by(Repair::Open(path), may, elsewhere(database))
        }
        Some(Ok(Condition::Orphans(count))) => {
            let rows = if *count == 1 { "1 row that belongs".to_owned() } else { format!("{count} rows that belong") };
            Finding::problem(format!("{name} has {rows} to no record"))
                .advice(
                    "Was it changed with another program? A later record could get them, and refuse the wrong builds.",
                )
                .repaired_by(Repair::DropOrphans(path), may, elsewhere(database))
        }
        Some(Ok(Condition::Sound { records, .. })) => {
            let records_text = if *records == 1 { "1 record".to_owned() } else { format!("{records} records") };
            // The newest of it is still in the log.
            let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
            let size = size(&path) + size(&location::beside(&path, "-wal"));
            let has = format!("{name} has {records_text} in {size} bytes");
            match facts.nix.settings() {
                Some(Ok(settings)) if *records > settings.max_records && may => {
                    let oldest = settings.past_life(Timestamp::now());
                    Finding::note(format!("{has}; 'negative-cache-max-records' allows {}", settings.max_records))
                        .advice(
                            "The rest goes with the next builds, a few at a time; or all at once with  doctor --fix",
                        )
                        .repaired_by(Repair::Tidy { path, most: settings.max_records, oldest }, true, "")
                }
                _ => match location::may_write(&path) {
                    Err(error) if may => Finding::problem(format!("{name} can't be written to: {error}"))
                        .advice("What it knows is still used, but no failure can be recorded."),
                    _ => Finding::ok(has),
                },
            }
        }
    }
}

/// What was moved away, and takes room.
fn check_broken(database: &DatabaseFacts) -> Vec<Finding> {
    let broken = database.broken.iter().map(|(path, found)| {
        let time = Timestamp::from_second(found.mtime()).unwrap_or_default();
        let when = moment(time, &zone());
        Finding::note(format!("'{}' is a broken database that was moved away", path.display()))
            .advice(format!("It was last written to {when}, and has {} bytes.", found.len()))
            .advice(format!("If nobody wants to know why it broke, remove it:  rm -f {0} {0}-wal", path.display()))
    });
    broken.collect()
}
