//! What the events of one block come to, source by source, while the block is filled.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{MAX_BYTES, record};
use crate::keys::Seals;
use crate::log::{NewRecord, Origin, Record};
use crate::model::{
    EdgeHour, Event, Flag, HeartbeatSeen, Kind, NetworkKind, Offset, Runs, STEP_MS, Source, SourceSummary,
    Summary, SummaryVersion, UnixMs, Zone,
};
use crate::pipeline::enrich::Enriched;

/// What an entry takes in the record's JSON, at most, besides its names.
const SOURCE_BYTES: usize = 160;
const STEP_BYTES: usize = 32;
const HEARTBEAT_BYTES: usize = 240;
const HOUR_BYTES: usize = 120;

/// An edge's clock may be off by this much.
const OFF_CLOCK_MS: u64 = 60_000;
const HOUR_MS: i64 = 60 * 60 * 1_000;

/// The summary of a block that is being filled.
#[derive(Default)]
pub(crate) struct Tally {
    /// In the order in which they came.
    sources: Vec<SourceTally>,
    /// Places in `sources`, by gateway and epoch.
    table: HashTable<usize>,
    hasher: DefaultHashBuilder,
    bytes: usize,
    left_out: u64,
    through: Option<UnixMs>,
    at_rest: bool,
}

struct SourceTally {
    summary: SourceSummary,
    /// Of its events, as they came.
    seqs: Vec<u64>,
}

impl Tally {
    /// A record that is walked here, whatever becomes of it. `at_rest`: whether nothing is waited for any more.
    pub(crate) fn pass(&mut self, record: &Record<'_>, at_rest: bool) {
        self.through =
            Some(self.through.map_or(record.append_time, |through| through.max(record.append_time)));
        self.at_rest = at_rest;
    }

    /// An event that is stored here, or a heartbeat.
    pub(crate) fn event(&mut self, record: &Record<'_>, enriched: &Enriched<'_>) {
        let decoded = &enriched.checked.decoded;
        let event = &decoded.event;
        let received_at = decoded.origin.as_ref().map_or(record.append_time, |origin| origin.append_time);
        let Some(place) = self.place(&event.source) else {
            self.left_out += u64::from(!event.kind.is_control());
            return;
        };
        let source = &mut self.sources[place];
        let has_epoch = !source.summary.epoch.is_empty();
        // A heartbeat's is that of the last event before it.
        if let Some(seq) = event.source.seq.filter(|_| has_epoch && !event.kind.is_control()) {
            source.seqs.push(seq);
        }
        let room = MAX_BYTES.saturating_sub(self.bytes);
        if event.kind == Kind::Heartbeat {
            self.bytes += source.heartbeat(event, received_at, room);
        } else if !event.kind.is_control() {
            if has_epoch {
                let sent_by = event.time.min(received_at);
                self.bytes += source.step(sent_by.get().div_euclid(STEP_MS), room);
            }
            if event.source.zone == Zone::Edge && matches!(event.kind, Kind::Accepted | Kind::Rejected) {
                self.bytes += source.edge(enriched, received_at, room);
            }
        }
    }

    /// The place of the event's source in `sources`; `None` if there is no room for another.
    fn place(&mut self, source: &Source<'_>) -> Option<usize> {
        let (gateway, epoch) = (source.gateway.as_ref(), source.epoch.as_deref().unwrap_or_default());
        let hash = self.hasher.hash_one((gateway, epoch));
        let is_it = |&place: &usize| {
            let known = &self.sources[place].summary;
            known.gateway == gateway && known.epoch == epoch
        };
        if let Some(&place) = self.table.find(hash, is_it) {
            return Some(place);
        }
        // A character may take six bytes of JSON.
        let bytes = SOURCE_BYTES + 6 * (gateway.len() + epoch.len());
        if self.bytes + bytes > MAX_BYTES {
            return None;
        }
        self.bytes += bytes;
        let place = self.sources.len();
        self.sources.push(SourceTally::new(gateway, epoch, source.zone));
        let (sources, hasher) = (&self.sources, &self.hasher);
        self.table.insert_unique(hash, place, |&place| {
            let known = &sources[place].summary;
            hasher.hash_one((known.gateway.as_str(), known.epoch.as_str()))
        });
        Some(place)
    }

    /// How many events it had no room for.
    pub(crate) const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The sealed record of the block `first..=last`; `None` if nothing was walked into it.
    pub(crate) fn close(
        self,
        origin: &Origin,
        (first, last): (Offset, Offset),
        seals: &Seals,
    ) -> Option<NewRecord> {
        let mut room = MAX_BYTES.saturating_sub(self.bytes);
        let summary = Summary {
            version: SummaryVersion,
            log: origin.log.clone(),
            partition: origin.partition,
            first,
            last,
            through: self.through?,
            at_rest: self.at_rest,
            sources: self.sources.into_iter().map(|source| source.close(&mut room)).collect(),
            left_out: self.left_out,
        };
        Some(record(&summary, seals))
    }
}

impl SourceTally {
    fn new(gateway: &str, epoch: &str, zone: Zone) -> Self {
        let summary = SourceSummary {
            gateway: gateway.to_owned(),
            zone,
            epoch: epoch.to_owned(),
            steps: Vec::new(),
            seqs: None,
            heartbeats: Vec::new(),
            edge: Vec::new(),
        };
        Self { summary, seqs: Vec::new() }
    }

    // Each of these answers how many bytes it takes. Where there is no room, a count goes to the entry that is there:
    // it says less, and nothing wrong.

    fn heartbeat(&mut self, event: &Event<'_>, received_at: UnixMs, room: usize) -> usize {
        let Some(said) = event.heartbeat else { return 0 };
        let seen = HeartbeatSeen {
            time: event.time,
            received_at,
            sent: said.sent,
            dropped: said.dropped,
            closing: said.closing,
            refused: said.refused,
        };
        match self.summary.heartbeats.last_mut() {
            Some(last) if room < HEARTBEAT_BYTES => {
                if seen.time > last.time {
                    *last = seen;
                }
                0
            }
            _ => {
                self.summary.heartbeats.push(seen);
                HEARTBEAT_BYTES
            }
        }
    }

    /// Events come nearly in order: the step is the last one, or near it.
    fn step(&mut self, step: i64, room: usize) -> usize {
        let steps = &mut self.summary.steps;
        let place = steps.iter().rposition(|&(known, _)| known <= step);
        match place {
            Some(place) if steps[place].0 == step => steps[place].1 += 1,
            // Counted at another step, the event seems to have been sent earlier or later than it was.
            _ if room < STEP_BYTES && !steps.is_empty() => steps[place.unwrap_or(0)].1 += 1,
            _ => {
                steps.insert(place.map_or(0, |place| place + 1), (step, 1));
                return STEP_BYTES;
            }
        }
        0
    }

    fn edge(&mut self, enriched: &Enriched<'_>, received_at: UnixMs, room: usize) -> usize {
        let decoded = &enriched.checked.decoded;
        let kind = enriched.location.as_ref().map(|location| location.network.kind);
        let without_client_ip = matches!(kind, Some(NetworkKind::Private | NetworkKind::Cdn));
        let is_off = decoded.flags.has(Flag::ClockSkewed)
            || decoded.event.time.abs_diff_ms(received_at) > OFF_CLOCK_MS;
        let (hour, hours) = (received_at.get().div_euclid(HOUR_MS), &mut self.summary.edge);
        let known = hours.iter().rposition(|known| known.hour == hour);
        let (place, taken) = match known {
            Some(place) => (place, 0),
            None if room < HOUR_BYTES && !hours.is_empty() => (hours.len() - 1, 0),
            None => {
                hours.push(EdgeHour { hour, uses: 0, without_client_ip: 0, off_clock: 0 });
                (hours.len() - 1, HOUR_BYTES)
            }
        };
        hours[place].uses += 1;
        hours[place].without_client_ip += u64::from(without_client_ip);
        hours[place].off_clock += u64::from(is_off && decoded.retried.is_none());
        taken
    }

    fn close(mut self, room: &mut usize) -> SourceSummary {
        self.seqs.sort_unstable();
        let runs = Runs::of(self.seqs);
        if let Some(left) = room.checked_sub(runs.json_bytes()) {
            *room = left;
            self.summary.seqs = Some(runs);
        }
        self.summary
    }
}
