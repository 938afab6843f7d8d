//! A client and a daemon of different versions of Nix. `./dev test --all` runs this for each pair.

use nix_negative_cache_tests::caches::{Key, ON};
use nix_negative_cache_tests::{
    MACHINES, REFUSED, Ran, Scratch, among_users, among_users_of_a_stock_daemon, beside_a_daemon, exists,
};

/// Starts a daemon that loads the loader. The daemon is a process of its own, so a test can stop it.
const WITH_LOADER: &str = "NIX_CONFIG=$(with $LOADER printenv NIX_CONFIG) nix-daemon >";

/// How each warning of the loader begins.
const DOES_NOTHING: &str = "warning: nix-negative-cache does nothing";

/// Defines `other`, which runs a command with the other Nix and the same configuration.
const OTHER: &str = r#"
    other() { PATH=$NNC_OTHER_NIX_BIN:$PATH as "$@"; }
"#;

/// The folder with the programs of the other Nix.
fn other_nix() -> String {
    let name = "NNC_OTHER_NIX_BIN";
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this with ./dev test --all"))
}

/// Adds the definitions for the other Nix, which the environment names, to shell commands.
fn commands(commands: &str) -> String {
    format!("export NNC_OTHER_NIX_BIN={}\n{OTHER}{commands}", other_nix())
}

fn with_expressions() -> Scratch {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; top = needs "top" [ (fail "bad") (ok "sibling") ]; good = ok "good"; }"#);
    nix
}

#[test]
fn the_versions_differ() {
    let nix = with_expressions();
    let ran = among_users(&nix, &commands("as games nix --version; other games nix --version")).exits(0);
    let versions: Vec<&str> = ran.stdout.lines().collect();
    assert!(versions.len() == 2 && versions[0] != versions[1], "{ran}");
}

#[test]
fn a_client_without_the_plugin_is_served() {
    let nix = with_expressions();
    let ran = among_users(
        &nix,
        &commands(
            "other games nix-build -A bad; other news nix-build -A bad; other news nix-build -k; \
             other news $COMPANION retry $(nix-instantiate -A bad 2> /dev/null); other news nix-build -A bad; \
             other games nix-build -A good",
        ),
    )
    .exits(0)
    .does_not_say("warning:")
    .says_times(REFUSED, 2);
    assert_eq!((nix.runs("bad"), nix.runs("good"), nix.runs("sibling")), (2, 1, 1), "{ran}");
}

#[test]
fn a_client_with_the_plugin_and_a_stock_daemon() {
    let nix = with_expressions();
    let ran = among_users_of_a_stock_daemon(
        &nix,
        &commands(
            "NIX_CONFIG=$WITH; for i in 1 2 3; do other games nix-build -A bad; done; other games nix-build -A top; \
             other games nix-build -k; other games nix-build -A bad --option negative-cache-retry true; \
             other games $COMPANION list; other games nix-build -A good",
        ),
    )
    .exits(0)
    .does_not_say("warning:")
    .says_times(REFUSED, 3);
    assert!(!ran.stdout.contains("not now"), "{ran}");
    assert_eq!((nix.runs("bad"), nix.runs("good"), nix.runs("sibling")), (3, 1, 1), "{ran}");
}

#[test]
fn both_with_the_plugin() {
    let nix = with_expressions();
    let ran = among_users(
        &nix,
        &commands(
            "NIX_CONFIG=$WITH; other games nix-build -A bad; other games nix-build -A bad; \
             other games nix-build -A bad --option negative-cache-retry true; as news nix-build -A bad; \
             other games nix-build -k; other games nix-build -A good",
        ),
    )
    .exits(0)
    .does_not_say("warning:")
    .says_times(REFUSED, 3);
    assert_eq!((nix.runs("bad"), nix.recorded().len()), (2, 1), "{ran}");
    assert!(!exists(&nix.personal_database("games")), "{ran}");
}

/// Each Nix has its own words for how a builder ended.
#[test]
fn a_machine_with_the_other_nix() {
    let nix = Scratch::new();
    let runs = nix.path("runs").display().to_string();
    nix.expression(&format!(r#"drv "bad" "read x < {runs}/good && echo $x > $out || exit 3" {{ }}"#));
    let line = |line: &str| {
        nix.run(&commands(&format!(
            "{MACHINES}\nPATH=$NNC_OTHER_NIX_BIN:$PATH machine there; \
             build() {{ nix-build --no-out-link -j0 --builders \"$(builders there)\" --option sandbox true \"$@\"; }}; {line}"
        )))
    };
    let ran = line("build; build; true").says_times(REFUSED, 1);
    assert_eq!((nix.runs("bad"), &nix.records()[0]["exitCode"]), (1, &3.into()), "{ran}");
    nix.write("runs/good", "x\n");
    line("build --option negative-cache-retry true").exits(0);
    assert_eq!(nix.recorded().len(), 0);
}

/* ---- One loader for both ---- */

/// Creates `$OURS`, an installation without plugins, and defines `both`, which runs a command with this Nix and with the
/// other one.
const OURS: &str = r#"
    OURS=$PWD/../ours; LIBRARY=libnix_negative_cache.so; LOADER=$OURS/loader/$LIBRARY
    mkdir -p $OURS/loader; cp $PLUGIN $OURS/loader; rm -rf $OURS/nix-*
    both() { "$@"; PATH=$NNC_OTHER_NIX_BIN:$PATH "$@"; }
    THIS=$(nix --version | sed 's/.* //'); OTHER=$(PATH=$NNC_OTHER_NIX_BIN; nix --version); OTHER=${OTHER##* }
    plugin() { mkdir -p $OURS/nix-$2; cp $INSTALLATION/nix-$1/$LIBRARY $OURS/nix-$2; }
    with() { NIX_CONFIG=$'negative-cache = true\nplugin-files = '$1 "${@:2}"; }
"#;

fn with_loader(nix: &Scratch, line: &str) -> Ran {
    nix.run(&format!("export NNC_OTHER_NIX_BIN={}\n{OURS}\n{line}", other_nix()))
}

#[test]
fn each_gets_its_own_plugin() {
    for named in ["$LOADER", "$OURS/loader"] {
        let nix = with_expressions();
        let line = format!("plugin $THIS $THIS; plugin $OTHER $OTHER; both with {named} nix-build -A bad");
        let ran = with_loader(&nix, &line).exits(100).does_not_say("warning:");
        // A failure is believed only with the same version of Nix, so each version builds it.
        assert_eq!(nix.runs("bad"), 2, "{ran}");
        let ran = with_loader(&nix, &line).exits(100).does_not_say("warning:");
        assert!(ran.stderr.contains(REFUSED), "{ran}");
    }
}

#[test]
fn the_one_without_a_plugin_warns() {
    for named in ["$LOADER", "$OURS/loader"] {
        let nix = with_expressions();
        let line = format!(
            "plugin $OTHER $OTHER; with {named} nix-build -A bad; with {named} nix-build -A bad; echo $?
             both with {named} nix-instantiate --eval -E 'builtins ? knownFailure'"
        );
        let ran = with_loader(&nix, &line).exits(0).says_times(DOES_NOTHING, 3).does_not_say(REFUSED);
        ran.says("/ours' has plugins for Nix 2.").prints("100\nfalse\ntrue");
        assert_eq!(nix.runs("bad"), 2);
    }
}

#[test]
fn the_others_plugin_in_the_place_of_its_own() {
    for named in ["$LOADER", "$OURS/loader"] {
        let nix = with_expressions();
        let line = format!(
            "plugin $OTHER $THIS; plugin $THIS $OTHER; both with {named} nix-build -A bad; echo $?
             both with {named} nix-instantiate --eval -E 'builtins ? knownFailure'"
        );
        let ran = with_loader(&nix, &line).exits(0).says_times(DOES_NOTHING, 4).says_times("was built for Nix 2.", 4);
        ran.does_not_say(REFUSED).prints("100\nfalse\nfalse");
        assert_eq!(nix.runs("bad"), 2);
    }
}

#[test]
fn a_daemon_without_a_plugin_and_a_client_with_one() {
    let nix = with_expressions();
    let client = "export NIX_REMOTE=daemon; unset NIX_CONFIG; PATH=$NNC_OTHER_NIX_BIN:$PATH; \
                  for i in 1 2 3; do with $LOADER nix-build -A bad; done; with $LOADER nix-build -A good";
    let line = beside_a_daemon(client).replace("nix-daemon >", WITH_LOADER);
    let ran = with_loader(&nix, &format!("plugin $OTHER $OTHER; {line}")).exits(0).says_times(REFUSED, 1);
    ran.does_not_say(DOES_NOTHING);
    assert_eq!((nix.runs("bad"), nix.runs("good")), (2, 1));
    let said = std::fs::read_to_string(nix.path("daemon-log")).unwrap();
    assert_eq!(said.matches(DOES_NOTHING).count(), 1, "{said}");
}

#[test]
fn what_one_version_publishes_another_one_refuses() {
    let nix = Scratch::in_sandbox();
    nix.expression(r#"{ library = drv "library" "echo test 17 failed; exit 1" { }; }"#);
    let key = Key::new(&nix, "ci-1").public;
    let trusts = format!(
        "substituters =\nnegative-cache-substituters = file://{}\nnegative-cache-trusted-public-keys = {key}\n",
        nix.path("cache").display()
    );
    for (publisher, reader) in [("", "env PATH=$NNC_OTHER_NIX_BIN:$PATH"), ("env PATH=$NNC_OTHER_NIX_BIN:$PATH", "")] {
        std::fs::create_dir_all(nix.path("machines/laptop")).expect("a folder of the test");
        nix.write("machines/laptop/conf", &trusts);
        nix.run(&commands(&format!(
            "{ON}
             on ci {publisher} nix-build --no-out-link -A library
             on ci {publisher} $COMPANION publish --to file://$(realpath -m ../cache) --key-file ci-1.sec
             on laptop {reader} nix-build --no-out-link -A library; echo $?; rm -r ../machines ../cache"
        )))
        .exits(0)
        .prints_part("published 1 failure")
        .prints_part("\n100\n")
        .says("is not built: it failed")
        .says_times("building '", 1);
    }
}
