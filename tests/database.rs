//! Whatever is wrong with the database, and whatever goes wrong in the core, a build goes on as if the plugin were not
//! there, with one warning.

use std::fs;
use std::os::unix::fs::symlink;

use nix_negative_cache_tests::Scratch;

/// Builds a failing and a succeeding derivation, which must end as stock Nix ends them, with this one warning.
#[track_caller]
fn builds_as_stock(nix: &Scratch, warning: &str) {
    let runs = nix.runs("bad");
    nix.run("nix-build -k -A bad -A ok -A ok2")
        .exits(100)
        .says("failed with exit code 3")
        .does_not_say("not built again")
        .says_times("warning:", 1)
        .says_times("building without the negative cache", 1)
        .says(warning);
    assert_eq!((nix.runs("bad"), nix.runs("ok"), nix.runs("ok2")), (runs + 1, 1, 1));
    nix.run("nix-build -A ok").exits(0);
}

fn with_expressions() -> Scratch {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; ok = ok "ok"; ok2 = ok "ok2"; }"#);
    nix
}

#[test]
fn garbage() {
    let nix = with_expressions();
    fs::create_dir_all(nix.path("var/negative-cache")).unwrap();
    fs::write(nix.database(), "garbage ".repeat(1000)).unwrap();
    builds_as_stock(&nix, &format!("cannot use the failure database '{}'", nix.database().display()));
    assert!(fs::read_to_string(nix.database()).unwrap().starts_with("garbage"), "it is left as it was");
}

#[test]
fn truncated() {
    let nix = with_expressions();
    nix.run("nix-build -A bad").exits(100);
    // What is in the write-ahead log would mend it.
    nix.run("sqlite3 ../var/negative-cache/failures.sqlite 'pragma wal_checkpoint(truncate)'").exits(0);
    let size = fs::metadata(nix.database()).unwrap().len();
    fs::OpenOptions::new().write(true).open(nix.database()).unwrap().set_len(size / 2).unwrap();
    builds_as_stock(&nix, "failures.sqlite'");
}

#[test]
fn a_folder() {
    let nix = with_expressions();
    fs::create_dir_all(nix.database()).unwrap();
    builds_as_stock(&nix, "is not a regular file");
}

#[test]
fn a_fifo_does_not_hang() {
    let nix = with_expressions();
    nix.run("mkdir -p ../var/negative-cache && mkfifo ../var/negative-cache/failures.sqlite").exits(0);
    builds_as_stock(&nix, "is not a regular file");
}

#[test]
fn a_newer_schema_is_left_alone() {
    let nix = with_expressions();
    nix.run("nix-build -A bad").exits(100);
    nix.run("sqlite3 ../var/negative-cache/failures.sqlite 'pragma user_version = 99'").exits(0);
    nix.run("nix-build -A bad")
        .exits(100)
        .says_times("warning:", 1)
        .says("has version 99 of its schema, this program knows 3; upgrade nix-negative-cache")
        .says("failed with exit code 3");
    assert_eq!(nix.run("sqlite3 ../var/negative-cache/failures.sqlite 'pragma user_version'").stdout.trim(), "99");
}

#[test]
fn the_database_of_another_program() {
    let nix = with_expressions();
    nix.run(
        "mkdir -p ../var/negative-cache && sqlite3 ../var/negative-cache/failures.sqlite 'create table theirs (a)'",
    )
    .exits(0);
    builds_as_stock(&nix, "is the database of another program");
}

#[test]
fn a_folder_that_cannot_be_made() {
    let nix = with_expressions();
    fs::create_dir_all(nix.path("var")).unwrap();
    fs::write(nix.path("var/negative-cache"), "a file").unwrap();
    let warning = nix.path("var/negative-cache");
    builds_as_stock(&nix, &warning.display().to_string());
}

#[test]
fn a_read_only_file_system() {
    // Root may write anywhere else.
    let nix = Scratch::new().config("negative-cache-database = /proc/negative-cache/failures.sqlite");
    nix.expression(r#"{ bad = fail "bad"; ok = ok "ok"; ok2 = ok "ok2"; }"#);
    builds_as_stock(&nix, "cannot create the folder of the failure database '/proc/negative-cache/failures.sqlite'");
}

#[test]
fn a_dangling_link_and_a_link_elsewhere() {
    let nix = with_expressions();
    fs::create_dir_all(nix.path("var/negative-cache")).unwrap();
    symlink(nix.path("gone/failures.sqlite"), nix.database()).unwrap();
    builds_as_stock(&nix, "failures.sqlite'");
}

#[test]
fn locked_by_somebody_who_never_lets_go() {
    let nix = with_expressions();
    nix.run("nix-build -A bad").exits(100);
    let ran = nix.run(
        "mkfifo hold; (echo 'begin exclusive; select 1;'; cat hold) | sqlite3 ../var/negative-cache/failures.sqlite > held & \
         while [ ! -s held ]; do sleep 0.05; done; \
         timeout 60 nix-build -A bad --option negative-cache-retry true; status=$?; echo > hold; wait; exit $status",
    );
    ran.exits(100).says("failed with exit code 3").says_times("warning:", 1).says("locked");
}

#[test]
fn no_permission() {
    // Root may do anything, so this store belongs to somebody else, but for the folder of the database.
    let nix = with_expressions();
    let ran = nix.run(
        "cp $PLUGIN ../plugin.so && mkdir -p ../var && chown -R 65534:65534 .. && mkdir -m 700 ../var/negative-cache && \
         export NIX_CONFIG=\"negative-cache = true\"$'\\n'\"plugin-files = $PWD/../plugin.so\" && \
         setpriv --reuid 65534 --regid 65534 --clear-groups nix-build -k",
    );
    ran.exits(100).says("failed with exit code 3").says_times("warning:", 1).says("Permission denied");
    assert_eq!((nix.runs("bad"), nix.runs("ok"), nix.runs("ok2")), (1, 1, 1));
}

#[test]
fn a_panic_of_the_core_stays_inside() {
    let nix = with_expressions().faulty();
    nix.run("nix-build -A bad").exits(100).does_not_say("warning");
    let panics = [("NIX_NEGATIVE_CACHE_PANIC", "1")];
    nix.run_with("nix-build -k -A bad -A ok -A ok2", &panics)
        .exits(100)
        .says("failed with exit code 3")
        .says_times("warning:", 1)
        .says("building without the negative cache: internal error at ")
        .does_not_say("panicked");
    assert_eq!((nix.runs("bad"), nix.runs("ok"), nix.runs("ok2")), (2, 1, 1));
    nix.run_with("nix eval --impure --expr 'builtins.knownFailure (import ./.).bad'", &panics)
        .exits(0)
        .prints("null")
        .says_times("warning:", 1);
}

#[test]
fn eight_processes_at_once_lose_nothing() {
    let nix = Scratch::new();
    nix.expression(
        r#"builtins.listToAttrs (map (n: { name = n; value = fail n; }) [ "a" "b" "c" "d" "e" "f" "g" "h" ])"#,
    );
    // Nix itself does not like a store that several processes make at once.
    nix.run("nix-instantiate").exits(0);
    let ran = nix.run("for n in a b c d e f g h; do nix-build -A $n & done; wait").exits(0);
    let ran = ran.does_not_say("warning:").does_not_say("locked");
    assert_eq!(nix.recorded(), ["a", "b", "c", "d", "e", "f", "g", "h"], "{ran}");
}
