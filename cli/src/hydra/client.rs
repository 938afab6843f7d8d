//! Asks a Hydra over HTTP: with the certificates and proxies of the system, not faster than it likes, and again when it fails.

use std::env;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use nix_negative_cache_core::log::tail::printable;
use ureq::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use ureq::http::{HeaderMap, StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, BodyReader, Proxy};

use super::pace::Pace;

/// Who asks. Operators find out by it what this program is.
const USER_AGENT: &str = concat!("nix-negative-cache/", env!("CARGO_PKG_VERSION"));

/// How often an answer is asked for at most.
const TRIES: usize = 5;

/// How often an answer is asked for that costs the server much.
const FEW_TRIES: usize = 2;

/// How long a server may have this program wait (`Retry-After`), as many times as the patience with one answer.
const LONGEST_WAIT: u32 = 10;

/// How many redirects are followed. A Hydra sends those who ask for logs to where they are.
const REDIRECTS: u32 = 5;

/// How long a message of a server's is at most when it is shown, in characters.
const LONGEST_MESSAGE: usize = 200;

/// The URL of a Hydra, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server(String);

impl Server {
    /// Reads a URL that a person has typed.
    ///
    /// # Errors
    ///
    /// Why it is none of a server.
    pub fn read(text: &str) -> Result<Server, String> {
        let uri: Uri = text.parse().map_err(|error| format!("not a URL: {error}"))?;
        let is_web = uri.scheme_str().is_some_and(|scheme| scheme == "https" || scheme == "http");
        let Some(authority) = uri.authority().filter(|_| is_web) else {
            return Err("not a URL such as https://hydra.nixos.org".to_owned());
        };
        // It is part of each record, and shown to others.
        if authority.as_str().contains('@') {
            return Err("give the URL without user and password: it is recorded".to_owned());
        }
        if uri.query().is_some() || text.contains('#') {
            return Err("give the URL of the server alone, without '?' and '#'".to_owned());
        }
        let scheme = uri.scheme_str().unwrap_or_default();
        Ok(Server(format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/'))))
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether nobody on the way can change what the server says.
    pub fn is_secure(&self) -> bool {
        self.0.starts_with("https:")
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum AskError {
    /// The server has no such thing.
    Missing(String),
    /// The server does not show it to this client.
    Forbidden(String),
    /// It is larger than any such answer should be.
    TooLarge(String),
    /// The answer has an encoding that this program does not know, or it is a page for browsers.
    Unreadable(String),
    /// The server, or the way to it, fails, although it was asked several times.
    Failed(String),
    /// The server refuses the request, or its answer is not what it must be.
    Refused(String),
    /// The server does not want to be asked again for so long.
    Later(Duration),
    /// Nothing is asked any more.
    Stopped,
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::Missing(url) => write!(f, "there is no '{url}'"),
            AskError::Forbidden(text)
            | AskError::TooLarge(text)
            | AskError::Unreadable(text)
            | AskError::Failed(text)
            | AskError::Refused(text) => f.write_str(text),
            AskError::Later(time) => {
                write!(
                    f,
                    "the server asks not to be asked again for {} seconds; run the same command then",
                    time.as_secs()
                )
            }
            AskError::Stopped => f.write_str("the server is not asked any more"),
        }
    }
}

/// Why an answer can't be used.
#[derive(Debug)]
pub enum ReadError {
    /// It can't be read to its end, or is not what it should be: another one may be.
    Broken(String),
    /// It is larger than any answer should be.
    TooLarge,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        if TooLarge::is(&error) { ReadError::TooLarge } else { ReadError::Broken(error.to_string()) }
    }
}

impl From<serde_json::Error> for ReadError {
    fn from(error: serde_json::Error) -> ReadError {
        let text = error.to_string();
        if error.is_io() {
            io::Error::from(error).into()
        } else {
            ReadError::Broken(format!("it is not JSON as of a Hydra: {text}"))
        }
    }
}

/// The error of a reader that has read too much.
#[derive(Debug)]
pub struct TooLarge;

impl TooLarge {
    fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<TooLarge>())
    }
}

impl std::error::Error for TooLarge {}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too large")
    }
}

/// Something that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The path and query of it, which begin with a slash.
    pub path: &'a str,
    /// The form of the answer.
    pub kind: Kind,
}

/// A form of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// JSON.
    Json,
    /// JSON that is much work for the server, and much to read.
    LongJson,
    /// The log of a build, as text.
    Log,
}

/// A client of one server. Threads share it.
pub struct Client {
    agent: Agent,
    server: Server,
    pace: Pace,
    patience: Duration,
}

impl Client {
    /// A client that asks so many times per second at most, and waits so long for an answer.
    ///
    /// # Errors
    ///
    /// If the certificates or the proxy of the system can't be used.
    pub fn new(server: Server, per_second: u32, patience: Duration) -> Result<Client, String> {
        let tls = TlsConfig::builder()
            .root_certs(certificates(&server)?)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .proxy(proxy(&server)?)
            .user_agent(USER_AGENT)
            .accept("application/json")
            // What is asked for over a safe connection does not come over another one.
            .https_only(server.is_secure())
            .max_redirects(REDIRECTS)
            .http_status_as_error(false)
            .timeout_connect(Some(patience))
            .timeout_send_request(Some(patience))
            .timeout_recv_response(Some(patience))
            .build();
        Ok(Client { agent: config.new_agent(), server, pace: Pace::new(per_second), patience })
    }

    /// The server.
    pub fn server(&self) -> &str {
        self.server.as_str()
    }

    /// Asks for nothing any more. Threads that wait for their turn get an error at once.
    pub fn stop(&self) {
        self.pace.stop();
    }

    /// Whether nothing is asked any more.
    pub fn is_stopped(&self) -> bool {
        self.pace.is_stopped()
    }

    /// Asks for something and reads it. What fails in a way that may pass is asked for again, after longer and longer waits. Once the
    /// server wants to be asked much later, it is asked for nothing any more.
    ///
    /// # Errors
    ///
    /// If there is no answer that can be used.
    pub fn ask<T>(
        &self,
        question: Question<'_>,
        read: impl Fn(BodyReader<'static>) -> Result<T, ReadError>,
    ) -> Result<T, AskError> {
        let url = format!("{}{}", self.server.as_str(), question.path);
        let first = self.patience / 60;
        let waits = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(first)
            .with_max_delay(self.patience)
            .with_max_times(if question.kind == Kind::LongJson { FEW_TRIES } else { TRIES } - 1)
            .build();
        let mut waits = waits.into_iter();
        loop {
            if !self.pace.wait() {
                return Err(AskError::Stopped);
            }
            let why = match self.once(&url, question.kind, &read) {
                Ok(Attempt::Done(value)) => return Ok(value),
                Ok(Attempt::Again(why)) => why,
                Ok(Attempt::Wait(time)) if time > self.patience * LONGEST_WAIT => {
                    self.stop();
                    return Err(AskError::Later(time));
                }
                Ok(Attempt::Wait(time)) => {
                    self.pace.hold(time);
                    format!("'{url}' can't be read: the server wants to be asked later")
                }
                Err(error) => return Err(error),
            };
            match waits.next() {
                Some(wait) if self.pace.rest(wait) => {}
                Some(_) => return Err(AskError::Stopped),
                None => return Err(AskError::Failed(why)),
            }
        }
    }

    fn once<T>(
        &self,
        url: &str,
        kind: Kind,
        read: impl Fn(BodyReader<'static>) -> Result<T, ReadError>,
    ) -> Result<Attempt<T>, AskError> {
        // A large answer takes as long as the way is narrow.
        let body = self.patience * if kind == Kind::LongJson { 10 } else { 2 };
        let asked = self.agent.get(url).config().timeout_recv_body(Some(body)).build().call();
        let failed = |what: &dyn fmt::Display| format!("'{url}' can't be read: {}", shown(&what.to_string()));
        let response = match asked {
            Ok(response) => response,
            // To ask again does not help against what is not allowed.
            Err(
                error @ (ureq::Error::RequireHttpsOnly(_) | ureq::Error::TooManyRedirects | ureq::Error::BadUri(_)),
            ) => {
                return Err(AskError::Refused(failed(&error)));
            }
            Err(error) => return Ok(Attempt::Again(failed(&error))),
        };
        let status = response.status();
        if status.is_success() {
            if let Some(why) = unreadable(response.headers(), kind) {
                return Err(AskError::Unreadable(failed(&why)));
            }
            return match read(response.into_body().into_reader()) {
                Ok(value) => Ok(Attempt::Done(value)),
                Err(ReadError::Broken(why)) => Ok(Attempt::Again(failed(&why))),
                Err(ReadError::TooLarge) => {
                    Err(AskError::TooLarge(failed(&"it is larger than any such answer should be")))
                }
            };
        }
        let text = failed(&format!("the server says {status}"));
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(AskError::Missing(url.to_owned())),
            StatusCode::FORBIDDEN => return Err(AskError::Forbidden(text)),
            _ => {}
        }
        let passes = status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY);
        match retry_after(response.headers(), Timestamp::now()).filter(|_| passes) {
            Some(time) => Ok(Attempt::Wait(time)),
            None if passes => Ok(Attempt::Again(text)),
            None => Err(AskError::Refused(text)),
        }
    }
}

/// What came of a request.
enum Attempt<T> {
    Done(T),
    /// It may be tried again; this is what happened.
    Again(String),
    /// The server names the time after which it may be tried again.
    Wait(Duration),
}

/// Why the body of an answer can't be read, if its headers tell that it can't. The HTTP client removes the header of an encoding that
/// it has decoded.
fn unreadable(headers: &HeaderMap, kind: Kind) -> Option<String> {
    let values = |name| headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let is_plain = |encoding: &str| encoding.is_empty() || encoding.eq_ignore_ascii_case("identity");
    if let Some(encoding) = values(CONTENT_ENCODING).find(|encoding| !encoding.split(',').map(str::trim).all(is_plain))
    {
        return Some(format!("it is encoded as '{encoding}', which this program does not know"));
    }
    // JSON has a form that a page has not, and what comes for a while in place of JSON is asked for again.
    let is_page =
        |media: &str| ["text/html", "application/xhtml+xml"].iter().any(|page| media.eq_ignore_ascii_case(page));
    let mut medias = values(CONTENT_TYPE);
    let is_page = medias.any(|media| is_page(media.split(';').next().unwrap_or_default().trim()));
    (kind == Kind::Log && is_page).then(|| "it is a page for browsers".to_owned())
}

/// Text that may be a server's, as it is shown: in one line, and not long.
pub fn shown(text: &str) -> String {
    printable(text.as_bytes()).chars().take(LONGEST_MESSAGE).collect()
}

/// How long a server wants not to be asked: a number of seconds, or the time of an end.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get("Retry-After")?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok()?;
    Some(until.duration_since(now).try_into().unwrap_or_default())
}

/// Those of Nix, if its environment names them, or else those of the system.
fn certificates(server: &Server) -> Result<RootCerts, String> {
    let file = env::var_os("NIX_SSL_CERT_FILE").filter(|file| !file.is_empty());
    let loaded = match &file {
        Some(file) => rustls_native_certs::load_certs_from_paths(Some(Path::new(file)), None),
        None => rustls_native_certs::load_native_certs(),
    };
    if loaded.certs.is_empty() && server.is_secure() {
        let why = loaded.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(format!(
            "no certificates are found by which a server could be known{why}; name a file of them with NIX_SSL_CERT_FILE"
        ));
    }
    let certificates: Vec<Certificate<'static>> =
        loaded.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    Ok(RootCerts::new_with_certs(&certificates))
}

/// The proxy that the environment names for such a URL, as it does for curl.
fn proxy(server: &Server) -> Result<Option<Proxy>, String> {
    let variable = |name: &&str| env::var(name).ok().filter(|value| !value.is_empty());
    let names = if server.is_secure() {
        ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"].as_slice()
    } else {
        // A web server sets the variable in capitals from a header of a request.
        ["http_proxy", "all_proxy", "ALL_PROXY"].as_slice()
    };
    let Some((name, url)) = names.iter().find_map(|name| Some((name, variable(name)?))) else { return Ok(None) };
    let unusable = |error: ureq::Error| format!("the proxy that {name} names can't be used: {error}");
    let proxy = Proxy::new(&url).map_err(unusable)?;
    let mut builder = Proxy::builder(proxy.protocol()).host(proxy.host()).port(proxy.port());
    if let Some(user) = proxy.username() {
        builder = builder.username(user);
    }
    if let Some(password) = proxy.password() {
        builder = builder.password(password);
    }
    let direct = ["no_proxy", "NO_PROXY"].iter().find_map(variable).unwrap_or_default();
    for host in direct.split(',').map(str::trim).filter(|host| !host.is_empty()) {
        builder = builder.no_proxy(host);
        if !host.starts_with(['.', '*']) {
            builder = builder.no_proxy(&format!(".{host}"));
        }
    }
    builder.build().map(Some).map_err(unusable)
}

/// Reads so many bytes at most. More is an error, not an end.
pub struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Bounded<R> {
    /// Reads `most` bytes of `inner` at most.
    pub fn new(inner: R, most: u64) -> Bounded<R> {
        Bounded { inner, left: most }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(bytes)?;
        self.left = self.left.checked_sub(length as u64).ok_or_else(|| io::Error::other(TooLarge))?;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_servers() {
        for (text, url) in [
            ("https://hydra.nixos.org", "https://hydra.nixos.org"),
            ("https://hydra.nixos.org/", "https://hydra.nixos.org"),
            ("http://127.0.0.1:3000/hydra//", "http://127.0.0.1:3000/hydra"),
        ] {
            assert_eq!(Server::read(text).map(|server| server.0), Ok(url.to_owned()), "{text}");
        }
        for text in [
            "",
            "hydra.nixos.org",
            "file:///etc/passwd",
            "ftp://a",
            "https://",
            "https://user:password@hydra.nixos.org",
            "https://hydra.nixos.org/?a=b",
            "https://hydra.nixos.org/#a",
            "https://a\u{1b}[2J",
            "https://a b",
            "-o",
        ] {
            assert!(Server::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn servers_say_when_to_come_back() {
        let now = Timestamp::from_second(784_111_777).unwrap();
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("Retry-After", text.parse().unwrap());
            retry_after(&headers, now).map(|time| time.as_secs())
        };
        assert_eq!(of("120"), Some(120));
        assert_eq!(of("Sun, 06 Nov 1994 08:51:37 GMT"), Some(120));
        assert_eq!(of("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(of("soon"), None);
        assert_eq!(of("-1"), None);
    }

    #[test]
    fn what_is_not_decoded_is_not_read() {
        for (name, value, json, log) in [
            ("Content-Encoding", "zstd", false, false),
            ("Content-Encoding", "gzip, xz", false, false),
            ("Content-Encoding", "\u{e9}", false, false),
            ("Content-Encoding", "Identity", true, true),
            ("Content-Encoding", "identity, , identity", true, true),
            ("Content-Encoding", "", true, true),
            ("Content-Type", "text/html", true, false),
            ("Content-Type", "Text/HTML ; charset=utf-8", true, false),
            ("Content-Type", "application/xhtml+xml", true, false),
            ("Content-Type", "text/plain", true, true),
            ("X-Other", "text/html", true, true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, ureq::http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
            for (kind, is_read) in [(Kind::Json, json), (Kind::LongJson, json), (Kind::Log, log)] {
                assert_eq!(unreadable(&headers, kind).is_none(), is_read, "{name}: {value} {kind:?}");
            }
        }
        let mut headers = HeaderMap::new();
        headers.append("Content-Encoding", "identity".parse().unwrap());
        headers.append("Content-Encoding", "bzip2".parse().unwrap());
        let why = unreadable(&headers, Kind::Log).unwrap();
        assert_eq!(why, "it is encoded as 'bzip2', which this program does not know");
    }

    #[test]
    fn what_a_server_says_is_shown_in_one_short_line() {
        assert_eq!(shown("a\nb\r\u{1b}[2J\u{202e}c\t"), "a b c");
        assert_eq!(shown(&"é".repeat(1000)).chars().count(), LONGEST_MESSAGE);
    }

    #[test]
    fn more_than_allowed_is_an_error() {
        let mut read = Vec::new();
        assert!(Bounded::new(&b"1234"[..], 4).read_to_end(&mut read).is_ok());
        let error = Bounded::new(&b"12345"[..], 4).read_to_end(&mut read).unwrap_err();
        assert!(TooLarge::is(&error));
    }
}
