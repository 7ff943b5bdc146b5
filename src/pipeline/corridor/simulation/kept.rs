//! Histories that are kept: what once failed, and the shortest of each kind.

use super::op::Op;
use super::play;
use crate::log::memory::LogFault;
use crate::pipeline::store::memory::StoreFault;

const EVENT: Op = Op::Deliver { who: 0, place: 0, to: 0 };
const ELSEWHERE: Op = Op::Deliver { who: 0, place: 1, to: 1 };

/// Each fault by itself, on the way of two blocks and a forwarded event.
#[tokio::test]
async fn no_single_fault_loses_or_doubles_anything() {
    let log = [
        LogFault::CommitRetried,
        LogFault::CommitLost,
        LogFault::CommitDoneAndLost,
        LogFault::AppendFails,
        LogFault::AppendHalf,
        LogFault::Read,
        LogFault::Look,
    ];
    let store = [
        StoreFault::InsertAway,
        StoreFault::AnswerLost,
        StoreFault::TokenWithoutRows,
        StoreFault::RowsWithoutToken,
        StoreFault::HalfStored,
        StoreFault::GoesOn,
        StoreFault::AskAway,
    ];
    for fault in log.map(Op::Log).into_iter().chain(store.map(Op::Store)) {
        for then in [Op::Settle, Op::Crash] {
            let told = format!("{fault:?}, then {then:?}");
            let history =
                [EVENT, Op::Settle, fault.clone(), EVENT, ELSEWHERE, Op::Pause { ms: 10 }, then, EVENT];
            play(&history).await.unwrap_or_else(|why| panic!("{told}: {why}"));
        }
    }
}
