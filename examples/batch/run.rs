//! One run over the batch: a reader, the workers, a writer.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::{BoxError, Service, ServiceExt};
use tower_outbound::{ApiError, ErrorKind, Refused, TokenCost, failure, find_cause, quota_meter::Refusal};

use crate::{
    input::{Item, Source},
    output::{self, Answer, Failure, Ledger, Record, Seen},
    wire::{Caller, Out},
};

/// Request bodies in memory at once, in KiB.
const ROOM_KIB: usize = 64 << 10;

/// What is known of a run while it goes on, and after it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Items that have a result, those of earlier runs included.
    pub(crate) ok: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Items whose result was there already.
    pub(crate) skipped: AtomicU64,
    /// Responses in this run, of whatever status.
    responses: AtomicU64,
    /// Tokens of the items answered in this run.
    pub(crate) tokens: AtomicU64,
    kinds: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    fn fail(&self, kind: &str) {
        self.failed.fetch_add(1, Relaxed);
        *self.kinds.lock().unwrap_or_else(PoisonError::into_inner).entry(kind.to_owned()).or_default() += 1;
    }

    pub(crate) fn done(&self) -> u64 {
        self.ok.load(Relaxed) + self.failed.load(Relaxed)
    }

    /// The items that failed in this run, by kind.
    pub(crate) fn kinds(&self) -> BTreeMap<String, u64> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Ends a run before its end: nothing new is sent, and what is out may come back.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    why: Arc<OnceLock<Why>>,
    told: watch::Sender<bool>,
}

/// Why a run ended early.
#[derive(Clone, Debug)]
pub(crate) enum Why {
    Interrupted,
    /// No further call can succeed, or no further result can be written.
    Hopeless(String),
}

impl Stop {
    pub(crate) fn new() -> Self {
        Self { why: Arc::default(), told: watch::Sender::new(false) }
    }

    pub(crate) fn stop(&self, why: Why) {
        // The first reason is the one that counts.
        let _ = self.why.set(why);
        self.told.send_replace(true);
    }

    pub(crate) fn why(&self) -> Option<&Why> {
        self.why.get()
    }

    fn is_stopped(&self) -> bool {
        *self.told.borrow()
    }

    async fn stopped(&self) {
        // It cannot be closed: the sender is here.
        let _ = self.told.subscribe().wait_for(|told| *told).await;
    }
}

/// Where the run reads from, where it writes to, and how many workers it has.
pub(crate) struct Plan {
    pub(crate) source: Source,
    pub(crate) file: File,
    pub(crate) ledger: Ledger,
    pub(crate) base: String,
    pub(crate) workers: usize,
}

/// An item and the memory it was given.
type Job = (Item, OwnedSemaphorePermit);

/// Runs the batch through the service. Returns the time from the first item to the last result.
pub(crate) async fn run(plan: Plan, service: Caller, tally: Arc<Tally>, stop: Stop) -> Duration {
    let start = Instant::now();
    tally.ok.store(plan.ledger.ok, Relaxed);
    tally.failed.store(plan.ledger.failed, Relaxed);

    let (write, lines) = mpsc::channel(256);
    let writer = tokio::task::spawn_blocking({
        let stop = stop.clone();
        move || writing(plan.file, lines, &stop)
    });
    let (give, jobs) = mpsc::channel::<Job>(plan.workers);
    let reader = tokio::task::spawn_blocking({
        let (write, tally, stop) = (write.clone(), Arc::clone(&tally), stop.clone());
        move || reading(&plan.source, plan.ledger, &give, &write, &tally, &stop)
    });

    let jobs = Arc::new(AsyncMutex::new(jobs));
    let base: Arc<str> = plan.base.into();
    let mut workers = JoinSet::new();
    for _ in 0..plan.workers {
        let worker = Worker {
            service: service.clone(),
            base: Arc::clone(&base),
            write: write.clone(),
            tally: Arc::clone(&tally),
            stop: stop.clone(),
        };
        workers.spawn(worker.work(Arc::clone(&jobs)));
    }
    drop(write);
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
fn reading(
    source: &Source,
    mut ledger: Ledger,
    give: &mpsc::Sender<Job>,
    write: &mpsc::Sender<Vec<u8>>,
    tally: &Tally,
    stop: &Stop,
) {
    let room = Arc::new(Semaphore::new(ROOM_KIB));
    let runtime = tokio::runtime::Handle::current();
    let items = match source.items() {
        Ok(items) => items,
        Err(error) => return stop.stop(Why::Hopeless(format!("the input cannot be read: {error}"))),
    };
    for item in items {
        if stop.is_stopped() {
            return;
        }
        let item = match item {
            Ok(Ok(item)) => match ledger.see(&item.custom_id, item.line) {
                Seen::New => Ok(item),
                Seen::Recorded => {
                    tally.skipped.fetch_add(1, Relaxed);
                    continue;
                }
                Seen::Twice(first) => {
                    let message = format!("custom_id {:?} was used before, on line {first}", item.custom_id);
                    Err(crate::input::Malformed {
                        line: item.line,
                        custom_id: Some(item.custom_id),
                        code: "duplicate_custom_id",
                        message,
                    })
                }
            },
            Ok(Err(bad)) => Err(bad),
            Err(error) => return stop.stop(Why::Hopeless(format!("the input cannot be read any further: {error}"))),
        };
        match item {
            Ok(item) => {
                let kib = (item.body.len() >> 10).clamp(1, ROOM_KIB);
                let permits = u32::try_from(kib).unwrap_or(u32::MAX);
                let Ok(permit) = runtime.block_on(Arc::clone(&room).acquire_many_owned(permits)) else { return };
                if give.blocking_send((item, permit)).is_err() {
                    return;
                }
            }
            Err(bad) => {
                // What has an id that is not yet taken is known by it, the rest by its line.
                let seen = match &bad.custom_id {
                    Some(id) if bad.code != "duplicate_custom_id" => match ledger.see(id, bad.line) {
                        Seen::Recorded => true,
                        Seen::New => false,
                        Seen::Twice(_) => ledger.has_line(bad.line),
                    },
                    _ => ledger.has_line(bad.line),
                };
                if seen {
                    tally.skipped.fetch_add(1, Relaxed);
                } else if let Ok(line) = output::malformed(&bad).to_line()
                    && write.blocking_send(line).is_ok()
                {
                    tally.fail(bad.code);
                }
            }
        }
    }
}

/// Appends results as they come, all that are there at once.
fn writing(mut file: File, mut lines: mpsc::Receiver<Vec<u8>>, stop: &Stop) {
    while let Some(mut text) = lines.blocking_recv() {
        while text.len() < 1 << 20
            && let Ok(line) = lines.try_recv()
        {
            text.extend(line);
        }
        if let Err(error) = file.write_all(&text) {
            return stop.stop(Why::Hopeless(format!("the output cannot be written any further: {error}")));
        }
    }
    if let Err(error) = file.sync_all() {
        // A pipe or a device cannot be synced, and need not be.
        if error.kind() == std::io::ErrorKind::StorageFull {
            stop.stop(Why::Hopeless(format!("the output could not be written to the disk: {error}")));
        }
    }
}

struct Worker {
    service: Caller,
    base: Arc<str>,
    write: mpsc::Sender<Vec<u8>>,
    tally: Arc<Tally>,
    stop: Stop,
}

impl Worker {
    async fn work(mut self, jobs: Arc<AsyncMutex<mpsc::Receiver<Job>>>) {
        loop {
            let next = async { jobs.lock().await.recv().await };
            let (item, _room) = tokio::select! {
                biased;
                () = self.stop.stopped() => return,
                job = next => match job {
                    Some(job) => job,
                    None => return,
                },
            };
            if !self.item(&item).await {
                return;
            }
        }
    }

    /// Sends one item and records what came of it. Says whether to go on.
    async fn item(&mut self, item: &Item) -> bool {
        let out = Out::default();
        let mut request = match Request::post(format!("{}{}", self.base, item.path))
            .header("content-type", "application/json")
            .body(Full::new(item.body.clone()))
        {
            Ok(request) => request,
            Err(error) => return self.failed(item, "invalid_url", &error.to_string()).await,
        };
        request.extensions_mut().insert(out.clone());
        if let Some(tokens) = item.tokens {
            request.extensions_mut().insert(TokenCost(u32::try_from(tokens).unwrap_or(u32::MAX)));
        }

        let Some(result) = self.send(request, &out).await else { return false };
        if result.is_ok() {
            self.tally.responses.fetch_add(1, Relaxed);
        }
        let failure = failure(&result);
        if let Some(why) = failure.as_ref().and_then(|failure| hopeless(&result, failure)) {
            self.stop.stop(Why::Hopeless(why));
            return false;
        }
        match (result, failure) {
            (Ok(response), failure) => {
                if failure.is_none() {
                    self.tally.tokens.fetch_add(item.tokens.unwrap_or(0), Relaxed);
                }
                self.answered(item, &response, failure).await
            }
            (Err(error), Some(failure))
                if !failure.may_have_reached_server() && self.tally.responses.load(Relaxed) == 0 =>
            {
                // A wrong address, most likely: no item's fault.
                self.stop.stop(Why::Hopeless(format!("the API cannot be reached: {}", with_causes(&*error))));
                false
            }
            (Err(error), failure) => {
                let kind = match find_cause::<Refusal>(&*error) {
                    Some(Refusal::TooLarge { .. }) => ErrorKind::RequestTooLarge,
                    _ => failure.map_or(ErrorKind::Unknown, |failure| failure.kind()),
                };
                self.failed(item, kind.as_str(), &with_causes(&*error)).await
            }
        }
    }

    /// The whole answer; `None` if the run was stopped and the request was not out.
    async fn send(&mut self, request: Request<Full<Bytes>>, out: &Out) -> Option<Result<Response<Bytes>, BoxError>> {
        let service = &mut self.service;
        let call = async move {
            let (head, body) = service.ready().await?.call(request).await?.into_parts();
            Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
        };
        tokio::pin!(call);
        tokio::select! {
            result = &mut call => return Some(result),
            () = self.stop.stopped() => {}
        }
        // What is out is paid for, and may come back; what waits for quota or for a retry is left.
        while out.is_out() {
            tokio::select! {
                result = &mut call => return Some(result),
                () = sleep(Duration::from_millis(20)) => {}
            }
        }
        None
    }

    async fn answered(&mut self, item: &Item, response: &Response<Bytes>, failure: Option<ApiError>) -> bool {
        let kind = failure.as_ref().map(|failure| failure.kind().as_str());
        let record = Record {
            id: output::record_id(&item.custom_id, item.line),
            custom_id: Some(&item.custom_id),
            response: Some(Answer {
                status_code: response.status().as_u16(),
                request_id: response.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or(""),
                body: output::on_one_line(response.body()),
            }),
            error: failure.as_ref().map(|failure| Failure {
                code: failure.kind().as_str(),
                message: failure.message().unwrap_or("see the response"),
                line: item.line,
            }),
        };
        self.record(&record, kind).await
    }

    async fn failed(&mut self, item: &Item, code: &str, message: &str) -> bool {
        let record = Record {
            id: output::record_id(&item.custom_id, item.line),
            custom_id: Some(&item.custom_id),
            response: None,
            error: Some(Failure { code, message, line: item.line }),
        };
        self.record(&record, Some(code)).await
    }

    async fn record(&mut self, record: &Record<'_>, failed: Option<&str>) -> bool {
        let line = match record.to_line() {
            Ok(line) => line,
            Err(error) => {
                self.stop.stop(Why::Hopeless(format!("a result cannot be written as JSON: {error}")));
                return false;
            }
        };
        // It fails when the writer has ended, which has then said why.
        if self.write.send(line).await.is_err() {
            return false;
        }
        match failed {
            Some(kind) => self.tally.fail(kind),
            None => {
                self.tally.ok.fetch_add(1, Relaxed);
            }
        }
        true
    }
}

/// Why no further call can succeed, if that is what came of one: a key or a quota that is no more.
fn hopeless(result: &Result<Response<Bytes>, BoxError>, failure: &ApiError) -> Option<String> {
    let is_ended = matches!(failure.kind(), ErrorKind::Authentication | ErrorKind::QuotaExhausted);
    match result {
        Ok(response) => is_ended
            .then(|| format!("the API answered {}: {}", response.status(), failure.message().unwrap_or("no word why"))),
        Err(error) => {
            let is_of_item = matches!(find_cause::<Refusal>(&**error), Some(Refusal::TooLarge { .. }));
            let is_refused = find_cause::<Refused>(&**error).is_some();
            (is_ended || is_refused && !is_of_item).then(|| with_causes(&**error))
        }
    }
}

fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |error| error.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}
