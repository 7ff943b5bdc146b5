//! Scale-out and takeover on a real Kafka: `run` as one, three, two and again one instance under steady load. One leaves
//! as it is asked to, one is killed. Nothing is lost, nothing is doubled; what each step took is printed.
//!
//! `RATE` (events a second) and `SECONDS` (of each phase) make it longer; `-- --nocapture` shows the figures.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::Value;
use tokio::sync::{oneshot, watch};

use crate::app::{Running, TestApp, wait_for};
use crate::faults::{background, setting};
use crate::roles::{Deployment, event, now};

const TOPIC: &str = "jwtrail.events";
const PARTITIONS: u64 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn one_instance_three_two_and_one_again_lose_and_double_nothing() {
    let deployment = Deployment::start().await;
    let app = &deployment.app;
    let rate = usize::try_from(setting("RATE", 600)).unwrap();
    let rows_a_phase = rate * usize::try_from(setting("SECONDS", 3)).unwrap();
    let mut fleet = Fleet::default();
    fleet.start(app);
    fleet.settle("start", 1).await;
    let load = Load::start(deployment.broker.address(), rate);
    fleet.walk(app, rows_a_phase).await;

    fleet.start(app);
    fleet.start(app);
    fleet.settle("1 to 3", 3).await;
    fleet.walk(app, rows_a_phase).await;

    let (_, leaving) = fleet.running.pop_first().unwrap();
    let (asked, ended) = (fleet.begin("3 to 2, by SIGTERM"), leaving.stop());
    assert!(ended.await.success());
    fleet.owned(asked, 2).await;
    fleet.walk(app, rows_a_phase).await;

    let (_, victim) = fleet.running.pop_first().unwrap();
    let killed = fleet.begin("2 to 1, by kill -9");
    victim.kill();
    fleet.owned(killed, 1).await;
    fleet.walk(app, rows_a_phase).await;

    let sent = load.stop().await;
    app.eventually("SELECT count(), uniqExact(event_id) FROM events", &format!("{sent}\t{sent}")).await;
    app.eventually("SELECT uniqExact(partition) FROM events", &PARTITIONS.to_string()).await;
    app.assert_complete().await;
    assert_eq!(fleet.owners().len() as u64, PARTITIONS, "every partition has an owner");
    fleet.tell(sent);
    let (_, last) = fleet.running.pop_first().unwrap();
    assert!(last.stop().await.success());
}

/// The instances of `run`, those that have ended included.
#[derive(Default)]
struct Fleet {
    apps: Vec<TestApp>,
    /// By the number of its app.
    running: BTreeMap<usize, Running>,
    steps: Vec<Step>,
}

/// A change of the number of instances, and the phase that came of it.
struct Step {
    name: &'static str,
    began: Timestamp,
    /// Until every partition had an owner again, or for the first time.
    owned_after: Duration,
    rows_per_second: f64,
}

impl Fleet {
    fn start(&mut self, app: &TestApp) {
        let sibling = app.sibling();
        self.running.insert(self.apps.len(), sibling.start(&["run"]));
        self.apps.push(sibling);
    }

    /// A step begins.
    fn begin(&mut self, name: &'static str) -> Instant {
        let began = now().parse().unwrap();
        self.steps.push(Step { name, began, owned_after: Duration::ZERO, rows_per_second: 0.0 });
        Instant::now()
    }

    /// [`Fleet::begin`] and [`Fleet::owned`], of instances that have just been started.
    async fn settle(&mut self, name: &'static str, instances: usize) {
        let began = self.begin(name);
        self.owned(began, instances).await;
    }

    /// Waits until so many instances own all partitions between them.
    async fn owned(&mut self, began: Instant, instances: usize) {
        wait_for("every partition to have an owner", async || {
            let owners = self.owners();
            let busy: BTreeSet<usize> = owners.values().copied().collect();
            (owners.len() as u64 == PARTITIONS && busy.len() == instances).then_some(())
        })
        .await;
        self.steps.last_mut().unwrap().owned_after = began.elapsed();
    }

    /// Waits until so many rows more are there.
    async fn walk(&mut self, app: &TestApp, rows: usize) {
        let count = async || app.query("SELECT count() FROM events").await.ok()?.parse::<usize>().ok();
        let (began, before) = (Instant::now(), wait_for("a count of rows", count).await);
        let now = wait_for("rows", async || count().await.filter(|now| *now >= before + rows)).await;
        let walked = (now - before) as f64;
        self.steps.last_mut().unwrap().rows_per_second = walked / began.elapsed().as_secs_f64();
    }

    /// Who owns each partition, as the instances that run say; two owners of one partition are none.
    fn owners(&self) -> BTreeMap<u64, usize> {
        let mut owners: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for &instance in self.running.keys() {
            let mut owned = BTreeSet::new();
            for said in self.said_by(instance) {
                match said.what {
                    What::Restored { .. } => drop(owned.insert(said.partition)),
                    What::LetGo => drop(owned.remove(&said.partition)),
                    What::Settled => {}
                }
            }
            owned.into_iter().for_each(|partition| owners.entry(partition).or_default().push(instance));
        }
        let alone = |(partition, owners): (u64, Vec<usize>)| match owners[..] {
            [owner] => Some((partition, owner)),
            _ => None,
        };
        owners.into_iter().filter_map(alone).collect()
    }

    fn said_by(&self, instance: usize) -> Vec<Said> {
        let log = std::fs::read_to_string(self.apps[instance].path("run.log")).unwrap_or_default();
        log.lines().filter_map(|line| Said::parse(instance, line)).collect()
    }

    /// The figures: nothing of them is asserted.
    fn tell(&self, sent: usize) {
        let mut said: Vec<Said> = (0..self.apps.len()).flat_map(|instance| self.said_by(instance)).collect();
        said.sort_by_key(|said| said.at);
        println!("{sent} events; of each step, per partition: median / worst");
        for (number, step) in self.steps.iter().enumerate() {
            let end = self.steps.get(number + 1).map(|next| next.began);
            let within = |at: Timestamp| at >= step.began && end.is_none_or(|end| at < end);
            let hand_over = Spread::of(hand_overs(&said).filter(|(at, _)| within(*at)).map(|(_, s)| s));
            let restored = said.iter().filter(|said| within(said.at)).filter_map(|said| match said.what {
                What::Restored { seconds } => Some(seconds),
                _ => None,
            });
            println!(
                "{:<20} all owned after {:>6.2} s; hand-over {hand_over}; state restored {}; {:>6.0} rows/s",
                step.name,
                step.owned_after.as_secs_f64(),
                Spread::of(restored),
                step.rows_per_second,
            );
        }
    }
}

/// From the last block that an owner of a partition settled to the first of the next owner: when that was, and how many
/// seconds later.
fn hand_overs(said: &[Said]) -> impl Iterator<Item = (Timestamp, f64)> {
    let mut last: BTreeMap<u64, Said> = BTreeMap::new();
    said.iter().filter(|said| said.what == What::Settled).filter_map(move |said| {
        let before = last.insert(said.partition, *said)?;
        let gap = said.at.duration_since(before.at).as_secs_f64();
        (before.instance != said.instance).then_some((said.at, gap))
    })
}

/// One line of an instance's log that tells of a partition of the events.
#[derive(Clone, Copy)]
struct Said {
    at: Timestamp,
    instance: usize,
    partition: u64,
    what: What,
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    Restored {
        seconds: f64,
    },
    /// A block was committed.
    Settled,
    LetGo,
}

impl Said {
    fn parse(instance: usize, line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        let what = match line["message"].as_str()? {
            "the state is restored" => What::Restored { seconds: line["seconds"].as_f64()? },
            "settled" => What::Settled,
            "the partition is let go" => What::LetGo,
            _ => return None,
        };
        let at = line["timestamp"].as_str()?.parse().ok()?;
        let partition = line["kafka.partition"].as_u64()?;
        (line["kafka.topic"] == TOPIC).then_some(Self { at, instance, partition, what })
    }
}

/// How seconds are spread.
struct Spread(Vec<f64>);

impl Spread {
    fn of(seconds: impl Iterator<Item = f64>) -> Self {
        let mut seconds: Vec<f64> = seconds.collect();
        seconds.sort_by(f64::total_cmp);
        Self(seconds)
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0.get(self.0.len() / 2), self.0.last()) {
            (Some(median), Some(worst)) => write!(f, "{median:.2} / {worst:.2} s of {}", self.0.len()),
            _ => f.write_str("none"),
        }
    }
}

/// Events straight to Kafka at a steady rate, one in ten of them without a key.
struct Load {
    stop: watch::Sender<bool>,
    sent: oneshot::Receiver<usize>,
}

impl Load {
    fn start(brokers: String, rate: usize) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (tell, sent) = oneshot::channel();
        background(async move {
            // Nobody waits any more if the test has failed.
            let _ = tell.send(send_until(&brokers, rate, stopped).await);
        });
        Self { stop, sent }
    }

    /// How many were sent, and acknowledged, all of them.
    async fn stop(self) -> usize {
        self.stop.send_replace(true);
        self.sent.await.unwrap()
    }
}

async fn send_until(brokers: &str, rate: usize, stopped: watch::Receiver<bool>) -> usize {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .create()
        .unwrap();
    let mut acknowledgements = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    while !*stopped.borrow() {
        tick.tick().await;
        let time = now();
        for _ in 0..rate / 10 {
            let number = acknowledgements.len();
            let subject = format!("user-{}", number % 5_000);
            let value = event(number, &subject, "203.0.113.7", "Firefox/145.0", &time).to_string();
            let key = format!("acme\u{1f}{subject}");
            let mut record = FutureRecord::<String, String>::to(TOPIC).payload(&value);
            if !number.is_multiple_of(10) {
                record = record.key(&key);
            }
            acknowledgements.push(producer.send_result(record).map_err(|(error, _)| error).unwrap());
        }
    }
    let sent = acknowledgements.len();
    for acknowledged in acknowledgements {
        acknowledged.await.unwrap().unwrap();
    }
    sent
}
