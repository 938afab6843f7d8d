//! Checks whether the file of a plugin may be opened.
//!
//! Opening a library runs its code. If the file was cut off while it was copied, the process ends with SIGBUS as soon as it
//! needs a missing part. So the loader reads the file first.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix_version::Nix;
use object::Endianness;
use object::elf::{ET_DYN, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::read::{ReadCache, ReadRef};

type Header = object::elf::FileHeader64<Endianness>;

/// The name of the ELF note in which a plugin says for which Nix it was built. The C++ entry of the plugin defines it.
const NOTE: &[u8] = b"nix-negative-cache";

const NO_LIBRARY: &str = "is no shared library for this machine";
const CUT_OFF: &str = "is cut off";
const FOREIGN: &str = "is no plugin of nix-negative-cache";

/// Checks the plugin for this Nix.
///
/// # Errors
///
/// What is wrong with the file, as the end of a sentence that begins with its path.
pub fn check(path: &Path, nix: &Nix) -> Result<(), String> {
    let unreadable = |error| format!("can't be read: {error}");
    // Without this flag, opening a pipe would wait until another process writes to it.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    if !found.is_file() {
        return Err("is no file".to_owned());
    }
    let data = ReadCache::new(file);
    let built_for = Nix::from_note(&String::from_utf8_lossy(examine(&data, found.len())?));
    if built_for.fits(nix) { Ok(()) } else { Err(format!("was built for {built_for}")) }
}

/// What a plugin says about the Nix that it was built for.
///
/// # Errors
///
/// What is wrong with the data, if it is not a complete plugin in a file of this size.
fn examine<'data>(data: impl ReadRef<'data>, size: u64) -> Result<&'data [u8], &'static str> {
    let header = Header::parse(data).map_err(|_| NO_LIBRARY)?;
    let endian = header.endian().map_err(|_| NO_LIBRARY)?;
    if header.e_type(endian) != ET_DYN {
        return Err(NO_LIBRARY);
    }
    let lies_within = |offset: u64, length: u64| offset.checked_add(length).is_some_and(|end| end <= size);
    // The table of sections is the last part of the file. If it is complete, everything before it is there as well.
    let sections = u64::from(header.e_shentsize(endian)) * u64::from(header.e_shnum(endian));
    let segments = header.program_headers(endian, data).map_err(|_| CUT_OFF)?;
    let mut loaded = segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD);
    if !lies_within(header.e_shoff(endian), sections)
        || !loaded.all(|segment| lies_within(segment.p_offset(endian), segment.p_filesz(endian)))
    {
        return Err(CUT_OFF);
    }
    for segment in segments {
        let mut notes = segment.notes(endian, data).ok().flatten();
        while let Some(Ok(Some(note))) = notes.as_mut().map(|notes| notes.next()) {
            if note.name() == NOTE {
                return Ok(note.desc().split(|byte| *byte == 0).next().unwrap_or_default());
            }
        }
    }
    Err(FOREIGN)
}
