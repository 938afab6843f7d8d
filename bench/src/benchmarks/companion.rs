//! The benchmarks of the companion program.

use std::fs;
use std::path::Path;

use nix_negative_cache_core::failure_object::FailureObject;
use nix_negative_cache_tests::caches::S3;

use super::{Bench, mebibytes, pair, settled};
use crate::installation::{Installation, Plugin};
use crate::pairs::{Estimate, Pair};
use crate::records::{self, database, failure, template, template_with};
use crate::table::{Row, Target};
use crate::{Result, caches};

/// Lists, a single failure and the statistics of many failures, compared with `sqlite3`, which prints the rows that are read.
pub(super) fn companion(bench: &mut Bench<'_>) -> Result<()> {
    let (list, show) = ("companion, list of 100,000", "companion, show");
    let [stats, peak] = ["companion, stats of 100,000", "companion, stats of 100,000, peak memory"];
    if !bench.wants(&[list, show, stats, peak]) {
        return Ok(());
    }
    let (installation, derivations) = settled(bench.arguments, "requests", &["failing \"\""])?;
    let template = template(&installation)?;
    let path = installation.path("list.sqlite");
    let output = installation.output_of(&derivations[0])?;
    database(&path, &[failure(&template, &derivations[0], &output)], bench.size(100_000))?;
    let companion = bench.arguments.companion.display();
    // `list` asks Nix for the settings in force. Without Nix in PATH it does not.
    let (on, alone) = (installation.with(Plugin::On, &[])?, "/usr/bin/env PATH=/nonexistent");
    let ours = |with: &str, what: &str| format!("{with} {companion} --database {} {what}", path.display());
    let theirs =
        |sql: &str| format!("{alone} /usr/bin/sqlite3 -readonly {} {}", path.display(), shell_words::quote(sql));
    if bench.wants(&[list]) {
        let sql = "SELECT * FROM failure ORDER BY id; SELECT * FROM output ORDER BY failure;
            SELECT * FROM attempt ORDER BY failure; SELECT * FROM retry; SELECT * FROM environment";
        for (name, with) in [(list.to_owned(), &*on), (format!("{list}, without Nix"), alone)] {
            bench.compare(
                name,
                &installation,
                &pair(ours(with, "list"), theirs(sql)),
                "sqlite3",
                Target::Ratio(1.5),
            )?;
        }
    }
    if bench.wants(&[show]) {
        let sql = format!(
            "SELECT * FROM output JOIN failure ON failure.id = output.failure
            JOIN attempt ON attempt.failure = failure.id WHERE path = '{output}'"
        );
        let pair = pair(ours(&on, &format!("show {output}")), theirs(&sql));
        bench.compare(show.to_owned(), &installation, &pair, "sqlite3", Target::Ratio(1.5))?;
    }
    // As many refusals as records, each of another derivation.
    records::count_refusals(&path)?;
    if bench.wants(&[stats]) {
        let sql = "SELECT * FROM failure ORDER BY id; SELECT * FROM attempt ORDER BY failure; SELECT * FROM refusal;
            SELECT * FROM judged";
        let pair = pair(ours(alone, "stats"), theirs(sql));
        bench.compare(stats, &installation, &pair, "sqlite3", Target::Ratio(3.0))?;
    }
    if bench.wants(&[peak]) {
        memory(bench, peak, &installation, None, &ours(alone, "stats"), 48.0)?;
    }
    Ok(())
}

/// A page about many failures: how long it takes and how much memory, compared with `sqlite3`, which prints what is read.
pub(super) fn report(bench: &mut Bench<'_>) -> Result<()> {
    let (name, peak) = ("report of 100,000", "memory, report of 100,000");
    if !bench.wants(&[name, peak]) {
        return Ok(());
    }
    let (installation, derivations) = settled(bench.arguments, "requests", &["failing \"\""])?;
    let path = installation.path("report.sqlite");
    let output = installation.output_of(&derivations[0])?;
    let mut template = template(&installation)?;
    template.log = "src/main.c:1:5: error: implicit declaration of function 'frobnicate'\n".repeat(25);
    database(&path, &[failure(&template, &derivations[0], &output)], bench.size(100_000))?;
    // Without Nix, so that nothing but the program is measured.
    let alone = "/usr/bin/env PATH=/nonexistent";
    let page = installation.path("report.html");
    let companion = bench.arguments.companion.display();
    let ours = format!("{alone} {companion} --database {} report {}", path.display(), page.display());
    let sql = "SELECT * FROM failure ORDER BY id; SELECT * FROM output ORDER BY failure;
        SELECT * FROM attempt ORDER BY failure; SELECT * FROM retry; SELECT * FROM environment";
    let theirs = format!("{alone} /usr/bin/sqlite3 -readonly {} {}", path.display(), shell_words::quote(sql));
    if bench.wants(&[name]) {
        bench.compare(name, &installation, &pair(ours.clone(), theirs), "sqlite3", Target::Ratio(3.0))?;
    }
    if bench.wants(&[peak]) {
        memory(bench, peak, &installation, None, &ours, 64.0)?;
    }
    Ok(())
}

/// Importing a file of many failures: how long it takes and how much memory, compared with `sqlite3`, which reads the same database
/// from statements.
pub(super) fn import(bench: &mut Bench<'_>) -> Result<()> {
    let (name, peak) = ("import of 100,000", "memory, import of 100,000");
    if !bench.wants(&[name, peak]) {
        return Ok(());
    }
    let (installation, _) = settled(bench.arguments, "requests", &["failing \"\""])?;
    let [file, path, other, statements] =
        ["failures", "imported.sqlite", "read.sqlite", "imported.sql"].map(|name| installation.path(name));
    fs::write(&file, records::file_of_failures(&template(&installation)?, bench.size(100_000))?)?;
    // Without Nix, so that nothing but the program is measured.
    let alone = "/usr/bin/env PATH=/nonexistent";
    let companion = bench.arguments.companion.display();
    let ours = format!("{alone} {companion} --database {} import {}", path.display(), file.display());
    let forget = format!("/bin/rm -f {0} {0}-wal {0}-shm {1}", path.display(), other.display());
    installation.output(&format!("{forget}; {ours}; sqlite3 {} .dump > {}", path.display(), statements.display()))?;
    let theirs = format!("{alone} /usr/bin/sqlite3 {} '.read {}'", other.display(), statements.display());
    if bench.wants(&[name]) {
        let pair = Pair { prepare: Some(forget.clone()), ..pair(ours.clone(), theirs) };
        bench.compare(name, &installation, &pair, "sqlite3", Target::Ratio(10.0))?;
    }
    if bench.wants(&[peak]) {
        memory(bench, peak, &installation, Some(&forget), &ours, 256.0)?;
    }
    Ok(())
}

/// The peak memory of a command, which may be at most so many MiB. `prepare` runs before each time.
fn memory(
    bench: &mut Bench<'_>,
    name: &str,
    installation: &Installation,
    prepare: Option<&str>,
    line: &str,
    most: f64,
) -> Result<()> {
    let mut peaks = Vec::new();
    for _ in 0..bench.rounds_of_memory() {
        prepare.map(|prepare| installation.output(prepare)).transpose()?;
        peaks.push(mebibytes(installation, line, 0)?);
    }
    let (rounds, result) = (peaks.len(), Estimate::of(peaks)?);
    bench.push(Row {
        benchmark: name.to_owned(),
        unit: "MiB",
        measured: result.median,
        compared: None,
        with: "nothing else",
        rounds,
        result,
        target: Target::AtMost(most),
    });
    Ok(())
}

/// The settings of a sandbox in which a failure can be published.
const SANDBOX: [&str; 2] = ["sandbox = true", "sandbox-paths = /bin/sh=/bin/bash-static"];

/// Publishing failures in a folder and in S3, compared with copying as many store paths of their size there.
pub(super) fn publish(bench: &mut Bench<'_>) -> Result<()> {
    let [name, to_s3] = ["publish 10,000 failures", "publish 1,000 failures to S3"];
    if !bench.wants(&[name, to_s3]) {
        return Ok(());
    }
    let (installation, _) = settled(bench.arguments, "publish", &["failing \"\""])?;
    if bench.wants(&[name]) {
        let folder = installation.path("published");
        publish_to(bench, &installation, name, 10_000, &format!("file://{}", folder.display()), &folder)?;
    }
    let version = installation.output("nix --version")?;
    if bench.wants(&[to_s3]) && !S3::is_spoken_by(&version) {
        eprintln!("Left out: {to_s3}, as {} does not ask S3 like other binary caches", version.trim());
    } else if bench.wants(&[to_s3]) {
        let buckets = installation.path("buckets");
        let server = S3::start(&buckets, "published");
        publish_to(bench, &installation, to_s3, 1000, &server.url("published"), &buckets.join("published"))?;
    }
    Ok(())
}

/// Publishes so many failures in the cache at `url`, whose files are in `folder`.
fn publish_to(
    bench: &mut Bench<'_>,
    installation: &Installation,
    name: &str,
    size: u32,
    url: &str,
    folder: &Path,
) -> Result<()> {
    let size = bench.size(size);
    let template = template_with(installation, &SANDBOX)?;
    let failures: Vec<_> = (1..=size)
        .map(|number| {
            // The alphabet of hashes in store paths has no E.
            let hash = format!("{:016x}", u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15)).replace('e', "z");
            let output = format!("{}/{hash}{hash}-package-{number}-1.0", template.store_dir);
            failure(&template, &format!("{output}.drv"), &output)
        })
        .collect();
    let (kept, used) = (installation.path("kept-failures.sqlite"), installation.path("failures.sqlite"));
    database(&kept, &failures, 0)?;

    let (on, off) = (installation.with(Plugin::On, &SANDBOX)?, installation.with(Plugin::Absent, &[])?);
    let key = caches::key(installation)?;
    let object = records::record(&template, "x.drv", &failures[0].outputs[0].key.to_string());
    let length = FailureObject::of(&object, true).to_bytes()?.len();
    let paths = format!(
        "let padding = builtins.concatStringsSep \"\" (builtins.genList (n: \"x\") {length}); \
         small = n: builtins.toFile \"build-failure\" \"${{toString n}} ${{padding}}\"; \
         in builtins.toFile \"all\" (builtins.concatStringsSep \" \" (builtins.genList small {size}))"
    );
    let all = installation
        .output(&format!("{off} nix-instantiate --eval --read-write-mode --expr {}", shell_words::quote(&paths)))?;
    let all = all.trim_matches('"');
    let companion = bench.arguments.companion.display();
    let (kept, used, key) = (kept.display(), used.display(), key.secret.display());
    // The database remembers which failures were published at which destination.
    let fresh = format!("rm -rf {0} {used}* home/.cache/nix && mkdir -p {0} && cp {kept} {used}", folder.display());
    let prepare = Some(format!("/bin/sh -c {}", shell_words::quote(&fresh)));
    let to = shell_words::quote(url);
    let ours = format!("{on} {companion} publish --database {used} --to {to} --key-file {key}");
    let signing = format!("{url}{}secret-key={key}", if url.contains('?') { '&' } else { '?' });
    let theirs = format!("{off} nix copy --to {} {all}", shell_words::quote(&signing));
    let pair = Pair { prepare, ..pair(ours, theirs) };
    bench.compare(name, installation, &pair, "nix copy", Target::Ratio(1.5))?;
    let published = fs::read_dir(folder)?.count();
    if published < failures.len() {
        return Err(format!("{name}: {published} files are there after {} failures", failures.len()).into());
    }
    Ok(())
}
