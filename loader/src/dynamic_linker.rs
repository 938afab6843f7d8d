//! A safe interface to the system's dynamic linker.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A library that stays open, or the program itself with all libraries that it was linked with.
#[derive(Debug)]
pub struct Library(*mut c_void);

impl Library {
    /// Opens a library, and looks up all functions that it needs. This costs a tenth of a millisecond. Without it, a
    /// function that this build of Nix lacks would end the process when it is first called.
    ///
    /// # Errors
    ///
    /// The message of the dynamic linker, if it can't open the library or does not find a function.
    ///
    /// # Safety
    ///
    /// Opening a library runs its initialisers, so the caller has to trust it.
    pub unsafe fn open(path: &Path) -> Result<Library, String> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: the caller trusts the library.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() { Err(problem()) } else { Ok(Library(handle)) }
    }

    /// The program, with all libraries that it was linked with.
    pub fn program() -> Library {
        Library(libc::RTLD_DEFAULT)
    }

    /// The address of the symbol that the library exports under this name.
    ///
    /// # Errors
    ///
    /// The message of the dynamic linker, if there is no such symbol.
    pub fn symbol(&self, name: &CStr) -> Result<*const c_void, String> {
        // SAFETY: the handle is valid, since it is never closed.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        if address.is_null() { Err(problem()) } else { Ok(address) }
    }
}

/// The file from which the code or data at this address was loaded.
pub fn file_of(address: *const c_void) -> Option<PathBuf> {
    let mut found = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: dladdr fills the structure in, and all of its members may be zero.
    let found = unsafe { (libc::dladdr(address, found.as_mut_ptr()) != 0).then_some(found.assume_init())? };
    text(found.dli_fname).map(|name| PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}

/// Whether this process has a library with a file name that begins like this.
#[cfg(not(target_vendor = "apple"))]
pub fn has_library(beginning: &[u8]) -> bool {
    extern "C" fn look(library: *mut libc::dl_phdr_info, _size: usize, data: *mut c_void) -> c_int {
        // SAFETY: the dynamic linker passes a library, and what `has_library` gave it.
        let (name, beginning) = unsafe { (text((*library).dlpi_name), *data.cast::<&[u8]>()) };
        let file = name.and_then(|name| name.to_bytes().rsplit(|byte| *byte == b'/').next());
        file.is_some_and(|file| file.starts_with(beginning)).into()
    }
    let mut beginning = beginning;
    // SAFETY: `look` does not outlive this call, and neither does what it gets.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut beginning).cast()) != 0 }
}

/// The names of libraries are not asked for on these systems.
#[cfg(target_vendor = "apple")]
pub fn has_library(_beginning: &[u8]) -> bool {
    false
}

/// The message about the last error of the dynamic linker.
fn problem() -> String {
    // SAFETY: dlerror only returns a text that it keeps for this thread.
    text(unsafe { libc::dlerror() })
        .map_or("for no reason given".to_owned(), |text| text.to_string_lossy().into_owned())
}

/// A C string from the dynamic linker, which keeps it long enough.
fn text<'a>(text: *const c_char) -> Option<&'a CStr> {
    // SAFETY: the dynamic linker returns null or a C string.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })
}
