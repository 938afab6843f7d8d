//! `nix-negative-cache export` and `import`: failures in a file, for machines that share no binary cache.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use nix_negative_cache_core::database::location::{Audience, default_path, may_write, personal_path};
use nix_negative_cache_core::database::{Database, Learning};
use nix_negative_cache_core::elsewhere::LearnedFailure;
use nix_negative_cache_core::failure_file::{self, FailureFile};
use nix_negative_cache_core::failure_object::PERIOD;
use nix_negative_cache_core::time_text::ago;

use crate::args::{Arguments, ExportArguments, ImportArguments, SettingsArguments};
use crate::databases::Databases;
use crate::files::{STANDARD, write_at_once};
use crate::look::visible;
use crate::nix::{self, BeliefContext};
use crate::publish::portable_object;
use crate::{Failure, counted, databases, say_with_name};

/// Writes what is portable to a file.
///
/// # Errors
///
/// If it can't be written, or somebody else owns the records.
pub fn export(arguments: &Arguments, export: &ExportArguments, out: &mut impl Write) -> Result<(), Failure> {
    let mut databases = databases(arguments)?;
    if databases.writable().next().is_none()
        && let Some(path) = databases.readonly_with(None)?
    {
        // Part of the environment of a failure is only for who owns it, and decides whether it is portable.
        return Err(Failure::Other(format!("only the owner of '{}' may export its failures", path.display())));
    }
    for path in databases.readonly()? {
        say_with_name(&format!("the failures in '{}' are left out: only its owner may export them", path.display()));
    }
    let context = BeliefContext::ask(&arguments.database.store_state(), &SettingsArguments::default());
    let (with_log, now) = (!export.no_log && context.settings.keep_log, Timestamp::now());
    let (mut failures, mut staying) = (BTreeMap::new(), 0);
    for database in databases.writable() {
        for seen in Databases::seen(database, database.records()?) {
            match portable_object(&context, with_log, now, &seen) {
                // Each database is one user's, and of two failures of one output either will do.
                Ok((key, _, content)) => {
                    failures.entry(key).or_insert(content);
                }
                Err(_) => staying += usize::from(seen.record.summary.stands()),
            }
        }
    }
    let bytes = failure_file::write(&failures);
    let others = if staying == 1 { "1 other stays".to_owned() } else { format!("{staying} others stay") };
    let others = if staying == 0 { String::new() } else { format!("; {others} on this machine") };
    let done = format!("exported {}{others}", counted(failures.len(), "failure"));
    if export.file.as_os_str() == STANDARD {
        out.write_all(&bytes)?;
        out.flush()?;
        say_with_name(&done);
    } else {
        let failed = |error: io::Error| Failure::Other(format!("cannot write '{}': {error}", export.file.display()));
        write_at_once(&export.file, |out| out.write_all(&bytes)).map_err(failed)?;
        writeln!(out, "{done}")?;
    }
    Ok(())
}

/// Records what another machine has exported.
///
/// # Errors
///
/// If the file is no such file, or it can't be recorded. Then nothing of it is.
pub fn import(arguments: &Arguments, import: &ImportArguments, out: &mut impl Write) -> Result<(), Failure> {
    let now = Timestamp::now();
    // Nix may not be there; then all is as by default.
    let (settings, database) = nix::settings_in_force().unwrap_or_default();
    let (FailureFile { failures, future }, name) = read(&import.file, settings.max_records, now)?;
    let oldest = now.saturating_sub(SignedDuration::from_secs(PERIOD)).unwrap_or(Timestamp::MIN).as_second();
    let (failures, old): (Vec<_>, Vec<_>) =
        failures.into_iter().partition(|failure| failure.object.last_failure > oldest);
    let (path, audience) = destination(arguments, database)?;
    let learned = if import.dry_run {
        tried(&path, &failures)?
    } else {
        Database::open_or_create(&path, audience)?.import(&failures, false)?
    };
    if import.dry_run {
        for (failure, learning) in failures.iter().zip(&learned) {
            writeln!(out, "{}: {}", failure.object.drv_path, what_becomes_of(failure, *learning, now))?;
        }
        for failure in &old {
            writeln!(out, "{}: too old to be believed", failure.object.drv_path)?;
        }
    }
    let count = |wanted: Learning| learned.iter().filter(|learning| **learning == wanted).count();
    let done = if import.dry_run { "would import" } else { "imported" };
    let recorded = counted(count(Learning::Recorded), "failure");
    write!(out, "{done} {recorded} from {name} into '{}'", visible(&path.display().to_string()))?;
    for (count, what) in [
        (count(Learning::Known), "known before"),
        (count(Learning::Contradicted), "left out because of newer attempts here"),
        (count(Learning::KeptOut), "left out because they were forgotten here"),
        (count(Learning::OtherOutputs), "left out because of records with other outputs"),
        (old.len(), "too old to be believed"),
        (future, "left out because they are in the future: a clock was wrong"),
    ] {
        if count > 0 {
            write!(out, "; {count} {what}")?;
        }
    }
    writeln!(out)?;
    let folder =
        failures.first().and_then(|failure| failure.object.drv_path.rsplit_once('/')).map(|(folder, _)| folder);
    // The daemon has the database of the store, unless its own nix.conf names another one.
    if path != default_path(&arguments.database.store_state()) && folder.is_some_and(nix::daemon_decides) {
        say_with_name(
            "the daemon that builds decides by its own database, and does not know what is imported into another one; import \
             as root, who may write to it",
        );
    }
    Ok(())
}

/// What a file has, and its name for people.
fn read(file: &Path, most: u64, now: Timestamp) -> Result<(FailureFile, String), Failure> {
    let (name, read) = if file.as_os_str() == STANDARD {
        let name = "standard input".to_owned();
        let read = failure_file::read(io::stdin().lock(), &name, most, now);
        (name, read)
    } else {
        let base = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        let read = File::open(file).map_err(Into::into);
        let read = read.and_then(|open| failure_file::read(BufReader::new(open), &base, most, now));
        (format!("'{}'", visible(&file.display().to_string())), read)
    };
    match read {
        Ok(failures) => Ok((failures, name)),
        Err(error) => Err(Failure::Other(format!("{name} {error}; nothing was imported"))),
    }
}

/// The database that failures are imported into, and for whom it is made if it is not there: the one that builds of this user's
/// Nix use, which `configured` may name, if this user may write to it, as root may, or else the user's own.
fn destination(arguments: &Arguments, configured: Option<PathBuf>) -> Result<(PathBuf, Audience), Failure> {
    if let Some(chosen) = arguments.database.chosen() {
        return Ok((chosen.to_owned(), Audience::Everybody));
    }
    let of_the_store = configured.unwrap_or_else(|| default_path(&arguments.database.store_state()));
    if may_write(&of_the_store).is_ok() {
        return Ok((of_the_store, Audience::Everybody));
    }
    let own = personal_path().ok_or_else(|| {
        Failure::Other(
            "this user has no place for a database; set XDG_STATE_HOME, or name one with --database".to_owned(),
        )
    })?;
    Ok((own, Audience::Owner))
}

/// What would become of failures. A database that is not there stays so.
fn tried(path: &Path, failures: &[LearnedFailure]) -> Result<Vec<Learning>, Failure> {
    if let Some(mut database) = Database::open(path)? {
        return Ok(database.import(failures, true)?);
    }
    let folder = tempfile::tempdir().map_err(|error| {
        let folder = env::temp_dir();
        Failure::Other(format!(
            "cannot make a folder in '{}' to try the import in: {error}; set TMPDIR",
            folder.display()
        ))
    })?;
    let path = default_path(folder.path());
    Ok(Database::open_or_create(&path, Audience::Owner)?.import(failures, true)?)
}

fn what_becomes_of(failure: &LearnedFailure, learning: Learning, now: Timestamp) -> String {
    match learning {
        Learning::Recorded => {
            let object = &failure.object;
            let time = Timestamp::from_second(object.last_failure).unwrap_or_default();
            format!("it failed {} ({})", ago(time, now), object.reason)
        }
        Learning::Known => "known before".to_owned(),
        Learning::Contradicted => "a newer attempt was made here".to_owned(),
        Learning::KeptOut => "it was forgotten here".to_owned(),
        Learning::OtherOutputs => "a record here has one of its outputs, and others".to_owned(),
    }
}
