//! What a gateway posts: one event, an array, or NDJSON, perhaps compressed. Bounded before and after unpacking.

use std::io::Read;

use axum::http::{HeaderMap, header};
use serde_json::value::RawValue;

/// As sent; axum's own limit is set to it.
pub(super) const MAX_SENT_BYTES: usize = 1 << 20;
/// Unpacked.
pub(super) const MAX_UNPACKED_BYTES: usize = 8 << 20;
pub(super) const MAX_EVENTS: usize = 5_000;

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
}
