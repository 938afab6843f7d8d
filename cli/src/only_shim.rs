//! `nix-negative-cache-shim`: only what `nix-negative-cache` does under the names of Nix's programs. It needs none of the
//! libraries of the other and so starts in half the time, on every call of Nix.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod shim;
mod streams;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Under one of those names, it never comes here.
    streams::say(
        "nix-negative-cache-shim: it works by the names of Nix's programs; see  nix-negative-cache shim --help",
    );
    ExitCode::from(2)
}
