//! `./dev bench` measures what the plugin costs and saves, each time side by side with something to compare it with.

mod benchmarks;
mod caches;
mod daemon;
mod installation;
mod pairs;
mod records;
mod sides;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Every error ends the run, so that a benchmark that failed is not taken for one that was made.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
#[command(name = "bench", about = "Measures nix-negative-cache; see `./dev help`")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures, and prints a table.
    Run(RunArguments),
    /// Runs one side of a comparison, which another process times.
    #[command(subcommand, hide = true)]
    Side(sides::Side),
}

#[derive(clap::Args)]
struct RunArguments {
    /// The programs of the Nix to measure with.
    #[arg(long, env = "NNC_NIX_BIN")]
    nix: PathBuf,
    /// The plugin for that Nix.
    #[arg(long, env = "NNC_PLUGIN")]
    plugin: PathBuf,
    /// The companion program.
    #[arg(long, env = "NNC_COMPANION")]
    companion: PathBuf,
    /// The folder that keeps stores and databases from one run to the next.
    #[arg(long)]
    cache: PathBuf,
    /// Small sizes and one round each, only to see that everything runs.
    #[arg(long)]
    short: bool,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Prints the table as Markdown, as docs/benchmarks.md has it.
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Seconds for each comparison.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Only benchmarks whose names contain one of these.
    filter: Vec<String>,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Side(side) => side.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &RunArguments) -> Result<()> {
    let rows = benchmarks::all(arguments)?;
    let print = match arguments {
        RunArguments { json: true, .. } => table::json,
        RunArguments { markdown: true, .. } => table::markdown,
        _ => table::print,
    };
    print(&rows, &benchmarks::REASONS)
}
