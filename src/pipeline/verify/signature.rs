//! Record signatures: `jwtrail-signature: <key id>;<alg>;<base64url>` over a record's value (EVENT, "Who may say what").

use std::borrow::Cow;
use std::collections::HashMap;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::trust::TrustError;
use crate::config::Gateway;
use crate::log::Record;
use crate::model::{Event, PLATFORM_TENANT, Text, Zone};
use crate::pipeline::decode::Decoded;

/// The record header that holds a signature.
pub(crate) const SIGNATURE_HEADER: &str = "jwtrail-signature";

/// The key id under which the door signs what it writes.
pub(crate) const DOOR_KEY_ID: &str = "door";

/// The only algorithm so far: HMAC-SHA256.
const HS256: &str = "hs256";

/// A key shorter than the hash is weaker than it (RFC 7518, section 3.2).
const SHORTEST_SECRET_BYTES: usize = 32;

/// The value of the header [`SIGNATURE_HEADER`] for a record with this `value`.
pub(crate) fn sign_record(key_id: &str, key: &hmac::Key, value: &[u8]) -> String {
    format!("{key_id};{HS256};{}", URL_SAFE_NO_PAD.encode(hmac::sign(key, value)))
}

/// Whose signatures are known.
pub(super) struct Signers {
    door: hmac::Key,
    gateways: HashMap<String, GatewaySigner, foldhash::fast::RandomState>,
}

/// A gateway's keys, and what it may say with them.
struct GatewaySigner {
    zone: Zone,
    tenants: Vec<String>,
    keys: Vec<(String, hmac::Key)>,
}

impl Signers {
    /// Adds to `problems` each key that must not be used.
    pub(super) fn new(door: hmac::Key, gateways: &[Gateway], problems: &mut Vec<TrustError>) -> Self {
        let mut signers = Self { door, gateways: HashMap::default() };
        for gateway in gateways {
            let mut keys = Vec::with_capacity(gateway.signing.len());
            for signing in &gateway.signing {
                let secret = signing.secret.expose().as_bytes();
                if let Some(fault) = key_fault(&signing.id, secret, &keys) {
                    problems.push(TrustError::SigningKey {
                        gateway: gateway.name.clone(),
                        id: signing.id.clone(),
                        fault,
                    });
                }
                keys.push((signing.id.clone(), hmac::Key::new(hmac::HMAC_SHA256, secret)));
            }
            let tenants = gateway.tenants.iter().map(ToString::to_string).collect();
            let signer = GatewaySigner { zone: gateway.zone, tenants, keys };
            signers.gateways.insert(gateway.name.clone(), signer);
        }
        signers
    }

    /// The id of the key with which somebody who may say this event signed it: the door, or the event's own gateway
    /// within its zone and tenants. What our own seal says of a signature counts like the signature, as long as its key
    /// does: a record that was forwarded may have been written anew, without the token that stood in it.
    pub(super) fn attest<'r>(&self, decoded: &Decoded<'_>, record: &Record<'r>) -> Option<Text<'r>> {
        let event = &decoded.event;
        let sealed = decoded.origin.as_ref().and_then(|origin| origin.attested_by.as_deref());
        if let Some(key_id) = sealed.filter(|key_id| self.key(event, key_id).is_some()) {
            return Some(Cow::Owned(key_id.to_owned()));
        }
        let (key_id, tag) = record.headers.get(SIGNATURE_HEADER).and_then(parse)?;
        let key = self.key(event, key_id)?;
        // Constant in time: the comparison tells nothing of how much of a forged tag was right.
        hmac::verify(key, record.value, &tag).ok().map(|()| Cow::Borrowed(key_id))
    }

    /// The key of that id, if its holder may say this event.
    fn key(&self, event: &Event<'_>, key_id: &str) -> Option<&hmac::Key> {
        if key_id == DOOR_KEY_ID {
            return Some(&self.door);
        }
        let signer = self.gateways.get(event.source.gateway.as_ref())?;
        // Heartbeats speak of the gateway, not of a tenant.
        let may_say = signer.zone == event.source.zone
            && (event.tenant == PLATFORM_TENANT
                || signer.tenants.iter().any(|tenant| *tenant == event.tenant));
        if !may_say {
            return None;
        }
        signer.keys.iter().find(|(id, _)| id == key_id).map(|(_, key)| key)
    }
}

/// What is wrong with a gateway's signing key.
fn key_fault(id: &str, secret: &[u8], earlier: &[(String, hmac::Key)]) -> Option<&'static str> {
    if id == DOOR_KEY_ID {
        Some("the id `door` is the door's own: choose another")
    } else if id.is_empty() || id.contains(';') || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some("an id is printable ASCII without spaces and without `;`")
    } else if earlier.iter().any(|(other, _)| other == id) {
        Some("the id is used twice")
    } else if secret.len() < SHORTEST_SECRET_BYTES {
        Some("the secret is shorter than 32 bytes")
    } else {
        None
    }
}

/// The key id and the tag of a header's value; `None` if it is none of ours.
fn parse(header: &[u8]) -> Option<(&str, [u8; 32])> {
    let mut parts = std::str::from_utf8(header).ok()?.splitn(3, ';');
    let (key_id, alg, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let mut tag = [0; 32];
    let whole = URL_SAFE_NO_PAD.decode_slice(signature, &mut tag).is_ok_and(|length| length == tag.len());
    (alg == HS256 && whole).then_some((key_id, tag))
}
