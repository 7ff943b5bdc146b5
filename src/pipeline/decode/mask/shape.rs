//! What a token looks like: a base64url segment that decodes to a JSON object with `alg` or `enc`, then dots.
//!
//! Some gateway's parser takes what a strict one refuses: numbers without bounds (`1e999`), half a surrogate pair, a byte
//! order mark, `NaN`, a comma too many. So of the header only what every parser agrees on is read: where strings and
//! brackets begin and end, and which names the outermost object has. It is decoded character by character, so that a
//! place which only looks like a header costs no more than the few characters after which it cannot be one.

use super::encoded::read;
use crate::token::{is_base64url, sha256_base64url};

/// Headers nest a key in a member (`jwk`, `epk`) and no deeper; beyond this a place is given up, which keeps the work
/// linear for text made of opening braces.
const MAX_HEADER_DEPTH: u8 = 16;

const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// White space before a header's brace that is read as its own. A longer run would make many places costly; what stands
/// before its last part is white space in base64url and no token.
const MAX_LEADING_BLANKS: u8 = 48;

/// A token's end and name.
pub(super) struct Token {
    pub(super) end: usize,
    pub(super) token_ref: String,
}

/// What the header says of the form that follows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `alg` alone: header, payload, signature.
    Jws,
    /// `enc`: header, key, nonce, ciphertext, tag. With three segments it is taken for what it looks like.
    Jwe,
}

/// Whether a token may begin with this byte: the first character of base64url of `{`, of white space, of a byte order
/// mark, or an escape.
pub(super) const fn may_begin(byte: u8) -> bool {
    matches!(byte, b'e' | b'I' | b'C' | b'D' | b'7' | b'%' | b'\\')
}

/// The token that begins exactly at `start`.
pub(super) fn token_at(text: &[u8], start: usize) -> Option<Token> {
    let (first, after) = read(text, start)?;
    let (second, _) = read(text, after)?;
    if !begins_object(first, second) {
        return None;
    }
    let (form, mut at) = header(text, start)?;
    // Dots after the header, and where the segment behind each ends.
    let wanted = if form == Form::Jwe { 4 } else { 2 };
    let mut dots = [at; 4];
    let mut ends = [at; 4];
    let mut count = 0;
    while count < wanted {
        let Some((b'.', after)) = read(text, at) else { break };
        dots[count] = at;
        at = after;
        while let Some((_, after)) = read(text, at).filter(|&(byte, _)| of_segment(byte)) {
            at = after;
        }
        ends[count] = at;
        count += 1;
    }
    let last = match count {
        4 => 3,
        2 | 3 => 1,
        _ => return None,
    };
    let mut hashed = Vec::with_capacity(dots[last] - start);
    let mut at = start;
    while let Some((byte, after)) = read(text, at).filter(|_| at < dots[last]) {
        hashed.push(byte);
        at = after;
    }
    Some(Token { end: ends[last], token_ref: sha256_base64url(&hashed) })
}

/// Whether two characters of base64url may begin a JSON object: `{` and a quote, or white space, in either order.
///
/// `{"` and `{ ` give `ey`, `{` and a line break or tab `ew`; white space before the brace gives the others, a byte
/// order mark `77`.
const fn begins_object(first: u8, second: u8) -> bool {
    match first {
        b'e' => matches!(second, b'y' | b'w'),
        b'I' => matches!(second, b'A' | b'C' | b'H'),
        b'C' => matches!(second, b'Q' | b'S' | b'X' | b'g' | b'i' | b'n'),
        b'D' => matches!(second, b'Q' | b'S' | b'X'),
        b'7' => second == b'7',
        _ => false,
    }
}

/// Padding is no part of base64url, but some decoders let it pass.
const fn of_segment(byte: u8) -> bool {
    is_base64url(byte) || byte == b'='
}

/// Reads the segment at `start` as a header; gives the place after it.
fn header(text: &[u8], start: usize) -> Option<(Form, usize)> {
    let mut segment = Segment { text, at: start, bits: 0, held: 0 };
    let names = segment.object()?;
    while let Some(byte) = segment.next() {
        // Where a length or a buffer's end is taken for the header's, zeros follow.
        if !is_blank(byte) && byte != 0 {
            return None;
        }
    }
    while let Some((_, after)) = read(text, segment.at).filter(|&(byte, _)| byte == b'=') {
        segment.at = after;
    }
    let form = match names {
        Names { enc: true, .. } => Form::Jwe,
        Names { alg: true, .. } => Form::Jws,
        _ => return None,
    };
    Some((form, segment.at))
}

/// Which of the telling members a header has.
#[derive(Default)]
struct Names {
    alg: bool,
    enc: bool,
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Decodes base64url as it is read, up to the first character that is none.
struct Segment<'t> {
    text: &'t [u8],
    at: usize,
    /// Bits read and not yet given out, the lowest `held` of them.
    bits: u32,
    held: u8,
}

impl Segment<'_> {
    fn next(&mut self) -> Option<u8> {
        while self.held < 8 {
            let (character, after) = read(self.text, self.at)?;
            self.bits = self.bits << 6 | u32::from(sextet(character)?);
            self.held += 6;
            self.at = after;
        }
        self.held -= 8;
        let byte = (self.bits >> self.held) & 0xff;
        u8::try_from(byte).ok()
    }

    /// Reads an object to its last brace.
    fn object(&mut self) -> Option<Names> {
        self.first_brace()?;
        let mut names = Names::default();
        let mut depth: u8 = 1;
        // The string just read: a member's name, if a colon follows.
        let mut string = None;
        loop {
            match self.next()? {
                quote @ (b'"' | b'\'') => string = Some(self.string(quote)?),
                b':' if depth == 1 => {
                    let name = string.take();
                    names.alg |= name == Some(*b"alg");
                    names.enc |= name == Some(*b"enc");
                }
                b'{' | b'[' if depth > MAX_HEADER_DEPTH => return None,
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 1 => return Some(names),
                b'}' | b']' => depth -= 1,
                blank if is_blank(blank) => {}
                b'!'..=b'~' => string = None,
                // Nothing that is no text stands outside of strings.
                _ => return None,
            }
        }
    }

    /// Reads up to the header's brace: a byte order mark and white space may stand before it.
    fn first_brace(&mut self) -> Option<()> {
        let mut byte = self.next()?;
        if byte == BYTE_ORDER_MARK[0] {
            if self.next()? != BYTE_ORDER_MARK[1] || self.next()? != BYTE_ORDER_MARK[2] {
                return None;
            }
            byte = self.next()?;
        }
        for _ in 0..MAX_LEADING_BLANKS {
            match byte {
                b'{' => return Some(()),
                blank if is_blank(blank) => byte = self.next()?,
                _ => return None,
            }
        }
        None
    }

    /// Reads a string to its closing quote. Gives what it says as far as a telling name needs it: other than three
    /// characters, or any beyond ASCII, is [`NO_NAME`].
    fn string(&mut self, quote: u8) -> Option<[u8; 3]> {
        let mut name = NO_NAME;
        let mut length = 0;
        let mut push = |character: u32| {
            if let Some(place) = name.get_mut(length) {
                *place = u8::try_from(character).unwrap_or(0);
            }
            length += 1;
        };
        let mut byte = self.next()?;
        loop {
            if byte == quote {
                break;
            } else if byte != b'\\' {
                push(u32::from(byte));
                byte = self.next()?;
            } else {
                let escape = self.next()?;
                byte = self.next()?;
                let (mut code, mut digits) = (0, 0);
                while let Some(digit) = char::from(byte).to_digit(16).filter(|_| escape == b'u' && digits < 4)
                {
                    (code, digits) = (code << 4 | digit, digits + 1);
                    byte = self.next()?;
                }
                push(code);
            }
        }
        Some(if length == name.len() { name } else { NO_NAME })
    }
}

/// What no telling name is.
const NO_NAME: [u8; 3] = [0; 3];

const fn sextet(character: u8) -> Option<u8> {
    match character {
        b'A'..=b'Z' => Some(character - b'A'),
        b'a'..=b'z' => Some(character - b'a' + 26),
        b'0'..=b'9' => Some(character - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}
