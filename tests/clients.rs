//! Two unprivileged users and a daemon, with the plugin on either side or on both.

use std::os::unix::fs::MetadataExt;

use nix_negative_cache_tests::{
    REFUSED, Scratch, among_users, among_users_of_a_stock_daemon, as_a_distribution, beside_a_daemon, exists,
};

fn mode(path: &std::path::Path) -> u32 {
    path.metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display())).mode() & 0o7777
}

/// Plays a test with clients that name the daemon as their store, and with clients that leave it to `auto`, as those of
/// distributions do.
fn both_ways(play: impl Fn(fn() -> Scratch)) {
    play(Scratch::new);
    play(|| Scratch::new().users_ask("daemon"));
}

#[test]
fn a_client_remembers_what_a_stock_daemon_does_not() {
    both_ways(|new| {
        let nix = new();
        nix.expression(r#"{ bad = fail "bad"; top = needs "top" [ (fail "bad") (ok "sibling") ]; }"#);
        let ran = among_users_of_a_stock_daemon(
        &nix,
        "as news nix-build -A bad; stock=$?; export NIX_CONFIG=$WITH; \
         for i in 1 2 3; do as games nix-build -A bad; [ $? = $stock ] || echo other status; done; as games nix-build -A top; \
         [ $? = $stock ] || echo other status; as games nix build -f . top && echo built; \
         as games $COMPANION list --json > listed; \
         NIX_CONFIG=$WITHOUT; as news nix-build -A bad; true",
    )
    .exits(0)
    .prints("")
    .does_not_say("warning:")
    .says_times("-bad.drv' failed with exit code 3", 4)
    .says_times(REFUSED, 3)
    .says("> it is broken")
    .says("1 dependencies of derivation");
        assert_eq!((nix.runs("bad"), nix.runs("sibling")), (4, 0), "{ran}");
        assert!(!exists(&nix.database()) && !exists(&nix.personal_database("news")), "{ran}");
        let own = nix.personal_database("games");
        assert_eq!((mode(&own), mode(own.parent().unwrap())), (0o600, 0o700));
        let listed: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(nix.path("work/listed")).unwrap()).unwrap();
        assert_eq!(
            (&listed[0]["name"], &listed[0]["exitCode"], &listed[0]["log"]),
            (&"bad".into(), &3.into(), &"it is broken\n".into())
        );
    });
}

#[test]
fn a_client_remembers_outputs_that_a_stock_daemon_rejects() {
    both_ways(|new| {
        let nix = new();
        nix.expression(
            r#"rec { used = builtins.toFile "used" "text"; missing = drv "missing" "true" { };
             refers = drv "refers" "echo $used > $out" { inherit used; disallowedReferences = [ used ]; };
             mismatch = fetch "echo other > $out; exit 0"; }"#,
        );
        let ran = among_users_of_a_stock_daemon(
            &nix,
            "as news nix-build -A missing; stock=$?; export NIX_CONFIG=$WITH; \
         for i in 1 2 3; do for name in missing refers mismatch; do \
             as games nix-build -A $name; status=$?; \
             [ $name = mismatch ] || [ $status = $stock ] || echo other status; done; done; \
         as games $COMPANION list --json > listed",
        )
        .exits(0)
        .prints("")
        .says_times(REFUSED, 2);
        assert_eq!((nix.runs("missing"), nix.runs("refers"), nix.runs("fetched")), (3, 2, 3), "{ran}");
        let listed: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(nix.path("work/listed")).unwrap()).unwrap();
        let classes: Vec<_> = listed.as_array().unwrap().iter().map(|record| &record["class"]).collect();
        assert_eq!(classes, ["output", "output"]);
    });
}

#[test]
fn with_keep_going_a_client_has_the_rest_built() {
    both_ways(|new| {
        let nix = new();
        nix.expression(
            r#"{ bad = fail "bad"; worse = fail "worse"; ok = ok "ok";
             top = needs "top" [ (fail "bad") (ok "sibling") (fail "nephew") ]; }"#,
        );
        let ran = among_users_of_a_stock_daemon(
            &nix,
            "export NIX_CONFIG=$WITH; for i in 1 2; do as games nix-build -A bad; done; \
         for i in 1 2; do as games nix-build -k -A ok -A top -A worse; echo $?; done; \
         as games nix build --keep-going -f . ok top worse; echo $?",
        );
        let ran = ran
            .exits(0)
            .prints("1\n1\n1")
            .does_not_say("warning:")
            .says_times("-worse.drv' failed with exit code 3", 2);
        let ran = ran.says_times("-nephew.drv' failed with exit code 3", 2);
        assert_eq!((nix.runs("ok"), nix.runs("sibling"), nix.runs("top")), (1, 1, 0), "{ran}");
        assert_eq!((nix.runs("bad"), nix.runs("worse"), nix.runs("nephew")), (2, 2, 2), "{ran}");
    });
}

#[test]
fn what_the_daemon_knows_is_not_recorded_twice() {
    both_ways(|new| {
        let nix = new();
        nix.expression(r#"{ bad = fail "bad"; }"#);
        let ran = among_users(
        &nix,
        "export NIX_CONFIG=$WITH; as games nix-build; as games nix-build; as news nix-build; as news $COMPANION list",
    )
    .exits(0)
    .says_times(REFUSED, 2)
    .does_not_say("warning:");
        assert!(ran.stdout.contains("-bad.drv"), "{ran}");
        assert_eq!((nix.runs("bad"), nix.recorded().len()), (1, 1), "{ran}");
        assert!(!exists(&nix.personal_database("games")), "{ran}");
    });
}

#[test]
fn the_system_database_is_roots_and_everybody_reads_it() {
    both_ways(|new| {
        let nix = new();
        nix.expression(r#"{ bad = fail "bad"; }"#);
        let ran = among_users(
            &nix,
            "as games nix-build; as games $COMPANION list; as games $COMPANION forget --all; echo $?; \
         as games nix-build --option negative-cache-retry true; true",
        );
        let ran = ran.exits(0).says("only the owner of '").says(REFUSED).says("nix-negative-cache retry");
        assert!(ran.stdout.contains("-bad.drv") && ran.stdout.ends_with("\n1\n"), "{ran}");
        for umask in ["000", "077"] {
            let nix = new();
            nix.expression(r#"{ bad = fail "bad"; }"#);
            let daemon =
                format!("umask {umask}; as games true; as games nix-build; umask 022; as games $COMPANION list");
            nix.run(&format!("umask {umask}; mkdir -m 755 ../var ../store; {}", {
                nix_negative_cache_tests::beside_a_daemon(&format!("{}\n{daemon}", nix_negative_cache_tests::TWO_USERS))
            }));
            let file = nix.database();
            assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o644, 0o755), "{umask}");
            assert_eq!(file.metadata().unwrap().uid(), 0);
        }
    });
}

#[test]
fn everybody_may_retry_and_nobody_for_others() {
    both_ways(|new| {
        let nix = new();
        nix.expression(&format!(
            r#"{{ bad = drv "bad" "read x < {}/good && echo $x > $out" {{ }}; }}"#,
            nix.path("").display()
        ));
        // A retry through the plugin in the client. The daemon accepts the message without a warning.
        let ran = among_users(
            &nix,
            "NIX_CONFIG=$WITH; as games nix-build; as games nix-build --option negative-cache-retry true -v; \
         as games nix-build --option negative-cache-action warn; as games nix-build",
        );
        let ran = ran.does_not_say("ignoring").says_times("-bad.drv' failed with exit code", 3).says_times(REFUSED, 1);
        let ran = ran.says_times("warning:", 1).says("is built although it failed");
        assert_eq!(nix.runs("bad"), 3, "{ran}");
        // A retry through the companion program, without a plugin in the client. It counts once, and only for the user who asked.
        let ran = among_users(
            &nix,
            "drv=$(nix-instantiate); as games nix-build; as games $COMPANION retry $drv; as news nix-build; as games nix-build; \
         as games nix-build",
        );
        let ran = ran
            .says_times(REFUSED, 3)
            .prints(&format!("the next build of '{}' will be tried", nix.records()[0]["drvPath"].as_str().unwrap()));
        assert_eq!(nix.runs("bad"), 4, "{ran}");
        nix.write("good", "x\n");
        among_users(&nix, "as news $COMPANION retry $(nix-instantiate); as news nix-build")
            .exits(0)
            .does_not_say(REFUSED);
        assert!(nix.recorded().is_empty());
        among_users(&nix, "as news $COMPANION retry /nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x").exits(3);
    });
}

/// The daemon sees more than its client. What the daemon declines to record, the client does not record either.
#[test]
fn what_the_daemon_declines_is_not_recorded_by_the_client() {
    both_ways(|new| {
        let nix = new();
        nix.expression(r#"drv "bad" "exit 75" { }"#);
        let ran = among_users(
            &nix,
            "export NIX_CONFIG=$WITH'\nnegative-cache-transient-exit-codes ='; \
         as games nix-build -v; as games nix-build",
        );
        let ran = ran.says_times("is not recorded", 1).says("with exit code 75").does_not_say(REFUSED);
        assert_eq!((nix.runs("bad"), nix.recorded().len()), (2, 0), "{ran}");
        assert!(!exists(&nix.personal_database("games")), "{ran}");
    });
}

/// Only the daemon knows what its machine lacked, so a failure through it is doubtful. Another machine's is not.
#[test]
fn what_a_stock_daemon_built_is_doubtful() {
    both_ways(|new| {
        let nix = new();
        nix.expression(r#"{ bad = fail "bad"; }"#);
        let ran = among_users_of_a_stock_daemon(
        &nix,
        "NIX_CONFIG=$WITH; as games nix-build -v; as games $COMPANION list; as games nix-build; as games nix-build; true",
    )
    .says_times("is doubtful", 1)
    .says("only the daemon knows the disk, memory and limits of its builds")
    .says_times(REFUSED, 1)
    .prints_part("doubtful");
        assert_eq!(nix.runs("bad"), 2, "{ran}");
    });
}

/// A user who switched the plugin off leaves no record in a daemon that has it on, but lifts one by a success.
#[test]
fn off_leaves_no_record_in_the_daemon() {
    both_ways(|new| {
        let nix = new();
        nix.expression(&format!(
            r#"{{ bad = drv "bad" "read x < {}/good && echo $x > $out" {{ }}; }}"#,
            nix.path("").display()
        ));
        let off = "as games nix-build --option negative-cache false";
        let ran = among_users(&nix, &format!("NIX_CONFIG=$WITH; {off}; {off}; true"));
        let ran = ran.does_not_say(REFUSED).does_not_say("warning:");
        assert_eq!((nix.runs("bad"), nix.recorded().len()), (2, 0), "{ran}");
        among_users(&nix, "NIX_CONFIG=$WITH; as games nix-build; as games nix-build; true").says_times(REFUSED, 1);
        assert_eq!(nix.recorded(), ["bad"]);
        nix.write("good", "x\n");
        among_users(&nix, &format!("NIX_CONFIG=$WITH; {off}")).exits(0);
        assert!(nix.recorded().is_empty());
    });
}

/// If a user switches the plugin off, the daemon refuses nothing to this user either.
#[test]
fn switched_off_for_one_command() {
    both_ways(|new| {
        let nix = new();
        nix.expression(r#"{ bad = fail "bad"; }"#);
        let ran = among_users(
            &nix,
            "NIX_CONFIG=$WITH; as games nix-build; as games nix-build --option negative-cache false; \
         as games nix-build --store unix://$NIX_DAEMON_SOCKET_PATH --option negative-cache false; as games nix-build",
        );
        let ran = ran.says_times(REFUSED, 1).does_not_say("warning:");
        assert_eq!(nix.runs("bad"), 3, "{ran}");
    });
}

#[test]
fn a_retry_of_ones_own_record_needs_no_daemon() {
    both_ways(|new| {
        let nix = new();
        nix.expression(r#"{ bad = fail "bad"; }"#);
        let ran = among_users_of_a_stock_daemon(
        &nix,
        "NIX_CONFIG=$WITH; for i in 1 2 3; do as games nix-build; done; as games $COMPANION retry $(nix-instantiate); \
         as games nix-build; as games nix-build; as games $COMPANION forget --all; as games nix-build; true",
    )
    .exits(0)
    .says_times(REFUSED, 2);
        assert_eq!(nix.runs("bad"), 4, "{ran}");
    });
}

#[test]
fn a_success_lifts_what_a_client_knows() {
    both_ways(|new| {
        let nix = new();
        nix.expression(&format!(
            r#"{{ bad = drv "bad" "read x < {}/good && echo $x > $out" {{ }}; }}"#,
            nix.path("").display()
        ));
        let ran = among_users_of_a_stock_daemon(
        &nix,
        "NIX_CONFIG=$WITH; as games nix-build; echo > ../good; as games nix-build -v --option negative-cache-retry true; \
         as games $COMPANION list; as games $COMPANION list --all",
    )
    .exits(0);
        assert_eq!((nix.runs("bad"), ran.stdout.matches("-bad.drv").count()), (2, 1), "{ran}");
    });
}

#[test]
fn what_was_interrupted_or_killed_is_no_failure() {
    both_ways(|new| {
        let nix = new();
        nix.expression(
            r#"{ slow = drv "slow" "echo > ${runs}/started; sleep 100" { };
             killed = drv "killed" "kill -9 $$" { }; fetch = fetch "exit 1"; }"#,
        );
        let wait = "while [ ! -e ../runs/started ]; do sleep 0.05; done";
        let ran = among_users_of_a_stock_daemon(
            &nix,
            &format!(
                "NIX_CONFIG=$WITH; as games nix-build -A killed -A fetch -k; as games timeout -s INT 3 nix-build -A slow; \
             rm ../runs/started; (as games nix-build -A slow; true) & {wait}; kill -9 $(cat /proc/$daemon/task/$daemon/children); wait $!; true"
            ),
        );
        let ran = ran.exits(0);
        assert!(!exists(&nix.personal_database("games")), "{ran}");
    });
}

/// What Nix gives up because something else failed did not fail.
#[test]
fn what_was_given_up_is_not_judged() {
    let nix = Scratch::new();
    nix.expression(
        r#"{ first = fail "first"; slow = drv "slow" "echo > ${runs}/started; sleep 100" { };
             bad = drv "bad" "until [ -e ${runs}/started ]; do sleep 0.05; done; exit 3" { }; }"#,
    );
    let ran = among_users_of_a_stock_daemon(
        &nix,
        "NIX_CONFIG=$WITH; as games nix-build -A first; as games nix-build -v -j2 -A slow -A bad; as games $COMPANION stats --json",
    );
    let ran = ran.exits(0).says("-bad.drv' failed with exit code 3").does_not_say("-slow.drv' is not recorded");
    let counted: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (nix.runs("slow"), &counted["recorded"], &counted["notRecorded"]),
        (1, &2.into(), &serde_json::json!({})),
        "{ran}"
    );
}

#[test]
fn off_is_off_in_a_client() {
    both_ways(|new| {
        let nix = new();
        nix.expression(r#"{ bad = fail "bad"; }"#);
        let off = "NIX_CONFIG=$WITH; as games nix-build --option negative-cache false";
        let ran = among_users_of_a_stock_daemon(&nix, &format!("{off}; {off}; as games nix-build; {off}"));
        assert_eq!(nix.runs("bad"), 4, "{ran}");
    });
}

/// The store directory of the daemon is another one, so that it takes no message of the client's for a store path, and closes
/// the connection. What needs no store path works all the same.
#[test]
fn a_daemon_that_rejects_a_message_serves_all_the_same() {
    both_ways(|new| {
        let nix = new();
        let ask = "as games nix-store --gc --print-dead > /dev/null || echo failed";
        among_users_of_a_stock_daemon(
            &nix,
            &format!(
                "export NIX_STORE_DIR=/elsewhere; {ask}; echo stock; export NIX_CONFIG=$WITH; {ask}; \
             NIX_CONFIG=$WITH$'\\n'\"negative-cache-retry = true\"; {ask}; echo done"
            ),
        )
        .exits(0)
        .prints("stock\ndone")
        .does_not_say("warning:")
        .does_not_say("error:");
    });
}

/// `nix-store --serve` is asked to build a derivation that its store need not have, and passes that on to a daemon.
#[test]
fn what_a_stock_daemon_builds_for_others_is_learned() {
    both_ways(|new| {
        let nix = new();
        nix.expression(r#"fail "bad""#);
        let ask = "NIX_REMOTE= NIX_CONFIG=$ASKING nix-build --store $PWD/../asking --no-out-link -j0 \
               --builders \"ssh://localhost?remote-program=$PWD/../serve x86_64-linux - 1 1\"";
        let line = format!(
            "export WITH=$ASKING; printf '#!/bin/sh\nexport NIX_REMOTE=daemon NIX_CONFIG=\"$WITH\"; exec nix-store \"$@\"\n' > ../serve; \
         chmod +x ../serve; export ASKING='substituters ='; {ask}; {ask}; {ask}; true"
        );
        let ran =
            nix.run(&format!("export ASKING=$NIX_CONFIG NIX_CONFIG='substituters ='; {}", beside_a_daemon(&line)));
        let ran = ran.exits(0);
        assert_eq!(nix.runs("bad"), 2, "{ran}");
    });
}

/// The client's own settings are not the daemon's, which takes none of them from this user.
#[test]
fn the_program_answers_with_what_the_daemon_says() {
    both_ways(|new| {
        let nix = new();
        nix.expression(r#"{ bad = fail "bad"; top = needs "top" [ (fail "bad") ]; }"#);
        let ran = among_users(
            &nix,
            "drv=$(nix-instantiate -A bad 2> /dev/null); top=$(nix-instantiate -A top 2> /dev/null)
             NIX_CONFIG=$WITH$'\\n''filter-syscalls = false'; as games nix-build -A bad; as games nix-build -A bad
             as games $COMPANION explain $drv; as games $COMPANION check $drv; echo $?; as games $COMPANION list
             as games $COMPANION check --closure $top; echo $?; as games $COMPANION check $top; echo $?
             chmod 700 ../var/negative-cache; as games $COMPANION explain $drv; as games $COMPANION check $drv; echo $?
             as games $COMPANION check --json $drv; chmod 755 ../var/negative-cache; as games $COMPANION retry $drv
             as games $COMPANION check $drv; echo $?; as games $COMPANION forget --all
             nix-negative-cache() { :; }; $COMPANION forget --all; as games $COMPANION check $drv; echo $?",
        );
        let ran = ran.says_times(REFUSED, 1);
        let lines: Vec<&str> = ran.stdout.lines().collect();
        let has = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!(has("The daemon that builds believes it. Until when is not known here."), 1, "{ran}");
        assert_eq!(has("So it would be refused."), 1, "{ran}");
        assert_eq!(has("But the daemon that builds would refuse it. Why is not known here."), 1, "{ran}");
        assert_eq!(has("would be refused by the daemon that builds; why is not known here"), 1, "{ran}");
        assert_eq!(has("\"believed\": true"), 1, "{ran}");
        let statuses: Vec<&str> =
            lines.iter().copied().filter(|line| line.len() == 1 && *line != "[" && *line != "]").collect();
        assert_eq!(statuses, ["4", "4", "0", "4", "0", "0"], "{ran}");
    });
}

/// What a distribution starts: a daemon with build users and the sandbox, and users who name no store.
#[test]
fn as_distributions_set_it_up() {
    for stock in [false, true] {
        let nix = Scratch::new();
        nix.expression(
            r#"{ bad = drv "bad" "echo it is broken; id -u >> ${runs}/users; exit 3" { };
                 good = drv "good" "id -u >> ${runs}/users; echo > $out" { }; }"#,
        );
        let ran = as_a_distribution(
            &nix,
            stock,
            "NIX_CONFIG=$WITH; for i in 1 2 3; do as games nix-build -A bad; done; as games nix-build -A good
             as games $COMPANION check $(nix-instantiate -A bad 2> /dev/null); echo $?; as games $COMPANION list --json",
        );
        let refused = if stock { 1 } else { 2 };
        let ran = ran.exits(0).does_not_say("warning: ").says_times(REFUSED, refused).says("> it is broken");
        assert_eq!(nix.runs("bad"), 3 - refused, "{stock}: {ran}");
        // The builders ran as build users.
        let users = std::fs::read_to_string(nix.path("runs/users")).expect("the users");
        assert!(users.lines().count() == 4 - refused && !users.lines().any(|user| user == "0"), "{stock}: {users}");
        assert!(ran.stdout.contains("\n4\n[") && exists(&nix.database()) != stock, "{stock}: {ran}");
    }
}

/// Two derivations have the same output if they only differ in how a fetch that they need is made.
#[test]
fn a_failure_of_another_derivation_with_the_same_output_counts() {
    let nix = Scratch::new();
    nix.expression(
        r#"let bad = src: drv "bad" "echo it is broken; exit 3" { inherit src; };
           in { one = bad (fetch "true"); two = bad (fetch ":"); other = fail "other"; }"#,
    );
    let two = "two=$(nix-instantiate -A two 2> /dev/null)";
    let check = format!("{two}; $COMPANION check --json $two; echo $?");
    // Where this process builds.
    nix.run("nix-build --no-out-link -A one").exits(100);
    nix.run("nix-build --no-out-link -A two").exits(100).says(REFUSED);
    let checked = nix.run(&check).exits(0).prints_part("\n4\n");
    assert_eq!(checked.stdout.matches("\"drvPath\"").count(), 1, "{checked}");
    nix.run(&format!("{two}; $COMPANION explain $two")).exits(0).prints_part("So it would be refused.");
    // Where a daemon builds, whose database its users can see or not.
    let ran = among_users(
        &nix,
        &format!(
            "export NIX_CONFIG=$WITH; {two}; as games nix-build -A two
             as games $COMPANION check $two; echo $?
             chmod 700 ../var/negative-cache; as games $COMPANION check $two; echo $?
             as games $COMPANION check $(nix-instantiate -A other 2> /dev/null); echo $?"
        ),
    );
    let ran = ran.exits(0).says(REFUSED);
    assert_eq!(ran.stdout.matches("would be refused by the daemon").count(), 1, "{ran}");
    let statuses: Vec<&str> = ran.stdout.lines().filter(|line| line.len() == 1).collect();
    assert_eq!((statuses, nix.runs("bad")), (vec!["4", "4", "0"], 1), "{ran}");
}
