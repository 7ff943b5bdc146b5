//! The contract.

use super::*;
use crate::log::contract::{UnderTest, contract_suite};

#[async_trait]
impl UnderTest for MemoryLog {
    async fn fresh() -> Self {
        Self::new(Clock::System, &Topic::ALL.map(|topic| topic.spec(true)))
    }

    fn log(&self) -> Arc<dyn EventLog> {
        Arc::new(self.clone())
    }

    async fn reopen(self) -> Self {
        self.forget_members();
        self
    }

    async fn truncate(&self, topic: Topic, partition: PartitionId, offset: Offset) {
        Self::truncate(self, topic, partition, offset);
    }
}

contract_suite!(MemoryLog);
