//! Reads from the text of a derivation what binary caches are asked about it, if it is a plain one, as nearly all are.
//!
//! Nix's reader takes much longer, and a request can have thousands of derivations to ask about:
//!
//! ```text
//! Derive([("out","/nix/store/…-x","","")],[inputs],[sources],"x86_64-linux","/bin/sh",[arguments],[("name","x"),…])
//! ```
//!
//! A derivation is plain if the paths of its outputs follow from its inputs, and if it says nothing about caches. Whatever else
//! there is, such as a fetch, is left to Nix.

use crate::input_derivations::Rest;
use crate::store_path::is_store_path;

/// A plain derivation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainDerivation<'a> {
    /// The names and paths of its outputs, sorted by name. There is at least one.
    pub outputs: Vec<(&'a str, &'a str)>,
    /// The system it is for.
    pub system: &'a str,
}

/// Attributes that say something about caches, and the one that has all others in it.
const TELLING: [&[u8]; 3] = [b"allowSubstitutes", b"negativeCache", b"__json"];

/// The derivation with this text. `None` if it is not plain, or if the text has not the usual form.
pub fn plain_derivation(text: &[u8]) -> Option<PlainDerivation<'_>> {
    let mut rest = Rest(text.strip_prefix(b"Derive(")?);
    let outputs = rest.list(|rest| {
        rest.take(b"(")?;
        let name = rest.string()?;
        rest.take(b",")?;
        let path = rest.string()?;
        // Those that are known by their content have a kind of hash.
        rest.take(b",\"\",\"\")")?;
        is_store_path(path).then_some((name, path))
    })?;
    // Nix sorts what it reads.
    if outputs.is_empty() || !outputs.is_sorted_by(|(name, _), (next, _)| name < next) {
        return None;
    }
    rest.take(b",")?;
    rest.list(|rest| {
        rest.take(b"(")?;
        rest.escaped_string()?;
        rest.take(b",")?;
        rest.list(Rest::escaped_string)?;
        rest.take(b")")
    })?;
    rest.take(b",")?;
    rest.list(Rest::escaped_string)?;
    rest.take(b",")?;
    let system = rest.string()?;
    rest.take(b",")?;
    rest.escaped_string()?;
    rest.take(b",")?;
    rest.list(Rest::escaped_string)?;
    rest.take(b",")?;
    rest.list(|rest| {
        rest.take(b"(")?;
        let name = rest.escaped_string()?;
        rest.take(b",")?;
        rest.escaped_string()?;
        rest.take(b")")?;
        // An escape could hide one of these names.
        (!name.contains(&b'\\') && !TELLING.contains(&name)).then_some(())
    })?;
    rest.take(b")")?;
    rest.0.is_empty().then_some(PlainDerivation { outputs, system })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OUT: &str = r#"("out","/s/zzz0h4gj6rsaw6xnsq7vj128dpiawa94-x","","")"#;
    const DEV: &str = r#"("dev","/s/yyy0h4gj6rsaw6xnsq7vj128dpiawa94-x-dev","","")"#;

    fn text(outputs: &str, attributes: &str) -> String {
        format!(
            r#"Derive([{outputs}],[("/s/a.drv",["dev","out"]),("/s/b.drv",["out"])],["/s/c"],"x86_64-linux","/bin/sh",["-c","echo \"allowSubstitutes\" \\"],[{attributes}("name","x")])"#
        )
    }

    fn is_plain(text: &str) -> bool {
        plain_derivation(text.as_bytes()).is_some()
    }

    #[test]
    fn outputs_and_system_are_read() {
        let text = text(&format!("{DEV},{OUT}"), r#"("script","say \"negativeCache\", ok\n"),"#);
        let plain = plain_derivation(text.as_bytes()).expect("a plain derivation");
        let [dev, out] = ["/s/yyy0h4gj6rsaw6xnsq7vj128dpiawa94-x-dev", "/s/zzz0h4gj6rsaw6xnsq7vj128dpiawa94-x"];
        assert_eq!(plain, PlainDerivation { outputs: vec![("dev", dev), ("out", out)], system: "x86_64-linux" });
    }

    #[test]
    fn what_is_not_plain_is_left_to_nix() {
        let fixed = OUT.replace(r#""","")"#, r#""r:sha256","0a")"#);
        let floating = r#"("out","","r:sha256","")"#;
        let deferred = r#"("out","","","")"#;
        for outputs in [&fixed, floating, deferred, "", &format!("{OUT},{DEV}"), &format!("{OUT},{OUT}")] {
            assert!(!is_plain(&text(outputs, "")), "{outputs}");
        }
        for attribute in ["allowSubstitutes", "negativeCache", "__json", r"allow\Substitutes"] {
            assert!(!is_plain(&text(OUT, &format!(r#"("{attribute}",""),"#))), "{attribute}");
        }
        let plain = text(OUT, "");
        assert!(is_plain(&plain));
        assert!(!is_plain(&plain.replace("Derive(", r#"DrvWithVersion("xp-dyn-drv","#)));
        assert!(!is_plain(&format!("{plain} ")));
        assert!(!is_plain(&plain.replace("x86_64-linux", r"x86_64\-linux")));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "(Derive\\()?[\\[\\](),\"a\\\\]{0,40}") {
            let _ = plain_derivation(text.as_bytes());
        }

        #[test]
        fn cut_texts_are_left_to_nix(cut in 0..300usize) {
            let text = text(OUT, "");
            prop_assume!(cut < text.len());
            prop_assert_eq!(plain_derivation(&text.as_bytes()[..cut]), None);
        }
    }
}
