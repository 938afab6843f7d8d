//! The shim under the names of Nix's programs: Nix with the plugin's flags, and Nix unchanged without them.

use nix_negative_cache_tests::{Ran, Scratch, exists, left_out};

/// Puts the shim before Nix in PATH, and names the plugin that it loads. The configuration does not name one.
const SHIM: &str = r#"
    export NIX_NEGATIVE_CACHE_PLUGIN=$PLUGIN NIX_CONFIG='substituters ='
    NIX=$PATH; $COMPANION shim install ../shim > /dev/null; export PATH=$PWD/../shim:$PATH
"#;

fn with_shim(nix: &Scratch, line: &str) -> Ran {
    nix.run(&format!("{SHIM}\n{line}"))
}

/// A program that prints its name and arguments, in a folder that takes the place of Nix.
const FAKE: &str = r#"
    mkdir -p ../fake; cat > ../fake.c <<'END'
#include <stdio.h>
int main(int count, char ** arguments) {
    for (int i = 0; i < count; i++) { fputs(arguments[i], stdout); putchar(0); }
    return 42;
}
END
    gcc -o ../fake/nix ../fake.c; for name in nix-build nix-shell nix-store nix-env; do ln -sf nix ../fake/$name; done
    PATH=$PWD/../shim:$PWD/../fake:/usr/bin:/bin
"#;

fn with_fake(line: &str) -> Ran {
    let nix = Scratch::without_setting();
    // Each argument is shown in angle brackets.
    with_shim(&nix, &format!("{FAKE}\nset -o pipefail; shown() {{ sed 's/\\x00/>/g; s/[^>]*>/<&/g'; }}\n{line}"))
}

/// Flags on each of Nix's programs that build, after a failure was recorded.
#[test]
fn every_program_that_builds_takes_the_flags() {
    for build in [
        "nix build -f . FLAGS",
        "nix FLAGS build -f .",
        "nix-build FLAGS",
        "nix-build . FLAGS",
        "nix-shell shell.nix --run true FLAGS",
        "nix-store --add-root gc -r $(nix-instantiate --add-root drv) FLAGS",
        "nix-env -f . -i FLAGS bad",
    ] {
        let nix = Scratch::without_setting();
        nix.expression(r#"fail "bad""#);
        nix.write(
            "work/shell.nix",
            r#"with import ./lib.nix; drv "shell" "exit 1" { inputs = [ (fail "bad") ]; stdenv = "/x"; }"#,
        );
        let run = |flags: &str| with_shim(&nix, &build.replace("FLAGS", flags));
        let status = run("--negative-cache").does_not_say("not built again").status;
        assert!([1, 100].contains(&status), "{build}: {status}");
        assert_eq!(nix.runs("bad"), 1, "{build}");
        run("--negative-cache").exits(status).says("is not built again: it failed").does_not_say("warning");
        assert_eq!(nix.runs("bad"), 1, "{build}");
        run("--negative-cache --negative-cache-retry").does_not_say("not built again").does_not_say("warning");
        assert_eq!(nix.runs("bad"), 2, "{build}");
        run("--negative-cache --no-negative-cache").does_not_say("not built again").does_not_say("warning");
        assert_eq!(nix.runs("bad"), 3, "{build}");
        run("--negative-cache --negative-cache-action warn").says("is built although it failed").exits(status);
        assert_eq!(nix.runs("bad"), 4, "{build}");
        run("--negative-cache --negative-cache-min-failures 9").does_not_say("not built again");
        assert_eq!(nix.runs("bad"), 5, "{build}");
    }
}

#[test]
fn every_setting_has_a_flag() {
    let nix = Scratch::without_setting();
    let show = "nix show-config --json";
    let shown = with_shim(&nix, &format!("{show} --option negative-cache false")).exits(0);
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    let ours = shown.as_object().unwrap().iter().filter(|(name, _)| name.starts_with("negative-cache"));
    let ours: Vec<_> = ours.collect();
    assert!(ours.len() > 10, "{ours:?}");
    for (name, setting) in ours {
        let (flag, value) = match &setting["value"] {
            serde_json::Value::Bool(false) => (format!("--{name}"), serde_json::Value::from(true)),
            serde_json::Value::Number(_) => (format!("--{name} 77"), 77.into()),
            _ if name.ends_with("action") => (format!("--{name} warn"), "warn".into()),
            _ if name.ends_with("database") || name.ends_with("hook") => (format!("--{name} /d"), "/d".into()),
            _ if name.ends_with("keys") => {
                let key = format!("ci-1:{}=", "A".repeat(43));
                (format!("--{name} {key}"), key.into())
            }
            _ => (format!("--{name} 7"), "7".into()),
        };
        let changed = with_shim(&nix, &format!("{show} {flag}")).exits(0).does_not_say("unknown setting");
        let changed: serde_json::Value = serde_json::from_str(&changed.stdout).unwrap();
        assert_eq!(changed[name]["value"], value, "{flag}");
    }
    with_shim(&nix, "nix-build --negative-cache-ttl").exits(1).says("flag '--negative-cache-ttl' requires 1 argument");
    with_shim(&nix, "nix-build --negative-cache-ttl 7d").exits(1).says("'negative-cache-ttl' has invalid value '7d'");
    with_shim(&nix, "nix-build --negative-cache-trusted-public-keys ci-1").exits(1).says("'ci-1' is not a public key");
    with_shim(&nix, "nix-build --negative-cache-new").exits(1).says("unrecognised flag '--negative-cache-new'");
}

#[test]
fn flags_beat_the_configuration_and_the_configuration_alone_loads_the_plugin() {
    let nix = Scratch::without_setting();
    nix.expression(r#"fail "bad""#);
    nix.write("work/user.conf", "include other.conf\n");
    nix.write("work/other.conf", "negative-cache = true\n");
    for configured in
        ["NIX_CONFIG=\"$NIX_CONFIG\"$'\\nnegative-cache = true'", "export NIX_USER_CONF_FILES=$PWD/user.conf;"]
    {
        let runs = nix.runs("bad");
        // The build hook of newer versions of Nix is not told about loaded plugins, and warns about settings that it does not
        // know.
        with_shim(&nix, &format!("{configured} nix-build")).exits(100).does_not_say("not built again");
        with_shim(&nix, &format!("{configured} nix-build")).exits(100).says("not built again");
        with_shim(&nix, &format!("{configured} nix-build --no-negative-cache")).exits(100);
        with_shim(&nix, "$COMPANION forget --all").exits(0);
        assert_eq!(nix.runs("bad"), runs + 2, "{configured}");
    }
}

#[test]
fn a_plugin_that_the_configuration_loads_is_loaded_once() {
    let nix = Scratch::without_setting();
    nix.expression(r#"fail "bad""#);
    for configured in [
        "export NIX_CONFIG=\"$NIX_CONFIG\"$'\\nplugin-files = '$PLUGIN;",
        // The plugin has a name that does not show what it is.
        "ln -sf $PLUGIN ../other.so; export NIX_CONFIG=\"$NIX_CONFIG\"$'\\nplugin-files = '$PWD/../other.so;",
    ] {
        with_shim(&nix, &format!("{configured} nix-build --negative-cache")).exits(100).does_not_say("warning");
        with_shim(&nix, &format!("{configured} nix-build --negative-cache"))
            .exits(100)
            .says("not built again")
            .does_not_say("warning");
    }
    assert_eq!(nix.runs("bad"), 1);
}

/// Commands without a flag or setting of the plugin behave the same with and without the shim.
#[test]
fn everything_else_is_as_without_the_shim() {
    let nix = Scratch::without_setting();
    nix.expression(r#"{ ok = ok "ok"; bad = fail "bad"; }"#);
    nix.write("work/script", "#!/usr/bin/env nix-shell\n#! nix-shell -i bash -E \"(import ./lib.nix).ok \\\"x\\\"\"\n");
    // Both sides find the same store after this.
    nix.run("nix-build -A ok; nix-build -A bad");
    for line in [
        "nix",
        "nix --version",
        "nix --help | head -n 3",
        "nix-store --version",
        "nix-build --version",
        "nix-channel --list",
        "nix-hash --type sha256 --flat lib.nix",
        "nix-hash --nonsense",
        "nix-prefetch-url file://$PWD/lib.nix",
        "rm -f ../var/temproots/*; nix-collect-garbage --dry-run",
        "nix-copy-closure --nonsense",
        "nix-daemon --version",
        "nix-env -q",
        "nix-env --nonsense",
        "nix-instantiate --eval -E 'builtins.nixVersion'",
        "nix eval --expr '1 + 1'",
        "nix eval --expr 'throw \"x\"'",
        "nix build --no-link -f . ok",
        "nix build --nonsense",
        "nix nonsense",
        "nix __build-remote < /dev/null",
        "nix __nonsense",
        "nix-build -A ok",
        "nix-build -A bad",
        "nix-build -A none",
        "nix-store -q --references ./result",
        "nix-store --realise /nowhere",
        "nix-shell ./script 1 2",
        "echo '1 + 2' | nix repl",
        "nix-store --serve < /dev/null",
        "nix path-info --json ./result",
        "nix store ping",
        "nix-build -A ok --option cores 3 --out-link other -- ; ls -l other",
        "NIX_GET_COMPLETIONS=1 nix bui",
        "NIX_GET_COMPLETIONS=2 nix build --fil",
        "NIX_GET_COMPLETIONS=3 nix build -f ./de",
        "NIX_GET_COMPLETIONS=2 nix build ./l",
        "NIX_GET_COMPLETIONS=9 nix build 2> /dev/null",
        "bash -c 'nix 1>&-; echo $?'",
        "nix-shell --pure -p --run 'env | sort | grep -v ^TMP'",
        "nix shell -f . ok -c bash -c 'echo \"$@\"' x --negative-cache -- --no-negative-cache",
        "nix-instantiate --eval -E '{ x }: x' --argstr x --negative-cache",
        "nix-instantiate --eval --strict -E 'builtins.attrNames builtins'",
    ] {
        // Times, the names of temporary folders, and what Determinate Nix calls a process differ from run to run.
        let plain = "sed -E '/ Aborted /d; s/nix-(build|shell|[0-9]+)-[^ ]*//g; s/[0-9]+\\.[0-9]+ms//g; s/,\\\"sid\\\":\\\"[-0-9a-f]+\\\"//g'";
        let run = |path: &str| {
            with_shim(&nix, &format!("export PATH={path}; set -o pipefail; {{ {line}; }} 2> >({plain} >&2) | {plain}"))
        };
        let (stock, shim) = (run("$NIX"), run("$PATH"));
        assert_eq!((shim.status, &shim.stdout, &shim.stderr), (stock.status, &stock.stdout, &stock.stderr), "{line}");
    }
}

#[test]
fn arguments_pass_byte_for_byte() {
    if left_out() {
        return;
    }
    with_fake("nix $'\\xff\\xfe' '' ' ' $'a\\nb' '*' | od -An -c | tr -d ' \\n'; exit $?")
        .exits(42)
        .prints(r"nix\0377376\0\0\0a\nb\0*\0");
    with_fake("(exec -a /odd/nix-build $PWD/../shim/nix x) | shown").exits(42).prints("</odd/nix-build><x>");
    let with = |line: &str, words: &str| {
        let ran = with_fake(&format!("{line} | shown")).exits(42);
        let words = words.replace("PLUGIN", "--option><plugin-files><P");
        let shown = ran.stdout.trim().to_owned();
        // The path of the plugin depends on this build.
        let shown = match (shown.find("<plugin-files><"), shown.find("libnix_negative_cache.so>")) {
            (Some(start), Some(end)) => {
                format!("{}<plugin-files><P{}", &shown[..start], &shown[end + "libnix_negative_cache.so".len()..])
            }
            _ => shown,
        };
        assert_eq!(shown, words, "{line}");
    };
    with("nix run x -- --negative-cache", "<nix><run><x><--><--negative-cache>");
    with("nix develop -c x --negative-cache", "<nix><develop><-c><x><--negative-cache>");
    with(
        "nix build --negative-cache x -- --negative-cache",
        "<nix><PLUGIN><build><--option><negative-cache><true><x><--><--negative-cache>",
    );
    with("nix-shell --run --negative-cache", "<nix-shell><--run><--negative-cache>");
    with("nix --option plugin-files /x build", "<nix><--option><plugin-files></x><build>");
    with("nix --option negative-cache-retry true build", "<nix><PLUGIN><--option><negative-cache-retry><true><build>");
}

#[test]
fn other_plugins_stay() {
    let configured = "export NIX_CONFIG=$'plugin-files = /one.so\\nextra-plugin-files = /two.so'";
    let ran = with_fake(&format!("{configured}; nix build --negative-cache | shown")).exits(42);
    assert!(ran.stdout.starts_with("<nix><--option><plugin-files></one.so /two.so /"), "{ran}");
}

/// Nix reads the first lines of a script, and the arguments belong to the script.
#[test]
fn scripts_keep_their_arguments() {
    if left_out() {
        return;
    }
    with_fake("printf '#! /usr/bin/env nix-shell\n' > s; nix-shell ./s --negative-cache | shown")
        .prints("<nix-shell><./s><--negative-cache>");
    with_fake("printf '#! /usr/bin/env nix\n#! nix shell -c bash\n' > s; nix ./s --negative-cache | shown")
        .prints("<nix><./s><--negative-cache>");
    // This script only has the name of a command of Nix.
    with_fake("printf '#!/bin/sh\n' > build; nix build -- --negative-cache | shown")
        .prints("<nix><build><--><--negative-cache>");
}

#[test]
fn the_process_stays_the_same() {
    let slow = r#"drv "slow" "echo started; sleep 30" { }"#;
    for signal in ["TERM", "INT"] {
        let nix = Scratch::without_setting();
        nix.expression(slow);
        // In a shell without a terminal, background jobs ignore SIGINT.
        let ran = with_shim(
            &nix,
            &format!(
                r#"cat > run.py <<'END'
import os, signal, subprocess, sys, time
p = subprocess.Popen(["nix-build", "--negative-cache"])
while not os.path.exists("../runs/slow"): time.sleep(0.05)
print(os.readlink(f"/proc/{{p.pid}}/exe") != os.path.realpath(os.environ["COMPANION"]), flush=True)
p.send_signal(signal.SIG{signal})
print(p.wait())
END
python3 run.py"#
            ),
        );
        let plain = nix.run(&format!(
            r#"cat > run.py <<'END'
import os, signal, subprocess, time
os.path.exists("../runs/slow") and os.remove("../runs/slow")
p = subprocess.Popen(["nix-build"])
while not os.path.exists("../runs/slow"): time.sleep(0.05)
p.send_signal(signal.SIG{signal})
print(p.wait())
END
python3 run.py"#
        ));
        assert_eq!(ran.stdout.trim(), format!("True\n{}", plain.stdout.trim()), "{ran}\n{plain}");
    }
}

/// The shim passes on what Nix would pass on to the programs that it runs: ignored and blocked signals, closed files, and the
/// environment.
#[test]
fn nothing_of_the_shim_is_inherited() {
    if left_out() {
        return;
    }
    let look = r#"grep -E '^(SigBlk|SigIgn|ShdPnd)' /proc/self/status; env | sort"#;
    for setup in ["", "trap '' PIPE;", "trap '' INT;"] {
        let nix = Scratch::without_setting();
        let run = |path: &str| {
            with_shim(
                &nix,
                &format!(
                    "mkdir -p ../real; cat > ../real.c <<'END'\n#include <stdlib.h>\n#include <unistd.h>\nint main() {{ \
                     return execl(\"/bin/sh\", \"sh\", \"-c\", \"ls /proc/self/fd 2>/dev/null | wc -l; {look}\", NULL); }}\nEND\n\
                     gcc -o ../real/nix ../real.c; export PATH={path}; {setup} nix; bash -c 'nix 0<&- 2>&-'"
                ),
            )
        };
        let (plain, shim) = (run("$PWD/../real:/usr/bin:/bin"), run("$PWD/../shim:$PWD/../real:/usr/bin:/bin"));
        let without_path = |ran: &Ran| -> String {
            ran.stdout
                .lines()
                .filter(|line| !line.starts_with("PATH=") && !line.starts_with("_="))
                .map(|line| format!("{line}\n"))
                .collect()
        };
        assert!(plain.stdout.contains("SigIgn"), "{plain}");
        assert_eq!(without_path(&plain), without_path(&shim), "{setup}");
    }
}

#[test]
fn shims_never_call_each_other_for_ever() {
    if left_out() {
        return;
    }
    // These are copies, so the shim can't recognise them by being the same file.
    let copies = "for folder in a b; do mkdir -p ../$folder; cp $COMPANION ../$folder/nix; done; A=$PWD/../a B=$PWD/../b F=$PWD/../fake S=$PWD/../shim;";
    for (path, call) in [
        ("$A:$B:$F", "nix"),
        ("$A:$B:$A:$B:$F", "nix"),
        ("$A:$A:$S:$B:$F:$A", "nix"),
        ("$F:$A", "../a/nix"),
        ("$B:$A:$F", "../a/nix"),
        ("$A:$F", "../shim/nix"),
        ("../a:../fake", "nix"),
        (":$A::$F", "nix"),
        ("/nowhere:$F:$A", "$COMPANION run -- nix"),
        ("$F:$A", "$COMPANION run -- $PWD/../a/nix"),
    ] {
        let ran = with_fake(&format!("{copies} SHOWN=$(type -P sed); export PATH={path}; {call} x; exit $?"));
        assert_eq!(ran.status, 42, "{path}: {ran}");
    }
    // In these there is no Nix. If the usual folders have one, that one may run.
    for path in ["", "$A", "$A:$B", "$B:$A:$B", "/nowhere"] {
        let ran = with_fake(&format!("{copies} export PATH={path}; ../a/nix --version; exit $?"));
        assert!([0, 127].contains(&ran.status), "{path}: {ran}");
        assert!(ran.status == 0 || ran.stderr.contains("there is no 'nix' in PATH but this one"), "{ran}");
    }
    // Scripts that call the shim, with and without `exec`.
    for exec in ["exec", ""] {
        let ran = with_fake(&format!(
            "mkdir -p ../w; printf '#!/bin/bash\n{exec} %s/../shim/nix \"$@\"\n' $PWD > ../w/nix; chmod +x ../w/nix; \
             export PATH=$PWD/../w:$PWD/../fake:/usr/bin:/bin; nix x | shown"
        ));
        assert!(ran.status == 42 && ran.stdout.ends_with("nix><x>"), "{ran}");
    }
}

#[test]
fn a_folder_can_be_named() {
    if left_out() {
        return;
    }
    with_fake("PATH=$PWD/../shim:/usr/bin:/bin NIX_NEGATIVE_CACHE_NIX_BIN=$PWD/../fake nix x > /dev/null").exits(42);
    with_fake("NIX_NEGATIVE_CACHE_NIX_BIN=/nowhere nix x").exits(127).says("there is no 'nix' in '/nowhere'");
    with_fake("NIX_NEGATIVE_CACHE_NIX_BIN=$PWD/../shim nix x")
        .exits(127)
        .says("which NIX_NEGATIVE_CACHE_NIX_BIN names");
    // An installation that has a Nix of its own.
    with_fake(
        "mkdir -p ../lib/nix-negative-cache; ln -s $PWD/../fake ../lib/nix-negative-cache/nix-bin; \
        PATH=/usr/bin:/bin ../shim/nix x > /dev/null",
    )
    .exits(42);
}

#[test]
fn a_plugin_that_is_not_there_stops_nothing() {
    let nix = Scratch::without_setting();
    nix.expression(r#"ok "ok""#);
    let without = "export NIX_NEGATIVE_CACHE_PLUGIN=/nowhere.so;";
    with_shim(&nix, &format!("{without} nix-build")).exits(0).does_not_say("nix-negative-cache");
    with_shim(&nix, &format!("{without} nix-build --negative-cache --negative-cache-retry"))
        .exits(0)
        .says_times("nix-negative-cache: --negative-cache does nothing, as the plugin '/nowhere.so'", 1);
}

#[test]
fn flags_are_completed() {
    if left_out() {
        return;
    }
    let nix = Scratch::without_setting();
    let ran = with_shim(&nix, "NIX_GET_COMPLETIONS=2 nix build --negative-cache-t").exits(0);
    assert_eq!(
        ran.stdout,
        "normal\n--negative-cache-ttl\t\n--negative-cache-transient-exit-codes\t\n--negative-cache-timeouts\t\n\
         --negative-cache-trusted-public-keys\t\n--negative-cache-timeout\t\n"
    );
    let plain = nix.run("NIX_GET_COMPLETIONS=3 nix build -f ./de").stdout;
    let ran =
        with_shim(&nix, "NIX_GET_COMPLETIONS=6 nix build --negative-cache --negative-cache-ttl 3 -f ./de").exits(0);
    assert_eq!(ran.stdout, plain, "flags before are left out");
    with_shim(&nix, "NIX_GET_COMPLETIONS=3 nix build --negative-cache-ttl 3").exits(0).prints("normal");
    let ran = with_shim(&nix, "NIX_GET_COMPLETIONS=3 nix run -- --negative-cache-t");
    assert!(!ran.stdout.contains("ttl"), "{ran}");
    for complete in
        ["NIX_GET_COMPLETIONS=2 nix build --negative-cache-t", "NIX_GET_COMPLETIONS=3 nix build --negative-cache-ttl 3"]
    {
        let full = with_shim(&nix, &format!("{complete} > /dev/full")).exits(1).does_not_say("panicked");
        full.says("nix-negative-cache: cannot write the output: ");
        let closed = with_shim(&nix, &format!("{complete} | true; {complete} >&-; {complete} > /dev/full 2>&1; true"));
        closed.exits(0).does_not_say("panicked").does_not_say("cannot write");
    }
    // Standard error is nobody's problem.
    let missing = "nix build --negative-cache-ttl";
    with_shim(&nix, &format!("{missing} 2> /dev/full; echo $?; {missing} 2>&-; echo $?")).exits(0).prints("1\n1");
}

#[test]
fn run_needs_no_place_in_path() {
    let nix = Scratch::without_setting();
    nix.expression(r#"fail "bad""#);
    let run = |command: &str| with_shim(&nix, &format!("export PATH=$NIX; $COMPANION run -- {command}"));
    run("nix-build --negative-cache").exits(100).does_not_say("not built again");
    run("nix-build --negative-cache").exits(100).says("not built again");
    run("bash -c 'nix-build --negative-cache'").exits(100).says("not built again");
    assert!(exists(&nix.path("home/.cache/nix-negative-cache/bin/nix")));
    run("sh -c 'exit 7'").exits(7);
    run("no-such-program").exits(127).says("cannot run 'no-such-program'");
    nix.run("$COMPANION run").exits(2);
}

#[test]
fn links_are_made_and_removed() {
    if left_out() {
        return;
    }
    let nix = Scratch::without_setting();
    nix.run("$COMPANION shim install ../links && $COMPANION shim install ../links && ls ../links | wc -l")
        .exits(0)
        .says("");
    assert!(exists(&nix.path("links/nix-build")));
    nix.run("$COMPANION shim install ../links").exits(0).prints(&format!(
        "to use it, put this into your shell's profile:  export PATH=\"{}:$PATH\"",
        nix.path("work/../links").display()
    ));
    nix.run("PATH=$PWD/../links:$PATH; $COMPANION shim install $PWD/../links").exits(0);
    nix.run("touch ../links/mine; $COMPANION shim remove ../links; ls ../links").exits(0).prints("mine");
    nix.run("$COMPANION shim remove ../links").exits(3).says("there is no link of this program in '../links'");
    // A dangling link of the shim counts as its own as well.
    nix.run("ln -s /gone/nix-negative-cache ../links/nix; $COMPANION shim install ../links && ../links/nix --version")
        .exits(0);
    nix.run("$COMPANION shim remove ../links; rm ../links/mine; $COMPANION shim install ../links; $COMPANION shim remove ../links; ls ../links")
        .exits(2);
    for other in ["touch ../other/nix-store", "ln -s /usr/bin/nix ../other/nix-store", "mkdir ../other/nix-store"] {
        nix.run(&format!("rm -rf ../other; mkdir ../other; {other}; $COMPANION shim install ../other; ls ../other"))
            .prints("nix-store")
            .says("'../other/nix-store' is there and is no link to nix-negative-cache");
    }
    nix.run("touch file; $COMPANION shim install file").exits(1).says("cannot use the folder 'file'");
}

#[test]
fn every_command_has_a_man_page() {
    if left_out() {
        return;
    }
    let nix = Scratch::without_setting();
    nix.run("mkdir man; $COMPANION man man").exits(0);
    let commands = nix.run("$COMPANION --help").stdout;
    let commands: Vec<&str> = commands
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        // Further lines of the same description are left out.
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() > 9, "{commands:?}");
    for name in commands.iter().map(|name| format!("-{name}")).chain([String::new(), "-shim-install".to_owned()]) {
        let page = format!("man/nix-negative-cache{name}.1");
        let help = nix.run(&format!("$COMPANION {} --help", name.replace("shim-", "shim ").trim_start_matches('-')));
        let summary = help.stdout.lines().next().unwrap().split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        let shown = nix
            .run(&format!("groff -man -ww -Tascii -P-cbou {page} | tr -s ' \\n' ' '"))
            .exits(0)
            .does_not_say("warning");
        assert!(shown.stdout.contains(&summary), "{summary}\n{shown}");
    }
    nix.run("$COMPANION man /nowhere").exits(1).says("cannot write man pages to '/nowhere'");
}
