//! A tenant's key pairs: made at its first need, followed in time, opened where they sign.
//!
//! A private half is PKCS#8, sealed under the tenant's data key, which the master key wraps; both lie in the system of
//! record. Opened keys are kept while tenants are busy, and wiped when they go.

mod schedule;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use quick_cache::sync::Cache;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::control::{
    Control, ControlError, DataKey, EntryKey, Expected, IssueAlg, KeyId, KeyPair, KeySet, KeyState, Policy,
    PrivateHalf,
};
use super::ledger::{Happened, Ledger};
use super::master::{Binding, MasterKey, SealingKey, Unsealable};
use crate::clock::{Clock, Random};
use crate::log::LogError;
use crate::model::{TenantId, UnixMs};
use crate::token::{
    ACCESS_TOKEN_TYPE, JwsHeader, KeyAsOfNow, KeyError, KeyKind, Pkcs8, PublicJwk, SigningAlg, SigningKey,
    VerifyingKey,
};
use schedule::Due;

pub(crate) use schedule::JWKS_MAX_AGE_S;

/// Tenants whose keys are kept open.
const OPEN_TENANTS: usize = 10_000;

/// So often keys are looked at anew: after each of what is due (a first key for each algorithm, say), and because another
/// instance changed them meanwhile.
const TRIES: usize = 16;

/// What wrapped a data key that the master key wrapped.
const BY_MASTER: &str = "master";

/// Why a tenant's keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyringError {
    #[error("a key of tenant `{tenant}` cannot be opened: it was sealed under another master key")]
    Unsealable { tenant: TenantId },
    #[error("a key of tenant `{tenant}` cannot be used: {cause}")]
    Key { tenant: TenantId, cause: KeyError },
    #[error("the keys of tenant `{0}` are being changed by too many at once")]
    Busy(TenantId),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("what became of a key could not be written down: {0}")]
    Ledger(#[from] LogError),
}

impl KeyringError {
    /// The closed word for metrics and log fields.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Unsealable { .. } => "key_unsealable",
            Self::Key { cause, .. } => cause.code(),
            Self::Busy(_) => "keys_busy",
            Self::Control(error) => error.code(),
            Self::Ledger(error) => error.code(),
        }
    }
}

/// All tenants' keys.
pub(crate) struct Keyring {
    control: Arc<Control>,
    ledger: Arc<Ledger>,
    wrapping: SealingKey,
    open: Cache<TenantId, Arc<TenantKeys>>,
    clock: Clock,
}

/// One tenant's keys, opened.
pub(crate) struct TenantKeys {
    /// Of the entry that they were made of.
    version: u64,
    set: Arc<KeySet>,
    verifying: HashMap<String, VerifyingKey>,
    signers: HashMap<String, Signer>,
}

/// A key that signs access tokens.
pub(crate) struct Signer {
    pub(crate) key: SigningKey,
    pub(crate) header: JwsHeader,
}

impl Keyring {
    pub(crate) fn new(control: Arc<Control>, ledger: Arc<Ledger>, master: &MasterKey, clock: Clock) -> Self {
        Self { control, ledger, wrapping: master.wrapping(), open: Cache::new(OPEN_TENANTS), clock }
    }

    /// The tenant's keys as the system of record has them; what is due about them is done first.
    ///
    /// # Errors
    /// If they cannot be opened, or what was due could not be written. Keys that still sign are given all the same where
    /// only their succession could not be.
    pub(crate) async fn keys(
        &self,
        tenant: &TenantId,
        policy: &Policy,
    ) -> Result<Arc<TenantKeys>, KeyringError> {
        for _ in 0..TRIES {
            let keys = self.opened(tenant)?;
            let now = self.clock.now();
            let Some((alg, due)) = schedule::due(&keys.set, &policy.algs, now) else { return Ok(keys) };
            match self.settle(tenant, &keys, alg, due, now).await {
                Ok(()) | Err(KeyringError::Control(ControlError::Conflict { .. })) => {}
                Err(error) if due == Due::First => return Err(error),
                Err(error) => {
                    tracing::warn!(%tenant, code = error.code(), %error, "keys are not followed yet; the old ones sign on");
                    return Ok(keys);
                }
            }
        }
        Err(KeyringError::Busy(tenant.clone()))
    }

    /// Writes what is due, then what became of the keys.
    async fn settle(
        &self,
        tenant: &TenantId,
        keys: &TenantKeys,
        alg: IssueAlg,
        due: Due,
        now: UnixMs,
    ) -> Result<(), KeyringError> {
        let mut set = (*keys.set).clone();
        match due {
            Due::First => {
                let pair = self.draw(tenant, &mut set, alg)?;
                set.keys.push(KeyPair { history: schedule::begun(now), ..pair });
            }
            Due::Successor => {
                let pair = self.draw(tenant, &mut set, alg)?;
                let history = schedule::succeed(&mut set, alg, now);
                set.keys.push(KeyPair { history, ..pair });
            }
            Due::Retirement => schedule::retire(&mut set, alg, now),
            Due::Destruction => schedule::destroy(&mut set, now),
        }
        let drawn = set.keys.get(keys.set.keys.len()).map(|pair| (pair.kid.clone(), pair.state_at(now)));
        let expected = if keys.version == 0 { Expected::Absent } else { Expected::Version(keys.version) };
        self.control.put(&EntryKey::of::<KeySet>(tenant, KeySet::NAME), expected, set).await?;
        if let Some((kid, Some(state))) = drawn {
            self.ledger.write(tenant, &[Happened::KeyStateChanged { kid: &kid, state }]).await?;
        }
        Ok(())
    }

    /// Draws a key pair; the set gets a data key if it has none.
    fn draw(&self, tenant: &TenantId, set: &mut KeySet, alg: IssueAlg) -> Result<KeyPair, KeyringError> {
        let fail = |cause| KeyringError::Key { tenant: tenant.clone(), cause };
        let data_key = match &set.data_key {
            Some(wrapped) => self.unwrap(tenant, wrapped)?,
            None => {
                let drawn = Zeroizing::new(Random::bytes::<32>());
                let wrapped = self.wrapping.seal(&wrapped_for(tenant), &*drawn);
                set.data_key = Some(DataKey { wrapped_by: BY_MASTER.to_owned(), wrapped });
                SealingKey::new(&drawn)
            }
        };
        let kind = match alg {
            IssueAlg::Es256 => KeyKind::P256,
            IssueAlg::Rs256 | IssueAlg::Ps256 => KeyKind::Rsa2048,
            IssueAlg::EdDsa => KeyKind::Ed25519,
        };
        let private = Pkcs8::generate(kind).map_err(fail)?;
        let signing = SigningKey::new(signing_alg(alg), &private).map_err(fail)?;
        let kid = KeyId::parse(signing.kid()).map_err(ControlError::from)?;
        let sealed = data_key.seal(&sealed_for(tenant, kid.as_str()), private.expose());
        let (public, private) = (signing.public_jwk().to_json(), PrivateHalf::Sealed(sealed));
        Ok(KeyPair { kid, alg, public, private, history: Vec::new() })
    }

    fn unwrap(&self, tenant: &TenantId, data_key: &DataKey) -> Result<SealingKey, KeyringError> {
        let unsealable = |Unsealable| KeyringError::Unsealable { tenant: tenant.clone() };
        let bytes = self.wrapping.open(&wrapped_for(tenant), &data_key.wrapped).map_err(unsealable)?;
        let bytes = bytes.as_slice().try_into().map_err(|_| unsealable(Unsealable))?;
        Ok(SealingKey::new(bytes))
    }

    fn opened(&self, tenant: &TenantId) -> Result<Arc<TenantKeys>, KeyringError> {
        let found = self.control.get::<KeySet>(tenant.as_str(), KeySet::NAME);
        let (version, set) = found.map_or_else(|| (0, Arc::default()), |found| (found.version, found.entry));
        if let Some(keys) = self.open.get(tenant)
            && keys.version == version
        {
            return Ok(keys);
        }
        let keys = Arc::new(self.open_set(tenant, version, set)?);
        self.open.insert(tenant.clone(), Arc::clone(&keys));
        Ok(keys)
    }

    fn open_set(
        &self,
        tenant: &TenantId,
        version: u64,
        set: Arc<KeySet>,
    ) -> Result<TenantKeys, KeyringError> {
        let fail = |cause| KeyringError::Key { tenant: tenant.clone(), cause };
        let data_key = set.data_key.as_ref().map(|wrapped| self.unwrap(tenant, wrapped)).transpose()?;
        let mut keys =
            TenantKeys { version, set: Arc::clone(&set), verifying: HashMap::new(), signers: HashMap::new() };
        for pair in &set.keys {
            let public = PublicJwk::read(&pair.public).map_err(fail)?;
            keys.verifying.insert(pair.kid.to_string(), VerifyingKey::new(&public).map_err(fail)?);
            if let (PrivateHalf::Sealed(sealed), Some(data_key)) = (&pair.private, &data_key) {
                let unsealable = |Unsealable| KeyringError::Unsealable { tenant: tenant.clone() };
                let mut opened =
                    data_key.open(&sealed_for(tenant, pair.kid.as_str()), sealed).map_err(unsealable)?;
                let private = Pkcs8::from_der(std::mem::take(&mut *opened));
                let key = SigningKey::new(signing_alg(pair.alg), &private).map_err(fail)?;
                let header = JwsHeader::new(key.alg(), key.kid(), ACCESS_TOKEN_TYPE);
                keys.signers.insert(pair.kid.to_string(), Signer { key, header });
            }
        }
        Ok(keys)
    }
}

impl TenantKeys {
    /// The key that signs with the first of the policy's algorithms.
    pub(crate) fn signer(&self, policy: &Policy, now: UnixMs) -> Option<&Signer> {
        let active = schedule::active(&self.set, *policy.algs.first()?, now)?;
        self.signers.get(active.kid.as_str())
    }

    /// The key of that kid, as of `now`.
    pub(crate) fn verifying(&self, kid: &str, now: UnixMs) -> Option<KeyAsOfNow<'_>> {
        let state = self.set.keys.iter().find(|pair| pair.kid.as_str() == kid)?.state_at(now)?;
        Some(KeyAsOfNow { key: self.verifying.get(kid)?, state })
    }

    /// The JWK set (RFC 7517, section 5): what signs, will sign and has signed what still lives.
    pub(crate) fn jwks(&self, now: UnixMs) -> Value {
        let is_shown = |pair: &&KeyPair| {
            matches!(pair.state_at(now), Some(KeyState::Prepared | KeyState::Active | KeyState::Retained))
        };
        json!({ "keys": self.set.keys.iter().filter(is_shown).map(|pair| &pair.public).collect::<Vec<_>>() })
    }
}

fn signing_alg(alg: IssueAlg) -> SigningAlg {
    match alg {
        IssueAlg::Es256 => SigningAlg::Es256,
        IssueAlg::Rs256 => SigningAlg::Rs256,
        IssueAlg::Ps256 => SigningAlg::Ps256,
        IssueAlg::EdDsa => SigningAlg::EdDsa,
    }
}

fn wrapped_for(tenant: &TenantId) -> Binding<'_> {
    Binding { purpose: "data key", tenant: tenant.as_str(), kid: "", state: "" }
}

/// Its states follow by time alone, without a new seal: none is part of it.
fn sealed_for<'a>(tenant: &'a TenantId, kid: &'a str) -> Binding<'a> {
    Binding { purpose: "private key", tenant: tenant.as_str(), kid, state: "" }
}
