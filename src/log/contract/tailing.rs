//! Following a compacted partition.

use std::collections::BTreeMap;

use super::*;
use crate::log::Tail;

/// What a follower holds: the last value of each key.
#[derive(Default)]
struct Follower(BTreeMap<String, String>);

impl Follower {
    /// Takes in one batch; false if it is empty.
    async fn step(&mut self, tail: &mut dyn Tail, max: usize) -> bool {
        let mut batch = Batch::default();
        tail.next(&mut batch, max).await.unwrap();
        assert!(batch.len() <= max);
        for read in reads(&batch) {
            let text = |bytes| String::from_utf8(bytes).unwrap();
            let (key, value) = (text(read.record.key.unwrap()), text(read.record.value));
            self.0.insert(key, value);
        }
        !batch.is_empty()
    }

    async fn until(&mut self, tail: &mut dyn Tail, max: usize, wanted: &[(&str, &str)]) {
        let wanted = wanted.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        while self.0 != wanted {
            self.step(tail, max).await;
        }
    }
}

pub(crate) async fn a_tail_gives_what_is_there_then_what_comes<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let mut empty = log.tail(Topic::State, PartitionId(0)).await.unwrap();
    assert!(!Follower::default().step(&mut *empty, 7).await, "an empty partition is told as one");

    let names: Vec<_> = (0..10).map(|n| format!("key {n}")).collect();
    log.append(Topic::State, names.iter().map(|name| state(1, name, "1")).collect()).await.unwrap();
    let mut tail = log.tail(Topic::State, PartitionId(1)).await.unwrap();
    let mut follower = Follower::default();
    while follower.step(&mut *tail, 3).await {}
    assert_eq!(follower.0.len(), 10, "everything there was came before the word that it had");

    log.append(Topic::State, vec![state(1, "key 3", "2"), state(0, "elsewhere", "1")]).await.unwrap();
    let mut wanted: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    wanted[3].1 = "2";
    follower.until(&mut *tail, 3, &wanted).await;
    // A quiet log is told again and again: by that a follower knows that it is in touch.
    while follower.step(&mut *tail, 3).await {}
    assert!(!follower.step(&mut *tail, 3).await);

    drop((tail, empty, log));
    let subject = subject.reopen().await;
    let mut tail = subject.log().tail(Topic::State, PartitionId(1)).await.unwrap();
    let mut follower = Follower::default();
    while follower.step(&mut *tail, 100).await {}
    follower.until(&mut *tail, 100, &wanted).await;
    let nowhere = subject.log().tail(Topic::State, PartitionId(100)).await;
    assert!(matches!(nowhere, Err(LogError::Topic { .. })), "{:?}", nowhere.err());
}

pub(crate) async fn a_tail_sees_what_is_committed_and_passes_holes<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    let lane = member.lane(0).await;
    let mut tail = log.tail(Topic::State, PartitionId(0)).await.unwrap();
    let mut follower = Follower::default();
    for n in 0..5 {
        let value = n.to_string();
        // Each commit may leave a marker of its transaction, also behind the last record.
        lane.commit(at(0), &value, vec![(Topic::State, state(0, "alice", &value))]).await.unwrap();
        follower.until(&mut *tail, 10, &[("alice", &value)]).await;
    }
}

pub(crate) async fn a_tail_of_what_is_written_again_and_again_ends_with_the_newest<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let mut tail = log.tail(Topic::State, PartitionId(0)).await.unwrap();
    let writing = async {
        for n in 0..100 {
            let round = vec![state(0, "alice", &n.to_string()), state(0, "bob", &n.to_string())];
            log.append(Topic::State, round).await.unwrap();
        }
    };
    let mut follower = Follower::default();
    let following = follower.until(&mut *tail, 1, &[("alice", "99"), ("bob", "99")]);
    tokio::join!(writing, following);
}
