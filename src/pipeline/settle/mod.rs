//! **settle**: the promise. Two doors that the corridor calls: `reserve` (commit a, end b) before store, `release`
//! (b+1) when everything before has been acknowledged (PROMISE, clauses 0 to 2).

mod adopt;
mod metadata;
mod settler;

#[cfg(test)]
mod tests;

pub(crate) use adopt::{Adopt, Adopted, Truncated, adopt};
pub(crate) use settler::Settler;

use super::patience::{Failure, Hope, Part};
use super::store::StoreError;
use crate::log::{CommitError, LogError};
use crate::model::PartitionId;

/// Why a partition cannot be taken over, reserved or released.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettleError {
    /// Somebody else owns the partition now: the lane ends and drops what it holds.
    #[error("partition {0} has another owner")]
    NotOwner(PartitionId),
    /// Nothing was committed; the same call may be made again.
    #[error("the commit did not go through and is tried again: {0}")]
    Retry(String),
    /// The log and ClickHouse do not say by themselves where to go on. A person decides.
    #[error(
        "partition {partition}: {why}. Start again with --adopt commit (go on at the group's offset), --adopt rows (go \
         on after what ClickHouse holds) or --adopt beginning (store the whole log once more, under a new log id)"
    )]
    Undecided { partition: PartitionId, why: &'static str },
    /// `--adopt` named something that is not there.
    #[error("partition {partition}: --adopt {choice} is not possible: {why}")]
    CannotAdopt { partition: PartitionId, choice: Adopt, why: &'static str },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SettleError {
    /// The closed word for metrics and log fields.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::NotOwner(_) => "not_owner",
            Self::Retry(_) => "commit_retried",
            Self::Undecided { .. } => "adoption_undecided",
            Self::CannotAdopt { .. } => "adoption_impossible",
            Self::Log(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }
}

impl Failure for SettleError {
    fn hope(&self) -> Hope {
        match self {
            Self::NotOwner(_) => Hope::Never,
            Self::Retry(_) => Hope::Passes,
            Self::Undecided { .. } | Self::CannotAdopt { .. } => Hope::IsMended,
            Self::Log(error) => error.hope(),
            Self::Store(error) => error.hope(),
        }
    }

    fn part(&self) -> Part {
        match self {
            Self::Store(error) => error.part(),
            _ => Part::Log,
        }
    }

    fn word(&self) -> &'static str {
        self.code()
    }
}

impl From<CommitError> for SettleError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::NotOwner(partition) => Self::NotOwner(partition),
            CommitError::Retry(cause) => Self::Retry(cause),
            CommitError::TooLarge { bytes } => Self::Log(LogError::TooLarge { bytes }),
        }
    }
}
