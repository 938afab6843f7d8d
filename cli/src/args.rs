//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use jiff::Span;
use nix_negative_cache_core::database::default_path;
use regex::Regex;

/// The exit status when there is no such record.
pub const NOTHING_FOUND: u8 = 3;

/// Looks at and forgets the failures that the nix-negative-cache plugin recorded.
///
/// Exit status: 0 done, 1 an error, 2 wrong arguments, 3 no such failure is recorded.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Arguments {
    #[command(flatten)]
    pub database: DatabaseArguments,
    #[command(subcommand)]
    pub command: Command,
}

/// Which database.
#[derive(Debug, Args)]
pub struct DatabaseArguments {
    /// The database file, as in the setting 'negative-cache-database'
    #[arg(long, global = true, value_name = "FILE")]
    database: Option<PathBuf>,

    /// The state directory of the store, whose database is used unless --database names another
    #[arg(long, global = true, value_name = "DIR", env = "NIX_STATE_DIR", default_value = "/nix/var/nix")]
    store_state: PathBuf,
}

impl DatabaseArguments {
    /// The database file.
    pub fn path(&self) -> PathBuf {
        self.database.clone().unwrap_or_else(|| default_path(&self.store_state))
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the recorded failures, newest first
    List(ListArguments),
    /// Show the whole record of failures, with the end of the log
    Show(ShowArguments),
    /// Forget failures, so that they are built again
    Forget(ForgetArguments),
    /// Print which database is used
    Path,
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only derivations whose name matches this regular expression
    #[arg(long, value_name = "REGEX")]
    pub name: Option<Regex>,

    /// Only failures of this span of time until now, such as 90m, 12h or 7d
    #[arg(long, value_name = "SPAN")]
    pub since: Option<Span>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ShowArguments {
    /// Paths of derivations or outputs
    #[arg(required = true, value_name = "PATH", value_parser = store_path)]
    pub paths: Vec<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = true)]
pub struct ForgetArguments {
    /// Paths of derivations or outputs
    #[arg(value_name = "PATH", group = "what", value_parser = store_path)]
    pub paths: Vec<String>,

    /// All derivations whose name matches this regular expression
    #[arg(long, value_name = "REGEX", group = "what")]
    pub name: Option<Regex>,

    /// All failures
    #[arg(long, group = "what", conflicts_with_all = ["paths", "name"])]
    pub all: bool,
}

fn store_path(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err("not a store path, such as /nix/store/<hash>-<name>.drv".to_owned())
    }
}
