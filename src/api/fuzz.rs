//! Any bytes as a request to the door: what it admits is an event of the log.

use axum::http::{HeaderMap, HeaderValue, header};
use uuid::Uuid;

use super::body::{MAX_EVENTS, MAX_UNPACKED_BYTES, events, unpack};
use crate::fuzz::parts;
use crate::model::{UnixMs, Zone};
use crate::pipeline::decode::fuzz::admitted;
use crate::pipeline::decode::lenient::{Arrival, Credential, admit};

/// Content-Type, Content-Encoding, then the body, zeros and all.
pub(crate) fn body(data: &[u8]) {
    let mut headers = HeaderMap::new();
    let mut body = data;
    for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING] {
        let value = parts(body).next().unwrap_or_default();
        body = body.get(value.len() + 1..).unwrap_or_default();
        if let Ok(value) = HeaderValue::from_bytes(value)
            && !value.is_empty()
        {
            headers.insert(name, value);
        }
    }
    let Ok(text) = unpack(&headers, body) else { return };
    assert!(text.len() <= MAX_UNPACKED_BYTES.max(body.len()));
    let Ok(events) = events(&headers, &text) else { return };
    assert!(events.len() <= MAX_EVENTS);
    let gateway = Credential::Gateway {
        gateway: "edge-fra-1".to_owned(),
        zone: Zone::Edge,
        tenants: "acme".parse().into_iter().collect(),
    };
    let (now, fresh_id) = (UnixMs::new(1_795_428_900_000), Uuid::from_u128(1));
    let arrival = Arrival { now, fresh_id, door_epoch: Some(Uuid::from_u128(2)) };
    for event in events {
        for credential in [&gateway, &Credential::Ingest] {
            if let Ok(taken) = admit(event.as_bytes(), credential, arrival) {
                admitted(&taken.record);
            }
        }
    }
}
