//! The benchmarks and their targets.

mod companion;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix_negative_cache_core::record::FailureRecord;
use nix_negative_cache_tests::caches::{Nginx, Silent, refused_url};
use nix_version::{Nix, NixVersion};

use crate::caches::{Cache, FORGET, with_settings};
use crate::daemon::Daemon;
use crate::installation::{Installation, Plugin};
use crate::pairs::{Effort, Estimate, Pair, Samples, measure};
use crate::records::{self, database, failure, template, write_paths};
use crate::table::{Row, Target};
use crate::{Result, RunArguments, caches, sides};

const MILLISECONDS: f64 = 1e3;

/// Runs all benchmarks that were asked for.
pub fn all(arguments: &RunArguments) -> Result<Vec<Row>> {
    let mut bench = Bench { arguments, rows: Vec::new() };
    load(&mut bench)?;
    nothing_to_do(&mut bench)?;
    builds(&mut bench)?;
    failures(&mut bench)?;
    logs(&mut bench)?;
    requests(&mut bench)?;
    many_dependents(&mut bench)?;
    requests_with_caches(&mut bench)?;
    dead_caches(&mut bench)?;
    connection(&mut bench)?;
    consult(&mut bench)?;
    record(&mut bench)?;
    companion::companion(&mut bench)?;
    companion::report(&mut bench)?;
    companion::import(&mut bench)?;
    companion::publish(&mut bench)?;
    bisect(&mut bench)?;
    if bench.rows.is_empty() {
        return Err("there is no such benchmark".into());
    }
    Ok(bench.rows)
}

struct Bench<'a> {
    arguments: &'a RunArguments,
    rows: Vec<Row>,
}

impl Bench<'_> {
    fn push(&mut self, row: Row) {
        eprintln!("{}", row.line());
        self.rows.push(row);
    }

    fn wants(&self, names: &[&str]) -> bool {
        let filter = &self.arguments.filter;
        filter.is_empty() || names.iter().any(|name| filter.iter().any(|wanted| name.contains(wanted.as_str())))
    }

    /// A number of derivations, or fewer of them if the run is `--short`.
    fn size(&self, size: u32) -> u32 {
        if self.arguments.short { size.min(100) } else { size }
    }

    fn effort(&self) -> Effort {
        if self.arguments.short {
            Effort { seconds: 0.0, least: 1, most: 1 }
        } else {
            Effort { seconds: self.arguments.seconds, least: 5, most: 400 }
        }
    }

    fn measure(&self, installation: &Installation, pair: &Pair) -> Result<Samples> {
        measure(pair, self.effort(), |command| installation.environment(command))
    }

    /// Adds a row with both times in milliseconds, and the result that the target is compared with.
    fn add(
        &mut self,
        benchmark: impl Into<String>,
        samples: &Samples,
        with: &'static str,
        result: Estimate,
        target: Target,
    ) -> Result<()> {
        self.push(Row {
            benchmark: benchmark.into(),
            unit: "ms",
            measured: Estimate::of(samples.ours.clone())?.median * MILLISECONDS,
            compared: Some(Estimate::of(samples.theirs.clone())?.median * MILLISECONDS),
            with,
            rounds: samples.ours.len(),
            result,
            target,
        });
        Ok(())
    }

    /// How often peaks of memory are measured.
    fn rounds_of_memory(&self) -> usize {
        if self.arguments.short { 1 } else { 11 }
    }

    fn compare(
        &mut self,
        benchmark: impl Into<String>,
        installation: &Installation,
        pair: &Pair,
        with: &'static str,
        target: Target,
    ) -> Result<()> {
        let samples = self.measure(installation, pair)?;
        let ratio = samples.ratio()?;
        let result = match target {
            Target::Faster(_) => Estimate { median: 1.0 / ratio.median, low: 1.0 / ratio.high, high: 1.0 / ratio.low },
            _ => ratio,
        };
        self.add(benchmark, &samples, with, result, target)
    }
}

/// Why targets are missed where they are, by the beginnings of the names of benchmarks; the first one that fits is taken.
/// Numbers of instructions are those of the process on Nix 2.8, counted by callgrind. docs/benchmarks.md has them by
/// component.
pub const REASONS: [(&str, &str); 19] = [
    (
        "load",
        "1.4 of 64 M instructions, 1.1 M of them the dynamic linker's, which binds virtual functions of Nix's stores",
    ),
    ("nothing to do", "2.4 of 344 M instructions, more than half of them to load"),
    (
        "nothing known",
        "0.1 of 7 M instructions of Nix for each build, for second looks at outputs that are not there, and as many spared",
    ),
    ("400 failures", "4 ms of the client's processor for each failure that is read, judged and recorded"),
    (
        "log,",
        "some 370 instructions for each short line, of which 230 are Rust's, which judges it; more is the machine",
    ),
    ("memory", "1 to 3 MiB for the plugin and its libraries, however much is built or printed; more is the machine"),
    (
        "large request",
        "2.4 M instructions at the start, and one question less to all that follows; more is the machine",
    ),
    (
        "refusal, closure of 1",
        "3.5 of 66 M instructions: 1.1 M the dynamic linker's, 1.0 M SQLite's, 1.0 M throwing and freeing",
    ),
    ("refusal over", "on a Nix without optimisation 0.74 M instructions, 0.2 M of them for the plugin"),
    ("deep refusal, chain", "Nix's message for each derivation of the chain, which a dry run does not print"),
    ("refusal, 200", "Nix's messages for 200 failures and their 200 dependents, which a dry run does not print"),
    ("failure elsewhere", "four questions one after the other; the rest is loading, opening connections and recording"),
    ("dead cache, silent", "the deadline, and what it takes to load and to open a connection"),
    ("deep refusal", "listing what is not built from Nix's database, and the way from the failure to the request"),
    ("refusal,", "as many questions to the daemon as a dry run; more is the machine"),
    ("companion", "Nix is started, twice at once, to ask it for its settings and its version"),
    ("consult", "reading pages of a database that was just opened"),
    ("record", "besides the commit, the schema is read and rows are written to four tables; more is the disk"),
    ("git bisect", "Nix starts and evaluates once or twice for each commit, and builds what it does not know yet"),
];

const STOCK: &str = "stock Nix";
const DRY_RUN: &str = "stock --dry-run";

fn pair(ours: String, theirs: String) -> Pair {
    Pair { ours, theirs, prepare: None, statuses: [0, 0] }
}

/// A refusal, and the command that it is compared with.
fn refused(ours: String, theirs: String) -> Pair {
    Pair { statuses: [100, 0], ..pair(ours, theirs) }
}

/// The three ways to use a daemon: which plugin the daemon has, and which its clients.
const WAYS: [(&str, Plugin, Plugin); 3] = [
    ("client with the plugin", Plugin::Absent, Plugin::On),
    ("daemon with the plugin", Plugin::On, Plugin::Absent),
    ("daemon and client with the plugin", Plugin::On, Plugin::On),
];

/// Two daemons, and how commands begin that go through them: ours, and those of stock Nix with a stock daemon.
struct Between {
    _daemons: [Daemon; 2],
    ours: String,
    theirs: String,
}

impl Between {
    /// Starts both daemons. The settings `of_the_plugin` are for processes with the plugin, the others for all.
    fn start(
        installation: &Installation,
        (daemon, client): (Plugin, Plugin),
        of_the_plugin: &[&str],
        others: &[&str],
    ) -> Result<Between> {
        let settings = |plugin| match plugin {
            Plugin::Absent => others.to_vec(),
            _ => [of_the_plugin, others].concat(),
        };
        let start = |socket, plugin| Daemon::start(installation, socket, plugin, &settings(plugin));
        let command = |socket, plugin| -> Result<String> {
            let socket = installation.path(socket);
            let with = installation.with(plugin, &settings(plugin))?;
            Ok(format!("{with} NIX_REMOTE=daemon NIX_DAEMON_SOCKET_PATH={}", socket.display()))
        };
        let (ours, theirs) = ("socket", "stock-socket");
        Ok(Between {
            _daemons: [start(ours, daemon)?, start(theirs, Plugin::Absent)?],
            ours: command(ours, client)?,
            theirs: command(theirs, Plugin::Absent)?,
        })
    }
}

/// An installation with a store that has the derivations of these expressions, and their paths.
fn settled(arguments: &RunArguments, name: &str, expressions: &[&str]) -> Result<(Installation, Vec<String>)> {
    let installation = Installation::named(arguments, name)?;
    let derivations: Result<Vec<_>> = expressions.iter().map(|text| installation.instantiate(text)).collect();
    Ok((installation, derivations?))
}

fn load(bench: &mut Bench<'_>) -> Result<()> {
    for (name, plugin) in [("load, off", Plugin::Off), ("load, on", Plugin::On)] {
        if !bench.wants(&[name]) {
            continue;
        }
        let (installation, _) = settled(bench.arguments, "requests", &["failing \"\""])?;
        let eval = |plugin| Ok::<_, Box<dyn std::error::Error>>(installation.with(plugin, &[])? + " nix eval --expr 1");
        let samples = bench.measure(&installation, &pair(eval(plugin)?, eval(Plugin::Absent)?))?;
        let milliseconds = samples.difference()?.scaled(MILLISECONDS);
        bench.add(name, &samples, STOCK, milliseconds, Target::More(0.45))?;
        bench.add(name, &samples, STOCK, samples.ratio()?, Target::Ratio(1.02))?;
    }
    Ok(())
}

fn nothing_to_do(bench: &mut Bench<'_>) -> Result<()> {
    let name = "nothing to do, 1,000 valid derivations";
    let through = WAYS.map(|(way, ..)| format!("nothing to do, {way}"));
    if !bench.wants(&[name, &through[0], &through[1], &through[2]]) {
        return Ok(());
    }
    let size = bench.size(1000);
    let (installation, derivations) =
        settled(bench.arguments, "valid", &[&format!("(closure {{ size = {size}; }}).top")])?;
    let derivation = &derivations[0];
    let stock = installation.with(Plugin::Absent, &[])?;
    installation.output(&format!("{stock} nix-store --realise {derivation} 2>/dev/null"))?;
    // Without a known failure, the plugin would ask the database nothing.
    let template = template(&installation)?;
    database(&installation.database(), &[failure(&template, template.summary.derivation.as_str(), "/other")], 1000)?;
    let outputs = all_outputs(&installation, derivation)?;
    let build = |with: &str| format!("{with} nix build --no-link {outputs}");
    if bench.wants(&[name]) {
        let pair = pair(build(&installation.with(Plugin::On, &[])?), build(&stock));
        bench.compare(name, &installation, &pair, STOCK, Target::Ratio(1.01))?;
    }
    for ((_, daemon, client), name) in WAYS.into_iter().zip(&through) {
        if bench.wants(&[name]) {
            let between = Between::start(&installation, (daemon, client), &[], &[])?;
            let pair = pair(build(&between.ours), build(&between.theirs));
            bench.compare(name, &installation, &pair, STOCK, Target::Ratio(1.01))?;
        }
    }
    Ok(())
}

/// The argument with which this Nix's new commands build all outputs of a derivation. Since 2.15, a path by itself is that of the
/// file (Nix's release notes).
fn all_outputs(installation: &Installation, derivation: &str) -> Result<String> {
    let old = !is_at_least(installation, 2, 15)?;
    Ok(if old { derivation.to_owned() } else { format!("{derivation}^*") })
}

/// Whether this Nix is `major.minor` or newer.
fn is_at_least(installation: &Installation, major: u32, minor: u32) -> Result<bool> {
    let printed = installation.output("nix --version")?;
    let version = NixVersion::parse(&Nix::printed(&printed).version).ok_or("'nix --version' prints no version")?;
    Ok(version.is_at_least(major, minor))
}

fn builds(bench: &mut Bench<'_>) -> Result<()> {
    let directly = [1, 2].map(|jobs| (format!("nothing known, 200 builds, max-jobs {jobs}"), jobs, None));
    let through =
        WAYS.map(|(way, daemon, client)| (format!("nothing known, 200 builds, {way}"), 1, Some((daemon, client))));
    for (name, jobs, way) in directly.into_iter().chain(through) {
        if !bench.wants(&[&name]) {
            continue;
        }
        let (installation, derivations) = settled(bench.arguments, "builds", &["builds"])?;
        installation.keep_state()?;
        let jobs = format!("max-jobs = {jobs}");
        let between = way.map(|way| Between::start(&installation, way, &[], &[&jobs])).transpose()?;
        let (ours, theirs) = match &between {
            Some(between) => (between.ours.clone(), between.theirs.clone()),
            None => (installation.with(Plugin::On, &[&jobs])?, installation.with(Plugin::Absent, &[&jobs])?),
        };
        let build = |with: String| format!("{with} nix-store --realise {}", derivations[0]);
        let pair = Pair { prepare: Some(installation.reset_command()?), ..pair(build(ours), build(theirs)) };
        bench.compare(name, &installation, &pair, STOCK, Target::Ratio(1.01))?;
    }
    Ok(())
}

/// Many builds that fail for one request through a stock daemon, with messages as long as the plugin keeps them. Only they tell
/// the client's plugin how the builds ended.
fn failures(bench: &mut Bench<'_>) -> Result<()> {
    let (way, daemon, client) = WAYS[0];
    let name = format!("400 failures with keep-going, {way}");
    if !bench.wants(&[&name]) {
        return Ok(());
    }
    let size = bench.size(400);
    // Nix quotes these 40 lines, 16 kB of them.
    let fails = r#"n: drv "fails-${toString n}" ''
        l='src/a.c:1: error: '; l="$l$l$l$l$l"; l="$l$l$l$l"; for a in 1 2 3 4 5; do for b in 1 2 3 4 5 6 7 8; do
        echo "$a$b $l"; done; done; exit 1'' [ ]"#;
    let all = format!("drv \"needs-{size}-failures\" ok (builtins.genList ({fails}) {size})").replace('\n', " ");
    let (installation, derivations) = settled(bench.arguments, "failures", &[&all])?;
    let between = Between::start(&installation, (daemon, client), &[], &["keep-going = true", "log-lines = 40"])?;
    let realise = |with: &str| format!("{with} nix-store --realise {}", derivations[0]);
    // A client that knew the failures would refuse them.
    let own = installation.path("home/.local/state/nix/negative-cache");
    let forget = format!("/bin/rm -rf {}", own.display());
    let pair =
        Pair { prepare: Some(forget), statuses: [1, 1], ..pair(realise(&between.ours), realise(&between.theirs)) };
    bench.compare(name, &installation, &pair, STOCK, Target::Ratio(1.10))
}

/// Builders that print much: a name, the command, how much it prints, and how many times as long it may take.
const LOGS: [(&str, &str, u32, f64); 3] = [
    (
        "log, 100 MB in lines of 80",
        "/usr/bin/yes $line$line$line$line$line$line$line$line | /usr/bin/head -c @",
        100_000_000,
        1.02,
    ),
    ("log, 1 M short lines", "/usr/bin/yes line | /usr/bin/head -n @", 1_000_000, 1.10),
    ("log, one line of 300 MB", "/usr/bin/head -c @ /dev/zero | /usr/bin/tr '\\\\0' x", 300_000_000, 1.02),
];

/// Builds that print much and then give up with exit code 75, so that nothing is recorded. They are built directly, and
/// through a daemon that has the plugin.
fn logs(bench: &mut Bench<'_>) -> Result<()> {
    let through = |name: &str| format!("{name}, daemon with the plugin");
    let memory = |name: &str| format!("memory, {name}");
    for (name, prints, size, most) in LOGS {
        let (through, memory) =
            (through(name), [memory(name), memory(&format!("{name}, client")), memory(&format!("{name}, daemon"))]);
        if !bench.wants(&[name, &through, &memory[0], &memory[1], &memory[2]]) {
            continue;
        }
        let size = if bench.arguments.short { size / 100 } else { size };
        let prints = prints.replace('@', &size.to_string());
        let script = format!("line=0123456789; {prints}; exit 75");
        let (installation, derivations) =
            settled(bench.arguments, "logs", &[&format!("drv \"prints-{size}\" \"{script}\" [ ]")])?;
        // What Nix prints goes to /dev/null.
        let realise = |with: &str| {
            let line = format!("exec {with} nix-store --realise {} 2> /dev/null", derivations[0]);
            format!("/bin/sh -c {}", shell_words::quote(&line))
        };
        let (on, stock) = (installation.with(Plugin::On, &[])?, installation.with(Plugin::Absent, &[])?);
        if bench.wants(&[name]) {
            let pair = Pair { statuses: [100, 100], ..pair(realise(&on), realise(&stock)) };
            bench.compare(name, &installation, &pair, STOCK, Target::Ratio(most))?;
        }
        if bench.wants(&[&through]) {
            let between = Between::start(&installation, (Plugin::On, Plugin::Absent), &[], &[])?;
            let pair = Pair { statuses: [1, 1], ..pair(realise(&between.ours), realise(&between.theirs)) };
            bench.compare(through, &installation, &pair, STOCK, Target::Ratio(most))?;
        }
        if bench.wants(&[&memory[0]]) {
            peak(bench, &memory[0], &installation, &realise(&on), &realise(&stock))?;
        }
        if bench.wants(&[&memory[1], &memory[2]]) {
            peaks_beside_a_daemon(bench, [&memory[1], &memory[2]], &installation, &derivations[0])?;
        }
    }
    Ok(())
}

/// Compares the peak memory of a client and of a daemon, both with the plugin, with that of stock Nix.
fn peaks_beside_a_daemon(
    bench: &mut Bench<'_>,
    names: [&str; 2],
    installation: &Installation,
    derivation: &str,
) -> Result<()> {
    let mebibytes = |plugin| -> Result<[f64; 2]> {
        let with = installation.with(plugin, &[])?;
        let time = "/usr/bin/time --quiet --format=%M --output";
        // NIX_REMOTE is set for the client only, as the daemon would take itself for a client. The memory of the daemon's
        // processes counts only after the daemon has waited for them.
        let line = format!(
            "rm -f socket; {time} peak-daemon {with} nix-daemon 2> /dev/null & \
             for i in $(seq 200); do grep -q \" 00010000 .* $NIX_DAEMON_SOCKET_PATH$\" /proc/net/unix && break; sleep 0.05; done; \
             {time} peak-client {with} NIX_REMOTE=daemon nix-store --realise {derivation} 2> /dev/null; status=$?; \
             sleep 1; pkill -P $!; wait; [ $status = 1 ] && cat peak-client peak-daemon"
        );
        let peaks = installation.output(&line)?;
        let mut kibibytes = peaks.lines().filter_map(|line| line.trim().parse::<f64>().ok());
        match (kibibytes.next(), kibibytes.next()) {
            (Some(client), Some(daemon)) => Ok([client / 1024.0, daemon / 1024.0]),
            _ => Err(format!("no peaks of memory: {peaks}").into()),
        }
    };
    let rounds = if bench.arguments.short { 1 } else { 5 };
    let mut samples = [Samples::default(), Samples::default()];
    for _ in 0..rounds {
        let (ours, theirs) = (mebibytes(Plugin::On)?, mebibytes(Plugin::Absent)?);
        for (place, samples) in samples.iter_mut().enumerate() {
            samples.ours.push(ours[place]);
            samples.theirs.push(theirs[place]);
        }
    }
    for (name, samples) in names.into_iter().zip(samples) {
        bench.push(memory_row(name, samples)?);
    }
    Ok(())
}

/// Requests for large closures of which nothing is built yet.
fn requests(bench: &mut Bench<'_>) -> Result<()> {
    let first = "large request, first of 10,000 builders starts";
    let refusals = |size: u32| format!("refusal, closure of {}", thousands(size));
    let distant = ["refusal, closure of 10,000, cache 20 ms away", "refusal, closure of 10,000, cache, requests"];
    let deep = |others: u32| format!("deep refusal, closure of 10,000, {} records", thousands(others));
    let memory = "memory, 10,000 derivations and 1 M records";
    let through = WAYS.iter().flat_map(|(way, ..)| [format!("refusal, {way}"), format!("deep refusal, {way}")]);
    let sizes = [1, 1000, 10_000];
    let mut names: Vec<String> = sizes.iter().map(|size| refusals(*size)).collect();
    names.extend(through);
    names.extend([deep(1000), deep(100_000)]);
    names.extend([first, memory, distant[0], distant[1]].map(str::to_owned));
    if !bench.wants(&names.iter().map(String::as_str).collect::<Vec<_>>()) {
        return Ok(());
    }

    let large = bench.size(10_000);
    // Whoever tries the first builder hears that it is no use, and nothing is recorded.
    let gives_up = format!("(closure {{ size = {large}; tag = \"-gives-up\"; leaf = \"exit 75\"; }}).top");
    let top = |size: u32| format!("(closure {{ size = {size}; }}).top");
    let (installation, derivations) = settled(
        bench.arguments,
        "requests",
        &[&gives_up, &top(1), &top(bench.size(1000)), &top(large), &format!("(closure {{ size = {large}; }}).bottom")],
    )?;
    let template = template(&installation)?;
    let known = |derivation: &str, others: u32, name: &str| -> Result<String> {
        let path = installation.path(name);
        let failure = failure(&template, derivation, &installation.output_of(derivation)?);
        database(&path, &[failure], others)?;
        Ok(format!("negative-cache-database = {}", path.display()))
    };
    let stock = installation.with(Plugin::Absent, &[])?;
    let realise = |with: &str, derivation: &str| format!("{with} nix-store --realise {derivation}");
    let dry_run = |derivation: &str| format!("{stock} nix-store --realise --dry-run {derivation}");

    if bench.wants(&[first]) {
        // One failure is of a derivation in the store that this request does not need.
        let on = installation.with(Plugin::On, &[&known(&derivations[1], 1000, "first.sqlite")?])?;
        let gives_up = pair(realise(&on, &derivations[0]), realise(&stock, &derivations[0]));
        let pair = Pair { statuses: [100, 100], ..gives_up };
        // Up to 2.34 Nix asks twice what is missing, of which the plugin leaves out one.
        let most = if is_at_least(&installation, 2, 35)? { 1.0 } else { 0.95 };
        bench.compare(first, &installation, &pair, STOCK, Target::Ratio(most))?;
    }
    for ((size, most), derivation) in sizes.into_iter().zip([1.02, 0.35, 0.05]).zip(&derivations[1..4]) {
        let name = refusals(size);
        if bench.wants(&[&name]) {
            let setting = known(derivation, 1000, &format!("known-{size}.sqlite"))?;
            let on = installation.with(Plugin::On, &[&setting])?;
            let pair = refused(realise(&on, derivation), dry_run(derivation));
            bench.compare(name, &installation, &pair, DRY_RUN, Target::Ratio(most))?;
        }
    }
    let (top, bottom) = (&derivations[3], &derivations[4]);
    if bench.wants(&distant) {
        let cache = Cache::start(&installation)?;
        cache.server.delayed(DISTANCE);
        let substituters = cache.substituters();
        let on = installation.with(Plugin::On, &[&known(top, 1000, "distant.sqlite")?])?;
        let ours = realise(&with_settings(&on, &[&substituters]), top);
        if bench.wants(&distant[..1]) {
            let theirs = format!("{} nix-store --realise --dry-run {top}", with_settings(&stock, &[&substituters]));
            let pair = Pair { prepare: Some(FORGET.to_owned()), ..refused(ours.clone(), theirs) };
            bench.compare(distant[0], &installation, &pair, DRY_RUN, Target::Ratio(0.02))?;
        }
        if bench.wants(&distant[1..]) {
            let asked = cache.requests(&installation, &format!("{FORGET}; {ours}"), 100)?;
            bench.push(requests_row(distant[1], &asked, &[], 3)?);
        }
    }
    for (others, most) in [(1000, 0.25), (100_000, 0.4)] {
        let name = deep(others);
        if bench.wants(&[&name]) {
            let on = installation.with(Plugin::On, &[&known(bottom, bench.size(others), "deep.sqlite")?])?;
            let pair = refused(realise(&on, top), dry_run(top));
            bench.compare(name, &installation, &pair, DRY_RUN, Target::Ratio(most))?;
        }
    }
    for (kind, derivation) in [("refusal", top), ("deep refusal", bottom)] {
        for (way, daemon, client) in WAYS {
            let name = format!("{kind}, {way}");
            if !bench.wants(&[&name]) {
                continue;
            }
            let setting = known(derivation, 1000, "daemon.sqlite")?;
            let between = Between::start(&installation, (daemon, client), &[&setting], &[])?;
            let dry_run = format!("{} nix-store --realise --dry-run {top}", between.theirs);
            // A client does not learn the exit status of the daemon's worker.
            let pair = Pair { statuses: [1, 0], ..pair(realise(&between.ours, top), dry_run) };
            bench.compare(name, &installation, &pair, DRY_RUN, Target::Ratio(1.02))?;
        }
    }
    if bench.wants(&[memory]) {
        let setting = known(bottom, bench.size(1_000_000), "million.sqlite")?;
        let on = installation.with(Plugin::On, &[&setting])?;
        // Both commands get as far as the first builder, which gives up.
        peak(bench, memory, &installation, &realise(&on, &derivations[0]), &realise(&stock, &derivations[0]))?;
    }
    Ok(())
}

/// Refusals in which everything that is to be built needs a known failure, and Nix says so of each derivation.
fn many_dependents(bench: &mut Bench<'_>) -> Result<()> {
    let chain = bench.size(2000);
    let failures = if bench.arguments.short { 10 } else { 200 };
    let cases = [
        ("deep refusal, chain of 2,000", format!("chain {chain}"), ""),
        ("refusal, 200 known failures with keep-going", format!("failures {failures}"), "--keep-going"),
    ];
    for (name, expression, keep_going) in cases {
        if !bench.wants(&[name]) {
            continue;
        }
        let (installation, derivations) = settled(bench.arguments, "dependents", &[&expression])?;
        let stock = installation.with(Plugin::Absent, &[])?;
        // Those that fail have this in their names.
        let failing = format!("{stock} nix-store --query --requisites {} | grep -- -failing", derivations[0]);
        let template = template(&installation)?;
        let known: Result<Vec<_>> = installation
            .output(&failing)?
            .lines()
            .map(|derivation| Ok(failure(&template, derivation, &installation.output_of(derivation)?)))
            .collect();
        let path = installation.path("dependents.sqlite");
        database(&path, &known?, 1000)?;
        let on = installation.with(Plugin::On, &[&format!("negative-cache-database = {}", path.display())])?;
        let whole = shell_words::quote(&format!("with import ./closure.nix; {expression}")).into_owned();
        let build = format!("nix-build --no-out-link --expr {whole}");
        let pair = refused(format!("{on} {build} {keep_going}"), format!("{stock} {build} --dry-run"));
        bench.compare(name, &installation, &pair, DRY_RUN, Target::Ratio(1.1))?;
    }
    Ok(())
}

/// How much later a cache answers that is far away.
const DISTANCE: Duration = Duration::from_millis(20);

/// Requests for derivations that are all to be built, with a cache that has none of the outputs.
fn requests_with_caches(bench: &mut Bench<'_>) -> Result<()> {
    let without_keys = ["cache, no keys", "cache, no keys, requests"];
    let unmarked = ["cache without the marker, requests", "cache without the marker, requests in the next hour"];
    let distant = ["cache 20 ms away, cold", "cache over HTTP/2, 20 ms away, cold", "cache 20 ms away, warm"];
    let elsewhere = "failure elsewhere, 20 ms away";
    let names = [&without_keys[..], &unmarked, &distant, &[elsewhere]].concat();
    if !bench.wants(&names) {
        return Ok(());
    }
    let size = bench.size(1000);
    // Whoever tries the first builder hears that it is no use, and nothing is recorded.
    let gives_up = format!("(closure {{ size = {size}; tag = \"-gives-up\"; leaf = \"exit 75\"; }}).top");
    let (installation, derivations) = settled(bench.arguments, "caches", &[&gives_up, "failing \"-elsewhere\""])?;
    let cache = Cache::start(&installation)?;
    let (substituters, trusted) = (cache.substituters(), cache.trusted());
    let (on, off) = (installation.with(Plugin::On, &[])?, installation.with(Plugin::Absent, &[])?);
    let realise = |with: String| format!("{with} nix-store --realise {}", derivations[0]);
    let ours = realise(with_settings(&on, &[&substituters, &trusted]));
    let no_keys = realise(with_settings(&on, &[&substituters]));
    let stock = realise(with_settings(&off, &[&substituters]));
    let both_fail = |ours: &str, theirs: &str| Pair { statuses: [100, 100], ..pair(ours.into(), theirs.into()) };
    let cold = |ours: &str, theirs: &str| Pair { prepare: Some(FORGET.to_owned()), ..both_fail(ours, theirs) };
    let requests = |line: &str| cache.requests(&installation, line, 100);
    let cold_requests = |line: &str| requests(&format!("{FORGET}; {line}"));

    if bench.wants(&without_keys[..1]) {
        bench.compare(without_keys[0], &installation, &cold(&no_keys, &stock), STOCK, Target::Ratio(1.0))?;
    }
    if bench.wants(&without_keys[1..]) {
        bench.push(requests_row(without_keys[1], &cold_requests(&no_keys)?, &cold_requests(&stock)?, 0)?);
    }
    if bench.wants(&unmarked) {
        let asked = cold_requests(&stock)?;
        bench.push(requests_row(unmarked[0], &cold_requests(&ours)?, &asked, 1)?);
        // Nix asks nothing again either.
        bench.push(requests_row(unmarked[1], &requests(&ours)?, &[], 0)?);
    }

    cache.carry_failures();
    cache.server.delayed(DISTANCE);
    let questions = |bench: &mut Bench<'_>, name: &str, ours: &str, stock: &str, most: f64| -> Result<()> {
        let asking = bench.measure(&installation, &cold(stock, &realise(off.clone())))?.difference()?.median;
        let samples = bench.measure(&installation, &cold(ours, stock))?;
        let questions = samples.difference()?;
        bench.push(Row {
            benchmark: name.to_owned(),
            unit: "ms",
            measured: questions.median * MILLISECONDS,
            compared: Some(asking * MILLISECONDS),
            with: "stock Nix's questions",
            rounds: samples.ours.len(),
            result: questions.scaled(1.0 / asking),
            target: Target::Ratio(most),
        });
        Ok(())
    };
    if bench.wants(&distant[..1]) {
        questions(bench, distant[0], &ours, &stock, 2.3)?;
    }
    if bench.wants(&distant[1..2]) {
        let nginx = Nginx::start(cache.folder(), true);
        let address = nginx.url().trim_start_matches("https://").parse()?;
        let substituters = format!("substituters = https://{}", caches::delaying(address, DISTANCE)?);
        let certificate = format!("NIX_SSL_CERT_FILE={}", nginx.certificate());
        let [ours, stock] = [(&on, &[&*substituters, &trusted][..]), (&off, &[&*substituters])]
            .map(|(with, settings)| realise(format!("{} {certificate}", with_settings(with, settings))));
        questions(bench, distant[1], &ours, &stock, 1.5)?;
    }
    if bench.wants(&distant[2..]) {
        cold_requests(&ours)?;
        let samples = bench.measure(&installation, &both_fail(&ours, &stock))?;
        bench.add(distant[2], &samples, STOCK, samples.ratio()?, Target::Ratio(1.02))?;
        let asked = requests(&ours)?;
        if !asked.is_empty() {
            return Err(format!("{}: the cache was asked again: {asked:?}", distant[2]).into());
        }
    }
    if bench.wants(&[elsewhere]) {
        let derivation = &derivations[1];
        let template = template(&installation)?;
        cache.publish(&records::record(&template, derivation, &installation.output_of(derivation)?))?;
        let refusing = with_settings(&on, &[&substituters, &trusted, "sandbox = true"]);
        let stock = with_settings(&off, &[&substituters]);
        let pair = Pair {
            prepare: Some(FORGET.to_owned()),
            ..refused(
                format!("{refusing} nix-store --realise {derivation}"),
                format!("{stock} nix-store --realise --dry-run {derivation}"),
            )
        };
        let samples = bench.measure(&installation, &pair)?;
        let result = samples.difference()?.scaled(1.0 / DISTANCE.as_secs_f64());
        bench.push(Row {
            benchmark: elsewhere.to_owned(),
            unit: "round trips",
            measured: result.median,
            compared: None,
            with: DRY_RUN,
            rounds: samples.ours.len(),
            result,
            // Four, and what it takes to open connections, to record and to refuse.
            target: Target::AtMost(4.5),
        });
    }
    Ok(())
}

/// Compares what a server was asked. More requests than are allowed end the run: they are the same each time.
fn requests_row(name: &str, ours: &[String], theirs: &[String], more: usize) -> Result<Row> {
    if ours.len() > theirs.len() + more {
        let others: Vec<_> = ours.iter().filter(|request| !theirs.contains(request)).take(5).collect();
        return Err(format!("{name}: {} in place of {}, such as {others:?}", ours.len(), theirs.len()).into());
    }
    let [ours, theirs] = [ours, theirs].map(|requests| requests.len() as f64);
    Ok(Row {
        benchmark: name.to_owned(),
        unit: "requests",
        measured: ours,
        compared: Some(theirs),
        with: STOCK,
        rounds: 1,
        result: Estimate::once(ours - theirs),
        target: Target::More(more as f64),
    })
}

/// Caches for failures that do not answer.
fn dead_caches(bench: &mut Bench<'_>) -> Result<()> {
    const DEADLINE: u32 = 2;
    let silent = Silent::start();
    let caches = [("dead cache, connection refused", refused_url()), ("dead cache, silent", silent.url())];
    for (name, url) in caches {
        if !bench.wants(&[name]) {
            continue;
        }
        let (installation, derivations) = settled(bench.arguments, "caches", &["drv \"gives-up\" \"exit 75\" [ ]"])?;
        let trusted = Cache::start(&installation)?.trusted();
        let dead = format!("negative-cache-substituters = {url}");
        let deadline = format!("negative-cache-timeout = {DEADLINE}");
        let on = with_settings(&installation.with(Plugin::On, &[])?, &[&trusted, &dead, &deadline]);
        let off = installation.with(Plugin::Absent, &[])?;
        let realise = |with: &str| format!("{with} nix-store --realise {}", derivations[0]);
        let pair = Pair { prepare: Some(FORGET.to_owned()), statuses: [100, 100], ..pair(realise(&on), realise(&off)) };
        let samples = bench.measure(&installation, &pair)?;
        let milliseconds = samples.difference()?.scaled(MILLISECONDS);
        bench.add(name, &samples, STOCK, milliseconds, Target::More(f64::from(DEADLINE) * MILLISECONDS))?;
    }
    Ok(())
}

/// Compares the peak memory of two commands.
fn peak(bench: &mut Bench<'_>, name: &str, installation: &Installation, ours: &str, theirs: &str) -> Result<()> {
    let mut samples = Samples::default();
    for _ in 0..bench.rounds_of_memory() {
        samples.ours.push(mebibytes(installation, ours, 100)?);
        samples.theirs.push(mebibytes(installation, theirs, 100)?);
    }
    bench.push(memory_row(name, samples)?);
    Ok(())
}

/// The peak memory of a command that exits with `status`, in MiB.
fn mebibytes(installation: &Installation, line: &str, status: i32) -> Result<f64> {
    let file = installation.path("peak");
    let mut command = Command::new("/usr/bin/time");
    installation.environment(&mut command);
    command.args(["--quiet", "--format=%M", "--output"]).arg(&file).args(shell_words::split(line)?);
    let output = command.output()?;
    if output.status.code() != Some(status) {
        return Err(format!("{line}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    let kibibytes: f64 = fs::read_to_string(file)?.trim().parse()?;
    Ok(kibibytes / 1024.0)
}

/// A row with values in MiB.
fn memory_row(name: &str, samples: Samples) -> Result<Row> {
    Ok(Row {
        benchmark: name.to_owned(),
        unit: "MiB",
        rounds: samples.ours.len(),
        result: samples.difference()?,
        measured: Estimate::of(samples.ours)?.median,
        compared: Some(Estimate::of(samples.theirs)?.median),
        with: STOCK,
        target: Target::More(4.0),
    })
}

/// Requests over one open connection: the time of many requests minus the time of one, divided by their number.
fn connection(bench: &mut Bench<'_>) -> Result<()> {
    let name = "refusal over an open daemon connection";
    if !bench.wants(&[name]) {
        return Ok(());
    }
    let (installation, derivations) = settled(bench.arguments, "requests", &["failing \"\""])?;
    let template = template(&installation)?;
    let path = installation.path("connection.sqlite");
    database(&path, &[failure(&template, &derivations[0], &installation.output_of(&derivations[0])?)], 1000)?;
    let setting = format!("negative-cache-database = {}", path.display());
    let _daemon = Daemon::start(&installation, "socket", Plugin::On, &[&setting])?;
    let requests: u32 = if bench.arguments.short { 10 } else { 2000 };
    let bench_program = std::env::current_exe()?;
    let ask = |times: u32| {
        let (program, socket) = (bench_program.display(), installation.path("socket"));
        format!("{program} side ask {} {} {times}", socket.display(), derivations[0])
    };
    let samples = bench.measure(&installation, &pair(ask(requests + 1), ask(1)))?;
    let result = samples.difference()?.scaled(MILLISECONDS / f64::from(requests));
    let target = Target::AtMost(0.15);
    bench.push(Row {
        benchmark: name.to_owned(),
        unit: "ms",
        measured: result.median,
        compared: None,
        with: "Guix 1.5.0: 0.15 to 0.26 ms",
        rounds: samples.ours.len(),
        result,
        target,
    });
    Ok(())
}

fn consult(bench: &mut Bench<'_>) -> Result<()> {
    let derivations = bench.size(10_000);
    /// How often one process consults, so that the time of its start does not matter.
    const TIMES: u32 = 5;
    let counts: &[u32] = if bench.arguments.short { &[1000] } else { &[1000, 100_000, 1_000_000] };
    for percent in [0, 1, 100] {
        let mut each = Vec::new();
        for &records in counts {
            let name = format!("consult 10,000, {} records, {percent} % hits", thousands(records));
            if !bench.wants(&[&name]) {
                continue;
            }
            let (installation, _) = settled(bench.arguments, "requests", &["failing \"\""])?;
            let template = template(&installation)?;
            let (path, paths) = hits(&installation, &template, records, derivations, percent)?;
            let program = std::env::current_exe()?;
            let side = |side: &str| {
                format!("{} side {side} {} {} {TIMES}", program.display(), path.display(), paths.display())
            };
            let samples = bench.measure(&installation, &pair(side("consult"), side("query")))?;
            bench.add(&name, &samples, "point queries", samples.ratio()?, Target::Ratio(1.0))?;
            let per_derivation = |seconds: f64| seconds * 1e6 / f64::from(TIMES * derivations);
            let ours = Estimate::of(samples.ours.iter().copied().map(per_derivation).collect())?;
            let theirs = Estimate::of(samples.theirs.iter().copied().map(per_derivation).collect())?;
            each.push(ours.median);
            let target = Target::AtMost(2.0);
            bench.push(Row {
                benchmark: name,
                unit: "µs",
                measured: ours.median,
                compared: Some(theirs.median),
                with: "point queries, each",
                rounds: samples.ours.len(),
                result: ours,
                target,
            });
        }
        // Compared are the two sizes with more records than derivations. With fewer records it takes a fraction of that time.
        if let [_, first, last] = &each[..] {
            let result = Estimate::once(last / first);
            let target = Target::Ratio(1_000_000f64.ln() / 100_000f64.ln());
            bench.push(Row {
                benchmark: format!("consult, {percent} % hits, growth from 100,000 to 1,000,000 records"),
                unit: "µs",
                measured: *last,
                compared: Some(*first),
                with: "100,000 records",
                rounds: 1,
                result,
                target,
            });
        }
    }
    Ok(())
}

/// A database with `records` records, and the paths of `derivations` derivations, of which `percent` are in it.
fn hits(
    installation: &Installation,
    template: &FailureRecord,
    records: u32,
    derivations: u32,
    percent: u32,
) -> Result<(PathBuf, PathBuf)> {
    let path = installation.path(&format!("consult-{records}-{derivations}.sqlite"));
    let known = derivations.min(records);
    let folder = &template.store_dir;
    let paths = |kind: u32, number: u32| {
        // A multiplication spreads these as evenly as real hashes.
        let hash = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(kind));
        let output = format!("{folder}/{hash:016x}{hash:016x}-package-{number}-1.0");
        (format!("{output}.drv"), output)
    };
    let new_path = |number: u32| {
        let (derivation, output) = paths(3, number);
        (derivation.replace("-package-", "-new-"), output.replace("-package-", "-new-"))
    };
    if !path.exists() {
        let failures: Vec<_> = (0..known)
            .map(|number| paths(1, number))
            .map(|(derivation, output)| failure(template, &derivation, &output))
            .collect();
        database(&path, &failures, records - known)?;
    }
    let asked: Vec<_> = (0..derivations)
        .map(|number| match percent {
            // The first derivation, which is the requested one, is not among the few known ones.
            _ if number % 100 >= 100 - percent => paths(1, number % known),
            // A tenth has the name of a known failure, as if another version failed, or the same one with other inputs.
            _ if number % 100 >= 90 => paths(2, number),
            _ => new_path(number),
        })
        .collect();
    let list = write_paths(&installation.path(&format!("paths-{percent}")), &asked)?;
    Ok((path, list))
}

fn record(bench: &mut Bench<'_>) -> Result<()> {
    for (name, processes) in [("record one failure", 1), ("record 64 failures in 64 processes", 64)] {
        if !bench.wants(&[name]) {
            continue;
        }
        let (installation, _) = settled(bench.arguments, "requests", &["failing \"\""])?;
        let (ours, theirs) = (installation.path("record.sqlite"), installation.path("commit.sqlite"));
        sides::make_database(&ours, &template(&installation)?)?;
        sides::make_table(&theirs)?;
        let program = std::env::current_exe()?;
        let side = |side: &str, database: &Path| match processes {
            1 => format!("{} side {side} {} 1", program.display(), database.display()),
            _ => format!("{} side at-once {processes} {side} {}", program.display(), database.display()),
        };
        let pair = pair(side("record", &ours), side("commit", &theirs));
        bench.compare(name, &installation, &pair, "a durable commit", Target::Ratio(1.5))?;
    }
    Ok(())
}

/// 64 commits. In 60 of them a dependency of the test does not build, so git skips them one after the other.
fn bisect(bench: &mut Bench<'_>) -> Result<()> {
    let closure = format!("(closure {{ size = {}; }}).top", bench.size(2000));
    let evaluating = "nix-build --no-out-link -A dependencies >/dev/null || exit 125
nix-build --no-out-link -A test || exit 1";
    let instantiated = "{ read dependencies; read test; } < instantiated
nix-store --realise $dependencies >/dev/null || exit 125
nix-store --realise $test || exit 1";
    let kinds = [
        ("git bisect, 64 commits", "", evaluating, 5.0),
        ("git bisect, 64 commits, closure of 2,000", &*closure, instantiated, 8.0),
    ];
    for (name, inputs, step, faster) in kinds {
        if bench.wants(&[name]) {
            bisect_with(bench, name, inputs, step, faster)?;
        }
    }
    Ok(())
}

/// The same where all commits need the derivations `inputs`, which are there, and `step` tells of a commit whether it is good.
fn bisect_with(bench: &mut Bench<'_>, name: &str, inputs: &str, step: &str, faster: f64) -> Result<()> {
    let folder = if inputs.is_empty() { "bisect" } else { "bisect-closure" };
    let (installation, _) = settled(bench.arguments, folder, &["failing \"\""])?;
    let stock = installation.with(Plugin::Absent, &[])?;
    installation.restore_state()?;
    if !inputs.is_empty() {
        let build = format!("nix-build --no-out-link --expr 'with import ./closure.nix; {inputs}' 2>/dev/null");
        installation.output(&format!("{stock} {build}"))?;
    }
    let commits = if bench.arguments.short { 6 } else { 64 };
    let repository = installation.path("repository");
    let script = installation.path("step");
    fs::write(&script, format!("#!/bin/sh\n{step}\n"))?;
    // Only the first two and the last two commits have dependencies that build. The second commit is the last whose test
    // passes.
    let expression = r#"with import ./closure.nix; rec {
        state = builtins.readFile ./state;
        dependencies = drv "dependencies" "/bin/sleep 1; [ ${state} != broken ] && ${ok}" [ @ ];
        test = drv "test" "/bin/sleep 1; [ ${state} -le 2 ] && ${ok}" [ dependencies ];
    }"#
    .replace('@', inputs);
    fs::write(installation.path("default.nix"), expression)?;
    let history = format!(
        "chmod +x {script}; rm -rf {repository}; mkdir {repository}; cd {repository}; git init --quiet; \
         git config user.email bench@localhost; git config user.name bench; cp ../closure.nix ../default.nix .; \
         for n in $(seq {commits}); do \
           if [ $n -le 2 ] || [ $n -gt {late} ]; then state=$n; else state=broken; fi; \
           printf $state > state; echo $n > number; \
           [ -e ../$state ] || {stock} nix-instantiate -A dependencies -A test > ../$state 2>/dev/null; \
           cp ../$state instantiated; git add .; git commit --quiet -m $n; \
         done; cd ..; rm -f 1 2 [0-9][0-9] broken",
        script = script.display(),
        repository = repository.display(),
        late = commits - 2,
    );
    installation.output(&history)?;
    installation.keep_state_anew()?;
    let bisect = |plugin| -> Result<String> {
        let line = format!(
            "cd {} && git bisect start HEAD HEAD~{} && git bisect run {}; git bisect reset",
            repository.display(),
            commits - 1,
            script.display()
        );
        Ok(format!("{} /bin/sh -c {}", installation.with(plugin, &[])?, shell_words::quote(&line)))
    };
    let prepare = Some(installation.reset_command()?);
    let pair = Pair { prepare, ..pair(bisect(Plugin::On)?, bisect(Plugin::Absent)?) };
    let samples =
        measure(&pair, Effort { seconds: 0.0, least: 1, most: 1 }, |command| installation.environment(command))?;
    let ratio = samples.ratio()?;
    let result = Estimate::once(1.0 / ratio.median);
    bench.add(name, &samples, STOCK, result, Target::Faster(faster))
}

fn thousands(number: u32) -> String {
    match number {
        0..1000 => number.to_string(),
        1000..1_000_000 => format!("{},000", number / 1000),
        _ => format!("{},000,000", number / 1_000_000),
    }
}
