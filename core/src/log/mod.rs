//! What the log of a build says of its failure: whether it would come again.
//!
//! [`judge`] reads the log as it streams by, in memory that does not grow with it. These modules see a line, in this order:
//!
//! 1. [`lines`] splits a log that comes in pieces into lines, and [`tail`] keeps the last ones for the record.
//! 2. [`triggers`] passes over most lines at once.
//! 3. [`line`](mod@line) takes off what tools put in front of their messages, and tells messages from noise.
//! 4. [`reading`] says what the line tells of. The words are in [`signals`], [`system_messages`] and [`sentences`].
//! 5. [`judge`] weighs evidence against objections.
//!
//! [`identity`] tells whether two failures are the same.

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
