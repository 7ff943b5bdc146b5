//! The policy: how strong a case must be, and what people have muted.

use super::Decision;
use crate::config::Suppression;
use crate::model::{Case, Confidence, NotAlerted, Severity, Standing};

/// The suppressions: an immutable snapshot.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    suppressions: Vec<Suppression>,
}

impl Policy {
    pub(crate) fn new(suppressions: &[Suppression]) -> Self {
        Self { suppressions: suppressions.to_vec() }
    }

    /// Decides about a case as it stands, or stood.
    pub(super) fn judge(&self, case: &Case, standing: &Standing) -> Decision<'_> {
        if standing.severity < Severity::Medium {
            return Decision::Weak(NotAlerted::Severity);
        }
        if standing.confidence < Confidence::Medium {
            return Decision::Weak(NotAlerted::Confidence);
        }
        match self.suppressions.iter().find(|suppression| mutes(suppression, case, standing)) {
            Some(suppression) => Decision::Suppressed(&suppression.name),
            None => Decision::Alert,
        }
    }
}

/// Everything that a suppression names must fit. A network fits if either end of the deciding pair lies in it.
fn mutes(suppression: &Suppression, case: &Case, standing: &Standing) -> bool {
    let fits = |wanted: Option<&str>, has: &str| wanted.is_none_or(|wanted| wanted == has);
    suppression.rule == case.rule
        && standing.time < suppression.expires
        && fits(suppression.tenant.as_ref().map(|tenant| tenant.as_str()), &case.tenant)
        && fits(suppression.sub.as_deref(), &case.sub)
        && fits(suppression.client_id.as_deref(), &case.client_id)
        && fits(suppression.gateway.as_deref(), &case.gateway)
        && suppression.cidr.is_none_or(|cidr| standing.ips.iter().flatten().any(|ip| cidr.contains(ip)))
}
