//! Clause 0 as a table: commit, log and ClickHouse on the left, what is done on the right. In `taken_over` the same with a
//! real journal and a real ClickHouse.

mod taken_over;

use super::adopt::{Adopt, Adopted, Bounds, Witness, go_on, start};
use super::metadata::Metadata;
use super::*;
use crate::model::{LogId, Offset, ResumeAt, UnixMs};
use crate::pipeline::store::{LastStored, Put};

fn at(offset: i64) -> Offset {
    Offset::new(offset).unwrap()
}

fn old_log() -> LogId {
    LogId::try_from("0".repeat(32)).unwrap()
}

/// A log that holds the offsets 100 to 199.
const LOG: (i64, i64) = (100, 200);

fn bounds() -> Bounds {
    Bounds { partition: PartitionId(0), start: at(LOG.0), end: at(LOG.1) }
}

/// In words, so that a case reads as a line.
fn told(outcome: Result<Adopted, SettleError>) -> String {
    match outcome {
        Err(error) => error.code().to_owned(),
        Ok(adopted) => {
            let log = if adopted.log == old_log() { "same log" } else { "new log" };
            let mut told = format!("{log} at {}", adopted.resume_at);
            if let Some(end) = adopted.unfinished {
                told += &format!(", block to {end}");
            }
            if let Some(state) = adopted.state {
                told += &format!(", state of {state}");
            }
            if let Some(gone) = adopted.truncated {
                told += &format!(", lost {}-{}", gone.from, gone.to);
            }
            let asked = (0..300).filter(|&first| adopted.put_of(at(first)) == Put::Again).max();
            if let Some(through) = asked {
                told += &format!(", ask through {through}");
            }
            told
        }
    }
}

#[test]
fn a_commit_of_ours_is_gone_on_from() {
    let check = |committed: i64, end: Option<i64>, choice: Option<Adopt>, expected: &str| {
        let metadata = Metadata::new(old_log(), end.map(at), None);
        let outcome = go_on(bounds(), ResumeAt::at(at(committed)), metadata, choice);
        assert_eq!(told(outcome), expected, "commit {committed}, end {end:?}, {choice:?}");
    };
    check(150, None, None, "same log at 150");
    check(150, Some(160), None, "same log at 150, block to 160, ask through 160");
    check(200, None, None, "same log at 200");
    // Truncated: below the log's start.
    check(40, None, None, "same log at 100, lost 40-100");
    check(40, Some(90), None, "same log at 100, lost 40-100");
    check(90, Some(110), None, "same log at 100, block to 110, lost 90-100, ask through 110");
    // Beyond the log's end: recreated, or wiped.
    check(201, None, None, "new log at 100");
    // The block's end is: the tail is lost, or it is another log. Rows of it would hide new records.
    check(150, Some(200), None, "adoption_undecided");
    check(150, Some(200), Some(Adopt::Commit), "new log at 150");
    check(150, Some(200), Some(Adopt::Rows), "adoption_impossible");
    check(150, Some(200), Some(Adopt::Beginning), "new log at 100");
    // What is not asked for is not done.
    check(150, None, Some(Adopt::Beginning), "same log at 150");
}

#[test]
fn a_checkpoint_is_gone_by_if_the_log_goes_on_from_it() {
    let check = |committed: i64, state: i64, expected: &str| {
        let metadata = Metadata::new(old_log(), None, Offset::new(state));
        let outcome = go_on(bounds(), ResumeAt::at(at(committed)), metadata, None);
        assert_eq!(told(outcome), expected, "commit {committed}, state {state}");
    };
    check(150, 120, "same log at 150, state of 120");
    check(150, 150, "same log at 150, state of 150");
    check(150, 100, "same log at 150, state of 100");
    // Records after it are gone from the log, or it is not of this commit.
    check(150, 99, "same log at 150");
    check(90, 90, "same log at 100, lost 90-100");
    check(150, 151, "same log at 150");
    check(201, 150, "new log at 100");
}

#[test]
fn what_was_to_be_asked_for_is_asked_for_by_the_next_owner() {
    let check = |committed: i64, end: Option<i64>, ask: i64, expected: &str| {
        let metadata = Metadata::new(old_log(), end.map(at), None).asking(Offset::new(ask));
        let outcome = go_on(bounds(), ResumeAt::at(at(committed)), metadata, None);
        assert_eq!(told(outcome), expected, "commit {committed}, end {end:?}, ask {ask}");
    };
    check(140, None, 149, "same log at 140, ask through 149");
    check(140, Some(144), 149, "same log at 140, block to 144, ask through 149");
    check(140, Some(160), 149, "same log at 140, block to 160, ask through 160");
    check(150, None, 149, "same log at 150");
    check(40, None, 149, "same log at 100, lost 40-100, ask through 149");
    // Rows of records that the log does not hold.
    check(140, None, 200, "adoption_undecided");
}

#[test]
fn without_a_commit_of_ours_the_last_row_is_the_witness() {
    let check = |committed: Option<i64>,
                 rows: Option<(i64, Option<i64>, Witness)>,
                 choice: Option<Adopt>,
                 expected: &str| {
        let stored = rows.map(|(offset, settled, witness)| {
            let settled = settled.map(at);
            let received_at = UnixMs::default();
            (LastStored { log: old_log(), offset: at(offset), received_at, settled }, witness)
        });
        let outcome = start(bounds(), committed.map(at), stored, choice);
        assert_eq!(told(outcome), expected, "commit {committed:?}, rows {rows:?}, {choice:?}");
    };
    use Witness::{Other, Same, TruncatedAway};
    let none = None;
    // No commit, no rows: the first owner ever.
    check(None, none, None, "new log at 100");
    // The commit has expired. After the last block that has its line: what the next one left is asked for, and how far
    // that went nobody knows.
    check(None, Some((149, Some(149), Same)), None, "same log at 150, ask through 199");
    check(None, Some((149, Some(155), Same)), None, "same log at 156, ask through 199");
    check(None, Some((149, Some(139), Same)), None, "same log at 140, ask through 199");
    check(None, Some((199, Some(199), Same)), None, "same log at 200");
    check(None, Some((149, None, Same)), None, "same log at 100, ask through 199");
    // A recreated topic, a wiped journal, a move to Kafka.
    check(None, Some((149, Some(149), Other)), None, "new log at 100");
    // Nobody can tell.
    let away = Some((49, Some(49), TruncatedAway));
    check(None, away, None, "adoption_undecided");
    check(None, away, Some(Adopt::Commit), "adoption_impossible");
    check(None, away, Some(Adopt::Rows), "same log at 100, lost 50-100, ask through 199");
    check(None, away, Some(Adopt::Beginning), "new log at 100");
    // An operator's reset.
    let rows = Some((149, Some(149), Same));
    check(Some(120), rows, None, "adoption_undecided");
    check(Some(120), none, None, "adoption_undecided");
    check(Some(120), rows, Some(Adopt::Commit), "same log at 120, ask through 199");
    check(Some(160), rows, Some(Adopt::Commit), "same log at 160, ask through 199");
    check(Some(120), none, Some(Adopt::Commit), "new log at 120");
    check(Some(250), rows, Some(Adopt::Commit), "adoption_impossible");
    check(Some(120), rows, Some(Adopt::Rows), "same log at 150, ask through 199");
    check(Some(120), none, Some(Adopt::Rows), "adoption_impossible");
    check(Some(120), rows, Some(Adopt::Beginning), "new log at 100");
}
