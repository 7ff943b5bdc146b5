//! The entries: what the system of record holds, kind by kind, and the keys under which it holds them.
//!
//! An entry does not say its own name: its key does. Serialised, it is JSON, and a member that is not there has its
//! default: so entries can grow.

mod keys;
mod names;
mod parties;
mod secrets;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{TenantId, words};

pub(crate) use keys::*;
pub(crate) use names::*;
use parties::first_broken;
pub(crate) use parties::*;
pub(crate) use secrets::*;

words! {
    /// The kinds of entries.
    EntryKind {
        Tenant = "tenant",
        Client = "client",
        User = "user",
        Gateway = "gateway",
        Keys = "keys",
        Audience = "audience",
        AdminKey = "admin_key",
        Epoch = "epoch",
    }
}

impl EntryKind {
    /// Whether such entries are the platform's; the others are each a tenant's.
    pub(crate) const fn is_of_platform(self) -> bool {
        matches!(self, Self::Gateway | Self::AdminKey)
    }
}

/// An entry breaks a rule: which member, and what may stand there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {cause}")]
pub(crate) struct Invalid {
    /// As in the entry's JSON.
    pub(crate) field: &'static str,
    /// Goes on after the member's name.
    pub(crate) cause: String,
}

impl Invalid {
    pub(crate) fn new(field: &'static str, cause: impl Into<String>) -> Self {
        Self { field, cause: cause.into() }
    }
}

/// Whose an entry is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Scope {
    Tenant(TenantId),
    /// Of the installation: gateways and the keys of administrators.
    Platform,
}

/// The platform's place in a key's text: no tenant can have this name.
pub(super) const PLATFORM: &str = crate::model::PLATFORM_TENANT;

/// The key of an entry. As text `kind/tenant/name`; only the name may hold a `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct EntryKey {
    kind: EntryKind,
    scope: Scope,
    name: Box<str>,
}

impl EntryKey {
    /// The key of a tenant's entry of kind `E`.
    pub(crate) fn of<E: Entry>(tenant: &TenantId, name: &str) -> Self {
        Self { kind: E::KIND, scope: Scope::Tenant(tenant.clone()), name: name.into() }
    }

    /// The key of one of the platform's entries.
    pub(crate) fn of_platform<E: Entry>(name: &str) -> Self {
        Self { kind: E::KIND, scope: Scope::Platform, name: name.into() }
    }

    /// The key of a tenant itself.
    pub(crate) fn of_tenant(tenant: &TenantId) -> Self {
        Self::of::<Tenant>(tenant, tenant.as_str())
    }

    /// Whether the kind may belong to such an owner, and be called so.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        let is_in_place = match &self.scope {
            Scope::Platform => self.kind.is_of_platform(),
            Scope::Tenant(tenant) if self.kind == EntryKind::Tenant => *self.name == *tenant.as_str(),
            Scope::Tenant(_) => !self.kind.is_of_platform(),
        };
        first_broken([
            (
                is_in_place,
                "key",
                "is a gateway's or an admin key's of the platform, or another's of its tenant",
            ),
            ((1..=512).contains(&self.name.len()), "key", "has a name of 1 to 512 bytes"),
        ])
    }

    pub(crate) const fn kind(&self) -> EntryKind {
        self.kind
    }

    pub(crate) const fn scope(&self) -> &Scope {
        &self.scope
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = match &self.scope {
            Scope::Tenant(tenant) => tenant.as_str(),
            Scope::Platform => PLATFORM,
        };
        write!(f, "{}/{scope}/{}", self.kind, self.name)
    }
}

/// The text is not the key of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry's key is `kind/tenant/name`")]
pub(crate) struct NotAKey;

impl std::str::FromStr for EntryKey {
    type Err = NotAKey;
    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let mut parts = text.splitn(3, '/');
        let mut part = || parts.next().filter(|part| !part.is_empty()).ok_or(NotAKey);
        let kind = EntryKind::parse(part()?).ok_or(NotAKey)?;
        let scope = match part()? {
            PLATFORM => Scope::Platform,
            tenant => Scope::Tenant(tenant.parse().map_err(|_| NotAKey)?),
        };
        Ok(Self { kind, scope, name: part()?.into() })
    }
}

impl TryFrom<String> for EntryKey {
    type Error = NotAKey;
    fn try_from(text: String) -> Result<Self, NotAKey> {
        text.parse()
    }
}

impl From<EntryKey> for String {
    fn from(key: EntryKey) -> Self {
        key.to_string()
    }
}

/// A kind of entry.
pub(crate) trait Entry: Sized + Send + Sync + 'static {
    const KIND: EntryKind;

    /// What no single member's type can hold.
    fn check(&self) -> Result<(), Invalid>;

    fn of(entry: &AnyEntry) -> Option<&Arc<Self>>;

    fn any(self: Arc<Self>) -> AnyEntry;
}

/// An entry of any kind, shared by those who read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AnyEntry {
    Tenant(Arc<Tenant>),
    Client(Arc<Client>),
    User(Arc<User>),
    Gateway(Arc<Gateway>),
    Keys(Arc<KeySet>),
    Audience(Arc<Audience>),
    AdminKey(Arc<AdminKey>),
    Epoch(Arc<Epoch>),
}

macro_rules! entries {
    ($($kind:ident: $type:ty = $check:path;)+) => {
        $(impl Entry for $type {
            const KIND: EntryKind = EntryKind::$kind;

            fn check(&self) -> Result<(), Invalid> {
                $check(self)
            }

            fn of(entry: &AnyEntry) -> Option<&Arc<Self>> {
                match entry {
                    AnyEntry::$kind(entry) => Some(entry),
                    _ => None,
                }
            }

            fn any(self: Arc<Self>) -> AnyEntry {
                AnyEntry::$kind(self)
            }
        })+

        impl AnyEntry {
            pub(crate) const fn kind(&self) -> EntryKind {
                match self { $(Self::$kind(_) => EntryKind::$kind,)+ }
            }

            /// What no single member's type can hold.
            pub(crate) fn check(&self) -> Result<(), Invalid> {
                match self { $(Self::$kind(entry) => $check(entry),)+ }
            }
        }
    };
}

entries! {
    Tenant: Tenant = Tenant::check_policy;
    Client: Client = Client::check_client;
    User: User = User::check_user;
    Gateway: Gateway = Gateway::check_gateway;
    Keys: KeySet = KeySet::check_keys;
    Audience: Audience = Audience::check_audience;
    AdminKey: AdminKey = AdminKey::check_admin_key;
    Epoch: Epoch = Epoch::check_epoch;
}
