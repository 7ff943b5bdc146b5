//! Who may say what an issuer says: issuer kinds count only with the ledger key's signature (ISSUER, "Who may write it").
//!
//! It stands in the header of all record signatures, under a key id that no gateway can have. Other kinds' signatures
//! are `verify`'s to judge: there a bad one says something about the event, here there is no event without a good one.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Bounds, ForwardedFrom};
use crate::log::{NewRecord, Record};

/// The record header that holds a signature.
pub(crate) const SIGNATURE_HEADER: &str = "jwtrail-signature";

/// The key id of whoever issues.
pub(crate) const LEDGER_KEY_ID: &str = "ledger";

const PREFIX: &str = "ledger;hs256;";

/// Signs the record of an issuer kind. `key` is derived from the master key.
pub(crate) fn sign_ledger(record: &mut NewRecord, key: &hmac::Key) {
    let signature = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(hmac::sign(key, &record.value)));
    record.headers.push((SIGNATURE_HEADER.to_owned(), signature.into_bytes()));
}

/// Whether the ledger key signed the record. What our own seal says of that counts alike: a forwarded value may have been
/// written anew. Without a ledger key there is no issuer, and nobody's word for one counts.
pub(super) fn is_ledgers(record: &Record<'_>, origin: Option<&ForwardedFrom>, bounds: &Bounds) -> bool {
    let Some(key) = &bounds.ledger_key else { return false };
    if origin.is_some_and(|origin| origin.attested_by.as_deref() == Some(LEDGER_KEY_ID)) {
        return true;
    }
    let signature =
        record.headers.get(SIGNATURE_HEADER).and_then(|header| header.strip_prefix(PREFIX.as_bytes()));
    let signature = signature.and_then(|signature| URL_SAFE_NO_PAD.decode(signature).ok());
    signature.is_some_and(|signature| hmac::verify(key, record.value, &signature).is_ok())
}
