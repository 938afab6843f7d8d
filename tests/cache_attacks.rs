//! Attacks through binary caches, by those who serve one and by those who have no key that is believed. SECURITY.md lists
//! them.
//!
//! In each row of a table, a machine that knows nothing asks a cache and then builds, as it would have without the plugin.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix_base32::to_nix_base32;
use nix_negative_cache_tests::caches::{Answer, Entry, Key, ON, Server, Silent, refused_url};
use nix_negative_cache_tests::{Ran, Scratch, left_out};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What Nix says of a builder that starts.
const BUILT: &str = "building '";
/// What the plugin says of a failure that it believes.
const REFUSED: &str = "is not built: it failed";
/// For how long an object counts: see `failure_object.rs`.
const PERIOD: i64 = 7 * 24 * 60 * 60;

/// A failure that a machine has published in a cache, and the key that others believe.
struct Published {
    nix: Scratch,
    key: Key,
    /// The path of the failure object, and what is in it.
    path: String,
    object: Value,
    marker: Entry,
    marker_path: String,
}

impl Published {
    fn new() -> Published {
        let nix = Scratch::in_sandbox().config("connect-timeout = 5");
        nix.expression(
            r#"rec {
                 library = drv "library" "echo test 17 failed; exit 1" { };
                 silent = drv "silent" "exit 1" { };
                 nothing = drv "nothing" "exit 0" { };
                 other = drv "other" "echo other > $out" { };
               }"#,
        );
        let key = Key::new(&nix, "ci-1");
        let failed = nix.run(&format!(
            "{ON}
             on ci nix-build --no-out-link -A library 2> /dev/null && exit 1
             on ci $COMPANION publish --to \"file://$(realpath ../cache)?compression=none\" --key-file ci-1.sec"
        ));
        failed.exits(0);
        let mut published = in_cache(&nix.path("cache"));
        let [(path, content), (marker_path, marker)] = &mut published[..] else { panic!("{published:?}") };
        if path.ends_with("-negative-cache-marker") {
            std::mem::swap(path, marker_path);
            std::mem::swap(content, marker);
        }
        let object = serde_json::from_slice(content).expect("a failure object");
        let (path, marker_path) = (path.clone(), marker_path.clone());
        let marker = Entry::new(&marker_path, &*marker);
        Published { nix, key, path, object, marker, marker_path }
    }

    /// The object that the program has published, and that counts if the key signs it.
    fn genuine(&self) -> Entry {
        self.with(&self.object)
    }

    /// The same path, and something else in it.
    fn with(&self, object: &Value) -> Entry {
        self.at(&self.path, object)
    }

    /// Another path.
    fn at(&self, path: &str, object: &Value) -> Entry {
        Entry::new(path, format!("{object}\n")).references(&[&self.marker_path])
    }

    /// The same object, with another value in it.
    fn but(&self, name: &str, value: impl Into<Value>) -> Entry {
        let mut object = self.object.clone();
        object[name] = value.into();
        self.with(&object)
    }

    fn last_failure(&self) -> i64 {
        self.object["lastFailure"].as_i64().expect("a time")
    }

    /// The path of an object about this failure, which anybody can compute.
    fn path_of(&self, path_type: &str, name: &str, period: i64, signer: &str) -> String {
        let store = self.nix.path("store").display().to_string();
        let key = self.object["outputs"]["out"].as_str().expect("an output");
        let inner: String =
            Sha256::digest(format!("{key}:{period}:{signer}")).iter().map(|byte| format!("{byte:02x}")).collect();
        let hash = Sha256::digest(format!("{path_type}:sha256:{inner}:{store}:{name}"));
        let mut compressed = [0; 20];
        for (index, byte) in hash.iter().enumerate() {
            compressed[index % 20] ^= byte;
        }
        format!("{store}/{}-{name}", to_nix_base32(&compressed))
    }

    fn failure_path(&self, period: i64, signer: &str) -> String {
        self.path_of("negative-cache:1", "build-failure", period, signer)
    }

    fn withdrawal(&self, signer: &str) -> Entry {
        let period = self.last_failure() / PERIOD;
        let path = self.path_of("negative-cache-withdrawn:1", "build-failure-withdrawn", period, signer);
        self.at(&path, &json!({ "output": self.object["outputs"]["out"], "version": 1 }))
    }

    /// A cache of this name with the marker and these objects.
    fn cache(&self, name: &str, entries: &[Entry]) -> PathBuf {
        let folder = self.nix.path(name);
        self.marker.publish(&folder);
        entries.iter().for_each(|entry| entry.publish(&folder));
        folder
    }

    /// Has a machine believe the key and ask these caches, with more lines of configuration.
    fn configure(&self, machine: &str, urls: &str, more: &str) {
        let folder = self.nix.path("machines").join(machine);
        fs::create_dir_all(&folder).expect("a folder of the test");
        let text = format!(
            "negative-cache-trusted-public-keys = {}\nnegative-cache-substituters = {urls}\nnegative-cache-timeout = 2\n{more}\n",
            self.key.public
        );
        fs::write(folder.join("conf"), text).expect("a configuration");
    }

    fn on(&self, machine: &str, line: &str) -> Ran {
        self.nix.run(&format!("{ON}\non {machine} {line}"))
    }

    /// A new machine that asks these caches is told to build `library`.
    fn build(&self, machine: &str, urls: &str, more: &str) -> Ran {
        self.configure(machine, urls, more);
        self.on(machine, "nix-build --no-out-link -v -A library")
    }

    /// The machine builds as if nothing were known, and with `-v` says why.
    #[track_caller]
    fn is_not_believed(&self, row: &str, ran: Ran, why: &str) {
        assert!(
            ran.status == 100 && ran.stderr.contains(BUILT) && !ran.stderr.contains(REFUSED),
            "{row}: it is not built\n{ran}"
        );
        assert!(!ran.stderr.contains("warning:") && is_safe(&ran.stderr), "{row}: it says too much\n{ran}");
        assert!(ran.stderr.contains(why), "{row}: it does not say: {why}\n{ran}");
    }

    /// What was published is in order, so that what is not believed is not believed because of what was changed.
    #[track_caller]
    fn is_believed(&self, row: &str, ran: Ran) {
        assert!(
            ran.status == 100 && ran.stderr.contains(REFUSED) && !ran.stderr.contains(BUILT),
            "{row}: it is built\n{ran}"
        );
        assert!(!ran.stderr.contains("warning:") && is_safe(&ran.stderr), "{row}: it says too much\n{ran}");
    }

    /// One machine after the other asks a cache with one of these objects.
    #[track_caller]
    fn none_is_believed(&self, rows: Vec<(&str, &str, Entry)>) {
        for (index, (row, why, entry)) in rows.into_iter().enumerate() {
            let server = Server::start(&self.cache(&format!("cache-{index}"), &[entry]));
            self.is_not_believed(row, self.build(&format!("machine-{index}"), &server.url(), ""), why);
        }
    }
}

/// The paths in a folder that is a cache without compression, each with the content of its file.
fn in_cache(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder).expect("a cache").flatten().map(|file| file.path());
    let infos = files.filter(|file| file.extension().is_some_and(|extension| extension == "narinfo"));
    infos
        .map(|info| {
            let text = fs::read_to_string(info).expect("a narinfo");
            let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).expect("a line").to_owned();
            let nar = fs::read(folder.join(value("URL: "))).expect("a NAR");
            let start = nar.windows(8).position(|word| word == b"contents").expect("a file") + 8;
            let size = u64::from_le_bytes(nar[start..start + 8].try_into().expect("a size"));
            (value("StorePath: "), nar[start + 8..][..size as usize].to_vec())
        })
        .collect()
}

/// The answers of a server that is down, or wants to do harm, to one of its questions.
fn bad_answers() -> Vec<(&'static str, Answer)> {
    let bomb = piped("head -c 32M /dev/zero | gzip -9");
    let html = "<!DOCTYPE html>\n<html><body>Please log in.</body></html>\n";
    vec![
        ("nothing", Answer::never()),
        ("slowly", Answer::slow(vec![b'x'; 1000], Duration::from_millis(100))),
        ("endlessly", Answer::endless("Sig: x:y\n")),
        ("the end", Answer::closed()),
        ("half", Answer::half("StorePath: ")),
        ("500", Answer::new(500, html)),
        ("502", Answer::new(502, html)),
        ("429", Answer::new(429, html).header("Retry-After", "3600")),
        ("403", Answer::new(403, html)),
        ("404", Answer::new(404, html)),
        ("a page", Answer::new(200, html).header("Content-Type", "text/html")),
        ("empty", Answer::new(200, "")),
        ("little that unpacks to much", Answer::new(200, bomb).header("Content-Encoding", "gzip")),
        ("what can't be unpacked", Answer::new(200, "nonsense").header("Content-Encoding", "gzip")),
        ("look there again and again", Answer::redirect("/nix-cache-info-of-another").header("Connection", "close")),
        ("look at a file", Answer::redirect("file:///etc/passwd")),
    ]
}

/// Has a cache answer each way when it is asked for a file. It is right otherwise. `as_nothing` are those answers that stock
/// Nix takes for an empty file.
fn bad_answers_to(what: impl Fn(&Published, &Entry) -> String, as_nothing: &[&str]) {
    let published = Published::new();
    let entry = published.genuine().signed_by(&published.key);
    let folder = published.cache("served", std::slice::from_ref(&entry));
    let path = format!("/{}", what(&published, &entry));
    for (index, (row, answer)) in bad_answers().into_iter().enumerate() {
        let (path, server) = (path.clone(), Server::start(&folder));
        server.answering(move |asked| [&*path, "/nix-cache-info-of-another"].contains(&asked).then(|| answer.clone()));
        let ran = published.build(&format!("machine-{index}"), &server.url(), "");
        match as_nothing.contains(&row) {
            true => published.is_believed(row, ran),
            false => published.is_not_believed(row, ran, ""),
        }
    }
}

/// Whether a terminal would print the text as it is.
fn is_safe(text: &str) -> bool {
    text.chars().all(|c| (!c.is_control() && c != '\u{202e}') || c == '\n' || c == '\t')
}

/// What a program prints of some bytes.
fn piped(line: &str) -> Vec<u8> {
    let ran = Command::new("bash").args(["-c", line]).output().expect("bash");
    assert!(ran.status.success(), "{line}");
    ran.stdout
}

#[test]
fn what_the_believed_key_has_not_signed() {
    let published = Published::new();
    let (genuine, key, nix) = (published.genuine(), &published.key, &published.nix);
    let server = Server::start(&published.cache("cache-right", &[genuine.clone().signed_by(key)]));
    published.is_believed("as it was published", published.build("right", &server.url(), ""));
    assert_eq!(published.path, published.failure_path(published.last_failure() / PERIOD, "ci-1"));

    let outputs = Key::new(nix, "outputs-1");
    nix.run("nix-store --generate-binary-cache-key ci-1 same-name.sec same-name.pub").exits(0);
    let [secret, public] = ["sec", "pub"].map(|half| nix.path(&format!("work/same-name.{half}")));
    let same_name = Key { secret, public: fs::read_to_string(public).expect("a public key").trim().to_owned() };

    let other_path = format!("{}/{}-build-failure", nix.path("store").display(), "0".repeat(32));
    let replayed = published.at(&other_path, &published.object).signature(key);
    let period = published.last_failure() / PERIOD;
    let no_signature = "has no signature by the key that it is named after";
    // Newer versions of Nix read signatures with the narinfo.
    let no_base64 = if nix.nix_is_at_least(2, 34) { "is not read: invalid" } else { no_signature };
    published.none_is_believed(vec![
        ("unsigned", no_signature, genuine.clone()),
        ("unsigned, claims to be content-addressed", no_signature, {
            genuine.clone().line("CA", &format!("text:sha256:{}", "0".repeat(52)))
        }),
        ("another key", no_signature, genuine.clone().signed_by(&outputs)),
        ("another key, at its own path", "", {
            published.at(&published.failure_path(period, "outputs-1"), &published.object).signed_by(&outputs)
        }),
        ("the same name, another secret", no_signature, genuine.clone().signed_by(&same_name)),
        ("a signature of another path", no_signature, genuine.clone().line("Sig", &replayed)),
        ("another path in the narinfo", "", genuine.clone().line("StorePath", &other_path).signed_by(key)),
        ("a signature that is none", no_base64, genuine.clone().line("Sig", "ci-1:%%%")),
        ("a signature without a key", "", genuine.clone().line("Sig", "nonsense")),
        (
            "an empty signature",
            if nix.nix_is_at_least(2, 34) { "" } else { no_signature },
            genuine.clone().line("Sig", "ci-1:"),
        ),
        ("references added after it was signed", no_signature, {
            let signature = genuine.signature(key);
            genuine.clone().references(&[&published.marker_path, &other_path]).line("Sig", &signature)
        }),
    ]);
    let key_of_outputs = format!("trusted-public-keys = {} {}", outputs.public, same_name.public);
    for (name, path) in [("ci-1", &published.path), ("outputs-1", &published.failure_path(period, "outputs-1"))] {
        let entry = published.at(path, &published.object).signed_by(&outputs);
        let server = Server::start(&published.cache(&format!("trusted-{name}"), &[entry]));
        let ran = published.build(&format!("trusting-{name}"), &server.url(), &key_of_outputs);
        published.is_not_believed("a key in trusted-public-keys only", ran, "");
    }
}

#[test]
fn what_an_object_says() {
    if left_out() {
        return;
    }
    let published = Published::new();
    let key = &published.key;
    let but = |name: &str, value: Value| published.but(name, value).signed_by(key);
    let last_failure = published.last_failure();
    let store = published.nix.path("store").display().to_string();
    let another = format!("/other/store/{}-library", "0".repeat(32));
    let long_ago = last_failure - PERIOD - 3600;
    let old = |at: i64, time: i64| {
        let mut object = published.object.clone();
        object["firstFailure"] = time.into();
        object["lastFailure"] = time.into();
        published.at(&published.failure_path(at, "ci-1"), &object).signed_by(key)
    };
    let malformed = "is not in the form of a failure";
    let mut without_outputs = published.object.clone();
    without_outputs.as_object_mut().expect("an object").remove("outputs");
    published.none_is_believed(vec![
        ("another system", "is about the system 'mips64-linux'", but("system", "mips64-linux".into())),
        (
            "another output",
            "is about other outputs",
            but("outputs", json!({ "out": format!("{store}/{}-x", "0".repeat(32)) })),
        ),
        ("another store directory", malformed, but("drvPath", format!("{another}.drv").into())),
        ("an output in another store", malformed, {
            but("outputs", json!({ "out": published.object["outputs"]["out"], "dev": another }))
        }),
        ("tomorrow", "is in the future", but("lastFailure", (last_failure + 86400).into())),
        ("the end of time", malformed, but("lastFailure", i64::MAX.into())),
        ("before 1970", malformed, but("lastFailure", (-1).into())),
        ("too old", "", old(long_ago.div_euclid(PERIOD), long_ago)),
        ("new, where older ones are", "is of another time", old(last_failure / PERIOD - 1, last_failure)),
        ("another class", "is not a failure that may be published", but("class", "timeout".into())),
        ("outside a sandbox", "is not a failure that may be published", but("sandbox", false.into())),
        ("another version", malformed, but("version", 2.into())),
        ("one thing more", malformed, but("more", 1.into())),
        ("one thing less", malformed, published.with(&without_outputs).signed_by(key)),
        ("no attempt", malformed, but("attempts", 0.into())),
        ("a number too large", malformed, but("attempts", i64::MAX.into())),
        ("an escape sequence in the name", malformed, but("name", "\u{1b}]0;x\u{7}library".into())),
        ("an escape sequence in the system", "is about the system '", but("system", "\u{1b}[2Jx".into())),
        ("an escape sequence in a field", malformed, but("\u{1b}[2J\u{202e}", 1.into())),
        ("nested deeply", malformed, {
            Entry::new(&published.path, "[".repeat(10_000)).references(&[&published.marker_path]).signed_by(key)
        }),
        ("no JSON", malformed, {
            Entry::new(&published.path, [0xff; 100]).references(&[&published.marker_path]).signed_by(key)
        }),
        ("too large", "is too large", {
            Entry::new(&published.path, [b' '; 20_000]).references(&[&published.marker_path]).signed_by(key)
        }),
        ("no file", "is not a plain file", {
            let word = |text: &str| {
                [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &[0; 8][..(8 - text.len() % 8) % 8]].concat()
            };
            let nar = ["nix-archive-1", "(", "type", "symlink", "target", "/etc/passwd", ")"].map(word).concat();
            published.genuine().nar(nar).signed_by(key)
        }),
        ("no NAR", "is not a plain file", published.genuine().nar("nonsense").signed_by(key)),
        ("no references", "refers to other paths than the marker", published.genuine().references(&[]).signed_by(key)),
        ("references to others", "refers to other paths than the marker", {
            let others = [&*published.marker_path, &*published.path];
            published.genuine().references(&others).signed_by(key)
        }),
    ]);
}

/// The key is believed, so these failures count. Their texts and numbers do no harm.
#[test]
fn what_is_shown_of_an_object() {
    if left_out() {
        return;
    }
    let published = Published::new();
    let text = "\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\u{202e}\u{0}\r\u{8}";
    let texts = ["log", "reason", "nixVersion", "pluginVersion"].map(|name| (name, json!(format!("{text}{name}"))));
    let numbers = [
        ("attempts", json!(u32::MAX)),
        ("durationMs", json!(i64::MAX)),
        ("exitCode", json!(i32::MIN)),
        ("firstFailure", json!(1)),
    ];
    for (row, values) in [("texts", &texts), ("numbers", &numbers)] {
        let mut object = published.object.clone();
        values.iter().for_each(|(name, value)| object[*name] = value.clone());
        let entry = published.with(&object).signed_by(&published.key);
        let server = Server::start(&published.cache(row, &[entry]));
        published.is_believed(row, published.build(row, &server.url(), ""));
        for command in
            ["list", "show $(nix-instantiate -A library)", "explain $(nix-instantiate -A library)", "list --json"]
        {
            let ran = published.on(row, &format!("$COMPANION {command}")).exits(0);
            assert!(ran.stdout.contains("library") && is_safe(&ran.stdout) && is_safe(&ran.stderr), "{row}: {ran}");
        }
    }
}

/// What was found counts, although the cache fails to answer another question at the same time.
#[test]
fn bad_answers_beside_a_failure() {
    let published = Published::new();
    let entry = published.genuine().signed_by(&published.key);
    let folder = published.cache("served", std::slice::from_ref(&entry));
    let known = [entry.narinfo_name(), published.marker.narinfo_name()].map(|name| format!("/{name}"));
    let server = Server::start(&folder);
    server.answering(move |asked| {
        let fails = asked.ends_with(".narinfo") && !known.iter().any(|known| known == asked);
        fails.then(|| Answer::new(500, ""))
    });
    let ran = published.build("machine", &server.url(), "").says("is not asked for failures any more");
    published.is_believed("500", ran);
}

#[test]
fn bad_answers_to_what_a_cache_is() {
    bad_answers_to(|_, _| "nix-cache-info".to_owned(), &["a page", "empty"]);
}

#[test]
fn bad_answers_to_whether_it_carries_failures() {
    bad_answers_to(|published, _| published.marker.narinfo_name(), &[]);
}

#[test]
fn bad_answers_to_a_failure() {
    bad_answers_to(|_, entry| entry.narinfo_name(), &[]);
}

#[test]
fn bad_answers_to_a_nar() {
    bad_answers_to(|_, entry| entry.file_name(), &[]);
}

#[test]
fn nars_that_do_not_match() {
    let published = Published::new();
    let (genuine, key) = (published.genuine().signed_by(&published.key), &published.key);
    let other = published.but("name", "other");
    let nar = |entry: &Entry, name: &str| {
        entry.publish(&published.nix.path(name));
        fs::read(published.nix.path(name).join(entry.file_name())).expect("a NAR")
    };
    let right = nar(&genuine, "right");
    let bomb = |program: &str, size: &str| piped(&format!("head -c {size} /dev/zero | {program}"));
    let wrong_size = |size: &str| published.genuine().line("NarSize", size).signed_by(key);
    let packed = |compression: &str, file: Vec<u8>| genuine.clone().line("Compression", compression).file(file);
    let too_many = "bytes that it should have";
    published.none_is_believed(vec![
        ("another NAR of the same size", "has another hash", {
            let mut nar = right.clone();
            *nar.iter_mut().rev().find(|byte| **byte == b'}').expect("an object") = b' ';
            genuine.clone().file(nar)
        }),
        ("another NAR", "its NAR has", genuine.clone().file(nar(&other, "other"))),
        ("another hash", "has another hash", {
            published.genuine().line("NarHash", &format!("sha256:{}", "0".repeat(52))).signed_by(key)
        }),
        ("a part", "bytes, not", genuine.clone().file(&right[..right.len() - 8])),
        ("more", too_many, genuine.clone().file([&right[..], &[0; 8]].concat())),
        ("much more", "has more than 65536 bytes", genuine.clone().file(vec![0; 1 << 20])),
        ("a size of 0", "", wrong_size("0")),
        ("a smaller size", too_many, wrong_size("100")),
        ("a larger size", "bytes, not 10000", wrong_size("10000")),
        ("a huge size", "is too large", wrong_size(&(1_u64 << 40).to_string())),
        ("the largest size", "is too large", wrong_size(&u64::MAX.to_string())),
        ("a size that is too large for a number", "", wrong_size("99999999999999999999")),
        ("a negative size", "", wrong_size("-1")),
        ("little that unpacks to much, by xz", too_many, packed("xz", bomb("xz -9", "200M"))),
        ("little that unpacks to much, by gzip", too_many, packed("gzip", bomb("gzip -9", "32M"))),
        ("little that unpacks to much, by bzip2", too_many, packed("bzip2", bomb("bzip2 -9", "200M"))),
        ("nonsense", "is not read", packed("xz", b"nonsense".to_vec())),
        ("a compression that nobody knows", "", packed("nonsense", right.clone())),
    ]);
}

#[test]
fn malformed_narinfos() {
    let published = Published::new();
    let entry = published.genuine().signed_by(&published.key);
    let right = entry.narinfo();
    let without =
        |name: &str| right.lines().filter(|line| !line.starts_with(name)).collect::<Vec<_>>().join("\n") + "\n";
    let with = |line: &str| format!("{right}{line}\n");
    let rows = [
        ("nonsense", "nonsense".to_owned()),
        ("no path", without("StorePath")),
        ("no URL", without("URL")),
        ("no hash", without("NarHash")),
        ("no size", without("NarSize")),
        ("a path that is none", with("StorePath: /etc/passwd")),
        ("a hash that is none", with("NarHash: sha256:nonsense")),
        ("a hash of another kind", with("NarHash: nonsense:0000")),
        ("a reference that is none", with("References: ../../etc/passwd")),
        ("a deriver that is none", with("Deriver: \u{1b}[2J")),
        ("an address that is none", with("CA: nonsense")),
        ("no colon", with("nonsense")),
        ("escape sequences", with("\u{1b}]0;x\u{7}: \u{1b}[2J\u{202e}")),
        ("escape sequences in the path", with("StorePath: \u{1b}[2J\u{1b}]0;x\u{7}")),
        ("zero bytes", with("URL: nar/\0")),
        ("escape sequences in the URL", with("URL: nar/\u{1b}[2J\u{1b}]0;x\u{7}")),
        ("no end of the line", right.trim_end().to_owned()),
        ("half of it", right[..right.len() / 2].to_owned()),
    ];
    for (index, (row, text)) in rows.into_iter().enumerate() {
        let folder = published.cache(&format!("cache-{index}"), std::slice::from_ref(&entry));
        fs::write(folder.join(entry.narinfo_name()), text).expect("a narinfo");
        let server = Server::start(&folder);
        for (kind, url) in [("http", server.url()), ("file", format!("file://{}", folder.display()))] {
            let ran = published.build(&format!("machine-{kind}-{index}"), &url, "");
            match row {
                // It has no signature then, or all that is needed.
                "escape sequences" if ran.stderr.contains(REFUSED) => published.is_believed(row, ran),
                _ => published.is_not_believed(&format!("{row}, {kind}"), ran, ""),
            }
        }
    }
}

/// Nix itself follows such URLs.
#[test]
fn urls_that_lead_out_of_the_cache() {
    let published = Published::new();
    let entry = published.genuine().signed_by(&published.key);
    // The right NAR is there.
    let elsewhere = published.cache("elsewhere", std::slice::from_ref(&entry));
    let nar = elsewhere.join(entry.file_name());
    fs::copy(&nar, published.nix.path("secret")).expect("a file of the test");
    let secret = published.nix.path("secret").display().to_string();
    let other = Server::start(&elsewhere);
    let rows = [
        format!("{}/{}", other.url(), entry.file_name()),
        format!("//{}/{}", other.url().trim_start_matches("http://"), entry.file_name()),
        format!("file://{secret}"),
        format!("file:{secret}"),
        secret.clone(),
        "../secret".to_owned(),
        "nar/../../secret".to_owned(),
        "%2e%2e/secret".to_owned(),
        "nar/..%2f../secret".to_owned(),
        "nar/..".to_owned(),
        "nar/x?/../../../secret".to_owned(),
        String::new(),
    ];
    for (index, row) in rows.iter().enumerate() {
        let folder = published.cache(&format!("cache-{index}"), &[entry.clone().line("URL", row)]);
        // A folder of a strange name that leads on.
        fs::create_dir_all(folder.join("nar/x?")).expect("a folder of the test");
        let server = Server::start(&folder);
        for (kind, url) in [("http", server.url()), ("file", format!("file://{}", folder.display()))] {
            let machine = format!("machine-{kind}-{index}");
            published.configure(&machine, &url, "");
            let ran =
                published.on(&machine, "strace -f -qq -o trace -e trace=%file nix-build --no-out-link -v -A library");
            published.is_not_believed(&format!("{row}, {kind}"), ran, "");
            let trace = fs::read_to_string(published.nix.path("work/trace")).expect("what strace saw");
            assert!(trace.contains("negative-cache") && !trace.contains("secret"), "{row}, {kind}");
        }
        let asked = [server.requests(), other.requests()].concat();
        let leads_out = |request: &String| request.contains("secret") || request.contains("/nar/");
        assert!(!asked.iter().any(leads_out), "{row}: {asked:?}");
    }
}

/// As for outputs.
#[test]
fn redirects_to_other_servers_are_followed() {
    let published = Published::new();
    let folder = published.cache("cache", &[published.genuine().signed_by(&published.key)]);
    let (there, here) = (Server::start(&folder), Server::start(&published.nix.path("nothing")));
    let to = there.url();
    here.answering(move |path| Some(Answer::redirect(&format!("{to}{path}"))));
    published.is_believed("redirects", published.build("laptop", &here.url(), ""));
}

#[test]
fn caches_that_are_down() {
    let published = Published::new();
    let folder = published.nix.path("nothing");
    let silent = Silent::start();
    let answering = |answer: Answer| {
        let server = Server::start(&folder);
        server.answering(move |_| Some(answer.clone()));
        server
    };
    let servers: Vec<_> = bad_answers().into_iter().map(|(row, answer)| (row, answering(answer))).collect();
    let plain = Server::start(&folder);
    let mut rows: Vec<(&str, String)> = servers.iter().map(|(row, server)| (*row, server.url())).collect();
    rows.extend([
        ("refuses", refused_url()),
        ("takes connections and says nothing", silent.url()),
        ("has no name", "http://does-not-exist.invalid".to_owned()),
        ("has no TLS", plain.url().replace("http:", "https:")),
        ("is of a kind that nobody knows", "nonsense://x".to_owned()),
        ("is no URL", "http://".to_owned()),
        ("is a port that is none", "http://127.0.0.1:99999".to_owned()),
        ("is a folder that is not there", format!("file://{}/nothing", folder.display())),
        ("is a store that can't be reached", "ssh-ng://127.0.0.1".to_owned()),
    ]);
    let all = rows.iter().map(|(_, url)| url.as_str()).collect::<Vec<_>>().join(" ");
    rows.push(("all of these", all));
    for (index, (row, url)) in rows.iter().enumerate() {
        published.is_not_believed(row, published.build(&format!("machine-{index}"), url, ""), "");
    }
    // A cache that is up tells all the same.
    let folder = published.cache("cache", &[published.genuine().signed_by(&published.key)]);
    let up = Server::start(&folder);
    published.is_believed("one is up", published.build("laptop", &format!("{} {}", silent.url(), up.url()), ""));
}

#[test]
fn only_the_signer_withdraws() {
    if left_out() {
        return;
    }
    let published = Published::new();
    let (key, other) = (&published.key, Key::new(&published.nix, "other-1"));
    let failure = published.genuine().signed_by(key);
    let both = format!("negative-cache-trusted-public-keys = {} {}", key.public, other.public);
    let rows = [
        ("nobody", published.withdrawal("ci-1")),
        ("another believed key", published.withdrawal("ci-1").signed_by(&other)),
        ("another believed key, at its own path", published.withdrawal("other-1").signed_by(&other)),
        ("the signer, with other references", published.withdrawal("ci-1").references(&[]).signed_by(key)),
        ("the signer, of another period", published.withdrawal("ci-1").line("Sig", &failure.signature(key))),
    ];
    for (index, (row, withdrawal)) in rows.into_iter().enumerate() {
        let server = Server::start(&published.cache(&format!("cache-{index}"), &[failure.clone(), withdrawal]));
        published.is_believed(row, published.build(&format!("machine-{index}"), &server.url(), &both));
    }
    let folder = published.cache("withdrawn", &[failure, published.withdrawal("ci-1").signed_by(key)]);
    let server = Server::start(&folder);
    published.is_not_believed("the signer", published.build("laptop", &server.url(), &both), "withdraws a failure");
}

/// A cache has the failure and not its withdrawal, which the machine has seen elsewhere.
#[test]
fn what_was_withdrawn_can_not_be_replayed() {
    if left_out() {
        return;
    }
    let published = Published::new();
    let failure = published.genuine().signed_by(&published.key);
    let withdrawal = published.withdrawal("ci-1").signed_by(&published.key);
    let replaying = Server::start(&published.cache("replaying", std::slice::from_ref(&failure)));
    let withdrawing = Server::start(&published.cache("withdrawing", &[failure, withdrawal]));
    published.is_believed("neither was seen", published.build("fresh", &replaying.url(), ""));
    for (machine, learns_first) in [("early", true), ("late", false)] {
        if learns_first {
            published.is_believed(machine, published.build(machine, &replaying.url(), ""));
        }
        published.is_not_believed(machine, published.build(machine, &withdrawing.url(), ""), "withdraws a failure");
        // The failure here is another one.
        published.on(machine, "$COMPANION forget $(nix-instantiate -A library)").exits(0);
        published.is_not_believed(machine, published.build(machine, &replaying.url(), ""), "");
    }
}

#[test]
fn objects_name_nothing_of_the_machine() {
    let published = Published::new();
    let nix = &published.nix;
    fs::create_dir_all(nix.path("machines/secret-machine")).expect("a folder of the test");
    // The other machine is for another system.
    let conf = "builders = ssh://secret-builder mips64-linux\nsystem-features = secret-feature\n";
    nix.write("machines/secret-machine/conf", conf);
    let ran = nix.run(&format!(
        "{ON}
         secret() {{
             hostname secret-host; mkdir ../secret-tmp
             export USER=secret-user LOGNAME=secret-user TMPDIR=$(realpath ../secret-tmp) TOKEN=secret-token
             on secret-machine nix-build --no-out-link -k -A silent -A nothing
             on secret-machine $COMPANION publish --to \"file://$(realpath -m ../public)?compression=none\" --key-file ci-1.sec
         }}
         export -f on secret; unshare --uts bash -c secret"
    ));
    let ran = ran.exits(0);
    assert!(nix.path("public").exists(), "{ran}");
    let records = nix.run(&format!("{ON}\non secret-machine $COMPANION list --json")).exits(0);
    assert!(records.stdout.contains("secret-host"), "the machine's name is known here: {records}");
    let objects = in_cache(&nix.path("public"));
    assert_eq!(objects.len(), 3, "two failures and the marker: {objects:?}\n{ran}");
    let mut files = Vec::new();
    for folder in ["public", "public/nar"] {
        let inside = fs::read_dir(nix.path(folder)).expect("a cache").flatten().map(|file| file.path());
        files.extend(inside.filter(|path| path.is_file()));
    }
    for file in files {
        let bytes = fs::read(&file).expect("a file of the cache");
        // The directory of the store is that of every machine.
        let text = String::from_utf8_lossy(&bytes).replace(&nix.path("store").display().to_string(), "STORE");
        let folder = nix.path("").display().to_string();
        for word in ["secret", &folder, "/build", "root", "/tmp", "/home"] {
            assert!(!text.contains(word), "{word} is in {}: {text}", file.display());
        }
    }
}

#[test]
fn nothing_is_asked_or_sent_by_default() {
    let published = Published::new();
    let nix = &published.nix;
    let server = Server::start(&published.cache("cache", &[published.genuine().signed_by(&published.key)]));
    let write = |machine: &str, conf: &str| {
        fs::create_dir_all(nix.path("machines").join(machine)).expect("a folder of the test");
        nix.write(&format!("machines/{machine}/conf"), conf);
    };
    let asks = |machine: &str, before: &str| {
        server.clear();
        write(machine, &format!("substituters = {}", server.url()));
        let ran = nix
            .run(&format!("{ON}\n{before}\non {machine} nix-build --max-jobs 2 --no-out-link -k -A library -A silent"));
        ran.exits(100).says_times(BUILT, 2);
        let mut requests = server.requests();
        requests.sort();
        requests
    };
    let without = "NIX_CONFIG=$(grep -v '^plugin-files\\|^negative-cache' <<< \"$NIX_CONFIG\")";
    let stock = asks("stock", without);
    assert!(!stock.is_empty());
    assert_eq!(asks("default", ""), stock);

    // Caches alone, keys without the plugin switched on, and a retry: nobody is asked.
    let (url, key) = (server.url(), &published.key.public);
    let caches = format!("negative-cache-substituters = {url}");
    let keys = format!("negative-cache-trusted-public-keys = {key}");
    let rows = [
        ("nothing", String::new(), "", false),
        ("caches", caches.clone(), "", false),
        ("off", format!("{caches}\n{keys}\nnegative-cache = false"), "", false),
        ("retry", format!("{caches}\n{keys}"), "--option negative-cache-retry true", false),
        ("on", format!("{caches}\n{keys}"), "", true),
    ];
    for (row, conf, option, connects) in rows {
        write(row, &conf);
        server.clear();
        let command = format!("nix-build --no-out-link -A library {option}");
        nix.run(&format!("{ON}\non {row} strace -f -qq -o trace -e trace=connect,sendto {command}")).exits(100);
        let trace = fs::read_to_string(nix.path("work/trace")).expect("what strace saw");
        let port = format!("htons({})", url.rsplit(':').next().unwrap_or_default());
        assert_eq!(trace.contains(&port), connects, "{row}: {trace}");
        assert_eq!(trace.contains("AF_INET"), connects, "{row}: {trace}");
        assert_eq!(!server.requests().is_empty(), connects, "{row}: {:?}", server.requests());
    }
}
