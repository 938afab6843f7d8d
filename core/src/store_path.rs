//! Derivations and outputs as Nix prints them, each a type of its own.

use std::fmt;

use serde::Serialize;

macro_rules! printed_path {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text as Nix prints it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(printed: String) -> Self {
                Self(printed)
            }
        }

        impl From<&str> for $name {
            fn from(printed: &str) -> Self {
                Self(printed.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

printed_path! {
    /// The path of a store derivation, `/nix/store/<hash>-<name>.drv`.
    DerivationPath
}

printed_path! {
    /// What an output is known by before it is built: its path, `/nix/store/<hash>-<name>[-<output>]`; or, if the path
    /// follows from the content, the identity of its realisation,
    /// `sha256:<hash>!<output>`.
    OutputKey
}
