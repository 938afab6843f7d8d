//! A server in the process of the test, which counts what it is asked and misbehaves on demand.
//!
//! It talks HTTP/1.1 by itself, over plain sockets: a library for servers would keep it from breaking the protocol.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use percent_encoding::percent_decode_str;

/// More than anybody should read, and less than fills a memory.
const ENDLESS: usize = 1 << 30;

/// A server for a folder that is a binary cache: GET, HEAD and PUT. Each connection has a thread, so what is asked at the same
/// time is answered at the same time.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

/// What has answers of its own for some paths.
type Answering = dyn Fn(&str) -> Option<Answer> + Send + Sync;

struct Shared {
    listener: TcpListener,
    folder: PathBuf,
    requests: Mutex<Vec<String>>,
    delay: Mutex<Duration>,
    answering: Mutex<Option<Arc<Answering>>>,
    stopped: AtomicBool,
    /// The open ones, by their other ends.
    connections: Mutex<HashMap<SocketAddr, TcpStream>>,
}

/// What the server answers instead of a file.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    Whole(Vec<u8>),
    Half(Vec<u8>),
    Slow(Vec<u8>, Duration),
    Endless(Vec<u8>),
    Never,
    Closed,
}

impl Answer {
    fn how(how: How) -> Answer {
        Answer { status: 200, headers: Vec::new(), how }
    }

    /// A status and a body.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, ..Answer::how(How::Whole(body.into())) }
    }

    /// A redirect to a URL, or to a path on the same server.
    pub fn redirect(to: &str) -> Answer {
        Answer::new(302, "").header("Location", to)
    }

    /// The announced body has twice the length of what comes before the connection is closed.
    pub fn half(body: impl Into<Vec<u8>>) -> Answer {
        Answer::how(How::Half(body.into()))
    }

    /// A body that comes byte by byte, with a pause before each.
    pub fn slow(body: impl Into<Vec<u8>>, pause: Duration) -> Answer {
        Answer::how(How::Slow(body.into(), pause))
    }

    /// A body that is these bytes again and again, without a length. The connection is closed after 1 GiB, as those who read
    /// it all must not fill the machine.
    pub fn endless(bytes: impl Into<Vec<u8>>) -> Answer {
        Answer::how(How::Endless(bytes.into()))
    }

    /// The request is taken and nothing is said.
    pub fn never() -> Answer {
        Answer::how(How::Never)
    }

    /// The connection is closed without an answer.
    pub fn closed() -> Answer {
        Answer::how(How::Closed)
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A lock that a test which panicked does not keep from others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn url_of(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

impl Server {
    /// Serves the folder, which need not be there yet.
    pub fn start(folder: &Path) -> Server {
        Server::listening_at(any_port(), folder)
    }

    /// The same at the URL of a server that has been dropped, as of one that is there again.
    pub fn start_at(url: &str, folder: &Path) -> Server {
        let address = url.strip_prefix("http://").and_then(|address| address.parse().ok());
        Server::listening_at(address.expect("the URL of a server"), folder)
    }

    fn listening_at(address: SocketAddr, folder: &Path) -> Server {
        let listener = TcpListener::bind(address).expect("a port for a server of the test");
        let address = listener.local_addr().expect("its port");
        let shared = Arc::new(Shared {
            listener,
            folder: folder.to_owned(),
            requests: Mutex::default(),
            delay: Mutex::default(),
            answering: Mutex::default(),
            stopped: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let accepting = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&shared))
        };
        Server { address, shared, accepting: Some(accepting) }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        url_of(self.address)
    }

    /// All requests so far in their order, each as `GET /nix-cache-info`.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.requests).clone()
    }

    /// Forgets the requests so far.
    pub fn clear(&self) {
        lock(&self.shared.requests).clear();
    }

    /// Answers this much later, as a cache that is so far away. What is asked in parallel is delayed in parallel.
    pub fn delayed(&self, delay: Duration) {
        *lock(&self.shared.delay) = delay;
    }

    /// Answers so wherever the function has an answer for a path, in place of an earlier function.
    pub fn answering(&self, answering: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static) {
        *lock(&self.shared.answering) = Some(Arc::new(answering));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // The port refuses at once and the thread wakes up. A closed socket could live on for a moment in a process that
        // another test is about to start.
        let shut = rustix::net::shutdown(&self.shared.listener, rustix::net::Shutdown::Both);
        if let Some(accepting) = self.accepting.take()
            && shut.is_ok()
        {
            let _ = accepting.join();
        }
        // Whoever reads or writes is woken by that. Threads that sleep notice later, and are not waited for.
        for connection in lock(&self.shared.connections).values() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn accept(shared: &Arc<Shared>) {
    for stream in shared.listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(connection) = stream.and_then(|stream| Connection::new(stream, shared)) else { continue };
        thread::spawn(move || connection.serve());
    }
}

struct Connection {
    peer: SocketAddr,
    input: BufReader<TcpStream>,
    output: TcpStream,
    shared: Arc<Shared>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A copy for `Server::drop` holds it open as well.
        let _ = self.output.shutdown(Shutdown::Both);
        lock(&self.shared.connections).remove(&self.peer);
    }
}

struct Request {
    method: String,
    path: String,
    body: Vec<u8>,
    keep_alive: bool,
}

/// Whether the connection can be used for another request.
type Reusable = bool;

impl Connection {
    fn new(stream: TcpStream, shared: &Arc<Shared>) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        let (peer, input) = (stream.peer_addr()?, BufReader::new(stream.try_clone()?));
        lock(&shared.connections).insert(peer, stream.try_clone()?);
        Ok(Connection { peer, input, output: stream, shared: Arc::clone(shared) })
    }

    /// Until the other side or the server has had enough. Errors are those of a connection that is gone.
    fn serve(mut self) {
        while let Ok(Some(request)) = self.request() {
            lock(&self.shared.requests).push(format!("{} {}", request.method, request.path));
            let delay = *lock(&self.shared.delay);
            if !delay.is_zero() {
                thread::sleep(delay);
            }
            let answering = lock(&self.shared.answering).clone();
            let answer = answering.and_then(|answering| answering(&request.path));
            let answer = answer.unwrap_or_else(|| self.shared.in_folder(&request));
            let reusable = self.answer(&request, &answer).unwrap_or(false);
            if !reusable || !request.keep_alive || self.shared.stopped.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    /// Reads a request. There is none if the other side is done.
    fn request(&mut self) -> io::Result<Option<Request>> {
        let nonsense = |_| io::Error::from(io::ErrorKind::InvalidData);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if self.input.by_ref().take(1 << 16).read_until(b'\n', &mut head)? == 0 || head.len() > 1 << 16 {
                return Ok(None);
            }
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Request::new(&mut headers);
        parsed.parse(&head).map_err(nonsense)?;
        let header = |name: &str| {
            let found = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            Some(String::from_utf8_lossy(found.value).to_lowercase())
        };
        let length = header("Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0);
        if header("Expect").is_some_and(|expected| expected == "100-continue") {
            self.output.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut body = Vec::new();
        self.input.by_ref().take(length).read_to_end(&mut body)?;
        Ok(Some(Request {
            method: parsed.method.unwrap_or_default().to_owned(),
            path: parsed.path.unwrap_or_default().to_owned(),
            body,
            keep_alive: parsed.version == Some(1) && header("Connection").is_none_or(|value| value != "close"),
        }))
    }

    fn answer(&mut self, request: &Request, answer: &Answer) -> io::Result<Reusable> {
        let length = match &answer.how {
            How::Whole(body) | How::Slow(body, _) => Some(body.len()),
            How::Half(body) => Some(body.len() * 2),
            How::Endless(_) => None,
            How::Never => {
                // Until the other side gives up.
                io::copy(&mut self.input, &mut io::sink())?;
                return Ok(false);
            }
            How::Closed => return Ok(false),
        };
        let mut head = format!("HTTP/1.1 {} Answer\r\n", answer.status);
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&match length {
            Some(length) => format!("Content-Length: {length}\r\n\r\n"),
            None => "Connection: close\r\n\r\n".to_owned(),
        });
        self.output.write_all(head.as_bytes())?;
        if request.method == "HEAD" {
            return Ok(length.is_some());
        }
        match &answer.how {
            How::Whole(body) | How::Half(body) => self.output.write_all(body)?,
            How::Slow(body, pause) => {
                for byte in body.chunks(1) {
                    thread::sleep(*pause);
                    self.output.write_all(byte)?;
                }
            }
            How::Endless(bytes) if !bytes.is_empty() => {
                let chunk = bytes.repeat((1 << 16) / bytes.len() + 1);
                for _ in 0..ENDLESS / chunk.len() {
                    self.output.write_all(&chunk)?;
                }
            }
            How::Endless(_) | How::Never | How::Closed => (),
        }
        Ok(matches!(answer.how, How::Whole(_) | How::Slow(..)))
    }
}

impl Shared {
    fn in_folder(&self, request: &Request) -> Answer {
        let path = request.path.split('?').next().unwrap_or_default();
        let relative = PathBuf::from(percent_decode_str(path.trim_start_matches('/')).decode_utf8_lossy().into_owned());
        // Nothing outside of the folder.
        if !relative.components().all(|component| matches!(component, Component::Normal(_))) {
            return Answer::new(403, "");
        }
        let file = self.folder.join(relative);
        let done = match request.method.as_str() {
            "GET" | "HEAD" => fs::read(&file).map(|bytes| Answer::new(200, bytes)),
            "PUT" => put(&file, &request.body).map(|()| Answer::new(201, "")),
            _ => return Answer::new(405, ""),
        };
        done.unwrap_or_else(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::IsADirectory => Answer::new(404, ""),
            _ => Answer::new(500, error.to_string()),
        })
    }
}

/// Those who read see all of it or nothing.
fn put(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let mut written = tempfile::NamedTempFile::new_in(folder)?;
    written.write_all(bytes)?;
    written.persist(file)?;
    Ok(())
}

/// A port that takes connections and says nothing.
pub struct Silent {
    /// Nobody accepts from it: the kernel does.
    listener: TcpListener,
}

impl Silent {
    /// Takes up to 128 connections.
    pub fn start() -> Silent {
        Silent { listener: TcpListener::bind(any_port()).expect("a port that says nothing") }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        url_of(self.listener.local_addr().expect("its port"))
    }
}

/// A URL whose port refuses connections. No server of the tests gets one below 1024.
pub fn refused_url() -> String {
    url_of((Ipv4Addr::LOCALHOST, 1).into())
}
