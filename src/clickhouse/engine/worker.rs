//! What one request does with the engine, on a thread of its own: the engine's calls block and need a deep stack.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::http::StatusCode;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::access::{self, Role};
use super::compress::{self, Packer, Packing};
use super::exception::{self, Exception};
use super::ffi::{Class, Connection, Output, Progress};
use super::request::{self, Request};
use super::session::Sessions;
use super::sql::{self, Facts, Insert};
use crate::clock::Random;

/// A statement, an INSERT's data not counted, may be this long; so may a form.
const MAX_STATEMENT_BYTES: usize = 16 << 20;
/// How much of an INSERT's data is handed to the engine at once.
const APPEND_BYTES: usize = 256 << 10;

/// Formats whose chunks, one after the other, are the format again (lower case).
const CONCATENABLE: [&str; 19] = [
    "tabseparated",
    "tsv",
    "tabseparatedraw",
    "tsvraw",
    "csv",
    "tskv",
    "jsoneachrow",
    "jsonlines",
    "ndjson",
    "jsonstringseachrow",
    "jsoncompacteachrow",
    "jsoncompactstringseachrow",
    "lineasstring",
    "msgpack",
    "native",
    "null",
    "rawblob",
    "rowbinary",
    WITH_HEADER,
];
/// Concatenable once the header of all chunks but the first is dropped.
const WITH_HEADER: &str = "rowbinarywithnamesandtypes";

/// A piece of the request's body. Without [`BodyPart::End`] the client went away.
pub(super) enum BodyPart {
    Data(Bytes),
    End,
}

/// The request's body, read from the thread.
pub(super) struct BodyReader {
    parts: mpsc::Receiver<BodyPart>,
    current: Bytes,
    ended: bool,
}

impl BodyReader {
    pub(super) fn new(parts: mpsc::Receiver<BodyPart>) -> Self {
        Self { parts, current: Bytes::new(), ended: false }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.parts.blocking_recv() {
                Some(BodyPart::Data(data)) => self.current = data,
                Some(BodyPart::End) => self.ended = true,
                None => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the body was cut short"));
                }
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

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

/// Shared by a request's thread and whoever watches its client.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The client went away.
    pub(super) gone: AtomicBool,
    /// The thread is done with the engine.
    pub(super) done: AtomicBool,
}

/// One authenticated request.
pub(super) struct Job {
    pub(super) sessions: Arc<Sessions>,
    pub(super) role: Role,
    pub(super) request: Request,
    /// Finds the request's queries in the engine.
    pub(super) mark: String,
    pub(super) body: BodyReader,
    pub(super) watch: Arc<Watch>,
    pub(super) answer: Answer,
}

impl Job {
    /// Runs the request and answers it.
    pub(super) fn run(mut self) {
        let result = self.execute();
        self.watch.done.store(true, Ordering::Release);
        self.answer.finish(result);
    }

    fn execute(&mut self) -> Result<(), Stop> {
        if let Some(boundary) = self.request.boundary.take() {
            let form = read_all(&mut self.body)?;
            for (name, value) in request::form_fields(&form, &boundary)? {
                self.request.take(name, value)?;
            }
            self.answer.packing = self.request.packed_out;
            return match find_statement(&self.request.query, io::empty(), true)? {
                Statement::Query(sql) => self.query(&sql),
                Statement::Insert { head, format, data } => self.insert(&head, format, data),
            };
        }
        let body = std::mem::replace(&mut self.body, BodyReader::new(mpsc::channel(1).1));
        let body = compress::reader(self.request.packed_in, body).map_err(|error| read_failed(&error))?;
        match find_statement(&self.request.query, body, false)? {
            Statement::Query(sql) => self.query(&sql),
            Statement::Insert { head, format, data } => self.insert(&head, format, data),
        }
    }

    fn insert(&mut self, head: &str, format: Option<String>, mut data: impl Read) -> Result<(), Stop> {
        if self.role == Role::Analyst || self.request.read_only {
            let message =
                "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly";
            return Err(Exception::new(exception::READONLY, message).into());
        }
        if sql::inspect(head).touches_files {
            return Err(no_files().into());
        }
        let format = format.or_else(|| self.request.format.clone()).unwrap_or_else(|| "Values".to_owned());
        let sessions = Arc::clone(&self.sessions);
        let session = sessions.open(self.role, &self.request, &self.mark, false)?;
        let mut insert = session
            .connection()?
            .insert(head, &format, &self.request.params)
            .map_err(Exception::from_engine)?;
        let mut buffer = vec![0; APPEND_BYTES];
        loop {
            let count = fill(&mut data, &mut buffer).map_err(|error| read_failed(&error))?;
            if count == 0 {
                break;
            }
            insert.append(&buffer[..count]).map_err(Exception::from_engine)?;
        }
        let output = insert.finish().map_err(Exception::from_engine)?;
        let progress = output.progress();
        drop(output);
        self.answer.start(&format, progress)?;
        Ok(())
    }

    fn query(&mut self, statement: &str) -> Result<(), Stop> {
        let facts = sql::inspect(statement);
        if facts.several {
            let message = "Syntax error: Multi-statements are not allowed";
            return Err(Exception::new(exception::SYNTAX_ERROR, message).into());
        }
        if facts.touches_files {
            return Err(no_files().into());
        }
        let fallback = self.request.format.clone().unwrap_or_else(|| "TabSeparated".to_owned());
        let format = facts.format.clone().unwrap_or_else(|| fallback.clone());
        let streams = !self.request.wait_end && can_stream(statement, &facts, &format, &self.request);
        let sessions = Arc::clone(&self.sessions);
        let session = sessions.open(self.role, &self.request, &self.mark, !streams)?;
        let connection = session.connection()?;
        if self.role == Role::Analyst {
            access::check_analyst(connection, statement)?;
        } else if self.request.read_only && connection.classify(statement).class == Class::Mutating {
            let message =
                "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly";
            return Err(Exception::new(exception::READONLY, message).into());
        }
        if self.watch.gone.load(Ordering::Acquire) {
            return Err(Stop::ClientGone);
        }
        if streams {
            return self.stream(connection, statement, &fallback, &format);
        }
        let output =
            connection.query(statement, &fallback, &self.request.params).map_err(Exception::from_engine)?;
        self.answer.start(&format, output.progress())?;
        self.answer.send(output.data())
    }

    fn stream(
        &mut self,
        connection: &Connection,
        statement: &str,
        fallback: &str,
        format: &str,
    ) -> Result<(), Stop> {
        let mut stream =
            connection.stream(statement, fallback, &self.request.params).map_err(Exception::from_engine)?;
        let mut next = || stream.next().map_err(Exception::from_engine);
        let strips = format.eq_ignore_ascii_case(WITH_HEADER);
        let first = next()?;
        self.answer.start(format, first.as_ref().map(Output::progress).unwrap_or_default())?;
        let Some(first) = first else { return Ok(()) };
        let header = if strips { header_of(first.data()).to_vec() } else { Vec::new() };
        self.answer.send(first.data())?;
        drop(first);
        while let Some(chunk) = next()? {
            let data = chunk.data();
            self.answer.send(data.strip_prefix(header.as_slice()).unwrap_or(data))?;
        }
        Ok(())
    }
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

fn no_files() -> Exception {
    Exception::new(exception::ACCESS_DENIED, "INTO OUTFILE and FROM INFILE are not allowed over HTTP")
}

fn read_failed(error: &io::Error) -> Exception {
    match error.kind() {
        io::ErrorKind::ConnectionAborted => Exception::new(exception::NETWORK_ERROR, error),
        _ => {
            Exception::new(exception::CANNOT_DECOMPRESS, format_args!("the body cannot be unpacked: {error}"))
        }
    }
}

/// Whether the result may be sent chunk by chunk.
fn can_stream(statement: &str, facts: &Facts, format: &str, request: &Request) -> bool {
    let array_of_rows = "output_format_json_array_of_rows";
    matches!(facts.verb.as_str(), "SELECT" | "WITH" | "FROM" | "VALUES")
        && !facts.inserts
        // Totals and extremes come once, at the end of the whole, but the engine would add them to each chunk.
        && !facts.totals
        && !request.settings.iter().any(|(name, _)| name == "extremes" || name == array_of_rows)
        && !statement.contains(array_of_rows)
        && CONCATENABLE.contains(&format.to_ascii_lowercase().as_str())
}

/// The header of RowBinaryWithNamesAndTypes: a count, then as many names, then as many types, each with its length.
/// Empty if the bytes are not one.
fn header_of(chunk: &[u8]) -> &[u8] {
    fn number(bytes: &mut &[u8]) -> Option<usize> {
        let mut value = 0_usize;
        for shift in (0..63).step_by(7) {
            let (byte, rest) = bytes.split_first()?;
            *bytes = rest;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
    fn after_header(chunk: &[u8]) -> Option<&[u8]> {
        let mut rest = chunk;
        let columns = number(&mut rest)?;
        for _ in 0..columns.checked_mul(2)? {
            let length = number(&mut rest)?;
            rest = rest.get(length..)?;
        }
        Some(rest)
    }
    after_header(chunk).map_or(&[], |rest| &chunk[..chunk.len() - rest.len()])
}

/// A statement, found in URL, form or body.
enum Statement<R> {
    Query(String),
    Insert { head: String, format: Option<String>, data: io::Chain<io::Cursor<Vec<u8>>, R> },
}

/// Reads as much of the body as it takes to know the statement. A form's query is `complete` without the body.
fn find_statement<R: Read>(query: &str, mut body: R, complete: bool) -> Result<Statement<R>, Exception> {
    let mut text = query.as_bytes().to_vec();
    // As in ClickHouse, a line break separates the URL's part from the body's.
    if !text.is_empty() && !complete {
        text.push(b'\n');
    }
    let mut ended = complete;
    loop {
        match sql::find_insert(&text, ended) {
            Insert::At { head, format, data } => {
                let data = io::Cursor::new(text.split_off(data)).chain(body);
                return Ok(Statement::Insert { head, format, data });
            }
            Insert::No if ended => break,
            Insert::No | Insert::Unclear => {}
        }
        let start = text.len();
        // Few steps, so that looking again from the start costs little.
        text.resize(start + (64 << 10).max(start), 0);
        let count = fill(&mut body, &mut text[start..]).map_err(|error| read_failed(&error))?;
        text.truncate(start + count);
        ended = count == 0;
        if text.len() > MAX_STATEMENT_BYTES {
            return Err(Exception::new(
                exception::QUERY_IS_TOO_LARGE,
                "the statement is longer than 16 MiB; data belongs behind INSERT … FORMAT",
            ));
        }
    }
    String::from_utf8(text)
        .map(Statement::Query)
        .map_err(|_| Exception::new(exception::SYNTAX_ERROR, "Syntax error: the statement is not UTF-8"))
}

fn read_all(body: &mut impl Read) -> Result<Vec<u8>, Exception> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_STATEMENT_BYTES).unwrap_or(u64::MAX) + 1;
    body.take(limit).read_to_end(&mut bytes).map_err(|error| read_failed(&error))?;
    if bytes.len() > MAX_STATEMENT_BYTES {
        return Err(Exception::new(exception::QUERY_IS_TOO_LARGE, "the form is longer than 16 MiB"));
    }
    Ok(bytes)
}

/// Reads until `buffer` is full or the input ends.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
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
    fn start(&mut self, format: &str, progress: Progress) -> Result<(), Stop> {
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
    fn send(&mut self, data: &[u8]) -> Result<(), Stop> {
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
    fn finish(&mut self, result: Result<(), Stop>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_as_long_as_its_names_and_types() {
        let header = b"\x02\x01a\x02bc\x05UInt8\x06String";
        let chunk = [header.as_slice(), b"\x01\x00"].concat();
        assert_eq!(header_of(&chunk), header);
        assert_eq!(header_of(b"\x02\x01a"), b"");
        assert_eq!(header_of(b""), b"");
    }

    #[test]
    fn a_statement_is_put_together_from_url_and_body() {
        let check = |query: &str, body: &[u8], expected_head: &str, expected_data: &[u8]| {
            let mut found = (String::new(), Vec::new());
            match find_statement(query, body, false).unwrap() {
                Statement::Query(sql) => found.0 = sql,
                Statement::Insert { head, mut data, .. } => {
                    found.0 = head;
                    data.read_to_end(&mut found.1).unwrap();
                }
            }
            assert_eq!(found, (expected_head.to_owned(), expected_data.to_vec()), "{query:?}");
        };
        check("", b"SELECT 1", "SELECT 1", b"");
        check("SELECT", b"1", "SELECT\n1", b"");
        check("INSERT INTO t FORMAT RowBinary", b"\n\xff\0", "INSERT INTO t", b"\n\xff\0");
        check("", b"INSERT INTO t FORMAT CSV\n1\n", "INSERT INTO t", b"1\n");
        let long = vec![b'x'; 300_000];
        check("INSERT INTO t FORMAT TSV", &long, "INSERT INTO t", &long);
    }

    #[test]
    fn a_statement_has_a_bound() {
        let endless = io::repeat(b' ');
        let error = find_statement("SELECT", endless, false).err().unwrap();
        assert_eq!(error.code, 229);
    }
}
