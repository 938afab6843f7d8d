//! What nix-negative-cache knows and decides, without Nix.
//!
//! A build that ended is judged by [`judgement`], with [`log`], and becomes a [`record`] in the [`database`]. [`belief`] says
//! whether a record speaks against a new attempt, [`decision`] what is done about a request, and [`refusal`] what the user
//! reads.
//!
//! Everything but [`database`], [`hook`] and [`machine`] is free of input and output. The plugin turns Nix's types into the plain data
//! of this crate, and acts on the answers.

pub mod belief;
pub mod build_status;
pub mod channel;
pub mod class;
pub mod counts;
pub mod database;
pub mod deciding_line;
pub mod decision;
pub mod elsewhere;
pub mod environment;
pub mod explanation;
pub mod failure_file;
pub mod failure_object;
pub mod hook;
pub mod hydra;
pub mod input_derivations;
pub mod judgement;
pub mod log;
pub mod machine;
pub mod plain_derivation;
pub mod portable;
pub mod record;
pub mod record_json;
pub mod refusal;
pub mod request;
pub mod settings;
pub(crate) mod stable_hash;
pub mod store_path;
pub mod store_url;
pub mod time_text;
