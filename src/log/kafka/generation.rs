//! The one thing that rdkafka does not tell: the generation in which a member has joined its group.

use rdkafka::bindings;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::context::GroupContext;

/// The generation of the consumer's membership; below 0 if it has not joined.
#[expect(unsafe_code, reason = "rdkafka does not expose the generation of group metadata")]
pub(super) fn of(consumer: &BaseConsumer<GroupContext>) -> i32 {
    // SAFETY: the client lives as long as `consumer`, which is borrowed here, and librdkafka's calls are thread-safe. The
    // metadata is a copy that belongs to us: it is read and then destroyed, once, and no pointer to it leaves.
    unsafe {
        let metadata = bindings::rd_kafka_consumer_group_metadata(consumer.client().native_ptr());
        if metadata.is_null() {
            return -1;
        }
        let generation = bindings::rd_kafka_consumer_group_metadata_generation_id(metadata);
        bindings::rd_kafka_consumer_group_metadata_destroy(metadata);
        generation
    }
}
