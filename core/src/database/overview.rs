//! What statistics need of all records. There may be many, so no more than one of them is in memory.

use jiff::Timestamp;

use super::columns::Milliseconds;
use super::{Database, DatabaseError};
use crate::belief::Origin;
use crate::class::Class;

/// What statistics need of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview<'a> {
    /// The derivation's name.
    pub name: &'a str,
    /// The class of the last failure.
    pub class: Class,
    /// How often it was built and failed.
    pub attempts: u32,
    /// When it last failed.
    pub last_failure: Timestamp,
    /// Whether the last attempt failed.
    pub stands: bool,
    /// Whether a failure was followed by a success; see [`crate::belief::is_flaky`].
    pub is_flaky: bool,
    /// Where the last failure was learned; `None` if it happened here.
    pub origin: Option<Origin>,
}

impl Database {
    /// Calls `look` with each record whose last failure came after `since`, in any order.
    ///
    /// # Errors
    ///
    /// If the database can't be read.
    pub fn look_at_all(
        &self,
        since: Option<Timestamp>,
        mut look: impl FnMut(&Overview<'_>),
    ) -> Result<(), DatabaseError> {
        let mut query = || {
            let select = "SELECT name, class, attempts, last_failure, stands,
                              EXISTS (SELECT 1 FROM attempt WHERE attempt.failure = failure.id AND class IS NULL),
                              (SELECT origin FROM attempt WHERE attempt.failure = failure.id AND class IS NOT NULL
                                  ORDER BY attempt.id DESC LIMIT 1)
                          FROM failure WHERE last_failure >= ?1";
            let mut statement = self.connection.prepare(select)?;
            let mut rows = statement.query([since.map_or(i64::MIN, |since| since.as_millisecond())])?;
            while let Some(row) = rows.next()? {
                let Milliseconds(last_failure) = row.get(3)?;
                let origin = row.get_ref(6)?.as_str_or_null()?.map(super::read::origin).transpose()?;
                look(&Overview {
                    name: row.get_ref(0)?.as_str()?,
                    class: row.get(1)?,
                    attempts: row.get(2)?,
                    last_failure,
                    stands: row.get(4)?,
                    is_flaky: row.get(5)?,
                    origin,
                });
            }
            Ok(())
        };
        query().map_err(self.failed())
    }
}
