//! A batch through the real layers against MockApi, in virtual time: how close to the physical limit it comes, and what
//! it wastes. Used by the bench, which prints the whole grid, by the tests, which hold a part of it, and beside the peers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_outbound::{
    backoff_retry::{BackoffRetry, BackoffRetryLayer, Budget, Repeat, Standard},
    mock::{Counters, Faults, Limit, Limits, MockApi, token_cost},
    nz,
    quota_meter::{QuotaMeter, QuotaMeterLayer, TokenCost},
};

const PATH: &str = "/v1/chat/completions";
const BODY: &str =
    r#"{"model":"gpt-4o-mini","max_tokens":500,"messages":[{"role":"user","content":"Say something."}]}"#;

/// So many tokens a minute for each item that a minute brings, where tokens are what is short.
pub(crate) const TOKENS: u64 = 300;

/// A server with requests a minute, and a batch of ten times what a minute brings or, from 10,000 on, five times.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
    pub(crate) workers: usize,
    pub(crate) headers: bool,
    pub(crate) retry_after: bool,
    /// Also enforced as a limit a second.
    pub(crate) hidden: bool,
    /// A 429 takes a request, too.
    pub(crate) rejected_count: bool,
    /// Each with a meter of its own.
    pub(crate) processes: usize,
}

pub(crate) const HEADERS: Scenario = Scenario {
    requests: 500,
    tokens: 1_000_000_000,
    workers: 64,
    headers: true,
    retry_after: true,
    hidden: false,
    rejected_count: true,
    processes: 1,
};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// Time taken, by the least that the quota allows; infinite for a batch that was given up.
    pub(crate) ratio: f64,
    /// 429s by items.
    pub(crate) wasted: f64,
    pub(crate) failed: u64,
    /// The 99th percentile of an item's latency by the median, once the quota that was saved up is gone.
    pub(crate) spread: f64,
}

impl Figures {
    #[allow(dead_code, reason = "not all who use this file compare")]
    pub(crate) fn worst(self, other: Self) -> Self {
        Self {
            ratio: self.ratio.max(other.ratio),
            wasted: self.wasted.max(other.wasted),
            failed: self.failed.max(other.failed),
            spread: self.spread.max(other.spread),
        }
    }
}

impl Scenario {
    pub(crate) fn items(&self) -> u64 {
        let minute = self.requests.min(self.tokens / TOKENS);
        minute * if minute < 10_000 { 10 } else { 5 }
    }

    /// Only in a runtime whose time is paused.
    ///
    /// # Errors
    /// A request that cannot be made, or a worker that panicked.
    pub(crate) async fn run(self, seed: u64) -> Result<Figures, BoxError> {
        self.run_with(seed, stack).await
    }

    /// The same through any client, made for each process of the server and a seed.
    pub(crate) async fn run_with<S, RB>(
        self,
        seed: u64,
        client: impl Fn(MockApi, u64) -> S,
    ) -> Result<Figures, BoxError>
    where
        S: Service<Request<Full<Bytes>>, Response = Response<RB>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Send,
        RB: Send,
    {
        let mut limits = Limits::per_minute(self.requests, self.tokens);
        if self.hidden {
            limits = limits.hidden(Limit::per_second(self.requests.div_ceil(60)));
        }
        let api = MockApi::builder()
            .seed(seed)
            .limits(limits)
            .faults(Faults::none().server_error(0.01))
            .realistic_latency()
            .cost_error(0.1)
            .rate_headers(self.headers)
            .retry_after(self.retry_after)
            .rejected_count(self.rejected_count)
            .record_cap(0)
            .build();
        let clients: Vec<_> = (0..self.processes as u64).map(|process| client(api.clone(), seed + process)).collect();
        let cost = cost()?;
        let start = Instant::now();
        let (next, succeeded) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut workers = JoinSet::new();
        for worker in 0..self.workers {
            let mut client = clients[worker % self.processes].clone();
            let (next, succeeded) = (Arc::clone(&next), Arc::clone(&succeeded));
            workers.spawn(async move {
                let mut latencies = Vec::new();
                loop {
                    let item = next.fetch_add(1, Ordering::Relaxed);
                    if item >= self.items() {
                        break;
                    }
                    let mut request = Request::post(format!("http://api.test{PATH}"))
                        .header("authorization", "Bearer sk-any")
                        .body(Full::new(Bytes::from_static(BODY.as_bytes())))?;
                    request.extensions_mut().insert(cost);
                    let begun = Instant::now();
                    let response = (&mut client).oneshot(request).await;
                    if item > self.requests + self.workers as u64 {
                        latencies.push(begun.elapsed().as_secs_f64());
                    }
                    if response.is_ok_and(|response| response.status().is_success()) {
                        succeeded.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok::<_, BoxError>(latencies)
            });
        }
        let mut latencies = Vec::new();
        let finished = async {
            while let Some(worker) = workers.join_next().await {
                latencies.extend(worker??);
            }
            Ok::<_, BoxError>(true)
        };
        let finished = tokio::select! {
            finished = finished => finished?,
            () = self.hopeless(&api, cost) => false,
        };
        let limit: Duration = api.physical_limit(self.workers);
        Ok(Figures {
            ratio: if finished { start.elapsed().as_secs_f64() / limit.as_secs_f64() } else { f64::INFINITY },
            wasted: api.counters().rejected as f64 / self.items() as f64,
            failed: self.items() - succeeded.load(Ordering::Relaxed),
            spread: spread(latencies),
        })
    }

    /// Comes when twelve times the least time has passed, or a hundred calls have been made for each item.
    async fn hopeless(&self, api: &MockApi, TokenCost(cost): TokenCost) {
        let (mut expected, admitted) = (Counters::default(), self.items() * 100 / 99);
        (expected.admitted, expected.tokens) = (admitted, admitted * u64::from(cost));
        expected.latency = Duration::from_millis(1050 * admitted);
        let longest = 12 * expected.physical_limit(&api.limits(), self.workers);
        let start = Instant::now();
        while start.elapsed() < longest && api.counters().calls < 100 * self.items() {
            sleep(Duration::from_secs(1)).await;
        }
    }
}

/// The layers whose figures these are.
pub(crate) fn stack<S: Clone>(api: S, seed: u64) -> BackoffRetry<QuotaMeter<S>> {
    ServiceBuilder::new()
        .layer(
            BackoffRetryLayer::new()
                .policy(Standard::new().max_attempts(nz!(6)))
                .budget(Budget::unlimited())
                .repeat(Repeat::All)
                .seed(seed),
        )
        .layer(QuotaMeterLayer::new().seed(seed))
        .service(api)
}

/// What a request is counted for, give or take a tenth.
pub(crate) fn cost() -> Result<TokenCost, BoxError> {
    let json = serde_json::from_str(BODY)?;
    Ok(TokenCost(token_cost(PATH, &json, 0).ok_or("no cost")?.try_into()?))
}

fn spread(mut latencies: Vec<f64>) -> f64 {
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies.get((share * latencies.len() as f64) as usize).copied().unwrap_or(f64::NAN);
    at(0.99) / at(0.5)
}
