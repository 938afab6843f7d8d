//! `nix-negative-cache report`: a page for browsers about failures, and about what was saved by not building them again.
//!
//! The page is one file, which asks for nothing else: its policy (Content-Security-Policy) lets a browser use its own style
//! and script, by their hashes, and nothing else. All that comes from outside is text: the template escapes it.

mod dependents;
mod model;
mod plots;

use std::io::{self, BufWriter, Write};

use askama::Template;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use nix_negative_cache_core::record::PLUGIN_VERSION;
use sha2::{Digest, Sha256};

use crate::args::{Arguments, ReportArguments};
use crate::files::{STANDARD, write_at_once};
use crate::{Failure, databases};
use dependents::Blocking;
use model::Report;

/// How the page looks.
const STYLE: &str = include_str!("report/page.css");

/// What searches the page.
const SCRIPT: &str = include_str!("report/page.js");

/// The page.
#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    report: &'a Report,
    version: &'static str,
    style: &'static str,
    script: &'static str,
    style_hash: String,
    script_hash: String,
}

/// Writes the page.
///
/// # Errors
///
/// If a database can't be read, or the file can't be written.
pub fn report(arguments: &Arguments, report: &ReportArguments, out: &mut impl Write) -> Result<(), Failure> {
    let made = Report::make(&databases(arguments)?, arguments, report.since)?;
    let (style_hash, script_hash) = (hash(STYLE), hash(SCRIPT));
    let page = Page { report: &made, version: PLUGIN_VERSION, style: STYLE, script: SCRIPT, style_hash, script_hash };
    let write = |out: &mut dyn Write| {
        page.write_into(out)?;
        // The template ends without it.
        writeln!(out)
    };
    if report.file.as_os_str() == STANDARD {
        let mut out = BufWriter::new(out);
        write(&mut out)?;
        return Ok(out.flush()?);
    }
    let failed = |error: io::Error| Failure::Other(format!("cannot write '{}': {error}", report.file.display()));
    write_at_once(&report.file, write).map_err(failed)?;
    Ok(())
}

/// By what a policy of a page names a style or a script.
fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(text)))
}
