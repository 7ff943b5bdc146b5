//! The rules about gateways: `audit_gap`, `gateway_silent`, `gateway_misses_client_ip`, `gateway_clock_skew`. Class:
//! closing; what they watch is what did not come.
//!
//! They walk summaries, not events. What did not come is decided only when every partition of the event topic is walked
//! beyond the time by which it would have come: a walk that lags, an outage of ClickHouse, a partition that waits for an
//! operator make these rules wait, and nothing else. Each summary says how far its partition is.

mod epoch;
mod hours;
mod seqs;
mod silence;

#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use super::cases::{Cases, Match};
use super::rulebook::Rulebook;
use super::{Limits, StateSize};
use crate::log::Record;
use crate::model::{
    CaseUpdate, Confidence, EdgeHour, LogId, PLATFORM_TENANT, PartitionId, RuleId, Severity, SourceSummary,
    Summary, UnixMs, Zone,
};
use epoch::Epoch;
use silence::{Silence, Voice};

/// Gateways that are remembered: those that come beyond them are not watched, so that made-up ones drop nobody.
const MAX_GATEWAYS: usize = 4_096;
/// Epochs that are remembered, of all gateways, and of one.
const MAX_EPOCHS: usize = 8_192;
const MAX_EPOCHS_EACH: usize = 64;

/// A gateway or an epoch that nothing was heard of for so long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Time in which a partition could have been appended to, for each summary at most: while it waits for something its
/// owner lets time pass in it, so a longer hole says that nobody could, and that is no gateway's silence.
const LIVE_AT_MOST: Duration = Duration::from_secs(45);

/// Judged at most so often, in stream time.
const JUDGE_EVERY: Duration = Duration::from_secs(1);

/// The state of the second walk's partition.
pub(crate) struct GatewayDetector {
    stream_time: UnixMs,
    partitions: BTreeMap<PartitionId, Walked>,
    /// How far the events were walked at first: an epoch that began before is known in part.
    watched_since: Option<UnixMs>,
    /// Up to when all partitions were walked, and the foremost one.
    judged_at: (UnixMs, UnixMs),
    gateways: BTreeMap<String, Gateway>,
    epochs: usize,
    /// Events that summaries had no room for: any epoch's, for all that is known.
    left_out: u64,
    /// Sources that there was no room for.
    unwatched: u64,
    cases: Cases,
}

/// How far a partition of the event topic is walked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Walked {
    log: LogId,
    through: UnixMs,
    at_rest: bool,
    /// The time that has passed in it, without the holes.
    live: Duration,
}

struct Gateway {
    zone: Zone,
    /// Who speaks for it: itself, or the door where it only posts.
    own: Option<Voice>,
    door: Option<Voice>,
    silence: Option<Silence>,
    /// What the door refused of it: seen, though no event.
    refused: u64,
    epochs: BTreeMap<String, Epoch>,
    /// Not judged yet.
    hours: Vec<EdgeHour>,
    heard_at: UnixMs,
}

impl Gateway {
    fn new(zone: Zone) -> Self {
        Self {
            zone,
            own: None,
            door: None,
            silence: None,
            refused: 0,
            epochs: BTreeMap::new(),
            hours: Vec::new(),
            heard_at: UnixMs::default(),
        }
    }

    /// The voice that counts. The door says of a gateway that speaks itself only what it refused.
    const fn voice(&self) -> Option<Voice> {
        match self.own {
            Some(own) => Some(own),
            None => self.door,
        }
    }
}

impl Default for GatewayDetector {
    fn default() -> Self {
        Self {
            stream_time: UnixMs::new(i64::MIN),
            partitions: BTreeMap::new(),
            watched_since: None,
            judged_at: (UnixMs::new(i64::MIN), UnixMs::new(i64::MIN)),
            gateways: BTreeMap::new(),
            epochs: 0,
            left_out: 0,
            unwatched: 0,
            cases: Cases::new(Limits::default().cases_bytes),
        }
    }
}

impl GatewayDetector {
    /// Takes a summary in, and judges what that decides.
    pub(crate) fn detect(
        &mut self,
        summary: &Summary,
        record: &Record<'_>,
        rules: &Rulebook,
    ) -> Vec<CaseUpdate> {
        self.begin(record);
        self.walked(summary);
        self.left_out = self.left_out.saturating_add(summary.left_out);
        for source in &summary.sources {
            self.take(source, summary, rules);
        }
        let newest = self.partitions.values().map(|walked| walked.through).max().unwrap_or_default();
        let (now, judged_at) = (self.walked_through(), self.judged_at);
        if now >= judged_at.0 + JUDGE_EVERY || newest >= judged_at.1 + JUDGE_EVERY {
            self.judged_at = (now, newest);
            self.judge(now, newest, rules);
        }
        self.cases.take_updates()
    }

    /// Time has passed, and nothing else: the cases that this closed.
    pub(crate) fn tick(&mut self, record: &Record<'_>) -> Vec<CaseUpdate> {
        self.begin(record);
        self.cases.take_updates()
    }

    /// The stream time at which a case closes; all else waits for what the walk of the events says.
    pub(crate) fn next_due(&self) -> Option<UnixMs> {
        self.cases.next_due()
    }

    pub(crate) fn size(&self) -> StateSize {
        let epochs = self.gateways.values().flat_map(|gateway| gateway.epochs.values());
        let bytes = self.gateways.len() * size_of::<Gateway>() + epochs.map(Epoch::bytes).sum::<usize>();
        StateSize {
            gateways: self.gateways.len(),
            cases: self.cases.len(),
            bytes: bytes + self.cases.bytes(),
            evicted: self.unwatched + self.cases.evicted(),
            ..StateSize::default()
        }
    }

    fn begin(&mut self, record: &Record<'_>) {
        self.stream_time = self.stream_time.max(record.append_time);
        self.cases.begin(record.offset, self.stream_time);
    }

    fn walked(&mut self, summary: &Summary) {
        let Summary { log, partition, through, at_rest, .. } = summary;
        self.watched_since.get_or_insert(*through);
        let new = || Walked { log: log.clone(), through: *through, at_rest: false, live: Duration::ZERO };
        let walked = self.partitions.entry(*partition).or_insert_with(new);
        if walked.log != *log {
            // Another log: what it holds is later than what the one before it held.
            *walked = Walked { live: walked.live, ..new() };
        }
        let passed = Duration::from_millis(through.since_ms(walked.through).max(0).unsigned_abs());
        walked.live += passed.min(LIVE_AT_MOST);
        (walked.through, walked.at_rest) = (walked.through.max(*through), *at_rest);
    }

    /// Up to when all that was appended is walked. A partition at rest has nothing to wait for.
    fn walked_through(&self) -> UnixMs {
        let busy = self.partitions.values().filter(|walked| !walked.at_rest);
        busy.map(|walked| walked.through).min().unwrap_or(UnixMs::new(i64::MAX))
    }

    /// What a block has of one source.
    fn take(&mut self, source: &SourceSummary, summary: &Summary, rules: &Rulebook) {
        let full = self.gateways.len() >= MAX_GATEWAYS;
        if full && !self.gateways.contains_key(&source.gateway) {
            self.unwatched += 1;
            return;
        }
        let gateway =
            self.gateways.entry(source.gateway.clone()).or_insert_with(|| Gateway::new(source.zone));
        (gateway.zone, gateway.heard_at) = (source.zone, gateway.heard_at.max(summary.through));
        hours::add(&mut gateway.hours, &source.edge);

        let live = self.partitions.get(&summary.partition).map_or(Duration::ZERO, |walked| walked.live);
        for heartbeat in &source.heartbeats {
            let voice = if heartbeat.refused.is_some() { &mut gateway.door } else { &mut gateway.own };
            Voice::hear(voice, heartbeat, summary.partition, live);
        }
        if gateway.silence.is_some() && gateway.voice().is_some_and(|voice| voice.live == live) {
            silence::speaks_again(&source.gateway, gateway, &mut self.cases);
        }

        if source.epoch.is_empty() {
            return;
        }
        if !gateway.epochs.contains_key(&source.epoch) {
            if self.epochs >= MAX_EPOCHS || gateway.epochs.len() >= MAX_EPOCHS_EACH {
                self.unwatched += 1;
                return;
            }
            self.epochs += 1;
            gateway.epochs.insert(source.epoch.clone(), Epoch::new(gateway.refused + self.left_out));
        }
        let Some(epoch) = gateway.epochs.get_mut(&source.epoch) else { return };
        for heartbeat in &source.heartbeats {
            // Two heartbeats would have been heard before this one, if the epoch were older than our watch.
            let missed = self.watched_since.map(|since| since + rules.heartbeat_every() * 2);
            let is_whole = missed.is_some_and(|missed| heartbeat.received_at >= missed);
            gateway.refused = gateway.refused.saturating_add(epoch.hear(*heartbeat, is_whole));
        }
        epoch.count(source, summary.through);
    }

    fn judge(&mut self, now: UnixMs, newest: UnixMs, rules: &Rulebook) {
        let stale = newest - FORGET_AFTER;
        for (name, gateway) in &mut self.gateways {
            let zone = gateway.zone;
            let allowed = gateway.refused + self.left_out;
            for (epoch_name, epoch) in &mut gateway.epochs {
                epoch.judge((name, epoch_name, zone), now, allowed, rules, &mut self.cases);
            }
            let known = gateway.epochs.len();
            gateway.epochs.retain(|_, epoch| epoch.heard_at() > stale);
            self.epochs -= known - gateway.epochs.len();
            hours::judge(name, &mut gateway.hours, now, &mut self.cases);
            silence::judge(name, gateway, &self.partitions, rules.silent_after(), &mut self.cases);
        }
        self.gateways.retain(|_, gateway| gateway.heard_at > stale);
        silence::judge_zones(&mut self.gateways, &mut self.cases);
    }
}

/// A match of one of these rules: it concerns a gateway, and no event bears witness.
fn matched<'m>(
    rule: RuleId,
    gateway: &'m str,
    key: &'m [&'m str],
    (window_start, time): (UnixMs, UnixMs),
    (severity, confidence): (Severity, Confidence),
) -> Match<'m> {
    Match {
        rule,
        tenant: PLATFORM_TENANT,
        key,
        window_start,
        severity,
        confidence,
        iss: "",
        sub: "",
        subject_kind: None,
        client_id: "",
        gateway,
        kid: "",
        time,
        token_ref: None,
        witnesses: &[],
        is_count: true,
    }
}
