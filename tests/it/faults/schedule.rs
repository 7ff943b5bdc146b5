//! What goes wrong, when, and for how long: drawn from a seed, the same for the same seed.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use super::proxy::Weather;

/// A process of the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    Serve,
    Run(usize),
    Deliver,
    Engine,
    Broker(usize),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serve => f.write_str("serve"),
            Self::Run(number) => write!(f, "run-{number}"),
            Self::Deliver => f.write_str("deliver"),
            Self::Engine => f.write_str("engine"),
            Self::Broker(number) => write!(f, "broker-{number}"),
        }
    }
}

/// Who the connections of a role lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum End {
    Kafka,
    ClickHouse,
    Receiver,
}

/// Where in the rename that makes an inserted part visible something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rename {
    KilledBefore,
    KilledAfter,
    /// ENOSPC, once.
    Fails,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// kill -9; started again at the end.
    Kill(Part),
    /// SIGTERM, and started again at the end.
    Restart(Part),
    /// SIGSTOP; SIGCONT at the end.
    Freeze(Part),
    /// At the engine's next inserted part.
    Rename(Rename),
    /// The connections from a role.
    Wire(Part, End, Weather),
    /// The wall clock of a role is off by so much until the end.
    Clock(Part, i64),
    /// No space is left until the end.
    Full(Part),
}

impl Fault {
    /// The process that has enough to do with it.
    pub(super) const fn part(self) -> Part {
        match self {
            Self::Kill(part)
            | Self::Restart(part)
            | Self::Freeze(part)
            | Self::Wire(part, ..)
            | Self::Clock(part, _)
            | Self::Full(part) => part,
            Self::Rename(_) => Part::Engine,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(part) => write!(f, "kill -9 of {part}"),
            Self::Restart(part) => write!(f, "SIGTERM of {part}"),
            Self::Freeze(part) => write!(f, "SIGSTOP of {part}"),
            Self::Rename(how) => write!(f, "the engine at the rename of a part: {how:?}"),
            Self::Wire(part, end, weather) => write!(f, "{part} to {end:?}: {weather:?}"),
            Self::Clock(part, ms) => write!(f, "the clock of {part} is off by {} s", ms / 1_000),
            Self::Full(part) => write!(f, "no space left for {part}"),
        }
    }
}

/// A fault at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Op {
    /// Counts from 1.
    pub(super) number: usize,
    /// Since the first moment of the run.
    pub(super) begins: Duration,
    pub(super) lasts: Duration,
    pub(super) fault: Fault,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, begins, lasts, fault } = self;
        write!(
            f,
            "op {number:>3}  {:>6.1} s  for {:>4.1} s  {fault}",
            begins.as_secs_f64(),
            lasts.as_secs_f64()
        )
    }
}

/// How large the house is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) brokers: usize,
    pub(super) runs: usize,
}

/// The kinds of fault. Each comes once before any comes again.
#[derive(Clone, Copy)]
enum Card {
    KillRun,
    KillBroker,
    KillEngine,
    KillOther,
    Restart,
    FreezeRole,
    FreezeServer,
    Rename,
    WireOfRun,
    WireOfOther,
    Clock,
    Full,
}

const DECK: [Card; 12] = [
    Card::KillRun,
    Card::KillBroker,
    Card::KillEngine,
    Card::KillOther,
    Card::Restart,
    Card::FreezeRole,
    Card::FreezeServer,
    Card::Rename,
    Card::WireOfRun,
    Card::WireOfOther,
    Card::Clock,
    Card::Full,
];

/// Between the end of a fault and the next one of the same process: so that it also gets to work.
const REST: Duration = Duration::from_secs(3);

/// What every run begins with: what was once found to lose or double something, and what no seed may miss.
const FOUND: [(f64, f64, Fault); 5] = [
    // A part whose insert token is known, and which is not there.
    (1.5, 3.0, Fault::Rename(Rename::KilledBefore)),
    (9.0, 2.0, Fault::Rename(Rename::Fails)),
    // A part that is there, and nobody was told.
    (15.0, 3.0, Fault::Rename(Rename::KilledAfter)),
    // The engine acknowledged inserts that it had no room for.
    (22.0, 5.0, Fault::Full(Part::Engine)),
    // Told, and not yet committed.
    (24.0, 2.0, Fault::Kill(Part::Deliver)),
];

/// [`FOUND`], then the schedule of a seed.
pub(super) fn of_seed(seed: u64, faults: usize, size: Size) -> Vec<Op> {
    let op = |(number, &(begins, lasts, fault)): (usize, &(f64, f64, Fault))| {
        let [begins, lasts] = [begins, lasts].map(Duration::from_secs_f64);
        Op { number, begins, lasts, fault }
    };
    let mut ops: Vec<Op> = (1..).zip(&FOUND).map(op).collect();
    let over = ops.iter().map(|op| op.begins + op.lasts + REST).max().unwrap_or_default();
    let drawn = draw(seed, faults, size);
    ops.extend(drawn.into_iter().map(|op| Op {
        number: op.number + FOUND.len(),
        begins: op.begins + over,
        ..op
    }));
    ops
}

/// The schedule of a seed.
fn draw(seed: u64, faults: usize, size: Size) -> Vec<Op> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut deck = Vec::new();
    let mut ops: Vec<Op> = Vec::new();
    let mut begins = Duration::ZERO;
    while ops.len() < faults {
        if deck.is_empty() {
            deck.extend(DECK);
            deck.shuffle(&mut rng);
        }
        let Some(card) = deck.pop() else { continue };
        let (fault, lasts) = play(card, size, &mut rng);
        begins += millis(&mut rng, 800, 4_000);
        let busy =
            ops.iter().filter(|op| op.fault.part() == fault.part()).map(|op| op.begins + op.lasts + REST);
        begins = busy.fold(begins, Duration::max);
        ops.push(Op { number: ops.len() + 1, begins, lasts, fault });
    }
    ops
}

fn play(card: Card, size: Size, rng: &mut StdRng) -> (Fault, Duration) {
    let run = Part::Run(rng.random_range(0..size.runs));
    let broker = Part::Broker(rng.random_range(0..size.brokers));
    let other = pick(&[Part::Serve, Part::Deliver], rng);
    let role = pick(&[run, run, Part::Serve, Part::Deliver], rng);
    // Longer than a session lasts, or shorter.
    let freeze = if rng.random_bool(0.6) { millis(rng, 8_000, 12_000) } else { millis(rng, 1_000, 5_000) };
    match card {
        Card::KillRun => (Fault::Kill(run), millis(rng, 0, 9_000)),
        Card::KillBroker => (Fault::Kill(broker), millis(rng, 0, 8_000)),
        Card::KillEngine => (Fault::Kill(Part::Engine), millis(rng, 0, 8_000)),
        Card::KillOther => (Fault::Kill(other), millis(rng, 0, 5_000)),
        Card::Restart => (Fault::Restart(role), millis(rng, 0, 4_000)),
        Card::FreezeRole => (Fault::Freeze(role), freeze),
        Card::FreezeServer => (Fault::Freeze(pick(&[broker, Part::Engine], rng)), freeze),
        Card::Rename => {
            let how = pick(&[Rename::KilledBefore, Rename::KilledAfter, Rename::Fails], rng);
            (Fault::Rename(how), millis(rng, 2_000, 6_000))
        }
        Card::WireOfRun => wire(run, pick(&[End::Kafka, End::ClickHouse], rng), rng),
        Card::WireOfOther => {
            let ends =
                [(Part::Serve, End::Kafka), (Part::Deliver, End::Kafka), (Part::Deliver, End::Receiver)];
            let (part, end) = pick(&ends, rng);
            wire(part, end, rng)
        }
        Card::Clock => {
            let seconds = rng.random_range(10..7_200) * if rng.random_bool(0.5) { 1 } else { -1 };
            (Fault::Clock(role, seconds * 1_000), millis(rng, 4_000, 12_000))
        }
        Card::Full => (Fault::Full(pick(&[Part::Engine, Part::Serve], rng)), millis(rng, 2_000, 8_000)),
    }
}

fn wire(part: Part, end: End, rng: &mut StdRng) -> (Fault, Duration) {
    let weather = pick(&[Weather::Cut, Weather::Silent, Weather::Slow, Weather::Deaf], rng);
    (Fault::Wire(part, end, weather), millis(rng, 2_000, 10_000))
}

fn pick<T: Copy>(of: &[T], rng: &mut StdRng) -> T {
    *of.choose(rng).expect("there is a choice")
}

fn millis(rng: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.random_range(from..=to))
}

#[test]
fn a_seed_is_a_schedule() {
    let size = Size { brokers: 3, runs: 3 };
    assert_eq!(draw(7, 40, size), draw(7, 40, size));
    assert_ne!(draw(7, 40, size), draw(8, 40, size));
    assert_eq!(draw(7, 40, size)[..8], draw(7, 8, size), "more faults begin like fewer");
    for (number, op) in draw(7, 200, size).iter().enumerate() {
        let of_part = |other: &&Op| other.number < op.number && other.fault.part() == op.fault.part();
        let before = draw(7, number, size);
        assert!(before.iter().filter(of_part).all(|other| other.begins + other.lasts < op.begins), "{op}");
    }
}
