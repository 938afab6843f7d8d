//! Databases with as many records as a benchmark needs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix_negative_cache_core::belief::{Attempt, FailedAttempt};
use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::database::Database;
use nix_negative_cache_core::database::location::Audience;
use nix_negative_cache_core::environment::Environment;
use nix_negative_cache_core::failure_file;
use nix_negative_cache_core::failure_object::FailureObject;
use nix_negative_cache_core::portable::Scope;
use nix_negative_cache_core::record::{Failure, FailureRecord, FailureSummary, Output};
use nix_negative_cache_core::store_path::derivation_name;
use rusqlite::{Connection, params};

use crate::Result;
use crate::installation::{Installation, Plugin};

/// Removes a database and its log, if they exist.
pub fn remove(database: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", database.display()));
    }
}

/// A failure that this Nix recorded on this machine, so that copies of it are believed.
pub fn template(installation: &Installation) -> Result<FailureRecord> {
    template_with(installation, &[])
}

/// The same with more settings.
pub fn template_with(installation: &Installation, settings: &[&str]) -> Result<FailureRecord> {
    let database = installation.path("template.sqlite");
    remove(&database);
    let setting = format!("negative-cache-database = {}", database.display());
    let on = installation.with(Plugin::On, &[&[&*setting], settings].concat())?;
    let derivation = installation.instantiate("failing \"-template\"")?;
    installation.output(&format!("! {on} nix-store --realise {derivation} 2>/dev/null"))?;
    let records = Database::open(&database)?.ok_or("the template was not recorded")?.records()?;
    records.into_iter().next().ok_or("the template was not recorded".into())
}

/// A made-up failure, which is the same on every machine.
pub fn made_up() -> FailureRecord {
    let time = Timestamp::UNIX_EPOCH;
    // A real environment has about as many.
    let factors = (0..40).map(|number| (format!("factor-{number}"), "value".to_owned())).collect();
    let failed = FailedAttempt {
        class: Class::Builder,
        exit_code: Some(1),
        environment: Environment::new(&BTreeMap::new(), factors),
        doubtful: None,
        origin: None,
    };
    FailureRecord {
        summary: FailureSummary {
            derivation: "/nix/store/x.drv".into(),
            name: "x".to_owned(),
            system: "x86_64-linux".to_owned(),
            class: Class::Builder,
            exit_code: Some(1),
            first_failure: time,
            last_failure: time,
            attempts: 1,
            history: vec![Attempt { asked: time, time, failure: Some(failed) }],
            retries: Vec::new(),
            duration_ms: 1000,
        },
        outputs: Vec::new(),
        store_dir: "/nix/store".to_owned(),
        message: "builder failed with exit code 1".to_owned(),
        log: "a line of the log\n".repeat(20),
        deciding_line: None,
        host: "host".to_owned(),
        nix_version: "2.8.0".to_owned(),
        plugin_version: "0".to_owned(),
        scope: Scope::default(),
    }
}

/// The name of the derivation with this path.
pub fn name_of(derivation: &str) -> &str {
    derivation.rsplit('/').next().map(derivation_name).unwrap_or_default()
}

/// A failure like `template`, but of another derivation with one output.
pub fn failure(template: &FailureRecord, derivation: &str, output: &str) -> Failure {
    let attempt = template.summary.history.first().and_then(|attempt| attempt.failure.clone());
    Failure {
        derivation: derivation.into(),
        outputs: vec![Output { name: "out".to_owned(), key: output.into() }],
        store_dir: template.store_dir.clone(),
        name: name_of(derivation).to_owned(),
        system: template.summary.system.clone(),
        class: template.summary.class,
        exit_code: template.summary.exit_code,
        environment: attempt.map(|attempt| attempt.environment).unwrap_or_default(),
        message: template.message.clone(),
        log: template.log.clone(),
        asked: Timestamp::now(),
        time: Timestamp::now(),
        doubtful: None,
        deciding_line: None,
        duration_ms: template.summary.duration_ms,
        host: template.host.clone(),
        nix_version: template.nix_version.clone(),
        scope: template.scope,
    }
}

/// A record like `template`, but of another derivation with one output.
pub fn record(template: &FailureRecord, derivation: &str, output: &str) -> FailureRecord {
    let summary = FailureSummary {
        derivation: derivation.into(),
        name: name_of(derivation).to_owned(),
        ..template.summary.clone()
    };
    let outputs = vec![Output { name: "out".to_owned(), key: output.into() }];
    FailureRecord { summary, outputs, ..template.clone() }
}

/// A file that `nix-negative-cache import` reads, with so many failures like `template`.
pub fn file_of_failures(template: &FailureRecord, count: u32) -> Result<Vec<u8>> {
    let mut failures = BTreeMap::new();
    for number in 0..count {
        let path = |kind, end| format!("{}/{kind}{number:031}-other-{number}-1.0{end}", template.store_dir);
        let record = record(template, &path(0, ".drv"), &path(1, ""));
        let object = FailureObject::of(&record, true).to_bytes()?;
        failures.extend(record.outputs.into_iter().map(|output| (output.key, object.clone())));
    }
    Ok(failure_file::write(&failures))
}

/// Makes a database with `failures` and `others` more, about which no benchmark asks.
pub fn database(path: &Path, failures: &[Failure], others: u32) -> Result<()> {
    remove(path);
    let mut database = Database::open_or_create(path, Audience::Everybody)?;
    for failure in failures {
        database.insert(failure)?;
    }
    drop(database);
    fill(path, others)
}

/// Adds copies of the first record. Each has its own paths, and their names vary as much as those of nixpkgs.
fn fill(path: &Path, others: u32) -> Result<()> {
    let connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA synchronous = off; BEGIN")?;
    let columns: Vec<String> = {
        let mut statement = connection.prepare("SELECT name FROM pragma_table_info('failure')")?;
        statement.query_map([], |row| row.get(0))?.collect::<std::result::Result<_, _>>()?
    };
    let values: Vec<&str> = columns
        .iter()
        .map(|column| match column.as_str() {
            "id" => "number + (SELECT count(*) FROM failure)",
            "drv_path" => {
                "store_dir || '/' || lower(hex(randomblob(16))) || '-other-' || (number % 80000) || '-1.0.drv'"
            }
            "name" => "'other-' || (number % 80000) || '-1.0'",
            other => other,
        })
        .collect();
    let numbers =
        "WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < ?1)";
    if others > 0 {
        let first = "(SELECT * FROM failure ORDER BY id LIMIT 1)";
        connection.execute(
            &format!(
                "INSERT INTO failure ({}) {numbers} SELECT {} FROM numbers, {first}",
                columns.join(", "),
                values.join(", ")
            ),
            params![others],
        )?;
        connection.execute_batch(
            "INSERT INTO output (path, failure, name)
                 SELECT store_dir || '/' || lower(hex(randomblob(16))) || '-' || name, id, 'out' FROM failure WHERE id > (SELECT max(failure) FROM output);
             INSERT INTO attempt (failure, time, class, exit_code, environment) SELECT failure.id, attempt.time, attempt.class, attempt.exit_code, environment
                 FROM failure, (SELECT * FROM attempt ORDER BY id LIMIT 1) AS attempt
                 WHERE failure.id > (SELECT max(failure) FROM attempt);",
        )?;
    }
    connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(truncate)")?;
    Ok(())
}

/// Counts a refusal of each recorded derivation.
pub fn count_refusals(path: &Path) -> Result<()> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "INSERT INTO refusal (day, drv_path, name, system, class, origin, refusals, saved_ms)
             SELECT 20000 + id % 90, drv_path, name, system, class, '', 1, duration_ms FROM failure;
         PRAGMA wal_checkpoint(truncate)",
    )?;
    Ok(())
}

/// Writes derivations and their outputs to a file, one pair on each line.
pub fn write_paths(path: &Path, derivations: &[(String, String)]) -> Result<PathBuf> {
    let lines: Vec<String> =
        derivations.iter().map(|(derivation, output)| format!("{derivation} {output}\n")).collect();
    fs::write(path, lines.concat())?;
    Ok(path.to_owned())
}
