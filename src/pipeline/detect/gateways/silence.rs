//! `gateway_silent`: nothing was heard of a gateway for three heartbeats. Each silence is a case; it ends when the gateway
//! speaks.
//!
//! Time is that of the partition in which the gateway's heartbeats lie, without the holes in which nobody could append.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::{Gateway, Walked, matched};
use crate::model::{
    CaseState, Confidence, FindingId, HeartbeatSeen, PLATFORM_TENANT, PartitionId, RuleId, Severity, UnixMs,
    Zone,
};
use crate::pipeline::detect::cases::{Cases, Facts};

/// The last heartbeat of somebody who speaks for a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Voice {
    time: UnixMs,
    received_at: UnixMs,
    closing: bool,
    partition: PartitionId,
    /// The partition's time when the last one was heard.
    pub(super) live: Duration,
}

impl Voice {
    /// Heartbeats of several epochs may come in any order: the latest one says whether it was the last.
    pub(super) fn hear(
        voice: &mut Option<Self>,
        heartbeat: &HeartbeatSeen,
        partition: PartitionId,
        live: Duration,
    ) {
        let HeartbeatSeen { time, received_at, closing, .. } = *heartbeat;
        let heard = Self { time, received_at, closing, partition, live };
        *voice = Some(match *voice {
            Some(known) if known.time > time => Self { partition, live, ..known },
            _ => heard,
        });
    }
}

/// A silence that is told.
pub(super) struct Silence {
    since: UnixMs,
    /// It was closed properly: nobody misses it.
    closed: bool,
    /// Told as the whole zone's.
    whole_zone: bool,
    /// The partition's stream time when it was noticed.
    noticed_at: UnixMs,
}

impl Silence {
    fn finding_id(&self, gateway: &str) -> FindingId {
        FindingId::of(RuleId::GatewaySilent, PLATFORM_TENANT, &[gateway], self.since)
    }
}

pub(super) fn speaks_again(name: &str, gateway: &mut Gateway, cases: &mut Cases) {
    let (Some(silence), Some(voice)) = (gateway.silence.take(), gateway.voice()) else { return };
    cases.end(
        RuleId::GatewaySilent,
        silence.finding_id(name),
        CaseState::Closed,
        voice.received_at.max(silence.noticed_at),
    );
}

pub(super) fn judge(
    name: &str,
    gateway: &mut Gateway,
    partitions: &BTreeMap<PartitionId, Walked>,
    silent_after: Duration,
    cases: &mut Cases,
) {
    if gateway.silence.is_some() {
        return;
    }
    let Some(voice) = gateway.voice() else { return };
    let Some(walked) = partitions.get(&voice.partition) else { return };
    if walked.live.saturating_sub(voice.live) < silent_after {
        return;
    }
    let silence =
        Silence { since: voice.time, closed: voice.closing, whole_zone: false, noticed_at: walked.through };
    let severity = if silence.closed { Severity::Info } else { Severity::Medium };
    tell(name, gateway.zone, &silence, severity, cases);
    gateway.silence = Some(silence);
}

/// Whether every gateway of a zone that was not closed is silent.
pub(super) fn judge_zones(gateways: &mut BTreeMap<String, Gateway>, cases: &mut Cases) {
    for &zone in Zone::ALL {
        let is_missed =
            |gateway: &Gateway| gateway.zone == zone && gateway.voice().is_some_and(|voice| !voice.closing);
        let mut missed = gateways.values().filter(|gateway| is_missed(gateway)).peekable();
        if missed.peek().is_none() || missed.any(|gateway| gateway.silence.is_none()) {
            continue;
        }
        for (name, gateway) in gateways.iter_mut().filter(|(_, gateway)| is_missed(gateway)) {
            let Some(silence) = gateway.silence.as_mut().filter(|silence| !silence.whole_zone) else {
                continue;
            };
            silence.whole_zone = true;
            tell(name, zone, silence, Severity::High, cases);
        }
    }
}

fn tell(name: &str, zone: Zone, silence: &Silence, severity: Severity, cases: &mut Cases) {
    let Silence { since, closed, whole_zone, noticed_at } = *silence;
    let key = [name];
    let times = (since, noticed_at);
    let matched = matched(RuleId::GatewaySilent, name, &key, times, (severity, Confidence::High));
    cases.touch(&matched, || Facts {
        title: if closed { format!("{name} was stopped") } else { format!("{name} fell silent") },
        summary: match (closed, whole_zone) {
            (true, _) => format!("{name} said that it stops, and nothing was heard of it since {since}."),
            (false, false) => format!(
                "Nothing was heard of {name} since {since}: three heartbeats are missing. What it lets through is not \
                 audited."
            ),
            (false, true) => format!(
                "Nothing was heard of {name} since {since}, nor of any other gateway of the zone {zone}."
            ),
        },
        evidence: json!({
            "gateway": name, "zone": zone, "last_heartbeat": since, "noticed_at": noticed_at, "closed": closed,
            "whole_zone": whole_zone,
        }),
        lowered_by: if closed { vec!["closed".to_owned()] } else { Vec::new() },
    });
}
