//! What `doctor --fix` does. Each repair says what it did, or why it could not.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix_negative_cache_core::database::location::{broken_path, correct, move_away};
use nix_negative_cache_core::database::{Database, DatabaseError};

use super::user_name;

/// Something that can be put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// The mode of a file or folder, and its owner.
    Correct { path: PathBuf, mode: u32, owner: Option<u32> },
    /// Opening the database for writing brings its schema up to date and makes the files beside it.
    Open(PathBuf),
    /// A broken database goes out of the way.
    MoveAway(PathBuf),
    /// What belongs to no record goes.
    DropOrphans(PathBuf),
    /// Records beyond `most`, and those that nobody used since `oldest`, go.
    Tidy { path: PathBuf, most: u64, oldest: Option<Timestamp> },
}

impl Repair {
    /// Whether it decides about who may do what.
    pub fn is_about_rights(&self) -> bool {
        matches!(self, Repair::Correct { .. })
    }

    /// Does it.
    pub fn make(&self) -> Result<String, String> {
        match self {
            Repair::Correct { path, mode, owner } => {
                correct(path, *mode, *owner)
                    .map_err(|error| format!("'{}' keeps its mode and its owner: {error}", path.display()))?;
                let owner = owner.map(|owner| format!(" and belongs to {}", user_name(owner))).unwrap_or_default();
                Ok(format!("'{}' now has the mode {mode:04o}{owner}", path.display()))
            }
            Repair::Open(path) => {
                opened(path)?;
                Ok(format!("'{}' is up to date, and the files beside it are there", path.display()))
            }
            Repair::MoveAway(path) => moved_away(path),
            Repair::DropOrphans(path) => {
                let count = opened(path)?.drop_orphans().map_err(|error| error.to_string())?;
                Ok(format!("'{}' is rid of {count} rows that belonged to no record", path.display()))
            }
            Repair::Tidy { path, most, oldest } => {
                let count = tidied(&mut opened(path)?, *most, *oldest).map_err(|error| error.to_string())?;
                Ok(format!("'{}' is rid of {count} records that nobody used for the longest time", path.display()))
            }
        }
    }
}

fn opened(path: &Path) -> Result<Database, String> {
    match Database::open(path) {
        Ok(Some(database)) => Ok(database),
        Ok(None) => Err(format!("'{}' is not there any more", path.display())),
        Err(error) => Err(error.to_string()),
    }
}

fn moved_away(path: &Path) -> Result<String, String> {
    // The one before it stays as well.
    let broken = broken_path(path);
    if let Ok(earlier) = fs::symlink_metadata(&broken) {
        let time = Timestamp::from_second(earlier.mtime()).unwrap_or_default();
        let kept = format!("{}-{}", broken.display(), time.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ"));
        if fs::symlink_metadata(&kept).is_ok() {
            return Err(format!("'{}' is in the way; move it elsewhere", broken.display()));
        }
        fs::rename(&broken, &kept).map_err(|error| format!("'{}' can't be moved: {error}", broken.display()))?;
    }
    match move_away(path) {
        Some(broken) => {
            Ok(format!("'{}' was moved to '{}'; the next failure begins a new one", path.display(), broken.display()))
        }
        None => Err(format!("'{}' could not be moved away; is another process about to?", path.display())),
    }
}

/// Tidies until nothing is left to do.
fn tidied(database: &mut Database, most: u64, oldest: Option<Timestamp>) -> Result<usize, DatabaseError> {
    /// A step does nothing while another process writes, too.
    const PATIENCE: u32 = 5;
    let (mut count, mut idle) = (0, 0);
    while idle < PATIENCE {
        match database.tidy(most, oldest)? {
            0 => {
                idle += 1;
                sleep(Duration::from_millis(100));
            }
            gone => {
                count += gone;
                idle = 0;
            }
        }
    }
    Ok(count)
}
