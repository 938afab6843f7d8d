//! Failures in binary caches: one machine sees a build fail and publishes that, others refuse the build at once.
//!
//! The machines of these tests share a store directory, as all machines do, and each has a state directory of its own.

use nix_negative_cache_tests::caches::{Entry, Key, Nginx, ON, S3, Server};
use nix_negative_cache_tests::{MACHINES, Ran, Scratch, among_users, among_users_of_a_stock_daemon, say};

/// How a refusal of a failure from elsewhere is told from all others.
const ELSEWHERE: &str = "elsewhere";

/// Machines that trust the key `ci-1`, and a cache that they share.
struct Machines {
    nix: Scratch,
    key: Key,
    cache: Server,
}

impl Machines {
    /// With derivations that fail and succeed in a sandbox, and a cache that is empty.
    fn new() -> Machines {
        let nix = Scratch::in_sandbox().config("connect-timeout = 5");
        nix.expression(
            r#"rec {
                 library = drv "library" "echo testing; echo test 17 failed; exit 1" { };
                 program = drv "program" "echo $library > $out" { inherit library; };
                 other = drv "other" "echo other > $out" { };
                 later = drv "later" "exit 75" { };
                 at = commit: drv "test-${commit}" (if commit < "5" then "echo passed > $out" else "echo failed; exit 1") { };
                 many = drv "many" "" { all = builtins.genList (n: drv "one-${toString n}" "exit 75" { }) 600; };
                 both = drv "both" "echo $other $library > $out" { inherit other library; };
               }"#,
        );
        let key = Key::new(&nix, "ci-1");
        let folder = nix.path("cache");
        std::fs::create_dir(&folder).expect("a folder of the test");
        // Nix would write it itself, with the first question of the first machine.
        nix.write("cache/nix-cache-info", &format!("StoreDir: {}\n", nix.path("store").display()));
        let cache = Server::start(&folder);
        let machines = Machines { nix, key, cache };
        machines.configure("laptop", "");
        machines
    }

    /// Has a machine trust the key and use the cache, with more lines of configuration.
    fn configure(&self, machine: &str, more: &str) {
        let (url, key) = (self.cache.url(), &self.key.public);
        let text = format!("substituters = {url}\nnegative-cache-trusted-public-keys = {key}\n{more}\n");
        std::fs::create_dir_all(self.nix.path(&format!("machines/{machine}"))).expect("a folder of the test");
        self.nix.write(&format!("machines/{machine}/conf"), &text);
    }

    fn run(&self, line: &str) -> Ran {
        self.nix.run(&format!("{ON}\n{line}"))
    }

    /// Has the machine `ci` build something that fails, and publish it.
    fn publish(&self, attribute: &str) {
        self.run(&format!(
            "on ci nix-build --no-out-link -A {attribute} && exit 1
             on ci $COMPANION publish --to file://$(realpath ../cache) --key-file ci-1.sec"
        ))
        .exits(0);
    }

    /// Has the machine `ci` withdraw what it has published, as if the builder had succeeded since, which it never does.
    fn withdraw(&self) {
        let database = "../machines/ci/var/negative-cache/failures.sqlite";
        self.run(&format!(
            "sqlite3 {database} \"INSERT INTO attempt (failure, time) SELECT id, last_failure + 1 FROM failure; UPDATE failure SET stands = 0\"
             on ci $COMPANION publish --to file://$(realpath ../cache) --key-file ci-1.sec"
        ))
        .exits(0)
        .prints_part("1 withdrawal");
    }
}

/// Has everybody forget the answers of caches, as an hour does: all databases, and Nix itself.
const AN_HOUR_LATER: &str =
    "find .. -name failures.sqlite -exec sqlite3 {} 'DELETE FROM asked' \\;; rm -rf ../machines/*/home/.cache;";

/// Has only Nix itself forget them.
const WITHOUT_NIXS_MEMORY: &str = "rm -rf ../machines/*/home/.cache;";

#[test]
fn what_failed_on_one_machine_is_refused_on_another() {
    let machines = Machines::new();
    machines.publish("library");
    machines
        .run("on laptop nix-build --no-out-link -A program")
        .exits(100)
        .says("is not built: it failed")
        .says(ELSEWHERE)
        .says("Reason: builder failed with exit code 1")
        .says(&format!("(1 attempt; {}, key ci-1)", machines.cache.url()))
        .says("> test 17 failed")
        .does_not_say("building '")
        .does_not_say("nix log")
        .does_not_say("warning:");
    // What was learned needs no network any more, but for a withdrawal.
    machines.cache.clear();
    machines.run("on laptop nix-build --no-out-link -A library").exits(100).says(ELSEWHERE).does_not_say("building '");
    let asked = machines.cache.requests();
    assert!(asked.iter().all(|request| !request.contains("nar/")), "{asked:?}");
}

#[test]
fn a_bisect_starts_no_builder_that_failed_elsewhere() {
    let machines = Machines::new();
    machines
        .run(
            "mkdir ../repository; cd ../repository; git init --quiet; git config user.name ci; git config user.email ci@localhost
             for commit in 1 2 3 4 5 6 7 8; do printf $commit > commit; git add .; git commit --quiet -m $commit; done",
        )
        .exits(0);
    let bisect = |machine: &str| {
        machines
            .run(&format!(
                "work=$PWD; cd ../repository; git bisect start HEAD HEAD~7
                 on {machine} git bisect run nix-build --no-out-link -E \
                     \"(import $work/default.nix).at (builtins.readFile $PWD/commit)\"
                 echo first bad: $(git log -1 --format=%s refs/bisect/bad); git bisect reset"
            ))
            .exits(0)
            .prints_part("first bad: 5\n")
    };
    // Git asks for the commits 4, 6 and 5.
    bisect("ci").says_times("building '", 3);
    machines.run("on ci $COMPANION publish --to file://$(realpath ../cache) --key-file ci-1.sec").exits(0);
    bisect("laptop").says_times("building '", 1).says_times(ELSEWHERE, 2);
}

#[test]
fn a_cache_without_the_marker_is_asked_for_nothing_else() {
    let machines = Machines::new();
    let requests = |machine: &str| {
        machines.cache.clear();
        machines.run(&format!("on {machine} nix-build --no-out-link -A other")).exits(0);
        let mut requests = machines.cache.requests();
        requests.sort();
        requests
    };
    machines.configure("stock", "negative-cache = false");
    let (ours, stock) = (requests("laptop"), requests("stock"));
    let marker: Vec<_> = ours.iter().filter(|request| !stock.contains(request)).collect();
    assert_eq!((ours.len(), marker.len()), (stock.len() + 1, 1), "{ours:?} {stock:?}");
    // Its absence is remembered.
    machines.cache.clear();
    machines.run("on laptop nix-build --no-out-link -A program").exits(100);
    assert!(!machines.cache.requests().iter().any(|request| request == marker[0]), "{:?}", machines.cache.requests());
}

#[test]
fn all_that_can_be_built_is_built_with_keep_going() {
    let machines = Machines::new();
    machines.publish("library");
    machines
        .run("on laptop nix-build --no-out-link -k -A both -A other")
        .exits(100)
        .says(ELSEWHERE)
        .says_times("building '", 1)
        .says("-other.drv'...");
}

#[test]
fn import_from_derivation_is_refused() {
    let machines = Machines::new();
    machines.publish("library");
    machines
        .run("on laptop nix-instantiate --eval --read-write-mode --expr 'import (import ./default.nix).library'")
        .exits(100)
        .says(ELSEWHERE)
        .does_not_say("building '");
    // With results: the same by another way.
    machines.run("on laptop nix build --no-link -f . program").says(ELSEWHERE).does_not_say("building '");
}

#[test]
fn a_success_here_counts_more_than_a_failure_elsewhere() {
    let machines = Machines::new();
    machines.publish("library");
    machines.run("on laptop nix-build --no-out-link -A library").exits(100).says(ELSEWHERE);
    // A retry asks nobody and builds; the failure is one of this machine then.
    machines.cache.clear();
    machines
        .run("on laptop nix-build --no-out-link -A library --option negative-cache-retry true")
        .exits(100)
        .says_times("building '", 1);
    let asked = machines.cache.requests();
    assert!(!asked.iter().any(|request| request.contains("nar/")), "{asked:?}");
    machines
        .run("on laptop nix-build --no-out-link -A library")
        .exits(100)
        .says("is not built again: it failed")
        .does_not_say(ELSEWHERE);
}

#[test]
fn what_was_forgotten_stays_out() {
    let machines = Machines::new();
    machines.publish("library");
    machines
        .run(
            "library=$(on laptop nix-instantiate -A library 2>/dev/null)
             on laptop nix-build --no-out-link -A library; on laptop $COMPANION forget $library
             on laptop nix-build --no-out-link -A library",
        )
        .exits(100)
        .says_times(ELSEWHERE, 1)
        .says_times("building '", 1);
}

#[test]
fn the_publisher_withdraws_what_has_succeeded() {
    let machines = Machines::new();
    machines.publish("library");
    machines.run("on laptop nix-build --no-out-link -A program").exits(100).says(ELSEWHERE);
    machines.withdraw();
    // The absence of a withdrawal is remembered for an hour.
    machines.run("on laptop nix-build --no-out-link -A program").exits(100).says(ELSEWHERE);
    machines
        .run(&format!("{AN_HOUR_LATER} on laptop nix-build --no-out-link -A program"))
        .exits(100)
        .does_not_say(ELSEWHERE)
        .says_times("building '", 1);
}

#[test]
fn others_are_warned_or_ask_nobody() {
    let machines = Machines::new();
    machines.publish("library");
    let lines = [
        ("--option substitute false", 0),
        ("--dry-run", 0),
        ("--option negative-cache false", 0),
        ("--option negative-cache-action warn", 1),
    ];
    for (option, times) in lines {
        machines.configure("other", "");
        let ran = machines.run(&format!(
            "rm -rf ../machines/other/var ../machines/other/home; on other nix-build --no-out-link -A library {option}"
        ));
        assert_eq!(ran.stderr.matches("is built although it failed").count(), times, "{ran}");
        ran.does_not_say("is not built");
    }
    machines.nix.expression(r#"{ library = drv "library" "echo testing; exit 1" { allowSubstitutes = false; }; }"#);
    machines.publish("library");
    machines.run("on laptop nix-build --no-out-link -A library").exits(100).says_times("building '", 1);
}

#[test]
fn only_portable_failures_are_believed_where_there_is_a_sandbox() {
    let machines = Machines::new();
    machines.publish("library");
    machines.configure("open", "sandbox = false");
    machines
        .run("on open nix-build --no-out-link -v -A library")
        .exits(100)
        .says("here is none")
        .says_times("building '", 1);
    // Published outside a sandbox, nothing travels.
    machines.nix.expression(r#"{ local = drv "local" "exit 1" { negativeCache = "local"; }; }"#);
    machines
        .run(
            "on ci nix-build --no-out-link -A local; on ci nix-build --no-out-link -A local
             on ci $COMPANION publish --to file://$(realpath ../cache) --key-file ci-1.sec --dry-run",
        )
        .exits(0)
        .says("is not built again")
        .prints_part("negativeCache = \"local\"");
}

#[test]
fn expressions_and_programs_say_where_a_failure_is_from() {
    let machines = Machines::new();
    machines.publish("library");
    machines.run("on laptop nix-build --no-out-link -A library").exits(100);
    machines
        .run(
            "on laptop nix-instantiate --eval --json --strict \
                 --expr '(builtins.knownFailure (import ./default.nix).library).origin.key'
             on laptop $COMPANION list; on laptop $COMPANION show --json $(on laptop nix-instantiate -A library 2>/dev/null)
             on laptop $COMPANION explain $(on laptop nix-instantiate -A library 2>/dev/null)",
        )
        .exits(0)
        .prints_part("\"ci-1\"")
        .prints_part(&machines.cache.url())
        .prints_part("\"origin\"")
        .prints_part("key ci-1");
}

/// Lines of configuration with which a client, or a daemon, asks the cache.
fn asking(machines: &Machines) -> String {
    let (url, key) = (machines.cache.url(), &machines.key.public);
    format!("sandbox = true\nnegative-cache-substituters = {url}\nnegative-cache-trusted-public-keys = {key}")
}

#[test]
fn a_daemon_asks_for_its_clients() {
    for client in ["$WITHOUT", "$WITH"] {
        let mut machines = Machines::new();
        machines.publish("library");
        machines.nix = std::mem::take(&mut machines.nix).config(&asking(&machines));
        // What a client wants to be asked, and whom it believes, does not matter to the daemon.
        let other = "negative-cache-trusted-public-keys =";
        among_users(
            &machines.nix,
            &format!(
                "export NIX_CONFIG={client}$'\\n''{other}'; as games nix-build -A program; as news nix-build -A library"
            ),
        )
        .exits(1)
        .says_times(ELSEWHERE, 2)
        .does_not_say("building '");
    }
}

#[test]
fn a_client_of_a_stock_daemon_asks_for_itself() {
    let machines = Machines::new();
    machines.publish("library");
    let asking = asking(&machines);
    among_users_of_a_stock_daemon(
        &machines.nix,
        &format!(
            "export NIX_CONFIG=$WITH$'\\n''{asking}'; as games nix-build -A program; as games nix-build -k -A both -A other
             export NIX_CONFIG=$WITH; as news nix-build -A other"
        ),
    )
    .exits(0)
    .says_times("is not built: it failed", 2)
    .says_times("building '", 1);
}

#[test]
fn a_daemon_takes_no_keys_from_clients() {
    let machines = Machines::new();
    machines.publish("library");
    let asking = asking(&machines);
    // Root is a trusted user.
    among_users(
        &machines.nix,
        &format!(
            "export NIX_CONFIG=$WITH$'\\n''{asking}'; NIX_REMOTE=daemon nix-build --no-out-link -A library
             as games nix-build -A program"
        ),
    )
    .exits(1)
    .does_not_say(ELSEWHERE);
}

/// Stores that are no binary caches are asked in a process of their own.
#[test]
fn stores_that_block_are_asked_as_well() {
    let machines = Machines::new();
    let key = &machines.key.public;
    let nix = &machines.nix;
    machines
        .run(&format!(
            "{MACHINES}
             machine there 'trusted-public-keys = {key}'; there=$(realpath ../there)
             url=\"ssh-ng://localhost?remote-program=$there/serve&remote-store=local?root=$there\"
             on ci nix-build --no-out-link -A library && exit 1
             on ci $COMPANION publish --to \"$url\" --key-file ci-1.sec && echo \"$url\" > ../url"
        ))
        .exits(0);
    let url = std::fs::read_to_string(nix.path("url")).expect("a file of the test");
    machines.configure("laptop", &only(&url));
    machines
        .run(&format!("{MACHINES}\non laptop nix-build --no-out-link -A program"))
        .exits(100)
        .says(ELSEWHERE)
        .does_not_say("building '")
        .does_not_say("warning:");
    // One that says nothing is left alone at the deadline.
    nix.script("silent", "sleep 60");
    machines.configure(
        "other",
        "substituters =\nnegative-cache-timeout = 2\nnegative-cache-substituters = ssh-ng://localhost?remote-program=/proc/self/cwd/silent",
    );
    machines
        .run("on other nix-build --no-out-link -A library")
        .exits(100)
        .says_times("building '", 1)
        .does_not_say("warning:");
}

/// A machine that builds for others is asked for single derivations (`buildDerivation`).
#[test]
fn a_machine_that_builds_for_others_asks_for_itself() {
    let machines = Machines::new();
    machines.publish("library");
    let conf = format!("negative-cache = true\nplugin-files = $PLUGIN\nsandbox = true\n{}", asking(&machines));
    machines.configure("other", "negative-cache = false");
    machines
        .run(&format!(
            "{MACHINES}
             machine there \"{conf}\"
             on other nix-build --no-out-link -j0 --builders \"$(builders there)\" -A library"
        ))
        .says("is not built: it failed");
    machines.run("find ../there -name '*library.drv*' -path '*log*'").exits(0).prints("");
}

#[test]
fn a_machine_that_builds_for_others_asks_once_an_hour() {
    let machines = Machines::new();
    machines.nix.expression(r#"{ library = drv "library" "exit 1" { }; passing = drv "passing" "exit 75" { }; }"#);
    machines.publish("library");
    let conf = format!("negative-cache = true\nplugin-files = $PLUGIN\nsandbox = true\n{}", asking(&machines));
    machines.configure("other", "substituters =\nnegative-cache = false");
    let build = |before: &str, attribute: &str| {
        machines.cache.clear();
        let ran = machines.run(&format!(
            "{before}{MACHINES}
             machine there \"{conf}\"
             on other nix-build --no-out-link -j0 --builders \"$(builders there)\" -A {attribute}"
        ));
        (ran, machines.cache.requests())
    };
    // Nothing is known of this one. Its failure is not recorded, so that it is built each time.
    let (ran, asked) = build("", "passing");
    assert!(asked.iter().filter(|request| request.contains(".narinfo")).count() > 1, "{asked:?} {ran}");
    let (ran, asked) = build(WITHOUT_NIXS_MEMORY, "passing");
    assert_eq!(asked, [""; 0], "{}", ran.says("building '"));
    let (ran, asked) = build(AN_HOUR_LATER, "passing");
    assert!(!asked.is_empty(), "{ran}");

    // A failure from a cache refuses as long as it was not withdrawn.
    build("", "library").0.says("is not built: it failed");
    machines.withdraw();
    let (ran, asked) = build(WITHOUT_NIXS_MEMORY, "library");
    assert_eq!(asked, [""; 0], "{}", ran.says("is not built: it failed"));
    let (ran, asked) = build(AN_HOUR_LATER, "library");
    assert!(!asked.is_empty(), "{ran}");
    ran.does_not_say("is not built: it failed").says("building '");
}

/// A substitute that was promised does not come, so that a failure stands in the way after the decision about the request.
#[test]
fn a_late_refusal_asks_for_withdrawals_once_an_hour() {
    let machines = Machines::new();
    machines.publish("library");
    machines.configure("laptop", &format!("trusted-public-keys = {}\nfallback = true", machines.key.public));
    machines.run("on laptop nix-build --no-out-link -A library").exits(100).says(ELSEWHERE);
    let output = machines.run("on laptop nix-store -q --outputs $(on laptop nix-instantiate -A library 2> /dev/null)");
    let promised = Entry::new(output.exits(0).stdout.trim(), "library").signed_by(&machines.key);
    let cache = machines.nix.path("cache");
    promised.publish(&cache);
    std::fs::remove_file(cache.join(promised.file_name())).expect("a file of the test");

    let build = |before: &str| {
        machines.cache.clear();
        let ran = machines.run(&format!("{before} on laptop nix-build --no-out-link -A library"));
        let promised = promised.narinfo_name();
        let hash_part = promised.trim_end_matches(".narinfo");
        let mut asked = machines.cache.requests();
        asked.retain(|request| !request.contains(hash_part) && !request.contains("nix-cache-info"));
        (ran, asked)
    };
    let (ran, asked) = build(AN_HOUR_LATER);
    assert_eq!(asked.len(), 2, "the marker and the withdrawal: {asked:?} {ran}");
    ran.exits(100).says(ELSEWHERE).does_not_say("building '");
    let (ran, asked) = build(WITHOUT_NIXS_MEMORY);
    assert_eq!(asked, [""; 0], "{}", ran.exits(100).says(ELSEWHERE).does_not_say("building '"));
    machines.withdraw();
    build(AN_HOUR_LATER).0.exits(100).does_not_say(ELSEWHERE).says_times("building '", 1);
}

/// The configuration of a machine that asks these caches for failures, and none for outputs. It waits for answers however busy
/// the machine is that runs the tests.
fn only(urls: &str) -> String {
    format!("substituters =\nnegative-cache-timeout = 60\nnegative-cache-substituters = {urls}")
}

#[test]
fn why_a_cache_is_not_asked_is_said_once() {
    let machines = Machines::new();
    let (empty, gone) = (machines.cache.url(), machines.nix.path("gone"));
    let gone = format!("file://{}", gone.display());
    let not_asked = |url: &str, why: &str| format!("negative cache: '{url}' is not asked for failures{why}");
    let nobody = |why: &str| format!("negative cache: no binary cache is asked for failures: {why}");
    let unknown = " any more: don't know how to open Nix store";
    let rows = [
        ("none", only(&empty), not_asked(&empty, ": it carries none")),
        ("unknown", only("nonsense://cache"), not_asked("nonsense://cache", unknown)),
        ("bad", only("https://[cache"), not_asked("https://[cache", ": ")),
        ("gone", only(&gone), not_asked(&gone, " any more: it does not appear to be a binary cache")),
        (
            "other",
            only(&format!("{empty}?store=/other")),
            not_asked(&format!("{empty}?store=/other"), ": it is for the"),
        ),
        ("nobody", only(""), nobody("neither 'negative-cache-substituters' nor 'substituters' names one")),
        ("off", "substitute = false".to_owned(), nobody("'substitute' is off")),
        ("retry", "negative-cache-retry = true".to_owned(), nobody("'negative-cache-retry' is on")),
    ];
    // Two requests, one after the other.
    let both = "nix-build --no-out-link --expr 'let all = import ./default.nix; in \
                assert builtins.readFile all.other != \"\"; all.program'";
    for (machine, conf, says) in rows {
        machines.configure(machine, &conf);
        machines.run(&format!("on {machine} {both}")).exits(100).does_not_say("is not asked").does_not_say("no binary");
        machines
            .run(&format!("rm -rf ../store/*-other ../machines/{machine}/{{var,home}}; on {machine} {both} -v"))
            .exits(100)
            .says_times(&says, 1)
            .says_times("building '", 2);
        machines
            .run(&format!("on {machine} $COMPANION fetch $(on {machine} nix-instantiate -A library 2> /dev/null)"))
            .exits(3)
            .prints_part(says.trim_start_matches("negative cache: "));
    }
    machines.configure("quiet", &only(&format!("{empty} nonsense://cache")));
    machines
        .run("on quiet nix-build --no-out-link -A library")
        .exits(100)
        .does_not_say("is not asked")
        .does_not_say("no binary cache");
    machines.publish("library");
    let later = "on laptop nix-build --no-out-link -v -A later";
    machines.run(&format!("{later}; {later}")).exits(100).says_times(&nobody("they knew nothing of this within"), 1);
}

/// nginx closes a connection after 1,000 requests, and curl would open another one for each of those under way.
#[test]
fn many_questions_over_http2_take_few_connections() {
    let machines = Machines::new();
    machines.publish("library");
    let nginx = Nginx::start(&machines.nix.path("cache"), true);
    machines.configure("laptop", &only(&nginx.url()));
    machines
        .run(&format!("export NIX_SSL_CERT_FILE={}; on laptop nix-build --no-out-link -A many", nginx.certificate()))
        .exits(100)
        .does_not_say("elsewhere");
    let (requests, connections) = (nginx.requests(), nginx.connections());
    assert!(requests.len() > 1200, "{} requests", requests.len());
    assert!(connections < 10, "{connections} connections");
}

/// Since 2.33, Nix asks S3 as it asks other binary caches. Signatures of the requests need a library that Nix can be built
/// without, so the bucket is one that everybody may write to.
#[test]
fn failures_travel_through_s3() {
    let machines = Machines::new();
    let nix = &machines.nix;
    if !S3::is_spoken_by(&nix.run("nix --version").exits(0).stdout) {
        say("This Nix does not ask S3 as other binary caches: only what it says of s3:// is tested");
        return without_s3(&machines);
    }
    let s3 = S3::start(&nix.path("buckets"), "cache");
    let url = s3.url("cache");
    machines
        .run(&format!(
            "on ci nix-build --no-out-link -A library && exit 1
             on ci $COMPANION publish --to '{url}' --key-file ci-1.sec"
        ))
        .exits(0)
        .prints_part("published 1 failure and 0 withdrawals to s3://cache?endpoint=");
    machines.configure("laptop", &only(&url));
    machines
        .run(
            "on laptop $COMPANION doctor
             on laptop $COMPANION fetch $(on laptop nix-instantiate -A library 2> /dev/null)",
        )
        .exits(0)
        .prints_part(&format!("ok       The binary cache '{url}' carries failures"))
        .prints_part("known to fail elsewhere: it failed ");
    machines.configure("desk", &format!("substituters = {url}"));
    machines
        .run("on desk nix-build --no-out-link -A program")
        .exits(100)
        .says("is not built: it failed")
        .says(&format!("(1 attempt; {url}, key ci-1)"))
        .says("> test 17 failed")
        .does_not_say("building '")
        .does_not_say("warning:");
    drop(s3);
    machines.configure("other", &only(&url));
    machines
        .run("on other nix-build --no-out-link -v -A library")
        .exits(100)
        .says(&format!("'{url}' is not asked for failures any more: unable to download"))
        .says_times("building '", 1)
        .does_not_say("warning:");
}

/// What users are told by a Nix that can't ask S3.
fn without_s3(machines: &Machines) {
    let url = "s3://cache?endpoint=http://127.0.0.1:1&region=eu-west-1";
    machines
        .run(&format!(
            "on ci nix-build --no-out-link -A library && exit 1
             on ci $COMPANION publish --to '{url}' --key-file ci-1.sec"
        ))
        .exits(1)
        .says(&format!("nothing was noted as published in {url}: 'nix' failed"))
        .says("don't know how to open Nix store ");
    machines.configure("laptop", &only(url));
    let why = "stores of this kind can't be asked";
    machines
        .run("on laptop nix-build --no-out-link -v -A program")
        .exits(100)
        .says_times(&format!("negative cache: '{url}' is not asked for failures: {why}"), 1)
        .says_times("building '", 1);
    machines
        .run(
            "on laptop $COMPANION doctor
             on laptop $COMPANION fetch $(on laptop nix-instantiate -A library 2> /dev/null)",
        )
        .exits(3)
        .prints_part(&format!("note     The binary cache '{url}' can't be asked for failures\n"))
        .prints_part(&format!("It says: {why}"))
        .prints_part(&format!("  '{url}' is not asked for failures: {why}\n"));
}
