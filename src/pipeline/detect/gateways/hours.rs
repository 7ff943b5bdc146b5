//! `gateway_misses_client_ip` and `gateway_clock_skew`: what share of an hour's uses at the edge has no client's address,
//! or a time that is off. Judged when the hour is walked: a share of half an hour could still fall.

use serde_json::json;

use super::matched;
use crate::model::{Confidence, EdgeHour, PLATFORM_TENANT, RuleId, Severity, UnixMs};
use crate::pipeline::detect::cases::{Cases, Facts, HOUR_MS, Phase};

/// Fewer uses in an hour say nothing.
const MIN_USES: u64 = 100;
/// Percent of the hour's uses.
const LOW_PERCENT: u64 = 5;
const MEDIUM_PERCENT: u64 = 50;

/// At most so many hours wait to be judged: a walk that catches up does not come to more at once.
const MAX_HOURS: usize = 48;

pub(super) fn add(hours: &mut Vec<EdgeHour>, more: &[EdgeHour]) {
    for more in more {
        let is_full = hours.len() >= MAX_HOURS;
        match hours.iter_mut().find(|known| known.hour == more.hour) {
            Some(known) => {
                known.uses = known.uses.saturating_add(more.uses);
                known.without_client_ip = known.without_client_ip.saturating_add(more.without_client_ip);
                known.off_clock = known.off_clock.saturating_add(more.off_clock);
            }
            None if is_full => {}
            None => hours.push(*more),
        }
    }
}

/// Judges the hours before `now`, and forgets them.
pub(super) fn judge(gateway: &str, hours: &mut Vec<EdgeHour>, now: UnixMs, cases: &mut Cases) {
    hours.retain(|hour| {
        let is_over = (hour.hour + 1).saturating_mul(HOUR_MS) <= now.get();
        if is_over {
            judge_hour(gateway, hour, cases);
        }
        !is_over
    });
}

fn judge_hour(gateway: &str, hour: &EdgeHour, cases: &mut Cases) {
    let without = (RuleId::GatewayMissesClientIp, hour.without_client_ip, "without_client_ip");
    let off_clock = (RuleId::GatewayClockSkew, hour.off_clock, "off_clock");
    for (rule, count, name) in [without, off_clock] {
        let Some(severity) = severity(count, hour.uses) else { continue };
        let begins = UnixMs::new(hour.hour.saturating_mul(HOUR_MS));
        let phase = Phase::of(PLATFORM_TENANT, &[gateway]);
        let times = (phase.start(phase.window(begins)), begins);
        let key = [gateway];
        let matched = matched(rule, gateway, &key, times, (severity, Confidence::High));
        cases.touch(&matched, || Facts {
            title: title(rule, gateway),
            summary: summary(rule, gateway, count, hour.uses),
            evidence: json!({
                "gateway": gateway, "hour": begins, "uses": hour.uses, name: count,
                "percent": count.saturating_mul(100) / hour.uses,
            }),
            lowered_by: Vec::new(),
        });
    }
}

const fn severity(count: u64, uses: u64) -> Option<Severity> {
    let percent = count.saturating_mul(100);
    if uses < MIN_USES || percent < uses.saturating_mul(LOW_PERCENT) {
        None
    } else if percent < uses.saturating_mul(MEDIUM_PERCENT) {
        Some(Severity::Low)
    } else {
        Some(Severity::Medium)
    }
}

fn title(rule: RuleId, gateway: &str) -> String {
    match rule {
        RuleId::GatewayMissesClientIp => format!("{gateway} does not say who its clients are"),
        _ => format!("The clock of {gateway} is off"),
    }
}

fn summary(rule: RuleId, gateway: &str, count: u64, uses: u64) -> String {
    match rule {
        RuleId::GatewayMissesClientIp => format!(
            "{count} of {uses} uses at the edge that {gateway} reported within an hour have a private address, or one of \
             a content delivery network, where the client's should be: the rules of place cannot see them."
        ),
        _ => format!(
            "{count} of {uses} uses at the edge that {gateway} reported within an hour have a time that is more than a \
             minute from when they arrived."
        ),
    }
}
