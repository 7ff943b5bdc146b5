//! The nouns that the rooms share: ids, times, the event, verdicts, places, cases and alerts.

mod alert;
mod event;
mod finding;
mod ids;
mod owned;
mod place;
mod summary;
mod time;
mod verdict;

pub(crate) use alert::*;
pub(crate) use event::*;
pub(crate) use finding::*;
pub(crate) use ids::*;
pub(crate) use place::*;
pub(crate) use summary::*;
pub(crate) use time::*;
pub(crate) use verdict::*;
