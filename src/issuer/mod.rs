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

pub(crate) use control::is_fresh;
pub(crate) use master::MasterKey;
pub(crate) use store::Redis;

#[expect(unused_imports, reason = "opened by the roles that issue, which come with the endpoints")]
#[cfg_attr(not(test), expect(dead_code, reason = "as above"))]
mod store;
