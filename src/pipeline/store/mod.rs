//! **store**: what was walked becomes rows of ClickHouse, a block at a time (PROMISE, clauses 1, 2 and 6).

mod block;
mod rows;
mod tables;

mod statements;

mod put;
mod refusals;

mod events;

mod dead_letter;
mod last_stored;
mod retention;
mod stored_before;

#[cfg(test)]
pub(crate) mod memory;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub(crate) use super::patience::Patience;
pub(crate) use crate::log::Origin;
pub(crate) use block::{Block, Counts, CutBlock, Raised};
pub(crate) use dead_letter::{APPEND_HEADER, ORIGIN_HEADER, REASON_HEADER};
pub(crate) use last_stored::LastStored;
pub(crate) use put::{Put, Store, Stored, put_findings};
pub(crate) use retention::Retention;
pub(crate) use stored_before::HeldBack;

use super::patience::{Failure, Hope, Part};
use crate::clickhouse::ClickHouseError;
use crate::log::LogError;

/// Why a block cannot be stored. Nothing here is the data's fault: that ends as a dead letter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    ClickHouse(#[from] ClickHouseError),
    #[error("dead letters cannot be written: {0}")]
    DeadLetters(#[source] LogError),
    /// Not a value here and there: the table, or what fills it, is wrong.
    #[error(
        "ClickHouse refuses {refused} of the last {rows} event rows, which is more than dead letters are for: see the log \
         for what it says, mend the table `events` (constraints, column types) or go back to the former version; nothing \
         is lost, the next start goes on with the same block"
    )]
    TooManyRefused { refused: u64, rows: u64 },
}

impl StoreError {
    /// The closed word for metrics and log fields.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::ClickHouse(error) => error.code(),
            Self::DeadLetters(error) => error.code(),
            Self::TooManyRefused { .. } => "too_many_refused",
        }
    }
}

impl Failure for StoreError {
    fn hope(&self) -> Hope {
        match self {
            Self::ClickHouse(ClickHouseError::Unavailable(_)) => Hope::Passes,
            // Rows of ours that are no event's: refusing them is nothing that the data can be blamed for.
            Self::ClickHouse(_) => Hope::IsMended,
            Self::DeadLetters(error) => error.hope(),
            Self::TooManyRefused { .. } => Hope::Never,
        }
    }

    fn part(&self) -> Part {
        match self {
            Self::ClickHouse(_) | Self::TooManyRefused { .. } => Part::ClickHouse,
            Self::DeadLetters(_) => Part::Log,
        }
    }

    fn word(&self) -> &'static str {
        self.code()
    }
}
