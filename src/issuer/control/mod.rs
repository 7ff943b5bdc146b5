//! The system of record: which tenants, clients, users, gateways, keys and revocation epochs there are.

#[expect(dead_code, reason = "used by what keeps the entries and by the endpoints, which come with them")]
mod model;

#[expect(
    unused_imports,
    reason = "used by what keeps the entries and by the endpoints, which come with them"
)]
pub(crate) use model::*;
