//! The state of this machine, as far as it can change the outcome of a build. A value that can't be read is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix_version::NixVersion;
use rustix::process::{Pid, Resource, getrlimit};

use crate::environment::{BUILD_DISK, BUILDERS, CORES, KERNEL, LIMITS, MEMORY, NAMESPACES, NIX};
use crate::stable_hash::stable_hash;

/// Free space of a file system in bytes. With less, the file system is to blame for a failure. Nix wants to see as much
/// (`LocalDerivationGoal::cleanupDecideWhetherDiskFull`).
const NEARLY_FULL: u64 = 8 * 1024 * 1024;

/// Free inodes of a file system. With less, their lack is to blame for a failure. Nix frees the inodes of the folder of
/// the build before anybody can look, so some are there again.
const NEARLY_OUT_OF_INODES: u64 = 100;

/// Lack of memory is to blame for a failure if every process on the machine waited for memory during this share of the
/// build's time, and for a second or more; or for [`SHORT_OF_MEMORY_IN_ALL`], whatever the share.
const SHORT_OF_MEMORY: f64 = 0.1;
const SHORT_OF_MEMORY_IN_ALL: Duration = Duration::from_secs(10);

/// Counters of the kernel, which only grow while the machine runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// How many processes the kernel killed for lack of memory, in all control groups (`oom_kill` in /proc/vmstat).
    oom_kills: Option<u64>,
    /// The same in one control group and those below it (`oom_kill` in `memory.events`, cgroup-v2.rst).
    oom_kills_in_group: Option<u64>,
    /// For how long all processes waited for memory, in microseconds (`full` in /proc/pressure/memory, psi.rst).
    memory_stall: Option<u64>,
}

/// What was wrong with the machine while a build ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// The kernel killed a process for lack of memory.
    OutOfMemory,
    /// Processes spent their time waiting for memory.
    MemoryPressure,
    /// The file system of this folder has no space left.
    Disk(PathBuf),
}

impl Counters {
    /// Reads the counters. If all builds run below the control group `group` (see [`group_of_builds`]), processes that
    /// are killed elsewhere do not matter.
    pub fn read(group: Option<&Path>) -> Counters {
        fn kills(line: &str) -> Option<&str> {
            line.strip_prefix("oom_kill ")
        }
        let number = |path: &Path, find: fn(&str) -> Option<&str>| {
            let text = fs::read_to_string(path).ok()?;
            text.lines().find_map(find)?.trim().parse().ok()
        };
        Counters {
            oom_kills: number(Path::new("/proc/vmstat"), kills),
            oom_kills_in_group: group.and_then(|group| number(&group.join("memory.events"), kills)),
            memory_stall: number(Path::new("/proc/pressure/memory"), |line| {
                line.strip_prefix("full ")?.split_once("total=").map(|(_, total)| total)
            }),
        }
    }

    /// What the machine was short of between `self` and `later`, if anything. `elapsed` is the time between the two.
    pub fn shortage(&self, later: &Counters, elapsed: Duration) -> Option<Shortage> {
        let grown = |before: Option<u64>, after: Option<u64>| after?.checked_sub(before?);
        // A group that could not be read both times tells nothing.
        let kills = grown(self.oom_kills_in_group, later.oom_kills_in_group);
        if kills.or_else(|| grown(self.oom_kills, later.oom_kills)).is_some_and(|kills| kills > 0) {
            return Some(Shortage::OutOfMemory);
        }
        let stalled = Duration::from_micros(grown(self.memory_stall, later.memory_stall).unwrap_or(0));
        let too_long = elapsed.mul_f64(SHORT_OF_MEMORY).clamp(Duration::from_secs(1), SHORT_OF_MEMORY_IN_ALL);
        (stalled >= too_long).then_some(Shortage::MemoryPressure)
    }
}

/// The control group below which Nix makes one for each build; `None` if Nix does not, or if nothing counts what
/// happens in the groups below.
///
/// With `use-cgroups` (since 2.12), it is the group in which this process was started (`getRootCgroup`, cgroup.cc).
/// nix-daemon has gone into a child of that group, `nix-daemon` (daemon.cc). `own` is this process's /proc/self/cgroup,
/// and `mounts` its /proc/mounts.
pub fn group_of_builds(settings: &BTreeMap<String, String>, own: &Path, mounts: &Path) -> Option<PathBuf> {
    if settings.get("use-cgroups").is_none_or(|setting| setting != "true") {
        return None;
    }
    let mounts = fs::read_to_string(mounts).ok()?;
    let mut mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (folder, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then_some((folder, options))
    });
    let (hierarchy, options) = mounted.next()?;
    // With this option, a group counts only what happens in itself.
    if options.split(',').any(|option| option == "memory_localevents") {
        return None;
    }
    let own = fs::read_to_string(own).ok()?;
    let group = Path::new(own.lines().find_map(|line| line.strip_prefix("0::/"))?);
    let group = if group.ends_with("nix-daemon") { group.parent()? } else { group };
    let group = Path::new(hierarchy).join(group);
    group.join("memory.events").is_file().then_some(group)
}

/// The id of the user whose rights this process has.
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The folder itself; or, if it is still to be made, the nearest folder above it.
fn existing(folder: &Path) -> &Path {
    folder.ancestors().find(|folder| folder.exists()).unwrap_or(folder)
}

/// The first of `folders` whose file system is full or nearly so, as a shortage.
pub fn full_disk<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Option<Shortage> {
    let full = |folder: &&Path| {
        rustix::fs::statvfs(existing(folder)).is_ok_and(|state| {
            // A file system that does not count its inodes says that it has none.
            state.f_bavail.saturating_mul(state.f_frsize) < NEARLY_FULL
                || (state.f_files > 0 && state.f_favail < NEARLY_OUT_OF_INODES)
        })
    };
    folders.into_iter().find(full).map(|folder| Shortage::Disk(folder.to_owned()))
}

/// The settings of Nix that the functions of this module look at.
pub const SETTINGS: [&str; 5] = ["build-dir", "builders", "cores", "sandbox", "use-cgroups"];

/// The folder in which a Nix of this version, such as `2.34.1`, makes the folders of builds. This is for a process that
/// has only the settings of Nix, not those of its store (`LocalBuildStoreConfig::getBuildDir`; before 2.30,
/// `defaultTempDir`).
pub fn build_dir(settings: &BTreeMap<String, String>, state_dir: &Path, nix_version: &str) -> PathBuf {
    if let Some(chosen) = settings.get("build-dir").filter(|folder| !folder.is_empty()) {
        return chosen.into();
    }
    let below_state_dir = NixVersion::parse(nix_version).is_some_and(|version| version.is_at_least(2, 30));
    if below_state_dir { state_dir.join("builds") } else { std::env::temp_dir() }
}

/// The factors of a build below `build_dir` that are no settings; see [`crate::environment`].
pub fn factors(settings: &BTreeMap<String, String>, build_dir: &Path, nix_version: &str) -> BTreeMap<String, String> {
    let mut factors = BTreeMap::new();
    let mut add = |name: &str, value: String| {
        factors.insert(name.to_owned(), value);
    };
    add(NIX, nix_version.to_owned());
    add(KERNEL, rustix::system::uname().release().to_string_lossy().into_owned());
    if let Some(cores) = settings.get("cores") {
        let all = || std::thread::available_parallelism().map_or(1, |number| number.get()).to_string();
        add(CORES, if cores == "0" { all() } else { cores.clone() });
    }
    if let Some(builders) = settings.get("builders") {
        add(BUILDERS, machines(builders).into_iter().collect::<Vec<_>>().join(" "));
    }
    // Where none is wanted, it does not matter.
    let sandbox = settings.get("sandbox").is_some_and(|sandbox| sandbox != "false");
    add(NAMESPACES, (!sandbox || can_make_namespaces()).to_string());
    add(BUILD_DISK, file_system(existing(build_dir)));
    if let Some(memory) = memory() {
        add(MEMORY, memory.to_string());
    }
    let resources = [Resource::As, Resource::Data, Resource::Fsize, Resource::Nofile, Resource::Nproc, Resource::Stack];
    let text = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    let limits = resources.into_iter().flat_map(|resource| {
        let limit = getrlimit(resource);
        // Nix raises the soft limit of the stack by itself (`setStackSize`).
        let soft = (resource != Resource::Stack).then(|| text(limit.current));
        soft.into_iter().chain([text(limit.maximum)])
    });
    for (name, limit) in LIMITS.iter().zip(limits) {
        add(name, limit);
    }
    factors
}

/// The machines that the value of `builders` names, a word each. It names them itself or in files (`getMachines`,
/// machines.cc).
fn machines(builders: &str) -> BTreeSet<String> {
    let lines = builders.split(['\n', ';']).map(|line| line.split('#').next().unwrap_or("").trim());
    let machine = |line: &str| BTreeSet::from([machine_word(line)]);
    let machines = |line: &str| match line.strip_prefix('@').map(str::trim) {
        // What was read from a pipe, Nix could not read any more.
        Some(file) if fs::metadata(file).is_ok_and(|metadata| !metadata.is_file()) => machine(line),
        Some(file) => fs::read_to_string(file).map(|text| machines(&text.replace('@', ""))).unwrap_or_default(),
        None => machine(line),
    };
    lines.filter(|line| !line.is_empty()).flat_map(machines).collect()
}

/// The address of a machine, with a number that stands for the rest of what is said of it, such as the paths of keys.
/// Everybody may read the database, but not every list of machines.
fn machine_word(line: &str) -> String {
    let mut words = line.split_whitespace();
    let address = words.next().unwrap_or("");
    let rest: Vec<&str> = words.collect();
    if rest.is_empty() {
        return address.to_owned();
    }
    format!("{address},{:016x}", stable_hash(rest))
}

/// The memory of the machine in MiB. It is rounded, as a kernel takes a little more or less of it at each start.
#[cfg(target_os = "linux")]
#[expect(clippy::useless_conversion, reason = "the kernel's long has 32 bits on some machines")]
fn memory() -> Option<u64> {
    let state = rustix::system::sysinfo();
    let mebibytes = u64::from(state.totalram) * u64::from(state.mem_unit) / (1024 * 1024);
    Some(mebibytes.next_multiple_of(256))
}

#[cfg(not(target_os = "linux"))]
fn memory() -> Option<u64> {
    None
}

/// The properties of a folder's file system that matter to a build: its kind, whether programs can be run from it, and
/// its size if it lives in memory.
#[cfg(target_os = "linux")]
fn file_system(folder: &Path) -> String {
    // statfs(2).
    const TMPFS: u64 = 0x0102_1994;
    const NOEXEC: u64 = 0x8;
    let Ok(state) = rustix::fs::statfs(folder) else { return String::new() };
    let noexec = rustix::fs::statvfs(folder).is_ok_and(|state| state.f_flag.bits() & NOEXEC != 0);
    let kind = state.f_type as u64;
    // By default a share of the memory, of which a kernel takes a little more or less at each start.
    let mebibytes = ((state.f_blocks * state.f_bsize as u64) >> 20).next_multiple_of(16);
    let size = if kind == TMPFS { format!(" {mebibytes}") } else { String::new() };
    format!("{kind:x}{}{size}", if noexec { " noexec" } else { "" })
}

#[cfg(not(target_os = "linux"))]
fn file_system(_folder: &Path) -> String {
    String::new()
}

/// Whether this process may make the namespaces of a sandbox, with or without one for users.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn can_make_namespaces() -> bool {
    use rustix::io::retry_on_intr;
    use rustix::process::{WaitOptions, waitpid};
    use rustix::thread::{UnshareFlags, unshare_unsafe};

    let allowed = |flags: UnshareFlags| {
        // Not with `Command`, for which the dynamic linker would look up thirty functions in each process.
        // SAFETY: the child makes two system calls and nothing else.
        let child = match unsafe { libc::fork() } {
            0 => unsafe { libc::_exit(unshare_unsafe(flags).is_err().into()) },
            ..0 => None,
            child => Pid::from_raw(child),
        };
        let Some(child) = child else { return false };
        let end = retry_on_intr(|| waitpid(Some(child), WaitOptions::empty()));
        matches!(end, Ok(Some((_, status))) if status.exit_status() == Some(0))
    };
    let flags = UnshareFlags::NEWNS | UnshareFlags::NEWPID;
    allowed(flags | UnshareFlags::NEWUSER) || allowed(flags)
}

#[cfg(not(target_os = "linux"))]
fn can_make_namespaces() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_counters_say() {
        let counters = |oom_kills, memory_stall| Counters { oom_kills, memory_stall, ..Counters::default() };
        let table = [
            (counters(Some(3), Some(0)), counters(Some(3), Some(900_000)), None),
            (counters(Some(3), Some(0)), counters(Some(4), Some(0)), Some(Shortage::OutOfMemory)),
            (counters(Some(3), Some(5)), counters(Some(3), Some(1_100_005)), Some(Shortage::MemoryPressure)),
            (counters(Some(3), Some(5)), counters(Some(3), Some(900_005)), None),
            (counters(None, None), counters(Some(4), Some(9_000_000)), None),
            (counters(Some(4), Some(9)), counters(None, None), None),
            (counters(Some(4), Some(9)), counters(Some(1), Some(1)), None),
        ];
        for (before, after, expected) in table {
            assert_eq!(before.shortage(&after, Duration::from_secs(10)), expected, "{before:?} {after:?}");
        }
        let two_hours = Duration::from_secs(7_200);
        let shortage =
            |seconds: u64| counters(None, Some(0)).shortage(&counters(None, Some(seconds * 1_000_000)), two_hours);
        assert_eq!((shortage(9), shortage(10)), (None, Some(Shortage::MemoryPressure)));
    }

    #[test]
    fn kills_in_the_group_of_builds() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        let group = path("fs/system.slice/nix-daemon.service");
        fs::create_dir_all(group.join("nix-daemon")).unwrap();
        let mount = |options: &str| {
            let root = path("fs");
            let line = format!("cgroup2 {} cgroup2 rw,nosuid{options} 0 0\n", root.display());
            fs::write(path("mounts"), format!("proc /proc proc rw 0 0\n{line}")).unwrap();
        };
        let own = |group: &str| fs::write(path("own"), format!("1:name=systemd:/x\n0::{group}\n")).unwrap();
        let found = |setting: &str| {
            let settings = BTreeMap::from([("use-cgroups".to_owned(), setting.to_owned())]);
            group_of_builds(&settings, &path("own"), &path("mounts"))
        };
        mount(",nsdelegate");
        own("/system.slice/nix-daemon.service");
        assert_eq!(found("true"), None, "there is no memory controller");
        let kills = |number: u64| {
            fs::write(group.join("memory.events"), format!("oom 9\noom_kill {number}\noom_group_kill 0\n"))
        };
        kills(3).unwrap();
        assert_eq!((found("true"), found("false")), (Some(group.clone()), None));
        own("/system.slice/nix-daemon.service/nix-daemon");
        assert_eq!(found("true"), Some(group.clone()));
        own("/");
        assert_eq!(found("true"), None, "the root counts nothing");
        own("/system.slice/nix-daemon.service");
        mount(",memory_localevents");
        assert_eq!(found("true"), None);
        fs::remove_file(path("own")).unwrap();
        assert_eq!(found("true"), None);

        let read = || Counters { oom_kills: None, memory_stall: None, ..Counters::read(Some(&group)) };
        let before = read();
        assert_eq!(before.oom_kills_in_group, Some(3));
        let elsewhere = |counters: Counters, oom_kills| Counters { oom_kills: Some(oom_kills), ..counters };
        let shortage = |before: Counters, after: &Counters| before.shortage(after, Duration::from_secs(10));
        assert_eq!(shortage(elsewhere(before, 1), &elsewhere(read(), 2)), None);
        kills(4).unwrap();
        assert_eq!(shortage(elsewhere(before, 1), &elsewhere(read(), 1)), Some(Shortage::OutOfMemory));
        // Gone meanwhile: what the machine counts is all that is left.
        fs::remove_dir_all(&group).unwrap();
        assert_eq!(shortage(elsewhere(before, 1), &elsewhere(read(), 2)), Some(Shortage::OutOfMemory));
    }

    #[test]
    fn this_machine_can_be_read() {
        #[cfg(target_os = "linux")]
        assert!(Counters::read(None).oom_kills.is_some());
        assert_eq!(full_disk([Path::new("/no/such/folder")]), None);
        let settings = BTreeMap::from([
            ("cores".to_owned(), "0".to_owned()),
            ("builders".to_owned(), String::new()),
            ("sandbox".to_owned(), "true".to_owned()),
        ]);
        let factors = factors(&settings, Path::new("/no/such/folder"), "2.8.0");
        assert!(factors[CORES] != "0" && !factors[KERNEL].is_empty(), "{factors:?}");
        assert_eq!((factors[NIX].as_str(), factors[BUILDERS].as_str()), ("2.8.0", ""));
        for name in LIMITS.into_iter().chain([NAMESPACES, BUILD_DISK]) {
            assert!(factors.contains_key(name), "{name} in {factors:?}");
        }
    }

    #[test]
    fn where_builds_run() {
        let build_dir = |settings: &[(&str, &str)], version| {
            let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            build_dir(&settings, Path::new("/state"), version)
        };
        assert_eq!(build_dir(&[], "2.8.0"), std::env::temp_dir());
        assert_eq!(build_dir(&[("build-dir", "")], "2.26.3"), std::env::temp_dir());
        assert_eq!(build_dir(&[("build-dir", "")], "2.30.0"), Path::new("/state/builds"));
        assert_eq!(build_dir(&[], "3.0pre1"), Path::new("/state/builds"));
        assert_eq!(build_dir(&[("build-dir", "/b")], "2.34.1"), Path::new("/b"));
    }

    #[test]
    fn machines_are_found_in_files_too() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("machines");
        let named = format!("@{}", file.display());
        let found = |builders: &str| machines(builders).into_iter().collect::<Vec<_>>();
        assert!(found(&named).is_empty());
        fs::write(&file, "# ssh://old\n\n").unwrap();
        assert!(found(&named).is_empty());
        fs::write(&file, "# ssh://old\nssh://new  x86_64-linux\n").unwrap();
        let new = found("ssh://new x86_64-linux")[0].clone();
        assert_eq!(found(&named), [new.as_str()]);
        assert!(new.starts_with("ssh://new,") && !new.contains("x86_64"), "{new}");
        assert_ne!(found("ssh://new i686-linux"), [new.as_str()]);
        // Records keep it, so it must be the same in each version of this program and of Rust.
        assert_eq!(new, "ssh://new,c3526627f1852780");
        assert_eq!(found(&format!("ssh://b ; ssh://a # c;{named}")), ["ssh://a", "ssh://b", &new]);
        assert!(found("# none").is_empty());
        assert_eq!(found("@/dev/null"), ["@/dev/null"], "only regular files are read");
    }
}
