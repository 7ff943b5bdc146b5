//! What every log must keep: one suite, run against each implementation.
//!
//! An implementation says how its log is opened, reopened and truncated ([`UnderTest`]); [`contract_suite`] makes one
//! test a case of it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{
    Assigned, Batch, Commit, CommitError, EventLog, Lane, LogError, METADATA_BYTES_MAX, MemberEvent,
    Membership, NewRecord, RevokeDone, Topic, home_partition,
};
use crate::clock::Random;
use crate::model::{Offset, PartitionId, ResumeAt, UnixMs};

/// A log under test.
#[async_trait]
pub(crate) trait UnderTest: Send + Sync + Sized {
    /// A log whose topics are there and empty; `Events` has at least two partitions, the others one or more.
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
            offset_at_finds_the_first_record_of_a_time,
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

// ---- appending ----------------------------------------------------------------------------------------------------

pub(crate) async fn append_places_by_partition_and_by_key<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let partitions = log.partitions(Topic::Events).await.unwrap();
    let keyed = |key: &str| NewRecord { key: Some(key.into()), value: b"k".to_vec(), ..NewRecord::default() };
    let both = NewRecord { partition: Some(PartitionId(1)), ..keyed("alice") };
    let records = vec![to(0, "a"), to(1, "b"), to(0, "c"), keyed("alice"), keyed("bob"), both];
    let placed = log.append(Topic::Events, records).await.unwrap();

    let by_key = |key: &str| home_partition(key.as_bytes(), partitions);
    let wanted =
        [PartitionId(0), PartitionId(1), PartitionId(0), by_key("alice"), by_key("bob"), PartitionId(1)];
    assert_eq!(placed.iter().map(|placed| placed.partition).collect::<Vec<_>>(), wanted);
    for partition in (0..partitions).map(PartitionId) {
        let offsets: Vec<_> = placed
            .iter()
            .filter(|placed| placed.partition == partition)
            .map(|placed| placed.offset)
            .collect();
        assert!(offsets.is_sorted_by(|a, b| a < b), "in the order of the records: {offsets:?}");
    }
}

pub(crate) async fn append_keeps_the_order_and_every_byte<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let odd = NewRecord {
        key: Some(vec![0, 255, 31]),
        partition: Some(PartitionId(0)),
        value: vec![0, 200, 10],
        headers: vec![
            ("again".into(), b"1".to_vec()),
            ("again".into(), Vec::new()),
            ("other".into(), vec![255, 0]),
        ],
    };
    let empty = NewRecord { partition: Some(PartitionId(0)), ..NewRecord::default() };
    let empty_key = NewRecord { key: Some(Vec::new()), ..empty.clone() };
    let wanted = vec![odd, empty, empty_key];
    log.append(Topic::Events, wanted.clone()).await.unwrap();
    let many: Vec<_> = (0..500).map(|n| to(0, &format!("{n}"))).collect();
    for part in many.chunks(70) {
        log.append(Topic::Events, part.to_vec()).await.unwrap();
    }

    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    let read = read_all(&*member.lane(0).await).await;
    let read: Vec<_> = read.into_iter().map(|read| read.record).collect();
    assert_eq!(read, [wanted, many].concat());
}

pub(crate) async fn a_record_over_the_limit_is_refused<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let huge = NewRecord { value: vec![b'x'; 64 << 20], ..to(0, "") };
    let refused = log.append(Topic::Events, vec![huge]).await;
    assert!(matches!(refused, Err(LogError::TooLarge { .. })), "{refused:?}");
    let large = NewRecord { value: vec![b'x'; 900_000], ..to(0, "") };
    log.append(Topic::Events, vec![large]).await.unwrap();
}

pub(crate) async fn appended_records_survive_reopening<L: UnderTest>() {
    let subject = L::fresh().await;
    let placed = subject.log().append(Topic::Events, vec![to(0, "a"), to(0, "b")]).await.unwrap();
    let subject = subject.reopen().await;
    let log = subject.log();
    let later = log.append(Topic::Events, vec![to(0, "c")]).await.unwrap();
    assert!(later[0].offset > placed[1].offset);

    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    assert_eq!(texts(&read_all(&*member.lane(0).await).await), ["a", "b", "c"]);
}

pub(crate) async fn append_time_never_runs_back<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    for n in 0..20 {
        log.append(Topic::Events, vec![to(0, &format!("{n}"))]).await.unwrap();
    }
    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    let read = read_all(&*member.lane(0).await).await;
    assert_eq!(read.len(), 20);
    assert!(read.is_sorted_by_key(|read| read.append_time));
    assert!(read[0].append_time > UnixMs::new(1_600_000_000_000), "the log's own time, not none");
}

pub(crate) async fn migrate_is_idempotent<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let mut specs = Vec::new();
    for topic in Topic::ALL {
        let partitions = log.partitions(topic).await.unwrap();
        specs.push(super::TopicSpec { partitions, ..topic.spec(true) });
    }
    log.migrate(&specs).await.unwrap();
    assert_eq!(log.migrate(&specs).await.unwrap(), Vec::<String>::new(), "there is nothing left to do");
    let wider = super::TopicSpec { partitions: specs[0].partitions + 1, ..specs[0] };
    let refused = log.migrate(&[wider]).await;
    assert!(matches!(refused, Err(LogError::Topic { .. })), "partitions never change in place: {refused:?}");
    assert_eq!(log.partitions(specs[0].topic).await.unwrap(), specs[0].partitions);
    log.health().await.unwrap();
}

// ---- committing ---------------------------------------------------------------------------------------------------

pub(crate) async fn join_gives_each_partition_once<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    log.append(Topic::Events, vec![to(1, "a"), to(1, "b")]).await.unwrap();
    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    member.until_held(log.partitions(Topic::Events).await.unwrap()).await;
    for (partition, assigned) in &member.held {
        assert_eq!(assigned.commit, None);
        assert_eq!(assigned.start, Offset::ZERO);
        let end = if *partition == PartitionId(1) { 2 } else { 0 };
        assert_eq!(assigned.end, offset(end), "{partition}");
        assert_eq!(assigned.lane.end().await.unwrap(), offset(end), "{partition}");
    }
}

pub(crate) async fn a_commit_survives_reopening<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    log.append(Topic::Events, vec![to(0, "a"), to(0, "b")]).await.unwrap();
    let group = new_group();
    let mut member = Member::join(&*log, &group, Topic::Events).await;
    let lane = member.lane(0).await;
    lane.commit(at(0), "first", vec![]).await.unwrap();
    let metadata = "m".repeat(METADATA_BYTES_MAX);
    lane.commit(at(1), &metadata, vec![]).await.unwrap();
    drop((member, lane, log));

    let subject = subject.reopen().await;
    let log = subject.log();
    let mut member = Member::join(&*log, &group, Topic::Events).await;
    member.lane(0).await;
    assert_eq!(member.held[&PartitionId(0)].commit, Some(Commit { resume_at: at(1), metadata }));
}

pub(crate) async fn metadata_over_the_limit_is_refused<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let group = new_group();
    let mut member = Member::join(&*log, &group, Topic::Events).await;
    let lane = member.lane(0).await;
    lane.commit(at(0), "kept", vec![]).await.unwrap();
    let refused =
        lane.commit(at(0), &"m".repeat(METADATA_BYTES_MAX + 1), vec![(Topic::Alerts, to(0, "x"))]).await;
    assert!(matches!(refused, Err(CommitError::TooLarge { .. })), "{refused:?}");
    lane.commit(at(0), "and the lane lives on", vec![]).await.unwrap();

    let mut reader = Member::join(&*log, &new_group(), Topic::Alerts).await;
    assert_eq!(texts(&read_all(&*reader.lane(0).await).await), [""; 0]);
}

pub(crate) async fn groups_commit_apart<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    log.append(Topic::Events, vec![to(0, "a"), to(0, "b")]).await.unwrap();
    let (one, other) = (new_group(), new_group());
    let mut first = Member::join(&*log, &one, Topic::Events).await;
    first.lane(0).await.commit(at(2), "one", vec![]).await.unwrap();
    let mut second = Member::join(&*log, &other, Topic::Events).await;
    let lane = second.lane(0).await;
    assert_eq!(second.held[&PartitionId(0)].commit, None);
    assert_eq!(texts(&read_all(&*lane).await), ["a", "b"]);
}

pub(crate) async fn a_commit_and_its_records_are_one<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    log.append(Topic::Events, vec![to(0, "a")]).await.unwrap();
    let group = new_group();
    let mut member = Member::join(&*log, &group, Topic::Events).await;
    let lane = member.lane(0).await;
    let carried = vec![(Topic::Events, to(1, "forwarded")), (Topic::Alerts, to(0, "told"))];
    lane.commit(at(1), "with records", carried).await.unwrap();

    let forwards = member.lane(1).await;
    assert_eq!(texts(&read_all(&*forwards).await), ["forwarded"]);
    let mut outbox = Member::join(&*log, &new_group(), Topic::Alerts).await;
    assert_eq!(texts(&read_all(&*outbox.lane(0).await).await), ["told"]);
    drop((member, lane, forwards, outbox, log));

    let subject = subject.reopen().await;
    let log = subject.log();
    let mut member = Member::join(&*log, &group, Topic::Events).await;
    let forwards = member.lane(1).await;
    assert_eq!(texts(&read_all(&*forwards).await), ["forwarded"]);
    member.lane(0).await;
    let commit = member.held[&PartitionId(0)].commit.clone();
    assert_eq!(commit, Some(Commit { resume_at: at(1), metadata: "with records".into() }));
}

// ---- sharing ------------------------------------------------------------------------------------------------------

pub(crate) async fn two_members_share_and_the_one_that_stays_gets_all<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let all = log.partitions(Topic::Events).await.unwrap();
    let group = new_group();
    let mut first = Member::join(&*log, &group, Topic::Events).await;
    first.until_held(all).await;
    let mut second = Member::join(&*log, &group, Topic::Events).await;
    both_until(&mut first, &mut second, |first, second| shared_evenly(first, second, all)).await;
    assert!(first.held.keys().all(|partition| !second.held.contains_key(partition)), "each has one owner");

    drop(second);
    first.until_held(all).await;
    for assigned in first.held.values() {
        assigned.lane.commit(at(0), "mine", vec![]).await.unwrap();
    }
}

pub(crate) async fn a_partition_is_let_go_only_when_the_revocation_is_answered<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let all = log.partitions(Topic::Events).await.unwrap();
    let group = new_group();
    let mut first = Member::join(&*log, &group, Topic::Events).await;
    first.until_held(all).await;
    first.answers = false;
    let mut second = Member::join(&*log, &group, Topic::Events).await;
    both_until(&mut first, &mut second, |first, _| !first.revoked.is_empty()).await;

    // What is in flight may still end: the former owner commits until it has answered.
    let (partition, lane, _) = &first.revoked[0];
    lane.commit(at(0), "the last of the old", vec![]).await.unwrap();
    assert!(!second.held.contains_key(partition));
    let partition = *partition;
    first.answer();
    both_until(&mut first, &mut second, |_, second| second.held.contains_key(&partition)).await;
    let commit = second.held[&partition].commit.clone();
    assert_eq!(commit, Some(Commit { resume_at: at(0), metadata: "the last of the old".into() }));
}

pub(crate) async fn a_former_owner_commits_nothing<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let group = new_group();
    let (mut first, second, partition, zombie) = hand_over(&*log, &group).await;

    let new = second.held[&partition].lane.clone();
    new.commit(at(0), "the new owner's", vec![]).await.unwrap();
    for carried in [vec![], vec![(Topic::Alerts, to(0, "of a zombie"))]] {
        let refused = zombie.commit(at(0), "a zombie's", carried).await;
        assert!(matches!(refused, Err(CommitError::NotOwner(of)) if of == partition), "{refused:?}");
    }
    new.commit(at(0), "the new owner's again", vec![(Topic::Alerts, to(0, "of the owner"))]).await.unwrap();

    let mut outbox = Member::join(&*log, &new_group(), Topic::Alerts).await;
    assert_eq!(texts(&read_all(&*outbox.lane(0).await).await), ["of the owner"]);
    drop((zombie, new, second, outbox));
    // The partition goes back to the first, under a new lane and with the commit of the second.
    let all = log.partitions(Topic::Events).await.unwrap();
    first.until_held(all).await;
    let commit = first.held[&partition].commit.clone();
    assert_eq!(commit, Some(Commit { resume_at: at(0), metadata: "the new owner's again".into() }));
}

pub(crate) async fn a_member_that_left_commits_nothing<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let group = new_group();
    let mut first = Member::join(&*log, &group, Topic::Events).await;
    let zombie = first.lane(0).await;
    zombie.commit(at(0), "while a member", vec![]).await.unwrap();
    drop(first);
    let mut second = Member::join(&*log, &group, Topic::Events).await;
    let lane = second.lane(0).await;
    let refused = zombie.commit(at(0), "after it left", vec![]).await;
    assert!(matches!(refused, Err(CommitError::NotOwner(_))), "{refused:?}");
    assert_eq!(
        second.held[&PartitionId(0)].commit.as_ref().map(|commit| &*commit.metadata),
        Some("while a member")
    );
    lane.commit(at(0), "the second", vec![]).await.unwrap();
}

pub(crate) async fn a_commit_under_way_while_revoked_is_seen_or_refused<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let all = log.partitions(Topic::Events).await.unwrap();
    let group = new_group();
    let mut first = Member::join(&*log, &group, Topic::Events).await;
    first.until_held(all).await;
    for assigned in first.held.values() {
        assigned.lane.commit(at(0), "before", vec![]).await.unwrap();
    }
    first.answers = false;
    let mut second = Member::join(&*log, &group, Topic::Events).await;
    both_until(&mut first, &mut second, |first, _| !first.revoked.is_empty()).await;
    let (partition, lane, done) = first.revoked.remove(0);
    first.answers = true;
    first.answer();
    let (outcome, ()) =
        tokio::join!(lane.commit(at(0), "under way", vec![(Topic::Alerts, to(0, "carried"))]), async {
            drop(done)
        });
    both_until(&mut first, &mut second, |_, second| second.held.contains_key(&partition)).await;

    let commit = second.held[&partition].commit.clone().unwrap();
    let mut outbox = Member::join(&*log, &new_group(), Topic::Alerts).await;
    let carried = texts(&read_all(&*outbox.lane(0).await).await);
    match outcome {
        Ok(()) => assert_eq!((&*commit.metadata, carried), ("under way", vec!["carried".to_owned()])),
        Err(_) => assert_eq!((&*commit.metadata, carried), ("before", vec![])),
    }
}

pub(crate) async fn a_member_that_leaves_without_answering_holds_nobody_up<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let all = log.partitions(Topic::Events).await.unwrap();
    let group = new_group();
    let mut first = Member::join(&*log, &group, Topic::Events).await;
    first.until_held(all).await;
    first.answers = false;
    let mut second = Member::join(&*log, &group, Topic::Events).await;
    both_until(&mut first, &mut second, |first, _| !first.revoked.is_empty()).await;
    let Member { membership, revoked, .. } = first;
    drop(membership);
    second.until_held(all).await;
    for (partition, lane, done) in revoked {
        let refused = lane.commit(at(0), "after it left", vec![]).await;
        assert!(matches!(refused, Err(CommitError::NotOwner(of)) if of == partition), "{refused:?}");
        drop(done);
        second.held[&partition].lane.commit(at(0), "the second's", vec![]).await.unwrap();
    }
}

// ---- reading ------------------------------------------------------------------------------------------------------

pub(crate) async fn a_lane_starts_at_its_commit<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    log.append(Topic::Events, vec![to(0, "a"), to(0, "b"), to(0, "c")]).await.unwrap();
    let group = new_group();
    let mut member = Member::join(&*log, &group, Topic::Events).await;
    let lane = member.lane(0).await;
    assert_eq!(texts(&read_all(&*lane).await), ["a", "b", "c"], "without a commit: at the start");
    lane.commit(at(1), "", vec![]).await.unwrap();
    drop((member, lane));
    let mut member = Member::join(&*log, &group, Topic::Events).await;
    let lane = member.lane(0).await;
    assert_eq!(member.held[&PartitionId(0)].commit.as_ref().map(|commit| commit.resume_at), Some(at(1)));
    assert_eq!(texts(&read_all(&*lane).await), ["b", "c"]);
}

pub(crate) async fn seek_goes_back_and_forth<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let records: Vec<_> = (0..100).map(|n| to(0, &format!("{n}"))).collect();
    let placed = log.append(Topic::Events, records).await.unwrap();
    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    let lane = member.lane(0).await;
    let mut batch = Batch::default();
    for wanted in [0, 99, 3, 50, 50, 0, 98] {
        lane.seek(placed[wanted].offset).await.unwrap();
        lane.next(&mut batch, 10).await.unwrap();
        let first = batch.iter().next().unwrap();
        assert_eq!((first.offset, first.value), (placed[wanted].offset, wanted.to_string().as_bytes()));
    }
    lane.seek(lane.end().await.unwrap()).await.unwrap();
    log.append(Topic::Events, vec![to(0, "new")]).await.unwrap();
    assert_eq!(texts(&read_all(&*lane).await), ["new"]);
}

pub(crate) async fn next_takes_no_more_than_asked<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    log.append(Topic::Events, (0..50).map(|n| to(0, &format!("{n}"))).collect()).await.unwrap();
    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    let lane = member.lane(0).await;
    let (mut batch, mut read) = (Batch::default(), Vec::new());
    while read.len() < 50 {
        lane.next(&mut batch, 7).await.unwrap();
        assert!(batch.len() <= 7);
        assert_eq!(batch.partition(), PartitionId(0));
        read.extend(batch.iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()));
    }
    assert_eq!(read, (0..50).map(|n| n.to_string()).collect::<Vec<_>>());
}

pub(crate) async fn next_waits_for_a_record<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    let lane = member.lane(0).await;
    let mut batch = Batch::default();
    let append = async {
        // The reader waits by now, or will find the record: both must end.
        tokio::task::yield_now().await;
        log.append(Topic::Events, vec![to(0, "a")]).await.unwrap();
    };
    let (read, ()) = tokio::join!(lane.next(&mut batch, 10), append);
    read.unwrap();
    assert_eq!(batch.iter().map(|record| record.value).collect::<Vec<_>>(), [b"a"]);
}

pub(crate) async fn a_dropped_next_loses_nothing<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    let lane = member.lane(0).await;
    let (mut batch, mut read) = (Batch::default(), Vec::new());
    for n in 0..100 {
        log.append(Topic::Events, vec![to(0, &format!("{n}"))]).await.unwrap();
        tokio::select! {
            biased;
            done = lane.next(&mut batch, 10) => {
                done.unwrap();
                read.extend(batch.iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()));
            }
            // Polled once, then dropped, wherever it had got to.
            () = tokio::task::yield_now() => {}
        }
    }
    log.append(Topic::Events, vec![to(0, "100")]).await.unwrap();
    read.extend(texts(&read_all(&*lane).await));
    assert_eq!(read, (0..=100).map(|n| n.to_string()).collect::<Vec<_>>());
}

pub(crate) async fn the_position_passes_holes<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    let lane = member.lane(0).await;
    for n in 0..5 {
        // Each commit may leave a marker of its transaction in the partition that it appends to.
        let carried = vec![(Topic::Events, to(0, &format!("{n}")))];
        lane.commit(at(0), "", carried).await.unwrap();
    }
    assert_eq!(texts(&read_all(&*lane).await), ["0", "1", "2", "3", "4"]);
}

pub(crate) async fn truncation_below_the_commit_shows<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let placed = log.append(Topic::Events, (0..20).map(|n| to(0, &format!("{n}"))).collect()).await.unwrap();
    let group = new_group();
    let mut member = Member::join(&*log, &group, Topic::Events).await;
    let lane = member.lane(0).await;
    lane.commit(ResumeAt::at(placed[5].offset), "kept", vec![]).await.unwrap();
    drop((member, lane));
    subject.truncate(Topic::Events, PartitionId(0), placed[10].offset).await;

    let mut member = Member::join(&*log, &group, Topic::Events).await;
    let lane = member.lane(0).await;
    let assigned = &member.held[&PartitionId(0)];
    let commit = Commit { resume_at: ResumeAt::at(placed[5].offset), metadata: "kept".into() };
    assert_eq!(assigned.commit, Some(commit));
    assert!(assigned.start >= placed[10].offset, "starts at {}", assigned.start);
    lane.seek(assigned.start).await.unwrap();
    lane.commit(ResumeAt::at(assigned.start), "on at the start", vec![]).await.unwrap();
    let last = log.append(Topic::Events, vec![to(0, "last")]).await.unwrap();
    let read = read_all(&*lane).await;
    assert!(read[0].offset >= assigned.start);
    assert_eq!(read.last().unwrap().offset, last[0].offset);
}

pub(crate) async fn offset_at_finds_the_first_record_of_a_time<L: UnderTest>() {
    let subject = L::fresh().await;
    let log = subject.log();
    let partition = PartitionId(0);
    assert_eq!(log.offset_at(Topic::Events, partition, UnixMs::new(0)).await.unwrap(), Offset::ZERO);
    for n in 0..30 {
        log.append(Topic::Events, (0..3).map(|_| to(0, &format!("{n}"))).collect()).await.unwrap();
    }
    let mut member = Member::join(&*log, &new_group(), Topic::Events).await;
    let read = read_all(&*member.lane(0).await).await;
    for time in read.iter().map(|read| read.append_time) {
        let first = read.iter().find(|read| read.append_time >= time).unwrap();
        assert_eq!(log.offset_at(Topic::Events, partition, time).await.unwrap(), first.offset);
    }
    assert_eq!(log.offset_at(Topic::Events, partition, UnixMs::new(0)).await.unwrap(), read[0].offset);
    let after = read.last().unwrap().append_time + Duration::from_secs(3600);
    assert_eq!(log.offset_at(Topic::Events, partition, after).await.unwrap(), offset(90));
}

// ---- what the cases are told with ---------------------------------------------------------------------------------

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
        read.extend(batch.iter().map(|record| {
            Read {
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
            }
        }));
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

/// Everything has one owner, and neither has two more than the other.
fn shared_evenly(first: &Member, second: &Member, all: u32) -> bool {
    let (first, second) = (first.held.len(), second.held.len());
    first + second == all as usize && first.abs_diff(second) <= 1
}

/// Two members, and a partition that went from the first to the second; with the lane that the first had on it.
async fn hand_over(log: &dyn EventLog, group: &str) -> (Member, Member, PartitionId, Arc<dyn Lane>) {
    let all = log.partitions(Topic::Events).await.unwrap();
    let mut first = Member::join(log, group, Topic::Events).await;
    first.until_held(all).await;
    let lanes: BTreeMap<_, _> =
        first.held.iter().map(|(&partition, assigned)| (partition, assigned.lane.clone())).collect();
    let mut second = Member::join(log, group, Topic::Events).await;
    both_until(&mut first, &mut second, |first, second| shared_evenly(first, second, all)).await;
    let partition = *second.held.keys().next().unwrap();
    (first, second, partition, lanes[&partition].clone())
}
