//! Checks whether the file of a plugin may be opened.
//!
//! Opening a library runs its code. If the file was cut off while it was copied, the process ends with SIGBUS as soon as it
//! needs a missing part. So the loader reads the file first. That also tells why a plugin for another processor is of no use,
//! of which the dynamic linker says that there is no such file.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix_version::Nix;
use object::Endianness;
use object::elf::{EM_AARCH64, EM_X86_64, ET_DYN, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::read::{ReadCache, ReadRef};

type Header = object::elf::FileHeader64<Endianness>;

/// The name of the ELF note in which a plugin says for which Nix it was built. The C++ entry of the plugin defines it.
const NOTE: &[u8] = b"nix-negative-cache";

/// The processors that ELF files name by number. Whether a file is for any other one, the dynamic linker tells.
const MACHINE: Option<u16> = if cfg!(target_arch = "x86_64") {
    Some(EM_X86_64)
} else if cfg!(target_arch = "aarch64") {
    Some(EM_AARCH64)
} else {
    None
};

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
    let built_for = Nix::from_note(&String::from_utf8_lossy(examine(&data, found.len(), MACHINE)?));
    if built_for.fits(nix) { Ok(()) } else { Err(format!("was built for {built_for}")) }
}

/// What a plugin says about the Nix that it was built for.
///
/// # Errors
///
/// What is wrong with the data, if it is not a complete plugin for this machine in a file of this size.
fn examine<'data>(data: impl ReadRef<'data>, size: u64, machine: Option<u16>) -> Result<&'data [u8], &'static str> {
    let header = Header::parse(data).map_err(|_| NO_LIBRARY)?;
    let endian = header.endian().map_err(|_| NO_LIBRARY)?;
    let is_foreign = machine.is_some_and(|machine| header.e_machine(endian) != machine);
    // Both processors can have either byte order, and one number.
    if header.e_type(endian) != ET_DYN || endian != Endianness::default() || is_foreign {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use object::elf::{EM_RISCV, ET_EXEC, PT_NOTE};

    /// How a file is made that the tests look at.
    #[derive(Clone, Copy)]
    struct Plugin {
        machine: u16,
        big_endian: bool,
        kind: u16,
        /// Linkers align what is loaded to the largest page of a processor: 64 KiB for aarch64.
        page: u64,
        /// How the first note, which is somebody else's, is aligned. Those of aarch64 about branch protection are to 8 bytes.
        other_note: u64,
        /// Whether both notes are in one segment. Linkers do that if both are aligned alike.
        together: bool,
    }

    const AARCH64: Plugin =
        Plugin { machine: EM_AARCH64, big_endian: false, kind: ET_DYN, page: 0x10000, other_note: 8, together: false };
    const X86_64: Plugin = Plugin { machine: EM_X86_64, page: 0x1000, ..AARCH64 };

    impl Plugin {
        /// The smallest file that has all that the loader looks at.
        fn bytes(self) -> Vec<u8> {
            let number = |value: u64, size: usize| match self.big_endian {
                true => value.to_be_bytes()[8 - size..].to_vec(),
                false => value.to_le_bytes()[..size].to_vec(),
            };
            let note = |name: &[u8], text: &[u8], align: u64| {
                let padded = |bytes: &[u8]| {
                    [bytes, &vec![0; bytes.len().next_multiple_of(align as usize) - bytes.len()]].concat()
                };
                let sizes = [name.len() as u64, text.len() as u64, 1].map(|value| number(value, 4)).concat();
                // The description is aligned in the file, after a header of 12 bytes.
                let head = padded(&[sizes, name.to_vec()].concat());
                [head, padded(text)].concat()
            };
            let other = note(b"GNU\0", &[0; 16], self.other_note);
            let own = note(b"nix-negative-cache\0\0", b"2.8.0\0", 4);
            let (header, segment, section) = (64, 56, 64);
            let segments = if self.together { 2 } else { 3 };
            let notes = header + segments * segment;
            let end = notes + (other.len() + own.len()) as u64;
            // A hole in front of what is loaded, as the last segment of a real file has one.
            let loaded = end.next_multiple_of(self.page);
            let sections = loaded + 64;
            let program_header = |kind: u32, offset: u64, size: u64, align: u64| {
                let addresses = [offset, offset, offset, size, size, align].map(|value| number(value, 8)).concat();
                [number(kind.into(), 4), number(4, 4), addresses].concat()
            };
            let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, if self.big_endian { 2 } else { 1 }, 1];
            bytes.resize(16, 0);
            for (value, size) in [
                (self.kind.into(), 2),
                (self.machine.into(), 2),
                (1, 4),
                (0, 8),
                (header, 8),
                (sections, 8),
                (0, 4),
                (header, 2),
                (segment, 2),
                (segments, 2),
                (section, 2),
                (1, 2),
                (0, 2),
            ] {
                bytes.extend(number(value, size));
            }
            bytes.extend(program_header(PT_LOAD, loaded, 64, self.page));
            let (other_size, own_size) = (other.len() as u64, own.len() as u64);
            if self.together {
                bytes.extend(program_header(PT_NOTE, notes, other_size + own_size, self.other_note));
            } else {
                bytes.extend(program_header(PT_NOTE, notes, other_size, self.other_note));
                bytes.extend(program_header(PT_NOTE, notes + other_size, own_size, 4));
            }
            bytes.extend([other, own].concat());
            bytes.resize((sections + section) as usize, 0);
            bytes
        }

        /// What the loader says of the file on a machine.
        fn on(self, machine: u16) -> Result<Vec<u8>, &'static str> {
            let bytes = self.bytes();
            examine(&*bytes, bytes.len() as u64, Some(machine)).map(<[u8]>::to_vec)
        }
    }

    #[test]
    fn a_plugin_is_for_one_processor() {
        for (plugin, other) in [(AARCH64, X86_64), (X86_64, AARCH64)] {
            assert_eq!(plugin.on(plugin.machine), Ok(b"2.8.0".to_vec()));
            assert_eq!(other.on(plugin.machine), Err(NO_LIBRARY));
            assert_eq!(Plugin { big_endian: true, ..plugin }.on(plugin.machine), Err(NO_LIBRARY));
            assert_eq!(Plugin { kind: ET_EXEC, ..plugin }.on(plugin.machine), Err(NO_LIBRARY));
        }
        // What this loader itself was built for.
        let machine = MACHINE.expect("a processor that is known");
        let folder = tempfile::tempdir().unwrap();
        let checked = |plugin: Plugin, version| {
            let file = folder.path().join("plugin.so");
            fs::write(&file, plugin.bytes()).unwrap();
            check(&file, &Nix::released(version))
        };
        let own = Plugin { machine, ..AARCH64 };
        assert_eq!(checked(own, "2.8.0"), Ok(()));
        assert_eq!(checked(own, "2.8.1"), Err("was built for Nix 2.8.0".to_owned()));
        for machine in [EM_AARCH64, EM_X86_64, EM_RISCV].into_iter().filter(|other| *other != machine) {
            assert_eq!(checked(Plugin { machine, ..AARCH64 }, "2.8.0"), Err(NO_LIBRARY.to_owned()));
        }
    }

    #[test]
    fn the_note_is_found_behind_others() {
        for (other_note, together) in [(8, false), (4, false), (4, true)] {
            assert_eq!(Plugin { other_note, together, ..AARCH64 }.on(EM_AARCH64), Ok(b"2.8.0".to_vec()));
        }
        let mut nameless = AARCH64.bytes();
        let name = nameless.windows(NOTE.len()).position(|window| window == NOTE).expect("the note");
        nameless[name] = b'N';
        assert_eq!(examine(&*nameless, nameless.len() as u64, Some(EM_AARCH64)), Err(FOREIGN));
    }

    /// Whatever the size of pages, and with it that of the holes in a file.
    #[test]
    fn a_file_that_was_cut_off_is_never_opened() {
        for page in [0x1000, 0x4000, 0x10000] {
            let bytes = Plugin { page, ..AARCH64 }.bytes();
            let size = bytes.len();
            for length in (0..600).chain(page as usize - 100..page as usize + 100).chain(size - 200..size) {
                let found = examine(&bytes[..length], length as u64, Some(EM_AARCH64));
                assert_eq!(found, Err(if length < 64 { NO_LIBRARY } else { CUT_OFF }), "{length} of {size}");
            }
            // A table of sections that is in front of all else does not tell that a segment is there.
            let mut early = bytes.clone();
            early[40..48].copy_from_slice(&64_u64.to_le_bytes());
            early.truncate(size - 128);
            assert_eq!(examine(&*early, early.len() as u64, Some(EM_AARCH64)), Err(CUT_OFF));
        }
    }
}
