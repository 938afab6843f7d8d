//! `nix-negative-cache export` and `import`: failures in a file, for machines that share no binary cache.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use nix_negative_cache_core::failure_file::{self, FailureFile};
use nix_negative_cache_core::failure_object::PERIOD;
use nix_negative_cache_core::portable::Place;

use crate::args::{Arguments, ExportArguments, SettingsArguments};
use crate::databases::Databases;
use crate::files::{STANDARD, write_at_once};
use crate::look::visible;
use crate::nix::{self, BeliefContext};
use crate::publish::portable_object;
use crate::target::{Target, folder_of, what_becomes_of};
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
            match portable_object(&context, Place::Here, with_log, now, &seen) {
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
pub fn import(arguments: &Arguments, file: &Path, dry_run: bool, out: &mut impl Write) -> Result<(), Failure> {
    let now = Timestamp::now();
    // Nix may not be there; then all is as by default.
    let (settings, database) = nix::settings_in_force().unwrap_or_default();
    let (FailureFile { failures, future }, name) = read(file, settings.max_records, now)?;
    let oldest = now.saturating_sub(SignedDuration::from_secs(PERIOD)).unwrap_or(Timestamp::MIN).as_second();
    let (failures, old): (Vec<_>, Vec<_>) =
        failures.into_iter().partition(|failure| failure.object.last_failure > oldest);
    let mut target = Target::new(arguments, database, dry_run)?;
    let learned = target.import(&failures)?;
    if dry_run {
        for (failure, learning) in failures.iter().zip(&learned) {
            writeln!(out, "{}: {}", failure.object.drv_path, what_becomes_of(failure, *learning, now))?;
        }
        for failure in &old {
            writeln!(out, "{}: too old to be believed", failure.object.drv_path)?;
        }
    }
    let others = [
        (old.len(), "too old to be believed".into()),
        (future, "left out because they are in the future: a clock was wrong".into()),
    ];
    target.summary(&learned, others, &name, out)?;
    target.say_who_decides(arguments, folder_of(failures.first()));
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
