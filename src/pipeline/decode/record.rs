//! An event on its way to the log, as our own producers write it: CloudEvents 1.0, Kafka binding, binary mode.

use super::home_key;
use crate::log::NewRecord;
use crate::model::Event;

/// The record of an event: canonical JSON, its home key, its attributes as headers. Unsigned.
pub(crate) fn to_record(event: &Event<'_>) -> NewRecord {
    // Serialising cannot fail: names are strings and numbers finite. If it ever did, the empty value would be a dead
    // letter, not silence.
    let value = serde_json::to_vec(event).unwrap_or_default();
    let attributes = [
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", event.id.to_string()),
        ("ce_source", format!("/gateways/{}", event.source.gateway)),
        ("ce_type", format!("jwtrail.token.{}.v1", event.kind)),
        ("ce_time", event.time.to_string()),
        ("content-type", "application/json".to_owned()),
    ];
    NewRecord {
        key: Some(home_key(event)),
        partition: None,
        value,
        headers: attributes.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())).collect(),
    }
}
