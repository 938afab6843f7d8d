//! The flake, its modules, dev shells and templates, and every expression of docs/install.md evaluate to what they should, and
//! Nix accepts the settings that result.
//!
//! nixpkgs is not available without a network. `tests/flake/nixpkgs` stands in for it, with a module system of its own. If
//! `NNC_NIXPKGS_LIB` names the `lib` of a checkout of nixpkgs, everything is evaluated with that one instead.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::{env, fs, io};

use nix_negative_cache_tests::{Ran, Scratch};
use serde_json::{Value, json};

const SYSTEMS: [&str; 2] = ["x86_64-linux", "aarch64-linux"];

/// The supported versions that the stand-in for nixpkgs has: it throws for 2.8, lacks 2.26, and marks 2.35 as insecure.
const VERSIONS: [&str; 3] = ["nix_2_28", "nix_2_31", "nix_2_34"];

/// The path of the loader in the package that has everything.
const LOADER: &str = "lib/nix-negative-cache/loader/libnix_negative_cache.so";

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the project's folder").to_owned()
}

/// An installation whose work folder has a checkout of the project, and the stand-ins for nixpkgs and home-manager.
fn checkout() -> Scratch {
    let nix = Scratch::new();
    let (project, work) = (project(), nix.path("work"));
    fs::create_dir(work.join("project")).unwrap();
    // Nix copies each checkout to its store, and what builds have left can be large.
    let left_out = ["./.git", "./target", "./fuzz/target", "./fuzz/artifacts"].map(|path| format!("--exclude={path}"));
    let copied = Command::new("bash")
        .args([
            "-c",
            "project=$1 work=$2; shift 2; set -o pipefail; tar -C \"$project\" \"$@\" -c . | tar -C \"$work\" -x",
            "copy",
        ])
        .args([&project, &work.join("project")])
        .args(left_out)
        .status();
    assert!(copied.unwrap().success(), "{}", project.display());
    for name in ["nixpkgs", "home-manager"] {
        copy(&project.join("tests/flake").join(name), &work);
    }
    match env::var_os("NNC_NIXPKGS_LIB") {
        Some(lib) => {
            fs::create_dir(work.join("real-lib")).unwrap();
            copy(Path::new(&lib), &work.join("real-lib"));
            let copied = fs::read_dir(work.join("real-lib")).unwrap().flatten().next().unwrap().path();
            fs::rename(copied, work.join("nixpkgs/real-lib")).unwrap();
        }
        None => {
            static SAID: Once = Once::new();
            // Not with `eprintln!`, whose output the test harness captures.
            SAID.call_once(|| {
                let _ = writeln!(
                    io::stderr(),
                    "NNC_NIXPKGS_LIB does not name the lib of nixpkgs: the flake is only evaluated with a stand-in for it"
                );
            });
        }
    }
    nix
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").args([from, to]).status().unwrap().success(), "{}", from.display());
}

/// Evaluates an output of a flake in the work folder, with the stand-ins for its inputs.
fn output(nix: &Scratch, flake: &str, output: &str, apply: &str) -> Value {
    let mut overrides = String::new();
    let text = fs::read_to_string(nix.path("work").join(flake).join("flake.nix")).unwrap();
    let inputs = ["nix-negative-cache", "nixpkgs", "home-manager"];
    for input in inputs.into_iter().filter(|input| text.contains(&format!("inputs.{input}.url = "))) {
        let folder = if input == "nix-negative-cache" { "project" } else { input };
        overrides += &format!(" --override-input {input} path:$PWD/{folder}");
        if input != "nixpkgs" {
            overrides += &format!(" --override-input {input}/nixpkgs path:$PWD/nixpkgs");
        }
    }
    parse(nix.run(&format!(
        "nix eval --json 'path:'$PWD'/{flake}#{output}' --apply '{apply}' --no-write-lock-file {overrides}"
    )))
}

/// Evaluates an expression in which `pkgs` are the packages of the stand-in.
fn expression(nix: &Scratch, expression: &str) -> Ran {
    nix.write("work/expression.nix", &format!("let pkgs = import ./nixpkgs {{ }}; in\n{expression}\n"));
    nix.run("nix-instantiate --eval --strict --json expression.nix")
}

#[track_caller]
fn parse(ran: Ran) -> Value {
    let ran = ran.exits(0);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error} in {ran}"))
}

/// Evaluates `what` of a system of this kind (nixos or home) with the module of that kind and the module `config`.
fn try_system(nix: &Scratch, kind: &str, config: &str, what: &str) -> Ran {
    expression(
        nix,
        &format!(
            "let system = import ./nixpkgs/nixos.nix {{
               inherit (pkgs) lib; inherit pkgs; kind = \"{kind}\";
               modules = [ ./project/nix/modules/{kind}.nix ({config}) ];
             }}; inherit (system) config options checked; in {what}"
        ),
    )
}

#[track_caller]
fn system(nix: &Scratch, kind: &str, config: &str, what: &str) -> Value {
    parse(try_system(nix, kind, config, what))
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("no set: {value}")).keys().map(String::as_str).collect()
}

#[test]
fn every_output_evaluates() {
    let nix = checkout();
    let common = ["companion", "default", "loader", "nix", "nix-negative-cache", "shims"].map(str::to_owned);
    let plugins = VERSIONS.map(|version| format!("plugin-{version}"));
    let packages: BTreeSet<String> = common.into_iter().chain(plugins).collect();
    let all = output(&nix, "project", "packages", "builtins.mapAttrs (_: builtins.mapAttrs (_: p: p.drvPath))");
    let checks = output(&nix, "project", "checks", "builtins.mapAttrs (_: builtins.mapAttrs (_: p: p.drvPath))");
    let shells = output(&nix, "project", "devShells", "builtins.mapAttrs (_: builtins.mapAttrs (_: p: p.drvPath))");
    for systems in [&all, &checks, &shells] {
        assert_eq!(keys(systems), BTreeSet::from(SYSTEMS));
        let made = systems.as_object().unwrap().values().flat_map(|set| set.as_object().unwrap().values());
        assert!(made.clone().all(|path| path.as_str().unwrap().ends_with(".drv")), "{systems}");
    }
    for system in SYSTEMS {
        assert_eq!(keys(&all[system]), packages.iter().map(String::as_str).collect());
        assert!(keys(&checks[system]).is_superset(&keys(&all[system])));
        let tested = |kind: &str| VERSIONS.map(|version| format!("{kind}-{version}"));
        for name in tested("nixos").iter().chain(&tested("functional-tests")) {
            assert!(keys(&checks[system]).contains(&**name), "{system} has no {name}");
        }
        assert!(shells[system]["default"].is_string());
    }
    let name = output(&nix, "project", "packages.x86_64-linux.default.name", "name: name");
    assert_eq!(name, format!("nix-negative-cache-{}", env!("CARGO_PKG_VERSION")));
    for (set, names) in [
        ("nixosModules", vec!["default"]),
        ("homeModules", vec!["default"]),
        ("overlays", vec!["default"]),
        ("lib", vec!["pluginFor", "withNegativeCache"]),
        ("templates", vec!["default", "nixos", "project"]),
    ] {
        assert_eq!(output(&nix, "project", set, "builtins.attrNames"), json!(names));
    }
    let override_input = "--override-input nixpkgs path:$PWD/nixpkgs --no-write-lock-file";
    nix.run(&format!("nix flake check --no-build path:$PWD/project {override_input}")).exits(0);
}

/// The functional tests that are left out in a builder are there, and all others are run.
#[test]
fn what_a_builder_does_not_test_is_named() {
    let nix = checkout();
    let check = "checks.x86_64-linux.functional-tests-nix_2_31";
    let left_out = output(&nix, "project", check, "check: { inherit (check) leftOut leftOutFiles; }");
    let said = output(&nix, "project", check, "check: check.preCheck");
    let flags = output(&nix, "project", check, "check: { inherit (check) cargoTestFlags checkFlags; }");
    let has = |flags: &Value, flag: String| flags.as_array().unwrap().contains(&json!(flag));
    let mut tests = BTreeSet::new();
    for file in fs::read_dir(project().join("tests")).unwrap().flatten().map(|file| file.path()) {
        let Some(name) = file.file_name().unwrap().to_str().unwrap().strip_suffix(".rs") else { continue };
        let is_left_out = keys(&left_out["leftOutFiles"]).contains(name);
        assert!(has(&flags["cargoTestFlags"], format!("--test={name}")) != is_left_out, "{name}: {flags}");
        if !is_left_out {
            let text = fs::read_to_string(&file).unwrap();
            let after_attribute = text.split("#[test]\nfn ").skip(1);
            tests.extend(after_attribute.filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())));
        }
    }
    for name in keys(&left_out["leftOut"]) {
        assert!(tests.contains(name), "there is no test {name} to leave out");
        assert!(has(&flags["checkFlags"], format!("--skip={name}")), "{name}: {flags}");
    }
    for what in keys(&left_out["leftOutFiles"])
        .iter()
        .map(|name| format!("all tests of {name}.rs. "))
        .chain(keys(&left_out["leftOut"]).iter().map(|name| format!("{name}. ")))
    {
        assert!(said.as_str().unwrap().contains(&what), "it is not said that this is left out: {what}");
    }
}

/// No machine of NixOS can be started here, but its script can be read.
#[test]
fn the_scripts_of_the_machines_are_python() {
    let nix = checkout();
    for version in VERSIONS {
        let script = output(&nix, "project", &format!("checks.x86_64-linux.nixos-{version}.testScript"), "text: text");
        nix.write("work/script.py", script.as_str().unwrap());
        nix.run("python3 -c 'import ast; ast.parse(open(\"script.py\").read())'").exits(0);
    }
}

#[test]
fn what_the_plugin_compiles_against_is_packaged() {
    let nix = checkout();
    let packaged = parse(expression(&nix, "import ./project/nix/supported.nix"));
    let build = fs::read_to_string(project().join("build.rs")).unwrap();
    for (flavour, constant) in [("nix", "const SUPPORTED"), ("determinate", "const DETERMINATE")] {
        let packaged: Vec<&str> = packaged[flavour].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let (_, list) = build.split_once(constant).expect("the releases that the C++ side compiles against");
        let (_, list) = list.split_once('=').unwrap();
        let (list, _) = list.split_once("];").unwrap();
        let numbers: Vec<&str> =
            list.split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty()).collect();
        let compiled: Vec<String> = numbers.chunks(2).map(|pair| pair.join(".")).collect();
        assert_eq!(packaged, compiled, "{flavour}");
    }
}

#[test]
fn a_nix_without_a_plugin_is_skipped_or_named() {
    let nix = checkout();
    let all = |what: &str| expression(&nix, &format!("with import ./project {{ inherit pkgs; }}; {what}"));
    let unsupported = "pkgs.nixVersions.nix_2_32";
    all(&format!("(pluginFor {unsupported}).name")).exits(1).says("there is no plugin for Nix 2.32.6");
    let same = format!("(bundleWith [ {unsupported} ]).drvPath == bundle.drvPath");
    assert_eq!(parse(all(&same)), json!(true));
    // A newer nixpkgs: its default Nix has no plugin yet, or none of its versions has one.
    let newer = "with import ./project/nix { pkgs = import ./nixpkgs { nixVersion = \"2.40.1\"; }; };";
    assert_eq!(parse(expression(&nix, &format!("{newer} nix.version"))), json!("2.34.8"));
    let none = "with import ./project/nix { pkgs = pkgs // { nix = pkgs.nixVersions.nix_2_32; nixVersions = { }; }; };";
    expression(&nix, &format!("{none} bundle.drvPath")).exits(1).says("this nixpkgs has none of Nix 2.8, 2.18");
    let version = all("(pluginFor pkgs.determinate-nix).drvAttrs.DETERMINATE_NIX_VERSION");
    assert_eq!(parse(version), json!("3.22.2"));
    // A Nix with the shim counts as the Nix inside.
    let wrapped = "(pluginFor (wrapNix bundle pkgs.nix)).drvPath == (pluginFor pkgs.nix).drvPath";
    assert_eq!(parse(all(wrapped)), json!(true));
}

#[test]
fn everything_ends_up_where_the_others_look_for_it() {
    let nix = checkout();
    let phase = |package: &str| {
        let text = format!("(with import ./project {{ inherit pkgs; }}; {package})");
        parse(expression(&nix, &text)).as_str().unwrap().to_owned()
    };
    // Runs a phase as nixpkgs would, with the files that cargo and Nix leave behind.
    let run = |name: &str, before: &str, text: &str| {
        nix.script(name, &format!("set -euo pipefail\nrunHook() {{ :; }}\n{before}\n{text}"));
        nix.run(&format!("./{name}")).exits(0)
    };
    for (name, package, built, folder) in [
        ("plugin", "(pluginFor pkgs.nix)", "libnix_negative_cache.so", "nix-2.31.5"),
        ("determinate", "(pluginFor pkgs.determinate-nix)", "libnix_negative_cache.so", "determinate-nix-3.22.2"),
        ("loader", "loader", "libnix_negative_cache_loader.so", "loader"),
    ] {
        let before = format!(
            "out=$PWD/{name}; mkdir -p $out/lib; echo {name} > $out/lib/{built}\n\
             pkg-config() {{ echo 2.31.5; }}; PKG_CONFIG=pkg-config"
        );
        run(&format!("{name}.sh"), &before, &phase(&format!("{package}.postInstall")));
        nix.run(&format!("find {name} -type f"))
            .prints(&format!("{name}/lib/nix-negative-cache/{folder}/libnix_negative_cache.so"));
    }
    // Of two plugins for one version, the last one is taken.
    nix.run("cp -r plugin patched; echo patched > patched/lib/nix-negative-cache/nix-2.31.5/libnix_negative_cache.so")
        .exits(0);
    let before = "out=$PWD/bundle companion=$PWD/companion loader=$PWD/loader\n\
                  plugins=\"$PWD/plugin $PWD/patched $PWD/determinate\"\n\
                  mkdir -p companion/bin companion/share/man; cp $COMPANION companion/bin/; touch companion/bin/nix-negative-cache-shim; chmod -R a-w companion";
    run("bundle.sh", before, &phase("bundle.installPhase"));
    nix.run("cd bundle; find . ! -type d | sort; cat lib/nix-negative-cache/nix-2.31.5/*")
        .exits(0)
        .prints(&format!("./bin/nix-negative-cache\n./bin/nix-negative-cache-shim\n./lib/nix-negative-cache/determinate-nix-3.22.2\n./{LOADER}\n./lib/nix-negative-cache/nix-2.31.5\npatched"));
    // The companion looks beside its own real path.
    nix.run("[ ! -L bundle/bin/nix-negative-cache ] && [ ! -L bundle/lib/nix-negative-cache/loader ]").exits(0);
    run("shims.sh", "out=$PWD/shims bundle=$PWD/bundle", &phase("shims.command"));
    let programs = ["nix", "nix-build", "nix-env", "nix-instantiate", "nix-negative-cache", "nix-shell", "nix-store"];
    nix.run("cd shims/bin; ls; readlink -f nix-negative-cache nix nix-store").exits(0).prints(&format!(
        "{0}\n{1}\n{1}-shim\n{1}-shim",
        programs.join("\n"),
        nix.path("work/bundle/bin/nix-negative-cache").display()
    ));
    // Every program that the shim does not stand in for stays Nix's own.
    let before = "out=$PWD/wrapped; mkdir -p $out/bin; touch $out/bin/{nix,nix-build,nix-daemon}";
    run("wrapped.sh", before, &phase("packages.nix.postBuild"));
    nix.run("cd wrapped/bin; ls; [ ! -L nix-daemon ] && readlink ../lib/nix-negative-cache/nix-bin | sed s/^.*-//")
        .exits(0)
        .prints("nix\nnix-build\nnix-daemon\nnix-negative-cache\n2.31.5/bin");
    nix.run("cd wrapped/bin; for name in nix nix-build; do basename $(readlink $name); done")
        .prints("nix-negative-cache-shim\nnix-negative-cache-shim");
}

/// Name, without `negative-cache-`, and default of each setting in the manual but `negative-cache` itself.
fn settings_of_the_manual() -> BTreeMap<String, String> {
    let manual = fs::read_dir(project().join("docs")).unwrap().flatten();
    let mut found = BTreeMap::new();
    for file in manual.filter(|file| file.path().extension().is_some_and(|extension| extension == "md")) {
        for line in fs::read_to_string(file.path()).unwrap().lines() {
            let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            if let ["", name, default, _, ""] = cells[..]
                && let Some(name) = name.strip_prefix("negative-cache-")
            {
                found.insert(name.to_owned(), default.to_owned());
            }
        }
    }
    found
}

#[test]
fn each_setting_of_the_manual_is_an_option_with_its_default() {
    let nix = checkout();
    let settings = parse(expression(
        &nix,
        "builtins.mapAttrs (_: setting: setting.default) (import ./project/nix/settings.nix { inherit (pkgs) lib; })",
    ));
    let printed = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(words) => words.iter().map(Value::to_string).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    };
    let settings: BTreeMap<String, String> =
        settings.as_object().unwrap().iter().map(|(name, value)| (name.clone(), printed(value))).collect();
    assert_eq!(settings, settings_of_the_manual());
    for kind in ["nixos", "home"] {
        let described = "builtins.mapAttrs (name: option: option.type.description) options.nix.negativeCache.settings";
        let described = system(&nix, kind, "{ }", described);
        assert_eq!(keys(&described), settings.keys().map(String::as_str).collect());
        // The defaults have the types of their options, so that a user can set what is documented.
        let defaults = "{ nix.negativeCache.settings = builtins.mapAttrs (_: setting: if setting.default == \"\" then null \
                        else setting.default) (import ./project/nix/settings.nix { inherit (pkgs) lib; }); }";
        system(&nix, kind, defaults, "config.nix.negativeCache.settings");
    }
}

#[test]
fn a_module_that_is_not_enabled_sets_nothing() {
    let nix = checkout();
    let config = "{ nix.negativeCache = { settings.ttl = 60; shim.enable = true; }; }";
    let set = "{ settings = config.nix.settings; inherit (config) warnings;
                 packages = config.environment.systemPackages or config.home.packages;
                 rules = config.systemd.tmpfiles.rules or [ ];
                 units = config.systemd.services or { } // config.systemd.timers or { }; }";
    for kind in ["nixos", "home"] {
        // There is no option for publishing in home-manager.
        let publish = if kind == "nixos" { "nix.negativeCache.publish.enable = true;" } else { "" };
        let config = config.replacen('{', &format!("{{ {publish}"), 1);
        assert_eq!(
            system(&nix, kind, &config, set),
            json!({"settings": {}, "warnings": [], "packages": [], "rules": [], "units": {}})
        );
    }
}

#[test]
fn a_timer_publishes_failures() {
    let nix = checkout();
    let config = |publish: &str| {
        format!("{{ nix.negativeCache = {{ enable = true; publish = {{ enable = true; {publish} }}; }}; }}")
    };
    let here = "to = \"file:///srv/cache?a=b&c=it's\"; keyFile = \"/etc/nix/ci 1.sec\";";
    let service = "config.systemd.services.nix-negative-cache-publish";
    let program = "script = builtins.replaceStrings [ \"${config.nix.negativeCache.package}\" ] [ \"\" ]";
    let command = |config: &str| {
        let script = system(&nix, "nixos", config, &format!("{{ {program} {service}.script; }}.script"));
        let command = script.as_str().unwrap().strip_prefix("exec /bin/nix-negative-cache ").unwrap().to_owned();
        nix.run(&format!("printf '<%s>' {command}")).exits(0).stdout
    };
    let to = "<publish><--to><file:///srv/cache?a=b&c=it's><--key-file></etc/nix/ci 1.sec>";
    assert_eq!(command(&config(here)), to);
    assert_eq!(
        command(&config("to = \"https://attic\"; extraArguments = [ \"--signer\" \"main\" ];")),
        "<publish><--to><https://attic><--signer><main>"
    );
    let elsewhere = config(here).replacen("enable", "settings.database = \"/srv/f.sqlite\"; enable", 1);
    assert_eq!(command(&elsewhere), format!("<--database></srv/f.sqlite>{to}"));
    let path = system(&nix, "nixos", &config(here), &format!("map (package: package.name) {service}.path"));
    assert_eq!(path, json!(["nix-2.31.5", "openssh"]));
    let timer = |config: &str| {
        system(&nix, "nixos", config, "config.systemd.timers.nix-negative-cache-publish.timerConfig.OnCalendar")
    };
    assert_eq!(timer(&config(here)), "hourly");
    assert_eq!(timer(&config(&format!("{here} interval = \"*:0/10\";"))), "*:0/10");
    // There is nothing to publish without a plugin, and nothing without the option.
    for config in [
        "{ nix.negativeCache = { enable = true; publish.to = \"file:///srv/cache\"; }; }".to_owned(),
        config(here).replacen("{ ", "{ nix.package = pkgs.nixVersions.nix_2_32; ", 1),
    ] {
        assert_eq!(system(&nix, "nixos", &config, "config.systemd.services // config.systemd.timers"), json!({}));
    }
}

#[test]
fn a_module_sets_what_was_asked_for_and_no_more() {
    let nix = checkout();
    let config = "{ nix.negativeCache = { enable = true; settings = {
                      retry = true; action = \"warn\"; database = \"/srv/failures.sqlite\"; ttl = 0;
                      transient-exit-codes = [ 75 99 ]; substituters = [ \"https://one\" \"https://two\" ]; }; }; }";
    let newer = "{ nix.package = pkgs.nixVersions.nix_2_34; nix.negativeCache.enable = true; }";
    let settings = system(&nix, "home", newer, "checked.nix.settings");
    assert_eq!(keys(&settings), BTreeSet::from(["negative-cache", "plugin-files"]));
    for (kind, name) in [("nixos", "plugin-files"), ("home", "extra-plugin-files")] {
        let loader = format!("{{ loader = \"${{config.nix.negativeCache.package}}/{LOADER}\"; }}.loader");
        let loader = system(&nix, kind, "{ }", &loader);
        let enabled = "{ nix.negativeCache.enable = true; }";
        assert_eq!(
            system(&nix, kind, enabled, "checked.nix.settings"),
            json!({name: [loader], "negative-cache": true}),
            "{kind}"
        );
        assert_eq!(
            system(&nix, kind, config, "checked.nix.settings"),
            json!({
                name: [loader],
                "negative-cache": true,
                "negative-cache-retry": true,
                "negative-cache-action": "warn",
                "negative-cache-database": "/srv/failures.sqlite",
                "negative-cache-ttl": 0,
                "negative-cache-transient-exit-codes": [75, 99],
                "negative-cache-substituters": ["https://one", "https://two"],
            }),
            "{kind}"
        );
        // Other modules may name plugins as well.
        let more = format!("{{ nix.settings.{name} = [ \"/other.so\" ]; nix.negativeCache.enable = true; }}");
        let merged = system(&nix, kind, &more, &format!("builtins.sort builtins.lessThan config.nix.settings.{name}"));
        assert_eq!(merged.as_array().map(Vec::len), Some(2), "{merged}");
    }
}

#[test]
fn a_module_has_the_plugin_for_the_nix_of_the_system() {
    let nix = checkout();
    let plugins = "map (plugin: plugin.nix.version) config.nix.negativeCache.package.plugins";
    for kind in ["nixos", "home"] {
        let own = "{ nix.package = pkgs.nixVersions.nix_2_28 // { version = \"2.28.99\"; };
                     nix.negativeCache.enable = true; }";
        let versions = system(&nix, kind, own, plugins);
        assert_eq!(versions.as_array().and_then(|versions| versions.last()), Some(&json!("2.28.99")), "{versions}");
        // An upgrade to a Nix without a plugin succeeds, with a warning, and without the settings, which that Nix would not
        // know.
        let newer = "{ nix.package = pkgs.nixVersions.nix_2_32; nix.negativeCache.enable = true; }";
        assert_eq!(system(&nix, kind, newer, "checked.nix.settings"), json!({}));
        let warnings = system(&nix, kind, newer, "config.warnings").to_string();
        assert!(warnings.contains("there is no plugin for Nix 2.32.6 yet"), "{warnings}");
    }
}

#[test]
fn a_module_makes_the_folder_of_the_database_as_the_plugin_would() {
    let nix = checkout();
    let enabled = "{ nix.negativeCache.enable = true; }";
    let rules = system(&nix, "nixos", enabled, "config.systemd.tmpfiles.rules");
    // The plugin creates the folder itself, with its own modes. The rules have to say the same modes.
    nix.expression("fail \"fails\"");
    nix.run("umask 022; nix-build").exits(100);
    let modes = nix.run("cd ../var; stat -c '%n 0%a' negative-cache negative-cache/failures.sqlite").exits(0).stdout;
    let modes: Vec<&str> = modes.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(
        rules,
        json!([
            format!("d /nix/var/nix/negative-cache {} root root - -", modes[0]),
            format!("z /nix/var/nix/negative-cache/failures.sqlite* {} root root - -", modes[1]),
        ])
    );
    // The module leaves the folder of another database alone.
    let elsewhere = "{ nix.negativeCache = { enable = true; settings.database = \"/srv/f.sqlite\"; }; }";
    assert_eq!(system(&nix, "nixos", elsewhere, "config.systemd.tmpfiles.rules"), json!([]));
}

#[test]
fn the_shim_comes_before_nix() {
    let nix = checkout();
    let config = "{ nix.negativeCache = { enable = true; shim.enable = true; }; }";
    let names = |list: &str| format!("map (one: one.name + \" \" + toString (one.meta.priority or 5)) config.{list}");
    let packages = system(&nix, "nixos", config, &names("environment.systemPackages")).to_string();
    assert!(packages.contains("nix-with-negative-cache-2.31.5 -10"), "{packages}");
    assert_eq!(system(&nix, "nixos", config, "config.environment.pathsToLink"), json!(["/lib/nix-negative-cache"]));
    let packages = system(&nix, "home", config, &names("home.packages")).to_string();
    assert!(packages.contains("nix-negative-cache-shims-") && packages.contains(" -10"), "{packages}");
    let own = "{ nix.package = pkgs.nix; nix.negativeCache = { enable = true; shim.enable = true; }; }";
    let packages = system(&nix, "home", own, &names("home.packages")).to_string();
    assert!(packages.contains("nix-with-negative-cache-2.31.5 -10"), "{packages}");
}

#[test]
fn wrong_values_are_refused() {
    let nix = checkout();
    for (name, value) in [
        ("settings.ttl", "\"7d\""),
        ("settings.ttl", "-1"),
        ("settings.max-ttl", "1.5"),
        ("settings.max-records", "true"),
        ("settings.min-failures", "0"),
        ("settings.min-failures", "33"),
        ("settings.action", "\"refuse\""),
        ("settings.database", "\"failures.sqlite\""),
        ("settings.retry", "\"yes\""),
        ("settings.timeouts", "1"),
        ("settings.fixed-output", "[ ]"),
        ("settings.transient-exit-codes", "75"),
        ("settings.transient-exit-codes", "[ 256 ]"),
        ("settings.trusted-public-keys", "\"ci-1:b2Zw\""),
        ("settings.trusted-public-keys", "[ \"ci-1:b2Zw\" ]"),
        ("settings.substituters", "[ \"https://one https://two\" ]"),
        ("settings.timeout", "\"5s\""),
        ("settings.hook", "\"notify\""),
        ("enable", "\"true\""),
        ("publish.enable", "1"),
        ("publish.to", "[ ]"),
        ("publish.keyFile", "./ci-1.sec"),
        ("publish.interval", "3600"),
        ("publish.extraArguments", "\"--no-log\""),
        ("shim.enable", "1"),
        ("package", "\"/usr\""),
    ] {
        let config = format!("{{ nix.negativeCache.{name} = {value}; }}");
        let asked = format!("config.nix.negativeCache.{name}");
        try_system(&nix, "nixos", &config, &asked)
            .exits(1)
            .says("is not of type")
            .says(&format!("nix.negativeCache.{name}"));
    }
    for (config, option) in [
        ("nix.negativeCache.settings.lifetime = 3;", "nix.negativeCache.settings.lifetime"),
        ("nix.negativeCache.enabled = true;", "nix.negativeCache.enabled"),
    ] {
        try_system(&nix, "nixos", &format!("{{ {config} }}"), "config.nix.negativeCache.enable")
            .exits(1)
            .says(&format!("The option `{option}' does not exist"));
    }
}

/// nix.conf as the modules of NixOS and home-manager write it.
fn nix_conf(settings: &Value) -> String {
    let atom = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let line = |(name, value): (&String, &Value)| match value {
        Value::Array(values) => format!("{name} = {}\n", values.iter().map(atom).collect::<Vec<_>>().join(" ")),
        value => format!("{name} = {}\n", atom(value)),
    };
    settings.as_object().unwrap().iter().map(line).collect()
}

#[test]
fn nix_takes_what_the_modules_set() {
    let nix = checkout();
    let keys_of_others = format!("[ \"ci-1:{0}=\" \"ci-2:{0}=\" ]", "a".repeat(43));
    let config = format!(
        "{{ nix.negativeCache = {{ enable = true; settings = {{
            retry = true; action = \"warn\"; database = \"/srv/failures.sqlite\"; ttl = 60; max-ttl = 120;
            min-failures = 2; transient-exit-codes = [ 75 99 ]; timeouts = true; fixed-output = true;
            max-records = 7; trusted-public-keys = {keys_of_others};
            substituters = [ \"https://one\" \"file:///two\" ]; timeout = 3;
            hook = \"/srv/notify\"; }}; }}; }}"
    );
    let show = if nix.nix_is_at_least(2, 20) { "nix config show" } else { "nix show-config" };
    let home_of = if nix.nix_is_at_least(2, 33) { "2_34" } else { "2_31" };
    for (kind, plugin_files) in
        [("nixos", "plugin-files"), ("home", if home_of == "2_34" { "plugin-files" } else { "extra-plugin-files" })]
    {
        let config = config.replacen("{ ", &format!("{{ nix.package = pkgs.nixVersions.nix_{home_of}; "), 1);
        let mut settings = system(&nix, kind, &config, "config.nix.settings");
        assert_eq!(keys(&settings).len(), settings_of_the_manual().len() + 2, "one that is not tried: {settings}");
        settings[plugin_files] = json!([env::var("NNC_PLUGIN").unwrap()]);
        nix.run("mkdir -p conf").exits(0);
        nix.write("work/conf/nix.conf", &nix_conf(&settings));
        // NixOS and home-manager check nix.conf in this way when they build it: a warning fails the build.
        let shown =
            nix.run(&format!("NIX_CONFIG= NIX_CONF_DIR=$PWD/conf {show} --option experimental-features nix-command"));
        let shown = shown.exits(0).does_not_say("warning");
        for line in nix_conf(&settings).lines().filter(|line| line.starts_with("negative-cache")) {
            assert!(shown.stdout.lines().any(|shown| shown == line), "it does not have '{line}': {shown}");
        }
    }
}

/// The value of NIX_CONFIG after the hook of a shell ran.
fn hook_leaves(nix: &Scratch, hook: &str, config: Option<&str>, times: usize) -> String {
    nix.write("work/hook", hook);
    let set = config.map_or("unset NIX_CONFIG".to_owned(), |config| format!("export NIX_CONFIG='{config}'"));
    let sourced = ". ./hook;".repeat(times);
    nix.run(&format!("{set}; set -eu; {sourced} env -0 | grep -z ^NIX_CONFIG= | tr -d '\\0'")).exits(0).stdout
}

#[test]
fn the_dev_shell_keeps_what_the_project_has() {
    let nix = checkout();
    let shell = |attrs: &str, what: &str| {
        parse(expression(
            &nix,
            &format!(
                "let shell = (import ./project {{ inherit pkgs; }}).withNegativeCache (pkgs.mkShell {{ {attrs} }}); in {what}"
            ),
        ))
    };
    let hook = shell("shellHook = \"export WELCOME=yes\";", "shell.shellHook");
    let hook = hook.as_str().unwrap();
    assert!(hook.ends_with("export WELCOME=yes"), "{hook}");
    let inputs = shell("packages = [ pkgs.nix pkgs.hello ];", "map (input: input.name) shell.nativeBuildInputs");
    // The shims come before the Nix of the shell.
    assert!(inputs[0].as_str().unwrap().starts_with("nix-negative-cache-shims-"), "{inputs}");
    assert_eq!(inputs[2], "hello");
    assert_eq!(shell("NIX_CONFIG = \"cores = 3\";", "shell.NIX_CONFIG"), "cores = 3");

    let loader = hook.split("$plugin_files ").nth(1).unwrap().split('"').next().unwrap();
    assert!(loader.ends_with(LOADER), "{loader}");
    let tells = nix.nix_is_at_least(2, 20);
    let fresh = hook_leaves(&nix, hook, None, 1);
    let plugin_files = if tells { "plugin-files = " } else { "extra-plugin-files =" };
    assert_eq!(
        fresh.replace("\n\n", "\n").trim(),
        format!("NIX_CONFIG=negative-cache = true\n{plugin_files} {loader}")
    );
    // The user's own lines stay. They have the last word on the setting, but not on the plugin.
    let other = nix.path("other.so").display().to_string();
    nix.run(&format!("cc -shared -o {other} -x c /dev/null")).exits(0);
    let own = format!("negative-cache = false\nplugin-files = {other}\ncores = 3");
    let plugin_files = if tells { format!("plugin-files = {other}") } else { "extra-plugin-files =".to_owned() };
    let kept = format!("NIX_CONFIG=negative-cache = true\n{own}\n{plugin_files} {loader}");
    assert_eq!(hook_leaves(&nix, hook, Some(&own), 1).trim(), kept);
    // A shell inside the shell does not load the plugin twice.
    assert_eq!(hook_leaves(&nix, hook, Some(&own), 3).trim(), kept);
    // Nix reads it in the same way.
    let plugin = env::var("NNC_PLUGIN").unwrap();
    let show = if nix.nix_is_at_least(2, 20) { "nix config show" } else { "nix show-config" };
    nix.write("work/hook", &hook.replace(loader, &plugin));
    for (config, shown) in [("", "negative-cache = true"), ("negative-cache = false", "negative-cache = false")] {
        nix.run(&format!("NIX_CONFIG='{config}'; . ./hook; {show} | grep '^negative-cache ='")).exits(0).prints(shown);
    }

    let message = "withNegativeCache takes the packages of nixpkgs and a shell as pkgs.mkShell makes it";
    expression(&nix, "(import ./project { inherit pkgs; }).withNegativeCache { }").exits(1).says(message);
}

/// The expressions of docs/install.md, by the name in the comment before each.
fn documented() -> BTreeMap<String, String> {
    let text = fs::read_to_string(project().join("docs/install.md")).unwrap();
    let mut found = BTreeMap::new();
    let mut before = "";
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == "```nix" {
            let name = before.strip_prefix("<!-- evaluated: ").and_then(|name| name.strip_suffix(" -->"));
            let name = name.unwrap_or_else(|| panic!("an expression of docs/install.md has no name: {before}"));
            let block: String =
                lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
            assert!(found.insert(name.to_owned(), block).is_none(), "two of the name {name}");
        }
        before = line;
    }
    found
}

/// The address of the project that templates and documents have to name.
const SOURCE: &str = "github:OWNER/nix-negative-cache";

#[test]
fn the_expressions_of_the_documents_evaluate() {
    let nix = checkout();
    let documented = documented();
    for text in documented.values().filter(|text| text.contains("inputs.nix-negative-cache.url")) {
        assert!(text.contains(&format!("inputs.nix-negative-cache.url = \"{SOURCE}\";")), "{text}");
    }
    nix.run("cp -r project nix-negative-cache").exits(0);
    for (name, text) in &documented {
        let flake = |attribute: &str, apply: &str| {
            let folder = nix.path("work").join(name);
            fs::create_dir_all(&folder).unwrap();
            for (file, text) in [("flake.nix", text.as_str()), ("configuration.nix", "{ }"), ("home.nix", "{ }")] {
                fs::write(folder.join(file), text).unwrap();
            }
            output(&nix, name, attribute, apply)
        };
        match name.as_str() {
            "nixos-flake" => {
                let settings = flake("nixosConfigurations.machine", "system: system.checked.nix.settings");
                assert_eq!(settings["negative-cache"], true);
            }
            "home-flake" => {
                let settings = flake("homeConfigurations.you", "home: home.checked.nix.settings");
                assert_eq!(settings["negative-cache"], true);
            }
            "dev-shell" => {
                let hook = flake("devShells.x86_64-linux.default", "shell: [ shell.drvPath shell.shellHook ]");
                let hook = hook[1].as_str().unwrap();
                assert!(hook.contains("negative-cache = true") && hook.ends_with("echo welcome"), "{hook}");
            }
            "nixos-settings" => {
                let system = evaluate_module(&nix, text, "./project/nix/modules/nixos.nix", "nix.settings");
                assert_eq!(system["negative-cache-ttl"], 24 * 60 * 60);
                assert_eq!(system["negative-cache-transient-exit-codes"], json!([75, 99]));
            }
            "nixos-without-flakes" => {
                let system = evaluate_module(&nix, text, "", "nix.settings");
                assert_eq!(system["negative-cache"], true);
            }
            "overlay" => {
                let packages = evaluate_module(&nix, text, "", "environment.systemPackages");
                assert_eq!(packages.as_array().map(Vec::len), Some(1), "{packages}");
            }
            "shell-without-flakes" => {
                nix.write("work/shell.nix", text);
                let hook = parse(expression(&nix, "(import ./shell.nix { inherit pkgs; }).shellHook"));
                assert!(hook.as_str().unwrap().contains("negative-cache = true"), "{hook}");
                // Without an argument it takes the nixpkgs that NIX_PATH names.
                nix.run("NIX_PATH=nixpkgs=$PWD/nixpkgs nix-instantiate shell.nix").exits(0);
            }
            other => panic!("what is to be done with the expression '{other}' of docs/install.md?"),
        }
    }
    assert_eq!(documented.len(), 7, "{:?}", documented.keys());
}

fn evaluate_module(nix: &Scratch, text: &str, modules: &str, what: &str) -> Value {
    nix.write("work/documented.nix", text);
    parse(expression(
        nix,
        &format!(
            "(import ./nixpkgs/nixos.nix {{
               pkgs = import ./nixpkgs {{ overlays = [ (import ./project {{ inherit pkgs; }}).overlay ]; }};
               inherit (pkgs) lib; modules = [ ./documented.nix {modules} ]; }}).checked.{what}"
        ),
    ))
}

#[test]
fn the_templates_evaluate() {
    let nix = checkout();
    let paths = output(&nix, "project", "templates", "builtins.mapAttrs (_: template: toString template.path)");
    for name in ["project", "nixos"] {
        let path = paths[name].as_str().unwrap();
        nix.run(&format!("cp -r {path} {name}-template; chmod -R u+w {name}-template")).exits(0);
        let text = fs::read_to_string(nix.path(&format!("work/{name}-template/flake.nix"))).unwrap();
        assert!(text.contains(&format!("inputs.nix-negative-cache.url = \"{SOURCE}\";")), "{text}");
    }
    assert_eq!(paths["default"], paths["project"]);
    let shells =
        output(&nix, "project-template", "devShells", "builtins.mapAttrs (_: shells: shells.default.shellHook)");
    assert!(shells["x86_64-linux"].as_str().unwrap().contains("negative-cache = true"), "{shells}");
    nix.run("cat project-template/.envrc").prints("use flake");
    let settings = output(&nix, "nixos-template", "nixosConfigurations.machine", "system: system.checked.nix.settings");
    assert_eq!(settings["negative-cache-ttl"], 24 * 60 * 60);
}

#[test]
fn it_is_usable_without_flakes() {
    let nix = checkout();
    // Nothing is fetched: without NIX_PATH there is no nixpkgs.
    nix.run("NIX_PATH=nixpkgs=$PWD/nixpkgs nix-instantiate project -A packages.default").exits(0);
    nix.run("NIX_PATH=nixpkgs=$PWD/nixpkgs nix-instantiate project/shell.nix").exits(0);
    nix.run("NIX_PATH= nix-instantiate project -A packages.default").exits(1).says("nixpkgs");
    nix.run("NIX_PATH= nix-instantiate project -A packages.default --arg pkgs 'import ./nixpkgs { }'").exits(0);
    let same = "(import ./project { inherit pkgs; }).bundle.drvPath
                == (import ./nixpkgs { overlays = [ (import ./project { inherit pkgs; }).overlay ]; }).nix-negative-cache.drvPath";
    assert_eq!(parse(expression(&nix, same)), json!(true));
}
