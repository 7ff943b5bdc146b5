//! The embedded store keeps the contract, survives kill -9, and stays bounded.

mod kill;

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::issuer::store::contract::{UnderTest, begun, contract_suite, new_tenant, refresh};

struct OnDisk {
    store: Arc<Embedded>,
    ms: Arc<AtomicI64>,
    _dir: tempfile::TempDir,
}

#[async_trait]
impl UnderTest for OnDisk {
    const SPAN: Duration = Duration::from_secs(1_000);

    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ms = Arc::new(AtomicI64::new(1_800_000_000_000));
        let store = Embedded::open(dir.path(), Clock::Manual(Arc::clone(&ms))).unwrap();
        Self { store, ms, _dir: dir }
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as Arc<dyn Store>
    }

    async fn other(&self) -> Arc<dyn Store> {
        self.store()
    }

    fn now(&self) -> UnixMs {
        UnixMs::new(self.ms.load(Ordering::Relaxed))
    }

    async fn pass(&self, span: Duration) {
        self.ms.fetch_add(i64::try_from(span.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

contract_suite!(OnDisk);

#[tokio::test]
async fn one_process_has_it_and_the_next_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path(), Clock::System).unwrap();
    let (id, _) = begun(&*store, Clock::System.now()).await;
    refresh(&*store, &id, 1).await;
    let second = Embedded::open(dir.path(), Clock::System).map(|_| ()).unwrap_err();
    assert_eq!(second.code(), "store_unavailable");
    assert!(second.to_string().contains("in use by another process"), "{second}");
    drop(store);
    let store = Embedded::open(dir.path(), Clock::System).unwrap();
    assert!(matches!(refresh(&*store, &id, 2).await, Refreshed::Advanced { generation: 3, .. }));
}

#[tokio::test]
async fn what_has_ended_leaves_nothing_behind() {
    let under = OnDisk::open().await;
    for number in 0..500_u64 {
        let (id, _) = begun(&*under.store, under.now()).await;
        refresh(&*under.store, &id, 1).await;
        refresh(&*under.store, &id, 2).await;
        let until = under.now() + Duration::from_secs(60);
        under.store.first_use(&new_tenant(), &[7; 32], until).await.unwrap();
        under.store.revoke(&format!("ref:{number}"), until).await.unwrap();
    }
    under.pass(Duration::from_secs(100 * 24 * 60 * 60)).await;
    // Each write takes some of them along.
    for version in 0..100 {
        under.store.advance("tenant/acme", version, b"x").await.unwrap();
    }
    drop(under.store);
    let records = Records::open(under._dir.path(), Clock::System).unwrap();
    assert_eq!(records.count(), (2, 0), "the entry, and the last revocation's number");
}
