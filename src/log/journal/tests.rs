//! The contract, and what is the journal's own.

use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::log::contract::{UnderTest, contract_suite};

/// A journal with small segments, so that every case crosses some.
struct JournalUnderTest {
    journal: Arc<Journal>,
    dir: TempDir,
}

const SMALL: JournalOptions = JournalOptions {
    fsync: FsyncPolicy::Always,
    limit_bytes: 256 << 10,
    segment_bytes: 1 << 10,
    reserve_bytes: 1 << 20,
};

fn specs() -> Vec<TopicSpec> {
    Topic::ALL.map(|topic| topic.spec(true)).to_vec()
}

fn open(dir: &TempDir) -> Arc<Journal> {
    Journal::open(dir.path(), SMALL, Clock::System).unwrap()
}

#[async_trait]
impl UnderTest for JournalUnderTest {
    async fn fresh() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(&dir);
        journal.migrate(&specs()).await.unwrap();
        Self { journal, dir }
    }

    fn log(&self) -> Arc<dyn EventLog> {
        self.journal.clone()
    }

    async fn reopen(self) -> Self {
        let Self { journal, dir } = self;
        drop(journal);
        Self { journal: open(&dir), dir }
    }

    async fn truncate(&self, topic: Topic, partition: PartitionId, offset: Offset) {
        let filler =
            NewRecord { partition: Some(partition), value: vec![0; 8 << 10], ..NewRecord::default() };
        while self.journal.offset_at(topic, partition, UnixMs::new(0)).await.unwrap() < offset {
            self.journal.append(topic, vec![filler.clone()]).await.unwrap();
        }
    }
}

mod contract {
    use super::*;
    contract_suite!(JournalUnderTest);
}
