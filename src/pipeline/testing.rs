//! Snapshots for tests.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Snapshots, alert, detect, enrich, verify};
use crate::config::Secret;

/// They know no issuer, no gateway's key and no place: every rule as it is by default.
pub(crate) fn snapshots() -> Snapshots {
    let door = crate::keys::door(&Secret::new("of the tests".to_owned()));
    Snapshots {
        name: "test".into(),
        verify: Arc::new(verify::Trust::build(&[], &HashMap::new(), &[], door).unwrap()),
        enrich: Arc::new(enrich::Atlas::load(&Default::default()).unwrap()),
        detect: Arc::new(detect::Rulebook::default()),
        alert: Arc::new(alert::Policy::default()),
    }
}
