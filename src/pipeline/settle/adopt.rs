//! Clause 0: which log a partition's records belong to, and where to go on.
//!
//! A log's id L is drawn by the first owner who finds no commit. A recreated topic, a wiped journal or a move from the
//! journal to Kafka is another log: with another L its blocks match no old token and its rows hide no new ones.

use super::SettleError;
use super::metadata::Metadata;
use crate::log::{Assigned, Batch, Lane, Topic};
use crate::model::{LogId, Offset, PartitionId, ResumeAt};
use crate::pipeline::store::{LastStored, Put, Store};

crate::model::words! {
    /// An operator's answer where log and ClickHouse do not say by themselves where to go on: `--adopt`.
    Adopt {
        /// At the group's offset.
        Commit = "commit",
        /// After what ClickHouse holds.
        Rows = "rows",
        /// With the whole log, once more, as a new log.
        Beginning = "beginning",
    }
}

/// How a partition is taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Adopted {
    pub(crate) log: LogId,
    /// The first offset to be stored; walk for state before it.
    pub(crate) resume_at: ResumeAt,
    /// The end of the block that begins at `resume_at`, which a former owner reserved: it must end there again, and
    /// its forwards are in the log already.
    pub(crate) unfinished: Option<Offset>,
    /// What `jwtrail.state` holds is the state before this offset: never beyond `resume_at`, and all records from it on
    /// are in the log. `None`: there is no checkpoint to go by.
    pub(crate) state: Option<Offset>,
    /// Up to here rows may already be in ClickHouse, and copies at home: every commit below says so to the next owner, too.
    pub(crate) ask_through: Option<Offset>,
    /// Records that the log dropped before they were walked: the finding `log_truncated`, and a metric.
    pub(crate) truncated: Option<Truncated>,
    /// A commit of ours stands that says all of this.
    is_committed: bool,
}

impl Adopted {
    /// Commits where no commit of ours stands, or one that lies below the log's start. Until then the next owner finds what this one found, so whatever of it must
    /// be told (what is [`Self::truncated`]) is told before.
    pub(crate) async fn commit(&self, lane: &dyn Lane) -> Result<(), SettleError> {
        if self.is_committed {
            return Ok(());
        }
        let metadata = Metadata::new(self.log.clone(), self.unfinished, self.state).asking(self.ask_through);
        Ok(lane.commit(self.resume_at, &metadata.encode(), Vec::new()).await?)
    }

    /// How the block that begins at `first` is put.
    pub(crate) fn put_of(&self, first: Offset) -> Put {
        if self.ask_through.is_some_and(|through| first <= through) { Put::Again } else { Put::First }
    }

    fn fresh(log: LogId, at: Offset) -> Self {
        let resume_at = ResumeAt::at(at);
        Self {
            log,
            resume_at,
            unfinished: None,
            state: None,
            ask_through: None,
            truncated: None,
            is_committed: false,
        }
    }
}

/// Offsets that are gone: `from` up to, not including, `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Truncated {
    pub(crate) from: Offset,
    pub(crate) to: Offset,
}

/// Finds out which log this is and where to go on: [`Adopted::commit`] makes it last. `choice` is asked only where log and
/// ClickHouse do not say. The lane's position is anywhere afterwards: seek.
pub(crate) async fn adopt(
    assigned: &Assigned,
    topic: Topic,
    store: &Store,
    choice: Option<Adopt>,
) -> Result<Adopted, SettleError> {
    let bounds = Bounds { partition: assigned.partition, start: assigned.start, end: assigned.end };
    let committed = assigned.commit.as_ref();
    let ours = committed.and_then(|commit| Some((commit.resume_at, Metadata::decode(&commit.metadata)?)));
    match ours {
        Some((resume_at, metadata)) => go_on(bounds, resume_at, metadata, choice),
        None => {
            let committed = committed.map(|commit| commit.resume_at.offset());
            let stored = store.last_stored(topic, assigned.partition).await?;
            let witness = match &stored {
                Some(stored) => Some(Witness::call(stored, bounds, assigned.lane.as_ref()).await?),
                None => None,
            };
            start(bounds, committed, stored.zip(witness), choice)
        }
    }
}

/// What the log has of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) partition: PartitionId,
    pub(super) start: Offset,
    /// One past the last.
    pub(super) end: Offset,
}

impl Bounds {
    fn undecided(self, why: &'static str) -> SettleError {
        SettleError::Undecided { partition: self.partition, why }
    }

    fn cannot(self, choice: Adopt, why: &'static str) -> SettleError {
        SettleError::CannotAdopt { partition: self.partition, choice, why }
    }

    /// The same log from `at` on, which a former owner may have walked further, and nobody knows how far: the log's end is
    /// the bound of that.
    fn asking(self, log: LogId, at: Offset) -> Adopted {
        let ask_through = self.end.before().filter(|&last| last >= at);
        Adopted { ask_through, ..Adopted::fresh(log, at) }
    }

    fn new_log(self) -> Adopted {
        Adopted::fresh(LogId::draw(), self.start)
    }
}

/// A commit of ours.
pub(super) fn go_on(
    bounds: Bounds,
    resume_at: ResumeAt,
    metadata: Metadata,
    choice: Option<Adopt>,
) -> Result<Adopted, SettleError> {
    let committed = resume_at.offset();
    if committed > bounds.end {
        return Ok(bounds.new_log());
    }
    let unfinished = metadata.end.filter(|&end| end >= committed);
    let ask_through = unfinished.max(metadata.ask.filter(|&through| through >= committed));
    if ask_through.is_some_and(|through| through >= bounds.end) {
        // The log has lost its tail, or is another one: what comes to lie at these offsets is not what was stored.
        let why = "its last block or rows of it lie beyond the end of the log";
        return match choice {
            None => Err(bounds.undecided(why)),
            Some(Adopt::Commit) => Ok(Adopted::fresh(LogId::draw(), committed)),
            Some(Adopt::Rows) => Err(bounds.cannot(Adopt::Rows, why)),
            Some(Adopt::Beginning) => Ok(bounds.new_log()),
        };
    }
    let mut adopted = Adopted::fresh(metadata.log, committed.max(bounds.start));
    adopted.unfinished = unfinished.filter(|&end| end >= bounds.start);
    adopted.ask_through = ask_through.filter(|&through| through >= bounds.start);
    adopted.state = metadata.state.filter(|&state| state >= bounds.start && state <= committed);
    if committed < bounds.start {
        adopted.truncated = Some(Truncated { from: committed, to: bounds.start });
    }
    adopted.is_committed = adopted.truncated.is_none();
    Ok(adopted)
}

/// What the log says about the last row that ClickHouse holds of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Witness {
    /// The record is there, with the row's append time: the same log.
    Same,
    /// Another record, or the log ends before it: another log.
    Other,
    /// The log no longer reaches back so far.
    TruncatedAway,
}

impl Witness {
    async fn call(stored: &LastStored, bounds: Bounds, lane: &dyn Lane) -> Result<Self, SettleError> {
        if stored.offset < bounds.start {
            return Ok(Self::TruncatedAway);
        }
        if stored.offset >= bounds.end {
            return Ok(Self::Other);
        }
        let mut batch = Batch::default();
        lane.seek(stored.offset).await?;
        lane.next(&mut batch, 1).await?;
        let same = batch
            .iter()
            .next()
            .is_some_and(|record| record.offset == stored.offset && record.append_time == stored.received_at);
        Ok(if same { Self::Same } else { Self::Other })
    }
}

/// No commit of ours: `committed` is `None` if there is none at all, else where somebody else's is.
pub(super) fn start(
    bounds: Bounds,
    committed: Option<Offset>,
    stored: Option<(LastStored, Witness)>,
    choice: Option<Adopt>,
) -> Result<Adopted, SettleError> {
    if let Some(committed) = committed {
        return match choice {
            None => {
                Err(bounds.undecided("the group's commit is not one of JWTrail's, as after an offset reset"))
            }
            Some(Adopt::Commit) if committed < bounds.start || committed > bounds.end => {
                Err(bounds.cannot(Adopt::Commit, "the group's offset lies outside of the log"))
            }
            Some(Adopt::Commit) => Ok(match stored {
                Some((stored, Witness::Same | Witness::TruncatedAway)) => {
                    bounds.asking(stored.log, committed)
                }
                Some((_, Witness::Other)) | None => Adopted::fresh(LogId::draw(), committed),
            }),
            Some(Adopt::Rows) => match stored {
                Some((stored, Witness::Same | Witness::TruncatedAway)) => Ok(after_rows(bounds, stored)),
                Some((_, Witness::Other)) | None => {
                    Err(bounds.cannot(Adopt::Rows, "ClickHouse holds no rows of this log"))
                }
            },
            Some(Adopt::Beginning) => Ok(bounds.new_log()),
        };
    }
    match stored {
        None | Some((_, Witness::Other)) => Ok(bounds.new_log()),
        // The commit has expired.
        Some((stored, Witness::Same)) => Ok(after_rows(bounds, stored)),
        Some((stored, Witness::TruncatedAway)) => match choice {
            None => Err(bounds
                .undecided("there is no commit, and the record of the last stored row has left the log")),
            Some(Adopt::Commit) => Err(bounds.cannot(Adopt::Commit, "there is no commit")),
            Some(Adopt::Rows) => Ok(after_rows(bounds, stored)),
            Some(Adopt::Beginning) => Ok(bounds.new_log()),
        },
    }
}

/// The same log, after the last block whose line says that it is whole. Rows of the next one may be there in part, and
/// what it forwarded is at home, with rows or without.
fn after_rows(bounds: Bounds, stored: LastStored) -> Adopted {
    let after_line = stored.settled.map_or(bounds.start, |last| last.resume_after().offset());
    let resume_at = after_line.max(bounds.start);
    let truncated = Some(Truncated { from: after_line, to: resume_at }).filter(|gone| gone.from < gone.to);
    Adopted { truncated, ..bounds.asking(stored.log, resume_at) }
}
