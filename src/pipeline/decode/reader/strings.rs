//! Strings of JSON: where one ends, and what its escapes stand for.

use std::borrow::Cow;

use super::super::RejectReason;
use super::{Fault, Read, fault};
use crate::model::Text;

/// The first quote, backslash or control character at or after `at`; the end if there is none. Eight bytes at a time.
pub(super) fn next_special(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The high bit of each byte that is zero; exact for the lowest such byte, and only that one is used.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let special = zero(word ^ (ONES * 0x22)) | zero(word ^ (ONES * 0x5c)) | control;
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        at += 1;
    }
    at
}

/// Resolves the escapes of a string.
pub(super) fn unescape(raw: &str) -> Read<Text<'_>> {
    if !raw.contains('\\') {
        return Ok(Cow::Borrowed(raw));
    }
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut chars = escape.chars();
        text.push(match chars.next() {
            Some(same @ ('"' | '\\' | '/')) => same,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let (character, after) = unicode_escape(chars.as_str())?;
                chars = after.chars();
                character
            }
            _ => return fault(RejectReason::NotJson),
        });
        rest = chars.as_str();
    }
    text.push_str(rest);
    Ok(Cow::Owned(text))
}

/// The character of `XXXX` or of a surrogate pair `XXXX\uXXXX`, and what follows it.
fn unicode_escape(text: &str) -> Read<(char, &str)> {
    let (high, rest) = hex4(text)?;
    let (code, rest) = match high {
        0xd800..=0xdbff => {
            let Some(low) = rest.strip_prefix("\\u") else { return fault(RejectReason::NotJson) };
            let (low, rest) = hex4(low)?;
            if !(0xdc00..=0xdfff).contains(&low) {
                return fault(RejectReason::NotJson);
            }
            (0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00), rest)
        }
        code => (code, rest),
    };
    char::from_u32(code).map(|character| (character, rest)).ok_or(Fault::new(RejectReason::NotJson))
}

fn hex4(text: &str) -> Read<(u32, &str)> {
    let not_json = Fault::new(RejectReason::NotJson);
    let Some((digits, rest)) = text.split_at_checked(4) else { return Err(not_json) };
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(not_json);
    }
    u32::from_str_radix(digits, 16).map(|code| (code, rest)).map_err(|_| not_json)
}
