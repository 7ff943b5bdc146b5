//! Each room alone, and the rooms together, over the same records.
//!
//! The rooms are called as [`Walk::step`] calls them, but a run of records at a time: one room over the run, then the
//! next. What a room leaves is dropped by the room that takes it last, so that every byte is paid once.

use super::meter::Cost;
use super::setting::Setting;
use super::traffic::Traffic;
use crate::log::{Batch, Origin, Record};
use crate::model::{Offset, PartitionId};
use crate::pipeline::LaneWalk as _;
use crate::pipeline::Walk;
use crate::pipeline::alert::{self, Alerted, Policy};
use crate::pipeline::decode::{self, Bounds, Decoded};
use crate::pipeline::detect::{Assessed, Detector, Rulebook};
use crate::pipeline::enrich::{self, Atlas, Enriched, Enricher};
use crate::pipeline::store::Block;
use crate::pipeline::verify::{self, Checked, Trust};

/// Records that go through a room before the next one has its turn: few enough to stay in the cache.
const RUN_RECORDS: usize = 128;

/// Records between two checkpoints: a fourth of what a lane waits for, since a round has not many more.
const CHECKPOINT_RECORDS: usize = 50_000;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(super) enum Room {
    /// Strict reading, and masking.
    Decode,
    /// The verdict, and the look for the home partition.
    Verify,
    /// The look for an event that was walked before.
    Repeats,
    Enrich,
    Detect,
    Alert,
    /// Rows into a block; what the rooms made is dropped here.
    Store,
    /// `Walk::step`, its outcome dropped.
    Together,
    /// `Walk::walk` into a block: all that is not I/O.
    Walk,
    /// The same, and what changed is written down every [`CHECKPOINT_RECORDS`].
    Checkpointed,
}

impl Room {
    pub(super) const ALL: [Self; 10] = [
        Self::Decode,
        Self::Verify,
        Self::Repeats,
        Self::Enrich,
        Self::Detect,
        Self::Alert,
        Self::Store,
        Self::Together,
        Self::Walk,
        Self::Checkpointed,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Verify => "verify",
            Self::Repeats => "repeats",
            Self::Enrich => "enrich",
            Self::Detect => "detect",
            Self::Alert => "alert",
            Self::Store => "store",
            Self::Together => "rooms together",
            Self::Walk => "rooms and rows",
            Self::Checkpointed => "and checkpoints",
        }
    }
}

/// The costs of the traffic's walk, by [`Room`].
pub(super) struct Costs([Cost; Room::ALL.len()]);

impl Costs {
    /// Walks the traffic `rounds` times, each with new state, and keeps the cheapest of each room.
    pub(super) fn measure(traffic: &Traffic, setting: &Setting, rounds: usize) -> anyhow::Result<Self> {
        let mut costs = Self::of_round(traffic, setting, RUN_RECORDS)?;
        for _ in 1..rounds {
            let again = Self::of_round(traffic, setting, RUN_RECORDS)?;
            costs.0 = std::array::from_fn(|room| costs.0[room].cheaper(again.0[room]));
        }
        Ok(costs)
    }

    /// One round, so many records a run.
    pub(super) fn of_round(traffic: &Traffic, setting: &Setting, run: usize) -> anyhow::Result<Self> {
        let mut rooms = Rooms::new(setting);
        for batch in &traffic.batches {
            for from in (0..batch.len()).step_by(run.max(1)) {
                let records: Vec<_> = batch.slice(from..batch.len().min(from + run)).collect();
                rooms.walk(&records, setting)?;
            }
        }
        let mut costs = rooms.costs;
        costs.0[Room::Together as usize] = together(traffic, setting);
        costs.0[Room::Walk as usize] = into_blocks(traffic, setting, usize::MAX);
        costs.0[Room::Checkpointed as usize] = into_blocks(traffic, setting, CHECKPOINT_RECORDS);
        Ok(costs)
    }

    pub(super) fn of(&self, room: Room) -> Cost {
        self.0[room as usize]
    }
}

/// The rooms and their state.
struct Rooms {
    costs: Costs,
    bounds: Bounds,
    origin: Origin,
    enricher: Enricher,
    detector: Detector,
    block: Block,
}

impl Rooms {
    fn new(setting: &Setting) -> Self {
        let origin = setting.origin();
        Self {
            costs: Costs([Cost::default(); Room::ALL.len()]),
            bounds: setting.bounds.clone(),
            block: setting.block(origin.clone(), Offset::ZERO),
            origin,
            enricher: Enricher::default(),
            detector: Detector::default(),
        }
    }

    fn walk(&mut self, records: &[Record<'_>], setting: &Setting) -> anyhow::Result<()> {
        let events = records.len();
        let Self { costs: Costs(costs), bounds, origin, enricher, detector, block } = self;
        // Room for what the rooms leave is made beforehand: the walk itself needs none.
        let mut decoded = Vec::with_capacity(events);
        costs[Room::Decode as usize].add(events, || decode_run(records, bounds, &mut decoded));
        let (mut checked, trust) = (Vec::with_capacity(events), &setting.snapshots.verify);
        costs[Room::Verify as usize]
            .add(events, || verify_run(decoded, records, trust, bounds, &mut checked));
        anyhow::ensure!(
            checked.len() == events,
            "the simulator made an event that is rejected or not at home"
        );
        let rules = &setting.snapshots.detect;
        let repeats = &mut costs[Room::Repeats as usize];
        let repeated = repeats.add(events, || repeats_run(&checked, records, rules, detector));
        anyhow::ensure!(repeated == 0, "the simulator made an event twice");
        let (mut enriched, atlas) = (Vec::with_capacity(events), &setting.snapshots.enrich);
        costs[Room::Enrich as usize].add(events, || enrich_run(checked, atlas, enricher, &mut enriched));
        let mut assessed = Vec::with_capacity(events);
        costs[Room::Detect as usize]
            .add(events, || detect_run(enriched, records, rules, detector, &mut assessed));
        let (mut alerted, policy) = (Vec::with_capacity(events), &setting.snapshots.alert);
        costs[Room::Alert as usize].add(events, || alert_run(assessed, policy, origin, &mut alerted));
        costs[Room::Store as usize].add(events, || store_run(alerted, records, block));
        if block.is_full(1) {
            *block = setting.block(origin.clone(), Offset::ZERO);
        }
        Ok(())
    }
}

// Never inlined: callgrind knows each room by its function's name.

#[inline(never)]
fn decode_run<'r>(records: &[Record<'r>], bounds: &Bounds, out: &mut Vec<Decoded<'r>>) {
    out.extend(records.iter().filter_map(|record| decode::decode(record, bounds).ok()));
}

#[inline(never)]
fn verify_run<'r>(
    decoded: Vec<Decoded<'r>>,
    records: &[Record<'r>],
    trust: &Trust,
    bounds: &Bounds,
    out: &mut Vec<Checked<'r>>,
) {
    for (decoded, record) in decoded.into_iter().zip(records) {
        let mut checked = verify::verify(decoded, record, trust);
        let Checked { decoded, attested_by, .. } = &mut checked;
        if decode::forward(decoded, attested_by.as_deref(), record, bounds, PartitionId(0)).is_none() {
            out.push(checked);
        }
    }
}

/// How many are repeats.
#[inline(never)]
fn repeats_run(
    checked: &[Checked<'_>],
    records: &[Record<'_>],
    rules: &Rulebook,
    detector: &mut Detector,
) -> usize {
    let both = checked.iter().zip(records);
    both.filter(|(checked, record)| detector.is_repeat(checked, record, rules)).count()
}

#[inline(never)]
fn enrich_run<'r>(
    checked: Vec<Checked<'r>>,
    atlas: &Atlas,
    enricher: &mut Enricher,
    out: &mut Vec<Enriched<'r>>,
) {
    out.extend(checked.into_iter().map(|checked| enrich::enrich(checked, atlas, enricher)));
}

#[inline(never)]
fn detect_run<'r>(
    enriched: Vec<Enriched<'r>>,
    records: &[Record<'r>],
    rules: &Rulebook,
    detector: &mut Detector,
    out: &mut Vec<Assessed<'r>>,
) {
    let both = enriched.into_iter().zip(records);
    out.extend(both.map(|(enriched, record)| detector.detect(enriched, record, rules)));
}

#[inline(never)]
fn alert_run<'r>(assessed: Vec<Assessed<'r>>, policy: &Policy, origin: &Origin, out: &mut Vec<Alerted<'r>>) {
    out.extend(assessed.into_iter().map(|assessed| alert::alert(assessed, policy, origin)));
}

#[inline(never)]
fn store_run(alerted: Vec<Alerted<'_>>, records: &[Record<'_>], block: &mut Block) {
    for (alerted, record) in alerted.into_iter().zip(records) {
        block.push(record, alerted);
    }
}

/// The whole step, record by record.
fn together(traffic: &Traffic, setting: &Setting) -> Cost {
    let (mut cost, mut walk) = (Cost::default(), setting.walk());
    for batch in &traffic.batches {
        cost.add(batch.len(), || step_run(&mut walk, batch));
    }
    cost
}

#[inline(never)]
fn step_run(walk: &mut Walk, batch: &Batch) {
    for record in batch.iter() {
        drop(walk.step(&record));
    }
}

/// The whole step into blocks, each cut when it is full; a checkpoint every so many records.
fn into_blocks(traffic: &Traffic, setting: &Setting, checkpoint_records: usize) -> Cost {
    let mut unwritten = 0;
    let (mut cost, mut walk) = (Cost::default(), setting.walk());
    let origin = setting.origin();
    let mut block = setting.block(origin.clone(), Offset::ZERO);
    for batch in &traffic.batches {
        cost.add(batch.len(), || walk.walk(batch, 0..batch.len(), Some(&mut block)));
        unwritten += batch.len();
        if unwritten >= checkpoint_records {
            unwritten = 0;
            let end = batch.position().unwrap_or_default();
            cost.add(0, || drop(walk.checkpoint(end, usize::MAX)));
        }
        if block.is_full(1) {
            let (full, end) = (block, batch.position().unwrap_or_default());
            block = setting.block(origin.clone(), end);
            cost.add(0, || drop(full.cut(end)));
        }
    }
    cost
}
