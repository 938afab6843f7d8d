//! The manual names every command and every option of the program.

use nix_negative_cache_tests::Scratch;
use regex::Regex;

#[test]
fn every_command_and_option_is_in_the_manual() {
    let manual = include_str!("../docs/manual.md");
    let start = manual.find("\n### Commands\n").expect("a chapter about commands");
    let commands = manual[start..].split("\n## ").next().unwrap_or_default();
    let nix = Scratch::without_setting();
    let help = nix.run("$COMPANION --help").exits(0).stdout;
    let names = Regex::new(r"(?m)^  ([a-z-]+) ").unwrap();
    let list = help.split("Commands:").nth(1).and_then(|rest| rest.split("Options:").next()).expect("commands");
    let names: Vec<&str> = names.captures_iter(list).map(|found| found.extract::<1>().1[0]).collect();
    assert!(names.len() > 5, "{names:?}");
    let option = Regex::new(r"--[a-z][a-z-]+").unwrap();
    for name in names.into_iter().filter(|name| *name != "help") {
        assert!(commands.contains(&format!("\n| `{name}")), "the manual has no command '{name}'");
        let help = nix.run(&format!("$COMPANION {name} --help")).exits(0).stdout;
        for option in option.find_iter(&help) {
            assert!(commands.contains(option.as_str()), "the manual has no '{}' of '{name}'", option.as_str());
        }
    }
}
