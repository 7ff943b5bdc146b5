//! Public keys as JSON (RFC 7517, RFC 7518 section 6, RFC 8037): read, written, named by their thumbprint.
//!
//! Where a key points to other places (`jku`, `x5u`) or brings certificates (`x5c`), nothing is followed or believed.

use serde_json::{Map, Value, json};

use super::alg::SigningAlg;
use super::keys::KeyError;
use super::{sha256_base64url, strict};

/// A public key and what may be done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicJwk {
    pub(crate) kid: Option<String>,
    pub(super) purpose: Option<Purpose>,
    /// `key_ops` (RFC 7517, section 4.3).
    pub(super) operations: Option<Vec<String>>,
    /// `alg`: the one algorithm that it is for.
    pub(super) alg: Option<String>,
    pub(crate) material: Material,
}

/// The member `use` (RFC 7517, section 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Signatures,
    Encryption,
    Other,
}

/// What a public key is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Material {
    /// Big-endian, each as long as the curve's field.
    Ec { curve: EcCurve, x: Vec<u8>, y: Vec<u8> },
    /// RFC 7748's and RFC 8032's bytes.
    Okp { curve: OkpCurve, x: Vec<u8> },
    /// Big-endian, without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// A key type that we cannot use, such as `AKP`: it may still be named.
    Other,
}

crate::model::words! {
    /// Curves of `kty` `EC`.
    EcCurve { P256 = "P-256", P384 = "P-384", P521 = "P-521", Secp256k1 = "secp256k1", }
}

crate::model::words! {
    /// Curves of `kty` `OKP`.
    OkpCurve { Ed25519 = "Ed25519", Ed448 = "Ed448", X25519 = "X25519", X448 = "X448", }
}

impl EcCurve {
    /// Bytes of a coordinate.
    pub(super) const fn field_bytes(self) -> usize {
        match self {
            Self::P256 | Self::Secp256k1 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

impl OkpCurve {
    /// Bytes of a key.
    const fn key_bytes(self) -> usize {
        match self {
            Self::Ed25519 | Self::X25519 => 32,
            Self::X448 => 56,
            Self::Ed448 => 57,
        }
    }
}

impl PublicJwk {
    /// Reads a key's JSON object.
    ///
    /// # Errors
    /// If members that its type needs are missing or malformed, or if it holds a private or shared key.
    pub(crate) fn read(jwk: &Value) -> Result<Self, KeyError> {
        let text = |member: &'static str| match jwk.get(member) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(KeyError::BadMember(member)),
        };
        if ["d", "k", "p", "q", "dp", "dq", "qi", "oth", "priv"]
            .iter()
            .any(|member| jwk.get(member).is_some())
        {
            return Err(KeyError::Private);
        }
        let needed = |member| text(member)?.ok_or(KeyError::NoMember(member));
        let bytes = |member| strict::decode(needed(member)?).ok_or(KeyError::BadMember(member));
        let sized = |member, size| match bytes(member)? {
            bytes if bytes.len() == size => Ok(bytes),
            _ => Err(KeyError::BadMember(member)),
        };
        let integer = |member| match bytes(member)?.iter().position(|&byte| byte != 0) {
            // A leading zero is not minimal, but some write it: without it the key has one form again.
            Some(first) => Ok(bytes(member)?.split_off(first)),
            None => Err(KeyError::BadMember(member)),
        };
        let material = match needed("kty")? {
            "EC" => {
                let curve = EcCurve::parse(needed("crv")?).ok_or(KeyError::UnknownCurve)?;
                let (x, y) = (sized("x", curve.field_bytes())?, sized("y", curve.field_bytes())?);
                Material::Ec { curve, x, y }
            }
            "OKP" => {
                let curve = OkpCurve::parse(needed("crv")?).ok_or(KeyError::UnknownCurve)?;
                Material::Okp { curve, x: sized("x", curve.key_bytes())? }
            }
            "RSA" => Material::Rsa { n: integer("n")?, e: integer("e")? },
            _ => Material::Other,
        };
        let purpose = text("use")?.map(|purpose| match purpose {
            "sig" => Purpose::Signatures,
            "enc" => Purpose::Encryption,
            _ => Purpose::Other,
        });
        let operations = match jwk.get("key_ops") {
            None => None,
            Some(list) => Some(strings(list).ok_or(KeyError::BadMember("key_ops"))?),
        };
        let kid = text("kid")?.map(str::to_owned);
        Ok(Self { kid, purpose, operations, alg: text("alg")?.map(str::to_owned), material })
    }

    /// Reads a key's text; a member that is repeated makes it none.
    ///
    /// # Errors
    /// As [`PublicJwk::read`], and if it is not a JSON object.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, KeyError> {
        let members = strict::object(json).map_err(|_| KeyError::NotAnObject)?;
        Self::read(&Value::Object(members))
    }

    /// A key of ours for one algorithm, named by its thumbprint.
    pub(super) fn ours(material: Material, purpose: Purpose, alg: &str) -> Self {
        let mut jwk =
            Self { kid: None, purpose: Some(purpose), operations: None, alg: Some(alg.to_owned()), material };
        jwk.kid = jwk.thumbprint();
        jwk
    }

    /// As JSON, public members alone.
    pub(crate) fn to_json(&self) -> Value {
        let mut members = self.material.members();
        if let Some(kid) = &self.kid {
            members.insert("kid".to_owned(), json!(kid));
        }
        match &self.purpose {
            Some(Purpose::Signatures) => _ = members.insert("use".to_owned(), json!("sig")),
            Some(Purpose::Encryption) => _ = members.insert("use".to_owned(), json!("enc")),
            Some(Purpose::Other) | None => {}
        }
        if let Some(operations) = &self.operations {
            members.insert("key_ops".to_owned(), json!(operations));
        }
        if let Some(alg) = &self.alg {
            members.insert("alg".to_owned(), json!(alg));
        }
        Value::Object(members)
    }

    /// The SHA-256 thumbprint (RFC 7638), 43 characters: the kid of each key of ours. `None` for a type that we do not
    /// know.
    pub(crate) fn thumbprint(&self) -> Option<String> {
        let members = self.material.members();
        (!members.is_empty()).then(|| sha256_base64url(Value::Object(members).to_string().as_bytes()))
    }

    /// The signature algorithms that its type, curve, `use`, `key_ops` and `alg` leave; empty for a key that encrypts.
    ///
    /// # Errors
    /// If `alg` is none that a key of this type can have, or if nothing tells.
    pub(crate) fn signing_algs(&self) -> Result<Vec<SigningAlg>, KeyError> {
        let verifies =
            self.operations.as_ref().is_none_or(|operations| operations.iter().any(|op| op == "verify"));
        let encrypts = matches!(self.purpose, Some(Purpose::Encryption))
            || matches!(&self.material, Material::Okp { curve: OkpCurve::X25519 | OkpCurve::X448, .. })
            || self.alg.as_deref().is_some_and(is_encryption_alg);
        if encrypts || !verifies || self.purpose == Some(Purpose::Other) {
            return Ok(Vec::new());
        }
        let possible = self.material.signing_algs();
        match &self.alg {
            None if possible.is_empty() => Err(KeyError::NoDefaultAlg),
            None => Ok(possible.to_vec()),
            Some(declared) => match SigningAlg::parse(declared) {
                Some(alg) if possible.contains(&alg) || self.material == Material::Other => Ok(vec![alg]),
                Some(alg) => Err(KeyError::OtherAlg(alg)),
                None => Err(KeyError::UnknownAlg(declared.clone())),
            },
        }
    }
}

impl PublicJwk {
    /// Whether its `use`, `key_ops` and `alg` leave this encryption algorithm. A public key that agrees has no operations
    /// (RFC 7517's registry knows `deriveKey` and `deriveBits` of private keys), but some write those.
    pub(super) fn encrypts_with(&self, alg: &str) -> bool {
        let encrypting = ["encrypt", "wrapKey", "deriveKey", "deriveBits"];
        let operations = self.operations.as_deref().unwrap_or_default();
        (operations.is_empty() || operations.iter().any(|operation| encrypting.contains(&operation.as_str())))
            && matches!(self.purpose, None | Some(Purpose::Encryption))
            && self.alg.as_deref().is_none_or(|declared| declared == alg)
    }
}

impl Material {
    /// What its thumbprint is made of, in lexicographic order (RFC 7638, section 3.3).
    pub(super) fn members(&self) -> Map<String, Value> {
        let members: &[(&str, String)] = &match self {
            Self::Ec { curve, x, y } => vec![
                ("crv", curve.to_string()),
                ("kty", "EC".to_owned()),
                ("x", strict::encode(x)),
                ("y", strict::encode(y)),
            ],
            Self::Okp { curve, x } => {
                vec![("crv", curve.to_string()), ("kty", "OKP".to_owned()), ("x", strict::encode(x))]
            }
            Self::Rsa { n, e } => {
                vec![("e", strict::encode(e)), ("kty", "RSA".to_owned()), ("n", strict::encode(n))]
            }
            Self::Other => vec![],
        };
        members.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
    }

    /// What it can sign with, by its type and curve.
    fn signing_algs(&self) -> &'static [SigningAlg] {
        use SigningAlg::*;
        match self {
            Self::Ec { curve, .. } => match curve {
                EcCurve::P256 => &[Es256],
                EcCurve::P384 => &[Es384],
                EcCurve::P521 => &[Es512],
                EcCurve::Secp256k1 => &[Es256k],
            },
            Self::Okp { curve: OkpCurve::Ed25519, .. } => &[EdDsa, Ed25519],
            Self::Okp { curve: OkpCurve::Ed448, .. } => &[EdDsa, Ed448],
            Self::Okp { .. } | Self::Other => &[],
            Self::Rsa { .. } => &[Rs256, Rs384, Rs512, Ps256, Ps384, Ps512],
        }
    }

    /// The other way round; `None` if it is no such point of the curve.
    pub(super) fn of_point(curve: EcCurve, point: &[u8]) -> Option<Self> {
        let (x, y) = point.strip_prefix(&[4])?.split_at_checked(curve.field_bytes())?;
        (x.len() == y.len()).then(|| Self::Ec { curve, x: x.to_vec(), y: y.to_vec() })
    }

    /// An elliptic curve's point, uncompressed (X9.62): 0x04, x, y.
    pub(super) fn point(x: &[u8], y: &[u8]) -> Vec<u8> {
        [&[4], x, y].concat()
    }
}

fn is_encryption_alg(alg: &str) -> bool {
    alg.starts_with("RSA-OAEP") || alg.starts_with("ECDH-ES") || alg == "RSA1_5"
}

/// A list of texts; `None` if it is another thing.
pub(super) fn strings(list: &Value) -> Option<Vec<String>> {
    list.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests;
