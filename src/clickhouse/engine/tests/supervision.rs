//! What happens when the engine dies, or its parent does, and who waits for whom.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use super::*;

/// Not a test: a parent that is there to be killed. It starts an engine in the directory that stdin names.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the parent that a test kills"]
async fn doomed_parent() {
    let mut directory = String::new();
    std::io::stdin().read_line(&mut directory).unwrap();
    let lifecycle = Lifecycle::new(Duration::from_secs(10));
    let options = options(directory.trim().into());
    let engine = Engine::start_as(launch("child_process"), options, &lifecycle).await.unwrap();
    println!("\nengine {:?}", engine.state());
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_engine_comes_back_with_every_acknowledged_row() {
    let test = TestEngine::start().await;
    test.full("CREATE TABLE jwtrail.t (a UInt64) ENGINE = MergeTree ORDER BY a").await;
    let mut acknowledged = 0_u64;
    for round in 0..3 {
        let pid = test.pid();
        let insert = |from: u64| {
            let rows: String = (from..from + 1000).map(|row| format!("{row}\n")).collect();
            let query = "query=INSERT+INTO+jwtrail.t+FORMAT+TSV";
            test.post(query).basic_auth("jwtrail", Some(JWTRAIL_PASSWORD)).body(rows).send()
        };
        for _ in 0..5 {
            assert_eq!(insert(acknowledged).await.unwrap().status(), 200);
            acknowledged += 1000;
        }
        // One more is under way when the engine dies; its fate is open, but it is told only if it is there.
        let (last, ()) = tokio::join!(insert(acknowledged), async { kill_9(pid) });
        if last.is_ok_and(|response| response.status() == 200) {
            acknowledged += 1000;
        }
        let back = async || matches!(test.engine.state(), EngineState::Up { pid: new } if new != pid);
        eventually("the engine is back", back).await;
        let found = test.full(&format!("SELECT uniqExact(a) FROM jwtrail.t WHERE a < {acknowledged}")).await;
        assert_eq!(found, format!("{acknowledged}\n"), "round {round}");
        let check = test.full("CHECK TABLE jwtrail.t SETTINGS check_query_single_value_result = 1").await;
        assert_eq!(check, "1\n");
        test.full(&format!(
            "ALTER TABLE jwtrail.t DELETE WHERE a >= {acknowledged} SETTINGS mutations_sync = 1"
        ))
        .await;
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_ends_with_its_killed_parent_and_the_next_waits_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("clickhouse");
    let Launch { program, arguments } = launch("supervision::doomed_parent");
    let mut parent = std::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = parent.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, format!("{}\n", data.display()).as_bytes()).unwrap();
    let stdout = BufReader::new(parent.stdout.take().unwrap());
    let child = stdout
        .lines()
        .find_map(|line| {
            let line = line.unwrap();
            line.strip_prefix("engine Up { pid: ")?.strip_suffix(" }")?.parse::<u32>().ok()
        })
        .expect("the parent started an engine");
    assert!(lives(child));
    parent.kill().unwrap();
    parent.wait().unwrap();
    // At once, while the old engine may still be on its way out.
    let lifecycle = Lifecycle::new(Duration::from_secs(10));
    let engine = Engine::start_as(launch("child_process"), options(data), &lifecycle).await.unwrap();
    assert!(!lives(child), "the new engine has the lock, so the old one is gone");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_stops_in_order_when_nobody_needs_it() {
    let test = TestEngine::start().await;
    let pid = test.pid();
    test.full("CREATE TABLE jwtrail.t (a UInt64) ENGINE = MergeTree ORDER BY a").await;
    test.full("INSERT INTO jwtrail.t VALUES (1)").await;
    let TestEngine { engine, lifecycle, directory, .. } = test;
    // Draining alone leaves it running: the pipeline still stores.
    lifecycle.advance(Phase::Draining);
    assert!(matches!(engine.state(), EngineState::Up { .. }) && lives(pid));
    drop(engine);
    assert!(lifecycle.finish().await.is_empty());
    assert!(!lives(pid));

    let lifecycle = Lifecycle::new(Duration::from_secs(10));
    let options = options(directory.path().join("clickhouse"));
    let engine = Engine::start_as(launch("child_process"), options, &lifecycle).await.unwrap();
    let client = clickhouse::Client::default().with_url(engine.url()).with_user("jwtrail");
    let client = client.with_password(JWTRAIL_PASSWORD);
    assert_eq!(client.query("SELECT count() FROM jwtrail.t").fetch_one::<u64>().await.unwrap(), 1);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_ever_for_a_query() {
    let test = TestEngine::start().await;
    let pid = test.pid();
    let endless = "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))";
    let running =
        "SELECT count() FROM system.processes WHERE query LIKE '%sipHash%' AND query NOT LIKE '%processes%'";
    let (answer, ()) = tokio::join!(test.as_full("max_threads=1", endless), async {
        eventually("it runs", async || test.full(running).await == "1\n").await;
        test.engine.stop().await;
    });
    assert_eq!(header(&answer, "x-clickhouse-exception-code"), "394");
    assert!(!lives(pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_be_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let lifecycle = Lifecycle::new(Duration::from_secs(10));
    let start = async |options| {
        Engine::start_as(launch("child_process"), options, &lifecycle).await.map(drop).unwrap_err()
    };
    let mut missing = options(directory.path().join("a"));
    missing.library = Some(directory.path().join("libchdb.so"));
    let error = start(missing).await;
    assert_eq!(error.code(), "engine_library_missing");
    assert!(error.to_string().contains("npm ci"), "{error}");

    let mut broken = options(directory.path().join("b"));
    broken.library = Some(directory.path().join("libchdb.so"));
    std::fs::write(directory.path().join("libchdb.so"), "no library").unwrap();
    assert_eq!(start(broken).await.code(), "engine_library_broken");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut busy = options(directory.path().join("c"));
    busy.listen = taken.local_addr().unwrap();
    let error = start(busy).await;
    assert_eq!(error.code(), "engine_listen");
    assert!(error.to_string().contains(&taken.local_addr().unwrap().to_string()), "{error}");
    std::fs::write(directory.path().join("d"), "a file").unwrap();
    assert_eq!(start(options(directory.path().join("d"))).await.code(), "engine_directory");
}
