//! The program that hears of failures (`negative-cache-hook`): what it gets, that nobody waits for it, and whose it is.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix_negative_cache_tests::{REFUSED, Scratch, among_users, among_users_of_a_stock_daemon, exists, left_out, short};
use serde_json::Value;

/// How Nix says that a hook was not started.
const NOT_STARTED: &str = "is not started: ";

/// A hook that has heard of a failure keeps what it was told in a file of its own below `told`.
const TELL: &str = "cat > $told/.$$ && mv $told/.$$ $told/$$";

/// With this hook, which knows the folder `told`.
fn with_hook(script: &str) -> Scratch {
    let nix = Scratch::new();
    let told = nix.path("told");
    fs::create_dir(&told).unwrap();
    fs::set_permissions(&told, fs::Permissions::from_mode(0o777)).unwrap();
    nix.script("hook", &format!("told={}\n{script}", told.display()));
    let line = format!("negative-cache-hook = {}", nix.path("work/hook").display());
    nix.config(&line)
}

/// The files that hooks have left, once there are so many. There is none more after that.
#[track_caller]
fn told(nix: &Scratch, count: usize) -> Vec<String> {
    let files = || {
        let entries = fs::read_dir(nix.path("told")).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> =
            entries.filter(|path| !path.file_name().unwrap().as_encoded_bytes().starts_with(b".")).collect();
        files.sort_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
        files.iter().map(|path| fs::read_to_string(path).unwrap()).collect::<Vec<_>>()
    };
    let start = Instant::now();
    while files().len() < count && start.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(if short() { 100 } else { 300 }));
    let files = files();
    assert_eq!(files.len(), count, "{files:?}");
    files
}

fn json(text: &str) -> Value {
    assert!(text.ends_with("}\n") && text.lines().count() == 1, "{text}");
    serde_json::from_str(text).unwrap()
}

/// What hooks have become that have left their ids. Whatever is left of it ends with the test, also if that fails.
struct Lasting<'a>(&'a Scratch);

impl Lasting<'_> {
    /// Ends all of it, which is still there.
    fn end(&self) {
        self.0.run("kill $(cat ../told/*) && rm ../told/*").exits(0);
    }
}

impl Drop for Lasting<'_> {
    fn drop(&mut self) {
        // A panic here would hide why the test fails.
        let files = fs::read_dir(self.0.path("told")).into_iter().flatten().flatten();
        for id in files.filter_map(|file| fs::read_to_string(file.path()).ok()) {
            let _ = Command::new("kill").arg(id.trim()).status();
        }
    }
}

#[test]
fn a_recorded_failure_starts_the_hook_with_its_record() {
    let nix = with_hook(TELL);
    nix.expression(
        r#"{ bad = fail "bad"; ok = ok "ok"; passing = drv "passing" "kill -9 $$" { };
             flaky = drv "flaky" "[ ! -e ${runs}/mended ] || { echo > $out; exit; }; exit 1" { }; }"#,
    );
    nix.run("nix-build -A bad -v").exits(100).does_not_say(NOT_STARTED);
    let shown = nix.run("$COMPANION show --json $(nix-instantiate -A bad)").exits(0);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(json(&told(&nix, 1)[0]), shown[0]);
    assert_eq!(
        (&shown[0]["name"], &shown[0]["exitCode"], &shown[0]["log"]),
        (&"bad".into(), &3.into(), &"it is broken\n".into())
    );
    // Refusals, successes and failures that are not recorded are no news.
    nix.run("nix-build -A bad").exits(100).says(REFUSED);
    nix.run("nix-build -A ok").exits(0);
    nix.run("nix-build -A passing").exits(100);
    told(&nix, 1);
    nix.run("nix-build -A bad --option negative-cache-retry true").exits(100);
    assert_eq!(json(&told(&nix, 2)[1])["attempts"], 2);
    nix.run("nix-build -A flaky").exits(100);
    nix.run("touch ../runs/mended; nix-build -A flaky --option negative-cache-retry true").exits(0);
    assert_eq!(json(&told(&nix, 3)[2])["name"], "flaky");
    nix.run("nix-build -A bad --option negative-cache-retry true --option negative-cache-hook ''").exits(100);
    told(&nix, 3);
    // An earlier Nix gives the plugin what comes before the first file on the command line.
    nix.run("nix-build . -A bad --option negative-cache-retry true --option negative-cache-hook ''").exits(100);
    told(&nix, 3);
}

/// The hook also never reads what it is told.
#[test]
fn nobody_waits_for_a_hook() {
    let nix = with_hook("echo $$ > $told/$$; exec sleep 60");
    let hooks = Lasting(&nix);
    nix.expression(r#"{ bad = fail "bad"; other = fail "other"; }"#);
    let start = Instant::now();
    // The pipes of the test are closed, or the command would not have ended.
    nix.run("nix-build -A bad").exits(100).does_not_say(NOT_STARTED);
    let pid = told(&nix, 1)[0].trim().to_owned();
    assert!(start.elapsed() < Duration::from_secs(40));
    nix.run(&format!("ps -o stat=,args= -p {pid}")).exits(0).prints_part("sleep 60");
    // Nix would wait for the locks of the outputs.
    nix.run("for lock in ../store/*.lock; do [ ! -e $lock ] || flock -n $lock true || echo $lock; done")
        .exits(0)
        .prints("");
    nix.run("timeout 50 nix-build -k --option negative-cache-retry true")
        .exits(100)
        .says_times("failed with exit code 3", 2);
    told(&nix, 3);
    hooks.end();
}

#[test]
fn a_hook_gets_nothing_of_the_process_that_starts_it() {
    let nix = with_hook(
        "streams=$(readlink /proc/$$/fd/1 /proc/$$/fd/2); { ls -l /proc/self/fd; echo; pwd; echo \"$streams\"; echo; env; echo; grep -E '^Sig(Blk|Ign)' /proc/self/status; \
         echo; ps -o tty=,ppid= -p $$; ps -o args= -p $PPID; } > $told/.fds; mv $told/.fds $told/fds",
    );
    nix.expression(r#"fail "bad""#);
    // Some descriptors that nobody wants to be closed on exec, and signals that are ignored.
    nix.run_with(
        "exec 9< /dev/null 17> ../kept; trap '' PIPE USR1; nix-build",
        &[("SECRET", "x"), ("LD_BIND_NOW", "1")],
    )
    .exits(100);
    let told = told(&nix, 1).remove(0);
    let [descriptors, streams, environment, signals, process] = told.split("\n\n").collect::<Vec<_>>()[..] else {
        panic!("{told}")
    };
    let numbers: Vec<&str> =
        descriptors.lines().filter_map(|line| line.split(" -> ").next()?.rsplit(' ').next()).collect();
    // The last one is the folder itself, which `ls` reads.
    assert_eq!(numbers[1..], ["0", "1", "2", "3"], "{told}");
    assert!(
        descriptors.contains("0 -> /memfd:negative-cache-hook (deleted)") && descriptors.contains("2 -> /dev/null"),
        "{told}"
    );
    assert_eq!(streams, "/\n/dev/null\n/dev/null", "{told}");
    let variables: Vec<&str> = environment.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert!(
        ["PATH", "HOME", "NIX_STORE_DIR", "NIX_NEGATIVE_CACHE_HOOK"].iter().all(|name| variables.contains(name)),
        "{told}"
    );
    assert!(["SECRET", "LD_BIND_NOW", "NIX_CONFIG"].iter().all(|name| !variables.contains(name)), "{told}");
    assert!(signals.lines().all(|line| line.ends_with("\t0000000000000000")) && signals.lines().count() == 2, "{told}");
    assert!(process.starts_with('?') && !process.contains("nix"), "{told}");
}

#[test]
fn a_hook_that_can_not_be_started_is_one_warning() {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; other = fail "other"; }"#);
    nix.write("work/text", "no program");
    nix.run(
        "printf '#!/nowhere/sh' > interpreter; printf '\\1\\2' > garbage; chmod 755 interpreter garbage; mkdir folder",
    )
    .exits(0);
    symlink("circle", nix.path("work/circle")).unwrap();
    for (hook, why) in [
        ("nowhere", "No such file or directory"),
        ("nowhere/hook", "No such file or directory"),
        ("text", "Permission denied"),
        ("text/hook", "Not a directory"),
        ("folder", "Permission denied"),
        ("interpreter", "No such file or directory"),
        ("garbage", "Exec format error"),
        ("circle", "Too many levels of symbolic links"),
    ] {
        let path = nix.path("work").join(hook);
        let build =
            format!("nix-build -k --option negative-cache-retry true --option negative-cache-hook {}", path.display());
        let ran = nix.run(&build).exits(100).says_times("failed with exit code 3", 2);
        let ran = ran.says_times(&format!("warning: the hook '{}' {NOT_STARTED}{why}", path.display()), 1);
        ran.says_times("warning", 1);
        nix.run("nix-build -A bad").exits(100).says(REFUSED);
    }
}

#[test]
fn so_many_hooks_run_at_once_and_no_more() {
    if left_out() {
        return;
    }
    let nix = with_hook("echo $$ > $told/$$; exec sleep 100");
    let hooks = Lasting(&nix);
    nix.expression(r#"map (number: fail "bad-${toString number}") (builtins.genList (number: number) 70)"#);
    let ran = nix.run("nix-build -k --no-out-link").exits(100).says_times("warning", 1);
    ran.says(&format!("{NOT_STARTED}64 that this process has started are still running"));
    told(&nix, 64);
    assert_eq!(nix.recorded().len(), 70);
    hooks.end();
}

/// A hook that builds something would start hooks for the failures of that.
#[test]
fn a_hook_starts_no_hooks() {
    let nix = with_hook(&format!(
        "{TELL}\ncd $NIX_STATE_DIR/../work; nix-build -A other > $told/.out 2>&1; mv $told/.out $told/out"
    ));
    let config = format!("{}\nnegative-cache = true\n", fs::read_to_string(nix.path("etc/nix.conf")).unwrap());
    let hook = nix.path("work/hook");
    nix.write(
        "etc/nix.conf",
        &format!(
            "{config}plugin-files = {}\nnegative-cache-hook = {}\n",
            std::env::var("NNC_PLUGIN").unwrap(),
            hook.display()
        ),
    );
    nix.expression(r#"{ bad = fail "bad"; other = fail "other"; }"#);
    nix.run("nix-build -A bad").exits(100);
    let told = told(&nix, 2);
    assert!(told[1].contains("failed with exit code 3"), "{told:?}");
    assert_eq!(nix.recorded(), ["bad", "other"]);
}

/// The hook of a client is for the failures that the client itself records: those of a daemon that knows nothing of the plugin.
#[test]
fn the_hook_of_a_daemon_is_its_own() {
    // The daemon's hook is that of the configuration of the test.
    let nix = with_hook("{ id -u; cat; } > $told/.$$; mv $told/.$$ $told/$$");
    nix.expression(r#"{ bad = fail "bad"; }"#);
    nix.script(
        "theirs",
        &format!("{{ id -u; cat; }} > {0}/.theirs; mv {0}/.theirs {0}/theirs", nix.path("told").display()),
    );
    let build = "hook=\"negative-cache-hook = $PWD/theirs\"; NIX_CONFIG=$WITH$'\\n'$hook as games nix-build -A bad \
                 --option negative-cache-hook $PWD/theirs";
    among_users(&nix, &format!("{build}; {build}")).says(REFUSED).does_not_say(NOT_STARTED);
    assert_eq!(nix.runs("bad"), 1);
    let heard = told(&nix, 1);
    let (user, record) = heard[0].split_once('\n').unwrap();
    assert_eq!((user, &json(record)["name"]), ("0", &"bad".into()));
    assert!(!exists(&nix.path("told/theirs")));

    let nix = with_hook(TELL);
    nix.expression(r#"{ bad = fail "bad"; }"#);
    nix.script(
        "theirs",
        &format!("{{ id -u; cat; }} > {0}/.theirs; mv {0}/.theirs {0}/theirs", nix.path("told").display()),
    );
    among_users_of_a_stock_daemon(&nix, build).says("failed with exit code 3").does_not_say(NOT_STARTED);
    let heard = told(&nix, 1);
    let (user, record) = heard[0].split_once('\n').unwrap();
    assert_eq!((user, &json(record)["name"]), ("5", &"bad".into()));
}

/// The folders of the test belong to root, and so does the folder of all temporary files, which has the sticky bit.
#[test]
fn root_starts_no_hook_that_others_can_change() {
    let nix = with_hook(TELL);
    nix.expression(r#"fail "bad""#);
    let build = |hook: &Path| {
        let path = hook.display();
        nix.run(&format!("nix-build --option negative-cache-retry true --option negative-cache-hook {path}")).exits(100)
    };
    nix.run("mkdir -m 755 open; cp hook open; ln -s $PWD/hook open/link; mkdir sub; ln -s ../open/hook sub/link")
        .exits(0);
    let (hook, others) = (nix.path("work/hook"), "can be written to by others than root");
    for (before, hook, why, after) in [
        ("chmod 775 hook", &hook, others, "chmod 755 hook"),
        ("chmod 757 hook", &hook, others, "chmod 755 hook"),
        ("chown games hook", &hook, "does not belong to root", "chown root hook"),
        ("chmod 777 open", &nix.path("work/open/hook"), others, "chmod 755 open"),
        // Others could replace the link.
        ("chmod 777 open", &nix.path("work/open/link"), others, "chmod 755 open"),
        ("chmod 775 open", &nix.path("work/sub/link"), others, "chmod 755 open"),
        ("chown games open", &nix.path("work/open/hook"), "does not belong to root", "chown root open"),
        ("chown -h games open/link", &nix.path("work/open/link"), "does not belong to root", "chown -h root open/link"),
    ] {
        nix.run(before).exits(0);
        build(hook).says(&format!("{NOT_STARTED}'")).says(&format!("' {why}")).says_times("warning", 1);
        nix.run(after).exits(0);
    }
    told(&nix, 0);
    build(&nix.path("work/sub/link")).does_not_say("warning");
    build(&nix.path("work/open/link")).does_not_say("warning");
    told(&nix, 2);
}

/// Who accepts the settings of a flake does not mean that it may start programs outside of builders.
#[test]
fn a_flake_names_no_hook() {
    let nix = with_hook(TELL);
    nix.script("theirs", &format!("touch {}/theirs", nix.path("told").display()));
    nix.run("mkdir flake").exits(0);
    let theirs = nix.path("work/theirs");
    nix.write(
        "work/flake/flake.nix",
        &format!(
            "{{ nixConfig.negative-cache-hook = \"{}\"; outputs = _: {{ bad = derivation {{ name = \"bad\"; \
             system = \"{}\"; builder = \"/bin/sh\"; args = [ \"-c\" \"exit 3\" ]; }}; }}; }}",
            theirs.display(),
            nix.run("nix eval --impure --raw --expr builtins.currentSystem").exits(0).stdout.trim()
        ),
    );
    nix.run("nix build --accept-flake-config path:$PWD/flake#bad").exits(1).says("failed with exit code 3");
    assert_eq!(json(&told(&nix, 1)[0])["name"], "bad");
    assert!(!exists(&nix.path("told/theirs")));
}

/// Nix takes a mount namespace of its own where it runs as root, in which the store can be written to, and a larger stack.
#[test]
fn a_hook_has_the_mounts_and_limits_that_nix_was_started_with() {
    let context = "readlink /proc/self/ns/mnt; ulimit -s";
    let nix = with_hook(&format!("{{ {context}; }} > $told/.context; mv $told/.context $told/context"));
    nix.expression(r#"fail "bad""#);
    let outside = nix.run(&format!("ulimit -S -s 4096; {context}; nix-build &> ../built")).exits(100).stdout;
    assert_eq!(told(&nix, 1)[0], outside);
}
