//! The identity of a failure: its last lines that say something, in any order, without what is different each time.

use std::collections::BTreeSet;

use crate::stable_hash::stable_hash;

/// A line without times, addresses, numbers of processes, durations and paths of the build.
fn constant(line: &str) -> String {
    let mut constant = String::with_capacity(line.len());
    for word in line.split_whitespace() {
        if !constant.is_empty() {
            constant.push(' ');
        }
        let word = match below_build_dir(word) {
            Some((before, path)) => {
                constant.push_str(before);
                constant.push('~');
                path
            }
            None => word,
        };
        // A word with digits in it, such as `0x7f12`, `1.3s` or `4711`, without them; letters of hexadecimal numbers go with them.
        let hexadecimal =
            word.contains("0x") || word.len() >= 8 && word.chars().filter(|c| !c.is_ascii_hexdigit()).count() <= 2;
        let mut in_number = false;
        for c in word.chars() {
            let number = c.is_ascii_digit() || hexadecimal && c.is_ascii_hexdigit();
            if !number {
                constant.push(c);
            } else if !in_number {
                constant.push('#');
            }
            in_number = number || in_number && matches!(c, '.' | ',' | ':');
        }
    }
    constant
}

/// What is before the folder of the build in `word`, and what is below it and the same each time. Files right below it, and below
/// folders for temporary files, are called otherwise each time.
fn below_build_dir(word: &str) -> Option<(&str, &str)> {
    const FOLDERS: [&str; 4] = ["/nix/var/nix/builds/", "/build/", "/var/tmp/", "/tmp/"];
    let (start, folder) = FOLDERS.iter().find_map(|folder| Some((word.find(folder)?, *folder)))?;
    let (before, mut path) = (&word[..start], &word[start + folder.len()..]);
    if let Some((_, rest)) = path.split_once('/').filter(|(first, _)| first.starts_with("nix-")) {
        path = rest.strip_prefix("build/").unwrap_or(rest);
    }
    let temporary = path.split_once('/').is_none_or(|(first, _)| first.starts_with("tmp"));
    Some((before, if temporary { "" } else { path }))
}

/// A number that is the same for the same set of lines, on each machine and in each version.
pub fn identity<'a>(lines: impl IntoIterator<Item = &'a str>) -> u64 {
    let lines: BTreeSet<String> = lines.into_iter().map(constant).collect();
    stable_hash(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_different_each_time_does_not_matter() {
        let first = [
            "worker 4711 failed after 1.32s at 0x7ffe12ab",
            "/tmp/nix-build-x.drv-0/a.c:12: error: no",
            "cannot open /build/tmp.Xy12Zw",
        ];
        let second = [
            "cannot open /build/tmp.Qq98aa",
            "/tmp/nix-build-x.drv-3/a.c:12: error: no",
            "worker 12 failed after 0.9s at 0x55aa1200",
        ];
        assert_eq!(identity(first), identity(second));
        assert_ne!(identity(first), identity(["another message"]));
        assert_ne!(identity(["a failed"]), identity(["a failed", "b failed"]));
        assert_ne!(identity(["/build/source/a.c: no"]), identity(["/build/source/b.c: no"]));
        assert_eq!(identity(["/nix/var/nix/builds/nix-12-34/build/x/a.c: no"]), identity(["/build/x/a.c: no"]));
        // It is in databases.
        assert_eq!(identity(["cc1plus: out of memory", "b"]), 18_323_264_103_344_455_781);
        assert_eq!(identity(["cc1plus: out of memory"]), identity(["cc1plus:  out of memory"]));
    }
}
