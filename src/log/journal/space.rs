//! Room on the journal's disk. An append into a full disk would fail half-way and poison the store, so a reserve is kept
//! and appends are refused before that; they are taken again once there is room.

use std::path::PathBuf;
#[cfg(test)]
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the free bytes are read.
#[derive(Clone, Debug)]
pub(super) enum Space {
    Disk(PathBuf),
    #[cfg(test)]
    Manual(Arc<AtomicU64>),
}

impl Space {
    fn free_bytes(&self) -> std::io::Result<u64> {
        match self {
            Self::Disk(dir) => {
                let disk = rustix::fs::statvfs(dir)?;
                Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
            }
            #[cfg(test)]
            Self::Manual(bytes) => Ok(bytes.load(Ordering::Relaxed)),
        }
    }

    /// Says what is wrong if fewer than `reserve` bytes would be left after `bytes` more.
    pub(super) fn check(&self, bytes: u64, reserve: u64) -> Result<(), String> {
        const MIB: u64 = 1 << 20;
        let free = self.free_bytes().map_err(|error| format!("the disk cannot be asked: {error}"))?;
        if free >= reserve.saturating_add(bytes) {
            return Ok(());
        }
        let (free, reserve) = (free / MIB, reserve / MIB);
        Err(format!(
            "the journal's disk is full: {free} MiB are free and {reserve} MiB are kept in reserve; make room, or \
             lower the journal's disk limit"
        ))
    }
}
