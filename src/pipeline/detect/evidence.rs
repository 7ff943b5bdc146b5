//! The parts of a finding's evidence that several rules share (README, "Evidence").

use serde_json::{Value, json};

use super::terms::{Seen, Site, best_ref};
use crate::model::ClaimedToken;

/// One end of a pair: `event_id, time, ip, city, country, lat, lon, accuracy_km, asn, as_org, network_kind, device`.
/// What is not known is `null`.
pub(super) fn end(site: &Site, seen: &Seen) -> Value {
    let place = site.place();
    json!({
        "event_id": seen.id,
        "time": seen.time,
        "ip": seen.ip.to_canonical(),
        "city": place.map(|place| &*place.city).filter(|city| !city.is_empty()),
        "country": place.map(|place| &*place.country).filter(|country| !country.is_empty()),
        "lat": place.map(|place| place.lat),
        "lon": place.map(|place| place.lon),
        "accuracy_km": place.map(|place| place.accuracy_km),
        "asn": site.location.network.asn,
        "as_org": &*site.location.network.as_org,
        "network_kind": site.kind(),
        "device": site.device.as_ref().map(|device| &*device.name),
    })
}

/// What a revocation would name: `token_ref, family, sid`, each `null` if the event has none.
pub(super) fn session(token: &ClaimedToken<'_>) -> Value {
    json!({
        "token_ref": best_ref(token),
        "family": token.family,
        "sid": token.sid,
    })
}
