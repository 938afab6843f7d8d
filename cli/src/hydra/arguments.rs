//! The command line of `import hydra`.

use std::time::Duration;

use clap::{ArgGroup, Args};
use jiff::{Span, SpanRelativeTo};
use regex::Regex;

use super::client::Server;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("builds").required(true).args(["eval", "jobset", "build"]))]
pub struct HydraArguments {
    /// The Hydra, such as https://hydra.nixos.org
    #[arg(value_name = "URL", value_parser = Server::read)]
    pub server: Server,

    /// The builds of this evaluation
    #[arg(long, value_name = "NUMBER")]
    pub eval: Option<u64>,

    /// The builds of the evaluations of a jobset in the last 7 days, such as nixpkgs/trunk
    #[arg(long, value_name = "PROJECT/JOBSET", value_parser = jobset)]
    pub jobset: Option<Jobset>,

    /// Of the jobset, only the newest evaluation
    #[arg(long, requires = "jobset", conflicts_with_all = ["eval", "build"])]
    pub latest: bool,

    /// This build
    #[arg(long, value_name = "NUMBER")]
    pub build: Option<u64>,

    /// Only jobs whose name matches this regular expression, such as '^python3Packages\.'
    #[arg(long, value_name = "REGEX")]
    pub job: Option<Regex>,

    /// Only derivations for this system, such as x86_64-linux
    #[arg(long, value_name = "SYSTEM")]
    pub system: Option<String>,

    /// Have all failures that were imported from this Hydra only warn, and not be refused; an import without this ends that
    #[arg(long)]
    pub warn_only: bool,

    /// How many requests are made in a second at most
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rate: u32,

    /// How long to wait for an answer before asking again
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = patience)]
    pub timeout: Duration,

    /// Print what would be imported, and what would be left out and why; nothing is written
    #[arg(long)]
    pub dry_run: bool,
}

/// A jobset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jobset {
    pub project: String,
    pub name: String,
}

fn jobset(text: &str) -> Result<Jobset, String> {
    // What Hydra takes for names (`projectNameRE` and `jobsetNameRE` in its `CatalystUtils.pm`), and nothing of a URL.
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    match text.split_once('/') {
        Some((project, name)) if is_name(project) && is_name(name) => {
            Ok(Jobset { project: project.to_owned(), name: name.to_owned() })
        }
        _ => Err("not the name of a project and of a jobset, such as nixpkgs/trunk".to_owned()),
    }
}

fn patience(text: &str) -> Result<Duration, String> {
    let span: Span = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|error| error.to_string())?;
    let duration: Duration = duration.try_into().map_err(|_| "it is less than nothing".to_owned())?;
    if (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&duration) {
        Ok(duration)
    } else {
        Err("not a time from 100ms to 1h".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobsets_have_two_names() {
        let read = jobset("nixpkgs/staging-next-25.05").unwrap();
        assert_eq!((read.project.as_str(), read.name.as_str()), ("nixpkgs", "staging-next-25.05"));
        for wrong in ["nixpkgs", "a/b/c", "/a", "a/", "a/..", "a/b?c=d", "a/b#c", "a/\u{1b}[2J", "a/%2e%2e"] {
            assert!(jobset(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn patience_has_bounds() {
        assert_eq!(patience("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "0s", "-5s", "2h", "soon"] {
            assert!(patience(wrong).is_err(), "{wrong}");
        }
    }
}
