//! The state of this machine, as far as it can change the outcome of a build. What can't be read says nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::environment::{BUILDERS, CORES, KERNEL, LIMITS, NIX};

/// Free space of a file system below which a failure is put down to it, in bytes; as much as Nix wants to see
/// (`LocalDerivationGoal::cleanupDecideWhetherDiskFull`).
const NEARLY_FULL: u64 = 8 * 1024 * 1024;

/// Free inodes of a file system below which a failure is put down to their lack. Nix frees those of the folder of the
/// build before anybody can look, so some are there again.
const NEARLY_OUT_OF_INODES: u64 = 100;

/// The share of a build's time in which every process on the machine waited for memory, from which on a failure is put
/// down to that, if it was a second or more.
const SHORT_OF_MEMORY: f64 = 0.1;

/// What counts up while the machine runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// How many processes the kernel killed for lack of memory, in all control groups (`oom_kill` in /proc/vmstat).
    oom_kills: Option<u64>,
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
    /// Reads the counters.
    pub fn read() -> Counters {
        let number = |path: &str, find: fn(&str) -> Option<&str>| {
            let text = fs::read_to_string(path).ok()?;
            text.lines().find_map(find)?.trim().parse().ok()
        };
        Counters {
            oom_kills: number("/proc/vmstat", |line| line.strip_prefix("oom_kill ")),
            memory_stall: number("/proc/pressure/memory", |line| {
                line.strip_prefix("full ")?.split_once("total=").map(|(_, total)| total)
            }),
        }
    }

    /// What was wrong between `self` and `later`, which is `elapsed` after it.
    pub fn shortage(&self, later: &Counters, elapsed: Duration) -> Option<Shortage> {
        let grown = |before: Option<u64>, after: Option<u64>| after?.checked_sub(before?);
        if grown(self.oom_kills, later.oom_kills).is_some_and(|kills| kills > 0) {
            return Some(Shortage::OutOfMemory);
        }
        let stalled = Duration::from_micros(grown(self.memory_stall, later.memory_stall).unwrap_or(0));
        (stalled >= elapsed.mul_f64(SHORT_OF_MEMORY).max(Duration::from_secs(1))).then_some(Shortage::MemoryPressure)
    }
}

/// The first of `folders` whose file system is full, or nearly so.
pub fn full_disk<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Option<Shortage> {
    let full = |folder: &&Path| {
        rustix::fs::statvfs(*folder).is_ok_and(|state| {
            // A file system that does not count its inodes says that it has none.
            state.f_bavail.saturating_mul(state.f_frsize) < NEARLY_FULL
                || (state.f_files > 0 && state.f_favail < NEARLY_OUT_OF_INODES)
        })
    };
    folders.into_iter().find(full).map(|folder| Shortage::Disk(folder.to_owned()))
}

/// The folder that Nix makes the folders of builds in (`build-dir`, `LocalDerivationGoal::startBuilder`).
pub fn build_folder(settings: &BTreeMap<String, String>) -> PathBuf {
    match settings.get("build-dir").filter(|folder| !folder.is_empty()) {
        Some(folder) => folder.into(),
        None => std::env::temp_dir(),
    }
}

/// What is not a setting but matters to the outcome of a build; see [`crate::environment`].
pub fn factors(settings: &BTreeMap<String, String>, nix_version: &str) -> BTreeMap<String, String> {
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
        add(BUILDERS, has_machines(builders).to_string());
    }
    let resources = [Resource::As, Resource::Data, Resource::Fsize, Resource::Nofile, Resource::Nproc, Resource::Stack];
    for (name, resource) in LIMITS.iter().zip(resources) {
        // The hard limit: it is what a builder can't get beyond.
        add(name, getrlimit(resource).maximum.map_or("unlimited".to_owned(), |limit| limit.to_string()));
    }
    factors
}

/// Whether the value of `builders` names a machine, itself or in the files that it names (`getMachines`, machines.cc).
fn has_machines(builders: &str) -> bool {
    builders.split(['\n', ';']).map(|line| line.split('#').next().unwrap_or("").trim()).any(|line| {
        match line.strip_prefix('@') {
            Some(file) => fs::read_to_string(file.trim()).is_ok_and(|text| has_machines(&text.replace('@', ""))),
            None => !line.is_empty(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_counters_say() {
        let counters = |oom_kills, memory_stall| Counters { oom_kills, memory_stall };
        let table = [
            (counters(Some(3), Some(0)), counters(Some(3), Some(900_000)), None),
            (counters(Some(3), Some(0)), counters(Some(4), Some(0)), Some(Shortage::OutOfMemory)),
            (counters(Some(3), Some(5)), counters(Some(3), Some(1_100_005)), Some(Shortage::MemoryPressure)),
            (counters(None, None), counters(Some(4), Some(9_000_000)), None),
            (counters(Some(4), Some(9)), counters(None, None), None),
            (counters(Some(4), Some(9)), counters(Some(1), Some(1)), None),
        ];
        for (before, after, expected) in table {
            assert_eq!(before.shortage(&after, Duration::from_secs(10)), expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn this_machine_can_be_read() {
        #[cfg(target_os = "linux")]
        assert!(Counters::read().oom_kills.is_some());
        assert_eq!(full_disk([Path::new("/no/such/folder")]), None);
        let settings = BTreeMap::from([("cores".to_owned(), "0".to_owned()), ("builders".to_owned(), String::new())]);
        let factors = factors(&settings, "2.8.0");
        assert!(factors[CORES] != "0" && !factors[KERNEL].is_empty(), "{factors:?}");
        assert_eq!((factors[NIX].as_str(), factors[BUILDERS].as_str()), ("2.8.0", "false"));
    }

    #[test]
    fn machines_are_found_in_files_too() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("machines");
        let named = format!("@{}", file.display());
        assert!(!has_machines(&named));
        fs::write(&file, "# ssh://old\n\n").unwrap();
        assert!(!has_machines(&named));
        fs::write(&file, "# ssh://old\nssh://new x86_64-linux\n").unwrap();
        assert!(has_machines(&named) && has_machines("ssh://a ; ssh://b") && !has_machines("# none"));
    }
}
