//! What insert tokens cannot promise, as it was tried on the engine, and that blocks are stored once all the same.

use bytes::Bytes;

use super::engine::{Bench, COMPLETE};
use super::*;
use crate::clickhouse::InsertLabel;
use crate::pipeline::store::block::MAX_ROWS;

fn block_of(first: i64, last: i64) -> CutBlock {
    let mut block = block_at(first);
    for offset in first..=last {
        push(&mut block, offset, &event("accepted", &format!("subject-{offset}")));
    }
    block.cut(at(last))
}

/// The window of tokens is the whole table's: what others insert meanwhile pushes a token out of it.
#[tokio::test]
async fn a_token_that_others_pushed_out_of_the_window_doubles_nothing() {
    let bench = Bench::new().await;
    bench.run("ALTER TABLE events MODIFY SETTING non_replicated_deduplication_window = 2").await;
    for first in [0, 10, 20, 30] {
        bench.store.put(&block_of(first, first + 9), Put::First, &Patience::default()).await.unwrap();
    }
    bench.store.put(&block_of(0, 9), Put::Again, &Patience::default()).await.unwrap();
    assert_eq!(bench.offsets().await, (0..40).collect::<Vec<_>>());
    assert_eq!(bench.proof().await, [COMPLETE]);
}

/// A token holds for each table partition by itself: one day of a block may be there without the other.
#[tokio::test]
async fn a_block_over_midnight_is_completed_and_not_doubled() {
    // Offsets are a second each; these two are the last of a day and the first of the next.
    const LAST: i64 = 49_498;
    let bench = Bench::new().await;
    let block = || block_of(LAST - 2, LAST + 3);
    bench.store.put(&block(), Put::First, &Patience::default()).await.unwrap();
    let days = "SELECT uniqExact(toDate(received_at)) FROM events";
    assert_eq!(bench.number(days).await, 2);
    for day in ["2026-11-23", "2026-11-24"] {
        bench.run(&format!("ALTER TABLE events DROP PARTITION '{day}'")).await;
        bench.store.put(&block(), Put::Again, &Patience::default()).await.unwrap();
        let all: Vec<u64> = (LAST - 2..=LAST + 3).map(i64::unsigned_abs).collect();
        assert_eq!(bench.offsets().await, all, "{day}");
        assert_eq!(bench.proof().await, [COMPLETE], "{day}");
    }
}

/// ClickHouse splits a large insert, and then its token is no longer one of one part: blocks stay below that.
#[tokio::test]
async fn the_largest_block_is_one_part() {
    let bench = Bench::new().await;
    bench.run("CREATE TABLE numbers (n UInt64) ENGINE = MergeTree ORDER BY n").await;
    bench.run("SYSTEM STOP MERGES numbers").await;
    let mut parts_before = 0;
    for (rows, wanted) in [(MAX_ROWS, 1), (1_100_000, 2)] {
        let body: Vec<u8> = (0..rows as u64).flat_map(u64::to_le_bytes).collect();
        let label = InsertLabel { token: Some("one"), ..InsertLabel::default() };
        bench.database.client.insert("numbers", "n", Bytes::from(body), label).await.unwrap();
        let parts = "SELECT count() FROM system.parts \
                     WHERE database = currentDatabase() AND table = 'numbers' AND active";
        let parts = bench.number(parts).await;
        assert_eq!(parts - parts_before, wanted, "{rows} rows");
        parts_before = parts;
    }
}
