//! One run over the batch: a reader, the workers, a writer.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};

use crate::{
    input::{Item, Source},
    ledger::{Due, Ledger},
    record,
    tally::{Stop, Tally, Why},
    wire::Caller,
    worker::{Care, Worker},
};

/// Request bodies in memory at once, in KiB.
const ROOM_KIB: usize = 64 << 10;

/// Where the run reads from, where it writes to, and how many workers it has.
pub(crate) struct Plan {
    pub(crate) source: Source,
    pub(crate) file: File,
    pub(crate) ledger: Ledger,
    pub(crate) base: String,
    pub(crate) workers: usize,
    /// What is done about failures that are no item's own; `None` to record them all.
    pub(crate) care: Option<Care>,
}

/// An item and the memory it was given.
pub(crate) type Job = (Item, OwnedSemaphorePermit);

/// A line to be written, and how its item failed if it did.
pub(crate) struct Written {
    pub(crate) text: Vec<u8>,
    pub(crate) failed: Option<&'static str>,
}

/// Runs the batch through the service. Returns the time from the first item to the last result.
pub(crate) async fn run(plan: Plan, service: Caller, tally: Arc<Tally>, stop: Stop) -> Duration {
    let start = Instant::now();
    let (write, lines) = mpsc::channel(256);
    let writer = tokio::task::spawn_blocking({
        let (tally, stop) = (Arc::clone(&tally), stop.clone());
        move || writing(plan.file, lines, &tally, &stop)
    });
    let (give, jobs) = mpsc::channel::<Job>(plan.workers);
    let reader = tokio::task::spawn_blocking({
        let (write, stop) = (write.clone(), stop.clone());
        move || reading(&plan.source, plan.ledger, &give, &write, &stop)
    });

    let jobs = Arc::new(Mutex::new(jobs));
    let worker = Worker::new(service, plan.base, write, tally, stop.clone(), plan.care);
    let mut workers = JoinSet::new();
    for _ in 1..plan.workers {
        workers.spawn(worker.clone().work(Arc::clone(&jobs)));
    }
    workers.spawn(worker.work(Arc::clone(&jobs)));
    while let Some(done) = workers.join_next().await {
        if let Err(error) = done {
            stop.stop(Why::Hopeless(format!("a worker broke: {error}")));
        }
    }
    // The reader gives up when nobody takes its items.
    drop(jobs);
    for part in [reader, writer] {
        if let Err(error) = part.await {
            stop.stop(Why::Hopeless(format!("reading or writing broke: {error}")));
        }
    }
    start.elapsed()
}

/// Hands out the items that have no result yet, and records the lines that are none.
fn reading(source: &Source, mut ledger: Ledger, give: &mpsc::Sender<Job>, write: &mpsc::Sender<Written>, stop: &Stop) {
    let room = Arc::new(Semaphore::new(ROOM_KIB));
    let runtime = tokio::runtime::Handle::current();
    let items = match source.items() {
        Ok(items) => items,
        Err(error) => return stop.stop(Why::Hopeless(format!("the input cannot be read: {error}"))),
    };
    for line in items {
        if stop.is_stopped() {
            return;
        }
        let line = match line {
            Ok(line) => line,
            Err(error) => return stop.stop(Why::Hopeless(format!("the input cannot be read any further: {error}"))),
        };
        let is_taken = match ledger.due(line) {
            Due::Nothing(_) => true,
            Due::Send(mut item) => {
                item.reckon();
                let kib = (item.body.len() >> 10).clamp(1, ROOM_KIB);
                let permits = u32::try_from(kib).unwrap_or(u32::MAX);
                let Ok(permit) = runtime.block_on(Arc::clone(&room).acquire_many_owned(permits)) else { return };
                give.blocking_send((item, permit)).is_ok()
            }
            Due::Record(bad) => match record::malformed(&bad).to_line() {
                Ok(text) => write.blocking_send(Written { text, failed: Some(bad.code) }).is_ok(),
                Err(error) => return stop.stop(Why::Hopeless(format!("an error cannot be written as JSON: {error}"))),
            },
        };
        if !is_taken {
            return;
        }
    }
}

/// Appends results as they come, all that are there at once, and counts them when they are written.
fn writing(mut file: File, mut lines: mpsc::Receiver<Written>, tally: &Tally, stop: &Stop) {
    while let Some(Written { mut text, failed }) = lines.blocking_recv() {
        let mut results = vec![failed];
        while text.len() < 1 << 20
            && let Ok(line) = lines.try_recv()
        {
            text.extend(line.text);
            results.push(line.failed);
        }
        if let Err(error) = file.write_all(&text) {
            return stop.stop(Why::Hopeless(format!("the output cannot be written any further: {error}")));
        }
        results.into_iter().for_each(|failed| tally.written(failed));
    }
    // A pipe or a device cannot be synced, and need not be.
    if let Err(error) = file.sync_all()
        && !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
    {
        stop.stop(Why::Hopeless(format!("the output may not have reached the disk: {error}")));
    }
}
