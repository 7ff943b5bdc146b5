//! How long a tenant's events stay.

use std::collections::HashMap;

use crate::config::{Config, Tenant};
use crate::model::TenantId;

/// Days by tenant: the column `retention_days`.
#[derive(Clone, Debug)]
pub(crate) struct Retention {
    by_tenant: HashMap<TenantId, u16>,
    /// For tenants that are not declared.
    default_days: u16,
}

impl Retention {
    /// As configured. Never 0: a row of 0 days would be deleted before anyone could see it.
    pub(crate) fn new(config: &Config) -> Self {
        Self::of(config.tenants.iter().map(|(id, tenant)| (id.clone(), tenant.retention_days)).collect())
    }

    pub(super) fn of(mut by_tenant: HashMap<TenantId, u16>) -> Self {
        by_tenant.values_mut().for_each(|days| *days = (*days).max(1));
        Self { by_tenant, default_days: Tenant::default().retention_days }
    }

    pub(super) fn days(&self, tenant: &str) -> u16 {
        self.by_tenant.get(tenant).copied().unwrap_or(self.default_days)
    }
}
