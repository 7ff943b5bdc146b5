//! What goes on beside the walk, which never waits for it: a tick where nothing else comes, and how far the commit is
//! behind the log.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Filling, OwnedLane, Step};
use crate::telemetry::ByPartition;

/// How often the log is asked how far the commit is behind it.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// Something that goes on beside the walk, and that the walk never waits for.
pub(super) struct Beside<T>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T> Default for Beside<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Beside<T> {
    fn begin(&mut self, task: impl Future<Output = T> + Send + 'static) {
        self.0 = Some(Box::pin(task));
    }

    const fn is_under_way(&self) -> bool {
        self.0.is_some()
    }

    /// Resolves when it ends; never while there is nothing.
    pub(super) async fn ended(&mut self) -> T {
        let ended = match &mut self.0 {
            Some(task) => task.await,
            None => std::future::pending().await,
        };
        self.0 = None;
        ended
    }
}

impl OwnedLane {
    /// When to look whether a timer waits; only while there is nothing to walk.
    pub(super) fn quiet_until(&self, step: Option<&Step>) -> Option<Instant> {
        let is_quiet = !self.ticking.is_under_way() && matches!(step, Some(Step::Fetching(_)));
        is_quiet.then(|| self.quiet_since + self.context.pace.tick_after)
    }

    /// Appends a tick, if the time of a timer has come by the clock: none without need. One that is lost, or that the
    /// log's own clock finds too early, is followed by another.
    pub(super) fn let_time_pass(&mut self) {
        self.quiet_since = Instant::now();
        let Some(Filling { walk, position, .. }) = &self.filling else { return };
        let is_due = |due| due <= self.context.clock.now();
        let is_under_way = self.ticked.is_some_and(|ticked| *position <= ticked);
        if is_under_way || !walk.next_due().is_some_and(is_due) {
            return;
        }
        let (context, topic, partition) = (Arc::clone(&self.context), self.course.topic(), self.partition);
        let tick = walk.tick(*position);
        self.ticking.begin(async move {
            match context.log.append(topic, vec![tick]).await {
                Ok(placed) => placed.first().map(|placed| placed.offset),
                Err(error) => {
                    tracing::warn!(kafka.partition = partition.0, code = error.code(), %error, "a tick is not appended");
                    None
                }
            }
        });
    }

    /// When to look how far the commit is behind the log.
    pub(super) fn measure_at(&self) -> Option<Instant> {
        (!self.measuring.is_under_way()).then(|| self.lag_measured + MEASURE_EVERY)
    }

    /// How far the commit is behind the log. A log that does not answer leaves the gauge as it was.
    pub(super) fn measure_lag(&mut self) {
        self.lag_measured = Instant::now();
        let (context, settler) = (Arc::clone(&self.context), Arc::clone(&self.settler));
        let (topic, partition) = (self.course.topic().name(), self.partition.0);
        self.measuring.begin(async move {
            if let Ok(lag) = settler.lag().await {
                let by = ByPartition { topic, partition };
                context.metrics.lag_records.get_or_create(&by).set(lag);
            }
        });
    }
}
