//! Whether the file of a plugin may be opened at all.
//!
//! Opening it runs it, and a library that was cut off while it was copied ends the process (SIGBUS) as soon as what is
//! missing is needed. So the file is looked at first.

use std::fs::{self, File};
use std::path::Path;

use object::Endianness;
use object::elf::{ET_DYN, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::read::{ReadCache, ReadRef};

type Header = object::elf::FileHeader64<Endianness>;

/// The section in which a plugin says which Nix it was built for (`cpp/entry.cc`).
const BUILT_FOR: &[u8] = b".nix_negative_cache";

const NO_LIBRARY: &str = "is no shared library for this machine";
const CUT_OFF: &str = "is cut off";
const FOREIGN: &str = "is no plugin of nix-negative-cache";

/// Checks the plugin for this version of Nix; the error says what is wrong with it.
pub fn check(path: &Path, version: &str) -> Result<(), String> {
    // Opening a pipe would wait for somebody to write to it.
    let found = fs::metadata(path).map_err(|error| format!("can't be looked at: {error}"))?;
    if !found.is_file() {
        return Err("is no file".to_owned());
    }
    let file = File::open(path).map_err(|error| format!("can't be read: {error}"))?;
    let data = ReadCache::new(file);
    let built_for = examine(&data, found.len())?;
    if built_for == version.as_bytes() {
        Ok(())
    } else {
        Err(format!("was built for Nix {}", String::from_utf8_lossy(built_for)))
    }
}

/// The version of Nix that a whole plugin was built for.
fn examine<'data>(data: impl ReadRef<'data>, size: u64) -> Result<&'data [u8], &'static str> {
    let header = Header::parse(data).map_err(|_| NO_LIBRARY)?;
    let endian = header.endian().map_err(|_| NO_LIBRARY)?;
    if header.e_type(endian) != ET_DYN {
        return Err(NO_LIBRARY);
    }
    for segment in header.program_headers(endian, data).map_err(|_| CUT_OFF)? {
        let end = segment.p_offset(endian).checked_add(segment.p_filesz(endian));
        if segment.p_type(endian) == PT_LOAD && end.is_none_or(|end| end > size) {
            return Err(CUT_OFF);
        }
    }
    // Their table comes last: with it, everything is there.
    let sections = header.sections(endian, data).map_err(|_| CUT_OFF)?;
    let (_, section) = sections.section_by_name(endian, BUILT_FOR).ok_or(FOREIGN)?;
    let text = section.data(endian, data).map_err(|_| CUT_OFF)?;
    Ok(text.split(|byte| *byte == 0).next().unwrap_or_default())
}
