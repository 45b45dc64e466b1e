//! A batch through the real layers against MockApi, in virtual time: how close to the physical limit it comes, and what
//! it wastes. Used by the bench, which prints the whole grid, and by the tests, which hold a part of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::{task::JoinSet, time::Instant};
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_outbound::{
    backoff_retry::{BackoffRetryLayer, Budget, Repeat, Standard},
    mock::{Faults, Limit, Limits, MockApi, token_cost},
    nz,
    quota_meter::{QuotaMeterLayer, TokenCost},
};

const PATH: &str = "/v1/chat/completions";
const BODY: &str =
    r#"{"model":"gpt-4o-mini","max_tokens":500,"messages":[{"role":"user","content":"Say something."}]}"#;

/// A server with requests a minute, and a batch of ten times as many or, from 10,000 on, five times.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
    pub(crate) workers: usize,
    pub(crate) headers: bool,
    pub(crate) retry_after: bool,
    /// Also enforced as a limit a second.
    pub(crate) hidden: bool,
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
    processes: 1,
};

#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Time taken, by the least that the quota allows.
    pub(crate) ratio: f64,
    /// 429s by items.
    pub(crate) wasted: f64,
    pub(crate) failed: u64,
    /// The 99th percentile of an item's latency by the median, once the quota that was saved up is gone.
    pub(crate) spread: f64,
}

impl Scenario {
    pub(crate) fn items(&self) -> u64 {
        self.requests * if self.requests < 10_000 { 10 } else { 5 }
    }

    /// Only in a runtime whose time is paused.
    ///
    /// # Errors
    /// A request that cannot be made, or a worker that panicked.
    pub(crate) async fn run(self, seed: u64) -> Result<Figures, BoxError> {
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
            .build();
        let stacks: Vec<_> = (0..self.processes as u64)
            .map(|process| {
                ServiceBuilder::new()
                    .layer(
                        BackoffRetryLayer::new()
                            .policy(Standard::new().max_attempts(nz!(6)))
                            .budget(Budget::unlimited())
                            .repeat(Repeat::All)
                            .seed(seed + process),
                    )
                    .layer(QuotaMeterLayer::new().seed(seed + process))
                    .service(api.clone())
            })
            .collect();
        let json = serde_json::from_str(BODY)?;
        let cost = TokenCost(token_cost(PATH, &json, 0).ok_or("no cost")?.try_into()?);
        let start = Instant::now();
        let next = Arc::new(AtomicU64::new(0));
        let mut workers = JoinSet::new();
        for worker in 0..self.workers {
            let (mut stack, next) = (stacks[worker % self.processes].clone(), Arc::clone(&next));
            workers.spawn(async move {
                let (mut failed, mut latencies) = (0, Vec::new());
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
                    let response = (&mut stack).oneshot(request).await;
                    if item > self.requests + self.workers as u64 {
                        latencies.push(begun.elapsed().as_secs_f64());
                    }
                    failed += u64::from(!response.is_ok_and(|response| response.status().is_success()));
                }
                Ok::<_, BoxError>((failed, latencies))
            });
        }
        let (mut failed, mut latencies) = (0, Vec::new());
        while let Some(worker) = workers.join_next().await {
            let (more, slow) = worker??;
            failed += more;
            latencies.extend(slow);
        }
        let limit: Duration = api.physical_limit(self.workers);
        Ok(Figures {
            ratio: start.elapsed().as_secs_f64() / limit.as_secs_f64(),
            wasted: api.counters().rejected as f64 / self.items() as f64,
            failed,
            spread: spread(latencies),
        })
    }
}

fn spread(mut latencies: Vec<f64>) -> f64 {
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies.get((share * latencies.len() as f64) as usize).copied().unwrap_or(f64::NAN);
    at(0.99) / at(0.5)
}
