//! What an operator is told where reading stands still because of a transaction that does not end.
//!
//! Ours end by themselves: with the next owner, or by their timeout. One that the broker's coordinator has ended, but of
//! which a partition never got the marker, is ended by nobody but an operator (KIP-664).

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::log::LogError;
use crate::model::{Offset, PartitionId};

/// Where the broker keeps the commits of groups.
const COMMITS: &str = "__consumer_offsets";

/// Of a partition that cannot be read beyond `stable`, its last stable offset: the first record of the oldest
/// transaction that is still open there.
pub(super) fn of_partition(topic: &str, partition: PartitionId, stable: Offset) -> String {
    format!(
        "a transaction that began at offset {stable} of partition {partition} of {topic} stays open. If this lasts, see \
         whether it hangs: `kafka-transactions.sh --bootstrap-server BROKER find-hanging --topic {topic} --partition \
         {partition} --max-transaction-timeout 1`; if that lists it, end it: `kafka-transactions.sh --bootstrap-server \
         BROKER abort --topic {topic} --partition {partition} --start-offset {stable}`"
    )
}

/// Of a producer that the broker does not initialise: it first ends the transaction that the owner before left open, in
/// every partition that this one wrote to. The next try may succeed.
pub(super) fn of_owner(id: &str, error: &dyn std::error::Error) -> LogError {
    LogError::Unavailable {
        doing: "taking over a partition",
        cause: format!(
            "the broker has not ended the transaction of the owner before ({error}). If this lasts while the broker \
             answers, see which partitions it waits for, and whether their leaders are there: `kafka-transactions.sh \
             --bootstrap-server BROKER describe --transactional-id {id}`"
        ),
    }
}

/// Of commits that the broker does not tell: it answers only when no transaction that writes one is open, and the client
/// asks again until its time is over.
pub(super) fn of_commits(doing: &'static str, error: &KafkaError) -> LogError {
    let cause = match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::OperationTimedOut) => format!(
            "the broker does not tell the group's commits ({error}). If this lasts while the broker answers, see whether \
             a transaction hangs in {COMMITS}: `kafka-transactions.sh --bootstrap-server BROKER find-hanging --topic \
             {COMMITS} --max-transaction-timeout 1`; end each that is listed, with the partition P and the start offset \
             O of its line: `kafka-transactions.sh --bootstrap-server BROKER abort --topic {COMMITS} --partition P \
             --start-offset O`"
        ),
        _ => error.to_string(),
    };
    LogError::Unavailable { doing, cause }
}
