//! The refresh token itself, `jr1.<region>.<family>.<generation>.<mac>`: what it names, and proof that we made it.
//!
//! mac = HMAC-SHA256(the tenant's refresh key, tenant ‖ region ‖ family ‖ generation), a zero byte between two. A handle
//! whose mac is wrong never reaches the store, so that nobody can touch a family by guessing.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::family::FamilyId;
use crate::config::Secret;
use crate::model::{TenantId, is_name};

const PREFIX: &str = "jr1";

/// Longer than any that we make.
const LENGTH_MAX: usize = 256;

/// A refresh token that we made.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Handle {
    /// Whose store knows the family.
    pub(crate) region: String,
    pub(crate) family: FamilyId,
    /// From 1.
    pub(crate) generation: u64,
}

impl Handle {
    /// The text that the client gets.
    pub(crate) fn make(&self, refresh_key: &hmac::Key) -> Secret {
        let mac = hmac::sign(refresh_key, self.signed().as_bytes());
        let Self { region, family, generation } = self;
        let (family, mac) = (family.text(), URL_SAFE_NO_PAD.encode(mac));
        Secret::new(format!("{PREFIX}.{region}.{family}.{generation}.{mac}"))
    }

    /// What a client presents to `tenant`; `None` unless exactly [`Handle::make`] wrote it for that tenant. The mac is
    /// compared in constant time.
    pub(crate) fn open(text: &str, tenant: &TenantId, refresh_key: &hmac::Key) -> Option<Self> {
        let text = Some(text).filter(|text| text.len() <= LENGTH_MAX)?;
        // A region's name may have dots.
        let mut parts = text.rsplitn(4, '.');
        let (mac, generation, family) = (parts.next()?, parts.next()?, parts.next()?);
        let region = parts.next()?.strip_prefix(PREFIX)?.strip_prefix('.')?;
        let number: u64 = generation.parse().ok().filter(|&number| number > 0)?;
        // One handle has one text: `+1` and `01` are others.
        if number.to_string() != generation || !is_name(region) {
            return None;
        }
        let family = FamilyId::read(tenant, family)?;
        let handle = Self { region: region.to_owned(), family, generation: number };
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        hmac::verify(refresh_key, handle.signed().as_bytes(), &mac).ok().map(|()| handle)
    }

    fn signed(&self) -> String {
        let Self { region, family, generation } = self;
        format!("refresh\0{}\0{region}\0{}\0{generation}", family.tenant, family.text())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {} of {:?} in {}", self.generation, self.family, self.region)
    }
}

#[cfg(test)]
mod tests {
    use super::super::family::SubjectTag;
    use super::*;

    fn key(text: &str) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes())
    }

    fn handle(region: &str, generation: u64) -> Handle {
        let tenant: TenantId = "acme".parse().unwrap();
        let tag = SubjectTag::of(&key("of acme"), &tenant, "alice");
        let family = FamilyId { tenant, tag, random: [7; 16] };
        Handle { region: region.to_owned(), family, generation }
    }

    #[test]
    fn what_was_made_is_opened_by_its_tenant_alone() {
        for handle in [handle("eu-1", 1), handle("eu.west.1", u64::MAX)] {
            let text = handle.make(&key("of acme"));
            let open =
                |tenant: &str, secret| Handle::open(text.expose(), &tenant.parse().unwrap(), &key(secret));
            assert_eq!(open("acme", "of acme"), Some(handle.clone()));
            assert_eq!(open("acme", "of globex"), None);
            assert_eq!(open("globex", "of acme"), None, "the mac names the tenant");
            let said = format!("{handle:?}");
            assert!(!said.contains(&handle.family.text()), "a family is not published: {said}");
        }
    }

    #[test]
    fn whatever_differs_in_one_character_is_not_ours() {
        let text = handle("eu-1", 12).make(&key("of acme"));
        let (text, tenant) = (text.expose(), "acme".parse().unwrap());
        for at in 0..text.len() {
            for other in ["", ".", "A", "1", "=", "é"] {
                let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
                if changed != text {
                    assert_eq!(Handle::open(&changed, &tenant, &key("of acme")), None, "{changed}");
                }
            }
        }
        let [region, family, generation, mac] = text.split('.').skip(1).collect::<Vec<_>>()[..] else {
            panic!("five parts")
        };
        for changed in [
            String::new(),
            "....".to_owned(),
            format!("jr2.{region}.{family}.{generation}.{mac}"),
            format!("jr1.{region}.{family}.+{generation}.{mac}"),
            format!("jr1.{region}.{family}.0{generation}.{mac}"),
            format!("jr1.{region}.{family}.0.{mac}"),
            format!("jr1.{region}.{family}=.{generation}.{mac}"),
            format!("jr1.{region}.{family}.{generation}.{mac}="),
            format!("jr1.{region}.{family}.{generation}."),
            format!("jr1.{region}.{family}.{generation}.{}", &mac[..22]),
            format!("jr1.{region}.{family}.{generation}.{mac}.{mac}"),
            format!("{text}\n"),
            "x".repeat(1 << 20),
        ] {
            assert_eq!(Handle::open(&changed, &tenant, &key("of acme")), None, "{changed}");
        }
    }
}
