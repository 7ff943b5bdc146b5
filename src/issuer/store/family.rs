//! Refresh families: one login's chain of refresh tokens, of which one generation is current.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::clock::Random;
use crate::model::{TenantId, UnixMs};

/// Which subject of its tenant a family is of, so that all of a subject's families lie in one slot: 8 bytes of an HMAC,
/// which nobody without the tenant's refresh key can make collide. Two subjects that share a tag by chance are revoked
/// together.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SubjectTag(pub(super) [u8; 8]);

impl SubjectTag {
    pub(crate) fn of(refresh_key: &hmac::Key, tenant: &TenantId, sub: &str) -> Self {
        let hash = hmac::sign(refresh_key, format!("subject\0{tenant}\0{sub}").as_bytes());
        let mut tag = [0; 8];
        tag.copy_from_slice(&hash.as_ref()[..8]);
        Self(tag)
    }

    /// In base64url, as it stands in the store's keys.
    pub(super) fn text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// A family's name: its subject's tag and 16 random bytes. Half of a refresh token: never published, see
/// [`FamilyId::published`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct FamilyId {
    pub(crate) tenant: TenantId,
    pub(crate) tag: SubjectTag,
    pub(super) random: [u8; 16],
}

impl FamilyId {
    pub(crate) fn draw(tenant: TenantId, tag: SubjectTag) -> Self {
        Self { tenant, tag, random: Random::bytes() }
    }

    /// What events, findings and log lines call the family: 32 hexadecimal digits of a hash.
    pub(crate) fn published(&self) -> String {
        let text = format!("family\0{}\0{}", self.tenant, self.text());
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        hash.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Tag and random bytes in base64url: 32 characters.
    pub(super) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode([&self.tag.0[..], &self.random].concat())
    }

    /// Reads [`FamilyId::text`].
    pub(super) fn read(tenant: &TenantId, text: &str) -> Option<Self> {
        let bytes: [u8; 24] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (tag, random) = bytes.split_first_chunk::<8>()?;
        Some(Self { tenant: tenant.clone(), tag: SubjectTag(*tag), random: random.try_into().ok()? })
    }
}

impl fmt::Debug for FamilyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "family {} of {}", self.published(), self.tenant)
    }
}

/// What every generation of a family shares. No secret is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Family {
    pub(crate) sub: String,
    /// Who alone may refresh it.
    pub(crate) client: String,
    /// The scopes granted at the login, separated by blanks.
    pub(crate) scope: String,
    pub(crate) audience: String,
    /// When the subject proved who it is.
    pub(crate) auth_time: UnixMs,
    /// The login's `sid`, which its tokens carry.
    pub(crate) sid: String,
    /// Unused for so long it expires.
    pub(crate) idle: Duration,
    /// However often it is used, it ends here.
    pub(crate) absolute_until: UnixMs,
}

impl Family {
    /// As it lies in the store.
    pub(super) fn encode(&self) -> Vec<u8> {
        // Texts and numbers alone: writing them to memory cannot fail, and an empty body would not be read.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|error| format!("a refresh family cannot be read: {error}"))
    }
}

/// What became of a refresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refreshed {
    /// `generation` is current now, and this caller is the one who made it so.
    Advanced {
        generation: u64,
        family: Family,
    },
    /// It was refreshed a moment ago; `generation` is the successor that was given then.
    Again {
        generation: u64,
        family: Family,
    },
    /// A generation that was spent: whoever presents it, or whoever spent it, has stolen it. Now revoked.
    Reused {
        family: Family,
    },
    /// A generation that we signed and the store never gave: it has lost writes (a failover), and with them perhaps a
    /// revocation. Now revoked: its subject logs in anew.
    Ahead {
        family: Family,
    },
    Revoked,
    Expired,
    Unknown,
    /// The family is another client's. Nothing was touched.
    WrongClient,
}

/// What became of revoking a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Revoked {
    /// It lived until now.
    Now(Family),
    /// It was revoked before.
    Before,
    /// There is none, or it has expired.
    Unknown,
    /// The family is another client's. Nothing was touched.
    WrongClient,
}
