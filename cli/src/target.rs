//! The database that failures from elsewhere are imported into, and what is said of them.

use std::borrow::Cow;
use std::env;
use std::io::{self, Write};
use std::path::PathBuf;

use jiff::Timestamp;
use nix_negative_cache_core::database::location::{Audience, default_path, may_write, personal_path};
use nix_negative_cache_core::database::{Database, Learning};
use nix_negative_cache_core::elsewhere::LearnedFailure;
use nix_negative_cache_core::time_text::ago;
use tempfile::TempDir;

use crate::args::Arguments;
use crate::look::visible;
use crate::{Failure, counted, nix, say_with_name};

/// The database that failures are imported into. A database that is not there is made when something is written to it. An import that
/// is only tried goes into a copy.
pub struct Target {
    path: PathBuf,
    audience: Audience,
    is_tried: bool,
    open: Option<Database>,
    /// Has the copy, once there is one.
    folder: Option<TempDir>,
}

impl Target {
    /// The one that builds of this user's Nix use, which `configured` may name, if this user may write to it, as root may, or else
    /// the user's own. If the import is only tried, nothing is written.
    ///
    /// # Errors
    ///
    /// If there is no place for a database, or it can't be opened.
    pub fn new(arguments: &Arguments, configured: Option<PathBuf>, is_tried: bool) -> Result<Target, Failure> {
        let (path, audience) = destination(arguments, configured)?;
        let open = Database::open(&path)?;
        Ok(Target { path, audience, is_tried, open, folder: None })
    }

    /// The database, if it is there.
    pub fn existing(&self) -> Option<&Database> {
        self.open.as_ref()
    }

    /// The database, which is made if it is not there, or its copy.
    ///
    /// # Errors
    ///
    /// If it can't be made.
    pub fn database(&mut self) -> Result<&mut Database, Failure> {
        let open = match self.open.take() {
            open if self.is_tried && self.folder.is_none() => self.copy_of(open)?,
            Some(open) => open,
            None => Database::open_or_create(&self.path, self.audience)?,
        };
        Ok(self.open.insert(open))
    }

    /// A copy of the database, or an empty one, in a folder that is removed at the end.
    fn copy_of(&mut self, original: Option<Database>) -> Result<Database, Failure> {
        let folder = tempfile::tempdir().map_err(|error| {
            let folder = env::temp_dir();
            Failure::Other(format!(
                "cannot make a folder in '{}' to try the import in: {error}; set TMPDIR",
                folder.display()
            ))
        })?;
        let path = default_path(folder.path());
        if let Some(original) = original {
            original.copy(&path).map_err(|error| {
                let original = original.path().display();
                Failure::Other(format!(
                    "cannot copy '{original}' to try the import: {error}; set TMPDIR to a folder with enough room"
                ))
            })?;
        }
        let copy = Database::open_or_create(&path, Audience::Owner)?;
        // Only then, so that after an error nothing is taken for the copy.
        self.folder = Some(folder);
        Ok(copy)
    }

    /// Records failures, or says what would become of them.
    ///
    /// # Errors
    ///
    /// If they can't be recorded.
    pub fn import(&mut self, failures: &[LearnedFailure]) -> Result<Vec<Learning>, Failure> {
        Ok(self.database()?.import(failures)?)
    }

    /// Whether nothing is written.
    pub fn is_tried(&self) -> bool {
        self.is_tried
    }

    /// Prints the summary: how many failures were recorded, from where, and how many were not and why. `others` are those that were left
    /// out before anything was learned, with numbers.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub fn summary<'a>(
        &self,
        learned: &[Learning],
        others: impl IntoIterator<Item = (usize, Cow<'a, str>)>,
        from: &str,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let done = if self.is_tried { "would import" } else { "imported" };
        let path = self.path.display().to_string();
        let count = |wanted: Learning| learned.iter().filter(|learning| **learning == wanted).count();
        let recorded = counted(count(Learning::Recorded), "failure");
        write!(out, "{done} {recorded} from {from} into '{}'", visible(&path))?;
        let not_recorded = [
            (count(Learning::Known), "known before"),
            (count(Learning::Contradicted), "left out because of newer attempts here"),
            (count(Learning::KeptOut), "left out because they were forgotten here"),
            (count(Learning::OtherOutputs), "left out because of records with other outputs"),
        ];
        let not_recorded = not_recorded.map(|(count, what)| (count, Cow::Borrowed(what)));
        for (count, what) in not_recorded.into_iter().chain(others).filter(|(count, _)| *count > 0) {
            write!(out, "; {count} {what}")?;
        }
        writeln!(out)
    }

    /// Says so if builds would not see what was imported. `folder` is that of the store.
    pub fn say_who_decides(&self, arguments: &Arguments, folder: Option<&str>) {
        // The daemon has the database of the store, unless its own nix.conf names another one.
        if self.path != default_path(&arguments.database.store_state()) && folder.is_some_and(nix::daemon_decides) {
            say_with_name(
                "the daemon that builds decides by its own database, and does not know what is imported into another one; import \
                 as root, who may write to it",
            );
        }
    }
}

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

/// The folder of the store that failures are of.
pub fn folder_of(failure: Option<&LearnedFailure>) -> Option<&str> {
    failure.and_then(|failure| failure.object.drv_path.rsplit_once('/')).map(|(folder, _)| folder)
}

/// What would become of a failure, in words for itself alone.
pub fn what_becomes_of(failure: &LearnedFailure, learning: Learning, now: Timestamp) -> String {
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

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use nix_negative_cache_core::hydra::{HydraBuild, HydraLog};

    use super::*;

    /// A failure of the outputs with these letters, so many seconds before the first that was made.
    fn failure(build: u64, outputs: &str, ago: i64) -> LearnedFailure {
        static NOW: LazyLock<Timestamp> = LazyLock::new(Timestamp::now);
        let now = *NOW;
        let path = |letter: char| format!("/nix/store/{}-x", String::from(letter).repeat(32));
        let of = |letter: char| (letter.to_string(), serde_json::json!({ "path": path(letter) }));
        let outputs: serde_json::Map<String, serde_json::Value> = outputs.chars().map(of).collect();
        let json = serde_json::json!({
            "id": build, "finished": 1, "buildstatus": 1, "stoptime": now.as_second() - ago, "job": "x", "system": "x86_64-linux",
            "drvpath": "/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv", "buildoutputs": outputs,
        });
        let build: HydraBuild = serde_json::from_value(json).unwrap();
        let mut log = HydraLog::default();
        log.line(b"error");
        build.failure("https://hydra.example.org", false, &log, now).unwrap()
    }

    /// What an import and what its trial say of failures that come one by one.
    fn learned(failures: &[LearnedFailure]) -> [Vec<Learning>; 2] {
        [false, true].map(|is_tried| {
            let folder = tempfile::tempdir().unwrap();
            let path = default_path(folder.path());
            let mut target = Target { path, audience: Audience::Owner, is_tried, open: None, folder: None };
            let one_by_one = failures.iter().map(|failure| target.import(std::slice::from_ref(failure)).unwrap()[0]);
            one_by_one.collect()
        })
    }

    #[test]
    fn a_trial_says_what_the_import_does() {
        use Learning::{Known, OtherOutputs, Recorded};
        for (failures, expected) in [
            (vec![failure(1, "a", 60), failure(2, "a", 60), failure(3, "b", 60)], vec![Recorded, Known, Recorded]),
            (vec![failure(1, "a", 60), failure(2, "a", 90), failure(3, "a", 30)], vec![Recorded, Known, Recorded]),
            (vec![failure(1, "a", 60), failure(2, "a", 30), failure(3, "a", 45)], vec![Recorded, Recorded, Known]),
            (vec![failure(1, "ab", 60), failure(2, "a", 30)], vec![Recorded, OtherOutputs]),
            (
                vec![failure(1, "xy", 60), failure(2, "yz", 30), failure(3, "yx", 60)],
                vec![Recorded, OtherOutputs, Known],
            ),
        ] {
            let [imported, tried] = learned(&failures);
            assert_eq!(imported, expected, "{failures:?}");
            assert_eq!(tried, expected, "{failures:?}");
        }
    }

    /// A file may have more than one transaction takes.
    #[test]
    fn a_trial_of_many_failures_at_once_counts_each_once() {
        let failures = vec![failure(1, "a", 60); 4001];
        for is_tried in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = default_path(folder.path());
            let mut target = Target { path, audience: Audience::Owner, is_tried, open: None, folder: None };
            let learned = target.import(&failures).unwrap();
            assert_eq!(learned.iter().filter(|learning| **learning == Learning::Recorded).count(), 1, "{is_tried}");
        }
    }
}
