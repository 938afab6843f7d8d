//! Becoming another program with everything that this one was started with: Rust's runtime changes some of it before `main`,
//! and `std::os::unix::process::CommandExt::exec` more, which Nix would hand on to what it runs.
#![allow(unsafe_code)]

use std::env;
use std::ffi::{CString, OsStr, OsString, c_char, c_int};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

/// What this process was started with, as far as Rust's runtime changes it: it ignores SIGPIPE, and opens /dev/null as the
/// standard files that are closed.
static STARTED_WITH: AtomicU8 = AtomicU8::new(0);

const SIGPIPE_IGNORED: u8 = 1 << 7;

const fn closed(file: c_int) -> u8 {
    1 << file
}

extern "C" fn remember() {
    let mut seen = 0;
    // SAFETY: these only ask; a `sigaction` of zeros is a valid one.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGPIPE, ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN {
            seen |= SIGPIPE_IGNORED;
        }
        for file in 0..=2 {
            if libc::fcntl(file, libc::F_GETFD) == -1 {
                seen |= closed(file);
            }
        }
    }
    STARTED_WITH.store(seen, Ordering::Relaxed);
}

/// Runs before Rust's runtime.
// SAFETY: both sections are lists of pointers to functions that take nothing that has to be looked at.
#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
static REMEMBER: extern "C" fn() = remember;

/// Becomes the program at `path`; comes back with the error if it can't.
pub fn exec(path: &Path, arguments: &[OsString], variable: Option<(&str, &OsStr)>) -> io::Error {
    let prepared = prepare(path, arguments, variable);
    let Ok((path, arguments, environment)) = prepared else { return io::ErrorKind::InvalidInput.into() };
    let arguments = pointers(&arguments);
    let environment = environment.as_deref().map(pointers);
    let started_with = STARTED_WITH.load(Ordering::Relaxed);
    // SAFETY: the strings and the lists of them, which end with a null pointer, live until the call returns, if it does. No
    // other thread is there that would mind the signals and files.
    unsafe {
        if cfg!(any(target_os = "linux", target_os = "macos")) && started_with & SIGPIPE_IGNORED == 0 {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        }
        for file in (0..=2).filter(|file| started_with & closed(*file) != 0) {
            libc::close(file);
        }
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
