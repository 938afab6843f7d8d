//! `nix-negative-cache publish`: what leaves the machine, what stays, and that stock Nix takes it everywhere.

use std::fs;
use std::path::{Path, PathBuf};

use nix_negative_cache_tests::caches::{Key, Nginx};
use nix_negative_cache_tests::{MACHINES, Ran, Scratch, exists, left_out};
use serde_json::Value;

/// An installation with failures that can be published. The file `@WORKS@` is not among what their builders see.
fn in_sandbox() -> Scratch {
    let nix = Scratch::in_sandbox();
    let expression = r#"rec {
        one = drv "one" "echo one is broken; [ -e @WORKS@ ] || exit 3; echo one > $out" { };
        two = drv "two" "echo two is broken; exit 4" { };
        local = drv "local" "exit 5" { negativeCache = "local"; };
    }"#;
    nix.expression(&expression.replace("@WORKS@", &nix.path("works").display().to_string()));
    nix
}

/// Fails to build these attributes.
fn fail(nix: &Scratch, attributes: &str) {
    nix.run(&format!("nix-build --no-out-link --keep-going {attributes}")).exits(100);
}

/// A file system path as a store, whose files are not compressed.
fn folder_url(folder: &Path) -> String {
    format!("file://{}?compression=none", folder.display())
}

fn publish(nix: &Scratch, arguments: &str) -> Ran {
    nix.run(&format!("$COMPANION publish {arguments}"))
}

/// The plan of `--dry-run --json`.
fn plan(nix: &Scratch, arguments: &str) -> Value {
    let printed = publish(nix, &format!("--dry-run --json {arguments}")).exits(0).stdout;
    serde_json::from_str(&printed).expect("JSON")
}

/// The store paths of a plan.
fn paths(objects: &Value) -> Vec<String> {
    let objects = objects.as_array().expect("objects");
    objects.iter().map(|object| object["path"].as_str().expect("a path").to_owned()).collect()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn what_is_published_is_signed_and_is_what_was_announced() {
    let nix = in_sandbox();
    let key = Key::new(&nix, "ci-1");
    fail(&nix, "-A one -A two -A local");
    let cache = nix.path("cache");
    let to = format!("--to '{}' --key-file ci-1.sec", folder_url(&cache));
    let announced = plan(&nix, &to);
    assert!(!exists(&cache), "a dry run writes nothing");
    assert_eq!((&announced["signer"], announced["withdrawals"].as_array().map(Vec::len)), (&"ci-1".into(), Some(0)));
    assert_eq!(announced["staying"].as_array().map(Vec::len), Some(1), "{announced}");
    let why = announced["staying"][0]["why"].as_str().unwrap_or_default();
    assert!(why.contains("negativeCache"), "{why}");
    let done = "published 2 failures and 0 withdrawals to file://";
    publish(&nix, &to).exits(0).prints_part(done).prints_part("; 1 other stays on this machine (see --dry-run)");
    let store = folder_url(&cache);
    for object in announced["failures"].as_array().unwrap() {
        let path = object["path"].as_str().unwrap();
        let content = nix.run(&format!("nix store cat --store '{store}' {path}")).exits(0).stdout;
        assert_eq!(content, object["content"].as_str().unwrap());
        let info = nix.run(&format!("nix path-info --json --store '{store}' {path}")).exits(0).stdout;
        assert!(!info.contains("deriver\":\"/") && info.contains("negative-cache-marker"), "{info}");
    }
    let all = paths(&announced["failures"]).join(" ");
    let verify = format!("nix store verify -r --store '{store}' {all} --trusted-public-keys");
    nix.run(&format!("{verify} {}", key.public)).exits(0);
    nix.run(&format!("{verify} {}", Key::new(&nix, "ci-2").public)).exits(2).says_times("is untrusted", 2);

    // Once is enough.
    publish(&nix, &to).exits(0).prints_part("there is nothing new to publish in file://").does_not_say("copying");
    // Another place, another signer or another machine is another matter, and what is there already does no harm.
    let other = format!("--to {} --signer cache-1", nix.path("other").display());
    assert_eq!(plan(&nix, &other)["failures"].as_array().map(Vec::len), Some(2));
    nix.run("rm -r ../var/negative-cache").exits(0);
    fail(&nix, "-A one");
    publish(&nix, &to).exits(0).prints_part("published 1 failure and 0 withdrawals to file://");
    nix.run(&format!("{verify} {}", key.public)).exits(0);
}

#[test]
fn a_success_withdraws_what_was_published() {
    let nix = in_sandbox();
    Key::new(&nix, "ci-1");
    fail(&nix, "-A one -A two");
    let to = format!("--to '{}' --key-file ci-1.sec", folder_url(&nix.path("cache")));
    publish(&nix, &to).exits(0);
    nix.write("works", "");
    nix.run("nix-build --no-out-link -A one --option sandbox false --option negative-cache-retry true").exits(0);
    let announced = plan(&nix, &to);
    let path = &paths(&announced["withdrawals"])[0];
    assert!(path.ends_with("-build-failure-withdrawn"), "{path}");
    // A destination where nothing was published has nothing to withdraw.
    assert!(paths(&plan(&nix, "--to file:///nowhere --signer ci-1")["withdrawals"]).is_empty());
    publish(&nix, &to).exits(0).prints_part("published 0 failures and 1 withdrawal to file://");
    let cat = format!("nix store cat --store '{}' {path}", folder_url(&nix.path("cache")));
    nix.run(&cat).exits(0).prints_part("-one\",\"version\":1}");
    publish(&nix, &to).exits(0).prints_part("there is nothing new to publish");
    // Nobody knows how it is with what was forgotten.
    nix.run("$COMPANION forget --all").exits(0);
    publish(&nix, &to).exits(0).prints_part("there is nothing new to publish");
}

#[test]
fn paths_and_names_choose_what_is_published() {
    if left_out() {
        return;
    }
    let nix = in_sandbox();
    Key::new(&nix, "ci-1");
    fail(&nix, "-A one -A two -A local");
    nix.run("nix-build --no-out-link -A two --option sandbox false --option negative-cache-retry true").exits(100);
    let to = format!("--to file://{} --key-file ci-1.sec", nix.path("cache").display());
    let drv = |name: &str| nix.run(&format!("nix-instantiate -A {name}")).exits(0).stdout.trim().to_owned();
    let (one, two, local) = (drv("one"), drv("two"), drv("local"));
    publish(&nix, &format!("{to} {two} {local}"))
        .exits(1)
        .says(&format!("'{two}' stays on this machine: it "))
        .says(&format!("'{local}' stays on this machine: its derivation has `negativeCache = \"local\"`"))
        .says("nothing that was asked for can be published")
        .does_not_say("copying");
    publish(&nix, &format!("{to} {}/unknown", nix.path("store").display())).exits(3).says("no failure of '");
    assert!(plan(&nix, &format!("{to} --name tw"))["failures"].as_array().unwrap().is_empty());
    assert!(plan(&nix, &format!("{to} --since 0s"))["failures"].as_array().unwrap().is_empty());
    publish(&nix, &format!("{to} {two} '{one}^out'")).exits(0).prints_part("published 1 failure and 0 withdrawals");
    // It is published: that is what was asked for.
    publish(&nix, &format!("{to} {one}")).exits(0).prints_part("there is nothing new to publish");
    publish(&nix, &format!("{to} {one} --name x")).exits(2);
}

#[test]
fn keys_and_destinations_that_are_wrong_are_named() {
    if left_out() {
        return;
    }
    let nix = in_sandbox();
    Key::new(&nix, "ci-1");
    fail(&nix, "-A one");
    let cache = nix.path("cache");
    let to = format!("--to file://{}", cache.display());
    publish(&nix, &to).exits(1).says("nobody is named who signs; add  --key-file FILE");
    publish(&nix, &format!("{to} --dry-run")).exits(0).prints_part("Nobody is named who signs");
    assert_eq!(plan(&nix, &to)["failures"][0]["path"], Value::Null);
    publish(&nix, &format!("{to} --key-file ci-2.sec"))
        .exits(1)
        .says("cannot read the key file 'ci-2.sec': No such file");
    publish(&nix, &format!("{to} --key-file ci-1.pub")).exits(1).says("'ci-1.pub' has no secret key");
    publish(&nix, &format!("--to 'file://{}?secret-key=ci-1.pub'", cache.display())).exits(1).says("has no secret key");
    publish(&nix, &format!("{to} --signer 'a b'")).exits(2).says("not the name of a key");
    publish(&nix, &format!("{to} --json --key-file ci-1.sec")).exits(2);
    assert!(!exists(&cache), "nothing was written");
    // What Nix can't copy is not published.
    let nowhere = "--to file:///proc/nowhere --key-file ci-1.sec";
    publish(&nix, nowhere).exits(1).says("nothing was noted as published in file:///proc/nowhere: 'nix' failed");
    assert_eq!(plan(&nix, nowhere)["failures"].as_array().map(Vec::len), Some(1));
    // Nix signs with the key of a URL, which stays out of the database.
    let url = format!("'file://{}?secret-key={}'", cache.display(), nix.path("work/ci-1.sec").display());
    publish(&nix, &format!("--to {url}")).exits(0).prints_part(&format!("to file://{}", cache.display()));
    let noted = nix.run(&format!("sqlite3 {} 'SELECT destination, signer FROM published'", nix.database().display()));
    noted.exits(0).prints(&format!("file://{}|ci-1", cache.display()));
}

#[test]
fn stock_nix_takes_it_to_every_kind_of_store() {
    let nix = in_sandbox();
    let key = Key::new(&nix, "ci-1");
    fail(&nix, "-A one -A two");
    fs::create_dir(nix.path("served")).expect("a folder of the test");
    let nginx = Nginx::start(&nix.path("served"), false);
    publish(&nix, &format!("--to {} --key-file ci-1.sec", nginx.url())).exits(0).prints_part("published 2 failures");
    assert!(nginx.requests().iter().any(|request| request.starts_with("PUT /")), "{:?}", nginx.requests());
    // Other stores take only what is signed with a key that they trust.
    let store = format!("--to {} --key-file ci-1.sec", nix.path("other").display());
    publish(&nix, &store).exits(1).says("signature").says("nothing was noted as published");
    let trusts = format!("trusted-public-keys = {}", key.public);
    nix.run(&format!("export NIX_CONFIG=\"$NIX_CONFIG\"$'\\n''{trusts}'; $COMPANION publish {store}"))
        .exits(0)
        .prints_part("published 2 failures");
    nix.run(&format!(
        "{MACHINES}\nmachine there '{trusts}'; there=$(realpath ../there)
         url=\"ssh-ng://localhost?remote-program=$there/serve&remote-store=local?root=$there\"
         $COMPANION publish --to \"$url\" --key-file ci-1.sec"
    ))
    .exits(0)
    .prints_part("published 2 failures");
    let there = files(&nix.path("there/nix/store"));
    let is_object = |file: &&PathBuf| file.to_string_lossy().ends_with("-build-failure");
    assert_eq!(there.iter().filter(is_object).count(), 2, "{there:?}");
}

#[test]
fn nothing_of_the_machine_is_in_what_is_published() {
    let nix = in_sandbox().config("builders = ssh://secret-builder x86_64-linux");
    Key::new(&nix, "ci-1");
    // The folder from which Nix copies is seen by a Nix that comes first in PATH.
    nix.run("mkdir bin secret-tmp; type -P nix > real").exits(0);
    nix.script(
        "bin/nix",
        r#"for word; do case $word in file://*/nix-negative-cache-*) cp -r ${word#file://} ../seen ;; esac; done
           exec $(cat real) "$@""#,
    );
    nix.run(
        "unshare -u bash -c 'hostname secret-host; export USER=secret-user LOGNAME=secret-user SECRET=secret-variable \
         TMPDIR=$PWD/secret-tmp PATH=$PWD/bin:$PATH; nix-build --no-out-link -A one; \
         $COMPANION publish --to \"file://$(realpath ..)/cache?compression=none\" --key-file ci-1.sec'",
    )
    .exits(0)
    .prints_part("published 1 failure");
    let secret = fs::read_to_string(nix.path("work/ci-1.sec")).expect("a key");
    let secret = secret.trim().split_once(':').expect("a key").1;
    let places = ["home", "work", "var", "etc", "log"].map(|place| nix.path(place).display().to_string());
    let mut texts = 0;
    for file in ["seen", "cache"].into_iter().flat_map(|folder| files(&nix.path(folder))) {
        let bytes = fs::read(&file).expect("a file");
        let text = String::from_utf8_lossy(&bytes);
        texts += usize::from(text.contains("one is broken"));
        for word in ["secret", secret].into_iter().chain(places.iter().map(String::as_str)) {
            assert!(!text.contains(word), "'{word}' is in {}: {text}", file.display());
        }
    }
    assert_eq!(texts, 2, "the object itself was looked at, in both folders");
    // Nothing is left of the folder.
    assert!(files(&nix.path("work/secret-tmp")).is_empty());
    // The end of a log is the builder's text.
    let to = format!("--to file://{} --signer ci-2", nix.path("other").display());
    let content = |more: &str| plan(&nix, &format!("{to} {more}"))["failures"][0]["content"].to_string();
    assert!(content("").contains("one is broken") && !content("--no-log").contains("one is broken"));
}
