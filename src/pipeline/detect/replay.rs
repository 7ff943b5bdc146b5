//! `token_replay` and `shared_token`: one token from several origins. Class: lasting.
//!
//! Remembered is each token's *presence* per origin, device and case window until the token expires. A use makes every
//! window from its own on be judged again, each on what had happened by its end: hence any order gives the same cases.

use serde::{Deserialize, Serialize};

use super::cases::{Cases, Facts, HOUR_MS, Match, Phase, Window, Witness};
use super::checkpoint::{Changes, Restored, Store, plain, read_plain};
use super::evidence;
use super::keyed::{Entry, Keyed};
use super::keys::StateKey;
use super::sites::{ByNumber, SharedSite, SiteNumber};
use super::terms::{Seen, Site, Use, as_ms, refs};
use super::why::Why;
use super::words::place_name;
use crate::model::{Confidence, NetworkClass, RuleId, Severity, UnixMs};

/// At most so long is a token remembered, whatever its `exp`.
const REMEMBER_MS: i64 = 24 * HOUR_MS;
/// Uses may arrive this much later than they happened.
const LATENESS_MS: i64 = 10 * 60_000;
/// Five independent origins are shared use; a few more are kept, since not all are independent.
const SHARED_BY: usize = 5;
const MAX_PRESENCES: usize = 8;

/// The tokens of one partition.
pub(super) struct Replay {
    tokens: Keyed<StateKey, Token>,
    /// Presences that made room for newer ones of their token.
    evicted: u64,
}

pub(super) struct Token {
    phase: Phase,
    presences: Vec<Presence>,
}

impl Entry for Token {
    fn heap_bytes(&self) -> usize {
        self.presences.capacity() * size_of::<Presence>()
    }
}

/// A token as checkpoints hold it.
#[derive(Serialize, Deserialize)]
struct Written {
    phase: Phase,
    /// Room for so many presences was made.
    capacity: usize,
    presences: Vec<Presence<SiteNumber>>,
}

fn write(token: &Token, out: &mut Vec<u8>) {
    let presences = token.presences.iter().map(|presence| presence.at(presence.site.number())).collect();
    plain(&Written { phase: token.phase, capacity: token.presences.capacity(), presences }, out);
}

pub(super) fn read(bytes: &[u8], sites: &ByNumber) -> Option<Token> {
    let Written { phase, capacity, presences: written } = read_plain(bytes)?;
    let mut presences = Vec::with_capacity(capacity.clamp(written.len(), MAX_PRESENCES));
    for presence in written {
        presences.push(presence.at(sites.get(&presence.site)?.clone()));
    }
    Some(Token { phase, presences })
}

/// A token's uses by one caller within one case window.
#[derive(Clone, Serialize, Deserialize)]
struct Presence<S = SharedSite> {
    site: S,
    first: Seen,
    #[serde(with = "as_ms")]
    last: UnixMs,
    window: Window,
    /// Every use showed the key that the token is bound to.
    proved: bool,
    /// The addresses share no /24 or /48.
    mixed: bool,
}

impl<S> Presence<S> {
    /// The same presence, with another name for its site.
    fn at<T>(&self, site: T) -> Presence<T> {
        let &Self { first, last, window, proved, mixed, .. } = self;
        Presence { site, first, last, window, proved, mixed }
    }
}

impl Presence {
    fn merge(&mut self, other: &Self) {
        self.mixed |= other.mixed || self.first.neighbourhood() != other.first.neighbourhood();
        self.proved &= other.proved;
        self.last = self.last.max(other.last);
        self.window = self.window.max(other.window);
        if other.first.time < self.first.time {
            self.first = other.first;
        }
    }

    fn is_kin(&self, other: &Self) -> bool {
        let neighbours =
            !self.mixed && !other.mixed && self.first.neighbourhood() == other.first.neighbourhood();
        neighbours || self.site.is_kin(&other.site)
    }

    /// One of them was seen again after the other: some a ≤ b < a', or the other way round.
    fn overlaps(&self, other: &Self) -> bool {
        let again = |a: &Self, b: &Self| {
            [b.first.time, b.last].iter().any(|&time| a.first.time <= time && time < a.last)
        };
        again(self, other) || again(other, self)
    }
}

/// What two presences of a token say together.
#[derive(Debug)]
struct Judgement {
    dev: bool,
    class: bool,
    country: bool,
    overlap: bool,
    severity: Severity,
    confidence: Confidence,
    lowered_by: Option<&'static str>,
}

impl Judgement {
    fn rank(&self) -> (Severity, Confidence) {
        (self.severity, self.confidence)
    }
}

impl Replay {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { tokens: Keyed::new(max_bytes), evicted: 0 }
    }

    pub(super) fn tokens(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.tokens.bytes()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.tokens.evicted() + self.evicted
    }

    pub(super) fn changed(&self) -> usize {
        self.tokens.changed()
    }

    pub(super) fn write_changes(&mut self, changes: &mut Changes) {
        self.tokens.write_changes(Store::Token, changes, write);
    }

    pub(super) fn restore(&mut self, tokens: Vec<Restored<'_, StateKey, Token>>) {
        self.tokens.restore(tokens);
    }

    pub(super) fn expire(&mut self, stream_time: UnixMs) {
        self.tokens.expire(stream_time, |_| None);
    }

    /// Judges a use against the token's other origins, and remembers it: the answers of `token_replay` and
    /// `shared_token`.
    pub(super) fn judge(&mut self, used: &Use<'_>, cases: &mut Cases) -> (Why, Why) {
        let token = used.token;
        let Some((ref_kind, token_ref)) = refs(token).next() else {
            return (Why::NoRef, Why::NoRef);
        };
        let [realm_kind, realm] = used.realm.key();
        let client_id = token.client_id.as_deref().unwrap_or_default();
        let session = token.family.as_deref().or(token.sid.as_deref()).unwrap_or_default();
        let case_key = [realm_kind, realm, used.sub, client_id, session];
        let make = || Token { phase: Phase::of(used.tenant, &case_key), presences: Vec::new() };
        let state_key = StateKey::of(&[used.tenant, ref_kind, token_ref]);
        let evicted = &mut self.evicted;
        self.tokens.change(state_key, used.tenant, remembered_until(used), make, |state| {
            let window = state.remember(used, evicted);
            (state.replay(used, window, &case_key, cases), state.shared(used, window, &case_key, cases))
        })
    }
}

/// `exp`, but at most 24 h after the use; then the lateness bound.
fn remembered_until(used: &Use<'_>) -> UnixMs {
    let time = used.seen.time.get();
    let exp = used.token.exp.map_or(i64::MAX, |exp| exp.saturating_mul(1_000));
    UnixMs::new(exp.clamp(time, time + REMEMBER_MS) + LATENESS_MS)
}

impl Token {
    fn remember(&mut self, used: &Use<'_>, evicted: &mut u64) -> Window {
        let window = self.phase.window(used.seen.time);
        let new = Presence {
            site: used.site.clone(),
            first: used.seen,
            last: used.seen.time,
            window,
            proved: used.proved,
            mixed: false,
        };
        let known = self
            .presences
            .iter_mut()
            .find(|known| known.window == window && known.site.same_caller(&new.site));
        if let Some(known) = known {
            known.merge(&new);
            return window;
        }
        if self.presences.len() == MAX_PRESENCES {
            let oldest = (0..MAX_PRESENCES).min_by_key(|&index| self.presences[index].last);
            self.presences.swap_remove(oldest.unwrap_or(0));
            *evicted += 1;
        }
        if self.presences.len() == self.presences.capacity() {
            self.presences.reserve_exact(1);
        }
        self.presences.push(new);
        window
    }

    /// Windows from `from` on in which somebody used the token.
    fn windows(&self, from: Window) -> Vec<Window> {
        let mut windows: Vec<Window> =
            self.presences.iter().map(|presence| presence.window).filter(|window| *window >= from).collect();
        windows.sort_unstable();
        windows.dedup();
        windows
    }

    /// What had happened by the end of `window`: one presence a caller, its `window` the last it was seen in.
    fn by_the_end_of(&self, window: Window) -> Vec<Presence> {
        let mut callers: Vec<Presence> = Vec::new();
        for presence in self.presences.iter().filter(|presence| presence.window <= window) {
            match callers.iter_mut().find(|known| known.site.same_caller(&presence.site)) {
                Some(known) => known.merge(presence),
                None => callers.push(presence.clone()),
            }
        }
        callers
    }

    fn replay(&self, used: &Use<'_>, from: Window, key: &[&str], cases: &mut Cases) -> Why {
        if self.presences.len() == 1 {
            return Why::FirstUse;
        }
        let (mut fired, mut otherwise) = (None, Why::FirstUse);
        for window in self.windows(from) {
            let callers = self.by_the_end_of(window);
            let Some(here) = callers.iter().find(|caller| caller.site.same_caller(&used.site)) else {
                continue;
            };
            let mut worst: Option<(&Presence, Judgement)> = None;
            for there in &callers {
                if there.site.same_caller(&used.site) || here.window.max(there.window) != window {
                    continue;
                }
                match judge_pair(here, there) {
                    Ok(judgement) => {
                        if worst.as_ref().is_none_or(|(_, known)| known.rank() < judgement.rank()) {
                            worst = Some((there, judgement));
                        }
                    }
                    Err(why) => otherwise = why,
                }
            }
            if let Some((there, judgement)) = worst {
                let origins = independent(&callers);
                self.report(used, window, key, (here, there), &judgement, origins, cases);
                fired = fired.max(Some(judgement.rank()));
            }
        }
        fired.map_or(otherwise, |(severity, confidence)| Why::Fired { severity, confidence })
    }

    #[expect(clippy::too_many_arguments, reason = "one caller; a struct for it would say no more")]
    fn report(
        &self,
        used: &Use<'_>,
        window: Window,
        key: &[&str],
        (here, there): (&Presence, &Presence),
        judgement: &Judgement,
        origins: usize,
        cases: &mut Cases,
    ) {
        let mut ends = [(&used.site, used.seen), (&there.site, there.first)];
        if self.phase.window(used.seen.time) != window {
            ends[0] = (&here.site, here.first);
        }
        ends.sort_by_key(|(_, seen)| seen.time);
        let witnesses = [&ends[0].1, &ends[1].1, &used.seen].map(Witness::of);
        let template = used.matched(RuleId::TokenReplay, key, &witnesses);
        let matched = Match {
            window_start: self.phase.start(window),
            severity: judgement.severity,
            confidence: judgement.confidence,
            ..template
        };
        cases.touch(&matched, || judgement.facts(used, ends, origins));
    }

    fn shared(&self, used: &Use<'_>, from: Window, key: &[&str], cases: &mut Cases) -> Why {
        let mut why = Why::Origins(1);
        if self.presences.len() == 1 {
            return why;
        }
        for window in self.windows(from) {
            let callers = self.by_the_end_of(window);
            let origins = independent(&callers);
            if origins < SHARED_BY {
                if !matches!(why, Why::Fired { .. }) {
                    why = Why::Origins(origins);
                }
                continue;
            }
            let witnesses: Vec<Witness> = callers.iter().map(|caller| Witness::of(&caller.first)).collect();
            let template = used.matched(RuleId::SharedToken, key, &witnesses);
            let (severity, confidence) = (Severity::Medium, Confidence::High);
            let matched = Match { window_start: self.phase.start(window), severity, confidence, ..template };
            cases.touch(&matched, || shared_facts(used, &callers, origins));
            why = Why::Fired { severity, confidence };
        }
        why
    }
}

/// Judges two callers of one token.
fn judge_pair(a: &Presence, b: &Presence) -> Result<Judgement, Why> {
    if a.proved && b.proved {
        return Err(Why::Proved);
    }
    let kin = a.is_kin(b);
    let dev = a.site.device_differs(&b.site);
    let class = !kin && a.site.class() != b.site.class();
    let country = !kin && a.site.country_differs(&b.site);
    let overlap = a.overlaps(b);
    let hidden = [a, b].iter().any(|end| end.site.class() == Some(NetworkClass::Hidden));
    let company = a.site.company_egress() || b.site.company_egress();
    let same_device = a.site.same_device(&b.site);
    let (severity, confidence, lowered_by) = match (dev, class || country) {
        (true, true) if overlap => (Severity::High, Confidence::High, None),
        (true, true) => (Severity::High, Confidence::Medium, None),
        (false, true) if !overlap => return Err(Why::NoOverlap),
        (false, true) if same_device && hidden => (Severity::Low, Confidence::Low, Some("hidden_network")),
        (false, true) if same_device && company => (Severity::Low, Confidence::Low, Some("company_egress")),
        (false, true) => (Severity::Medium, Confidence::Medium, None),
        (true, false) => (Severity::Low, Confidence::Low, Some("device_alone")),
        (false, false) if kin => return Err(Why::Kin),
        (false, false) => return Err(Why::NoDifference),
    };
    Ok(Judgement { dev, class, country, overlap, severity, confidence, lowered_by })
}

/// The most origins of which no two are kin. At most eight callers: trying every choice is quick.
fn independent(callers: &[Presence]) -> usize {
    fn most(callers: &[Presence], chosen: &mut Vec<usize>, next: usize) -> usize {
        if next == callers.len() {
            return chosen.len();
        }
        let without = most(callers, chosen, next + 1);
        if chosen.iter().any(|&other| callers[other].is_kin(&callers[next])) {
            return without;
        }
        chosen.push(next);
        let with = most(callers, chosen, next + 1);
        chosen.pop();
        with.max(without)
    }
    most(callers, &mut Vec::new(), 0)
}

impl Judgement {
    fn facts(&self, used: &Use<'_>, ends: [(&SharedSite, Seen); 2], origins: usize) -> Facts {
        let [from, to] = ends.map(|(site, _)| describe(site));
        let mut differences = Vec::new();
        for (differs, name) in
            [(self.dev, "device"), (self.class, "kind of network"), (self.country, "country")]
        {
            if differs {
                differences.push(name);
            }
        }
        let again = if self.overlap { ", and one was seen again after the other" } else { "" };
        let lowered = self.lowered_by.map_or_else(String::new, |name| format!("; lowered by {name}"));
        let (from_site, from_seen) = ends[0];
        let (to_site, to_seen) = ends[1];
        Facts {
            title: format!("One token of {} from {from} and from {to}", used.sub),
            summary: format!("{from}, then {to}: other {}{again}{lowered}", differences.join(", other ")),
            evidence: serde_json::json!({
                "from": evidence::end(from_site, &from_seen),
                "to": evidence::end(to_site, &to_seen),
                "dev": self.dev,
                "class": self.class,
                "country": self.country,
                "overlap": self.overlap,
                "origins": origins,
                "session": evidence::session(used.token),
            }),
            lowered_by: self.lowered_by.iter().map(|&name| name.to_owned()).collect(),
        }
    }
}

/// `Paris, FR (Orange)`.
fn describe(site: &Site) -> String {
    let name =
        site.place().map_or_else(|| place_name("", ""), |place| place_name(&place.city, &place.country));
    let network = &site.location.network;
    if network.as_org.is_empty() { name } else { format!("{name} ({})", network.as_org) }
}

fn shared_facts(used: &Use<'_>, callers: &[Presence], origins: usize) -> Facts {
    let ends: Vec<_> = callers.iter().map(|caller| evidence::end(&caller.site, &caller.first)).collect();
    Facts {
        title: format!("One token of {} from {origins} independent origins", used.sub),
        summary: format!(
            "{origins} origins that are not one user's networks used one token: it is shared, or for sale"
        ),
        evidence: serde_json::json!({
            "origins": origins,
            "uses": ends,
            "session": evidence::session(used.token),
        }),
        lowered_by: Vec::new(),
    }
}
