//! Starts a program that nobody waits for, from within a process that belongs to others.
//!
//! `std::process` does not fit: what it starts is a child of this process, which stays as a zombie until somebody waits for it,
//! and keeps the signals that Nix blocks. So the program is started by a process in between, which ends at once. Then the program
//! belongs to the system's first process, or to one that takes its place.
//!
//! - Nix knows its children by their ids. A program that the plugin is loaded into may wait for any child. The process in between
//!   has no signal for its end, so that this process gets no `SIGCHLD`, and it is only waited for by those who ask for such children
//!   (`__WALL`, clone(2)).
//! - If Nix runs as root, it has a mount namespace of its own, in which the store can be written to, and other limits. Nix's own
//!   function gives them back to what it starts (`restoreProcessContext`).
//! - To copy the page tables of an evaluator with gigabytes of memory takes long. So the new processes run in the memory of this
//!   one, and the thread that starts them sleeps meanwhile (`CLONE_VM` and `CLONE_VFORK`, as in posix_spawn(3)). All other threads go
//!   on, so a lock that one of them holds is released. This is also how this process hears that the program could not be started. No
//!   handler of a signal may run in such a process: all signals are blocked until it has none.
//! - The file descriptors of this process do not get into the program: among them are the locks of outputs, which would stay
//!   locked for as long as the program runs, and pipes, whose readers would wait for it.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

unsafe extern "C" {
    /// Gives the calling process back what Nix has taken from this one: the mount namespace and the limits.
    fn negative_cache_restore_process_context();
}

/// What the new processes read, and where they leave what became of them. They share the memory of this process.
struct Start {
    program: *const c_char,
    arguments: [*const c_char; 2],
    environment: *const *const c_char,
    input: c_int,
    /// The highest descriptor to close, where the kernel can't close all of them.
    highest: c_int,
    stack: *mut c_void,
    pid: c_int,
    error: c_int,
}

/// The first descriptor that is no standard stream.
const FIRST: c_int = 3;
/// How much of its own stack each new process gets, in units of 16 bytes: 64 KiB.
const STACK: usize = 4096;
/// The highest signal, and the size of a set of signals in bytes, as the kernel has them.
const LAST_SIGNAL: c_int = 64;
const SIGNAL_SET: usize = 8;

/// Starts `program` with these bytes as its standard input, and nothing else of this process but `environment`. Returns its id as
/// soon as it runs. The time of the program does not count, only that of the system to open it.
///
/// # Errors
///
/// If it can't be started.
pub fn start(program: &CStr, environment: &[CString], input: &[u8]) -> io::Result<i32> {
    // A file, and no pipe: a program that does not read must not keep anybody waiting.
    let mut file = File::from(memory_file()?);
    file.write_all(input)?;
    file.rewind()?;
    let input = out_of_the_way(file)?;
    let environment: Vec<*const c_char> = environment.iter().map(|one| one.as_ptr()).chain([ptr::null()]).collect();
    let [mut stack, mut stack_between] = [(); 2].map(|()| vec![0_u128; STACK]);
    let mut start = Start {
        program: program.as_ptr(),
        arguments: [program.as_ptr(), ptr::null()],
        environment: environment.as_ptr(),
        input: input.as_raw_fd(),
        highest: if can_close_range() { 0 } else { highest_descriptor() },
        stack: stack.as_mut_ptr_range().end.cast(),
        pid: -1,
        error: 0,
    };
    let shared = &raw mut start;
    // SAFETY: the function runs on a stack of its own, and this thread sleeps until it has ended. It touches no memory but that
    // stack and `start`, which live until then. Signals have no handlers that could run in it.
    unsafe {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let flags = libc::CLONE_VM | libc::CLONE_VFORK;
        let between = libc::clone(between, stack_between.as_mut_ptr_range().end.cast(), flags, shared.cast());
        if between == -1 {
            (*shared).error = errno();
        } else {
            while libc::waitpid(between, ptr::null_mut(), libc::__WALL) == -1 && errno() == libc::EINTR {}
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        match (ptr::read_volatile(&raw const (*shared).error), ptr::read_volatile(&raw const (*shared).pid)) {
            (0, pid) => Ok(pid),
            (error, _) => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// A descriptor by which [`is_running`] tells whether the process of this id runs. `None` if there is no such process.
pub fn watch(pid: i32) -> Option<OwnedFd> {
    // SAFETY: this makes a descriptor that nobody else knows.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let descriptor = c_int::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0)?;
    // SAFETY: as above.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Whether a process still runs. One that has ended does not, even if nobody has asked yet how it ended.
pub fn is_running(process: &OwnedFd) -> bool {
    let mut asked = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: it is one descriptor.
    unsafe { libc::poll(&raw mut asked, 1, 0) == 0 }
}

/// The process in between, which starts the program and ends.
///
/// As it is the leader of a new session and the program is not, the program can't get a terminal.
extern "C" fn between(start: *mut c_void) -> c_int {
    // SAFETY: see `start`; the same holds for the program's process, and this one sleeps until that one runs the program.
    unsafe {
        let shared = start.cast::<Start>();
        libc::setsid();
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        (*shared).pid = libc::clone(program, (*shared).stack, flags, start);
        if (*shared).pid == -1 {
            (*shared).error = errno();
        }
    }
    0
}

/// The process that becomes the program. If it can't, it leaves the error and ends.
extern "C" fn program(start: *mut c_void) -> c_int {
    // SAFETY: see `start`. But for that of Nix, only functions are called that are safe between fork and exec (signal-safety(7)).
    unsafe {
        let shared = start.cast::<Start>();
        // All zeros is the default. libc keeps two signals for itself, which may be ignored as well.
        let default = [0_u64; 8];
        for signal in 1..=LAST_SIGNAL {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null_mut::<c_void>(), SIGNAL_SET);
        }
        negative_cache_restore_process_context();
        // Opened here: one of this process would be in its mount namespace.
        let null = || libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        let is_output = |null| null != -1 && libc::dup2(null, 1) != -1 && libc::dup2(null, 2) != -1;
        if libc::dup2((*shared).input, 0) != -1 && is_output(null()) {
            close_all((*shared).highest);
            if libc::chdir(c"/".as_ptr()) == 0 {
                let mut none = MaybeUninit::uninit();
                libc::sigemptyset(none.as_mut_ptr());
                libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
                libc::execve((*shared).program, (&raw const (*shared).arguments).cast(), (*shared).environment);
            }
        }
        (*shared).error = errno();
        127
    }
}

/// A file in memory that nobody can execute, as some systems demand (`vm.memfd_noexec`, since Linux 6.3).
fn memory_file() -> io::Result<OwnedFd> {
    let create = |flags| memfd_create(c"negative-cache-hook", MemfdFlags::CLOEXEC | flags);
    let file = create(MemfdFlags::NOEXEC_SEAL).or_else(|error| match error {
        Errno::INVAL => create(MemfdFlags::empty()),
        error => Err(error),
    })?;
    Ok(file)
}

fn errno() -> c_int {
    // SAFETY: it is that of this thread, or of the thread that sleeps while this process runs.
    unsafe { *libc::__errno_location() }
}

/// Closes all descriptors but the standard streams.
///
/// # Safety
///
/// Nobody else may use the descriptors of this process.
unsafe fn close_all(highest: c_int) {
    // SAFETY: as the caller says.
    unsafe {
        if highest == 0 {
            libc::syscall(libc::SYS_close_range, FIRST, c_int::MAX, 0);
        }
        for descriptor in FIRST..=highest {
            libc::close(descriptor);
        }
    }
}

/// Whether the kernel can close many descriptors at once (since Linux 5.9).
fn can_close_range() -> bool {
    // SAFETY: there is no descriptor of this number.
    unsafe { libc::syscall(libc::SYS_close_range, c_int::MAX, c_int::MAX, 0) == 0 }
}

/// The highest descriptor that is open.
fn highest_descriptor() -> c_int {
    let number = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten();
    // More than most processes have.
    const MANY: c_int = 1024;
    open.filter_map(number).max().unwrap_or(MANY)
}

/// The same file at a number that is none of the standard streams, which this process may have closed.
fn out_of_the_way(file: File) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(&file, FIRST)?)
}
