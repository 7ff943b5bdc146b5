//! An owner follows another one: by its checkpoints, or by walking the log again, and with the same findings.

use super::*;
use crate::log::Batch;

/// A checkpoint with every block.
const OFTEN: CheckpointPace = CheckpointPace { every: Duration::ZERO, records: 1, keys: 1 };
/// None, unless a lane is stopped while a block is on its way.
const SELDOM: CheckpointPace =
    CheckpointPace { every: Duration::from_secs(3_600), records: usize::MAX, keys: usize::MAX };
/// So that there is something to walk between it and the commit.
const SOMETIMES: CheckpointPace = CheckpointPace { records: 7, ..SELDOM };

/// The time of the events.
fn clock() -> Clock {
    Clock::Manual(Arc::new(AtomicI64::new(received(60).get())))
}

fn pace(checkpoint: CheckpointPace) -> Pace {
    // Short: what is appended bit by bit comes to lie in many blocks.
    let (min_age, age_per_partition) = (Duration::from_millis(5), Duration::ZERO);
    Pace { min_age, age_per_partition, checkpoint, ..Pace::default() }
}

impl House {
    async fn first_owner(checkpoint: CheckpointPace) -> Self {
        Self::at(clock(), pace(checkpoint)).await
    }

    /// Another process over the same log and the same ClickHouse.
    fn another_owner(self, checkpoint: CheckpointPace) -> Self {
        let Self { database, log, .. } = self;
        Self::over(database, log, clock(), pace(checkpoint))
    }

    /// Walks what is there, up to and with `last`.
    async fn walk_through(&self, last: u64) {
        self.start();
        let settled = async || self.blocks().await.last().is_some_and(|(_, settled)| *settled == last);
        self.until("stored", settled).await;
    }

    /// Whether the partition's lane began with a checkpoint. Those of the other partitions, where nothing is, have none.
    fn had_a_checkpoint(&self) -> bool {
        let text = self.context.metrics.encode();
        let [checkpoint, walk]: [u32; 2] = ["checkpoint", "walk"].map(|way| {
            let count = format!("jwtrail_state_restored_seconds_count{{way=\"{way}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&count)?.parse().ok()).unwrap_or_default()
        });
        assert_eq!(checkpoint + walk, 4, "lanes began");
        checkpoint == 1
    }

    /// Each finding with everything that more or fewer matches would change, and the alerts that were told.
    async fn findings(&self) -> Vec<(String, String, u64, String, String)> {
        let sql = "SELECT rule, sub, event_count, toString(first_time), toString(event_ids) FROM findings ORDER BY ALL";
        self.database.client.query(sql).fetch_all().await.unwrap()
    }

    /// The commit's metadata, and the records of the state topic.
    async fn left(&self) -> (String, Vec<(Vec<u8>, Vec<u8>)>) {
        let (_member, assigned) = self.log.own(PARTITION).await;
        let mut scan = self.log.journal.scan(Topic::State, PARTITION, None).await.unwrap();
        let (mut records, mut batch) = (Vec::new(), Batch::default());
        while scan.next(&mut batch, 100).await.unwrap() {
            let owned =
                |record: crate::log::Record<'_>| (record.key.unwrap().to_vec(), record.value.to_vec());
            records.extend(batch.iter().map(owned));
        }
        (assigned.commit.unwrap().metadata, records)
    }
}

/// Uses and leaks of a handful of subjects, each at its own second.
fn traffic(range: std::ops::Range<i64>) -> Vec<Vec<u8>> {
    range
        .map(|number| {
            let leak = String::from_utf8(leak_at(received(number))).unwrap();
            let sub = ["alice", "bob", "carol", "dave"][usize::try_from(number % 4).unwrap()];
            leak.replace("\"alice\"", &format!("\"{sub}\"")).into_bytes()
        })
        .collect()
}

async fn uninterrupted(records: i64) -> Vec<(String, String, u64, String, String)> {
    let house = House::first_owner(SELDOM).await;
    house.append(traffic(0..records)).await;
    house.walk_through(records.unsigned_abs() - 1).await;
    house.stop().await;
    house.findings().await
}

#[tokio::test]
async fn owners_one_after_the_other_find_what_one_finds() {
    const OWNERS: i64 = 4;
    let expected = uninterrupted(OWNERS * 10).await;
    assert!(!expected.is_empty());
    for checkpoints in [OFTEN, SOMETIMES, SELDOM] {
        let mut house = House::first_owner(checkpoints).await;
        for owner in 0..OWNERS {
            // In two parts: in at least two blocks, of which one begins with what the other left.
            for half in [0, 5] {
                let from = owner * 10 + half;
                house.append(traffic(from..from + 5)).await;
                if half == 0 {
                    house.walk_through((from + 4).unsigned_abs()).await;
                }
            }
            house.stop().await;
            if owner == 0 || checkpoints.records == 1 {
                assert_eq!(house.had_a_checkpoint(), owner > 0, "owner {owner}");
            }
            house = house.another_owner(checkpoints);
        }
        house.walk_through((OWNERS * 10 - 1).unsigned_abs()).await;
        house.stop().await;
        assert_eq!(house.findings().await, expected);
    }
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_used_is_walked_around_and_replaced() {
    let expected = uninterrupted(20).await;
    let break_one: [fn(&mut Vec<u8>); 2] = [|value| value[0] = 99, |value| value.truncate(3)];
    for break_it in break_one {
        let house = House::first_owner(OFTEN).await;
        house.append(traffic(0..10)).await;
        house.walk_through(9).await;
        house.stop().await;
        let (metadata, records) = house.left().await;
        assert!(metadata.ends_with(r#""end":null,"state":10}"#), "{metadata}");
        {
            let (_member, assigned) = house.log.own(PARTITION).await;
            let (key, mut value) = records.into_iter().find(|(_, value)| !value.is_empty()).unwrap();
            break_it(&mut value);
            let (key, partition) = (Some(key), Some(PARTITION));
            let broken = NewRecord { key, partition, value, ..NewRecord::default() };
            let resume_at = ResumeAt::at(Offset::new(10).unwrap());
            assigned.lane.commit(resume_at, &metadata, vec![(Topic::State, broken)]).await.unwrap();
        }
        let house = house.another_owner(OFTEN);
        house.append(traffic(10..15)).await;
        house.walk_through(14).await;
        house.stop().await;
        assert!(!house.had_a_checkpoint());
        let house = house.another_owner(OFTEN);
        house.append(traffic(15..20)).await;
        house.walk_through(19).await;
        house.stop().await;
        assert!(house.had_a_checkpoint());
        assert_eq!(house.findings().await, expected);
    }
}

#[tokio::test]
async fn every_commit_repeats_where_the_last_checkpoint_was_made() {
    let house = House::first_owner(OFTEN).await;
    house.append(traffic(0..10)).await;
    house.walk_through(9).await;
    house.stop().await;
    // The next owner is stopped before it makes one of its own.
    let house = house.another_owner(SELDOM);
    house.append(traffic(10..15)).await;
    house.walk_through(14).await;
    house.lifecycle.advance(Phase::Aborting);
    house.lifecycle.finish().await;
    let (metadata, _) = house.left().await;
    assert!(metadata.ends_with(r#""state":10}"#), "{metadata}");
    // And the one after it walks what came since.
    let house = house.another_owner(SELDOM);
    house.append(traffic(15..20)).await;
    house.walk_through(19).await;
    house.stop().await;
    assert!(house.had_a_checkpoint());
    assert_eq!(house.findings().await, uninterrupted(20).await);
}
