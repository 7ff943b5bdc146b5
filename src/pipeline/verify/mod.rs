//! **verify**: what can be proved about a token's use. Total: a bad token is data, not an error. Pure.
//!
//! The verdict is the first of DESIGN's list that holds; what an event does not say is not checked. We never see the
//! token, so its signature stays the gateway's word: here it is held against who may say what.

mod jwks;
mod signature;
mod trust;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;

use super::decode::{Decoded, LEDGER_KEY_ID};
use crate::config::Signatures;
use crate::log::Record;
use crate::model::{Event, GatewayVerdict, Proof, Text, UnixMs, Verdict};
use crate::token::SKEW_MS;
use jwks::KeyState;
use trust::{IssuerKeys, TenantTrust};

pub(crate) use crate::pipeline::decode::SIGNATURE_HEADER;
pub(crate) use jwks::{BadKey, KeySet, jwks_of};
pub(crate) use signature::{DOOR_KEY_ID, sign_record};
pub(crate) use trust::{FetchedKeys, IssuerId, Trust};

/// What `verify` leaves.
#[derive(Debug)]
pub(crate) struct Checked<'r> {
    pub(crate) decoded: Decoded<'r>,
    pub(crate) verdict: Verdict,
    /// At most `gateway_attested`: only `detect` holds the ledger that can raise it.
    pub(crate) proof: Proof,
    /// The id of the key whose signature attests the record, unless the tenant leaves signatures unread.
    pub(crate) attested_by: Option<Text<'r>>,
}

/// Gives the first verdict of DESIGN's list that holds.
pub(crate) fn verify<'r>(decoded: Decoded<'r>, record: &Record<'r>, trust: &Trust) -> Checked<'r> {
    let event = &decoded.event;
    let tenant = trust.tenant(&event.tenant);
    let attested_by = match tenant.signatures {
        // Without the ledger key's signature `decode` lets nothing through that an issuer says.
        _ if event.kind.is_issuer() => Some(Text::Borrowed(LEDGER_KEY_ID)),
        Signatures::Off => None,
        _ => trust.signers().attest(&decoded, record),
    };
    let verdict = if tenant.signatures == Signatures::Require && attested_by.is_none() {
        Verdict::UNATTESTED
    } else {
        let said = event.gateway_verdict.unwrap_or(GatewayVerdict::Unspecified);
        Verdict::Token(refusal(event, tenant, trust).unwrap_or(said))
    };
    let proof = if attested_by.is_some() { Proof::GatewayAttested } else { Proof::None };
    Checked { decoded, verdict, proof, attested_by }
}

/// Why we refuse the token ourselves, whatever the gateway says.
fn refusal(event: &Event<'_>, tenant: &TenantTrust, trust: &Trust) -> Option<GatewayVerdict> {
    let token = event.token.as_ref()?;
    let issuer = token.iss.as_deref().and_then(|iss| tenant.issuer(iss));

    let foreign_tenant =
        token.tenant_id.as_deref().is_some_and(|id| id != event.tenant && trust.declares(id));
    let stranger = token.iss.as_deref().filter(|_| tenant.has_issuers() && issuer.is_none());
    if foreign_tenant || stranger.is_some_and(|iss| trust.knows_issuer(iss)) {
        return Some(GatewayVerdict::IssuerTenantMismatch);
    }
    if stranger.is_some() {
        return Some(GatewayVerdict::UnknownIssuer);
    }

    let keys = issuer.map(|issuer| &issuer.keys);
    let key = keys.zip(token.kid.as_deref()).and_then(|(keys, kid)| keys.look_up(kid));
    if let Some(alg) = token.alg.as_deref() {
        // `none` is nobody's algorithm, with or without configured issuers (RFC 8725, section 3.2).
        let refused = alg.eq_ignore_ascii_case("none")
            || keys.and_then(IssuerKeys::set).is_some_and(|keys| !keys.allow(alg))
            || key.flatten().is_some_and(|key| !key.allows(alg));
        if refused {
            return Some(GatewayVerdict::AlgNotAllowed);
        }
    }
    if let Some(key) = key {
        match key.map(|key| key.state_at(event.time)) {
            None => return Some(GatewayVerdict::UnknownKey),
            Some(KeyState::Revoked) => return Some(GatewayVerdict::KeyRevoked),
            Some(KeyState::Prepared | KeyState::Expired) => return Some(GatewayVerdict::KeyRetired),
            Some(KeyState::Active) => {}
        }
    }

    let early =
        |claim: Option<i64>| claim.is_some_and(|claim| numeric_date(claim).since_ms(event.time) > SKEW_MS);
    if early(token.nbf) || early(token.iat) {
        return Some(GatewayVerdict::NotYetValid);
    }
    if token.exp.is_some_and(|exp| numeric_date(exp) <= event.time) {
        return Some(GatewayVerdict::Expired);
    }
    let longest_s = issuer.and_then(|issuer| issuer.max_lifetime_s);
    if let (Some(iat), Some(exp), Some(longest_s)) = (token.iat, token.exp, longest_s)
        && exp.saturating_sub(iat) > longest_s
    {
        return Some(GatewayVerdict::LifetimeTooLong);
    }
    None
}

/// A NumericDate (RFC 7519, section 2): seconds since the epoch.
fn numeric_date(seconds: i64) -> UnixMs {
    UnixMs::new(seconds.saturating_mul(1000))
}
