//! One destination: a member of its own consumer group, with a lane for every partition that it owns.

use std::sync::Arc;
use std::time::Duration;

use super::file::Lines;
use super::lane::LaneError;
use super::lanes::Lanes;
use super::pace::Pace;
use super::queue::{Answer, Job};
use super::rows::Rows;
use super::webhook::Webhook;
use crate::clock::Clock;
use crate::lifecycle::{Lifecycle, Phase};
use crate::log::{EventLog, MemberEvent, Membership, Topic};
use crate::pipeline::alert::Policy;
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
    /// Decides about the findings that deliveries themselves raise.
    pub(super) policy: Arc<Policy>,
    pub(super) retry_given_up: bool,
}

/// Between attempts to join.
const JOIN_PAUSE: Duration = Duration::from_secs(2);

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

    pub(super) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy)
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
        let group = super::group_of(&self.name);
        let mut member = tokio::select! {
            member = self.log.join(&group, Topic::Alerts) => member?,
            () = lifecycle.draining() => return Ok(()),
        };
        self.condition.met();
        let mut lanes = Lanes::default();
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
            // Cancel-safe, all three: a dropped `next` loses no change, a dropped `ended` no end.
            tokio::select! {
                event = member.next() => match event? {
                    MemberEvent::Assigned(assigned) => lanes.start(Arc::clone(self), assigned),
                    MemberEvent::Delayed { partitions, why } => {
                        tracing::warn!(?partitions, code = why.code(), error = %why, "partitions are waited for");
                    }
                    MemberEvent::Revoked { partition, done } => lanes.revoke(partition, done),
                    MemberEvent::Lost { partition } => lanes.lose(partition),
                },
                ended = lanes.ended() => ended?,
                () = lifecycle.draining() => return Ok(()),
            }
        }
    }
}
