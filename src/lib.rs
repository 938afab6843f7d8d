//! The plugin: what Nix loads. C++ meets Nix; the core decides; here is what lies between them.

mod bridge;
mod client;
mod connections;
mod ending;
mod guard;
mod lookup;
mod policy;
mod recording;
mod running_build;
