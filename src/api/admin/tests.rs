//! The admin API over HTTP, on real instances that share a log and a store.

use std::time::Duration;

use reqwest::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use super::*;
use crate::issuer::{AdminKey, Embedded, MasterKey, Role, TenantStatus};
use crate::lifecycle::Lifecycle;
use crate::log::Topic;
use crate::log::memory::MemoryLog;
use crate::model::{PartitionId, UnixMs};
use crate::spool::Intake;
use crate::telemetry::{Metrics, Readiness};

/// For what comes in a moment if it comes at all.
const PATIENCE: Duration = Duration::from_secs(60);

const KEY: &str = "jwtrail_admin_of_the_installation";

/// A log and a store that instances share.
pub(crate) struct Region {
    log: MemoryLog,
    store: Arc<Embedded>,
    lifecycle: Lifecycle,
    _dir: tempfile::TempDir,
}

/// One instance and its address.
pub(crate) struct Instance {
    control: Arc<Control>,
    base: String,
    http: reqwest::Client,
}

impl Region {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = MemoryLog::new(Clock::System, &[Topic::Control.spec(true), Topic::Events.spec(true)]);
        let store = Embedded::open(dir.path(), Clock::System).unwrap();
        Self { log, store, lifecycle: Lifecycle::new(PATIENCE), _dir: dir }
    }

    pub(crate) async fn start(&self) -> Instance {
        let (clock, master) = (Clock::System, MasterKey::of_bytes([7; 32]));
        let log = Arc::new(self.log.clone());
        let opened =
            Control::open(log.clone(), self.store.clone(), &master, clock.clone(), Metrics::new()).await;
        let (control, following) = opened.unwrap();
        self.lifecycle.spawn("control", following.run(Readiness::default(), self.lifecycle.clone()));
        let ledger = Ledger::new(Intake::Log(log), &master, "admin-1".to_owned(), None, clock.clone());
        let key = Secret::new(KEY.to_owned());
        let admin = Admin::new(Arc::clone(&control), Arc::new(ledger), Some(&key), clock);
        let listening =
            crate::telemetry::listen(([127, 0, 0, 1], 0).into(), routes(admin), &self.lifecycle).await;
        let base = format!("http://{}/admin/v1", listening.unwrap());
        Instance { control, base, http: reqwest::Client::new() }
    }

    /// The events that were written.
    fn events(&self) -> Vec<Value> {
        let partitions = (0..4).flat_map(|partition| self.log.records(Topic::Events, PartitionId(partition)));
        partitions.map(|(.., record)| serde_json::from_slice(&record.value).unwrap()).collect()
    }
}

impl Instance {
    /// Where it listens, and the key that opens it.
    pub(crate) fn door(&self) -> (&str, Secret) {
        (&self.base, Secret::new(KEY.to_owned()))
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(KEY)
    }

    async fn make(&self, path: &str, body: Value) -> Value {
        let made = self.call(Method::PUT, path).header(IF_NONE_MATCH, "*").json(&body).send().await.unwrap();
        assert_eq!(made.status(), 201, "{path}");
        made.json().await.unwrap()
    }

    async fn get_as(&self, key: &str, path: &str) -> (u16, Value) {
        told(self.http.get(format!("{}{path}", self.base)).bearer_auth(key).send().await.unwrap()).await
    }
}

async fn told(response: Response) -> (u16, Value) {
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

#[tokio::test]
async fn a_secret_is_shown_once_and_two_live_while_one_replaces_the_other() {
    let region = Region::new();
    let instance = region.start().await;
    instance.make("/tenants/acme", json!({})).await;
    let made = instance
        .make("/tenants/acme/clients/web", json!({"grants": ["client_credentials"], "scopes": ["read"]}))
        .await;
    let first = made["client_secret"].as_str().unwrap().to_owned();
    let live = |secret: &str| {
        let client = instance.control.get::<crate::issuer::Client>("acme", "web").unwrap().entry;
        client.secrets.iter().any(|stored| stored.sha256.is_of(secret))
    };
    assert!(live(&first));
    let (_, shown) = instance.get_as(KEY, "/tenants/acme/clients/web").await;
    assert!(shown.get("client_secret").is_none() && shown["scopes"] == json!(["read"]), "{shown}");

    let act = async |name: &str, version: u64| {
        let call = instance.call(Method::POST, &format!("/tenants/acme/clients/web/{name}"));
        told(call.header(IF_MATCH, format!("\"{version}\"")).send().await.unwrap()).await
    };
    let (status, rotated) = act("rotate", 1).await;
    let second = rotated["client_secret"].as_str().unwrap().to_owned();
    assert!(status == 200 && live(&first) && live(&second));
    assert_eq!(act("rotate", 1).await.0, 412, "of a version that is no more");
    assert_eq!(act("retire", 2).await.0, 200);
    assert!(!live(&first) && live(&second));

    let events = region.events();
    let changes: Vec<_> = events.iter().map(|event| event["data"]["change"].clone()).collect();
    assert_eq!(events.len(), 4, "one an act: {changes:?}");
    let text = serde_json::to_string(&events).unwrap();
    assert!(!text.contains(&first) && !text.contains(&second) && !text.contains(KEY));
}

#[tokio::test]
async fn a_tenants_administrator_sees_its_own_tenant_and_no_other() {
    let region = Region::new();
    let instance = region.start().await;
    for tenant in ["acme", "globex"] {
        instance.make(&format!("/tenants/{tenant}"), json!({})).await;
        instance.make(&format!("/tenants/{tenant}/clients/web"), json!({})).await;
    }
    let key_of = async |name: &str, expires_at: i64| {
        let key = format!("jwtrail_admin_{}_{name}", "k".repeat(43));
        let entry = AdminKey {
            sha256: SecretHash::of(&key),
            role: Role::Tenant("acme".parse().unwrap()),
            expires_at: UnixMs::new(expires_at),
            created_at: UnixMs::new(0),
        };
        let place = EntryKey::of_platform::<AdminKey>(name);
        instance.control.put(&place, Expected::Absent, entry).await.unwrap();
        key
    };
    let key = key_of("kim", i64::MAX).await;
    let (_, tenants) = instance.get_as(&key, "/tenants").await;
    assert_eq!(tenants["items"].as_array().unwrap().len(), 1);
    assert_eq!(tenants["items"][0]["name"], "acme");
    assert_eq!(instance.get_as(&key, "/tenants/acme/clients/web").await.0, 200);

    let foreign = instance.get_as(&key, "/tenants/globex/clients/web").await;
    assert_eq!(foreign.0, 404);
    assert_eq!(
        foreign,
        instance.get_as(&key, "/tenants/nobody/clients/web").await,
        "nothing tells them apart"
    );
    assert_eq!(foreign.0, instance.get_as(&key, "/tenants/globex").await.0);

    let suspend = instance.http.post(format!("{}/tenants/acme/suspend", instance.base));
    assert_eq!(suspend.bearer_auth(&key).send().await.unwrap().status(), 403);
    assert_eq!(instance.get_as(&key_of("lee", 1).await, "/tenants").await.0, 401, "expired");
    assert_eq!(instance.get_as("jwtrail_admin_guessed", "/tenants").await.0, 401);
}

#[tokio::test]
async fn of_two_who_change_one_version_one_is_told_of_the_other() {
    let region = Region::new();
    let (one, two) = (region.start().await, region.start().await);
    one.make("/tenants/acme", json!({})).await;
    let made = one.call(Method::PUT, "/tenants/acme").json(&json!({})).send().await.unwrap();
    assert_eq!(made.status(), 428, "it says nothing of what is there");
    let again = one.call(Method::PUT, "/tenants/acme").header(IF_NONE_MATCH, "*").send().await.unwrap();
    assert_eq!(again.status(), 412);

    let mut changes = two.control.subscribe();
    while two.control.tenant("acme").is_none() {
        tokio::time::timeout(PATIENCE, changes.changed()).await.unwrap().unwrap();
    }
    let change = |instance: &Instance, seconds: u32| {
        let body = json!({"policy": {"access_token_s": seconds}});
        instance.call(Method::PUT, "/tenants/acme").header(IF_MATCH, "\"1\"").json(&body).send()
    };
    let (first, second) = tokio::join!(change(&one, 300), change(&two, 900));
    let (first, second) = (first.unwrap(), second.unwrap());
    let mut statuses = [first.status().as_u16(), second.status().as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
    let won = if first.status() == 200 { first } else { second };
    assert_eq!(won.headers()[ETAG], "\"2\"");
}

#[tokio::test]
async fn a_suspension_is_seen_on_the_other_instance() {
    let region = Region::new();
    let (one, two) = (region.start().await, region.start().await);
    one.make("/tenants/acme", json!({})).await;
    for (act, status) in [("suspend", TenantStatus::Suspended), ("resume", TenantStatus::Active)] {
        let mut changes = two.control.subscribe();
        let done = one.call(Method::POST, &format!("/tenants/acme/{act}")).send().await.unwrap();
        assert_eq!(done.status(), 200);
        while two.control.tenant("acme").is_none_or(|found| found.entry.status != status) {
            tokio::time::timeout(PATIENCE, changes.changed()).await.expect("it never comes").unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_by_its_pointer_and_not_repeated() {
    let region = Region::new();
    let instance = region.start().await;
    instance.make("/tenants/acme", json!({})).await;
    let check = async |path: &str, body: Value, expected: &str| {
        let call = instance.call(Method::PUT, path).header(IF_NONE_MATCH, "*").json(&body);
        let (status, problem) = told(call.send().await.unwrap()).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(status == 400 && detail.contains(expected), "{path} {body}: {status} {detail}");
        assert!(!detail.contains("hunter"), "{detail}");
    };
    check("/tenants/globex", json!({"polic/y": {}}), "`/polic~1y` is no member").await;
    check("/tenants/globex", json!({"policy": {"algs": ["none"]}}), "`/policy/algs` is a list of").await;
    check("/tenants/globex", json!({"policy": {"secs": 1}}), "`/policy/secs` is no member").await;
    check("/tenants/globex", json!({"policy": {"access_token_s": 7}}), "is 60 to 3600 seconds").await;
    check("/tenants/acme/clients/web", json!({"kind": "hunter2"}), "`/kind` is `confidential` or").await;
    check("/tenants/acme/clients/web", json!({"secrets": []}), "`/secrets` is no member").await;
    check("/tenants/acme/clients/web", json!({"jwks": [{"d": "hunter2"}]}), "`/jwks/0` holds a private")
        .await;
    check("/tenants/acme/users/kim", json!({}), "`/password` is missing").await;
    check("/tenants/acme/users/kim", json!({"password": "hunter2"}), "8 to 1024 bytes").await;
}

#[tokio::test]
async fn entries_come_in_pages_and_a_password_never_comes_back() {
    let region = Region::new();
    let instance = region.start().await;
    instance.make("/tenants/acme", json!({})).await;
    let user = instance.make("/tenants/acme/users/kim", json!({"password": "correct horse"})).await;
    assert!(user["subject"].as_str().unwrap().starts_with("user-") && user.get("password").is_none());
    for client in ["a", "b", "c"] {
        instance.make(&format!("/tenants/acme/clients/{client}"), json!({"kind": "public"})).await;
    }
    let (_, first) = instance.get_as(KEY, "/tenants/acme/clients?limit=2").await;
    assert_eq!((first["items"].as_array().unwrap().len(), &first["next"]), (2, &json!("b")));
    let (_, rest) = instance.get_as(KEY, "/tenants/acme/clients?limit=2&after=b").await;
    assert_eq!((&rest["items"][0]["client_id"], &rest["next"]), (&json!("c"), &Value::Null));
    assert_eq!(instance.get_as(KEY, "/tenants/acme/clients?limit=0").await.0, 400);

    let gone = instance.call(Method::DELETE, "/tenants/acme").header(IF_MATCH, "\"1\"").send().await.unwrap();
    assert_eq!(gone.status(), 204);
    let again = instance.call(Method::PUT, "/tenants/acme").header(IF_MATCH, "\"2\"").send().await.unwrap();
    assert_eq!(again.status(), 409, "its name is nobody's for ever");
}
