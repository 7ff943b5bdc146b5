//! `impossible_travel`: one subject at two places that nobody can travel between in the time. Class: lasting.
//!
//! Remembered are *stays*: uses from one site at most 14 minutes apart. Nothing is lost by that: whatever falls inside a
//! stay lies within 7 minutes of one of its uses, where 300 km are impossible anyway. A stay never crosses a case window,
//! so that every pair of stays lies in the window of its later one. Every time a stay grows it is compared with all
//! others; a smaller stay never matches harder than the one it grows into, hence any order gives the same cases.

use serde::{Deserialize, Serialize};

use super::cases::{Cases, Facts, HOUR_MS, LATE_AFTER_MS, Match, Phase, Window, Witness};
use super::checkpoint::{Changes, Restored, Store, plain, read_plain};
use super::evidence;
use super::keyed::{Entry, Keyed};
use super::keys::StateKey;
use super::sessions::Sessions;
use super::sites::{ByNumber, SharedSite, SiteNumber};
use super::terms::{Seen, Site, Use};
use super::usual::{Habits, Usual};
use super::why::Why;
use super::words::{place_name, span};
use crate::model::{Confidence, NetworkClass, NetworkKind, RuleId, Severity, UnixMs};

/// Below this the places may be one, or the data wrong.
const MIN_KM: f64 = 300.0;
/// An airliner's ground speed with a tail wind.
const KM_PER_S: f64 = 1_000.0 / 3_600.0;
/// What clocks and the search for a seat are granted.
const GRACE_S: u64 = 10 * 60;
/// Half the equator at that speed: nothing older can be impossible.
const REACH_MS: i64 = 20 * HOUR_MS;
/// A late event looks back as far as a punctual one.
const REMEMBER_MS: i64 = REACH_MS + LATE_AFTER_MS;
/// Uses from one site no further apart are one stay.
const STAY_GAP_MS: u64 = 14 * 60_000;
const MAX_STAYS: usize = 24;

/// The journeys of one partition's subjects.
pub(super) struct Travel {
    subjects: Keyed<StateKey, Subject>,
    /// Stays that made room for newer ones of their subject: only there may the order of arrival matter.
    evicted: u64,
}

pub(super) struct Subject {
    phase: Phase,
    stays: Vec<Stay>,
}

impl Entry for Subject {
    fn heap_bytes(&self) -> usize {
        self.stays.capacity() * size_of::<Stay>()
    }
}

/// A subject as checkpoints hold it.
#[derive(Serialize, Deserialize)]
struct Written {
    phase: Phase,
    /// Room for so many stays was made: what a subject weighs decides when others must go.
    capacity: usize,
    stays: Vec<Stay<SiteNumber>>,
}

fn write(subject: &Subject, out: &mut Vec<u8>) {
    let stays = subject.stays.iter().map(|stay| stay.at(stay.site.number())).collect();
    plain(&Written { phase: subject.phase, capacity: subject.stays.capacity(), stays }, out);
}

pub(super) fn read(bytes: &[u8], sites: &ByNumber) -> Option<Subject> {
    let Written { phase, capacity, stays: written } = read_plain(bytes)?;
    let mut stays = Vec::with_capacity(capacity.clamp(written.len(), MAX_STAYS));
    for stay in written {
        stays.push(stay.at(sites.get(&stay.site)?.clone()));
    }
    Some(Subject { phase, stays })
}

/// An unbroken stay of one subject at one site.
#[derive(Clone, Serialize, Deserialize)]
struct Stay<S = SharedSite> {
    site: S,
    first: Seen,
    last: Seen,
    sessions: Sessions,
    window: Window,
    /// Its addresses share no /24 or /48: then no neighbourhood makes the whole stay somebody's kin.
    mixed: bool,
}

impl<S> Stay<S> {
    /// The same stay, with another name for its site.
    fn at<T>(&self, site: T) -> Stay<T> {
        let &Self { first, last, sessions, window, mixed, .. } = self;
        Stay { site, first, last, sessions, window, mixed }
    }
}

impl Stay {
    fn new(used: &Use<'_>, window: Window) -> Self {
        let (site, seen) = (used.site.clone(), used.seen);
        Self { site, first: seen, last: seen, sessions: Sessions::of(used.token), window, mixed: false }
    }

    fn holds(&self, other: &Self) -> bool {
        self.window == other.window && self.gap_ms(other) <= STAY_GAP_MS && self.site.is(&other.site)
    }

    fn merge(&mut self, other: &Self) {
        self.mixed |= other.mixed || self.first.neighbourhood() != other.first.neighbourhood();
        if other.first.time < self.first.time {
            self.first = other.first;
        }
        if other.last.time > self.last.time {
            self.last = other.last;
        }
        self.sessions.merge(&other.sessions);
    }

    /// 0 where they overlap.
    fn gap_ms(&self, other: &Self) -> u64 {
        let (earlier, later) =
            if self.first.time <= other.first.time { (self, other) } else { (other, self) };
        u64::try_from(later.first.time.since_ms(earlier.last.time)).unwrap_or(0)
    }

    fn is_kin(&self, other: &Self) -> bool {
        let neighbours =
            !self.mixed && !other.mixed && self.first.neighbourhood() == other.first.neighbourhood();
        neighbours || self.site.is_kin(&other.site)
    }
}

/// Two stays that nobody can travel between: the figures.
struct Journey {
    from: (SharedSite, Seen),
    to: (SharedSite, Seen),
    window: Window,
    distance_km: f64,
    net_km: f64,
    gap_s: u64,
    same_session: bool,
    severity: Severity,
    confidence: Confidence,
    lowered_by: Vec<&'static str>,
}

impl Travel {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { subjects: Keyed::new(max_bytes), evicted: 0 }
    }

    pub(super) fn subjects(&self) -> usize {
        self.subjects.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.subjects.bytes()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.subjects.evicted() + self.evicted
    }

    pub(super) fn changed(&self) -> usize {
        self.subjects.changed()
    }

    pub(super) fn write_changes(&mut self, changes: &mut Changes) {
        self.subjects.write_changes(Store::Subject, changes, write);
    }

    pub(super) fn restore(&mut self, subjects: Vec<Restored<'_, StateKey, Subject>>) {
        self.subjects.restore(subjects);
    }

    pub(super) fn expire(&mut self, stream_time: UnixMs) {
        self.subjects.expire(stream_time, |subject| {
            subject.forget_before(UnixMs::new(stream_time.get() - REMEMBER_MS));
            let next = subject.stays.iter().map(|stay| stay.last.time.get()).min()?;
            Some(UnixMs::new(next + REMEMBER_MS))
        });
    }

    /// Compares a use with everything remembered of its subject, and remembers it.
    pub(super) fn judge(
        &mut self,
        used: &Use<'_>,
        stream_time: UnixMs,
        usual: &mut Usual,
        cases: &mut Cases,
    ) -> Why {
        if used.site.place().is_none() {
            return Why::NoPlace;
        }
        let [realm_kind, realm] = used.realm.key();
        let key = [realm_kind, realm, used.sub];
        let state_key = StateKey::of(&[used.tenant, realm_kind, realm, used.sub]);
        let expires = UnixMs::new(used.seen.time.get() + REMEMBER_MS);
        let make = || Subject { phase: Phase::of(used.tenant, &key), stays: Vec::new() };
        let habits = usual.note(state_key, used);
        let evicted = &mut self.evicted;
        let (phase, compared) = self.subjects.change(state_key, used.tenant, expires, make, |subject| {
            subject.forget_before(UnixMs::new(stream_time.get() - REMEMBER_MS));
            let stay = subject.remember(used, evicted);
            (subject.phase, compare(&subject.stays, stay, &used.seen, habits))
        });
        let (journeys, nearest) = compared;
        let mut fired = None;
        for journey in &journeys {
            fired = fired.max(Some((journey.severity, journey.confidence)));
            journey.report(used, &key, phase, cases);
        }
        match fired {
            Some((severity, confidence)) => Why::Fired { severity, confidence },
            None => nearest,
        }
    }
}

impl Subject {
    /// Drops the stays that ended at or before `horizon`.
    fn forget_before(&mut self, horizon: UnixMs) {
        if self.stays.iter().any(|stay| stay.last.time <= horizon) {
            self.stays.retain(|stay| stay.last.time > horizon);
            self.stays.shrink_to_fit();
        }
    }

    /// Adds the use to the stay it belongs to, joining the two it may lie between; gives that stay's index.
    fn remember(&mut self, used: &Use<'_>, evicted: &mut u64) -> usize {
        let mut grown = Stay::new(used, self.phase.window(used.seen.time));
        while let Some(index) = self.stays.iter().position(|stay| stay.holds(&grown)) {
            let mut stay = self.stays.swap_remove(index);
            stay.merge(&grown);
            grown = stay;
        }
        if self.stays.len() == MAX_STAYS {
            self.forget_one();
            *evicted += 1;
        }
        if self.stays.len() == self.stays.capacity() {
            // Most subjects have one or two stays: grow by as little.
            self.stays.reserve_exact((self.stays.len() / 2).max(1));
        }
        self.stays.push(grown);
        self.stays.len() - 1
    }

    /// The oldest stay at a site that has a later one says least; if there is none, the oldest goes.
    fn forget_one(&mut self) {
        let superseded = |stay: &Stay| {
            self.stays.iter().any(|other| other.site.is(&stay.site) && other.last.time > stay.last.time)
        };
        let weakest = (0..self.stays.len())
            .min_by_key(|&index| (!superseded(&self.stays[index]), self.stays[index].last.time));
        if let Some(index) = weakest {
            self.stays.swap_remove(index);
        }
    }
}

/// The worst journey a window between stay `index` and every other, or why there is none.
fn compare(stays: &[Stay], index: usize, seen: &Seen, habits: Option<&Habits>) -> (Vec<Journey>, Why) {
    let mut journeys: Vec<Journey> = Vec::new();
    let (mut nearest, mut nearest_by) = (Why::FirstUse, f64::NEG_INFINITY);
    let here = &stays[index];
    for (other_index, there) in stays.iter().enumerate() {
        if other_index == index {
            continue;
        }
        match pair(here, there, seen, habits) {
            Ok(journey) => match journeys.iter_mut().find(|known| known.window == journey.window) {
                Some(known) if known.rank() >= journey.rank() => {}
                Some(known) => *known = journey,
                None => journeys.push(journey),
            },
            Err(why) => {
                let by = match why {
                    Why::Reachable { net_km, gap_s } => net_km - reach_km(gap_s),
                    _ => f64::MIN,
                };
                if by > nearest_by {
                    (nearest, nearest_by) = (why, by);
                }
            }
        }
    }
    (journeys, nearest)
}

fn reach_km(gap_s: u64) -> f64 {
    (gap_s + GRACE_S) as f64 * KM_PER_S
}

/// Judges one pair of stays; `seen` is the use of `here` that made it grow.
fn pair(here: &Stay, there: &Stay, seen: &Seen, habits: Option<&Habits>) -> Result<Journey, Why> {
    if here.is_kin(there) {
        return Err(Why::Kin);
    }
    if here.site.company_egress() || there.site.company_egress() {
        return Err(Why::CompanyEgress);
    }
    let (Some(a), Some(b)) = (here.site.place(), there.site.place()) else { return Err(Why::NoPlace) };
    let gap_ms = here.gap_ms(there);
    let gap_s = gap_ms / 60_000 * 60 + 60;
    let distance_km = haversine_km((a.lat, a.lon), (b.lat, b.lon));
    let net_km = (distance_km - a.accuracy_km - b.accuracy_km).max(0.0);
    if net_km < MIN_KM || net_km <= reach_km(gap_s) {
        return Err(Why::Reachable { net_km, gap_s });
    }
    let same_session = here.sessions.meet(&there.sessions);
    let mut lowered_by = downgrades(&here.site, &there.site);
    if habits.is_some_and(|habits| are_usual(habits, here, there)) {
        lowered_by.push("usual_origins");
    }
    let severity = match (lowered_by.is_empty(), same_session && here.site.device_differs(&there.site)) {
        (false, _) => Severity::Low,
        (true, true) => Severity::High,
        (true, false) => Severity::Medium,
    };
    let certain = net_km >= 3.0 * KM_PER_S * gap_s as f64 && a.own_radius && b.own_radius;
    let confidence = match (lowered_by.is_empty(), certain) {
        (false, _) => Confidence::Low,
        (true, true) => Confidence::High,
        (true, false) => Confidence::Medium,
    };
    let (near, far) = nearest_uses(here, there, seen);
    let (here_end, there_end) = ((here.site.clone(), near), (there.site.clone(), far));
    let (from, to) = if near.time <= far.time { (here_end, there_end) } else { (there_end, here_end) };
    let window = here.window.max(there.window);
    Ok(Journey {
        from,
        to,
        window,
        distance_km,
        net_km,
        gap_s,
        same_session,
        severity,
        confidence,
        lowered_by,
    })
}

/// A use at each end: the edges of the gap, or where the stays overlap the use at hand and the nearest edge to it.
fn nearest_uses(here: &Stay, there: &Stay, seen: &Seen) -> (Seen, Seen) {
    if here.first.time > there.last.time {
        (here.first, there.last)
    } else if here.last.time < there.first.time {
        (here.last, there.first)
    } else if seen.time.abs_diff_ms(there.first.time) < seen.time.abs_diff_ms(there.last.time) {
        (*seen, there.first)
    } else {
        (*seen, there.last)
    }
}

/// What makes a journey less than it looks, each by name.
fn downgrades(a: &Site, b: &Site) -> Vec<&'static str> {
    let either = |holds: &dyn Fn(&Site) -> bool| holds(a) || holds(b);
    let own_radius =
        |site: &Site| site.place().is_some_and(|place| place.own_radius && place.accuracy_km <= 200.0);
    let country_differs = a.country_differs(b);
    [
        (either(&|site| site.class() == Some(NetworkClass::Hidden)), "hidden_network"),
        (either(&|site| site.kind() == NetworkKind::Satellite), "satellite_network"),
        (either(&|site| site.class() == Some(NetworkClass::Hosting)), "hosting_network"),
        (country_differs && a.same_asn(b), "same_asn"),
        (!(country_differs || own_radius(a) && own_radius(b)), "same_country"),
        (either(&|site| site.location.country_confirmed == Some(false)), "country_unconfirmed"),
    ]
    .into_iter()
    .filter_map(|(holds, name)| holds.then_some(name))
    .collect()
}

/// Whether both origins are usual for as long as both stays last. As stays grow so does that time, and never does a pair
/// become usual by it: hence any order gives the same here, too.
fn are_usual(habits: &Habits, a: &Stay, b: &Stay) -> bool {
    let (first, last) = (a.first.time.max(b.first.time), a.last.time.max(b.last.time));
    [a, b].iter().all(|stay| habits.are_usual(stay.site.origin_key(), first, last))
}

/// Great-circle distance in kilometres on a sphere of mean Earth radius, between (latitude, longitude) in degrees.
fn haversine_km(a: (f64, f64), b: (f64, f64)) -> f64 {
    const EARTH_KM: f64 = 6_371.0;
    let (lat_a, lat_b) = (a.0.to_radians(), b.0.to_radians());
    let half_lat = ((b.0 - a.0).to_radians() / 2.0).sin();
    let half_lon = ((b.1 - a.1).to_radians() / 2.0).sin();
    let h = half_lat * half_lat + lat_a.cos() * lat_b.cos() * half_lon * half_lon;
    2.0 * EARTH_KM * h.sqrt().min(1.0).asin()
}

impl Journey {
    fn rank(&self) -> (Severity, Confidence) {
        (self.severity, self.confidence)
    }

    fn needed_s(&self) -> f64 {
        self.net_km / KM_PER_S
    }

    fn report(&self, used: &Use<'_>, key: &[&str], phase: Phase, cases: &mut Cases) {
        let witnesses = [&self.from.1, &self.to.1, &used.seen].map(Witness::of);
        let window_start = phase.start(self.window);
        let (severity, confidence) = self.rank();
        let template = used.matched(RuleId::ImpossibleTravel, key, &witnesses);
        let matched = Match { window_start, severity, confidence, ..template };
        cases.touch(&matched, || self.facts(used));
    }

    fn facts(&self, used: &Use<'_>) -> Facts {
        let name = |(site, _): &(SharedSite, Seen)| {
            site.place().map_or_else(String::new, |place| place_name(&place.city, &place.country))
        };
        let (from, to) = (name(&self.from), name(&self.to));
        let concurrent = self.gap_s == 60;
        let gap = if concurrent {
            "at the same time".to_owned()
        } else {
            format!("within {}", span((self.gap_s - 60) as f64))
        };
        let mut why = Vec::new();
        if self.same_session {
            why.push("one session at both ends".to_owned());
        }
        if self.from.0.device_differs(&self.to.0) {
            why.push("another device".to_owned());
        }
        why.extend(self.lowered_by.iter().map(|name| format!("lowered by {name}")));
        let reasons = if why.is_empty() { String::new() } else { format!("; {}", why.join(", ")) };
        let mut evidence = serde_json::json!({
            "from": evidence::end(&self.from.0, &self.from.1),
            "to": evidence::end(&self.to.0, &self.to.1),
            "distance_km": self.distance_km.round(),
            "net_km": self.net_km.round(),
            "needed_s": self.needed_s().round(),
            "gap_s": self.gap_s,
            "same_session": self.same_session,
            "device_differs": self.from.0.device_differs(&self.to.0),
            "session": evidence::session(used.token),
        });
        evidence[if concurrent { "concurrent" } else { "kmh" }] =
            if concurrent { true.into() } else { (self.net_km * 3_600.0 / self.gap_s as f64).round().into() };
        Facts {
            title: format!("{} in {from} and {to} {gap}", used.sub),
            summary: format!(
                "{from} to {to}: {:.0} km ({:.0} km after both radii) {gap}, which needs {}{reasons}",
                self.distance_km,
                self.net_km,
                span(self.needed_s()),
            ),
            evidence,
            lowered_by: self.lowered_by.iter().map(|&name| name.to_owned()).collect(),
        }
    }
}
