//! How far a destination is in one partition of the outbox, as its commit says it.

use serde::{Deserialize, Serialize};

use super::runs::Runs;
use crate::log::{Assigned, Commit};
use crate::model::{LogId, Offset, ResumeAt};

/// What a commit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) log: LogId,
    /// Everything below is done.
    pub(super) resume_at: Offset,
    /// What is done above it.
    pub(super) done: Runs,
    /// What was told, but whose row is not in ClickHouse yet: not done, and not told again.
    pub(super) told: Runs,
    /// What was given up: done, and kept for `deliver --retry`.
    pub(super) given_up: Runs,
}

/// The metadata of a commit.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    v: u8,
    log: LogId,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    done: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    told: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    given_up: String,
}

/// Of the 4,000 bytes of a commit's metadata: so much for `done` (then nothing more is begun that could add to it), so
/// much each for `told` and `given_up` (then the lowest are forgotten).
pub(super) const DONE_BYTES: usize = 2_800;
const OTHER_BYTES: usize = 400;
/// What deliveries that were under way when `done` was full may add.
const MARGIN: usize = 200;

/// Where the progress came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No commit: a new destination begins at the start of the outbox.
    Nothing,
    Ours,
    /// A commit without our metadata: an operator has reset the group, and that is obeyed.
    Reset,
    /// The commit lies beyond the log's end: this is another log, with nothing told of it.
    OtherLog,
    /// The outbox no longer has what was next: it is lost, and the oldest that is there is next.
    Truncated,
}

impl Progress {
    /// Reads what the group has committed for a partition.
    pub(super) fn read(assigned: &Assigned) -> (Self, Found) {
        let begin = |resume_at| Self {
            log: LogId::draw(),
            resume_at,
            done: Runs::default(),
            told: Runs::default(),
            given_up: Runs::default(),
        };
        let Some(Commit { resume_at, metadata }) = &assigned.commit else {
            return (begin(assigned.start), Found::Nothing);
        };
        let resume_at = resume_at.offset();
        let (mut progress, found) = match Self::parse(resume_at, metadata) {
            Some(progress) => (progress, Found::Ours),
            None => (begin(resume_at), Found::Reset),
        };
        if progress.known_end() > assigned.end {
            return (begin(assigned.start), Found::OtherLog);
        }
        if progress.resume_at >= assigned.start {
            return (progress, found);
        }
        progress.resume_at = assigned.start;
        for runs in [&mut progress.done, &mut progress.told, &mut progress.given_up] {
            runs.forget_below(assigned.start);
        }
        (progress, Found::Truncated)
    }

    fn parse(resume_at: Offset, metadata: &str) -> Option<Self> {
        let metadata: Metadata = serde_json::from_str(metadata).ok()?;
        let current = metadata.v == 1;
        current.then_some(())?;
        Some(Self {
            log: metadata.log,
            resume_at,
            done: Runs::decode(&metadata.done)?,
            told: Runs::decode(&metadata.told)?,
            given_up: Runs::decode(&metadata.given_up)?,
        })
    }

    /// What to commit. What does not fit is forgotten: of `done` the highest, which is told again after a restart; that
    /// takes an operator's retry of much at once, as [`DONE_BYTES`] is kept otherwise.
    pub(super) fn write(mut self) -> (ResumeAt, String) {
        let metadata = Metadata {
            v: 1,
            log: self.log,
            done: fitting(&mut self.done, DONE_BYTES + MARGIN, Runs::forget_highest),
            told: fitting(&mut self.told, OTHER_BYTES, Runs::forget_lowest),
            given_up: fitting(&mut self.given_up, OTHER_BYTES, Runs::forget_lowest),
        };
        // Four strings and a number: writing them as JSON cannot fail.
        (ResumeAt::at(self.resume_at), serde_json::to_string(&metadata).unwrap_or_default())
    }

    pub(super) fn is_done(&self, offset: Offset) -> bool {
        offset < self.resume_at || self.done.contains(offset)
    }

    /// One past the highest offset that anything is known of.
    pub(super) fn known_end(&self) -> Offset {
        self.done.end().max(self.told.end()).unwrap_or(self.resume_at).max(self.resume_at)
    }

    /// Takes what was given up as not done: it is tried again.
    pub(super) fn retry_given_up(&mut self) {
        let Some(first) = self.given_up.first() else { return };
        let done_until = self.resume_at;
        self.resume_at = first.min(done_until);
        self.done.add(self.resume_at, done_until);
        self.done = self.done.minus(&std::mem::take(&mut self.given_up));
    }
}

/// The runs in base64, some forgotten until they fit.
fn fitting(runs: &mut Runs, bytes: usize, forget: fn(&mut Runs)) -> String {
    loop {
        let text = runs.encode();
        if text.len() <= bytes {
            return text;
        }
        forget(runs);
    }
}
