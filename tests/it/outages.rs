//! ClickHouse fails in every way that it has: the pipeline pauses, `/readyz` says why, and it goes on by itself with every
//! row there once.
//!
//! Two fronts stand before a real engine: one answers with ClickHouse's own errors, and before it one spoils the wire.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, Response, StatusCode, Uri};
use serde_json::Value;

use crate::app::{Running, TestApp, wait_for};
use crate::attacks::accepted;
use crate::faults::proxy::{Proxy, Weather};
use crate::faults::{background, setting};
use crate::kafka::free_port;

/// A way to fail.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Every statement whose text has this is answered with this error.
    Code(u32, &'static str, &'static str),
    Wire(Weather),
}

/// Each with what the partition must say of it.
const PASSING: [(Fault, &str); 9] = [
    (Fault::Code(241, "MEMORY_LIMIT_EXCEEDED", "INSERT"), "Code: 241."),
    (Fault::Code(202, "TOO_MANY_SIMULTANEOUS_QUERIES", ""), "Code: 202."),
    (Fault::Code(252, "TOO_MANY_PARTS", "INSERT"), "Code: 252."),
    (Fault::Code(243, "NOT_ENOUGH_SPACE", "INSERT"), "Code: 243."),
    (Fault::Code(242, "TABLE_IS_READ_ONLY", "INSERT"), "Code: 242."),
    (Fault::Code(159, "TIMEOUT_EXCEEDED", ""), "Code: 159."),
    (Fault::Wire(Weather::Refused), "cannot be reached or cannot answer now"),
    (Fault::Wire(Weather::Silent), "cannot be reached or cannot answer now"),
    // Rows are stored, and nobody hears of it.
    (Fault::Wire(Weather::Deaf), "cannot be reached or cannot answer now"),
];

/// Somebody has to mend these: the text says how.
const LASTING: [(Fault, &str); 2] = [
    (Fault::Code(516, "AUTHENTICATION_FAILED", ""), "(code 516)"),
    (Fault::Code(60, "UNKNOWN_TABLE", "INSERT"), "(code 60)"),
];
const WHAT_TO_DO: &str = "see `jwtrail check`, run `jwtrail migrate`";

/// What answers in the engine's place while there is a fault.
#[derive(Clone)]
struct Front {
    engine: SocketAddr,
    fault: Arc<Mutex<Option<Fault>>>,
    http: reqwest::Client,
}

impl Front {
    async fn start(engine: SocketAddr) -> (Self, SocketAddr) {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let front = Self { engine, fault: Arc::default(), http: reqwest::Client::new() };
        let routes =
            Router::new().fallback(answer).layer(DefaultBodyLimit::disable()).with_state(front.clone());
        background(async move { axum::serve(listener, routes).await.unwrap() });
        (front, address)
    }
}

async fn answer(
    State(front): State<Front>,
    method: Method,
    uri: Uri,
    headers: axum::http::HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let fault = *front.fault.lock().unwrap();
    if let Some(Fault::Code(code, name, within)) = fault
        && uri.to_string().contains(within)
    {
        let text = format!("Code: {code}. DB::Exception: As somebody wished. ({name})\n");
        let answer = Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR);
        let answer = answer.header("x-clickhouse-exception-code", code.to_string());
        return answer.body(text.into()).unwrap();
    }
    let url = format!("http://{}{uri}", front.engine);
    let mut request = front.http.request(method, url).body(body);
    for (name, value) in headers.iter().filter(|(name, _)| {
        name.as_str().starts_with("x-")
            || *name == "authorization"
            || *name == "content-type"
            || *name == "content-encoding"
    }) {
        request = request.header(name, value);
    }
    let answered = request.send().await.unwrap();
    let mut answer = Response::builder().status(answered.status());
    for (name, value) in answered.headers().iter().filter(|(name, _)| name.as_str().starts_with("x-")) {
        answer = answer.header(name, value);
    }
    answer.body(answered.bytes().await.unwrap().into()).unwrap()
}

/// An `up` whose ClickHouse fails at will.
struct House {
    app: TestApp,
    up: Running,
    front: Front,
    wire: Proxy,
    /// Its engine serves the other one; its own log is empty.
    lender: TestApp,
    _lender: Running,
    sent: usize,
}

impl House {
    async fn start() -> Self {
        let lender = TestApp::new("");
        let running = lender.up().await;
        let (front, address) = Front::start(lender.clickhouse).await;
        let wire = Proxy::start(free_port(), address).await;
        let waits = "answer_within = \"2s\"\ninsert_within = \"2s\"";
        let app = TestApp::behind(wire.address, &lender, waits);
        let up = app.up().await;
        Self { app, up, front, wire, lender, _lender: running, sent: 0 }
    }

    fn set(&self, fault: Option<Fault>) {
        let weather = if let Some(Fault::Wire(weather)) = fault { weather } else { Weather::Clear };
        *self.front.fault.lock().unwrap() = fault;
        self.wire.set(weather);
    }

    /// The door takes them whatever ClickHouse does.
    async fn send(&mut self, events: usize) {
        let event = |number: usize| {
            let mut event =
                accepted(&format!("user-{}", number % 100), &number.to_string(), "203.0.113.7", "Firefox");
            event["id"] = format!("event-{number}").into();
            event
        };
        let batch: Vec<Value> = (self.sent..self.sent + events).map(event).collect();
        let (status, answer) = self.app.post(&Value::from(batch).to_string()).await;
        assert_eq!(status, 202, "{answer}");
        self.sent += events;
    }

    async fn all_are_stored_once(&self) {
        let all = format!("{0}\t{0}", self.sent);
        self.lender.eventually("SELECT count(), uniqExact(event_id) FROM events", &all).await;
    }

    /// What partitions that stand say, or nothing if none does.
    async fn standing(&self) -> String {
        let conditions = self.app.conditions().await;
        let partitions =
            conditions.as_object().unwrap().iter().filter(|(name, _)| name.starts_with("partition"));
        partitions.map(|(name, says)| format!("{name}: {says}\n")).collect()
    }

    /// One outage: something comes, `/readyz` says why it stands, and once it is over everything goes on.
    async fn outage(&mut self, fault: Fault, words: &[&str]) {
        let began = Instant::now();
        self.set(Some(fault));
        self.send(20).await;
        let mut said = String::new();
        wait_for(&format!("/readyz to speak of {fault:?}"), async || {
            said = self.standing().await;
            words.iter().all(|words| said.contains(words)).then_some(())
        })
        .await;
        self.set(None);
        self.all_are_stored_once().await;
        wait_for("the partitions to go on", async || self.standing().await.is_empty().then_some(())).await;
        println!("{fault:?}: {:.1} s", began.elapsed().as_secs_f64());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_clickhouse_fails_with_the_pipeline_waits_and_goes_on() {
    let mut house = House::start().await;
    house.send(20).await;
    house.all_are_stored_once().await;
    for (fault, words) in PASSING {
        house.outage(fault, &[words]).await;
    }
    for (fault, words) in LASTING {
        house.outage(fault, &[words, WHAT_TO_DO]).await;
    }
    house.app.ready(&mut house.up).await;
    house.lender.assert_complete().await;
    assert!(house.up.stop().await.success());
}

/// What a process may hold beyond what it holds anyway: four full blocks, each of rows, and of the records' own values.
const MORE_MIB: u64 = 4 * (16 + 48);

/// `MINUTES=… RATE=… cargo test --test it outages::memory -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is to take minutes, and prints for reading"]
async fn memory_is_bounded_however_long_clickhouse_is_away() {
    let minutes = setting("MINUTES", 3);
    let rate = usize::try_from(setting("RATE", 1_000)).unwrap();
    let mut house = House::start().await;
    let mut most = 0;
    println!("second\tphase\tsent\trows\tresident_mib");
    let mut before = 0;
    let mut second = 0;
    for (phase, fault, lasts) in [
        ("before", None, 60),
        ("away", Some(Fault::Wire(Weather::Refused)), minutes * 60),
        ("after", None, 60),
    ] {
        house.set(fault);
        let until = Instant::now() + Duration::from_secs(lasts);
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        while Instant::now() < until {
            tick.tick().await;
            house.send(rate).await;
            most = most.max(house.up.resident_mib());
            second += 1;
            if second % 10 == 0 {
                let rows = house.lender.query("SELECT count() FROM events").await.unwrap_or_default();
                println!("{second}\t{phase}\t{}\t{rows}\t{}", house.sent, house.up.resident_mib());
            }
        }
        if fault.is_none() && before == 0 {
            before = most;
        }
    }
    house.all_are_stored_once().await;
    println!("resident: before {before} MiB, at most {most} MiB, at the end {} MiB", house.up.resident_mib());
    assert!(most <= before + MORE_MIB, "{most} MiB, {before} before");
    house.lender.assert_complete().await;
    assert!(house.up.stop().await.success());
}
