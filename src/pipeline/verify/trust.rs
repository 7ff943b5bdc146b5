//! The snapshot that `verify` looks things up in: issuers, key sets, record-signature keys. Built outside the walk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use aws_lc_rs::{digest, hmac};

use super::jwks::KeySet;
use super::signature::Signers;
use crate::config::{Gateway, Issuer, Signatures, Tenant};
use crate::model::TenantId;

/// A map that is read once or more an event, with keys from our own configuration.
type Table<V> = HashMap<String, V, foldhash::fast::RandomState>;

/// Issuers, key sets and record-signature keys: an immutable snapshot.
pub(crate) struct Trust {
    name: String,
    tenants: Table<TenantTrust>,
    /// What holds for every tenant that was not declared.
    undeclared: TenantTrust,
    /// Every configured `iss`, whosever it is.
    issuers: Table<()>,
    signers: Signers,
}

/// What one tenant demands and trusts.
pub(super) struct TenantTrust {
    pub(super) signatures: Signatures,
    issuers: Table<IssuerTrust>,
}

impl Default for TenantTrust {
    fn default() -> Self {
        Self { signatures: Tenant::default().signatures, issuers: Table::default() }
    }
}

/// One issuer of a tenant.
pub(super) struct IssuerTrust {
    /// `None` if no key set was configured: then keys are not judged.
    pub(super) keys: Option<KeySet>,
    /// The longest `exp` − `iat`, in seconds.
    pub(super) max_lifetime_s: Option<i64>,
}

/// What is wrong with the configured issuers and keys. The snapshot that was in use stays usable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error("issuer {iss}: {} cannot be read: {cause}", path.display())]
    Unreadable { iss: String, path: PathBuf, cause: std::io::Error },
    #[error(
        "issuer {iss}: {} is not a JWK set (a JSON object with an array `keys`, RFC 7517 section 5): {cause}",
        path.display()
    )]
    NotAKeySet { iss: String, path: PathBuf, cause: String },
    /// `kid` is the key's place (`#3`) where it has none.
    #[error("issuer {iss}: {}, key {kid}: {cause}", path.display())]
    BadKey { iss: String, path: PathBuf, kid: String, cause: String },
    #[error("issuer {iss} is configured twice for tenant {tenant}: keep one")]
    IssuerTwice { iss: String, tenant: TenantId },
    #[error("gateway {gateway}, signing key {id}: {fault}")]
    SigningKey { gateway: String, id: String, fault: &'static str },
}

impl TrustError {
    /// The closed word for metrics and log fields.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "jwks_unreadable",
            Self::NotAKeySet { .. } => "jwks_malformed",
            Self::BadKey { .. } => "jwk_bad",
            Self::IssuerTwice { .. } => "issuer_twice",
            Self::SigningKey { .. } => "signing_key_bad",
        }
    }
}

/// All that is wrong at once, a line each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|error| format!("{}: {error}", error.code())).collect::<Vec<_>>().join("\n"))]
pub(crate) struct TrustErrors(pub(crate) Vec<TrustError>);

impl Trust {
    /// Reads the JWK set files and builds the snapshot. All problems are reported at once, each bad key by its file
    /// and kid. `door` is [`crate::keys::door`].
    pub(crate) fn build(
        issuers: &[Issuer],
        tenants: &HashMap<TenantId, Tenant>,
        gateways: &[Gateway],
        door: hmac::Key,
    ) -> Result<Self, TrustErrors> {
        let mut problems = Vec::new();
        let mut trust = Self {
            name: String::new(),
            tenants: Table::default(),
            undeclared: TenantTrust::default(),
            issuers: Table::default(),
            signers: Signers::new(door, gateways, &mut problems),
        };
        for (id, tenant) in tenants {
            trust.tenants.entry(id.to_string()).or_default().signatures = tenant.signatures;
        }
        for issuer in issuers {
            let keys = issuer.jwks.as_deref().and_then(|path| read_keys(&issuer.iss, path, &mut problems));
            let max_lifetime_s =
                issuer.max_lifetime.map(|longest| i64::try_from(longest.as_secs()).unwrap_or(i64::MAX));
            let tenant = trust.tenants.entry(issuer.tenant.to_string()).or_default();
            let trusted = IssuerTrust { keys, max_lifetime_s };
            if tenant.issuers.insert(issuer.iss.clone(), trusted).is_some() {
                problems
                    .push(TrustError::IssuerTwice { iss: issuer.iss.clone(), tenant: issuer.tenant.clone() });
            }
            trust.issuers.insert(issuer.iss.clone(), ());
        }
        if !problems.is_empty() {
            return Err(TrustErrors(problems));
        }
        trust.name = trust.fingerprint(gateways);
        Ok(trust)
    }

    /// Names the snapshot in the block's line: two that judge alike have one name, whatever process built them.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn tenant(&self, tenant: &str) -> &TenantTrust {
        self.tenants.get(tenant).unwrap_or(&self.undeclared)
    }

    /// Whether a tenant of that name was declared, or has a configured issuer. A `tenant_id` that names none of them
    /// is the identity provider's own and says nothing about ours.
    pub(super) fn declares(&self, tenant: &str) -> bool {
        self.tenants.contains_key(tenant)
    }

    /// Whether `iss` is any tenant's issuer, as one exact string.
    pub(super) fn knows_issuer(&self, iss: &str) -> bool {
        self.issuers.contains_key(iss)
    }

    pub(super) const fn signers(&self) -> &Signers {
        &self.signers
    }

    /// 12 hex digits of a hash over everything that decides a verdict, but for the secrets: a name that is printed
    /// must not be something to test guesses of a secret against.
    fn fingerprint(&self, gateways: &[Gateway]) -> String {
        let mut lines = Vec::new();
        for (name, tenant) in &self.tenants {
            lines.push(format!("tenant {name} {}", tenant.signatures));
            for (iss, issuer) in &tenant.issuers {
                lines.push(format!("issuer {name} {iss:?} {:?}", issuer.max_lifetime_s));
                for key in issuer.keys.iter().flat_map(KeySet::lines) {
                    lines.push(format!("key {name} {iss:?} {key}"));
                }
            }
        }
        for gateway in gateways {
            let ids: Vec<_> = gateway.signing.iter().map(|key| &key.id).collect();
            lines.push(format!("gateway {} {} {:?} {ids:?}", gateway.name, gateway.zone, gateway.tenants));
        }
        lines.sort_unstable();
        let hash = digest::digest(&digest::SHA256, lines.join("\n").as_bytes());
        hash.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TenantTrust {
    pub(super) fn has_issuers(&self) -> bool {
        !self.issuers.is_empty()
    }

    /// The issuer with exactly this `iss`, if it is the tenant's.
    pub(super) fn issuer(&self, iss: &str) -> Option<&IssuerTrust> {
        self.issuers.get(iss)
    }
}

/// Reads one JWK set file; `None` if it is no key set at all.
fn read_keys(iss: &str, path: &Path, problems: &mut Vec<TrustError>) -> Option<KeySet> {
    let json = match std::fs::read(path) {
        Ok(json) => json,
        Err(cause) => {
            problems.push(TrustError::Unreadable { iss: iss.to_owned(), path: path.to_owned(), cause });
            return None;
        }
    };
    match KeySet::parse(&json) {
        Ok((keys, bad)) => {
            problems.extend(bad.into_iter().map(|(kid, cause)| TrustError::BadKey {
                iss: iss.to_owned(),
                path: path.to_owned(),
                kid,
                cause,
            }));
            Some(keys)
        }
        Err(cause) => {
            problems.push(TrustError::NotAKeySet { iss: iss.to_owned(), path: path.to_owned(), cause });
            None
        }
    }
}
