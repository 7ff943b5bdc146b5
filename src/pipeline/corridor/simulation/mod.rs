//! The promise, held against histories that nobody would think of: events, outages, hand-overs and deaths in any order,
//! over the real rooms and lanes, with a log and a ClickHouse in memory that fail when they are told to.
//!
//! A history is a list of [`Op`]s. When it is over everything heals and settles, and what is there then is held against
//! one uninterrupted walk of the same log ([`truth`], [`promise`]). What fails is shrunk; each failure ever found stays in [`kept`].

mod house;
mod kept;
mod op;
mod promise;
mod recut;
mod truth;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner, contextualize_config};
use tokio::task::JoinSet;

use house::House;
use op::Op;

/// Plays one history; says what does not hold at its end.
async fn play(ops: &[Op]) -> Result<(), String> {
    let mut house = House::new();
    for op in ops {
        house.play(op).await;
    }
    house.rest().await?;
    promise::hold(&house)
}

/// How many histories are played at the same time.
const SIDE_BY_SIDE: u32 = 16;

/// Threads and `select!` have their own order each time: what failed once need not at the next try.
const REPETITIONS: usize = 8;

/// Plays histories side by side; the number of one that failed, and why.
async fn play_all(histories: impl Iterator<Item = Vec<Op>>) -> Option<(usize, String)> {
    let mut playing = JoinSet::new();
    for (number, ops) in histories.enumerate() {
        playing.spawn(async move { (number, play(&ops).await) });
    }
    playing.join_all().await.into_iter().find_map(|(number, played)| Some((number, played.err()?)))
}

/// A few dozen histories, or `PROPTEST_CASES` of them, from `PROPTEST_RNG_SEED`. They mostly wait, so they go on side by
/// side; one that fails is shrunk.
#[test]
fn any_history_ends_as_one_uninterrupted_walk_does() {
    let config = contextualize_config(Config {
        cases: 48,
        max_shrink_iters: 400,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..Config::default()
    });
    let mut left = config.cases;
    let mut runner = TestRunner::new(config);
    let histories = proptest::collection::vec(op::op(), 1..32);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    while left > 0 {
        let count = left.min(SIDE_BY_SIDE);
        left -= count;
        let trees: Vec<_> = (0..count).map(|_| histories.new_tree(&mut runner).unwrap()).collect();
        let failed = runtime.block_on(play_all(trees.iter().map(ValueTree::current)));
        let Some((number, why)) = failed else { continue };
        let played = runner.config().cases - left - count + u32::try_from(number).unwrap() + 1;
        let tree = trees.into_iter().nth(number).unwrap();
        let ops = tree.current();
        let again = |ops: Vec<Op>| match runtime.block_on(play_all(std::iter::repeat_n(ops, REPETITIONS))) {
            Some((_, why)) => Err(TestCaseError::fail(why)),
            None => Ok(()),
        };
        let shrunk = runner.run_one(tree, again);
        panic!("{why}\nof history {played}: {ops:?}\nshrunk: {shrunk:?}");
    }
}
