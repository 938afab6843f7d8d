//! What a build's log says of its failure: whether it would come again.
//!
//! [`judge`] reads the log as it streams by, in memory that does not grow with it. A line passes through these rooms:
//! [`triggers`] passes over most lines at once; [`line`](mod@line) takes off what tools put in front of their messages and tells noise
//! from messages; [`signals`], [`system_messages`] and [`sentences`] know the words, which come together in [`reading`]: what the line tells
//! of. [`judge`] weighs that against what speaks against it. [`identity`] tells whether two failures are the same one. [`tail`] is the end of the log that a record keeps, [`lines`] splits
//! what comes in pieces.

pub mod identity;
pub mod judge;
pub mod line;
pub mod lines;
pub mod reading;
pub mod sentences;
pub mod signals;
pub mod system_messages;
pub mod tail;
pub mod triggers;
