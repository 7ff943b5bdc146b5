//! Where records come from.

use std::fmt;

use super::Topic;
use crate::model::{LogId, PartitionId};

/// A partition of a topic, in one log: with an offset the identity of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) log: LogId,
    pub(crate) topic: Topic,
    pub(crate) partition: PartitionId,
}

/// `L/topic/partition`: as in insert tokens and in the header `jwtrail-origin`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.log, self.topic.name(), self.partition)
    }
}
