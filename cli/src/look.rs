//! How text for people looks on a terminal: colours, and paths that are links.
//!
//! Whether there are colours is said by `--color` and, without it, by `NO_COLOR`, `CLICOLOR_FORCE`, TERM and whether standard
//! output is a terminal (`anstream`). Links are for terminals only, and for those that are known to have them
//! (`supports-hyperlinks`).

use std::borrow::Cow;
use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::Path;

use anstream::AutoStream;
use anstyle_hyperlink::{Hyperlink, file_to_url, hostname};
use clap::builder::styling::{AnsiColor, Style};
use nix_negative_cache_core::log::tail::turns_text;

/// How text on standard output looks.
#[derive(Clone, Debug, Default)]
pub struct Look {
    colours: bool,
    /// The name of this machine, which is part of a link, if there are links.
    links: Option<String>,
}

impl Look {
    /// As standard output can show it. If a pager shows the text, `passes_on` is whether the pager lets the terminal have
    /// what it can't show itself.
    pub fn of_stdout(passes_on: bool) -> Look {
        let colours = passes_on && AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
        let is_wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && env::var_os("TERM").is_some_and(|term| term != "dumb")
            && anstream::ColorChoice::global() != anstream::ColorChoice::Never;
        let can = || io::stdout().is_terminal() && supports_hyperlinks::supports_hyperlinks();
        let links = passes_on && is_wanted && can();
        Look { colours, links: links.then(|| hostname().and_then(as_text).unwrap_or_default()) }
    }

    /// Whether there are colours.
    pub fn has_colours(&self) -> bool {
        self.colours
    }

    fn style(&self, style: Style) -> Style {
        if self.colours { style } else { Style::new() }
    }

    /// For headings.
    pub fn heading(&self) -> Style {
        self.style(Style::new().bold())
    }

    /// For what matters less.
    pub fn aside(&self) -> Style {
        self.style(Style::new().dimmed())
    }

    /// For a value of another time.
    pub fn before(&self) -> Style {
        self.style(AnsiColor::Red.on_default())
    }

    /// For the value of this time.
    pub fn after(&self) -> Style {
        self.style(AnsiColor::Green.on_default())
    }

    /// A path, as a link to it if there are links.
    pub fn path<'a>(&self, path: &'a str) -> Cow<'a, str> {
        let url = self.links.as_ref().and_then(|host| file_to_url(Some(host), Path::new(path)));
        match url.map(Hyperlink::with_url) {
            Some(link) => format!("{link}{path}{link:#}").into(),
            None => path.into(),
        }
    }
}

fn as_text(name: OsString) -> io::Result<String> {
    name.into_string().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Text with its control characters, and its marks for the direction of writing, as codes. Lines and tabs stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    let is_unseen = |c: char| (c.is_control() && !matches!(c, '\n' | '\t')) || turns_text(c);
    if !text.contains(is_unseen) {
        return Cow::Borrowed(text);
    }
    let show = |shown: String, c: char| {
        if is_unseen(c) { shown + &c.escape_unicode().to_string() } else { shown + c.encode_utf8(&mut [0; 4]) }
    };
    Cow::Owned(text.chars().fold(String::new(), show))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_message_is_obeyed_by_a_terminal() {
        assert_eq!(visible("'a\tb'\n"), "'a\tb'\n");
        assert_eq!(visible("'\x1b[2J\u{202e}x'"), "'\\u{1b}[2J\\u{202e}x'");
    }

    #[test]
    fn paths_are_links_where_there_are_links() {
        assert_eq!(Look::default().path("/nix/store/a?b"), "/nix/store/a?b");
        let look = Look { colours: false, links: Some("host".to_owned()) };
        assert_eq!(look.path("/a?b"), "\x1b]8;;file://host/a%3Fb\x1b\\/a?b\x1b]8;;\x1b\\");
    }
}
