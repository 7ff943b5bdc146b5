//! Where events go that somebody waits for, at the door or at the issuer: into the log, and while that is away into the
//! spool before it.

use std::sync::Arc;

use aws_lc_rs::hmac;

use super::Spool;
use crate::log::{EventLog, LogError, NewRecord, Topic};
use crate::model::{Event, UnixMs};
use crate::pipeline::decode::{RETRIED_HEADER, seal_retried};

#[derive(Clone)]
pub(crate) enum Intake {
    /// A log in this process: it is there as long as the door is.
    Log(Arc<dyn EventLog>),
    /// A log that may be away.
    Spooled {
        spool: Arc<Spool>,
        /// Seals `jwtrail-retried`.
        key: Arc<hmac::Key>,
    },
}

impl Intake {
    /// Takes the `records` of `events`, in the same order; they are durable when it returns. `now`: before it is tried.
    pub(crate) async fn append(
        &self,
        events: &[Event<'_>],
        records: Vec<NewRecord>,
        now: UnixMs,
    ) -> Result<(), LogError> {
        match self {
            Self::Log(log) => log.append(Topic::Events, records).await.map(drop),
            Self::Spooled { spool, key } => {
                let held_back = || {
                    let both = events.iter().zip(&records);
                    both.map(|(event, record)| held_back(event, record.clone(), now, key)).collect()
                };
                spool.append(|| records.clone(), held_back).await
            }
        }
    }
}

fn held_back(event: &Event<'_>, mut record: NewRecord, since: UnixMs, key: &hmac::Key) -> NewRecord {
    let seal = seal_retried(event, &record.value, since, key);
    record.headers.push((RETRIED_HEADER.to_owned(), seal.into_bytes()));
    record
}
