//! Who administers: the installation's `admin_key`, or a named key, which may be for one tenant alone.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};

use super::Admin;
use crate::api::problem::Problem;
use crate::issuer::{AdminKey, Role};
use crate::model::TenantId;

/// The name of the installation's own key in events. No named key can have it: names begin with a letter or digit.
const OWN_KEY: &str = "_admin_key";

/// A named key as it is sent: `jwtrail_admin_`, so many characters of base64url (256 bits), `_`, its name. So it is found
/// without trying all of them.
const PREFIX: &str = "jwtrail_admin_";
const SECRET_CHARS: usize = 43;

/// Who asks, and what that opens.
#[derive(Debug)]
pub(super) struct Actor {
    name: String,
    role: Role,
}

impl Actor {
    /// As events call it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The one tenant that it sees; `None`: all.
    pub(super) const fn only(&self) -> Option<&TenantId> {
        match &self.role {
            Role::Platform => None,
            Role::Tenant(tenant) => Some(tenant),
        }
    }

    /// The tenant, if it may see it. Another's looks like one that is not there.
    pub(super) fn reach(&self, tenant: &str) -> Result<TenantId, Problem> {
        let tenant: TenantId = tenant.parse().map_err(|_| not_found())?;
        match self.only() {
            Some(own) if *own != tenant => Err(not_found()),
            _ => Ok(tenant),
        }
    }

    /// Acts on a tenant as a whole are the platform's.
    pub(super) fn must_be_platform(&self) -> Result<(), Problem> {
        match self.role {
            Role::Platform => Ok(()),
            Role::Tenant(_) => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "this key administers what belongs to its tenant; the tenant itself is the platform's to make, suspend, resume and delete",
            )),
        }
    }
}

/// One text for what is not there and what the key is not for.
pub(super) fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing of this name, or this key is not for it")
}

impl FromRequestParts<Arc<Admin>> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Self, Problem> {
        authenticate(&parts.headers, admin).ok_or_else(|| {
            Problem::new(
                StatusCode::UNAUTHORIZED,
                "send `Authorization: Bearer KEY`: the admin_key of DATA_DIR/credentials.toml, or a named key that has not expired",
            )
        })
    }
}

/// Every comparison is of hashes, so none leaks a key through its time.
fn authenticate(headers: &HeaderMap, admin: &Admin) -> Option<Actor> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let key = key.trim();
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    if admin.admin_key.is_some_and(|own| own.is_of(key)) {
        return Some(Actor { name: OWN_KEY.to_owned(), role: Role::Platform });
    }
    let (_, name) = key.strip_prefix(PREFIX)?.split_at_checked(SECRET_CHARS)?;
    let name = name.strip_prefix('_')?;
    let named = admin.control.get_platform::<AdminKey>(name)?.entry;
    let opens = named.sha256.is_of(key) && admin.clock.now() < named.expires_at;
    opens.then(|| Actor { name: name.to_owned(), role: named.role.clone() })
}
