//! A strict reader of JSON (RFC 8259) over a record's text: one pass, borrowed strings, limits, and the place at fault.
//!
//! It knows nothing of events. Unlike a general parser it refuses repeated members, says where and why in the words of
//! the dead letters, and masks each string as it leaves.

mod strings;

use std::borrow::Cow;
use std::str::FromStr;

use serde_json::{Map, Number, Value};

use super::{RejectReason, mask};
use crate::model::Text;
use strings::{next_special, unescape};

/// Bytes a string may have.
pub(super) const MAX_STRING_BYTES: usize = 2 * 1024;
/// Elements a list may have.
pub(super) const MAX_ELEMENTS: usize = 64;
/// How deep objects and lists may nest; the event itself is the first.
pub(super) const MAX_DEPTH: usize = 8;
/// How deep they may nest where there are no limits, for the stack's sake.
const MAX_DEPTH_WITHOUT_LIMITS: usize = 24;

/// Why reading stopped. The place is the reader's path, unless `below` names a member that is not there.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) reason: RejectReason,
    pub(super) below: Option<&'static str>,
}

impl Fault {
    pub(super) const fn new(reason: RejectReason) -> Self {
        Self { reason, below: None }
    }

    /// The fault lies at `below`, a pointer relative to where the reader stands.
    pub(super) const fn at(reason: RejectReason, below: &'static str) -> Self {
        Self { reason, below: Some(below) }
    }
}

pub(super) type Read<T> = Result<T, Fault>;

const fn fault<T>(reason: RejectReason) -> Read<T> {
    Err(Fault::new(reason))
}

/// One step of the way to a value.
#[derive(Clone, Copy, Debug)]
enum Step<'r> {
    /// A member's name as it stands between the quotes.
    Member(&'r str),
    Element(usize),
}

/// A string between its quotes.
struct Raw<'r> {
    text: &'r str,
    escaped: bool,
}

/// A masked token and where it stood.
#[derive(Debug)]
pub(super) struct Mask {
    pub(super) field: String,
    pub(super) token_ref: String,
}

pub(super) struct Reader<'r> {
    text: &'r str,
    at: usize,
    path: [Step<'r>; MAX_DEPTH_WITHOUT_LIMITS],
    depth: usize,
    /// The steps that lead to the event: 1 within an envelope. Pointers and the limit of depth begin there.
    base: usize,
    /// Off where only the text's syntax is asked for.
    limited: bool,
    /// Whether any string without escapes could hold a token: asked once for the whole text.
    suspicious: bool,
    pub(super) masks: Vec<Mask>,
    /// Pointers of the strings that [`Reader::text_or_cut`] cut.
    pub(super) cuts: Vec<String>,
}

impl<'r> Reader<'r> {
    pub(super) fn new(text: &'r str) -> Self {
        Self {
            text,
            at: 0,
            path: [Step::Element(0); MAX_DEPTH_WITHOUT_LIMITS],
            depth: 0,
            base: 0,
            limited: true,
            suspicious: mask::suspicious(text.as_bytes()),
            masks: Vec::new(),
            cuts: Vec::new(),
        }
    }

    /// A reader that checks syntax and repeated members alone: to look over what another one stopped at, and for the
    /// door, which shortens some of what is too long.
    pub(super) fn without_limits(text: &'r str) -> Self {
        Self { limited: false, ..Self::new(text) }
    }

    /// Reads a value that is the event, inside of an envelope.
    pub(super) fn inner<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        self.base = self.depth;
        let value = read(self)?;
        self.base = 0;
        Ok(value)
    }

    /// The JSON pointer (RFC 6901) of the value that is being read, free of tokens.
    pub(super) fn pointer(&self) -> String {
        let mut pointer = String::new();
        for step in &self.path[self.base.min(self.depth)..self.depth] {
            pointer.push('/');
            match step {
                Step::Element(index) => pointer.push_str(&index.to_string()),
                Step::Member(raw) => {
                    let name = unescape(raw).unwrap_or(Cow::Borrowed(raw));
                    let name = mask::mask_text(name, |_| ());
                    pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                }
            }
        }
        pointer
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// The first byte of the next value.
    fn value_start(&mut self) -> Read<u8> {
        self.skip_white_space();
        self.peek().ok_or(Fault::new(RejectReason::NotJson))
    }

    /// Nothing but white space may follow.
    pub(super) fn end(&mut self) -> Read<()> {
        self.skip_white_space();
        if self.at == self.text.len() { Ok(()) } else { fault(RejectReason::NotJson) }
    }

    /// Reads an object; `member` must read exactly one value.
    pub(super) fn object(&mut self, mut member: impl FnMut(&mut Self, Text<'r>) -> Read<()>) -> Read<()> {
        if self.value_start()? != b'{' {
            return fault(RejectReason::BadType);
        }
        self.at += 1;
        self.descend()?;
        self.skip_white_space();
        if !self.eat(b'}') {
            loop {
                self.skip_white_space();
                if self.peek() != Some(b'"') {
                    return self.outside(RejectReason::NotJson);
                }
                let Raw { text: raw, escaped } = self.raw_string()?;
                self.path[self.depth - 1] = Step::Member(raw);
                self.skip_white_space();
                if !self.eat(b':') {
                    return self.outside(RejectReason::NotJson);
                }
                let name = if escaped { unescape(raw)? } else { Cow::Borrowed(raw) };
                member(self, name)?;
                self.skip_white_space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => break,
                    _ => return self.outside(RejectReason::NotJson),
                }
            }
            self.at += 1;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads a list of at most [`MAX_ELEMENTS`]; `element` must read exactly one value.
    pub(super) fn list(&mut self, mut element: impl FnMut(&mut Self) -> Read<()>) -> Read<()> {
        if self.value_start()? != b'[' {
            return fault(RejectReason::BadType);
        }
        self.at += 1;
        self.descend()?;
        self.skip_white_space();
        if !self.eat(b']') {
            let mut index = 0;
            loop {
                if index == MAX_ELEMENTS && self.limited {
                    return self.outside(RejectReason::TooMany);
                }
                self.path[self.depth - 1] = Step::Element(index);
                element(self)?;
                index += 1;
                self.skip_white_space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b']') => break,
                    _ => return self.outside(RejectReason::NotJson),
                }
            }
            self.at += 1;
        }
        self.depth -= 1;
        Ok(())
    }

    fn descend(&mut self) -> Read<()> {
        let limit = if self.limited { self.base + MAX_DEPTH } else { MAX_DEPTH_WITHOUT_LIMITS };
        if self.depth == limit {
            return fault(RejectReason::TooDeep);
        }
        self.depth += 1;
        Ok(())
    }

    /// A fault of the object or list itself, not of the member or element that was read last.
    fn outside<T>(&mut self, reason: RejectReason) -> Read<T> {
        self.depth -= 1;
        fault(reason)
    }

    /// A string of at most [`MAX_STRING_BYTES`], masked.
    pub(super) fn text(&mut self) -> Read<Text<'r>> {
        self.text_within(MAX_STRING_BYTES, |_| fault(RejectReason::TooLong))
    }

    /// A string that a client may have written, masked, then cut at `limit` bytes. Whether it was the client's, and so
    /// may be cut, the whole event says: [`Reader::cuts`] keeps its place until then.
    pub(super) fn text_or_cut(&mut self, limit: usize) -> Read<Text<'r>> {
        self.text_within(limit, |reader| {
            reader.cuts.push(reader.pointer());
            Ok(())
        })
    }

    /// The first `limit` bytes of a masked string; `too_long` is asked what to do if it has more. The limit is that of
    /// the masked text: a token in place of a short value is a leak to be told, not a record to be refused. What only
    /// its markers make longer is not too long.
    fn text_within(&mut self, limit: usize, too_long: impl FnOnce(&mut Self) -> Read<()>) -> Read<Text<'r>> {
        if self.value_start()? != b'"' {
            return fault(RejectReason::BadType);
        }
        let limit = if self.limited { limit } else { usize::MAX };
        let Raw { text: raw, escaped } = self.raw_string()?;
        if !escaped && !self.suspicious && raw.len() <= limit {
            return Ok(Cow::Borrowed(raw));
        }
        let text = if escaped { unescape(raw)? } else { Cow::Borrowed(raw) };
        let unmasked_bytes = text.len();
        let mut text = self.masked(text);
        if text.len() > limit {
            if unmasked_bytes > limit {
                too_long(self)?;
            }
            let end = text.floor_char_boundary(limit);
            text.to_mut().truncate(end);
        }
        Ok(text)
    }

    fn masked(&mut self, text: Text<'r>) -> Text<'r> {
        let mut refs = Vec::new();
        let text = mask::mask_text(text, |token_ref| refs.push(token_ref));
        if !refs.is_empty() {
            let field = self.pointer();
            self.masks.extend(refs.into_iter().map(|token_ref| Mask { field: field.clone(), token_ref }));
        }
        text
    }

    /// A string as it stands between its quotes: escapes are there still, and no control character is.
    fn raw_string(&mut self) -> Read<Raw<'r>> {
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        let mut at = start;
        let mut escaped = false;
        loop {
            at = next_special(bytes, at);
            match bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    at += 2;
                }
                _ => return fault(RejectReason::NotJson),
            }
        }
        self.at = at + 1;
        Ok(Raw { text: &self.text[start..at], escaped })
    }

    /// An integer; `T` says of what range.
    pub(super) fn integer<T: FromStr>(&mut self) -> Read<T> {
        self.number()?.parse().map_err(|_| Fault::new(RejectReason::BadValue))
    }

    /// A number's text.
    fn number(&mut self) -> Read<&'r str> {
        if !matches!(self.value_start()?, b'-' | b'0'..=b'9') {
            return fault(RejectReason::BadType);
        }
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _sign = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Read<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { fault(RejectReason::NotJson) }
    }

    pub(super) fn boolean(&mut self) -> Read<bool> {
        match self.value_start()? {
            b't' => self.word("true").map(|()| true),
            b'f' => self.word("false").map(|()| false),
            _ => fault(RejectReason::BadType),
        }
    }

    fn word(&mut self, word: &str) -> Read<()> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else {
            fault(RejectReason::NotJson)
        }
    }

    /// Any value, its strings and names masked, within the limits.
    pub(super) fn value(&mut self) -> Read<Value> {
        match self.value_start()? {
            b'{' => {
                let mut members = Map::new();
                self.object(|reader, name| {
                    let name = reader.masked_name(name)?;
                    let value = reader.value()?;
                    insert_once(&mut members, name, value)
                })?;
                Ok(Value::Object(members))
            }
            b'[' => {
                let mut elements = Vec::new();
                self.list(|reader| {
                    elements.push(reader.value()?);
                    Ok(())
                })?;
                Ok(Value::Array(elements))
            }
            b'"' => self.text().map(|text| Value::String(text.into_owned())),
            b't' | b'f' => self.boolean().map(Value::Bool),
            b'n' => self.word("null").map(|()| Value::Null),
            b'-' | b'0'..=b'9' => {
                let number: Number =
                    self.number()?.parse().map_err(|_| Fault::new(RejectReason::BadValue))?;
                Ok(Value::Number(number))
            }
            _ => fault(RejectReason::NotJson),
        }
    }

    /// An unknown member's name, masked.
    pub(super) fn masked_name(&mut self, name: Text<'r>) -> Read<String> {
        let bytes = name.len();
        let name = self.masked(name);
        // As with strings: a token in place of a name is told, not refused.
        if self.limited && bytes > MAX_STRING_BYTES && name.len() > MAX_STRING_BYTES {
            return fault(RejectReason::TooLong);
        }
        Ok(name.into_owned())
    }
}

/// Puts a member into an object that must not have it yet.
pub(super) fn insert_once(members: &mut Map<String, Value>, name: String, value: Value) -> Read<()> {
    if members.contains_key(&name) {
        return fault(RejectReason::DuplicateMember);
    }
    members.insert(name, value);
    Ok(())
}
