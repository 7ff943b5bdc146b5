//! Tables of records: what becomes an event, what becomes a dead letter and why, where a record belongs.

mod door;
mod examples;
mod forwarding;
mod masking;
pub(crate) mod properties;
mod strict;
mod ticks;

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::config::Secret;
use crate::log::{Batch, NewRecord};
use crate::model::{LogId, Offset, UnixMs};

pub(super) const LOG: &str = "0123456789abcdef0123456789abcdef";

pub(super) fn received() -> UnixMs {
    "2026-11-23T10:15:01Z".parse().unwrap()
}

pub(super) fn bounds() -> Bounds {
    Bounds {
        max_event_age: Duration::from_secs(40 * 24 * 3600),
        partitions: 4,
        seals: Arc::new(Seals::new(&Secret::new("of the tests".to_owned()))),
        ledger_key: Some(std::sync::Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &[9; 32]))),
        forwarded_through: None,
        log: LogId::try_from(LOG.to_owned()).unwrap(),
    }
}

/// A batch of one record at offset 17 of partition 0.
pub(super) fn batch(record: &NewRecord) -> Batch {
    let mut batch = Batch::default();
    batch.clear(PartitionId(0));
    let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    let offset = Offset::new(17).unwrap();
    batch.push(offset, received(), record.key.as_deref(), &record.value, headers);
    batch
}

/// Decodes a record and hands the outcome to `look`.
pub(super) fn with<T>(record: &NewRecord, look: impl FnOnce(Result<Decoded<'_>, Rejected>) -> T) -> T {
    let batch = batch(record);
    let record = batch.iter().next().unwrap();
    look(decode(&record, &bounds()))
}

pub(super) fn bare(value: impl Into<Vec<u8>>) -> NewRecord {
    NewRecord { value: value.into(), ..NewRecord::default() }
}

/// EVENT's own example, every member in use.
pub(super) fn example() -> serde_json::Value {
    serde_json::json!({
        "version": 1, "id": "019aaf5e-2f7b-7c3a-9d1e-3b6f0c9a1e42", "kind": "accepted",
        "time": "2026-11-23T10:15:00.123Z", "tenant": "acme",
        "source": {"gateway": "edge-fra-1", "zone": "edge", "region": "eu-central",
            "epoch": "019aaf00-2f7b-7c3a-9d1e-3b6f0c9a1e42", "seq": 18231},
        "token": {"ref": "kq0AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "jti_ref": "P0KJGLOum6xNWAaexWNuFh_flA5zEVplzYFX6xCuIWM",
            "outer_ref": "d1v6EvgMw30ZRCGrZArqzM2KrbEpPCAvyShUR94oXAI",
            "iss": "https://id.example/t/acme", "sub": "alice", "subject_kind": "user", "tenant_id": "acme",
            "aud": ["https://api.example"], "client_id": "web", "scope": ["orders:read"],
            "iat": 1_795_428_000, "nbf": 1_795_428_000, "exp": 1_795_431_600, "alg": "ES256", "kid": "k1", "typ": "at+jwt",
            "sid": "s1", "auth_time": 1_795_427_000, "acr": "urn:acr:1", "amr": ["pwd", "otp"],
            "family": "f1", "generation": 3,
            "act": [{"sub": "billing", "iss": "https://id.example/t/acme", "client_id": "billing"}],
            "parent_ref": "1Li-2hJlFpU0taZpbSxU8Our-du7CCkWCA92aJX0mk0",
            "origin_ref": "GBNmfOSW-Bo-N8p-k9ayxyj_7opgXlSMMDN_cjpYexc", "txn": "t1", "cnf": {"jkt": "j1"}},
        "request": {"id": "r1", "ip": "203.0.113.7", "peer_ip": "198.51.100.4", "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
            "ja4": "t13d1516h2_8daaf6152771_b186095e22b6", "method": "GET", "host": "api.example",
            "route": "/orders/{id}", "status": 200, "duration_ms": 2, "response_bytes": 5120,
            "presented_cnf": {"jkt": "j1"}},
        "gateway_verdict": "valid"})
}

/// The example with one member set (`null` removes it).
pub(super) fn example_with(pointer: &str, value: serde_json::Value) -> Vec<u8> {
    let mut event = example();
    set(&mut event, pointer, value);
    serde_json::to_vec(&event).unwrap()
}

pub(super) fn set(event: &mut serde_json::Value, pointer: &str, value: serde_json::Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let members = event.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value);
    }
}

/// A compact JWS whose header is this JSON, and its ref.
pub(super) fn jws(header: &str) -> (String, String) {
    let signed = format!("{}.{}", encode(header), encode(r#"{"iss":"https://id.example","sub":"mallory"}"#));
    let token_ref = crate::token::sha256_base64url(signed.as_bytes());
    (format!("{signed}.{}", encode("a signature that must not be seen")), token_ref)
}

pub(super) fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}
