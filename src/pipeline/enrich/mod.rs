//! **enrich**: place, network and device of a use, from one immutable snapshot of the geo files. Pure.
//!
//! Files are read where the snapshot is made ([`Atlas::load`], [`watch`]), outside the walk.

mod address;
mod ranges;

mod overlay;

mod networks;

mod asn;

mod mmdb;
mod place;
mod radius;

mod atlas;

mod device;

mod memo;

mod watch;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use super::verify::Checked;
use crate::model::{Location, Place};
use memo::Memo;
use mmdb::EntryKey;

pub(crate) use atlas::Atlas;
pub(crate) use device::Device;
pub(crate) use watch::{AtlasWatch, Reload};

/// One walk's memo of what it looked up: bounded (some 6 MiB when full), and of no influence on any answer.
#[derive(Default)]
pub(crate) struct Enricher {
    /// The snapshot that the memo is of: holding it keeps its address from being another one's.
    build: Option<Arc<str>>,
    locations: Memo<IpAddr, Location, 4096>,
    places: Memo<EntryKey, Option<Arc<Place>>, 4096>,
    devices: Memo<Box<str>, Option<Device>, 512>,
}

/// What `enrich` leaves.
#[derive(Debug)]
pub(crate) struct Enriched<'r> {
    pub(crate) checked: Checked<'r>,
    /// `None` where the event has no address.
    pub(crate) location: Option<Location>,
    /// `None` if the user agent is empty or a library.
    pub(crate) device: Option<Device>,
    /// Names the geo files: makes an old alert explicable.
    pub(crate) geo_build: Arc<str>,
}

/// Looks everything up.
pub(crate) fn enrich<'r>(checked: Checked<'r>, atlas: &Atlas, enricher: &mut Enricher) -> Enriched<'r> {
    let request = checked.decoded.event.request.as_ref();
    let location = request.and_then(|request| request.ip).map(|ip| enricher.locate(ip, atlas));
    let device =
        request.and_then(|request| request.user_agent.as_deref()).and_then(|text| enricher.device(text));
    Enriched { location, device, geo_build: atlas.build().clone(), checked }
}

impl Enricher {
    /// What `atlas` knows of `ip`.
    pub(crate) fn locate(&mut self, ip: IpAddr, atlas: &Atlas) -> Location {
        if !self.build.as_ref().is_some_and(|build| Arc::ptr_eq(build, atlas.build())) {
            self.build = Some(atlas.build().clone());
            self.locations.clear();
            self.places.clear();
        }
        let Self { locations, places, .. } = self;
        let locate = || {
            atlas.locate(ip, |key, decode| {
                places.get_or_find(&key, |kept, key| kept == key, |key| *key, decode)
            })
        };
        locations.get_or_find(&ip, |kept, ip| kept == ip, |ip| *ip, locate)
    }

    /// The device that a user agent names.
    pub(crate) fn device(&mut self, user_agent: &str) -> Option<Device> {
        self.devices.get_or_find(
            user_agent,
            |kept, text| **kept == *text,
            |text| Box::from(text),
            || device::parse(user_agent),
        )
    }
}
