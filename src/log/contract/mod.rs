//! What every log must keep: one suite, run against each implementation.
//!
//! An implementation says how its log is opened, reopened and truncated ([`UnderTest`]); [`contract_suite`] makes one
//! test a case of it.

mod alone;
mod scanning;
mod sharing;
mod tailing;

pub(crate) use alone::*;
pub(crate) use scanning::*;
pub(crate) use sharing::*;
pub(crate) use tailing::*;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{
    Assigned, Batch, Commit, CommitError, EventLog, Lane, LogError, METADATA_BYTES_MAX, MemberEvent,
    Membership, NewRecord, RevokeDone, Scan, Topic, TopicSpec, home_partition,
};
use crate::clock::Random;
use crate::model::{Offset, PartitionId, ResumeAt, UnixMs};

/// A log under test.
#[async_trait]
pub(crate) trait UnderTest: Send + Sync + Sized {
    /// A log whose topics are there and empty; `Events` and `State` have at least two partitions, the others one or
    /// more.
    async fn fresh() -> Self;

    fn log(&self) -> Arc<dyn EventLog>;

    /// The same log, opened by the next process. Members and lanes of the old one are gone.
    async fn reopen(self) -> Self;

    /// Lets the oldest records of a partition go, so that it starts at or after `offset`. May append others.
    async fn truncate(&self, topic: Topic, partition: PartitionId, offset: Offset);
}

/// One `#[tokio::test]` a case: `contract_suite!(#[ignore = "why"] TheLogUnderTest);`
macro_rules! contract_suite {
    ($(#[$attribute:meta])* $log:ty) => {
        $crate::log::contract::contract_suite! { @each [$(#[$attribute])*] $log:
            append_places_by_partition_and_by_key,
            append_keeps_the_order_and_every_byte,
            a_record_over_the_limit_is_refused,
            appended_records_survive_reopening,
            append_time_never_runs_back,
            migrate_is_idempotent,
            join_gives_each_partition_once,
            a_commit_survives_reopening,
            metadata_over_the_limit_is_refused,
            a_refused_commit_leaves_nothing_and_the_next_goes_through,
            groups_commit_apart,
            a_commit_and_its_records_are_one,
            two_members_share_and_the_one_that_stays_gets_all,
            a_partition_is_let_go_only_when_the_revocation_is_answered,
            a_former_owner_commits_nothing,
            a_member_that_left_commits_nothing,
            a_commit_under_way_while_revoked_is_seen_or_refused,
            a_member_that_leaves_without_answering_holds_nobody_up,
            a_lane_starts_at_its_commit,
            seek_goes_back_and_forth,
            next_takes_no_more_than_asked,
            next_waits_for_a_record,
            a_dropped_next_loses_nothing,
            the_position_passes_holes,
            truncation_below_the_commit_shows,
            a_lane_below_the_start_of_the_log_begins_again_knowing_it,
            offset_at_finds_the_first_record_of_a_time,
            a_scan_reads_what_was_there_and_ends,
            a_scan_passes_holes,
            a_scan_of_a_truncated_start_begins_where_the_log_does,
            a_compacted_topic_keeps_the_newest_of_each_key,
            a_former_owners_checkpoint_leaves_nothing,
            a_new_owners_scan_sees_every_checkpoint_of_the_former,
            a_tail_gives_what_is_there_then_what_comes,
            a_tail_sees_what_is_committed_and_passes_holes,
            a_tail_of_what_is_written_again_and_again_ends_with_the_newest,
        }
    };
    (@each $attributes:tt $log:ty: $($case:ident,)+) => {
        $($crate::log::contract::contract_suite! { @one $attributes $log: $case })+
    };
    (@one [$($attribute:tt)*] $log:ty: $case:ident) => {
        $($attribute)*
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $crate::log::contract::in_time($crate::log::contract::$case::<$log>()).await;
        }
    };
}
pub(crate) use contract_suite;

/// A case that hangs fails.
pub(crate) async fn in_time(case: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(120), case).await.expect("the case hangs");
}

pub(crate) fn to(partition: u32, text: &str) -> NewRecord {
    NewRecord { partition: Some(PartitionId(partition)), value: text.into(), ..NewRecord::default() }
}

/// A group of its own for each use: logs may outlive a case.
pub(crate) fn new_group() -> String {
    format!("contract-{}", Random::hex::<6>())
}

pub(crate) fn offset(offset: i64) -> Offset {
    Offset::new(offset).unwrap()
}

pub(crate) fn at(resume_at: i64) -> ResumeAt {
    ResumeAt::at(offset(resume_at))
}

/// A record as it was read, with its place taken out.
pub(crate) struct Read {
    pub(crate) offset: Offset,
    pub(crate) append_time: UnixMs,
    pub(crate) record: NewRecord,
}

pub(crate) fn texts(read: &[Read]) -> Vec<String> {
    read.iter().map(|read| String::from_utf8(read.record.value.clone()).unwrap()).collect()
}

/// The records of a batch, copied out.
fn reads(batch: &Batch) -> impl Iterator<Item = Read> {
    batch.iter().map(|record| Read {
        offset: record.offset,
        append_time: record.append_time,
        record: NewRecord {
            key: record.key.map(<[u8]>::to_vec),
            partition: Some(batch.partition()),
            value: record.value.to_vec(),
            headers: record
                .headers
                .iter()
                .map(|header| (header.name.to_owned(), header.value.to_vec()))
                .collect(),
        },
    })
}

/// Reads from the lane's position, which is before the end, until it has passed everything that is there now.
pub(crate) async fn read_all(lane: &dyn Lane) -> Vec<Read> {
    let (mut batch, mut read, mut position) = (Batch::default(), Vec::new(), None);
    let end = lane.end().await.unwrap();
    // An empty partition has nothing to wait for.
    while end > Offset::ZERO && position.is_none_or(|position| position < end) {
        let next = lane.next(&mut batch, 1000);
        let Ok(done) = tokio::time::timeout(Duration::from_secs(20), next).await else {
            panic!("stands at {position:?}, the end is {end}");
        };
        done.unwrap();
        let moved = batch.position();
        assert!(moved > position, "from {position:?} to {moved:?}");
        position = moved;
        read.extend(reads(&batch));
    }
    assert!(read.is_sorted_by(|a, b| a.offset < b.offset));
    read
}

/// A member of a group, and what it holds.
pub(crate) struct Member {
    pub(crate) membership: Box<dyn Membership>,
    pub(crate) held: BTreeMap<PartitionId, Assigned>,
    /// Revocations are answered at once.
    pub(crate) answers: bool,
    /// Revocations that wait for their answer, with the lane they are about.
    revoked: Vec<(PartitionId, Arc<dyn Lane>, RevokeDone)>,
}

impl Member {
    pub(crate) async fn join(log: &dyn EventLog, group: &str, topic: Topic) -> Self {
        let membership = log.join(group, topic).await.unwrap();
        Self { membership, held: BTreeMap::new(), answers: true, revoked: Vec::new() }
    }

    /// Takes in one change.
    pub(crate) async fn step(&mut self) {
        match self.membership.next().await.unwrap() {
            MemberEvent::Assigned(assigned) => {
                let before = self.held.insert(assigned.partition, assigned);
                assert!(before.is_none(), "a partition is assigned once");
            }
            MemberEvent::Delayed { .. } => {}
            MemberEvent::Revoked { partition, done } => {
                let assigned = self.held.remove(&partition).expect("only what is held is revoked");
                if !self.answers {
                    self.revoked.push((partition, assigned.lane, done));
                }
            }
            MemberEvent::Lost { partition } => panic!("lost {partition}"),
        }
    }

    fn answer(&mut self) {
        self.revoked.clear();
    }

    pub(crate) async fn until_held(&mut self, partitions: u32) {
        while self.held.len() < partitions as usize {
            self.step().await;
        }
    }

    pub(crate) async fn lane(&mut self, partition: u32) -> Arc<dyn Lane> {
        while !self.held.contains_key(&PartitionId(partition)) {
            self.step().await;
        }
        self.held[&PartitionId(partition)].lane.clone()
    }
}

/// What the membership says next of partition 0.
pub(crate) async fn next_of_0(membership: &mut dyn Membership) -> MemberEvent {
    loop {
        let event = membership.next().await.unwrap();
        match &event {
            MemberEvent::Assigned(assigned) if assigned.partition != PartitionId(0) => {}
            MemberEvent::Delayed { .. } => {}
            MemberEvent::Revoked { partition, .. } | MemberEvent::Lost { partition }
                if *partition != PartitionId(0) => {}
            _ => return event,
        }
    }
}

pub(crate) async fn assigned_0(membership: &mut dyn Membership) -> Assigned {
    match next_of_0(membership).await {
        MemberEvent::Assigned(assigned) => assigned,
        MemberEvent::Delayed { why, .. } => panic!("delayed: {why}"),
        MemberEvent::Revoked { .. } => panic!("revoked"),
        MemberEvent::Lost { .. } => panic!("lost"),
    }
}

/// Lets both members take in changes until `done`.
pub(crate) async fn both_until(
    first: &mut Member,
    second: &mut Member,
    done: impl Fn(&Member, &Member) -> bool,
) {
    while !done(first, second) {
        tokio::select! { () = first.step() => {} () = second.step() => {} }
    }
}
