//! Any bytes as a record: no panic, no token that comes out again, and what is an event is one again as we write it.

use super::{MAX_RECORD_BYTES, decode, mask, to_record};
use crate::fuzz::parts;
use crate::log::{Batch, NewRecord};
use crate::model::{LogId, Offset, PartitionId, UnixMs};

/// Value, key, then names and values of headers.
pub(crate) fn record(data: &[u8]) {
    let mut parts = parts(data);
    let value = parts.next().unwrap_or_default();
    let key = parts.next().map(<[u8]>::to_vec);
    let mut headers = Vec::new();
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        headers.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
    }
    let record = NewRecord { key, value: value.to_vec(), headers, partition: None };
    let bounds = bounds();
    let batch = batch(&record);
    for record in batch.iter() {
        let decoded = match decode(&record, &bounds) {
            Ok(decoded) => decoded,
            Err(rejected) => {
                assert!(rejected.masked.len() <= MAX_RECORD_BYTES);
                nothing_to_mask(&rejected.masked);
                nothing_to_mask(rejected.field.as_bytes());
                continue;
            }
        };
        let written = to_record(&decoded.event);
        nothing_to_mask(&written.value);
        let batch = self::batch(&written);
        for record in batch.iter() {
            // Names and texts that were masked may have grown beyond their bounds.
            if let Ok(again) = decode(&record, &bounds) {
                assert_eq!(again.event, crate::model::Event { claimed_time: None, ..decoded.event.clone() });
            } else {
                assert!(!decoded.leaks.is_empty(), "what we write is an event, unless a mask made it longer");
            }
        }
    }
}

/// Masked once is masked for good.
pub(super) fn nothing_to_mask(bytes: &[u8]) {
    let masked = mask::mask_bytes(bytes, bytes.len());
    assert_eq!(String::from_utf8_lossy(&masked), String::from_utf8_lossy(bytes), "a token came out");
}

/// What the door admitted is an event of the log, and shows no token.
pub(crate) fn admitted(record: &NewRecord) {
    nothing_to_mask(&record.value);
    let batch = batch(record);
    for record in batch.iter() {
        assert!(decode(&record, &bounds()).is_ok(), "what the door admits is an event");
    }
}

fn bounds() -> super::Bounds {
    let ingest_key = crate::config::Secret::new("of the fuzzer".to_owned());
    super::Bounds {
        max_event_age: std::time::Duration::from_secs(40 * 24 * 60 * 60),
        partitions: 4,
        seals: std::sync::Arc::new(crate::keys::Seals::new(&ingest_key)),
        ledger_key: None,
        forwarded_through: None,
        log: LogId::draw(),
    }
}

fn batch(record: &NewRecord) -> Batch {
    let mut batch = Batch::default();
    batch.clear(PartitionId(0));
    let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    let received = UnixMs::new(1_795_428_900_000);
    batch.push(Offset::ZERO, received, record.key.as_deref(), &record.value, headers);
    batch
}
