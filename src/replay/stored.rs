//! Whether ClickHouse holds what the log says: each row of `finding_rows` against the walk's own.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::findings::Key;
use super::{FindingRows, Piece, ReplayError};
use crate::clickhouse::Client;
use crate::model::{Finding, RuleId};

/// What a comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) equal: usize,
    /// The log says so, and there is no row.
    pub(crate) missing: Vec<Key>,
    /// There is a row, and the log does not say so.
    pub(crate) unfounded: Vec<Key>,
    /// Both are there; with the columns that differ.
    pub(crate) differing: Vec<(Key, Vec<String>)>,
}

/// Compares the findings of the pieces with the rows that the same records left in ClickHouse. Left out is what says
/// nothing of the span: a row that a later record has replaced since, pieces that are not whole, and a journey that is
/// weaker in its row, where it is not known what was usual for the subject.
pub(crate) async fn compare(
    client: &Client,
    findings: &FindingRows,
    pieces: &[Piece],
) -> Result<Comparison, ReplayError> {
    let mut stored = BTreeMap::new();
    for piece in pieces.iter().filter(|piece| piece.is_whole) {
        for row in rows(client, *piece).await? {
            stored.insert((row.case.finding_id, piece.topic, piece.partition), row);
        }
    }
    Ok(Comparison::of(findings, &stored, pieces))
}

impl Comparison {
    pub(super) fn of(findings: &FindingRows, stored: &BTreeMap<Key, Finding>, pieces: &[Piece]) -> Self {
        let piece_of = |(_, topic, partition): &Key| {
            let of = |piece: &&Piece| (piece.topic, piece.partition) == (*topic, *partition);
            pieces.iter().find(of).filter(|piece| piece.is_whole)
        };
        let mut comparison = Self::default();
        for (key, row) in stored {
            let replaced = piece_of(key).is_none_or(|piece| row.case.revision >= piece.end);
            match findings.get(key) {
                _ if replaced => {}
                None => comparison.unfounded.push(*key),
                Some(finding) => match differences(finding, row) {
                    columns if columns.is_empty() => comparison.equal += 1,
                    _ if may_be_louder(finding, row)
                        && piece_of(key).is_some_and(|of| !of.from_the_first) => {}
                    columns => comparison.differing.push((*key, columns)),
                },
            }
        }
        let missing = findings.iter().map(|(key, _)| *key).filter(|key| !stored.contains_key(key));
        comparison.missing.extend(missing.filter(|key| piece_of(key).is_some()));
        comparison
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.unfounded.is_empty() && self.differing.is_empty()
    }
}

/// A line a difference, then the count of each.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, topic, partition) in &self.missing {
            writeln!(
                f,
                "missing    {id} of {}/{partition}: the log says so, ClickHouse has no row",
                topic.name()
            )?;
        }
        for (id, topic, partition) in &self.unfounded {
            writeln!(f, "unfounded  {id} of {}/{partition}: a row that the log does not say", topic.name())?;
        }
        for ((id, topic, partition), columns) in &self.differing {
            writeln!(f, "differs    {id} of {}/{partition}: {}", topic.name(), columns.join(", "))?;
        }
        let (missing, unfounded, differing) =
            (self.missing.len(), self.unfounded.len(), self.differing.len());
        write!(f, "{} equal, {missing} missing, {unfounded} unfounded, {differing} differing", self.equal)
    }
}

/// Whether ignorance of what is usual, which can only make a journey louder, may have made the difference.
fn may_be_louder(finding: &Finding, row: &Finding) -> bool {
    let strength = |finding: &Finding| (finding.case.severity, finding.case.confidence);
    finding.case.rule == RuleId::ImpossibleTravel && strength(finding) >= strength(row)
}

/// The columns in which two rows of a case differ.
fn differences(finding: &Finding, row: &Finding) -> Vec<String> {
    let columns = |finding| match serde_json::to_value(finding) {
        Ok(Value::Object(columns)) => columns,
        // A finding is an object.
        _ => serde_json::Map::new(),
    };
    let (finding, row) = (columns(finding), columns(row));
    finding.into_iter().filter(|(name, value)| row.get(name) != Some(value)).map(|(name, _)| name).collect()
}

/// The rows of `finding_rows` that records of the piece, or later ones, left: of the log that the partition is now.
async fn rows(client: &Client, piece: Piece) -> Result<Vec<Finding>, ReplayError> {
    let sql = "SELECT * FROM finding_rows FINAL WHERE topic = ? AND partition = ? AND revision >= ? AND log = \
               (SELECT argMax(log, received_at) FROM blocks FINAL WHERE topic = ? AND partition = ?)";
    let topic = piece.topic.name();
    let query = client.query(sql).bind(topic).bind(piece.partition.0).bind(piece.first.get());
    let answer = client.json_rows(query.bind(topic).bind(piece.partition.0)).await?;
    let lines = answer.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let rows = lines.map(|line| Ok(Finding::of_row(serde_json::from_slice(line)?)?));
    let of_records = |row: &Result<Finding, _>| row.as_ref().map_or(true, |row| is_of_records(row.case.rule));
    rows.filter(of_records).collect()
}

/// Whether the rule judges records. The others tell what befell a running program, of which the log says nothing.
const fn is_of_records(rule: RuleId) -> bool {
    !matches!(rule, RuleId::AlertStorm | RuleId::LogTruncated | RuleId::DeliveryGivenUp)
}
