//! How a [`Place`] is made: its entry is a hash of what it says, so that two files, or two builds of one, that say the
//! same of an address name one place.

use std::sync::Arc;

use aws_lc_rs::digest;

use crate::model::Place;

/// Whether `point`, latitude and longitude in degrees, lies on the earth. A distance to any other means nothing.
pub(super) fn on_earth(point: (f64, f64)) -> bool {
    (-90.0..=90.0).contains(&point.0) && (-180.0..=180.0).contains(&point.1)
}

/// `point` is latitude and longitude in degrees, [`on_earth`].
pub(super) fn new(
    country: &str,
    subdivision: &str,
    city: &str,
    point: (f64, f64),
    accuracy_km: f64,
    own_radius: bool,
) -> Arc<Place> {
    let mut digest = digest::Context::new(&digest::SHA256);
    for text in [country, subdivision, city] {
        digest.update(&(text.len() as u64).to_be_bytes());
        digest.update(text.as_bytes());
    }
    for number in [point.0, point.1, accuracy_km] {
        digest.update(&number.to_bits().to_be_bytes());
    }
    digest.update(&[u8::from(own_radius)]);
    let mut entry = [0; 8];
    entry.copy_from_slice(&digest.finish().as_ref()[..8]);
    Arc::new(Place {
        country: country.into(),
        subdivision: subdivision.into(),
        city: city.into(),
        lat: point.0,
        lon: point.1,
        accuracy_km,
        own_radius,
        entry: u64::from_be_bytes(entry),
    })
}
