//! Membership: the keeper thread polls the consumer, answers the group's rebalances, and keeps the lanes.
//!
//! An assignment is answered when every lane is ready: producers initialised (all at once), commit read, fetching begun
//! at the commit. A revocation is answered when its lanes have stopped, ten seconds later at most.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::mpsc;

use super::assign::{Owned, Start, TakeOver};
use super::context::{GroupContext, Rebalance};
use super::lane::{KafkaLane, LaneState};
use crate::log::{LogError, MemberEvent, Membership, RevokeDone};
use crate::model::PartitionId;

const MEMBER: &str = "being a member of a group";
/// How long the keeper waits for the consumer when nothing is going on; short, because commands wait as long.
const IDLE: Duration = Duration::from_millis(50);
const BUSY: Duration = Duration::from_millis(5);
/// Whoever holds a lane must have stopped it by then; PROMISE 4.
const REVOCATION: Duration = Duration::from_secs(10);
/// How long an end waits for an owner thread: more than one call of librdkafka may block there.
const OWNER_END: Duration = Duration::from_secs(6);
/// How long dropping a membership waits until the group was told; otherwise the next owner waits for the session to end.
const LEAVE: Duration = Duration::from_secs(3);

/// What the keeper is told by others.
pub(super) enum Command {
    /// The lanes of that revocation have stopped.
    Answer(u64),
    /// A lane can do no more.
    GiveUp {
        lane: Arc<LaneState>,
        after: Duration,
        why: String,
    },
    /// Taking over has come to its end; `None` if the member leaves.
    TakenOver(Option<Owned>),
    Leave(SyncSender<()>),
}

type Lanes = Arc<Mutex<HashMap<PartitionId, Arc<KafkaLane>>>>;

/// The member's end of the keeper thread.
pub(super) struct KafkaMembership {
    events: mpsc::UnboundedReceiver<Result<MemberEvent, LogError>>,
    commands: Sender<Command>,
    lanes: Lanes,
}

#[async_trait]
impl Membership for KafkaMembership {
    async fn next(&mut self) -> Result<MemberEvent, LogError> {
        let ended = LogError::Broken { doing: MEMBER, cause: "the keeper thread ended".to_owned() };
        self.events.recv().await.unwrap_or(Err(ended))
    }
}

impl Drop for KafkaMembership {
    fn drop(&mut self) {
        for lane in locked(&self.lanes).values() {
            lane.state().kill();
        }
        let (left, has_left) = std::sync::mpsc::sync_channel(1);
        if self.commands.send(Command::Leave(left)).is_ok() && has_left.recv_timeout(LEAVE).is_err() {
            tracing::warn!("leaving the group takes long; it goes on behind");
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The keeper thread's state.
pub(super) struct Keeper {
    topic_name: Arc<str>,
    consumer: Arc<BaseConsumer<GroupContext>>,
    take_over: TakeOver,
    events: mpsc::UnboundedSender<Result<MemberEvent, LogError>>,
    commands: Receiver<Command>,
    to_self: Sender<Command>,
    lanes: Lanes,
    /// A thread is taking over; rebalances wait meanwhile.
    taking_over: bool,
    revoking: Option<Revoking>,
    revocations: u64,
    /// Partitions that were given up and may come back.
    returning: HashMap<PartitionId, Instant>,
}

struct Revoking {
    number: u64,
    partitions: Vec<i32>,
    lanes: Vec<Arc<KafkaLane>>,
    deadline: Instant,
}

/// Dropped with the last [`RevokeDone`] of a revocation.
struct Answer {
    number: u64,
    keeper: Sender<Command>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        // Without a keeper the member has left, and everything is answered.
        let _ = self.keeper.send(Command::Answer(self.number));
    }
}

impl Keeper {
    /// Subscribes and starts the thread.
    pub(super) fn start(
        topic_name: Arc<str>,
        consumer: BaseConsumer<GroupContext>,
        take_over: impl FnOnce(Arc<BaseConsumer<GroupContext>>, Sender<Command>) -> TakeOver,
    ) -> Result<KafkaMembership, LogError> {
        let unavailable = |cause: String| LogError::Unavailable { doing: "joining a group", cause };
        let consumer = Arc::new(consumer);
        consumer.subscribe(&[&topic_name]).map_err(|error| unavailable(error.to_string()))?;
        let (to_keeper, commands) = std::sync::mpsc::channel();
        let (told, events) = mpsc::unbounded_channel();
        let keeper = Self {
            topic_name,
            take_over: take_over(Arc::clone(&consumer), to_keeper.clone()),
            consumer,
            events: told,
            commands,
            to_self: to_keeper.clone(),
            lanes: Lanes::default(),
            taking_over: false,
            revoking: None,
            revocations: 0,
            returning: HashMap::new(),
        };
        let lanes = Arc::clone(&keeper.lanes);
        crate::lifecycle::Lifecycle::thread("kafka-member", move || keeper.run())
            .map_err(|error| unavailable(error.to_string()))?;
        Ok(KafkaMembership { events, commands: to_keeper, lanes })
    }

    fn run(mut self) {
        loop {
            let busy = self.taking_over || self.revoking.is_some();
            if let Some(polled) = self.consumer.poll(if busy { BUSY } else { IDLE }) {
                let polled = polled.map(|message| rdkafka::Message::partition(&message));
                self.polled(polled);
            }
            while let Ok(command) = self.commands.try_recv() {
                match command {
                    Command::Answer(number) => self.answer(Some(number)),
                    Command::GiveUp { lane, after, why } => self.give_up(&lane, after, &why),
                    Command::TakenOver(taken) => self.taken_over(taken),
                    Command::Leave(left) => return self.leave(&left),
                }
            }
            if self.revoking.as_ref().is_some_and(|revoking| revoking.deadline <= Instant::now()) {
                tracing::warn!(topic = %self.topic_name, "a lane did not stop in time; its partition is let go");
                self.answer(None);
            }
            if !self.taking_over && self.revoking.is_none() {
                match self.consumer.context().next_rebalance() {
                    Some(Rebalance::Assign(partitions)) => self.begin(partitions, Start::Assign),
                    Some(Rebalance::Revoke { partitions, lost }) => self.revoke(partitions, lost),
                    None => self.come_back(),
                }
            }
        }
    }

    fn tell(&self, event: Result<MemberEvent, LogError>) {
        // A member that is gone is about to say so.
        let _ = self.events.send(event);
    }

    /// Nothing but errors should come this way: records have a queue a partition.
    fn polled(&mut self, polled: Result<i32, KafkaError>) {
        match polled {
            Ok(partition) => {
                let lane = super::partition_id(partition)
                    .and_then(|partition| locked(&self.lanes).get(&partition).cloned());
                if let Some(lane) = lane {
                    lane.state().give_up(Duration::ZERO, "a record came past the lane's queue".to_owned());
                }
            }
            Err(KafkaError::MessageConsumptionFatal(code)) => {
                self.tell(Err(LogError::Broken { doing: MEMBER, cause: code.to_string() }))
            }
            Err(error) => {
                // The context has logged the others, and librdkafka goes on by itself.
                let unknown = [RDKafkaErrorCode::UnknownTopicOrPartition, RDKafkaErrorCode::UnknownTopic];
                if error.rdkafka_error_code().is_some_and(|code| unknown.contains(&code)) {
                    // Brokers hear of a new topic at different times. Whoever joins again is told if it is really gone.
                    let cause = format!("the broker knows no topic {}", self.topic_name);
                    self.tell(Err(LogError::Unavailable { doing: MEMBER, cause }));
                }
            }
        }
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for &partition in partitions {
            list.add_partition(&self.topic_name, partition);
        }
        list
    }

    fn begin(&mut self, partitions: Vec<i32>, start: Start) {
        if partitions.is_empty() {
            // It must be answered, too.
            if let Err(error) = self.consumer.incremental_assign(&TopicPartitionList::new()) {
                tracing::warn!(%error, "an empty assignment was not answered");
            }
            return;
        }
        let (take_over, to_self, events) =
            (self.take_over.clone(), self.to_self.clone(), self.events.clone());
        let thread = crate::lifecycle::Lifecycle::thread("kafka-assign", move || {
            let taken = take_over.run(&partitions, start, &events);
            // The keeper waits for this before it ends.
            let _ = to_self.send(Command::TakenOver(taken));
        });
        match thread {
            Ok(_) => self.taking_over = true,
            Err(error) => {
                self.tell(Err(LogError::Broken {
                    doing: "taking over partitions",
                    cause: error.to_string(),
                }));
            }
        }
    }

    fn taken_over(&mut self, taken: Option<Owned>) {
        self.taking_over = false;
        for (lane, assigned) in taken.into_iter().flatten() {
            locked(&self.lanes).insert(assigned.partition, lane);
            self.tell(Ok(MemberEvent::Assigned(assigned)));
        }
    }

    fn revoke(&mut self, partitions: Vec<i32>, lost: bool) {
        let mut lanes = Vec::new();
        for partition in partitions.iter().filter_map(|&partition| super::partition_id(partition)) {
            self.returning.remove(&partition);
            lanes.extend(locked(&self.lanes).remove(&partition));
        }
        if lost {
            for lane in &lanes {
                lane.state().kill();
                self.tell(Ok(MemberEvent::Lost { partition: lane.state().partition }));
            }
        }
        self.revocations += 1;
        let number = self.revocations;
        let deadline = Instant::now() + REVOCATION;
        let answer = Arc::new(Answer { number, keeper: self.to_self.clone() });
        if !lost {
            for lane in &lanes {
                let done = RevokeDone::new(Arc::clone(&answer));
                self.tell(Ok(MemberEvent::Revoked { partition: lane.state().partition, done }));
            }
        }
        self.revoking = Some(Revoking { number, partitions, lanes, deadline });
        // Dropping our own part answers at once if there is nothing to wait for.
        drop(answer);
    }

    /// Ends the lanes and lets the partitions go. `None`: the one that is due, whatever its number.
    fn answer(&mut self, number: Option<u64>) {
        let Some(revoking) = self.revoking.take_if(|it| number.is_none_or(|number| number == it.number))
        else {
            return;
        };
        end_lanes(&revoking.lanes);
        if let Err(error) = self.consumer.incremental_unassign(&self.list(&revoking.partitions)) {
            tracing::warn!(%error, "a revocation was not answered");
        }
    }

    fn give_up(&mut self, state: &Arc<LaneState>, after: Duration, why: &str) {
        let mut lanes = locked(&self.lanes);
        // A word about a lane that is not the partition's any more comes too late.
        if !lanes.get(&state.partition).is_some_and(|lane| Arc::ptr_eq(lane.state(), state)) {
            return;
        }
        let lane = lanes.remove(&state.partition);
        drop(lanes);
        tracing::warn!(topic = %self.topic_name, partition = state.partition.0, why, "a lane ends");
        state.kill();
        if let Some(lane) = lane {
            // Not waited for: the next owner's producer fences this one.
            lane.stop(std::sync::mpsc::sync_channel(1).0);
        }
        self.tell(Ok(MemberEvent::Lost { partition: state.partition }));
        self.returning.insert(state.partition, Instant::now() + after);
    }

    /// Takes over what was given up, if the group still calls it ours.
    fn come_back(&mut self) {
        let now = Instant::now();
        let due: Vec<_> =
            self.returning.iter().filter(|(_, at)| **at <= now).map(|(&partition, _)| partition).collect();
        if due.is_empty() {
            return;
        }
        let assignment = match self.consumer.assignment() {
            Ok(assignment) if !self.consumer.assignment_lost() => assignment,
            _ => return,
        };
        let mut partitions = Vec::new();
        for partition in due {
            self.returning.remove(&partition);
            let partition = super::raw(partition);
            if assignment.find_partition(&self.topic_name, partition).is_some() {
                partitions.push(partition);
            }
        }
        if !partitions.is_empty() {
            self.begin(partitions, Start::Again);
        }
    }

    fn leave(mut self, left: &SyncSender<()>) {
        self.consumer.context().leave();
        let lanes: Vec<_> = locked(&self.lanes).drain().map(|(_, lane)| lane).collect();
        end_lanes(&lanes);
        drop(lanes);
        // Closing the consumer waits until everything that the group wants was answered.
        while self.taking_over {
            match self.commands.recv() {
                Ok(Command::TakenOver(Some(taken))) => {
                    let lanes: Vec<_> = taken.into_iter().map(|(lane, _)| lane).collect();
                    end_lanes(&lanes);
                    self.taking_over = false;
                }
                Ok(Command::TakenOver(None)) => {
                    let _ = self.consumer.incremental_assign(&TopicPartitionList::new());
                    self.taking_over = false;
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.answer(None);
        while let Some(rebalance) = self.consumer.context().next_rebalance() {
            let answered = match rebalance {
                Rebalance::Assign(_) => self.consumer.incremental_assign(&TopicPartitionList::new()),
                Rebalance::Revoke { partitions, .. } => {
                    self.consumer.incremental_unassign(&self.list(&partitions))
                }
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "a rebalance while leaving the group was not answered");
            }
        }
        // The last hold on the consumer: it leaves the group here.
        drop(self);
        // Whoever waited may have gone.
        let _ = left.send(());
    }
}

/// Kills the lanes and waits until their owner threads have ended what they were doing.
fn end_lanes(lanes: &[Arc<KafkaLane>]) {
    let (ended, has_ended) = std::sync::mpsc::sync_channel(lanes.len());
    for lane in lanes {
        lane.state().kill();
        lane.stop(ended.clone());
    }
    drop(ended);
    let deadline = Instant::now() + OWNER_END;
    for _ in lanes {
        // An error also means that all have gone.
        if has_ended.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_err() {
            return;
        }
    }
}
