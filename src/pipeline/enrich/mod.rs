//! **enrich**: place, network and device of a use, from one immutable snapshot of the geo files. Pure.

use std::sync::Arc;

use super::verify::Checked;
use crate::model::Location;

/// The geo files, networks.csv and the overlay, as read at one time.
pub(crate) struct Atlas {}

/// One walk's memo of what it looked up: bounded, and of no influence on any answer.
#[derive(Default)]
pub(crate) struct Enricher {}

/// A device: user-agent family and operating system, no versions (`Firefox on Windows`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) name: Arc<str>,
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
pub(crate) fn enrich<'r>(_checked: Checked<'r>, _atlas: &Atlas, _enricher: &mut Enricher) -> Enriched<'r> {
    unimplemented!("filled by the enrich room")
}
