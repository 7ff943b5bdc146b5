//! What a token looks like: a base64url segment that decodes to a JSON object with `alg` or `enc`, then dots.
//!
//! The header is decoded and parsed character by character, so that a place which only looks like one costs no more
//! than the few characters after which it stops being JSON.

use std::fmt;
use std::io;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::encoded::read;
use crate::token::{is_base64url, sha256_base64url};

/// Headers nest a key in a member (`jwk`, `epk`) and no deeper; beyond this a place is given up, which keeps the work
/// linear for text made of opening braces.
const MAX_HEADER_DEPTH: u8 = 16;

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

/// Whether a token may begin with this byte: the first character of base64url of `{`, of white space, or an escape.
pub(super) const fn may_begin(byte: u8) -> bool {
    matches!(byte, b'e' | b'I' | b'C' | b'D' | b'%' | b'\\')
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
/// `{"` and `{ ` give `ey`, `{` and a line break or tab `ew`; white space before the brace gives the others.
const fn begins_object(first: u8, second: u8) -> bool {
    match first {
        b'e' => matches!(second, b'y' | b'w'),
        b'I' => matches!(second, b'A' | b'C' | b'H'),
        b'C' => matches!(second, b'Q' | b'S' | b'X' | b'g' | b'i' | b'n'),
        b'D' => matches!(second, b'Q' | b'S' | b'X'),
        _ => false,
    }
}

/// Padding is no part of base64url, but some decoders let it pass.
const fn of_segment(byte: u8) -> bool {
    is_base64url(byte) || byte == b'='
}

/// Reads the segment at `start` as a header; gives the place after it.
fn header(text: &[u8], start: usize) -> Option<(Form, usize)> {
    let mut segment = Segment { text, at: start, bits: 0, held: 0, blanks: 0 };
    let mut json = serde_json::Deserializer::from_reader(&mut segment);
    let names = json.deserialize_map(Header).ok()?;
    json.end().ok()?;
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

/// Decodes base64url as it is read, up to the first character that is none.
struct Segment<'t> {
    text: &'t [u8],
    at: usize,
    /// Bits read and not yet given out, the lowest `held` of them.
    bits: u32,
    held: u8,
    /// White space seen, while there was nothing else.
    blanks: u8,
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
}

impl io::Read for &mut Segment<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (Some(place), Some(byte)) = (buffer.first_mut(), self.next()) else { return Ok(0) };
        if byte == b'{' {
            self.blanks = MAX_LEADING_BLANKS;
        } else if self.blanks < MAX_LEADING_BLANKS {
            self.blanks += 1;
            if self.blanks == MAX_LEADING_BLANKS {
                return Ok(0);
            }
        }
        *place = byte;
        Ok(1)
    }
}

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

/// Which of the telling members a header has.
#[derive(Default)]
struct Names {
    alg: bool,
    enc: bool,
}

struct Header;

impl<'de> Visitor<'de> for Header {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JOSE header")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Names, A::Error> {
        let mut names = Names::default();
        while let Some(name) = members.next_key::<String>()? {
            names.alg |= name == "alg";
            names.enc |= name == "enc";
            members.next_value_seed(Shallow(MAX_HEADER_DEPTH))?;
        }
        Ok(names)
    }
}

/// Any value that nests no deeper than this.
struct Shallow(u8);

impl Shallow {
    fn inner<E: serde::de::Error>(&self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom("too deep for a header"))
    }
}

impl<'de> DeserializeSeed<'de> for Shallow {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shallow {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while members.next_key::<IgnoredAny>()?.is_some() {
            members.next_value_seed(self.inner()?)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(self.inner()?)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
