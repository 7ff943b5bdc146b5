//! Each trap that the promise was built around, and the test that would spring it. What was tried stays tried.

use std::path::Path;

/// What was seen when it was tried, and the beginning of the test that holds the answer to it, wherever that lies.
const TRIED: [(&str, &str); 15] = [
    (
        "engine killed between its log of tokens and the rename of the part; the rename fails; same token: 0 rows",
        "const FOUND: [(f64, f64, Fault); 5] = [",
    ),
    ("the same, by what it leaves behind", "fn a_block_whose_token_is_known_but_not_its_rows_is_stored("),
    (
        "part stored, last line of the log of tokens missing, same token: doubled",
        "fn a_block_whose_token_is_forgotten_is_not_doubled(",
    ),
    (
        "small window of tokens, inserts of other partitions in between: doubled",
        "fn a_token_that_others_pushed_out_of_the_window_doubles_nothing(",
    ),
    (
        "one block over two table partitions: the token holds for each alone",
        "fn a_block_over_midnight_is_completed_and_not_doubled(",
    ),
    ("more than about 1.05 M rows in one insert: split", "fn the_largest_block_is_one_part("),
    (
        "rows of 150 days under a partition a day of event time: refused for ever",
        "fn a_hostile_time_makes_no_partitions(",
    ),
    ("a member commits a partition that was taken from it: accepted", "fn a_former_owner_commits_nothing<"),
    (
        "a member that was stopped commits when it wakes",
        "fn an_owner_that_was_stopped_harms_nobody_when_it_wakes(",
    ),
    (
        "a commit in a transaction with an old generation is refused; metadata survives a transaction",
        "fn a_commit_survives_reopening<",
    ),
    (
        "what is committed cannot be read while a dead member's transaction is open",
        "fn a_killed_owners_commit_stays_and_its_open_transaction_ends_with_the_next_owner(",
    ),
    (
        "checkpoints in several writes, torn, then compacted: state lost",
        "fn a_commit_and_its_records_are_one<",
    ),
    ("metadata of more than 4,096 bytes is refused", "fn metadata_over_the_limit_is_refused<"),
    ("Java's and librdkafka's partitioners differ", "fn librdkafkas_own_partitioner_is_not_kafkas("),
    (
        "and such records come home",
        "fn keyless_records_are_rows_are_brought_home_and_alert_across_partitions_whatever_is_killed(",
    ),
];

#[test]
fn what_was_tried_stays_tried() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = sources(&root.join("src")) + &sources(&root.join("tests"));
    for (what, test) in TRIED {
        // Here it is named, and there it is.
        let there = text.matches(test).count() - usize::from(text.contains(&format!("\"{test}\"")));
        assert!(there > 0, "{what}: there is no `{test}` any more");
    }
}

/// All that is below a folder, as one text.
fn sources(folder: &Path) -> String {
    let text = |entry: std::fs::DirEntry| match entry.path() {
        path if path.is_dir() => sources(&path),
        path if path.extension().is_some_and(|extension| extension == "rs") => {
            std::fs::read_to_string(path).unwrap()
        }
        _ => String::new(),
    };
    std::fs::read_dir(folder).unwrap().map(Result::unwrap).map(text).collect()
}
