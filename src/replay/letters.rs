//! Dead letters back into the log, once their fault is mended: by another version, schema or configuration.
//!
//! A letter that was brought back gets an answer, beside it in the same topic: a record without a value that names its
//! origin. It is written after the event, so a letter is never lost; if the process dies between the two, the event is
//! appended again, and the walk drops it as a repeat of its id.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::ReplayError;
use crate::log::{Batch, EventLog, NewRecord, Record, Topic};
use crate::model::{LogId, Offset, PartitionId, UnixMs};
use crate::pipeline::decode::{self, Bounds, ForwardedFrom, RejectReason, Rejected};
use crate::pipeline::store::{APPEND_HEADER, ORIGIN_HEADER, REASON_HEADER};
use crate::pipeline::verify::SIGNATURE_HEADER;

/// On the answer to a letter: the letter's origin.
const REPLAYED_HEADER: &str = "jwtrail-replayed";

/// Letters read, and records appended, at a time.
const BATCH_RECORDS: usize = 500;

/// So many examples of each fault that is still one.
const EXAMPLES: usize = 3;

/// Which letters are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) reason: Option<RejectReason>,
    pub(crate) tenant: Option<String>,
    /// Letters that were written at or after this.
    pub(crate) since: Option<UnixMs>,
}

/// The dead letters of a log.
pub(crate) struct Letters<'l> {
    pub(crate) log: &'l dyn EventLog,
    pub(crate) bounds: Bounds,
    pub(crate) wanted: Wanted,
}

/// What a look at all of them says. Each wanted letter is counted once, under one name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Events by now.
    pub(crate) mended: u64,
    /// By what is still wrong, with the origins of some.
    pub(crate) rejected: BTreeMap<(RejectReason, String), (u64, Vec<String>)>,
    /// Brought back by an earlier replay.
    pub(crate) before: u64,
    /// Not written by this program: no origin can be read.
    pub(crate) foreign: u64,
    /// The origins of letters that have their answer.
    answered: HashSet<String>,
}

/// A dead letter, read.
struct Letter<'r> {
    origin: &'r str,
    first: ForwardedFrom,
}

/// What a record of the topic is.
enum Found<'r> {
    Letter(Letter<'r>),
    /// The answer to the letter of this origin.
    Answer(&'r str),
    Foreign,
}

impl Letters<'_> {
    /// Reads all letters, and judges the wanted ones. Writes nothing.
    pub(crate) async fn survey(&self, mut progress: impl FnMut(u64)) -> Result<Survey, ReplayError> {
        let mut survey = Survey::default();
        // Answers come later than their letters, so nothing is counted before all are known.
        let (mut read, mut batch) = (0, Batch::default());
        for partition in self.partitions().await? {
            let mut scan = self.log.scan(Topic::DeadLetters, partition, None).await?;
            while scan.next(&mut batch, BATCH_RECORDS).await? {
                for record in batch.iter() {
                    if let Found::Answer(origin) = found(&record) {
                        survey.answered.insert(origin.to_owned());
                    }
                }
            }
        }
        let mut seen = BTreeSet::new();
        for partition in self.partitions().await? {
            let mut scan = self.log.scan(Topic::DeadLetters, partition, self.start(partition).await?).await?;
            while scan.next(&mut batch, BATCH_RECORDS).await? {
                batch.iter().for_each(|record| self.look(&record, &mut seen, &mut survey));
                read += batch.len() as u64;
                progress(read);
            }
        }
        Ok(survey)
    }

    /// Appends what the survey found mended; answers how many records that were.
    pub(crate) async fn bring_back(
        &self,
        survey: &Survey,
        mut progress: impl FnMut(u64),
    ) -> Result<u64, ReplayError> {
        let (mut seen, mut appended, mut batch) = (BTreeSet::new(), 0, Batch::default());
        for partition in self.partitions().await? {
            let mut scan = self.log.scan(Topic::DeadLetters, partition, self.start(partition).await?).await?;
            while scan.next(&mut batch, BATCH_RECORDS).await? {
                let (mut events, mut answers) = (Vec::new(), Vec::new());
                for record in batch.iter() {
                    let Found::Letter(letter) = found(&record) else { continue };
                    let judged = self.judge(&record, &letter);
                    let Some(Ok(event)) = judged.filter(|_| seen.insert(letter.origin.to_owned())) else {
                        continue;
                    };
                    if !survey.answered.contains(letter.origin) {
                        events.push(event);
                        answers.push(answer(&record, partition, letter.origin));
                    }
                }
                appended += events.len() as u64;
                // In this order: an answer says that the event is durable.
                self.log.append(Topic::Events, events).await?;
                self.log.append(Topic::DeadLetters, answers).await?;
                progress(appended);
            }
        }
        Ok(appended)
    }

    async fn partitions(&self) -> Result<impl Iterator<Item = PartitionId> + use<>, ReplayError> {
        Ok((0..self.log.partitions(Topic::DeadLetters).await?).map(PartitionId))
    }

    async fn start(&self, partition: PartitionId) -> Result<Option<Offset>, ReplayError> {
        match self.wanted.since {
            Some(since) => Ok(Some(self.log.offset_at(Topic::DeadLetters, partition, since).await?)),
            None => Ok(None),
        }
    }

    fn look(&self, record: &Record<'_>, seen: &mut BTreeSet<String>, survey: &mut Survey) {
        let letter = match found(record) {
            Found::Letter(letter) => letter,
            Found::Answer(_) => return,
            Found::Foreign => return survey.foreign += 1,
        };
        // A block that was repeated has written its letters again.
        let Some(judged) = self.judge(record, &letter).filter(|_| seen.insert(letter.origin.to_owned()))
        else {
            return;
        };
        match judged {
            _ if survey.answered.contains(letter.origin) => survey.before += 1,
            Ok(_) => survey.mended += 1,
            Err(Rejected { reason, field, .. }) => {
                let (count, examples) = survey.rejected.entry((reason, field)).or_default();
                *count += 1;
                if examples.len() < EXAMPLES {
                    examples.push(letter.origin.to_owned());
                }
            }
        }
    }

    /// The letter as a record of the event topic, or what is still wrong with it; `None` if it is not wanted.
    fn judge(&self, record: &Record<'_>, letter: &Letter<'_>) -> Option<Result<NewRecord, Rejected>> {
        let reason = record.headers.get(REASON_HEADER).unwrap_or_default();
        if self.wanted.reason.is_some_and(|wanted| wanted.as_str().as_bytes() != reason) {
            return None;
        }
        let decoded = decode::decode(record, &self.bounds);
        if let Some(wanted) = &self.wanted.tenant {
            let is_theirs = match &decoded {
                Ok(decoded) => decoded.event.tenant == *wanted,
                Err(_) => claimed_tenant(record.value).as_deref() == Some(wanted),
            };
            if !is_theirs {
                return None;
            }
        }
        Some(decoded.map(|decoded| {
            let mut event = decode::bring_back(&decoded.event, record.value, &letter.first, &self.bounds);
            let signature = record.headers.get(SIGNATURE_HEADER);
            event
                .headers
                .extend(signature.map(|signature| (SIGNATURE_HEADER.to_owned(), signature.to_vec())));
            event
        }))
    }
}

fn found<'r>(record: &Record<'r>) -> Found<'r> {
    let text = |name: &str| record.headers.get(name).and_then(|value| std::str::from_utf8(value).ok());
    if let Some(origin) = text(REPLAYED_HEADER) {
        return Found::Answer(origin);
    }
    let first = |origin: &str| {
        let mut parts = origin.split('/');
        let (log, _topic, partition, offset) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let append_time = UnixMs::new(text(APPEND_HEADER)?.parse().ok()?);
        Some(ForwardedFrom {
            log: LogId::try_from(log.to_owned()).ok()?,
            partition: PartitionId(partition.parse().ok()?),
            offset: Offset::new(offset.parse().ok()?)?,
            // Whoever may write letters must not make events younger than their letter.
            append_time: append_time.min(record.append_time),
            hops: 1,
            attested_by: None,
        })
    };
    match text(ORIGIN_HEADER).and_then(|origin| Some((origin, first(origin)?))) {
        Some((origin, first)) => Found::Letter(Letter { origin, first }),
        None => Found::Foreign,
    }
}

/// Beside the letter: what is kept for as long as the letter.
fn answer(letter: &Record<'_>, partition: PartitionId, origin: &str) -> NewRecord {
    NewRecord {
        key: letter.key.map(<[u8]>::to_vec),
        partition: Some(partition),
        value: Vec::new(),
        headers: vec![(REPLAYED_HEADER.to_owned(), origin.as_bytes().to_vec())],
    }
}

/// The tenant of a value that is no event, if it is JSON at all.
fn claimed_tenant(value: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(value).ok()?;
    Some(value.get("tenant")?.as_str()?.to_owned())
}
