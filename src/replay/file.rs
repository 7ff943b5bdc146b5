//! A file of events, one JSON object a line, as they lie in the log.

use super::{ReplayError, Walked};
use crate::log::{Batch, Topic};
use crate::model::{Offset, PartitionId, UnixMs};
use crate::pipeline::Walk;
use crate::pipeline::decode::Rejected;

/// Walks the lines in their order; a line's number, from 1, stands for its offset. The log would have stamped each on
/// arrival: for a file that is at the event's own time. `rejected` sees the number of each line that is no event.
pub(crate) fn file(
    mut walk: Walk,
    lines: impl Iterator<Item = std::io::Result<String>>,
    mut rejected: impl FnMut(i64, &Rejected),
) -> Result<Walked, ReplayError> {
    let (mut walked, mut batch) = (Walked::default(), Batch::default());
    for (number, line) in (1..).zip(lines) {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        batch.clear(PartitionId(0));
        let time = event_time(&line).unwrap_or_default();
        batch.push(Offset::new(number).unwrap_or_default(), time, None, line.as_bytes(), []);
        for record in batch.iter() {
            walked.step(&mut walk, &record, (Topic::Events, PartitionId(0)), |why| rejected(number, why));
        }
    }
    Ok(walked)
}

fn event_time(line: &str) -> Option<UnixMs> {
    #[derive(serde::Deserialize)]
    struct Time {
        time: UnixMs,
    }
    serde_json::from_str::<Time>(line).ok().map(|event| event.time)
}
