//! Which Nix it is: the numbers in its version, such as 2.26.3 or 2.32.0pre20250901_abc, and its flavour.
//!
//! A package of its own without dependencies, as the loader and the build script need it too.

use std::fmt;

/// The numbers of a version, which are compared from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NixVersion {
    /// The first number.
    pub major: u32,
    /// The second number; 0 if there is none.
    pub minor: u32,
    /// The third number; 0 if there is none.
    pub patch: u32,
}

impl NixVersion {
    /// Reads a version; `None` if it does not begin with a number. An unreleased version counts as the release that it
    /// leads to.
    pub fn parse(text: &str) -> Option<NixVersion> {
        let mut numbers = text.split('.').map(|part| {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..end].parse().ok()
        });
        let major = numbers.next()??;
        let mut next = || numbers.next().flatten().unwrap_or(0);
        Some(NixVersion { major, minor: next(), patch: next() })
    }

    /// Whether this is `major.minor` or newer.
    pub fn is_at_least(self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) >= (major, minor)
    }
}

/// What the libraries of a Nix say for the version that its program says, if the two may differ. Of a development version, such
/// as 2.36.0pre20260812_0123abc, the libraries may know the part up to `pre` only.
pub fn of_libraries(version: &str) -> Option<&str> {
    let end = version.find(PRE)? + PRE.len();
    (end < version.len()).then(|| &version[..end])
}

/// How the part of a development version ends that its libraries know.
const PRE: &str = "pre";

/// Whether a plugin fits a Nix with the version `running`, if its headers, which are those of Nix's libraries, say `built_for`.
pub fn fits(built_for: &str, running: &str) -> bool {
    built_for == running || of_libraries(running) == Some(built_for)
}

/// Whose Nix it is. The ABI of a fork is not that of Nix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Nix itself.
    Nix,
    /// Determinate Nix, which has the version of the Nix that it is based on.
    Determinate,
    /// Lix, whose versions begin with 2.90.
    Lix,
}

/// A Nix as far as plugins tell one from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nix {
    /// Whose it is.
    pub flavour: Flavour,
    /// The version: of Determinate Nix its own, not that of the Nix that it is based on.
    pub version: String,
}

impl Nix {
    /// Nix itself in this version.
    pub fn released(version: &str) -> Nix {
        Nix { flavour: Flavour::Nix, version: version.to_owned() }
    }

    /// Determinate Nix in this version.
    pub fn determinate(version: &str) -> Nix {
        Nix { flavour: Flavour::Determinate, version: version.to_owned() }
    }

    /// Reads the name of the folder of a plugin; `None` if it has another form.
    pub fn from_folder(name: &str) -> Option<Nix> {
        let determinate = name.strip_prefix(DETERMINATE_FOLDER).map(Nix::determinate);
        determinate.or_else(|| name.strip_prefix(NIX_FOLDER).map(Nix::released))
    }

    /// The name of the folder of the plugin for this Nix. There is none for Lix.
    pub fn folder(&self) -> Option<String> {
        let prefix = match self.flavour {
            Flavour::Nix => NIX_FOLDER,
            Flavour::Determinate => DETERMINATE_FOLDER,
            Flavour::Lix => return None,
        };
        Some(format!("{prefix}{}", self.version))
    }

    /// Reads what a plugin says about the Nix that it was built for: a version of Nix, or the name of a folder.
    pub fn from_note(note: &str) -> Nix {
        note.strip_prefix(DETERMINATE_FOLDER).map_or_else(|| Nix::released(note), Nix::determinate)
    }

    /// The Nix that the output of `nix --version` names, such as "nix (Determinate Nix 3.8.2) 2.30.1".
    pub fn printed(output: &str) -> Nix {
        let last = output.split_whitespace().last().unwrap_or_default();
        let determinate = output.split_once("(Determinate Nix ").and_then(|(_, rest)| rest.split_once(')'));
        match determinate {
            Some((version, _)) => Nix::determinate(version),
            None if output.contains("(Lix") => Nix { flavour: Flavour::Lix, version: last.to_owned() },
            None => Nix::released(last),
        }
    }

    /// What the libraries of this Nix say, if that may differ from what its program says ([`of_libraries`]).
    pub fn of_libraries(&self) -> Option<Nix> {
        let version = (self.flavour == Flavour::Nix).then(|| of_libraries(&self.version)).flatten()?;
        Some(Nix::released(version))
    }

    /// Whether a plugin that was built for this Nix fits another one ([`fits`]).
    pub fn fits(&self, running: &Nix) -> bool {
        self.flavour == running.flavour
            && match self.flavour {
                Flavour::Nix => fits(&self.version, &running.version),
                Flavour::Determinate => self.version == running.version,
                Flavour::Lix => false,
            }
    }
}

impl fmt::Display for Nix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.flavour, self.version)
    }
}

const NIX_FOLDER: &str = "nix-";
const DETERMINATE_FOLDER: &str = "determinate-nix-";

impl Flavour {
    /// The flavour as far as the version tells: Determinate Nix counts as Nix.
    pub fn by_number(version: NixVersion) -> Flavour {
        if version.major == 2 && version.is_at_least(2, 90) { Flavour::Lix } else { Flavour::Nix }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flavour::Nix => "Nix",
            Flavour::Determinate => "Determinate Nix",
            Flavour::Lix => "Lix",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_versions() {
        let numbers = |text| NixVersion::parse(text).map(|version| (version.major, version.minor, version.patch));
        for (text, expected) in [
            ("2.8.0", (2, 8, 0)),
            ("2.26.3", (2, 26, 3)),
            ("2.32.0pre20250901_0123abc", (2, 32, 0)),
            ("2.22pre1", (2, 22, 0)),
            ("2.19.0-dev+1", (2, 19, 0)),
            ("3", (3, 0, 0)),
        ] {
            assert_eq!(numbers(text), Some(expected), "{text}");
        }
        for text in ["", "nix", ".2", "99999999999.1"] {
            assert_eq!(numbers(text), None, "{text}");
        }
    }

    #[test]
    fn compared_from_left_to_right() {
        let at_least_2_22 = |text| NixVersion::parse(text).unwrap().is_at_least(2, 22);
        assert!(["2.22.0", "2.22pre1", "2.26.3", "3.0", "3"].into_iter().all(at_least_2_22));
        assert!(!["2.8.0", "2.21.9", "1.99", "2"].into_iter().any(at_least_2_22));
        assert!(NixVersion::parse("2.8.1") > NixVersion::parse("2.8.0"));
    }

    #[test]
    fn development_versions_of_programs_and_libraries() {
        assert!(fits("2.35.2", "2.35.2"));
        assert!(!fits("2.35.2", "2.35.1") && !fits("2.35.2", "2.35.21") && !fits("2.35", "2.35.2"));
        let (program, library) = ("2.36.0pre20260812_0123abc", "2.36.0pre");
        assert_eq!(of_libraries(program), Some(library));
        assert_eq!((of_libraries(library), of_libraries("2.36.0")), (None, None));
        assert!(fits(program, program) && fits(library, library) && fits(library, program));
        // A plugin that is for one day's version does not fit what may be another day's.
        assert!(!fits(program, library) && !fits(program, "2.36.0pre20260813_0123abc"));
        assert!(!fits("2.36.0", program) && !fits("2.3pre", program) && !fits("", "pre"));
    }

    #[test]
    fn folders_and_notes() {
        for (nix, folder, note) in [
            (Nix::released("2.35.2"), "nix-2.35.2", "2.35.2"),
            (Nix::determinate("3.22.2"), "determinate-nix-3.22.2", "determinate-nix-3.22.2"),
        ] {
            assert_eq!((nix.folder().as_deref(), Nix::from_folder(folder)), (Some(folder), Some(nix.clone())));
            assert_eq!(Nix::from_note(note), nix);
            assert!(nix.fits(&nix) && !nix.fits(&Nix::released("2.35.1")) && !nix.fits(&Nix::determinate("3.22.1")));
        }
        assert_eq!((Nix::from_folder("loader"), Nix::from_folder("determinate-")), (None, None));
        // Determinate Nix has the version of the Nix that it is based on as well.
        assert!(!Nix::released("2.35.2").fits(&Nix::determinate("2.35.2")));
        assert!(!Nix::determinate("2.35.2").fits(&Nix::released("2.35.2")));
    }

    #[test]
    fn flavours_by_version_and_by_what_they_print() {
        let by_number = |text| Flavour::by_number(NixVersion::parse(text).unwrap());
        assert!(["2.90.0", "2.93.3", "2.96.0-pre1"].into_iter().all(|text| by_number(text) == Flavour::Lix));
        assert!(["2.8.0", "2.35.2", "3.0"].into_iter().all(|text| by_number(text) == Flavour::Nix));
        for (output, nix) in [
            ("nix (Nix) 2.35.2", Nix::released("2.35.2")),
            ("nix (Determinate Nix 3.8.2) 2.30.1", Nix::determinate("3.8.2")),
            ("nix (Lix, like Nix) 2.93.3", Nix { flavour: Flavour::Lix, version: "2.93.3".to_owned() }),
        ] {
            assert_eq!(Nix::printed(output), nix);
        }
    }
}
