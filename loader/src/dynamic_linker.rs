//! The system's dynamic linker, in safe terms.

use std::ffi::{CStr, CString, OsStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A library that stays open, or all that the program itself was linked with.
#[derive(Debug)]
pub struct Library(*mut c_void);

impl Library {
    /// Opens a library. All functions that it needs are looked up now, at the price of a tenth of a
    /// millisecond: one that this build of Nix lacks would otherwise end it when it is first called.
    ///
    /// # Safety
    ///
    /// Opening a library runs it.
    pub unsafe fn open(path: &Path) -> Result<Library, String> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: the caller's.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
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
