//! Pairs of commands. hyperfine times both in turns, so that a machine that becomes slower or faster affects both.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, DiscreteCDF};
use statrs::statistics::{Data, OrderStatistics};

use crate::Result;

/// Two commands to compare.
pub struct Pair {
    /// The command that is measured.
    pub ours: String,
    /// The command that it is compared with.
    pub theirs: String,
    /// A command that restores the initial state; it runs before each of the two.
    pub prepare: Option<String>,
    /// The exit statuses of both commands if they do what they should.
    pub statuses: [i32; 2],
}

/// How long to measure.
#[derive(Clone, Copy)]
pub struct Effort {
    /// About how many seconds,
    pub seconds: f64,
    /// at least how many rounds,
    pub least: usize,
    /// and at most how many.
    pub most: usize,
}

/// A median, with the interval that has the true median with a probability of 95 %.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Estimate {
    /// The median of all rounds.
    pub median: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
}

impl Estimate {
    /// The estimate from samples that are independent of each other. The interval comes from order statistics, which assume
    /// nothing about the distribution of the samples.
    pub fn of(samples: Vec<f64>) -> Result<Estimate> {
        let count = samples.len();
        let mut data = Data::new(samples);
        let binomial = Binomial::new(0.5, count as u64)?;
        let rank = (2..=count / 2).take_while(|rank| binomial.cdf(*rank as u64 - 1) <= 0.025).last().unwrap_or(1);
        Ok(Estimate {
            median: data.median(),
            low: data.order_statistic(rank),
            high: data.order_statistic(count + 1 - rank),
        })
    }

    /// The same in another unit.
    pub fn scaled(self, factor: f64) -> Estimate {
        Estimate { median: self.median * factor, low: self.low * factor, high: self.high * factor }
    }

    /// A value that was measured once.
    pub fn once(value: f64) -> Estimate {
        Estimate { median: value, low: value, high: value }
    }
}

/// Seconds per run, round by round.
#[derive(Default)]
pub struct Samples {
    pub ours: Vec<f64>,
    pub theirs: Vec<f64>,
}

impl Samples {
    /// How many times as long our command takes.
    pub fn ratio(&self) -> Result<Estimate> {
        Estimate::of(self.ours.iter().zip(&self.theirs).map(|(ours, theirs)| ours / theirs).collect())
    }

    /// How many seconds longer our command takes.
    pub fn difference(&self) -> Result<Estimate> {
        Estimate::of(self.ours.iter().zip(&self.theirs).map(|(ours, theirs)| ours - theirs).collect())
    }
}

#[derive(Deserialize)]
struct Export {
    results: Vec<Timed>,
}

#[derive(Deserialize)]
struct Timed {
    command: String,
    times: Vec<f64>,
    exit_codes: Vec<Option<i32>>,
}

/// Runs both commands in turns. `environment` sets up the process that runs them.
pub fn measure(pair: &Pair, effort: Effort, environment: impl Fn(&mut Command)) -> Result<Samples> {
    let folder = tempfile::tempdir()?;
    let round = |first: &str, second: &str| -> Result<[f64; 2]> {
        let export = folder.path().join("times.json");
        let mut command = Command::new("hyperfine");
        environment(&mut command);
        // The output of the commands is shown if they fail.
        command.args([
            "--shell=none",
            "--ignore-failure",
            "--style=none",
            "--output=inherit",
            "--runs=1",
            "--export-json",
        ]);
        command.arg(&export);
        if let Some(prepare) = &pair.prepare {
            command.args(["--prepare", prepare]);
        }
        let output = command.args([first, second]).stdin(Stdio::null()).output()?;
        if !output.status.success() {
            return Err(format!("hyperfine: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        times(&export, pair).map_err(|error| format!("{error}\n{}", String::from_utf8_lossy(&output.stderr)).into())
    };
    let mut samples = Samples::default();
    // One more round, before the measured ones, fills caches.
    if effort.most > 1 {
        round(&pair.ours, &pair.theirs)?;
    }
    let start = Instant::now();
    for number in 0..effort.most {
        if number >= effort.least && start.elapsed().as_secs_f64() > effort.seconds {
            break;
        }
        // The second command of a round may find warmer caches, so the order changes from round to round.
        let (ours, theirs) = if number % 2 == 0 {
            let [ours, theirs] = round(&pair.ours, &pair.theirs)?;
            (ours, theirs)
        } else {
            let [theirs, ours] = round(&pair.theirs, &pair.ours)?;
            (ours, theirs)
        };
        samples.ours.push(ours);
        samples.theirs.push(theirs);
    }
    Ok(samples)
}

fn times(export: &Path, pair: &Pair) -> Result<[f64; 2]> {
    let export: Export = serde_json::from_slice(&fs::read(export)?)?;
    for timed in &export.results {
        let status = pair.statuses[usize::from(timed.command != pair.ours)];
        if timed.exit_codes.iter().any(|code| *code != Some(status)) {
            return Err(format!("{}: exit status {:?} instead of {status}", timed.command, timed.exit_codes).into());
        }
    }
    match &export.results[..] {
        [first, second] => Ok([first.times[0], second.times[0]]),
        other => Err(format!("hyperfine timed {} commands instead of two", other.len()).into()),
    }
}
