//! Key sets from a real server: one that answers well, badly, slowly, elsewhere or not at all.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::clock::Clock;
use crate::config::{Issuer, JwksSource, JwksUrl, Secret};
use crate::lifecycle::{Lifecycle, Phase};
use crate::log::Batch;
use crate::model::{Offset, PartitionId, UnixMs};
use crate::outbound::Timeouts;
use crate::pipeline::decode::decode;
use crate::pipeline::verify::{Trust, verify};
use crate::telemetry::{Metrics, Readiness};

/// The first time of the tests' clock.
const T0: i64 = 1_795_428_000_000;
const ISS: &str = "https://id.example/acme";

/// An EC key with this kid.
fn key(kid: &str) -> String {
    format!(
        r#"{{"kid": "{kid}", "kty": "EC", "crv": "P-256", "alg": "ES256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}}"#
    )
}

fn jwks(kids: &[&str]) -> String {
    let keys: Vec<_> = kids.iter().map(|kid| key(kid)).collect();
    format!(r#"{{"keys": [{}]}}"#, keys.join(","))
}

/// What the server does with one request.
#[derive(Clone, Debug)]
enum Reply {
    Json(String),
    Status(u16),
    Redirect(&'static str),
    /// A body without an end.
    Endless,
    /// Sends a part of the body and says no more.
    Stalls,
    /// Says nothing at all.
    Hangs,
    Dies,
}

struct Script {
    /// With the next requests, one each.
    next: VecDeque<Reply>,
    /// With those after that.
    then: Reply,
    requests: usize,
}

/// A server of key sets; it ends with the test's runtime.
struct Server {
    at: SocketAddr,
    script: Arc<Mutex<Script>>,
}

impl Server {
    async fn start(then: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(Script { next: VecDeque::new(), then, requests: 0 }));
        let server = Self { at, script: Arc::clone(&script) };
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
                tokio::spawn(answer(connection, Arc::clone(&script)));
            }
        });
        server
    }

    fn url(&self) -> String {
        format!("http://{}/keys", self.at)
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    fn requests(&self) -> usize {
        self.script().requests
    }

    fn publish(&self, kids: &[&str]) {
        self.script().then = Reply::Json(jwks(kids));
    }
}

/// One request a connection.
async fn answer(mut connection: TcpStream, script: Arc<Mutex<Script>>) -> std::io::Result<()> {
    let mut head = [0; 4_096];
    let length = connection.read(&mut head).await?;
    assert!(head[..length].starts_with(b"GET /keys HTTP/1.1\r\n"));
    let reply = {
        let mut script = script.lock().unwrap();
        script.requests += 1;
        script.next.pop_front().unwrap_or_else(|| script.then.clone())
    };
    let write =
        |head: &str, body: &str| format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n{body}").into_bytes();
    let whole = match &reply {
        Reply::Json(json) => write("200 OK\r\nContent-Type: application/json", json),
        Reply::Status(status) => write(&format!("{status} Said So"), &jwks(&["planted"])),
        Reply::Redirect(to) => write(&format!("302 Found\r\nLocation: {to}"), ""),
        Reply::Endless | Reply::Stalls => write("200 OK", "{\"keys\": [ "),
        Reply::Hangs | Reply::Dies => Vec::new(),
    };
    connection.write_all(&whole).await?;
    match reply {
        Reply::Endless => loop {
            connection.write_all(&[b' '; 1 << 16]).await?;
        },
        Reply::Stalls | Reply::Hangs => std::future::pending().await,
        _ => Ok(()),
    }
}

/// What a keeper needs, and where it publishes.
struct Stage {
    folder: TempDir,
    now: Arc<AtomicI64>,
    pace: Pace,
    refresh: Duration,
    allow_private: bool,
    metrics: Metrics,
    readiness: Readiness,
}

/// A keeper at work, until it is dropped or ended.
struct Kept {
    published: Arc<arc_swap::ArcSwap<Trust>>,
    lifecycle: Lifecycle,
}

impl Stage {
    fn new() -> Self {
        let brief = Duration::from_millis(20);
        Self {
            folder: tempfile::tempdir().unwrap(),
            now: Arc::new(AtomicI64::new(T0)),
            pace: Pace {
                look: Duration::from_millis(2),
                after_a_miss: Duration::ZERO,
                after_a_failure: brief,
                timeouts: Timeouts {
                    connect: Duration::from_millis(200),
                    answer: Duration::from_millis(200),
                },
            },
            refresh: brief,
            allow_private: true,
            metrics: Metrics::new(),
            readiness: Readiness::default(),
        }
    }

    fn keeper(&self, url: &str) -> Keeper {
        let jwks =
            JwksUrl { url: url.parse().unwrap(), refresh: self.refresh, allow_private: self.allow_private };
        let issuers = [Issuer {
            iss: ISS.to_owned(),
            tenant: "acme".parse().unwrap(),
            jwks: Some(JwksSource::Url(jwks)),
            subject_space: None,
            preset: None,
            clients_match: None,
            max_lifetime: None,
        }];
        let door = crate::keys::door(&Secret::new("the ingest key".to_owned()));
        let base = Trust::build(&issuers, &HashMap::new(), &[], door).unwrap();
        let clock = Clock::Manual(Arc::clone(&self.now));
        Keeper::open(base, &issuers, self.folder.path(), self.pace, &clock).unwrap()
    }

    async fn start(&self, url: &str) -> Kept {
        let keeper = self.keeper(url);
        let (published, lifecycle) = (keeper.published(), Lifecycle::new(Duration::from_secs(5)));
        keeper.start(&lifecycle, &self.metrics, &self.readiness).await;
        Kept { published, lifecycle }
    }

    fn pass(&self, time: Duration) {
        self.now.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
    }

    /// What `/readyz` says of the issuer's keys.
    fn ready(&self) -> Result<(), String> {
        self.readiness.now().remove(&format!("keys of {ISS}")).unwrap().map(drop)
    }

    fn fetches(&self, result: &'static str) -> u64 {
        self.metrics.key_sets_fetched.get_or_create(&crate::telemetry::ByResult { result }).get()
    }
}

impl Kept {
    /// The verdict of a use that was let through at [`T0`] and so much, its token signed by the key `kid`.
    fn verdict(&self, kid: &str, after: Duration) -> &'static str {
        let time = UnixMs::new(T0) + after;
        let value = format!(
            r#"{{"version":1,"id":"019aaf5e-2f7b-7c3a-9d1e-3b6f0c9a1e42","kind":"accepted","tenant":"acme",
            "time":"{time}","source":{{"gateway":"edge-1","zone":"edge"}},"gateway_verdict":"valid",
            "token":{{"ref":"hXRBD-Nn5X-eJxvdPiVIgD3BO2zeDFieuabZ9gBx9Kc","iss":"{ISS}","sub":"alice","kid":"{kid}"}},
            "request":{{"ip":"203.0.113.7"}}}}"#
        );
        let mut batch = Batch::default();
        batch.clear(PartitionId(0));
        batch.push(Offset::ZERO, time, None, value.as_bytes(), []);
        let record = batch.iter().next().unwrap();
        let decoded = decode(&record, &crate::pipeline::store::testing::bounds()).unwrap();
        verify(decoded, &record, &self.published.load()).verdict.as_str()
    }

    fn now(&self, kid: &str) -> &'static str {
        self.verdict(kid, Duration::ZERO)
    }

    async fn end(self) {
        self.lifecycle.advance(Phase::Draining);
        assert_eq!(self.lifecycle.finish().await, Vec::<String>::new());
    }
}

/// Waits for `met`; a test that waits in vain ends with the harness' patience.
async fn until(mut met: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !met() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.expect("what is waited for comes");
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_set_is_there_before_anything_is_walked_and_follows_its_issuer() {
    let server = Server::start(Reply::Json(jwks(&["k1"]))).await;
    let stage = Stage::new();
    let kept = stage.start(&server.url()).await;
    assert_eq!((kept.now("k1"), kept.now("k2")), ("valid", "unknown_key"));
    assert_eq!(stage.ready(), Ok(()));
    let name = kept.published.load().name().to_owned();

    server.publish(&["k1", "k2"]);
    until(|| kept.now("k2") == "valid").await;
    assert_ne!(kept.published.load().name(), name, "the block's line tells the snapshots apart");

    // The same again is no new snapshot.
    let (snapshot, unchanged) = (kept.published.load_full(), stage.fetches("unchanged"));
    until(|| stage.fetches("unchanged") > unchanged + 2).await;
    assert!(Arc::ptr_eq(&snapshot, &kept.published.load_full()));
    kept.end().await;
}

#[tokio::test]
async fn a_key_that_is_gone_was_good_until_then() {
    let server = Server::start(Reply::Json(jwks(&["k1"]))).await;
    let stage = Stage::new();
    let kept = stage.start(&server.url()).await;
    stage.pass(HOUR);
    server.publish(&["k2"]);
    until(|| kept.now("k2") == "valid").await;
    assert_eq!(kept.verdict("k1", HOUR - Duration::from_millis(1)), "valid");
    assert_eq!(kept.verdict("k1", HOUR), "key_retired");
    // It may come back.
    server.publish(&["k1", "k2"]);
    until(|| kept.verdict("k1", HOUR) == "valid").await;
    kept.end().await;
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_at_once_but_seldom() {
    let server = Server::start(Reply::Json(jwks(&["k1"]))).await;
    let after_a_miss = Duration::from_millis(50);
    let pace = Pace { after_a_miss, ..Stage::new().pace };
    let stage = Stage { refresh: HOUR, pace, ..Stage::new() };
    let began = tokio::time::Instant::now();
    let kept = stage.start(&server.url()).await;
    assert_eq!((server.requests(), kept.now("k1")), (1, "valid"));
    server.publish(&["k1", "k2"]);
    assert_eq!(kept.now("k2"), "unknown_key", "the walk does not wait");
    until(|| kept.now("k2") == "valid").await;
    assert_eq!(server.requests(), 2);
    // Anybody can make up a kid, as many as he likes.
    until(|| kept.now("made-up") == "unknown_key" && server.requests() == 6).await;
    assert!(began.elapsed() >= after_a_miss * 4);
    kept.end().await;
}

#[tokio::test]
async fn whatever_is_answered_the_set_that_was_there_stays() {
    let server = Server::start(Reply::Json(jwks(&["k1"]))).await;
    let stage = Stage::new();
    let kept = stage.start(&server.url()).await;
    let private = jwks(&["planted"]).replace("\"kty\"", "\"d\": \"AQAB\", \"kty\"");
    let broken = [
        Reply::Status(500),
        Reply::Status(404),
        Reply::Status(206),
        Reply::Redirect("http://169.254.169.254/latest/meta-data/"),
        Reply::Endless,
        Reply::Stalls,
        Reply::Hangs,
        Reply::Dies,
        Reply::Json(String::new()),
        Reply::Json("<html>".to_owned()),
        Reply::Json(r#"{"keys": {}}"#.to_owned()),
        Reply::Json(r#"{"keys": []}"#.to_owned()),
        Reply::Json(
            r#"{"keys": [{"kid": "k9", "kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"}]}"#.to_owned(),
        ),
        Reply::Json("[".repeat(100_000)),
        Reply::Json(format!(r#"{{"keys": [{}0]}}"#, "0,".repeat(1_000))),
        Reply::Json(private),
    ];
    for reply in broken {
        let (kept_before, said) = (stage.fetches("kept"), format!("{reply:?}"));
        server.script().then = reply;
        until(|| stage.fetches("kept") > kept_before + 1).await;
        assert_eq!((kept.now("k1"), kept.now("planted")), ("valid", "unknown_key"), "{said}");
        assert_eq!(stage.ready(), Ok(()));
    }
    server.publish(&["k2"]);
    until(|| kept.now("k2") == "valid").await;
    kept.end().await;
}

#[tokio::test]
async fn after_a_day_without_an_answer_no_key_is_known() {
    let server = Server::start(Reply::Json(jwks(&["k1"]))).await;
    let stage = Stage::new();
    let kept = stage.start(&server.url()).await;
    server.script().then = Reply::Status(503);
    let failed = stage.fetches("kept");
    until(|| stage.fetches("kept") > failed).await;
    let name = kept.published.load().name().to_owned();
    stage.pass(24 * HOUR);
    let failed = stage.fetches("kept");
    until(|| stage.fetches("kept") > failed + 1).await;
    assert_eq!((kept.now("k1"), stage.ready()), ("valid", Ok(())));

    stage.pass(Duration::from_millis(1));
    until(|| kept.now("k1") == "unknown_key").await;
    until(|| stage.ready().is_err()).await;
    expect_test::expect![[r#"its key set was fetched at 2026-11-23T10:00:00.000Z, more than 24 h ago: every key of it counts as unknown"#]]
        .assert_eq(&stage.ready().unwrap_err());
    assert_eq!(stage.metrics.key_sets_unknown.get(), 1);
    assert_ne!(kept.published.load().name(), name);

    server.publish(&["k1"]);
    until(|| kept.now("k1") == "valid" && stage.ready().is_ok()).await;
    assert_eq!(stage.metrics.key_sets_unknown.get(), 0);
    assert_eq!(kept.published.load().name(), name, "two that judge alike have one name");
    kept.end().await;
}

#[tokio::test]
async fn a_restart_without_a_network_knows_the_keys_for_the_rest_of_the_day() {
    let server = Server::start(Reply::Json(jwks(&["k1"]))).await;
    let (url, mut stage) = (server.url(), Stage::new());
    let kept = stage.start(&url).await;
    let name = kept.published.load().name().to_owned();
    kept.end().await;

    server.script().then = Reply::Dies;
    stage.pass(23 * HOUR);
    let kept = stage.start(&url).await;
    assert_eq!((kept.now("k1"), kept.published.load().name()), ("valid", name.as_str()));
    kept.end().await;

    // What was fetched from elsewhere is not this one.
    let kept = stage.start(&url.replace("/keys", "/keys?of=others")).await;
    assert_eq!(kept.now("k1"), "unknown_key");
    kept.end().await;

    stage.pass(2 * HOUR);
    let kept = stage.start(&url).await;
    assert_eq!(kept.now("k1"), "unknown_key");
    assert!(stage.ready().is_err());
    kept.end().await;

    // A clock that was far ahead when the set was fetched makes it no younger.
    stage.now.store(T0 - 3_600_000, Ordering::Relaxed);
    let kept = stage.start(&url).await;
    assert_eq!(kept.now("k1"), "unknown_key");
    kept.end().await;

    // A file that was cut is no reason not to start.
    for file in std::fs::read_dir(stage.folder.path()).unwrap() {
        std::fs::write(file.unwrap().path(), "{\"iss\": ").unwrap();
    }
    stage.now.store(T0, Ordering::Relaxed);
    server.publish(&["k3"]);
    stage.refresh = HOUR;
    let kept = stage.start(&url).await;
    assert_eq!(kept.now("k3"), "valid");
    kept.end().await;
}

#[tokio::test]
async fn without_leave_nothing_private_is_asked() {
    let server = Server::start(Reply::Json(jwks(&["k1"]))).await;
    let stage = Stage { allow_private: false, ..Stage::new() };
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost", "0x7f.1"] {
        let url = format!("http://{host}:{}/keys", server.at.port());
        let tried = stage.keeper(&url).try_each().await;
        let [(iss, Err(error))] = tried.as_slice() else { panic!("{tried:?}") };
        assert_eq!(iss, ISS);
        assert!(error.to_string().contains("it has no public address"), "{host}: {error}");
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_failure_says_what_happened_and_quotes_nothing() {
    let server = Server::start(Reply::Dies).await;
    let stage = Stage::new();
    let mut told = Vec::new();
    for reply in [
        Reply::Status(500),
        Reply::Redirect("http://169.254.169.254/"),
        Reply::Endless,
        Reply::Hangs,
        Reply::Json("\"a secret of another server\"".to_owned()),
        Reply::Json("{\"keys\": \"a secret of another server\"}".to_owned()),
        Reply::Json(r#"{"keys": []}"#.to_owned()),
    ] {
        server.script().then = reply;
        let tried = stage.keeper(&server.url()).try_each().await;
        let [(_, Err(error))] = tried.as_slice() else { panic!("{tried:?}") };
        told.push(format!("{}: {error}", error.code()));
    }
    expect_test::expect![[r#"
        jwks_refused: it answered 500: write the URL that answers 200 itself, redirects are not followed
        jwks_refused: it answered 302: write the URL that answers 200 itself, redirects are not followed
        jwks_too_large: its answer is larger than 1 MiB
        jwks_unreachable: it cannot be reached: it did not answer in time
        jwks_malformed: its answer is not a JWK set (a JSON object with an array `keys`, RFC 7517 section 5): line 1, column 28
        jwks_malformed: its answer is not a JWK set (a JSON object with an array `keys`, RFC 7517 section 5): line 1, column 37
        jwks_empty: its answer has no key that signs and can be used"#]].assert_eq(&told.join("\n"));
    assert_eq!(std::fs::read_dir(stage.folder.path()).unwrap().count(), 0, "a try keeps nothing");
}
