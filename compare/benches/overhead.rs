//! What peers cost beside our own layers: `cargo bench -p compare`, with `-- --json` as JSON lines.
//!
//! The rows of the crate's own bench of this name, and those of its peers, in one run.

#[path = "../../benches/overhead/callgrind.rs"]
mod callgrind;
#[path = "../../benches/overhead/harness.rs"]
mod harness;
#[path = "../../benches/overhead/ours.rs"]
mod ours;
#[path = "../../benches/overhead/report.rs"]
mod report;

use std::{num::NonZeroU32, time::Duration};

use compare::{GovernorLayer, resilience_limiter, resilience_retry, tower_retry};
use tower::{ServiceBuilder, timeout::TimeoutLayer};

use harness::{Bare, Case, Flaky, ok, request};

const TOWER_RETRY: &str = "tower retry, backoff and budget";
const RESILIENCE_RETRY: &str = "tower-resilience-retry";

/// More than any call waits for.
const LIMIT: u32 = 1_000_000_000;

fn main() {
    report::main(
        || report::Table {
            name: "happy",
            title: "Calls that need no wait: the peers, then our own",
            cases: before_ours(ours::happy(), peers()),
        },
        || report::Table {
            name: "retry",
            title: "One retry, whole call, in paused time: by hand, the peers, then our own",
            cases: before_ours(ours::one_retry(), peers_one_retry()),
        },
    );
}

/// The row that all are compared with stays first.
fn before_ours(mut ours: Vec<Case>, peers: Vec<Case>) -> Vec<Case> {
    ours.splice(1..1, peers);
    ours
}

fn peers() -> Vec<Case> {
    let bare = || Bare::new(ok());
    let governor = || GovernorLayer::per_second(NonZeroU32::new(LIMIT).expect("not zero"));
    let limiter = || resilience_limiter(LIMIT as usize).expect("a valid limit");
    let timeout = || TimeoutLayer::new(Duration::from_secs(600));
    vec![
        Case::new("tower timeout", ServiceBuilder::new().layer(timeout()).service(bare()), request()),
        Case::new(TOWER_RETRY, ServiceBuilder::new().layer(tower_retry(1)).service(bare()), request()),
        Case::new(RESILIENCE_RETRY, ServiceBuilder::new().layer(resilience_retry()).service(bare()), request()),
        Case::new("governor check", ServiceBuilder::new().layer(governor()).service(bare()), request()),
        Case::new("tower-resilience-ratelimiter", ServiceBuilder::new().layer(limiter()).service(bare()), request()),
        Case::new(
            "timeout(retry(governor))",
            ServiceBuilder::new().layer(timeout()).layer(tower_retry(1)).layer(governor()).service(bare()),
            request(),
        ),
    ]
    .into_iter()
    .map(|case| case.over(ours::BARE))
    .collect()
}

fn peers_one_retry() -> Vec<Case> {
    let service = Flaky::default;
    vec![
        Case::paused(TOWER_RETRY, ServiceBuilder::new().layer(tower_retry(1)).service(service()), request()),
        Case::paused(RESILIENCE_RETRY, ServiceBuilder::new().layer(resilience_retry()).service(service()), request()),
    ]
    .into_iter()
    .map(|case| case.over(ours::BY_HAND))
    .collect()
}
