//! How far a destination is in one partition of the outbox, as its commit says it.

use serde::{Deserialize, Serialize};

use super::runs::Runs;
use crate::log::Commit;
use crate::model::{LogId, Offset, ResumeAt, UnixMs};

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
    /// When the log took the first alert that was given up, if nothing was taken since.
    pub(super) given_up_since: Option<UnixMs>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    given_up_since: Option<UnixMs>,
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
    /// Reads what the group has committed for a partition that now holds `[start, end)`.
    pub(super) fn of(commit: Option<&Commit>, start: Offset, end: Offset) -> (Self, Found) {
        let begin = |resume_at| Self {
            log: LogId::draw(),
            resume_at,
            done: Runs::default(),
            told: Runs::default(),
            given_up: Runs::default(),
            given_up_since: None,
        };
        let Some(Commit { resume_at, metadata }) = commit else {
            return (begin(start), Found::Nothing);
        };
        let resume_at = resume_at.offset();
        let (mut progress, found) = match Self::parse(resume_at, metadata) {
            Some(progress) => (progress, Found::Ours),
            None => (begin(resume_at), Found::Reset),
        };
        if progress.known_end() > end {
            return (begin(start), Found::OtherLog);
        }
        if progress.resume_at >= start {
            return (progress, found);
        }
        progress.resume_at = start;
        for runs in [&mut progress.done, &mut progress.told, &mut progress.given_up] {
            runs.forget_below(start);
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
            given_up_since: metadata.given_up_since,
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
            given_up_since: self.given_up_since,
        };
        // Strings and a number: writing them as JSON cannot fail.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> Offset {
        Offset::new(offset).unwrap()
    }

    fn runs(ranges: &[(i64, i64)]) -> Runs {
        let mut runs = Runs::default();
        ranges.iter().for_each(|&(first, end)| runs.add(at(first), at(end)));
        runs
    }

    /// Up to 10, and of what follows 12, 13 and 20.
    fn committed() -> Progress {
        Progress {
            log: LogId::draw(),
            resume_at: at(10),
            done: runs(&[(12, 14), (20, 21)]),
            told: runs(&[(15, 16)]),
            given_up: runs(&[(4, 6), (12, 13)]),
            given_up_since: Some(UnixMs::new(1_795_428_000_000)),
        }
    }

    fn commit(progress: Progress) -> Commit {
        let (resume_at, metadata) = progress.write();
        Commit { resume_at, metadata }
    }

    #[test]
    fn what_is_committed_is_read_again() {
        let progress = committed();
        let read = Progress::of(Some(&commit(progress.clone())), at(0), at(30));
        assert_eq!(read, (progress, Found::Ours));
    }

    #[test]
    fn another_log_and_lost_records_are_noticed() {
        let commit = commit(committed());
        let check = |start: i64, end: i64, found: Found, resume_at: i64, done: &Runs| {
            let (progress, really) = Progress::of(Some(&commit), at(start), at(end));
            assert_eq!((really, progress.resume_at.get(), &progress.done), (found, resume_at, done));
        };
        check(0, 21, Found::Ours, 10, &committed().done);
        // Shorter than what was done of it: recreated.
        check(0, 20, Found::OtherLog, 0, &runs(&[]));
        check(0, 5, Found::OtherLog, 0, &runs(&[]));
        // The oldest went before they were told.
        check(13, 30, Found::Truncated, 13, &runs(&[(13, 14), (20, 21)]));
        let reset = Commit { resume_at: ResumeAt::at(at(7)), metadata: String::new() };
        let (progress, found) = Progress::of(Some(&reset), at(0), at(30));
        assert_eq!((found, progress.resume_at, progress.done), (Found::Reset, at(7), runs(&[])));
        let (progress, found) = Progress::of(None, at(3), at(30));
        assert_eq!((found, progress.resume_at), (Found::Nothing, at(3)));
    }

    #[test]
    fn a_retry_takes_back_what_was_given_up_and_nothing_else() {
        let mut progress = committed();
        progress.retry_given_up();
        let open: Vec<i64> = (0..22).filter(|&offset| !progress.is_done(at(offset))).collect();
        assert_eq!(open, [4, 5, 10, 11, 12, 14, 15, 16, 17, 18, 19, 21]);
        assert!(progress.given_up.is_empty());
    }

    #[test]
    fn whatever_there_is_fits_into_a_commit() {
        let mut progress = committed();
        for runs in [&mut progress.done, &mut progress.told, &mut progress.given_up] {
            (0..3_000).for_each(|run| runs.add_one(at(100_000 + 1_000 * run)));
        }
        let (_, metadata) = progress.clone().write();
        assert!(metadata.len() <= crate::log::METADATA_BYTES_MAX, "{} bytes", metadata.len());
        let (read, found) = Progress::of(Some(&commit(progress.clone())), at(0), at(i64::MAX));
        assert_eq!(found, Found::Ours);
        assert!(!read.done.is_empty() && progress.done.minus(&read.done) != progress.done);
    }
}
