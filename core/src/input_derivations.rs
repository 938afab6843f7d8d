//! Reads from the text of a derivation which outputs of other derivations it needs.
//!
//! Nix reads all of a derivation, which takes longer than the rest of what is done about one that needs a known failure. What
//! is read here stands near the beginning of the text:
//!
//! ```text
//! Derive([("out","/nix/store/…-x","","")],[("/nix/store/…-y.drv",["dev","out"])],…
//! ```
//!
//! Whatever has another form, such as a derivation that needs derivations which are yet to be made, is left to Nix.

/// The outputs that a derivation needs of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputDerivation<'a> {
    /// The path of the other derivation.
    pub path: &'a str,
    /// The names of these outputs, at least one.
    pub outputs: Vec<&'a str>,
}

/// The derivations whose outputs are needed by the derivation with this text. `None` if the text has not the usual form.
pub fn input_derivations(text: &[u8]) -> Option<Vec<InputDerivation<'_>>> {
    let mut rest = Rest(text.strip_prefix(b"Derive(")?);
    rest.list(|rest| {
        rest.take(b"(")?;
        for field in 0..4 {
            if field > 0 {
                rest.take(b",")?;
            }
            rest.string()?;
        }
        rest.take(b")")
    })?;
    rest.take(b",")?;
    let inputs = rest.list(|rest| {
        rest.take(b"(")?;
        let path = rest.string()?;
        rest.take(b",")?;
        let outputs = rest.list(Rest::string)?;
        rest.take(b")")?;
        (!outputs.is_empty()).then_some(InputDerivation { path, outputs })
    })?;
    rest.take(b",")?;
    Some(inputs)
}

/// What is left to read of the text of a derivation.
pub(crate) struct Rest<'a>(pub(crate) &'a [u8]);

impl<'a> Rest<'a> {
    pub(crate) fn take(&mut self, prefix: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(prefix)?;
        Some(())
    }

    /// A string without escapes. Neither paths nor names of outputs have any.
    pub(crate) fn string(&mut self) -> Option<&'a str> {
        let string = self.escaped_string()?;
        if string.contains(&b'\\') { None } else { str::from_utf8(string).ok() }
    }

    /// A string as it is written, with its escapes.
    pub(crate) fn escaped_string(&mut self) -> Option<&'a [u8]> {
        self.take(b"\"")?;
        let mut end = 0;
        loop {
            end += self.0.get(end..)?.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
            if self.0[end] == b'"' {
                break;
            }
            // What follows a backslash ends nothing.
            end += 2;
        }
        let string = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Some(string)
    }

    pub(crate) fn list<T>(&mut self, mut item: impl FnMut(&mut Rest<'a>) -> Option<T>) -> Option<Vec<T>> {
        self.take(b"[")?;
        let mut items = Vec::new();
        while self.take(b"]").is_none() {
            if !items.is_empty() {
                self.take(b",")?;
            }
            items.push(item(self)?);
        }
        Some(items)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<Vec<(&str, Vec<&str>)>> {
        let inputs = input_derivations(text.as_bytes())?;
        Some(inputs.into_iter().map(|input| (input.path, input.outputs)).collect())
    }

    const REST: &str = r#"["/s/c.drv"],"x86_64-linux","/bin/sh",["-c","(\"/s/d.drv\",[\"out\"])"],[("name","x")])"#;

    #[test]
    fn inputs_are_read_and_sources_are_not() {
        let text = |outputs: &str, inputs: &str| format!("Derive([{outputs}],[{inputs}],{REST}");
        let out = r#"("out","/s/x","","")"#;
        let two = r#"("dev","/s/x-dev","r:sha256","0a"),("out","","","")"#;
        assert_eq!(read(&text(out, "")), Some(vec![]));
        assert_eq!(read(&text("", r#"("/s/a.drv",["out"])"#)), Some(vec![("/s/a.drv", vec!["out"])]));
        assert_eq!(
            read(&text(two, r#"("/s/a.drv",["dev","out"]),("/s/b.drv",["out"])"#)),
            Some(vec![("/s/a.drv", vec!["dev", "out"]), ("/s/b.drv", vec!["out"])])
        );
    }

    #[test]
    fn other_forms_are_left_to_nix() {
        let texts = [
            String::new(),
            "Derive".to_owned(),
            format!(r#"DrvWithVersion("xp-dyn-drv",[("out","","","")],[("/s/a.drv",["out"])],{REST}"#),
            format!(r#"Derive([("out","","","")],[("/s/a.drv",(["out"],[("out",["out"])]))],{REST}"#),
            format!(r#"Derive([("out","","","")],[("/s/a\n.drv",["out"])],{REST}"#),
            format!(r#"Derive([("out","","","")],[("/s/a.drv",[])],{REST}"#),
            format!(r#"Derive([("out","","")],[],{REST}"#),
            format!(r#"Derive([("out","","","")("dev","","","")],[],{REST}"#),
            r#"Derive([("out","","","")],[("/s/a.drv",["out"]"#.to_owned(),
            r#"Derive([("out","","","")],[]"#.to_owned(),
        ];
        for text in texts {
            assert_eq!(read(&text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "(Derive\\()?[\\[\\](),\"a\\\\]{0,40}") {
            let _ = input_derivations(text.as_bytes());
        }

        #[test]
        fn cut_texts_are_left_to_nix(cut in 0..60usize) {
            let text = r#"Derive([("out","/s/x","","")],[("/s/a.drv",["dev","out"])],["#;
            prop_assume!(cut < text.len() - 1);
            prop_assert_eq!(read(&text[..cut]), None);
        }
    }
}
