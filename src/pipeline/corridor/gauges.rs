//! What the lanes of a process hold together: the gauges are sums over partitions, and a partition that is let go must
//! leave them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::log::Topic;
use crate::model::PartitionId;
use crate::pipeline::detect::StateSize;
use crate::telemetry::{ByKind, Metrics};

/// The owned partitions and the size of each one's detector state.
#[derive(Default)]
pub(crate) struct Gauges {
    owned: Mutex<HashMap<(Topic, PartitionId), StateSize>>,
}

impl Gauges {
    fn lock(&self) -> MutexGuard<'_, HashMap<(Topic, PartitionId), StateSize>> {
        // A map of numbers is whole whatever panicked beside it.
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn owned(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn own(&self, topic: Topic, partition: PartitionId) {
        self.lock().insert((topic, partition), StateSize::default());
    }

    pub(super) fn let_go(&self, topic: Topic, partition: PartitionId, metrics: &Metrics) {
        let mut owned = self.lock();
        owned.remove(&(topic, partition));
        show(&owned, metrics);
    }

    /// One partition's detector, as it is now.
    pub(super) fn detector(&self, topic: Topic, partition: PartitionId, size: StateSize, metrics: &Metrics) {
        let mut owned = self.lock();
        let before = owned.insert((topic, partition), size).unwrap_or_default();
        let evicted = |kind| metrics.detector_keys_evicted.get_or_create_owned(&ByKind { kind });
        evicted("any").inc_by(size.evicted.saturating_sub(before.evicted));
        evicted("event_id").inc_by(size.ids_forgotten.saturating_sub(before.ids_forgotten));
        show(&owned, metrics);
    }
}

fn show(owned: &HashMap<(Topic, PartitionId), StateSize>, metrics: &Metrics) {
    let sum = |of: fn(&StateSize) -> usize| {
        i64::try_from(owned.values().map(of).sum::<usize>()).unwrap_or(i64::MAX)
    };
    let keys = |kind, number| metrics.detector_keys.get_or_create(&ByKind { kind }).set(number);
    keys("subject", sum(|size| size.subjects));
    keys("habit", sum(|size| size.habits));
    keys("token", sum(|size| size.tokens));
    keys("case", sum(|size| size.cases));
    keys("gateway", sum(|size| size.gateways));
    keys("event_id", sum(|size| size.ids));
    metrics.detector_state_bytes.set(sum(|size| size.bytes));
}
