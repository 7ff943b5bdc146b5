//! A partition changes hands, with a real journal and a real ClickHouse: no row is lost, none is doubled.

use std::sync::Arc;

use super::*;
use crate::clickhouse::testing::Database;
use crate::log::{Assigned, Batch, EventLog, NewRecord, Origin, Topic};
use crate::pipeline::store::testing::{TestLog, block_of, event, push_batch};
use crate::pipeline::store::{CutBlock, Patience, Put, Store};

const PARTITION: PartitionId = PartitionId(0);

/// One installation: a journal and a database.
struct House {
    database: Database,
    log: TestLog,
    store: Store,
}

impl House {
    async fn new() -> Self {
        let (database, log) = (Database::new().await, TestLog::new().await);
        let store = Store::new(database.client.clone(), log.journal.clone());
        Self { database, log, store }
    }

    /// The same ClickHouse with another, empty journal: wiped, or moved elsewhere.
    async fn with_another_log(self) -> Self {
        let log = TestLog::new().await;
        let store = Store::new(self.database.client.clone(), log.journal.clone());
        Self { log, store, ..self }
    }

    async fn append(&self, subjects: &[&str]) {
        let record = |sub: &&str| NewRecord {
            partition: Some(PARTITION),
            value: event("accepted", sub),
            ..NewRecord::default()
        };
        self.log.journal.append(Topic::Events, subjects.iter().map(record).collect()).await.unwrap();
    }

    async fn adopt(&self, assigned: &Assigned) -> Adopted {
        let adopted = adopt(assigned, Topic::Events, &self.store, None).await.unwrap();
        adopted.commit(assigned.lane.as_ref()).await.unwrap();
        adopted
    }

    /// Subjects of the rows, sorted: each as often as it is there.
    async fn subjects(&self) -> Vec<String> {
        self.database.client.query("SELECT sub FROM events ORDER BY sub").fetch_all().await.unwrap()
    }
}

/// Walks from where the partition was taken over, up to its unfinished block's end or the log's.
async fn walk(assigned: &Assigned, adopted: &Adopted) -> CutBlock {
    let first = adopted.resume_at.offset();
    let origin = Origin { log: adopted.log.clone(), topic: Topic::Events, partition: assigned.partition };
    let mut block = block_of(origin, first.get());
    let end = assigned.lane.end().await.unwrap();
    let last = adopted.unfinished.or(end.before()).unwrap();
    assigned.lane.seek(first).await.unwrap();
    let (mut batch, mut position) = (Batch::default(), first);
    while position <= last {
        let left = usize::try_from(last.get() - position.get() + 1).unwrap();
        assigned.lane.next(&mut batch, left).await.unwrap();
        push_batch(&mut block, &batch);
        position = batch.position().unwrap();
    }
    block.cut(last)
}

fn settler(assigned: &Assigned, adopted: &Adopted) -> Settler {
    Settler::new(Arc::clone(&assigned.lane), adopted, adopted.state)
}

/// Takes the partition over and stores and releases all that is there.
async fn run(house: &House) -> Adopted {
    let (_member, assigned) = house.log.own(PARTITION).await;
    let adopted = house.adopt(&assigned).await;
    let block = walk(&assigned, &adopted).await;
    let settler = settler(&assigned, &adopted);
    if adopted.unfinished.is_none() {
        settler.reserve(&block).await.unwrap();
    }
    house.store.put(&block, adopted.put_of(block.id().first), &Patience::default()).await.unwrap();
    settler.release(&block, None, None).await.unwrap();
    adopted
}

#[tokio::test]
async fn the_first_owner_draws_the_log_and_the_next_keeps_it() {
    let house = House::new().await;
    house.append(&["alice", "bob"]).await;
    let first = run(&house).await;
    house.append(&["carol"]).await;
    let second = run(&house).await;
    assert_eq!(first.log, second.log);
    assert_eq!(second.put_of(second.resume_at.offset()), Put::First);
    assert_eq!(house.subjects().await, ["alice", "bob", "carol"]);
}

#[tokio::test]
async fn a_block_that_an_owner_left_is_finished_by_the_next() {
    for put_before in [false, true] {
        let house = House::new().await;
        house.append(&["alice", "bob", "carol"]).await;
        let (member, assigned) = house.log.own(PARTITION).await;
        let adopted = house.adopt(&assigned).await;
        let block = walk(&assigned, &adopted).await;
        settler(&assigned, &adopted).reserve(&block).await.unwrap();
        if put_before {
            house.store.put(&block, Put::First, &Patience::default()).await.unwrap();
            let delete = "ALTER TABLE events DELETE WHERE sub = 'bob' SETTINGS mutations_sync = 1";
            house.database.client.execute(delete).await.unwrap();
        }
        // Killed here. More has come when the next one starts: the block still ends where it ended.
        drop((member, assigned));
        house.append(&["dave"]).await;
        let next = run(&house).await;
        assert_eq!((&next.log, next.unfinished), (&adopted.log, Some(block.id().last)));
        assert_eq!(house.subjects().await, ["alice", "bob", "carol"], "put before: {put_before}");
        run(&house).await;
        assert_eq!(house.subjects().await, ["alice", "bob", "carol", "dave"], "put before: {put_before}");
    }
}

#[tokio::test]
async fn a_wiped_journal_is_another_log_and_none_of_its_rows_is_swallowed() {
    let house = House::new().await;
    house.append(&["alice", "bob"]).await;
    let before = run(&house).await;
    let house = house.with_another_log().await;
    house.append(&["carol", "dave"]).await;
    let after = run(&house).await;
    assert_ne!(before.log, after.log);
    assert_eq!(house.subjects().await, ["alice", "bob", "carol", "dave"], "the same offsets, other records");
}

#[tokio::test]
async fn a_shorter_log_is_another_log() {
    let house = House::new().await;
    house.append(&["alice", "bob", "carol"]).await;
    let before = run(&house).await;
    let house = house.with_another_log().await;
    house.append(&["dave"]).await;
    let after = run(&house).await;
    assert_ne!(before.log, after.log);
    assert_eq!(house.subjects().await, ["alice", "bob", "carol", "dave"]);
}

#[tokio::test]
async fn an_expired_commit_is_found_again_by_its_rows() {
    let house = House::new().await;
    house.append(&["alice", "bob"]).await;
    let before = run(&house).await;
    house.append(&["carol"]).await;
    let (_member, mut assigned) = house.log.own(PARTITION).await;
    assigned.commit = None;
    let after = house.adopt(&assigned).await;
    assert_eq!(after.log, before.log);
    let block = walk(&assigned, &after).await;
    house.store.put(&block, after.put_of(block.id().first), &Patience::default()).await.unwrap();
    assert_eq!(house.subjects().await, ["alice", "bob", "carol"]);
}

#[tokio::test]
async fn a_reset_by_hand_stops_until_someone_decides() {
    let house = House::new().await;
    house.append(&["alice", "bob"]).await;
    run(&house).await;
    let (member, mut assigned) = house.log.own(PARTITION).await;
    let commit = assigned.commit.as_mut().unwrap();
    commit.metadata.clear();
    commit.resume_at = ResumeAt::at(Offset::ZERO);
    let undecided = adopt(&assigned, Topic::Events, &house.store, None).await.unwrap_err();
    assert_eq!(undecided.code(), "adoption_undecided");
    let adopted = adopt(&assigned, Topic::Events, &house.store, Some(Adopt::Commit)).await.unwrap();
    adopted.commit(assigned.lane.as_ref()).await.unwrap();
    // Killed before it has stored anything: nobody decides anew, and the next owner asks as this one would have.
    drop((member, assigned));
    run(&house).await;
    assert_eq!(house.subjects().await, ["alice", "bob"], "walked again, not stored again");
}

/// What was found must be told before the commit stands: an owner that dies in between has changed nothing.
#[tokio::test]
async fn what_is_adopted_is_found_again_until_it_is_committed() {
    let house = House::new().await;
    house.append(&["alice"]).await;
    let (member, assigned) = house.log.own(PARTITION).await;
    let first = adopt(&assigned, Topic::Events, &house.store, None).await.unwrap();
    drop((member, assigned));
    let (member, assigned) = house.log.own(PARTITION).await;
    assert!(assigned.commit.is_none());
    let adopted = house.adopt(&assigned).await;
    assert_ne!(adopted.log, first.log);
    drop((member, assigned));
    let (_member, assigned) = house.log.own(PARTITION).await;
    assert_eq!(house.adopt(&assigned).await.log, adopted.log);
}
