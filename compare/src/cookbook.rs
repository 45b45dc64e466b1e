//! The OpenAI cookbook's `api_request_parallel_processor.py`, as a service.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};
use tower::{BoxError, Service, ServiceExt};

/// Its default.
const ATTEMPTS: u32 = 5;
/// How long nothing is sent after a 429.
const PAUSE: Duration = Duration::from_secs(15);
/// It looks at its work once in so long, and sends one call at most.
const LOOP: Duration = Duration::from_millis(1);

/// One loop that hands out calls by what it believes is left of the limits typed in; a call that failed goes back to
/// it at once, before any new one, five attempts in all, and a 429 makes it pause for 15 s.
///
/// Two things are kinder than there: where it looks for a 429 in the error's `code`, which OpenAI does not put there,
/// this looks at the status; and a call beyond the caller's workers, which there would wait for a connection with its
/// share of the quota in hand, has not taken any.
#[derive(Clone, Debug)]
pub struct Cookbook<B> {
    fresh: mpsc::UnboundedSender<Job<B>>,
}

#[derive(Debug)]
struct Job<B> {
    request: Request<B>,
    attempts_left: u32,
    answer: oneshot::Sender<Response<()>>,
}

impl<B: Clone + Send + 'static> Cookbook<B> {
    /// Starts the loop; only in a runtime. `cost` is the tokens that it counts for a request.
    pub fn new<S, RB: 'static>(service: S, requests_per_minute: f64, tokens_per_minute: f64, cost: f64) -> Self
    where
        S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Sync,
    {
        let (fresh, jobs) = mpsc::unbounded_channel();
        let capacity = [(requests_per_minute, 1.0), (tokens_per_minute, cost)].map(|(limit, cost)| Capacity {
            limit,
            left: limit,
            cost,
        });
        tokio::spawn(hand_out(service, jobs, capacity));
        Self { fresh }
    }
}

impl<B: Send + 'static> Service<Request<B>> for Cookbook<B> {
    type Response = Response<()>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (answer, answered) = oneshot::channel();
        let sent = self.fresh.send(Job { request, attempts_left: ATTEMPTS, answer });
        Box::pin(async move {
            sent.map_err(|_| "the loop has ended")?;
            Ok(answered.await?)
        })
    }
}

/// What it believes is left of one limit.
#[derive(Clone, Copy)]
struct Capacity {
    limit: f64,
    left: f64,
    cost: f64,
}

impl Capacity {
    fn refill(&mut self, passed: Duration) {
        self.left = (self.left + self.limit * passed.as_secs_f64() / 60.0).min(self.limit);
    }

    fn time_until_it_fits(&self) -> Duration {
        Duration::from_secs_f64((self.cost - self.left).max(0.0) * 60.0 / self.limit)
    }
}

async fn hand_out<S, B, RB: 'static>(
    service: S,
    mut fresh: mpsc::UnboundedReceiver<Job<B>>,
    mut capacity: [Capacity; 2],
) where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Clone + Send + Sync + 'static,
{
    let (again, mut retries) = mpsc::unbounded_channel();
    let start = Instant::now();
    // Of the last 429, in milliseconds from the start; 0 is none.
    let refused = Arc::new(AtomicU64::new(0));
    let mut updated = start;
    loop {
        let mut job = tokio::select! {
            biased;
            Some(job) = retries.recv() => job,
            job = fresh.recv() => match job { Some(job) => job, None => return },
        };
        loop {
            let now = Instant::now();
            capacity.iter_mut().for_each(|capacity| capacity.refill(now - updated));
            updated = now;
            // Its turns in which there is too little are passed over in one: nothing happens in them.
            let wait = capacity.iter().map(Capacity::time_until_it_fits).max().unwrap_or_default();
            if wait.is_zero() {
                break;
            }
            sleep(wait.max(LOOP)).await;
            pause(start, &refused).await;
        }
        capacity.iter_mut().for_each(|capacity| capacity.left -= capacity.cost);
        job.attempts_left -= 1;
        tokio::spawn(call(service.clone(), job, again.clone(), start, Arc::clone(&refused)));
        sleep(LOOP).await;
        pause(start, &refused).await;
    }
}

/// Until 15 s after the last 429 that was known when it began to wait.
async fn pause(start: Instant, refused: &AtomicU64) {
    match refused.load(Ordering::Relaxed) {
        0 => {}
        at => sleep_until(start + Duration::from_millis(at) + PAUSE).await,
    }
}

async fn call<S, B, RB>(
    service: S,
    job: Job<B>,
    again: mpsc::UnboundedSender<Job<B>>,
    start: Instant,
    refused: Arc<AtomicU64>,
) where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Clone + Send + Sync + 'static,
{
    let result = service.oneshot(job.request.clone()).await;
    let status = result.as_ref().map(Response::status);
    if status.is_ok_and(|status| status == http::StatusCode::TOO_MANY_REQUESTS) {
        refused.store(start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
    let is_answered = status.is_ok_and(|status| status.is_success());
    if !is_answered && job.attempts_left > 0 {
        // Its loop lives as long as anyone waits for an answer.
        let _ = again.send(job);
        return;
    }
    if let Ok(response) = result {
        // The caller may have gone.
        let _ = job.answer.send(response.map(|_| ()));
    }
}
