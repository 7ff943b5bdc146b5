//! Storms: more cases at once than anyone can read are told as one (DETECTION).
//!
//! What is grouped is decided by the outbox alone: by the records of the partition up to this one, in their order, and by
//! when the log took them. All cases of a rule and tenant lie in one partition, so its owner sees all of a storm; every
//! destination comes to the same decisions; and whoever reads the outbox again from its start, as each start does, comes
//! to them again. So nothing is kept anywhere, and nothing is told twice or forgotten for it.
//!
//! A storm's alert has no record of its own: it takes the place of the case that began the storm, or made it graver, and
//! is done when that record is.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{Alert, Case, CaseState, FindingId, Offset, RuleId, Severity, Step, UnixMs};
use crate::pipeline::alert::{Storm, alert_storm};

/// So many cases of a rule and tenant, opened within [`WITHIN_MS`], are a storm.
const CASES: usize = 21;
/// So many are one if their far end is one /24 or /48.
const CASES_OF_A_NETWORK: usize = 5;
const WITHIN_MS: i64 = 10 * 60 * 1_000;
/// A storm that does not end is told again after a day.
const AT_MOST_MS: i64 = 24 * 60 * 60 * 1_000;
/// So many times as many cases as began it make a storm one step more severe.
const GROWN: u64 = 10;
/// So long the outbox keeps a record: a reader that starts then does not know the case any more, so neither does one that
/// has been running.
const KEPT_MS: i64 = 30 * AT_MOST_MS;
/// How many of its first cases a storm names.
const NAMED: usize = 20;

/// What becomes of a record of the outbox.
#[derive(Debug)]
pub(super) enum Telling {
    /// It is told.
    Single,
    /// Its storm was told, or will be; of it there is only the row.
    Grouped,
    /// This is told in its place: it began a storm, or made one graver.
    Storm(Box<Alert>),
}

/// The storms of one partition of the outbox.
#[derive(Debug, Default)]
pub(super) struct Storms {
    /// The latest time at which the log took a record.
    stream_time: UnixMs,
    /// Every case of the last 30 days: a repeated walk appends the same steps again.
    seen: HashMap<FindingId, Seen>,
    crowds: HashMap<Shared, Crowd>,
    /// The last revisions of storms that are over.
    ended: Vec<Alert>,
    looked_at: UnixMs,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    severity: Severity,
    grouped: bool,
    /// When the log took its latest step.
    appended: UnixMs,
}

/// What the cases of a storm share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shared {
    tenant: String,
    rule: RuleId,
    network: Option<IpNet>,
}

/// Cases that share something, of the last ten minutes.
#[derive(Debug, Default)]
struct Crowd {
    recent: VecDeque<Opened>,
    storm: Option<Lasting>,
}

#[derive(Clone, Copy, Debug)]
struct Opened {
    finding: FindingId,
    appended: UnixMs,
    /// In event time.
    first_time: UnixMs,
    severity: Severity,
}

/// A storm that is not over.
#[derive(Debug)]
struct Lasting {
    storm: Storm,
    /// Its latest case: when it was appended, and where.
    latest: (UnixMs, Offset),
    /// The highest of its cases.
    highest: Severity,
    /// Whether its last revision was made because nothing came for a while.
    is_closed: bool,
}

impl Storms {
    /// Decides about the next record of the partition.
    pub(super) fn judge(&mut self, offset: Offset, appended: UnixMs, alert: &Alert) -> Telling {
        self.stream_time = self.stream_time.max(appended);
        self.forget();
        let case = &alert.data.finding.case;
        let before = self.seen.get(&case.finding_id).copied();
        let telling = match before {
            Some(seen) if seen.severity >= case.severity => {
                return if seen.grouped { Telling::Grouped } else { Telling::Single };
            }
            _ if case.severity == Severity::Critical => Telling::Single,
            Some(seen) if !seen.grouped => Telling::Single,
            Some(_) => self.raised(offset, alert),
            None => self.opened(offset, alert),
        };
        let grouped = !matches!(telling, Telling::Single);
        let seen = Seen { severity: case.severity, grouped, appended: self.stream_time };
        self.seen.insert(case.finding_id, seen);
        telling
    }

    /// A case that is new in the outbox.
    fn opened(&mut self, offset: Offset, alert: &Alert) -> Telling {
        let (case, now) = (&alert.data.finding.case, self.stream_time);
        let (finding, first_time, severity) = (case.finding_id, case.first_time, case.severity);
        let opened = Opened { finding, appended: now, first_time, severity };
        let kinds = kinds_of(case);
        for kind in &kinds {
            if let Some(crowd) = self.crowds.get_mut(kind) {
                crowd.end_if_over(kind, now, Some(opened), &mut self.ended);
                if crowd.storm.is_some() {
                    crowd.recent.push_back(opened);
                    return crowd.join(offset, now, case, 1);
                }
            }
        }
        for kind in &kinds {
            self.crowds.entry(kind.clone()).or_default().recent.push_back(opened);
        }
        // The narrower says more.
        for kind in kinds.iter().rev() {
            if let Some(crowd) = self.crowds.get_mut(kind)
                && crowd.recent.len() >= kind.limit()
            {
                return crowd.begin(kind, offset, now, alert);
            }
        }
        Telling::Single
    }

    /// A case that was grouped became more severe.
    fn raised(&mut self, offset: Offset, alert: &Alert) -> Telling {
        let (case, now) = (&alert.data.finding.case, self.stream_time);
        for kind in &kinds_of(case) {
            if let Some(crowd) = self.crowds.get_mut(kind) {
                crowd.end_if_over(kind, now, None, &mut self.ended);
                if crowd.storm.is_some() {
                    return crowd.join(offset, now, case, 0);
                }
            }
        }
        Telling::Single
    }

    /// The last revisions of storms that ended since the last call: rows, nobody is told. At `wall` those count as over
    /// that have had no case for a while; if they go on all the same, their end comes again.
    pub(super) fn take_ended(&mut self, wall: UnixMs) -> Vec<Alert> {
        for crowd in self.crowds.values_mut() {
            if let Some(lasting) = &mut crowd.storm
                && !lasting.is_closed
                && wall.since_ms(lasting.latest.0) > WITHIN_MS
            {
                lasting.is_closed = true;
                self.ended.push(lasting.closed());
            }
        }
        std::mem::take(&mut self.ended)
    }

    /// Forgets crowds that have dispersed and cases that are long over, now and then.
    fn forget(&mut self) {
        let now = self.stream_time;
        if now.since_ms(self.looked_at) < WITHIN_MS {
            return;
        }
        self.looked_at = now;
        self.seen.retain(|_, seen| now.since_ms(seen.appended) <= KEPT_MS);
        let ended = &mut self.ended;
        self.crowds.retain(|kind, crowd| {
            crowd.end_if_over(kind, now, None, ended);
            crowd.storm.is_some() || !crowd.recent.is_empty()
        });
    }
}

impl Shared {
    /// So many cases are a storm.
    const fn limit(&self) -> usize {
        if self.network.is_some() { CASES_OF_A_NETWORK } else { CASES }
    }
}

/// The crowds that a case may belong to, the widest first.
fn kinds_of(case: &Case) -> Vec<Shared> {
    let of = |network| Shared { tenant: case.tenant.clone(), rule: case.rule, network };
    std::iter::once(None).chain(far_network(case).map(Some)).map(of).collect()
}

/// The /24 or /48 of the later use of the deciding pair.
fn far_network(case: &Case) -> Option<IpNet> {
    let ip: IpAddr = case.evidence.get("to")?.get("ip")?.as_str()?.parse().ok()?;
    let ip = ip.to_canonical();
    IpNet::new(ip, if ip.is_ipv4() { 24 } else { 48 }).ok().map(|network| network.trunc())
}

impl Crowd {
    /// Drops what is older than ten minutes. A storm is over when its cases, with the one that comes now, are fewer than
    /// half of what began it: it does not come and go around the limit.
    fn end_if_over(&mut self, kind: &Shared, now: UnixMs, coming: Option<Opened>, ended: &mut Vec<Alert>) {
        while self.recent.front().is_some_and(|opened| now.since_ms(opened.appended) > WITHIN_MS) {
            self.recent.pop_front();
        }
        let cases = self.recent.len() + usize::from(coming.is_some());
        let over = |lasting: &mut Lasting| {
            cases * 2 < kind.limit() || now.since_ms(lasting.storm.since) > AT_MOST_MS
        };
        if let Some(lasting) = self.storm.take_if(over) {
            if now.since_ms(lasting.storm.since) > AT_MOST_MS {
                // What goes on is another storm, of other cases.
                self.recent.clear();
            }
            if !lasting.is_closed {
                ended.push(lasting.closed());
            }
        }
    }

    fn begin(&mut self, kind: &Shared, offset: Offset, now: UnixMs, alert: &Alert) -> Telling {
        let (data, recent) = (&alert.data, &self.recent);
        let highest = recent.iter().map(|opened| opened.severity).max().unwrap_or(Severity::Medium);
        let storm = Storm {
            tenant: kind.tenant.clone(),
            rule: kind.rule,
            network: kind.network,
            begun_by: data.finding.case.finding_id,
            log: data.log.clone(),
            topic: data.topic.clone(),
            partition: data.partition,
            since: recent.front().map_or(now, |first| first.appended),
            first_time: recent.iter().map(|opened| opened.first_time).min().unwrap_or(now),
            cases: recent.len() as u64,
            first: recent.iter().take(NAMED).map(|opened| opened.finding).collect(),
            severity: highest,
        };
        let told = alert_storm(&storm, Step::Opened, CaseState::Open, offset, now);
        self.storm = Some(Lasting { storm, latest: (now, offset), highest, is_closed: false });
        Telling::Storm(Box::new(told))
    }

    /// `cases` more, or one of those that it has, stronger.
    fn join(&mut self, offset: Offset, now: UnixMs, case: &Case, cases: u64) -> Telling {
        let Some(lasting) = &mut self.storm else { return Telling::Single };
        (lasting.latest, lasting.is_closed) = ((now, offset), false);
        lasting.highest = lasting.highest.max(case.severity);
        let storm = &mut lasting.storm;
        storm.cases += cases;
        storm.first_time = storm.first_time.min(case.first_time);
        let begun_with = if storm.network.is_some() { CASES_OF_A_NETWORK } else { CASES };
        let grown = storm.cases >= GROWN * begun_with as u64;
        let severity = if grown { one_more(lasting.highest) } else { lasting.highest };
        if severity <= storm.severity {
            return Telling::Grouped;
        }
        storm.severity = severity;
        let told = alert_storm(storm, Step::Raised, CaseState::Open, offset, now);
        Telling::Storm(Box::new(told))
    }
}

impl Lasting {
    fn closed(&self) -> Alert {
        let (time, offset) = self.latest;
        let revision = offset.resume_after().offset();
        alert_storm(&self.storm, Step::Raised, CaseState::Closed, revision, time)
    }
}

fn one_more(severity: Severity) -> Severity {
    let next = Severity::ALL.iter().find(|&&other| other > severity);
    next.copied().unwrap_or(severity)
}

#[cfg(test)]
mod tests;
