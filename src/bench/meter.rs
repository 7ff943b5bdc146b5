//! What a piece of work costs: processor time rather than time by the clock, so that what else runs on the machine
//! takes less part in the answer.

use std::time::Duration;

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};

use super::allocator::{Allocated, allocated};

/// What something cost, over some number of events.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) events: usize,
    pub(super) cpu: Duration,
    pub(super) allocations: u64,
    pub(super) bytes: u64,
}

impl Cost {
    /// Does `work` over `events` events on this thread, and adds what it cost.
    pub(super) fn add<T>(&mut self, events: usize, work: impl FnOnce() -> T) -> T {
        let (before, began) = (allocated(), thread_cpu());
        let done = work();
        let (ended, after) = (thread_cpu(), allocated());
        self.events += events;
        self.cpu += ended.saturating_sub(began);
        self.allocations += after.times - before.times;
        self.bytes += after.bytes - before.bytes;
        done
    }

    /// The cheaper of two measurements of the same work: what disturbs only ever adds.
    pub(super) fn cheaper(self, other: Self) -> Self {
        if other.cpu < self.cpu { other } else { self }
    }

    pub(super) fn ns_per_event(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.events.max(1) as f64
    }

    pub(super) fn per_event(&self, number: u64) -> f64 {
        number as f64 / self.events.max(1) as f64
    }
}

/// Processor time of this thread.
fn thread_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Processor time of this process: all its threads, none of its children.
pub(super) fn process_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// Bytes that this thread allocated and nobody gave back: a difference of two says what something keeps.
pub(super) fn held_bytes() -> i64 {
    let Allocated { bytes, freed, .. } = allocated();
    bytes.cast_signed().wrapping_sub(freed.cast_signed())
}

/// What the process holds of the machine's memory, in bytes.
pub(super) fn resident_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib =
        resident.and_then(|text| text.trim().strip_suffix(" kB")).context("no VmRSS in /proc/self/status")?;
    Ok(1024 * kib.parse::<u64>()?)
}
