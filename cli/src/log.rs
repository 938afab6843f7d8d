//! `nix-negative-cache log`: the whole log of a failure, as Nix has it, or what was recorded of it.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::ops::ControlFlow;

use nix_negative_cache_core::log::tail::{printable, printable_in_colour};

use crate::args::{Arguments, LogArguments};
use crate::pager::{Paged, may_page};
use crate::{Failure, databases, find, nix, paged, say_with_name};

/// How much of a line is looked at at once, in bytes.
const PIECE: u64 = 64 * 1024;

/// How a log is printed.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// Byte for byte, for programs.
    Raw,
    /// With nothing that a terminal would obey.
    Plain,
    /// The same with its colours.
    Coloured,
}

/// Prints logs, one after the other, each with a pager of its own.
///
/// # Errors
///
/// If there is neither a log nor a record of one of the paths.
pub fn log(arguments: &Arguments, log: &LogArguments, out: &mut impl Write) -> Result<(), Failure> {
    let databases = databases(arguments)?;
    let (mut missing, mut is_error) = (Vec::new(), false);
    for path in &log.what.paths {
        let (found, _) = find(&databases, std::slice::from_ref(path))?;
        let records = databases.records_of(&found)?;
        let record = records.into_iter().map(|seen| seen.record).max_by_key(|record| record.summary.last_failure);
        let derivation = record.as_ref().map_or(path.as_str(), |record| record.summary.derivation.as_str());
        let (look, mut paged) = paged(log.paging.no_pager, out);
        let form = match (io::stdout().is_terminal(), look.has_colours()) {
            (false, _) => Form::Raw,
            (true, true) => Form::Coloured,
            (true, false) => Form::Plain,
        };
        let (any, read) = nix::read_log(derivation, may_page(!log.paging.no_pager), |log| copy(log, form, &mut paged))?;
        let Err(error) = read else {
            paged.finish()?;
            continue;
        };
        let recorded = record.as_ref().map(|record| record.log.as_str()).filter(|log| !log.is_empty());
        let is_missing = error.is_missing_log();
        let why = if is_missing {
            format!("Nix has no log of '{derivation}'")
        } else {
            format!("Nix's log of '{derivation}' can't be had: {}", error.to_user())
        };
        match recorded {
            _ if any => {
                is_error = true;
                missing.push(format!("Nix's log of '{derivation}' is not whole: {}", error.to_user()));
            }
            Some(tail) => {
                say_with_name(&format!("{why}; these are the last lines, as they were recorded"));
                paged.write_all(tail.as_bytes())?;
            }
            None => {
                is_error |= !is_missing;
                missing.push(format!("{why}, and no line of it is recorded in {}", databases.names()));
            }
        }
        paged.finish()?;
    }
    match missing.join("\n") {
        none if none.is_empty() => Ok(()),
        message if is_error => Err(Failure::Other(message)),
        message => Err(Failure::NothingFound(message)),
    }
}

/// Copies a piece of a log. Breaks off if nobody reads it any more.
fn copy<W: Write>(log: &mut dyn BufRead, form: Form, out: &mut Paged<'_, W>) -> io::Result<ControlFlow<()>> {
    if let Form::Raw = form {
        let piece = log.fill_buf()?;
        let length = piece.len();
        out.write_all(piece)?;
        log.consume(length);
    } else {
        let mut line = Vec::new();
        log.take(PIECE).read_until(b'\n', &mut line)?;
        let is_ended = line.pop_if(|last| *last == b'\n').is_some();
        let mut text = if let Form::Coloured = form { printable_in_colour(&line) } else { printable(&line) };
        text.extend(is_ended.then_some('\n'));
        out.write_all(text.as_bytes())?;
    }
    Ok(if out.is_dropped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
}
