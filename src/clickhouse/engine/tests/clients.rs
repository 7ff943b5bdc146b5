//! The clients that JWTrail and its users have: the `clickhouse` crate, and Python's `clickhouse-connect`.

use std::path::Path;
use std::process::Command;

use clickhouse::Row;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Row, Serialize, Deserialize, Debug, PartialEq, Clone)]
struct Line {
    id: u64,
    text: String,
    tags: Vec<String>,
    score: Option<f64>,
}

fn line(id: u64) -> Line {
    Line {
        id,
        text: format!("line\n\n{id} \0 \\ '"),
        tags: vec!["a".to_owned(), id.to_string()],
        score: id.is_multiple_of(2).then_some(0.5),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clickhouse_crate_queries_and_inserts() {
    let test = TestEngine::start().await;
    let columns = "id UInt64, text String, tags Array(String), score Nullable(Float64)";
    test.full(&format!("CREATE TABLE jwtrail.lines ({columns}) ENGINE = MergeTree ORDER BY id")).await;
    for compression in [clickhouse::Compression::Lz4, clickhouse::Compression::None] {
        let client = test.client().with_compression(compression);
        let mut insert = client.insert::<Line>("lines").await.unwrap();
        for id in 0..50_000 {
            insert.write(&line(id)).await.unwrap();
        }
        insert.end().await.unwrap();
        let lines = client.query("SELECT ?fields FROM lines ORDER BY id").fetch_all::<Line>().await.unwrap();
        assert!(lines.len() == 50_000 && lines.iter().zip(0..).all(|(found, id)| *found == line(id)));
        let id = client
            .query("SELECT id FROM lines WHERE text = {text:String} AND id = ?")
            .param("text", line(3).text)
            .bind(3)
            .fetch_one::<u64>()
            .await
            .unwrap();
        assert_eq!(id, 3);
        client.query("TRUNCATE TABLE lines").execute().await.unwrap();
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clickhouse_crate_is_told_of_errors() {
    let test = TestEngine::start().await;
    let error = test.client().query("SELECT nope").fetch_one::<u8>().await.unwrap_err().to_string();
    assert!(error.contains("Code: 47."), "{error}");
    for compression in [clickhouse::Compression::Lz4, clickhouse::Compression::None] {
        let client = test.client().with_compression(compression);
        let mut rows = client
            .query("SELECT throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_block_size = 1000")
            .fetch::<u8>()
            .unwrap();
        let mut count = 0;
        let error = loop {
            match rows.next().await {
                Ok(Some(_)) => count += 1,
                Ok(None) => panic!("the error was lost after {count} rows"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(count > 0, "rows came before the error");
        assert!(error.contains("Code: 395."), "{error}");
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clickhouse_connect_queries_and_inserts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/python/bin/python");
    assert!(python.exists(), "no {}: run `make test-deps`", python.display());
    let test = TestEngine::start().await;
    let output = Command::new(python)
        .arg(root.join("src/clickhouse/engine/tests/connect.py"))
        .arg(test.engine.url().rsplit_once(':').unwrap().1)
        .args([JWTRAIL_PASSWORD, ANALYST_PASSWORD])
        .output()
        .unwrap();
    let (printed, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}{errors}");
    assert!(printed.ends_with("all is well\n"), "{printed}");
    test.stop().await;
}
