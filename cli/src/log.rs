//! `nix-negative-cache log`: the whole log of a failure, as Nix has it, or what was recorded of it.

use std::io::Write;

use crate::args::{Arguments, LogArguments};
use crate::{Failure, databases, find, nix, paged, say_with_name};

/// Prints logs, one after the other, each with a pager of its own.
///
/// # Errors
///
/// If there is neither a log nor a record of one of the paths.
pub fn log(arguments: &Arguments, log: &LogArguments, out: &mut impl Write) -> Result<(), Failure> {
    let databases = databases(arguments)?;
    let mut missing = Vec::new();
    for path in &log.paths {
        let (found, _) = find(&databases, std::slice::from_ref(path))?;
        let records = databases.records_of(&found)?;
        let record = records.into_iter().map(|seen| seen.record).max_by_key(|record| record.summary.last_failure);
        let derivation = record.as_ref().map_or(path.as_str(), |record| record.summary.derivation.as_str());
        let (_, mut paged) = paged(log.paging.no_pager, out);
        let Err(error) = nix::copy_log(derivation, &mut paged)? else {
            paged.finish()?;
            continue;
        };
        let recorded = record.as_ref().map(|record| record.log.as_str()).filter(|log| !log.is_empty());
        let why = if error.is_missing_log() {
            format!("Nix has no log of '{derivation}'")
        } else {
            format!("Nix's log of '{derivation}' can't be had: {}", error.to_user())
        };
        match recorded {
            Some(tail) => {
                say_with_name(&format!("{why}; these are the last lines, as they were recorded"));
                paged.write_all(tail.as_bytes())?;
            }
            None => missing.push(format!("{why}, and no line of it is recorded in {}", databases.names())),
        }
        paged.finish()?;
    }
    if missing.is_empty() { Ok(()) } else { Err(Failure::NothingFound(missing.join("\n"))) }
}
