//! The fault suite: the real binaries on a real Kafka and the embedded ClickHouse, under load, while a seeded schedule of
//! faults goes on. At the end everything is brought back, and queries prove that nothing was lost and nothing doubled.
//!
//! `make faults SEED=… FAULTS=… BROKERS=…` runs it by hand. The same seed gives the same schedule; a run that fails keeps
//! what it left behind and says where that is, and after which op it broke.

mod daemon;
mod house;
mod load;
mod proof;
pub(crate) mod proxy;
mod schedule;
mod soak;
mod tried;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use house::House;
use load::Load;
use schedule::{Op, Size};

/// Long, because the machine may be busy building.
const PATIENCE: Duration = Duration::from_secs(180);

/// Events a second.
const RATE: u32 = 120;

/// A task of the suite; the runtime ends it.
pub(crate) fn background(task: impl Future<Output = ()> + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "a test has no lifecycle; the runtime ends its tasks")]
    tokio::spawn(task);
}

/// What whoever runs the suite may set.
fn environment(name: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the suite is no part of the product, and has no configuration"
    )]
    std::env::var(name).ok()
}

pub(crate) fn setting(name: &str, otherwise: u64) -> u64 {
    environment(name).and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// The binary under test: Cargo's own unless another one is named.
fn program() -> String {
    environment("PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_jwtrail").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_nothing_is_lost_and_nothing_is_doubled() {
    let seed = setting("SEED", 1);
    let faults = usize::try_from(setting("FAULTS", 8)).unwrap();
    let brokers = usize::try_from(setting("BROKERS", 1)).unwrap();
    let size = Size { brokers, runs: if faults > 8 { 3 } else { 2 } };
    let schedule = schedule::of_seed(seed, faults, size);
    let house = House::build(size).await;
    let wrong = run(&house, seed, &schedule).await;
    if !wrong.is_empty() {
        let listed: Vec<String> = schedule.iter().map(Op::to_string).collect();
        let kept = house.keep();
        panic!(
            "SEED={seed} FAULTS={faults} BROKERS={brokers}\n{}\n\n{}\n\nWhat it left behind is in {}",
            listed.join("\n"),
            wrong.join("\n"),
            kept.display()
        );
    }
}

/// Loads, lets the schedule happen, brings everything back, and says what is wrong then.
async fn run(house: &Arc<House>, seed: u64, schedule: &[Op]) -> Vec<String> {
    let load = Load::start(house, seed, RATE);
    let begun = Instant::now();
    let mut wrong = Vec::new();
    let mut suffering = tokio::task::JoinSet::new();
    for op in schedule {
        tokio::time::sleep_until((begun + op.begins).into()).await;
        println!("{op}");
        suffering.spawn(Arc::clone(house).suffer(*op));
        let broken = [proof::always(house).await, house.dead().await].concat();
        wrong.extend(broken.into_iter().map(|what| format!("by op {}: {what}", op.number)));
    }
    while let Some(ended) = suffering.join_next().await {
        ended.expect("a fault ends as it should");
    }
    println!("{:>6.1} s  the faults are over", begun.elapsed().as_secs_f64());
    wrong.extend(house.dead().await);
    let ledger = match load.stop(PATIENCE).await {
        Ok(ledger) => ledger,
        Err(stuck) => {
            wrong.push(stuck);
            return wrong;
        }
    };
    if let Err(late) = proof::settled(house, PATIENCE).await {
        wrong.push(late);
    }
    println!("{:>6.1} s  settled", begun.elapsed().as_secs_f64());
    wrong.extend(proof::rows(house, &ledger).await);
    wrong.extend(proof::accounts(house, &ledger).await);
    let (alerts, told) = proof::alerts(house, PATIENCE).await;
    wrong.extend(alerts);
    wrong.extend(house.dead().await);
    wrong.extend(house.close().await);
    wrong.extend(house.replay().await);
    println!(
        "{:>6.1} s  {} events, {} that are none, {} alerts, {} requests and {} records failed; {} runs",
        begun.elapsed().as_secs_f64(),
        ledger.events.len(),
        ledger.invalid.len(),
        told,
        ledger.door_requests_failed,
        ledger.records_failed,
        house.size().runs,
    );
    wrong
}
