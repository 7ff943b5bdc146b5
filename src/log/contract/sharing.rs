//! Several members: sharing and handing over.

use super::*;

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
    let (mut first, mut second) = being_revoked(&*log).await;

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
    let (mut first, mut second) = being_revoked(&*log).await;
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
    let (first, mut second) = being_revoked(&*log).await;
    let Member { membership, revoked, .. } = first;
    drop(membership);
    second.until_held(log.partitions(Topic::Events).await.unwrap()).await;
    for (partition, lane, done) in revoked {
        let refused = lane.commit(at(0), "after it left", vec![]).await;
        assert!(matches!(refused, Err(CommitError::NotOwner(of)) if of == partition), "{refused:?}");
        drop(done);
        second.held[&partition].lane.commit(at(0), "the second's", vec![]).await.unwrap();
    }
}

/// A member that had everything, each partition committed for, and does not answer what is asked back for a second one.
async fn being_revoked(log: &dyn EventLog) -> (Member, Member) {
    let (all, group) = (log.partitions(Topic::Events).await.unwrap(), new_group());
    let mut first = Member::join(log, &group, Topic::Events).await;
    first.until_held(all).await;
    for assigned in first.held.values() {
        assigned.lane.commit(at(0), "before", vec![]).await.unwrap();
    }
    first.answers = false;
    let mut second = Member::join(log, &group, Topic::Events).await;
    both_until(&mut first, &mut second, |first, _| !first.revoked.is_empty()).await;
    (first, second)
}

/// Everything has one owner, and neither has two more than the other.
fn shared_evenly(first: &Member, second: &Member, all: u32) -> bool {
    let (first, second) = (first.held.len(), second.held.len());
    first + second == all as usize && first.abs_diff(second) <= 1
}

/// Two members, and a partition that went from the first to the second; with the lane that the first had on it.
pub(super) async fn hand_over(
    log: &dyn EventLog,
    group: &str,
) -> (Member, Member, PartitionId, Arc<dyn Lane>) {
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
