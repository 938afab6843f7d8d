//! What other code in a process of Nix sees of the plugin. Plugins of the tests, which are loaded beside it, take a look.

use std::fs;

use nix_negative_cache_tests::{Ran, Scratch, plugin_of_the_tests};

/// Runs a command of Nix that loads a plugin of the tests after the plugin itself, and returns what that one wrote.
fn with_plugin_of_the_tests(nix: &Scratch, file: &str, writes_to: &str, command: &str) -> (Ran, String) {
    let plugin = plugin_of_the_tests(file, &nix.path(""));
    let report = nix.path("report");
    let ran = nix.run(&format!(
        "NIX_CONFIG=\"$NIX_CONFIG\"$'\\n'\"plugin-files = $PLUGIN {}\" {writes_to}={} {command}",
        plugin.display(),
        report.display()
    ));
    let report = fs::read_to_string(report).unwrap_or_else(|error| panic!("no report: {error}\n{ran}"));
    (ran, report)
}

/// The plugin replaces Nix's logger for each request, while other threads may log.
#[test]
fn there_is_always_a_logger() {
    let nix = Scratch::new();
    nix.expression(
        r#"let path = ok "ok"; in
           builtins.foldl' (sum: _: sum + builtins.stringLength (builtins.readFile path)) 0 (builtins.genList (n: n) 1000)"#,
    );
    let (ran, report) =
        with_plugin_of_the_tests(&nix, "logger.c", "WATCHED", "nix-instantiate --eval --read-write-mode");
    ran.exits(0).prints("5000");
    let numbers: Vec<u64> = report.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [changes, nulls] = numbers[..] else { panic!("{report}") };
    assert!(changes > 0 && nulls == 0, "{report}");
}

/// Up to Nix 2.34 a worker asks what is missing and throws the answer away, so the plugin leaves this one question unanswered.
#[test]
fn only_the_question_of_a_worker_is_left_unanswered() {
    let nix = Scratch::new();
    nix.expression(r#"ok "ok""#);
    let output = nix.run("nix-store --query --outputs $(nix-instantiate)").exits(0).stdout;
    let command = format!("ASKED_ABOUT={} nix-store --realise $(nix-instantiate)", output.trim());
    let (ran, report) = with_plugin_of_the_tests(&nix, "asking.cc", "ANSWER", &command);
    ran.exits(0).prints(output.trim());
    assert_eq!(report, "missing");
}
