//! What may happen.

use proptest::prelude::*;

use crate::log::memory::LogFault;
use crate::pipeline::corridor::Course;
use crate::pipeline::store::memory::StoreFault;

/// So many partitions the events have.
pub(super) const PARTITIONS: u32 = 2;

#[derive(Clone, Debug)]
pub(super) enum Op {
    /// An event of a person, from a place, appended to a partition that need not be its home.
    Deliver {
        who: u8,
        place: u8,
        to: u32,
    },
    /// An event that is so much older than its record.
    Late {
        who: u8,
        place: u8,
        to: u32,
        minutes: u64,
    },
    /// An event that its gateway has signed, with a key that is known or is not.
    Sign {
        who: u8,
        place: u8,
        to: u32,
    },
    /// An event whose client sent a token where none may be.
    Leak {
        who: u8,
        to: u32,
    },
    /// Events of people of whom nothing else is ever heard.
    Flood {
        count: u32,
        to: u32,
    },
    /// One of the last events once more, as a gateway does that got no answer.
    Redeliver {
        back: usize,
        to: u32,
    },
    /// An event follows from the spool, of which nothing is in the log.
    HoldBack {
        who: u8,
        place: u8,
        to: u32,
    },
    /// One of the last events follows from the spool: it was held back when it was first sent, and had landed all the same;
    /// or (`resent`) its gateway sent it again, and that was held back.
    Drain {
        back: usize,
        to: u32,
        resent: bool,
    },
    /// A gateway says how many events it has sent; as the last thing that it says, or not.
    Beat {
        to: u32,
        closing: bool,
    },
    /// The gateway numbers an event that nobody ever sees.
    Skip,
    /// A record that is no event.
    Garbage {
        to: u32,
    },
    /// Offsets without a record, as aborted transactions leave them.
    Holes {
        to: u32,
        count: i64,
    },
    /// The beginning of a partition leaves the log.
    Truncate {
        partition: u32,
        before: Cut,
    },
    AdvanceTime {
        minutes: i64,
    },
    /// Lets whatever goes on go on for so long.
    Pause {
        ms: u64,
    },
    /// Waits until everything so far is settled.
    Settle,
    /// Another process joins: partitions are handed over.
    Join,
    /// The oldest of several processes ends in order.
    Leave,
    /// A partition is taken from its owner.
    Lose {
        course: Course,
        partition: u32,
    },
    /// Every process is killed, and one starts.
    Crash,
    /// The snapshots are swapped for those that know the gateway's other key.
    RotateKeys,
    Log(LogFault),
    Store(StoreFault),
}

/// Where a partition begins after its truncation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Where the last checkpoint was made: nothing of it is needed any more.
    Checkpoint,
    /// At the commit: it is settled, and partly not written down.
    Commit,
    /// So far above the commit, but not beyond the end: it was not settled.
    Above(i64),
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let to = || 0..PARTITIONS;
    let (who, place) = (|| 0..3u8, || 0..3u8);
    let whose = || (who(), place(), to());
    prop_oneof![
        8 => whose().prop_map(|(who, place, to)| Op::Deliver { who, place, to }),
        2 => (whose(), 1..2_000u64)
            .prop_map(|((who, place, to), minutes)| Op::Late { who, place, to, minutes }),
        2 => whose().prop_map(|(who, place, to)| Op::Sign { who, place, to }),
        1 => (who(), to()).prop_map(|(who, to)| Op::Leak { who, to }),
        1 => (1..40u32, to()).prop_map(|(count, to)| Op::Flood { count, to }),
        2 => (0..4usize, to()).prop_map(|(back, to)| Op::Redeliver { back, to }),
        1 => whose().prop_map(|(who, place, to)| Op::HoldBack { who, place, to }),
        2 => (0..4usize, to(), any::<bool>()).prop_map(|(back, to, resent)| Op::Drain { back, to, resent }),
        2 => (to(), prop::bool::weighted(0.1)).prop_map(|(to, closing)| Op::Beat { to, closing }),
        1 => Just(Op::Skip),
        1 => to().prop_map(|to| Op::Garbage { to }),
        1 => (to(), 1..3i64).prop_map(|(to, count)| Op::Holes { to, count }),
        1 => (to(), cut()).prop_map(|(partition, before)| Op::Truncate { partition, before }),
        2 => prop_oneof![1..20i64, 60..1_500i64].prop_map(|minutes| Op::AdvanceTime { minutes }),
        3 => (0..25u64).prop_map(|ms| Op::Pause { ms }),
        1 => Just(Op::Settle),
        1 => Just(Op::Join),
        1 => Just(Op::Leave),
        1 => lose(),
        2 => Just(Op::Crash),
        1 => Just(Op::RotateKeys),
        3 => log_fault().prop_map(Op::Log),
        3 => store_fault().prop_map(Op::Store),
    ]
}

fn cut() -> impl Strategy<Value = Cut> {
    prop_oneof![2 => Just(Cut::Checkpoint), 1 => Just(Cut::Commit), 1 => (1..5i64).prop_map(Cut::Above)]
}

fn lose() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..PARTITIONS).prop_map(|partition| Op::Lose { course: Course::Events, partition }),
        1 => Just(Op::Lose { course: Course::Summaries, partition: 0 }),
    ]
}

fn log_fault() -> impl Strategy<Value = LogFault> {
    prop::sample::select(LogFault::ALL.to_vec())
}

fn store_fault() -> impl Strategy<Value = StoreFault> {
    prop::sample::select(StoreFault::ALL.to_vec())
}
