//! After every problem with the database, and after every error in the core, a build goes on as if the plugin were not there,
//! with one warning. Tests that take longer are in `long.rs`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::OnceLock;

use nix_negative_cache_tests::{REFUSED, Ran, Scratch, among_users_of_a_stock_daemon, exists, left_out, to_preload};

/// A derivation that fails, one that needs it, and two that can be built.
const EXPRESSION: &str = r#"{ bad = fail "bad"; top = needs "top" [ (fail "bad") ]; ok = ok "ok"; ok2 = ok "ok2"; }"#;
const BUILD: &str = "nix-build -k -A bad -A top -A ok -A ok2";
const DATABASE: &str = "../var/negative-cache/failures.sqlite";

/// The visible results of builds, as far as they do not depend on the place of the store.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: i32,
    /// The lines of both streams, sorted, without the warnings of the plugin.
    said: Vec<String>,
    /// The names of the outputs in the store.
    outputs: String,
    runs: [usize; 4],
}

impl Seen {
    /// Runs a shell line, in which `BUILD` stands for the builds.
    fn of(nix: &Scratch, line: &str) -> (Seen, Ran) {
        let runs = || ["bad", "top", "ok", "ok2"].map(|name| nix.runs(name));
        let before = runs();
        let ran = nix.run(&line.replace("BUILD", BUILD));
        let after = runs();
        // The hash in the name of a store path depends on the place of the store, and decides the order of the names.
        let text = format!("{}{}", ran.stdout, ran.stderr).replace(&*nix.path("store").to_string_lossy(), "store");
        let anywhere = |line: &str| {
            let name = |word: &str| match word.split_once("store/") {
                Some((before, name)) => format!("{before}{}", name.get(33..).unwrap_or(name).trim_end_matches(',')),
                None => word.to_owned(),
            };
            let mut words: Vec<String> = line.split(' ').map(name).collect();
            words.sort();
            words.join(" ")
        };
        let mut said: Vec<String> = text.lines().filter(|line| !is_warning(line)).map(anywhere).collect();
        said.sort();
        let seen = Seen {
            status: ran.status,
            said,
            outputs: nix.run("ls ../store | grep -v '[.]drv$\\|[.]lock$' | cut -c 34- | sort").stdout,
            runs: std::array::from_fn(|n| after[n] - before[n]),
        };
        (seen, ran)
    }
}

fn is_warning(line: &str) -> bool {
    line.starts_with("warning: building without the negative cache: ")
}

/// Builds the same as stock Nix, with exactly this warning.
#[track_caller]
fn builds_as_stock(nix: &Scratch, warning: &str) {
    builds_as_stock_with(nix, "BUILD", warning);
}

/// The same, with the builds as a part of a shell line.
#[track_caller]
fn builds_as_stock_with(nix: &Scratch, line: &str, warning: &str) {
    static STOCK: OnceLock<Seen> = OnceLock::new();
    let stock = STOCK.get_or_init(|| Seen::of(&with_expressions(), "NIX_CONFIG= BUILD").0);
    assert_eq!((stock.status, stock.runs), (100, [1, 0, 1, 1]), "{stock:?}");
    let (seen, ran) = Seen::of(nix, line);
    assert_eq!(*stock, seen, "{ran}");
    ran.says_times("warning:", 1).says_times("building without the negative cache", 1).says(warning);
}

fn with_expressions() -> Scratch {
    let nix = Scratch::new();
    nix.expression(EXPRESSION);
    nix
}

/// The next command records the failure, the one after refuses it, and neither warns.
#[track_caller]
fn is_healed(nix: &Scratch) {
    let runs = nix.runs("bad");
    nix.run("nix-build -A bad").exits(100).does_not_say("warning:").does_not_say(REFUSED);
    nix.run("nix-build -A bad").exits(100).does_not_say("warning:").says(REFUSED);
    assert_eq!(nix.runs("bad"), runs + 1);
}

/// A library to preload into Nix. A variable names the fault that it causes; `faults.c` lists them.
fn faults(nix: &Scratch) -> String {
    format!("LD_PRELOAD=$LD_PRELOAD:{}", to_preload("faults", &nix.path("")).display())
}

fn with_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

// ---- Broken databases ----

#[test]
fn garbage() {
    let nix = with_expressions();
    fs::create_dir_all(nix.path("var/negative-cache")).unwrap();
    let garbage = "garbage ".repeat(1000);
    fs::write(nix.database(), &garbage).unwrap();
    let (database, broken) = (nix.database(), nix.path("var/negative-cache/failures.sqlite.broken"));
    builds_as_stock(
        &nix,
        &format!(
            "the failure database '{}' is broken (file is not a database); it was moved to '{}', and a new one will be made",
            database.display(),
            broken.display()
        ),
    );
    assert!(!exists(&database) && fs::read_to_string(&broken).unwrap() == garbage);
    is_healed(&nix);
}

/// Opening the database takes a while, and for valid outputs it is not needed. With content-addressed derivations, Nix asks
/// anyway.
#[test]
fn what_is_there_already_needs_no_database() {
    let nix = Scratch::new();
    nix.expression(
        r#"rec { ok = drv "ok" "echo > $out" { }; near = drv "near" "echo > $out" { };
                 bad = drv "bad" "echo it is broken; exit 3" { inputs = [ near ]; }; }"#,
    );
    nix.run("nix-build --no-out-link -A ok").exits(0);
    fs::create_dir_all(nix.path("var/negative-cache")).unwrap();
    fs::write(nix.database(), "garbage ".repeat(1000)).unwrap();
    let features = "export NIX_CONFIG=\"$NIX_CONFIG\"$'\\n'experimental-features\\ =\\ nix-command";
    // Some of these commands first ask Nix what there is to do; which ones depends on the version.
    let build = "nix build --no-link -f .";
    let realise = "nix-store --realise $(nix-instantiate -A ok)";
    let import = |paths| format!("nix-instantiate --eval -E 'with import ./.; builtins.readFile \"{paths}\"'");
    let each = format!("nix-build --no-out-link -A ok && {realise} && {build} ok && {}", import("${ok}"));
    nix.run(&format!("{features}; {each}")).exits(0).does_not_say("failure database");
    assert!(fs::read_to_string(nix.database()).unwrap().starts_with("garbage"));

    // A valid output in the same request makes no difference: `bad` is refused, so `near`, which it needs, is not built.
    nix.run("nix-build --no-out-link -A bad").exits(100).says("is broken (");
    nix.run("nix-build --no-out-link -A bad; nix-store --delete $(nix-build --no-out-link -A near)");
    for request in [format!("{build} ok bad"), import("${ok}${bad}")] {
        nix.run(&format!("{features}; {request}")).says(REFUSED);
    }
    assert_eq!((nix.runs("bad"), nix.runs("near")), (2, 1));
}

#[test]
fn garbage_in_a_place_that_was_chosen_is_left_alone() {
    if left_out() {
        return;
    }
    let nix = with_expressions();
    let notes = nix.path("work/notes");
    fs::write(&notes, "garbage ".repeat(1000)).unwrap();
    let chosen = format!("BUILD --option negative-cache-database {}", notes.display());
    builds_as_stock_with(&nix, &chosen, "file is not a database");
    assert!(fs::read_to_string(notes).unwrap().starts_with("garbage"));
}

#[test]
fn truncated() {
    if left_out() {
        return;
    }
    for (part, of) in [(1, 2), (1, 10), (9, 10)] {
        let nix = with_expressions();
        nix.run("nix-build -A bad").exits(100);
        // The write-ahead log would repair the database.
        nix.run(&format!("sqlite3 {DATABASE} 'pragma wal_checkpoint(truncate)'")).exits(0);
        let size = fs::metadata(nix.database()).unwrap().len() * part / of;
        fs::OpenOptions::new().write(true).open(nix.database()).unwrap().set_len(size).unwrap();
        builds_as_stock(&nix, "failures.sqlite.broken', and a new one will be made");
        is_healed(&nix);
    }
}

#[test]
fn emptied() {
    if left_out() {
        return;
    }
    let nix = with_expressions();
    nix.run("nix-build -A bad").exits(100);
    fs::write(nix.database(), "").unwrap();
    is_healed(&nix);
}

#[test]
fn deleted_with_or_without_what_is_beside_it() {
    if left_out() {
        return;
    }
    for what in ["", "*", "-wal", "-shm", "-{wal,shm}"] {
        let nix = with_expressions();
        nix.run("nix-build -A bad").exits(100);
        nix.run(&format!("rm {DATABASE}{what}")).exits(0);
        // Without the log, its records are lost. Without the index, nothing is lost.
        if what == "-shm" {
            nix.run("nix-build -A bad").exits(100).does_not_say("warning:").says(REFUSED);
        } else {
            is_healed(&nix);
        }
    }
}

#[test]
fn a_folder() {
    if left_out() {
        return;
    }
    let nix = with_expressions();
    fs::create_dir_all(nix.database()).unwrap();
    builds_as_stock(&nix, "is not a regular file");
}

#[test]
fn a_fifo_does_not_hang() {
    if left_out() {
        return;
    }
    let nix = with_expressions();
    nix.run(&format!("mkdir -p ../var/negative-cache && mkfifo {DATABASE}")).exits(0);
    builds_as_stock(&nix, "is not a regular file");
}

#[test]
fn a_newer_schema_is_left_alone() {
    if left_out() {
        return;
    }
    let nix = with_expressions();
    nix.run("nix-build -A bad").exits(100);
    nix.run(&format!("sqlite3 {DATABASE} 'pragma user_version = 99'")).exits(0);
    builds_as_stock(&nix, "has version 99 of its schema, this program knows 8; upgrade nix-negative-cache");
    nix.run(&format!("sqlite3 {DATABASE} 'pragma user_version'")).prints("99");
}

#[test]
fn the_database_of_another_program() {
    if left_out() {
        return;
    }
    let nix = with_expressions();
    nix.run(&format!("mkdir -p ../var/negative-cache && sqlite3 {DATABASE} 'create table theirs (a)'")).exits(0);
    builds_as_stock(&nix, "is the database of another program");
}

#[test]
fn links() {
    if left_out() {
        return;
    }
    let nix = with_expressions();
    fs::create_dir_all(nix.path("var/negative-cache")).unwrap();
    symlink(nix.path("gone/failures.sqlite"), nix.database()).unwrap();
    builds_as_stock(&nix, "failures.sqlite'");
    // A link to a database works like the database. If the target is broken, only the link is moved.
    fs::create_dir(nix.path("gone")).unwrap();
    fs::write(nix.path("gone/failures.sqlite"), "").unwrap();
    is_healed(&nix);
    fs::write(nix.path("gone/failures.sqlite"), "garbage ".repeat(1000)).unwrap();
    nix.run("rm -f ../gone/*-wal; nix-build -A bad").exits(100).says_times("warning:", 1).says("it was moved to");
    assert!(fs::read_to_string(nix.path("gone/failures.sqlite")).unwrap().starts_with("garbage"));
    is_healed(&nix);
}

// ---- The folder of the database ----

#[test]
fn a_folder_that_cannot_be_made() {
    let nix = with_expressions();
    fs::create_dir_all(nix.path("var")).unwrap();
    fs::write(nix.path("var/negative-cache"), "a file").unwrap();
    let warning = nix.path("var/negative-cache");
    builds_as_stock(&nix, &warning.display().to_string());
}

#[test]
fn a_state_directory_that_does_not_exist() {
    let nix = with_expressions();
    nix.run("$COMPANION list").exits(0);
    assert!(!exists(&nix.path("var")));
    nix.run("nix eval --impure --expr 'builtins.knownFailure (import ./.).bad'").exits(0).prints("null");
    nix.run("nix-build -A ok").exits(0).does_not_say("warning:");
    assert!(!exists(&nix.path("var/negative-cache")), "nothing has failed");
    is_healed(&nix);
    // The folder of a chosen place need not exist either.
    let chosen = format!("nix-build -A bad --option negative-cache-database {}", nix.path("a/b/c").display());
    nix.run(&chosen).exits(100).does_not_say("warning:").does_not_say(REFUSED);
    nix.run(&chosen).exits(100).does_not_say("warning:").says(REFUSED);
}

/// Where a client of nix-daemon has its database. There is none without a home folder, and none in a folder of another user.
/// The place that a user names should be a folder.
#[test]
fn a_home_that_does_not_exist() {
    for (place, warnings) in [
        ("HOME=/nonexistent", 0),
        ("HOME=/nonexistent XDG_STATE_HOME=/proc/state", 0),
        ("XDG_STATE_HOME=$PWD/../home-games/file/x", 1),
    ] {
        let nix = with_expressions();
        let build = format!(
            "as games touch ../home-games/file; as games env {place} nix-build --no-out-link -A ok -A bad -k; echo $?"
        );
        let ran = among_users_of_a_stock_daemon(&nix, &format!("{build}; export NIX_CONFIG=$WITH; {build}"));
        assert_eq!((nix.runs("bad"), nix.runs("ok")), (2, 1), "{ran}");
        let (status, of_plugin) = ran.stdout.trim().split_once('\n').unwrap_or_else(|| panic!("{ran}"));
        assert_eq!(status, of_plugin, "{ran}");
        ran.says_times("warning:", warnings).says_times("/file/x/nix/negative-cache/failures.sqlite'", warnings);
    }
}

#[test]
fn a_full_disk() {
    // The sizes go from a folder without space for any file to one with space for the tables but not for a record.
    for size in ["nr_inodes=1", "size=4k", "size=12k", "size=36k", "size=80k"] {
        let nix = with_expressions();
        nix.write("work/later.nix", r#"(import ./lib.nix).fail "later""#);
        let mount = format!("mount -t tmpfs -o mode=755,{size} none ../var/negative-cache");
        let script = format!(
            "{mount} || exit 9; BUILD; status=$?; exec >> later 2>&1; mount -o remount,size=1m,nr_inodes=99 none ../var/negative-cache; \
             for n in 1 2; do nix-build later.nix; done; exit $status"
        );
        let line = format!("mkdir -p ../var/negative-cache; unshare -m bash -c '{script}'");
        builds_as_stock_with(&nix, &line, if size.starts_with("nr") { "No space left" } else { "failures.sqlite'" });
        // After space was freed, everything works.
        let later = fs::read_to_string(nix.path("work/later")).unwrap();
        assert!(!later.contains("warning:") && later.matches(REFUSED).count() == 1, "{size}: {later}");
    }
}

/// The disk was not full yet when the first failures were recorded.
#[test]
fn a_disk_that_fills_up() {
    if left_out() {
        return;
    }
    let nix = Scratch::new();
    nix.expression(r#"n: drv "bad${n}" "seq 300; exit 3" { }"#);
    let ran = nix.run(
        "mkdir -p ../var/negative-cache; unshare -m bash -c '\
         mount -t tmpfs -o mode=755,size=260k none ../var/negative-cache || exit 9; \
         build() { nix-build -k -E \"map (import ./.) [ \\\"$1\\\" \\\"$2\\\" ]\"; echo $?; }; \
         for n in $(seq 8); do build a$n b$n 2> said-$n; done | sort | uniq -c; cat said-* >&2; \
         mount -o remount,size=9m none ../var/negative-cache; \
         for n in $(seq 8); do build a$n b$n 2> again-$n; done | sort | uniq -c; cat again-* > again; \
         sqlite3 ../var/negative-cache/failures.sqlite \"pragma integrity_check\"'",
    );
    let again = fs::read_to_string(nix.path("work/again")).unwrap();
    let warnings = ran.stderr.matches("warning:").count();
    assert!((1..8).contains(&warnings), "some were recorded, and each command warns once: {ran}");
    assert_eq!(ran.stderr.matches("failed with exit code 3").count(), 16, "{ran}");
    assert!(again.matches(REFUSED).count() >= 2 && !again.contains("warning:"), "{again}");
    ran.prints("8 100\n      8 100\nok");
}

#[test]
fn a_read_only_file_system() {
    // Root may write to any other place.
    let nix = Scratch::new().config("negative-cache-database = /proc/negative-cache/failures.sqlite");
    nix.expression(EXPRESSION);
    builds_as_stock(&nix, "cannot create the folder of the failure database '/proc/negative-cache/failures.sqlite'");
    let nix = with_expressions();
    builds_as_stock_with(
        &nix,
        "mkdir -p ../var/negative-cache; unshare -m sh -c 'mount -t tmpfs -o mode=755,ro none ../var/negative-cache; BUILD'",
        "Read-only file system",
    );
}

#[test]
fn a_file_system_that_became_read_only() {
    if left_out() {
        return;
    }
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; worse = fail "worse"; ok = ok "ok"; }"#);
    let ran = nix.run(
        "mkdir -p ../var/negative-cache; unshare -m sh -c '\
         mount -t tmpfs -o mode=755 none ../var/negative-cache; nix-build -A bad 2> /dev/null; \
         mount -o remount,ro none ../var/negative-cache; \
         nix-build -A bad || echo $?; nix-build -k -A bad -A worse -A ok || echo $?; nix-build -A ok > /dev/null && echo 0'",
    );
    // Known failures are refused. The plugin warns that it can't record the new one.
    assert_eq!((nix.runs("bad"), nix.runs("worse"), nix.runs("ok")), (1, 1, 1), "{ran}");
    ran.prints("100\n100\n0")
        .says_times(REFUSED, 2)
        .says_times("warning:", 1)
        .says("attempt to write a readonly database");
}

#[test]
fn no_permission() {
    // Root may write anywhere, so this store belongs to another user, except for the folder of the database.
    let own = "cp -r $INSTALLATION ../installation && mkdir -p ../var && chown -R 65534:65534 ..; \
               export NIX_CONFIG=\"negative-cache = true\"$'\\n'\"plugin-files = $PWD/../installation/loader/libnix_negative_cache.so\"; \
               as() { setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"; };";
    let nix = with_expressions();
    builds_as_stock_with(&nix, &format!("{own} mkdir -m 700 ../var/negative-cache; as BUILD"), "Permission denied");
    // The user may not write a file in the folder.
    let nix = with_expressions();
    builds_as_stock_with(&nix, &format!("{own} mkdir -m 755 ../var/negative-cache; as BUILD"), "Permission denied");
    // The user may not read the file.
    let nix = with_expressions();
    nix.run("nix-build -A bad").exits(100);
    nix.run("chmod 700 ../var/negative-cache; chmod 600 ../var/negative-cache/*").exits(0);
    let locked_out = format!("{own} chown root -R ../var/negative-cache; chmod 755 ../var/negative-cache; as BUILD");
    builds_as_stock_with(&nix, &locked_out, "failures.sqlite'");
}

#[test]
fn others_may_write_to_it() {
    for (what, sound, open) in [("", 0o644, 0o666), ("..", 0o755, 0o777), ("..", 0o755, 0o1777)] {
        let nix = with_expressions();
        nix.run("nix-build -A bad").exits(100);
        let path = if what.is_empty() { nix.database() } else { nix.path("var/negative-cache") };
        with_mode(&path, open);
        builds_as_stock(&nix, "it or its folder can be written to by others than root");
        with_mode(&path, sound);
        nix.run("nix-build -A bad").exits(100).does_not_say("warning:").says(REFUSED);
    }
    let nix = with_expressions();
    nix.run("nix-build -A bad").exits(100);
    nix.run(&format!("chown games {DATABASE}")).exits(0);
    builds_as_stock(&nix, "it or its folder does not belong to root");
}

// ---- Locks ----

#[test]
fn locked_by_somebody_who_never_lets_go() {
    let nix = with_expressions();
    nix.run("nix-build -A bad").exits(100);
    let hold = format!(
        "mkfifo hold; (echo 'begin exclusive; select 1;'; cat hold) | sqlite3 {DATABASE} > held & \
         while [ ! -s held ]; do sleep 0.05; done; \
         timeout 60 nix-build -A bad --option negative-cache-retry true; status=$?; echo > hold; wait; exit $status"
    );
    nix.run(&hold).exits(100).says("failed with exit code 3").says_times("warning:", 1).says("locked");
}

#[test]
fn a_file_system_without_locks() {
    if left_out() {
        return;
    }
    for known in [false, true] {
        let nix = with_expressions();
        if known {
            nix.run("nix-build -A bad").exits(100);
        }
        builds_as_stock_with(&nix, &format!("NO_LOCKS=1 {} BUILD", faults(&nix)), "database is locked");
        if !known {
            is_healed(&nix);
        }
    }
}

/// Another process writes to the database after the end of the request that recorded a failure.
#[test]
fn nobody_waits_to_tidy() {
    if left_out() {
        return;
    }
    let nix = Scratch::new().config("negative-cache-max-records = 1");
    // During the build of the second derivation, another process takes the lock that was needed for the first one.
    nix.expression(
        r#"{ first = fail "first"; second = fail "second";
             last = drv "last" "until [ -s ${runs}/../work/held ]; do sleep 0.02; done; echo done > $out" { }; }"#,
    );
    let ran = nix.run(&format!(
        "nix-build -A first; mkfifo hold; \
         (until grep -q -- -second.drv {DATABASE}-wal; do sleep 0.02; done; sleep 0.3; echo 'begin immediate; select 1;'; \
          cat hold) | sqlite3 {DATABASE} > held & \
         nix-build -k -j2 -A second -A last; date +%s%3N; echo > hold; wait; stat -c %.3Y held"
    ));
    let (ended, held) = ran.stdout.trim().split_once('\n').unwrap_or_else(|| panic!("{ran}"));
    let (ended, held): (u64, f64) = (ended.parse().unwrap(), held.parse().unwrap());
    assert!((ended as f64 - held * 1000.) < 1000., "from the lock to the end: {ran}");
    assert_eq!(nix.recorded(), ["first", "second"], "{ran}");
    ran.does_not_say("warning:");
    nix.run("nix-build -A second --option negative-cache-retry true").exits(100).does_not_say("warning:");
    assert_eq!(nix.recorded(), ["second"]);
}

// ---- What happens while Nix runs ----

/// Here a builder changes the database after one failure was recorded, and before another one is.
#[test]
fn while_a_request_runs() {
    for (mischief, heals) in [
        ("rm $d", true),
        ("rm $d*", true),
        ("rm $d-wal", true),
        ("rm $d-shm", true),
        ("rm -r $d*; rmdir ${d%/*}", true),
        ("mv $d elsewhere", true),
        ("rm $d*; mkdir $d", false),
        ("rm $d*; mkfifo $d", false),
        ("rm $d*; ln -s gone $d", false),
        (": > $d", true),
        (": > $d-wal", true),
        ("seq 9999 > $d", true),
        ("seq 9999 > $d-wal", true),
        ("seq 9999 > new; mv new $d", true),
        ("sqlite3 $d 'delete from failure'", true),
        ("sqlite3 $d 'pragma user_version = 99'", false),
        ("sqlite3 $d 'drop table attempt'", false),
        ("chmod 0 $d*", true),
    ] {
        let nix = Scratch::new();
        nix.expression(&format!(
            r#"rec {{
              first = fail "first";
              mischief = drv "mischief" "d={}; until grep -q -- -first.drv $d-wal; do sleep 0.05; done; {}; echo done > $out" {{ }};
              second = drv "second" "exit 3" {{ inputs = [ mischief ]; }};
              third = drv "third" "exit 3" {{ inputs = [ mischief ]; }};
              ok = needs "ok" [ mischief ];
            }}"#,
            nix.database().display(),
            mischief.replace("${", "\\${"),
        ));
        let ran = nix.run("nix-build -k -j2").exits(100);
        assert!(ran.stderr.matches("warning:").count() <= 1, "{mischief}: {ran}");
        for name in ["first", "second", "third", "mischief", "ok"] {
            assert_eq!(nix.runs(name), 1, "{mischief}: {ran}");
        }
        let ran = nix.run("nix-build -k").exits(100);
        assert!(ran.stderr.matches("warning:").count() <= 1, "{mischief}, next: {ran}");
        if heals {
            nix.run("nix-build -k").exits(100);
            nix.run("nix-build -k").exits(100).does_not_say("warning:").says_times(REFUSED, 3);
        }
    }
}

/// SQLite's index of the log belongs to the old database as long as a process uses it.
#[test]
fn deleted_while_another_process_uses_it() {
    let nix = with_expressions();
    nix.write(
        "work/slow.nix",
        r#"with import ./lib.nix; drv "slow" "until [ -e ${runs}/go ]; do sleep 0.02; done; exit 3" { }"#,
    );
    let ran = nix.run(&format!(
        "nix-build -A bad 2> /dev/null; nix-build slow.nix & until [ -e ../runs/slow ]; do sleep 0.02; done; \
         rm {DATABASE}; for n in 1 2; do nix-build -A bad 2> said-$n; grep -c warning: said-$n; done; touch ../runs/go; wait $!"
    ));
    assert_eq!(nix.runs("bad"), 3, "{ran}");
    ran.exits(100).prints("1\n1").does_not_say("warning:");
    is_healed(&nix);
}

#[test]
fn eight_processes_find_it_broken() {
    if left_out() {
        return;
    }
    let nix = Scratch::new();
    nix.expression(r#"n: fail "bad${n}""#);
    fs::create_dir_all(nix.path("var/negative-cache")).unwrap();
    let garbage = "garbage ".repeat(1000);
    fs::write(nix.database(), &garbage).unwrap();
    let build = "for n in 1 2 3 4 5 6 7 8; do (nix-build -E \"import ./. \\\"$n\\\"\" 2> said-$n; echo $?; \
                 grep -c 'negative cache:' said-$n) & done | sort | uniq -c; cat said-* >&2";
    nix.run("nix-instantiate -E '(import ./lib.nix).ok \"first\"'").exits(0);
    let ran = nix.run(build);
    assert!(ran.stdout.contains("8 100") && !ran.stdout.contains(" 2\n"), "each ends and warns once at most: {ran}");
    assert_eq!(ran.stderr.matches("it was moved to").count(), 1, "{ran}");
    assert_eq!(fs::read_to_string(nix.path("var/negative-cache/failures.sqlite.broken")).unwrap(), garbage);
    nix.run(build).does_not_say("negative cache:");
    nix.run(build).does_not_say("negative cache:").says_times(REFUSED, 8);
}

#[test]
fn what_a_killed_process_left_in_the_log_is_known() {
    if left_out() {
        return;
    }
    let nix = Scratch::new();
    nix.expression(
        r#"{ bad = fail "bad"; slow = drv "slow" "while ! grep -q -- -bad.drv ${runs}/../var/negative-cache/failures.sqlite-wal;
             do sleep 0.02; done; sleep 0.1; kill -9 $PPID; sleep 1" { }; }"#,
    );
    nix.run("nix-build -k -j2 -A bad -A slow").exits(137);
    assert!(fs::metadata(nix.path("var/negative-cache/failures.sqlite-wal")).unwrap().len() > 0);
    nix.run("nix-build -A bad").exits(100).does_not_say("warning:").says(REFUSED);
    assert_eq!((nix.recorded(), nix.runs("bad")), (vec!["bad".to_owned()], 1));
}

#[test]
fn eight_processes_at_once_lose_nothing() {
    let nix = Scratch::new();
    nix.expression(
        r#"builtins.listToAttrs (map (n: { name = n; value = fail n; }) [ "a" "b" "c" "d" "e" "f" "g" "h" ])"#,
    );
    // Nix itself fails if several processes create a store at once.
    nix.run("nix-instantiate").exits(0);
    let ran = nix.run("for n in a b c d e f g h; do nix-build -A $n & done; wait").exits(0);
    let ran = ran.does_not_say("warning:").does_not_say("locked");
    assert_eq!(nix.recorded(), ["a", "b", "c", "d", "e", "f", "g", "h"], "{ran}");
}

// ---- Clocks ----

const TEN_YEARS: &str = "315360000";

#[test]
fn a_clock_that_was_ahead() {
    if left_out() {
        return;
    }
    let nix = with_expressions();
    let ahead = format!("echo {TEN_YEARS} > clock; CLOCK=clock {} nix-build -A bad", faults(&nix));
    nix.run(&ahead).exits(100).does_not_say("warning:");
    nix.run(&ahead).exits(100).does_not_say("warning:").says(REFUSED);
    let recorded = |key| nix.records()[0][key].as_i64().unwrap();
    let future = recorded("lastFailure");
    is_healed(&nix);
    assert_eq!((recorded("attempts"), nix.records().len()), (2, 1));
    assert!(future - recorded("lastFailure") > 300_000_000);
}

#[test]
fn a_clock_that_is_behind() {
    if left_out() {
        return;
    }
    let nix = with_expressions();
    nix.run("nix-build -A bad").exits(100);
    let behind = format!("echo -{TEN_YEARS} > clock; CLOCK=clock {} nix-build -A bad", faults(&nix));
    nix.run(&behind).exits(100).does_not_say("warning:").does_not_say(REFUSED);
    nix.run(&behind).exits(100).does_not_say("warning:").says(REFUSED);
    // After the clock is right again, that failure is long ago.
    is_healed(&nix);
}

#[test]
fn a_clock_that_jumps_during_a_build() {
    for (jump, passed) in [(TEN_YEARS, 315_360_000), ("-315360000", -315_360_000)] {
        let nix = Scratch::new();
        nix.expression(&format!(
            r#"drv "bad" "sleep 0.2; echo {jump} > {}; exit 3" {{ }}"#,
            nix.path("work/clock").display()
        ));
        let start = nix.run("date +%s").stdout.trim().parse::<i64>().unwrap();
        nix.run(&format!("CLOCK=clock {} nix-build", faults(&nix)))
            .exits(100)
            .says("failed with exit code 3")
            .does_not_say("warning:");
        let record = &nix.records()[0];
        // The duration can be less than the 200 ms: the builder starts a little before its goal reports it.
        let duration = record["durationMs"].as_i64().unwrap();
        assert!((100..60_000).contains(&duration), "{record}");
        assert!((record["lastFailure"].as_i64().unwrap() - start - passed).abs() < 60, "{record}");
    }
}

// ---- Limits on the number of records ----

#[test]
fn the_newest_are_kept() {
    if left_out() {
        return;
    }
    let nix = Scratch::new().config("negative-cache-max-records = 5");
    nix.expression("builtins.genList (n: fail \"bad${toString (100 + n)}\") 12");
    nix.run("nix-build -k -j1").exits(100).says_times("failed with exit code 3", 12).does_not_say("warning:");
    let kept = nix.recorded();
    assert_eq!(kept.len(), 5);
    // The files that the builders wrote tell which derivation was built last.
    let last = nix.run("ls -t ../runs | head -5 | sort").stdout;
    assert_eq!(kept.join("\n"), last.trim());
    // A derivation without a record is tried again, and its new record replaces the oldest one.
    nix.run("nix-build -k -j1").exits(100).says_times("drv' failed with exit code 3", 7).says_times(REFUSED, 5);
    assert_eq!(nix.records().len(), 5);
}

#[test]
fn what_nobody_believes_any_more_goes() {
    if left_out() {
        return;
    }
    let nix = Scratch::new();
    nix.expression("builtins.genList (n: fail \"old${toString n}\") 3 ++ [ (fail \"new\") ]");
    nix.run("nix-build -k").exits(100);
    nix.age(100);
    nix.run("nix-build -E '(import ./lib.nix).fail \"newer\"'").exits(100).does_not_say("warning:");
    assert_eq!(nix.recorded(), ["newer"]);
    // Records stay if the setting says that failures are believed for ever.
    nix.age(100);
    nix.run("nix-build -E '(import ./lib.nix).fail \"newest\"' --option negative-cache-ttl 0").exits(100);
    assert_eq!(nix.recorded(), ["newer", "newest"]);
}

// ---- The core itself ----

#[test]
fn a_panic_of_the_core_stays_inside() {
    if left_out() {
        return;
    }
    let nix = with_expressions().faulty();
    nix.run("nix-build -A bad").exits(100).does_not_say("warning");
    builds_as_stock_with(&nix, "NIX_NEGATIVE_CACHE_PANIC=1 BUILD", "internal error at ");
    nix.run("NIX_NEGATIVE_CACHE_PANIC=1 nix eval --impure --expr 'builtins.knownFailure (import ./.).bad'")
        .exits(0)
        .prints("null")
        .does_not_say("panicked")
        .says_times("warning:", 1);
}
