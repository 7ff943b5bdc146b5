//! The plain threads that the pure rooms run on: one a core, the owned partitions divided among them. The async
//! runtime carries only I/O.

use tokio::sync::{mpsc, oneshot};

use crate::lifecycle::Lifecycle;
use crate::model::PartitionId;

type Job = Box<dyn FnOnce() + Send>;

/// Walks batches of many partitions on few threads. A partition has its thread, so that its state stays in one cache.
pub(crate) struct Workers {
    threads: Vec<mpsc::Sender<Job>>,
}

/// The worker thread is gone: a room panicked on it.
#[derive(Debug, thiserror::Error)]
#[error("the walk panicked; what was not committed is walked again at the next start")]
pub(super) struct WorkerGone;

impl Workers {
    /// Starts `count` threads; they end when this is dropped.
    pub(crate) fn start(count: usize) -> std::io::Result<Self> {
        let threads = (0..count.max(1))
            .map(|index| {
                // A lane has one batch under way at most, so a queue longer than a few says nothing new: each waiting
                // lane is already back-pressure to its own partition.
                let (jobs, mut queue) = mpsc::channel::<Job>(64);
                Lifecycle::thread(format!("walk-{index}"), move || {
                    while let Some(job) = queue.blocking_recv() {
                        job();
                    }
                })?;
                Ok(jobs)
            })
            .collect::<std::io::Result<_>>()?;
        Ok(Self { threads })
    }

    /// Runs `job` on the partition's thread.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        partition: PartitionId,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkerGone> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move || {
            // The lane that asked may have been stopped meanwhile: then nobody wants the answer.
            let _ = answer.send(job());
        });
        let thread = &self.threads[partition.0 as usize % self.threads.len()];
        thread.send(job).await.map_err(|_| WorkerGone)?;
        answered.await.map_err(|_| WorkerGone)
    }
}
