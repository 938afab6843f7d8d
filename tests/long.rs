//! Faults that take a while to play: `./dev test --long`. Those that do not are in `database.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use nix_negative_cache_tests::{REFUSED, Ran, Scratch, left_out, say_left_out, short};

const FOLDER: &str = "../var/negative-cache";

/// Gives `n` derivations whose names begin with `name`; they fail as long as there is no file `good`.
fn failing() -> Scratch {
    let nix = Scratch::new();
    nix.expression(&format!(
        r#"{{ name, n ? "1" }}: builtins.genList (i: drv "${{name}}-${{toString i}}"
             "read x < {}/good && echo $x > $out || exit 3" {{ }}) (builtins.fromJSON n)"#,
        nix.path("").display()
    ));
    nix
}

/// The names of the recorded failures that stand, in the order in which they were recorded. The database must be sound;
/// a copy is looked at, as this would write what is in the log to the database.
#[track_caller]
fn standing(nix: &Scratch, folder: &str) -> Vec<String> {
    let ran = nix.run(&format!(
        "rm -rf copy; cp -r {folder} copy; sqlite3 copy/failures.sqlite 'pragma integrity_check; pragma foreign_key_check; \
         select name from failure where stands order by id'"
    ));
    let ran = ran.exits(0);
    let mut lines = ran.stdout.lines().map(str::to_owned);
    assert!(lines.next().as_deref() == Some("ok") && !ran.stdout.contains('|'), "{ran}");
    lines.collect()
}

// ---- Many processes ----

#[test]
fn sixty_four_processes_at_once() {
    let nix = Scratch::new();
    nix.expression(
        r#"n: { old = fail "old${toString n}"; new = fail "new${toString n}"; shared = ok "shared"; shared2 = ok "shared2"; }"#,
    );
    // Processes of Nix that make the store at the same time stumble over each other.
    nix.run("nix-instantiate -E '(import ./lib.nix).ok \"first\"'").exits(0);
    let sixty_four = |command: &str| {
        let command = format!("nix-build --no-out-link -E \"let x = import ./. $n; in [ {command} ]\" -k");
        nix.run(&format!(
            "for n in $(seq 64); do ({command} 2> said-$n; echo $?) & done | sort | uniq -c; cat said-* >&2"
        ))
    };
    let count = |ran: &Ran, prefix: &str| {
        assert_eq!((1..=64).map(|n| nix.runs(&format!("{prefix}{n}"))).sum::<usize>(), 64, "{ran}");
        nix.recorded().iter().filter(|name| name.starts_with(prefix)).count()
    };
    let ran = sixty_four("x.old x.shared").prints("64 100").does_not_say("negative cache:").does_not_say("locked");
    assert_eq!((count(&ran, "old"), nix.runs("shared")), (64, 1), "{ran}");
    // Now each consults and records.
    let ran =
        sixty_four("x.old x.new x.shared2").prints("64 100").does_not_say("negative cache:").does_not_say("locked");
    let ran = ran.says_times(REFUSED, 64);
    assert_eq!((count(&ran, "old"), count(&ran, "new"), nix.runs("shared2")), (64, 64, 1), "{ran}");
    let ran = sixty_four("x.old x.new").prints("64 100").does_not_say("negative cache:").does_not_say("locked");
    let ran = ran.says_times(REFUSED, 128);
    assert_eq!((count(&ran, "old"), count(&ran, "new")), (64, 64), "{ran}");
}

// ---- kill -9 ----

/// All that changes a file, and the locks.
const CHANGES: &str =
    "openat,mkdir,chmod,fchmod,fchown,pwrite64,ftruncate,fdatasync,fsync,unlink,rename,flock,fcntl,mmap";

/// A command under strace, which looks at the files of the database.
fn watched(nix: &Scratch, options: &str, command: &str) -> String {
    let files = ["", "/failures.sqlite", "/failures.sqlite-wal", "/failures.sqlite-shm", "/failures.sqlite-journal"];
    let folder = nix.path("var/negative-cache");
    let files = files.map(|file| format!("-P {}{file} ", folder.display())).concat();
    format!("strace -qq -A -o trace -e trace={CHANGES} {files} {options} {command}")
}

/// Runs a command again and again, each time killed at its next step; calls `after` with the number of the step and how
/// the command ended. `before` is run before each, and once more before all of it.
fn kill_at_each_step(
    nix: &Scratch,
    before: &str,
    command: impl Fn(usize) -> String,
    mut after: impl FnMut(usize, Ran),
) {
    nix.run(&format!("rm -f trace; {before} {}", watched(nix, "", &command(0))));
    let steps = fs::read_to_string(nix.path("work/trace")).unwrap();
    let steps: Vec<&str> = steps.lines().filter_map(|line| Some(line.split_once('(')?.0)).collect();
    for (place, call) in steps.iter().enumerate() {
        // Strace counts each kind by itself.
        let number = steps[..=place].iter().filter(|other| *other == call).count();
        let kill = format!("-e inject={call}:signal=KILL:when={number}");
        let ran = nix.run(&format!("{before} {}", watched(nix, &kill, &command(place + 1))));
        // There can be a step less, as names differ.
        if ran.status == 137 {
            after(place + 1, ran);
        }
    }
}

/// What a process does with the database when it is killed.
struct Scene {
    name: &'static str,
    /// What makes the database what it is before.
    before: &'static str,
    /// More of the command that is killed.
    options: &'static str,
    /// What must still be known afterwards, apart from what the next command records.
    survive: &'static [&'static str],
}

#[test]
fn killed_at_each_step() {
    const KEPT: &[&str] = &["kept-0", "kept-1"];
    let scenes = [
        Scene { name: "first", before: "", options: "", survive: &[] },
        Scene { name: "another", before: "cp -r saved @;", options: "", survive: KEPT },
        Scene { name: "torn", before: "cp -r saved @; seq 999 >> @/failures.sqlite-wal;", options: "", survive: KEPT },
        Scene { name: "checkpoint", before: "cp -r long @;", options: "", survive: KEPT },
        Scene { name: "tidy", before: "cp -r long @;", options: "--option negative-cache-max-records 9", survive: &[] },
        Scene { name: "broken", before: "mkdir @; seq 9999 > @/failures.sqlite;", options: "", survive: &[] },
    ];
    let (scenes, left) = scenes.split_at(if short() { 1 } else { scenes.len() });
    left.iter().for_each(|scene| say_left_out(&format!("killed at each step, '{}'", scene.name)));
    let nix = failing();
    nix.run(&format!("nix-build -k --argstr name kept --argstr n 2; cp -r {FOLDER} saved")).exits(0);
    // The next record makes the log so long that it is written to the database.
    let long = "until [ $(stat -c %s @/failures.sqlite-wal) -gt 4100000 ]; do i=$((i + 1)); n=$((i < 2 ? 100 : 1)); \
                nix-build -k --argstr name long$i --argstr n $n 2> /dev/null; done; cp -r @ long";
    nix.run(&long.replace('@', FOLDER)).exits(0);
    let mut kills = 0;
    for scene in scenes {
        let build = |step| format!("nix-build --argstr name {}{step}", scene.name);
        let before = format!("rm -rf {FOLDER}; {}", scene.before.replace('@', FOLDER));
        let mut refused = 0;
        let mut steps = 0;
        kill_at_each_step(
            &nix,
            &before,
            |step| format!("{} {}", build(step), scene.options),
            |step, killed| {
                let mut ran = nix.run(&format!("timeout 20 {}", build(step))).exits(100);
                // It was killed before it could move it away.
                if scene.name == "broken" && ran.stderr.contains("it was moved to") {
                    ran = nix.run(&build(step)).exits(100);
                }
                let ran = ran.does_not_say("warning:");
                refused += usize::from(ran.stderr.contains(REFUSED));
                let known = standing(&nix, FOLDER);
                for name in scene.survive.iter().copied().chain([&*format!("{}{step}-0", scene.name)]) {
                    assert!(known.iter().any(|known| known == name), "{name} is lost: {known:?} {killed}{ran}");
                }
                let modes = nix.run(&format!("stat -c %a {FOLDER} {FOLDER}/failures.sqlite")).exits(0);
                assert_eq!(modes.stdout, "755\n644\n", "{killed}");
                steps += 1;
            },
        );
        println!("{}: killed {steps} times, {refused} times after it was recorded", scene.name);
        assert!(steps > refused + 10 && (refused > 0 || scene.name == "broken"));
        kills += steps;
    }
    assert!(short() || kills > 600, "{kills}");
}

/// A success that lifts a failure is noted or not; what is valid is valid.
#[test]
fn killed_while_a_success_is_noted() {
    if left_out() {
        return;
    }
    let nix = failing();
    nix.run(&format!("nix-build --argstr name x; nix-build --argstr name kept; cp -r {FOLDER} saved")).exits(0);
    nix.write("good", "x\n");
    let retry = "nix-build --no-out-link --argstr name x --option negative-cache-retry true";
    let before = format!(
        "[ ! -e ../store/*-x-0 ] || nix-store --delete ../store/*-x-0 > said 2>&1; rm -r {FOLDER}; cp -r saved {FOLDER};"
    );
    let mut noted = BTreeSet::new();
    kill_at_each_step(
        &nix,
        &before,
        |_| retry.to_owned(),
        |_, killed| {
            let known = standing(&nix, FOLDER);
            assert!(known.contains(&"kept-0".to_owned()), "{killed}");
            noted.insert(!known.contains(&"x-0".to_owned()));
            nix.run(&format!("timeout 20 {retry}")).exits(0).does_not_say("warning:");
        },
    );
    assert_eq!(noted, BTreeSet::from([false, true]), "killed before and after");
}

#[test]
fn killed_at_random() {
    const KILLS: usize = 400;
    const KILLS_IN_SHORT: usize = 50;
    let wanted = if short() { KILLS_IN_SHORT } else { KILLS };
    if short() {
        say_left_out(&format!("{} of {KILLS} kills at random", KILLS - KILLS_IN_SHORT));
    }
    let nix = failing();
    let mut dice = Dice(1);
    let mut committed = BTreeSet::new();
    let mut kills = 0;
    for round in 0.. {
        let build = format!("nix-build -k --argstr name r{round} --argstr n 3");
        let wait = dice.below(120);
        let killed = nix.run(&format!("setsid {build} & sleep 0.{wait:03}; kill -9 -- -$!; wait $!"));
        kills += usize::from(killed.status == 137);
        let ran = nix.run(&format!("timeout 20 {build}")).exits(100).does_not_say("warning:");
        committed.extend((0..3).map(|i| format!("r{round}-{i}")));
        if round % 20 == 0 || kills == wanted {
            let known = BTreeSet::from_iter(standing(&nix, FOLDER));
            assert!(known.is_superset(&committed), "{:?} are lost\n{killed}{ran}", committed.difference(&known));
        }
        if kills == wanted {
            break;
        }
    }
}

// ---- Power ----

/// Numbers that look random, the same each time (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// What a process did to a file of the database.
enum Operation {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
    Sync,
    Delete,
}

/// Stands for the folder of the database instead of a file.
const IN_FOLDER: &str = "/";

/// What a disk writes at a time: a part of what nobody has waited for may be there when the power has failed.
const SECTOR: usize = 512;

/// The operations on the files of the database, in their order, with what their names have after that of the database.
struct Log(Vec<(String, Operation)>);

impl Log {
    /// Reads what strace has written.
    fn read(path: &Path) -> Log {
        let text = fs::read_to_string(path).unwrap();
        Log(text.lines().filter_map(operation).collect())
    }

    /// What is in the file with this ending if the power fails before operation `end`, and each sector that nobody has
    /// waited for is on the disk with a chance of so many in a hundred.
    fn file(&self, ending: &str, end: usize, chance: u64, dice: &mut Dice) -> Option<Vec<u8>> {
        let mut file: Option<Vec<u8>> = None;
        let log = &self.0[..end];
        let synced = |which: &str| {
            let sync = |(name, operation): &(String, Operation)| name == which && matches!(operation, Operation::Sync);
            log.iter().rposition(sync).unwrap_or(0)
        };
        // What is in a file, and which files there are.
        let (contents, names) = (synced(ending), synced(IN_FOLDER));
        for (place, (_, operation)) in log.iter().enumerate().filter(|(_, (name, _))| name == ending) {
            let last = if matches!(operation, Operation::Delete) { names } else { contents };
            let mut kept = || place < last || dice.below(100) < chance;
            match operation {
                Operation::Write { offset, bytes } => {
                    let file = file.get_or_insert_default();
                    let mut start = 0;
                    while start < bytes.len() {
                        let end = bytes.len().min(start + SECTOR - (offset + start) % SECTOR);
                        if kept() {
                            file.resize(file.len().max(offset + end), 0);
                            file[offset + start..offset + end].copy_from_slice(&bytes[start..end]);
                        }
                        start = end;
                    }
                }
                Operation::Truncate(length) if kept() => file.get_or_insert_default().truncate(*length),
                Operation::Delete if kept() => file = None,
                Operation::Truncate(_) | Operation::Delete | Operation::Sync => {}
            }
        }
        file
    }

    /// How many transactions were in the write-ahead log by operation `end`, all of them or those that the disk has.
    fn commits(&self, end: usize, only_synced: bool) -> usize {
        let (mut all, mut synced, mut last_frame) = (0, 0, false);
        for (_, operation) in self.0[..end].iter().filter(|(name, _)| name == "-wal") {
            match operation {
                // The header of a frame; that of the last one of a transaction has the size of the database.
                Operation::Write { bytes, .. } if bytes.len() == 24 => last_frame = bytes[4..8] != [0; 4],
                Operation::Write { .. } => all += usize::from(std::mem::take(&mut last_frame)),
                Operation::Sync => synced = all,
                Operation::Truncate(_) | Operation::Delete => {}
            }
        }
        if only_synced { synced } else { all }
    }
}

/// A line such as `pwrite64(12</…/failures.sqlite-wal>, "\x00…", 24, 32) = 24`, where all texts are in hexadecimal.
fn operation(line: &str) -> Option<(String, Operation)> {
    let text = |hexadecimal: &str| -> Vec<u8> {
        hexadecimal.split("\\x").skip(1).map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    };
    let (call, rest) = line.split_once('(')?;
    let (arguments, _) = rest.rsplit_once(") = ")?;
    let path = arguments.split(['<', '>', '"']).nth(1)?;
    let path = String::from_utf8(text(path)).unwrap();
    let ending = path.split_once("failures.sqlite").map_or(IN_FOLDER, |(_, ending)| ending).to_owned();
    let number = |argument: &str| argument.trim().parse::<usize>().unwrap();
    let mut last = arguments.rsplit(',');
    let operation = match call {
        "pwrite64" => Operation::Write { offset: number(last.next()?), bytes: text(arguments.split('"').nth(1)?) },
        "ftruncate" => Operation::Truncate(number(last.next()?)),
        "fdatasync" | "fsync" => Operation::Sync,
        "unlink" => Operation::Delete,
        _ => return None,
    };
    Some((ending, operation))
}

#[test]
fn the_power_fails() {
    const RUNS: usize = 3;
    const FAILURES: usize = 60;
    if left_out() {
        return;
    }
    let nix = failing();
    let files = ["", "/failures.sqlite", "/failures.sqlite-wal", "/failures.sqlite-journal"];
    let files = files.map(|file| format!("-P {}{file} ", nix.database().parent().unwrap().display())).concat();
    // Enough for the log to be written to the database and begun anew.
    nix.run(&format!(
        "for i in $(seq {RUNS}); do strace -qq -A -o trace -y -xx -s 9999 {files} \
         -e trace=pwrite64,ftruncate,fdatasync,fsync,unlink nix-build -k --argstr name p$i --argstr n {FAILURES}; done"
    ))
    .exits(100)
    .does_not_say("warning:");
    let recorded = standing(&nix, FOLDER);
    let log = Log::read(&nix.path("work/trace"));
    let end = log.0.len();
    // The first transaction makes the tables. Then each run has one for each record, and one for what it counted.
    let transactions = 1 + RUNS * (FAILURES + 1);
    assert_eq!((recorded.len(), log.commits(end, false)), (RUNS * FAILURES, transactions));
    let records_in = |transactions: usize| {
        let after_tables = transactions.saturating_sub(1);
        after_tables / (FAILURES + 1) * FAILURES + after_tables % (FAILURES + 1)
    };
    let synced = |place: usize| matches!(log.0[place].1, Operation::Sync);
    assert!((0..end).filter(|place| log.0[*place].0.is_empty() && synced(*place)).count() > 1, "it was written to");

    let mut dice = Dice(7);
    let moments =
        (1..=end).filter(|moment| (moment.saturating_sub(3)..end.min(moment + 3)).any(synced) || moment % 25 == 0);
    let copies: Vec<(usize, u64)> =
        moments.flat_map(|moment| [(moment, 0), (moment, 1 + dice.below(99)), (moment, 100)]).collect();
    assert!(copies.len() > 300, "{}", copies.len());
    for (number, &(moment, chance)) in copies.iter().enumerate() {
        let folder = nix.path(&format!("work/power/{number}"));
        fs::create_dir_all(&folder).unwrap();
        for ending in ["", "-wal", "-journal"] {
            if let Some(bytes) = log.file(ending, moment, chance, &mut dice) {
                fs::write(folder.join(format!("failures.sqlite{ending}")), bytes).unwrap();
            }
        }
        // Nobody waits for the index at all.
        if dice.below(2) == 0 {
            let garbage: Vec<u8> = (0..32768).map(|_| dice.below(256) as u8).collect();
            fs::write(folder.join("failures.sqlite-shm"), garbage).unwrap();
        }
    }
    let ran = nix.run(&format!(
        "cd power; for n in $(seq 0 10 {0}); do rm -rf ../{FOLDER}; cp -r $n ../{FOLDER}; nix-build .. --argstr name after 2>&1; done \
         > ../after; \
         for n in $(seq 0 {0}); do $COMPANION list --json --database $PWD/$n/failures.sqlite | tr -d '\\n'; echo; \
         ! [ -e $n/failures.sqlite ] || sqlite3 $n/failures.sqlite 'pragma integrity_check' | grep -v ok >&2; done; true",
        copies.len() - 1
    ));
    let ran = ran.exits(0);
    assert_eq!(ran.stderr, "");
    assert_eq!(ran.stdout.lines().count(), copies.len());
    for (line, (moment, chance)) in ran.stdout.lines().zip(&copies) {
        let found: Vec<serde_json::Value> = serde_json::from_str(line).unwrap();
        let found: BTreeSet<&str> = found.iter().map(|record| record["name"].as_str().unwrap()).collect();
        let first: BTreeSet<&str> = recorded[..found.len()].iter().map(String::as_str).collect();
        assert_eq!(found, first, "before operation {moment}, {chance} %");
        let least = records_in(log.commits(*moment, *chance < 100));
        let most = records_in(log.commits(*moment, false));
        assert!((least..=most).contains(&found.len()), "{} of {least} to {most}, {moment}, {chance} %", found.len());
    }
    let after = fs::read_to_string(nix.path("work/after")).unwrap();
    assert_eq!(after.matches("-after-0.drv' failed with exit code 3").count(), copies.len().div_ceil(10), "{after}");
    assert!(!after.contains("warning:"), "{after}");
}
