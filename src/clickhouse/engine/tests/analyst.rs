//! `analyst` reads, and nothing he can write lifts that or its limits.

use super::*;

/// A secret that a file beside the data holds.
const SECRET: &str = "jwtrail_secret_in_a_file";

struct Attempts {
    test: TestEngine,
    file: String,
}

impl Attempts {
    async fn prepare() -> Self {
        let test = TestEngine::start().await;
        test.full("CREATE TABLE jwtrail.t (a UInt8, b String) ENGINE = MergeTree ORDER BY a").await;
        test.full("INSERT INTO jwtrail.t VALUES (1, 'one'), (2, 'two')").await;
        test.full("CREATE VIEW jwtrail.v AS SELECT a FROM jwtrail.t SETTINGS max_threads = 1").await;
        let path = test.directory.path().join("credentials.toml");
        std::fs::write(&path, SECRET).unwrap();
        Self { test, file: path.display().to_string() }
    }

    /// The exception's code, or the answer.
    async fn code(&self, parameters: &str, sql: &str) -> Result<String, u16> {
        let response = self.test.as_analyst(parameters, sql.to_owned()).await;
        let code = header(&response, "x-clickhouse-exception-code").parse();
        let text = response.text().await.unwrap();
        assert!(!text.contains(SECRET), "{sql}: {text}");
        match code {
            Ok(code) => Err(code),
            Err(_) if text.contains("__exception__") => Err(0),
            Err(_) => Ok(text),
        }
    }

    async fn refused(&self, parameters: &str, sql: &str, codes: &[u16]) {
        match self.code(parameters, sql).await {
            Ok(text) => panic!("{parameters} {sql} passed: {text}"),
            Err(code) => assert!(codes.contains(&code), "{parameters} {sql}: code {code}, not of {codes:?}"),
        }
    }

    async fn answers(&self, parameters: &str, sql: &str, expected: &str) {
        assert_eq!(self.code(parameters, sql).await.as_deref(), Ok(expected), "{parameters} {sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analyst_reads() {
    let attempts = Attempts::prepare().await;
    attempts.answers("", "SELECT sum(a) FROM jwtrail.t", "3\n").await;
    attempts.answers("", "SELECT sum(a) FROM jwtrail.v;", "3\n").await;
    attempts.answers("database=jwtrail&param_a=2", "SELECT b FROM t WHERE a = {a:UInt8}", "two\n").await;
    attempts.answers("database=jwtrail", "SHOW TABLES", "t\nv\n").await;
    attempts.answers("", "SELECT name FROM system.columns WHERE table = 't' ORDER BY 1", "a\nb\n").await;
    attempts.answers("", "EXISTS TABLE jwtrail.t", "1\n").await;
    attempts.answers("max_threads=1&output_format_json_quote_64bit_integers=1", "SELECT 1", "1\n").await;
    attempts.answers("session_id=s", "WITH 1 AS settings SELECT settings", "1\n").await;
    attempts.answers("", "SELECT count() FROM numbers(10)", "10\n").await;
    attempts
        .answers(
            "compress=0",
            "SELECT 'INTO OUTFILE', 'SETTINGS a = 1', 'file'",
            "INTO OUTFILE\tSETTINGS a = 1\tfile\n",
        )
        .await;
    attempts.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analyst_changes_nothing() {
    let attempts = Attempts::prepare().await;
    for sql in [
        "INSERT INTO jwtrail.t VALUES (3, '')",
        "INSERT INTO jwtrail.t SELECT 3, ''",
        "INSERT INTO FUNCTION null('a UInt8') VALUES (1)",
        "WITH 3 AS x INSERT INTO jwtrail.t SELECT x, ''",
        "DROP TABLE jwtrail.t",
        "TRUNCATE TABLE jwtrail.t",
        "ALTER TABLE jwtrail.t DELETE WHERE 1",
        "DELETE FROM jwtrail.t WHERE 1",
        "UPDATE jwtrail.t SET b = '' WHERE 1",
        "OPTIMIZE TABLE jwtrail.t FINAL",
        "CREATE TABLE jwtrail.mine (a UInt8) ENGINE = Memory",
        "CREATE TEMPORARY TABLE mine (a UInt8)",
        "CREATE VIEW jwtrail.mine AS SELECT 1",
        "CREATE OR REPLACE VIEW jwtrail.v AS SELECT 1",
        "CREATE FUNCTION mine AS x -> x",
        "CREATE DATABASE mine",
        "CREATE NAMED COLLECTION mine AS a = 1",
        "RENAME TABLE jwtrail.t TO jwtrail.u",
        "SYSTEM FLUSH LOGS",
        "SYSTEM STOP MERGES",
        "KILL QUERY WHERE 1",
        "BACKUP TABLE jwtrail.t TO Memory('b')",
        "USE system",
        "BEGIN TRANSACTION",
        "SELECT 1 PARALLEL WITH DROP TABLE jwtrail.t",
    ] {
        attempts.refused("", sql, &[62, 164, 497]).await;
        attempts.refused("session_id=s&readonly=2", sql, &[62, 164, 497]).await;
    }
    attempts.refused("", "SELECT 1; DROP TABLE jwtrail.t", &[62]).await;
    let response = attempts.test.as_analyst("", "SELECT FROM WHERE").await;
    let text = response.text().await.unwrap();
    assert!(text.contains("Syntax error") && !text.contains("formatQuery"), "{text}");
    let login = format!("user=analyst&password={ANALYST_PASSWORD}");
    let query = format!("{}/?{login}&query=DROP+TABLE+jwtrail.t", attempts.test.engine.url());
    let query = attempts.test.http.get(query);
    assert_eq!(query.send().await.unwrap().status(), 403);
    assert_eq!(attempts.test.full("SELECT sum(a), count() FROM jwtrail.t").await, "3\t2\n");
    assert_eq!(attempts.test.full("SHOW TABLES FROM jwtrail").await, "t\nv\n");
    attempts.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analyst_lifts_no_limit() {
    let attempts = Attempts::prepare().await;
    for sql in [
        "SET readonly = 0",
        "SET max_memory_usage = 0",
        "SET profile = 'default'",
        "SET ROLE full",
        "SET ROLE ALL",
        "SET DEFAULT ROLE ALL TO default",
        "GRANT ALL ON *.* TO default",
        "EXECUTE AS default",
        "EXECUTE AS default SELECT 1",
        "CREATE USER mine",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1 SETTINGS max_memory_usage = 0",
        "SELECT 1 settings/**/max_execution_time=0",
        "SELECT 1 SETTINGS `max_execution_time` = 0",
        "SELECT 1 SETTINGS profile = 'default'",
        "SELECT 1 FORMAT TSV SETTINGS max_execution_time = 0",
        "SELECT * FROM (SELECT 1 SETTINGS max_execution_time = 0)",
        "SELECT 1 SETTINGS max_execution_time = 0 UNION ALL SELECT 1",
        "SELECT (SELECT count() FROM system.processes SETTINGS additional_table_filters = {})",
        "WITH x AS (SELECT 1 SETTINGS max_memory_usage = 0) SELECT * FROM x",
        "SELECT * FROM view(SELECT 1 SETTINGS max_memory_usage = 0)",
        "EXPLAIN SELECT 1 SETTINGS max_memory_usage = 0",
        "SELECT * FROM viewExplain('EXPLAIN', '', (SELECT 1 SETTINGS max_memory_usage = 0))",
    ] {
        attempts.refused("", sql, &[46, 62, 164, 497]).await;
        attempts.refused("session_id=s", sql, &[46, 62, 164, 497]).await;
    }
    for parameter in [
        "readonly=0",
        "profile=default",
        "role=full",
        "max_untracked_memory=1000000000",
        "max_memory_usage_for_user=0",
        "additional_table_filters=%7B%7D",
        "dialect=kusto",
        "allow_introspection_functions=1",
        "format_schema=x",
        "max_execution_time%3D0,readonly=0",
    ] {
        attempts.refused(parameter, "SELECT 1", &[115, 164]).await;
    }
    let limits =
        "SELECT getSetting('max_execution_time'), getSetting('max_memory_usage'), getSetting('readonly')";
    for parameters in [
        "",
        "max_execution_time=0&max_memory_usage=0&readonly=2",
        "max_execution_time=1&max_execution_time=1000",
        "max_memory_usage=18446744073709551615",
    ] {
        attempts.answers(parameters, limits, "60\t536870912\t1\n").await;
    }
    let hungry = "SELECT length(groupArray(repeat(toString(number), 200000))) FROM numbers(1000)";
    attempts.refused("", hungry, &[241]).await;
    attempts.refused("max_execution_time=1", "SELECT sleepEachRow(1) FROM numbers(3)", &[159]).await;
    attempts.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analyst_sees_nothing_outside_the_tables() {
    let attempts = Attempts::prepare().await;
    let file = &attempts.file;
    for sql in [
        format!("SELECT file('{file}')"),
        format!("SELECT `file`('{file}')"),
        format!("SELECT * APPLY file FROM (SELECT '{file}')"),
        format!("SELECT * APPLY(file) FROM (SELECT '{file}')"),
        format!("SELECT arrayMap(x -> file(x), ['{file}'])"),
        format!("EXPLAIN SELECT file('{file}')"),
        format!("SELECT file(\u{2018}{file}\u{2019})"),
        format!("SELECT/**/FILE('{file}')"),
        format!("WITH file AS f SELECT f('{file}')"),
        format!("SELECT COLUMNS('x') APPLY file FROM (SELECT '{file}' AS x)"),
        format!("SELECT catboostEvaluate('{file}', 1)"),
        format!("SELECT * FROM file('{file}', 'LineAsString')"),
        format!("SELECT * FROM fileCluster('default', '{file}', 'LineAsString')"),
        format!("SELECT * FROM `{file}`"),
        format!("SELECT * FROM default.`{file}`"),
        format!("DESCRIBE file('{file}')"),
        format!("DESCRIBE TABLE `{file}`"),
        format!("SELECT * FROM sqlite('{file}', 't')"),
        format!("SELECT 1 INTO OUTFILE '{file}.out'"),
        format!("SELECT 1 INTO/**/OUTFILE '{file}.out' TRUNCATE"),
        "SELECT * FROM url('http://192.0.2.1/', 'LineAsString')".to_owned(),
        "SELECT * FROM remote('192.0.2.1', 'system.one')".to_owned(),
        "SELECT * FROM remote('127.0.0.1', 'jwtrail.t')".to_owned(),
        "SELECT * FROM cluster('default', 'jwtrail.t')".to_owned(),
        "SELECT * FROM s3('http://192.0.2.1/bucket/x', NOSIGN, 'CSV', 'a String')".to_owned(),
        "SELECT * FROM mysql('192.0.2.1', 'd', 't', 'u', 'p')".to_owned(),
        "SELECT * FROM postgresql('192.0.2.1', 'd', 't', 'u', 'p')".to_owned(),
        "SELECT * FROM executable('id', 'TSV', 'a String')".to_owned(),
        "SELECT * FROM system.users".to_owned(),
        "SHOW CREATE USER default".to_owned(),
        "SHOW ACCESS".to_owned(),
    ] {
        attempts.refused("", &sql, &[46, 60, 62, 164, 170, 497, 701, 1001]).await;
    }
    // Rows that hold secrets are not shown: `code` looks for this one in every answer.
    attempts.test.full(&format!("CREATE NAMED COLLECTION kept AS password = '{SECRET}'")).await;
    assert_eq!(attempts.test.full("SELECT name FROM system.named_collections").await, "kept\n");
    attempts.answers("", "SELECT name, collection FROM system.named_collections", "").await;
    attempts.refused("", "SHOW CREATE NAMED COLLECTION kept", &[62, 164, 497]).await;
    for table in ["asynchronous_inserts", "errors", "processes", "query_cache", "stack_trace"] {
        attempts.answers("", &format!("SELECT count() FROM system.{table}"), "0\n").await;
    }
    for sql in
        ["SELECT count() FROM `merge`('system', '^processes$')", "SELECT * FROM loop('system', 'processes')"]
    {
        attempts.refused("", sql, &[497]).await;
    }
    attempts.answers("", "SELECT count() FROM view(SELECT * FROM system.processes)", "0\n").await;
    attempts.answers("", "SHOW PROCESSLIST", "").await;
    assert!(!std::path::Path::new(&format!("{file}.out")).exists());
    attempts.test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_and_no_table_knows_a_password() {
    let test = TestEngine::start().await;
    let settings = test.full("SELECT * FROM system.server_settings FORMAT TSV").await;
    let processes = test.full("SELECT * FROM system.processes FORMAT TSV").await;
    let pid = test.pid();
    let command_line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    for secret in [JWTRAIL_PASSWORD, ANALYST_PASSWORD] {
        for text in
            [&settings, &processes, &command_line, &String::from_utf8_lossy(&environment).into_owned()]
        {
            assert!(!text.contains(secret));
        }
    }
    test.stop().await;
}
