//! A binary cache as many have it: a folder behind nginx, of Debian's package `nginx`.
//!
//! Where that package has started a service of its own, the two have nothing in common.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::{end, free_port};
use crate::temporary_folder;

/// `@FOLDER@` is a folder of its own, `@SERVED@` the cache. One process, so that nothing is left when it is killed.
const CONFIGURATION: &str = r#"
daemon off;
master_process off;
pid @FOLDER@/pid;
error_log @FOLDER@/errors;
events { }
http {
    log_format request "$connection $request";
    access_log @FOLDER@/requests request;
    client_body_temp_path @FOLDER@/body;
    proxy_temp_path @FOLDER@/proxy;
    fastcgi_temp_path @FOLDER@/fastcgi;
    uwsgi_temp_path @FOLDER@/uwsgi;
    scgi_temp_path @FOLDER@/scgi;
    client_max_body_size 0;
    server {
        listen 127.0.0.1:@PORT@ @TLS@;
        root @SERVED@;
        # What is here is somewhere else, and not over TLS.
        location /redirected/ { return 302 http://127.0.0.1:1/; }
        dav_methods PUT;
        create_full_put_path on;
    }
}
"#;

const TLS: &str = "ssl http2; ssl_certificate @FOLDER@/certificate; ssl_certificate_key @FOLDER@/key";

/// An nginx that serves a folder as a binary cache and takes uploads into it.
pub struct Nginx {
    process: Child,
    port: u16,
    tls: bool,
    /// Removed with it.
    folder: TempDir,
}

impl Nginx {
    /// Serves the folder, over HTTPS and HTTP/2 if `tls`, otherwise over HTTP/1.1.
    pub fn start(served: &Path, tls: bool) -> Nginx {
        let folder = temporary_folder();
        if tls {
            make_certificate(folder.path());
        }
        // Another process can take a port that is free now.
        for _ in 0..5 {
            if let Some((process, port)) = started(folder.path(), served, tls) {
                return Nginx { process, port, tls, folder };
            }
        }
        panic!("nginx does not start: {}", fs::read_to_string(folder.path().join("errors")).unwrap_or_default());
    }

    /// `http://127.0.0.1:PORT` or `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.tls { "https" } else { "http" }, self.port)
    }

    /// The file that `NIX_SSL_CERT_FILE` has to name so that Nix believes its certificate.
    pub fn certificate(&self) -> String {
        assert!(self.tls, "a certificate is for TLS");
        self.folder.path().join("certificate").display().to_string()
    }

    /// All requests that were answered so far, each as `GET /nix-cache-info HTTP/2.0`. nginx notes a request after its answer,
    /// so the last ones can be missing for a moment.
    pub fn requests(&self) -> Vec<String> {
        self.logged().into_iter().map(|(_, request)| request).collect()
    }

    /// How many connections these requests took.
    pub fn connections(&self) -> usize {
        self.logged().into_iter().map(|(connection, _)| connection).collect::<HashSet<_>>().len()
    }

    fn logged(&self) -> Vec<(String, String)> {
        let lines = fs::read_to_string(self.folder.path().join("requests")).unwrap_or_default();
        let parts = lines.lines().filter_map(|line| line.split_once(' '));
        parts.map(|(connection, request)| (connection.to_owned(), request.to_owned())).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// None if it does not come up.
fn started(folder: &Path, served: &Path, tls: bool) -> Option<(Child, u16)> {
    let port = free_port()?;
    let configuration = CONFIGURATION
        .replace("@TLS@", if tls { TLS } else { "" })
        .replace("@PORT@", &port.to_string())
        .replace("@SERVED@", &served.to_string_lossy())
        .replace("@FOLDER@", &folder.to_string_lossy());
    let [file, errors, pid]: [PathBuf; 3] = ["configuration", "errors", "pid"].map(|name| folder.join(name));
    fs::write(&file, configuration).expect("a configuration");
    let mut process = Command::new("/usr/sbin/nginx")
        .arg("-e")
        .arg(errors)
        .arg("-c")
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx");
    // It writes the file once it listens.
    for _ in 0..200 {
        if pid.exists() {
            return Some((process, port));
        }
        if !matches!(process.try_wait(), Ok(None)) {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    end(&mut process);
    None
}

/// Makes a key and a certificate for this machine that is its own authority.
fn make_certificate(folder: &Path) {
    let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key -out certificate -days 2 \
                 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE";
    let made = Command::new("openssl").args(words.split(' ')).current_dir(folder).output().expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
