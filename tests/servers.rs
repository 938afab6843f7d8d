//! The servers of the harness do to a stock Nix what the other tests rely on.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix_negative_cache_tests::caches::{Answer, Entry, Key, Nginx, Server, Silent, refused_url};
use nix_negative_cache_tests::{Ran, Scratch, left_out};

const HASH: &str = "0123456789abcdfghijklmnpqrsvwxyz";

fn path_of(nix: &Scratch) -> String {
    nix.path(&format!("store/{HASH}-x")).display().to_string()
}

/// A path `x` that needs a path `y`, both in the folder `cache`, and the key of the one and only signature.
fn set_up(nix: &Scratch) -> (Entry, Key) {
    let key = Key::new(nix, "test-1");
    let needed = nix.path(&format!("store/1{}-y", &HASH[1..])).display().to_string();
    Entry::new(&needed, "needed").signed_by(&key).publish(&nix.path("cache"));
    let entry = Entry::new(&path_of(nix), "it is here\n").references(&[&needed]).signed_by(&key);
    entry.publish(&nix.path("cache"));
    (entry, key)
}

/// Has Nix fetch `x`, and prints it.
fn substitute(nix: &Scratch, url: &str, key: &Key, options: &str) -> Ran {
    nix.run(&format!(
        "nix-store --realise {path} --option substituters {url} --option trusted-public-keys {} {options} > /dev/null && cat {path}",
        key.public,
        path = path_of(nix),
    ))
}

#[test]
fn stock_nix_substitutes_what_was_published_by_hand() {
    if left_out() {
        return;
    }
    let nix = Scratch::stock();
    let (entry, key) = set_up(&nix);
    let server = Server::start(&nix.path("cache"));
    substitute(&nix, &server.url(), &key, "").exits(0).prints("it is here");
    let requests = server.requests();
    for file in ["nix-cache-info", &entry.narinfo_name(), &entry.file_name()] {
        let times = requests.iter().filter(|&request| *request == format!("GET /{file}")).count();
        assert_eq!(times, 1, "{file}: {requests:?}");
    }
    server.clear();
    assert!(server.requests().is_empty());
    let store = format!("file://{}", nix.path("cache").display());
    let verify = format!("nix store verify --store {store} -r {} --trusted-public-keys", path_of(&nix));
    nix.run(&format!("{verify} {}", key.public)).exits(0);
    nix.run(&format!("{verify} {}", Key::new(&nix, "test-2").public)).exits(2).says("is untrusted");
}

#[test]
fn what_is_wrong_in_a_cache_is_wrong_for_stock_nix() {
    if left_out() {
        return;
    }
    type Wrong = fn(Entry, &Key) -> Entry;
    let wrongs: [(&str, Wrong); 4] = [
        ("signed by any of the keys in 'trusted-public-keys'", |entry, _| entry.references(&[])),
        ("hash mismatch", |entry, key| {
            let other = format!("sha256:{}", "0".repeat(52));
            entry.line("NarHash", &other).signed_by(key)
        }),
        ("signed by any of the keys in 'trusted-public-keys'", |entry, key| {
            let signature = entry.clone().line("NarSize", "1").signature(key);
            entry.line("Sig", &signature)
        }),
        ("file 'nar/nothing' does not exist in binary cache", |entry, key| {
            entry.line("URL", "nar/nothing").signed_by(key)
        }),
    ];
    for (said, wrong) in wrongs {
        let nix = Scratch::stock();
        let (_, key) = set_up(&nix);
        let unsigned = Entry::new(&path_of(&nix), "it is here\n");
        wrong(unsigned, &key).publish(&nix.path("cache"));
        let server = Server::start(&nix.path("cache"));
        let ran = substitute(&nix, &server.url(), &key, "--option download-attempts 1");
        assert_ne!(ran.status, 0, "{said}: {ran}");
        ran.says(said);
    }
}

/// Has Nix copy `x` to a cache and from there to its store. It is more than curl sends without asking first.
fn there_and_back(url: &str, variables: &[(&str, &str)], nix: &Scratch, key: &Key) {
    let (path, large) = (path_of(nix), vec![b'x'; 3 << 20]);
    Entry::new(&path, &large).signed_by(key).publish(&nix.path("cache"));
    nix.run_with(&format!("nix copy --from file://$PWD/../cache --to {url} --no-check-sigs {path}"), variables)
        .exits(0);
    let back = format!("nix copy --from {url} {path} --option trusted-public-keys {}", key.public);
    nix.run_with(&back, variables).exits(0);
    assert!(fs::read(&path).expect("the path") == large);
}

#[test]
fn servers_take_uploads() {
    if left_out() {
        return;
    }
    let uploaded = |version: &str| format!("PUT /{HASH}.narinfo{version}");
    let nix = Scratch::stock();
    let key = Key::new(&nix, "test-1");
    let server = Server::start(&nix.path("served"));
    there_and_back(&server.url(), &[], &nix, &key);
    assert!(server.requests().contains(&uploaded("")), "{:?}", server.requests());

    let nix = Scratch::stock();
    let key = Key::new(&nix, "test-1");
    let nginx = Nginx::start(&nix.path("served"), false);
    there_and_back(&nginx.url(), &[], &nix, &key);
    assert!(nginx.requests().contains(&uploaded(" HTTP/1.1")), "{:?}", nginx.requests());

    let nix = Scratch::stock();
    let key = Key::new(&nix, "test-1");
    let nginx = Nginx::start(&nix.path("served"), true);
    there_and_back(&nginx.url(), &[("NIX_SSL_CERT_FILE", &nginx.certificate())], &nix, &key);
    assert!(nginx.requests().contains(&uploaded(" HTTP/2.0")), "{:?}", nginx.requests());
    // Its certificate is believed by those only who are told to. Nix knows some answers of this cache by now.
    let ask = format!("nix path-info --option download-attempts 1 --store {} {}", nginx.url(), path_of(&nix));
    nix.run(&format!("rm -r $HOME/.cache; {ask}")).exits(1).says("SSL");
}

/// A request by hand, on a connection of its own.
fn ask(url: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
    write!(stream, "GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n").expect("a request");
    stream
}

/// More than this is not read.
const MUCH: usize = 1 << 20;

/// What comes until the connection is closed.
fn answer(stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = BufReader::new(stream).take(MUCH as u64).read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn answers_are_late_in_parallel() {
    if left_out() {
        return;
    }
    let nix = Scratch::stock();
    let server = Server::start(&nix.path("work"));
    let delay = Duration::from_millis(300);
    server.delayed(delay);
    let start = Instant::now();
    let asked: Vec<TcpStream> = (0..25).map(|_| ask(&server.url(), "/lib.nix")).collect();
    for stream in asked {
        assert!(answer(stream).contains("rec {"));
    }
    let took = start.elapsed();
    assert!(took >= delay && took < delay * 25 / 2, "{took:?}");
    assert_eq!(server.requests(), vec!["GET /lib.nix"; 25]);
}

#[test]
fn a_server_can_be_down_in_each_way() {
    if left_out() {
        return;
    }
    let nix = Scratch::stock();
    let server = Server::start(&nix.path("work"));
    server.answering(|path| {
        Some(match path {
            "/refused" => Answer::new(503, "no").header("Retry-After", "1"),
            "/elsewhere" => Answer::redirect("/refused"),
            "/half" => Answer::half("12"),
            "/slow" => Answer::slow("1234", Duration::from_millis(50)),
            "/endless" => Answer::endless("again "),
            "/never" => Answer::never(),
            "/closed" => Answer::closed(),
            _ => return None,
        })
    });
    let url = server.url();
    let get = |path: &str| answer(ask(&url, path));
    assert!(get("/lib.nix").starts_with("HTTP/1.1 200 "));
    assert!(get("/nothing").starts_with("HTTP/1.1 404 "));
    assert!(get("/../etc/nix.conf").starts_with("HTTP/1.1 403 "));
    let refused = get("/refused");
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("\r\nRetry-After: 1\r\n"), "{refused}");
    assert!(get("/elsewhere").contains("\r\nLocation: /refused\r\n"));
    let half = get("/half");
    assert!(half.contains("\r\nContent-Length: 4\r\n") && half.ends_with("\r\n\r\n12"), "{half}");
    let start = Instant::now();
    assert!(get("/slow").ends_with("\r\n\r\n1234"));
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(get("/endless").len(), MUCH);
    assert_eq!(get("/closed"), "");

    let stalls = |mut stream: TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a time limit");
        let error = stream.read(&mut [0]).expect_err("nothing");
        assert!(matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{error}");
        stream
    };
    let waiting = stalls(ask(&url, "/never"));
    let silent = Silent::start();
    stalls(ask(&silent.url(), "/"));
    let ask_nix = |before: &str, url: &str| {
        nix.run(&format!("{before} nix path-info --option download-attempts 1 --store {url} {}", path_of(&nix)))
    };
    ask_nix("", &refused_url()).exits(1).says("connect to");
    ask_nix("timeout 2", &silent.url()).exits(124);

    // Dropped, it lets go of all connections, and another one can take its place.
    drop(server);
    assert_eq!(answer(waiting), "");
    let error = TcpStream::connect(url.trim_start_matches("http://")).expect_err("nobody");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let server = Server::start_at(&url, &nix.path("work"));
    assert!(answer(ask(&url, "/lib.nix")).contains("rec {"));
    assert_eq!(server.requests(), ["GET /lib.nix"]);
}
