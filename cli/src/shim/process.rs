//! The ways in and out of the shim that leave everything as the process was started with: Rust's runtime ignores SIGPIPE,
//! opens files and more before `main`, and `std::os::unix::process::CommandExt::exec` changes signals again. Nix would hand
//! that on to what it runs.
#![allow(unsafe_code)]

use std::env;
use std::ffi::{CString, OsStr, OsString, c_char};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::ptr;

use crate::streams::say;

/// Runs before Rust's runtime starts, which also takes longer than all of the shim.
// SAFETY: these sections are lists of functions to call; std's own, which makes arguments known, comes first. The rest of std
// that is used, files and the environment, needs no runtime.
#[cfg(any(target_os = "linux", target_os = "macos"))]
#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
static FIRST: extern "C" fn() = first;

extern "C" fn first() {
    if let Some(error) = super::called_as_nix() {
        say(&error);
        std::process::exit(error.status());
    }
}

/// Becomes the program at `path`; comes back with the error if it can't.
pub fn exec(path: &Path, arguments: &[OsString], variable: Option<(&str, &OsStr)>) -> io::Error {
    let prepared = prepare(path, arguments, variable);
    let Ok((path, arguments, environment)) = prepared else { return io::ErrorKind::InvalidInput.into() };
    let arguments = pointers(&arguments);
    let environment = environment.as_deref().map(pointers);
    // SAFETY: the strings and the lists of them, which end with a null pointer, live until the call returns, if it does.
    unsafe {
        match environment {
            Some(environment) => libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()),
            None => libc::execv(path.as_ptr(), arguments.as_ptr()),
        };
    }
    io::Error::last_os_error()
}

type Prepared = (CString, Vec<CString>, Option<Vec<CString>>);

fn prepare(
    path: &Path,
    arguments: &[OsString],
    variable: Option<(&str, &OsStr)>,
) -> Result<Prepared, std::ffi::NulError> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let arguments = arguments.iter().map(|argument| CString::new(argument.as_bytes())).collect::<Result<_, _>>()?;
    let environment = variable.map(|(name, value)| {
        let others = env::vars_os().filter(|(other, _)| other != name);
        let all = others.chain([(name.into(), value.to_owned())]);
        all.map(|(name, value)| CString::new([name.into_vec(), value.into_vec()].join(&b'='))).collect()
    });
    Ok((path, arguments, environment.transpose()?))
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// The path by which this program was started, whatever it is called by.
#[cfg(target_os = "linux")]
pub fn started_as() -> Option<&'static OsStr> {
    // SAFETY: the kernel puts that string where it stays for as long as the process lives.
    unsafe {
        let path = libc::getauxval(libc::AT_EXECFN) as *const c_char;
        (!path.is_null()).then(|| OsStr::from_bytes(std::ffi::CStr::from_ptr(path).to_bytes()))
    }
}

#[cfg(not(target_os = "linux"))]
pub fn started_as() -> Option<&'static OsStr> {
    None
}
