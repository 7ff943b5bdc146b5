//! An issuer with tenants and clients, for the tests of grants and of their routes.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::issuer::control::{
    AudienceName, ClientKind, EntryKey, Expected, ScopeName, SecretHash, StoredSecret,
};
use crate::issuer::master::MasterKey;
use crate::issuer::store::Embedded;
use crate::log::Topic;
use crate::log::memory::MemoryLog;
use crate::model::PartitionId;
use crate::spool::Intake;
use crate::telemetry::Metrics;

pub(crate) const NOW: UnixMs = UnixMs::new(1_795_428_000_000);
pub(crate) const API: &str = "https://api.example";
pub(crate) const SECRET: &str = "a secret of 256 bits, say";

pub(crate) const CALLER: Caller<'_> = Caller {
    ip: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)),
    peer_ip: None,
    user_agent: None,
    request_id: None,
};

/// An issuer with the tenants `acme` and `other`, each with the same clients.
pub(crate) struct House {
    pub(crate) grants: Arc<Grants>,
    pub(crate) log: Arc<MemoryLog>,
    _dir: tempfile::TempDir,
}

pub(crate) fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn client(grants: &[Grant], owns: &[&str]) -> Client {
    let audience = |name: &&str| AudienceName::parse(name).unwrap();
    Client {
        kind: ClientKind::Confidential,
        secrets: vec![StoredSecret { sha256: SecretHash::of(SECRET), created_at: NOW }],
        jwks: Vec::new(),
        grants: grants.iter().copied().collect(),
        audiences: [API, "https://reports.example"].iter().map(audience).collect(),
        owns: owns.iter().map(audience).collect(),
        scopes: ["orders:read", "orders:write"].map(|name| ScopeName::parse(name).unwrap()).into(),
        disabled: false,
        created_at: NOW,
    }
}

impl House {
    pub(crate) async fn build() -> Self {
        let clock = Clock::Manual(Arc::new(NOW.get().into()));
        let dir = tempfile::tempdir().unwrap();
        let topics = [Topic::Events, Topic::Control, Topic::Revocations].map(|topic| topic.spec(true));
        let log = Arc::new(MemoryLog::new(clock.clone(), &topics));
        let arbiter = Embedded::open(dir.path(), clock.clone()).unwrap();
        let master = MasterKey::of_bytes([7; 32]);
        let (control, _) =
            Control::open(log.clone(), arbiter, &master, clock.clone(), Metrics::new()).await.unwrap();
        let intake = Intake::Log(log.clone());
        let ledger = Arc::new(Ledger::new(intake, &master, "issuer-1".to_owned(), None, clock.clone()));
        let keyring = Keyring::new(control.clone(), ledger.clone(), &master, clock.clone());
        let grants = Arc::new(Grants::new("https://id.example", control, keyring, ledger, clock));
        let house = Self { grants, log, _dir: dir };
        for name in ["acme", "other"] {
            house.put(&EntryKey::of_tenant(&tenant(name)), Tenant::new(NOW)).await;
            let clients = [
                ("web", client(&[Grant::ClientCredentials], &[])),
                ("api", client(&[], &[API])),
                ("gone", Client { disabled: true, ..client(&[Grant::ClientCredentials], &[]) }),
            ];
            for (id, client) in clients {
                house.put(&EntryKey::of::<Client>(&tenant(name), id), client).await;
            }
        }
        house
    }

    pub(crate) async fn put<E: crate::issuer::control::Entry>(&self, key: &EntryKey, entry: E) {
        self.grants.control.put(key, Expected::Any, entry).await.unwrap();
    }

    pub(crate) async fn ask(
        &self,
        id: &str,
        secret: &str,
        request: Request<'_>,
    ) -> Result<Issued, &'static str> {
        let presented = Presented { id, secret };
        self.grants.token(&tenant("acme"), &presented, request, CALLER).await.map_err(|error| error.code())
    }

    pub(crate) async fn active(&self, at: &str, id: &str, token: &str) -> bool {
        let presented = Presented { id, secret: SECRET };
        self.grants.introspect(&tenant(at), &presented, token).await.unwrap().is_some()
    }

    pub(crate) fn events(&self) -> String {
        let records = (0..4).flat_map(|partition| self.log.records(Topic::Events, PartitionId(partition)));
        records.map(|(.., record)| String::from_utf8(record.value).unwrap()).collect()
    }
}
