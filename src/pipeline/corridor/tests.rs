//! Lanes over a real journal and a real ClickHouse.

mod taken_over;

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::*;
use crate::clickhouse::testing::Database;
use crate::config::Secret;
use crate::keys::Seals;
use crate::log::journal::JournalOptions;
use crate::log::{LogError, NewRecord};
use crate::model::{Offset, ResumeAt};
use crate::pipeline::settle::SettleError;
use crate::pipeline::store::testing::{LOG, TestLog, bounds, event_at, jws, received, retention_of};
use crate::pipeline::testing::snapshots;
use crate::telemetry::ByCode;

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
        let log = TestLog::at(clock.clone()).await;
        Self::on(log, clock, pace).await
    }

    async fn on(log: TestLog, clock: Clock, pace: Pace) -> Self {
        Self::over(Database::new().await, log, clock, pace)
    }

    fn over(database: Database, log: TestLog, clock: Clock, pace: Pace) -> Self {
        let snapshots = snapshots();
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
    async fn reserved_up_to(&self, end: Option<i64>) {
        self.committed(0, end).await;
    }

    async fn committed(&self, first: i64, end: Option<i64>) {
        let (_member, assigned) = self.log.own(PARTITION).await;
        let end = end.map_or("null".to_owned(), |end| end.to_string());
        let metadata = format!(r#"{{"v":1,"log":"{LOG}","end":{end},"state":null}}"#);
        let first = ResumeAt::at(Offset::new(first).unwrap());
        assigned.lane.commit(first, &metadata, Vec::new()).await.unwrap();
    }

    fn start(&self) {
        self.lifecycle
            .spawn("corridor", run(Arc::clone(&self.context), Course::Events, self.lifecycle.clone()));
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

    async fn number(&self, sql: &str) -> u64 {
        self.database.client.query(sql).fetch_one().await.unwrap()
    }

    /// What became of the record at each offset: stored, or why not.
    async fn outcomes(&self) -> Vec<(u64, String)> {
        let sql = "SELECT * FROM (SELECT offset, 'stored' FROM events UNION ALL \
                   SELECT offset, toString(reason) FROM rejects FINAL) ORDER BY offset";
        self.database.client.query(sql).fetch_all().await.unwrap()
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
    house.reserved_up_to(Some(end)).await;
    house.start();
    house.until("stored", async || !house.blocks().await.is_empty()).await;
    assert_eq!(house.blocks().await, [(0, end.unsigned_abs())]);
    house.stop().await;
}

/// The journal's disk limit took what nobody had walked yet.
#[tokio::test]
async fn records_that_left_the_log_unwalked_are_told() {
    let options =
        JournalOptions { limit_bytes: 1 << 20, segment_bytes: 256 << 10, ..JournalOptions::default() };
    let log = TestLog::with(options, Clock::System).await;
    let house = House::on(log, Clock::System, Pace::default()).await;
    house.reserved_up_to(None).await;
    let start = async || {
        let scan = house.log.journal.scan(Topic::Events, PARTITION, None).await.unwrap();
        scan.start().get()
    };
    let append = async || {
        house.append(vec![vec![b'x'; 24 << 10]; 10]).await;
        start().await > 0
    };
    house.until("truncated", append).await;
    house.start();
    house.until("told", async || house.number("SELECT count() FROM findings").await == 1).await;
    house.until("walked", async || !house.blocks().await.is_empty()).await;
    house.stop().await;
    let sql = "SELECT toString(rule), is_alert, event_count FROM findings";
    let told: (String, bool, u64) = house.database.client.query(sql).fetch_one().await.unwrap();
    let (first, _) = house.blocks().await[0];
    assert_eq!(told, ("log_truncated".to_owned(), true, first));
    assert_eq!(house.context.metrics.offsets_truncated.get(), first);
    let outbox = house.log.journal.scan(Topic::Alerts, PARTITION, None).await.unwrap();
    assert_eq!(outbox.end().get() - outbox.start().get(), 1);
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
    let forged =
        decode::Bounds { seals: Arc::new(Seals::new(&Secret::new("forged".to_owned()))), ..bounds() };
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
    house.stop().await;
    let sums = "SELECT sum(rows), sum(control), sum(arraySum(mapValues(dead))) FROM blocks FINAL";
    let sums: (u64, u64, u64) = house.database.client.query(sums).fetch_one().await.unwrap();
    assert_eq!((sums.0, sums.2), (1, 2));
    assert!(sums.1 >= 1);
}

/// What becomes of the process when a lane ends with `error`.
async fn after(house: &House, error: LaneError) -> Option<String> {
    let condition = house.context.readiness.condition("walk");
    let member = Member::new(&house.context, Course::Events, house.lifecycle.clone(), &condition);
    member.lane_failed(Failed { partition: PARTITION, error });
    house.lifecycle.failure().map(str::to_owned)
}

#[tokio::test]
async fn a_partition_that_is_long_in_being_taken_over_is_told_until_it_is() {
    let house = House::new().await;
    let mut delays = Delays::new(&house.context, Course::Events);
    let why = || LogError::Unavailable { doing: "taking over a partition", cause: "it hangs".to_owned() };
    delays.tell(PARTITION, &why());
    delays.tell(PARTITION, &why());
    let told = || house.context.readiness.now().get("partition 0").cloned();
    assert!(told().unwrap().unwrap_err().contains("it hangs"));
    let gauge = r#"jwtrail_partition_waiting{topic="jwtrail.events",partition="0",code="log_unavailable"} 1"#;
    let metrics = || house.context.metrics.encode();
    assert!(metrics().contains(gauge));
    let failed = &house.context.metrics.log_calls_failed;
    assert_eq!(failed.get_or_create(&ByCode { code: "log_unavailable" }).get(), 2);
    delays.end(PARTITION);
    assert_eq!(told(), None);
    assert!(!metrics().contains("jwtrail_partition_waiting{"));
    // Whoever leaves the group waits for nothing.
    delays.tell(PARTITION, &why());
    assert!(told().is_some());
    drop(delays);
    assert_eq!(told(), None);
}

#[tokio::test]
async fn a_lane_that_lost_its_partition_leaves_the_others_alone() {
    let house = House::new().await;
    assert_eq!(after(&house, LogError::NotHeld { doing: "reading" }.into()).await, None);
    assert_eq!(after(&house, SettleError::NotOwner(PARTITION).into()).await, None);
    assert_eq!(house.lifecycle.phase(), Phase::Running);
}

#[tokio::test]
async fn a_walk_that_panics_ends_the_process_as_failed() {
    let house = House::new().await;
    let walked = house.context.workers.run(PARTITION, || panic!("of the test")).await;
    let Err(error) = walked;
    assert!(after(&house, error.into()).await.is_some_and(|why| why.contains("partition 0")));
    assert_eq!(house.lifecycle.phase(), Phase::Draining);
}

#[tokio::test]
async fn a_partition_that_stands_leaves_the_others_alone_and_goes_on_when_it_is_mended() {
    const OTHER: PartitionId = PartitionId(1);
    let now = Arc::new(AtomicI64::new(received(0).get()));
    let house = House::at(Clock::Manual(now), Pace::default()).await;
    let run = async |sql: &str| house.database.client.execute(sql).await.unwrap();
    run("RENAME TABLE finding_rows TO finding_rows_away").await;
    house.append([leak_at(received(0))]).await;
    house.start();
    let standing = || house.context.readiness.now().get("partition 0").cloned();
    house.until("told", async || standing().is_some()).await;
    let why = standing().unwrap().unwrap_err();
    assert!(why.contains("run `jwtrail migrate`"), "{why}");
    let gauge = r#"jwtrail_partition_waiting{topic="jwtrail.events",partition="0",code="clickhouse_misconfigured"} 1"#;
    assert!(house.context.metrics.encode().contains(gauge));
    house.append_record(NewRecord { partition: Some(OTHER), ..NewRecord::default() }).await;
    let lines = async |partition: PartitionId| -> u64 {
        let sql = "SELECT count() FROM blocks FINAL WHERE partition = ?";
        house.database.client.query(sql).bind(partition.0).fetch_one().await.unwrap()
    };
    house.until("the other is stored", async || lines(OTHER).await == 1).await;
    assert_eq!(lines(PARTITION).await, 0);
    run("RENAME TABLE finding_rows_away TO finding_rows").await;
    house.until("stored", async || lines(PARTITION).await == 1).await;
    house.until("well again", async || standing().is_none()).await;
    assert!(!house.context.metrics.encode().contains("jwtrail_partition_waiting{"));
    house.stop().await;
    assert_eq!(house.number("SELECT count() FROM events").await, 1);
    assert_eq!(house.number("SELECT count() FROM findings").await, 1);
}

#[tokio::test]
async fn an_event_that_was_sent_twice_is_one_row_and_its_repeats_are_accounted_for() {
    let house = House::new().await;
    let heartbeat = crate::pipeline::store::testing::heartbeat;
    house.append([heartbeat(), b"{not json".to_vec(), heartbeat(), heartbeat()]).await;
    // A former owner reserved it all and stored nothing.
    house.reserved_up_to(Some(3)).await;
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

fn numbered(number: u128) -> Vec<u8> {
    let event = crate::pipeline::store::testing::event("accepted", "alice");
    let mut event: serde_json::Value = serde_json::from_slice(&event).unwrap();
    event["id"] = uuid::Uuid::from_u128(number).to_string().into();
    event.to_string().into_bytes()
}

/// The event as the spool lets it follow, sealed with `key`.
fn held_back(number: u128, since: UnixMs, key: &aws_lc_rs::hmac::Key) -> NewRecord {
    let value = numbered(number);
    let mut batch = crate::log::Batch::default();
    batch.push(Offset::ZERO, since, None, &value, []);
    let seal = {
        let record = batch.iter().next().unwrap();
        let decoded = decode::decode(&record, &bounds()).unwrap();
        decode::seal_retried(&decoded.event, &value, since, key)
    };
    let headers = vec![(decode::RETRIED_HEADER.to_owned(), seal.into_bytes())];
    NewRecord { partition: Some(PARTITION), value, headers, ..NewRecord::default() }
}

/// Its copy landed 20 minutes before, which no window remembers; and a walk that is repeated says the same.
#[tokio::test]
async fn what_was_held_back_is_a_repeat_however_long_ago_its_copy_was_stored() {
    let began = crate::pipeline::store::testing::received(0);
    let now = Arc::new(std::sync::atomic::AtomicI64::new(began.get()));
    let house = House::at(Clock::Manual(Arc::clone(&now)), Pace::default()).await;
    house.committed(0, None).await;
    house.append([numbered(1)]).await;
    now.fetch_add(20 * 60_000, std::sync::atomic::Ordering::Relaxed);
    house.append([numbered(2)]).await;
    let (ours, forged) =
        (bounds().seals.retried.clone(), aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"forged"));
    for (number, key) in [(1, &ours), (3, &ours), (4, &ours), (2, &ours), (3, &ours), (1, &forged)] {
        house.append_record(held_back(number, began, key)).await;
    }
    let expected = [
        "stored",
        "stored",
        "duplicate",
        "stored",
        "stored",
        "duplicate",
        "duplicate",
        // What lies in the window needs no header.
        "duplicate",
    ];
    let expected: Vec<(u64, String)> = (0..).zip(expected.map(str::to_owned)).collect();
    house.start();
    house.until("all accounted for", async || house.outcomes().await.len() == expected.len()).await;
    house.until("all settled", async || house.blocks().await.last().is_some_and(|last| last.1 == 7)).await;
    assert_eq!(house.outcomes().await, expected);
    assert_eq!(house.blocks().await, [(0, 1), (2, 7)], "what was held back begins a block");
    house.stop().await;

    // As if it had died before the release: the next owner finds the rows, and they are not the repeats of themselves.
    let house = House { lifecycle: Lifecycle::new(PATIENCE), ..house };
    house.committed(2, Some(7)).await;
    let stored = house.context.metrics.blocks_stored.get();
    house.start();
    house.until("settled again", async || house.context.metrics.blocks_stored.get() > stored).await;
    assert_eq!(house.outcomes().await, expected);
    assert_eq!(house.blocks().await, [(0, 1), (2, 7)]);
    house.stop().await;
}
