//! Why the store gave no answer.

use crate::issuer::control::ArbiterError;

/// Nothing was decided, or it is not known what was.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Try again: a lost answer is given again.
    #[error("{doing}: the store does not answer: {cause}; tokens that are out are still verified")]
    Unavailable { doing: &'static str, cause: String },
    /// It answers, and must not be relied on as it is set up.
    #[error("the store must not be relied on: {0}")]
    Misconfigured(String),
    /// What lies in the store cannot be read, or it cannot be written any more.
    #[error("{doing}: {cause}; nothing more is written there")]
    Broken { doing: &'static str, cause: String },
}

impl StoreError {
    /// The closed word for metrics and log fields.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "store_unavailable",
            Self::Misconfigured(_) => "store_misconfigured",
            Self::Broken { .. } => "store_broken",
        }
    }
}

impl From<StoreError> for ArbiterError {
    fn from(error: StoreError) -> Self {
        Self { code: error.code(), cause: error.to_string() }
    }
}
