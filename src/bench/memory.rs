//! What the walk remembers, as subjects grow: bytes a subject, and what the process holds.
//!
//! Eight hours of ten thousand people are simulated once, and lived by as many namesakes as are wanted: each with a
//! name, a session and tokens of their own, at the places of the one who is copied.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::meter::{held_bytes, resident_bytes};
use super::report::Report;
use super::setting::Setting;
use super::traffic::{PEOPLE, START, TENANTS, plan, push, record};
use crate::log::{Batch, home_partition};
use crate::model::{Event, Offset, PartitionId};
use crate::pipeline::detect::{Checkpoint, Restoring, StateSize};
use crate::pipeline::{LaneWalk as _, Walk};
use crate::simulate::Simulator;

/// As the event topic has on Kafka: each bounds its own state.
const PARTITIONS: u32 = 12;
/// Uses a subject, in the mean, over the time that is walked.
const USES: usize = 4;
const SPAN: Duration = Duration::from_secs(8 * 60 * 60);

/// Walks the uses of at least `subjects` people and says what is kept of them.
pub(super) fn measure(setting: &Setting, subjects: usize, report: &mut Report) -> anyhow::Result<()> {
    let before = held_bytes();
    let mut walks: Vec<Walk> =
        (0..PARTITIONS).map(|partition| setting.walk_of(PARTITIONS, PartitionId(partition))).collect();
    let people = PEOPLE * TENANTS;
    let (events, namesakes) = (people * USES, subjects.div_ceil(people));
    let simulator = Simulator::new(plan(1, START, events as f64 / SPAN.as_secs_f64(), None));
    let mut batch = Batch::default();
    for (number, simulated) in simulator.take(events).enumerate() {
        for namesake in 0..namesakes {
            let event = lived_by(&simulated.event, namesake);
            let record = record(&event, None);
            let home = home_partition(record.key.as_deref().unwrap_or_default(), PARTITIONS);
            batch.clear(home);
            push(&mut batch, number * namesakes + namesake, event.time, &record);
            for record in batch.iter() {
                drop(walks[home.0 as usize].step(&record));
            }
        }
    }
    drop(batch);
    let held = held_bytes() - before;
    let mut size = StateSize::default();
    for walk in &walks {
        let of_walk = walk.detector().size();
        size.subjects += of_walk.subjects;
        size.tokens += of_walk.tokens;
        size.bytes += of_walk.bytes;
        size.evicted += of_walk.evicted;
    }
    report.memory(size, held, resident_bytes()?)?;
    restore(setting, walks, report)
}

/// Writes everything down as first checkpoints do, and builds the walks again from that. A log's own time comes on top.
fn restore(setting: &Setting, mut walks: Vec<Walk>, report: &mut Report) -> anyhow::Result<()> {
    let began = Instant::now();
    let checkpoints: Vec<_> =
        walks.iter_mut().map(|walk| walk.checkpoint(Offset::ZERO, usize::MAX)).collect();
    let written = began.elapsed();
    let subjects = walks.iter().map(|walk| walk.detector().size().subjects).sum();
    drop(walks);
    let began = Instant::now();
    let mut restored = 0;
    for (partition, checkpoint) in (0..).map(PartitionId).zip(&checkpoints) {
        let mut found = Restoring::new(&setting.bounds.log);
        for record in &checkpoint.records {
            found.take(record.key.as_deref().unwrap_or_default(), &record.value);
        }
        let (bounds, snapshots) = (setting.bounds.clone(), setting.snapshots.clone());
        let walk = Walk::restore(bounds, snapshots, partition, &found, Offset::ZERO)?;
        restored += walk.detector().size().subjects;
    }
    anyhow::ensure!(restored == subjects, "{restored} of {subjects} subjects were restored");
    let (keys, bytes) = (
        checkpoints.iter().map(|made| made.records.len()).sum(),
        checkpoints.iter().map(Checkpoint::bytes).sum(),
    );
    report.restored(subjects, keys, bytes, written, began.elapsed())
}

/// The same use by somebody else of that name: another subject, session, token and event, at the same place.
fn lived_by(event: &Event<'static>, namesake: usize) -> Event<'static> {
    let mut event = event.clone();
    event.id = Uuid::from_u128(event.id.as_u128() ^ namesake as u128);
    if let Some(token) = &mut event.token {
        token.sub = token.sub.take().map(|sub| format!("{sub}-{namesake}").into());
        // Digits are base64url too.
        let renamed = |name: &str| format!("{namesake:04}{}", name.get(4..).unwrap_or_default());
        token.token_ref = token.token_ref.take().map(|name| renamed(&name).into());
        token.sid = token.sid.take().map(|name| renamed(&name).into());
    }
    event
}
