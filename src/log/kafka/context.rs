//! What librdkafka tells: its log lines go to tracing, its rebalances to the member's keeper.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

/// A client that logs, and tells why it was not let in.
#[derive(Default)]
pub(super) struct LogContext(pub(super) Arc<Refused>);

/// Why the brokers would not have a client, as they said it last, and what to do about it. What a call says of the same is
/// that it took too long.
#[derive(Default)]
pub(super) struct Refused(Mutex<Option<String>>);

impl Refused {
    pub(super) fn why(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `None`: they answer, whatever kept them from it is over.
    pub(super) fn set(&self, why: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}

/// Why a client was not let in, if that is what an error of librdkafka's says. Its own text names hosts and causes, and
/// never a password.
fn refusal(error: &KafkaError, reason: &str) -> Option<String> {
    match error.rdkafka_error_code()? {
        RDKafkaErrorCode::Authentication => Some(
            "the brokers refuse the user or the password: check sasl.username, sasl.password and sasl.mechanism in \
             [kafka.properties]"
                .to_owned(),
        ),
        RDKafkaErrorCode::SSL if reason.contains("certificate") => Some(
            "the brokers' certificate is none that is trusted for their name: let ssl.ca.location in [kafka.properties] \
             name the PEM file of the CA that signed it, and brokers name them as the certificate does"
                .to_owned(),
        ),
        RDKafkaErrorCode::SSL => Some(
            "TLS with the brokers fails: check security.protocol in [kafka.properties], and that the port is one for TLS"
                .to_owned(),
        ),
        _ => None,
    }
}

impl ClientContext for LogContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(refusal) = refusal(&error, reason) {
            self.0.set(Some(refusal));
        }
        report(&error, reason);
    }
}

/// The producers of lanes: whether a record arrived shows in the transaction's outcome.
impl ProducerContext for LogContext {
    type DeliveryOpaque = ();

    fn delivery(&self, _result: &DeliveryResult<'_>, _opaque: ()) {}
}

fn log(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        // `[kafka.properties]` go to every client, and each warns of those that are another's.
        _ if facility == "CONFWARN" => tracing::debug!(target: "librdkafka", facility, "{line}"),
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::error!(target: "librdkafka", facility, "{line}"),
        RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{line}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", facility, "{line}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{line}"),
    }
}

fn report(error: &KafkaError, reason: &str) {
    // Not an error: the lane that stands at the end hears of it, too.
    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
        return;
    }
    tracing::warn!(target: "librdkafka", "{error}: {reason}");
}

/// What the group wants of this member. Each must be answered before the next comes.
#[derive(Debug)]
pub(super) enum Rebalance {
    Assign(Vec<i32>),
    Revoke {
        partitions: Vec<i32>,
        /// Others may own them already.
        lost: bool,
    },
}

/// The context of a member's consumer.
#[derive(Default)]
pub(super) struct GroupContext {
    rebalances: Mutex<VecDeque<Rebalance>>,
    /// The member leaves: revocations are answered where they arrive, for closing waits until they are.
    leaving: AtomicBool,
}

impl GroupContext {
    pub(super) fn next_rebalance(&self) -> Option<Rebalance> {
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
    }

    pub(super) fn leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        report(&error, reason);
    }
}

impl ConsumerContext for GroupContext {
    /// Runs inside of `poll`: takes the list and returns; the keeper answers later.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assign = event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.leaving() {
            let answered =
                if assign { consumer.incremental_assign(list) } else { consumer.incremental_unassign(list) };
            if let Err(error) = answered {
                tracing::debug!(%error, "a rebalance while leaving the group was not answered");
            }
            return;
        }
        let partitions = list.elements().iter().map(|element| element.partition()).collect();
        let rebalance = if assign {
            Rebalance::Assign(partitions)
        } else {
            Rebalance::Revoke { partitions, lost: consumer.assignment_lost() }
        };
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push_back(rebalance);
    }
}
