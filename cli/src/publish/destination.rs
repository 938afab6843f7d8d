//! Where failures are published: the URL of a store, and what of it may be shown and kept.

use std::path::PathBuf;

use nix_negative_cache_core::store_url::{names_secret_keys, shown};
use percent_encoding::percent_decode_str;

/// The store that failures are copied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// As the user wrote it, for Nix.
    pub url: String,
    /// Without secrets, for people and the database.
    pub name: String,
    /// The file of the key with which Nix signs what it copies there, if the URL has one.
    pub key_file: Option<PathBuf>,
}

impl Destination {
    /// Reads a URL, or the path of a store.
    pub fn new(url: &str) -> Destination {
        let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
        let secret = parameters.split('&').find(|parameter| names_secret_keys(parameter));
        let file = secret.and_then(|parameter| parameter.split_once('=')).map(|(_, value)| {
            let value = percent_decode_str(value).decode_utf8_lossy();
            PathBuf::from(value.split(',').next().unwrap_or_default())
        });
        Destination { url: url.to_owned(), name: shown(url), key_file: file }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_here() {
        for (url, name, key_file) in [
            ("/srv/store", "/srv/store", None),
            ("file:///srv/cache", "file:///srv/cache", None),
            ("s3://cache?region=eu&profile=ci", "s3://cache?region=eu&profile=ci", None),
            ("s3://cache?secret-key=/a%20b/key&region=eu", "s3://cache?region=eu", Some("/a b/key")),
            ("file:///srv/cache?secret-key=/key", "file:///srv/cache", Some("/key")),
            ("file:///srv/cache?secret-keys=/key,/other", "file:///srv/cache", Some("/key")),
            ("https://me:word@host/a@b?x=1", "https://me@host/a@b?x=1", None),
            ("ssh-ng://me@host", "ssh-ng://me@host", None),
        ] {
            let destination = Destination::new(url);
            assert_eq!((destination.url.as_str(), destination.name.as_str()), (url, name));
            assert_eq!(destination.key_file, key_file.map(PathBuf::from), "{url}");
        }
    }
}
