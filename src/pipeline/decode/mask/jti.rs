//! The value of a member named `jti`, in bytes that need not be JSON: a clear `jti` is never published (EVENT), not in
//! a dead letter either. An event that is one drops it while it is read.

use std::ops::Range;

use super::encoded::read;

const MASKED: &[u8] = b"[masked]";

/// Backslashes before one quote: JSON within JSON within JSON within JSON has seven.
const MAX_BACKSLASHES: usize = 15;

/// Puts `[masked]` in place of each such value.
pub(super) fn mask(bytes: Vec<u8>) -> Vec<u8> {
    let mut masked = Vec::new();
    let mut done = 0;
    // A run of backslashes is looked at once, from its start.
    let begins = |at: usize| matches!(bytes[at], b'"' | b'%' | b'\\') && (at == 0 || bytes[at - 1] != b'\\');
    for at in 0..bytes.len() {
        if at < done || !begins(at) {
            continue;
        }
        let Some(Value { range, quoted }) = value_of_jti(&bytes, at) else { continue };
        masked.extend_from_slice(&bytes[done..range.start]);
        let quote: &[u8] = if quoted { b"" } else { b"\"" };
        masked.extend_from_slice(&[quote, MASKED, quote].concat());
        done = range.end;
    }
    if done == 0 {
        return bytes;
    }
    masked.extend_from_slice(&bytes[done..]);
    masked
}

struct Value {
    /// Without the quotes of a string.
    range: Range<usize>,
    quoted: bool,
}

/// The value of the member whose name begins at `at`, if that is `jti`.
fn value_of_jti(text: &[u8], at: usize) -> Option<Value> {
    let mut at = quote(text, at)?.after;
    for letter in *b"jti" {
        at = read(text, at).filter(|&(byte, _)| byte == letter)?.1;
    }
    let at = skip_blanks(text, quote(text, at)?.after);
    let at = skip_blanks(text, read(text, at).filter(|&(byte, _)| byte == b':')?.1);
    let (range, quoted) = match quote(text, at) {
        Some(open) => (open.after..string_end(text, &open).0, true),
        None => (at..value_end(text, at), false),
    };
    Some(Value { range, quoted }).filter(|value| !value.range.is_empty())
}

/// A quote with the backslashes before it.
struct Quote {
    after: usize,
    backslashes: usize,
}

fn quote(text: &[u8], start: usize) -> Option<Quote> {
    let (mut at, mut backslashes) = (start, 0);
    loop {
        match read(text, at)? {
            (b'"', after) => return Some(Quote { after, backslashes }),
            (b'\\', after) if backslashes < MAX_BACKSLASHES => (at, backslashes) = (after, backslashes + 1),
            _ => return None,
        }
    }
}

/// Where the string ends that `open` begins, and the place after its quote; the end of the text if nothing ends it.
///
/// In JSON a quote ends a string unless an odd number of backslashes stands before it. Within a string of JSON each of
/// them, and the quote, has a backslash of its own, and so on.
fn string_end(text: &[u8], open: &Quote) -> (usize, usize) {
    let period = 2 * (open.backslashes + 1);
    let (mut at, mut run_start, mut backslashes) = (open.after, open.after, 0);
    while let Some((byte, after)) = read(text, at) {
        match byte {
            b'\\' => backslashes += 1,
            b'"' if backslashes % period == open.backslashes => return (run_start, after),
            _ => (run_start, backslashes) = (after, 0),
        }
        at = after;
    }
    (text.len(), text.len())
}

/// Where a value ends that is no string: at the comma or bracket behind it.
fn value_end(text: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while let Some((byte, after)) = read(text, at) {
        at = match byte {
            b',' | b'}' | b']' if depth == 0 => break,
            b'}' | b']' => {
                depth -= 1;
                after
            }
            b'{' | b'[' => {
                depth += 1;
                after
            }
            b'"' | b'\\' => quote(text, at).map_or(after, |open| string_end(text, &open).1),
            _ => after,
        };
    }
    at
}

/// White space, also as the escapes of JSON within JSON.
fn skip_blanks(text: &[u8], mut at: usize) -> usize {
    loop {
        match read(text, at) {
            Some((b' ' | b'\t' | b'\n' | b'\r', after)) => at = after,
            Some((b'\\', after)) => match read(text, after) {
                Some((b't' | b'n' | b'r', after)) => at = after,
                _ => return at,
            },
            _ => return at,
        }
    }
}
