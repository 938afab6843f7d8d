//! Derivations and outputs as Nix prints them, each a type of its own, and the form of store paths.

use std::fmt;

use nix_base32::to_nix_base32;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

macro_rules! printed_path {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text as Nix prints it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(printed: String) -> Self {
                Self(printed)
            }
        }

        impl From<&str> for $name {
            fn from(printed: &str) -> Self {
                Self(printed.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

printed_path! {
    /// The path of a store derivation, `/nix/store/<hash>-<name>.drv`.
    DerivationPath
}

printed_path! {
    /// What an output is known by before it is built: its path, `/nix/store/<hash>-<name>[-<output>]`; or, if the path
    /// follows from the content, the identity of its realisation,
    /// `sha256:<hash>!<output>`.
    OutputKey
}

/// How many characters the hash part of a store path has (`StorePath::HashLen`).
const HASH_PART: usize = 32;

/// Whether this can be the hash part of a store path, in Nix's own base 32.
pub fn is_hash_part(text: &str) -> bool {
    text.len() == HASH_PART && text.bytes().all(|byte| b"0123456789abcdfghijklmnpqrsvwxyz".contains(&byte))
}

/// The hash part of a store path; `None` if `path` is none.
pub fn hash_part(path: &str) -> Option<&str> {
    let (hash_part, _) = path.rsplit('/').next()?.split_once('-')?;
    is_hash_part(hash_part).then_some(hash_part)
}

/// Whether names in a store may have this character (`checkName` in libstore/path.cc).
pub fn is_in_names(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+-._?=".contains(c)
}

/// The name of a derivation, without hash and `.drv`, by the last part of its path.
pub fn derivation_name(base_name: &str) -> &str {
    let name = base_name.split_once('-').map_or(base_name, |(_, name)| name);
    name.strip_suffix(".drv").unwrap_or(name)
}

/// Whether a path has the form of a store path, whichever folder is the store.
pub fn is_store_path(path: &str) -> bool {
    let base_name = path.rsplit('/').next().unwrap_or_default();
    let name = base_name.get(HASH_PART + 1..).unwrap_or_default();
    hash_part(path).is_some() && !name.is_empty() && name.chars().all(is_in_names)
}

/// The store path of a type, of what has this fingerprint, with this name (`Store::makeStorePath` in libstore/store-api.cc).
pub fn make_store_path(store_dir: &str, path_type: &str, fingerprint: &[u8], name: &str) -> String {
    let inner: String = Sha256::digest(fingerprint).iter().map(|byte| format!("{byte:02x}")).collect();
    let hash = Sha256::digest(format!("{path_type}:sha256:{inner}:{store_dir}:{name}"));
    // `compressHash` in libutil/hash.cc.
    let mut compressed = [0; 20];
    for (index, byte) in hash.iter().enumerate() {
        compressed[index % 20] ^= byte;
    }
    format!("{store_dir}/{}-{name}", to_nix_base32(&compressed))
}

/// The store path of a file with this text and without references (`Store::computeStorePathForText` in
/// libstore/store-api.cc).
pub fn text_path(store_dir: &str, text: &str, name: &str) -> String {
    make_store_path(store_dir, "text", text.as_bytes(), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `builtins.toFile "hello" "hello\n"` and `builtins.toFile "empty" ""` return.
    #[test]
    fn paths_are_those_that_nix_makes() {
        assert_eq!(text_path("/nix/store", "hello\n", "hello"), "/nix/store/nmrmdcw1bfnl35a893n7nyhw4xa5vy08-hello");
        assert_eq!(text_path("/elsewhere", "", "empty"), "/elsewhere/799c2ni71mnkizfp3f7ialb2diiwd737-empty");
    }

    const DRV: &str = "/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv";

    #[test]
    fn names_of_derivations_are_read_from_paths() {
        assert_eq!(derivation_name("7r40h4gj6rsaw6xnsq7vj128dpiawa94-x-1.0.drv"), "x-1.0");
        assert_eq!(derivation_name("7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv.drv"), "x.drv");
        assert_eq!((derivation_name(""), derivation_name("x.drv")), ("", "x"));
    }

    #[test]
    fn paths_of_a_store_are_told_by_their_form() {
        assert!(is_store_path(DRV) && is_store_path("/tmp/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x"));
        for other in
            ["/etc/passwd", "/", "/nix/store", "/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x/bin", "/nix/store/a-b"]
        {
            assert!(!is_store_path(other), "{other}");
        }
    }
}
