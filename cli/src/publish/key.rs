//! Secret keys, as `nix-store --generate-binary-cache-key` writes them, and signatures of store paths.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_compact::{Noise, SecretKey};
use nix_negative_cache_core::failure_object::is_signer;

/// A key file that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It can't be read.
    #[error("cannot read the key file '{}': {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is something else in it.
    #[error(
        "'{}' has no secret key, such as nix-store --generate-binary-cache-key NAME SECRET-FILE PUBLIC-FILE writes to \
         SECRET-FILE",
        .0.display()
    )]
    NoKey(PathBuf),
}

/// A secret key.
pub struct SigningKey {
    /// Its name.
    pub name: String,
    secret: SecretKey,
}

impl SigningKey {
    /// Reads it from a file.
    ///
    /// # Errors
    ///
    /// If the file can't be read, or has no key.
    pub fn read(file: &Path) -> Result<SigningKey, KeyError> {
        let text = fs::read_to_string(file).map_err(|source| KeyError::Unreadable { file: file.to_owned(), source })?;
        SigningKey::parse(&text).ok_or_else(|| KeyError::NoKey(file.to_owned()))
    }

    /// Reads `NAME:BASE64`.
    fn parse(text: &str) -> Option<SigningKey> {
        let (name, secret) = text.trim().split_once(':')?;
        let secret = SecretKey::from_slice(&BASE64.decode(secret).ok()?).ok()?;
        // It has the public half as well, and must not be damaged.
        secret.validate_public_key(&secret.public_key()).ok()?;
        is_signer(name).then(|| SigningKey { name: name.to_owned(), secret })
    }

    /// `NAME:SIGNATURE` of a store path, as Nix signs it (`ValidPathInfo::fingerprint` in libstore/path-info.cc).
    /// `nar_hash` is printed as `sha256:BASE32`, `references` are sorted.
    pub fn sign(&self, path: &str, nar_hash: &str, nar_size: usize, references: &[&str]) -> String {
        let fingerprint = format!("1;{path};{nar_hash};{nar_size};{}", references.join(","));
        // Equal paths get equal signatures, as from Nix.
        let signature = self.secret.sign(fingerprint, None::<Noise>);
        format!("{}:{}", self.name, BASE64.encode(*signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The secret key of the first test of RFC 8032, 7.1.
    const SECRET: &str =
        "test-1:nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==";

    #[test]
    fn keys_are_read() {
        let key = SigningKey::parse(&format!("{SECRET}\n")).unwrap();
        assert_eq!(key.name, "test-1");
        let signature = key.sign("/nix/store/x", "sha256:0", 1, &["/nix/store/y", "/nix/store/z"]);
        let signature = BASE64.decode(signature.strip_prefix("test-1:").unwrap()).unwrap();
        let signature = ed25519_compact::Signature::from_slice(&signature).unwrap();
        assert_eq!(
            key.secret.public_key().verify("1;/nix/store/x;sha256:0;1;/nix/store/y,/nix/store/z", &signature),
            Ok(())
        );
    }

    #[test]
    fn what_is_no_key_is_none() {
        for text in ["", "test-1", "test-1:", "test-1:AAAA", &SECRET[6..], &SECRET.replace("RGg", "RGw"), "a b:AAAA"] {
            assert!(SigningKey::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = SigningKey::read(Path::new("/nowhere/key")).err().unwrap().to_string();
        assert!(error.starts_with("cannot read the key file '/nowhere/key': No such file"), "{error}");
    }
}
