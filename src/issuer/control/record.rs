//! An entry as it lies in the topic and in the store: signed text.
//!
//! ```text
//! jc1 . base64url(HMAC-SHA256(control key, "jwtrail.control" ␀ JSON)) . JSON
//! ```
//! The JSON names the entry's key: a record that is copied to another key, or to another topic, is foreign there.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::{AnyEntry, EntryKey};
use crate::model::UnixMs;

const PREFIX: &[u8] = b"jc1.";
/// Of the MAC in base64url.
const MAC_CHARS: usize = 43;

/// One version of one entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) key: EntryKey,
    /// Counts up by one with every change of the entry, for ever: also over its deletion.
    pub(super) version: u64,
    pub(super) written_at: UnixMs,
    /// `None`: it was deleted. Such a record stays, so that no older one can take its place.
    pub(super) entry: Option<AnyEntry>,
}

/// A record whose signature held.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Signed {
    pub(super) record: Record,
    /// Tells two records of one version apart.
    pub(super) fingerprint: u64,
}

/// Signs records, and opens what was signed.
pub(super) struct Records(hmac::Key);

impl Records {
    pub(super) const fn new(key: hmac::Key) -> Self {
        Self(key)
    }

    fn context(&self, json: &[u8]) -> hmac::Context {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(b"jwtrail.control\0");
        context.update(json);
        context
    }

    /// The text, and the record as its readers will have it.
    pub(super) fn seal(&self, record: Record) -> (Vec<u8>, Signed) {
        // Serialising cannot fail: names are strings and numbers finite. If it ever did, every reader would refuse the
        // empty text, and nothing would change.
        let json = serde_json::to_vec(&record).unwrap_or_default();
        let mac = self.context(&json).sign();
        let mut text = PREFIX.to_vec();
        text.extend_from_slice(URL_SAFE_NO_PAD.encode(mac).as_bytes());
        text.push(b'.');
        text.extend_from_slice(&json);
        (text, Signed { record, fingerprint: fingerprint(mac.as_ref()) })
    }

    /// # Errors
    /// The reason for the metric: `unsigned`, or `foreign` for what we signed and do not understand.
    pub(super) fn open(&self, text: &[u8]) -> Result<Signed, &'static str> {
        let parts = text.strip_prefix(PREFIX).and_then(|rest| rest.split_at_checked(MAC_CHARS));
        let (mac, json) = parts.ok_or("unsigned")?;
        let json = json.strip_prefix(b".").ok_or("unsigned")?;
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| "unsigned")?;
        let signed = self.context(json).sign();
        aws_lc_rs::constant_time::verify_slices_are_equal(&mac, signed.as_ref()).map_err(|_| "unsigned")?;
        let record: Record = serde_json::from_slice(json).map_err(|_| "foreign")?;
        let kinds_agree = record.entry.as_ref().is_none_or(|entry| entry.kind() == record.key.kind());
        if kinds_agree { Ok(Signed { record, fingerprint: fingerprint(&mac) }) } else { Err("foreign") }
    }
}

fn fingerprint(mac: &[u8]) -> u64 {
    mac.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
