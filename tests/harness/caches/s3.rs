//! An S3 server that is not ours: `s3s-fs`, which `./dev` builds for those Nixes that speak S3.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix_version::NixVersion;

use super::{end, free_port};

/// A server for buckets that everybody may read and write, as these Nixes do not sign what they ask.
pub struct S3 {
    process: Child,
    port: u16,
}

impl S3 {
    /// Whether the Nix with this version, as it prints it, asks S3 by its own downloads, as it asks other binary caches. Older
    /// ones may have Amazon's library, which signs all that it asks.
    pub fn is_spoken_by(version: &str) -> bool {
        NixVersion::parse(version.split_whitespace().last().unwrap_or_default())
            .is_some_and(|version| version.is_at_least(2, 33))
    }

    /// Serves the folders in `folder` as buckets, and makes the first one.
    pub fn start(folder: &Path, bucket: &str) -> S3 {
        fs::create_dir_all(folder.join(bucket)).expect("a folder of the test");
        let log = folder.with_extension("log");
        // Another process can take a port that is free now.
        for _ in 0..5 {
            if let Some((process, port)) = started(folder, &log) {
                return S3 { process, port };
            }
        }
        panic!("s3s-fs does not start: {}", fs::read_to_string(log).unwrap_or_default());
    }

    /// A bucket as a store, such as `s3://bucket?endpoint=…`, with its parameters in the order in which Nix prints them.
    pub fn url(&self, bucket: &str) -> String {
        format!("s3://{bucket}?endpoint=http://127.0.0.1:{}&region=eu-west-1", self.port)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// None if it does not come up.
fn started(folder: &Path, log: &Path) -> Option<(Child, u16)> {
    let port = free_port()?;
    let log = File::create(log).expect("a file of the test");
    let mut process = Command::new("s3s-fs")
        .args(["--host", "127.0.0.1", "--port", &port.to_string()])
        .arg(folder)
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file of the test"))
        .stderr(log)
        .spawn()
        .expect("s3s-fs in PATH: run this with ./dev");
    for _ in 0..200 {
        let is_answered = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        // After the connection: another process may have taken the port, and this one ended.
        if !matches!(process.try_wait(), Ok(None)) {
            break;
        }
        if is_answered {
            return Some((process, port));
        }
        thread::sleep(Duration::from_millis(20));
    }
    end(&mut process);
    None
}
