//! A key set as it is kept: what its issuer published last, and the keys that it published before. A JWK set itself
//! (RFC 7517), so that whoever looks at the file can read it.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{GOOD_FOR, KeySetError};
use crate::model::UnixMs;
use crate::pipeline::verify::{BadKey, KeySet, jwks_of};

/// More keys than any issuer has; each costs memory for as long as the set is in use.
const MAX_KEYS: usize = 1_000;

/// How long a key is remembered that its issuer publishes no more: an event is judged by what held at its time, and that
/// is at most so long ago (`max_event_age`, by default).
const REMEMBERED_FOR_S: i64 = 40 * 24 * 3_600;

/// At most so many of those, the latest: an issuer that makes up keys fills nothing.
const MAX_REMEMBERED: usize = 100;

/// The longest text of a key: RSA with 16,384 bits has 2,731 characters, ML-DSA-87 3,456.
const MAX_TEXT_BYTES: usize = 4_096;

/// The largest file that is read again: an answer's keys, and the remembered ones.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// How far ahead a clock may have been when a set was fetched. Beyond that its age says nothing.
const CLOCK_SLACK: Duration = Duration::from_secs(300);

/// One issuer's key set.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Document {
    iss: String,
    fetched_at: UnixMs,
    /// JWKs. One that is gone has an `exp`: the time when it was missing first (OpenID Federation 1.0, section 8.7.2).
    keys: Vec<Value>,
}

impl Document {
    /// What comes of an answer to whoever held `before`. Keys that cannot be used are left out (RFC 7517, section 5).
    pub(super) fn of_answer(
        iss: &str,
        answer: &[u8],
        before: Option<&Self>,
        now: UnixMs,
    ) -> Result<(Self, Vec<BadKey>), KeySetError> {
        let keys = jwks_of(answer)
            .map_err(|error| KeySetError::NotAKeySet { line: error.line(), column: error.column() })?;
        if keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany(keys.len()));
        }
        let (set, bad) = KeySet::of(&keys);
        if set.len() == 0 {
            return Err(KeySetError::NoKey);
        }
        let places: BTreeSet<usize> = bad.iter().map(|bad| bad.place).collect();
        let signs = |key: &Value| kid(key).is_some_and(|kid| set.get(kid).is_some());
        let mut kept: Vec<Value> = keys
            .iter()
            .enumerate()
            .filter(|(place, key)| !places.contains(place) && signs(key))
            .filter_map(|(_, key)| read_members(key))
            .collect();
        kept.extend(before.map(|before| before.gone(&kept, now)).unwrap_or_default());
        Ok((Self { iss: iss.to_owned(), fetched_at: now, keys: kept }, bad))
    }

    /// The keys of this set that are not among `published` any more, each with the time when it ended.
    fn gone(&self, published: &[Value], now: UnixMs) -> Vec<Value> {
        let now_s = now.get().div_euclid(1_000);
        let published: BTreeSet<&str> = published.iter().filter_map(kid).collect();
        let mut gone: Vec<(i64, Value)> = self
            .keys
            .iter()
            .filter(|key| kid(key).is_some_and(|kid| !published.contains(kid)))
            .map(|key| {
                let ended_s = key.get("exp").and_then(Value::as_i64).map_or(now_s, |exp| exp.min(now_s));
                let mut key = key.clone();
                key["exp"] = json!(ended_s);
                (ended_s, key)
            })
            .filter(|(ended_s, _)| now_s - ended_s < REMEMBERED_FOR_S)
            .collect();
        gone.sort_by_key(|(ended_s, _)| std::cmp::Reverse(*ended_s));
        gone.truncate(MAX_REMEMBERED);
        gone.into_iter().map(|(_, key)| key).collect()
    }

    /// The set to judge by.
    pub(super) fn key_set(&self) -> KeySet {
        KeySet::of(&self.keys).0
    }

    pub(super) fn has_the_keys_of(&self, other: &Self) -> bool {
        self.keys == other.keys
    }

    pub(super) const fn fetched_at(&self) -> UnixMs {
        self.fetched_at
    }

    /// Whether it may still be judged by.
    pub(super) fn is_good_at(&self, now: UnixMs) -> bool {
        self.fetched_at <= now + CLOCK_SLACK && now <= self.fetched_at + GOOD_FOR
    }

    /// Puts it in the place of the one in `file`: whole, or not at all. Blocks.
    pub(super) fn write(&self, file: &Path) -> Result<(), KeySetError> {
        let unwritable = |cause| KeySetError::Unwritable { path: file.to_owned(), cause };
        // Of this process alone: several may share a data directory.
        let draft = file.with_extension(format!("{}.draft", std::process::id()));
        let write = || {
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let mut out = std::fs::File::create(&draft)?;
            serde_json::to_writer(&mut out, self)?;
            out.sync_all()?;
            std::fs::rename(&draft, file)
        };
        write().map_err(unwritable)
    }

    /// The one in `file`, if there is one that can be read and is this issuer's. Blocks.
    pub(super) fn read(file: &Path, iss: &str) -> Option<Self> {
        let mut json = Vec::new();
        std::fs::File::open(file).ok()?.take(MAX_FILE_BYTES).read_to_end(&mut json).ok()?;
        match serde_json::from_slice::<Self>(&json) {
            Ok(document) if document.iss == iss => Some(document),
            _ => {
                tracing::warn!(file = %file.display(), "this key set cannot be read; it is fetched anew");
                None
            }
        }
    }
}

/// What [`KeySet`] reads of a key, and nothing else: what an issuer adds is not ours to keep. `None` if it is too long.
fn read_members(key: &Value) -> Option<Value> {
    let mut kept = serde_json::Map::new();
    for name in ["kid", "kty", "use", "alg", "crv", "n", "e", "x", "y", "pub", "nbf", "exp"] {
        match key.get(name) {
            Some(Value::String(text)) if text.len() > MAX_TEXT_BYTES => return None,
            Some(value @ (Value::String(_) | Value::Number(_))) => {
                kept.insert(name.to_owned(), value.clone());
            }
            _ => {}
        }
    }
    if let Some(at) = key.pointer("/revoked/revoked_at").and_then(Value::as_i64) {
        kept.insert("revoked".to_owned(), json!({"revoked_at": at}));
    }
    Some(Value::Object(kept))
}

fn kid(key: &Value) -> Option<&str> {
    key.get("kid").and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs::new(1_795_428_000_000);
    const DAY: Duration = Duration::from_secs(24 * 3_600);

    fn document(keys: &str, before: Option<&Document>, now: UnixMs) -> Document {
        let answer = format!("{{\"keys\": [{keys}]}}");
        Document::of_answer("https://id.example", answer.as_bytes(), before, now).unwrap().0
    }

    fn rsa(kid: &str, more: &str) -> String {
        format!(r#"{{"kid": "{kid}", "kty": "RSA", "n": "AQAB", "e": "AQAB"{more}}}"#)
    }

    /// `kid exp` of each key.
    fn told(document: &Document) -> Vec<String> {
        document.keys.iter().map(|key| format!("{} {}", key["kid"], key["exp"])).collect()
    }

    #[test]
    fn what_cannot_be_used_is_left_out_and_what_we_do_not_read_is_not_kept() {
        let keys = [
            rsa("good", r#", "x5c": ["AQAB"], "revoked": {"revoked_at": 7, "reason": "compromised"}"#),
            rsa("private", r#", "d": "AQAB""#),
            rsa("for encryption", r#", "use": "enc""#),
            rsa("good", r#", "alg": "RS512""#),
            rsa("long", &format!(r#", "x": "{}""#, "A".repeat(MAX_TEXT_BYTES + 1))),
            r#"{"kid": "of the future", "kty": "QKD"}, {"kty": "RSA", "n": "AQAB", "e": "AQAB"}, 7"#
                .to_owned(),
        ];
        let kept = document(&keys.join(","), None, NOW);
        let expected = r#"[{"e":"AQAB","kid":"good","kty":"RSA","n":"AQAB","revoked":{"revoked_at":7}}]"#;
        assert_eq!(serde_json::to_string(&kept.keys).unwrap(), expected);
    }

    #[test]
    fn a_key_that_is_gone_is_remembered_for_as_long_as_events_may_be_late() {
        let now_s = NOW.get() / 1_000;
        let first = document(&[rsa("a", ""), rsa("b", ", \"exp\": 5000000000")].join(","), None, NOW);
        let second = document(&rsa("c", ""), Some(&first), NOW + DAY);
        let ended = now_s + 24 * 3_600;
        assert_eq!(
            told(&second),
            [r#""c" null"#.to_owned(), format!("\"a\" {ended}"), format!("\"b\" {ended}")]
        );
        let third = document(&rsa("c", ""), Some(&second), NOW + DAY * 30);
        assert!(third.has_the_keys_of(&second), "when it ended does not move");
        let fourth = document(&rsa("c", ""), Some(&third), NOW + DAY * 41);
        assert_eq!(told(&fourth), [r#""c" null"#]);
    }

    #[test]
    fn an_issuer_that_makes_up_keys_fills_nothing() {
        let mut held = document(&rsa("first", ""), None, NOW);
        for round in 1..10 {
            let keys: Vec<_> = (0..MAX_KEYS).map(|number| rsa(&format!("{round}-{number}"), "")).collect();
            held = document(&keys.join(","), Some(&held), NOW + DAY * round);
            assert!(held.keys.len() <= MAX_KEYS + MAX_REMEMBERED);
        }
        assert_eq!(told(&held)[MAX_KEYS], format!("\"8-0\" {}", NOW.get() / 1_000 + 9 * 24 * 3_600));
    }
}
