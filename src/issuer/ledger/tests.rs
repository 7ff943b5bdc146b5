//! Every kind of event, as the walk reads it, and what nobody may read in any.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::lifecycle::{Lifecycle, Phase};
use crate::log::memory::{LogFault, MemoryLog};
use crate::log::{Batch, EventLog, NewRecord, Topic};
use crate::model::{Offset, PartitionId, SubjectKind};
use crate::pipeline::decode::{Bounds, RejectReason, SIGNATURE_HEADER, decode};
use crate::spool::Spool;
use crate::telemetry::{Metrics, Readiness};

const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl";

fn master() -> MasterKey {
    MasterKey::of_bytes([7; 32])
}

fn log() -> MemoryLog {
    MemoryLog::new(Clock::System, &[Topic::Events.spec(true)])
}

fn ledger(intake: Intake) -> Ledger {
    Ledger::new(intake, &master(), "issuer-1".to_owned(), Some("eu-central".to_owned()), Clock::System)
}

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn caller(user_agent: &str) -> Caller<'_> {
    let ip = "203.0.113.7".parse().unwrap();
    Caller { ip, peer_ip: None, user_agent: Some(user_agent), request_id: Some("r-1") }
}

fn minted<'a>(token_ref: &'a str, sub: &'a str) -> Minted<'a> {
    let claims = ClaimedToken {
        iss: Some("https://id.example/t/acme".into()),
        subject_kind: Some(SubjectKind::User),
        client_id: Some("web".into()),
        family: Some("f-1".into()),
        generation: Some(3),
        iat: Some(1_795_428_000),
        exp: Some(1_795_428_600),
        ..ClaimedToken::default()
    };
    Minted { token_ref, sub, claims }
}

fn records(log: &MemoryLog) -> Vec<NewRecord> {
    (0..4)
        .flat_map(|partition| log.records(Topic::Events, PartitionId(partition)))
        .map(|(.., record)| record)
        .collect()
}

/// What the walk makes of a record, with the ledger key or another.
fn walked<T>(
    record: &NewRecord,
    key: Option<hmac::Key>,
    look: impl FnOnce(Result<&Event<'_>, RejectReason>) -> T,
) -> T {
    let bounds = Bounds { ledger_key: key.map(Arc::new), ..crate::pipeline::store::testing::bounds() };
    let mut batch = Batch::default();
    batch.clear(PartitionId(0));
    let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    batch.push(Offset::ZERO, Clock::System.now(), record.key.as_deref(), &record.value, headers);
    let read = batch.iter().next().unwrap();
    let decoded = decode(&read, &bounds);
    look(decoded.as_ref().map(|decoded| &decoded.event).map_err(|rejected| rejected.reason))
}

#[tokio::test]
async fn every_kind_is_an_event_of_the_walk() {
    let log = log();
    let ledger = ledger(Intake::Log(Arc::new(log.clone())));
    let token_ref = crate::token::sha256_base64url(b"token");
    let (username, kid) = (Username::parse("alice@acme.example").unwrap(), KeyId::parse(&token_ref).unwrap());
    let caller = caller("Mozilla/5.0");
    let token = || minted(&token_ref, "alice");
    let family =
        ClaimedToken { sub: Some("alice".into()), family: Some("f-1".into()), ..ClaimedToken::default() };
    let happened = [
        Happened::Issued { token: token(), grant: Grant::Login, caller },
        Happened::Refreshed { token: token(), retry: true, caller },
        Happened::Exchanged { token: token(), caller },
        Happened::LoginSucceeded { username: &username, client_id: "web", sub: "alice", caller },
        Happened::LoginFailed {
            username: LoginName::Known(&username),
            client_id: "web",
            failure: LoginFailure::BadPassword,
            caller,
        },
        Happened::Revoked { token: family, reason: "user_request", caller: None },
        Happened::KeyStateChanged { kid: &kid, state: KeyState::Retained },
        Happened::AdminChanged { kind: EntryKind::Client, name: "web", version: 3, by: "ops" },
    ];
    let ids = ledger.write(&acme(), &happened).await.unwrap();
    let kinds = [
        Kind::Issued,
        Kind::Refreshed,
        Kind::Exchanged,
        Kind::LoginSucceeded,
        Kind::LoginFailed,
        Kind::Revoked,
        Kind::KeyStateChanged,
        Kind::AdminChanged,
    ];
    let mut met = Vec::new();
    for record in records(&log) {
        walked(&record, Some(master().ledger()), |event| {
            let event = event.unwrap();
            let place = ids.iter().position(|id| *id == event.id).unwrap();
            assert_eq!(event.kind, kinds[place]);
            assert_eq!((&*event.tenant, &*event.source.gateway), ("acme", "issuer-1"));
            // As it was written, bounds and all.
            let again: Value = serde_json::from_slice(&record.value).unwrap();
            assert_eq!(serde_json::to_value(event).unwrap(), again);
            met.push(place);
        });
    }
    met.sort_unstable();
    assert_eq!(met, (0..happened.len()).collect::<Vec<_>>());
}

#[tokio::test]
async fn nobody_else_speaks_for_the_issuer() {
    let log = log();
    let ledger = ledger(Intake::Log(Arc::new(log.clone())));
    let token_ref = crate::token::sha256_base64url(b"token");
    let caller = caller("curl");
    let issued = Happened::Issued { token: minted(&token_ref, "alice"), grant: Grant::Login, caller };
    ledger.write(&acme(), &[issued]).await.unwrap();
    let record = records(&log).remove(0);
    let refused = |record: &NewRecord, key: Option<hmac::Key>| {
        walked(record, key, |event| assert_eq!(event.map(|_| ()), Err(RejectReason::IssuerSignatureInvalid)));
    };
    let key = || Some(master().ledger());
    walked(&record, key(), |event| assert!(event.is_ok()));
    refused(&record, None);
    refused(&record, Some(MasterKey::of_bytes([8; 32]).ledger()));
    refused(&record, Some(master().control()));

    let with_header = |value: String| {
        let mut changed = record.clone();
        changed.headers.retain(|(name, _)| name != SIGNATURE_HEADER);
        changed.headers.push((SIGNATURE_HEADER.to_owned(), value.into_bytes()));
        changed
    };
    let mut unsigned = record.clone();
    unsigned.headers.clear();
    refused(&unsigned, key());
    let mut changed = record.clone();
    changed.value = String::from_utf8(changed.value).unwrap().replace("alice", "mallo").into_bytes();
    refused(&changed, key());
    let tag = |key: &hmac::Key| URL_SAFE_NO_PAD.encode(hmac::sign(key, &record.value));
    // Another's signature, another algorithm, another's id, and none at all.
    let door = crate::keys::door(&crate::config::Secret::new("ingest".to_owned()));
    for header in [
        format!("ledger;hs256;{}", tag(&door)),
        format!("door;hs256;{}", tag(&master().ledger())),
        format!("ledger;ed25519;{}", tag(&master().ledger())),
        format!("ledger;hs256;{}=", tag(&master().ledger())),
        "ledger;hs256;".to_owned(),
    ] {
        refused(&with_header(header), key());
    }
}

#[tokio::test]
async fn no_token_and_no_password_is_in_any_of_it() {
    let log = log();
    let ledger = ledger(Intake::Log(Arc::new(log.clone())));
    let long = format!("agent {TOKEN} {}", "x".repeat(4_000));
    let failed = |name| Happened::LoginFailed {
        username: LoginName::Unknown(name),
        client_id: TOKEN,
        failure: LoginFailure::UnknownUser,
        caller: Caller { request_id: Some(TOKEN), ..caller(&long) },
    };
    let revoked = Happened::Revoked { token: ClaimedToken::default(), reason: TOKEN, caller: None };
    ledger.write(&acme(), &[failed("hunter2"), failed("hunter2"), failed("hunter3"), revoked]).await.unwrap();
    let globex = "globex".parse().unwrap();
    ledger.write(&globex, &[failed("hunter2")]).await.unwrap();
    let mut names = Vec::new();
    for record in records(&log) {
        let text = String::from_utf8(record.value.clone()).unwrap();
        assert!(!text.contains(TOKEN) && !text.contains("hunter"), "{text}");
        walked(&record, Some(master().ledger()), |event| {
            let login = event.unwrap().login.clone();
            names.extend(login.map(|login| login.username.unwrap().into_owned()));
        });
    }
    names.sort_unstable();
    names.dedup();
    // One name of one tenant is one name: tries to guess a name's password can be counted.
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("hmac:") && name.len() == 48), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_on_without_the_log_and_in_order() {
    let (log, dir) = (log(), tempfile::tempdir().unwrap());
    let token_ref = crate::token::sha256_base64url(b"token");
    let open = || Spool::open(dir.path(), 64 << 20, Arc::new(log.clone()), Clock::System, Metrics::new());
    let (spool, drain) = open().await.unwrap();
    let issuing = ledger(Intake::Spooled { spool, key: Arc::new(master().control()) });
    let mut ids = Vec::new();
    for _ in 0..5 {
        let caller = caller("curl");
        let issued = Happened::Issued { token: minted(&token_ref, "alice"), grant: Grant::Login, caller };
        // What comes after one that was spooled queues behind it.
        log.fail(LogFault::AppendFails);
        ids.extend(issuing.write(&acme(), &[issued]).await.unwrap());
    }
    assert!(records(&log).is_empty());
    // The next process finds them.
    drop((issuing, drain));
    log.heal();
    let (_spool, drain) = open().await.unwrap();
    let (lifecycle, shared): (_, Arc<dyn EventLog>) =
        (Lifecycle::new(Duration::from_secs(60)), Arc::new(log.clone()));
    lifecycle.spawn("drain", drain.run(shared, Readiness::default(), lifecycle.clone()));
    let drained = async {
        while records(&log).len() < ids.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), drained).await.expect("they never follow");
    lifecycle.advance(Phase::Draining);
    let lying: Vec<_> = records(&log)
        .iter()
        .map(|record| walked(record, Some(master().ledger()), |event| event.unwrap().id))
        .collect();
    assert_eq!(lying, ids);
}
