//! Record signatures: `jwtrail-signature: <key id>;<alg>;<base64url>` over a record's value (EVENT, "Who may say what").

use std::borrow::Cow;
use std::collections::HashMap;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::trust::TrustError;
use crate::config::{Gateway, SigningAlg, SigningMaterial};
use crate::log::Record;
use crate::model::{Event, PLATFORM_TENANT, Text, Zone};
use crate::pipeline::decode::{Decoded, LEDGER_KEY_ID, SIGNATURE_HEADER};

/// The key id under which the door signs what it writes.
pub(crate) const DOOR_KEY_ID: &str = "door";

/// The value of the header [`SIGNATURE_HEADER`] for a record with this `value`.
pub(crate) fn sign_record(key_id: &str, key: &hmac::Key, value: &[u8]) -> String {
    format!("{key_id};{};{}", SigningAlg::Hs256, URL_SAFE_NO_PAD.encode(hmac::sign(key, value)))
}

/// Whose signatures are known.
pub(super) struct Signers {
    door: SignerKey,
    gateways: HashMap<String, GatewaySigner, foldhash::fast::RandomState>,
}

/// A gateway's keys, and what it may say with them.
struct GatewaySigner {
    zone: Zone,
    tenants: Vec<String>,
    keys: Vec<(String, SignerKey)>,
}

/// What a signature is checked with. The key decides the algorithm, so that none can be talked into another's: a public
/// key is never an HMAC secret.
#[expect(clippy::large_enum_variant, reason = "one a key, not one a record: a box would be a jump a record")]
enum SignerKey {
    Hs256(hmac::Key),
    Ed25519(ParsedPublicKey),
}

impl Signers {
    /// Adds to `problems` each key that must not be used.
    pub(super) fn new(door: hmac::Key, gateways: &[Gateway], problems: &mut Vec<TrustError>) -> Self {
        let mut signers = Self { door: SignerKey::Hs256(door), gateways: HashMap::default() };
        for gateway in gateways {
            let mut keys = Vec::with_capacity(gateway.signing.len());
            for signing in &gateway.signing {
                let id = signing.id.clone();
                let key = id_fault(&id, &keys).map_or_else(|| SignerKey::new(&signing.material), Err);
                match key {
                    Ok(key) => keys.push((id, key)),
                    Err(fault) => {
                        problems.push(TrustError::SigningKey { gateway: gateway.name.clone(), id, fault });
                    }
                }
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
        let (key_id, signature) = record.headers.get(SIGNATURE_HEADER).and_then(parse)?;
        let holds = self.key(event, key_id)?.verify(record.value, &signature);
        holds.then_some(Cow::Borrowed(key_id))
    }

    /// The key of that id, if its holder may say this event.
    fn key(&self, event: &Event<'_>, key_id: &str) -> Option<&SignerKey> {
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

impl SignerKey {
    fn new(material: &SigningMaterial) -> Result<Self, &'static str> {
        match material {
            SigningMaterial::Hs256(secret) => {
                Ok(Self::Hs256(hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes())))
            }
            // Parsed once, not once a record.
            SigningMaterial::Ed25519(public) => ParsedPublicKey::new(&ED25519, public)
                .map(Self::Ed25519)
                .map_err(|_| "its public key cannot be read"),
        }
    }

    fn verify(&self, value: &[u8], signature: &Signature) -> bool {
        match (self, signature) {
            // Constant in time: the comparison tells nothing of how much of a forged tag was right.
            (Self::Hs256(key), Signature::Hs256(tag)) => hmac::verify(key, value, tag).is_ok(),
            (Self::Ed25519(key), Signature::Ed25519(signature)) => key.verify_sig(value, signature).is_ok(),
            _ => false,
        }
    }
}

/// What is wrong with a signing key's id.
fn id_fault(id: &str, earlier: &[(String, SignerKey)]) -> Option<&'static str> {
    if id == DOOR_KEY_ID {
        Some("the id `door` is the door's own: choose another")
    } else if id == LEDGER_KEY_ID {
        Some("the id `ledger` is the issuer's own: choose another")
    } else if id.is_empty() || id.contains(';') || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some("an id is printable ASCII without spaces and without `;`")
    } else if earlier.iter().any(|(other, _)| other == id) {
        Some("the id is used twice")
    } else {
        None
    }
}

/// What a header says, not checked yet.
enum Signature {
    Hs256([u8; 32]),
    /// R and S (RFC 8032, section 5.1.6).
    Ed25519([u8; 64]),
}

/// The key id and the signature of a header's value; `None` if it is none of ours.
fn parse(header: &[u8]) -> Option<(&str, Signature)> {
    let mut parts = std::str::from_utf8(header).ok()?.splitn(3, ';');
    let (key_id, alg, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let signature = match SigningAlg::parse(alg)? {
        SigningAlg::Hs256 => Signature::Hs256(decode(signature)?),
        SigningAlg::Ed25519 => Signature::Ed25519(decode(signature)?),
    };
    Some((key_id, signature))
}

/// Exactly `N` bytes, in the one form of base64url that they have.
fn decode<const N: usize>(signature: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    URL_SAFE_NO_PAD.decode_slice(signature, &mut bytes).is_ok_and(|length| length == N).then_some(bytes)
}
