use std::collections::BTreeMap;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn failure(name: &str, outputs: &[&str], second: i64) -> Failure {
    let path = |output: &str| OutputPath::from(format!("/nix/store/{output}"));
    Failure {
        derivation: format!("/nix/store/{name}.drv").into(),
        outputs: outputs.iter().map(|output| Output { name: (*output).to_owned(), path: path(output) }).collect(),
        store_dir: "/nix/store".to_owned(),
        name: name.to_owned(),
        system: "x86_64-linux".to_owned(),
        class: Class::Builder,
        exit_code: Some(1),
        environment: Environment::default(),
        message: "builder failed".to_owned(),
        log: "line\n".to_owned(),
        time: Timestamp::from_second(second).unwrap(),
        duration_ms: 1500,
        host: "host".to_owned(),
        nix_version: "2.8.0".to_owned(),
    }
}

fn database() -> (TempDir, Database) {
    let folder = TempDir::new().unwrap();
    let database = Database::open_or_create(&folder.path().join("a/failures.sqlite")).unwrap();
    (folder, database)
}

fn outputs(names: &[&str]) -> Vec<OutputPath> {
    names.iter().map(|name| OutputPath::from(format!("/nix/store/{name}"))).collect()
}

fn only_record(database: &Database) -> FailureRecord {
    let mut records = database.records().unwrap();
    assert_eq!(records.len(), 1);
    records.remove(0)
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
    assert_eq!((record.name.as_str(), record.attempts, record.outputs.len()), ("x", 1, 2));
    assert_eq!(database.find(["/nix/store/x.drv"]).unwrap(), database.find(["/nix/store/out"]).unwrap());
}

#[test]
fn derivations_with_the_same_outputs_share_a_record() {
    let (_folder, mut database) = database();
    database.insert(&failure("x", &["out"], 10)).unwrap();
    database.insert(&failure("y", &["out"], 20)).unwrap();
    let record = only_record(&database);
    assert_eq!((record.name.as_str(), record.attempts), ("y", 2));
    assert_eq!((record.first_failure.as_second(), record.last_failure.as_second()), (10, 20));
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
        let history = only_record(database).history;
        history.iter().map(|attempt| (attempt.time.as_second(), attempt.failure.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(ends(&database), [(12, false), (10, true)]);
    assert!(!only_record(&database).stands());
    database.insert(&failure("x", &["out", "dev"], 20)).unwrap();
    assert_eq!(ends(&database), [(20, true), (12, false), (10, true)]);
    assert_eq!((database.known(&outputs(&["out"])).unwrap().len(), only_record(&database).attempts), (1, 2));
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
    assert_eq!((record.class, record.exit_code), (Class::Timeout, None));
    assert_eq!(record.history[0].failure, Some(FailedAttempt { class: Class::Timeout, exit_code: None, environment }));
}

#[test]
fn only_the_last_attempts_are_kept() {
    let (_folder, mut database) = database();
    for n in 0..40 {
        database.insert(&failure("x", &["out"], n)).unwrap();
    }
    let record = only_record(&database);
    assert_eq!((record.attempts, record.history.len() as u32), (40, MAX_ATTEMPTS));
    assert_eq!(record.history[0].time.as_second(), 39);
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
    assert_eq!((record.exit_code, record.class, record.attempts), (Some(3), Class::Builder, 4));
    assert!(record.stands() && record.history[0].time == second(2));
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
    let names: Vec<String> = database.records().unwrap().into_iter().map(|record| record.name).collect();
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
    assert!(matches!(error, DatabaseError::NewerSchema { found: 99, known: 2, .. }), "{error}");
}

#[test]
fn other_files_are_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("failures.sqlite");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    assert!(matches!(Database::open_or_create(&path), Err(DatabaseError::Foreign { .. })));
    fs::write(&path, "not a database, but long enough to look at").unwrap();
    assert!(matches!(Database::open_or_create(&path), Err(DatabaseError::Sqlite { .. })));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(Database::open_or_create(&path), Err(DatabaseError::NotAFile { .. })));
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
                Database::open_or_create(path).unwrap().insert(&failure(&name, &[&name], n)).unwrap();
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
        let standing = records.iter().filter(|record| record.stands());
        let in_a_row = |r: &FailureRecord| r.history.iter().take_while(|attempt| attempt.failure.is_some()).count();
        let found: BTreeMap<u8, u32> =
            standing.map(|record| (record.name.parse().unwrap(), in_a_row(record) as u32)).collect();
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
    assert!(database.stamp().is_some() && database.unknown.outputs.contains(&wanted[0]));
    database.insert(&failure("y", &["y"], 1)).unwrap();
    assert!(!database.is_known(&wanted[1]).unwrap());
    assert!(database.unknown.outputs.contains(&wanted[0]), "it knows what it wrote itself");
    other.insert(&failure("z", &["z"], 1)).unwrap();
    assert!(!database.is_known(&wanted[1]).unwrap());
    assert!(!database.unknown.outputs.contains(&wanted[0]));
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
