//! **deliver**: from the alerts outbox to webhooks and files (PROMISE 8).
//!
//! Each destination is a consumer group of its own, so a dead one delays no other. An alert is done when the destination
//! answered *and* its row is in ClickHouse; the commit then says so before anything else is told. So a repeat reaches a
//! receiver only if what was under way could not be written down: the process died between an answer and its commit; or
//! the group took the partition away unasked (the member was silent for a session, its producer was fenced), for then
//! the log takes no commit of it; or an answer came later than the seven seconds that a hand-over waits. It comes under
//! the same `webhook-id`.

mod pace;
mod progress;
mod queue;
mod runs;
mod storms;

mod file;
mod rows;
mod webhook;

mod courier;
mod lane;
mod lanes;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::courier::{Courier, Teller};
use self::file::Lines;
pub(crate) use self::pace::Pace;
pub(crate) use self::rows::FindingRows;
use self::rows::Rows;
use self::webhook::Webhook;
use crate::clock::Clock;
use crate::config::{Destination, DestinationKind};
use crate::lifecycle::Lifecycle;
use crate::log::{EventLog, LogError, Topic};
use crate::outbound::Timeouts;
use crate::pipeline::alert::Policy;
use crate::telemetry::{Metrics, Readiness};

/// What deliveries work with.
pub(crate) struct Deliver {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) destinations: Vec<Destination>,
    /// Where the rows of findings go: the ClickHouse client.
    pub(crate) rows: Arc<dyn FindingRows>,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    pub(crate) clock: Clock,
    pub(crate) pace: Pace,
    /// Decides about the findings that deliveries themselves raise.
    pub(crate) policy: Arc<Policy>,
    pub(crate) timeouts: Timeouts,
    /// `--retry`: begins with what was given up.
    pub(crate) retry_given_up: bool,
}

/// Why a destination cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliverError {
    #[error("destination {destination}: no usable `secret` to sign with")]
    NoSecret { destination: String },
    #[error("destination {destination}: no HTTP client could be made: {cause}")]
    Client { destination: String, cause: String },
}

/// Starts one task a destination, each until the process drains.
///
/// # Errors
/// If a destination cannot be used at all; then none is started.
pub(crate) fn run(deliver: Deliver, lifecycle: &Lifecycle) -> Result<(), DeliverError> {
    let Deliver {
        log,
        destinations,
        rows,
        metrics,
        readiness,
        clock,
        pace,
        policy,
        timeouts,
        retry_given_up,
    } = deliver;
    let rows = Arc::new(Rows::new(rows, metrics.clone()));
    let courier = |Destination { name, kind }: Destination| {
        let mut pace = pace;
        let teller = match kind {
            DestinationKind::Webhook { url, secrets, allow_private } => {
                Teller::Webhook(Webhook::new(&name, url, &secrets, allow_private, timeouts, clock.clone())?)
            }
            DestinationKind::File { path } => {
                // Lines in the order of the outbox.
                pace.at_once = 1;
                Teller::File(Lines::new(path))
            }
        };
        Ok(Arc::new(Courier {
            condition: readiness.condition(format!("destination {name}")),
            name,
            teller,
            log: Arc::clone(&log),
            rows: Arc::clone(&rows),
            metrics: metrics.clone(),
            clock: clock.clone(),
            pace,
            policy: Arc::clone(&policy),
            retry_given_up,
        }))
    };
    lifecycle.spawn("deliver readers", tell_readers(Arc::clone(&log), destinations.clone()));
    let couriers: Vec<Arc<Courier>> = destinations.into_iter().map(courier).collect::<Result<_, _>>()?;
    for courier in couriers {
        let task = format!("deliver {}", courier.name());
        lifecycle.spawn(task, courier.run(lifecycle.clone()));
    }
    Ok(())
}

/// The consumer groups of destinations: this, and the name.
const GROUP_PREFIX: &str = "jwtrail-deliver-";

fn group_of(destination: &str) -> String {
    format!("{GROUP_PREFIX}{destination}")
}

/// Says in the log who is to be told, and answers the destinations that were told once and are not any more: for them
/// nothing is kept. One that comes back goes on where it was, as far as the outbox reaches.
///
/// # Errors
/// If the log does not answer.
pub(crate) async fn removed(
    log: &dyn EventLog,
    destinations: &[Destination],
) -> Result<Vec<String>, LogError> {
    let groups: Vec<String> = destinations.iter().map(|destination| group_of(&destination.name)).collect();
    let others = log.set_readers(Topic::Alerts, &groups).await?;
    Ok(others.iter().filter_map(|group| group.strip_prefix(GROUP_PREFIX)).map(str::to_owned).collect())
}

async fn tell_readers(log: Arc<dyn EventLog>, destinations: Vec<Destination>) {
    match removed(log.as_ref(), &destinations).await {
        Ok(removed) => removed.iter().for_each(|destination| {
            tracing::info!(
                destination,
                "not told any more: it is not configured, and nothing is kept for it"
            );
        }),
        Err(error) => {
            tracing::warn!(code = error.code(), %error, "whether destinations were removed is not known");
        }
    }
}
