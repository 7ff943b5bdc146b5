//! ClickHouse's HTTP interface, word by word: what curl and the drivers rely on.

use std::io::Write as _;
use std::process::Command;

use super::super::compress::{Encoding, Packer, Packing, reader};
use super::*;

fn packed(packing: Packing, plain: &[u8]) -> Vec<u8> {
    let mut packer = Packer::new(packing).unwrap();
    let mut bytes = packer.pack(plain).unwrap();
    bytes.extend(packer.finish().unwrap());
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_queries_inserts_and_reads_errors() {
    let test = TestEngine::start().await;
    test.full("CREATE TABLE jwtrail.t (a UInt32, b String) ENGINE = MergeTree ORDER BY a").await;
    let curl = |arguments: &[&str], path: &str, expected: &str| {
        let url = format!("{}{path}", test.engine.url());
        let output = Command::new("curl").arg("-sS").args(arguments).arg(&url).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{path} {arguments:?}");
    };
    let login = format!("jwtrail:{JWTRAIL_PASSWORD}");
    curl(&[], "/ping", "Ok.\n");
    curl(&[], "/", "Ok.\n");
    curl(&["-u", &login], "/?query=SELECT+1%2B1", "2\n");
    curl(&["-u", &login, "-d", "SELECT {x:UInt8} + 1 FORMAT CSV"], "/?param_x=41", "42\n");
    curl(
        &["-u", &login, "--data-binary", "INSERT INTO t FORMAT TSV\n1\ta\n2\tb\n"],
        "/?database=jwtrail",
        "",
    );
    curl(&["-u", &login, "--data-binary", "3,\"x\n\ny\"\n"], "/?query=INSERT+INTO+jwtrail.t+FORMAT+CSV", "");
    curl(&["-u", &login, "-d", "INSERT INTO jwtrail.t VALUES (4, 'd'), (5, 'e')"], "/", "");
    curl(&["-u", &login, "-d", "SELECT sum(a), count() FROM jwtrail.t"], "/", "15\t5\n");
    curl(&["-u", &login, "-d", "SELECT b FROM jwtrail.t WHERE a = 3 FORMAT RawBLOB"], "/", "x\n\ny");
    curl(&["-u", &login, "-G", "--data-urlencode", "query=SELECT 1 FORMAT JSONEachRow"], "/", "{\"1\":1}\n");
    curl(&["-u", &login, "-o", "/dev/null", "-w", "%{http_code}", "-d", "SELEC 1"], "/", "400");
    curl(&["-u", &login, "-o", "/dev/null", "-w", "%{http_code}", "-d", "SELECT * FROM nope"], "/", "404");
    curl(&["-u", "jwtrail:wrong", "-o", "/dev/null", "-w", "%{http_code}", "-d", "SELECT 1"], "/", "403");
    curl(&["-o", "/dev/null", "-w", "%{http_code}", "-d", "SELECT 1"], "/", "401");
    // The database of curl's own compressed answers.
    curl(&["-u", &login, "--compressed", "-d", "SELECT 7"], "/?enable_http_compression=1", "7\n");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_carry_what_clients_read() {
    let test = TestEngine::start().await;
    let response = test.as_full("query_id=mine&default_format=JSONEachRow", "SELECT 1 AS a").await;
    assert_eq!(header(&response, "x-clickhouse-query-id"), "mine");
    assert_eq!(header(&response, "x-clickhouse-format"), "JSONEachRow");
    assert_eq!(header(&response, "x-clickhouse-exception-tag").len(), 16);
    assert_ne!(header(&response, "x-clickhouse-timezone"), "");
    assert_eq!(response.text().await.unwrap(), "{\"a\":1}\n");

    let response = test.as_full("", "CREATE TABLE jwtrail.t (a UInt8) ENGINE = MergeTree ORDER BY a").await;
    assert_eq!((response.status().as_u16(), response.text().await.unwrap().as_str()), (200, ""));
    let response = test.as_full("query=INSERT+INTO+jwtrail.t+FORMAT+RowBinary", vec![1, 2, 3]).await;
    let summary: serde_json::Value = serde_json::from_str(header(&response, "x-clickhouse-summary")).unwrap();
    assert_eq!(summary["written_rows"], "3");

    for (sql, code, status) in [
        ("SELECT nope", "47", 404),
        ("SELECT 1; SELECT 2", "62", 400),
        ("SELECT 1 SETTINGS nope = 1", "115", 404),
        ("SELECT 1 INTO OUTFILE 'x'", "497", 403),
        ("INSERT INTO jwtrail.t FROM INFILE 'x' FORMAT CSV", "497", 403),
        ("INSERT INTO jwtrail.t SELECT a FROM input('a UInt8') FORMAT CSV\n1\n", "48", 501),
        ("SELECT * FROM file('x', 'CSV', 'a String')", "497", 403),
        ("SELECT * FROM url('http://192.0.2.1/', 'CSV', 'a String')", "497", 403),
        ("INSERT INTO jwtrail.t FORMAT CSV\nx\n", "117", 400),
        ("SELECT sleep(3) SETTINGS max_execution_time = 1", "159", 408),
    ] {
        let response = test.as_full("", sql).await;
        let found = (header(&response, "x-clickhouse-exception-code").to_owned(), response.status().as_u16());
        let text = response.text().await.unwrap();
        assert_eq!(found, (code.to_owned(), status), "{sql}: {text}");
        assert!(text.starts_with(&format!("Code: {code}. DB::Exception: ")), "{text}");
        assert!(text.ends_with("(version 26.7.2.1)\n"), "{text}");
    }
    let response = test.as_full("no_such_setting=1", "SELECT 1").await;
    assert_eq!(header(&response, "x-clickhouse-exception-code"), "115");
    assert_eq!(test.full("SELECT count() FROM jwtrail.t").await, "3\n", "nothing half-written");

    test.full("BACKUP TABLE jwtrail.t TO File('today')").await;
    test.full("RESTORE TABLE jwtrail.t AS jwtrail.u FROM File('today')").await;
    assert_eq!(test.full("SELECT count() FROM jwtrail.u").await, "3\n");
    let outside = test.as_full("", "BACKUP TABLE jwtrail.t TO File('/tmp/jwtrail-outside')").await;
    assert!(!outside.status().is_success(), "a backup stays in its folder");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn get_changes_nothing() {
    let test = TestEngine::start().await;
    test.full("CREATE TABLE jwtrail.t (a UInt8) ENGINE = MergeTree ORDER BY a").await;
    for session in ["", "&session_id=s"] {
        for sql in
            ["INSERT INTO jwtrail.t VALUES (1)", "DROP TABLE jwtrail.t", "INSERT INTO jwtrail.t SELECT 1"]
        {
            let query = sql.replace(' ', "+");
            let request = test.http.get(format!("{}/?query={query}{session}", test.engine.url()));
            let request = request.basic_auth("jwtrail", Some(JWTRAIL_PASSWORD));
            assert_eq!(header(&request.send().await.unwrap(), "x-clickhouse-exception-code"), "164", "{sql}");
        }
    }
    assert_eq!(test.full("SELECT count() FROM jwtrail.t").await, "0\n");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_packed_both_ways() {
    let test = TestEngine::start().await;
    test.full("CREATE TABLE jwtrail.t (a String) ENGINE = MergeTree ORDER BY a").await;
    let row = "x".repeat(100);
    let rows: String = (0..30_000).map(|number| format!("{row}{number}\n")).collect();
    let encodings = [None, Some(Encoding::Gzip), Some(Encoding::Zstd), Some(Encoding::Lz4)];
    for blocks in [false, true] {
        for encoding in encodings {
            let packing = Packing { blocks, encoding };
            let flags = if blocks { "compress=1&decompress=1" } else { "compress=0" };
            let mut insert = test
                .post(&format!("{flags}&query=INSERT+INTO+jwtrail.t+FORMAT+TSV"))
                .basic_auth("jwtrail", Some(JWTRAIL_PASSWORD));
            if let Some(encoding) = encoding {
                insert = insert.header("content-encoding", encoding.name());
            }
            let response = insert.body(packed(packing, rows.as_bytes())).send().await.unwrap();
            assert_eq!(response.status(), 200, "{packing:?}");

            let query = test
                .post(&format!("compress={}&enable_http_compression=1", u8::from(blocks)))
                .basic_auth("jwtrail", Some(JWTRAIL_PASSWORD))
                .header("accept-encoding", encoding.map_or("identity", Encoding::name));
            let sql = "SELECT a FROM jwtrail.t ORDER BY length(a), a";
            let response = query.body(sql).send().await.unwrap();
            assert_eq!(header(&response, "content-encoding"), encoding.map_or("", Encoding::name));
            let body = response.bytes().await.unwrap();
            let mut plain = String::new();
            let mut unpacked = reader(packing, body.as_ref()).unwrap();
            std::io::Read::read_to_string(&mut unpacked, &mut plain).unwrap();
            assert!(plain.len() == rows.len() && plain.starts_with(&format!("{row}0\n")), "{packing:?}");
            test.full("TRUNCATE TABLE jwtrail.t").await;
        }
    }
    let response = test.as_full("decompress=1&query=INSERT+INTO+jwtrail.t+FORMAT+TSV", vec![7; 100]).await;
    assert_eq!(header(&response, "x-clickhouse-exception-code"), "271");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let test = TestEngine::start().await;
    let rows = "1\n".repeat(30_000_000);
    let wrong =
        test.post("query=INSERT+INTO+jwtrail.missing+FORMAT+TSV").basic_auth("jwtrail", Some("wrong"));
    assert_eq!(wrong.body(rows.clone()).send().await.unwrap().status(), 403);
    let response = test.as_full("query=INSERT+INTO+jwtrail.missing+FORMAT+TSV", rows).await;
    assert_eq!(header(&response, "x-clickhouse-exception-code"), "60");
    assert!(response.text().await.unwrap().contains("missing"));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deep_query_does_not_end_the_engine() {
    let test = TestEngine::start().await;
    let pid = test.pid();
    for depth in [300, 900, 5000] {
        let sql = format!("SELECT {}1{}", "negate(".repeat(depth), ")".repeat(depth));
        let response = test.as_full("max_parser_depth=100000&max_ast_depth=100000", sql).await;
        assert!(
            response.status() == 200 || !header(&response, "x-clickhouse-exception-code").is_empty(),
            "{depth}"
        );
    }
    assert_eq!(test.full("SELECT 1").await, "1\n");
    assert_eq!(test.pid(), pid);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_results_stream_and_fail_in_mid_stream() {
    let test = TestEngine::start().await;
    let sql = "SELECT number, toString(number) AS text FROM numbers(1000000) FORMAT";
    for (format, bytes) in [("RowBinaryWithNamesAndTypes", 14_888_917), ("TSV", 13_777_780), ("Native", 0)] {
        let body = test.as_full("", format!("{sql} {format}")).await.bytes().await.unwrap();
        let headers = memchr::memmem::find_iter(&body, b"\x04text\x06UInt64\x06String").count();
        assert_eq!(headers, usize::from(format == "RowBinaryWithNamesAndTypes"), "{format}");
        assert!(bytes == 0 || body.len() == bytes, "{format}: {}", body.len());
    }
    let json: serde_json::Value =
        serde_json::from_str(&test.full("SELECT number FROM numbers(200000) FORMAT JSON").await).unwrap();
    assert_eq!((json["rows"].as_u64(), json["data"].as_array().unwrap().len()), (Some(200_000), 200_000));
    let totals =
        test.full("SELECT number % 2, count() FROM numbers(9) GROUP BY 1 WITH TOTALS ORDER BY 1").await;
    assert_eq!(totals, "0\t5\n1\t4\n\n0\t9\n");

    let failing = "SELECT throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_block_size = 1000";
    let response = test.as_full("", failing).await;
    assert_eq!(response.status(), 200);
    let tag = header(&response, "x-clickhouse-exception-tag").to_owned();
    let text = response.text().await.unwrap();
    let (_, exception) = text.split_once(&format!("\r\n__exception__\r\n{tag}\r\n")).unwrap();
    assert!(exception.starts_with("Code: 395. DB::Exception: "), "{exception}");
    let (message, rest) = exception.rsplit_once('\n').map(|_| exception.split_once(")\n").unwrap()).unwrap();
    assert_eq!(rest, format!("{} {tag}\r\n__exception__\r\n", message.len() + 2));
    // Whoever waits for the end is told by the status.
    let response = test.as_full("wait_end_of_query=1", failing).await;
    assert_eq!(header(&response, "x-clickhouse-exception-code"), "395");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_keeps_its_tables_and_not_a_requests_settings() {
    let test = TestEngine::start().await;
    let run = async |parameters: &str, sql: &str| {
        let response = test.as_full(parameters, sql.to_owned()).await;
        let code = header(&response, "x-clickhouse-exception-code").to_owned();
        if code.is_empty() { response.text().await.unwrap() } else { format!("code {code}") }
    };
    assert_eq!(run("session_id=s&session_check=1", "SELECT 1").await, "code 372");
    assert_eq!(run("session_id=s&max_threads=1", "CREATE TEMPORARY TABLE kept (a UInt8)").await, "");
    assert_eq!(run("session_id=s", "INSERT INTO kept VALUES (1), (2)").await, "");
    assert_eq!(run("session_id=s&session_check=1", "SELECT sum(a) FROM kept").await, "3\n");
    assert_eq!(run("session_id=other", "SELECT sum(a) FROM kept").await, "code 60");
    assert_eq!(run("session_id=s", "SET max_threads = 3").await, "");
    let threads = "SELECT getSetting('max_threads')";
    assert_eq!(run("session_id=s", threads).await, "3\n");
    assert_eq!(run("session_id=s&max_threads=7", threads).await, "7\n");
    assert_eq!(run("session_id=s", threads).await, "3\n");
    let sleeping = "SELECT count() FROM system.processes WHERE query LIKE 'SELECT sleep%'";
    let (slept, ()) = tokio::join!(run("session_id=s", "SELECT sleep(1)"), async {
        eventually("the session is used", async || test.full(sleeping).await == "1\n").await;
        assert_eq!(run("session_id=s", "SELECT 1").await, "code 373");
    });
    assert_eq!(slept, "0\n");
    assert_eq!(run("session_id=s", "SELECT sum(a) FROM kept").await, "3\n");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_with_its_client() {
    let test = TestEngine::start().await;
    let running =
        "SELECT count() FROM system.processes WHERE query LIKE '%sipHash%' AND query NOT LIKE '%processes%'";
    for (name, sql) in [
        ("emits nothing", "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))"),
        ("streams", "SELECT sipHash64(number) FROM numbers(1000000000000) FORMAT RowBinary"),
    ] {
        let request = test.as_full("max_threads=1", sql);
        let client = async {
            let mut response = request.await;
            while response.chunk().await.unwrap().is_some() {}
        };
        tokio::select! {
            () = client => panic!("{name}: the query ended by itself"),
            () = eventually("it runs", async || test.full(running).await == "1\n") => {}
        }
        eventually(name, async || test.full(running).await == "0\n").await;
    }
    // A body that is cut short commits nothing.
    test.full("CREATE TABLE jwtrail.t (a UInt8) ENGINE = MergeTree ORDER BY a").await;
    let address = test.engine.url().replace("http://", "");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let login = format!("user=jwtrail&password={JWTRAIL_PASSWORD}");
    write!(
        stream,
        "POST /?{login}&query=INSERT+INTO+jwtrail.t+FORMAT+TSV HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n1\n2\n"
    )
    .unwrap();
    let inserting = "SELECT count() FROM system.processes WHERE query LIKE 'INSERT%'";
    eventually("the insert has begun", async || test.full(inserting).await == "1\n").await;
    drop(stream);
    eventually("the insert is gone", async || test.full(inserting).await == "0\n").await;
    assert_eq!(test.full("SELECT count() FROM jwtrail.t").await, "0\n");
    test.stop().await;
}
