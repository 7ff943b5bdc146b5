//! Any order of arrival gives the same cases: held to brute force over all pairs of uses, which knows nothing of the
//! detector's state.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use uuid::Uuid;

use super::story::{Line, T0, walk};
use crate::model::{
    CaseUpdate, Confidence, FindingId, Kind, Network, NetworkClass, NetworkKind, RuleId, Severity, UnixMs,
};
use crate::pipeline::detect::cases::{Phase, Window};
use crate::pipeline::detect::{Detector, Rulebook};

/// What a case comes to: strongest (severity, confidence) by finding.
type Outcome = BTreeMap<FindingId, (RuleId, Severity, Confidence)>;

/// Where a generated use comes from: one neighbourhood each, so that the address tells the variant.
struct Variant {
    city: &'static str,
    kind: NetworkKind,
    ip: &'static str,
    asn: u32,
    own_radius: bool,
}

#[rustfmt::skip]
const VARIANTS: &[Variant] = &[
    Variant { city: "paris", kind: NetworkKind::Access, ip: "2001:db8:a1::1", asn: 1, own_radius: true },
    Variant { city: "tokyo", kind: NetworkKind::Access, ip: "2001:db8:a2::1", asn: 2, own_radius: true },
    Variant { city: "newyork", kind: NetworkKind::Access, ip: "203.0.113.1", asn: 3, own_radius: false },
    Variant { city: "berlin", kind: NetworkKind::Hosting, ip: "2001:db8:a3::1", asn: 4, own_radius: true },
    Variant { city: "nice", kind: NetworkKind::Mobile, ip: "2001:db8:a4::1", asn: 5, own_radius: true },
    Variant { city: "lille", kind: NetworkKind::Mobile, ip: "2001:db8:a5::1", asn: 6, own_radius: true },
    Variant { city: "lille", kind: NetworkKind::Access, ip: "192.0.2.1", asn: 6, own_radius: true },
    Variant { city: "sydney", kind: NetworkKind::Vpn, ip: "2001:db8:a6::1", asn: 7, own_radius: true },
    Variant { city: "madrid", kind: NetworkKind::Access, ip: "198.51.100.1", asn: 1, own_radius: true },
];

const DEVICES: [Option<&str>; 3] = [Some("Chrome on Windows"), Some("Safari on iOS"), None];

/// One generated use: minutes since the start, then indexes.
#[derive(Clone, Debug)]
pub(super) struct Draw {
    pub(super) seconds: i64,
    variant: usize,
    device: usize,
    token: usize,
}

pub(super) fn draw() -> impl Strategy<Value = Draw> {
    // Some uses lie close together, so that stays merge; all within a day, so that none is late.
    let seconds = prop_oneof![0..23 * 3_600i64, 36_000..36_000 + 3_600i64, 43_000..43_000 + 1_800i64];
    (seconds, 0..VARIANTS.len(), prop_oneof![5 => Just(0usize), 2 => Just(1), 1 => Just(2)], 0..3usize)
        .prop_map(|(seconds, variant, device, token)| Draw { seconds, variant, device, token })
}

pub(super) fn line(draw: &Draw, sub: &str, index: usize) -> Line {
    let variant = &VARIANTS[draw.variant];
    let mut line = Line::new(T0 + draw.seconds * 1_000, sub, variant.city);
    line.arrives_ms = T0 + 23 * 3_600_000;
    line.id = Uuid::from_u128(index as u128 + 1);
    line.ip = variant.ip.parse().unwrap();
    line.location.network =
        Network { asn: variant.asn, as_org: Arc::from(""), kind: variant.kind, label: None };
    Arc::make_mut(line.location.place.as_mut().unwrap()).own_radius = variant.own_radius;
    line.device = DEVICES[draw.device].map(str::to_owned);
    line.token = Some(format!("token-{}", draw.token));
    line.family = (draw.token == 2).then(|| "family".to_owned());
    line
}

/// What the detector makes of the lines in this order, and whether it had to forget anything.
fn detected(lines: &[Line], cut: usize) -> (Outcome, u64) {
    let mut detector = Detector::default();
    let mut outcome = Outcome::new();
    walk(&mut detector, &Rulebook::default(), lines, cut, |assessed| {
        for update in &assessed.cases {
            let case = &update.case;
            outcome.insert(case.finding_id, (case.rule, case.severity, case.confidence));
        }
    });
    (outcome, detector.size().evicted)
}

/// What is true of the lines, whatever their order.
fn brute_force(lines: &[Line], sub: &str) -> Outcome {
    let mut outcome = Outcome::new();
    let mut found = into(&mut outcome);
    travel(lines, sub, &mut found);
    for token in ["token-0", "token-1", "token-2"] {
        let uses: Vec<&Line> = lines.iter().filter(|line| line.token.as_deref() == Some(token)).collect();
        replay(&uses, sub, &mut found);
    }
    drop(found);
    outcome
}

/// Collects the strongest of each finding.
fn into(outcome: &mut Outcome) -> impl FnMut(RuleId, &[&str], Window, (Severity, Confidence)) {
    |rule, key, window, rank| {
        let start = Phase::of("acme", key).start(window);
        let weakest = (rule, Severity::Info, Confidence::Low);
        let known = outcome.entry(FindingId::of(rule, "acme", key, start)).or_insert(weakest);
        if (known.1, known.2) < rank {
            (known.1, known.2) = rank;
        }
    }
}

type Found<'f> = dyn FnMut(RuleId, &[&str], Window, (Severity, Confidence)) + 'f;

const ISS: &str = "https://id.example";

fn country(line: &Line) -> &str {
    &line.location.place.as_ref().unwrap().country
}

fn network(line: &Line) -> &Network {
    &line.location.network
}

fn class(line: &Line) -> Option<NetworkClass> {
    network(line).kind.class()
}

fn devices_differ(a: &Line, b: &Line) -> bool {
    a.device.is_some() && b.device.is_some() && a.device != b.device
}

fn kin(a: &Line, b: &Line) -> bool {
    let renumbered = |line: &Line| matches!(network(line).kind, NetworkKind::Access | NetworkKind::Mobile);
    let same_country = country(a) == country(b);
    let same_asn = network(a).asn == network(b).asn;
    let same_device = a.device.is_some() && a.device == b.device;
    a.ip == b.ip
        || (renumbered(a) && renumbered(b) && same_country && same_asn)
        || (same_device && a.ip.is_ipv4() != b.ip.is_ipv4() && (same_country || same_asn))
        || (same_device
            && same_country
            && [a, b].iter().all(|line| network(line).kind == NetworkKind::Mobile))
}

const DAY_MS: i64 = 24 * 3_600_000;

/// Carriers renumber within a country; elsewhere an address is an origin.
fn origin(line: &Line) -> String {
    match network(line).kind {
        NetworkKind::Access | NetworkKind::Mobile => format!("{}{}", country(line), network(line).asn),
        _ => line.ip.to_string(),
    }
}

/// Whether at every time from `first` to `last` the use's origin was used on three of the 30 days before, of which the
/// last was over for more than ten minutes.
fn is_usual(line: &Line, lines: &[Line], first: i64, last: i64) -> bool {
    let used = lines.iter().filter(|used| used.kind == Kind::Accepted && origin(used) == origin(line));
    let days: BTreeSet<i64> = used.map(|used| used.time_ms.div_euclid(DAY_MS)).collect();
    let counts = |day: &&i64| {
        let is_over = |time: i64| (**day + 1) * DAY_MS + 600_000 < time;
        let is_near = |time: i64| time.div_euclid(DAY_MS) - **day <= 30;
        [first, last].into_iter().all(|time| is_over(time) && is_near(time))
    };
    days.iter().filter(counts).count() >= 3
}

/// Kilometres between two places after both radii, by the spherical law of cosines.
fn net_km(a: &Line, b: &Line) -> f64 {
    let [(lat_a, lon_a, radius_a), (lat_b, lon_b, radius_b)] = [a, b].map(|line| {
        let place = line.location.place.as_ref().unwrap();
        (place.lat.to_radians(), place.lon.to_radians(), place.accuracy_km)
    });
    let cosine = lat_a.sin() * lat_b.sin() + lat_a.cos() * lat_b.cos() * (lon_b - lon_a).cos();
    (6_371.0 * cosine.clamp(-1.0, 1.0).acos() - radius_a - radius_b).max(0.0)
}

fn impossible(a: &Line, b: &Line, gap_ms: i64) -> bool {
    let minutes = (gap_ms / 60_000 + 1) as f64;
    let km = net_km(a, b);
    !kin(a, b) && km >= 300.0 && km > 1_000.0 / 60.0 * (minutes + 10.0)
}

/// Uses from one network, device and window at most 14 minutes apart.
fn stays(lines: &[Line], phase: Phase) -> Vec<(Window, Vec<&Line>)> {
    let mut sorted: Vec<&Line> = lines.iter().collect();
    sorted.sort_by_key(|line| line.time_ms);
    let mut stays: Vec<(Window, Vec<&Line>)> = Vec::new();
    for line in sorted {
        let window = phase.window(UnixMs::new(line.time_ms));
        let known = stays.iter_mut().rev().find(|(known, uses)| {
            let last = uses[uses.len() - 1];
            *known == window
                && last.ip == line.ip
                && last.device == line.device
                && line.time_ms - last.time_ms <= 14 * 60_000
        });
        match known {
            Some((_, uses)) => uses.push(line),
            None => stays.push((window, vec![line])),
        }
    }
    stays
}

fn travel(lines: &[Line], sub: &str, found: &mut Found<'_>) {
    let key = ["iss", ISS, sub];
    let phase = Phase::of("acme", &key);
    // That a case is there at all: every pair of uses.
    for (index, a) in lines.iter().enumerate() {
        for b in &lines[..index] {
            if impossible(a, b, (a.time_ms - b.time_ms).abs()) {
                let window = phase.window(UnixMs::new(a.time_ms.max(b.time_ms)));
                found(RuleId::ImpossibleTravel, &key, window, (Severity::Low, Confidence::Low));
            }
        }
    }
    // How strong it is: gap and session are defined on stays.
    let stays = stays(lines, phase);
    for (index, (window_a, a)) in stays.iter().enumerate() {
        for (window_b, b) in &stays[..index] {
            let times = |uses: &[&Line]| (uses[0].time_ms, uses[uses.len() - 1].time_ms);
            let ((a_first, a_last), (b_first, b_last)) = (times(a), times(b));
            let gap_ms = (a_first - b_last).max(b_first - a_last).max(0);
            if !impossible(a[0], b[0], gap_ms) {
                continue;
            }
            let ends = [a[0], b[0]];
            let own = ends.iter().all(|line| line.location.place.as_ref().unwrap().own_radius);
            let downgraded = ends.iter().any(|line| class(line) != Some(NetworkClass::Eyeball))
                || (country(a[0]) != country(b[0]) && network(a[0]).asn == network(b[0]).asn)
                || (country(a[0]) == country(b[0]) && !own)
                || ends.iter().all(|end| is_usual(end, lines, a_first.max(b_first), a_last.max(b_last)));
            let same_session = a.iter().any(|a| {
                b.iter().any(|b| a.token == b.token || (a.family.is_some() && a.family == b.family))
            });
            let certain = own && net_km(a[0], b[0]) >= 3_000.0 / 60.0 * (gap_ms / 60_000 + 1) as f64;
            let rank = match (downgraded, same_session && devices_differ(a[0], b[0]), certain) {
                (true, ..) => (Severity::Low, Confidence::Low),
                (false, true, true) => (Severity::High, Confidence::High),
                (false, true, false) => (Severity::High, Confidence::Medium),
                (false, false, true) => (Severity::Medium, Confidence::High),
                (false, false, false) => (Severity::Medium, Confidence::Medium),
            };
            found(RuleId::ImpossibleTravel, &key, *window_a.max(window_b), rank);
        }
    }
}

fn replay(uses: &[&Line], sub: &str, found: &mut Found<'_>) {
    let Some(family) = uses.first().map(|line| line.family.as_deref().unwrap_or_default()) else { return };
    let key = ["iss", ISS, sub, "web", family];
    let phase = Phase::of("acme", &key);
    let window = |line: &Line| phase.window(UnixMs::new(line.time_ms));
    let caller = |line: &Line| (origin(line), line.device.clone(), line.ip.is_ipv4(), class(line));
    let mut windows: Vec<Window> = uses.iter().map(|line| window(line)).collect();
    windows.sort_unstable();
    windows.dedup();
    for at in windows {
        let mut callers: BTreeMap<_, Vec<&Line>> = BTreeMap::new();
        for line in uses.iter().filter(|line| window(line) <= at) {
            callers.entry(format!("{:?}", caller(line))).or_default().push(line);
        }
        let callers: Vec<Vec<&Line>> = callers.into_values().collect();
        for (index, a) in callers.iter().enumerate() {
            for b in &callers[..index] {
                if a.iter().chain(b).any(|line| window(line) == at)
                    && let Some(rank) = replay_pair(a, b)
                {
                    found(RuleId::TokenReplay, &key, at, rank);
                }
            }
        }
        let most = (0u32..1 << callers.len())
            .filter(|chosen| {
                let chosen: Vec<_> = (0..callers.len()).filter(|index| chosen & (1 << index) != 0).collect();
                chosen.iter().all(|&a| chosen.iter().all(|&b| a == b || !kin(callers[a][0], callers[b][0])))
            })
            .map(u32::count_ones)
            .max();
        if most >= Some(5) {
            found(RuleId::SharedToken, &key, at, (Severity::Medium, Confidence::High));
        }
    }
}

fn replay_pair(a: &[&Line], b: &[&Line]) -> Option<(Severity, Confidence)> {
    let kin = kin(a[0], b[0]);
    let dev = devices_differ(a[0], b[0]);
    let elsewhere = !kin && (class(a[0]) != class(b[0]) || country(a[0]) != country(b[0]));
    let comes_back = |a: &[&Line], b: &[&Line]| {
        b.iter().any(|b| {
            a.iter().any(|before| before.time_ms <= b.time_ms)
                && a.iter().any(|after| after.time_ms > b.time_ms)
        })
    };
    let overlap = comes_back(a, b) || comes_back(b, a);
    let same_device = a[0].device.is_some() && a[0].device == b[0].device;
    let hidden = [a[0], b[0]].iter().any(|line| class(line) == Some(NetworkClass::Hidden));
    match (dev, elsewhere, overlap) {
        (true, true, true) => Some((Severity::High, Confidence::High)),
        (true, true, false) => Some((Severity::High, Confidence::Medium)),
        (true, false, _) => Some((Severity::Low, Confidence::Low)),
        (false, true, true) if same_device && hidden => Some((Severity::Low, Confidence::Low)),
        (false, true, true) => Some((Severity::Medium, Confidence::Medium)),
        (false, ..) => None,
    }
}

/// Every order of `items`, by Heap's algorithm.
fn every_order<T: Clone>(items: &[T], mut each: impl FnMut(&[T])) {
    fn permute<T: Clone>(items: &mut Vec<T>, size: usize, each: &mut dyn FnMut(&[T])) {
        if size <= 1 {
            return each(items);
        }
        for index in 0..size {
            permute(items, size - 1, each);
            items.swap(if size.is_multiple_of(2) { index } else { 0 }, size - 1);
        }
    }
    permute(&mut items.to_vec(), items.len(), &mut each);
}

/// The same draws in every run.
pub(in crate::pipeline::detect) fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

fn lines(draws: &[Draw], sub: &str) -> Vec<Line> {
    draws.iter().enumerate().map(|(index, draw)| line(draw, sub, index)).collect()
}

#[test]
fn all_orders_of_up_to_six_uses_give_what_brute_force_gives() {
    let matched = Cell::new(0);
    runner(60)
        .run(&(prop::collection::vec(draw(), 2..=6), 0..1_000u32), |(draws, subject)| {
            let sub = format!("user{subject}");
            let lines = lines(&draws, &sub);
            let expected = brute_force(&lines, &sub);
            matched.set(matched.get() + expected.len());
            let mut failed = None;
            every_order(&lines, |order| {
                let (outcome, _) = detected(order, 3);
                if outcome != expected && failed.is_none() {
                    failed = Some((outcome, order.to_vec()));
                }
            });
            prop_assert!(failed.is_none(), "expected {expected:?}, got {failed:?}");
            Ok(())
        })
        .unwrap();
    assert!(matched.get() > 60, "the draws hold {} cases", matched.get());
}

#[test]
fn five_hundred_shuffles_of_many_uses_give_what_brute_force_gives() {
    let strategy = (prop::collection::vec(draw(), 7..=16), 0..1_000u32, 1..20usize);
    let (compared, high) = (Cell::new(0), Cell::new(0));
    runner(500)
        .run(&strategy, |(draws, subject, cut)| {
            let sub = format!("user{subject}");
            let lines = lines(&draws, &sub);
            let (outcome, evicted) = detected(&lines, cut);
            // Where state had to be forgotten the order of arrival may matter: DETECTION says so.
            if evicted > 0 {
                return Ok(());
            }
            compared.set(compared.get() + outcome.len());
            high.set(
                high.get() + outcome.values().filter(|(_, severity, _)| *severity == Severity::High).count(),
            );
            prop_assert_eq!(outcome, brute_force(&lines, &sub));
            Ok(())
        })
        .unwrap();
    assert!(
        compared.get() > 1_000 && high.get() > 200,
        "{} cases, {} of them high",
        compared.get(),
        high.get()
    );
}

/// A use within a month and a week, mostly of the last days and often near midnight, and how late it comes, twice.
#[derive(Clone, Debug)]
struct OfAMonth {
    draw: Draw,
    day: i64,
    refused: bool,
    late_ms: [i64; 2],
}

fn of_a_month() -> impl Strategy<Value = OfAMonth> {
    let day = prop_oneof![8 => 0..6i64, 1 => -31..0i64];
    let seconds = prop_oneof![4 => 0..86_400i64, 1 => 0..1_500i64, 1 => 84_900..86_400i64];
    let late = || 0..=600_000i64;
    let refused = prop_oneof![9 => Just(false), 1 => Just(true)];
    (draw(), day, seconds, refused, [late(), late()]).prop_map(|(draw, day, seconds, refused, late_ms)| {
        OfAMonth { draw: Draw { seconds, ..draw }, day, refused, late_ms }
    })
}

/// The subject's uses as they arrive, the first or the second time.
fn arrived(uses: &[OfAMonth], sub: &str, time: usize) -> Vec<Line> {
    let uses = uses.iter().enumerate().map(|(index, used)| {
        let mut line = line(&used.draw, sub, index);
        line.time_ms += used.day * DAY_MS;
        line.arrives_ms = line.time_ms + used.late_ms[time];
        line.token = line.token.map(|token| format!("{token}-{}", used.day));
        if used.refused {
            line.kind = Kind::Rejected;
        }
        line
    });
    let mut lines: Vec<Line> = uses.collect();
    lines.sort_by_key(|line| line.arrives_ms);
    lines
}

#[test]
fn what_is_usual_is_the_same_in_any_order_of_what_comes_in_time() {
    let strategy = (prop::collection::vec(of_a_month(), 20..60), 0..1_000u32);
    let (compared, lowered) = (Cell::new(0), Cell::new(0));
    runner(300)
        .run(&strategy, |(uses, subject)| {
            let sub = format!("user{subject}");
            let mut expected = Outcome::new();
            for time in [0, 1] {
                let lines = arrived(&uses, &sub, time);
                let (mut detector, mut outcome) = (Detector::default(), Outcome::new());
                walk(&mut detector, &Rulebook::default(), &lines, 7, |assessed| {
                    for CaseUpdate { case, .. } in &assessed.cases {
                        if case.rule == RuleId::ImpossibleTravel {
                            outcome.insert(case.finding_id, (case.rule, case.severity, case.confidence));
                            lowered.set(lowered.get() + u32::from(case.lowered_by == ["usual_origins"]));
                        }
                    }
                });
                if detector.travel.evicted() + detector.usual.evicted() > 0 {
                    return Ok(());
                }
                if time == 0 {
                    let mut found = into(&mut expected);
                    travel(&lines, &sub, &mut found);
                }
                compared.set(compared.get() + outcome.len());
                prop_assert_eq!(&outcome, &expected);
            }
            Ok(())
        })
        .unwrap();
    assert!(
        compared.get() > 1_000 && lowered.get() > 100,
        "{} cases, {} times lowered",
        compared.get(),
        lowered.get()
    );
}
