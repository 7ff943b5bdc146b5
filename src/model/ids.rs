//! Newtypes where two integers or two strings meet.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A record's place in its partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Offset(i64);

impl Offset {
    /// The first offset of every partition.
    pub(crate) const ZERO: Self = Self(0);

    /// `None` for the negative numbers that logs use as special values.
    pub(crate) const fn new(offset: i64) -> Option<Self> {
        if offset < 0 { None } else { Some(Self(offset)) }
    }

    pub(crate) const fn get(self) -> i64 {
        self.0
    }

    /// The offset before this one; there is none before the first.
    pub(crate) const fn before(self) -> Option<Self> {
        Self::new(self.0 - 1)
    }

    /// Where to go on after this record: the only way to make a [`ResumeAt`] from an offset.
    pub(crate) const fn resume_after(self) -> ResumeAt {
        ResumeAt(Self(self.0.saturating_add(1)))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The offset of the next record to walk: what a commit holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ResumeAt(Offset);

impl ResumeAt {
    /// A block begins here: commit its first offset.
    pub(crate) const fn at(first: Offset) -> Self {
        Self(first)
    }

    pub(crate) const fn offset(self) -> Offset {
        self.0
    }
}

impl fmt::Display for ResumeAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct PartitionId(pub(crate) u32);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a name (tenant, gateway, region) may be: `[a-z0-9][a-z0-9._-]{0,62}`.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(|&first| plain(first))
        && bytes.iter().all(|&byte| plain(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

/// The reserved tenant of heartbeats, ledger marks and our own operations findings.
pub(crate) const PLATFORM_TENANT: &str = "_platform";

/// The text is not a name.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a name: 1 to 63 of a-z, 0-9, `.`, `_`, `-`, beginning with a letter or digit")]
pub(crate) struct NotAName(String);

/// A tenant's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct TenantId(String);

impl TenantId {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantId {
    type Err = NotAName;
    fn from_str(text: &str) -> Result<Self, NotAName> {
        if is_name(text) { Ok(Self(text.to_owned())) } else { Err(NotAName(text.to_owned())) }
    }
}

impl TryFrom<String> for TenantId {
    type Error = NotAName;
    fn try_from(text: String) -> Result<Self, NotAName> {
        text.parse()
    }
}

impl From<TenantId> for String {
    fn from(tenant: TenantId) -> Self {
        tenant.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::borrow::Borrow<str> for TenantId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The identity of one log: drawn by the first owner of a partition that finds no commit (32 hex digits). A recreated
/// topic or a wiped journal is another log, so old insert tokens never match its blocks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct LogId(String);

impl LogId {
    pub(crate) fn draw() -> Self {
        Self(crate::clock::Random::hex::<16>())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is not a log id.
#[derive(Debug, thiserror::Error)]
#[error("a log id is 32 hexadecimal digits")]
pub(crate) struct NotALogId;

impl TryFrom<String> for LogId {
    type Error = NotALogId;
    fn try_from(text: String) -> Result<Self, NotALogId> {
        let hex = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if hex { Ok(Self(text)) } else { Err(NotALogId) }
    }
}

impl From<LogId> for String {
    fn from(id: LogId) -> Self {
        id.0
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A case's id: UUIDv8 of SHA-256 over rule, tenant, case key and case window, never of the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct FindingId(Uuid);

impl FindingId {
    /// `key` is what all witnesses of the case share; `window_start` is 0 for a case without a window. Each part is
    /// hashed with its length before it, so that no two different lists of parts read alike.
    pub(crate) fn of(rule: RuleId, tenant: &str, key: &[&str], window_start: UnixMs) -> Self {
        let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for part in [rule.as_str(), tenant].iter().chain(key) {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        digest.update(&window_start.get().to_be_bytes());
        let hash = digest.finish();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.as_ref()[..16]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    pub(crate) const fn uuid(self) -> Uuid {
        self.0
    }
}

/// An id that was written somewhere.
impl From<Uuid> for FindingId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl fmt::Display for FindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

use super::{RuleId, UnixMs};
