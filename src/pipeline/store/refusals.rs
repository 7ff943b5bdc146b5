//! How many of the last event rows ClickHouse has refused. A value here and there is the data's fault; more than that is
//! ours, and no reason to fill the dead letters with everything that comes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::StoreError;

/// So many of the last rows are looked at.
const ROWS: u64 = 10_000;
/// 5 % of them.
const MAX_REFUSED: u64 = ROWS / 20;

/// The newest blocks of the process, as far back as [`ROWS`] reach.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    blocks: Mutex<VecDeque<Block>>,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    rows: u64,
    refused: u64,
}

impl Refusals {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Block>> {
        // A list of numbers is whole whatever panicked beside it.
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether ClickHouse may refuse `refused` rows more, of a block that is under way.
    pub(super) fn bear(&self, refused: usize) -> Result<(), StoreError> {
        let refused = refused as u64 + self.lock().iter().map(|block| block.refused).sum::<u64>();
        if refused > MAX_REFUSED { Err(StoreError::TooManyRefused { refused, rows: ROWS }) } else { Ok(()) }
    }

    /// A block has been stored.
    pub(super) fn note(&self, rows: usize, refused: usize) {
        let mut blocks = self.lock();
        blocks.push_back(Block { rows: rows as u64, refused: refused as u64 });
        let mut rows: u64 = blocks.iter().map(|block| block.rows).sum();
        while let Some(oldest) = blocks.front().filter(|oldest| rows - oldest.rows >= ROWS) {
            rows -= oldest.rows;
            blocks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_twenty_of_the_last_rows_is_borne() {
        let refusals = Refusals::default();
        refusals.bear(500).unwrap();
        assert_eq!(refusals.bear(501).unwrap_err().code(), "too_many_refused");
        refusals.note(2_000, 400);
        refusals.bear(100).unwrap();
        refusals.bear(101).unwrap_err();
        // Sound rows push it out.
        for _ in 0..9 {
            refusals.note(1_000, 0);
        }
        refusals.bear(101).unwrap_err();
        refusals.note(1_000, 0);
        refusals.bear(500).unwrap();
        assert_eq!(refusals.lock().len(), 10);
    }
}
