//! What `/readyz` and the metrics say while something is waited for: of each partition by itself, and of the log and
//! ClickHouse as a whole, which are asked although nothing goes on.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Context, Course};
use crate::lifecycle::Lifecycle;
use crate::log::LogError;
use crate::model::PartitionId;
use crate::pipeline::patience::{Failure, Part, Trouble, Troubles};
use crate::telemetry::{ByCode, ByPartitionCode, Condition};

/// An answer that takes longer is none.
const ANSWER: Duration = Duration::from_secs(5);

/// Says what a partition waits for, for as long as it is polled.
pub(super) async fn tell(
    context: &Context,
    course: Course,
    partition: PartitionId,
    mut troubles: watch::Receiver<Troubles>,
) -> Infallible {
    let mut told = Told::new(context, course, partition);
    loop {
        let now = troubles.borrow_and_update().clone();
        told.show(now);
        if troubles.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// What a member says of partitions that are being taken over: they have no lane yet that could.
pub(super) struct Delays<'c> {
    context: &'c Context,
    course: Course,
    told: HashMap<PartitionId, Told<'c>>,
}

impl<'c> Delays<'c> {
    pub(super) fn new(context: &'c Context, course: Course) -> Self {
        Self { context, course, told: HashMap::new() }
    }

    /// The partition waits, or still does.
    pub(super) fn tell(&mut self, partition: PartitionId, why: &LogError) {
        let fresh = || Told::new(self.context, self.course, partition);
        let told = self.told.entry(partition).or_insert_with(fresh);
        let failures = told.last.get(&0).map_or(0, |trouble| trouble.failures) + 1;
        let (part, code, text) = (why.part(), why.word(), why.to_string());
        told.show(Troubles::from([(0, Trouble { part, code, text, failures })]));
    }

    /// It is taken over.
    pub(super) fn end(&mut self, partition: PartitionId) {
        self.told.remove(&partition);
    }
}

/// What is said of a partition; taken back when it is dropped.
struct Told<'c> {
    context: &'c Context,
    course: Course,
    partition: PartitionId,
    /// Only while something is waited for.
    condition: Option<Condition>,
    last: Troubles,
}

impl<'c> Told<'c> {
    fn new(context: &'c Context, course: Course, partition: PartitionId) -> Self {
        Self { context, course, partition, condition: None, last: Troubles::new() }
    }

    fn show(&mut self, now: Troubles) {
        let Self { context, course, partition, .. } = *self;
        for (number, trouble) in &now {
            let before = self.last.get(number).map_or(0, |before| before.failures);
            let failures = trouble.failures.checked_sub(before).unwrap_or(trouble.failures);
            if failures == 0 {
                continue;
            }
            context.count_failures(trouble.part, trouble.code, failures);
            tracing::warn!(
                kafka.topic = course.topic().name(),
                kafka.partition = partition.0,
                code = trouble.code,
                error = trouble.text,
                tries = trouble.failures,
                "the partition stands; it is tried again"
            );
        }
        self.mark(&now);
        let texts: Vec<&str> = now.values().map(|trouble| trouble.text.as_str()).collect();
        if texts.is_empty() {
            if let Some(condition) = self.condition.take() {
                tracing::info!(
                    kafka.topic = course.topic().name(),
                    kafka.partition = partition.0,
                    "the partition goes on"
                );
                condition.withdraw();
            }
        } else {
            let condition = self
                .condition
                .get_or_insert_with(|| context.readiness.condition(course.partition(partition)));
            condition.unmet(texts.join("; "));
        }
        self.last = now;
    }

    /// The gauge has a line for each code that is waited for, and none for others.
    fn mark(&self, now: &Troubles) {
        let codes = |troubles: &Troubles| -> BTreeSet<&'static str> {
            troubles.values().map(|trouble| trouble.code).collect()
        };
        let (before, now) = (codes(&self.last), codes(now));
        let by =
            |code| ByPartitionCode { topic: self.course.topic().name(), partition: self.partition.0, code };
        for &code in &now {
            self.context.metrics.partition_waiting.get_or_create(&by(code)).set(1);
        }
        for &code in before.difference(&now) {
            self.context.metrics.partition_waiting.remove(&by(code));
        }
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.show(Troubles::new());
    }
}

impl Context {
    pub(super) fn count_failures(&self, part: Part, code: &'static str, failures: u64) {
        let counter = match part {
            Part::Log => &self.metrics.log_calls_failed,
            Part::ClickHouse => &self.metrics.clickhouse_calls_failed,
        };
        counter.get_or_create(&ByCode { code }).inc_by(failures);
    }
}

/// Asks the log and ClickHouse for a sign of life, again and again, until the process drains: an outage is to be seen
/// although no record comes.
pub(super) async fn probe(context: Arc<Context>, lifecycle: Lifecycle) {
    let (log, clickhouse) = (context.readiness.condition("log"), context.readiness.condition("clickhouse"));
    loop {
        let (of_log, of_clickhouse) =
            tokio::join!(answer(log_answers(&context)), answer(context.store.ping()));
        show(&log, of_log);
        show(&clickhouse, of_clickhouse);
        tokio::select! {
            () = tokio::time::sleep(context.pace.probe_every) => {}
            () = lifecycle.draining() => return,
        }
    }
}

async fn log_answers(context: &Context) -> Result<(), LogError> {
    context.log.health().await?;
    // A topic may be gone although the brokers answer.
    for course in Course::ALL {
        context.log.partitions(course.topic()).await?;
    }
    Ok(())
}

async fn answer<E: Failure>(asked: impl Future<Output = Result<(), E>>) -> Result<(), String> {
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(answered) => answered.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", ANSWER.as_secs())),
    }
}

fn show(condition: &Condition, answered: Result<(), String>) {
    match answered {
        Ok(()) => condition.met(),
        Err(why) => condition.unmet(why),
    }
}
