//! Builds on other machines: what fails there is the builder's failure only if the machine's own Nix says so.

use nix_negative_cache_tests::{MACHINES, REFUSED, Ran, Scratch};

/// The derivation `x`, whose builder runs `builder` while there is a file `cause`, and succeeds otherwise.
fn set_up(builder: &str) -> Scratch {
    let nix = Scratch::new();
    let runs = nix.path("runs").display().to_string();
    nix.write("runs/script", &format!("if [ -e {runs}/cause ]; then {builder}\nexit; fi\necho done > $out\n"));
    nix.write("runs/cause", "");
    nix.expression(&format!(r#"drv "x" ". {runs}/script" {{ }}"#));
    nix
}

/// Runs a line of shell beside a machine `there`.
fn beside_a_machine(nix: &Scratch, sandbox: bool, line: &str) -> Ran {
    nix.run(&format!("export NIX_CONFIG=\"$NIX_CONFIG\"$'\\n''sandbox = {sandbox}'; {MACHINES}\nmachine there; {line}"))
}

const BUILD: &str = "nix-build -v --no-out-link -j0 --builders";

#[test]
fn what_fails_there_is_known_here() {
    for builders in ["$(builders there)", "$(legacy_builders there)", "$(by_path there)"] {
        for sandbox in [true, false] {
            let nix = set_up("echo it is broken; exit 3");
            let build = format!("{BUILD} \"{builders}\" --option sandbox-paths \"$(seen_by_builders)\"");
            let ran = beside_a_machine(&nix, sandbox, &format!("{build}; {build}; true"));
            let ran = ran.says_times(REFUSED, 1).says("> it is broken").does_not_say("warning:");
            assert_eq!(nix.runs("x"), 1, "{builders} {sandbox}: {ran}");
            let records = nix.records();
            assert_eq!((&records[0]["exitCode"], &records[0]["doubtful"]), (&3.into(), &false.into()), "{ran}");
            // What is not known of that machine is not in the record. The store at a path is one of this computer.
            let environment = records[0]["history"][0]["failure"]["environment"].as_object().expect("an environment");
            let is_here = builders.contains("by_path");
            for factor in ["kernel", "memory", "cores", "namespaces", "limit-open-files", "sandbox", "nix"] {
                assert_eq!(environment.contains_key(factor), is_here, "{factor}: {environment:?}");
            }
            assert_eq!(environment["machine"].as_str().map(|machine| machine.contains("ssh")), Some(!is_here));
            assert_eq!(records[0]["nixVersion"], "unknown");
        }
    }
}

/// A machine or the way to it that fails while, or before, it builds.
struct Trouble {
    name: &'static str,
    /// A line of the machine's nix.conf.
    conf: &'static str,
    /// What is run in front of the machine's nix-daemon.
    before: &'static str,
    builder: &'static str,
}

/// Ends the daemon once the builder has started. A background job of a shell has no input of its own.
const DIES: &str = "\"$@\" <&0 & until [ -s RUNS/x ]; do sleep 0.05; done; kill -KILL $!\n";

/// Has Nix write its state and its logs to a small disk.
const SMALL: &str =
    "unshare -m sh -c 'mkdir -p \"$0\" && mount -t tmpfs -o size=3m none \"$0\" && exec \"$@\"' THERE/nix \"$@\"\n";

const TROUBLES: [Trouble; 8] = [
    Trouble { name: "the connection drops", conf: "", before: DIES, builder: "sleep 60" },
    Trouble { name: "it is down", conf: "", before: "exit 1", builder: "exit 1" },
    Trouble { name: "it builds nothing", conf: "max-jobs = 0", before: "", builder: "exit 1" },
    Trouble { name: "its time limit", conf: "timeout = 2", before: "", builder: "sleep 60" },
    Trouble { name: "its limit on silence", conf: "max-silent-time = 2", before: "", builder: "sleep 60" },
    Trouble {
        name: "its limit on logs",
        conf: "max-build-log-size = 1000",
        before: "",
        builder: "while :; do echo much; done",
    },
    Trouble {
        name: "its Nix has no space for the log",
        conf: "compress-build-log = false",
        before: SMALL,
        builder: "i=0; while [ $i -lt 99999 ]; do echo ....................................................................; i=$((i+1)); done; exit 1",
    },
    Trouble { name: "a child is killed", conf: "", before: "", builder: "exit 137" },
];

#[test]
fn trouble_with_a_machine_is_no_failure_of_the_builder() {
    for Trouble { name, conf, before, builder } in TROUBLES {
        for (builders, sandbox) in [("builders", true), ("builders", false), ("legacy_builders", true)] {
            // By the older protocol, the machine that asks sends its own limits; tests/causes.rs has those.
            let is_limit =
                ["timeout", "max-silent-time", "max-build-log-size"].iter().any(|limit| conf.starts_with(limit));
            if builders == "legacy_builders" && is_limit {
                continue;
            }
            let nix = set_up(builder);
            let (runs, there) = (nix.path("runs").display().to_string(), nix.path("there").display().to_string());
            nix.script("before", &before.replace("RUNS", &runs).replace("THERE", &there));
            let put = if before.is_empty() { "" } else { "echo $PWD/before > ../there/before; " };
            let build = format!("{BUILD} \"$({builders} there)\"");
            let ran = beside_a_machine(
                &nix,
                sandbox,
                &format!(
                    "{put}machine there '{conf}'; {build}; [ $? != 0 ] || echo first; $COMPANION list; \
                     machine there; rm -rf ../there/before ../runs/cause; {build} || echo second"
                ),
            );
            let ran = ran.exits(0).does_not_say(REFUSED);
            assert!(
                !ran.stdout.contains("first") && !ran.stdout.contains("second"),
                "{name} {builders} {sandbox}: {ran}"
            );
            assert!(!ran.stdout.contains("x.drv"), "recorded: {name} {builders} {sandbox}: {ran}");
            assert!(ran.stdout.contains("-x"), "built: {name} {builders} {sandbox}: {ran}");
        }
    }
}

/// A machine that asks another one reports how its build hook ended, in the words for a builder. A machine asks another one
/// only for clients that it does not trust, and up to 2.8 it does not even then.
#[test]
fn a_machine_that_asks_another_one() {
    for (builder, dies) in [("echo it is broken; exit 3", false), ("sleep 60", true)] {
        let nix = set_up(builder);
        let asks = nix.nix_is_at_least(2, 26);
        nix.script("before", &DIES.replace("RUNS", &nix.path("runs").display().to_string()));
        nix.script("untrusted", "exec \"$@\" --force-untrusted");
        let build = format!("{BUILD} \"$(builders there)\"");
        let ran = beside_a_machine(
            &nix,
            true,
            &format!(
                "machine further; machine there 'max-jobs = 0'$'\\n''experimental-features = daemon-trust-override'\
                 $'\\n'\"builders = $(builders further)\"; {}{}{build}; rm -f ../further/before ../runs/cause; {build}; true",
                if dies { "echo $PWD/before > ../further/before; " } else { "" },
                if asks { "echo $PWD/untrusted > ../there/before; " } else { "" },
            ),
        );
        let ran = ran.says_times(REFUSED, usize::from(asks && !dies));
        let recorded: Vec<_> = nix.records().iter().map(|record| record["exitCode"].clone()).collect();
        assert_eq!(recorded, if asks && !dies { vec![3] } else { vec![] }, "{ran}");
        let runs = if dies { 2 } else { 1 };
        assert_eq!(nix.runs("x"), if asks { runs } else { 0 }, "{ran}");
    }
}
