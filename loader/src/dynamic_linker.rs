//! The system's dynamic linker, in safe terms.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::slice;

/// When the functions that a library needs are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// When they are called first. One that is missing then ends the process.
    Lazy,
    /// When the library is opened, which fails if one is missing.
    Now,
}

/// A library that stays open, or all that the program itself was linked with.
#[derive(Debug)]
pub struct Library(*mut c_void);

impl Library {
    /// Opens a library.
    ///
    /// # Safety
    ///
    /// Opening a library runs it.
    pub unsafe fn open(path: &Path, binding: Binding) -> Result<Library, String> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        let binding = match binding {
            Binding::Lazy => libc::RTLD_LAZY,
            Binding::Now => libc::RTLD_NOW,
        };
        // SAFETY: the caller's.
        let handle = unsafe { libc::dlopen(path.as_ptr(), binding | libc::RTLD_LOCAL) };
        if handle.is_null() { Err(problem()) } else { Ok(Library(handle)) }
    }

    /// What the program was linked with.
    pub fn program() -> Library {
        Library(libc::RTLD_DEFAULT)
    }

    /// The address of what it exports by this name.
    pub fn symbol(&self, name: &CStr) -> Result<*const c_void, String> {
        // SAFETY: the handle is never closed.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        if address.is_null() { Err(problem()) } else { Ok(address) }
    }
}

/// The file that the code or data at an address was loaded from.
pub fn file_of(address: *const c_void) -> Option<PathBuf> {
    let mut found = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: it fills the structure in, all of whose members may be zero.
    let found = unsafe { (libc::dladdr(address, found.as_mut_ptr()) != 0).then_some(found.assume_init())? };
    text(found.dli_fname).map(|name| PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}

/// Whether a library of each of these build IDs is loaded.
#[cfg(not(target_vendor = "apple"))]
pub fn are_loaded(build_ids: &[Vec<u8>]) -> bool {
    unsafe extern "C" fn look(library: *mut libc::dl_phdr_info, _: usize, missing: *mut c_void) -> c_int {
        // SAFETY: it is what `are_loaded` passes, and the library stays while it is looked at.
        let (library, missing) = unsafe { (&*library, &mut *missing.cast::<Vec<&Vec<u8>>>()) };
        if let Some(id) = build_id(library) {
            missing.retain(|wanted| *wanted != id);
        }
        missing.is_empty().into()
    }
    let mut missing: Vec<&Vec<u8>> = build_ids.iter().collect();
    // SAFETY: `look` is called before this returns, with libraries that are loaded.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut missing).cast()) };
    missing.is_empty()
}

/// The build ID in the notes of a library that is loaded.
#[cfg(not(target_vendor = "apple"))]
fn build_id(library: &libc::dl_phdr_info) -> Option<&[u8]> {
    use object::NativeEndian;
    use object::elf::{ELF_NOTE_GNU, FileHeader64, NT_GNU_BUILD_ID, PT_LOAD, PT_NOTE};
    use object::read::elf::NoteIterator;

    // SAFETY: so the dynamic linker describes it.
    let segments = unsafe { slice::from_raw_parts(library.dlpi_phdr, library.dlpi_phnum.into()) };
    let is_loaded = |note: &libc::Elf64_Phdr| {
        let ends = |segment: &libc::Elf64_Phdr| segment.p_vaddr.saturating_add(segment.p_memsz);
        let mut loaded = segments.iter().filter(|segment| segment.p_type == PT_LOAD);
        loaded.any(|segment| segment.p_vaddr <= note.p_vaddr && ends(note) <= ends(segment))
    };
    segments.iter().filter(|segment| segment.p_type == PT_NOTE && is_loaded(segment)).find_map(|segment| {
        let start = library.dlpi_addr.wrapping_add(segment.p_vaddr) as *const u8;
        // SAFETY: it is part of what is loaded.
        let notes = unsafe { slice::from_raw_parts(start, segment.p_memsz as usize) };
        let mut notes = NoteIterator::<FileHeader64<NativeEndian>>::new(NativeEndian, segment.p_align, notes).ok()?;
        while let Ok(Some(note)) = notes.next() {
            if note.name() == ELF_NOTE_GNU && note.n_type(NativeEndian) == NT_GNU_BUILD_ID {
                return Some(note.desc());
            }
        }
        None
    })
}

/// What went wrong last.
fn problem() -> String {
    // SAFETY: it only returns what it keeps for this thread.
    text(unsafe { libc::dlerror() })
        .map_or("for no reason given".to_owned(), |text| text.to_string_lossy().into_owned())
}

/// A C string, of what lives long enough.
fn text<'a>(text: *const c_char) -> Option<&'a CStr> {
    // SAFETY: what the dynamic linker returns is null or a C string.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })
}
