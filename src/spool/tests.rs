//! A log that is away and comes back.

use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::lifecycle::{Lifecycle, Phase};
use crate::log::Batch;
use crate::log::memory::{LogFault, MemoryLog};
use crate::model::PartitionId;
use crate::telemetry::Readiness;

/// For what comes in a moment if it comes at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// A log of one partition, a spool before it, and a process around both that can be killed.
struct Stage {
    log: MemoryLog,
    dir: TempDir,
    spool: Arc<Spool>,
    readiness: Readiness,
    lifecycle: Lifecycle,
    max_bytes: u64,
}

impl Stage {
    async fn new(max_bytes: u64) -> Self {
        let (dir, log) = (tempfile::tempdir().unwrap(), MemoryLog::new(Clock::System, &[TOPIC]));
        let (spool, lifecycle, readiness) = start(&dir, max_bytes, &log).await;
        Self { log, dir, spool, readiness, lifecycle, max_bytes }
    }

    /// The process ends in the midst of whatever it does, and another one begins.
    async fn restart(self) -> Self {
        let Self { log, dir, spool, lifecycle, max_bytes, .. } = self;
        lifecycle.advance(Phase::Draining);
        assert_eq!(lifecycle.finish().await, Vec::<String>::new());
        assert_eq!(Arc::strong_count(&spool), 1, "a shutdown does not wait for the drain");
        drop(spool);
        let (spool, lifecycle, readiness) = start(&dir, max_bytes, &log).await;
        Self { log, dir, spool, readiness, lifecycle, max_bytes }
    }

    fn is_away(&self, is_away: bool) {
        self.log.set_away(is_away);
    }

    async fn send(&self, values: impl IntoIterator<Item = String>) -> Result<(), LogError> {
        let values: Vec<String> = values.into_iter().collect();
        let of =
            |mark: &str| values.iter().map(|value| record(&format!("{mark}{value}"))).collect::<Vec<_>>();
        self.spool.append(|| of(""), || of("~")).await
    }

    /// What the log holds, in order; `~` where it followed from the spool.
    async fn held(&self) -> Vec<String> {
        let mut scan = self.log.scan(Topic::Events, PartitionId(0), None).await.unwrap();
        let (mut batch, mut held) = (Batch::default(), Vec::new());
        while scan.next(&mut batch, 1_000).await.unwrap() {
            held.extend(batch.iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()));
        }
        held
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let waiting = async {
            while !is_so().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never {what}"));
    }

    async fn until_drained(&self) {
        self.until("drained", async || !self.spool.spooling.load(Ordering::SeqCst)).await;
        assert_eq!(self.spool.depth(), 0);
    }

    fn said(&self) -> Result<String, String> {
        self.readiness.now().remove("spool").unwrap()
    }
}

async fn start(dir: &TempDir, max_bytes: u64, log: &MemoryLog) -> (Arc<Spool>, Lifecycle, Readiness) {
    let options = JournalOptions {
        limit_bytes: max_bytes,
        when_full: WhenFull::Refuse,
        segment_bytes: max_bytes / 16,
        reserve_bytes: 1 << 20,
        ..JournalOptions::default()
    };
    let journal = Journal::open(dir.path(), options, Clock::System).unwrap();
    let log: Arc<dyn EventLog> = Arc::new(log.clone());
    let (spool, drain) = Spool::over(journal, log.clone(), Clock::System, Metrics::new()).await.unwrap();
    let (lifecycle, readiness) = (Lifecycle::new(PATIENCE), Readiness::default());
    lifecycle.spawn("drain", drain.run(log, readiness.clone(), lifecycle.clone()));
    (spool, lifecycle, readiness)
}

fn record(value: &str) -> NewRecord {
    NewRecord { key: Some(b"key".to_vec()), value: value.into(), ..NewRecord::default() }
}

fn numbers(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    range.map(|number| number.to_string())
}

#[tokio::test]
async fn what_is_taken_while_the_log_is_away_follows_in_order_and_what_comes_queues_behind() {
    let stage = Stage::new(1 << 20).await;
    stage.send(numbers(0..2)).await.unwrap();
    stage.is_away(true);
    stage.send(numbers(2..4)).await.unwrap();
    stage.send(numbers(4..6)).await.unwrap();
    stage.until("told", async || stage.said().is_ok_and(|said| said.starts_with("4 events wait"))).await;
    let stage = stage.restart().await;
    assert_eq!(stage.held().await, ["0", "1"]);
    // Still away for this process, which has not tried: what comes queues behind what lies there.
    stage.send(numbers(6..7)).await.unwrap();
    stage.is_away(false);
    stage.until_drained().await;
    stage.send(numbers(7..8)).await.unwrap();
    assert_eq!(stage.held().await, ["0", "1", "~2", "~3", "~4", "~5", "~6", "7"]);
    stage.until("told", async || stage.said().as_deref() == Ok("ok")).await;
}

#[tokio::test]
async fn a_drain_that_is_cut_off_repeats_and_loses_nothing() {
    let mut stage = Stage::new(8 << 20).await;
    stage.log.fail(LogFault::AppendHalf);
    stage.is_away(true);
    for from in (0..3_000).step_by(500) {
        stage.send(numbers(from..from + 500)).await.unwrap();
    }
    for _ in 0..3 {
        stage.is_away(false);
        stage.until("begun", async || stage.held().await.len() > 500).await;
        stage = stage.restart().await;
    }
    stage.until_drained().await;
    let followed: Vec<String> =
        stage.held().await.iter().filter_map(|value| value.strip_prefix('~').map(str::to_owned)).collect();
    let mut first_seen = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for value in &followed {
        if seen.insert(value.clone()) {
            first_seen.push(value.clone());
        }
    }
    assert_eq!(first_seen, numbers(0..3_000).collect::<Vec<_>>(), "each in its place, repeats aside");
}

#[tokio::test]
async fn a_full_spool_refuses_and_what_it_took_follows() {
    let stage = Stage::new(64 << 10).await;
    stage.is_away(true);
    let large = |number: usize| format!("{number:06}{}", "x".repeat(2_000));
    let mut taken = 0;
    let refused = loop {
        match stage.send([large(taken)]).await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 64, "never full");
    };
    assert!(matches!(refused, LogError::Unavailable { .. }), "{refused}");
    assert!(taken > 16, "only {taken}");
    stage.until("told", async || stage.said().is_err_and(|why| why.contains("full"))).await;
    let stage = stage.restart().await;
    stage.is_away(false);
    stage.until_drained().await;
    assert_eq!(stage.held().await, (0..taken).map(|n| format!("~{}", large(n))).collect::<Vec<_>>());
    // What is drained makes room, but for the segment that is written to.
    stage.is_away(true);
    for number in 0..taken * 3 / 4 {
        stage.send([large(number)]).await.unwrap();
    }
}

#[tokio::test]
async fn callers_at_the_same_time_see_their_own_events_in_order() {
    const CALLERS: usize = 8;
    const EACH: usize = 60;
    let stage = Arc::new(Stage::new(8 << 20).await);
    let callers = (0..CALLERS).map(|caller| {
        let stage = Arc::clone(&stage);
        async move {
            for number in 0..EACH {
                if caller == 0 {
                    stage.is_away(number % 20 < 10);
                }
                stage.send([format!("{caller} {number}")]).await.unwrap();
            }
        }
    });
    let mut together = tokio::task::JoinSet::new();
    callers.for_each(|caller| {
        together.spawn(caller);
    });
    together.join_all().await;
    stage.is_away(false);
    stage.until_drained().await;
    let held = stage.held().await;
    for caller in 0..CALLERS {
        let of_caller = |value: &String| {
            let (name, number) = value.trim_start_matches('~').split_once(' ').unwrap();
            (name == caller.to_string()).then(|| number.parse::<usize>().unwrap())
        };
        let own: Vec<usize> = held.iter().filter_map(of_caller).collect();
        assert_eq!(own, (0..EACH).collect::<Vec<_>>(), "of caller {caller}");
    }
}
