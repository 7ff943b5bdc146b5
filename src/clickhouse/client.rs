//! Statements over ClickHouse's HTTP interface: the embedded engine's and a server's alike.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use super::{ClickHouseError, Columns};
use crate::config::ClickHouseConfig;

/// One chunk of an INSERT's body: large enough for LZ4 and the socket, small beside a block.
const CHUNK_BYTES: usize = 1 << 20;
/// ClickHouse, with one database. Cheap to clone; connections are pooled.
#[derive(Clone)]
pub(crate) struct Client {
    http: clickhouse::Client,
    database: String,
    /// How long a question may wait for its whole answer, and an insert for one chunk to be taken: a ClickHouse that is
    /// frozen keeps its connections open.
    answer_within: Duration,
    /// How long an insert may take after its last chunk, or a statement that changes the schema. An insert that takes
    /// longer is unclear, and is asked about.
    insert_within: Duration,
}

/// What an INSERT carries besides its rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InsertLabel<'a> {
    /// Two requests with one token insert once, as far as the table's window of tokens reaches. `None`: no deduplication.
    pub(crate) token: Option<&'a str>,
    /// Finds the running insert in `system.processes`.
    pub(crate) log_comment: Option<&'a str>,
}

async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, clickhouse::error::Error>>,
) -> Result<T, ClickHouseError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ClickHouseError::Unavailable(format!("no answer within {} s", limit.as_secs()))),
    }
}

impl Client {
    /// `config.url`, or the embedded engine at `config.listen`.
    pub(crate) fn new(config: &ClickHouseConfig) -> Self {
        let url = config.url.clone().unwrap_or_else(|| format!("http://{}", config.listen));
        // On the loopback interface compression costs more than it saves.
        let compression = match config.url {
            Some(_) => clickhouse::Compression::Lz4,
            None => clickhouse::Compression::None,
        };
        let http = clickhouse::Client::default()
            .with_url(url)
            .with_user(&config.user)
            .with_password(config.password.expose())
            .with_compression(compression)
            .with_product_info("jwtrail", env!("CARGO_PKG_VERSION"));
        Self {
            http,
            database: config.database.clone(),
            answer_within: config.answer_within,
            insert_within: config.insert_within,
        }
    }

    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// A statement that `bind` fills `?` of, in our database.
    pub(crate) fn query(&self, sql: &str) -> clickhouse::query::Query {
        self.http.query(sql).with_setting("database", &self.database)
    }

    /// What ClickHouse answers to a question, or `Unavailable` if it takes too long.
    pub(crate) async fn answered<T>(
        &self,
        answer: impl Future<Output = Result<T, clickhouse::error::Error>>,
    ) -> Result<T, ClickHouseError> {
        within(self.answer_within, answer).await
    }

    /// The query's answer as JSON, a row a line.
    pub(crate) async fn json_rows(&self, query: clickhouse::query::Query) -> Result<Bytes, ClickHouseError> {
        let query = query
            .with_setting("output_format_json_quote_64bit_integers", "0")
            .with_setting("date_time_output_format", "iso")
            // Times within the evidence stay the texts that they are.
            .with_setting("input_format_try_infer_datetimes", "0")
            .with_setting("input_format_try_infer_dates", "0");
        self.answered(async { query.fetch_bytes("JSONEachRow")?.collect().await }).await
    }

    /// Runs a statement as it is (`?` means nothing), in our database.
    pub(crate) async fn execute(&self, sql: &str) -> Result<(), ClickHouseError> {
        within(
            self.insert_within,
            self.http.query_raw(sql).with_setting("database", &self.database).execute(),
        )
        .await
    }

    /// Runs a statement outside our database, which may not exist yet.
    pub(super) async fn execute_outside(&self, sql: &str) -> Result<(), ClickHouseError> {
        self.answered(self.http.query_raw(sql).execute()).await
    }

    /// Whether ClickHouse answers.
    pub(crate) async fn ping(&self) -> Result<(), ClickHouseError> {
        self.execute_outside("SELECT 1 FORMAT Null").await
    }

    /// Inserts `rows` (RowBinary) and waits until they are stored. `Unavailable` means unclear: they may be stored.
    pub(crate) async fn insert(
        &self,
        table: &str,
        columns: &str,
        rows: Bytes,
        label: InsertLabel<'_>,
    ) -> Result<(), ClickHouseError> {
        let sql = format!("INSERT INTO {table} ({columns}) FORMAT RowBinary");
        let mut insert = self
            .http
            .insert_formatted_with(sql)
            .with_timeouts(Some(self.answer_within), Some(self.insert_within))
            .with_setting("database", &self.database)
            // A server may have it on by default: then an answer would not mean that the rows are stored.
            .with_setting("async_insert", "0");
        if let Some(token) = label.token {
            insert = insert
                .with_setting("insert_deduplicate", "1")
                .with_setting("insert_deduplication_token", token);
        }
        if let Some(comment) = label.log_comment {
            insert = insert.with_setting("log_comment", comment);
        }
        let mut rest = rows;
        while !rest.is_empty() {
            insert.send(rest.split_to(CHUNK_BYTES.min(rest.len()))).await?;
        }
        Ok(insert.end().await?)
    }

    /// Whether `table` has `columns`, with these types; it may have more.
    pub(crate) async fn check_columns(
        &self,
        table: &'static str,
        columns: &Columns,
    ) -> Result<(), ClickHouseError> {
        let sql = "SELECT name, type FROM system.columns WHERE database = ? AND table = ?";
        let query = self.http.query(sql).bind(&self.database).bind(table);
        let there: HashMap<String, String> =
            self.answered(query.fetch_all::<(String, String)>()).await?.into_iter().collect();
        match columns.0.iter().find(|(name, kind)| there.get(*name) != Some(kind)) {
            None => Ok(()),
            Some((name, _)) => Err(ClickHouseError::SchemaDiffers { table, column: (*name).to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_that_is_never_answered_is_given_up() {
        let frozen = std::future::pending::<Result<(), clickhouse::error::Error>>();
        let error = within(Duration::ZERO, frozen).await.unwrap_err();
        assert!(matches!(error, ClickHouseError::Unavailable(_)), "{error}");
    }
}
