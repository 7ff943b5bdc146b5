//! Lanes over a real journal and a real ClickHouse.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::*;
use crate::clickhouse::testing::Database;
use crate::config::Secret;
use crate::log::{LogError, NewRecord};
use crate::model::{Offset, ResumeAt};
use crate::pipeline::store::testing::{LOG, TestLog, bounds, event_at, jws, received, retention_of};
use crate::pipeline::{alert, detect, enrich, verify};

const PARTITION: PartitionId = PartitionId(0);
/// For what comes in a moment if it comes at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// One installation, and a corridor through it.
struct House {
    database: Database,
    log: TestLog,
    lifecycle: Lifecycle,
    context: Arc<Context>,
}

impl House {
    async fn new() -> Self {
        Self::at(Clock::System, Pace::default()).await
    }

    async fn at(clock: Clock, pace: Pace) -> Self {
        let (database, log) = (Database::new().await, TestLog::at(clock.clone()).await);
        let door = crate::keys::door(&Secret::new("of the tests".to_owned()));
        let snapshots = Snapshots {
            name: "test".into(),
            verify: Arc::new(verify::Trust::build(&[], &HashMap::new(), &[], door).unwrap()),
            enrich: Arc::new(enrich::Atlas::load(&Default::default()).unwrap()),
            detect: Arc::new(detect::Rulebook::default()),
            alert: Arc::new(alert::Policy::default()),
        };
        let context = Context {
            log: log.journal.clone(),
            store: Store::new(database.client.clone(), log.journal.clone()),
            retention: Arc::new(retention_of(&[])),
            workers: Workers::start(1).unwrap(),
            snapshots: Arc::new(move || snapshots.clone()),
            // One home for all.
            bounds: decode::Bounds { partitions: 1, ..bounds() },
            adopt: None,
            pace,
            metrics: Metrics::new(),
            readiness: Readiness::default(),
            on_alert: None,
            clock,
            gauges: Gauges::default(),
        };
        Self { database, log, lifecycle: Lifecycle::new(PATIENCE), context: Arc::new(context) }
    }

    async fn append(&self, values: impl IntoIterator<Item = Vec<u8>>) {
        let record = |value| NewRecord { partition: Some(PARTITION), value, ..NewRecord::default() };
        self.log.journal.append(Topic::Events, values.into_iter().map(record).collect()).await.unwrap();
    }

    async fn append_record(&self, record: NewRecord) {
        self.log.journal.append(Topic::Events, vec![record]).await.unwrap();
    }

    /// What a former owner left: the first block reserved up to `end`, and nothing of it stored.
    async fn reserved_up_to(&self, end: i64) {
        let (_member, assigned) = self.log.own(PARTITION).await;
        let metadata = format!(r#"{{"v":1,"log":"{LOG}","end":{end},"state":null}}"#);
        assigned.lane.commit(ResumeAt::at(Offset::ZERO), &metadata, Vec::new()).await.unwrap();
    }

    fn start(&self) {
        self.lifecycle.spawn("corridor", run(Arc::clone(&self.context), self.lifecycle.clone()));
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let waiting = async {
            while !is_so().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never {what}"));
    }

    async fn stop(&self) {
        self.lifecycle.advance(Phase::Draining);
        assert_eq!(self.lifecycle.finish().await, Vec::<String>::new());
    }

    /// First and last offset of each block.
    async fn blocks(&self) -> Vec<(u64, u64)> {
        let sql = "SELECT first, last FROM blocks FINAL WHERE partition = 0 ORDER BY first";
        self.database.client.query(sql).fetch_all().await.unwrap()
    }
}

/// More than fits into a block of 16 MiB, in dead letters of 24 KiB: the batches that it is read in are not those of
/// the owner who reserved it, and it is full before its end.
#[tokio::test]
async fn a_reserved_block_is_walked_to_its_end_however_large_it_gets() {
    const RECORDS: usize = 1_000;
    let house = House::new().await;
    for _ in 0..RECORDS / 100 {
        house.append(vec![vec![b'x'; 24 << 10]; 100]).await;
    }
    let end = i64::try_from(RECORDS).unwrap() - 1;
    house.reserved_up_to(end).await;
    house.start();
    house.until("stored", async || !house.blocks().await.is_empty()).await;
    assert_eq!(house.blocks().await, [(0, end.unsigned_abs())]);
    house.stop().await;
}

/// An event whose client sent a token where none may be: a case for as long as its window lasts.
fn leak_at(time: UnixMs) -> Vec<u8> {
    let event = String::from_utf8(event_at("accepted", "alice", &time.to_string())).unwrap();
    event.replace("Mozilla/5.0 (X11)", &jws().0).into_bytes()
}

#[tokio::test]
async fn a_tick_closes_what_nothing_else_does() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
    let now = Arc::new(AtomicI64::new(received(0).get()));
    let pace = Pace { tick_after: Duration::from_millis(5), ..Pace::default() };
    let house = House::at(Clock::Manual(Arc::clone(&now)), pace).await;
    // Nobody has the key but the owner: these two say nothing about the time.
    let forged = decode::Bounds { tick_key: bounds().forward_key, ..bounds() };
    house.append([leak_at(received(0)), Vec::new()]).await;
    house.append_record(decode::tick(&forged, PARTITION, Offset::ZERO)).await;
    house.start();
    let state = async || -> Vec<String> {
        let sql = "SELECT state FROM findings WHERE rule = 'token_in_request'";
        house.database.client.query(sql).fetch_all().await.unwrap()
    };
    house.until("found", async || state().await == ["open"]).await;
    // The window is a day at most, and closes ten minutes later.
    now.fetch_add(DAY_MS + 11 * 60 * 1_000, Ordering::Relaxed);
    house.until("closed", async || state().await == ["closed"]).await;
    // Dropping the case a day later says nothing, and needs no tick.
    now.fetch_add(2 * DAY_MS, Ordering::Relaxed);
    house.append([Vec::new()]).await;
    house.until("walked on", async || house.blocks().await.last().is_some_and(|(_, last)| *last == 4)).await;
    house.stop().await;
    let sums = "SELECT sum(rows), sum(control), sum(arraySum(mapValues(dead))) FROM blocks FINAL";
    let sums: (u64, u64, u64) = house.database.client.query(sums).fetch_one().await.unwrap();
    assert_eq!(sums, (1, 1, 3));
}

/// What becomes of the membership when a lane of it ends with `error`: the code it ends with, if it does.
async fn after(house: &House, error: LaneError, is_held: bool) -> Option<&'static str> {
    let condition = house.context.readiness.condition("walk");
    let mut member = Member::new(Arc::clone(&house.context), house.lifecycle.clone(), &condition);
    if is_held {
        let running =
            Running { number: 1, orders: watch::channel(Orders::Walk).0, ended: oneshot::channel().1 };
        member.lanes.insert(PARTITION, running);
    }
    member.lane_failed(Failed { partition: PARTITION, number: 1, error }).map(|error| error.code())
}

#[tokio::test]
async fn a_lane_that_lost_its_partition_leaves_the_others_alone() {
    let house = House::new().await;
    let lost = || LaneError::Log(LogError::NotHeld { doing: "reading" });
    let away = || LaneError::Log(LogError::Unavailable { doing: "reading", cause: "gone".to_owned() });
    for is_held in [true, false] {
        assert_eq!(after(&house, lost(), is_held).await, None);
        assert_eq!(after(&house, SettleError::NotOwner(PARTITION).into(), is_held).await, None);
    }
    assert_eq!(after(&house, away(), true).await, Some("log_unavailable"));
    assert_eq!(after(&house, away(), false).await, None, "its membership is over already");
    assert_eq!(house.lifecycle.failure(), None);
}

#[tokio::test]
async fn a_walk_that_panics_ends_the_process_as_failed() {
    let house = House::new().await;
    let walked = house.context.workers.run(PARTITION, || panic!("of the test")).await;
    let Err(error) = walked;
    assert_eq!(after(&house, error.into(), true).await, None);
    assert_eq!(house.lifecycle.phase(), Phase::Draining);
    assert!(house.lifecycle.failure().is_some_and(|why| why.contains("partition 0")));
}

#[tokio::test]
async fn an_event_that_was_sent_twice_is_one_row_and_its_repeats_are_accounted_for() {
    let house = House::new().await;
    let heartbeat = crate::pipeline::store::testing::heartbeat;
    house.append([heartbeat(), b"{not json".to_vec(), heartbeat(), heartbeat()]).await;
    // A former owner reserved it all and stored nothing.
    house.reserved_up_to(3).await;
    house.start();
    house.until("stored", async || !house.blocks().await.is_empty()).await;
    let client = &house.database.client;
    let sql = "SELECT records, control, mapValues(dropped)[1], mapValues(dead)[1] FROM blocks FINAL";
    let line: (u64, u64, u64, u64) = client.query(sql).fetch_one().await.unwrap();
    assert_eq!(line, (4, 1, 2, 1));
    let sql = "SELECT offset, toString(outcome), toString(reason) FROM rejects FINAL ORDER BY offset";
    let rejects: Vec<(u64, String, String)> = client.query(sql).fetch_all().await.unwrap();
    let wanted = [(1, "dead", "not_json"), (2, "dropped", "duplicate"), (3, "dropped", "duplicate")];
    assert_eq!(rejects, wanted.map(|(offset, outcome, why)| (offset, outcome.to_owned(), why.to_owned())));
    let dropped = ByReason { reason: "duplicate" };
    house
        .until("counted", async || house.context.metrics.records_dropped.get_or_create(&dropped).get() == 2)
        .await;
    house.stop().await;
}
