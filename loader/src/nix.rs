//! The Nix that runs in this process.

use std::ffi::{CStr, OsStr, c_void};
use std::path::Path;

use nix_version::{Flavour, Nix, NixVersion};

use crate::dynamic_linker::{self, Library};

/// `nix::nixVersion`, a `std::string`, which the program sets before it loads plugins. GNU's and LLVM's libraries have
/// different names and layouts for it.
#[cfg(not(target_vendor = "apple"))]
const SYMBOL: &CStr = c"_ZN3nix10nixVersionB5cxx11E";
#[cfg(target_vendor = "apple")]
const SYMBOL: &CStr = c"_ZN3nix10nixVersionE";

#[cfg(not(target_vendor = "apple"))]
const LAYOUT: Layout = gnu_string;
#[cfg(target_vendor = "apple")]
const LAYOUT: Layout = llvm_string;

/// Finds the start of the text of a `std::string`, and its length.
type Layout = fn(*const c_void) -> (*const u8, usize);

/// `nix::determinateNixVersion`, which every Determinate Nix since 3.0 exports beside the version of the Nix that it is based
/// on. Its classes differ from those of that Nix.
#[cfg(not(target_vendor = "apple"))]
const DETERMINATE: &CStr = c"_ZN3nix21determinateNixVersionB5cxx11E";
#[cfg(target_vendor = "apple")]
const DETERMINATE: &CStr = c"_ZN3nix21determinateNixVersionE";

/// How the names of Lix's libraries begin, whatever their version. Those of Nix begin with `libnix`.
const LIX: &[u8] = b"liblix";

/// The Nix in this process, if this process is Nix and its version can be read.
pub fn running() -> Option<Nix> {
    let version = version(SYMBOL)?;
    if Library::program().symbol(DETERMINATE).is_ok() {
        let own = self::version(DETERMINATE)?;
        return Some(Nix { flavour: Flavour::Determinate, version: own.0 });
    }
    let is_lix = dynamic_linker::has_library(LIX);
    let by_number = || NixVersion::parse(&version.0).map_or(Flavour::Nix, Flavour::by_number);
    Some(Nix { flavour: if is_lix { Flavour::Lix } else { by_number() }, version: version.0 })
}

/// Whether the Nix in this process calls `nix_plugin_entry`, as Nix does since 2.22. Others only open the plugin.
#[cfg(not(test))]
pub fn calls_entry() -> bool {
    version(SYMBOL).is_some_and(|version| version.calls_entry())
}

/// A version as Nix spells it, such as 2.26.3 or 2.32.0pre20250901_abc.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version(String);

impl Version {
    /// Accepts nothing but a version, since other texts, such as `..`, could lead to another folder.
    fn new(text: &[u8]) -> Option<Version> {
        let text = std::str::from_utf8(text).ok()?;
        let fits = text.starts_with(|c: char| c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c));
        fits.then(|| Version(text.to_owned()))
    }

    fn calls_entry(&self) -> bool {
        NixVersion::parse(&self.0).is_some_and(|version| version.is_at_least(2, 22))
    }
}

/// The version in this variable of the Nix in this process, if there is one that can be read.
fn version(variable: &CStr) -> Option<Version> {
    let string = Library::program().symbol(variable).ok()?;
    let (text, length) = LAYOUT(string);
    if text.is_null() || !(1..=100).contains(&length) {
        return None;
    }
    // SAFETY: the string has this many bytes at this address, and nothing changes it after the start of the program.
    Version::new(unsafe { std::slice::from_raw_parts(text, length) })
}

/// Reads a string of libstdc++: the pointer and the length come first, even for short texts.
#[cfg_attr(target_vendor = "apple", allow(dead_code))]
fn gnu_string(string: *const c_void) -> (*const u8, usize) {
    // SAFETY: the caller passes a string of this layout.
    unsafe { (*string.cast::<*const u8>(), *string.cast::<usize>().add(1)) }
}

/// Reads a string of libc++: three words, which hold a short text themselves. One byte tells short from long texts by one
/// bit, and has the length of a short text in its other seven bits. It is the first byte, or the last one in Apple's layout
/// on ARM.
#[cfg_attr(not(target_vendor = "apple"), allow(dead_code))]
fn llvm_string(string: *const c_void) -> (*const u8, usize) {
    let bytes = string.cast::<u8>();
    let words = string.cast::<usize>();
    // SAFETY: the caller passes a string of this layout.
    unsafe {
        if cfg!(target_arch = "aarch64") {
            match *bytes.add(23) {
                short if short & 0x80 == 0 => (bytes, short.into()),
                _ => (*words.cast::<*const u8>(), *words.add(1)),
            }
        } else {
            match *bytes {
                short if short & 1 == 0 => (bytes.add(1), (short >> 1).into()),
                _ => (*words.add(2).cast::<*const u8>(), *words.add(1)),
            }
        }
    }
}

/// Whether this process is the build hook, which another Nix has started to build on other machines.
pub fn is_build_hook() -> bool {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    Path::new(&name).file_name() == Some(OsStr::new("build-remote"))
        || arguments.next().is_some_and(|argument| argument == "__build-remote")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_nothing_but_a_version() {
        for text in ["2.8.0", "2.26.3", "2.32.0pre20250901_0123abc", "2.19.0-dev+1"] {
            assert_eq!(Version::new(text.as_bytes()).unwrap().0, text);
        }
        for text in ["", "../2.8", "2/8", "2.8\0", "2.8\n", "nix", "2.8 "] {
            assert_eq!(Version::new(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn entries_are_called_since_2_22() {
        let calls = |text: &str| Version::new(text.as_bytes()).unwrap().calls_entry();
        assert!(["2.22.0", "2.22pre1", "2.26.3", "2.35.2", "3.0", "3"].into_iter().all(calls));
        assert!(!["2.8.0", "2.21.9", "2.3.16", "1.99", "2"].into_iter().any(calls));
    }

    #[test]
    fn the_layouts_of_strings() {
        let text = |string: *const c_void, layout: Layout| {
            let (text, length) = layout(string);
            // SAFETY: the strings below are made with this layout.
            String::from_utf8(unsafe { std::slice::from_raw_parts(text, length) }.to_vec()).unwrap()
        };
        let far = "2.32.0pre20250901_0123abc";
        let gnu = [far.as_ptr() as usize, far.len(), 0, 0];
        assert_eq!(text(gnu.as_ptr().cast(), gnu_string), far);

        let (mut short, start, tag, long) = if cfg!(target_arch = "aarch64") {
            ([0u8; 24], 0, (23, 5), [far.as_ptr() as usize, far.len(), 1 << 63])
        } else {
            ([0u8; 24], 1, (0, 5 << 1), [33, far.len(), far.as_ptr() as usize])
        };
        short[start..start + 5].copy_from_slice(b"2.8.0");
        short[tag.0] = tag.1;
        assert_eq!(text(short.as_ptr().cast(), llvm_string), "2.8.0");
        assert_eq!(text(long.as_ptr().cast(), llvm_string), far);
    }

    #[test]
    fn a_program_that_is_no_nix_has_no_version() {
        assert_eq!(running(), None);
        assert!(!is_build_hook());
    }
}
