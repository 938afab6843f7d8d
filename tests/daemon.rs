//! The plugin in nix-daemon, for clients without it, and in what Nix starts to build elsewhere.

use nix_negative_cache_tests::{CLIENT, REFUSED, Scratch, exists, with_daemon};

#[test]
fn failures_of_all_clients_are_known_to_all() {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; top = needs "top" [ (fail "bad") (ok "sibling") ]; }"#);
    // Each connection opens the database in a process that the daemon forks for it.
    let ran = with_daemon(
        &nix,
        &format!(
            "{CLIENT}; nix-build -A bad; first=$?; nix-build -A bad; [ $? = $first ] && echo as for a real failure; \
             nix-build -A top; nix-build -k -A top; nix build -f . top"
        ),
    );
    let ran =
        ran.says_times("-bad.drv' failed with exit code 3", 1).says_times(REFUSED, 4).prints("as for a real failure");
    assert!(ran.status != 0, "{ran}");
    assert_eq!((nix.runs("bad"), nix.runs("top"), nix.runs("sibling")), (1, 0, 1), "{ran}");
    assert_eq!(nix.recorded(), ["bad"]);
}

/// What a builder machine is asked for comes without its dependencies (`Store::buildDerivation`).
#[test]
fn a_builder_machine_with_the_plugin_refuses() {
    for attributes in ["{ }", "floating"] {
        let nix = Scratch::new();
        nix.expression(&format!(
            r#"drv "bad" "read x < {}/good && echo $x > $out" {attributes}"#,
            nix.path("").display()
        ));
        // The machine is the daemon; who asks has a store elsewhere (or each would wait for the other's lock), no plugin.
        let ask = "NIX_CONFIG='substituters =' nix-build --store $PWD/../asking --no-out-link -j0 \
                   --builders \"unix://$PWD/../socket x86_64-linux - 1 1 ca-derivations\"";
        let ran = with_daemon(&nix, &format!("{ask}; {ask}"));
        assert!(ran.status != 0, "{ran}");
        let ran = ran.says(REFUSED);
        assert_eq!((nix.runs("bad"), nix.recorded()), (1, vec!["bad".to_owned()]), "{attributes}: {ran}");
        // Built where nobody knows of the failure: it is there, so it is not refused.
        nix.write("good", "x\n");
        nix.run("nix-build --option negative-cache false").exits(0);
        let ran = with_daemon(&nix, ask).exits(0);
        assert_eq!((nix.runs("bad"), nix.recorded().len()), (2, 1), "{attributes}: {ran}");
    }
}

/// The build hook does not know of the command line of the Nix that started it, so it keeps out.
#[test]
fn off_is_off_in_the_build_hook() {
    let nix = Scratch::without_setting();
    let plugin = nix.run("echo $PLUGIN").stdout;
    let conf = std::fs::read_to_string(nix.path("etc/nix.conf")).unwrap();
    nix.write("etc/nix.conf", &format!("{conf}plugin-files = {plugin}negative-cache = true\n"));
    nix.expression(r#"fail "bad""#);
    let build = "nix-build -j0 --builders \"$PWD/../machine x86_64-linux\" --option negative-cache false";
    let ran = nix.run(&format!("unset NIX_CONFIG; {build}; {build}"));
    assert!(ran.status != 0, "{ran}");
    let ran = ran.does_not_say(REFUSED);
    assert!(!exists(&nix.path("machine/nix/var/nix/negative-cache")) && !exists(&nix.database()), "{ran}");
}
