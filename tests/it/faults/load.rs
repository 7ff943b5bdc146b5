//! What gateways send while things go wrong, and what they were told of it: the simulator's labelled events, part to the
//! door and part straight to Kafka, some without keys or with wrong ones, some twice, and between them what is no event.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};

use super::background;
use super::house::House;

const TOPIC: &str = "jwtrail.events";
/// Text that no gateway should write where it is put.
const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJmYXVsdHMifQ.c2lnbmF0dXJlLW9mLXRoZS1mYXVsdC1zdWl0ZQ";

/// What is known of one event.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    /// Whether anybody said that it is kept.
    pub(super) acknowledged: bool,
}

/// What was sent, and what was said about it.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// By id; ids are not shared by tenants or gateways.
    pub(super) events: HashMap<String, Sent>,
    /// Partition and offset of what can be no event.
    pub(super) invalid: Vec<(i32, i64)>,
    pub(super) door_requests_failed: u64,
    /// Why the last of them did.
    pub(super) door_said: String,
    pub(super) records_failed: u64,
}

/// Traffic that goes on until it is stopped.
pub(super) struct Load {
    ledger: Arc<Mutex<Ledger>>,
    stop: watch::Sender<bool>,
    ended: tokio::sync::oneshot::Receiver<()>,
}

impl Load {
    /// Begins to send the traffic of a seed: so many events a second, in event time and in the suite's.
    pub(super) fn start(house: &House, seed: u64, rate: u32) -> Self {
        let events = Simulator::start(house.path(), seed, rate);
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = tokio::sync::oneshot::channel();
        let mut sender = Sender::new(house, Arc::clone(&ledger));
        background(async move {
            sender.send_all(events, seed, rate, stopped).await;
            // Nobody waits any more if the test has failed.
            let _ = end.send(());
        });
        Self { ledger, stop, ended }
    }

    /// Distinct events that were sent so far.
    pub(super) fn sent(&self) -> usize {
        self.ledger.lock().unwrap().events.len()
    }

    /// Stops and waits until everything under way was answered: that must be soon, as everything works again.
    pub(super) async fn stop(self, patience: Duration) -> Result<Ledger, String> {
        self.stop.send_replace(true);
        match tokio::time::timeout(patience, self.ended).await {
            Ok(_) => Ok(std::mem::take(&mut *self.ledger.lock().unwrap())),
            Err(_) => {
                let ledger = self.ledger.lock().unwrap();
                let open = ledger.events.values().filter(|sent| !sent.acknowledged).count();
                Err(format!(
                    "{open} events are not taken within {patience:?}, {} records failed; the door said last: {}",
                    ledger.records_failed, ledger.door_said
                ))
            }
        }
    }
}

/// The simulator's events from now on, as many as are asked for.
struct Simulator {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Simulator {
    fn start(dir: &Path, seed: u64, rate: u32) -> Self {
        let mut child = Command::new(super::program())
            .current_dir(dir)
            .args(["simulate", "--events", "/dev/stdout", "--count", "1000000000"])
            .args(["--tenants", "2", "--people", "150", "--attack-every", "4"])
            .args(["--seed", &seed.to_string(), "--rate", &rate.to_string(), "--start", &now()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().expect("its output is a pipe")).lines();
        Self { child, lines }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn now() -> String {
    #[expect(clippy::disallowed_methods, reason = "the suite is the gateway: it has a clock of its own")]
    jiff::Timestamp::now().to_string()
}

#[derive(Clone)]
struct Sender {
    ledger: Arc<Mutex<Ledger>>,
    producer: FutureProducer,
    http: reqwest::Client,
    url: String,
    /// Bounds what is under way.
    places: Arc<Semaphore>,
}

const PLACES: u32 = 2_000;
/// At most so many events wait to be sent once more.
const MOST_AGAIN: usize = 200;

impl Sender {
    fn new(house: &House, ledger: Arc<Mutex<Ledger>>) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &house.bootstrap)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "5")
            .set("message.timeout.ms", "60000")
            .set("reconnect.backoff.max.ms", "1000")
            .create()
            .unwrap();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(40)).build().unwrap();
        let url = format!("http://{}/v1/events", house.api);
        Self { ledger, producer, http, url, places: Arc::new(Semaphore::new(PLACES as usize)) }
    }

    async fn send_all(&mut self, mut events: Simulator, seed: u64, rate: u32, stop: watch::Receiver<bool>) {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x10ad);
        // With whether it went to the door: what the door signs and what nobody signs are not the same event.
        let mut again: VecDeque<(String, bool)> = VecDeque::new();
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        while !*stop.borrow() {
            tick.tick().await;
            let mut door = Vec::new();
            for _ in 0..rate / 10 {
                let sent_before = if rng.random_bool(0.04) { again.pop_front() } else { None };
                let (event, to_door) = match sent_before {
                    Some(sent) => sent,
                    None => {
                        (events.lines.next().expect("the simulator goes on").unwrap(), rng.random_bool(0.4))
                    }
                };
                if rng.random_bool(0.03) {
                    again.push_back((event.clone(), to_door));
                    // Soon: who sends something again after ten minutes sends something new.
                    again.drain(..again.len().saturating_sub(MOST_AGAIN));
                }
                let event = if rng.random_bool(0.005) { with_a_token(&event) } else { event };
                if to_door {
                    door.push(event);
                } else {
                    self.produce(event, &mut rng).await;
                }
                if rng.random_bool(0.01) {
                    self.produce_invalid(&event_that_is_none(&mut rng)).await;
                }
            }
            if !door.is_empty() {
                self.post(door).await;
            }
        }
        // Everything is answered when all places are free.
        let _ = self.places.acquire_many(PLACES).await.unwrap();
    }

    fn sent(&self, id: &str) {
        self.ledger.lock().unwrap().events.entry(id.to_owned()).or_default();
    }

    fn failed(&self, said: String) {
        let mut ledger = self.ledger.lock().unwrap();
        ledger.door_requests_failed += 1;
        ledger.door_said = said;
    }

    fn acknowledged(&self, id: &str) {
        self.ledger.lock().unwrap().events.entry(id.to_owned()).or_default().acknowledged = true;
    }

    /// Posts in the background until the door takes it, as a gateway would: the same ids again.
    async fn post(&self, events: Vec<String>) {
        let place = Arc::clone(&self.places).acquire_many_owned(32).await.unwrap();
        let sender = self.clone();
        background(async move {
            let ids: Vec<String> = events.iter().map(|event| id_of(event)).collect();
            let body = events.join("\n");
            ids.iter().for_each(|id| sender.sent(id));
            loop {
                let request = sender.http.post(&sender.url).bearer_auth(House::ingest_key());
                let request = request.header("content-type", "application/x-ndjson").body(body.clone());
                match request.send().await {
                    Ok(response) if response.status() == 202 => break,
                    Ok(response) if response.status().is_client_error() => {
                        panic!("the door refuses: {:?}", response.text().await)
                    }
                    // It is down, or the log is: some of it may have arrived all the same.
                    Ok(response) => sender.failed(response.text().await.unwrap_or_default()),
                    Err(error) => sender.failed(format!("{error:?}")),
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            ids.iter().for_each(|id| sender.acknowledged(id));
            drop(place);
        });
    }

    async fn produce(&self, event: String, rng: &mut StdRng) {
        let id = id_of(&event);
        self.sent(&id);
        let key = match rng.random_range(0..12) {
            0..6 => Some(key_of(&event)),
            6..11 => None,
            // Somebody hashes otherwise than Kafka does.
            _ => Some(format!("somebody-{}", rng.random_range(0..1_000))),
        };
        let sender = self.clone();
        self.produce_record(event, key, move |_| sender.acknowledged(&id)).await;
    }

    async fn produce_invalid(&self, text: &str) {
        let ledger = Arc::clone(&self.ledger);
        self.produce_record(text.to_owned(), None, move |place| ledger.lock().unwrap().invalid.push(place))
            .await;
    }

    async fn produce_record(
        &self,
        value: String,
        key: Option<String>,
        kept: impl FnOnce((i32, i64)) + Send + 'static,
    ) {
        let place = Arc::clone(&self.places).acquire_owned().await.unwrap();
        let sender = self.clone();
        background(async move {
            let mut record = FutureRecord::<String, String>::to(TOPIC).payload(&value);
            if let Some(key) = &key {
                record = record.key(key);
            }
            match sender.producer.send(record, Duration::from_secs(60)).await {
                Ok(delivery) => kept((delivery.partition, delivery.offset)),
                Err(_) => sender.ledger.lock().unwrap().records_failed += 1,
            }
            drop(place);
        });
    }
}

fn parsed(event: &str) -> Value {
    serde_json::from_str(event).unwrap()
}

fn id_of(event: &str) -> String {
    parsed(event)["id"].as_str().unwrap().to_owned()
}

fn key_of(event: &str) -> String {
    let event = parsed(event);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{}\u{1f}{}", text(&event["tenant"]), text(&event["token"]["sub"]))
}

fn with_a_token(event: &str) -> String {
    let mut event = parsed(event);
    event["request"]["user_agent"] = format!("curl/8 Bearer {TOKEN}").into();
    event.to_string()
}

fn event_that_is_none(rng: &mut StdRng) -> String {
    match rng.random_range(0..4) {
        0 => "no JSON".to_owned(),
        1 => r#"{"version":2,"id":"018f0000-0000-7000-8000-000000000001"}"#.to_owned(),
        2 => r#"{"version":1,"kind":"stolen"}"#.to_owned(),
        _ => String::new(),
    }
}
