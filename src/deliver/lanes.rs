//! The lanes of one membership: started, stopped together, and each let go when it has ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::courier::Courier;
use super::lane::{self, LaneError};
use crate::log::{Assigned, RevokeDone};
use crate::model::PartitionId;

/// Lanes that run, each by its task: a partition may be assigned again before its former lane is gone.
#[derive(Default)]
pub(super) struct Lanes {
    tasks: JoinSet<Result<(), LaneError>>,
    running: HashMap<Id, Running>,
}

struct Running {
    partition: PartitionId,
    stop: watch::Sender<Option<Instant>>,
    task: AbortHandle,
    /// Dropped with the lane: only then may the partition go.
    done: Option<RevokeDone>,
}

impl Lanes {
    pub(super) fn start(&mut self, courier: Arc<Courier>, assigned: Assigned) {
        let (partition, stop) = (assigned.partition, watch::Sender::new(None));
        let task = self.tasks.spawn(lane::run(courier, assigned, stop.subscribe()));
        self.running.insert(task.id(), Running { partition, stop, task, done: None });
    }

    /// Lets the partition's lane take its last answers, and the partition go after that. Nobody waits here: lanes that
    /// are revoked together stop at the same time, for the log gives them ten seconds together.
    pub(super) fn revoke(&mut self, partition: PartitionId, done: RevokeDone) {
        // Of one that has ended already `done` is dropped here.
        if let Some(lane) = self.running.values_mut().find(|lane| lane.partition == partition) {
            lane.done = Some(done);
            lane.stop.send_replace(Some(Instant::now()));
        }
    }

    /// Another owner may have the partition already: what its lane has told and not committed is told again by that one.
    pub(super) fn lose(&mut self, partition: PartitionId) {
        self.running.retain(|_, lane| {
            if lane.partition == partition {
                lane.task.abort();
            }
            lane.partition != partition
        });
    }

    /// Waits for a lane that ends by itself; for ever if none runs. Cancel-safe: a lane's end stays in the set.
    pub(super) async fn ended(&mut self) -> Result<(), LaneError> {
        match self.tasks.join_next_with_id().await {
            Some(ended) => self.take_end(ended),
            None => std::future::pending().await,
        }
    }

    /// Stops every lane and waits for each; the first error, if any.
    pub(super) async fn stop_all(&mut self) -> Result<(), LaneError> {
        for lane in self.running.values() {
            lane.stop.send_replace(Some(Instant::now()));
        }
        let mut all = Ok(());
        while let Some(ended) = self.tasks.join_next_with_id().await {
            all = all.and(self.take_end(ended));
        }
        all
    }

    fn take_end(&mut self, ended: Result<(Id, Result<(), LaneError>), JoinError>) -> Result<(), LaneError> {
        match ended {
            Ok((id, ended)) => {
                let partition = self.running.remove(&id).map(|lane| lane.partition);
                match ended {
                    // The log says so, too, or assigns the partition to us anew: both are on their way.
                    Err(error) if error.is_not_owner() => {
                        let partition = partition.map(|partition| partition.0);
                        tracing::warn!(log.partition = partition, %error, "the partition was taken away while it was told of");
                        Ok(())
                    }
                    ended => ended,
                }
            }
            // Lost, above.
            Err(error) if error.is_cancelled() => Ok(()),
            Err(error) => {
                self.running.remove(&error.id());
                Err(error.into())
            }
        }
    }
}
