//! A command that asks what it will build, prints it, and then builds, hears of a known failure at the first question, before Nix
//! has looked at the closure. Everybody else gets Nix's whole answer.

use std::collections::BTreeSet;

use nix_negative_cache_tests::{REFUSED, Ran, Scratch, beside_a_daemon, beside_a_stock_daemon, say_left_out, short};

/// A failure at the bottom, siblings that can be built, and a request that is itself known to fail.
const CLOSURE: &str = r#"rec {
    bad = fail "bad";
    mid = needs "mid" [ bad (ok "near") ];
    top = needs "top" [ mid (ok "far") ];
    shell = needs "shell" [ top ];
    free = needs "free" [ (ok "below") ];
    above = drv "above" "exit 4" { inputs = [ (ok "input") ]; };
}"#;

/// What Nix prints above the derivations that it is about to build.
const LIST: &str = "will be built";

fn with_failures() -> Scratch {
    let nix = Scratch::new();
    nix.expression(CLOSURE);
    nix.run("nix-build -A bad -A above -k").exits(100);
    assert_eq!(["bad", "above", "input"].map(|name| nix.runs(name)), [1, 1, 1]);
    // Otherwise there is nothing to list for its dependent.
    nix.run(
        "nix-store --delete $(nix-store -q --outputs $(nix-store -qR $(nix-instantiate -A above) | grep input.drv))",
    )
    .exits(0);
    nix
}

/// How often the builders of what is not known to fail ran.
fn others(nix: &Scratch) -> usize {
    ["near", "mid", "far", "top", "shell", "below", "free"].map(|name| nix.runs(name)).iter().sum::<usize>()
        + nix.runs("input")
        - 1
}

/// The commands that print and build, with `@` for the attribute.
const COMMANDS: [(&str, i32); 13] = [
    ("nix-build -A @", 100),
    ("nix-build -A @ --no-out-link -j 2 --option log-lines 5", 100),
    ("nix-store --realise $(nix-instantiate -A @)", 100),
    ("nix-store -r $(nix-instantiate -A @)", 100),
    ("nix-store -r $(nix-instantiate -A @) $(nix-store --add ./lib.nix)", 100),
    ("nix-shell -E 'with import ./lib.nix; needs \"of-shell\" [ (import ./.).@ ]' --run 'echo entered'", 100),
    ("nix-shell -E 'with import ./lib.nix; needs \"of-shell\" [ (import ./.).@ ./lib.nix ]' --run 'echo entered'", 100),
    ("nix-env -f . -iA @", 100),
    ("nix-env -f . -p ../profile --set -A @", 100),
    ("nix build -f . @", 1),
    ("nix --option log-lines 5 --log-format raw build -f . @ --json --no-link", 1),
    ("nix run -f . @ -- --dry-run", 1),
    ("nix shell -f . @ -c echo entered --dry-run", 1),
];

#[test]
fn a_refusal_is_never_a_success_and_lists_nothing() {
    let nix = with_failures();
    for attribute in ["above", "bad", "top"] {
        for (command, status) in COMMANDS {
            let ran = nix.run(&command.replace('@', attribute)).exits(status).says_times(REFUSED, 1).prints("");
            assert!(!ran.stderr.contains(LIST), "{ran}");
        }
    }
    assert_eq!(others(&nix), 0, "nothing was built");
    assert_eq!(["bad", "above"].map(|name| nix.runs(name)), [1, 1]);
}

/// A daemon can't tell what its client will do next, so it answers in full. A client of a stock daemon refuses its requests
/// themselves at once; it can't look at the closure.
#[test]
fn a_refusal_through_a_daemon_is_never_a_success() {
    let nix = Scratch::new();
    nix.expression(CLOSURE);
    for (way, beside) in [("stock", beside_a_stock_daemon as fn(&str) -> String), ("plugin", beside_a_daemon)] {
        let through = |line: &str| nix.run(&beside(&format!("export NIX_REMOTE=daemon; {line}")));
        // A failure through a stock daemon is doubtful until it comes again.
        through("nix-build -A bad -A above -k; nix-build -A bad -A above -k; true").exits(0);
        let runs = ["bad", "above"].map(|name| nix.runs(name));
        for attribute in ["above", "top"] {
            for (command, _) in COMMANDS {
                let ran = through(&command.replace('@', attribute)).says(REFUSED).prints("");
                assert_ne!(ran.status, 0, "{way}: {ran}");
                let lists = ran.stderr.contains(LIST);
                // The new commands of the oldest Nix list nothing.
                assert!(!lists || way == "plugin" || attribute == "top", "{way}: {ran}");
            }
        }
        assert_eq!(["bad", "above"].map(|name| nix.runs(name)), runs, "{way}");
    }
}

/// What is there already is not looked up.
#[test]
fn where_nothing_is_to_be_built_no_database_is_opened() {
    // With content-addressed derivations, Nix asks about realisations that are not there.
    let nix = with_failures().config("experimental-features = nix-command");
    nix.run("nix-build -A free").exits(0);
    let opened = "2>&1 | grep -c 'failures.sqlite\", O_RDWR'";
    for command in ["nix-build --no-out-link -A @", "nix-store -r $(nix-instantiate -A @)"] {
        let count = |attribute: &str| {
            let line = format!("strace -f -e trace=openat {} {opened}", command.replace('@', attribute));
            nix.run(&line).stdout.trim().to_owned()
        };
        assert_eq!(count("free"), "0", "{command}");
        assert_ne!(count("above"), "0", "{command}");
    }
}

#[test]
fn an_import_from_a_known_failure_is_refused() {
    let nix = with_failures();
    for attribute in ["above", "top"] {
        for command in ["nix-build", "nix-instantiate --eval --read-write-mode"] {
            let ran = nix.run(&format!("{command} -E 'import (import ./.).{attribute}'")).says(REFUSED).prints("");
            assert_ne!(ran.status, 0, "{ran}");
        }
    }
    assert_eq!(others(&nix), 0);
}

#[test]
fn who_wants_a_retry_or_a_warning_gets_the_whole_list() {
    let nix = with_failures();
    for option in ["negative-cache-retry true", "negative-cache-action warn", "negative-cache false"] {
        for attribute in ["above", "top"] {
            nix.run(&format!("nix-build -A {attribute} --option {option}")).exits(100).says(LIST).does_not_say(REFUSED);
        }
    }
}

#[test]
fn others_get_the_whole_list() {
    let nix = with_failures();
    let derivation = nix.run("nix-instantiate -A top").exits(0).stdout.trim().to_owned();
    for command in ["nix-store -r --ignore-unknown", "nix-store -r --ignore-unknown --option log-lines 5"] {
        nix.run(&format!("{command} {derivation}")).exits(100).says(LIST).says_times(REFUSED, 1);
    }
    // The first line of a script may have options that the command line does not show.
    nix.write("work/shell.sh", "#!/usr/bin/env nix-shell\n#! nix-shell -i bash -A shell default.nix\necho entered\n");
    nix.run("nix-shell shell.sh").exits(100).says(LIST).says_times(REFUSED, 1).prints("");
    // So may a file that has the name of a command.
    nix.write("work/build", "#!/usr/bin/env nix\n#! nix build -f default.nix top\n");
    nix.run("nix build -f . top").exits(1).prints("");
    std::fs::remove_file(nix.path("work/build")).expect("a file of the test");
    // The older programs read options there, too.
    nix.run("nix-build -A top -- --dry-run").exits(0).says(LIST).says("would not be built").does_not_say(REFUSED);
    assert_eq!(others(&nix), 0);
}

#[test]
fn a_flake_is_not_checked_with_success() {
    let nix = with_failures();
    nix.write(
        "work/flake.nix",
        &r#"{ outputs = { self }: { checks.SYSTEM = with import ./lib.nix; {
            first = derivation { name = "first"; system = "SYSTEM"; builder = "/bin/sh"; args = [ "-c" "exit 1" ]; };
        }; }; }"#
            .replace("SYSTEM", &format!("{}-linux", std::env::consts::ARCH)),
    );
    nix.write("work/lib.nix", "{}");
    let failed = nix.run("nix flake check path:.").does_not_say(REFUSED);
    assert_ne!(failed.status, 0, "{failed}");
    nix.run("nix flake check path:.").exits(failed.status).says(REFUSED);
    nix.run("nix flake check --keep-going path:.").exits(failed.status).says(REFUSED);
}

#[test]
fn with_keep_going_the_list_has_what_is_built() {
    for command in ["nix-build -k", "nix-build --keep-going --no-out-link", "nix-store -r -k $(nix-instantiate)"] {
        let nix = with_failures();
        let ran = nix.run(command).exits(100).says(REFUSED);
        let list: BTreeSet<&str> = ran
            .stderr
            .lines()
            .skip_while(|line| !line.contains(LIST))
            .skip(1)
            .take_while(|line| line.starts_with("  /"))
            .filter_map(|line| line.trim_end_matches(".drv").rsplit('-').next())
            .collect();
        assert_eq!(list, BTreeSet::from(["near", "far", "free", "below"]), "{ran}");
        let runs = ["near", "far", "free", "below", "mid", "top", "shell", "input", "bad"].map(|name| nix.runs(name));
        assert_eq!(runs, [1, 1, 1, 1, 0, 0, 0, 1, 1], "{ran}");
    }
}

/// The commands that only print what they would build.
const DRY_RUNS: [&str; 6] = [
    "nix-build --dry-run -A @",
    "nix-store -r --dry-run $(nix-instantiate -A @)",
    "nix-shell --dry-run -E 'with import ./lib.nix; needs \"of-shell\" [ (import ./.).@ ]'",
    "nix-env -f . -iA @ --dry-run",
    "nix build --dry-run -f . @",
    "nix build --dry-run --json -f . @",
];

#[test]
fn a_dry_run_lists_what_stock_lists_and_names_what_is_known_to_fail() {
    let nix = with_failures();
    for (attribute, known) in [("top", "bad"), ("above", "above")] {
        for command in DRY_RUNS {
            let command = command.replace('@', attribute);
            let stock = nix.run(&format!("{command} --option negative-cache false")).exits(0).does_not_say(" failed ");
            let ran = nix.run(&command).exits(0).prints(stock.stdout.trim()).does_not_say(REFUSED);
            let warning = format!("-{known}.drv' would not be built: it failed ");
            let ran =
                ran.says_times(&warning, 1).says(" (builder failed with exit code ").says("nix-negative-cache show /");
            let without: Vec<&str> = ran.stderr.lines().filter(|line| !line.contains(&warning)).collect();
            assert_eq!(without, stock.stderr.lines().collect::<Vec<_>>(), "{ran}");
            nix.run(&format!("{command} --option negative-cache-action warn"))
                .exits(0)
                .says(&format!("-{known}.drv' would be built although it failed "));
            nix.run(&format!("{command} --option negative-cache-retry true")).exits(0).does_not_say(" failed ");
        }
    }
    assert_eq!((others(&nix), nix.runs("bad")), (0, 1));
    nix.run("nix-build --dry-run -A free").exits(0).says(LIST).does_not_say("warning");
}

/// What a command has refused, what it says to have failed for want of that, and which builders have run.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    status: i32,
    refused: BTreeSet<String>,
    dependents: BTreeSet<String>,
    built: Vec<(String, usize)>,
}

impl Outcome {
    fn of(nix: &Scratch, ran: &Ran, keep_going: bool) -> Outcome {
        let names = |text: &str| -> BTreeSet<String> {
            let lines = ran.stderr.lines().filter(|line| line.contains(text));
            lines.filter_map(|line| Some(line.split(".drv'").next()?.rsplit('-').next()?.to_owned())).collect()
        };
        // Without keep-going, these are only those on some way to a request.
        let dependents = if keep_going { names("failed to build") } else { BTreeSet::new() };
        let mut built: Vec<_> = std::fs::read_dir(nix.path("runs"))
            .expect("the runs")
            .map(|file| file.expect("a run").file_name().to_string_lossy().into_owned())
            .map(|name| (name.clone(), nix.runs(&name)))
            .collect();
        built.sort();
        Outcome { status: ran.status, refused: names(REFUSED), dependents, built }
    }
}

/// Numbers that only look random (xorshift), the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }
}

/// A derivation of a random graph.
struct Node {
    fails: bool,
    floating: bool,
    /// Whether its outputs can be substituted.
    substitutable: bool,
    /// Whether it says that they are not to be.
    never_substituted: bool,
    /// Which of its two outputs are valid.
    valid: [bool; 2],
    /// The outputs that it needs: the number of the derivation, and whether it is the second output.
    inputs: BTreeSet<(usize, bool)>,
}

impl Node {
    fn random(number: usize, with_floating: bool, numbers: &mut Numbers) -> Node {
        let needed = if number == 0 { 0 } else { 1 + numbers.below(3) };
        let inputs = (0..needed).map(|_| (numbers.below(number as u64) as usize, numbers.one_in(3))).collect();
        let substitutable = numbers.one_in(9);
        let valid = [numbers.one_in(12), numbers.one_in(12)];
        Node {
            fails: numbers.one_in(3),
            floating: with_floating && numbers.one_in(6),
            substitutable,
            never_substituted: substitutable && numbers.one_in(3),
            valid,
            inputs,
        }
    }

    /// Its builder fails unless a file is there, so that everything can be built and copied first.
    fn expression(&self, number: usize, permission: &str) -> String {
        let inputs: Vec<String> = self
            .inputs
            .iter()
            .map(|(input, second)| format!("n{input}.{}", if *second { "dev" } else { "out" }))
            .collect();
        let fails = if self.fails { format!("[ -e {permission} ] || exit 1; ") } else { String::new() };
        format!(
            "n{number} = drv \"n{number}\" \"{fails}echo {number} > $out; echo {number} > $dev\" ({{ \
             outputs = [ \"out\" \"dev\" ]; inputs = [ {} ]; {} }} // {});",
            inputs.join(" "),
            if self.never_substituted { "allowSubstitutes = false;" } else { "" },
            if self.floating { "floating" } else { "{ }" },
        )
    }
}

/// What is refused by a look at what is not built is what is refused by Nix's whole answer.
#[test]
fn random_closures() {
    let (rounds, nodes) = if short() { (2, 14) } else { (6, 14) };
    if short() {
        say_left_out("4 of 6 rounds of random_closures");
    }
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let (mut compared, mut refusals) = (0, 0);
    for round in 0..rounds {
        let nix = Scratch::new().config("keep-failed = false");
        let permission = nix.path("permission").display().to_string();
        let with_floating = round % 3 == 2;
        let graph: Vec<Node> = (0..nodes).map(|number| Node::random(number, with_floating, &mut numbers)).collect();
        let all: Vec<String> =
            graph.iter().enumerate().map(|(number, node)| node.expression(number, &permission)).collect();
        nix.expression(&format!("rec {{ {} }}", all.join("\n")));
        if with_floating {
            // Nix can't be told to forget such outputs one by one.
            nix.run(&format!("nix-build -k --no-out-link {}", attributes(0..nodes / 2)));
        } else {
            prepare(&nix, &graph);
        }
        keep(&nix, nodes);
        for _ in 0..4 {
            let keep_going = numbers.one_in(2);
            let requested: BTreeSet<u64> =
                (0..=numbers.below(3)).map(|_| nodes as u64 - 1 - numbers.below(6)).collect();
            let requested: Vec<String> = requested
                .iter()
                .map(|number| format!("$DERIVATION_{number}{}", if numbers.one_in(4) { "!dev" } else { "" }))
                .collect();
            let flag = if keep_going { "-k" } else { "" };
            let outcomes = ["", "--ignore-unknown"].map(|whole| {
                nix.run("rm -rf ../store ../var ../runs && cp -a ../kept/. ..").exits(0);
                let ran = nix.run(&format!(
                    ". ../derivations; nix-store --realise {whole} {flag} --substituters file://$PWD/../cache \
                     --option require-sigs false {}",
                    requested.join(" ")
                ));
                // Nix 2.8 itself may end so, if it builds a derivation that has a valid output.
                let is_broken = ran.stderr.contains("requires non-existent output");
                (!is_broken).then(|| Outcome::of(&nix, &ran, keep_going))
            });
            let [Some(at_once), Some(by_whole_answer)] = &outcomes else { continue };
            compared += 1;
            refusals += usize::from(!at_once.refused.is_empty());
            assert_eq!(at_once, by_whole_answer, "round {round}, {flag} {requested:?}: {}", all.join("\n"));
        }
    }
    assert!(compared >= 2 * rounds && refusals >= rounds, "too little: {compared} compared, {refusals} refusals");
}

/// The arguments with which Nix evaluates these derivations.
fn attributes(numbers: impl IntoIterator<Item = usize>) -> String {
    numbers.into_iter().map(|number| format!(" -A n{number}")).collect()
}

/// Keeps the store as it is, and writes down the paths of all derivations.
fn keep(nix: &Scratch, nodes: usize) {
    let derivations: Vec<String> = (0..nodes)
        .map(|number| {
            format!("echo DERIVATION_{number}=$(nix-instantiate -A n{number}.out 2>/dev/null | sed 's/!.*//')")
        })
        .collect();
    nix.run(&format!("{{ {}; }} > ../derivations", derivations.join("; "))).exits(0);
    nix.run("rm -rf ../runs/* ../kept; mkdir ../kept; cp -a ../store ../var ../runs ../kept").exits(0);
}

/// Builds all of a graph, copies what can be substituted to a cache, has what fails recorded, and leaves what is valid.
fn prepare(nix: &Scratch, graph: &[Node]) {
    let off = "--option negative-cache false";
    nix.run(&format!("touch ../permission; nix-build --no-out-link {off}")).exits(0);
    let names = |wanted: &dyn Fn(&Node) -> bool| attributes((0..graph.len()).filter(|number| wanted(&graph[*number])));
    let outputs = "for_outputs() { for name in $(nix-instantiate \"$@\" 2>/dev/null); do name=${name%!*}; \
         nix-store -q --outputs $name; done | sort -u; }";
    let substitutable = names(&|node| node.substitutable);
    if !substitutable.is_empty() {
        nix.run(&format!(
            "{outputs}; nix copy --no-check-sigs {off} --to file://$PWD/../cache $(for_outputs {substitutable})"
        ))
        .exits(0);
    }
    let failing = names(&|node| node.fails);
    if !failing.is_empty() {
        nix.run(&format!(
            "{outputs}; nix-store --delete --ignore-liveness $(for_outputs {failing}); rm ../permission; \
             nix-build -k --no-out-link --substituters '' {failing}"
        ))
        .exits(100);
    }
    nix.run("rm -f ../permission").exits(0);
    let invalid: Vec<String> = graph
        .iter()
        .enumerate()
        .flat_map(|(number, node)| {
            let outputs = [("out", node.valid[0]), ("dev", node.valid[1])].into_iter();
            outputs.filter(|(_, valid)| !valid).map(move |(output, _)| format!("n{number}.{output}"))
        })
        .collect();
    nix.run(&format!(
        "for output in {}; do \
           path=$(nix-store -q --outputs $(nix-instantiate -A $output 2>/dev/null) 2>/dev/null | \
             if [ ${{output#*.}} = out ]; then grep -v -- '-dev$'; else grep -- '-dev$'; fi); \
           [ -e \"$path\" ] && nix-store --delete --ignore-liveness $path; done",
        invalid.join(" ")
    ));
}
