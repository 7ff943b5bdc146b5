//! What must be true at the end, by queries: nothing lost, nothing twice, everything accounted for.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::house::{Done, House, blocking};
use super::load::Ledger;
use super::schedule::{End, Fault, Part};

/// What was found wrong, a line each.
pub(super) type Wrong = Vec<String>;

/// At most so many examples of one fault.
const EXAMPLES: usize = 5;

/// A record of a topic.
pub(super) struct Found {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) value: Vec<u8>,
}

/// Everything that a topic holds: committed records, in the order of each partition.
pub(super) async fn read_topic(house: &House, topic: &'static str) -> Vec<Found> {
    let bootstrap = house.bootstrap.clone();
    blocking(move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "faults-reader")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(30)).unwrap();
        let partitions = metadata.topics()[0].partitions().len();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, i32::try_from(partition).unwrap(), Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let (mut found, mut at_end) = (Vec::new(), HashSet::new());
        while at_end.len() < partitions {
            match consumer.poll(Duration::from_secs(1)) {
                Some(Ok(message)) => found.push(Found {
                    partition: message.partition(),
                    offset: message.offset(),
                    value: message.payload().unwrap_or_default().to_vec(),
                }),
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                    at_end.insert(partition);
                }
                Some(Err(_)) | None => {}
            }
        }
        found
    })
    .await
}

/// Waits until the walk has settled every record that is in the log. What is brought home is a record again, and is in the
/// log before its first place is settled: so the log is read after ClickHouse was asked.
pub(super) async fn settled(house: &House, patience: Duration) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let sql =
            "SELECT partition, max(last) FROM blocks FINAL WHERE topic = 'jwtrail.events' GROUP BY partition";
        let settled: HashMap<i32, i64> = pairs(house, sql).await.unwrap_or_default().into_iter().collect();
        let mut last: HashMap<i32, i64> = HashMap::new();
        for record in read_topic(house, "jwtrail.events").await {
            last.insert(record.partition, record.offset);
        }
        let behind: Vec<String> = last
            .iter()
            .filter(|(partition, offset)| settled.get(partition).is_none_or(|settled| settled < offset))
            .map(|(partition, offset)| format!("{partition} at {:?} of {offset}", settled.get(partition)))
            .collect();
        if behind.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > patience {
            return Err(format!("not settled within {patience:?}: {}", behind.join(", ")));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn pairs<A, B>(house: &House, sql: &str) -> Option<Vec<(A, B)>>
where
    A: std::str::FromStr,
    B: std::str::FromStr,
{
    let answer = house.onlooker.query(sql).await.ok()?;
    answer
        .lines()
        .map(|line| {
            let (a, b) = line.split_once('\t')?;
            Some((a.parse().ok()?, b.parse().ok()?))
        })
        .collect()
}

/// What must be true at any time, faults or none. Nothing if ClickHouse does not answer now.
pub(super) async fn always(house: &House) -> Wrong {
    let checks = [
        (
            "rows that lie twice at one offset",
            "SELECT count() - uniqExact(log, topic, partition, offset) FROM events",
        ),
        (
            "records that were forwarded twice",
            "SELECT countIf(origin_offset IS NOT NULL) - uniqExactIf((origin_log, origin_partition, origin_offset), origin_offset IS NOT NULL) FROM events",
        ),
    ];
    let mut wrong = Vec::new();
    for (what, sql) in checks {
        match house.onlooker.query(sql).await {
            Ok(answer) if answer != "0" => wrong.push(format!("{answer} {what}")),
            _ => {}
        }
    }
    wrong
}

/// Rows are the distinct valid events: all that were acknowledged, none that nobody sent, none twice.
pub(super) async fn rows(house: &House, ledger: &Ledger) -> Wrong {
    let sql = "SELECT toString(event_id), count() FROM events GROUP BY event_id";
    let rows: HashMap<String, u32> =
        pairs(house, sql).await.expect("ClickHouse answers").into_iter().collect();
    let lost = ledger.events.iter().filter(|(id, sent)| sent.acknowledged && !rows.contains_key(*id));
    let doubled = rows.iter().filter(|(_, count)| **count > 1);
    let strange = rows.keys().filter(|id| !ledger.events.contains_key(*id));
    let mut wrong = Vec::new();
    say(&mut wrong, "events were acknowledged and are no rows", lost.map(|(id, _)| id.clone()));
    say(
        &mut wrong,
        "events are rows more than once",
        doubled.map(|(id, count)| format!("{id} {count} times")),
    );
    say(&mut wrong, "rows are of events that nobody sent", strange.cloned());
    wrong
}

/// Blocks touch and sums agree; every record that is no event was rejected.
pub(super) async fn accounts(house: &House, ledger: &Ledger) -> Wrong {
    let mut wrong = Vec::new();
    let proof = include_str!("../../../schemas/clickhouse/queries/completeness.sql");
    let proof = proof.replace("{since:DateTime64(3, 'UTC')}", "toDateTime64(0, 3, 'UTC')");
    let incomplete = format!("SELECT * FROM (\n{proof}\n) WHERE NOT complete FORMAT JSONEachRow");
    let answer = house.onlooker.query(&incomplete).await.expect("ClickHouse answers");
    say(&mut wrong, "partitions are not complete", answer.lines().map(str::to_owned));
    let sql = "SELECT partition, offset FROM rejects FINAL WHERE outcome = 'dead'";
    let rejected: HashSet<(i32, i64)> =
        pairs(house, sql).await.expect("ClickHouse answers").into_iter().collect();
    let kept = ledger.invalid.iter().filter(|place| !rejected.contains(place));
    say(&mut wrong, "records that are no event were not rejected", kept.map(|place| format!("{place:?}")));
    wrong.extend(always(house).await);
    wrong
}

/// What the cases of a storm share: tenant and rule.
type Shared = [String; 2];

/// Every step of the outbox was told, alone or by the storm that it was in, and whatever was told twice has an excuse.
pub(super) async fn alerts(house: &House, patience: Duration) -> (Wrong, usize) {
    let mut wanted: Vec<(String, Option<Shared>)> = Vec::new();
    let mut highest: HashMap<String, usize> = HashMap::new();
    for record in read_topic(house, "jwtrail.alerts").await {
        let alert: serde_json::Value = serde_json::from_slice(&record.value).unwrap();
        let (finding, severity) = (alert["data"]["finding_id"].as_str(), alert["data"]["severity"].as_str());
        let (finding, severity) = (finding.unwrap().to_owned(), severity.unwrap());
        let rank = ["info", "low", "medium", "high", "critical"].iter().position(|word| *word == severity);
        // A repeated walk says the same steps again: only what is above the highest so far is told.
        let rank = rank.unwrap() + 1;
        let so_far = highest.entry(finding.clone()).or_default();
        if rank > *so_far {
            *so_far = rank;
            let shared = ["tenant", "rule"].map(|name| alert["data"][name].as_str().unwrap().to_owned());
            wanted.push((format!("{finding}_{severity}"), Some(shared).filter(|_| severity != "critical")));
        }
    }
    let begun = Instant::now();
    let missing = loop {
        let told = house.receiver.deliveries();
        let storms = told.iter().filter(|one| one.data("rule") == "alert_storm");
        let storms: HashSet<Shared> = storms
            .map(|storm| [storm.data("tenant"), storm.body["data"]["evidence"]["rule"].as_str().unwrap()])
            .map(|shared| shared.map(str::to_owned))
            .collect();
        let ids: HashSet<&str> = told.iter().map(|one| one.id.as_str()).collect();
        let missing = wanted.iter().filter(|(id, shared)| {
            !ids.contains(id.as_str()) && shared.as_ref().is_none_or(|shared| !storms.contains(shared))
        });
        let missing: Vec<String> = missing.map(|(id, _)| id.clone()).collect();
        if missing.is_empty() || begun.elapsed() > patience {
            break missing;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let mut wrong = Vec::new();
    say(&mut wrong, "alerts of the outbox were not told", missing.into_iter());
    let done = house.done();
    let mut last: HashMap<String, Instant> = HashMap::new();
    let mut repeats = Vec::new();
    for delivery in house.receiver.deliveries() {
        if let Some(before) = last.insert(delivery.id.clone(), delivery.at)
            && !done.iter().any(|done| excuses(done, before, delivery.at))
        {
            repeats.push(delivery.id);
        }
    }
    say(&mut wrong, "alerts were told twice without a reason", repeats.into_iter());
    (wrong, wanted.len())
}

/// Whether what was done may have kept an answer from being committed: `deliver` was killed, or lost the log or the
/// receiver, between the two.
fn excuses(done: &Done, first: Instant, second: Instant) -> bool {
    let may = match done.op.fault {
        Fault::Kill(part) | Fault::Freeze(part) => matches!(part, Part::Deliver | Part::Broker(_)),
        Fault::Wire(Part::Deliver, End::Kafka | End::Receiver, _) => true,
        _ => false,
    };
    // An answer may be under way for as long as a delivery may take.
    let slack = Duration::from_secs(20);
    may && done.began < second && done.ended.is_none_or(|ended| ended + slack > first)
}

fn say(wrong: &mut Wrong, what: &str, cases: impl Iterator<Item = String>) {
    let cases: Vec<String> = cases.collect();
    if !cases.is_empty() {
        let examples = cases.iter().take(EXAMPLES).cloned().collect::<Vec<_>>().join(", ");
        wrong.push(format!("{} {what}: {examples}", cases.len()));
    }
}
