//! The threads of the background work. Strangers decide how much of it there is: it must neither hold up the threads on
//! which pushes, fetches and pages are answered nor take the processor from them. What it starts, git too, inherits the
//! priority.

use std::future::Future;
use std::io;
use std::thread::available_parallelism;

use tokio::runtime::Builder;
use tokio::runtime::Handle;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// A runtime of lower priority. Dropped, it ends its work where that waits next.
pub(crate) struct BackgroundThreads {
    handle: Handle,
    /// Until it is dropped.
    runtime: Option<Runtime>,
}

impl BackgroundThreads {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system has none.
    pub(crate) fn start() -> io::Result<Self> {
        // The other processors are left to what is asked for.
        let threads = available_parallelism().map_or(1, |processors| processors.get().div_ceil(2));
        let mut runtime = Builder::new_multi_thread();
        runtime
            .thread_name(THREAD)
            .worker_threads(threads)
            .on_thread_start(|| {
                // On Linux a priority is that of a thread, here of this one.
                if let Err(error) = rustix::process::setpriority_process(None, PRIORITY) {
                    tracing::debug!(%error, "could not lower the priority of a thread");
                }
            })
            .enable_all();
        let runtime = runtime.build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// Does some work on these threads.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.handle.spawn(work)
    }
}

impl Drop for BackgroundThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Async code must not wait for threads.
            runtime.shutdown_background();
        }
    }
}

const THREAD: &str = "background";

/// Of `nice(1)`: a third of the time of a thread of normal priority where there is not enough for both. Pushes wait for
/// locks that a reconcile holds, so it must not come last.
const PRIORITY: i32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn background_work_comes_behind_what_is_asked_for() {
        let threads = BackgroundThreads::start().unwrap();
        let own = || rustix::process::getpriority_process(None).unwrap();
        let before = own();

        threads
            .spawn(async move {
                assert!(own() > before, "{} {before}", own());
                let blocking = tokio::task::spawn_blocking(own).await.unwrap();
                assert!(blocking > before, "{blocking} {before}");
            })
            .await
            .unwrap();

        assert_eq!(own(), before);
    }
}
