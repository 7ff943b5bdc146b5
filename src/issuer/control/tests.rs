//! Two who write, one who dies, and those who would like to write and may not.

use std::collections::HashMap;
use std::time::Instant;

use async_trait::async_trait;
use serde_json::json;

use super::record::Record;
use super::*;
use crate::lifecycle::{Lifecycle, Phase};
use crate::log::NewRecord;
use crate::log::memory::{LogFault, MemoryLog};
use crate::model::TenantId;
use crate::telemetry::Readiness;

/// For what comes in a moment if it comes at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store in this process.
#[derive(Default)]
struct InProcess(Mutex<HashMap<String, (u64, Vec<u8>)>>);

#[async_trait]
impl Arbiter for InProcess {
    async fn advance(&self, key: &str, from: u64, value: &[u8]) -> Result<Advance, ArbiterError> {
        let mut entries = self.0.lock().unwrap();
        let (version, there) = entries.get(key).cloned().unwrap_or_default();
        if version != from {
            return Ok(Advance::Conflict { version, value: there });
        }
        entries.insert(key.to_owned(), (from + 1, value.to_vec()));
        Ok(Advance::Done(from + 1))
    }

    async fn current(&self, key: &str) -> Result<Option<(u64, Vec<u8>)>, ArbiterError> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }
}

/// A log and a store that instances share.
struct Region {
    log: MemoryLog,
    arbiter: Arc<InProcess>,
    clock: Clock,
    time: Arc<AtomicI64>,
}

/// One instance, following.
struct Instance {
    control: Arc<Control>,
    lifecycle: Lifecycle,
    readiness: Readiness,
    metrics: Metrics,
}

impl Region {
    fn new() -> Self {
        let time = Arc::new(AtomicI64::new(1_795_428_000_000));
        let clock = Clock::Manual(time.clone());
        let log = MemoryLog::new(clock.clone(), &[Topic::Control.spec(true), Topic::Revocations.spec(true)]);
        Self { log, arbiter: Arc::default(), clock, time }
    }

    async fn try_open(&self, key: u8) -> Result<(Arc<Control>, Following, Metrics), ControlError> {
        let metrics = Metrics::new();
        let master = MasterKey::of_bytes([key; 32]);
        let log = Arc::new(self.log.clone());
        let (control, following) =
            Control::open(log, self.arbiter.clone(), &master, self.clock.clone(), metrics.clone()).await?;
        Ok((control, following, metrics))
    }

    /// One that does not follow.
    async fn open(&self) -> Arc<Control> {
        self.try_open(7).await.unwrap().0
    }

    async fn start(&self) -> Instance {
        let (control, following, metrics) = self.try_open(7).await.unwrap();
        let (lifecycle, readiness) = (Lifecycle::new(PATIENCE), Readiness::default());
        lifecycle.spawn("control", following.run(readiness.clone(), lifecycle.clone()));
        Instance { control, lifecycle, readiness, metrics }
    }

    /// What lies in the topic, by key.
    fn lying(&self) -> Vec<(String, Vec<u8>)> {
        let records = self.log.records(Topic::Control, PARTITION).into_iter();
        records.map(|(.., record)| (String::from_utf8(record.key.unwrap()).unwrap(), record.value)).collect()
    }

    fn write(&self, key: &str, value: Vec<u8>) {
        self.log
            .write(Topic::Control, vec![NewRecord { key: Some(key.into()), value, ..NewRecord::default() }]);
    }
}

impl Instance {
    async fn until(&self, done: impl Fn(&Control) -> bool) {
        let mut changes = self.control.subscribe();
        let waiting = async {
            while !done(&self.control) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("it never comes");
    }

    fn refused(&self, reason: &'static str) -> u64 {
        self.metrics.control_records_refused.get_or_create(&ByReason { reason }).get()
    }

    async fn until_refused(&self, reason: &'static str, wanted: u64) {
        let waiting = async {
            while self.refused(reason) < wanted {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("it is never refused");
        assert_eq!(self.refused(reason), wanted, "{reason}");
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.lifecycle.advance(Phase::Draining);
    }
}

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn web() -> EntryKey {
    EntryKey::of::<Client>(&acme(), "web")
}

fn tenant() -> Tenant {
    Tenant::new(UnixMs::new(0))
}

fn client(scope: &str) -> Client {
    let client = json!({"kind": "confidential", "created_at": "2026-11-23T10:15:00.123Z", "scopes": [scope]});
    serde_json::from_value(client).unwrap()
}

fn scope(control: &Control) -> Option<(u64, String)> {
    let found = control.get::<Client>("acme", "web")?;
    Some((found.version, found.entry.scopes.first()?.to_string()))
}

fn version_in(error: Result<u64, ControlError>) -> u64 {
    match error {
        Err(ControlError::Conflict { version, .. }) => version,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_entry_is_written_read_changed_and_deleted() {
    let region = Region::new();
    let control = region.open().await;
    let refused = control.put(&web(), Expected::Absent, client("a")).await;
    assert!(matches!(refused, Err(ControlError::NoTenant(_))), "{refused:?}");
    control.put(&EntryKey::of_tenant(&acme()), Expected::Absent, tenant()).await.unwrap();
    assert_eq!(control.put(&web(), Expected::Absent, client("a")).await.unwrap(), 1);
    assert_eq!(version_in(control.put(&web(), Expected::Absent, client("b")).await), 1);
    assert_eq!(control.put(&web(), Expected::Version(1), client("b")).await.unwrap(), 2);
    assert_eq!(version_in(control.put(&web(), Expected::Version(1), client("c")).await), 2);
    assert_eq!(scope(&control), Some((2, "b".to_owned())));
    assert_eq!(control.list::<Client>("acme", None, 9).len(), 1);
    assert_eq!(control.list::<Client>("acme", Some("web"), 9).len(), 0);

    assert_eq!(version_in(control.delete(&web(), Expected::Version(1)).await), 2);
    assert_eq!(control.delete(&web(), Expected::Version(2)).await.unwrap(), 3);
    assert_eq!(version_in(control.delete(&web(), Expected::Any).await), 0);
    assert_eq!((scope(&control), control.list::<Client>("acme", None, 9).len()), (None, 0));
    // Versions go on over a deletion: nobody's `ETag` comes to mean something else.
    assert_eq!(control.put(&web(), Expected::Absent, client("d")).await.unwrap(), 4);
    let again = region.open().await;
    assert_eq!(scope(&again), Some((4, "d".to_owned())));
}

#[tokio::test]
async fn a_deleted_tenants_name_is_nobodys_for_ever() {
    let region = Region::new();
    let control = region.open().await;
    let key = EntryKey::of_tenant(&acme());
    control.put(&key, Expected::Absent, tenant()).await.unwrap();
    control.delete(&key, Expected::Any).await.unwrap();
    for control in [control, region.open().await] {
        assert_eq!(control.tenant("acme").unwrap().entry.status, TenantStatus::Deleted);
        for refused in [
            control.put(&key, Expected::Any, tenant()).await,
            control.put(&key, Expected::Absent, tenant()).await,
            control.delete(&key, Expected::Any).await,
            control.put(&web(), Expected::Any, client("a")).await,
        ] {
            assert!(matches!(refused, Err(ControlError::TenantDeleted(_))), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn what_breaks_a_rule_is_not_written() {
    let region = Region::new();
    let control = region.open().await;
    control.put(&EntryKey::of_tenant(&acme()), Expected::Absent, tenant()).await.unwrap();
    let mut long = tenant();
    long.policy.access_token_s = 7_200;
    let epoch = |ms| Epoch { not_before: UnixMs::new(ms) };
    let of_tenant = EntryKey::of::<Epoch>(&acme(), &EpochOf::Tenant.name());
    control.put(&of_tenant, Expected::Any, epoch(2)).await.unwrap();
    for (refused, field) in [
        (control.put(&EntryKey::of_tenant(&acme()), Expected::Any, long).await, "policy.access_token_s"),
        (control.put(&web(), Expected::Any, tenant()).await, "key"),
        (control.put(&EntryKey::of_platform::<Client>("web"), Expected::Any, client("a")).await, "key"),
        (control.put(&EntryKey::of::<Tenant>(&acme(), "globex"), Expected::Any, tenant()).await, "key"),
        (control.put(&of_tenant, Expected::Any, epoch(1)).await, "not_before"),
    ] {
        match refused {
            Err(ControlError::Invalid(invalid)) => assert_eq!(invalid.field, field),
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_see_each_others_changes() {
    let region = Region::new();
    let (one, two) = (region.start().await, region.start().await);
    one.control.put(&EntryKey::of_tenant(&acme()), Expected::Absent, tenant()).await.unwrap();
    let began = Instant::now();
    two.until(|control| control.tenant("acme").is_some()).await;
    println!("seen by the other instance after {:?}", began.elapsed());
    two.control.put(&web(), Expected::Absent, client("a")).await.unwrap();
    one.until(|control| scope(control) == Some((1, "a".to_owned()))).await;
    assert!(one.readiness.now()["control"].is_ok());
    region.time.fetch_add(5_000, Ordering::Relaxed);
    let heard = async {
        while one.control.heard_at() < region.clock.now() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("a quiet topic is heard of, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_write_at_once_one_wins() {
    let region = Region::new();
    let (one, two) = (region.start().await, region.start().await);
    one.control.put(&EntryKey::of_tenant(&acme()), Expected::Absent, tenant()).await.unwrap();
    two.until(|control| control.tenant("acme").is_some()).await;
    for round in 0..50 {
        let expected = if round == 0 { Expected::Absent } else { Expected::Version(round) };
        let key = web();
        let (first, second) = tokio::join!(
            one.control.put(&key, expected, client("one")),
            two.control.put(&key, expected, client("two")),
        );
        let won = match (&first, &second) {
            (Ok(version), Err(ControlError::Conflict { .. })) => (*version, "one"),
            (Err(ControlError::Conflict { .. }), Ok(version)) => (*version, "two"),
            other => panic!("{other:?}"),
        };
        assert_eq!(won.0, round + 1);
        for instance in [&one, &two] {
            instance.until(|control| scope(control) == Some((won.0, won.1.to_owned()))).await;
        }
    }
}

#[tokio::test]
async fn a_write_that_died_before_the_topic_had_it_is_finished_by_the_next() {
    let region = Region::new();
    let control = region.open().await;
    control.put(&EntryKey::of_tenant(&acme()), Expected::Absent, tenant()).await.unwrap();
    control.put(&web(), Expected::Absent, client("a")).await.unwrap();
    // A change: the next instance finds it when it opens.
    region.log.fail(LogFault::AppendFails);
    let died = control.put(&web(), Expected::Version(1), client("b")).await;
    assert!(matches!(died, Err(ControlError::Log(_))), "{died:?}");
    drop(control);
    let control = region.open().await;
    assert_eq!(scope(&control), Some((2, "b".to_owned())));
    assert_eq!(region.lying().len(), 2);

    // A new entry, which nobody knows of but the store: whoever writes it next finds it.
    let other = EntryKey::of::<Client>(&acme(), "other");
    region.log.fail(LogFault::AppendFails);
    control.put(&other, Expected::Absent, client("x")).await.unwrap_err();
    drop(control);
    let control = region.open().await;
    assert!(control.get::<Client>("acme", "other").is_none());
    assert_eq!(version_in(control.put(&other, Expected::Absent, client("y")).await), 1);
    assert_eq!(control.get::<Client>("acme", "other").unwrap().entry.scopes.first().unwrap().as_str(), "x");
    assert_eq!(region.lying().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_lives_finishes_its_own_write() {
    let region = Region::new();
    let (one, two) = (region.start().await, region.start().await);
    one.control.put(&EntryKey::of_tenant(&acme()), Expected::Absent, tenant()).await.unwrap();
    region.log.fail(LogFault::AppendFails);
    one.control.put(&web(), Expected::Absent, client("a")).await.unwrap_err();
    for instance in [&one, &two] {
        instance.until(|control| scope(control) == Some((1, "a".to_owned()))).await;
    }
}

#[tokio::test]
async fn a_store_that_lost_its_data_arbitrates_on() {
    let region = Region::new();
    let (slow, quick) = (region.open().await, region.open().await);
    quick.put(&EntryKey::of_tenant(&acme()), Expected::Absent, tenant()).await.unwrap();
    quick.put(&web(), Expected::Absent, client("a")).await.unwrap();
    slow.read_on().await.unwrap();
    quick.put(&web(), Expected::Version(1), client("b")).await.unwrap();
    region.arbiter.0.lock().unwrap().clear();
    // It does not know of version 2 yet, and finds out before it writes.
    assert_eq!(version_in(slow.put(&web(), Expected::Version(1), client("c")).await), 2);
    assert_eq!(slow.put(&web(), Expected::Version(2), client("c")).await.unwrap(), 3);
    assert_eq!(scope(&*region.open().await), Some((3, "c".to_owned())));
}

/// Each way in which somebody who can write to the topic may try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_can_write_to_the_topic_plants_nothing() {
    let region = Region::new();
    let instance = region.start().await;
    let control = &instance.control;
    control.put(&EntryKey::of_tenant(&acme()), Expected::Absent, tenant()).await.unwrap();
    control.put(&web(), Expected::Absent, client("old")).await.unwrap();
    let old = region.lying().pop().unwrap().1;
    control.put(&web(), Expected::Any, client("new")).await.unwrap();
    let (key, new) = region.lying().pop().unwrap();
    let wanted: HashMap<_, _> = region.lying().into_iter().collect();

    // Unsigned, or with a byte changed.
    let json = new.splitn(3, |byte| *byte == b'.').last().unwrap();
    region.write("one", json.to_vec());
    region.write("another", Vec::new());
    for at in (0..new.len()).step_by(7) {
        let mut flipped = new.clone();
        flipped[at] ^= 1;
        // Under one key each would take the last one's place before anyone has read that.
        region.write(&format!("byte {at}"), flipped);
    }
    let flips = u64::try_from(new.len().div_ceil(7)).unwrap();
    instance.until_refused("unsigned", flips + 2).await;

    // Under another master key, or signed for another topic.
    let record = Record {
        key: web(),
        version: 9,
        written_at: region.clock.now(),
        entry: Some(Arc::new(client("forged")).any()),
    };
    region.write("signed otherwise", Records::new(MasterKey::of_bytes([8; 32]).control()).seal(record).0);
    let elsewhere = MasterKey::of_bytes([7; 32]).control();
    let mac = aws_lc_rs::hmac::sign(&elsewhere, &[b"jwtrail.revocations\0", json].concat());
    let mac = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, mac);
    region.write("signed for elsewhere", [b"jc1.", mac.as_bytes(), b".", json].concat());
    instance.until_refused("unsigned", flips + 4).await;

    // Ours, but of another entry, kind or tenant.
    for foreign in ["client/acme/other", "user/acme/web", "client/globex/web", "tenant/acme/acme"] {
        region.write(foreign, new.clone());
    }
    instance.until_refused("foreign", 4).await;

    // Ours, and old: it is refused, and what is in force takes its place in the topic again.
    region.time.fetch_add(3_600_000, Ordering::Relaxed);
    region.write(&key, old);
    instance.until_refused("replayed", 1).await;
    let in_place = async {
        loop {
            let lying: HashMap<_, _> =
                region.lying().into_iter().filter(|(key, _)| wanted.contains_key(key)).collect();
            if lying == wanted {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, in_place).await.expect("it is never put right");

    assert_eq!(scope(control), Some((2, "new".to_owned())));
    assert!(
        control.get::<Client>("acme", "other").is_none() && control.get::<Client>("globex", "web").is_none()
    );
    assert!(instance.readiness.now()["control"].is_ok(), "it goes on");
    assert!(region.open().await.tenant("acme").is_some());
    assert_eq!(scope(&*region.open().await), Some((2, "new".to_owned())));
}

#[tokio::test]
async fn an_old_record_that_took_the_newer_ones_place_is_found_when_the_record_is_opened() {
    let region = Region::new();
    let control = region.open().await;
    control.put(&EntryKey::of_tenant(&acme()), Expected::Absent, tenant()).await.unwrap();
    control.put(&web(), Expected::Absent, client("old")).await.unwrap();
    let (key, old) = region.lying().pop().unwrap();
    control.put(&web(), Expected::Any, client("new")).await.unwrap();
    drop(control);
    region.write(&key, old);
    assert_eq!(region.lying().len(), 2, "it was compacted away");
    assert_eq!(scope(&*region.open().await), Some((2, "new".to_owned())));
}

#[tokio::test]
async fn who_can_write_to_the_store_plants_nothing() {
    let region = Region::new();
    let control = region.open().await;
    control.put(&EntryKey::of_tenant(&acme()), Expected::Absent, tenant()).await.unwrap();
    control.put(&web(), Expected::Absent, client("a")).await.unwrap();
    let text = web().to_string();
    let planted = |value: &[u8]| {
        region.arbiter.0.lock().unwrap().insert(text.clone(), (99, value.to_vec()));
    };
    planted(b"{}");
    assert_eq!(control.put(&web(), Expected::Version(1), client("b")).await.unwrap(), 2);
    let of_another_key = region.lying().first().unwrap().1.clone();
    planted(&of_another_key);
    assert_eq!(control.put(&web(), Expected::Version(2), client("c")).await.unwrap(), 3);
    assert_eq!(scope(&*region.open().await), Some((3, "c".to_owned())));
}

#[tokio::test]
async fn another_installations_key_or_topic_is_refused() {
    let region = Region::new();
    assert!(is_fresh(&region.log).await.unwrap());
    let control = region.open().await;
    control.put(&EntryKey::of_tenant(&acme()), Expected::Absent, tenant()).await.unwrap();
    assert!(!is_fresh(&region.log).await.unwrap());
    let error = region.try_open(8).await.err().unwrap();
    assert_eq!(error.code(), "wrong_master_key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_told_and_ends() {
    let region = Region::new();
    let instance = region.start().await;
    let until = async |ready: bool| {
        while instance.readiness.now().get("control").is_none_or(Result::is_err) == ready {
            // A log that fails at every reading.
            if !ready {
                region.log.fail(LogFault::Read);
                region.time.fetch_add(1_000, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, until(true)).await.expect("it never begins");
    tokio::time::timeout(PATIENCE, until(false)).await.expect("the silence is never told");
    region.log.heal();
    tokio::time::timeout(PATIENCE, until(true)).await.expect("the silence never ends");
}

/// What 10,000 tenants with 10 clients each cost.
#[tokio::test]
async fn ten_thousand_tenants_are_held_and_found() {
    const TENANTS: usize = 10_000;
    let resident_kib = || -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        crate::log::journal::Journal::open(
            dir.path(),
            crate::log::journal::JournalOptions::default(),
            Clock::System,
        )
    };
    let journal = open().unwrap();
    journal.migrate(&[Topic::Control.spec(true)]).await.unwrap();
    let master = MasterKey::of_bytes([7; 32]);
    let records = Records::new(master.control());
    let sealed = |key: EntryKey, entry: AnyEntry| {
        let record = Record { key: key.clone(), version: 1, written_at: UnixMs::new(0), entry: Some(entry) };
        NewRecord { key: Some(key.to_string().into()), value: records.seal(record).0, ..NewRecord::default() }
    };
    for first in (0..TENANTS).step_by(500) {
        let mut batch = Vec::new();
        for number in first..first + 500 {
            let id: TenantId = format!("tenant-{number}").parse().unwrap();
            batch.push(sealed(EntryKey::of_tenant(&id), Arc::new(tenant()).any()));
            batch.extend((0..10).map(|client_number| {
                let key = EntryKey::of::<Client>(&id, &format!("client-{client_number}"));
                sealed(key, Arc::new(client("orders:read")).any())
            }));
        }
        journal.append(Topic::Control, batch).await.unwrap();
    }
    drop(journal);

    let (before, began) = (resident_kib(), Instant::now());
    let arbiter = Arc::new(InProcess::default());
    let (control, _following) =
        Control::open(open().unwrap(), arbiter, &master, Clock::System, Metrics::new()).await.unwrap();
    let (started, taken) = (began.elapsed(), resident_kib().saturating_sub(before));
    let names: Vec<_> = (0..TENANTS).map(|number| format!("tenant-{number}")).collect();
    let began = Instant::now();
    for name in &names {
        assert_eq!(control.tenant(name).unwrap().version, 1);
        assert!(control.get::<Client>(name, "client-7").is_some());
    }
    let each = began.elapsed() / u32::try_from(2 * TENANTS).unwrap();
    println!(
        "{TENANTS} tenants with 10 clients each: open in {started:?}, {taken} KiB more, {each:?} a look-up"
    );
    let page = control.tenants(Some("tenant-5"), 3);
    let page: Vec<_> = page.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(page, ["tenant-50", "tenant-500", "tenant-5000"]);
    assert_eq!(control.list::<Client>("tenant-77", None, 100).len(), 10);
}
