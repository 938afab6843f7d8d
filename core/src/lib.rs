//! What nix-negative-cache knows and decides, without Nix: failure records, what of a build's end is recorded,
//! which derivations a request must not build again, and the database.
//!
//! Everything but [`database`] and [`machine`] is free of input and output. The plugin turns Nix's types into the plain data
//! used here, and acts on the answers.

pub mod belief;
pub mod build_status;
pub mod channel;
pub mod class;
pub mod database;
pub mod deciding_line;
pub mod decision;
pub mod environment;
pub mod explanation;
pub mod judgement;
pub mod log;
pub mod machine;
pub mod record;
pub mod refusal;
pub mod settings;
pub(crate) mod stable_hash;
pub mod store_path;
pub mod time_text;
