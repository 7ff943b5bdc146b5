//! Keys that are made once, by however many instances, and open for nobody else.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::issuer::control::{Arbiter, Tenant};
use crate::issuer::store::Embedded;
use crate::log::Topic;
use crate::log::memory::MemoryLog;
use crate::spool::Intake;
use crate::telemetry::Metrics;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// A log and a store that instances share.
struct Region {
    log: Arc<MemoryLog>,
    arbiter: Arc<dyn Arbiter>,
    time: Arc<AtomicI64>,
    _dir: tempfile::TempDir,
}

impl Region {
    fn new() -> Self {
        let time = Arc::new(AtomicI64::new(1_795_428_000_000));
        let dir = tempfile::tempdir().unwrap();
        let topics = [Topic::Events, Topic::Control, Topic::Revocations].map(|topic| topic.spec(true));
        let log = Arc::new(MemoryLog::new(Clock::Manual(time.clone()), &topics));
        Self {
            log,
            arbiter: Embedded::open(dir.path(), Clock::Manual(time.clone())).unwrap(),
            time,
            _dir: dir,
        }
    }

    async fn keyring(&self, master: u8) -> Keyring {
        let (master, clock) = (MasterKey::of_bytes([master; 32]), Clock::Manual(self.time.clone()));
        let opened =
            Control::open(self.log.clone(), self.arbiter.clone(), &master, clock.clone(), Metrics::new())
                .await;
        let (control, _) = opened.unwrap();
        let intake = Intake::Log(self.log.clone());
        let ledger = Ledger::new(intake, &master, "issuer-1".to_owned(), None, clock.clone());
        Keyring::new(control, Arc::new(ledger), &master, clock)
    }
}

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

async fn make_acme(keyring: &Keyring) {
    let tenant = Tenant::new(keyring.clock.now());
    keyring.control.put(&EntryKey::of_tenant(&acme()), Expected::Absent, tenant).await.unwrap();
}

fn kids(keys: &TenantKeys, now: UnixMs) -> Vec<String> {
    let jwks = keys.jwks(now);
    let kid = |key: &Value| key["kid"].as_str().unwrap().to_owned();
    jwks["keys"].as_array().unwrap().iter().map(kid).collect()
}

#[tokio::test]
async fn two_instances_that_need_a_first_key_at_once_end_with_the_same_one() {
    let region = Region::new();
    let one = region.keyring(7).await;
    make_acme(&one).await;
    let other = region.keyring(7).await;
    let (acme, policy) = (acme(), Policy::default());
    let (from_one, from_other) = tokio::join!(one.keys(&acme, &policy), other.keys(&acme, &policy));
    let (from_one, from_other) = (from_one.unwrap(), from_other.unwrap());
    let now = one.clock.now();
    assert_eq!(kids(&from_one, now), kids(&from_other, now));
    assert_eq!(kids(&from_one, now).len(), 1);
    let (signer, verifier) = (from_one.signer(&policy, now).unwrap(), from_other);
    let signature = signer.key.sign(b"text").unwrap();
    let key = verifier.verifying(signer.key.kid(), now).unwrap();
    assert_eq!(key.state, KeyState::Active);
    key.key.verify(SigningAlg::Es256, b"text", &signature).unwrap();
}

#[tokio::test]
async fn keys_follow_each_other_and_the_old_private_half_goes() {
    let region = Region::new();
    let keyring = region.keyring(7).await;
    make_acme(&keyring).await;
    let (acme, policy) = (acme(), Policy::default());
    let first = kids(&keyring.keys(&acme, &policy).await.unwrap(), keyring.clock.now());
    region.time.fetch_add(29 * DAY_MS, Ordering::Relaxed);
    let keys = keyring.keys(&acme, &policy).await.unwrap();
    let now = keyring.clock.now();
    assert_eq!(kids(&keys, now).len(), 2, "the successor is published before it signs");
    assert_eq!(keys.signer(&policy, now).unwrap().key.kid(), first[0]);
    region.time.fetch_add(2 * DAY_MS, Ordering::Relaxed);
    let keys = keyring.keys(&acme, &policy).await.unwrap();
    let now = keyring.clock.now();
    assert_ne!(keys.signer(&policy, now).unwrap().key.kid(), first[0]);
    assert_eq!(keys.verifying(&first[0], now).unwrap().state, KeyState::Expired);
    assert!(!kids(&keys, now).contains(&first[0]));
    assert!(!keys.signers.contains_key(&first[0]), "its private half is destroyed");
}

#[tokio::test]
async fn another_tenants_sealed_key_opens_nothing() {
    let region = Region::new();
    let keyring = region.keyring(7).await;
    make_acme(&keyring).await;
    let keys = keyring.keys(&acme(), &Policy::default()).await.unwrap();
    let other: TenantId = "other".parse().unwrap();
    keyring
        .control
        .put(&EntryKey::of_tenant(&other), Expected::Absent, Tenant::new(keyring.clock.now()))
        .await
        .unwrap();
    let key = EntryKey::of::<KeySet>(&other, KeySet::NAME);
    keyring.control.put(&key, Expected::Absent, (*keys.set).clone()).await.unwrap();
    let refused = keyring.keys(&other, &Policy::default()).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code(), "key_unsealable");
}

#[tokio::test]
async fn a_tenant_with_every_algorithm_signs_with_the_first() {
    let region = Region::new();
    let keyring = region.keyring(7).await;
    make_acme(&keyring).await;
    let algs = vec![IssueAlg::EdDsa, IssueAlg::Es256, IssueAlg::Rs256, IssueAlg::Ps256];
    let policy = Policy { algs, ..Policy::default() };
    let keys = keyring.keys(&acme(), &policy).await.unwrap();
    let now = keyring.clock.now();
    assert_eq!(kids(&keys, now).len(), 4);
    assert_eq!(keys.signer(&policy, now).unwrap().key.alg(), SigningAlg::EdDsa);
}
