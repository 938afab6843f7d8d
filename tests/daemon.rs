//! The plugin in nix-daemon, for clients without the plugin, and in the processes that Nix starts to build on other machines.

use nix_negative_cache_tests::{
    CLIENT, REFUSED, Scratch, UNTIL_A_DAEMON_LISTENS, beside_a_daemon, exists, with_daemon,
};

#[test]
fn failures_of_all_clients_are_known_to_all() {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; top = needs "top" [ (fail "bad") (ok "sibling") ]; }"#);
    // The daemon forks a process for each connection, and each process opens the database.
    let ran = with_daemon(
        &nix,
        &format!(
            "{CLIENT}; nix-build -A bad; first=$?; nix-build -A bad; [ $? = $first ] && echo $first as for a real failure; \
             nix-build -A top; nix-build -k -A top; nix build -f . top"
        ),
    );
    let ran =
        ran.says_times("-bad.drv' failed with exit code 3", 1).says_times(REFUSED, 4).prints("1 as for a real failure");
    assert!(ran.status != 0, "{ran}");
    assert_eq!((nix.runs("bad"), nix.runs("top"), nix.runs("sibling")), (1, 0, 1), "{ran}");
    assert_eq!(nix.recorded(), ["bad"]);
}

#[test]
fn however_the_daemon_is_started() {
    let sockets = [
        "nix daemon --extra-experimental-features nix-command",
        // The daemon finds the socket open, as when systemd starts it.
        "systemd-socket-activate --listen=$PWD/../socket $(env | sed 's/=.*//; s/^/-E/' | grep '^-ENIX_\\|^-EHOME\\|^-ELD_\\|SAN_') \
         $(command -v nix-daemon)",
    ];
    for start in sockets {
        let nix = Scratch::new();
        nix.expression(r#"{ bad = fail "bad"; }"#);
        let ran = nix.run(&format!(
            "export NIX_DAEMON_SOCKET_PATH=$PWD/../socket; mkdir -p ../var ../store; {start} > ../daemon-log 2>&1 & daemon=$!; \
             trap 'kill $daemon; wait $daemon' EXIT; {UNTIL_A_DAEMON_LISTENS}; {CLIENT}; nix-build; nix-build; \
             export HOME=$PWD/../home-games; mkdir $HOME; chown games $HOME; chmod 755 ..; chmod 666 ../socket; cp $COMPANION ../companion; \
             as() {{ setpriv --reuid games --regid games --clear-groups \"$@\"; }}; \
             as ../companion retry $(nix-instantiate); nix-build; as nix-build --no-out-link"
        ));
        let log = std::fs::read_to_string(nix.path("daemon-log")).unwrap_or_default();
        // Only the user who asks for a retry gets one.
        let ran = ran.says_times(REFUSED, 2);
        assert_eq!((nix.runs("bad"), nix.recorded().len()), (2, 1), "{start}: {ran}{log}");
    }
}

#[test]
fn however_the_daemon_is_reached() {
    for (store, in_the_client) in [
        ("unix://$PWD/../socket", false),
        ("unix://$PWD/../socket", true),
        ("ssh-ng://localhost?remote-program=$PWD/../there", false),
        ("ssh-ng://localhost?remote-program=$PWD/../there", true),
    ] {
        let nix = Scratch::new();
        nix.expression(r#"{ bad = fail "bad"; ok = ok "ok"; }"#);
        let client = if in_the_client { "" } else { "export NIX_CONFIG='substituters ='; " };
        // The command that ssh would start on a machine with the plugin. It uses the store directly, without a daemon.
        let there = "unset NIX_REMOTE; export NIX_CONFIG=$THERE; exec nix-daemon \"$@\"";
        nix.script("../there", there);
        let build = format!("nix-build --store \"{store}\" --no-out-link -k");
        let ran = with_daemon(&nix, &format!("export THERE=$NIX_CONFIG; {client}{build}; {build}; {build} -A ok"));
        let ran = ran.exits(0).says_times(REFUSED, 1).says_times("-bad.drv' failed with exit code 3", 1);
        assert_eq!((nix.runs("bad"), nix.recorded().len()), (1, 1), "{store}: {ran}");
        // ssh does not pass keep-going on, and since about 2.29 Nix starts the next builder before it ends the run.
        assert!((1..=2).contains(&nix.runs("ok")), "{store}: {ran}");
    }
}

/// Clients that evaluate in another store ask what is missing before they copy the derivations to the daemon, so the daemon
/// does not know the derivations at that time.
#[test]
fn of_derivations_that_come_from_another_store() {
    let nix = Scratch::new();
    nix.expression(r#"rec { near = ok "near"; bad = drv "bad" "echo it is broken; exit 3" { inputs = [ near ]; }; }"#);
    let evaluating = "local?real=$PWD/../other/store&state=$PWD/../other/var&log=$PWD/../other/log";
    let build = format!("nix build --eval-store \"{evaluating}\" --no-link -f . bad");
    let forget = "nix-store --delete $PWD/../store/*-bad.drv $PWD/../store/*-near";
    let ran = with_daemon(&nix, &format!("{CLIENT}; {build}; {forget} || exit 99; {build}"));
    let ran = ran.says_times("-bad.drv' failed with exit code 3", 1).says_times(REFUSED, 1);
    assert_eq!((ran.status, nix.runs("bad"), nix.runs("near")), (1, 1, 1), "{ran}");
}

/// A builder machine gets the derivation without its dependencies (`Store::buildDerivation`).
#[test]
fn a_builder_machine_with_the_plugin_refuses() {
    for attributes in ["{ }", "floating"] {
        let nix = Scratch::new();
        nix.expression(&format!(
            r#"drv "bad" "read x < {}/good && echo $x > $out" {attributes}"#,
            nix.path("").display()
        ));
        // The builder machine is the daemon. The client has no plugin, and a store of its own; in one store, each would wait
        // for the other's lock.
        let ask = "NIX_CONFIG='substituters =' nix-build --store $PWD/../asking --no-out-link -j0 \
                   --builders \"unix://$PWD/../socket - - 1 1 ca-derivations\"";
        let ran = with_daemon(&nix, &format!("{ask}; {ask}"));
        assert!(ran.status != 0, "{ran}");
        let ran = ran.says(REFUSED);
        assert_eq!((nix.runs("bad"), nix.recorded()), (1, vec!["bad".to_owned()]), "{attributes}: {ran}");
        // A build without the plugin succeeds. The output is in the store then, so the derivation is not refused.
        nix.write("good", "x\n");
        nix.run("nix-build --option negative-cache false").exits(0);
        let ran = with_daemon(&nix, ask).exits(0);
        assert_eq!((nix.runs("bad"), nix.recorded().len()), (2, 1), "{attributes}: {ran}");
    }
}

/// A failure on another machine is recorded where the request was made, and also on that machine if it has the plugin.
#[test]
fn failures_of_other_machines_are_recorded_here() {
    for on_the_machine in [true, false] {
        let nix = Scratch::new();
        nix.expression(
            r#"{ bad = fail "bad"; top = needs "top" [ (fail "bad") ]; killed = drv "killed" "kill -9 $$" { };
                 ok = ok "ok"; }"#,
        );
        let machine = if on_the_machine { "" } else { "export NIX_CONFIG='substituters ='; " };
        let ask = |also: &str| {
            format!(
                "NIX_CONFIG=$ASKING nix-build --store $PWD/../asking --no-out-link -j0 {also} \
                 --builders \"unix://$PWD/../socket - - 1 1\""
            )
        };
        let list =
            "NIX_CONFIG=$ASKING $COMPANION list --json --database ../asking/nix/var/nix/negative-cache/failures.sqlite";
        let line = format!(
            "{}; {}; {}; {}; {}; {}; {list}",
            ask("-A bad"),
            ask("-A bad"),
            ask("-A top"),
            ask("-A killed"),
            ask("-A killed"),
            ask("-A ok")
        );
        let ran = nix.run(&format!("export ASKING=$NIX_CONFIG; {machine}{}", beside_a_daemon(&line))).exits(0);
        let ran = ran.says_times(REFUSED, 2).says("> it is broken");
        assert_eq!((nix.runs("bad"), nix.runs("killed"), nix.runs("ok")), (1, 2, 1), "{ran}");
        let records: serde_json::Value = serde_json::from_str(
            ran.stdout.split_once('[').map_or("", |(_, json)| &ran.stdout[ran.stdout.len() - json.len() - 1..]),
        )
        .unwrap();
        assert_eq!(records.as_array().unwrap().len(), 1, "{ran}");
        assert!(records[0]["host"].as_str().unwrap().starts_with("unix://"), "{ran}");
        assert_eq!((&records[0]["exitCode"], &records[0]["log"]), (&3.into(), &"it is broken\n".into()));
        let there: &[&str] = if on_the_machine { &["bad"] } else { &[] };
        assert_eq!(nix.recorded(), there, "{ran}");
        // The record says nothing about builds on this machine.
        let here = "NIX_CONFIG=$ASKING nix-build --store $PWD/../asking --no-out-link -A bad -v";
        let ran = nix.run(&format!("export ASKING=$NIX_CONFIG; {here}"));
        ran.does_not_say(REFUSED).says("it failed in another environment: ").says("machine was 'unix://");
    }
}

/// The build hook exits with 1 after every error, so its exit code says nothing about the builder.
#[test]
fn other_ends_on_another_machine() {
    let nix = Scratch::new();
    nix.expression(
        r#"{ missing = drv "missing" "true" { }; mismatch = fetch "echo other > $out; exit 0";
             gone = drv "gone" "echo $$ > @; exec sleep 60" { }; }"#
            .replace('@', &nix.path("pid").display().to_string())
            .as_str(),
    );
    let ask = "NIX_CONFIG=$ASKING nix-build --store $PWD/../asking --no-out-link -j0 \
               --builders \"unix://$PWD/../socket - - 1 1\"";
    let list =
        "NIX_CONFIG=$ASKING $COMPANION list --json --database ../asking/nix/var/nix/negative-cache/failures.sqlite";
    let line = format!(
        "{ask} -A missing; {ask} -A missing; {ask} -A mismatch --option negative-cache-fixed-output true; \
         {{ for i in $(seq 600); do [ ! -s ../pid ] || break; sleep 0.05; done; pkill -KILL -P $daemon; \
         kill -KILL $(cat ../pid); }} & \
         {ask} -A gone; {list}"
    );
    let ran = nix.run(&format!("export ASKING=$NIX_CONFIG NIX_CONFIG='substituters ='; {}", beside_a_daemon(&line)));
    let ran = ran.exits(0).says_times(REFUSED, 1);
    let records: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let recorded: Vec<_> = records.as_array().unwrap().iter().map(|it| (&it["name"], &it["class"])).collect();
    assert_eq!(recorded, [(&"missing".into(), &"output".into())], "{ran}");
}

/// The build hook does not know the command line of the Nix that started it, so the plugin does nothing in it.
#[test]
fn off_is_off_in_the_build_hook() {
    let nix = Scratch::without_setting();
    let plugin = nix.run("echo $PLUGIN").stdout;
    let conf = std::fs::read_to_string(nix.path("etc/nix.conf")).unwrap();
    nix.write("etc/nix.conf", &format!("{conf}plugin-files = {plugin}negative-cache = true\n"));
    nix.expression(r#"fail "bad""#);
    let build = "nix-build -j0 --builders \"$PWD/../machine\" --option negative-cache false";
    let ran = nix.run(&format!("unset NIX_CONFIG; {build}; {build}"));
    assert!(ran.status != 0, "{ran}");
    let ran = ran.does_not_say(REFUSED);
    assert!(!exists(&nix.path("machine/nix/var/nix/negative-cache")) && !exists(&nix.database()), "{ran}");
}

/// Only the command `daemon` serves others. Another command that has this word is told how its own user can retry.
#[test]
fn commands_with_the_word_daemon_are_no_daemons() {
    for options in ["", "--store daemon", "--keep-going --option cores 1 --store daemon"] {
        let nix = Scratch::new();
        nix.expression(r#"{ daemon = fail "bad"; }"#);
        let build = format!("nix --extra-experimental-features nix-command {options} build -f . daemon");
        let line = beside_a_daemon(&format!(
            "export NIX_REMOTE=daemon NIX_CONFIG=\"plugin-files = $PLUGIN\"$'\\n''negative-cache = true'; \
             for i in 1 2 3; do {build}; done"
        ));
        let ran = nix.run(&format!("export NIX_CONFIG='substituters ='; {line}"));
        ran.says_times(REFUSED, 1).says("--option negative-cache-retry true").does_not_say("nix-negative-cache retry");
    }
    for options in ["", "--extra-experimental-features nix-command", "--store local --quiet"] {
        let nix = Scratch::new();
        nix.expression(r#"{ bad = fail "bad"; }"#);
        let build = "export NIX_REMOTE=daemon NIX_CONFIG='substituters ='; nix-build -A bad; nix-build -A bad";
        let ran = nix.run(&beside_a_daemon(build).replace("nix-daemon >", &format!("nix {options} daemon >")));
        ran.says_times(REFUSED, 1).says("nix-negative-cache retry");
    }
}
