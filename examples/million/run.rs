//! The calls: each answered exactly once, by the answer to it, and sent as often as its report says.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use rand::RngExt;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, timeout::TimeoutLayer};
use tower_outbound::{
    ErrorClassifyLayer, Refused,
    backoff_retry::{Backoff, BackoffRetryLayer, Budget, Idempotent, Repeat, RetryError, RetryReport, Standard},
    find_cause, nz,
    provider::OpenAi,
};

use super::{
    bodies::Upload,
    server::{ID, Server, Shared, content},
};

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    /// Calls that were answered: with a response, or with an error.
    pub(crate) answered: u64,
    /// Calls that their caller dropped before there was an answer: over and above.
    pub(crate) dropped: u64,
    /// How those that were answered ended.
    pub(crate) endings: BTreeMap<String, u64>,
    /// How often a request reached the server.
    pub(crate) sent: u64,
    /// Calls for which the server still has a future; none, once all are over.
    pub(crate) in_flight: u64,
    /// Calls that were neither answered nor dropped; none, once all are over.
    pub(crate) open: u64,
    /// What went against the rules.
    pub(crate) wrongs: Vec<String>,
    /// Virtual time.
    pub(crate) took: Duration,
}

/// More attempts than any call makes, sent for free included.
const MAX_RESENDS: u32 = 2;
const MAX_ATTEMPTS: u32 = 4;

struct World {
    shared: Arc<Shared>,
    totals: Mutex<Totals>,
    requests: u64,
    every: u64,
}

/// Makes so many calls, and drops one in a hundred more; `progress` is shown the state of things ten times.
pub(crate) async fn run(
    requests: u64,
    workers: usize,
    seed: u64,
    progress: impl Fn(&Totals) + Send + Sync + 'static,
) -> Totals {
    let shared = Shared::new(seed);
    let start = Instant::now();
    let world = Arc::new(World {
        shared: Arc::clone(&shared),
        totals: Mutex::default(),
        requests,
        every: (requests / 10).max(1),
    });
    let progress = Arc::new(progress);
    // The limit is under the retry: a permit held through a wait would soon stop it all.
    let inner = || {
        ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(256)).layer(TimeoutLayer::new(Duration::from_secs(5)))
    };
    let policy = Standard::new().max_attempts(nz!(4)).backoff(Backoff::exponential(Duration::from_millis(100)));
    let retry = BackoffRetryLayer::new().policy(policy).max_resends(MAX_RESENDS).seed(seed);
    let eager = ServiceBuilder::new()
        .layer(retry.clone().repeat(Repeat::All).budget(Budget::unlimited()))
        .layer(inner())
        .service(Server::new(Arc::clone(&shared)));
    let careful = ServiceBuilder::new()
        .layer(
            retry
                .max_elapsed(Duration::from_secs(3))
                .budget(Budget::share_of_traffic(0.2).floor(1.0))
                .idempotency_keys(),
        )
        .layer(ErrorClassifyLayer::new(OpenAi))
        .layer(inner())
        .service(Server::new(Arc::clone(&shared)));

    let mut tasks = JoinSet::new();
    for worker in 0..workers {
        let (world, progress) = (Arc::clone(&world), Arc::clone(&progress));
        match worker % 2 {
            0 => tasks.spawn(work(world, eager.clone(), worker as u64, workers as u64, progress)),
            _ => tasks.spawn(work(world, careful.clone(), worker as u64, workers as u64, progress)),
        };
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            shared.books().wrong(format_args!("a worker panicked: {error}"));
        }
    }
    let mut totals = world.state();
    totals.took = start.elapsed();
    totals
}

impl World {
    fn state(&self) -> Totals {
        let books = self.shared.books();
        let totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let open = books.open.len() as u64;
        Totals { sent: books.sent, in_flight: books.in_flight, open, wrongs: books.wrongs.clone(), ..totals }
    }
}

/// Makes every `workers`th call.
async fn work<S, RB>(world: Arc<World>, service: S, worker: u64, workers: u64, progress: Arc<impl Fn(&Totals)>)
where
    S: Service<Request<Upload>, Response = Response<RB>, Error = BoxError> + Clone,
    RB: Body<Data = Bytes>,
{
    let mut number = worker;
    while number < world.requests {
        let request = world.begin(number);
        let ending = answer(&world, service.clone(), request, number).await;
        world.shared.books().open.remove(&number);
        let answered = {
            let mut totals = world.totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.answered += 1;
            *totals.endings.entry(ending).or_default() += 1;
            totals.answered
        };
        if answered.is_multiple_of(world.every) {
            progress(&world.state());
        }
        if number.is_multiple_of(100) {
            let id = u64::MAX - number;
            let request = world.begin(id);
            let patience = Duration::from_millis(world.shared.dice().random_range(0..2000));
            let _ = timeout(patience, service.clone().oneshot(request)).await;
            world.shared.books().open.remove(&id);
            world.totals.lock().unwrap_or_else(PoisonError::into_inner).dropped += 1;
        }
        number += workers;
    }
}

impl World {
    fn begin(&self, number: u64) -> Request<Upload> {
        let way = self.shared.dice().random_range(0..32);
        self.shared.books().open.insert(number, 0);
        let mut request = Request::new(Upload::new(content(number), way));
        *request.method_mut() = if way % 4 == 0 { Method::PUT } else { Method::POST };
        request.headers_mut().insert(ID, number.into());
        if way == 5 {
            request.extensions_mut().insert(Idempotent(false));
        }
        request
    }
}

/// Makes one call, and says in a word how it ended.
async fn answer<S, RB>(world: &World, mut service: S, request: Request<Upload>, number: u64) -> String
where
    S: Service<Request<Upload>, Response = Response<RB>, Error = BoxError> + Clone,
    RB: Body<Data = Bytes>,
{
    if let Err(error) = service.ready().await {
        drop(error);
        return "error: never ready".into();
    }
    let result = service.call(request).await;
    let sent = world.shared.books().open.get(&number).copied().unwrap_or(u32::MAX);
    let report = match &result {
        Ok(response) => response.extensions().get::<RetryReport>().cloned(),
        Err(error) => find_cause::<RetryError>(&**error).map(|error| error.report().clone()),
    };
    let stopped = report.as_ref().and_then(|report| report.stopped);
    let refused = result.as_ref().is_err_and(|error| find_cause::<Refused>(&**error).is_some());
    let told = report.map_or(u32::from(!refused), |report| report.attempts + report.resends);
    if told != sent || told > MAX_ATTEMPTS + MAX_RESENDS {
        world.shared.books().wrong(format_args!("{number}: sent {sent} times, reported were {told}"));
    }
    let why = stopped.map_or_else(String::new, |reason| format!(": {reason}"));
    match result {
        Ok(response) => {
            let (head, body) = response.into_parts();
            if head.headers.get(ID).and_then(|id| id.to_str().ok()) != Some(&*number.to_string()) {
                world.shared.books().wrong(format_args!("{number} got another's answer"));
            }
            let whole = if body.collect().await.is_ok() { "" } else { ", its body broken" };
            match (head.status.is_success(), sent) {
                (true, 1) => format!("200 at once{whole}"),
                (true, _) => format!("200 after retries{whole}"),
                (false, _) => format!("failed response{why}"),
            }
        }
        Err(_) if refused => "error: refused".into(),
        Err(_) => format!("error{why}"),
    }
}
