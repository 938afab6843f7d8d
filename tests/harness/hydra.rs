//! A Hydra of the tests, which answers in the shapes of the real one, and badly where a test wants that.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::Scratch;
use crate::caches::{Answer, Server};

/// A Hydra with one jobset, `project/jobset`, and at first one evaluation, 1. Each evaluation has all builds.
pub struct Hydra {
    server: Server,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    builds: BTreeMap<u64, Value>,
    /// By numbers, with their times.
    evaluations: BTreeMap<u64, u64>,
    /// By the names of derivations.
    logs: HashMap<String, String>,
    /// What is answered first to requests for a path.
    first: HashMap<String, VecDeque<Answer>>,
}

impl Hydra {
    /// Starts one that knows no build.
    pub fn start(nix: &Scratch) -> Hydra {
        let server = Server::start(&nix.path("no-such-folder"));
        let known = Known { evaluations: BTreeMap::from([(1, now() - 200)]), ..Known::default() };
        let known = Arc::new(Mutex::new(known));
        let answering = Arc::clone(&known);
        server.answering(move |path| Some(answering.lock().unwrap_or_else(PoisonError::into_inner).answer(path)));
        Hydra { server, known }
    }

    /// The server, for its URL and requests.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Adds a build that failed a minute ago, of a derivation of the expression.
    pub fn fails(&self, nix: &Scratch, number: u64, attribute: &str, log: &str) {
        let paths = nix.run(&format!("d=$(nix-instantiate -A {attribute}) && echo $d && nix-store -q --outputs $d"));
        let paths = paths.exits(0).stdout;
        let paths: Vec<&str> = paths.lines().collect();
        self.add(build(number, attribute, paths[0], paths[1]), Some(log));
    }

    /// Adds a build with its log. A build with the same number is replaced.
    pub fn add(&self, build: Value, log: Option<&str>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let name = build["drvpath"].as_str().and_then(|path| path.rsplit('/').next()).unwrap_or_default().to_owned();
        if let Some(log) = log {
            known.logs.insert(name, log.to_owned());
        }
        known.builds.insert(build["id"].as_u64().unwrap_or_default(), build);
    }

    /// Adds an evaluation that was made so long ago. One with the same number is replaced.
    pub fn evaluates(&self, number: u64, ago: Duration) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.evaluations.insert(number, now() - ago.as_secs());
    }

    /// Answers requests for this path so before it answers them well, one after the other.
    pub fn answers_first(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.first.entry(path.to_owned()).or_default().extend(answers);
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// A build that failed a minute ago.
pub fn build(number: u64, job: &str, derivation: &str, output: &str) -> Value {
    let now = now();
    json!({
        "id": number, "finished": 1, "timestamp": now - 200, "starttime": now - 120, "stoptime": now - 60,
        "project": "project", "jobset": "jobset", "job": job, "nixname": job, "system": "x86_64-linux", "priority": 100,
        "buildstatus": 1, "releasename": null, "drvpath": derivation, "jobsetevals": [1],
        "buildoutputs": { "out": { "path": output } }, "buildproducts": {}, "buildmetrics": {},
    })
}

/// A build of a derivation that no Nix has, with a path that follows from the number.
pub fn made_up(number: u64) -> Value {
    let hash: String = format!("{number:0>32}");
    let output = format!("/nix/store/{}-made-up-{number}", hash.replace('0', "z"));
    build(number, "made-up", &format!("/nix/store/{hash}-made-up-{number}.drv"), &output)
}

impl Known {
    fn answer(&mut self, path: &str) -> Answer {
        let (place, query) = path.split_once('?').unwrap_or((path, ""));
        if let Some(answer) = self.first.get_mut(place).and_then(VecDeque::pop_front) {
            return answer;
        }
        let json = |value: &Value| Answer::new(200, value.to_string()).header("Content-Type", "application/json");
        let evaluation = |(number, time): (&u64, &u64)| {
            json!({
                "id": number, "timestamp": time, "hasnewbuilds": 1,
                "checkouttime": 2, "evaltime": 3, "flake": null, "jobsetevalinputs": {},
                "builds": self.builds.keys().collect::<Vec<_>>(),
            })
        };
        match place.split('/').skip(1).collect::<Vec<_>>().as_slice() {
            ["build", number] => match number.parse().ok().and_then(|number: u64| self.builds.get(&number)) {
                Some(build) => json(build),
                None => Answer::new(404, r#"{"error":"Build not found."}"#),
            },
            ["eval", number, "builds"] if self.evaluation(number).is_some() => {
                let builds: Vec<String> = self.builds.values().map(Value::to_string).collect();
                Answer::new(200, format!("[{}]", builds.join(",")))
            }
            ["eval", number] if self.evaluation(number).is_some() => {
                json(&self.evaluation(number).map_or(Value::Null, evaluation))
            }
            ["jobset", "project", "jobset", "evals"] if query == "page=1" => {
                let newest_first: Vec<Value> = self.evaluations.iter().rev().map(evaluation).collect();
                json(&json!({ "evals": newest_first, "first": "?page=1", "last": "?page=1" }))
            }
            ["log", name] => match self.logs.get(*name) {
                Some(log) => Answer::new(200, log.as_bytes()),
                None => Answer::new(404, "there is no log"),
            },
            _ => Answer::new(404, "<html>404</html>"),
        }
    }

    fn evaluation(&self, number: &str) -> Option<(&u64, &u64)> {
        self.evaluations.get_key_value(&number.parse().ok()?)
    }
}

/// A server that answers one request with 404, for those who want to see the whole request.
pub struct Listener {
    url: String,
    head: Receiver<io::Result<String>>,
}

impl Listener {
    /// Starts one.
    pub fn start() -> Listener {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port for a server of the test");
        let url = format!("http://{}", listener.local_addr().expect("its port"));
        let (sender, head) = mpsc::channel();
        thread::spawn(move || {
            // Nobody listens if the test has failed.
            let _ = sender.send(listener.accept().and_then(|(stream, _)| answer(stream)));
        });
        Listener { url, head }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it was asked. Panics if nothing is asked for a minute.
    pub fn head(&self) -> String {
        let head = self.head.recv_timeout(Duration::from_secs(60)).expect("a request");
        head.expect("the head of a request")
    }
}

/// Reads a request and says that there is no such thing. A proxy is first asked for a connection, and then for what is behind it.
fn answer(mut stream: TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut all = String::new();
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte)? == 0 {
                return Ok(all);
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        all.push_str(&head);
        if head.starts_with("CONNECT ") {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        } else {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
            return Ok(all);
        }
    }
}
