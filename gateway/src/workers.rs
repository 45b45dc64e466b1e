//! The threads that serve. Each has connections of its own, to callers and to the API: what a call needs is on one core, and
//! no thread wakes another, or waits for it.

use std::{convert::Infallible, io, sync::Arc, thread};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// How many tasks a busy worker goes on with before it asks for what has come in the meantime. With tokio's 61 the slowest of
/// 64 connections were slower: see `gateway/measure throughput`.
const EVENT_INTERVAL: u32 = 200;

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Worker<S> {
    /// What its connections share.
    pub(crate) shared: Arc<S>,
    runtime: Handle,
    _end: oneshot::Sender<Infallible>,
}

impl<S: Send + Sync + 'static> Worker<S> {
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn start(shared: S) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().event_interval(EVENT_INTERVAL).build()?;
        let (end, ended) = oneshot::channel();
        let handle = runtime.handle().clone();
        thread::Builder::new().name("gateway-worker".into()).spawn(move || {
            let _ = runtime.block_on(ended);
            // Whoever looks up a name at the moment is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Self { shared: Arc::new(shared), runtime: handle, _end: end })
    }

    /// Runs this on its thread, with what all share there.
    pub(crate) fn spawn<F>(&self, task: impl FnOnce(Arc<S>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.runtime.spawn(task(Arc::clone(&self.shared)));
    }

    /// How many tasks it has.
    fn load(&self) -> usize {
        Arc::strong_count(&self.shared)
    }
}

/// The one with the least to do.
pub(crate) fn idlest<S: Send + Sync + 'static>(workers: &[Worker<S>]) -> Option<&Worker<S>> {
    workers.iter().min_by_key(|worker| worker.load())
}

#[cfg(test)]
mod tests {
    use std::thread::{ThreadId, current};

    use super::*;

    #[tokio::test]
    async fn each_connection_goes_to_the_thread_with_the_fewest() {
        let workers: Vec<_> = (0..3).map(|_| Worker::start(()).expect("a thread")).collect();
        let mut open = Vec::new();
        for _ in 0..6 {
            let worker = idlest(&workers).expect("one of three");
            let (close, closed) = oneshot::channel::<()>();
            let (tell, thread) = oneshot::channel::<ThreadId>();
            worker.spawn(|shared| async move {
                let _ = tell.send(current().id());
                let _ = closed.await;
                drop(shared);
            });
            open.push((thread.await.expect("it ran"), close));
        }
        let threads: Vec<_> = open.iter().map(|(thread, _)| *thread).collect();
        assert_eq!(threads[..3], threads[3..]);
        assert!(threads[0] != threads[1] && threads[1] != threads[2] && threads[2] != threads[0]);
        assert!(!threads.contains(&current().id()));

        let (thread, close) = open.swap_remove(1);
        let before = idlest(&workers).map(Worker::load);
        drop(close);
        while idlest(&workers).map(Worker::load) == before {
            tokio::task::yield_now().await;
        }
        let (tell, next) = oneshot::channel();
        idlest(&workers).expect("one of three").spawn(|_| async move {
            let _ = tell.send(current().id());
        });
        assert_eq!(next.await.expect("it ran"), thread);
    }

    #[tokio::test]
    async fn a_worker_ends_with_its_owner() {
        let worker = Worker::start(()).expect("a thread");
        let shared = Arc::downgrade(&worker.shared);
        let (tell, ended) = oneshot::channel::<Infallible>();
        worker.spawn(|_| async move {
            std::future::pending::<()>().await;
            drop(tell);
        });
        drop(worker);
        assert!(ended.await.is_err());
        assert!(shared.upgrade().is_none());
    }
}
