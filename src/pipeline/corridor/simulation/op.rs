//! What may happen.

use proptest::prelude::*;

use crate::log::memory::LogFault;
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
        minutes: i64,
    },
    /// An event whose client sent a token where none may be.
    Leak {
        who: u8,
        to: u32,
    },
    /// One of the last events once more, as a gateway does that got no answer.
    Redeliver {
        back: usize,
        to: u32,
    },
    /// A record that is no event.
    Garbage {
        to: u32,
    },
    /// Offsets without a record, as aborted transactions leave them.
    Holes {
        to: u32,
        count: i64,
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
        partition: u32,
    },
    /// Every process is killed, and one starts.
    Crash,
    /// The snapshots are swapped for the same under another name.
    SwapSnapshots,
    Log(LogFault),
    Store(StoreFault),
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let to = || 0..PARTITIONS;
    let (who, place) = (|| 0..3u8, || 0..3u8);
    prop_oneof![
        8 => (who(), place(), to()).prop_map(|(who, place, to)| Op::Deliver { who, place, to }),
        2 => (who(), place(), to(), 1..2_000i64)
            .prop_map(|(who, place, to, minutes)| Op::Late { who, place, to, minutes }),
        1 => (who(), to()).prop_map(|(who, to)| Op::Leak { who, to }),
        2 => (0..4usize, to()).prop_map(|(back, to)| Op::Redeliver { back, to }),
        1 => to().prop_map(|to| Op::Garbage { to }),
        1 => (to(), 1..3i64).prop_map(|(to, count)| Op::Holes { to, count }),
        2 => prop_oneof![1..20i64, 60..1_500i64].prop_map(|minutes| Op::AdvanceTime { minutes }),
        3 => (0..25u64).prop_map(|ms| Op::Pause { ms }),
        1 => Just(Op::Settle),
        1 => Just(Op::Join),
        1 => Just(Op::Leave),
        1 => to().prop_map(|partition| Op::Lose { partition }),
        2 => Just(Op::Crash),
        1 => Just(Op::SwapSnapshots),
        3 => log_fault().prop_map(Op::Log),
        3 => store_fault().prop_map(Op::Store),
    ]
}

fn log_fault() -> impl Strategy<Value = LogFault> {
    prop::sample::select(vec![
        LogFault::CommitRetried,
        LogFault::CommitLost,
        LogFault::CommitDoneAndLost,
        LogFault::AppendFails,
        LogFault::AppendHalf,
        LogFault::Read,
        LogFault::Look,
    ])
}

fn store_fault() -> impl Strategy<Value = StoreFault> {
    prop::sample::select(vec![
        StoreFault::InsertAway,
        StoreFault::AnswerLost,
        StoreFault::TokenWithoutRows,
        StoreFault::RowsWithoutToken,
        StoreFault::HalfStored,
        StoreFault::GoesOn,
        StoreFault::AskAway,
    ])
}
