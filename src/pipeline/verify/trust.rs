//! The snapshot that `verify` looks things up in: issuers, key sets, record-signature keys. Built outside the walk.
//! Where an issuer's keys are fetched, a new snapshot is made of the old one and the new keys.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::{digest, hmac};

use super::jwks::{BadKey, Key, KeySet, jwks_of};
use super::signature::Signers;
use crate::config::{Gateway, Issuer, JwksSource, Signatures, Tenant};
use crate::model::TenantId;

/// A map that is read once or more an event, with keys from our own configuration.
type Table<V> = HashMap<String, V, foldhash::fast::RandomState>;

/// Issuers, key sets and record-signature keys: an immutable snapshot.
#[derive(Clone)]
pub(crate) struct Trust {
    name: String,
    tenants: Table<TenantTrust>,
    /// What holds for every tenant that was not declared.
    undeclared: TenantTrust,
    /// Every configured `iss`, whosever it is.
    issuers: Table<()>,
    signers: Arc<Signers>,
    /// What the snapshot's name says of the signers.
    signer_lines: Vec<String>,
}

/// What one tenant demands and trusts.
#[derive(Clone)]
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
#[derive(Clone)]
pub(super) struct IssuerTrust {
    pub(super) keys: IssuerKeys,
    /// The longest `exp` − `iat`, in seconds.
    pub(super) max_lifetime_s: Option<i64>,
}

/// What is known of an issuer's keys.
#[derive(Clone)]
pub(super) enum IssuerKeys {
    /// No key set was configured: then keys are not judged.
    Unjudged,
    /// Read at the start.
    Read(Arc<KeySet>),
    Fetched(FetchedKeys),
}

/// The key set of an issuer whose keys are fetched, as it stands.
#[derive(Clone, Default)]
pub(crate) struct FetchedKeys {
    /// `None` while none was fetched yet, or if the last one is too old to judge by: then no key is known.
    pub(crate) keys: Option<Arc<KeySet>>,
    /// Raised by the walk when a token names a key that the set lacks, for whoever fetches to look at. Nothing of the
    /// walk depends on it, and the walk waits for nothing.
    pub(crate) missed: Arc<AtomicBool>,
}

/// An issuer as it is configured: one `iss` of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct IssuerId {
    pub(crate) tenant: TenantId,
    pub(crate) iss: String,
}

impl IssuerKeys {
    /// The keys that can be judged by, if there are any.
    pub(super) fn set(&self) -> Option<&KeySet> {
        match self {
            Self::Unjudged => None,
            Self::Read(keys) => Some(keys),
            Self::Fetched(fetched) => fetched.keys.as_deref(),
        }
    }

    /// The key of that id: `None` if keys are not judged, `Some(None)` if it is unknown.
    pub(super) fn look_up(&self, kid: &str) -> Option<Option<&Key>> {
        let key = self.set().and_then(|keys| keys.get(kid));
        match self {
            Self::Unjudged => return None,
            Self::Fetched(fetched) if key.is_none() => fetched.missed.store(true, Ordering::Relaxed),
            Self::Read(_) | Self::Fetched(_) => {}
        }
        Some(key)
    }

    /// A line a key, for the snapshot's name.
    fn lines(&self) -> impl Iterator<Item = String> {
        let unknown = matches!(self, Self::Fetched(fetched) if fetched.keys.is_none());
        let keys = self.set().into_iter().flat_map(KeySet::lines);
        keys.chain(unknown.then(|| "unknown".to_owned()))
    }
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
            signers: Arc::new(Signers::new(door, gateways, &mut problems)),
            signer_lines: gateways.iter().map(signer_line).collect(),
        };
        for (id, tenant) in tenants {
            trust.tenants.entry(id.to_string()).or_default().signatures = tenant.signatures;
        }
        for issuer in issuers {
            let keys = match &issuer.jwks {
                None => IssuerKeys::Unjudged,
                Some(JwksSource::Url(_)) => IssuerKeys::Fetched(FetchedKeys::default()),
                Some(JwksSource::File(path)) => {
                    IssuerKeys::Read(Arc::new(read_keys(&issuer.iss, path, &mut problems)))
                }
            };
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
        trust.name = trust.fingerprint();
        Ok(trust)
    }

    /// The same, with what is known of the issuers whose keys are fetched.
    pub(crate) fn with_fetched<'i>(
        &self,
        fetched: impl IntoIterator<Item = (&'i IssuerId, &'i FetchedKeys)>,
    ) -> Self {
        let mut trust = self.clone();
        for (id, keys) in fetched {
            let tenant = trust.tenants.get_mut(id.tenant.as_str());
            if let Some(issuer) = tenant.and_then(|tenant| tenant.issuers.get_mut(&id.iss)) {
                issuer.keys = IssuerKeys::Fetched(keys.clone());
            }
        }
        trust.name = trust.fingerprint();
        trust
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

    pub(super) fn signers(&self) -> &Signers {
        &self.signers
    }

    /// 12 hex digits of a hash over everything that decides a verdict, but for the secrets: a name that is printed
    /// must not be something to test guesses of a secret against.
    fn fingerprint(&self) -> String {
        let mut lines = self.signer_lines.clone();
        for (name, tenant) in &self.tenants {
            lines.push(format!("tenant {name} {}", tenant.signatures));
            for (iss, issuer) in &tenant.issuers {
                lines.push(format!("issuer {name} {iss:?} {:?}", issuer.max_lifetime_s));
                for key in issuer.keys.lines() {
                    lines.push(format!("key {name} {iss:?} {key}"));
                }
            }
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

/// What decides whether a gateway's signature counts, but for the keys themselves.
fn signer_line(gateway: &Gateway) -> String {
    let ids: Vec<_> = gateway.signing.iter().map(|key| &key.id).collect();
    format!("gateway {} {} {:?} {ids:?}", gateway.name, gateway.zone, gateway.tenants)
}

/// Reads one JWK set file; what is wrong goes to `problems`.
fn read_keys(iss: &str, path: &Path, problems: &mut Vec<TrustError>) -> KeySet {
    let (iss, path) = (iss.to_owned(), path.to_owned());
    let keys = match std::fs::read(&path) {
        Ok(json) => jwks_of(&json),
        Err(cause) => {
            problems.push(TrustError::Unreadable { iss, path, cause });
            return KeySet::default();
        }
    };
    match keys {
        Ok(keys) => {
            let (set, bad) = KeySet::of(&keys);
            problems.extend(bad.into_iter().map(|BadKey { kid, cause, .. }| TrustError::BadKey {
                iss: iss.clone(),
                path: path.clone(),
                kid,
                cause,
            }));
            set
        }
        Err(cause) => {
            problems.push(TrustError::NotAKeySet { iss, path, cause: cause.to_string() });
            KeySet::default()
        }
    }
}
