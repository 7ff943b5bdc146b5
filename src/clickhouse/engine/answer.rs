//! An answer on its way back: head, pieces, and the place that is left for an exception.

use std::time::Instant;

use axum::http::StatusCode;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::compress::{Packer, Packing};
use super::exception::{self, Exception};
use super::ffi::Progress;
use crate::clock::Random;

/// How an answer begins.
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(&'static str, String)>,
}

/// A piece of the answer's body. Without [`AnswerPart::End`] it is incomplete.
pub(super) enum AnswerPart {
    Data(Bytes),
    End,
}

/// Why a request ends early.
pub(super) enum Stop {
    Failed(Exception),
    /// Nobody waits for the answer.
    ClientGone,
}

impl From<Exception> for Stop {
    fn from(exception: Exception) -> Self {
        Self::Failed(exception)
    }
}

/// The way back to the client.
pub(super) struct Answer {
    pub(super) packing: Packing,
    pub(super) query_id: String,
    pub(super) timezone: String,
    /// The engine's version, which ends every exception's text.
    pub(super) version: String,
    pub(super) started: Instant,
    pub(super) parts: mpsc::Sender<AnswerPart>,
    /// Taken when the answer has begun.
    pub(super) head: Option<oneshot::Sender<Head>>,
    pub(super) body: Option<(Packer, String)>,
}

impl Answer {
    /// Begins a good answer.
    pub(super) fn start(&mut self, format: &str, progress: Progress) -> Result<(), Stop> {
        let packer = Packer::new(self.packing).map_err(|error| {
            Exception::new(exception::UNKNOWN_EXCEPTION, format_args!("cannot compress: {error}"))
        })?;
        // Marks an exception in mid-stream; unguessable, so that no row can look like one.
        let tag = Random::hex::<8>();
        let mut headers = self.headers();
        headers.push(("content-type", content_type(format).to_owned()));
        headers.push(("x-clickhouse-format", format.chars().filter(char::is_ascii_alphanumeric).collect()));
        headers.push(("x-clickhouse-summary", self.summary(progress)));
        headers.push(("x-clickhouse-exception-tag", tag.clone()));
        if let Some(encoding) = self.packing.encoding {
            headers.push(("content-encoding", encoding.name().to_owned()));
        }
        self.body = Some((packer, tag));
        self.begin(Head { status: StatusCode::OK, headers })
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        vec![
            ("x-clickhouse-query-id", self.query_id.clone()),
            ("x-clickhouse-timezone", self.timezone.clone()),
            ("x-clickhouse-server-display-name", "jwtrail".to_owned()),
        ]
    }

    fn summary(&self, progress: Progress) -> String {
        let Progress { read_rows, read_bytes, written_rows, written_bytes, result_rows } = progress;
        let elapsed_ns = self.started.elapsed().as_nanos();
        format!(
            r#"{{"read_rows":"{read_rows}","read_bytes":"{read_bytes}","written_rows":"{written_rows}","written_bytes":"{written_bytes}","total_rows_to_read":"0","result_rows":"{result_rows}","result_bytes":"0","elapsed_ns":"{elapsed_ns}"}}"#
        )
    }

    fn begin(&mut self, head: Head) -> Result<(), Stop> {
        let sender = self.head.take().ok_or(Stop::ClientGone)?;
        sender.send(head).map_err(|_| Stop::ClientGone)
    }

    /// Sends some bytes of the result; waits while the client is slow.
    pub(super) fn send(&mut self, data: &[u8]) -> Result<(), Stop> {
        if data.is_empty() {
            return Ok(());
        }
        let Some((packer, _)) = &mut self.body else { return Err(Stop::ClientGone) };
        let packed = packer.pack(data).map_err(|_| Stop::ClientGone)?;
        self.push(packed)
    }

    fn push(&mut self, bytes: Vec<u8>) -> Result<(), Stop> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.parts.blocking_send(AnswerPart::Data(bytes.into())).map_err(|_| Stop::ClientGone)
    }

    /// Ends the answer: with an exception if there was one, in the place that is still left for it.
    pub(super) fn finish(&mut self, result: Result<(), Stop>) {
        let ended = match result {
            Err(Stop::ClientGone) => return,
            Ok(()) => Ok(()),
            Err(Stop::Failed(exception)) if self.head.is_some() => self.fail(&exception),
            Err(Stop::Failed(exception)) => {
                let text = exception.full_text(&self.version);
                let tag = self.body.as_ref().map_or("", |(_, tag)| tag.as_str());
                // The length counts the text with its line break.
                let length = text.len();
                let trailer =
                    format!("\r\n__exception__\r\n{tag}\r\n{text}{length} {tag}\r\n__exception__\r\n");
                self.send(trailer.as_bytes())
            }
        };
        let last = self.body.take().map(|(packer, _)| packer.finish());
        let ended = ended.and_then(|()| match last {
            Some(Ok(bytes)) => self.push(bytes),
            Some(Err(_)) => Err(Stop::ClientGone),
            None => Ok(()),
        });
        if ended.is_ok() {
            // A client that has gone misses nothing.
            let _ = self.parts.blocking_send(AnswerPart::End);
        }
    }

    fn fail(&mut self, exception: &Exception) -> Result<(), Stop> {
        let (head, text) = self.refusal(exception);
        self.begin(head)?;
        self.push(text.into_bytes())
    }

    /// An answer that is an exception, and nothing but.
    pub(super) fn refusal(&self, exception: &Exception) -> (Head, String) {
        let mut headers = self.headers();
        headers.push(("content-type", "text/plain; charset=UTF-8".to_owned()));
        headers.push(("x-clickhouse-exception-code", exception.code.to_string()));
        if exception.status() == StatusCode::UNAUTHORIZED {
            headers.push(("www-authenticate", "Basic realm=\"ClickHouse\"".to_owned()));
        }
        (Head { status: exception.status(), headers }, exception.full_text(&self.version))
    }
}

fn content_type(format: &str) -> &'static str {
    let format = format.to_ascii_lowercase();
    if format.starts_with("tabseparated") || format.starts_with("tsv") {
        "text/tab-separated-values; charset=UTF-8"
    } else if format.starts_with("csv") {
        "text/csv; charset=UTF-8"
    } else if matches!(format.as_str(), "jsoneachrow" | "jsonlines" | "ndjson" | "jsoncompacteachrow") {
        "application/x-ndjson; charset=UTF-8"
    } else if format.starts_with("json") {
        "application/json; charset=UTF-8"
    } else if format == "xml" {
        "application/xml; charset=UTF-8"
    } else if matches!(
        format.as_str(),
        "rowbinary" | "native" | "parquet" | "arrow" | "arrowstream" | "msgpack" | "orc" | "avro"
    ) || format.starts_with("rowbinary")
    {
        "application/octet-stream"
    } else {
        "text/plain; charset=UTF-8"
    }
}
