//! The plugin that Nix loads. C++ talks to Nix, and the core decides. This crate connects the two.

mod bridge;
mod caches;
mod client;
mod connections;
mod counting;
mod detached;
mod ending;
mod guard;
mod hook;
mod lookup;
mod policy;
#[cfg(c_api)]
mod primop;
mod recording;
mod running_build;
