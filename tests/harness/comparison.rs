//! The same commands with stock Nix and with the plugin, side by side: nobody must be able to tell the difference.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::LazyLock;

use nix_version::Flavour;
use regex::Regex;
use serde_json::Value;

use crate::{Plugin, Ran, Scratch, temporary_folder, this_nix, to_preload};

/// Commands to run in fresh installations.
#[derive(Clone, Debug)]
pub struct Scenario {
    expression: String,
    config: Vec<String>,
    files: Vec<(String, String)>,
    commands: Vec<String>,
    again: Option<Again>,
    whatever: Vec<String>,
    cut_off: Vec<String>,
    foreseen: Vec<String>,
}

/// How the same commands compare once their failures are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// They end with the same status, print the same, and leave the same links and profiles.
    SameAnswer,
    /// What is valid afterwards is the same as well: with `--keep-going`, all that can be built is.
    SameStore,
}

/// Everything that a person could notice.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// Status, standard output and standard error of each command.
    commands: Vec<(i32, String, String)>,
    /// By kind: what is left behind.
    left: BTreeMap<&'static str, String>,
}

/// How the installation is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setup {
    Stock,
    LoadedAndOff,
    On,
}

impl Scenario {
    /// With a `default.nix` that sees what `lib.nix` defines.
    pub fn new(expression: &str) -> Scenario {
        Scenario {
            expression: expression.to_owned(),
            config: Vec::new(),
            files: Vec::new(),
            commands: Vec::new(),
            again: None,
            whatever: Vec::new(),
            cut_off: Vec::new(),
            foreseen: Vec::new(),
        }
    }

    /// A line in the configuration of all of them.
    pub fn config(mut self, line: &str) -> Scenario {
        self.config.push(line.to_owned());
        self
    }

    /// A file in the work folder; `@ROOT@` is the folder of the installation.
    pub fn file(mut self, name: &str, text: &str) -> Scenario {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// A line of shell to run.
    pub fn run(mut self, command: &str) -> Scenario {
        self.commands.push(command.to_owned());
        self
    }

    /// Runs everything once more with the failures of the first time known. What Nix answers is still the same.
    pub fn again(mut self) -> Scenario {
        self.again = Some(Again::SameAnswer);
        self
    }

    /// As [`Scenario::again`], and what is valid afterwards is the same, too.
    pub fn again_with_the_same_store(mut self) -> Scenario {
        self.again = Some(Again::SameStore);
        self
    }

    /// Does not look at this kind of what is left behind.
    pub fn whatever(mut self, kind: &str) -> Scenario {
        self.whatever.push(kind.to_owned());
        self
    }

    /// Does not look at how often this builder ran, unless all go on after a failure: it is started when another one has
    /// failed, and may be killed for that before its first line.
    pub fn cut_off(mut self, name: &str) -> Scenario {
        self.cut_off.push(name.to_owned());
        self
    }

    /// Expects that with the plugin on, a dry run warns of this derivation, which is the only difference.
    pub fn foresees(mut self, name: &str) -> Scenario {
        self.foreseen.push(name.to_owned());
        self
    }

    /// Takes out the warnings of dry runs that are expected.
    fn take_foreseen(&self, seen: &mut Seen) {
        for name in &self.foreseen {
            let warning = format!("-{name}.drv' would not be built: it failed ");
            let mut count = 0;
            for (_, _, stderr) in &mut seen.commands {
                let (warnings, others): (Vec<&str>, Vec<&str>) =
                    stderr.split_inclusive('\n').partition(|line| line.contains(&warning));
                count += warnings.len();
                *stderr = others.concat();
            }
            assert!(count > 0, "no dry run warns of '{name}'");
        }
    }

    /// Runs it, and asserts that there is no difference.
    #[track_caller]
    pub fn compare(self) {
        let folder = temporary_folder();
        // The store's place is part of every store path, so it is the same for all.
        let root = folder.path().join("here");
        let stock = self.play(&root, Setup::Stock);
        for setup in [Setup::LoadedAndOff, Setup::On] {
            let mut with_plugin = self.play(&root, setup);
            if setup == Setup::On {
                self.take_foreseen(&mut with_plugin.first);
            }
            assert_same(&format!("{setup:?}"), &stock.first, &with_plugin.first);
            let (Some(stock), Some(second)) = (&stock.second, &with_plugin.second) else { continue };
            if setup == Setup::LoadedAndOff {
                assert_same("LoadedAndOff, second time", stock, second);
                continue;
            }
            for (command, (stock, known)) in self.commands.iter().zip(stock.commands.iter().zip(&second.commands)) {
                assert_eq!(
                    (stock.0, &stock.1),
                    (known.0, &known.1),
                    "status and output of '{command}' with known failures\nstock says:\n{}\nknown:\n{}",
                    stock.2,
                    known.2
                );
            }
            let kinds: &[&str] = match self.again {
                Some(Again::SameStore) => &["valid paths", "store", "links", "state"],
                _ => &["links", "state"],
            };
            for kind in kinds {
                assert_eq!(stock.left[kind], second.left[kind], "{kind} with known failures");
            }
            for name in &with_plugin.recorded {
                let line_of = format!("{name} ");
                let runs =
                    |seen: &Seen| seen.left["runs"].lines().find(|line| line.starts_with(&line_of)).map(str::to_owned);
                assert_eq!(runs(&with_plugin.first), runs(second), "'{name}' is known and not built again");
            }
        }
    }

    fn play(&self, root: &Path, setup: Setup) -> Played {
        fs::create_dir(root).expect("the folder of the installation");
        let mut nix = Scratch::at(root.to_owned());
        match setup {
            Setup::Stock => nix.plugin = Plugin::None,
            Setup::LoadedAndOff => {}
            Setup::On => nix = nix.config("negative-cache = true"),
        }
        fs::create_dir(nix.path("tmp")).expect("a folder of the test");
        for (name, text) in &self.files {
            let path = nix.path("work").join(name);
            fs::create_dir_all(path.parent().unwrap_or(root)).expect("a folder of the test");
            fs::write(&path, text.replace("@ROOT@", &root.to_string_lossy())).expect("a file of the test");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        }
        for line in &self.config {
            nix = nix.config(&line.replace("@ROOT@", &root.to_string_lossy()));
        }
        nix.expression(&self.expression);
        let preloaded = nix.nix_is_at_least(2, 35).then(|| to_preload("addresses", root));
        let first = self.look(&nix, preloaded.as_deref());
        let has_database = nix.path("var/negative-cache").exists();
        assert!(setup == Setup::On || !has_database, "{setup:?}: there is a database");
        let recorded = if has_database { nix.recorded() } else { Vec::new() };
        let second = self.again.map(|_| self.look(&nix, preloaded.as_deref()));
        drop(nix);
        fs::remove_dir_all(root).expect("the installation can be removed");
        Played { first, second, recorded }
    }

    fn look(&self, nix: &Scratch, preloaded: Option<&Path>) -> Seen {
        let temporary = nix.path("tmp");
        let temporary = temporary.to_string_lossy();
        let mut variables = vec![("TMPDIR", &*temporary)];
        let preloaded = preloaded.map(Path::to_string_lossy);
        variables.extend(preloaded.as_deref().map(|library| ("LD_PRELOAD", library)));
        let commands = self
            .commands
            .iter()
            .map(|command| {
                let ran = nix.run_with(&command.replace("@ROOT@", &nix.path("").to_string_lossy()), &variables);
                (ran.status, normalised(&ran.stdout), normalised(&ran.stderr))
            })
            .collect();
        // The table of realisations is there if the experimental feature is on, in all of them. Since 2.35 it has another name.
        let inventory = [
            (
                "valid paths",
                "ask() { sqlite3 -cmd '.timeout 20000' ../var/db/db.sqlite \"$1\"; }; \
                 ask 'select path, hash, narSize, deriver, sigs, ca from ValidPaths order by path; \
                 select a.path, b.path from Refs join ValidPaths a on a.id = referrer join ValidPaths b on b.id = reference \
                 order by 1, 2;' && table=$(ask .tables | grep -owE 'Realisations|BuildTraceV[0-9]+') && \
                 ask \"select drvPath, outputName from $table order by 1, 2;\"",
            ),
            ("store", "ls -A ../store"),
            ("logs", "mkdir -p ../log; cd ../log; find . -type f | sort | while read f; do echo $f; bzcat $f; done"),
            ("links", "find . -type l -printf '%p -> %l\\n' | sort"),
            // Process ids are in the names of what is in `temproots`, and in those in `gcroots/auto`, which are hashes.
            (
                "state",
                "cd ../var; find . ! -path './temproots/*' ! -path './negative-cache*' ! -name 'db.sqlite-*' \
                 ! -path './gcroots/auto/*' -printf '%p %y %l %m\\n' | sort; \
                 find gcroots/auto -type l -printf '%l\\n' | grep -v /tmp/nix-build | sort",
            ),
            ("runs", "cd ../runs; for f in $(ls); do echo $f $(wc -l < $f); done"),
            ("kept build directories", "ls ../tmp | sed -n '/[.]drv-/p'"),
        ];
        let all_go_on = self.commands.iter().all(|command| command.contains("--keep-going"));
        let left = inventory
            .into_iter()
            .filter(|(kind, _)| !self.whatever.iter().any(|whatever| whatever == kind))
            .map(|(kind, command)| {
                let Ran { stdout, stderr, .. } = nix.run(command).exits(0);
                let is_cut_off = |line: &&str| {
                    !all_go_on && kind == "runs" && self.cut_off.iter().any(|name| line.split(' ').next() == Some(name))
                };
                let kept: String = stdout.split_inclusive('\n').filter(|line| !is_cut_off(line)).collect();
                (kind, normalised(&(kept + &stderr)))
            })
            .collect();
        Seen { commands, left }
    }
}

struct Played {
    first: Seen,
    second: Option<Seen>,
    /// The names of what was recorded the first time.
    recorded: Vec<String>,
}

/// Without what differs between any two runs: times, and the process ids in activity ids, in the names of directories that
/// builds run in and of files with temporary roots.
fn normalised(text: &str) -> String {
    static NAMES: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"/(builds/nix|temproots/)[-\d]+").expect("a pattern of the test"));
    let mut activities = Activities::default();
    let mut last_question = String::new();
    let is_determinate = this_nix().flavour == Flavour::Determinate;
    let mut normalised_line = |line: &str| {
        let (prefix, json) = line.strip_prefix("@nix ").map_or(("", line), |json| ("@nix ", json));
        match serde_json::from_str(json) {
            Ok(value @ Value::Object(_)) if activities.is_a_question(&value) => String::new(),
            Ok(mut value @ (Value::Object(_) | Value::Array(_))) => {
                normalise(&mut value, &mut activities);
                format!("{prefix}{value}\n")
            }
            // What Nix warns of when it asks what is missing, it says as often as it asks.
            _ if line.ends_with("while querying missing paths; not yet implemented\n") => {
                let repeated = line == last_question;
                line.clone_into(&mut last_question);
                if repeated { String::new() } else { line.to_owned() }
            }
            // Determinate Nix evaluates checks in any order.
            _ if is_determinate && line.starts_with("evaluating 'checks.") => String::new(),
            _ => line.to_owned(),
        }
    };
    let text = NAMES.replace_all(text, "/$1");
    text.split_inclusive('\n').map(&mut normalised_line).collect()
}

/// The activities that a log tells of. They have numbers in their order here, and those are left out in which Nix asks what
/// is missing: the plugin spares it the second time.
#[derive(Default)]
struct Activities {
    numbers: HashMap<u64, usize>,
    questions: HashSet<u64>,
}

impl Activities {
    fn is_a_question(&mut self, line: &Value) -> bool {
        let Some(id) = line["id"].as_u64() else { return false };
        if line["text"] == "querying info about missing paths" {
            self.questions.insert(id);
        }
        self.questions.contains(&id)
    }

    fn number(&mut self, id: u64) -> usize {
        let next = self.numbers.len() + 1;
        if id == 0 { 0 } else { *self.numbers.entry(id).or_insert(next) }
    }
}

fn normalise(value: &mut Value, activities: &mut Activities) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| normalise(value, activities)),
        Value::Object(members) => {
            for (key, value) in members {
                match (key.as_str(), value.as_u64()) {
                    ("id" | "parent", Some(id)) => *value = activities.number(id).into(),
                    ("startTime" | "stopTime", Some(_)) => *value = "a time".into(),
                    // Determinate Nix names each of its processes.
                    ("sid", _) if this_nix().flavour == Flavour::Determinate => *value = "a process".into(),
                    _ => normalise(value, activities),
                }
            }
        }
        _ => {}
    }
}

#[track_caller]
fn assert_same(setup: &str, stock: &Seen, seen: &Seen) {
    for (stock, seen) in stock.commands.iter().zip(&seen.commands) {
        assert!(
            stock == seen,
            "{setup} differs from stock Nix.\n--- stock, status {}\n{}{}\n--- {setup}, status {}\n{}{}",
            stock.0,
            stock.2,
            stock.1,
            seen.0,
            seen.2,
            seen.1
        );
    }
    for (kind, stock) in &stock.left {
        assert!(
            *stock == seen.left[kind],
            "{setup}: {kind} differ.\n--- stock\n{stock}\n--- {setup}\n{}",
            seen.left[kind]
        );
    }
}
