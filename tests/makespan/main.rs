//! The whole stack against MockApi, in virtual time: how close to the physical limit a batch comes, and what it wastes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::time::Instant;
use tower::{ServiceBuilder, ServiceExt};
use tower_outbound::{
    backoff_retry::{BackoffRetryLayer, Repeat},
    mock::{Faults, Limits, MockApi},
    quota_meter::{QuotaMeterLayer, TokenCost},
};

struct Run {
    ratio: f64,
    rejected: u64,
    failed: u32,
    elapsed: Duration,
}

async fn run(
    rpm: u64,
    tpm: u64,
    workers: usize,
    items: u32,
    seed: u64,
    body: &'static str,
    headers: bool,
    retry_after: bool,
) -> Run {
    let api = MockApi::builder()
        .seed(seed)
        .limits(Limits::per_minute(rpm, tpm))
        .faults(Faults::none().server_error(0.01))
        .realistic_latency()
        .cost_error(0.1)
        .rate_headers(headers)
        .retry_after(retry_after)
        .build();
    let meter = QuotaMeterLayer::new().seed(seed);
    let stack = ServiceBuilder::new()
        .layer(BackoffRetryLayer::new().repeat(Repeat::All).seed(seed))
        .layer(meter.clone())
        .service(api.clone());
    let start = Instant::now();
    let next = Arc::new(AtomicU32::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..workers {
        let (mut stack, next) = (stack.clone(), next.clone());
        tasks.spawn(async move {
            let mut failed = 0;
            while next.fetch_add(1, Ordering::Relaxed) < items {
                let mut request = Request::post("http://api.test/v1/chat/completions")
                    .header("authorization", "Bearer sk-a")
                    .header("content-type", "application/json")
                    .body(Full::new(Bytes::from_static(body.as_bytes())))
                    .unwrap();
                let value = serde_json::from_str(body).unwrap();
                let cost = tower_outbound::mock::token_cost("/v1/chat/completions", &value, 16).unwrap();
                request.extensions_mut().insert(TokenCost(cost as u32));
                let response = (&mut stack).oneshot(request).await;
                if !response.is_ok_and(|r| r.status().is_success()) {
                    failed += 1;
                }
            }
            failed
        });
    }
    let mut failed = 0;
    while let Some(n) = tasks.join_next().await {
        failed += n.unwrap();
    }
    let elapsed = start.elapsed();
    let limit = api.physical_limit(workers);
    Run { ratio: elapsed.as_secs_f64() / limit.as_secs_f64(), rejected: api.counters().rejected, failed, elapsed }
}

const BODY: &str = r#"{"model":"gpt-4o-mini","max_tokens":500,"messages":[{"role":"user","content":"hello world, say something long"}]}"#;

#[tokio::test(start_paused = true)]
async fn grid() {
    for (headers, ra) in [(true, true), (false, true), (false, false)] {
        for (rpm, items) in [(60, 600), (500, 5000), (10_000, 50_000)] {
            for workers in [8, 64, 512] {
                if rpm == 10_000 && workers < 512 {
                    continue;
                }
                let r = run(rpm, 100_000_000, workers, items, 1, BODY, headers, ra).await;
                println!(
                    "headers {headers} ra {ra} R{rpm} K{workers}: {:.4} 429s {} ({:.3} %) failed {} {:?}",
                    r.ratio,
                    r.rejected,
                    100.0 * r.rejected as f64 / f64::from(items),
                    r.failed,
                    r.elapsed
                );
            }
        }
    }
    for (rpm, items) in [(60, 600), (500, 5000), (10_000, 50_000)] {
        let r = run(rpm * 10, rpm * 300, 512, items, 1, BODY, true, true).await;
        println!("token-bound R{rpm}: {:.4} 429s {} failed {} {:?}", r.ratio, r.rejected, r.failed, r.elapsed);
    }
}
