//! A request's body as the thread reads it, and the statement at its beginning.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::exception::{self, Exception};
use super::sql::{self, Insert};

/// A statement, an INSERT's data not counted, may be this long; so may a form.
const MAX_STATEMENT_BYTES: usize = 16 << 20;
/// A piece of the request's body. Without [`BodyPart::End`] the client went away.
pub(super) enum BodyPart {
    Data(Bytes),
    End,
}

/// The request's body, read from the thread.
///
/// The default one has nothing to read.
#[derive(Default)]
pub(super) struct BodyReader {
    parts: Option<mpsc::Receiver<BodyPart>>,
    current: Bytes,
    ended: bool,
}

impl BodyReader {
    pub(super) fn new(parts: mpsc::Receiver<BodyPart>) -> Self {
        Self { parts: Some(parts), current: Bytes::new(), ended: false }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.parts.as_mut().and_then(mpsc::Receiver::blocking_recv) {
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

/// A statement, found in URL, form or body.
pub(super) enum Statement<R> {
    Query(String),
    Insert { head: String, format: Option<String>, data: io::Chain<io::Cursor<Vec<u8>>, R> },
}

/// Reads as much of the body as it takes to know the statement. A form's query is `complete` without the body.
pub(super) fn find_statement<R: Read>(
    query: &str,
    mut body: R,
    complete: bool,
) -> Result<Statement<R>, Exception> {
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

pub(super) fn read_all(body: &mut impl Read) -> Result<Vec<u8>, Exception> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_STATEMENT_BYTES).unwrap_or(u64::MAX) + 1;
    body.take(limit).read_to_end(&mut bytes).map_err(|error| read_failed(&error))?;
    if bytes.len() > MAX_STATEMENT_BYTES {
        return Err(Exception::new(exception::QUERY_IS_TOO_LARGE, "the form is longer than 16 MiB"));
    }
    Ok(bytes)
}

/// Reads until `buffer` is full or the input ends.
pub(super) fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

pub(super) fn read_failed(error: &io::Error) -> Exception {
    match error.kind() {
        io::ErrorKind::ConnectionAborted => Exception::new(exception::NETWORK_ERROR, error),
        _ => {
            Exception::new(exception::CANNOT_DECOMPRESS, format_args!("the body cannot be unpacked: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
