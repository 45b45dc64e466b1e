//! Where in time a cell loses, and each 429.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::time::Instant;
use tower::{BoxError, Service};
use tower_outbound::mock::MockApi;

use crate::scenario::{Figures, Scenario, stack};

/// Seconds to a line.
const STEP: f64 = 5.0;

struct Event {
    process: u64,
    left: f64,
    ended: f64,
    status: u16,
    remaining: Option<f64>,
}

/// Runs it, and prints what happened.
///
/// # Errors
/// Those of [`Scenario::run`].
pub(crate) async fn run(scenario: Scenario, seed: u64) -> Result<Figures, BoxError> {
    let events = Arc::new(Mutex::new(Vec::<Event>::new()));
    let start = Instant::now();
    let log = Arc::clone(&events);
    let figures = scenario
        .run_with(seed, move |api: MockApi, own: u64| {
            let process = own - seed;
            let log = Arc::clone(&log);
            let logged = tower::service_fn(move |request: Request<Full<Bytes>>| {
                let mut api = api.clone();
                let log = Arc::clone(&log);
                async move {
                    let left = start.elapsed().as_secs_f64();
                    let response = api.call(request).await;
                    let header = |name: &str| {
                        let value = response.as_ref().ok()?.headers().get(name)?;
                        value.to_str().ok()?.parse().ok()
                    };
                    let event = Event {
                        process,
                        left,
                        ended: start.elapsed().as_secs_f64(),
                        status: response.as_ref().map_or(0, |response| response.status().as_u16()),
                        remaining: header("x-ratelimit-remaining-requests"),
                    };
                    log.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                    response
                }
            });
            stack(logged, own)
        })
        .await?;
    let events = events.lock().unwrap_or_else(PoisonError::into_inner);
    // The server's bucket, gone through once more: what it held, and what it lost for being full.
    let mut order: Vec<&Event> = events.iter().collect();
    order.sort_by(|a, b| a.left.total_cmp(&b.left));
    let (refill, cap) = (scenario.requests as f64 / 60.0, scenario.requests as f64);
    let (mut level, mut at, mut overflow) = (cap, 0.0, 0.0);
    let mut levels: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
    for event in order {
        let now = event.left + 0.025;
        level += refill * (now - at);
        if level > cap {
            overflow += level - cap;
            level = cap;
        }
        at = now;
        level = f64::max(level - 1.0, 0.0);
        levels.insert((event.left / STEP) as u64, (level, overflow));
    }
    let mut slices: BTreeMap<u64, Vec<&Event>> = BTreeMap::new();
    for event in events.iter() {
        slices.entry((event.left / STEP) as u64).or_default().push(event);
    }
    println!("seed {seed}: {figures:?}, all done at {:.2}", start.elapsed().as_secs_f64());
    for (slice, events) in slices {
        print!("{:>7.1}", slice as f64 * STEP);
        for process in 0..scenario.processes as u64 {
            let own = || events.iter().filter(|event| event.process == process);
            let count = |status: u16| own().filter(|event| event.status == status).count();
            print!(" | {:>5} sent {:>3} 429 {:>3} 500", own().count(), count(429), count(500));
        }
        let left = || events.iter().filter_map(|event| event.remaining);
        let lowest = left().fold(f64::INFINITY, f64::min);
        let highest = left().fold(0.0, f64::max);
        let (level, overflow) = levels[&slice];
        println!(" | remaining {lowest:>5} .. {highest:>5} | level {level:>7.1} overflow {overflow:>6.1}");
    }
    for event in events.iter().filter(|event| event.status == 429) {
        println!("   429 of process {}: left {:.3}, came back {:.3}", event.process, event.left, event.ended);
    }
    Ok(figures)
}
