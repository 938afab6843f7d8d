//! Attacks by one user of a daemon, who wants another user's healthy build to be refused, or worse. SECURITY.md lists them.
//!
//! The user `games` attacks, and the user `news` builds. Nix trusts neither.

use std::fs;
use std::time::{Duration, Instant};

use nix_negative_cache_tests::{
    REFUSED, Scratch, TWO_USERS, among_users, among_users_of_a_stock_daemon, beside_a_daemon, in_older_words,
};

/// Lets `games` attack. Then `news` builds a healthy derivation, which must succeed.
#[track_caller]
fn attack(nix: &Scratch, attack: &str) {
    let ran = among_users(nix, &format!("{attack}; echo attacked >&2; as news nix-build -A healthy"));
    assert!(ran.stderr.contains("attacked") && ran.status == 0 && !ran.stdout.is_empty(), "{ran}");
    let ran = ran.does_not_say(REFUSED);
    assert!(!nix.recorded().contains(&"healthy".to_owned()), "{ran}");
}

fn with(config: &str, expression: &str) -> Scratch {
    let nix = Scratch::new().config(config);
    nix.expression(expression);
    nix
}

#[test]
fn limits_on_time_and_silence() {
    let slow = r#"{ healthy = drv "healthy" "sleep 2; echo > $out" { }; }"#;
    for config in ["", "negative-cache-timeouts = true"] {
        attack(&with(config, slow), "as games nix-build --timeout 1; as games nix-build --max-silent-time 1");
    }
}

#[test]
fn limits_on_the_log() {
    let chatty = r#"{ healthy = drv "healthy" "echo 0123456789; sleep 1; echo > $out" { }; }"#;
    attack(&with("negative-cache-timeouts = true", chatty), "as games nix-build --option max-build-log-size 5");
}

#[test]
fn cores_and_jobs() {
    let nix = with("", r#"{ healthy = drv "healthy" "[ $NIX_BUILD_CORES != 1 ] || exit 1; echo > $out" { }; }"#);
    attack(&nix, "as games nix-build --cores 1; as games nix-build --max-jobs 0");
}

#[test]
fn settings_of_a_client_that_nobody_trusts() {
    let nix = with("", r#"{ healthy = drv "healthy" "[ ! $BAD ] || exit 1; echo > $out" { }; }"#);
    attack(
        &nix,
        "BAD=1 as games nix-build --option sandbox true --option sandbox-fallback false --option build-users-group x \
         --option negative-cache-min-failures 1 --option negative-cache-ttl 0 --option builders x --max-jobs 0",
    );
}

#[test]
fn going_away_in_the_middle() {
    let nix = with("", r#"{ healthy = drv "healthy" "echo > ${runs}/started; sleep 2; echo > $out" { }; }"#);
    let started = "while [ ! -e ../runs/started ]; do sleep 0.05; done; rm ../runs/started";
    // Only of this process group: others may test at the same time.
    let gone = |signal: &str| format!("as games nix-build & {started}; pkill -{signal} -g 0 -u games; wait $!");
    attack(&nix, &[gone("KILL"), gone("INT"), gone("TERM")].join("; "));
}

#[test]
fn the_same_name() {
    let nix = with("", r#"{ healthy = ok "healthy"; bad = drv "healthy" "exit 1" { }; }"#);
    let ran = among_users(&nix, "as games nix-build -A bad; as games nix-build -A bad; as news nix-build -A healthy");
    ran.exits(0).says_times(REFUSED, 1);
}

/// Two fetches with the same output hash have the same output path, however they fetch.
#[test]
fn a_fetch_that_fails_with_the_output_of_one_that_works() {
    for again in ["", "as news nix-build -A broken;"] {
        let nix = with(
            "negative-cache-fixed-output = true",
            r#"{ healthy = fetch "true"; bad = fetch "exit 1"; broken = fetch "exit 2"; }"#,
        );
        let known = "as news nix eval --extra-experimental-features nix-command --impure --expr \
                     'builtins.knownFailure (import ./.).healthy'";
        let ran = among_users(
            &nix,
            &format!("as games nix-build -A bad; {again} NIX_CONFIG=$WITH {known}; as news nix-build -A healthy"),
        );
        assert!(ran.stdout.starts_with("null\n"), "{ran}");
        ran.exits(0).does_not_say(REFUSED);
    }
}

#[test]
fn messages_in_the_name_of_nix() {
    let nix = Scratch::new();
    nix.expression(
        r#"rec {
             healthy = drv "healthy" "echo > ${runs}/started; sleep 2; echo > $out" { };
             forger = drv "forger" ''
               while [ ! -e ${runs}/started ]; do sleep 0.1; done
               for i in 1 2 3; do
                 echo '@nix {"action":"msg","level":0,"msg":"error: builder for '"'$victim'"' failed with exit code 1"}'
                 echo "error: builder for '$victim' failed with exit code 1"
               done
               exit 7
             '' { victim = builtins.unsafeDiscardStringContext healthy.drvPath; };
           }"#,
    );
    attack(&nix, "as games nix-build -j2; rm -f ../runs/started");
    assert_eq!(nix.recorded(), ["forger"]);
    // A client that has only the daemon's messages must not take a derivation with valid outputs for a failed one.
    let ran = among_users_of_a_stock_daemon(
        &nix,
        "NIX_CONFIG=$WITH; rm -rf ../runs/started; as news nix-build -A healthy; as news nix-build -j2 -k; \
         as news nix-build -A healthy; as news $COMPANION list",
    );
    assert!(!ran.exits(0).stdout.contains("-healthy.drv"));
}

#[test]
fn escape_sequences_and_endless_lines() {
    let nix = with(
        "",
        r#"{
             healthy = ok "healthy";
             bad = drv "bad" ''
               head -c 20000000 /dev/zero | tr '\0' x
               printf 'A\033]0;owned\007B\033[2J\033[31mC\rD\233\0E\n\342\200\256F\n'
               exit 1
             '' { };
           }"#,
    );
    // If the machine is short of memory during the build, the failure is not recorded.
    attack(
        &nix,
        "for i in 1 2 3 4; do as games nix-build -A bad 2> /dev/null; as games $COMPANION list 2>&1 | grep -q bad.drv && break; done",
    );
    let ran = among_users(
        &nix,
        "NIX_REMOTE=daemon script -qec 'nix-build -A bad' /dev/null; as news $COMPANION show $(nix-instantiate -A bad)",
    );
    for escape in ["\x1b]", "\x1b[2J", "\x1b[31mC", "\x07", "\u{202e}", "owned"] {
        assert!(!ran.stdout.contains(escape), "{escape:?} in {ran}");
    }
    assert!(ran.stdout.contains(REFUSED), "{ran}");
    let log = nix.records()[0]["log"].as_str().unwrap_or_default().to_owned();
    assert!(log.len() <= 8 * 1024 && log.contains('F'), "{log}");
    let message = nix.records()[0]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.len() <= 8 * 1024 && in_older_words(&message).starts_with("builder for"), "{message}");
}

/// A user fills the disk and frees it before the build ends. The plugin does not know the words in which the builder
/// complains.
#[test]
fn a_disk_that_was_full_for_a_moment() {
    let nix = Scratch::new();
    nix.expression(
        r#"{ healthy = drv "healthy" ''
               echo > ${runs}/started
               while [ ! -e ${runs}/full ]; do sleep 0.05; done
               head -c 10000000 /dev/zero > here 2> /dev/null || {
                 echo "it did not work"; rm here; echo > ${runs}/seen; sleep 1; exit 1;
               }
               echo > $out
             '' { }; }"#,
    );
    let there = |name: &str| format!("while [ ! -e ../runs/{name} ]; do sleep 0.05; done");
    // Builds run below TMPDIR, and since Nix 2.30 in the state directory.
    nix.run(
        "mkdir -m 1777 ../small; mount -t tmpfs -o size=32m,mode=1777 nnc ../small; \
         mkdir -p ../small/builds ../var/builds; mount --bind ../small/builds ../var/builds",
    )
    .exits(0);
    let commands = format!(
        "as games nix-build & {}; as games bash -c 'head -c 100000000 /dev/zero > ../small/fill' 2> /dev/null; \
         echo > ../runs/full; {}; rm ../small/fill; wait $!; as news nix-build -A healthy",
        there("started"),
        there("seen")
    );
    let daemon = beside_a_daemon(&format!("unset TMPDIR; {TWO_USERS}\n{commands}"));
    let ran = nix.run(&format!("export TMPDIR=$PWD/../small; {daemon}"));
    let unmounted = nix.run("umount ../var/builds ../small");
    assert_eq!(nix.runs("healthy"), 2, "{ran}");
    ran.exits(0).does_not_say(REFUSED);
    unmounted.exits(0);
}

#[test]
fn the_channel_of_requests_to_retry() {
    let nix = with("", r#"{ healthy = ok "healthy"; bad = fail "bad"; }"#);
    // Three times, a request to retry comes with a thousand requests for paths of no failure. Other messages set settings of
    // the plugin.
    let flood = "for i in $(seq 1000); do printf '%s/%032d-nix-negative-cache-retry ' $NIX_STORE_DIR $i; done > flood; \
         none=$NIX_STORE_DIR/00000000000000000000000000000000-nix-negative-cache; drv=$(nix-instantiate -A bad); \
         part=${drv##*/}; retry=$NIX_STORE_DIR/${part%%-*}-nix-negative-cache-retry; \
         as games nix-build -A bad; \
         for i in 1 2 3; do as games nix-store --check-validity $retry $(cat flood); done; \
         as games nix-store --check-validity $none-negative-cache-retry=true $none-negative-cache-min-failures=32 \
             $none-negative-cache-ttl=1 $none-negative-cache-database=/tmp/x $none-negative-cache=false";
    attack(&nix, flood);
    let ran = among_users(&nix, "as news nix-build -A bad").says(REFUSED);
    let count = nix.run(&format!("sqlite3 {} 'select count(*), max(user) from retry'", nix.database().display()));
    assert_eq!(count.stdout.trim(), "1|5", "{ran}");
    assert_eq!(nix.runs("bad"), 1);
}

#[test]
fn a_database_of_ones_own() {
    let nix = with("", r#"{ healthy = ok "healthy"; }"#);
    attack(
        &nix,
        "NIX_CONFIG=$WITH; as games mkdir -p ../home-games/.local/state/nix/negative-cache; \
         as games bash -c 'echo garbage > ../home-games/.local/state/nix/negative-cache/failures.sqlite'; \
         NIX_CONFIG=$WITHOUT",
    );
}

/// A user who may read a file may lock it. Nix itself waits for ever for a lock on its own database.
#[test]
fn locks_on_the_system_database() {
    let nix = with("", r#"{ healthy = ok "healthy"; bad = fail "bad"; other = fail "other"; }"#);
    let hold = r#"perl -e 'use Fcntl; $| = 1; for my $path (glob "../var/negative-cache/*") { open(my $f, "<", $path) or die;
        my $lock = pack("s s x4 q q i", F_RDLCK, 0, 0, 0, 0); fcntl($f, F_SETLK, $lock) or die; push @f, $f } print "held\n"; sleep 60' > held"#;
    let start = Instant::now();
    let ran = among_users(
        &nix,
        &format!(
            "as games nix-build -A bad; as games {hold} & sleep 1; [ -s held ] || exit 9; \
             as news nix-build -A other; as news nix-build -A bad; as news nix-build -A healthy; pkill -g 0 -u games; true"
        ),
    );
    let ran = ran.exits(0).says("-other.drv' failed with exit code 3");
    assert!(start.elapsed() < Duration::from_secs(30) && ran.stdout.contains("-healthy"), "{ran}");
    assert!(ran.stderr.matches("warning:").count() <= 3, "one for each command: {ran}");
}

#[test]
fn nothing_is_told_that_nix_keeps_for_itself() {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; }"#);
    nix.write("etc/machines", "ssh://elsewhere other-system /root/secret-key 1 1 secret-feature - c2VjcmV0\n");
    let builders = format!("builders = @{}", nix.path("etc/machines").display());
    let nix = nix.config(&builders);
    // Every user may read the end of the log, as with Nix's own log files.
    let ran =
        among_users(&nix, "chmod 600 ../etc/machines; as games nix-build; as news ls -l ../log/drvs/*/*").exits(0);
    assert!(ran.stdout.starts_with("-rw-r--r--"), "{ran}");
    let read = |suffix: &str| fs::read(format!("{}{suffix}", nix.database().display())).unwrap_or_default();
    let all = [read(""), read("-wal")].concat();
    assert!(String::from_utf8_lossy(&all).contains("ssh://elsewhere"), "the machine counts: {ran}");
    for secret in ["secret", "c2VjcmV0"] {
        assert!(!String::from_utf8_lossy(&all).contains(secret), "{ran}");
    }
}
