//! Who posts events: a gateway by its own key, or whoever holds the `ingest_key`.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::{HeaderMap, header};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::config::{Gateway, Secret};

/// Events a second and key, and the burst.
const EVENTS_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(1_999);
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(9_999);

/// The keys that may post. Looked up by their SHA-256, so that no comparison of secrets leaks through its time.
pub(crate) struct Credentials {
    ingest: [u8; 32],
    gateways: HashMap<[u8; 32], Arc<GatewayKey>>,
}

/// One gateway's key and what is left of its rate.
pub(crate) struct GatewayKey {
    pub(crate) gateway: Gateway,
    rate: DefaultDirectRateLimiter,
}

/// Who it is.
#[derive(Clone)]
pub(crate) enum Caller {
    /// May name any gateway and tenant; not rate-limited.
    Ingest,
    Gateway(Arc<GatewayKey>),
}

/// Why it is nobody.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAuthenticated {
    #[error(
        "send `Authorization: Bearer KEY`: a gateway's key, or `ingest_key` of DATA_DIR/credentials.toml"
    )]
    Missing,
    #[error("this key is not known: it is neither a gateway's (`[[gateway]] key_sha256`) nor the ingest_key")]
    Unknown,
}

impl Credentials {
    pub(crate) fn new(ingest_key: &Secret, gateways: &[Gateway]) -> Self {
        let keyed = gateways.iter().filter_map(|gateway| {
            let key = GatewayKey {
                gateway: gateway.clone(),
                rate: RateLimiter::direct(Quota::per_second(EVENTS_PER_SECOND).allow_burst(BURST)),
            };
            Some((gateway.key_sha256?, Arc::new(key)))
        });
        Self { ingest: sha256(ingest_key.expose()), gateways: keyed.collect() }
    }

    /// Reads the bearer key (RFC 6750, section 2.1).
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, NotAuthenticated> {
        let value = headers.get(header::AUTHORIZATION).ok_or(NotAuthenticated::Missing)?;
        let (scheme, key) =
            value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or(NotAuthenticated::Missing)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(NotAuthenticated::Missing);
        }
        let hash = sha256(key.trim());
        if hash == self.ingest {
            return Ok(Caller::Ingest);
        }
        let gateway = self.gateways.get(&hash).ok_or(NotAuthenticated::Unknown)?;
        Ok(Caller::Gateway(Arc::clone(gateway)))
    }
}

impl Caller {
    /// Takes `events` from the caller's rate; or says how long to wait.
    pub(crate) fn take(&self, events: usize) -> Result<(), Duration> {
        let Self::Gateway(key) = self else { return Ok(()) };
        let Some(events) = u32::try_from(events).ok().and_then(NonZeroU32::new) else { return Ok(()) };
        match key.rate.check_n(events) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_yet)) => Err(not_yet.wait_time_from(DefaultClock::default().now())),
            // More than a whole burst: the body's own limit is below it, so this stays theory.
            Err(_) => Err(Duration::from_secs(1)),
        }
    }
}

fn sha256(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Zone;

    fn credentials() -> Credentials {
        let gateway = Gateway {
            name: "edge-1".into(),
            zone: Zone::Edge,
            tenants: vec!["acme".parse().unwrap()],
            key_sha256: Some(sha256("k1")),
            signing: Vec::new(),
        };
        Credentials::new(&Secret::new("ingest".into()), &[gateway])
    }

    fn caller(value: &str) -> Result<Caller, NotAuthenticated> {
        let headers = [(header::AUTHORIZATION, value.parse().unwrap())].into_iter().collect();
        credentials().authenticate(&headers)
    }

    #[test]
    fn a_key_is_a_gateways_or_the_ingest_key_or_nothing() {
        assert!(matches!(caller("Bearer ingest"), Ok(Caller::Ingest)));
        assert!(matches!(caller("bearer k1"), Ok(Caller::Gateway(key)) if key.gateway.name == "edge-1"));
        assert_eq!(caller("Bearer k2").err(), Some(NotAuthenticated::Unknown));
        assert_eq!(caller("Basic azE6").err(), Some(NotAuthenticated::Missing));
        assert_eq!(caller("k1").err(), Some(NotAuthenticated::Missing));
    }

    #[test]
    fn a_gateway_has_a_rate_and_the_ingest_key_has_none() {
        let gateway = caller("Bearer k1").unwrap();
        assert!(gateway.take(5_000).is_ok() && gateway.take(5_000).is_ok());
        assert!(gateway.take(5_000).is_err());
        let ingest = caller("Bearer ingest").unwrap();
        assert!((0..10).all(|_| ingest.take(5_000).is_ok()));
    }
}
