//! Compact JWS (RFC 7515), strict: composed around a signer that may be far away, read without trusting a word of it.
//!
//! A header is believed in nothing but which key of ours to look at: `jku`, `x5u`, `jwk` and `x5c` are never followed.

use serde_json::{Map, Value, json};

use super::alg::SigningAlg;
use super::fault::{Fault, Part};
use super::keys::VerifyingKey;
use super::{MAX_ISSUED_JWS_BYTES, MAX_READ_BYTES, sha256_base64url, strict};

/// Why a token was not issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IssueError {
    #[error(
        "the token would have {bytes} bytes, and {cap} are the most: fewer or shorter claims make it fit"
    )]
    TooLarge { bytes: usize, cap: usize },
    #[error("the signer's signature does not hold with the key that it should have signed with")]
    WrongSignature,
    #[error("the cryptographic library did not encrypt")]
    NotEncrypted,
}

impl IssueError {
    /// The closed word for metrics and log fields.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "token_too_large",
            Self::WrongSignature => "signature_of_another_key",
            Self::NotEncrypted => "not_encrypted",
        }
    }
}

/// A header that we write, encoded: the same for each token of a key, so it is made once.
#[derive(Clone, Debug)]
pub(crate) struct JwsHeader(String);

impl JwsHeader {
    /// `typ` is explicit (RFC 8725, section 3.11): `at+jwt` for access tokens.
    pub(crate) fn new(alg: SigningAlg, kid: &str, typ: &str) -> Self {
        Self(strict::encode(json!({ "alg": alg.as_str(), "kid": kid, "typ": typ }).to_string().as_bytes()))
    }
}

/// What is to be signed: header and payload, a dot between.
#[derive(Debug)]
pub(crate) struct SigningInput(String);

impl SigningInput {
    /// `payload` is the claims' JSON.
    pub(crate) fn new(header: &JwsHeader, payload: &[u8]) -> Self {
        Self(format!("{}.{}", header.0, strict::encode(payload)))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The ref of the token that this becomes, whatever the signature: known before it is signed.
    pub(crate) fn token_ref(&self) -> String {
        sha256_base64url(self.as_bytes())
    }

    /// The token.
    ///
    /// # Errors
    /// If it would be longer than any token of ours may be.
    pub(crate) fn append(self, signature: &[u8]) -> Result<String, IssueError> {
        let Self(mut token) = self;
        token.push('.');
        token.push_str(&strict::encode(signature));
        if token.len() > MAX_ISSUED_JWS_BYTES {
            return Err(IssueError::TooLarge { bytes: token.len(), cap: MAX_ISSUED_JWS_BYTES });
        }
        Ok(token)
    }

    /// The token, if the signature holds: for signers that are not in this process.
    ///
    /// # Errors
    /// If it does not hold, and as [`SigningInput::append`].
    pub(crate) fn append_checked(
        self,
        signature: &[u8],
        alg: SigningAlg,
        key: &VerifyingKey,
    ) -> Result<String, IssueError> {
        key.verify(alg, self.as_bytes(), signature).map_err(|_| IssueError::WrongSignature)?;
        self.append(signature)
    }
}

/// Which `typ` a JWS must have, so that no JWT is taken for one of another kind (RFC 8725, section 3.11). Media types are
/// written in small letters and without `application/`, as every issuer of ours writes them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Typ<'a> {
    Is(&'a str),
    /// Kinds that are older than explicit typing, such as client assertions (RFC 7523).
    AbsentOr(&'a [&'a str]),
}

impl Typ<'_> {
    fn accepts(self, typ: Option<&str>) -> bool {
        match self {
            Self::Is(expected) => typ == Some(expected),
            Self::AbsentOr(others) => typ.is_none_or(|typ| others.contains(&typ)),
        }
    }
}

/// A JWS as it stands there: nobody vouches for it.
#[derive(Debug)]
pub(crate) struct ClaimedJws<'t> {
    pub(crate) alg: SigningAlg,
    pub(crate) kid: Option<String>,
    pub(crate) typ: Option<String>,
    payload: Vec<u8>,
    signing_input: &'t str,
    signature: Vec<u8>,
}

impl<'t> ClaimedJws<'t> {
    /// Reads a compact JWS.
    ///
    /// # Errors
    /// If it is malformed, or if its header demands what we do not give. Of several faults the first in the order of
    /// the text.
    pub(crate) fn read(token: &'t str, typ: Typ<'_>) -> Result<Self, Fault> {
        if token.len() > MAX_READ_BYTES {
            return Err(Fault::TooLarge(MAX_READ_BYTES));
        }
        let mut segments = token.splitn(4, '.');
        let (Some(header), Some(payload), Some(signature), None) =
            (segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Err(Fault::NotCompact);
        };
        let header = header_members(header)?;
        let payload = strict::decode(payload).ok_or(Fault::NotBase64Url(Part::Claims))?;
        let decoded = strict::decode(signature).ok_or(Fault::NotBase64Url(Part::Signature))?;
        let alg = needed_text(&header, "alg")?;
        let found = text(&header, "typ")?;
        if !typ.accepts(found) {
            return Err(Fault::Type);
        }
        // `none`, HMACs and names in other letters are no algorithm of a public key.
        let alg = SigningAlg::parse(alg).filter(|alg| alg.verification().is_some()).ok_or(Fault::Alg)?;
        Ok(Self {
            alg,
            kid: text(&header, "kid")?.map(str::to_owned),
            typ: found.map(str::to_owned),
            payload,
            signing_input: &token[..token.len() - signature.len() - 1],
            signature: decoded,
        })
    }

    /// EVENT's `token.ref`.
    pub(crate) fn token_ref(&self) -> String {
        sha256_base64url(self.signing_input.as_bytes())
    }

    /// What it merely says.
    pub(crate) fn claimed_payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload, if the signature holds.
    ///
    /// # Errors
    /// As [`VerifyingKey::verify`].
    pub(crate) fn verify(&self, key: &VerifyingKey) -> Result<&[u8], Fault> {
        key.verify(self.alg, self.signing_input.as_bytes(), &self.signature)?;
        Ok(&self.payload)
    }
}

/// The header of a JWS or JWE, with nothing in it that must be understood and is not.
pub(super) fn header_members(segment: &str) -> Result<Map<String, Value>, Fault> {
    let json = strict::decode(segment).ok_or(Fault::NotBase64Url(Part::Header))?;
    let header = strict::object(&json).map_err(|fault| Fault::NotAnObject(Part::Header, fault))?;
    // No extension is understood, so none may be critical; `b64` (RFC 7797) would change what is signed.
    if header.contains_key("crit") || header.contains_key("b64") {
        return Err(Fault::Critical);
    }
    Ok(header)
}

/// A header's text member.
pub(super) fn text<'h>(
    header: &'h Map<String, Value>,
    member: &'static str,
) -> Result<Option<&'h str>, Fault> {
    match header.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Fault::HeaderMember(member)),
    }
}

pub(super) fn needed_text<'h>(
    header: &'h Map<String, Value>,
    member: &'static str,
) -> Result<&'h str, Fault> {
    text(header, member)?.ok_or(Fault::HeaderMember(member))
}

#[cfg(test)]
mod tests;
