//! What no client can better that does not see the other processes' lines: one line for each process, first come first
//! served, that knows its equal part of the server's bucket exactly, and in which a call that failed goes again at once
//! and before all others.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::{
    sync::{Notify, oneshot},
    time::{Duration, Instant, sleep},
};
use tower::{BoxError, Service};
use tower_outbound::mock::{MockApi, MockBody};

use crate::scenario::{Figures, Scenario, cost};

/// The longest that a call is on its way to the server, and a little more, in seconds.
const WAY: f64 = 0.036;

/// The batch, sent so.
///
/// # Errors
/// Those of [`Scenario::run`].
pub(crate) async fn run(scenario: Scenario, seed: u64) -> Result<Figures, BoxError> {
    let by_tokens = scenario.tokens as f64 / f64::from(cost()?.0);
    let rate = by_tokens.min(scenario.requests as f64) / 60.0 / scenario.processes as f64;
    // What is hidden can only make it worse.
    let open = Scenario { hidden: false, ..scenario };
    open.run_with(seed, |api, _| Line::new(api, rate)).await
}

#[derive(Clone)]
struct Line {
    api: MockApi,
    waiting: Arc<Mutex<Waiting>>,
    come: Arc<Notify>,
}

#[derive(Default)]
struct Waiting {
    calls: u64,
    first_of: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Line {
    fn new(api: MockApi, rate: f64) -> Self {
        let line = Self { api, waiting: Arc::default(), come: Arc::default() };
        tokio::spawn(line.clone().let_go(rate));
        line
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn let_go(self, rate: f64) {
        let full = rate * (60.0 - WAY);
        let (mut level, mut at) = (full, Instant::now());
        loop {
            let now = Instant::now();
            level = (level + rate * (now - at).as_secs_f64()).min(full);
            at = now;
            if self.waiting().first_of.is_empty() {
                self.come.notified().await;
            } else if level < 1.0 {
                // Never without an end: a timer ticks in milliseconds.
                sleep(Duration::from_secs_f64((1.0 - level) / rate).max(Duration::from_millis(1))).await;
            } else if let Some((_, first)) = self.waiting().first_of.pop_first() {
                level -= 1.0;
                // The caller may have gone.
                let _ = first.send(());
            }
        }
    }
}

impl Service<Request<Full<Bytes>>> for Line {
    type Response = Response<MockBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let mut line = self.clone();
        let number = {
            let mut waiting = self.waiting();
            waiting.calls += 1;
            waiting.calls
        };
        Box::pin(async move {
            loop {
                let (turn, turns) = oneshot::channel();
                line.waiting().first_of.insert(number, turn);
                line.come.notify_one();
                turns.await?;
                let response = line.api.call(request.clone()).await?;
                if response.status().is_success() {
                    return Ok(response);
                }
            }
        })
    }
}
