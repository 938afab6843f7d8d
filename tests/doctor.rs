//! `nix-negative-cache doctor` finds each problem, repairs it with `--fix`, and finds nothing afterwards.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use nix_negative_cache_tests::caches::{Key, Silent, refused_url};
use nix_negative_cache_tests::{
    DIRECT, Ran, Scratch, among_users, among_users_of_a_stock_daemon, beside_a_daemon, exists, left_out, this_nix,
};
use nix_version::Flavour;

/// An installation with one record.
fn with_failure() -> Scratch {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; worse = fail "worse"; worst = fail "worst"; }"#);
    nix.run("nix-build -A bad").exits(100);
    nix
}

#[track_caller]
fn has(ran: Ran, text: &str) -> Ran {
    assert!(ran.stdout.contains(text), "it does not say: {text}\n{ran}");
    ran
}

#[track_caller]
fn has_not(ran: Ran, text: &str) -> Ran {
    assert!(!ran.stdout.contains(text), "it says: {text}\n{ran}");
    ran
}

/// `doctor` finds nothing wrong, and repairs nothing.
#[track_caller]
fn is_well(nix: &Scratch) -> Ran {
    let ran = nix.run("$COMPANION doctor --fix").exits(0).does_not_say("panicked");
    for word in ["fixed", "problem", "Not fixed"] {
        assert!(!ran.stdout.contains(word), "{ran}");
    }
    has(ran, "Nothing is wrong.\n")
}

/// Makes a problem. `doctor` finds it, repairs it, and finds nothing afterwards.
#[track_caller]
fn is_repaired(nix: &Scratch, make: &str, says: &str) {
    nix.run(&format!("cd ../var; {make}")).exits(0);
    // It runs twice, as checking changes nothing.
    for _ in 0..2 {
        let ran = has(nix.run("$COMPANION doctor").exits(1), "problem  ");
        has(has(has_not(ran, "fixed"), says), "run  nix-negative-cache doctor --fix");
    }
    let ran = nix.run("$COMPANION doctor --fix").exits(0);
    has(has_not(ran, "problem"), "fixed    ");
    is_well(nix);
    for suffix in ["", "-wal", "-shm"] {
        let path = nix.path(&format!("var/negative-cache/failures.sqlite{suffix}"));
        if exists(&path) {
            assert_eq!(mode_and_owner(&path), (0o644, 0), "{make}: {}", path.display());
        }
    }
    assert_eq!(mode_and_owner(nix.database().parent().unwrap()), (0o755, 0), "{make}");
}

fn mode_and_owner(path: &Path) -> (u32, u32) {
    let found = path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (found.mode() & 0o7777, found.uid())
}

const SQLITE: &str = "sqlite3 negative-cache/failures.sqlite";

#[test]
fn caches_that_are_asked_for_failures_are_looked_at() {
    if left_out() {
        return;
    }
    let nix = Scratch::in_sandbox();
    nix.expression(r#"drv "bad" "echo bad; exit 1" { }"#);
    nix.run("nix-build").exits(100);
    has_not(is_well(&nix), "binary cache");
    let key = Key::new(&nix, "ci-1").public;
    let nix = nix.config(&format!("negative-cache-trusted-public-keys = {key}"));
    has(is_well(&nix), "note     Keys of others are trusted, but there is no binary cache that could be asked");
    let url = |name: &str| format!("file://{}", nix.path(name).display());
    let (full, empty, silent) = (url("full"), url("empty"), Silent::start());
    nix.run(&format!("$COMPANION publish --to {full} --key-file ci-1.sec")).exits(0);
    fs::create_dir(nix.path("empty")).expect("a folder of the test");
    let caches = format!("{full} {empty} {} {}", silent.url(), refused_url());
    let nix = nix.config(&format!("negative-cache-substituters = {caches}"));
    let ran = has(is_well(&nix), &format!("ok       The binary cache '{full}' carries failures"));
    let ran = has(ran, &format!("note     The binary cache '{empty}' carries no failures"));
    let ran = has(ran, &format!("note     The binary cache '{}' can't be asked for failures", silent.url()));
    let ran = has(ran, "It says: it did not answer within 5 seconds");
    let ran = has(ran, &format!("note     The binary cache '{}' can't be asked for failures", refused_url()));
    has(ran, "It says: unable to download '");
}

#[test]
fn what_was_just_installed_is_well() {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; }"#);
    let ran = is_well(&nix);
    let ran = has(has(ran, &format!("ok       {} is '", this_nix())), "ok       This Nix loads the plugin: '");
    let ran =
        has(has(ran, "ok       'negative-cache' is on"), "ok       Builds in the store 'local' go through the plugin");
    has(ran, &format!("The store's database '{}' is not there yet", nix.database().display()));
    assert!(!exists(&nix.database()), "looking makes no database");
    nix.run("nix-build").exits(100);
    let ran = has(has(is_well(&nix), "has 1 record in "), " bytes");
    assert!(ran.stdout.lines().all(|line| line == "Nothing is wrong." || line.starts_with("ok       ")), "{ran}");
    nix.run("nix-build").exits(100).says(nix_negative_cache_tests::REFUSED);
    has(nix.run("$COMPANION doctor --help").exits(0), "--fix");
    // The same in a terminal.
    let ran = nix.run("script -qec 'stty cols 60; $COMPANION doctor' /dev/null").exits(0);
    // Only a path that is longer goes beyond, as it could not be copied otherwise.
    let is_path = |line: &str| {
        let text = line.strip_prefix("ok ").unwrap_or(line).trim();
        text.starts_with('\'') && !text.contains(' ')
    };
    assert!(ran.stdout.lines().all(|line| line.trim_end().chars().count() <= 60 || is_path(line)), "{ran}");
    assert!(ran.stdout.contains(&format!("'{}'", nix.database().display())), "{ran}");
}

#[test]
fn modes_and_owners_are_repaired() {
    if left_out() {
        return;
    }
    let nix = with_failure();
    for (make, says) in [
        (
            "chmod 777 negative-cache",
            "negative-cache' has the mode 0777, not 0755\n         Others may have written there",
        ),
        (
            "chmod 700 negative-cache",
            "has the mode 0700, not 0755\n         Users of the daemon can't read what failed.",
        ),
        ("chown games negative-cache", "negative-cache' belongs to user 5, not to root"),
        ("chmod 666 negative-cache/failures.sqlite", "failures.sqlite' has the mode 0666, not 0644"),
        ("chmod 600 negative-cache/failures.sqlite", "failures.sqlite' has the mode 0600, not 0644"),
        ("chmod 0 negative-cache/failures.sqlite", "failures.sqlite' has the mode 0000, not 0644"),
        ("chown games negative-cache/failures.sqlite", "failures.sqlite' belongs to user 5, not to root"),
        ("chmod 600 negative-cache/failures.sqlite-wal", "failures.sqlite-wal' has the mode 0600, not 0644"),
        ("chown games negative-cache/failures.sqlite-shm", "failures.sqlite-shm' belongs to user 5, not to root"),
        ("chmod 666 negative-cache/*; chown games negative-cache; chmod 777 negative-cache", "There are 4 problems"),
    ] {
        is_repaired(&nix, make, says);
    }
    assert_eq!(nix.recorded(), ["bad"], "nothing is lost");
}

#[test]
fn the_files_beside_it_are_made_again() {
    if left_out() {
        return;
    }
    let nix = with_failure();
    // Without the checkpoint, the records in the log would be lost with it.
    nix.run("cd ../var; sqlite3 negative-cache/failures.sqlite 'pragma wal_checkpoint(truncate)'").exits(0);
    for files in ["-wal", "-shm", "-{wal,shm}"] {
        is_repaired(&nix, &format!("rm -f negative-cache/failures.sqlite{files}"), "' is missing");
        assert!(exists(&nix.path("var/negative-cache/failures.sqlite-wal")), "{files}");
        assert!(exists(&nix.path("var/negative-cache/failures.sqlite-shm")), "{files}");
    }
    assert_eq!(nix.recorded(), ["bad"]);
    // Without a write-ahead log, no file is missing.
    nix.run("cd ../var; sqlite3 negative-cache/failures.sqlite 'pragma journal_mode = delete'").exits(0);
    has(nix.run("$COMPANION doctor").exits(0), "has 1 record");
}

#[test]
fn a_broken_one_is_moved_away_and_nothing_is_deleted() {
    if left_out() {
        return;
    }
    let nix = with_failure();
    let broken = nix.path("var/negative-cache/failures.sqlite.broken");
    let garbage = "garbage ".repeat(1000);
    nix.write("garbage", &garbage);
    is_repaired(&nix, "rm negative-cache/*-{wal,shm}; cp ../garbage negative-cache/failures.sqlite", "' is broken: ");
    assert_eq!(fs::read_to_string(&broken).unwrap(), garbage);
    let ran = has(is_well(&nix), "note     '");
    let ran = has(has(ran, "failures.sqlite.broken' is a broken database that was moved away"), "8000 bytes");
    has(ran, "remove it:  rm ");
    assert!(!exists(&nix.database()));

    // Only a thorough check finds this problem. The earlier broken database stays.
    nix.run("nix-build -A bad").exits(100);
    let damage = format!(
        "{SQLITE} 'pragma wal_checkpoint(truncate)'; \
         dd if=/dev/urandom of=negative-cache/failures.sqlite bs=4096 seek=3 count=2 conv=notrunc 2> /dev/null"
    );
    is_repaired(&nix, &damage, "' is broken: ");
    let left = fs::read_dir(broken.parent().unwrap()).unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let left: Vec<_> = left.filter(|path| path.to_string_lossy().contains(".broken")).collect();
    assert!(left.iter().any(|path| fs::read(path).unwrap() == garbage.as_bytes()), "{left:?}");
    assert!(fs::read(&broken).unwrap().starts_with(b"SQLite format 3"), "{left:?}");
    nix.run("nix-build -A bad").exits(100).does_not_say("warning");
    assert_eq!(nix.recorded(), ["bad"]);
}

#[test]
fn what_belongs_to_no_record_goes() {
    if left_out() {
        return;
    }
    let nix = with_failure();
    let make = format!("{SQLITE} 'pragma foreign_keys = off; delete from failure'");
    is_repaired(&nix, &make, "has 2 rows that belong to no record");
    nix.run("nix-build -A worse").exits(100);
    nix.run("nix-build -A bad").exits(100).does_not_say(nix_negative_cache_tests::REFUSED);
    assert_eq!(nix.runs("bad"), 2);
}

#[test]
fn schemas() {
    if left_out() {
        return;
    }
    let nix = with_failure();
    let older = "create table old (id integer primary key, failure integer not null references failure (id) on delete cascade, \
                     time integer not null, class text, exit_code integer, environment text) strict; \
                 insert into old select attempt.id, failure, time, class, exit_code, factors \
                     from attempt left join environment on environment.id = attempt.environment; \
                 drop table attempt; alter table old rename to attempt; drop table environment; \
                 create index attempt_failure on attempt (failure); \
                 drop index failure_name; create index failure_stands on failure (id) where stands; \
                 drop index output_failure; create index output_failure on output (failure); \
                 drop index failure_used; alter table failure drop column used; alter table failure drop column evidence; \
                 alter table failure drop column scope; drop table retry; drop table kept_out; drop table asked; drop table published; \
                 drop table refusal; drop table judged; drop table hydra_build; \
                 create index failure_last_failure on failure (last_failure); pragma user_version = 2";
    is_repaired(&nix, &format!("{SQLITE} '{older}'"), "was written by an older version, or is empty");
    assert_eq!(nix.recorded(), ["bad"]);
    nix.run("nix-build -A bad").exits(100).says(nix_negative_cache_tests::REFUSED);
    nix.run(&format!("cd ../var; {SQLITE} 'pragma user_version = 99'")).exits(0);
    for fix in ["", "--fix"] {
        let ran = nix.run(&format!("$COMPANION doctor {fix}")).exits(1);
        has(has(ran, "problem  "), "upgrade nix-negative-cache or choose another database");
    }
    nix.run("cd ../var; rm negative-cache/*; sqlite3 negative-cache/failures.sqlite 'create table theirs (a)'")
        .exits(0);
    has(nix.run("$COMPANION doctor --fix").exits(1), "is the database of another program");
    // A process that is killed right after it created the database leaves this.
    is_repaired(&nix, "rm negative-cache/*; touch negative-cache/failures.sqlite", "or is empty");
}

#[test]
fn too_many_records_go_in_the_end() {
    if left_out() {
        return;
    }
    let nix = with_failure();
    nix.run("nix-build -k").exits(100);
    let nix = nix.config("negative-cache-max-records = 1");
    let ran = has(nix.run("$COMPANION doctor").exits(0), "note     The store's database '");
    let ran = has(has(ran, "has 3 records in "), "'negative-cache-max-records' allows 1\n");
    has(ran, "run  nix-negative-cache doctor --fix");
    has(nix.run("$COMPANION doctor --fix").exits(0), "is rid of 2 records");
    has(is_well(&nix), "has 1 record in ");
}

#[test]
fn links_are_reported_and_left_alone() {
    if left_out() {
        return;
    }
    let nix = with_failure();
    nix.run("mkdir ../elsewhere; mv ../var/negative-cache/* ../elsewhere; chmod 640 ../elsewhere/failures.sqlite")
        .exits(0);
    let target = nix.path("elsewhere/failures.sqlite");
    symlink(&target, nix.database()).unwrap();
    let ran = has(nix.run("$COMPANION doctor --fix").exits(0), "note     The store's database '");
    has(has_not(ran, "fixed"), &format!("is a symbolic link to '{}'", target.display()));
    assert_eq!(mode_and_owner(&target), (0o640, 0));
    nix.run("sqlite3 ../elsewhere/failures.sqlite 'delete from failure'").exits(0);
    let ran = has(nix.run("$COMPANION doctor --fix").exits(1), "rows that belong to no record");
    has(has_not(ran, "fixed"), &format!("nix-negative-cache --database {} doctor --fix", target.display()));
    fs::rename(&target, nix.path("elsewhere/other")).unwrap();
    has(nix.run("$COMPANION doctor --fix").exits(1), "It leads nowhere");
    assert!(exists(&nix.database()), "it is still there");

    fs::remove_file(nix.database()).unwrap();
    fs::hard_link(nix.path("elsewhere/other"), nix.database()).unwrap();
    let ran = has(nix.run("$COMPANION doctor --fix").exits(1), "has other names (hard links)");
    has(ran, "note     Not fixed: '");
    assert_eq!(mode_and_owner(&nix.path("elsewhere/other")), (0o640, 0));

    fs::remove_file(nix.database()).unwrap();
    nix.run("mkfifo ../var/negative-cache/failures.sqlite").exits(0);
    has(nix.run("timeout 20 $COMPANION doctor --fix").exits(1), "is not a regular file");
    // The same with the folder.
    nix.run("cd ../var; rm -r negative-cache; mkdir -m 777 ../theirs; ln -s ../theirs negative-cache").exits(0);
    has(nix.run("$COMPANION doctor --fix").exits(0), "negative-cache' is a symbolic link");
    assert_eq!(mode_and_owner(&nix.path("theirs")).0, 0o777);
}

#[test]
fn a_nix_that_does_not_load_the_plugin() {
    let nix = with_failure();
    let ran = has(nix.run("NIX_CONFIG= $COMPANION doctor").exits(1), "problem  This Nix does not load the plugin\n");
    has(has(ran, "add  plugin-files = "), "has 1 record");
    let ran = has(nix.run("PATH= $COMPANION doctor").exits(1), "problem  There is no 'nix' in PATH");
    has(ran, "has 1 record");
    nix.write("negative_cache.so", "garbage");
    let nix_config = |plugin: &str| format!("NIX_CONFIG='plugin-files = {plugin}' $COMPANION doctor");
    let garbage = nix.path("negative_cache.so").display().to_string();
    let ran = has(nix.run(&nix_config(&garbage)).exits(1), "does not start");
    has(has(ran, "It says: could not dynamically open plugin file "), "Build the plugin for this Nix");
    has(nix.run(&nix_config("/none/negative_cache.so")).exits(1), "/none/negative_cache.so");
    // This library acts like the plugin in a Nix that can load it, but for which it was not built.
    let other = r#"static void __attribute__((constructor)) f() { const char t[] =
        "warning: the nix-negative-cache plugin was built for Nix 0.1, not for 0.2, and does nothing\n"; write(2, t, sizeof t - 1); }"#;
    nix.write("other.c", &format!("#include <unistd.h>\n{other}\n"));
    nix.run("cc -shared -fPIC -o ../other.so ../other.c").exits(0);
    let ran = nix.run(&nix_config(&nix.path("other.so").display().to_string())).exits(1);
    let ran = has(ran, "problem  This Nix does not load the plugin, although 'plugin-files' has '");
    has(ran, "It says: warning: the nix-negative-cache plugin was built for Nix 0.1, not for 0.2");
}

#[test]
fn a_loader() {
    let nix = with_failure();
    let folder = this_nix().folder().expect("a Nix with plugins");
    let ours = fs::canonicalize(nix.path("")).unwrap().join("ours");
    nix.run(&format!(
        "{DIRECT}; mkdir -p ../ours/loader ../ours/{folder} ../ours/nix-0.3.1; cp $PLUGIN ../ours/loader; \
         cp $DIRECT ../ours/{folder}; cp $DIRECT ../ours/nix-0.3.1; chmod -R go-w ..; chmod 755 .."
    ))
    .exits(0);
    let plugin = format!("{folder}/libnix_negative_cache.so");
    let doctor = |prepare: &str, options: &str| {
        let config = format!("negative-cache = true\\nplugin-files = {}/loader", ours.display());
        nix.run(&format!("{prepare}; NIX_CONFIG=$'{config}' $COMPANION doctor {options}"))
    };
    let ran =
        has(doctor("true", "").exits(0), &format!("ok       This Nix loads the plugin: '{}/loader/", ours.display()));
    let others = match this_nix().flavour {
        Flavour::Nix => format!(", {}", this_nix().version),
        _ => format!(" and {}", this_nix()),
    };
    has(ran, &format!("ok       '{}' has plugins for Nix 0.3.1{others}\n", ours.display()));

    // The plugin that the loader opens matters as much as the loader.
    let ran = doctor(&format!("chmod 666 ../ours/{plugin}"), "").exits(1);
    has(ran, &format!("problem  Others than root can change the plugin '{}/{plugin}'", ours.display()));
    has(doctor("true", "--fix").exits(0), "fixed    ");

    let ran = doctor(&format!("truncate -s 1000 ../ours/{plugin}"), "").exits(1);
    has(
        has(ran, "problem  This Nix does not load the plugin, although"),
        "It says: warning: nix-negative-cache does nothing",
    );

    let ran = doctor(&format!("rm ../ours/{plugin}"), "").exits(1);
    let ran = has(ran, &format!("problem  There is no plugin for {}\n", this_nix()));
    has(has(ran, "' has plugins for Nix 0.3.1.\n"), "Install the plugin for this Nix there, or take '");

    // A Nix that says that it is a fork.
    let fork = |says: &str| {
        format!(
            "printf '#!/bin/sh\ncase \"$*\" in *--version*) echo \"nix {says}\" ;; *) exec %s \"$@\" ;; esac\n' \
             $(command -v nix) > ../nix; chmod +x ../nix; PATH=$PWD/..:$PATH"
        )
    };
    let ran = doctor(&fork("(Lix, like Nix) 2.93.3"), "").exits(1);
    let ran = has(ran, "problem  There is no plugin for Lix 2.93.3, which is not supported\n");
    has_not(has(ran, "Take '"), "Install the plugin");
    let ran = doctor(&fork("(Determinate Nix 3.8.2) 2.30.1"), "").exits(1);
    let ran = has(ran, "problem  There is no plugin for Determinate Nix 3.8.2\n");
    has(has(ran, "' has plugins for Nix 0.3.1.\n"), "Install the plugin for this Nix there, or take '");
}

#[test]
fn a_plugin_that_others_can_change() {
    let nix = with_failure();
    nix.run(&format!("chmod 755 ..; {DIRECT}; cp $DIRECT ../negative_cache.so")).exits(0);
    let plugin = nix.path("negative_cache.so");
    let doctor = |options: &str| {
        let config = format!("negative-cache = true\\nplugin-files = {}", plugin.display());
        nix.run(&format!("NIX_CONFIG=$'{config}' $COMPANION doctor {options}"))
    };
    nix.run("chmod 777 ../negative_cache.so").exits(0);
    has(doctor("").exits(1), "problem  Others than root can change the plugin '");
    has(doctor("--fix").exits(0), "fixed    ");
    assert_eq!(mode_and_owner(&plugin), (0o755, 0));
    nix.run("chmod 700 ../negative_cache.so").exits(0);
    has(doctor("").exits(0), "note     Not everybody can read the plugin '");
    has(doctor("--fix").exits(0), "fixed    ");
    assert_eq!(mode_and_owner(&plugin), (0o744, 0));
    nix.run("chmod 777 ..").exits(0);
    has(doctor("--fix").exits(1), "see that its folder can't be written to by all");
    nix.run("chmod 755 ..").exits(0);
    has_not(doctor("").exits(0), "problem");
}

#[test]
fn settings() {
    let doctor = |lines: &[&str]| {
        let nix = lines.iter().fold(Scratch::without_setting(), |nix, line| nix.config(line));
        nix.run("$COMPANION doctor")
    };
    let ran = has(doctor(&[]).exits(1), "problem  'negative-cache' is off, so that nothing is recorded");
    has(ran, "add  negative-cache = true  to nix.conf");
    let on = "negative-cache = true";
    has(doctor(&[on, "negative-cache-min-failures = 99"]).exits(1), "it is a number between 1 and 32");
    has(doctor(&[on, "negative-cache-ttl = 7d"]).exits(1), "'negative-cache-ttl' has invalid value '7d'");
    has(doctor(&[on, "negative-cache-tll = 7"]).exits(1), "problem  There is no setting 'negative-cache-tll'");
    for (line, says) in [
        (
            "negative-cache-retry = true",
            "'negative-cache-retry' is on, so that what is known to fail is built all the same",
        ),
        ("negative-cache-action = warn", "'negative-cache-action' is 'warn', so that"),
        ("keep-failed = true", "'keep-failed' is on, so that"),
    ] {
        has(doctor(&[on, line]).exits(0), &format!("note     {says}"));
    }
}

#[test]
fn a_database_that_was_chosen() {
    if left_out() {
        return;
    }
    let nix = Scratch::new();
    let chosen = nix.path("chosen/records");
    let nix = nix.config(&format!("negative-cache-database = {}", chosen.display()));
    nix.expression(r#"{ bad = fail "bad"; }"#);
    nix.run("nix-build").exits(100);
    let ran = has(nix.run("$COMPANION doctor").exits(0), "note     'negative-cache-database' is '");
    has(ran, &format!("The database '{}' has 1 record", chosen.display()));
    nix.run("chmod 666 ../chosen/records; chmod 700 ../chosen").exits(0);
    has(nix.run("$COMPANION doctor --fix").exits(0), "fixed    ");
    assert_eq!(mode_and_owner(&chosen), (0o644, 0));
    // Its folder may exist for other reasons.
    assert_eq!(mode_and_owner(chosen.parent().unwrap()), (0o700, 0));
    nix.run("chmod 777 ../chosen").exits(0);
    has(nix.run("$COMPANION doctor --fix").exits(1), "Choose another place for the database");
    nix.run("chmod 755 ../chosen; echo garbage garbage garbage > ../notes").exits(0);
    let ran = nix.run("$COMPANION --database $PWD/../notes doctor --fix").exits(1);
    has(ran, "Move it away, if it is a database of this program at all");
    assert_eq!(fs::read_to_string(nix.path("notes")).unwrap(), "garbage garbage garbage\n");
    has(nix.run("$COMPANION --database $PWD/../none doctor").exits(0), "none' is not there yet");
}

#[test]
fn users_of_a_daemon() {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; }"#);
    let doctors = "as games nix-build; as games $COMPANION doctor --fix; echo $?; \
                   NIX_CONFIG=$WITH $COMPANION doctor; echo $?";
    // The plugin is in the daemon only.
    let ran = among_users(&nix, doctors).exits(0);
    let ran = has(ran, "ok       This Nix does not load the plugin; that of the daemon is enough");
    let ran = has(has_not(ran, "problem"), "has the plugin on, for all its users");
    let ran = has(has_not(ran, "fixed"), "Nothing is wrong.\n0\nok ");
    has(ran, &format!("The store's database '{}' has 1 record", nix.database().display()));
    // The plugin is in both.
    let ran = among_users(&nix, &format!("export NIX_CONFIG=$WITH; {doctors}")).exits(0);
    let ran = has(has_not(ran, "problem"), "has the plugin on, for all its users");
    assert_eq!(ran.stdout.matches("'negative-cache' is on").count(), 2, "{ran}");
    assert_eq!(ran.stdout.matches("Nothing is wrong.\n0\n").count(), 2, "{ran}");
    // The plugin is in neither.
    let ran =
        among_users_of_a_stock_daemon(&nix, "as games $COMPANION doctor; echo $?").exits(0).does_not_say("panicked");
    let ran = has(ran, "problem  This Nix does not load the plugin\n");
    let ran = has(ran, "If that is the nix.conf of nix-daemon, restart it afterwards:  systemctl restart nix-daemon\n");
    let ran =
        has(has(ran, "does not have the plugin on"), "Set them there, and restart it:  systemctl restart nix-daemon\n");
    has(ran, "There is 1 problem.\n1\n");
    // The plugin is in the client, but off.
    let ran = among_users(&nix, "NIX_CONFIG=${WITH/= true/= false}; as games $COMPANION doctor").exits(0);
    has(ran, "'negative-cache' is off in this Nix; that of the daemon is enough");
}

#[test]
fn ones_own_database() {
    if left_out() {
        return;
    }
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; }"#);
    let in_client = |line: &str| among_users_of_a_stock_daemon(&nix, &format!("export NIX_CONFIG=$WITH; {line}"));
    let ran = in_client("as games nix-build; as games $COMPANION doctor --fix").exits(0);
    let ran = has(ran, "does not have the plugin on: this user's Nix does it alone");
    let own = nix.personal_database("games");
    has(has_not(ran, "fixed"), "home-games/.local/state/nix/negative-cache/failures.sqlite' has 1 record");
    let folder = own.parent().unwrap().display().to_string();
    for (make, says) in [
        (format!("chmod 644 {folder}/failures.sqlite"), "failures.sqlite' has the mode 0644, not 0600"),
        (format!("chmod 755 {folder}"), "negative-cache' has the mode 0755, not 0700"),
        (format!("rm {folder}/*-*; echo garbage garbage > {folder}/failures.sqlite"), "is broken: "),
    ] {
        let ran = in_client(&format!("{make}; as games $COMPANION doctor; echo $?; as games $COMPANION doctor --fix"));
        has(has(has(ran.exits(0), says), "\n1\nfixed    "), "Nothing is wrong.");
    }
    // If root made a file there by mistake, only root can change its owner.
    let ran = in_client(&format!(
        "touch {folder}/failures.sqlite; chmod 600 {folder}/*; chown -R root {folder}; as games $COMPANION doctor --fix; \
         echo $?; $COMPANION --database {folder}/failures.sqlite doctor --fix; echo $?; as games $COMPANION doctor --fix"
    ));
    let ran = has(
        has(ran.exits(0), "negative-cache' belongs to root, not to user 5"),
        "as root, run  nix-negative-cache --database /",
    );
    has(has(ran, "and belongs to user 5"), "root leaves it alone");
    assert_eq!((mode_and_owner(&own), mode_and_owner(own.parent().unwrap())), ((0o600, 5), (0o700, 5)));
}

#[test]
fn what_only_root_can_repair() {
    if left_out() {
        return;
    }
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; }"#);
    let ran = among_users(
        &nix,
        "as games nix-build; chmod 600 ../var/negative-cache/failures.sqlite; as games $COMPANION doctor --fix; echo $?; \
         $COMPANION doctor --fix > /dev/null; as games $COMPANION doctor --fix",
    );
    let ran = has(ran.exits(0), "has the mode 0600, not 0644\n         Users of the daemon can't read what failed.");
    has(has(ran, "as root, run  nix-negative-cache doctor --fix"), "\n1\nok ");
    // The user can't write in this place.
    let nowhere = "NIX_CONFIG=$WITH; chmod 500 ../home-games; as games $COMPANION doctor --fix";
    let ran = has(among_users_of_a_stock_daemon(&nix, nowhere).exits(1), "' can't be made: Permission denied");
    has(ran, "There is 1 problem.");
    let nowhere =
        "NIX_CONFIG=$WITH; chmod 755 ../home-games; chown root ../home-games; as games $COMPANION doctor --fix";
    has(among_users_of_a_stock_daemon(&nix, nowhere).exits(1), "this user has no place for a database");
    // The daemon does not answer.
    nix.run(&format!(
        "{}; kill $daemon; wait $daemon; NIX_REMOTE=daemon $COMPANION doctor > ../said",
        beside_a_daemon("true")
    ))
    .exits(1);
    let said = fs::read_to_string(nix.path("said")).unwrap();
    assert!(
        said.contains("problem  The daemon does not answer\n         Nix says: cannot connect to socket"),
        "{said}"
    );
}

#[test]
fn a_store_that_belongs_to_one_user() {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; }"#);
    let ran = nix.run(
        "cp -r $INSTALLATION ../installation; cp $COMPANION ../companion; chown -R news: ..
         export NIX_CONFIG=$'negative-cache = true\\nplugin-files = '$PWD/../installation/loader/libnix_negative_cache.so
         as_news() { COMPANION=$PWD/../companion setpriv --reuid news --regid news --clear-groups \"$@\"; }
         as_news nix-build; as_news $PWD/../companion doctor --fix || exit
         chown -R root ../var/negative-cache
         as_news $PWD/../companion doctor --fix; echo $?; HOME=$PWD/../other $COMPANION doctor --fix || exit
         as_news $PWD/../companion doctor --fix",
    );
    let ran = has(ran.exits(0), "negative-cache' belongs to root, not to user 9\n");
    let ran = has(has(ran, "as root, run  nix-negative-cache doctor --fix"), "and belongs to user 9");
    has(ran, "belongs to user 9, and root leaves it alone");
    assert_eq!(mode_and_owner(&nix.database()), (0o644, 9));
}

#[test]
fn while_nix_uses_it() {
    let nix = with_failure();
    nix.expression(
        r#"{ slow = drv "slow" "echo > ${runs}/started; read x < ${runs}/go; exit 3" { };
             more = map (n: fail "more-${toString n}") [ 1 2 3 ]; }"#,
    );
    nix.run("nix-build -k -A more; mkfifo ../runs/go").exits(0);
    let nix = nix.config("negative-cache-max-records = 2");
    let ran = nix.run(
        "nix-build -A slow & while [ ! -e ../runs/started ]; do sleep 0.05; done
         chmod 666 ../var/negative-cache/*; chmod 777 ../var/negative-cache
         $COMPANION doctor --fix; echo $?; echo > ../runs/go; wait $!; echo $?",
    );
    let ran = has(has(ran.exits(0), "is rid of 2 records"), "Nothing is wrong.\n0\n100\n");
    ran.does_not_say("warning:");
    assert!(nix.recorded().contains(&"slow".to_owned()));
    is_well(&nix);
}

/// Who looks while a process holds a lock is told so, after the time that Nix would wait for it.
#[test]
fn a_database_that_is_locked() {
    if left_out() {
        return;
    }
    let nix = with_failure();
    // sqlite3 holds the lock until its input ends.
    let locked = |how: &str, command: &str| {
        nix.run(&format!(
            "mkfifo -m 600 ../input; sqlite3 ../var/negative-cache/failures.sqlite < ../input > ../said & locker=$!
             exec 3> ../input; echo '{how} select 1;' >&3; while [ ! -s ../said ]; do sleep 0.05; done
             {command}; status=$?; echo locker $locker; exec 3>&-; wait $locker; rm ../input ../said; exit $status"
        ))
    };
    let exclusive = "pragma locking_mode = exclusive; begin exclusive;";
    for (how, says) in [("begin immediate;", "Earlier records are still used."), (exclusive, "nothing is refused")] {
        let ran = has(locked(how, "timeout 30 $COMPANION doctor").exits(1), "for at least 5 seconds\n");
        let locker = ran.stdout.rsplit(' ').next().unwrap_or_default().trim().to_owned();
        let what = format!("' has been locked by process {locker} for at least 5 seconds\n");
        has(has(has(has(ran, &what), says), &format!("ps -fp {locker}\n")), "There is 1 problem.");
        // The last process of another program took the files beside the database with it.
        has_not(nix.run("$COMPANION doctor --fix").exits(0), "locked");
    }
    // Users who may only read see it, too.
    let games = "chmod 755 ..; cp $COMPANION ../companion; setpriv --reuid games --regid games --clear-groups \
                 env HOME=/nowhere ../companion --database ../var/negative-cache/failures.sqlite doctor";
    has(locked("begin immediate;", games), "has been locked by process ");
    // A lock to read is in nobody's way.
    has_not(locked("begin; select * from failure;", "$COMPANION doctor").exits(0), "locked");
}

/// The daemon reads its configuration and loads plugins only when it starts.
#[test]
fn a_daemon_that_has_to_be_restarted() {
    let nix = Scratch::new();
    nix.run("echo '!include more.conf' >> ../etc/nix.conf").exits(0);
    let doctors = "export NIX_REMOTE=daemon; $COMPANION doctor; echo $?; as games $COMPANION doctor; echo $?";
    let ran = among_users(&nix, &format!("sleep 1.5; {doctors}")).exits(0);
    let ran = has(has_not(ran, "problem"), "has the plugin on, for all its users");
    assert_eq!(ran.stdout.matches("Nothing is wrong.\n0\n").count(), 2, "{ran}");
    // It was not disturbed.
    let log = fs::read_to_string(nix.path("daemon-log")).unwrap();
    assert!(!log.contains("error"), "{log}");
    for change in ["touch ../etc/nix.conf", "echo 'cores = 3' > ../etc/more.conf"] {
        let file = nix.path(change.rsplit("../").next().unwrap());
        let ran = among_users(&nix, &format!("sleep 2.1; {change}; {doctors}")).exits(0);
        let what = format!(", and has not read the later change of '{}'\n", file.display());
        let ran = has(has(ran, &what), "systemctl restart nix-daemon");
        assert_eq!(
            (ran.stdout.matches(&what).count(), ran.stdout.matches("There is 1 problem.\n1\n").count()),
            (2, 2),
            "{ran}"
        );
        fs::remove_file(nix.path("etc/more.conf")).ok();
    }
    // What it has loaded, root may see.
    let ours = "cp -r $INSTALLATION ../ours; export NIX_CONFIG=${NIX_CONFIG/$INSTALLATION/$PWD/../ours}; chmod 755 ..";
    let plugin = "$(cd ../ours; pwd)/$FOLDER/libnix_negative_cache.so";
    for change in ["cp {} ../new; mv ../new {}", "rm {}"] {
        let change = change.replace("{}", plugin);
        let ran = nix.run(&format!(
            "{DIRECT}; rm -rf ../ours; {ours}; {}",
            beside_a_daemon(&format!("sleep 2.1; {change}; NIX_REMOTE=daemon $COMPANION doctor"))
        ));
        let ran = has(ran.exits(1), "libnix_negative_cache.so' was before it was replaced or removed\n");
        has(ran, "systemctl restart nix-daemon");
    }
}
