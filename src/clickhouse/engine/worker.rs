//! What one request does with the engine, on a thread of its own: the engine's calls block and need a deep stack.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::access::{self, Role};
use super::answer::{Answer, Stop};
use super::body::{BodyReader, Statement, fill, find_statement, read_all, read_failed};
use super::compress;
use super::exception::{self, Exception};
use super::ffi::{Class, Connection, Output};
use super::request::{self, Request};
use super::session::Sessions;
use super::sql::{self, Facts};

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
        let body = std::mem::take(&mut self.body);
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
        if sql::calls(head, "input") {
            let message = "INSERT … SELECT … FROM input(…) is not supported by the embedded engine: insert the rows \
                           as they are, or with DEFAULT and MATERIALIZED columns";
            return Err(Exception::new(exception::NOT_IMPLEMENTED, message).into());
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

fn no_files() -> Exception {
    Exception::new(exception::ACCESS_DENIED, "INTO OUTFILE and FROM INFILE are not allowed over HTTP")
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
}
