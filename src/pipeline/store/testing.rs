//! What the rooms before leave, for tests of blocks: every column of the row is in use.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::clock::Clock;
use crate::config::Secret;
use crate::keys::Seals;
pub(crate) use crate::log::Batch;
use crate::log::journal::{Journal, JournalOptions};
use crate::log::{Assigned, EventLog, MemberEvent, Membership, Record, Topic};
use crate::model::*;
use crate::pipeline::alert::{Alerted, Found};
use crate::pipeline::decode::{self, Bounds, ForwardedFrom};
use crate::pipeline::enrich::{Device, Enriched};
use crate::pipeline::store::{Block, Origin, Retention};
use crate::pipeline::verify::Checked;

pub(crate) const LOG: &str = "00112233445566778899aabbccddeeff";

pub(crate) fn origin() -> Origin {
    let log = LogId::try_from(LOG.to_owned()).unwrap();
    Origin { log, topic: Topic::Events, partition: PartitionId(3) }
}

pub(crate) fn retention_of(days: &[(&str, u16)]) -> Retention {
    let by_tenant = days.iter().map(|(tenant, days)| (tenant.parse().unwrap(), *days));
    Retention::of(by_tenant.collect::<HashMap<_, _>>())
}

pub(crate) fn block_at(first: i64) -> Block {
    block_of(origin(), first)
}

pub(crate) fn block_of(origin: Origin, first: i64) -> Block {
    let retention = Arc::new(retention_of(&[("acme", 30)]));
    Block::new(origin, Offset::new(first).unwrap(), retention, "geo 1, rules 1".into(), bounds().seals)
}

/// The append time of an offset: a second each.
pub(crate) fn received(offset: i64) -> UnixMs {
    "2026-11-23T10:15:01Z".parse::<UnixMs>().unwrap() + Duration::from_secs(offset.unsigned_abs())
}

pub(crate) fn batch(offset: i64, value: &[u8]) -> Batch {
    let mut batch = Batch::default();
    batch.push(Offset::new(offset).unwrap(), received(offset), None, value, []);
    batch
}

/// Decodes `value` and pushes or rejects it.
pub(crate) fn push(block: &mut Block, offset: i64, value: &[u8]) {
    push_batch(block, &batch(offset, value));
}

pub(crate) fn push_batch(block: &mut Block, batch: &Batch) {
    for record in batch.iter() {
        match decode::decode(&record, &bounds()) {
            Ok(decoded) => {
                let enriched = enriched(decoded);
                block.push(&record, Alerted { enriched, found: Found::default() });
            }
            Err(rejected) => block.reject(&record, rejected),
        }
    }
}

pub(crate) fn reject(block: &mut Block, batch: &Batch) {
    for record in batch.iter() {
        block.reject(&record, decode::decode(&record, &bounds()).unwrap_err());
    }
}

pub(crate) fn push_finding(block: &mut Block, offset: i64, finding: Finding) {
    with_enriched(&batch(offset, &event("accepted", "alice")), |record, enriched| {
        let found = Found { findings: vec![finding], ..Found::default() };
        block.push(record, Alerted { enriched, found });
    });
}

pub(crate) fn with_enriched(batch: &Batch, look: impl FnOnce(&Record<'_>, Enriched<'_>)) {
    let record = batch.iter().next().unwrap();
    look(&record, enriched(decode::decode(&record, &bounds()).unwrap()));
}

fn enriched(mut decoded: decode::Decoded<'_>) -> Enriched<'_> {
    decoded.origin = Some(ForwardedFrom {
        log: LogId::try_from("f".repeat(32)).unwrap(),
        partition: PartitionId(1),
        offset: Offset::new(17).unwrap(),
        append_time: received(0),
        hops: 1,
        attested_by: None,
    });
    decoded.flags.set(Flag::Late);
    let verdict = Verdict::Token(GatewayVerdict::Valid);
    let place = Place {
        country: "FR".into(),
        subdivision: "Île-de-France".into(),
        city: "Paris".into(),
        lat: 48.8566,
        lon: 2.3522,
        accuracy_km: 20.0,
        own_radius: true,
        entry: 1,
    };
    let network =
        Network { asn: 64_496, as_org: "Example Télécom".into(), kind: NetworkKind::Access, label: None };
    Enriched {
        checked: Checked {
            decoded,
            verdict,
            proof: Proof::GatewayAttested,
            attested_by: Some("door".into()),
        },
        location: Some(Location { place: Some(Arc::new(place)), network, country_confirmed: Some(true) }),
        device: Some(Device { name: "Firefox on Linux".into() }),
        geo_build: "geo 1".into(),
    }
}

pub(crate) fn bounds() -> Bounds {
    Bounds {
        max_event_age: Duration::from_secs(40 * 24 * 3600),
        partitions: 4,
        seals: Arc::new(Seals::new(&Secret::new("of the tests".to_owned()))),
        ledger_key: None,
        forwarded_through: None,
        log: origin().log,
    }
}

/// An event with every member in use.
pub(crate) fn event(kind: &str, sub: &str) -> Vec<u8> {
    event_at(kind, sub, "2026-11-23T10:15:00.123Z")
}

pub(crate) fn event_at(kind: &str, sub: &str, time: &str) -> Vec<u8> {
    let event = json!({
        "version": 1, "id": "019aaf5e-2f7b-7c3a-9d1e-3b6f0c9a1e42", "kind": kind, "time": time, "tenant": "acme",
        "source": {"gateway": "edge-fra-1", "zone": "edge", "region": "eu-central", "epoch": "epoch-1", "seq": 18231},
        "token": {"ref": "kq0AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "jti_ref": "P0KJGLOum6xNWAaexWNuFh_flA5zEVplzYFX6xCuIWM",
            "outer_ref": "d1v6EvgMw30ZRCGrZArqzM2KrbEpPCAvyShUR94oXAI",
            "iss": "https://id.example/t/acme", "sub": sub, "subject_kind": "user", "tenant_id": "acme",
            "aud": ["https://api.example", "https://b.example"], "client_id": "web",
            "scope": ["orders:read", "orders:write"], "iat": 1_795_428_000, "nbf": 1_795_428_001, "exp": 1_795_431_600,
            "alg": "ES256", "kid": "k1", "typ": "at+jwt", "sid": "s1", "auth_time": 1_795_427_000, "acr": "urn:acr:1",
            "amr": ["pwd", "otp"], "family": "f1", "generation": 3,
            "act": [{"sub": "billing", "client_id": "billing"}, {"sub": "front"}],
            "parent_ref": "1Li-2hJlFpU0taZpbSxU8Our-du7CCkWCA92aJX0mk0",
            "origin_ref": "GBNmfOSW-Bo-N8p-k9ayxyj_7opgXlSMMDN_cjpYexc", "txn": "t1",
            "cnf": {"jkt": "j1", "x5t#S256": "x1"}},
        "request": {"id": "r1", "ip": "203.0.113.7", "peer_ip": "2001:db8::4", "user_agent": "Mozilla/5.0 (X11)",
            "ja4": "t13d1516h2_8daaf6152771_b186095e22b6", "method": "GET", "host": "api.example",
            "route": "/orders/{id}", "status": 200, "duration_ms": 2, "response_bytes": 5120,
            "presented_cnf": {"jkt": "j2", "x5t#S256": "x2"}},
        "gateway_verdict": "valid", "colour": "blue"});
    serde_json::to_vec(&event).unwrap()
}

pub(crate) fn heartbeat() -> Vec<u8> {
    let event = json!({
        "version": 1, "id": "019aaf5e-2f7b-7c3a-9d1e-3b6f0c9a1e43", "kind": "heartbeat",
        "time": "2026-11-23T10:15:00Z", "tenant": "_platform", "source": {"gateway": "edge-fra-1", "zone": "edge"},
        "heartbeat": {"sent": 10, "dropped": 0, "closing": false}});
    serde_json::to_vec(&event).unwrap()
}

pub(crate) fn finding(rule: RuleId, severity: Severity, revision: i64) -> Finding {
    let case = Case {
        finding_id: FindingId::of(rule, "acme", &["alice"], received(0)),
        revision: Offset::new(revision).unwrap(),
        rule,
        rule_version: 1,
        tenant: "acme".into(),
        iss: "https://id.example/t/acme".into(),
        sub: "alice".into(),
        subject_kind: Some(SubjectKind::User),
        client_id: "web".into(),
        gateway: "edge-fra-1".into(),
        kid: "k1".into(),
        case_start: received(0),
        first_time: received(0),
        last_time: received(revision),
        state: CaseState::Open,
        severity,
        confidence: Confidence::Medium,
        class: FindingClass::Security,
        lowered_by: vec!["vpn".into()],
        title: "A token in two places".into(),
        summary: "Paris, then Tokyo".into(),
        evidence: json!({"from": {"city": "Paris"}, "to": {"city": "Tokyo"}, "distance_km": 9712.5}),
        token_refs: vec!["kq0".into()],
        ips: vec!["203.0.113.7".parse().unwrap(), "2001:db8::4".parse().unwrap()],
        event_ids: vec![uuid::Uuid::from_u128(7)],
        event_count: 2,
        techniques: vec!["T1550.001".into()],
    };
    let is_alert = severity >= Severity::Medium;
    let not_alerted = (!is_alert).then_some(NotAlerted::Severity);
    Finding { case, is_alert, not_alerted, suppressed_by: String::new() }
}

/// A compact JWS, and its ref.
pub(crate) fn jws() -> (String, String) {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", part(r#"{"alg":"ES256"}"#), part(r#"{"sub":"mallory"}"#));
    let token_ref = crate::token::sha256_base64url(signed.as_bytes());
    (format!("{signed}.{}", part("a signature that must not be seen")), token_ref)
}

/// An alert of a finding, as the alert room makes it.
pub(crate) fn alert_of(finding: Finding) -> Alert {
    let origin = origin();
    Alert {
        step: Step::Opened,
        timestamp: finding.case.last_time,
        data: AlertData {
            finding,
            log: origin.log.to_string(),
            topic: origin.topic.name().to_owned(),
            partition: origin.partition.0,
            runbook_url: String::new(),
            query: String::new(),
            would_revoke: String::new(),
        },
    }
}

/// A journal of its own with all topics.
pub(crate) struct TestLog {
    pub(crate) journal: Arc<Journal>,
    _dir: tempfile::TempDir,
}

impl TestLog {
    pub(crate) async fn new() -> Self {
        Self::at(Clock::System).await
    }

    /// What it appends has the time of `clock`.
    pub(crate) async fn at(clock: Clock) -> Self {
        Self::with(JournalOptions::default(), clock).await
    }

    pub(crate) async fn with(options: JournalOptions, clock: Clock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = JournalOptions { reserve_bytes: 1 << 20, ..options };
        let journal = Journal::open(dir.path(), options, clock).unwrap();
        journal.migrate(&Topic::ALL.map(|topic| topic.spec(true))).await.unwrap();
        Self { journal, _dir: dir }
    }

    /// Becomes the owner of a partition of the events; the membership must be kept.
    pub(crate) async fn own(&self, partition: PartitionId) -> (Box<dyn Membership>, Assigned) {
        let mut member = self.journal.join("jwtrail-run", Topic::Events).await.unwrap();
        loop {
            match member.next().await.unwrap() {
                MemberEvent::Assigned(assigned) if assigned.partition == partition => {
                    return (member, assigned);
                }
                _ => {}
            }
        }
    }

    /// `jwtrail-origin` of the dead letters, in order.
    pub(crate) async fn dead_letters(&self) -> Vec<String> {
        let mut member = self.journal.join("jwtrail-test", Topic::DeadLetters).await.unwrap();
        let MemberEvent::Assigned(assigned) = member.next().await.unwrap() else { panic!("not assigned") };
        let (mut batch, mut origins) = (Batch::default(), Vec::new());
        let mut position = assigned.start;
        while position < assigned.end {
            assigned.lane.next(&mut batch, 100).await.unwrap();
            let origin = |record: Record<'_>| record.headers.get("jwtrail-origin").map(<[u8]>::to_vec);
            origins.extend(batch.iter().filter_map(origin).map(|origin| String::from_utf8(origin).unwrap()));
            position = batch.position().unwrap();
        }
        origins
    }
}
