//! The settings: Nix shows and checks them, and they have Nix's order of precedence. If the plugin is off, it does nothing.

use nix_negative_cache_tests::{DIRECT, REFUSED, Scratch, exists};

const SHOW: &str = "nix show-config";

#[test]
fn settings_are_shown_with_their_documentation() {
    let nix = Scratch::without_setting();
    let shown = nix.run(&format!("{SHOW} --json")).exits(0);
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    for (name, value) in [
        ("negative-cache", serde_json::Value::from(false)),
        ("negative-cache-retry", false.into()),
        ("negative-cache-action", "fail".into()),
        ("negative-cache-database", "".into()),
        ("negative-cache-ttl", 604_800.into()),
        ("negative-cache-max-ttl", 7_776_000.into()),
        ("negative-cache-min-failures", "1".into()),
        ("negative-cache-transient-exit-codes", "75".into()),
        ("negative-cache-timeouts", false.into()),
        ("negative-cache-fixed-output", false.into()),
        ("negative-cache-max-records", 100_000.into()),
        ("negative-cache-trusted-public-keys", "".into()),
        ("negative-cache-substituters", "".into()),
        ("negative-cache-timeout", 5.into()),
        ("negative-cache-hook", "".into()),
    ] {
        assert_eq!(shown[name]["value"], value, "{name}");
        assert_eq!(shown[name]["defaultValue"], value, "{name}");
        assert!(shown[name]["description"].as_str().unwrap().trim_end().ends_with('.'), "{name}");
        let default = value.as_str().map_or(value.to_string(), str::to_owned);
        let default = if default.is_empty() { default } else { format!("`{default}` ") };
        let row = format!("| `{name}` | {default}| ");
        assert!(include_str!("../docs/manual.md").contains(&row), "the manual has no '{row}'");
    }
    let ours = shown.as_object().unwrap().keys().filter(|name| name.starts_with("negative-cache")).count();
    assert_eq!(ours, 15, "settings that this test does not know");
}

#[test]
fn a_bad_value_is_an_error_that_names_the_setting() {
    for (name, value) in [
        ("negative-cache", "maybe"),
        ("negative-cache-retry", "often"),
        ("negative-cache-action", "panic"),
        ("negative-cache-database", "relative/path"),
        ("negative-cache-ttl", "7d"),
        ("negative-cache-max-ttl", "-1"),
        ("negative-cache-min-failures", "0"),
        ("negative-cache-min-failures", "33"),
        ("negative-cache-transient-exit-codes", "75,76"),
        ("negative-cache-transient-exit-codes", "256"),
        ("negative-cache-timeouts", "sometimes"),
        ("negative-cache-fixed-output", "1.5"),
        ("negative-cache-trusted-public-keys", "ci-1"),
        ("negative-cache-trusted-public-keys", "ci-1:b2Zw"),
        ("negative-cache-timeout", "5s"),
        ("negative-cache-hook", "notify"),
    ] {
        let nix = Scratch::without_setting();
        let message = format!("'{name}' has invalid value '{value}'");
        nix.run(&format!("nix-instantiate --option {name} {value} --eval -E 1")).exits(1).says(&message);
        let nix = nix.config(&format!("{name} = {value}"));
        nix.run("nix-instantiate --eval -E 1").exits(1).says(&message);
    }
}

/// The order is: the system's nix.conf, the user's nix.conf, NIX_CONFIG, the command line. The last one that has the setting
/// wins.
#[test]
fn precedence_is_that_of_every_other_setting() {
    let says = [None, Some("false"), Some("true")];
    for system in says {
        for user in says {
            for environment in says {
                for command_line in says {
                    let mut nix = Scratch::without_setting();
                    let line =
                        |value: Option<&str>| value.map(|v| format!("negative-cache = {v}\n")).unwrap_or_default();
                    nix.write("etc/included.conf", &line(system));
                    let base = std::fs::read_to_string(nix.path("etc/nix.conf")).unwrap();
                    nix.write("etc/nix.conf", &format!("{base}include included.conf\n"));
                    std::fs::create_dir_all(nix.path("home/.config/nix")).unwrap();
                    nix.write("home/.config/nix/nix.conf", &line(user));
                    nix = nix.config(line(environment).trim());
                    let option = command_line.map(|v| format!("--option negative-cache {v}")).unwrap_or_default();
                    let expected = command_line.or(environment).or(user).or(system).unwrap_or("false");
                    nix.expression(r#"fail "bad""#);
                    nix.run(&format!("nix-build {option}")).exits(100);
                    assert_eq!(exists(&nix.database()), expected == "true", "off is off, on is on");
                    let ran = nix.run(&format!("{SHOW} {option} | grep '^negative-cache ='"));
                    assert_eq!(
                        ran.stdout.trim(),
                        format!("negative-cache = {expected}"),
                        "{system:?} {user:?} {environment:?} {command_line:?}: {ran}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_last_option_wins_wherever_it_stands() {
    let nix = Scratch::new();
    nix.expression(r#"fail "bad""#);
    nix.run("nix-build").exits(100);
    for line in [
        "nix-build --option negative-cache false",
        "nix-build --option negative-cache false .",
        "nix-build . --option negative-cache false",
        "nix-build --option negative-cache true --option negative-cache false",
        "nix build -f . --option negative-cache false",
        "nix --option negative-cache false build -f .",
    ] {
        let runs = nix.runs("bad");
        nix.run(line).does_not_say("not built again");
        assert_eq!(nix.runs("bad"), runs + 1, "{line}");
    }
    for line in [
        "nix-build --option negative-cache false --option negative-cache true",
        "nix build -f . --option negative-cache true",
    ] {
        nix.run(line).says("not built again");
    }
}

#[test]
fn options_of_a_command_that_nix_runs_are_not_ours() {
    let nix = Scratch::without_setting();
    nix.expression(r#"{ tool = drv "tool" "mkdir -p $out/bin" { }; }"#);
    nix.run("nix shell -f . tool -c bash -c 'echo \"$@\"' nobody --option negative-cache maybe")
        .exits(0)
        .prints("--option negative-cache maybe");
}

#[test]
fn nothing_said_is_off() {
    let nix = Scratch::without_setting();
    nix.expression(r#"fail "bad""#);
    nix.run("nix-build").exits(100).does_not_say("warning");
    nix.run("nix-build").exits(100).does_not_say("not built again");
    assert_eq!(nix.runs("bad"), 2);
    assert!(!exists(&nix.path("var/negative-cache")));
}

#[test]
fn off_leaves_no_trace() {
    for command in [
        "nix-build -k --no-out-link",
        "nix build -f . --keep-going --no-link bad ok",
        "nix-build -k --no-out-link --option negative-cache-database $PWD/db",
    ] {
        let nix = Scratch::without_setting().config("negative-cache = false");
        nix.expression(r#"{ bad = fail "bad"; ok = ok "ok"; }"#);
        // There is a record, in a database that must not even be opened.
        nix.run("nix-build -A bad --option negative-cache true").exits(100);
        let ran = nix.run(&format!("strace -f -o trace -e trace=%file {command} 2>&1"));
        assert!(ran.stdout.contains("failed with exit code 3"), "{ran}");
        let trace = std::fs::read_to_string(nix.path("work/trace")).unwrap();
        assert!(trace.contains("libnix_negative_cache.so"), "strace saw the plugin being loaded");
        for line in trace.lines() {
            let ours =
                line.contains("failures.sqlite") || line.contains("var/negative-cache") || line.contains("work/db");
            // The only exception is the call of the traced command, which has the name as an argument.
            assert!(!ours || line.contains("execve("), "{command}: {line}");
        }
        assert_eq!((nix.runs("bad"), nix.runs("ok")), (2, 1));
    }
}

#[test]
fn another_database_can_be_chosen() {
    let nix = Scratch::new();
    let nix = {
        let database = nix.path("elsewhere/here.sqlite");
        nix.config(&format!("negative-cache-database = {}", database.display()))
    };
    nix.expression(r#"fail "bad""#);
    nix.run("nix-build").exits(100);
    nix.run("nix-build").exits(100).says("not built again");
    assert!(exists(&nix.path("elsewhere/here.sqlite")) && !exists(&nix.database()));
    nix.run("$COMPANION --database $PWD/../elsewhere/here.sqlite list").exits(0);
}

#[test]
fn the_plugin_links_no_nix_library_and_registers_nothing_by_itself() {
    let nix = Scratch::new();
    let needed = nix.run(&format!("{DIRECT}; readelf -d $DIRECT | grep NEEDED")).exits(0);
    assert!(!needed.stdout.contains("libnix"), "{needed}");
    assert!(needed.stdout.contains("libsqlite3.so.0"), "the system's SQLite, which Nix uses: {needed}");
}

/// Nix does not look `auto` up among the stores that a plugin can replace, so the plugin writes out the store that it stands
/// for.
#[test]
fn the_setting_store_is_spelled_out() {
    let shown = |nix: &Scratch| nix.run(&format!("{SHOW} | sed -n 's/^store = //p'")).exits(0).stdout.trim().to_owned();
    assert_eq!(shown(&Scratch::without_setting()), "auto");
    let on = shown(&Scratch::new());
    assert!(["local", "local://"].contains(&on.as_str()), "{on}");
    assert_eq!(shown(&Scratch::new().config("store = local://")), "local://");
}

#[test]
fn the_path_of_the_database_need_not_be_utf_8() {
    let nix = Scratch::new();
    nix.expression(r#"fail "bad""#);
    let build = "nix-build --option negative-cache-database $PWD/../$(printf '\\377').sqlite";
    nix.run(build).exits(100).does_not_say("warning:");
    nix.run(build).exits(100).says(REFUSED);
    assert_eq!(nix.runs("bad"), 1);
}
