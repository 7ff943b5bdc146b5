//! What may go wrong with the system of record.

use super::{ArbiterError, EntryKey, Invalid};
use crate::log::LogError;
use crate::model::TenantId;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// Somebody else changed it, or it is (not) there; 0: it is not there.
    #[error("{key} has version {version}: read it again, then decide")]
    Conflict { key: EntryKey, version: u64 },
    #[error("there is no tenant `{0}`")]
    NoTenant(TenantId),
    #[error("tenant `{0}` was deleted, and its name is nobody's for ever: choose another")]
    TenantDeleted(TenantId),
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error(
        "none of the {records} records of the control topic is signed under this master key: it is another \
         installation's key or topic"
    )]
    WrongMasterKey { records: usize },
    #[error(transparent)]
    Arbiter(#[from] ArbiterError),
    /// A write of which this comes may stand all the same; it is then appended as soon as the log takes it.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl ControlError {
    /// The closed word for metrics, log fields and answers.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "conflict",
            Self::NoTenant(_) => "no_tenant",
            Self::TenantDeleted(_) => "tenant_deleted",
            Self::Invalid(_) => "invalid",
            Self::WrongMasterKey { .. } => "wrong_master_key",
            Self::Arbiter(error) => error.code,
            Self::Log(error) => error.code(),
        }
    }
}
