//! Chance: each call has its own, spread as the docs say, and repeatable where a seed is given.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};
use tower_outbound::{
    Call,
    backoff_retry::{Backoff, BackoffRetryLayer, Budget, Jitter, Standard},
    nz,
};

use crate::common::{Text, get, secs};

/// The waits, in seconds, of so many calls that succeed on their last attempt.
async fn waits(jitter: Jitter, attempts: u32, calls: usize, seed: Option<u64>) -> Vec<Vec<f64>> {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let waits = taken.clone();
    let backoff = Backoff::exponential(secs(1.0)).jitter(jitter);
    let standard = Standard::new().max_attempts(attempts.try_into().unwrap_or(nz!(1))).backoff(backoff);
    let mut layer = BackoffRetryLayer::new()
        .policy(standard)
        .budget(Budget::unlimited())
        .on_retry(move |_, wait| waits.lock().unwrap().push(wait));
    if let Some(seed) = seed {
        layer = layer.seed(seed);
    }
    let service = layer.layer(service_fn(move |request: Request<Text>| {
        let is_last = request.extensions().get::<Call>().is_some_and(|call| call.attempt() == attempts);
        let mut response = Response::new(String::new());
        *response.status_mut() = if is_last { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        std::future::ready(Ok::<_, Infallible>(response))
    }));
    let mut all = Vec::new();
    for _ in 0..calls {
        service.clone().oneshot(get()).await.unwrap();
        all.push(taken.lock().unwrap().drain(..).map(|wait: Duration| wait.as_secs_f64()).collect());
    }
    all
}

/// The greatest distance between the distribution of the samples and the even one over 0..1.
fn distance_from_even(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    let n = samples.len() as f64;
    let distances = samples.iter().enumerate().map(|(i, x)| {
        let (below, above) = (i as f64 / n, (i + 1) as f64 / n);
        (x - below).abs().max((above - x).abs())
    });
    distances.fold(0.0, f64::max)
}

/// Kolmogorov and Smirnov: at 10,000 samples, a distance over 1.63 / 100 has a chance of one in a hundred.
const KS_LIMIT: f64 = 0.0163;

#[tokio::test(start_paused = true)]
async fn full_jitter_is_spread_evenly() {
    let first = waits(Jitter::Full, 2, 10_000, Some(1)).await;
    let distance = distance_from_even(first.into_iter().flatten().collect());
    assert!(distance < KS_LIMIT, "{distance}");
}

#[tokio::test(start_paused = true)]
async fn equal_and_proportional_jitter_are_spread_evenly_over_their_range() {
    let equal = waits(Jitter::Equal, 2, 10_000, Some(2)).await;
    let distance = distance_from_even(equal.into_iter().flatten().map(|wait| (wait - 0.5) * 2.0).collect());
    assert!(distance < KS_LIMIT, "{distance}");
    let off = waits(Jitter::Proportional(0.25), 2, 10_000, Some(3)).await;
    let distance = distance_from_even(off.into_iter().flatten().map(|wait| (1.0 - wait) * 4.0).collect());
    assert!(distance < KS_LIMIT, "{distance}");
}

/// Jitter cloned with its generator makes every call wait the same.
#[tokio::test(start_paused = true)]
async fn no_two_calls_share_a_sequence() {
    for seed in [None, Some(7)] {
        let mut sequences: Vec<String> =
            waits(Jitter::Full, 3, 500, seed).await.iter().map(|waits| format!("{waits:?}")).collect();
        sequences.sort();
        sequences.dedup();
        assert_eq!(sequences.len(), 500);
    }
}

#[tokio::test(start_paused = true)]
async fn two_layers_without_a_seed_share_none() {
    assert_ne!(waits(Jitter::Full, 3, 5, None).await, waits(Jitter::Full, 3, 5, None).await);
}

#[tokio::test(start_paused = true)]
async fn a_seed_makes_it_repeatable() {
    assert_eq!(waits(Jitter::Full, 3, 50, Some(9)).await, waits(Jitter::Full, 3, 50, Some(9)).await);
    assert_ne!(waits(Jitter::Full, 3, 50, Some(9)).await, waits(Jitter::Full, 3, 50, Some(10)).await);
}
