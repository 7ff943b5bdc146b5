//! A log that refuses some commits, as Apache Kafka does while a group changes hands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;

use crate::log::{
    Assigned, Batch, CommitError, EventLog, Lane, LogError, MemberEvent, Membership, NewRecord, Placed, Scan,
    Tail, Topic, TopicSpec,
};
use crate::model::{Offset, PartitionId, ResumeAt, UnixMs};

/// A real log, and so many commits that it will refuse.
#[derive(Clone)]
pub(super) struct Grudging {
    log: Arc<dyn EventLog>,
    refusals: Arc<AtomicU32>,
}

impl Grudging {
    pub(super) fn over(log: Arc<dyn EventLog>) -> Self {
        Self { log, refusals: Arc::default() }
    }

    pub(super) fn refuse_commits(&self, count: u32) {
        self.refusals.store(count, Ordering::Relaxed);
    }
}

#[async_trait]
impl EventLog for Grudging {
    async fn migrate(&self, topics: &[TopicSpec]) -> Result<Vec<String>, LogError> {
        self.log.migrate(topics).await
    }

    async fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Result<Vec<Placed>, LogError> {
        self.log.append(topic, records).await
    }

    async fn join(&self, group: &str, topic: Topic) -> Result<Box<dyn Membership>, LogError> {
        let member = self.log.join(group, topic).await?;
        Ok(Box::new(Member { member, refusals: Arc::clone(&self.refusals) }))
    }

    async fn set_readers(&self, topic: Topic, groups: &[String]) -> Result<Vec<String>, LogError> {
        self.log.set_readers(topic, groups).await
    }

    async fn offset_at(
        &self,
        topic: Topic,
        partition: PartitionId,
        time: UnixMs,
    ) -> Result<Offset, LogError> {
        self.log.offset_at(topic, partition, time).await
    }

    async fn scan(
        &self,
        topic: Topic,
        partition: PartitionId,
        from: Option<Offset>,
    ) -> Result<Box<dyn Scan>, LogError> {
        self.log.scan(topic, partition, from).await
    }

    async fn tail(&self, topic: Topic, partition: PartitionId) -> Result<Box<dyn Tail>, LogError> {
        self.log.tail(topic, partition).await
    }

    async fn partitions(&self, topic: Topic) -> Result<u32, LogError> {
        self.log.partitions(topic).await
    }

    async fn health(&self) -> Result<(), LogError> {
        self.log.health().await
    }
}

struct Member {
    member: Box<dyn Membership>,
    refusals: Arc<AtomicU32>,
}

#[async_trait]
impl Membership for Member {
    async fn next(&mut self) -> Result<MemberEvent, LogError> {
        Ok(match self.member.next().await? {
            MemberEvent::Assigned(Assigned { partition, commit, start, end, lane }) => {
                let lane = Arc::new(GrudgingLane { lane, refusals: Arc::clone(&self.refusals) });
                MemberEvent::Assigned(Assigned { partition, commit, start, end, lane })
            }
            other => other,
        })
    }
}

struct GrudgingLane {
    lane: Arc<dyn Lane>,
    refusals: Arc<AtomicU32>,
}

#[async_trait]
impl Lane for GrudgingLane {
    async fn seek(&self, offset: Offset) -> Result<(), LogError> {
        self.lane.seek(offset).await
    }

    async fn next(&self, batch: &mut Batch, max: usize) -> Result<(), LogError> {
        self.lane.next(batch, max).await
    }

    async fn end(&self) -> Result<Offset, LogError> {
        self.lane.end().await
    }

    async fn commit(
        &self,
        resume_at: ResumeAt,
        metadata: &str,
        records: Vec<(Topic, NewRecord)>,
    ) -> Result<(), CommitError> {
        let refuses = |left: u32| left.checked_sub(1);
        if self.refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, refuses).is_ok() {
            return Err(CommitError::Retry("the group changes hands".to_owned()));
        }
        self.lane.commit(resume_at, metadata, records).await
    }
}
