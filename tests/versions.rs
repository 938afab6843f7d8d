//! A client and a daemon of different versions of Nix. `./dev test --all` runs this for each pair.

use nix_negative_cache_tests::{REFUSED, Scratch, among_users, among_users_of_a_stock_daemon, exists};

/// What makes `other` run a command with the other Nix, and the same configuration.
const OTHER: &str = r#"
    other() { PATH=$NNC_OTHER_NIX_BIN:$PATH as "$@"; }
"#;

/// Where its programs are.
fn other_nix() -> String {
    let name = "NNC_OTHER_NIX_BIN";
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this with ./dev test --all"))
}

/// Commands that can use the other Nix, which the environment names.
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
            "NIX_CONFIG=$WITH; other games nix-build -A bad; other games nix-build -A bad; other games nix-build -A top; \
             other games nix-build -k; other games nix-build -A bad --option negative-cache-retry true; \
             other games $COMPANION list; other games nix-build -A good",
        ),
    )
    .exits(0)
    .does_not_say("warning:")
    .says_times(REFUSED, 3);
    assert!(!ran.stdout.contains("not now"), "{ran}");
    assert_eq!((nix.runs("bad"), nix.runs("good"), nix.runs("sibling")), (2, 1, 1), "{ran}");
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
