//! The matrix of causes: each makes a real build fail, and what is remembered of it is compared with what should be.
//! Causes that are in the builder are also played where another process builds: a stock daemon, or another machine.
//! Prints a table. A name, or a part of one, as argument runs only the rows that have it. In short, of the rows that only our
//! judge of logs or our comparison of environments decides, one in three is played.

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use nix_negative_cache_tests::{
    CLIENT, MACHINES, REFUSED, Ran, Scratch, beside_a_daemon, beside_a_stock_daemon, say_left_out, short,
};

/// What should become of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// It is recorded in this class, and refused the next time.
    Refused(&'static str),
    /// It is recorded in this class, but doubtful: it is built the next time, and refused if that fails in the same way.
    Doubtful(&'static str),
    /// It is not recorded, for a reason of this class, and built the next time.
    Built(&'static str),
    /// It is not recorded; Nix was gone before anybody could say why.
    Unseen,
}
use Expected::*;

/// What the first command sees, and the second one does not.
const CAUSE: &str = "cause";

struct Row {
    name: &'static str,
    expected: Expected,
    /// The derivation `x`, whose builder runs this where the cause is there, and succeeds otherwise.
    builder: &'static str,
    /// More attributes of `x`.
    attributes: &'static str,
    /// Lines of NIX_CONFIG.
    config: &'static str,
    /// The command that fails; `@` stands for `nix-build -v --no-out-link`, `DAEMON; ` for beside a daemon.
    command: &'static str,
    /// The exit status of Nix; the one of the refusal is the same.
    status: i32,
}

const ROW: Row =
    Row { name: "", expected: Unseen, builder: "exit 1", attributes: "{ }", config: "", command: "@", status: 100 };

const BUILD: &str = "nix-build -v --no-out-link";

/// A builder that takes signals for a reason to fail.
const TRAPS: &str = "trap 'exit 1' INT TERM HUP; echo $$ > pid; /bin/sleep 60 & wait";

/// What is judged by the exit code and the log of the builder, which is the same on every Nix.
fn judged_rows() -> Vec<Row> {
    vec![
        Row { name: "exit 1", expected: Refused("builder"), ..ROW },
        Row { name: "exit 127, no such command", expected: Refused("builder"), builder: "no-such-command", ..ROW },
        Row { name: "exit 75", expected: Built("transient"), builder: "exit 75", ..ROW },
        Row {
            name: "exit 75, but the setting is empty",
            expected: Refused("builder"),
            builder: "exit 75",
            config: "negative-cache-transient-exit-codes =",
            ..ROW
        },
        Row {
            name: "exit 76, and the setting has it",
            expected: Built("transient"),
            builder: "exit 76",
            config: "negative-cache-transient-exit-codes = 75 76",
            ..ROW
        },
        // ---- signals ----
        Row { name: "kill -9 of the builder", expected: Built("transient"), builder: "kill -9 $$", ..ROW },
        Row {
            name: "kill -9 of the builder by hand",
            expected: Built("transient"),
            builder: "echo $$ > pid; exec /bin/sleep 60",
            command: "{ until [ -s ../runs/pid ]; do sleep 0.05; done; kill -9 $(cat ../runs/pid); } & @",
            ..ROW
        },
        Row { name: "SIGTERM of the builder", expected: Built("transient"), builder: "kill $$; /bin/sleep 9", ..ROW },
        Row { name: "kill -9 of its child", expected: Built("transient"), builder: "/bin/sh -c 'kill -9 $$'", ..ROW },
        Row {
            name: "kill -9 of its child, exit 1",
            expected: Built("transient"),
            builder: "echo 'sleep 9 & kill -9 $!; wait $! || exit 1' > script; /bin/bash script",
            ..ROW
        },
        Row {
            name: "kill -9 of a child of make, exit 2",
            expected: Built("transient"),
            builder: r"printf 'all:\n\t@kill -9 $$$$; sleep 9\n' > Makefile; make",
            ..ROW
        },
        Row {
            name: "a compiler killed from outside (SIGKILL), exit 1",
            expected: Built("transient"),
            builder: "echo '/bin/sleep 60 & echo $! > pid; wait $! || { seq 60; exit 1; }' > script; /bin/bash script",
            command: "{ until [ -s ../runs/pid ]; do sleep 0.05; done; kill -KILL $(cat ../runs/pid); } & @",
            ..ROW
        },
        Row {
            name: "a compiler killed from outside (SIGTERM), exit 2",
            expected: Built("transient"),
            builder: r"printf 'all:\n\t@echo $$$$ > pid; exec /bin/sleep 60\n' > Makefile; make",
            command: "{ until [ -s ../runs/pid ]; do sleep 0.05; done; kill -TERM $(cat ../runs/pid); } & @",
            ..ROW
        },
        Row {
            name: "a crash of the program under test, exit 139",
            expected: Refused("builder"),
            builder: "/bin/sh -c 'kill -SEGV $$'; exit 139",
            ..ROW
        },
        Row { name: "exit 143", expected: Built("transient"), builder: "exit 143", ..ROW },
        Row {
            name: "a builder that goes on after a killed child",
            expected: Built("transient"),
            builder: "/bin/sh -c 'kill -9 $$'; seq 30; exit 1",
            ..ROW
        },
        // ---- shortages ----
        Row {
            name: "a full disk, seen by Nix",
            expected: Built("transient"),
            builder: "dd if=/dev/zero of=big bs=1M count=9",
            command: "unshare -m sh -c 'DISK=size=4m; BUILD_DISK; @'",
            status: 1,
            ..ROW
        },
        Row {
            name: "a full disk, in the log",
            expected: Built("transient"),
            builder: "dd if=/dev/zero of=$FOLDER/runs/small/big bs=1M count=9; rm $FOLDER/runs/small/big; exit 1",
            command: "unshare -m sh -c 'mkdir ../runs/small; mount -t tmpfs -o size=4m none ../runs/small; @'",
            ..ROW
        },
        Row {
            name: "no inodes left, nothing in the log",
            expected: Built("transient"),
            builder: "(cd $FOLDER/runs/small; touch $(seq 99)) 2> /dev/null; exit 1",
            command: "unshare -m sh -c 'DISK=size=64m,nr_inodes=50; BUILD_DISK; @'",
            ..ROW
        },
        Row {
            name: "a read-only file system",
            expected: Built("transient"),
            builder: "touch $FOLDER/runs/small/x || exit 1",
            command: "unshare -m sh -c 'mkdir ../runs/small; mount -t tmpfs -o ro none ../runs/small; @'",
            ..ROW
        },
        Row {
            name: "ulimit -v in the builder",
            expected: Built("transient"),
            builder: "ulimit -v 100000; head -c 300M /dev/zero | tail || exit 1",
            ..ROW
        },
        Row {
            name: "ulimit -n in the builder",
            expected: Built("transient"),
            builder: "echo 'ulimit -n 12; for i in 1 2 3 4; do exec {fd}< /dev/null || exit 1; done' > script; /bin/bash script",
            ..ROW
        },
        Row {
            name: "ulimit -f in the builder",
            expected: Built("transient"),
            builder: "ulimit -f 1; dd if=/dev/zero of=big bs=1M count=9 || exit 1",
            ..ROW
        },
        // ---- what the log says ----
        Row {
            name: "a full disk, in German, with much after it",
            expected: Built("transient"),
            builder: "echo \"cp: Fehler beim Schreiben von 'x': Auf dem Gerät ist kein Speicherplatz mehr verfügbar\"; seq 400; exit 1",
            ..ROW
        },
        Row {
            name: "a process that was killed, in Japanese and Spanish",
            expected: Built("transient"),
            builder: "echo 'make: *** [Makefile:1: x] 強制終了'; echo './x.sh: línea 4: 4711 Terminado (killed)      ./gen'; seq 9; exit 1",
            ..ROW
        },
        Row {
            name: "a heap that was too small, which comes again",
            expected: Doubtful("builder"),
            builder: "echo \"[$$] 12:00:01 java.lang.OutOfMemoryError: Java heap space\"; exit 1",
            ..ROW
        },
        Row {
            name: "a test that talks of memory, and another one that fails",
            expected: Doubtful("builder"),
            builder: "echo 'tool: out of memory'; for i in 1 2 3 4; do echo \"ok $i - case $i\"; done; echo 'not ok 5 - sorts'; exit 1",
            ..ROW
        },
        Row {
            name: "a compiler's own message about a killed variable",
            expected: Refused("builder"),
            builder: "echo \"a.c:6:7: error: variable 'killed' set but not used [-Werror]\"; exit 1",
            ..ROW
        },
        // ---- network ----
        Row {
            name: "a name that does not resolve",
            expected: Doubtful("builder"),
            builder: "echo '< /dev/tcp/no-such-host.invalid/80' > script; /bin/bash script || exit 1",
            ..ROW
        },
        Row {
            name: "a connection that is refused",
            expected: Doubtful("builder"),
            builder: "echo '< /dev/tcp/127.0.0.1/1' > script; /bin/bash script || exit 1",
            ..ROW
        },
        Row {
            name: "tests that print \"connection refused\"",
            expected: Refused("builder"),
            builder: "echo 'ok 1 - says: Connection refused'; echo 'PASS: connection refused'; \
                      echo 'E   ConnectionRefusedError: [Errno 111] Connection refused'; \
                      echo 'FAILED test.py::test - OSError: No space left on device'; exit 1",
            ..ROW
        },
    ]
}

/// What is judged by what Nix says of the build.
fn rows() -> Vec<Row> {
    let fetch = r#"{ outputHash = "6667b2d1aab6a00caa5aee5af8ad9f1465e567abf1c209d15727d57b3e8f6e5f"; outputHashAlgo = "sha256"; }"#;
    vec![
        // ---- limits ----
        // Long enough for the builder to start on a machine that is busy.
        Row {
            name: "timeout",
            expected: Built("timeout"),
            builder: "/bin/sleep 60",
            command: "@ --timeout 3",
            status: 101,
            ..ROW
        },
        Row {
            name: "timeout, which the setting wants",
            expected: Refused("timeout"),
            builder: "/bin/sleep 60",
            config: "negative-cache-timeouts = true\ntimeout = 3",
            status: 101,
            ..ROW
        },
        Row {
            name: "max-silent-time",
            expected: Built("silence"),
            builder: "/bin/sleep 60",
            command: "@ --max-silent-time 3",
            status: 101,
            ..ROW
        },
        Row {
            name: "max-silent-time, which the setting wants",
            expected: Refused("silence"),
            builder: "/bin/sleep 60",
            config: "negative-cache-timeouts = true\nmax-silent-time = 3",
            status: 101,
            ..ROW
        },
        Row {
            name: "max-build-log-size",
            expected: Built("limit"),
            builder: "while :; do echo much; done",
            command: "@ --option max-build-log-size 1000",
            status: 1,
            ..ROW
        },
        Row {
            name: "max-build-log-size, which the setting wants",
            expected: Refused("limit"),
            builder: "while :; do echo much; done",
            config: "negative-cache-timeouts = true\nmax-build-log-size = 1000",
            status: 1,
            ..ROW
        },
        Row {
            name: "timeout of a fetch, which the setting wants",
            expected: Built("transient"),
            builder: "/bin/sleep 60",
            attributes: fetch,
            config: "negative-cache-timeouts = true\nnegative-cache-fixed-output = true",
            command: "@ --timeout 3",
            status: 101,
        },
        Row {
            name: "timeout after a child was killed",
            expected: Built("transient"),
            builder: "echo 'sleep 9 & kill -9 $!; wait $!; sleep 60' > script; /bin/bash script",
            config: "negative-cache-timeouts = true",
            command: "@ --timeout 5",
            status: 101,
            ..ROW
        },
        // ---- fetches ----
        Row { name: "a fixed output", expected: Built("fetch"), attributes: fetch, status: 1, ..ROW },
        Row {
            name: "a fixed output, which the setting wants",
            expected: Refused("fetch"),
            attributes: fetch,
            config: "negative-cache-fixed-output = true",
            status: 1,
            ..ROW
        },
        Row {
            name: "a fixed output, wanted, killed",
            expected: Built("transient"),
            builder: "kill -9 $$",
            attributes: fetch,
            config: "negative-cache-fixed-output = true",
            status: 1,
            ..ROW
        },
        Row {
            name: "a hash mismatch",
            expected: Built("other"),
            builder: "echo other > $out; exit 0",
            attributes: fetch,
            config: "negative-cache-fixed-output = true",
            status: 102,
            ..ROW
        },
        // ---- outputs ----
        Row { name: "no output", expected: Refused("output"), builder: "exit 0", status: 1, ..ROW },
        Row {
            name: "a reference that is not allowed",
            expected: Refused("output"),
            builder: "echo $used > $out; exit 0",
            attributes: r#"rec { used = builtins.toFile "used" "text"; disallowedReferences = [ used ]; }"#,
            status: 1,
            ..ROW
        },
        Row {
            name: "an output that is too large",
            expected: Refused("output"),
            builder: r#"out=$(sed 's/.*"outputs":{"out":"\([^"]*\)".*/\1/' .attrs.json); seq 1000 > $out; exit 0"#,
            attributes: "{ __structuredAttrs = true; outputChecks.out.maxSize = 1000; }",
            status: 1,
            ..ROW
        },
        Row {
            name: "no output, and a child was killed",
            expected: Built("transient"),
            builder: "echo 'sleep 9 & kill -9 $!; wait $!' > script; /bin/bash script; exit 0",
            status: 1,
            ..ROW
        },
        // ---- not the builder's ----
        Row { name: "a pipe as output", expected: Built("other"), builder: "mkfifo $out; exit 0", status: 1, ..ROW },
        Row {
            name: "negativeCache = false",
            expected: Built("other"),
            attributes: "{ negativeCache = false; }",
            ..ROW
        },
        Row {
            name: "negativeCache = false, structured",
            expected: Built("other"),
            attributes: "{ negativeCache = false; __structuredAttrs = true; }",
            ..ROW
        },
        Row {
            name: "negativeCache = true",
            expected: Refused("builder"),
            attributes: "{ negativeCache = true; }",
            ..ROW
        },
        Row {
            name: "Nix interrupted (SIGINT)",
            builder: TRAPS,
            command: "set -m; @ & until [ -s ../runs/pid ]; do sleep 0.05; done; kill -INT -$!; wait $!",
            status: 1,
            ..ROW
        },
        Row {
            name: "Nix stopped (SIGTERM)",
            builder: TRAPS,
            command: "set -m; @ & until [ -s ../runs/pid ]; do sleep 0.05; done; kill -TERM -$!; wait $!",
            status: 1,
            ..ROW
        },
        Row {
            name: "Nix stopped, then the builder",
            builder: TRAPS,
            command: "set -m; @ & nix=$!; until [ -s ../runs/pid ]; do sleep 0.05; done; \
                      kill -INT $nix; kill $(cat ../runs/pid); wait $nix",
            status: 1,
            ..ROW
        },
        Row {
            name: "Nix killed (SIGKILL)",
            builder: TRAPS,
            command: "set -m; @ & until [ -s ../runs/pid ]; do sleep 0.05; done; kill -KILL -$!; wait $!",
            status: 137,
            ..ROW
        },
        Row {
            name: "the daemon stopped",
            builder: TRAPS,
            command: "DAEMON; (CLIENT; @) & client=$!; until [ -s ../runs/pid ]; do sleep 0.05; done; \
                      pkill -TERM -P $daemon; kill $daemon; wait $client",
            status: 1,
            ..ROW
        },
        Row {
            name: "the daemon stopped, then the builder",
            builder: TRAPS,
            command: "DAEMON; (CLIENT; @) & client=$!; until [ -s ../runs/pid ]; do sleep 0.05; done; \
                      pkill -TERM -P $daemon; kill $(cat ../runs/pid); kill $daemon; wait $client",
            status: 1,
            ..ROW
        },
        Row {
            name: "the client gone",
            builder: TRAPS,
            command: "DAEMON; (CLIENT; exec @) & client=$!; until [ -s ../runs/pid ]; do sleep 0.05; done; \
                      kill -KILL $client; sleep 1; ! wait $client",
            status: 0,
            ..ROW
        },
        Row {
            name: "a check",
            expected: Unseen,
            command: "rm ../runs/cause; @ && touch ../runs/cause; @ --check",
            status: 100,
            ..ROW
        },
    ]
}

/// The kernel counts the processes it kills for all that runs, so nothing may run beside these.
fn rows_alone() -> Vec<Row> {
    vec![
        Row {
            name: "out of memory in a control group",
            expected: Built("transient"),
            builder: "GROUP; head -c 300M /dev/zero | tail > /dev/null",
            ..ROW
        },
        Row {
            name: "a child out of memory, exit 1, nothing in the log",
            expected: Built("transient"),
            builder: "(GROUP; head -c 300M /dev/zero | tail > /dev/null) 2> /dev/null; seq 30; exit 1",
            ..ROW
        },
    ]
}

/// Has builds run on a disk of their own, made with the options `$DISK`: below `TMPDIR`, or since 2.30 in the state directory.
fn build_disk() -> &'static str {
    if Scratch::stock().nix_is_at_least(2, 30) {
        "mkdir -p ../var/builds; mount -t tmpfs -o mode=755,$DISK none ../var/builds"
    } else {
        "mkdir -p ../runs/small; mount -t tmpfs -o $DISK none ../runs/small; export TMPDIR=$(realpath ../runs)/small"
    }
}

/// What stands for longer commands in the rows.
fn in_full(command: &str) -> String {
    command
        .replace("FAILS_AND_SUCCEEDS", FAILS_AND_SUCCEEDS)
        .replace("CLIENT", CLIENT)
        .replace("BUILD_DISK", build_disk())
        .replace('@', BUILD)
}

/// Enters a control group of its own with little memory, whichever version of control groups there is.
const ENTER_GROUP: &str = "v1=/sys/fs/cgroup/memory/nnc-$$ v2=/sys/fs/cgroup/nnc-$$; \
    if mkdir $v1 2> /dev/null; then echo 30M > $v1/memory.limit_in_bytes; \
    { echo 30M > $v1/memory.memsw.limit_in_bytes; } 2> /dev/null; sh -c 'echo $PPID' > $v1/cgroup.procs; \
    else mkdir $v2; echo +memory > /sys/fs/cgroup/cgroup.subtree_control; echo 30M > $v2/memory.max; \
    { echo 0 > $v2/memory.swap.max; } 2> /dev/null; sh -c 'echo $PPID' > $v2/cgroup.procs; fi";

/// Removes the control groups that nobody is in any more.
fn remove_groups() {
    let folders = "/sys/fs/cgroup/memory/nnc-* /sys/fs/cgroup/nnc-*";
    Scratch::without_setting().run(&format!("rmdir {folders} 2> /dev/null"));
}

/// What some commands need of the machine: a part of them, and a command that shows whether it is there.
const NEEDS: [(&str, &str); 3] = [
    ("unshare -m", "unshare -m sh -c 'mkdir probe; mount -t tmpfs none probe'"),
    ("unshare -Ur", "unshare -Ur sh -c 'echo 0 > /proc/sys/user/max_mnt_namespaces'"),
    ("GROUP", "(set -e; GROUP)"),
];

/// Why a line can't be played on this machine.
fn missing(commands: &[&str]) -> Option<String> {
    let needed = NEEDS.iter().filter(|(part, _)| commands.iter().any(|command| command.contains(part)));
    let probe = |(_, probe): &(&str, &str)| {
        let ran = Scratch::without_setting().run(&probe.replace("GROUP", ENTER_GROUP));
        (ran.status != 0).then(|| ran.to_string())
    };
    needed.map(probe).find_map(|missing| missing)
}

/// An installation, and in it the derivation `x`, whose builder runs this while there is a cause, and succeeds otherwise.
fn set_up(config: &str, builder: &str, attributes: &str) -> Scratch {
    let mut nix = Scratch::new();
    for line in config.lines() {
        nix = nix.config(line);
    }
    let runs = nix.path("runs").display().to_string();
    // With structured attributes, there is no variable for it.
    let out = r#"[ -n "$out" ] || out=$(sed 's/.*"outputs":{"out":"\([^"]*\)".*/\1/' .attrs.json)"#;
    nix.write("runs/script", &format!("if [ -e {runs}/{CAUSE} ]; then {builder}\nexit; fi\n{out}\necho data > $out\n"));
    nix.expression(&format!(r#"drv "x" ". {runs}/script" ({attributes})"#));
    nix.write(&format!("runs/{CAUSE}"), "");
    nix
}

/// An installation for a row.
fn set_up_row(row: &Row) -> Scratch {
    let nix = set_up(row.config, &row.builder.replace("GROUP", ENTER_GROUP), row.attributes);
    let folder = nix.path("").display().to_string();
    let script = std::fs::read_to_string(nix.path("runs/script")).expect("the script");
    let script = script.replace("$FOLDER/", &folder).replace("> pid", &format!("> {folder}runs/pid"));
    nix.write("runs/script", &script);
    nix
}

fn play(row: &Row) {
    let nix = set_up_row(row);
    let command = in_full(row.command);
    let command = command.strip_prefix("DAEMON; ").map_or(command.clone(), beside_a_daemon);
    let first = nix.run(&command);
    assert_eq!(first.status, row.status, "the first build: {first}");
    let runs = nix.runs("x");
    assert!(runs >= 1, "the builder did not run: {first}");

    let records = nix.records();
    let classes: Vec<&str> = records.iter().filter_map(|record| record["class"].as_str()).collect();
    match row.expected {
        Refused(class) | Doubtful(class) => {
            assert_eq!(classes, [class], "recorded: {first}");
            let doubtful = matches!(row.expected, Doubtful(_));
            assert_eq!(records[0]["doubtful"], doubtful, "recorded: {first}");
            assert_eq!(first.stderr.contains("is doubtful, so it counts once"), doubtful, "said: {first}");
        }
        Built(class) => {
            assert!(classes.is_empty(), "recorded as {classes:?}: {first}");
            let reason = first.stderr.lines().find(|line| line.contains("is not recorded: "));
            assert!(reason.is_some_and(|line| line.contains(&format!("(class '{class}')"))), "the reason: {first}");
        }
        Unseen => assert!(classes.is_empty(), "recorded as {classes:?}: {first}"),
    }

    if let Doubtful(_) = row.expected {
        // The same once more, and a third time.
        let second = nix.run(&format!("{BUILD} 2>&1"));
        assert!(
            !second.stdout.contains(REFUSED) && nix.runs("x") > runs,
            "refused after one doubtful failure: {second}"
        );
        let runs = nix.runs("x");
        let third = nix.run(&format!("{BUILD} 2>&1"));
        assert!(third.stdout.contains(REFUSED), "not refused after two: {third}");
        assert_eq!((third.status, nix.runs("x")), (row.status, runs), "refused: {third}");
        // A success ends it.
        std::fs::remove_file(nix.path("runs").join(CAUSE)).expect("the cause");
        let succeeded = nix.run(&format!("{BUILD} --option negative-cache-retry true 2>&1"));
        assert_eq!(succeeded.status, 0, "built: {succeeded}");
        assert!(nix.records().is_empty(), "it is history: {succeeded}");
        return;
    }

    // The same once more, but what made it fail is gone.
    std::fs::remove_file(nix.path("runs").join(CAUSE)).expect("the cause");
    let ran = nix.run(&format!("{BUILD} 2>&1"));
    match row.expected {
        Refused(_) => {
            assert!(ran.stdout.contains(REFUSED), "not refused: {ran}");
            assert_eq!((ran.status, nix.runs("x")), (row.status, runs), "refused: {ran}");
        }
        Built(_) | Doubtful(_) | Unseen => {
            assert!(!ran.stdout.contains(REFUSED), "refused wrongly: {ran}");
            assert_eq!(ran.status, 0, "built: {ran}");
        }
    }
}

/// Where another process than the one with the plugin starts the builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A daemon without the plugin.
    StockDaemon,
    /// A machine by `ssh-ng`, and whether `sandbox` is on where the request is made.
    SshMachine(bool),
    /// A machine by `ssh`, the older protocol.
    LegacyMachine,
    /// A machine by the path of its store, and whether `sandbox` is on.
    PathMachine(bool),
}

const PLACES: [Place; 6] = [
    Place::StockDaemon,
    Place::SshMachine(true),
    Place::SshMachine(false),
    Place::LegacyMachine,
    Place::PathMachine(true),
    Place::PathMachine(false),
];

impl Place {
    fn name(self) -> &'static str {
        match self {
            Place::StockDaemon => "through a stock daemon",
            Place::SshMachine(true) => "on a machine by ssh-ng, sandbox on",
            Place::SshMachine(false) => "on a machine by ssh-ng, sandbox off",
            Place::LegacyMachine => "on a machine by ssh, sandbox on",
            Place::PathMachine(true) => "on a machine by path, sandbox on",
            Place::PathMachine(false) => "on a machine by path, sandbox off",
        }
    }

    /// What should become of a failure in this place that is to become `here` where the plugin itself starts the builder.
    fn expects(self, here: Expected) -> Expected {
        match (self, here) {
            // The limits are those of who builds.
            (_, Refused(class @ ("timeout" | "silence" | "limit"))) => Built(class),
            // Only the daemon sees what its machine lacks.
            (Place::StockDaemon, Refused(class)) => Doubtful(class),
            (_, here) => here,
        }
    }

    fn build(self, nix: &Scratch) -> Ran {
        self.run(nix, "@")
    }

    /// Runs the command of a row. What it mounts, the daemon and the machine see as well.
    fn run(self, nix: &Scratch, command: &str) -> Ran {
        let in_namespace = command.strip_prefix("unshare -m sh -c '").and_then(|inner| inner.strip_suffix('\''));
        let (mounts, command) = match in_namespace.and_then(|inner| inner.rsplit_once("; ")) {
            Some((mounts, command)) => (mounts, command),
            None => ("true", command),
        };
        let on = |builders: &str, sandbox: bool| {
            let build = format!(
                "{BUILD} -j0 --option sandbox {sandbox} --option sandbox-paths \"$SEEN\" --builders \"$BUILDERS\""
            );
            format!(
                "{MACHINES}\nmachine there; SEEN=$(seen_by_builders) BUILDERS=$({builders} there); {}",
                command.replace('@', &build)
            )
        };
        let line = match self {
            Place::StockDaemon => {
                let command = command.trim_start_matches("DAEMON; ").replace("CLIENT", "true").replace('@', BUILD);
                beside_a_stock_daemon(&format!("export NIX_REMOTE=daemon; {command}"))
            }
            Place::SshMachine(sandbox) => on("builders", sandbox),
            Place::LegacyMachine => on("legacy_builders", true),
            Place::PathMachine(sandbox) => on("by_path", sandbox),
        };
        nix.script("place", &format!("{}; {line}", mounts.replace("BUILD_DISK", &self.build_disk())));
        nix.run(if in_namespace.is_some() { "unshare -m ./place" } else { "./place" })
    }

    /// See [`build_disk`].
    fn build_disk(self) -> String {
        let machines = if self == Place::StockDaemon { "../var/builds" } else { "../there/nix/var/nix/builds" };
        build_disk().replace("../var/builds", machines)
    }

    /// Whether a row can be played here whose cause is in its command, or in what its builder does to the machine. Machines
    /// build in a sandbox, because their stores are not where they say. There, the builder is the first process, its own signals
    /// do not reach it, nobody outside knows its number, and it enters no control group.
    fn can_play(self, row: &Row) -> bool {
        let needs_no_sandbox = row.builder.starts_with("kill ")
            || row.builder.contains("GROUP")
            || row.command.contains("$(cat ../runs/pid)")
            || row.command.contains("DAEMON");
        // What a machine lacks only shows in what its builder and its Nix say. A machine that has an output does not build it for
        // a check. By `ssh-ng`, no limits are sent; tests/machines.rs has those of the machine itself.
        let is_impossible = row.name.contains("nothing in the log")
            || row.command.contains("--check")
            || (matches!(self, Place::SshMachine(_))
                && ["timeout", "max-silent-time", "max-build-log-size"]
                    .iter()
                    .any(|limit| row.name.starts_with(limit)));
        self == Place::StockDaemon || !(needs_no_sandbox || is_impossible)
    }
}

/// Whether the cause of a row is in its builder alone, so that it is the same wherever that runs, in a sandbox as well.
fn is_in_the_builder(row: &Row) -> bool {
    row.command == ROW.command
        && !row.builder.starts_with("kill ")
        && ["GROUP", "$FOLDER", "> pid"].iter().all(|part| !row.builder.contains(part))
}

fn play_in_place(row: &Row, place: Place) {
    let nix = set_up_row(row);
    let first = place.run(&nix, row.command);
    let runs = nix.runs("x");
    assert!((first.status != 0 || row.status == 0) && runs >= 1, "the builder did not run, or did not fail: {first}");
    let records = nix.records();
    let classes: Vec<&str> = records.iter().filter_map(|record| record["class"].as_str()).collect();
    let expected = place.expects(row.expected);
    match expected {
        Refused(class) | Doubtful(class) => {
            assert_eq!(classes, [class], "recorded: {first}");
            assert_eq!(records[0]["doubtful"], matches!(expected, Doubtful(_)), "recorded: {first}");
        }
        // What the builder does at the end of a daemon can look like any other failure, so it counts no more than that.
        Unseen if row.command.starts_with("DAEMON") => {
            assert!(records.iter().all(|record| record["doubtful"] == true), "recorded: {first}");
        }
        Built(_) | Unseen => assert!(classes.is_empty(), "recorded as {classes:?}: {first}"),
    }
    if matches!(expected, Doubtful(_)) && is_in_the_builder(row) {
        let second = place.build(&nix);
        assert!(nix.runs("x") > runs, "refused after one doubtful failure: {first}{second}");
        let runs = nix.runs("x");
        let third = place.build(&nix);
        assert!(third.stderr.contains(REFUSED) && nix.runs("x") == runs, "not refused after two: {second}{third}");
        return;
    }
    std::fs::remove_file(nix.path("runs").join(CAUSE)).expect("the cause");
    let second = place.build(&nix);
    if let Refused(_) = expected {
        assert!(second.stderr.contains(REFUSED) && nix.runs("x") == runs, "not refused: {first}{second}");
    } else {
        assert!(!second.stderr.contains(REFUSED) && second.status == 0, "refused wrongly: {first}{second}");
    }
}

/// What may change between two builds that both fail.
struct Change {
    name: &'static str,
    /// What is run before; `@` stands for `nix-build`.
    before: &'static str,
    /// How many days pass.
    days: i64,
    /// What is run then.
    after: &'static str,
    /// Whether that is refused.
    refused: bool,
    config: &'static str,
    builder: &'static str,
}

/// A setting that changes from one value to another.
macro_rules! option {
    ($setting:literal, $before:literal, $after:literal, $refused:expr) => {
        Change {
            name: concat!($setting, ": '", $before, "', then '", $after, "'"),
            before: concat!("@ --option ", $setting, " '", $before, "'"),
            after: concat!("@ --option ", $setting, " '", $after, "'"),
            refused: $refused,
            ..CHANGE
        }
    };
}

/// A record that is changed as if it had been made elsewhere, or at another time.
macro_rules! edited {
    ($name:literal, $sql:literal, $refused:expr) => {
        Change {
            name: $name,
            after: concat!("sqlite3 ../var/negative-cache/failures.sqlite \"", $sql, "\" && @"),
            refused: $refused,
            ..CHANGE
        }
    };
}

/// What makes a derivation flaky; its output is gone afterwards.
const FAILS_AND_SUCCEEDS: &str = "@; rm ../runs/cause; @ --option negative-cache-retry true; \
    nix-store --delete $(nix-store -q --outputs $(nix-instantiate)); touch ../runs/cause";

/// Where Nix falls back to building without a sandbox.
const NO_SANDBOX: &str = "unshare -Ur sh -c 'echo 0 > /proc/sys/user/max_mnt_namespaces; @ --option sandbox true'";

const CHANGE: Change =
    Change { name: "", before: "@", days: 0, after: "@", refused: true, config: "", builder: "exit 1" };

fn changes() -> Vec<Change> {
    let limits = "negative-cache-timeouts = true";
    let long = "/bin/sleep 6; exit 1";
    let timeout =
        |name, before, after, refused| Change { name, before, after, refused, config: limits, builder: long, ..CHANGE };
    // To the hard limit, for builders too (`bumpFileLimit`, shared.cc).
    let raises_soft_limit = Scratch::stock().nix_is_at_least(2, 34);
    let log = "i=0; while [ $i -lt 400 ]; do echo much; i=$((i+1)); done; exit 1";
    vec![
        Change { name: "nothing", ..CHANGE },
        // ---- settings ----
        option!("sandbox", "true", "false", false),
        option!("sandbox", "false", "true", false),
        option!("sandbox", "true", "true", true),
        option!("sandbox-fallback", "true", "false", false),
        option!("extra-sandbox-paths", "", "/usr", false),
        option!("sandbox-build-dir", "/build", "/other", false),
        option!("sandbox-dev-shm-size", "50%", "60%", false),
        option!("pre-build-hook", "", "/bin/true", false),
        option!("filter-syscalls", "true", "false", false),
        option!("filter-syscalls", "false", "true", true),
        option!("allow-new-privileges", "false", "true", false),
        option!("allow-new-privileges", "true", "false", true),
        option!("impersonate-linux-26", "false", "true", false),
        option!("cores", "1", "2", false),
        option!("cores", "2", "1", false),
        option!("system-features", "a", "a b", false),
        option!("system-features", "a b", "b", true),
        option!("extra-platforms", "", "pdp11-unix", false),
        option!("extra-platforms", "pdp11-unix vax-unix", "vax-unix", true),
        option!("builders", "", "ssh://nowhere.invalid pdp11-unix", false),
        option!("builders", "ssh://nowhere.invalid pdp11-unix", "", true),
        option!(
            "builders",
            "ssh://nowhere.invalid pdp11-unix",
            "ssh://nowhere.invalid pdp11-unix; ssh://there.invalid vax-unix",
            false
        ),
        option!("max-jobs", "1", "4", true),
        option!("log-lines", "1", "4", true),
        option!("timeout", "0", "100", true),
        option!("timeout", "100", "0", true),
        option!("max-build-log-size", "100000", "0", true),
        // ---- the machine ----
        Change { name: "ulimit -n raised", before: "ulimit -n 256; @", refused: false, ..CHANGE },
        Change { name: "ulimit -n lowered", after: "ulimit -n 256; @", ..CHANGE },
        Change { name: "ulimit -S raised", before: "ulimit -Sn 256; @", refused: raises_soft_limit, ..CHANGE },
        Change {
            name: "ulimit -n, soft raised and hard lowered",
            before: "ulimit -Sn 256; @",
            after: "ulimit -n 512; @",
            refused: raises_soft_limit,
            ..CHANGE
        },
        Change { name: "TMPDIR elsewhere", after: "mkdir ../t; TMPDIR=$PWD/../t @", ..CHANGE },
        Change {
            name: "builds are in memory",
            after: "unshare -m sh -c 'DISK=size=99m; BUILD_DISK; @'",
            refused: false,
            ..CHANGE
        },
        Change {
            name: "builds may run programs",
            before: "unshare -m sh -c 'DISK=noexec,size=99m; BUILD_DISK; @'",
            after: "unshare -m sh -c 'DISK=size=99m; BUILD_DISK; @'",
            refused: false,
            ..CHANGE
        },
        edited!("more memory", "UPDATE environment SET factors = json_set(factors, '$.memory', '256')", false),
        Change { name: "no sandbox can be made, as before", before: NO_SANDBOX, after: NO_SANDBOX, ..CHANGE },
        Change {
            name: "a sandbox can be made now",
            before: NO_SANDBOX,
            after: "@ --option sandbox true",
            refused: false,
            ..CHANGE
        },
        Change { name: "ulimit -f raised", before: "ulimit -f 1000000; @", refused: false, ..CHANGE },
        edited!("another kernel", "UPDATE environment SET factors = json_set(factors, '$.kernel', '2.4.0')", false),
        edited!("another Nix", "UPDATE environment SET factors = json_set(factors, '$.nix', '1.11')", false),
        edited!(
            "another group of build users",
            "UPDATE environment SET factors = json_set(factors, '$.build-users-group', 'nixbld')",
            false
        ),
        edited!("a record without environment", "UPDATE environment SET factors = '{}'", false),
        edited!("a factor of no interest", "UPDATE environment SET factors = json_set(factors, '$.x', 'y')", true),
        // ---- limits ----
        timeout("timeout, the same", "@ --timeout 1", "@ --timeout 1", true),
        timeout("timeout, longer", "@ --timeout 1", "@ --timeout 2", false),
        timeout("timeout, none", "@ --timeout 1", "@", false),
        timeout("timeout, shorter", "@ --timeout 2", "@ --timeout 1", true),
        timeout(
            "timeout, another limit longer",
            "@ --timeout 1 --max-silent-time 5",
            "@ --timeout 1 --max-silent-time 9",
            true,
        ),
        timeout("max-silent-time, longer", "@ --max-silent-time 1", "@ --max-silent-time 2", false),
        timeout("max-silent-time, shorter", "@ --max-silent-time 2", "@ --max-silent-time 1", true),
        Change {
            name: "max-build-log-size, larger",
            before: "@ --option max-build-log-size 1000",
            after: "@ --option max-build-log-size 1500",
            refused: false,
            config: limits,
            builder: log,
            ..CHANGE
        },
        Change {
            name: "max-build-log-size, smaller",
            before: "@ --option max-build-log-size 1500",
            after: "@ --option max-build-log-size 1000",
            config: limits,
            builder: log,
            ..CHANGE
        },
        Change {
            name: "timeouts not wanted any more",
            before: "@ --timeout 1",
            after: "@ --timeout 1 --option negative-cache-timeouts false",
            refused: false,
            config: limits,
            builder: long,
            ..CHANGE
        },
        // ---- time ----
        Change { name: "6 days later", days: 6, ..CHANGE },
        Change { name: "8 days later", days: 8, refused: false, ..CHANGE },
        Change {
            name: "13 days later, confirmed",
            before: "@; @ --option negative-cache-retry true",
            days: 13,
            ..CHANGE
        },
        Change {
            name: "15 days later, confirmed",
            before: "@; @ --option negative-cache-retry true",
            days: 15,
            refused: false,
            ..CHANGE
        },
        Change {
            name: "13 days later, confirmed, at most 10",
            before: "@; @ --option negative-cache-retry true",
            days: 13,
            config: "negative-cache-max-ttl = 864000",
            refused: false,
            ..CHANGE
        },
        Change { name: "1000 days later, believed for ever", days: 1000, config: "negative-cache-ttl = 0", ..CHANGE },
        Change {
            name: "2 s later, ttl 1",
            after: "sleep 2; @ --option negative-cache-ttl 1",
            refused: false,
            ..CHANGE
        },
        edited!("the clock a minute back", "UPDATE attempt SET time = time + 60000", true),
        Change { name: "the clock a year back", days: -365, refused: false, ..CHANGE },
        // ---- history ----
        Change { name: "once, of two", config: "negative-cache-min-failures = 2", refused: false, ..CHANGE },
        Change { name: "twice, of two", before: "@; @", config: "negative-cache-min-failures = 2", ..CHANGE },
        Change { name: "flaky, failed once", before: "FAILS_AND_SUCCEEDS; @", refused: false, ..CHANGE },
        Change { name: "flaky, failed twice", before: "FAILS_AND_SUCCEEDS; @; @", ..CHANGE },
        Change { name: "forgotten", after: "$COMPANION forget $(nix-instantiate); @", refused: false, ..CHANGE },
        Change {
            name: "negative-cache-retry",
            after: "@ --option negative-cache-retry true",
            refused: false,
            ..CHANGE
        },
        Change {
            name: "an older failure in this environment",
            before: "@; @ --option cores 1; @ --option sandbox true",
            ..CHANGE
        },
    ]
}

fn play_change(change: &Change) {
    let nix = set_up(change.config, change.builder, "{ }");
    let runs = nix.path("runs");
    let nix = nix.config(&format!("sandbox-paths = /bin/sh=/bin/bash-static {}", runs.display()));
    let nix = nix.config("cores = 2");
    let before = nix.run(&in_full(change.before));
    assert!(before.status != 0 && !before.stderr.contains(REFUSED), "before: {before}");
    assert_eq!(nix.recorded(), ["x"], "before: {before}");
    let ran_before = nix.runs("x");
    if change.days != 0 {
        nix.age(change.days);
    }
    let after = nix.run(&in_full(change.after));
    assert_eq!(after.stderr.contains(REFUSED), change.refused, "after: {before}\n{after}");
    assert_eq!(nix.runs("x") == ran_before, change.refused, "after: {before}\n{after}");
    if change.refused {
        assert_eq!(after.status, before.status, "the exit status: {after}");
    }
}

/// A line of the table, and what has to hold for it.
struct Line {
    name: String,
    /// Its commands.
    commands: Vec<&'static str>,
    class: &'static str,
    next: &'static str,
    play: Box<dyn Fn() + Send + Sync>,
}

impl Expected {
    /// The class, and what becomes of the next request.
    fn columns(self) -> (&'static str, &'static str) {
        match self {
            Refused(class) => (class, "refused"),
            Doubtful(class) => (class, "doubtful"),
            Built(class) => (class, "built"),
            Unseen => ("", "built"),
        }
    }
}

impl From<(Row, Place)> for Line {
    fn from((row, place): (Row, Place)) -> Line {
        let (class, next) = place.expects(row.expected).columns();
        Line {
            name: format!("{}: {}", place.name(), row.name),
            commands: vec![row.command, row.builder],
            class,
            next,
            play: Box::new(move || play_in_place(&row, place)),
        }
    }
}

impl From<Row> for Line {
    fn from(row: Row) -> Line {
        let (class, next) = row.expected.columns();
        Line {
            name: row.name.to_owned(),
            commands: vec![row.command, row.builder],
            class,
            next,
            play: Box::new(move || play(&row)),
        }
    }
}

impl From<Change> for Line {
    fn from(change: Change) -> Line {
        let next = if change.refused { "refused" } else { "built" };
        Line {
            name: change.name.to_owned(),
            commands: vec![change.before, change.after],
            class: "",
            next,
            play: Box::new(move || play_change(&change)),
        }
    }
}

/// What came of a line.
enum Outcome {
    AsExpected,
    /// It can't be played on this machine, for this reason.
    Impossible(String),
    Wrong(String),
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Outcome::AsExpected => "ok",
            Outcome::Impossible(_) => "not possible here",
            Outcome::Wrong(_) => "WRONG",
        }
    }
}

fn attempt(line: &Line) -> Outcome {
    let outcome = play_if_possible(line);
    if line.commands.iter().any(|command| command.contains("GROUP")) {
        remove_groups();
    }
    outcome
}

fn play_if_possible(line: &Line) -> Outcome {
    if let Some(why) = missing(&line.commands) {
        return Outcome::Impossible(why);
    }
    match panic::catch_unwind(AssertUnwindSafe(|| (line.play)())) {
        Ok(()) => Outcome::AsExpected,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            Outcome::Wrong(
                text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default(),
            )
        }
    }
}

/// All of these, or in short one in three, which has some of each section.
fn thinned<T: Into<Line>>(rows: Vec<T>) -> Vec<Line> {
    let (mut kept, mut left) = (Vec::new(), Vec::new());
    for (place, line) in rows.into_iter().map(Into::into).enumerate() {
        if short() && place % 3 != 0 { left.push(line) } else { kept.push(line) }
    }
    left.iter().for_each(|line: &Line| say_left_out(&line.name));
    kept
}

/// Plays lines beside each other.
fn attempt_all(lines: &[Line]) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, Outcome)>> = Mutex::default();
    let work = || {
        while let (place, Some(line)) = {
            let place = next.fetch_add(1, Ordering::Relaxed);
            (place, lines.get(place))
        } {
            let result = attempt(line);
            results.lock().expect("the results").push((place, result));
        }
    };
    // As many as other tests have.
    let threads = std::env::var("RUST_TEST_THREADS").ok().and_then(|number| number.parse().ok());
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, |number| number.get()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut results = results.into_inner().expect("the results");
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}

fn main() -> ExitCode {
    let filter: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let chosen = |line: &Line| filter.is_empty() || filter.iter().any(|part| line.name.contains(part.as_str()));
    let mut lines = thinned(judged_rows());
    lines.extend(rows().into_iter().map(Line::from));
    lines.extend(thinned(changes()));
    for place in PLACES {
        let rows = judged_rows().into_iter().filter(is_in_the_builder);
        lines.extend(thinned(rows.map(|row| (row, place)).collect()));
    }
    let mut alone = thinned(rows_alone());
    for place in [Place::StockDaemon, Place::SshMachine(true), Place::LegacyMachine, Place::PathMachine(true)] {
        let others = judged_rows().into_iter().filter(|row| !is_in_the_builder(row)).chain(rows());
        let rows = others.filter(|row| place.can_play(row));
        lines.extend(thinned(rows.map(|row| (row, place)).collect()));
        let rows = rows_alone().into_iter().filter(|row| place.can_play(row));
        alone.extend(thinned(rows.map(|row| (row, place)).collect()));
    }
    lines.retain(chosen);
    alone.retain(chosen);

    // Failures are in the table.
    panic::set_hook(Box::new(|_| ()));
    let mut results = attempt_all(&lines);
    results.extend(alone.iter().map(attempt));
    lines.extend(alone);

    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["CAUSE OR CHANGE", "CLASS", "NEXT TIME", ""]);
    for (line, result) in lines.iter().zip(&results) {
        table.add_row([line.name.as_str(), line.class, line.next, result.word()]);
    }
    let count = |matches: fn(&Outcome) -> bool, next: &str| {
        lines.iter().zip(&results).filter(|(line, result)| line.next.contains(next) && matches(result)).count()
    };
    let wrong = count(|result| matches!(result, Outcome::Wrong(_)), "");
    let refused = count(|result| matches!(result, Outcome::Wrong(_)), "built");
    let impossible = count(|result| matches!(result, Outcome::Impossible(_)), "");
    println!("\n{table}\n");
    // What is wrong comes last, where whoever sees only the end of the output finds it.
    for (line, result) in lines.iter().zip(&results) {
        if let Outcome::Wrong(why) | Outcome::Impossible(why) = result {
            println!("---- {}: {} ----\n{why}\n", line.name, result.word());
        }
    }
    println!(
        "{} lines, {wrong} wrong, {refused} of them where it must be built, {impossible} not possible here\n",
        lines.len()
    );
    // A filter may be meant for other tests.
    if wrong == 0 && (!lines.is_empty() || !filter.is_empty()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
