//! The issuing side: tenants, their clients, users and keys, and what happens to tokens. No HTTP here.
//!
//! Every tenant is an issuer of its own (ISSUER). Nothing here reaches lanes, the pipeline's store or settle.

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the rest is for the roles that issue, which come with the endpoints")
)]
mod master;

#[expect(dead_code, reason = "opened by the roles that issue, which come with the endpoints")]
mod control;

#[expect(dead_code, reason = "written by the grants, which come with the endpoints")]
mod ledger;

mod passwords;

mod keyring;

mod grants;

pub(crate) use control::{
    AdminKey, Arbiter, Client, ClientId, ClientKind, Control, ControlError, Entry, EntryKey, Expected, Found,
    Policy, Role, SecretHash, StoredSecret, Subject, Tenant, TenantStatus, User, Username, is_fresh,
};
#[cfg(test)]
pub(crate) use grants::testing;
pub(crate) use grants::{GrantError, Grants, Presented, Request};
pub(crate) use keyring::{JWKS_MAX_AGE_S, Keyring};
pub(crate) use ledger::{Caller, Happened, Ledger};
pub(crate) use master::MasterKey;
pub(crate) use passwords::{PasswordError, Passwords};
pub(crate) use store::{Embedded, Redis};

#[expect(unused_imports, reason = "opened by the roles that issue, which come with the endpoints")]
#[cfg_attr(not(test), expect(dead_code, reason = "as above"))]
mod store;
