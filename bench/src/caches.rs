//! Binary caches for the benchmarks: what is in them, who serves them, and the settings of those who use them.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix_negative_cache_core::failure_object::{Address, FailureObject, Kind, main_output, marker, marker_text, period};
use nix_negative_cache_core::record::FailureRecord;
use nix_negative_cache_tests::caches::{Entry, Key, Server};

use crate::Result;
use crate::installation::Installation;

/// The name of the key that signs what is in the caches.
const SIGNER: &str = "bench-1";

/// A folder that is a binary cache for an installation's store, and a server for it, which counts what it is asked.
pub struct Cache {
    folder: PathBuf,
    store: PathBuf,
    /// The server, which answers at once unless it is told otherwise.
    pub server: Server,
    /// The key that signs failures.
    pub key: Key,
}

impl Cache {
    /// Serves a cache that has nothing in it.
    pub fn start(installation: &Installation) -> Result<Cache> {
        let (folder, store) = (installation.path("cache"), installation.path("store"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        // Nix would upload it with its first question.
        fs::write(folder.join("nix-cache-info"), format!("StoreDir: {}\n", store.display()))?;
        let server = Server::start(&folder);
        Ok(Cache { folder, store, server, key: key(installation)? })
    }

    /// The folder that is served.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Has the cache carry failures.
    pub fn carry_failures(&self) {
        self.object(&self.marker(), marker_text().as_bytes()).publish(&self.folder);
    }

    /// Puts a failure into the cache.
    pub fn publish(&self, failure: &FailureRecord) -> Result<()> {
        let output = main_output(&failure.outputs, |output| &output.name).ok_or("the failure has no output")?;
        let now = period(Timestamp::now());
        let address = Address { kind: Kind::Failure, key: &output.key, period: now, signer: SIGNER };
        let path = address.path(&self.store.to_string_lossy());
        let content = FailureObject::of(failure, true).to_bytes()?;
        self.object(&path, &content).references(&[&self.marker()]).publish(&self.folder);
        Ok(())
    }

    fn marker(&self) -> String {
        marker(&self.store.to_string_lossy())
    }

    fn object(&self, path: &str, content: &[u8]) -> Entry {
        Entry::new(path, content).signed_by(&self.key)
    }

    /// The setting with which Nix takes outputs from the cache.
    pub fn substituters(&self) -> String {
        format!("substituters = {}", self.server.url())
    }

    /// The setting with which failures are asked for that the key has signed.
    pub fn trusted(&self) -> String {
        format!("negative-cache-trusted-public-keys = {}", self.key.public)
    }

    /// The requests that a command sends to the server, in alphabetical order. The command ends with this status.
    pub fn requests(&self, installation: &Installation, command: &str, status: i32) -> Result<Vec<String>> {
        self.server.clear();
        installation.output(&format!("{command}; [ $? = {status} ]"))?;
        let mut requests = self.server.requests();
        requests.sort();
        Ok(requests)
    }
}

/// The key of an installation, which is made once.
pub fn key(installation: &Installation) -> Result<Key> {
    let [secret, public] = ["secret-key", "public-key"].map(|name| installation.path(name));
    if !public.exists() {
        let (secret, public) = (secret.display(), public.display());
        installation.output(&format!("nix-store --generate-binary-cache-key {SIGNER} {secret} {public}"))?;
    }
    let public = fs::read_to_string(public)?.trim().to_owned();
    Ok(Key { secret, public })
}

/// A command line, that begins as [`Installation::with`] has it, with more settings. In place of a configuration file of their
/// own: they have ports in them, which are others each time.
pub fn with_settings(with: &str, settings: &[&str]) -> String {
    format!("{with} {}", shell_words::quote(&format!("NIX_CONFIG={}", settings.join("\n"))))
}

/// A command that has Nix forget what it knows about caches, and the plugin what it knows and has asked.
pub const FORGET: &str = "/bin/rm -rf home/.cache/nix var/negative-cache";

/// Passes on all connections to a server, and what it answers only after a while. Returns the address to connect to. It ends
/// with this process.
pub fn delaying(server: SocketAddr, delay: Duration) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A connection that can't be passed on is closed.
            let _ = pass_on(client, server, delay);
        }
    });
    Ok(address)
}

fn pass_on(client: TcpStream, server: SocketAddr, delay: Duration) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut questions, mut questions_to) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut questions, &mut questions_to);
        let _ = questions_to.shutdown(Shutdown::Write);
    });
    // One thread reads and another one writes, so that each answer is late by the same time.
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    let (mut answers, mut answers_to) = (server, client);
    thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(size @ 1..) = answers.read(&mut bytes) {
            if sender.send((Instant::now() + delay, bytes[..size].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if answers_to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = answers_to.shutdown(Shutdown::Both);
    });
    Ok(())
}
