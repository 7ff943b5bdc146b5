//! Taking over partitions, in the one order that is safe: all producers initialised → commits read → fetching begun at
//! the commit. Nobody initialises a producer outside of it.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use tokio::sync::mpsc::UnboundedSender;

use super::context::GroupContext;
use super::group::Command;
use super::lane::{KafkaLane, LaneState};
use super::owner::Owner;
use super::settings::{Settings, create_plain};
use super::{Names, hanging};
use crate::lifecycle::Lifecycle;
use crate::log::{Assigned, Commit, LogError, MemberEvent};
use crate::model::Offset;

const DOING: &str = "taking over a partition";
/// How long one request may take before it is tried again.
const REQUEST: Duration = Duration::from_secs(12);
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// How fetching begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The group has assigned the partitions, and waits for the answer.
    Assign,
    /// They are assigned already; their lanes had come to an end.
    Again,
}

/// What is needed to take over.
#[derive(Clone)]
pub(super) struct TakeOver {
    pub(super) settings: Settings,
    pub(super) names: Names,
    pub(super) group: Arc<str>,
    pub(super) topic: Arc<str>,
    pub(super) consumer: Arc<BaseConsumer<GroupContext>>,
    pub(super) keeper: Sender<Command>,
}

/// The way to whoever holds the membership.
type Events = UnboundedSender<Result<MemberEvent, LogError>>;

/// The lanes of what was taken over, and what their member is told.
pub(super) type Owned = Vec<(Arc<KafkaLane>, Assigned)>;

/// A lane and where it begins.
struct Taken {
    lane: Arc<KafkaLane>,
    commit: Option<Commit>,
    start: Offset,
    end: Offset,
}

impl TakeOver {
    /// Tries until it is done; `None` if the member leaves meanwhile. Tells `events` what is waited for, and of what does
    /// not pass by itself.
    pub(super) fn run(&self, partitions: &[i32], start: Start, events: &Events) -> Option<Owned> {
        loop {
            match self.attempt(partitions, start, events) {
                Ok(taken) => return taken,
                Err(why @ LogError::Unavailable { .. }) => {
                    let partitions = partitions.iter().filter_map(|&it| super::partition_id(it)).collect();
                    tell(events, Ok(MemberEvent::Delayed { partitions, why }));
                }
                Err(error) => tell(events, Err(error)),
            }
            std::thread::sleep(PAUSE);
            if self.consumer.context().leaving() {
                return None;
            }
        }
    }

    fn attempt(&self, partitions: &[i32], start: Start, events: &Events) -> Result<Option<Owned>, LogError> {
        let Some(lanes) = self.initialise(partitions, events)? else { return Ok(None) };
        let committed = self
            .consumer
            .committed_offsets(self.list(lanes.iter().map(|lane| (lane, KafkaOffset::Invalid)))?, REQUEST)
            .map_err(|error| hanging::of_commits(DOING, &error))?;
        let mut taken = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let partition = lane.state().partition;
            let (start, end) = self
                .consumer
                .fetch_watermarks(&self.topic, super::raw(partition), REQUEST)
                .map_err(|error| unavailable(&error))?;
            let commit = super::commit_in(&committed, &self.topic, partition);
            let (start, end) = (known(start)?, known(end)?);
            taken.push(Taken { lane, commit, start, end });
        }
        if let Err(error) = self.fetch(&taken, start) {
            // Before others get the partitions' queues.
            taken.iter().for_each(|taken| taken.lane.state().kill());
            return Err(error);
        }
        let assigned = |taken: Taken| {
            let Taken { lane, commit, start, end } = taken;
            let partition = lane.state().partition;
            let assigned = Assigned { partition, commit, start, end, lane: lane.clone() };
            (lane, assigned)
        };
        Ok(Some(taken.into_iter().map(assigned).collect()))
    }

    /// Starts an owner thread a partition and waits until each has made its partition ours.
    fn initialise(
        &self,
        partitions: &[i32],
        events: &Events,
    ) -> Result<Option<Vec<Arc<KafkaLane>>>, LogError> {
        let (done, ready) = std::sync::mpsc::channel();
        let mut lanes = Vec::with_capacity(partitions.len());
        for partition in partitions.iter().filter_map(|&partition| super::partition_id(partition)) {
            let (jobs, asked) = std::sync::mpsc::channel();
            let state = LaneState::new(partition, self.keeper.clone());
            lanes.push(Arc::new(KafkaLane::new(Arc::clone(&state), jobs)));
            let (this, done, events) = (self.clone(), done.clone(), events.clone());
            Lifecycle::thread(format!("kafka-lane-{partition}"), move || {
                match this.owner(state) {
                    Ok(owner) => {
                        let initialised = owner.init(|why| {
                            tell(&events, Ok(MemberEvent::Delayed { partitions: vec![partition], why }));
                        });
                        let ready = matches!(initialised, Ok(true));
                        // Nobody listens if another partition has failed; then the lane is gone, and `run` ends.
                        let _ = done.send(initialised);
                        drop(done);
                        if ready {
                            owner.run(&asked);
                        }
                    }
                    Err(error) => drop(done.send(Err(error))),
                }
            })
            .map_err(|error| LogError::Broken { doing: DOING, cause: error.to_string() })?;
        }
        drop(done);
        // Every thread answers, so the channel closes when all have.
        for initialised in ready {
            if !initialised? {
                return Ok(None);
            }
        }
        Ok(Some(lanes))
    }

    fn owner(&self, lane: Arc<LaneState>) -> Result<Owner, LogError> {
        let id = format!("jwtrail/{}/{}/{}", self.group, self.topic, lane.partition);
        Ok(Owner {
            names: self.names.clone(),
            topic: Arc::clone(&self.topic),
            consumer: Arc::clone(&self.consumer),
            producer: create_plain(&self.settings.lane_producer(&id))?,
            id,
            lane,
        })
    }

    /// Gives each lane its queue, and has it filled from where the lane begins.
    fn fetch(&self, taken: &[Taken], start: Start) -> Result<(), LogError> {
        let list =
            self.list(taken.iter().map(|taken| (&taken.lane, KafkaOffset::Offset(taken.position().get()))))?;
        if start == Start::Again {
            // A partition that stopped fetching (its offset was not in the log) begins again only by this.
            self.consumer.incremental_unassign(&list).map_err(|error| unavailable(&error))?;
        }
        for taken in taken {
            let partition = super::raw(taken.lane.state().partition);
            let queue = self
                .consumer
                .split_partition_queue(&self.topic, partition)
                .ok_or_else(|| LogError::Broken { doing: DOING, cause: "it has no queue".to_owned() })?;
            taken.lane.state().open(queue, taken.position());
        }
        self.consumer.incremental_assign(&list).map_err(|error| unavailable(&error))?;
        if start == Start::Again {
            // Assigning at once after unassigning does not look at the offset.
            for taken in taken {
                taken.lane.seek_from_thread(taken.position())?;
            }
        }
        Ok(())
    }

    fn list<'l>(
        &self,
        lanes: impl Iterator<Item = (&'l Arc<KafkaLane>, KafkaOffset)>,
    ) -> Result<TopicPartitionList, LogError> {
        let mut list = TopicPartitionList::new();
        for (lane, offset) in lanes {
            list.add_partition_offset(&self.topic, super::raw(lane.state().partition), offset)
                .map_err(|error| unavailable(&error))?;
        }
        Ok(list)
    }
}

fn tell(events: &Events, event: Result<MemberEvent, LogError>) {
    // Nobody listens any more when the member leaves.
    let _ = events.send(event);
}

impl Taken {
    /// Where the lane begins: at its commit, unless that lies outside of the log.
    fn position(&self) -> Offset {
        self.commit.as_ref().map_or(self.start, |commit| {
            commit.resume_at.offset().clamp(self.start, self.end.max(self.start))
        })
    }
}

fn known(offset: i64) -> Result<Offset, LogError> {
    Offset::new(offset).ok_or_else(|| LogError::Unavailable {
        doing: DOING,
        cause: "the broker does not say where it starts and ends".to_owned(),
    })
}

fn unavailable(error: &KafkaError) -> LogError {
    LogError::Unavailable { doing: DOING, cause: error.to_string() }
}
