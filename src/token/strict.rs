//! The one form that each part of a token has: base64url without padding and stray bits, JSON objects without repeated
//! members at any depth. Two readers of one token must not read two different things.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Why bytes are not an object in its one form. Says nothing of what stands in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAnObject {
    #[error("it is not a JSON object in UTF-8")]
    Syntax,
    #[error("a member stands in it twice")]
    Repeated,
}

pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// `None` for padding, line breaks, other alphabets, and for bits of the last character that no byte has.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

pub(super) fn object(json: &[u8]) -> Result<Map<String, Value>, NotAnObject> {
    let members = serde_json::from_slice(json).map_err(|_| NotAnObject::Syntax)?;
    // `serde_json` keeps the last of repeated members, so whether there are any is asked for by itself.
    let repeated = Cell::new(false);
    let once = Once { repeated: &repeated }.deserialize(&mut serde_json::Deserializer::from_slice(json));
    match once {
        Ok(()) => Ok(members),
        Err(_) if repeated.get() => Err(NotAnObject::Repeated),
        Err(_) => Err(NotAnObject::Syntax),
    }
}

/// Reads any value, keeps nothing of it, and stops at a member that stands in its object already.
#[derive(Clone, Copy)]
struct Once<'c> {
    repeated: &'c Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Once<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
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
    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(self)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if !names.insert(name) {
                self.repeated.set(true);
                return Err(A::Error::custom("repeated"));
            }
            members.next_value_seed(self)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_has_one_form() {
        assert_eq!(decode("AQAB"), Some(vec![1, 0, 1]));
        assert_eq!(decode("_-8"), Some(vec![0xff, 0xef]));
        // Padding, stray bits, the other alphabet, white space, a length that no bytes have.
        for text in ["AQ==", "AR", "_-9", "/+8", "AQAB\n", "AQ AB", "A", "AQABA"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    #[test]
    fn objects_have_one_form() {
        let check = |json: &str, expected: Result<&str, NotAnObject>| {
            let read = object(json.as_bytes()).map(|members| Value::Object(members).to_string());
            assert_eq!(read.as_deref().map_err(|error| *error), expected, "{json}");
        };
        check(r#"{"a":[1,-2,0.5,null,true,{"b":"c"}]}"#, Ok(r#"{"a":[1,-2,0.5,null,true,{"b":"c"}]}"#));
        check(r#"{"a":1,"a":1}"#, Err(NotAnObject::Repeated));
        check(r#"{"a":1,"\u0061":2}"#, Err(NotAnObject::Repeated));
        check(r#"{"a":[{"b":{"c":1,"c":2}}]}"#, Err(NotAnObject::Repeated));
        for json in ["", "[]", "1", "\"a\"", "{", "{}{}", "{} x", "\u{feff}{}", "{\"a\":1,}"] {
            check(json, Err(NotAnObject::Syntax));
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(NotAnObject::Syntax));
        assert_eq!(object(format!("{{\"a\":{}}}", "[".repeat(5_000)).as_bytes()), Err(NotAnObject::Syntax));
    }
}
