//! The hash of texts for numbers that the database keeps. It is the same on each machine, and in each version of this
//! program and of Rust, which the standard library does not promise of its own (`DefaultHasher`).

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// A number for a sequence of texts.
pub fn stable_hash(texts: impl IntoIterator<Item = impl AsRef<str>>) -> u64 {
    let mut hasher = SipHasher13::new();
    for text in texts {
        hasher.write(text.as_ref().as_bytes());
        // No text has this byte, so it tells where one ends.
        hasher.write(&[0xff]);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_never_change() {
        assert_eq!(stable_hash(["a", "bc"]), 7_445_206_785_805_354_483);
        assert_ne!(stable_hash(["a", "bc"]), stable_hash(["ab", "c"]));
    }
}
