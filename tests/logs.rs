//! What the plugin records about logs of real failures, when real builds print them. It is a tenth of the logs in
//! core/tests/logs; the core's own tests judge all of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nix_negative_cache_tests::{REFUSED, Scratch, left_out};

/// One of this many logs is played.
const TENTH: usize = 10;

/// A tenth of the logs in a folder: the name, the path and the exit code of the builder of each.
fn logs(folder: &str) -> Vec<(String, PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/logs/corpus").join(folder);
    let paths = fs::read_dir(&folder).expect("the logs").map(|entry| entry.expect("a log").path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    paths.sort();
    let log = |path: PathBuf| {
        let meta = fs::read_to_string(path.with_extension("meta")).expect("what is known of it");
        let code = meta.lines().find_map(|line| line.strip_prefix("exit=")).expect("its exit code").to_owned();
        (path.file_stem().expect("its name").to_string_lossy().into_owned(), path, code)
    };
    paths.into_iter().step_by(TENTH).map(log).collect()
}

#[test]
fn a_tenth_of_the_corpus() {
    if left_out() {
        return;
    }
    let (transient, deterministic) = (logs("transient"), logs("deterministic"));
    assert!(transient.len() >= 9 && deterministic.len() >= 9);
    let nix = Scratch::new().config("max-jobs = 4");
    for (name, path, _) in transient.iter().chain(&deterministic) {
        fs::copy(path, nix.path(name)).expect("a copy of the log");
    }
    let derivation = |(name, _, code): &(String, PathBuf, String)| {
        format!("(drv \"{name}\" \"cat {}; exit {code}\" {{ }})", nix.path(name).display())
    };
    let all: Vec<String> = transient.iter().chain(&deterministic).map(derivation).collect();
    nix.expression(&format!("[ {} ]", all.join(" ")));

    let first = nix.run("nix-build --no-out-link -k -v");
    let recorded = |doubtful: bool| -> BTreeSet<String> {
        let records = nix.records();
        let chosen = records.iter().filter(|record| record["doubtful"] == doubtful);
        chosen.filter_map(|record| record["name"].as_str().map(str::to_owned)).collect()
    };
    let (clear, doubtful) = (recorded(false), recorded(true));
    for (name, ..) in &transient {
        assert!(!clear.contains(name), "'{name}' would pass, and is refused: {first}");
        assert!(!doubtful.contains(name), "'{name}' would pass, and is doubtful: {first}");
    }
    for (name, ..) in &deterministic {
        assert!(
            clear.contains(name) || doubtful.contains(name),
            "'{name}' would fail again, and is not recorded: {first}"
        );
    }
    assert!(doubtful.len() <= 1, "doubtful: {doubtful:?}");
    // The plugin says why a failure is doubtful, or why it is not recorded.
    first.says_times("is not recorded: ", transient.len()).says_times("is doubtful, so it counts once", doubtful.len());

    // The second time, clear failures are refused. Doubtful ones are built again and fail in the same way. The third time,
    // they are refused as well.
    for refused in [clear.len(), deterministic.len()] {
        let ran = nix.run("nix-build --no-out-link -k 2>&1 | cat >&2");
        assert_eq!(ran.stderr.matches(REFUSED).count(), refused, "{ran}");
    }
}
