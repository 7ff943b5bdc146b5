//! Any bytes as a request to the engine's HTTP interface: read without a panic, bounded, and never read two ways.

use std::io::Read;

use axum::http::Request as HttpRequest;

use super::body::{Statement, find_statement};
use super::compress::{Encoding, Packing, reader};
use super::request::{Request, form_fields};
use super::sql::{
    Insert, calls, escaped, find_insert, has_settings_clause, identifier, inspect, literal, mentions,
};
use crate::fuzz::parts;

/// More is not unpacked here: a small input may be a large body.
const UNPACKED: u64 = 1 << 20;

/// The URL, then names and values of headers.
pub(crate) fn request(data: &[u8]) {
    let mut parts = parts(data);
    let Some(uri) = parts.next().and_then(|uri| std::str::from_utf8(uri).ok()) else { return };
    let mut builder = HttpRequest::builder().method("POST").uri(uri);
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        builder = builder.header(name, value);
    }
    let Ok(request) = builder.body(()) else { return };
    let Ok(request) = Request::read(&request.into_parts().0, "fallback".to_owned()) else { return };
    assert!(!request.query_id.contains(['\r', '\n']), "it is answered as a header");
}

/// How it is packed, a form's boundary, the statement of the URL, then the body, zeros and all.
pub(crate) fn body(data: &[u8]) {
    let (&[packing, boundary_bytes, query_bytes], rest) =
        data.split_first_chunk::<3>().unwrap_or((&[0; 3], &[]));
    let (boundary, rest) = rest.split_at(usize::from(boundary_bytes).min(rest.len()));
    let (query, body) = rest.split_at(usize::from(query_bytes).min(rest.len()));
    let _ = form_fields(body, &String::from_utf8_lossy(boundary));
    let encoding = match packing & 3 {
        0 => None,
        1 => Some(Encoding::Gzip),
        2 => Some(Encoding::Zstd),
        _ => Some(Encoding::Lz4),
    };
    let (query, complete) = (String::from_utf8_lossy(query), packing & 8 != 0);
    let Ok(packed) = reader(Packing { blocks: packing & 4 != 0, encoding }, body) else { return };
    let mut unpacked = Vec::new();
    if packed.take(UNPACKED).read_to_end(&mut unpacked).is_ok() {
        read_in_steps_as_in_one(&query, &unpacked, complete);
    }
}

/// What is found while the body is read is what is found in all of it, and none of its bytes is lost.
fn read_in_steps_as_in_one(query: &str, body: &[u8], complete: bool) {
    let mut whole = query.as_bytes().to_vec();
    if !complete {
        whole.extend((!query.is_empty()).then_some(b'\n'));
        whole.extend(body);
    }
    let rest = if complete { body } else { &[] };
    match (find_statement(query, body, complete), find_insert(&whole, true)) {
        (
            Ok(Statement::Insert { head, format, mut data }),
            Insert::At { head: same, format: as_one, data: at },
        ) => {
            let mut read = Vec::new();
            assert!(data.read_to_end(&mut read).is_ok(), "the body was read before");
            assert_eq!((head, format), (same, as_one), "another statement");
            assert_eq!(read, [&whole[at..], rest].concat(), "other data");
        }
        (Ok(Statement::Query(text)), Insert::No) => assert_eq!(text.as_bytes(), whole, "another statement"),
        (Err(_), Insert::No) => assert!(std::str::from_utf8(&whole).is_err(), "a statement is refused"),
        (_, found) => panic!("read two ways; in one: {found:?}"),
    }
}

/// A statement: cut anywhere, an INSERT's data begins at the same place; what we quote stays one word.
pub(crate) fn sql(data: &[u8]) {
    let whole = find_insert(data, true);
    for cut in 0..data.len().min(256) {
        if let Insert::At { data: from, .. } = find_insert(&data[..cut], false) {
            assert!(
                matches!(whole, Insert::At { data: at, .. } if at == from),
                "a beginning said {from}, the whole {whole:?}"
            );
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    inspect(text);
    has_settings_clause(text);
    mentions(text, "url");
    calls(text, "file");
    let quoted = inspect(&format!("SELECT {} AS {}", literal(text), identifier(text)));
    assert!(!quoted.several && !quoted.inserts && !quoted.touches_files, "quoted text broke out");
    assert!(!escaped(text).contains(['\t', '\n']), "one field of a line");
}
