use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use proptest::prelude::*;
use rusqlite::TransactionBehavior;
use tempfile::TempDir;

use super::cleanup::LONG_LOG;
use super::location::Audience;
use super::open::BUSY_TIMEOUT;
use super::schema::{APPLICATION_ID, MIGRATIONS};
use super::*;
use crate::belief::{Belief, FailedAttempt, MAX_ATTEMPTS, Origin, Source};
use crate::class::Class;
use crate::deciding_line::DecidingLine;
use crate::elsewhere::LearnedFailure;
use crate::environment::Comparison;
use crate::failure_object::FailureObject;
use crate::portable::Scope;
use crate::record::{Failure, FailureRecord, Output};
use crate::settings::Settings;
use crate::store_path::OutputKey;

pub(super) fn failure(name: &str, outputs: &[&str], second: i64) -> Failure {
    let path = |output: &str| OutputKey::from(format!("/nix/store/{output}"));
    Failure {
        derivation: format!("/nix/store/{name}.drv").into(),
        outputs: outputs.iter().map(|output| Output { name: (*output).to_owned(), key: path(output) }).collect(),
        store_dir: "/nix/store".to_owned(),
        name: name.to_owned(),
        system: "x86_64-linux".to_owned(),
        class: Class::Builder,
        exit_code: Some(1),
        environment: Environment::default(),
        message: "builder failed".to_owned(),
        log: "line\n".to_owned(),
        asked: Timestamp::from_second(second).unwrap(),
        time: Timestamp::from_second(second).unwrap(),
        doubtful: None,
        deciding_line: None,
        duration_ms: 1500,
        host: "host".to_owned(),
        nix_version: "2.8.0".to_owned(),
        scope: Scope::Sandbox,
    }
}

pub(super) fn database() -> (TempDir, Database) {
    let folder = TempDir::new().unwrap();
    let database = Database::open_or_create(&folder.path().join("a/failures.sqlite"), Audience::Everybody).unwrap();
    (folder, database)
}

pub(super) fn outputs(names: &[&str]) -> Vec<OutputKey> {
    names.iter().map(|name| OutputKey::from(format!("/nix/store/{name}"))).collect()
}

fn only_record(database: &Database) -> FailureRecord {
    let mut records = database.records().unwrap();
    assert_eq!(records.len(), 1);
    records.remove(0)
}

#[test]
fn more_attempts_than_can_be_counted_are_no_trouble() {
    let (_folder, mut database) = database();
    for output in ["a", "b"] {
        let mut learned = from_file(&failure(output, &[output], 10));
        learned.object.attempts = u32::MAX;
        learned.origin.attempts = u32::MAX;
        assert_eq!(database.import(&[learned]).unwrap(), [Learning::Recorded]);
    }
    database.insert(&failure("both", &["a", "b"], 20)).unwrap();
    assert_eq!(only_record(&database).summary.attempts, u32::MAX);
}

/// A failure of another machine, from a file.
fn from_file(failure: &Failure) -> LearnedFailure {
    let (_folder, mut database) = database();
    database.insert(failure).unwrap();
    let object = FailureObject::of(&only_record(&database), true);
    let source = Source::File { file: "a file".to_owned() };
    let attempts = object.attempts;
    LearnedFailure { object, origin: Origin { source, attempts } }
}

#[test]
fn a_copy_has_all_records_and_is_a_database_of_its_own() {
    let (folder, mut database) = database();
    database.insert(&failure("x", &["out"], 10)).unwrap();
    let path = folder.path().join("copied/failures.sqlite");
    database.copy(&path).unwrap();
    let mut copy = Database::open(&path).unwrap().unwrap();
    assert_eq!(copy.records().unwrap(), database.records().unwrap());
    assert_eq!(copy.import(&[from_file(&failure("y", &["other"], 10))]).unwrap(), [Learning::Recorded]);
    assert_eq!((copy.records().unwrap().len(), database.records().unwrap().len()), (2, 1));
    assert!(database.copy(&path).is_err(), "there is something already");
}

#[test]
fn what_is_known_here_decides_what_is_imported() {
    let (_folder, mut database) = database();
    let import =
        |database: &mut Database, second: i64| database.import(&[from_file(&failure("x", &["out"], second))]).unwrap();
    assert_eq!(import(&mut database, 10), [Learning::Recorded]);
    let record = only_record(&database);
    assert_eq!((record.summary.attempts, record.summary.is_from("file"), record.scope), (1, true, Scope::Sandbox));
    assert_eq!((import(&mut database, 10), import(&mut database, 9)), (vec![Learning::Known], vec![Learning::Known]));
    assert_eq!(import(&mut database, 20), [Learning::Recorded]);
    // An attempt here, whether it failed or succeeded.
    database.insert(&failure("x", &["out"], 30)).unwrap();
    assert_eq!(import(&mut database, 30), [Learning::Known]);
    assert_eq!(import(&mut database, 29), [Learning::Contradicted]);
    database.succeed(&outputs(&["out"]), Timestamp::from_second(40).unwrap()).unwrap();
    assert_eq!(import(&mut database, 40), [Learning::Contradicted]);
    assert_eq!(import(&mut database, 50), [Learning::Recorded]);
    let forgotten: Vec<FailureId> = database.find(["/nix/store/out"]).unwrap().into_iter().collect();
    database.forget_failures(&forgotten).unwrap();
    // `forget` drops what is kept out for so long that nobody would believe it, so this one is new.
    let now = Timestamp::now().as_second();
    assert_eq!(import(&mut database, now), [Learning::Recorded]);
    let forgotten: Vec<FailureId> = database.find(["/nix/store/out"]).unwrap().into_iter().collect();
    database.forget_failures(&forgotten).unwrap();
    assert_eq!(import(&mut database, now), [Learning::KeptOut]);
}

#[test]
fn what_happened_elsewhere_takes_over_no_record_of_other_outputs() {
    let (_folder, mut database) = database();
    database.insert(&failure("a", &["a"], 10)).unwrap();
    database.insert(&failure("b", &["b", "b-dev"], 10)).unwrap();
    database.succeed(&outputs(&["b", "b-dev"]), Timestamp::from_second(20).unwrap()).unwrap();
    let before = database.records().unwrap();
    for wrong in [&["a", "b"][..], &["a", "x"], &["b"], &["b", "b-dev", "x"], &["a", "b", "b-dev"]] {
        let learned = from_file(&failure("a", wrong, 30));
        assert_eq!(database.import(std::slice::from_ref(&learned)).unwrap(), [Learning::OtherOutputs], "{wrong:?}");
        assert_eq!(database.learn(&[learned], []).unwrap(), 0, "{wrong:?}");
        assert_eq!(database.records().unwrap(), before, "{wrong:?}");
    }
    let learned = ["a", "b"].map(|name| from_file(&failure(name, &[name], 30)));
    assert_eq!(database.import(&learned).unwrap(), [Learning::Recorded, Learning::OtherOutputs]);
    assert_eq!(database.learn(&[from_file(&failure("b", &["b-dev", "b"], 30))], []).unwrap(), 1);
}

#[test]
fn origins_of_earlier_versions_are_read() {
    let json = r#"{"cache":"https://a","key":"ci-1:AAAA","attempts":3}"#;
    let origin: Origin = serde_json::from_str(json).unwrap();
    assert_eq!((origin.to_string().as_str(), origin.attempts), ("https://a, key ci-1", 3));
    assert_eq!(serde_json::to_string(&origin).unwrap(), json);
}

#[test]
fn a_failure_is_found_by_each_output() {
    let (_folder, mut database) = database();
    assert!(database.is_empty().unwrap());
    database.insert(&failure("x", &["out", "dev"], 10)).unwrap();
    assert!(!database.is_empty().unwrap());
    let wanted = outputs(&["dev", "other", "out"]);
    let known = database.known(&wanted).unwrap();
    assert_eq!(known.len(), 2);
    let record = database.record(known[&wanted[0]]).unwrap().unwrap();
    assert_eq!((record.summary.name.as_str(), record.summary.attempts, record.outputs.len()), ("x", 1, 2));
    assert_eq!(database.find(["/nix/store/x.drv"]).unwrap(), database.find(["/nix/store/out"]).unwrap());
}

#[test]
fn derivations_with_the_same_outputs_share_a_record() {
    let (_folder, mut database) = database();
    database.insert(&failure("x", &["out"], 10)).unwrap();
    database.insert(&failure("y", &["out"], 20)).unwrap();
    let record = only_record(&database);
    assert_eq!((record.summary.name.as_str(), record.summary.attempts), ("y", 2));
    assert_eq!((record.summary.first_failure.as_second(), record.summary.last_failure.as_second()), (10, 20));
}

#[test]
fn fetches_do_not_share_their_attempts() {
    let (_folder, mut database) = database();
    let fetch = |name: &str, second| Failure { class: Class::Fetch, ..failure(name, &["out"], second) };
    database.insert(&fetch("x", 10)).unwrap();
    database.insert(&fetch("x", 20)).unwrap();
    assert_eq!(only_record(&database).summary.history.len(), 2);
    database.insert(&fetch("y", 30)).unwrap();
    let record = only_record(&database);
    assert_eq!((record.summary.derivation.as_str(), record.summary.history.len()), ("/nix/store/y.drv", 1));
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn after_a_success_nothing_is_known_but_the_history_stays() {
    let (_folder, mut database) = database();
    database.insert(&failure("x", &["out", "dev"], 10)).unwrap();
    assert_eq!(database.succeed(&outputs(&["other"]), second(11)).unwrap(), 0);
    assert_eq!(database.succeed(&outputs(&["dev"]), second(12)).unwrap(), 1);
    assert_eq!(database.succeed(&outputs(&["dev"]), second(13)).unwrap(), 0);
    assert!(database.is_empty().unwrap());
    assert!(database.known(&outputs(&["out"])).unwrap().is_empty());
    let ends = |database: &Database| {
        let history = only_record(database).summary.history;
        history.iter().map(|attempt| (attempt.time.as_second(), attempt.failure.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(ends(&database), [(12, false), (10, true)]);
    assert!(!only_record(&database).summary.stands());
    database.insert(&failure("x", &["out", "dev"], 20)).unwrap();
    assert_eq!(ends(&database), [(20, true), (12, false), (10, true)]);
    assert_eq!((database.known(&outputs(&["out"])).unwrap().len(), only_record(&database).summary.attempts), (1, 2));
}

#[test]
fn candidates_have_the_names_of_what_is_known() {
    let (_folder, mut database) = database();
    for number in 0..8 {
        database.insert(&failure(&format!("x{}", number % 6), &[&format!("out{number}")], 10)).unwrap();
    }
    database.succeed(&outputs(&["out5"]), Timestamp::from_second(20).unwrap()).unwrap();
    // Few names are looked for, many compared with all that there are.
    assert_eq!(database.candidates(&["x5", "x4"]).unwrap(), [1]);
    let many = ["x0", "a", "b", "c", "x1", "x1", "x5", "x", "x10", ""];
    assert_eq!(database.candidates(&many).unwrap(), [0, 4, 5]);
    assert!(database.candidates(&[]).unwrap().is_empty());
}

#[test]
fn derivations_are_known_by_themselves_while_their_failures_stand() {
    let (_folder, mut database) = database();
    database.insert(&failure("x", &["out"], 10)).unwrap();
    let known = |database: &mut Database| {
        let paths = ["/nix/store/x.drv", "/nix/store/out"].map(str::to_owned);
        database.known_derivations(&paths).unwrap()
    };
    let recorded = |database: &Database| {
        let found = database.find(["/nix/store/x.drv"]).unwrap();
        database.records_of(&found).unwrap()
    };
    // Twice, as the second answer is remembered.
    for _ in 0..2 {
        assert_eq!(known(&mut database), recorded(&database));
    }
    let mut other = Database::open(database.path()).unwrap().unwrap();
    let failures = other.find(["/nix/store/x.drv"]).unwrap();
    other.request_retry(&failures, 7, second(15)).unwrap();
    assert_eq!(known(&mut database)[&failures[0]].summary.retries.len(), 1);
    database.request_retry(&failures, 8, second(16)).unwrap();
    assert_eq!(known(&mut database)[&failures[0]].summary.retries.len(), 2);
    other.succeed(&outputs(&["out"]), second(20)).unwrap();
    assert!(known(&mut database).is_empty());
    assert!(database.is_empty().unwrap());
    database.insert(&failure("x", &["out"], 30)).unwrap();
    assert_eq!(known(&mut database), recorded(&database));
    assert!(!database.is_empty().unwrap());
    database.succeed(&outputs(&["out"]), second(40)).unwrap();
    assert!(known(&mut database).is_empty());
    assert!(database.is_empty().unwrap());
}

#[test]
fn environments_are_kept_once_and_no_longer_than_they_are_of_use() {
    let (_folder, mut database) = database();
    let count = |database: &Database| {
        let count = "SELECT count(*) FROM environment";
        database.connection.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let somewhere =
        |name: &str| Environment::new(&BTreeMap::from([("sandbox".to_owned(), name.to_owned())]), BTreeMap::new());
    for (name, output, environment) in [("a", "o1", "true"), ("b", "o2", "true"), ("c", "o3", "false")] {
        database.insert(&Failure { environment: somewhere(environment), ..failure(name, &[output], 10) }).unwrap();
    }
    assert_eq!(count(&database), 2);
    let id = database.find(["/nix/store/c.drv"]).unwrap();
    assert_eq!(database.forget_failures(&id).unwrap(), 1);
    assert_eq!(count(&database), 1);
    let records = database.records().unwrap();
    let here = |record: &FailureRecord| record.summary.history[0].failure.clone().unwrap().environment;
    assert!(records.iter().all(|record| here(record) == somewhere("true")));
}

#[test]
fn attempts_have_their_class_and_environment() {
    let (_folder, mut database) = database();
    let settings = BTreeMap::from([("sandbox".to_owned(), "true".to_owned())]);
    let environment = Environment::new(&settings, BTreeMap::new());
    let timeout = Failure {
        class: Class::Timeout,
        exit_code: None,
        environment: environment.clone(),
        ..failure("x", &["out"], 1)
    };
    database.insert(&timeout).unwrap();
    let record = only_record(&database);
    assert_eq!((record.summary.class, record.summary.exit_code), (Class::Timeout, None));
    assert_eq!(
        record.summary.history[0].failure,
        Some(FailedAttempt { class: Class::Timeout, exit_code: None, environment, doubtful: None, origin: None })
    );
}

#[test]
fn doubtful_failures_are_kept_as_they_were_recorded() {
    let (_folder, mut database) = database();
    let line = DecidingLine {
        cause: "out of memory".to_owned(),
        line: "cc1plus: out of memory".to_owned(),
        number: 120,
        of: 180,
        against: Some("a test expects it".to_owned()),
    };
    // The largest number is none that SQLite has.
    let doubtful = Failure {
        asked: second(7),
        doubtful: Some(u64::MAX),
        deciding_line: Some(line.clone()),
        ..failure("x", &["out"], 10)
    };
    database.insert(&doubtful).unwrap();
    let last = |database: &Database| {
        let record = only_record(database);
        let attempt = record.summary.history[0].clone();
        (
            attempt.asked,
            attempt.time,
            attempt.failure.and_then(|failure| failure.doubtful),
            record.summary,
            record.deciding_line,
        )
    };
    let (asked, time, identity, summary, evidence) = last(&database);
    assert_eq!((asked, time, identity, evidence), (second(7), second(10), Some(u64::MAX), Some(line)));
    assert!(summary.is_doubtful() && database.summaries().unwrap()[0].is_doubtful());
    database.insert(&failure("x", &["out"], 20)).unwrap();
    let (asked, time, identity, summary, evidence) = last(&database);
    assert_eq!((asked, time, identity, evidence), (second(20), second(20), None, None), "that was the earlier one's");
    assert_eq!((summary.is_doubtful(), summary.history.len()), (false, 2));
    assert_eq!(summary.history[1].failure.as_ref().unwrap().doubtful, Some(u64::MAX));
    database.succeed(&outputs(&["out"]), second(30)).unwrap();
    assert_eq!(last(&database).0, second(30));
}

#[test]
fn a_deciding_line_that_cannot_be_read_is_none() {
    let (_folder, mut database) = database();
    database.insert(&failure("x", &["out"], 10)).unwrap();
    database.connection.execute("UPDATE failure SET evidence = '{'", []).unwrap();
    assert_eq!(only_record(&database).deciding_line, None);
}

#[test]
fn doubtful_failures_count_when_they_come_again() {
    let (_folder, mut database) = database();
    let doubtful = |asked, ended| Failure { asked: second(asked), doubtful: Some(1), ..failure("x", &["out"], ended) };
    let believed = |database: &Database| {
        let here = Comparison::with(&Environment::default());
        let settings = Settings { ttl: None, ..Settings::default() };
        matches!(only_record(database).summary.belief(0, &here, &settings, second(100)), Belief::Fails { .. })
    };
    database.insert(&doubtful(1, 10)).unwrap();
    assert!(!believed(&database) && database.is_known(&outputs(&["out"])[0]).unwrap());
    database.insert(&doubtful(2, 20)).unwrap();
    assert!(!believed(&database), "it was asked for before the first one ended");
    database.insert(&doubtful(21, 30)).unwrap();
    assert!(believed(&database));
}

#[test]
fn attempts_of_the_version_before_doubts_were_asked_for_when_they_ended() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("failures.sqlite");
    let old = Connection::open(&path).unwrap();
    for migration in &MIGRATIONS[..4] {
        old.execute_batch(migration).unwrap();
    }
    old.execute_batch(
        "INSERT INTO failure (id, drv_path, store_dir, name, system, class, exit_code, message, log, first_failure,
             last_failure, attempts, duration_ms, host, nix_version, plugin_version)
             VALUES (7, '/nix/store/x.drv', '/nix/store', 'x', 's', 'builder', 3, 'm', 'l', 1000, 2000, 2, 5, 'h', 'n', 'p');
         INSERT INTO output VALUES ('/nix/store/out', 7, 'out');
         INSERT INTO environment VALUES (1, '{}');
         INSERT INTO attempt (failure, time, class, exit_code, environment) VALUES (7, 1000, NULL, NULL, NULL);
         INSERT INTO attempt (failure, time, class, exit_code, environment) VALUES (7, 2000, 'builder', 3, 1);",
    )
    .unwrap();
    old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    old.pragma_update(None, "user_version", 4).unwrap();
    drop(old);
    assert!(matches!(Database::open_readonly(&path), Err(DatabaseError::OlderSchema { .. })));
    let mut database = Database::open(&path).unwrap().unwrap();
    let record = only_record(&database);
    let times: Vec<_> = record.summary.history.iter().map(|attempt| (attempt.asked, attempt.time)).collect();
    assert_eq!(times, [(second(2), second(2)), (second(1), second(1))]);
    assert!(!record.summary.is_doubtful() && record.deciding_line.is_none());
    database.insert(&Failure { doubtful: Some(3), ..failure("x", &["out"], 30) }).unwrap();
    assert_eq!((only_record(&database).summary.is_doubtful(), only_record(&database).summary.attempts), (true, 3));
}

#[test]
fn only_the_last_attempts_are_kept() {
    let (_folder, mut database) = database();
    for n in 0..40 {
        database.insert(&failure("x", &["out"], n)).unwrap();
    }
    let record = only_record(&database);
    assert_eq!((record.summary.attempts, record.summary.history.len() as u32), (40, MAX_ATTEMPTS));
    assert_eq!(record.summary.history[0].time.as_second(), 39);
}

#[test]
fn records_of_the_first_version_are_kept() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("failures.sqlite");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(MIGRATIONS[0]).unwrap();
    old.execute_batch(
        "INSERT INTO failure VALUES (7, '/nix/store/x.drv', '/nix/store', 'x', 's', 3, 'm', 'l', 1000, 2000, 4, 5, 'h', 'n', 'p');
         INSERT INTO output VALUES ('/nix/store/out', 7, 'out');",
    )
    .unwrap();
    old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);
    let database = Database::open(&path).unwrap().unwrap();
    let record = only_record(&database);
    assert_eq!((record.summary.exit_code, record.summary.class, record.summary.attempts), (Some(3), Class::Builder, 4));
    assert!(record.summary.stands() && record.summary.history[0].time == second(2));
    assert_eq!(
        (record.summary.history[0].asked, record.summary.is_doubtful(), &record.deciding_line),
        (second(2), false, &None)
    );
    assert_eq!(database.known(&outputs(&["out"])).unwrap().len(), 1);
}

#[test]
fn records_are_listed_newest_first_and_survive_reopening() {
    let (_folder, mut database) = database();
    for (name, second) in [("a", 5), ("b", 50), ("c", 20)] {
        database.insert(&failure(name, &[name], second)).unwrap();
    }
    let path = database.path.clone();
    drop(database);
    let database = Database::open(&path).unwrap().unwrap();
    let names: Vec<String> = database.records().unwrap().into_iter().map(|record| record.summary.name).collect();
    assert_eq!(names, ["b", "c", "a"]);
}

#[test]
fn no_file_is_no_database() {
    let folder = TempDir::new().unwrap();
    assert!(Database::open(&folder.path().join("none/failures.sqlite")).unwrap().is_none());
    assert!(!folder.path().join("none").exists());
}

#[test]
fn a_newer_schema_is_left_alone() {
    let (_folder, database) = database();
    database.connection.pragma_update(None, "user_version", 99).unwrap();
    let error = Database::open(&database.path).unwrap_err();
    assert!(matches!(error, DatabaseError::NewerSchema { found: 99, .. }), "{error}");
}

#[test]
fn other_files_are_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("failures.sqlite");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    assert!(matches!(Database::open_or_create(&path, Audience::Everybody), Err(DatabaseError::Foreign { .. })));
    fs::write(&path, "not a database, but long enough to look at").unwrap();
    assert!(matches!(Database::open_or_create(&path, Audience::Everybody), Err(DatabaseError::Sqlite { .. })));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(Database::open_or_create(&path, Audience::Everybody), Err(DatabaseError::NotAFile { .. })));
}

#[test]
fn processes_that_start_at_once_agree_on_the_schema() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("failures.sqlite");
    std::thread::scope(|scope| {
        for n in 0..8 {
            let path = &path;
            scope.spawn(move || {
                let name = n.to_string();
                Database::open_or_create(path, Audience::Everybody)
                    .unwrap()
                    .insert(&failure(&name, &[&name], n))
                    .unwrap();
            });
        }
    });
    assert_eq!(Database::open(&path).unwrap().unwrap().records().unwrap().len(), 8);
}

#[derive(Clone, Debug)]
enum Event {
    Fail(u8),
    Succeed(u8),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn known_is_what_failed_and_did_not_succeed_since(
        events in prop::collection::vec(prop_oneof![(0..4u8).prop_map(Event::Fail), (0..4u8).prop_map(Event::Succeed)], 0..20),
    ) {
        let (_folder, mut database) = database();
        let mut attempts: BTreeMap<u8, u32> = BTreeMap::new();
        for (moment, event) in events.iter().enumerate() {
            match event {
                Event::Fail(n) => {
                    let name = n.to_string();
                    database.insert(&failure(&name, &[&name], moment as i64)).unwrap();
                    *attempts.entry(*n).or_default() += 1;
                }
                Event::Succeed(n) => {
                    database.succeed(&outputs(&[&n.to_string()]), second(moment as i64)).unwrap();
                    attempts.remove(n);
                }
            }
        }
        let records = database.records().unwrap();
        let standing = records.iter().filter(|record| record.summary.stands());
        let in_a_row = |r: &FailureRecord| r.summary.history.iter().take_while(|attempt| attempt.failure.is_some()).count();
        let found: BTreeMap<u8, u32> =
            standing.map(|record| (record.summary.name.parse().unwrap(), in_a_row(record) as u32)).collect();
        let names: Vec<String> = (0..4).map(|n| n.to_string()).collect();
        let all = outputs(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let known = database.known(&all).unwrap();
        prop_assert_eq!(known.len(), attempts.len());
        prop_assert_eq!(found, attempts);
    }
}

#[test]
fn what_others_write_is_seen_at_once() {
    let (folder, mut reader) = database();
    let mut writer = Database::open(&folder.path().join("a/failures.sqlite")).unwrap().unwrap();
    let wanted = outputs(&["out"]);
    for n in 0..50 {
        assert!(!reader.is_known(&wanted[0]).unwrap());
        assert!(!reader.is_known(&wanted[0]).unwrap());
        writer.insert(&failure("x", &["out"], n)).unwrap();
        assert!(reader.is_known(&wanted[0]).unwrap());
        writer.succeed(&wanted, second(n)).unwrap();
    }
}

#[test]
fn what_is_not_known_is_asked_once_until_somebody_else_writes() {
    let (folder, mut database) = database();
    let mut other = Database::open(&folder.path().join("a/failures.sqlite")).unwrap().unwrap();
    let wanted = outputs(&["out", "other"]);
    assert!(!database.is_known(&wanted[0]).unwrap());
    assert!(database.stamp().is_some() && database.remembered.unknown.contains(&wanted[0]));
    database.insert(&failure("y", &["y"], 1)).unwrap();
    assert!(!database.is_known(&wanted[1]).unwrap());
    assert!(database.remembered.unknown.contains(&wanted[0]), "it knows what it wrote itself");
    other.insert(&failure("z", &["z"], 1)).unwrap();
    assert!(!database.is_known(&wanted[1]).unwrap());
    assert!(!database.remembered.unknown.contains(&wanted[0]));
    database.insert(&failure("x", &["other"], 1)).unwrap();
    assert!(database.is_known(&wanted[1]).unwrap());
}

#[test]
fn what_is_set_aside_counts_again_when_it_is_written_to() {
    let (folder, mut database) = database();
    let mut other = Database::open(&folder.path().join("a/failures.sqlite")).unwrap().unwrap();
    let wanted = outputs(&["out"]);
    database.insert(&failure("x", &["out"], 1)).unwrap();
    let version = database.version().unwrap();
    assert!(database.is_known(&wanted[0]).unwrap());
    database.set_aside(version, wanted.clone()).unwrap();
    assert!(!database.is_known(&wanted[0]).unwrap());
    database.insert(&failure("y", &["y"], 2)).unwrap();
    assert!(!database.is_known(&wanted[0]).unwrap());
    database.insert(&failure("x", &["out"], 2)).unwrap();
    assert!(database.is_known(&wanted[0]).unwrap());
    // What was looked at before the last commit says nothing.
    database.set_aside(version, wanted.clone()).unwrap();
    assert!(database.is_known(&wanted[0]).unwrap());
    let version = database.version().unwrap();
    database.set_aside(version, wanted.clone()).unwrap();
    other.insert(&failure("x", &["out"], 3)).unwrap();
    assert!(database.is_known(&wanted[0]).unwrap());
    database.set_aside(version, wanted.clone()).unwrap();
    assert!(database.is_known(&wanted[0]).unwrap());
}

/// SQLite's locks on the wal-index are the process's, and go with the first descriptor of it that is closed.
#[test]
fn the_wal_index_is_never_closed() {
    let (folder, mut database) = database();
    let path = folder.path().join("a/failures.sqlite");
    database.is_known(&outputs(&["out"])[0]).unwrap();
    let descriptors =
        || fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let index = fs::canonicalize(folder.path().join("a/failures.sqlite-shm")).unwrap();
    let before = descriptors().filter(|target| *target == index).count();
    drop(Database::open(&path).unwrap().map(|mut other| other.is_known(&outputs(&["out"])[0])));
    assert!(descriptors().filter(|target| *target == index).count() > before);
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    let folder = TempDir::new().unwrap();
    for (name, audience, folder_mode, mode) in
        [("all", Audience::Everybody, 0o755, 0o644), ("own", Audience::Owner, 0o700, 0o600)]
    {
        let path = folder.path().join(name).join("failures.sqlite");
        let mut database = Database::open_or_create(&path, audience).unwrap();
        database.insert(&failure("x", &["out"], 10)).unwrap();
        let mode_of = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode_of(path.parent().unwrap()), folder_mode);
        for suffix in ["", "-wal", "-shm"] {
            assert_eq!(mode_of(&location::beside(&path, suffix)), mode, "{name}{suffix}");
        }
        // They stay, for those who could not make them.
        drop(database);
        assert!(location::beside(&path, "-wal").exists() && location::beside(&path, "-shm").exists());
        assert_eq!(fs::metadata(location::beside(&path, "-wal")).unwrap().len(), 0, "but the log does not grow");
    }
}

/// While somebody reads one state of the database, the log grows with all that is written.
#[test]
fn a_log_that_a_long_reader_made_long_is_emptied() {
    let (folder, mut database) = database();
    let path = folder.path().join("a/failures.sqlite");
    let length = || fs::metadata(location::beside(&path, "-wal")).unwrap().len();
    let mut write = |number: i64| {
        let failure = failure(&format!("f{number}"), &[&format!("o{number}")], number);
        database.insert(&Failure { log: "x".repeat(100_000), ..failure }).unwrap();
        database.tidy(u64::MAX, None).unwrap();
    };
    write(0);
    let mut reader = rusqlite::Connection::open(&path).unwrap();
    let reading = reader.transaction().unwrap();
    let count = || reading.query_row("SELECT count(*) FROM failure", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count(), 1);
    (1..101).for_each(&mut write);
    assert!(length() > LONG_LOG, "{}", length());
    assert_eq!(count(), 1, "the reader is not disturbed");
    drop(reading);
    write(101);
    assert_eq!(length(), 0);
    assert_eq!(database.records().unwrap().len(), 102);
}

/// Nobody waits until a long log is emptied, and it waits for nobody.
#[test]
fn a_long_log_is_left_alone_while_another_process_writes() {
    let (folder, mut database) = database();
    let path = folder.path().join("a/failures.sqlite");
    let length = || fs::metadata(location::beside(&path, "-wal")).unwrap().len();
    let mut other = rusqlite::Connection::open(&path).unwrap();
    other.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    other.execute_batch("CREATE TABLE x (y); INSERT INTO x VALUES (zeroblob(10000000))").unwrap();
    assert!(length() > LONG_LOG);
    let writing = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let start = Instant::now();
    assert_eq!(database.tidy(u64::MAX, None).unwrap(), 0);
    assert!(start.elapsed() < BUSY_TIMEOUT / 2, "{:?}", start.elapsed());
    assert!(length() > LONG_LOG);
    writing.commit().unwrap();
    database.tidy(u64::MAX, None).unwrap();
    assert_eq!(length(), 0);
}

#[test]
fn what_others_can_write_to_is_no_place_for_roots_database() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (folder, database) = database();
    drop(database);
    let path = folder.path().join("a/failures.sqlite");
    let with_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for (changed, wrong, right) in [(path.parent().unwrap(), 0o777, 0o755), (&path, 0o666, 0o644)] {
        with_mode(changed, wrong);
        assert!(matches!(Database::open(&path), Err(DatabaseError::Untrusted { .. })));
        with_mode(changed, right);
        assert!(Database::open(&path).unwrap().is_some());
    }
    std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
    assert!(matches!(Database::open(&path), Err(DatabaseError::Untrusted { .. })));
}

#[test]
fn a_broken_database_is_moved_away_if_its_place_is_ours() {
    let folder = TempDir::new().unwrap();
    let garbage = "garbage ".repeat(1000);
    let ours = location::default_path(folder.path());
    fs::create_dir(ours.parent().unwrap()).unwrap();
    fs::write(&ours, &garbage).unwrap();
    let Err(DatabaseError::Broken { broken, .. }) = Database::open(&ours) else { panic!("not moved") };
    assert_eq!(fs::read_to_string(&broken).unwrap(), garbage);
    assert!(Database::open_or_create(&ours, Audience::Everybody).unwrap().is_empty().unwrap());
    let theirs = folder.path().join("notes.txt");
    fs::write(&theirs, &garbage).unwrap();
    assert!(matches!(Database::open(&theirs), Err(DatabaseError::Sqlite { .. })));
    assert_eq!(fs::read_to_string(&theirs).unwrap(), garbage);
}

#[test]
fn a_request_to_retry_counts_for_its_user_until_the_next_attempt() {
    let (_folder, mut database) = database();
    let hash = "7r40h4gj6rsaw6xnsq7vj128dpiawa94";
    let output = format!("{hash}-x");
    database.insert(&failure("x", &[&output], 10)).unwrap();
    let found = database.find_by_hash_part("/nix/store", hash).unwrap();
    assert_eq!(found.len(), 1);
    assert!(database.find_by_hash_part("/nix/store", &hash[1..]).unwrap().is_empty());
    assert!(database.find_by_hash_part("/gnu/store", hash).unwrap().is_empty());
    let settings = Settings { ttl: None, ..Settings::default() };
    let believed = |database: &Database, user| {
        let belief = only_record(database).summary.belief(
            user,
            &Comparison::with(&Environment::default()),
            &settings,
            second(100),
        );
        matches!(belief, Belief::Fails { .. })
    };
    assert_eq!(database.request_retry(&found, 1000, second(9)).unwrap(), 1);
    assert!(believed(&database, 1000), "it is older than the failure");
    assert_eq!(database.request_retry(&found, 1000, second(20)).unwrap(), 1);
    let version = database.version().unwrap();
    assert_eq!(database.request_retry(&found, 1000, second(20)).unwrap(), 1);
    assert_eq!(database.version().unwrap(), version, "asking again at once writes nothing");
    assert!(!believed(&database, 1000) && believed(&database, 1001));
    database.insert(&failure("x", &[&output], 30)).unwrap();
    assert!(believed(&database, 1000));
    assert!(only_record(&database).summary.retries.is_empty());
    assert_eq!(database.request_retry(&found, 1000, second(40)).unwrap(), 0, "this one is gone");
}

#[test]
fn the_oldest_unused_go_in_small_steps() {
    let (_folder, mut database) = database();
    for n in 0..200 {
        database.insert(&failure(&format!("x{n}"), &[&format!("out{n}")], 1_000_000 + n)).unwrap();
    }
    let id = *database.known(&outputs(&["out0"])).unwrap().values().next().unwrap();
    database.note_use(&[id], second(2_000_000));
    assert_eq!(database.tidy(200, None).unwrap(), 0);
    assert_eq!(database.tidy(190, None).unwrap(), 10);
    let left = |database: &Database, name: &str| !database.known(&outputs(&[name])).unwrap().is_empty();
    assert!(
        left(&database, "out0") && !left(&database, "out1") && !left(&database, "out10") && left(&database, "out11")
    );
    assert_eq!(database.tidy(10, None).unwrap(), 64, "one step");
    let mut steps = 0;
    while database.tidy(1000, Some(second(1_000_150))).unwrap() > 0 {
        steps += 1;
    }
    assert!(steps >= 1);
    assert_eq!(database.records().unwrap().len(), 51, "what was used, and the last fifty");
}

/// Locks the database in `folder` against writers in another thread, for that long.
fn lock_for(folder: &TempDir, time: Duration) -> thread::JoinHandle<()> {
    let path = folder.path().join("a/failures.sqlite");
    let (locked, is_locked) = mpsc::channel();
    let holder = thread::spawn(move || {
        let mut other = Database::open(&path).unwrap().unwrap();
        let transaction = other.connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        locked.send(()).unwrap();
        thread::sleep(time);
        drop(transaction);
    });
    is_locked.recv().unwrap();
    holder
}

#[test]
fn writing_waits_for_others_but_not_for_ever() {
    let (folder, mut database) = database();
    let holder = lock_for(&folder, BUSY_TIMEOUT / 4);
    database.insert(&failure("x", &["out"], 10)).unwrap();
    holder.join().unwrap();

    let holder = lock_for(&folder, BUSY_TIMEOUT * 2);
    let start = Instant::now();
    let error = database.insert(&failure("y", &["out"], 10)).unwrap_err();
    assert!(error.to_string().contains("database is locked") && start.elapsed() >= BUSY_TIMEOUT, "{error}");
    holder.join().unwrap();
    database.insert(&failure("y", &["out"], 10)).unwrap();
}

#[test]
fn tidying_waits_for_nobody() {
    let (folder, mut database) = database();
    database.insert(&failure("x", &["out"], 10)).unwrap();
    let mut other = Database::open(&folder.path().join("a/failures.sqlite")).unwrap().unwrap();
    let transaction = other.connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let start = Instant::now();
    assert_eq!(database.tidy(0, None).unwrap(), 0);
    database.note_use(&[FailureId(1)], second(2_000_000));
    assert!(start.elapsed() < BUSY_TIMEOUT);
    drop(transaction);
    assert_eq!(database.tidy(0, None).unwrap(), 1);
}
