//! Token-shaped text, and its replacement by `[masked:REF]` (EVENT, "No field may carry a token").
//!
//! Three steps, each paid only where the one before calls for it: [`suspicious`] asks in one vectorised pass whether
//! there could be a token at all; `find` tries every place where a header could begin; [`shape`] decides.

mod encoded;
mod jti;
mod shape;

use std::borrow::Cow;
use std::ops::Range;

use crate::model::Text;
use crate::token::{is_base64url, is_ref};

/// The shortest header that names an algorithm is `{"alg":0}`: nine bytes, twelve characters.
const MIN_HEADER_CHARS: usize = 12;

const MARKER_START: &[u8] = b"[masked:";
/// `[masked:`, a ref of 43 characters, `]`.
pub(super) const MARKER_CHARS: usize = MARKER_START.len() + 43 + 1;

/// Of the tokens in a text that is not kept: enough to tell of them, and no room for a flood.
const MAX_MARKERS: usize = 8;

/// What was found and is to be replaced.
struct Found {
    range: Range<usize>,
    /// More than one where tokens stand so close that one's end is the other's beginning.
    refs: Vec<String>,
}

/// Whether `text` could hold a token or a marker. Never wrong when it says no.
pub(super) fn suspicious(text: &[u8]) -> bool {
    if text.len() < MIN_HEADER_CHARS + 2 {
        return false;
    }
    memchr::memchr3_iter(b'.', b'%', b'\\', text).any(|at| match text[at] {
        b'.' => ends_a_header(text, at),
        b'%' => true,
        // Only these two escapes can spell what a token is made of.
        _ => matches!(text.get(at + 1), Some(b'u' | b'\\')),
    }) || memchr::memchr_iter(b'[', text).any(|at| text[at..].starts_with(MARKER_START))
}

/// Whether the dot at `at` could be the one after a token's header: enough characters before it, a second dot behind.
fn ends_a_header(text: &[u8], at: usize) -> bool {
    let of_segment = |byte: &u8| is_base64url(*byte) || *byte == b'=';
    let Some(start) = at.checked_sub(MIN_HEADER_CHARS) else { return false };
    // Backwards: what fails, fails at once ("Chrome/126." at its slash).
    if !text[start..at].iter().rev().all(of_segment) {
        return false;
    }
    // An encoded character may stand in any later segment.
    matches!(text[at + 1..].iter().find(|byte| !of_segment(byte)), Some(b'.' | b'%' | b'\\'))
}

/// Masks text of a field; `leak` is told each ref.
pub(super) fn mask_text<'t>(text: Text<'t>, mut leak: impl FnMut(String)) -> Text<'t> {
    if !suspicious(text.as_bytes()) {
        return text;
    }
    let found = find(text.as_bytes(), text.len());
    if found.is_empty() {
        return text;
    }
    let mut masked = String::with_capacity(text.len());
    let mut done = 0;
    for Found { range, refs } in found {
        masked.push_str(&text[done..range.start]);
        done = range.end;
        for token_ref in refs {
            push_marker(&mut masked, &token_ref);
            leak(token_ref);
        }
    }
    masked.push_str(&text[done..]);
    Cow::Owned(masked)
}

/// The refs of all tokens and markers in `bytes`.
pub(super) fn refs(bytes: &[u8]) -> Vec<String> {
    find(bytes, bytes.len()).into_iter().flat_map(|found| found.refs).collect()
}

/// Masks bytes of any kind (JSON, broken JSON, no text at all) and cuts the result at `limit` bytes.
pub(super) fn mask_bytes(bytes: &[u8], limit: usize) -> Vec<u8> {
    // A token that begins before the cut is masked to its end; one that begins behind it is cut away.
    let head = &bytes[..bytes.len().min(limit)];
    let mut masked = Vec::with_capacity(head.len());
    let mut done = 0;
    for Found { range, refs } in find(bytes, head.len()) {
        masked.extend_from_slice(&bytes[done..range.start]);
        done = range.end;
        for token_ref in refs {
            let mut marker = String::with_capacity(MARKER_CHARS);
            push_marker(&mut marker, &token_ref);
            masked.extend_from_slice(marker.as_bytes());
        }
    }
    masked.extend_from_slice(head.get(done..).unwrap_or_default());
    masked.truncate(limit);
    masked
}

/// Masks what is no event as a dead letter shows it: every token, and the value of every member named `jti`.
pub(super) fn mask_rejected(bytes: &[u8], limit: usize) -> Vec<u8> {
    let mut masked = jti::mask(mask_bytes(bytes, limit));
    masked.truncate(limit);
    masked
}

/// The markers of `refs`, if there are any.
pub(super) fn markers<'r>(refs: impl IntoIterator<Item = &'r str>) -> Option<String> {
    let mut text = String::new();
    refs.into_iter().take(MAX_MARKERS).for_each(|token_ref| push_marker(&mut text, token_ref));
    Some(text).filter(|text| !text.is_empty())
}

pub(super) fn push_marker(text: &mut String, token_ref: &str) {
    text.push_str("[masked:");
    text.push_str(token_ref);
    text.push(']');
}

/// Every token and marker that begins before `until`, in order, none touching another's range.
///
/// Each place is tried, not each word: `session_eyJ…` and `%2eyJ…` hide nothing. Places inside a token just found are
/// tried too, because a second token may begin in the first one's signature.
fn find(text: &[u8], until: usize) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for at in 0..until {
        let (end, token_ref) = if text[at] == b'[' {
            let Some(token_ref) = marker_at(&text[at..]) else { continue };
            (at + MARKER_CHARS, token_ref.to_owned())
        } else if shape::may_begin(text[at]) {
            let Some(token) = shape::token_at(text, at) else { continue };
            (token.end, token.token_ref)
        } else {
            continue;
        };
        match found.last_mut() {
            // Inside the one before and no longer than it: masked already.
            Some(last) if end <= last.range.end => {}
            Some(last) if at < last.range.end => {
                last.range.end = end;
                last.refs.push(token_ref);
            }
            _ => found.push(Found { range: at..end, refs: vec![token_ref] }),
        }
    }
    found
}

/// The ref of a marker that stands at the start of `text`.
fn marker_at(text: &[u8]) -> Option<&str> {
    let marker = text.get(..MARKER_CHARS)?.strip_prefix(MARKER_START)?.strip_suffix(b"]")?;
    std::str::from_utf8(marker).ok().filter(|token_ref| is_ref(token_ref))
}

#[cfg(test)]
pub(super) mod tests;
