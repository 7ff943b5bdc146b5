//! What a gateway posts: one event, an array, or NDJSON, perhaps compressed. Bounded before and after unpacking.

use std::io::Read;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, SemaphorePermit};

/// As sent; axum's own limit is set to it.
pub(super) const MAX_SENT_BYTES: usize = 1 << 20;
/// Unpacked.
pub(super) const MAX_UNPACKED_BYTES: usize = 8 << 20;
pub(super) const MAX_EVENTS: usize = 5_000;

/// How long the last byte of a body may take.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// How long a request waits for room.
const ROOM_WITHIN: Duration = Duration::from_secs(5);

/// What the bodies that are read, unpacked and appended right now may take of memory together, in KiB.
const ROOM_KIB: usize = 256 << 10;

/// What a request takes beside its body, about.
const BESIDE_KIB: usize = 16;

/// Bounds the memory that bodies take at once, however many callers there are.
pub(crate) struct Room(Semaphore);

impl Default for Room {
    fn default() -> Self {
        Self(Semaphore::new(ROOM_KIB))
    }
}

/// Why a body was not read. None of it is the events' fault.
#[derive(Debug)]
pub(super) enum NotRead {
    /// Too many bodies are under way.
    Full,
    Slow,
    Broken(BytesRejection),
}

impl Room {
    /// Reads the body when there is room for it, which is held for as long as the permit is. Who is to be refused without
    /// its body has been refused before: this may take time and room.
    pub(super) async fn read(&self, request: Request) -> Result<(Bytes, SemaphorePermit<'_>), NotRead> {
        let room = tokio::time::timeout(ROOM_WITHIN, self.0.acquire_many(room_kib(request.headers())));
        let Ok(Ok(room)) = room.await else { return Err(NotRead::Full) };
        match tokio::time::timeout(READ_WITHIN, Bytes::from_request(request, &())).await {
            Ok(Ok(sent)) => Ok((sent, room)),
            Ok(Err(error)) => Err(NotRead::Broken(error)),
            Err(_) => Err(NotRead::Slow),
        }
    }
}

/// What a body of these headers may take: as sent, and unpacked.
fn room_kib(headers: &HeaderMap) -> u32 {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let sent = length.unwrap_or(MAX_SENT_BYTES).min(MAX_SENT_BYTES);
    let unpacked = if headers.contains_key(header::CONTENT_ENCODING) { MAX_UNPACKED_BYTES } else { sent };
    u32::try_from((sent + unpacked).div_ceil(1_024) + BESIDE_KIB).unwrap_or(u32::MAX)
}

/// Why a body is not a list of events.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum BodyError {
    #[error("Content-Type `{0}` is not taken; send application/json or application/x-ndjson")]
    ContentType(String),
    #[error("Content-Encoding `{0}` is not taken; send gzip, zstd or none")]
    ContentEncoding(String),
    #[error("the body is not {0}")]
    NotPacked(&'static str),
    #[error("the body unpacks to more than 8 MiB; send fewer events at once")]
    TooLarge,
    #[error("more than 5,000 events; send fewer at once")]
    TooMany,
    #[error("the body is not UTF-8")]
    NotUtf8,
    #[error("the body is empty; send one event, an array of events, or one event a line")]
    Empty,
    #[error("the body is not JSON at line {line}, column {column}: {what}")]
    NotJson { line: usize, column: usize, what: String },
}

/// Undoes the Content-Encoding.
pub(super) fn unpack(headers: &HeaderMap, sent: &[u8]) -> Result<String, BodyError> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?").trim());
    let unpacked = match encoding.map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "identity") => sent.to_vec(),
        Some("gzip" | "x-gzip") => read_bounded(flate2::read::MultiGzDecoder::new(sent), "gzip")?,
        Some("zstd") => {
            let decoder = zstd::stream::read::Decoder::new(sent).map_err(|_| BodyError::NotPacked("zstd"))?;
            read_bounded(decoder, "zstd")?
        }
        Some(other) => return Err(BodyError::ContentEncoding(other.to_owned())),
    };
    String::from_utf8(unpacked).map_err(|_| BodyError::NotUtf8)
}

/// Stops at the limit, so that a small bomb cannot fill the memory.
fn read_bounded(packed: impl Read, format: &'static str) -> Result<Vec<u8>, BodyError> {
    let mut unpacked = Vec::new();
    packed
        .take(MAX_UNPACKED_BYTES as u64 + 1)
        .read_to_end(&mut unpacked)
        .map_err(|_| BodyError::NotPacked(format))?;
    if unpacked.len() > MAX_UNPACKED_BYTES { Err(BodyError::TooLarge) } else { Ok(unpacked) }
}

/// Cuts the body into events. One that is not JSON fails the whole body, because its end cannot be known, but in what is
/// declared as lines: there it is refused alone.
pub(super) fn events<'b>(headers: &HeaderMap, body: &'b str) -> Result<Vec<&'b str>, BodyError> {
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    let media_type =
        content_type.map(|value| value.split(';').next().unwrap_or("").trim().to_ascii_lowercase());
    let lines = match media_type.as_deref() {
        // curl's default for --data; nothing else than JSON can be meant.
        None | Some("application/json" | "application/x-www-form-urlencoded") => false,
        Some("application/cloudevents+json" | "application/cloudevents-batch+json") => false,
        Some("application/x-ndjson" | "application/jsonl" | "application/json-seq") => true,
        Some(other) => return Err(BodyError::ContentType(other.to_owned())),
    };
    if body.trim().is_empty() {
        return Err(BodyError::Empty);
    }
    let found: Result<Vec<&RawValue>, _> = if !lines && body.trim_start().starts_with('[') {
        serde_json::from_str(body)
    } else {
        // Several values in a row are read as NDJSON whatever the type says: gateways often forget the header.
        let values = serde_json::Deserializer::from_str(body).into_iter::<&RawValue>();
        values.take(MAX_EVENTS + 1).collect()
    };
    let found: Vec<&str> = match found {
        Ok(found) => found.into_iter().map(RawValue::get).collect(),
        Err(_) if lines => body.lines().filter(|line| !line.trim().is_empty()).take(MAX_EVENTS + 1).collect(),
        Err(error) => return Err(not_json(&error)),
    };
    if found.len() > MAX_EVENTS { Err(BodyError::TooMany) } else { Ok(found) }
}

fn not_json(error: &serde_json::Error) -> BodyError {
    // serde_json's own text would repeat what stood there; that may be a token.
    let what = if error.is_eof() { "it ends too early" } else { "a syntax error" };
    BodyError::NotJson { line: error.line(), column: error.column(), what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn one_event_an_array_and_lines_are_cut_alike() {
        let json = headers(&[(header::CONTENT_TYPE, "application/json; charset=utf-8")]);
        let ndjson = headers(&[(header::CONTENT_TYPE, "application/x-ndjson")]);
        let cut =
            |headers: &HeaderMap, body: &'static str| -> Vec<&'static str> { events(headers, body).unwrap() };
        assert_eq!(cut(&json, r#"{"a":1}"#), [r#"{"a":1}"#]);
        assert_eq!(cut(&json, r#" [{"a":1}, {"a":2}]"#), [r#"{"a":1}"#, r#"{"a":2}"#]);
        assert_eq!(cut(&ndjson, "{\"a\":1}\r\n\r\n{\"a\":2}\n"), [r#"{"a":1}"#, r#"{"a":2}"#]);
        assert_eq!(cut(&HeaderMap::new(), "{\"a\":1}\n{\"a\":2}"), [r#"{"a":1}"#, r#"{"a":2}"#]);
        // A broken line is an event of its own, to be refused alone.
        assert_eq!(cut(&ndjson, "{\"a\":1}\n{b\n{\"a\":2}\n"), [r#"{"a":1}"#, "{b", r#"{"a":2}"#]);
    }

    #[test]
    fn what_is_not_events_says_why_without_repeating_it() {
        let body = "{\"a\": eyJhbGciOiJub25lIn0.e30.}";
        let error = events(&HeaderMap::new(), body).unwrap_err();
        assert_eq!(error.to_string(), "the body is not JSON at line 1, column 7: a syntax error");
        assert!(matches!(events(&HeaderMap::new(), "  "), Err(BodyError::Empty)));
        let xml = headers(&[(header::CONTENT_TYPE, "text/xml")]);
        assert!(matches!(events(&xml, "<a/>"), Err(BodyError::ContentType(_))));
        let many = format!("[{}0]", "0,".repeat(MAX_EVENTS));
        assert!(matches!(events(&HeaderMap::new(), &many), Err(BodyError::TooMany)));
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = zstd::encode_all(&vec![b' '; MAX_UNPACKED_BYTES + 1][..], 3).unwrap();
        let packed = headers(&[(header::CONTENT_ENCODING, "zstd")]);
        assert_eq!(unpack(&packed, &bomb), Err(BodyError::TooLarge));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(br#"{"a":1}"#).unwrap();
        let packed = headers(&[(header::CONTENT_ENCODING, "gzip")]);
        assert_eq!(unpack(&packed, &gzip.finish().unwrap()).unwrap(), r#"{"a":1}"#);
        assert_eq!(unpack(&packed, b"{}"), Err(BodyError::NotPacked("gzip")));
    }

    #[test]
    fn a_body_takes_the_room_that_it_may_need() {
        let check = |headers: &[(header::HeaderName, &str)], kib: u32| {
            let headers =
                headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            assert_eq!(room_kib(&headers), kib, "{headers:?}");
        };
        check(&[(header::CONTENT_LENGTH, "2048")], 2 + 2 + 16);
        check(&[(header::CONTENT_LENGTH, "2048"), (header::CONTENT_ENCODING, "gzip")], 2 + 8 * 1_024 + 16);
        // Not said, not true, or refused as soon as it is read.
        check(&[], 2 * 1_024 + 16);
        check(&[(header::CONTENT_LENGTH, "-1")], 2 * 1_024 + 16);
        check(&[(header::CONTENT_LENGTH, "99999999999")], 2 * 1_024 + 16);
    }
}
