//! Which of the two walks a lane is for, and what follows from it.

use crate::log::Topic;
use crate::model::PartitionId;
use crate::pipeline::{LaneWalk, Snapshots, SummaryWalk, Walk, decode};

/// What is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    Events,
    /// What the walk of the events says of what is spread over its partitions.
    Summaries,
}

impl Course {
    pub(crate) const ALL: [Self; 2] = [Self::Events, Self::Summaries];

    pub(crate) const fn topic(self) -> Topic {
        match self {
            Self::Events => Topic::Events,
            Self::Summaries => Topic::Summaries,
        }
    }

    /// The consumer group of `run`.
    pub(super) const fn group(self) -> &'static str {
        match self {
            Self::Events => "jwtrail-run",
            Self::Summaries => "jwtrail-run-summaries",
        }
    }

    /// What `/readyz` calls it.
    pub(super) const fn condition(self) -> &'static str {
        match self {
            Self::Events => "walk",
            Self::Summaries => "walk of summaries",
        }
    }

    /// What `/readyz` calls one of its partitions.
    pub(super) fn partition(self, partition: PartitionId) -> String {
        match self {
            Self::Events => format!("partition {partition}"),
            Self::Summaries => format!("partition {partition} of summaries"),
        }
    }

    /// Whether its walk is written down in checkpoints. That of the summaries is not: a day of them is few records, and
    /// walking them again takes moments.
    pub(super) const fn has_checkpoints(self) -> bool {
        matches!(self, Self::Events)
    }

    /// A fresh walk of a partition, in the log that the bounds name.
    pub(crate) fn begin(
        self,
        bounds: decode::Bounds,
        snapshots: Snapshots,
        partition: PartitionId,
    ) -> Box<dyn LaneWalk> {
        match self {
            Self::Events => Box::new(Walk::new(bounds, snapshots, partition)),
            Self::Summaries => Box::new(SummaryWalk::new(bounds, snapshots, partition)),
        }
    }
}
