//! Hot swap: when geo files change, a new snapshot is read and published; a broken one is reported and the old one kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;

use super::atlas::{Atlas, AtlasError};
use crate::config::GeoFiles;
use crate::lifecycle::Lifecycle;

/// How often the files' stamps are looked at. Polling, because container platforms swap symlinks, of which no
/// notification tells.
const PERIOD: Duration = Duration::from_secs(5);

/// What tells that a file changed: when it was written, its length, and which file it is (an unpacked archive can keep
/// the time). `None` while it is not there.
type Stamp = Option<(SystemTime, u64, u64)>;

/// Watches the geo files of a published snapshot.
pub(crate) struct AtlasWatch {
    files: GeoFiles,
    published: Arc<ArcSwap<Atlas>>,
    /// The stamps that the last attempt to load was made of, whether it went well or not.
    tried: Vec<(PathBuf, Stamp)>,
    /// The stamps at the last look.
    seen: Vec<(PathBuf, Stamp)>,
}

/// What one look found.
#[derive(Debug)]
pub(crate) enum Reload {
    Unchanged,
    /// Somebody is writing, or has just written: the next look decides.
    Changing,
    /// The new snapshot's build.
    Swapped(Arc<str>),
    /// The new files are broken; the old snapshot stays. Reported once for each change.
    Broken(AtlasError),
}

impl AtlasWatch {
    /// Loads the files and publishes the first snapshot.
    pub(crate) fn open(files: GeoFiles) -> Result<Self, AtlasError> {
        // Taken before the files are read: what changes meanwhile is read again.
        let stamps = stamps(&files);
        let published = Arc::new(ArcSwap::from_pointee(Atlas::load(&files)?));
        Ok(Self { files, published, tried: stamps.clone(), seen: stamps })
    }

    /// Where the newest good snapshot is to be found.
    pub(crate) fn published(&self) -> Arc<ArcSwap<Atlas>> {
        self.published.clone()
    }

    /// Looks once. Files that changed are loaded when two looks found the same: until then somebody may be writing.
    /// Reads the files: not for a thread that carries I/O of others.
    pub(crate) fn reload_if_changed(&mut self) -> Reload {
        let now = stamps(&self.files);
        if now == self.tried {
            self.seen = now;
            return Reload::Unchanged;
        }
        if now != self.seen {
            self.seen = now;
            return Reload::Changing;
        }
        self.tried = now;
        match Atlas::load(&self.files) {
            Ok(atlas) => {
                let build = atlas.build().clone();
                self.published.store(Arc::new(atlas));
                Reload::Swapped(build)
            }
            Err(error) => Reload::Broken(error),
        }
    }

    /// Looks every five seconds until the process drains, and tells what each look found.
    pub(crate) fn spawn(mut self, lifecycle: &Lifecycle, told: impl Fn(&Reload) + Send + 'static) {
        let phase = lifecycle.clone();
        lifecycle.spawn("geo files", async move {
            loop {
                tokio::select! {
                    () = phase.draining() => return,
                    () = tokio::time::sleep(PERIOD) => {}
                }
                let look = tokio::task::spawn_blocking(move || {
                    let found = self.reload_if_changed();
                    (self, found)
                });
                // An error here is a panic of the look: the files stay as they are, and are watched no more.
                let Ok((watch, found)) = look.await else {
                    tracing::error!("watching the geo files failed; the ones in use stay");
                    return;
                };
                self = watch;
                told(&found);
            }
        });
    }
}

fn stamps(files: &GeoFiles) -> Vec<(PathBuf, Stamp)> {
    let GeoFiles { city, asn, country, networks, overlay } = files;
    let all = [city, asn, country].into_iter().flatten().chain(networks).chain(overlay);
    all.map(|path| (path.clone(), stamp(path))).collect()
}

fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}
