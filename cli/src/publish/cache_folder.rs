//! A folder that is a binary cache (`file://`), from which `nix copy` uploads what is published.

use std::fs;
use std::io;
use std::path::Path;

use nix_base32::to_nix_base32;
use nix_negative_cache_core::failure_object::{marker, marker_text, nar};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::key::SigningKey;

/// Such a folder, which goes when it is dropped.
pub struct CacheFolder<'a> {
    folder: TempDir,
    marker: String,
    key: Option<&'a SigningKey>,
}

/// What a narinfo says of a path beside the path itself.
struct Said<'a> {
    references: &'a [&'a str],
    /// The content address.
    address: Option<String>,
}

impl<'a> CacheFolder<'a> {
    /// Makes a folder with the marker for stores of this directory. What is added will be signed with `key`, if there is one.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub fn new(store_dir: &str, key: Option<&'a SigningKey>) -> io::Result<CacheFolder<'a>> {
        let folder = tempfile::Builder::new().prefix("nix-negative-cache-").tempdir()?;
        fs::create_dir(folder.path().join("nar"))?;
        fs::write(folder.path().join("nix-cache-info"), format!("StoreDir: {store_dir}\n"))?;
        let marker = marker(store_dir);
        let cache = CacheFolder { folder, marker, key };
        // Anybody can compute it, so it needs no signature.
        let address = format!("text:{}", hash(marker_text().as_bytes()));
        cache.write(
            &cache.marker,
            marker_text().as_bytes(),
            &Said { references: &[], address: Some(address) },
            None,
        )?;
        Ok(cache)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Adds an object.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub fn add(&self, path: &str, content: &[u8]) -> io::Result<()> {
        self.write(path, content, &Said { references: &[&self.marker], address: None }, self.key)
    }

    fn write(&self, path: &str, content: &[u8], said: &Said<'_>, key: Option<&SigningKey>) -> io::Result<()> {
        let nar = nar(content);
        let nar_hash = hash(&nar);
        // Equal NARs are one file.
        let file = format!("nar/{}.nar", nar_hash.trim_start_matches("sha256:"));
        let base_name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let references: Vec<String> = said.references.iter().map(|path| base_name(path)).collect();
        let mut narinfo = format!(
            "StorePath: {path}\nURL: {file}\nCompression: none\nNarHash: {nar_hash}\nNarSize: {}\nReferences: {}\n",
            nar.len(),
            references.join(" ")
        );
        if let Some(key) = key {
            let signature = key.sign(path, &nar_hash, nar.len(), said.references);
            narinfo.push_str(&format!("Sig: {signature}\n"));
        }
        if let Some(address) = &said.address {
            narinfo.push_str(&format!("CA: {address}\n"));
        }
        let base_name = base_name(path);
        let hash_part = base_name.split('-').next().unwrap_or_default();
        fs::write(self.folder.path().join(&file), nar)?;
        fs::write(self.folder.path().join(format!("{hash_part}.narinfo")), narinfo)
    }
}

/// As Nix prints it: `sha256:BASE32`.
fn hash(bytes: &[u8]) -> String {
    format!("sha256:{}", to_nix_base32(&Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_a_cache_for_one_store() {
        let cache = CacheFolder::new("/nix/store", None).unwrap();
        cache.add("/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-build-failure", b"{}\n").unwrap();
        let read = |name: &str| fs::read_to_string(cache.path().join(name)).unwrap();
        assert_eq!(read("nix-cache-info"), "StoreDir: /nix/store\n");
        let narinfo = read("7r40h4gj6rsaw6xnsq7vj128dpiawa94.narinfo");
        let marker = marker("/nix/store");
        let marker = marker.rsplit('/').next().unwrap();
        assert!(narinfo.contains(&format!("References: {marker}\n")) && !narinfo.contains("Sig: "), "{narinfo}");
        let of_marker = read(&format!("{}.narinfo", &marker[..32]));
        assert!(of_marker.contains("References: \nCA: text:sha256:"), "{of_marker}");
        let nars = fs::read_dir(cache.path().join("nar")).unwrap().count();
        assert_eq!(nars, 2);
    }
}
