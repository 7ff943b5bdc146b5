//! The partitions, and the groups that share them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::lane::MemoryLane;
use super::{LogFault, Lying, Shared, offset};
use crate::clock::Clock;
use crate::log::{
    Assigned, Commit, LogError, MemberEvent, NewRecord, Placed, RevokeDone, Topic, TopicSpec, home_partition,
};
use crate::model::{Offset, PartitionId, UnixMs};

pub(super) type GroupKey = (String, Topic);

/// As a broker's default.
const RECORD_BYTES_MAX: usize = 1 << 20;

pub(super) struct State {
    clock: Clock,
    topics: HashMap<Topic, Vec<Partition>>,
    pub(super) groups: HashMap<GroupKey, Group>,
    pub(super) faults: Vec<LogFault>,
    pub(super) is_away: bool,
    /// Numbers members and ownerships: none is ever used again.
    last_number: u64,
}

#[derive(Default)]
pub(super) struct Partition {
    pub(super) start: i64,
    pub(super) end: i64,
    last_time: UnixMs,
    records: BTreeMap<i64, (UnixMs, NewRecord)>,
}

#[derive(Default)]
pub(super) struct Group {
    members: BTreeMap<u64, mpsc::UnboundedSender<MemberEvent>>,
    owned: BTreeMap<PartitionId, Owned>,
    pub(super) commits: BTreeMap<PartitionId, Commit>,
}

struct Owned {
    member: u64,
    epoch: u64,
    /// Revoked, and not answered yet.
    leaving: bool,
}

impl Partition {
    pub(super) fn read(&self, from: i64) -> impl Iterator<Item = Lying> {
        self.records.range(from..).map(|(&at, (time, record))| (offset(at), *time, record.clone()))
    }

    pub(super) fn offset_at(&self, time: UnixMs) -> Offset {
        let found = self.records.iter().find(|(_, (appended, _))| *appended >= time);
        offset(found.map_or(self.end, |(&at, _)| at))
    }

    pub(super) fn truncate(&mut self, before: i64) {
        self.start = self.start.max(before);
        self.records = self.records.split_off(&before);
    }

    fn put(&mut self, record: NewRecord, now: UnixMs, compacted: bool) -> Offset {
        if compacted {
            self.records.retain(|_, (_, older)| older.key != record.key);
        }
        self.last_time = self.last_time.max(now);
        let at = self.end;
        self.records.insert(at, (self.last_time, record));
        self.end += 1;
        offset(at)
    }
}

impl State {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            topics: HashMap::new(),
            groups: HashMap::new(),
            faults: Vec::new(),
            is_away: false,
            last_number: 0,
        }
    }

    /// Whether the fault is armed; then no more.
    pub(super) fn takes(&mut self, fault: LogFault) -> bool {
        let armed = self.faults.iter().position(|armed| *armed == fault);
        armed.map(|place| self.faults.remove(place)).is_some()
    }

    pub(super) fn migrate(&mut self, topics: &[TopicSpec]) -> Result<Vec<String>, LogError> {
        let mut made = Vec::new();
        for spec in topics {
            match self.topics.get(&spec.topic) {
                Some(there) if there.len() == spec.partitions as usize => {}
                Some(_) => return Err(no_such(spec.topic, "has another number of partitions")),
                None => {
                    let partitions = (0..spec.partitions).map(|_| Partition::default());
                    self.topics.insert(spec.topic, partitions.collect());
                    made.push(format!("{} made", spec.topic.name()));
                }
            }
        }
        Ok(made)
    }

    pub(super) fn partitions(&self, topic: Topic) -> Result<u32, LogError> {
        let partitions = self.topics.get(&topic).ok_or_else(|| no_such(topic, "is not there"))?;
        Ok(u32::try_from(partitions.len()).unwrap())
    }

    pub(super) fn partition(&self, topic: Topic, partition: PartitionId) -> Result<&Partition, LogError> {
        let found = self.topics.get(&topic).and_then(|topic| topic.get(partition.0 as usize));
        found.ok_or_else(|| no_such(topic, "has no such partition"))
    }

    pub(super) fn partition_mut(
        &mut self,
        topic: Topic,
        partition: PartitionId,
    ) -> Result<&mut Partition, LogError> {
        let found = self.topics.get_mut(&topic).and_then(|topic| topic.get_mut(partition.0 as usize));
        found.ok_or_else(|| no_such(topic, "has no such partition"))
    }

    /// All of them, or an error and none.
    pub(super) fn append(&mut self, topic: Topic, records: Vec<NewRecord>) -> Result<Vec<Placed>, LogError> {
        check_sizes(&records)?;
        let partitions = self.partitions(topic)?;
        let now = self.clock.now();
        let place = |record: &NewRecord| match (record.partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => home_partition(key, partitions),
            (None, None) => PartitionId(0),
        };
        let mut placed = Vec::with_capacity(records.len());
        for record in records {
            let partition = place(&record);
            let offset = self.partition_mut(topic, partition)?.put(record, now, topic.is_compacted());
            placed.push(Placed { partition, offset });
        }
        Ok(placed)
    }

    /// One transaction: its records, and a marker in every partition that got some.
    pub(super) fn append_in_transaction(&mut self, records: Vec<(Topic, NewRecord)>) -> Result<(), LogError> {
        check_sizes(records.iter().map(|(_, record)| record))?;
        let mut touched = std::collections::BTreeSet::new();
        for (topic, record) in records {
            for placed in self.append(topic, vec![record])? {
                touched.insert((topic, placed.partition));
            }
        }
        for (topic, partition) in touched {
            self.partition_mut(topic, partition)?.end += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub(super) fn join(
        &mut self,
        key: &GroupKey,
        told: mpsc::UnboundedSender<MemberEvent>,
        shared: &Arc<Shared>,
    ) -> Result<u64, LogError> {
        self.partitions(key.1)?;
        let number = self.number();
        self.groups.entry(key.clone()).or_default().members.insert(number, told);
        self.balance(key, shared);
        Ok(number)
    }

    pub(super) fn leave(&mut self, key: &GroupKey, member: u64, shared: &Arc<Shared>) {
        let Some(group) = self.groups.get_mut(key) else { return };
        group.members.remove(&member);
        group.owned.retain(|_, owned| owned.member != member);
        self.balance(key, shared);
    }

    pub(super) fn forget_members(&mut self) {
        for group in self.groups.values_mut() {
            group.members.clear();
            group.owned.clear();
        }
    }

    pub(super) fn lose(&mut self, key: &GroupKey, partition: PartitionId, shared: &Arc<Shared>) {
        let Some(group) = self.groups.get_mut(key) else { return };
        let Some(owned) = group.owned.remove(&partition) else { return };
        if let Some(owner) = group.members.get(&owned.member) {
            let _ = owner.send(MemberEvent::Lost { partition });
        }
        self.balance(key, shared);
    }

    /// A revocation is answered.
    fn let_go(&mut self, key: &GroupKey, partition: PartitionId, epoch: u64, shared: &Arc<Shared>) {
        if self.holds(key, partition, epoch) {
            self.groups.entry(key.clone()).or_default().owned.remove(&partition);
            self.balance(key, shared);
        }
    }

    pub(super) fn holds(&self, key: &GroupKey, partition: PartitionId, epoch: u64) -> bool {
        let owned = self.groups.get(key).and_then(|group| group.owned.get(&partition));
        owned.is_some_and(|owned| owned.epoch == epoch)
    }

    /// Gives what nobody owns to whoever has least, and asks for some of whoever has two more than another.
    fn balance(&mut self, key: &GroupKey, shared: &Arc<Shared>) {
        let partitions = self.partitions(key.1).unwrap_or_default();
        for partition in (0..partitions).map(PartitionId) {
            let group = self.groups.entry(key.clone()).or_default();
            if !group.owned.contains_key(&partition)
                && let Some(&(_, member)) = group.loads().first()
            {
                self.assign(key, partition, member, shared);
            }
        }
        let group = self.groups.entry(key.clone()).or_default();
        loop {
            let loads = group.loads();
            let (Some(&(least, _)), Some(&(most, member))) = (loads.first(), loads.last()) else { return };
            let on_their_way = group.owned.values().filter(|owned| owned.leaving).count();
            if most < least + on_their_way + 2 {
                return;
            }
            let mut held = group.owned.iter_mut().filter(|(_, o)| o.member == member && !o.leaving);
            let Some((&partition, owned)) = held.next_back() else { return };
            owned.leaving = true;
            let done =
                Release { shared: Arc::clone(shared), key: key.clone(), partition, epoch: owned.epoch };
            let _ =
                group.members[&member].send(MemberEvent::Revoked { partition, done: RevokeDone::new(done) });
        }
    }

    fn assign(&mut self, key: &GroupKey, partition: PartitionId, member: u64, shared: &Arc<Shared>) {
        let epoch = self.number();
        let Ok(lies) = self.partition(key.1, partition) else { return };
        let (start, end) = (lies.start, lies.end);
        let group = self.groups.entry(key.clone()).or_default();
        group.owned.insert(partition, Owned { member, epoch, leaving: false });
        let commit = group.commits.get(&partition).cloned();
        let position = commit.as_ref().map_or(start, |commit| commit.resume_at.offset().get()).max(start);
        let lane = Arc::new(MemoryLane::new(Arc::clone(shared), key.clone(), partition, epoch, position));
        let assigned = Assigned { partition, commit, start: offset(start), end: offset(end), lane };
        let _ = group.members[&member].send(MemberEvent::Assigned(assigned));
    }
}

impl Group {
    /// How many partitions each member has and keeps, fewest first.
    fn loads(&self) -> Vec<(usize, u64)> {
        let held = |member: u64| self.owned.values().filter(|o| o.member == member && !o.leaving).count();
        let mut loads: Vec<_> = self.members.keys().map(|&member| (held(member), member)).collect();
        loads.sort_unstable();
        loads
    }
}

/// Dropped: the owner has let the partition go.
struct Release {
    shared: Arc<Shared>,
    key: GroupKey,
    partition: PartitionId,
    epoch: u64,
}

impl Drop for Release {
    fn drop(&mut self) {
        self.shared.change(|state| state.let_go(&self.key, self.partition, self.epoch, &self.shared));
    }
}

fn check_sizes<'r>(records: impl IntoIterator<Item = &'r NewRecord>) -> Result<(), LogError> {
    match records.into_iter().map(|record| record.value.len()).max() {
        Some(bytes) if bytes > RECORD_BYTES_MAX => Err(LogError::TooLarge { bytes }),
        _ => Ok(()),
    }
}

fn no_such(topic: Topic, cause: &str) -> LogError {
    LogError::Topic { topic: topic.name(), cause: cause.to_owned() }
}
