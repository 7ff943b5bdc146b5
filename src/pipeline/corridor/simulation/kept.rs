//! Histories that are kept: what once failed, and the shortest of each kind.

use super::op::{Cut, Op, PARTITIONS};
use super::play;
use crate::log::memory::LogFault;
use crate::pipeline::store::memory::StoreFault;

const EVENT: Op = Op::Deliver { who: 0, place: 0, to: 0 };
const ELSEWHERE: Op = Op::Deliver { who: 0, place: 1, to: 1 };

/// Each fault by itself, on the way of two blocks and a forwarded event.
#[tokio::test]
async fn no_single_fault_loses_or_doubles_anything() {
    for fault in LogFault::ALL.map(Op::Log).into_iter().chain(StoreFault::ALL.map(Op::Store)) {
        for then in [Op::Settle, Op::Crash] {
            let told = format!("{fault:?}, then {then:?}");
            let history =
                [EVENT, Op::Settle, fault.clone(), EVENT, ELSEWHERE, Op::Pause { ms: 10 }, then, EVENT];
            play(&history).await.unwrap_or_else(|why| panic!("{told}: {why}"));
        }
    }
}

/// What is asked of one held-back event must not decide of another that is walked with it.
#[tokio::test]
async fn what_is_held_back_together_is_judged_apart() {
    for to in 0..PARTITIONS {
        let deliver = |place| Op::Deliver { who: 0, place, to };
        let history = [
            deliver(0),
            deliver(1),
            Op::Settle,
            Op::AdvanceTime { minutes: 120 },
            Op::Drain { back: 0, to, resent: true },
            Op::Drain { back: 1, to, resent: false },
        ];
        play(&history).await.unwrap_or_else(|why| panic!("{to}: {why}"));
    }
}

/// Nobody had told that the record at 0 was lost, and the block went on over it.
#[tokio::test]
async fn what_leaves_the_log_before_its_owner_comes_to_it_is_told() {
    for to in 0..PARTITIONS {
        let deliver = Op::Deliver { who: 0, place: 0, to };
        let pause = Op::Pause { ms: 0 };
        let above = Op::Truncate { partition: to, before: Cut::Above(1) };
        play(&[deliver.clone(), pause.clone(), deliver.clone(), above.clone()]).await.unwrap();
        play(&[pause, deliver.clone(), above, deliver]).await.unwrap();
    }
}

/// What was left of a reserved block was holes: it had no line, and the next block did not touch the one before.
#[tokio::test]
async fn what_is_left_of_a_block_without_records_goes_into_the_next() {
    let history = [
        Op::Pause { ms: 10 },
        Op::Store(StoreFault::InsertAway),
        Op::Garbage { to: 0 },
        Op::Holes { to: 0, count: 2 },
        Op::Pause { ms: 25 },
        Op::Truncate { partition: 0, before: Cut::Above(1) },
        Op::Crash,
        Op::Garbage { to: 0 },
    ];
    play(&history).await.unwrap();
}
