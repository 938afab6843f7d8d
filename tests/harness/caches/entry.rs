//! What is in a binary cache, written by hand: right, or wrong in any way that a test asks for.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use nix_base32::to_nix_base32;
use sha2::{Digest, Sha256};

use crate::Scratch;

/// A key that signs what is in a cache.
#[derive(Clone, Debug)]
pub struct Key {
    /// The file with the secret half, for `secret-key` and the like.
    pub secret: PathBuf,
    /// What `trusted-public-keys` lists.
    pub public: String,
}

impl Key {
    /// Has Nix make a key of this name, in files of the work folder.
    pub fn new(nix: &Scratch, name: &str) -> Key {
        nix.run(&format!("nix-store --generate-binary-cache-key {name} {name}.sec {name}.pub")).exits(0);
        let [secret, public] = ["sec", "pub"].map(|half| nix.path(&format!("work/{name}.{half}")));
        let public = fs::read_to_string(public).expect("a public key");
        Key { secret, public: public.trim().to_owned() }
    }

    /// `NAME:SIGNATURE`.
    fn sign(&self, message: &str) -> String {
        let text = fs::read_to_string(&self.secret).expect("a secret key");
        let (name, secret) = text.trim().split_once(':').expect("a name and a key");
        let secret = BASE64.decode(secret).expect("a key in Base64");
        let secret = ed25519_compact::SecretKey::from_slice(&secret).expect("a secret key");
        format!("{name}:{}", BASE64.encode(secret.sign(message, None).as_ref()))
    }
}

/// A store object in a binary cache: a narinfo and what it names.
///
/// The lines of the narinfo follow from the rest, unless a test sets them otherwise. What is signed is what the lines say.
#[derive(Clone, Debug)]
pub struct Entry {
    path: String,
    nar: Vec<u8>,
    file: Option<Vec<u8>>,
    references: Vec<String>,
    lines: Vec<(String, String)>,
    keys: Vec<Key>,
}

impl Entry {
    /// A store path that is a regular file. The path is a full one; nothing is asked of it but its form.
    pub fn new(path: &str, content: impl AsRef<[u8]>) -> Entry {
        Entry {
            path: path.to_owned(),
            nar: nar_of_file(content.as_ref()),
            file: None,
            references: Vec::new(),
            lines: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// Another NAR than that of a regular file, or what is none.
    pub fn nar(mut self, nar: impl Into<Vec<u8>>) -> Entry {
        self.nar = nar.into();
        self
    }

    /// What is in the cache in place of the NAR that the narinfo tells of: compressed, or something else.
    pub fn file(mut self, file: impl Into<Vec<u8>>) -> Entry {
        self.file = Some(file.into());
        self
    }

    /// Its references: full store paths.
    pub fn references(mut self, paths: &[&str]) -> Entry {
        self.references = paths.iter().map(|&path| path.to_owned()).collect();
        // As Nix has them in signatures.
        self.references.sort();
        self
    }

    /// Sets a line of the narinfo, as `NarHash`. A signature is over what it says then, even if it is wrong.
    pub fn line(mut self, name: &str, value: &str) -> Entry {
        self.lines.retain(|(set, _)| set != name);
        self.lines.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a signature.
    pub fn signed_by(mut self, key: &Key) -> Entry {
        self.keys.push(key.clone());
        self
    }

    /// The signature by a key, to be put somewhere else as the line `Sig`.
    pub fn signature(&self, key: &Key) -> String {
        let line = |name: &str| self.value(name).unwrap_or_default();
        // References are names in a narinfo, and paths in what is signed.
        let store = store_of(&self.path);
        let references = line("References");
        let references: Vec<String> = references.split_whitespace().map(|name| format!("{store}/{name}")).collect();
        key.sign(&format!("1;{};{};{};{}", line("StorePath"), line("NarHash"), line("NarSize"), references.join(",")))
    }

    /// The text of the narinfo.
    pub fn narinfo(&self) -> String {
        let known = ["StorePath", "URL", "Compression", "NarHash", "NarSize", "References"];
        let others = self.lines.iter().map(|(name, _)| name.as_str()).filter(|name| !known.contains(name));
        let mut text = String::new();
        for name in known.into_iter().chain(others) {
            text.push_str(&format!("{name}: {}\n", self.value(name).unwrap_or_default()));
        }
        for key in &self.keys {
            text.push_str(&format!("Sig: {}\n", self.signature(key)));
        }
        text
    }

    /// Writes it into a folder, which is a binary cache for the store of the path then. What was there is replaced.
    pub fn publish(&self, folder: &Path) {
        let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).expect("a file of the cache");
        fs::create_dir_all(folder.join("nar")).expect("a folder of the cache");
        write("nix-cache-info", format!("StoreDir: {}\n", store_of(&self.path)).as_bytes());
        write(&self.file_name(), self.file.as_ref().unwrap_or(&self.nar));
        write(&self.narinfo_name(), self.narinfo().as_bytes());
    }

    /// Where its narinfo is in the cache: `HASH.narinfo`.
    pub fn narinfo_name(&self) -> String {
        format!("{}.narinfo", self.hash_part())
    }

    /// Where its NAR is in the cache, unless the line `URL` says otherwise: `nar/HASH.nar`.
    pub fn file_name(&self) -> String {
        format!("nar/{}.nar", self.hash_part())
    }

    fn hash_part(&self) -> &str {
        let name = name_of(&self.path);
        name.split_once('-').map_or(name, |(hash, _)| hash)
    }

    /// What a line of the narinfo says.
    fn value(&self, name: &str) -> Option<String> {
        if let Some((_, value)) = self.lines.iter().find(|(set, _)| set == name) {
            return Some(value.clone());
        }
        match name {
            "StorePath" => Some(self.path.clone()),
            "URL" => Some(self.file_name()),
            "Compression" => Some("none".to_owned()),
            "NarHash" => Some(format!("sha256:{}", to_nix_base32(&Sha256::digest(&self.nar)))),
            "NarSize" => Some(self.nar.len().to_string()),
            "References" => Some(self.references.iter().map(|path| name_of(path)).collect::<Vec<_>>().join(" ")),
            _ => None,
        }
    }
}

fn store_of(path: &str) -> &str {
    path.rsplit_once('/').expect("a store path").0
}

fn name_of(path: &str) -> &str {
    path.rsplit_once('/').expect("a store path").1
}

/// A regular file that is not executable, as a Nix archive.
fn nar_of_file(content: &[u8]) -> Vec<u8> {
    let mut nar = Vec::new();
    for word in [b"nix-archive-1", b"(".as_slice(), b"type", b"regular", b"contents", content, b")"] {
        nar.extend((word.len() as u64).to_le_bytes());
        nar.extend(word);
        nar.resize(nar.len().next_multiple_of(8), 0);
    }
    nar
}
