//! Where a failure happened: what can change the outcome of a build without changing its derivation.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::class::Class;
use crate::log::tail::printable;

/// Which changes of a factor keep an earlier failure from counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Any change does.
    Same,
    /// The factor is a flag that allows more when `true`. The failure still counts if the flag is no longer set.
    NoMoreAllowed,
    /// The factor is a flag that forbids more when `true`. The failure still counts if the flag has been set since.
    NoLessForbidden,
    /// The factor is a list of words. The failure still counts if none was added.
    NoMoreWords,
    /// The factor is a limit, where 0 or `unlimited` stands for none. The failure still counts if it is no higher.
    NoHigherLimit,
    /// The factor is the machine that built it, if not this one. The failure still counts if that is among [`BUILDERS`].
    StillThere,
}

/// One of the things that can change the outcome of a build.
#[derive(Debug)]
pub struct Factor {
    /// The name of a setting of Nix, or our own name for something else.
    pub name: &'static str,
    /// Whether it is a setting of Nix.
    pub setting: bool,
    /// Which changes matter.
    pub direction: Direction,
    /// The class of failures for which it matters; `None` for all.
    pub only: Option<Class>,
    /// Why it matters, for the manual.
    pub why: &'static str,
}

const fn setting(name: &'static str, direction: Direction, why: &'static str) -> Factor {
    Factor { name, setting: true, direction, only: None, why }
}

const fn limit(name: &'static str, only: Class) -> Factor {
    let why = "what a limit ended can come to its end without it";
    Factor { name, setting: true, direction: Direction::NoHigherLimit, only: Some(only), why }
}

const fn of_fetches(name: &'static str, why: &'static str) -> Factor {
    Factor { name, setting: true, direction: Direction::Same, only: Some(Class::Fetch), why }
}

const fn of_the_machine(name: &'static str, direction: Direction, why: &'static str) -> Factor {
    Factor { name, setting: false, direction, only: None, why }
}

/// The machine's kernel release.
pub const KERNEL: &str = "kernel";
/// The version of Nix.
pub const NIX: &str = "nix";
/// The machines that may build, a word each.
pub const BUILDERS: &str = "builders";
/// The machine that built it, by the address of its store, if it was another one.
pub const MACHINE: &str = "machine";
/// How many processor cores a builder is told to use. Where the setting is 0, it is the number of all cores.
pub const CORES: &str = "cores";
/// Whether the kernel lets this process make a sandbox.
pub const NAMESPACES: &str = "namespaces";
/// What kind of file system the folder of the build is on.
pub const BUILD_DISK: &str = "build-disk";
/// The memory of the machine, in MiB, rounded.
pub const MEMORY: &str = "memory";
/// The resource limits of the process (getrlimit(2)) that matter, soft and hard, with the words of ulimit(1).
pub const LIMITS: [&str; 11] = [
    "limit-memory",
    "limit-memory-hard",
    "limit-data",
    "limit-data-hard",
    "limit-file-size",
    "limit-file-size-hard",
    "limit-open-files",
    "limit-open-files-hard",
    "limit-processes",
    "limit-processes-hard",
    "limit-stack-hard",
];

/// Whether only the process that builds knows this factor, so that a client of the daemon can't tell it.
fn is_the_builders_own(name: &str) -> bool {
    LIMITS.contains(&name) || [NAMESPACES, BUILD_DISK].contains(&name)
}

/// Whether this factor also holds for builds on another machine. All other factors are facts about the machine of this
/// process. The other machine has its own kernel, Nix, sandbox, limits, memory and cores, and nothing tells which.
fn holds_elsewhere(name: &str) -> bool {
    // Nix sends its time and log limits along with a build to some machines (`ServeProto::BuildOptions`, for `ssh`).
    [BUILDERS, MACHINE, "timeout", "max-silent-time", "max-build-log-size"].contains(&name)
}

/// Whether a "machine", as Nix names it, is another store of this computer: that of a folder, or of a daemon here. Such builds
/// have this kernel, and more or less the settings of this process.
fn is_this_computer(machine: &str) -> bool {
    let local = ["/", "local:", "local?", "unix:", "daemon"];
    machine == "local" || local.iter().any(|start| machine.starts_with(start))
}

/// The address in a word of [`BUILDERS`], without the parts that may be spelled differently: the scheme, the
/// parameters, and the rest of what is said of a machine (`Machine::completeStoreReference`, machines.cc).
fn address(machine: &str) -> &str {
    let uri = machine.split(',').next().unwrap_or(machine);
    let address = uri.split_once("://").map_or(uri, |(_, address)| address);
    address.split('?').next().unwrap_or(address)
}

const RAISED: &str = "a limit that was too low can be raised";

/// All factors, in the order of the manual.
pub const FACTORS: &[Factor] = {
    use Direction::*;
    &[
        setting("sandbox", Same, "outside the sandbox a builder sees files and the network, which can help or harm"),
        setting("sandbox-fallback", Same, "decides whether there is a sandbox where none can be made"),
        setting("sandbox-paths", Same, "what a builder sees besides its inputs can help or harm"),
        setting("sandbox-build-dir", Same, "builders that write down or measure the path of their folder"),
        setting("build-dir", Same, "the file system and the path of the folder of the build"),
        setting("sandbox-dev-shm-size", Same, "shared memory can be too small"),
        setting("pre-build-hook", Same, "can change the sandbox"),
        setting("filter-syscalls", NoLessForbidden, "what the filter forbids can work without it"),
        setting("allow-new-privileges", NoMoreAllowed, "setuid programs can work with it"),
        setting("impersonate-linux-26", Same, "old programs look at the kernel's version"),
        setting("build-users-group", Same, "some builders fail for root, others for users"),
        setting("auto-allocate-uids", Same, "as `build-users-group`"),
        setting("use-cgroups", Same, "builders that look at control groups"),
        setting("system-features", NoMoreWords, "a feature that was added can be what was missing"),
        setting("extra-platforms", NoMoreWords, "another emulator can do better"),
        of_the_machine(CORES, Same, "fewer are easier on memory and races, more on tests that take too long"),
        of_the_machine(BUILDERS, NoMoreWords, "a machine that was added may build it"),
        of_the_machine(MACHINE, StillThere, "what failed elsewhere may not fail here"),
        of_the_machine(KERNEL, Same, "tests and emulators depend on it"),
        of_the_machine(NIX, Same, "it makes the environment of the builder"),
        of_the_machine(NAMESPACES, Same, "without them, Nix falls back to building without a sandbox"),
        of_the_machine(BUILD_DISK, Same, "what a file system can do, and whether it runs programs"),
        of_the_machine(MEMORY, NoHigherLimit, "more can be enough"),
        of_the_machine(LIMITS[0], NoHigherLimit, RAISED),
        of_the_machine(LIMITS[1], NoHigherLimit, RAISED),
        of_the_machine(LIMITS[2], NoHigherLimit, RAISED),
        of_the_machine(LIMITS[3], NoHigherLimit, RAISED),
        of_the_machine(LIMITS[4], NoHigherLimit, RAISED),
        of_the_machine(LIMITS[5], NoHigherLimit, RAISED),
        of_the_machine(LIMITS[6], NoHigherLimit, RAISED),
        of_the_machine(LIMITS[7], NoHigherLimit, RAISED),
        of_the_machine(LIMITS[8], NoHigherLimit, RAISED),
        of_the_machine(LIMITS[9], NoHigherLimit, RAISED),
        of_the_machine(LIMITS[10], NoHigherLimit, RAISED),
        of_fetches("netrc-file", "passwords that a server asks for"),
        of_fetches("ssl-cert-file", "certificates that a server is checked with"),
        of_fetches("hashed-mirrors", "another place to get it from"),
        limit("timeout", Class::Timeout),
        limit("max-silent-time", Class::Silence),
        limit("max-build-log-size", Class::LogLimit),
    ]
};

impl Direction {
    /// Whether a failure that happened with the value `recorded` still counts with the value `now`. Values that can't
    /// be read must be the same.
    fn allows(self, recorded: &str, now: &str) -> bool {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
        let height = |text: &str| match text {
            "0" | "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        };
        let flag = |text: &str| text.parse::<bool>().ok();
        recorded == now
            || match self {
                Direction::Same => false,
                Direction::NoMoreAllowed => flag(now) == Some(false),
                Direction::NoLessForbidden => flag(now) == Some(true),
                Direction::NoMoreWords => words(now).is_subset(&words(recorded)),
                Direction::NoHigherLimit => {
                    matches!((height(recorded), height(now)), (Some(recorded), Some(now)) if now <= recorded)
                }
                Direction::StillThere => now.split_whitespace().any(|machine| address(machine) == address(recorded)),
            }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Same => "any change",
            Direction::NoMoreAllowed => "switched on",
            Direction::NoLessForbidden => "switched off",
            Direction::NoMoreWords => "something added",
            Direction::NoHigherLimit => "raised or removed",
            Direction::StillThere => "no longer among the builders",
        })
    }
}

/// The factors of one build, by name. A factor that this Nix or this system does not have is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Environment(Arc<BTreeMap<String, String>>);

/// A change of a factor that keeps a failure from counting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The factor's name.
    pub factor: &'static str,
    /// Its value at the failure; `None` if it was not there.
    pub recorded: Option<String>,
    /// Its value at this moment; `None` if it is not there.
    pub now: Option<String>,
}

/// A factor that is another one than at a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The factor and its values.
    pub difference: Difference,
    /// Whether it keeps the failure from counting.
    pub matters: bool,
}

impl Environment {
    /// From Nix's settings, as `nix config show` prints them, and what is known of the machine.
    pub fn new(settings: &BTreeMap<String, String>, machine: BTreeMap<String, String>) -> Environment {
        let mut factors = machine;
        for factor in FACTORS.iter().filter(|factor| factor.setting) {
            if let Some(value) = settings.get(factor.name) {
                factors.insert(factor.name.to_owned(), value.clone());
            }
        }
        Environment(Arc::new(factors))
    }

    /// The same environment after Nix found that it could make no sandbox.
    pub fn without_sandbox(mut self) -> Environment {
        Arc::make_mut(&mut self.0).insert(NAMESPACES.to_owned(), false.to_string());
        self
    }

    /// What is known of the environment on another machine, as Nix names that machine, if this is the environment here.
    pub fn on(mut self, machine: &str) -> Environment {
        let factors = Arc::make_mut(&mut self.0);
        if !is_this_computer(machine) {
            factors.retain(|name, _| holds_elsewhere(name));
        }
        factors.insert(MACHINE.to_owned(), machine.to_owned());
        self
    }

    /// Whether it is that of another machine, or of another store of this computer.
    pub fn is_elsewhere(&self) -> bool {
        self.0.contains_key(MACHINE)
    }

    /// Whether builders run in a sandbox: the setting says so, and the kernel lets Nix make one, as far as that is known.
    pub fn is_sandboxed(&self) -> bool {
        self.factor("sandbox") == Some("true") && self.factor(NAMESPACES) != Some("false")
    }

    /// The value of a factor, if it is known.
    pub fn factor(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether it is that of another computer.
    fn is_of_another_computer(&self) -> bool {
        self.0.get(MACHINE).is_some_and(|machine| !is_this_computer(machine))
    }

    /// The factors that a client of the daemon which builds can tell.
    pub fn as_clients_see(mut self) -> Environment {
        Arc::make_mut(&mut self.0).retain(|name, _| !is_the_builders_own(name));
        self
    }

    /// Whether nothing is known of it.
    pub fn is_unknown(&self) -> bool {
        self.0.is_empty()
    }

    /// All that has changed from this environment, in which a failure of `class` happened, to the environment `now`. Of
    /// another computer only a few factors are known, so only these are compared.
    pub fn changes(&self, now: &Environment, class: Class) -> Vec<Change> {
        let differences = self.differences(now, class);
        let elsewhere = self.is_of_another_computer();
        let changed = |factor: &Factor| {
            if let Some(difference) = differences.iter().find(|difference| difference.factor == factor.name) {
                return Some(Change { difference: difference.clone(), matters: true });
            }
            let (recorded, now) = (self.0.get(factor.name), now.0.get(factor.name));
            let is_compared = factor.direction != Direction::StillThere && (!elsewhere || holds_elsewhere(factor.name));
            let difference = Difference { factor: factor.name, recorded: recorded.cloned(), now: now.cloned() };
            (is_compared && recorded != now).then_some(Change { difference, matters: false })
        };
        FACTORS.iter().filter_map(changed).collect()
    }

    /// The changes that keep a failure of `class` in this environment from counting in the environment `now`.
    pub fn differences(&self, now: &Environment, class: Class) -> Vec<Difference> {
        let elsewhere = self.is_of_another_computer();
        if self == now && !self.is_elsewhere() {
            return Vec::new();
        }
        let relevant = FACTORS.iter().filter(|factor| factor.only.is_none_or(|only| only == class));
        let relevant = relevant.filter(|factor| !elsewhere || holds_elsewhere(factor.name));
        let differs = |factor: &Factor| {
            let still_there = factor.direction == Direction::StillThere;
            let now = now.0.get(if still_there { BUILDERS } else { factor.name });
            let recorded = self.0.get(factor.name);
            let counts = match (recorded, now) {
                (None, _) if still_there => true,
                (Some(recorded), Some(now)) => factor.direction.allows(recorded, now),
                (recorded, now) => recorded == now,
            };
            (!counts).then(|| Difference { factor: factor.name, recorded: recorded.cloned(), now: now.cloned() })
        };
        relevant.filter_map(differs).collect()
    }
}

/// The environment that there is now, to compare others with. Failures of one list share a few of them.
#[derive(Debug)]
pub struct Comparison {
    now: Environment,
    last: RefCell<Option<(Environment, Class, Vec<Difference>)>>,
}

impl Comparison {
    /// With this environment.
    pub fn with(now: &Environment) -> Comparison {
        Comparison { now: now.clone(), last: RefCell::new(None) }
    }

    /// The environment that there is now.
    pub fn now(&self) -> &Environment {
        &self.now
    }

    /// Whether builds run in a sandbox, as far as this process knows.
    pub fn is_sandboxed(&self) -> bool {
        self.now.is_sandboxed()
    }

    /// As [`Environment::differences`] says.
    pub fn differences(&self, environment: &Environment, class: Class) -> Vec<Difference> {
        let mut last = self.last.borrow_mut();
        if let Some((compared, of, differences)) = &*last
            && Arc::ptr_eq(&compared.0, &environment.0)
            && *of == class
        {
            return differences.clone();
        }
        let differences = environment.differences(&self.now, class);
        *last = Some((environment.clone(), class, differences.clone()));
        differences
    }
}

impl Difference {
    /// The two values as people read them, that at the failure first.
    pub fn values(&self) -> (String, String) {
        let say = |value: &Option<String>| match value.as_deref() {
            None => "not known".to_owned(),
            Some("") => "empty".to_owned(),
            // What another process wrote may hold anything.
            Some(value) => format!("'{}'", printable(value.as_bytes())),
        };
        (say(&self.recorded), say(&self.now))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (recorded, now) = self.values();
        write!(f, "{} was {recorded} and is {now}", self.factor)
    }
}

/// What decides whether a builder that this process started ran in a sandbox, and whether that had a network
/// (`LocalDerivationGoal::tryLocalBuild` and `startBuilder`; since 2.30 or so `makeDerivationBuilder`).
#[derive(Clone, Copy, Debug, Default)]
pub struct SandboxFacts<'a> {
    /// The setting `sandbox`.
    pub setting: &'a str,
    /// The setting `external-builders`: programs that start builders in their own way, if there are any.
    pub external_builders: &'a str,
    /// Whether the derivation has `__noChroot`.
    pub no_chroot: bool,
    /// Whether it is fixed-output or impure, so that a sandbox lets it use the network.
    pub uses_network: bool,
    /// Whether Nix could make no sandbox and went on without one (`sandbox-fallback`).
    pub fell_back: bool,
    /// Whether the files of the store are elsewhere than its paths say, so that Linux needs a sandbox to build.
    pub store_is_elsewhere: bool,
}

/// Whether a builder ran in a sandbox without network, as far as that is known.
pub fn sandboxed(facts: &SandboxFacts<'_>) -> Option<bool> {
    if facts.uses_network || facts.fell_back {
        return Some(false);
    }
    if !matches!(facts.external_builders, "" | "[]") {
        return None;
    }
    if facts.store_is_elsewhere && cfg!(target_os = "linux") {
        return Some(true);
    }
    match facts.setting {
        "true" => Some(true),
        "relaxed" => Some(!facts.no_chroot),
        "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn environment(factors: &[(&str, &str)]) -> Environment {
        let factors = factors.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Environment(Arc::new(factors.collect()))
    }

    #[test]
    fn all_that_changed_is_told_and_what_of_it_matters() {
        let then = environment(&[("cores", "4"), ("timeout", "0"), ("memory", "1000"), ("kernel", "6.1")]);
        let now = environment(&[("cores", "8"), ("timeout", "10"), ("memory", "900"), ("kernel", "6.1")]);
        let changes = then.changes(&now, Class::Builder);
        let told: Vec<(String, bool)> =
            changes.iter().map(|change| (change.difference.to_string(), change.matters)).collect();
        let expected = [
            ("cores was '4' and is '8'", true),
            ("memory was '1000' and is '900'", false),
            ("timeout was '0' and is '10'", false),
        ];
        assert_eq!(told, expected.map(|(text, matters)| (text.to_owned(), matters)));
        assert!(then.changes(&then, Class::Builder).is_empty());
        // Of another computer, the kernel and the cores are not known.
        let elsewhere = then.on("ssh://other");
        let changes = elsewhere.changes(&environment(&[("cores", "8"), ("builders", "ssh://other")]), Class::Builder);
        let names: Vec<&str> = changes.iter().map(|change| change.difference.factor).collect();
        assert_eq!(names, ["builders", "timeout"]);
    }

    #[test]
    fn which_builders_run_in_a_sandbox() {
        let facts = SandboxFacts { setting: "true", external_builders: "[]", ..SandboxFacts::default() };
        type Change = fn(&mut SandboxFacts<'_>);
        let table: [(Change, Option<bool>); 12] = [
            (|_| (), Some(true)),
            (|f| f.external_builders = "", Some(true)),
            (|f| f.setting = "false", Some(false)),
            (|f| f.setting = "relaxed", Some(true)),
            (|f| (f.setting, f.no_chroot) = ("relaxed", true), Some(false)),
            (|f| f.setting = "", None),
            (|f| f.uses_network = true, Some(false)),
            (|f| f.fell_back = true, Some(false)),
            (|f| f.external_builders = "[{}]", None),
            (|f| (f.external_builders, f.uses_network) = ("[{}]", true), Some(false)),
            (|f| (f.setting, f.store_is_elsewhere) = ("false", true), Some(cfg!(target_os = "linux"))),
            (|f| (f.store_is_elsewhere, f.uses_network) = (true, true), Some(false)),
        ];
        for (change, expected) in table {
            let mut facts = facts;
            change(&mut facts);
            assert_eq!(sandboxed(&facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn what_another_machine_built_counts_while_it_may_build() {
        let with = |builders: &str| {
            Environment::new(&BTreeMap::new(), BTreeMap::from([(BUILDERS.to_owned(), builders.to_owned())]))
        };
        let both = "ssh-ng://a?compress=true,x86_64-linux,-,4 b,x86_64-linux";
        for (machine, now, counts) in [
            ("ssh://b", both, true),
            ("ssh-ng://a?compress=true", both, true),
            ("ssh://b", "b,x86_64-linux", true),
            ("ssh://b", "ssh-ng://a?compress=true,x86_64-linux,-,4", false),
            ("ssh://b", "", false),
            ("ssh://c", both, false),
        ] {
            let recorded = with(both).on(machine);
            assert_eq!(recorded.differences(&with(now), Class::Builder).is_empty(), counts, "{machine} {now}");
        }
        assert!(with(both).differences(&with(""), Class::Builder).is_empty(), "it was built here");
        let here =
            environment(&[("builders", "ssh://b"), ("namespaces", "false"), ("kernel", "6.1"), ("timeout", "9")]);
        let there = here.clone().on("ssh://b");
        assert_eq!(there, environment(&[("builders", "ssh://b"), ("machine", "ssh://b"), ("timeout", "9")]));
        let now =
            environment(&[("builders", "ssh://b"), ("namespaces", "true"), ("kernel", "6.12"), ("timeout", "10")]);
        assert!(there.differences(&now, Class::Builder).is_empty(), "only the other machine's kernel matters");
        assert!(!there.differences(&now, Class::Timeout).is_empty(), "the limit is sent along");
        for machine in ["/mnt/store", "local?root=/mnt", "unix:///run/socket"] {
            let there = here.clone().on(machine);
            assert!(!there.differences(&now, Class::Builder).is_empty(), "{machine} has the kernel of this computer");
        }
        let (earlier, now) = (with("ssh://b,5a4c1f511e000fa7"), with("ssh://b,c3526627f1852780"));
        assert!(!earlier.differences(&now, Class::Builder).is_empty(), "a word of an earlier version leads to a build");
    }

    #[test]
    fn the_same_comparison_gives_the_same_answer() {
        let comparison = Comparison::with(&environment(&[("sandbox", "true"), ("timeout", "10")]));
        let (same, other) =
            (environment(&[("sandbox", "true"), ("timeout", "5")]), environment(&[("sandbox", "false")]));
        for _ in 0..2 {
            for (environment, class) in
                [(&same, Class::Builder), (&same, Class::Builder), (&same, Class::Timeout), (&other, Class::Builder)]
            {
                let expected = environment.differences(&comparison.now, class);
                assert_eq!(comparison.differences(environment, class), expected);
                assert_eq!(expected.is_empty(), std::ptr::eq(environment, &same) && class == Class::Builder);
            }
        }
    }

    #[test]
    fn which_changes_matter() {
        use Class::*;
        let table = [
            ("sandbox", "true", "false", Builder, true),
            ("sandbox", "false", "true", Builder, true),
            ("sandbox", "true", "true", Builder, false),
            ("filter-syscalls", "true", "false", Builder, true),
            ("filter-syscalls", "false", "true", Builder, false),
            ("allow-new-privileges", "false", "true", Builder, true),
            ("allow-new-privileges", "true", "false", Builder, false),
            ("system-features", "kvm nixos-test", "nixos-test", Builder, false),
            ("system-features", "nixos-test", "kvm nixos-test", Builder, true),
            ("extra-platforms", "", "i686-linux", Builder, true),
            ("cores", "4", "1", Builder, true),
            ("cores", "1", "4", Builder, true),
            ("limit-open-files", "1024", "2048", Builder, true),
            ("limit-open-files", "1024", "512", Builder, false),
            ("limit-open-files", "1024", "unlimited", Builder, true),
            ("limit-open-files", "unlimited", "1024", Builder, false),
            ("builders", "", "ssh://a", Builder, true),
            ("builders", "ssh://a ssh://b", "ssh://b", Builder, false),
            ("memory", "4096", "8192", Builder, true),
            ("netrc-file", "/a", "/b", Builder, false),
            ("netrc-file", "/a", "/b", Fetch, true),
            ("timeout", "10", "0", Builder, false),
            ("timeout", "10", "0", Timeout, true),
            ("timeout", "10", "11", Timeout, true),
            ("timeout", "10", "9", Timeout, false),
            ("timeout", "10", "x", Timeout, true),
            ("max-silent-time", "10", "20", Timeout, false),
            ("max-silent-time", "10", "20", Silence, true),
            ("max-build-log-size", "1000", "999", LogLimit, false),
            ("max-build-log-size", "1000", "0", LogLimit, true),
            ("of-no-interest", "1", "2", Builder, false),
        ];
        for (factor, recorded, now, class, matters) in table {
            let differences = environment(&[(factor, recorded)]).differences(&environment(&[(factor, now)]), class);
            assert_eq!(!differences.is_empty(), matters, "{factor}: '{recorded}' '{now}' {class}");
        }
    }

    #[test]
    fn what_was_not_known_is_a_change() {
        let now = environment(&[("sandbox", "true")]);
        let differences = Environment::default().differences(&now, Class::Builder);
        assert_eq!(differences.len(), 1);
        assert_eq!(differences[0].to_string(), "sandbox was not known and is 'true'");
    }

    #[test]
    fn factors_have_names_of_their_own() {
        let names: BTreeSet<&str> = FACTORS.iter().map(|factor| factor.name).collect();
        assert_eq!(names.len(), FACTORS.len());
    }

    fn any_environment() -> impl Strategy<Value = Environment> {
        let value = prop_oneof![Just("true"), Just("false"), Just("0"), Just("1"), Just("2"), Just("a b"), Just("")];
        // Where a request is made, no other machine has built yet.
        let here = FACTORS.iter().filter(|factor| factor.name != MACHINE);
        let names: Vec<&str> = here.map(|factor| factor.name).collect();
        prop::collection::btree_map(
            prop::sample::select(names).prop_map(str::to_owned),
            value.prop_map(str::to_owned),
            0..8,
        )
        .prop_map(|factors| Environment(Arc::new(factors)))
    }

    proptest! {
        #[test]
        fn the_same_environment_never_differs(environment in any_environment()) {
            for &class in Class::ALL {
                prop_assert!(environment.differences(&environment, class).is_empty());
            }
        }

        #[test]
        fn what_counts_here_and_there_counts_further(a in any_environment(), b in any_environment(), c in any_environment()) {
            if a.differences(&b, Class::Builder).is_empty() && b.differences(&c, Class::Builder).is_empty() {
                prop_assert!(a.differences(&c, Class::Builder).is_empty());
            }
        }
    }
}
