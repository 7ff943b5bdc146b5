//! One destination: a member of its own consumer group, with a lane for every partition that it owns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::file::Lines;
use super::lane::{self, LaneError};
use super::queue::{Answer, Job, Pace};
use super::rows::Rows;
use super::webhook::Webhook;
use crate::clock::Clock;
use crate::lifecycle::{Lifecycle, Phase};
use crate::log::{Assigned, EventLog, MemberEvent, Membership, Topic};
use crate::model::PartitionId;
use crate::telemetry::{ByCode, Condition, Metrics};

/// How a destination is told.
pub(super) enum Teller {
    Webhook(Webhook),
    File(Lines),
}

/// One destination and what it works with.
pub(super) struct Courier {
    pub(super) name: String,
    pub(super) teller: Teller,
    pub(super) log: Arc<dyn EventLog>,
    pub(super) rows: Arc<Rows>,
    pub(super) metrics: Metrics,
    pub(super) condition: Condition,
    pub(super) clock: Clock,
    pub(super) pace: Pace,
    pub(super) retry_given_up: bool,
}

/// Between attempts to join.
const JOIN_PAUSE: Duration = Duration::from_secs(2);

/// Lanes that run, and how to stop each.
struct Lanes {
    tasks: JoinSet<(PartitionId, Result<(), LaneError>)>,
    running: BTreeMap<PartitionId, (watch::Sender<bool>, AbortHandle)>,
}

impl Courier {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) const fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) fn rows(&self) -> &Rows {
        &self.rows
    }

    pub(super) const fn pace(&self) -> Pace {
        self.pace
    }

    pub(super) const fn retries_given_up(&self) -> bool {
        self.retry_given_up
    }

    pub(super) fn count_failure(&self, error: &LaneError) {
        self.metrics.log_calls_failed.get_or_create(&ByCode { code: error.code() }).inc();
    }

    pub(super) async fn tell(&self, job: &Job) -> Answer {
        match &self.teller {
            Teller::Webhook(webhook) => webhook.tell(job).await,
            Teller::File(lines) => lines.tell(job).await,
        }
    }

    /// Runs until the process drains; whatever the log does, it joins again.
    pub(super) async fn run(self: Arc<Self>, lifecycle: Lifecycle) {
        while lifecycle.phase() == Phase::Running {
            let ended = tokio::select! {
                ended = Arc::clone(&self).as_member(&lifecycle) => ended,
                // Nothing is committed: what was told and not committed is told again.
                () = lifecycle.aborting() => return,
            };
            let Err(error) = ended else { return };
            self.count_failure(&error);
            self.condition.unmet(error.to_string());
            tracing::warn!(destination = self.name, code = error.code(), %error, "the outbox was lost, and is joined again");
            tokio::select! { () = tokio::time::sleep(JOIN_PAUSE) => {} () = lifecycle.draining() => {} }
        }
    }

    /// One membership, from joining to draining.
    async fn as_member(self: Arc<Self>, lifecycle: &Lifecycle) -> Result<(), LaneError> {
        let group = format!("jwtrail-deliver-{}", self.name);
        let mut member = tokio::select! {
            member = self.log.join(&group, Topic::Alerts) => member?,
            () = lifecycle.draining() => return Ok(()),
        };
        self.condition.met();
        let mut lanes = Lanes { tasks: JoinSet::new(), running: BTreeMap::new() };
        let ended = self.serve(member.as_mut(), &mut lanes, lifecycle).await;
        // However it ended, the lanes that still can write down what they have told.
        let stopped = lanes.stop_all().await;
        ended.and(stopped)
    }

    async fn serve(
        self: &Arc<Self>,
        member: &mut dyn Membership,
        lanes: &mut Lanes,
        lifecycle: &Lifecycle,
    ) -> Result<(), LaneError> {
        loop {
            // Cancel-safe, all three: a dropped `next` loses no change, and a lane's end stays in the set.
            tokio::select! {
                event = member.next() => match event? {
                    MemberEvent::Assigned(assigned) => lanes.start(Arc::clone(self), assigned),
                    MemberEvent::Revoked { partition, done } => {
                        lanes.stop(partition).await?;
                        drop(done);
                    }
                    MemberEvent::Lost { partition } => lanes.abort(partition),
                },
                Some(ended) = lanes.tasks.join_next(), if !lanes.tasks.is_empty() => lanes.ended(ended)?,
                () = lifecycle.draining() => return Ok(()),
            }
        }
    }
}

impl Lanes {
    fn start(&mut self, courier: Arc<Courier>, assigned: Assigned) {
        let (partition, stop) = (assigned.partition, watch::Sender::new(false));
        let stopped = stop.subscribe();
        let task = async move { (partition, lane::run(courier, assigned, stopped).await) };
        let handle = self.tasks.spawn(task);
        self.running.insert(partition, (stop, handle));
    }

    /// Lets the partition's lane take its last answers, and waits for it.
    async fn stop(&mut self, partition: PartitionId) -> Result<(), LaneError> {
        if let Some((stop, _)) = self.running.get(&partition) {
            stop.send_replace(true);
        }
        while self.running.contains_key(&partition)
            && let Some(ended) = self.tasks.join_next().await
        {
            self.ended(ended)?;
        }
        Ok(())
    }

    /// Stops every lane and waits for each; the first error, if any.
    async fn stop_all(&mut self) -> Result<(), LaneError> {
        for (stop, _) in self.running.values() {
            stop.send_replace(true);
        }
        let mut all = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            all = all.and(self.ended(ended));
        }
        all
    }

    /// Another owner may have the partition already.
    fn abort(&mut self, partition: PartitionId) {
        if let Some((_, task)) = self.running.remove(&partition) {
            task.abort();
        }
    }

    fn ended(
        &mut self,
        ended: Result<(PartitionId, Result<(), LaneError>), tokio::task::JoinError>,
    ) -> Result<(), LaneError> {
        match ended {
            Ok((partition, ended)) => {
                self.running.remove(&partition);
                ended
            }
            // Aborted above.
            Err(error) if error.is_cancelled() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
