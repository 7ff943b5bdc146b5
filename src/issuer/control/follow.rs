//! Following the topic: what others write is in force here within a second.

use std::sync::Arc;
use std::time::Duration;

use super::{Control, PARTITION, SILENCE};
use crate::lifecycle::Lifecycle;
use crate::log::{Batch, LogError, Tail, Topic};
use crate::telemetry::{ByCode, Condition, Readiness};

/// So many records at once.
pub(super) const BATCH_RECORDS: usize = 1_000;

/// Between two tries, and between two looks at the silence.
const STEP: Duration = Duration::from_secs(1);

/// What keeps a [`Control`] up to date.
pub(crate) struct Following {
    control: Arc<Control>,
    tail: Box<dyn Tail>,
}

impl Following {
    pub(super) async fn begin(control: Arc<Control>) -> Result<Self, LogError> {
        let tail = control.log.tail(Topic::Control, PARTITION).await?;
        Ok(Self { control, tail })
    }

    /// Takes in all that is there; answers how many records that were.
    pub(super) async fn catch_up(&mut self) -> Result<usize, LogError> {
        let (mut batch, mut read) = (Batch::default(), 0);
        loop {
            self.tail.next(&mut batch, BATCH_RECORDS).await?;
            self.control.take_in(&batch);
            if batch.is_empty() {
                return Ok(read);
            }
            read += batch.len();
        }
    }

    /// Follows until the process drains. Condition `control`: an instance that hears nothing is not ready, for it may
    /// issue for a tenant that was suspended. Refused records do not count against it.
    pub(crate) async fn run(mut self, readiness: Readiness, lifecycle: Lifecycle) {
        let condition = readiness.condition("control");
        condition.met();
        loop {
            let ended = tokio::select! {
                ended = self.follow(&condition) => ended,
                // What was taken in is whole; what is owed, the next instance finds in the store.
                () = lifecycle.draining() => return,
            };
            let code = ended.code();
            self.control.metrics.log_calls_failed.get_or_create(&ByCode { code }).inc();
            tracing::warn!(code, error = %ended, "the control topic is not followed at the moment; it is tried again");
            // From the start: what is known already changes nothing.
            self.tail = loop {
                self.tell_silence(&condition);
                tokio::select! {
                    () = tokio::time::sleep(STEP) => {}
                    () = lifecycle.draining() => return,
                }
                match self.control.log.tail(Topic::Control, PARTITION).await {
                    Ok(tail) => break tail,
                    Err(error) => tracing::debug!(code = error.code(), %error, "the control topic is away"),
                }
            };
        }
    }

    /// Returns only with an error.
    async fn follow(&mut self, condition: &Condition) -> LogError {
        let mut batch = Batch::default();
        loop {
            {
                let next = self.tail.next(&mut batch, BATCH_RECORDS);
                tokio::pin!(next);
                // The call goes on over the looks: dropped, it would end the tail.
                let read = loop {
                    tokio::select! {
                        read = &mut next => break read,
                        () = tokio::time::sleep(STEP) => tell_silence(&self.control, condition),
                    }
                };
                if let Err(error) = read {
                    return error;
                }
            }
            self.control.take_in(&batch);
            condition.met();
            // Tried again after the next records, or the next quiet.
            if let Err(error) = self.control.pay_what_is_owed().await {
                tracing::warn!(code = error.code(), %error, "an entry of the control topic is still owed to it");
            }
        }
    }

    fn tell_silence(&self, condition: &Condition) {
        tell_silence(&self.control, condition);
    }
}

fn tell_silence(control: &Control, condition: &Condition) {
    let silent_ms = control.clock.now().since_ms(control.heard_at());
    if u128::try_from(silent_ms).is_ok_and(|silent| silent >= SILENCE.as_millis()) {
        condition.unmet(format!(
            "nothing was heard of the control topic for {} s: suspensions and revocations may be missed",
            silent_ms / 1_000
        ));
    }
}
