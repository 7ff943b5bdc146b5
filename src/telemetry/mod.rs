//! What the process says of itself: log lines, the catalogue of metrics, and whether it is ready.
//!
//! The rooms do not emit; the corridor, the door and `deliver` do. No metric is labelled by tenant, and nothing here ever
//! sees a token or a secret.

mod catalogue;
mod logging;
mod readiness;
mod routes;

pub(crate) use catalogue::{
    ByCode, ByDelivery, ByDestination, ByKind, ByOutcome, ByPartition, ByPartitionCode, ByReason, ByResult,
    ByRule, ByStage, ByStep, ByWay, Metrics, Outcome, Stage,
};
pub(crate) use logging::{filter, start_logging};
pub(crate) use readiness::{Condition, Readiness};
pub(crate) use routes::{listen, routes};
