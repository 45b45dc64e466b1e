//! The stack against MockApi, in virtual time: how close to the physical limit a batch comes, and what it wastes.

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
use tower::{ServiceBuilder, ServiceExt};
use tower_outbound::{
    backoff_retry::{BackoffRetryLayer, Repeat},
    mock::{Faults, Limit, Limits, MockApi, token_cost},
    quota_meter::{QuotaMeterLayer, TokenCost},
};

const PATH: &str = "/v1/chat/completions";
const BODY: &str =
    r#"{"model":"gpt-4o-mini","max_tokens":500,"messages":[{"role":"user","content":"Say something."}]}"#;

/// A server with requests a minute, and a batch of ten times as many or, from 10,000 on, five times.
#[derive(Clone, Copy)]
struct Scenario {
    requests: u64,
    tokens: u64,
    workers: usize,
    headers: bool,
    retry_after: bool,
    /// Also enforced as a limit a second.
    hidden: bool,
    /// Each with a meter of its own.
    processes: usize,
}

const HEADERS: Scenario = Scenario {
    requests: 500,
    tokens: 1_000_000_000,
    workers: 64,
    headers: true,
    retry_after: true,
    hidden: false,
    processes: 1,
};

#[derive(Debug)]
struct Figures {
    /// Time taken, by the least that the quota allows.
    ratio: f64,
    /// 429s by items.
    wasted: f64,
    failed: u64,
}

impl Scenario {
    fn items(&self) -> u64 {
        self.requests * if self.requests < 10_000 { 10 } else { 5 }
    }

    async fn run(self, seed: u64) -> Figures {
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
                    .layer(BackoffRetryLayer::new().repeat(Repeat::All).seed(seed + process))
                    .layer(QuotaMeterLayer::new().seed(seed + process))
                    .service(api.clone())
            })
            .collect();
        let json = serde_json::from_str(BODY).unwrap();
        let cost = TokenCost(token_cost(PATH, &json, 0).unwrap().try_into().unwrap());
        let start = Instant::now();
        let next = Arc::new(AtomicU64::new(0));
        let mut workers = JoinSet::new();
        for worker in 0..self.workers {
            let (mut stack, next) = (stacks[worker % self.processes].clone(), Arc::clone(&next));
            workers.spawn(async move {
                let mut failed = 0;
                while next.fetch_add(1, Ordering::Relaxed) < self.items() {
                    let mut request = Request::post(format!("http://api.test{PATH}"))
                        .header("authorization", "Bearer sk-any")
                        .body(Full::new(Bytes::from_static(BODY.as_bytes())))
                        .unwrap();
                    request.extensions_mut().insert(cost);
                    let response = (&mut stack).oneshot(request).await;
                    failed += u64::from(!response.is_ok_and(|response| response.status().is_success()));
                }
                failed
            });
        }
        let failed = workers.join_all().await.into_iter().sum();
        let limit: Duration = api.physical_limit(self.workers);
        Figures {
            ratio: start.elapsed().as_secs_f64() / limit.as_secs_f64(),
            wasted: api.counters().rejected as f64 / self.items() as f64,
            failed,
        }
    }
}

#[tokio::test(start_paused = true)]
#[ignore]
async fn grid() {
    for (name, scenario) in [
        ("headers", HEADERS),
        ("retry-after", Scenario { headers: false, ..HEADERS }),
        ("nothing", Scenario { headers: false, retry_after: false, ..HEADERS }),
        ("hidden", Scenario { hidden: true, ..HEADERS }),
        ("two", Scenario { processes: 2, ..HEADERS }),
        ("four", Scenario { processes: 4, ..HEADERS }),
        ("two blind", Scenario { headers: false, processes: 2, ..HEADERS }),
    ] {
        for (requests, workers) in [(60, 64), (500, 8), (500, 64), (500, 512), (10_000, 512)] {
            let mut line = format!("{name:12} R{requests:<6} K{workers:<4}");
            for seed in 1..=3 {
                let Figures { ratio, wasted, failed } = Scenario { requests, workers, ..scenario }.run(seed).await;
                line += &format!(" | {ratio:.4} {:6.2} % {failed}", 100.0 * wasted);
            }
            println!("{line}");
        }
    }
    for requests in [60, 500, 10_000] {
        let scenario = Scenario { requests: requests * 10, tokens: requests * 300, workers: 512, ..HEADERS };
        println!("token-bound R{requests}: {:?}", scenario.run(1).await);
    }
}
