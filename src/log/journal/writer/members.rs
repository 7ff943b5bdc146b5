//! Topics and groups: made, joined, left and handed over between two batches.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fjall::PersistMode;
use tokio::sync::{mpsc, oneshot, watch};

use super::super::groups::{Epoch, Group, MemberId, Step};
use super::super::lane::{JournalLane, Release};
use super::super::store::{self, broken};
use super::{GroupKey, Joined, Writer, no_such_topic};
use crate::log::{Assigned, Cleanup, LogError, MemberEvent, RevokeDone, Topic, TopicSpec};
use crate::model::{Offset, PartitionId};

impl Writer {
    /// Says what was done, if anything.
    pub(super) fn migrate(&mut self, spec: &TopicSpec) -> Result<Option<String>, LogError> {
        const DOING: &str = "creating a topic in the journal";
        let topic = spec.topic;
        let wrong = |cause: String| LogError::Topic { topic: topic.name(), cause };
        if let Some(cause) = self.handle.broken.get() {
            return Err(broken(DOING, cause));
        }
        let retention_ms = match spec.cleanup {
            Cleanup::Delete { after } => u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
            Cleanup::Compact => u64::MAX,
        };
        let there = self.handle.topics.load().get(&topic).map(Vec::len);
        let done = match there {
            Some(there) if there != spec.partitions as usize => {
                return Err(wrong(format!(
                    "has {there} partitions and is to have {}; that never changes in place",
                    spec.partitions
                )));
            }
            Some(_) if self.retention_of(topic) == retention_ms => return Ok(None),
            Some(_) => {
                format!("{}: retention set to {:?}", topic.name(), Duration::from_millis(retention_ms))
            }
            None => format!("{}: created with {} partitions", topic.name(), spec.partitions),
        };
        let partitions = if there.is_none() {
            let segments = (0..spec.partitions)
                .map(|id| self.store.create_segment(topic, PartitionId(id), 0).map(|segment| vec![segment]))
                .collect::<Result<Vec<_>, _>>();
            Some(segments.map_err(|error| self.break_with(DOING, &error))?)
        } else {
            None
        };
        // Last, so that a topic that is recorded has all its partitions.
        let mut batch = self.store.db.batch().durability(Some(PersistMode::SyncData));
        batch.insert(
            &self.store.meta,
            store::topic_key(topic),
            store::topic_value(spec.partitions, retention_ms),
        );
        batch.commit().map_err(|error| self.break_with(DOING, &error))?;
        self.retention_ms.insert(topic, retention_ms);
        if let Some(partitions) = partitions {
            self.take_in(topic, retention_ms, partitions);
        }
        Ok(Some(done))
    }

    pub(super) fn join(
        &mut self,
        group: String,
        topic: Topic,
        answer: oneshot::Sender<Result<Joined, LogError>>,
    ) {
        if let Some(cause) = self.handle.broken.get() {
            let _ = answer.send(Err(broken("joining a group", cause)));
            return;
        }
        let Some(partitions) = self.handle.topics.load().get(&topic).map(Vec::len) else {
            let _ = answer.send(Err(no_such_topic(topic)));
            return;
        };
        let key: GroupKey = (group.into(), topic);
        let (sender, events) = mpsc::unbounded_channel();
        let member = self.count();
        // If nobody takes the answer, its drop leaves the group again.
        self.members.insert(member, sender);
        let joined = Joined { group: key.clone(), member, events };
        let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
        self.groups.entry(key.clone()).or_insert_with(|| Group::new(partitions));
        self.change_group(&key, |group| group.join(member));
        if let Err(Ok(joined)) = answer.send(Ok(joined)) {
            self.members.remove(&joined.member);
            self.change_group(&key, |group| group.leave(joined.member));
        }
    }

    /// The commits of others stay: one that comes back goes on where it was, as far as that is still there.
    pub(super) fn set_readers(&mut self, topic: Topic, groups: BTreeSet<String>) -> Vec<String> {
        let committed = self.commits.keys().filter(|(of, ..)| *of == topic).map(|(.., group)| group);
        let others: BTreeSet<_> = committed.filter(|group| !groups.contains(*group)).cloned().collect();
        self.readers.insert(topic, groups);
        others.into_iter().collect()
    }

    /// Whether what a group has not committed is kept for it.
    pub(super) fn reads(&self, topic: Topic, group: &str) -> bool {
        self.readers.get(&topic).is_none_or(|readers| readers.contains(group))
            || self.groups.contains_key(&(group.into(), topic))
    }

    /// Makes a change, then whatever brings the group nearer to an even share.
    pub(super) fn change_group(
        &mut self,
        key: &GroupKey,
        change: impl FnOnce(&mut Group<watch::Sender<()>>),
    ) {
        let Some(group) = self.groups.get_mut(key) else { return };
        change(group);
        let steps = group.balance();
        if group.is_empty() {
            self.groups.remove(key);
            return;
        }
        for step in steps {
            match step {
                Step::Grant(partition, member) => self.grant(key, partition, member),
                Step::Revoke(partition, member, epoch) => {
                    let release = Release::new(&self.handle, key.clone(), partition, epoch);
                    self.tell(member, MemberEvent::Revoked { partition, done: RevokeDone::new(release) });
                }
            }
        }
    }

    /// An owner gives up. One that is none any more changes nothing.
    pub(super) fn lose(&mut self, key: &GroupKey, partition: PartitionId, epoch: Epoch) {
        let owner = self.groups.get(key).and_then(|group| group.owner(partition, epoch));
        let Some(member) = owner else { return };
        self.tell(member, MemberEvent::Lost { partition });
        self.change_group(key, |group| group.release(partition, epoch));
    }

    fn grant(&mut self, key: &GroupKey, partition: PartitionId, member: MemberId) {
        let epoch = self.count();
        let Some(tail) = self.tails.get(&(key.1, partition)) else { return };
        let commit = self.commits.get(&(key.1, partition, key.0.to_string())).cloned();
        let (start, end) = (tail.shared.start(), tail.shared.end());
        let position = commit.as_ref().map_or(start, |commit| commit.resume_at.offset().get()).max(start);
        let (guard, held) = watch::channel(());
        let lane = JournalLane::new(tail.shared.clone(), key.clone(), epoch, position, held, &self.handle);
        let (Some(start), Some(end)) = (Offset::new(start), Offset::new(end)) else { return };
        if let Some(group) = self.groups.get_mut(key) {
            group.grant(partition, member, epoch, guard);
        }
        self.tell(
            member,
            MemberEvent::Assigned(Assigned { partition, commit, start, end, lane: Arc::new(lane) }),
        );
    }

    fn tell(&self, member: MemberId, event: MemberEvent) {
        if let Some(events) = self.members.get(&member) {
            // A member that is gone has its `Leave` under way.
            let _ = events.send(event);
        }
    }

    fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }
}
