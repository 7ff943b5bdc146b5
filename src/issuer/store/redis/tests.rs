//! Redis, single and Cluster, keeps the contract; what it must stand beyond that: restarts, cuts, TLS, a wrong set-up.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::clock::Clock;
use crate::config::Secret;
use crate::issuer::store::contract::{LEEWAY, UnderTest, begun, contract_suite, refresh};
use crate::issuer::store::server::{As, PASSWORD, Server, USER};

fn config(nodes: Vec<String>, is_cluster: bool) -> RedisConfig {
    RedisConfig { nodes, is_cluster, is_tls: false, ca: None, username: None, password: None }
}

/// Starting a server blocks.
async fn started(kind: As, options: &'static [&'static str]) -> Server {
    tokio::task::spawn_blocking(move || Server::start(kind, options)).await.unwrap()
}

async fn connected(server: &Server) -> Arc<Redis> {
    Redis::connect(&config(vec![server.address()], false)).await.unwrap()
}

struct Under {
    store: Arc<Redis>,
    config: RedisConfig,
}

impl Under {
    async fn new(config: RedisConfig) -> Self {
        Self { store: Redis::connect(&config).await.unwrap(), config }
    }

    async fn other(&self) -> Arc<dyn Store> {
        Redis::connect(&self.config).await.unwrap()
    }

    /// Redis' time is the machine's: it cannot be set, only waited for.
    async fn pass(span: Duration) {
        tokio::time::sleep(span + Duration::from_millis(5)).await;
    }
}

macro_rules! under_test {
    ($name:ident, $config:expr) => {
        struct $name(Under);

        #[async_trait]
        impl UnderTest for $name {
            const SPAN: Duration = Duration::from_secs(4);

            async fn open() -> Self {
                Self(Under::new(tokio::task::spawn_blocking(|| $config).await.unwrap()).await)
            }

            fn store(&self) -> Arc<dyn Store> {
                Arc::clone(&self.0.store) as Arc<dyn Store>
            }

            async fn other(&self) -> Arc<dyn Store> {
                self.0.other().await
            }

            fn now(&self) -> UnixMs {
                Clock::System.now()
            }

            async fn pass(&self, span: Duration) {
                Under::pass(span).await;
            }
        }
    };
}

mod single {
    use super::*;
    under_test!(Single, config(vec![Server::shared().address()], false));
    contract_suite!(Single);
}

mod cluster {
    use super::*;
    // One node is enough: it tells the others.
    under_test!(Cluster, config(vec![Server::shared_cluster()[0].address()], true));
    contract_suite!(Cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_were_forgotten_are_told_again() {
    let server = started(As::Alone, &[]).await;
    let store = connected(&server).await;
    let (id, _) = begun(&*store, Clock::System.now()).await;
    for generation in 1..5 {
        assert!(server.ask("SCRIPT FLUSH").starts_with("+OK"));
        let refreshed = refresh(&*store, &id, generation).await;
        assert!(matches!(refreshed, Refreshed::Advanced { .. }), "{refreshed:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_kill_9_of_redis() {
    let mut server = started(As::Alone, &[]).await;
    let store = connected(&server).await;
    let (id, _) = begun(&*store, Clock::System.now()).await;
    let (revoked, _) = begun(&*store, Clock::System.now()).await;
    assert!(matches!(refresh(&*store, &id, 1).await, Refreshed::Advanced { generation: 2, .. }));
    store.revoke_family(&revoked, None).await.unwrap();
    server.kill();
    for _ in 0..3 {
        let error = store.refresh(&id, 2, "shop", LEEWAY).await.unwrap_err();
        assert_eq!(error.code(), "store_unavailable");
        store.health().await.unwrap_err();
    }
    let server = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    });
    let server = server.await.unwrap();
    // The same instance finds it again, as soon as it has connected.
    while store.health().await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(refresh(&*store, &id, 2).await, Refreshed::Advanced { generation: 3, .. }));
    assert_eq!(refresh(&*store, &revoked, 1).await, Refreshed::Revoked);
    drop(server);
}

/// Carries to `server`; while `deaf`, what is sent arrives, and its answer is lost with the connection.
async fn proxy(server: String, deaf: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
    tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let (mut server, deaf) = (TcpStream::connect(&server).await.unwrap(), Arc::clone(&deaf));
            connections.spawn(async move {
                let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
                loop {
                    tokio::select! {
                        Ok(count @ 1..) = client.read(&mut up) => server.write_all(&up[..count]).await.unwrap(),
                        Ok(count @ 1..) = server.read(&mut down) => {
                            if deaf.swap(false, Ordering::SeqCst) || client.write_all(&down[..count]).await.is_err() {
                                return;
                            }
                        }
                        else => return,
                    }
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_whose_answer_was_lost_gets_the_same_successor() {
    let (server, deaf) = (started(As::Alone, &[]).await, Arc::new(AtomicBool::new(false)));
    let way = proxy(server.address(), Arc::clone(&deaf)).await;
    let store = Redis::connect(&config(vec![way], false)).await.unwrap();
    let (id, family) = begun(&*store, Clock::System.now()).await;
    refresh(&*store, &id, 1).await;
    for generation in 2..5 {
        deaf.store(true, Ordering::SeqCst);
        let lost = store.refresh(&id, generation, "shop", LEEWAY).await.unwrap_err();
        assert_eq!(lost.code(), "store_unavailable");
        let again = loop {
            match store.refresh(&id, generation, "shop", LEEWAY).await {
                Ok(again) => break again,
                Err(error) => assert_eq!(error.code(), "store_unavailable"),
            }
        };
        assert_eq!(again, Refreshed::Again { generation: generation + 1, family: family.clone() });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_call_sent_twice_is_made_once() {
    let server = started(As::Alone, &[]).await;
    let store = connected(&server).await;
    let (id, _) = begun(&*store, Clock::System.now()).await;
    let send = async |call: &str, generation: &str| {
        // No leeway: what the client library sends again must be told from what a client presents again.
        let args = [call, generation, "shop", "0", "1000"].map(str::as_bytes);
        let reply = store.run("refreshing", &script::REFRESH, &family_keys(&id), &args).await.unwrap();
        (reply.text(0).unwrap().to_owned(), reply.number(1))
    };
    for _ in 0..2 {
        assert_eq!(send("a", "1").await, ("advanced".to_owned(), Some(2)));
    }
    for _ in 0..2 {
        assert_eq!(send("b", "1").await, ("reused".to_owned(), Some(2)));
    }
    assert_eq!(send("c", "2").await, ("revoked".to_owned(), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_evicts_is_refused() {
    let server = started(As::Alone, &["--maxmemory-policy", "volatile-lru"]).await;
    let error = Redis::connect(&config(vec![server.address()], false)).await.map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "store_misconfigured");
    assert!(error.to_string().contains("set `maxmemory-policy noeviction`"), "{error}");
    server.ask("CONFIG SET maxmemory-policy noeviction");
    let store = connected(&server).await;
    server.ask("CONFIG SET maxmemory-policy allkeys-lru");
    assert_eq!(store.health().await.unwrap_err().code(), "store_misconfigured");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_and_a_password_let_in_whom_they_should() {
    let server = started(As::Secured, &[]).await;
    let good = RedisConfig {
        is_tls: true,
        ca: Some(server.ca()),
        username: Some(USER.to_owned()),
        password: Some(Secret::new(PASSWORD.to_owned())),
        ..config(vec![server.address()], false)
    };
    let store = Redis::connect(&good).await.unwrap();
    let (id, _) = begun(&*store, Clock::System.now()).await;
    assert!(matches!(refresh(&*store, &id, 1).await, Refreshed::Advanced { generation: 2, .. }));
    let wrong = Some(Secret::new("not-the-password".to_owned()));
    for (bad, code) in [
        (RedisConfig { password: wrong, ..good.clone() }, "store_misconfigured"),
        (RedisConfig { ca: None, ..good.clone() }, "store_unavailable"),
        (RedisConfig { is_tls: false, ca: None, ..good.clone() }, "store_unavailable"),
    ] {
        let error = Redis::connect(&bad).await.map(|_| ()).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        let text = error.to_string();
        assert!(!text.contains(PASSWORD) && !text.contains("not-the-password"), "{text}");
    }
}
