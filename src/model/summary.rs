//! What one block adds to what spans subjects: the value of a record on `jwtrail.summaries`.

use serde::{Deserialize, Serialize};

use super::{LogId, Offset, PartitionId, UnixMs, Zone};

/// The part of one block in what its sources did, with how far its partition is walked. Written with the commit that
/// releases the block, so each is in the log exactly once, behind those of the partition's earlier blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) version: SummaryVersion,
    /// The block: its log, partition, first and last offset.
    pub(crate) log: LogId,
    pub(crate) partition: PartitionId,
    pub(crate) first: Offset,
    pub(crate) last: Offset,
    /// The highest append time in the block.
    pub(crate) through: UnixMs,
    /// Nothing was appended for so long that nothing is waited for: the partition says no more until something is.
    pub(crate) at_rest: bool,
    pub(crate) sources: Vec<SourceSummary>,
    /// Events of sources that the summary had no room for.
    pub(crate) left_out: u64,
}

/// What a block has of one start of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SourceSummary {
    pub(crate) gateway: String,
    pub(crate) zone: Zone,
    /// Empty if the source names none: then only `heartbeats` and `edge` say something.
    pub(crate) epoch: String,
    /// Events by when they were sent at the latest (the earlier of `time` and `received_at`), in steps of ten seconds
    /// since the Unix epoch: each step and its number of events.
    pub(crate) steps: Vec<(i64, u64)>,
    /// `None` if they are too many to say.
    pub(crate) seqs: Option<Runs>,
    pub(crate) heartbeats: Vec<HeartbeatSeen>,
    pub(crate) edge: Vec<EdgeHour>,
}

/// The length of a step.
pub(crate) const STEP_MS: i64 = 10_000;

/// A heartbeat as it was walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeartbeatSeen {
    pub(crate) time: UnixMs,
    pub(crate) received_at: UnixMs,
    /// Counts within the epoch, as in the event.
    pub(crate) sent: u64,
    pub(crate) dropped: u64,
    pub(crate) closing: bool,
    pub(crate) refused: Option<u64>,
}

/// Uses of tokens that a source at the edge reported within one hour of `received_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EdgeHour {
    /// Hours since the Unix epoch.
    pub(crate) hour: i64,
    pub(crate) uses: u64,
    /// With a private address, or one of a content delivery network, where the client's should be.
    pub(crate) without_client_ip: u64,
    /// With a time that was clamped, or more than a minute off, although no spool held the event back.
    pub(crate) off_clock: u64,
}

/// The one version there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub(crate) struct SummaryVersion;

impl TryFrom<u8> for SummaryVersion {
    type Error = &'static str;
    fn try_from(version: u8) -> Result<Self, Self::Error> {
        if version == 1 { Ok(Self) } else { Err("an unknown version of summaries") }
    }
}

impl From<SummaryVersion> for u8 {
    fn from(_: SummaryVersion) -> Self {
        1
    }
}

/// A set of numbers: the first, then by turns how many are there and how many are missing. `[7, 2, 10, 1]` is 7, 8, 19.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Runs(Vec<u64>);

impl Runs {
    /// `numbers` in order; repeats count once.
    pub(crate) fn of(numbers: impl IntoIterator<Item = u64>) -> Self {
        let (mut runs, mut last) = (Vec::new(), None);
        for number in numbers {
            match (last, runs.last_mut()) {
                (Some(last), _) if number <= last => continue,
                (Some(last), Some(there)) if number == last + 1 => *there += 1,
                (Some(last), _) => runs.extend([number - last - 1, 1]),
                (None, _) => runs.extend([number, 1]),
            }
            last = Some(number);
        }
        Self(runs)
    }

    /// The bytes of its JSON, at most.
    pub(crate) fn json_bytes(&self) -> usize {
        let digits = |number: &u64| number.checked_ilog10().map_or(1, |log| log as usize + 1);
        2 + self.0.iter().map(|number| digits(number) + 1).sum::<usize>()
    }

    /// First and last of each run. Bounded whatever was written.
    pub(crate) fn intervals(&self) -> impl Iterator<Item = (u64, u64)> {
        let (mut next, mut there) = (self.0.first().copied().unwrap_or_default(), false);
        self.0.iter().skip(1).filter_map(move |&length| {
            there = !there;
            let first = next;
            next = next.saturating_add(length);
            (there && next > first).then(|| (first, next - 1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_the_numbers_that_they_were_made_of() {
        for (numbers, written) in [
            (vec![], vec![]),
            (vec![0], vec![0, 1]),
            (vec![7, 8, 19], vec![7, 2, 10, 1]),
            (vec![1, 1, 2, 2, 4], vec![1, 2, 1, 1]),
        ] {
            let runs = Runs::of(numbers.iter().copied());
            assert_eq!(runs.0, written);
            let read: Vec<u64> = runs.intervals().flat_map(|(first, last)| first..=last).collect();
            let mut once = numbers;
            once.dedup();
            assert_eq!(read, once);
        }
    }

    #[test]
    fn runs_that_nobody_wrote_are_bounded() {
        let hostile = Runs(vec![u64::MAX - 1, 0, 3, u64::MAX, u64::MAX, 1]);
        assert!(hostile.intervals().all(|(first, last)| first <= last));
    }
}
