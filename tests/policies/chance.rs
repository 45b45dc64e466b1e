//! What chance and the budget come to over many calls through the layer.

use std::{
    collections::HashSet,
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response, StatusCode};
use tokio::{task::JoinSet, time::sleep};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_outbound::{
    ApiError, ErrorKind, RetryHint,
    backoff_retry::{Backoff, BackoffRetryLayer, Budget, Jitter, Repeat, Standard},
    mock::{Script, status},
    nz,
};

use super::{post, request, secs};

/// The waits of each of `calls` calls that fail to the end.
async fn waits_of(layer: BackoffRetryLayer, calls: usize) -> Vec<Vec<Duration>> {
    let mut all = Vec::with_capacity(calls);
    let waits = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&waits);
    let layer = layer.budget(Budget::unlimited()).on_retry(move |_, wait| seen.lock().expect("no panic").push(wait));
    // A script would remember all of them; and they come as if classified already.
    let service = layer.layer(service_fn(|_: Request<String>| {
        let mut response = Response::new(String::new());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.extensions_mut().insert(ApiError::new(ErrorKind::Overloaded, RetryHint::Backoff));
        ready(Ok::<_, BoxError>(response))
    }));
    for _ in 0..calls {
        let response = service.clone().oneshot(request(http::Method::GET)).await.expect("a response");
        assert_eq!(response.status(), 503);
        all.push(std::mem::take(&mut *waits.lock().expect("no panic")));
    }
    all
}

/// The greatest distance between the samples' distribution and the uniform one on `low..=high`.
fn kolmogorov_smirnov(mut samples: Vec<f64>, low: f64, high: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let count = samples.len() as f64;
    let distance = |(place, sample): (usize, &f64)| {
        let expected = ((sample - low) / (high - low)).clamp(0.0, 1.0);
        (expected - place as f64 / count).abs().max((expected - (place + 1) as f64 / count).abs())
    };
    samples.iter().enumerate().map(distance).fold(0.0, f64::max)
}

#[test]
fn the_statistic_is_that_of_kolmogorov_and_smirnov() {
    // By hand: steps of a third at 0.1, 0.5, 0.6; the greatest distance is below 1 at 0.6.
    let distance = kolmogorov_smirnov(vec![0.6, 0.1, 0.5], 0.0, 1.0);
    assert!((distance - 0.4).abs() < 1e-12, "{distance}");
}

#[tokio::test(start_paused = true)]
async fn first_waits_are_spread_as_their_distribution_says() {
    const CALLS: usize = 10_000;
    // What 999 of 1,000 runs of true chance stay below. The seed is fixed, so the test does not come and go.
    let limit = 1.95 / (CALLS as f64).sqrt();
    for (jitter, low, high) in
        [(Jitter::Full, 0.0, 4.0), (Jitter::Equal, 2.0, 4.0), (Jitter::Proportional(0.25), 3.0, 4.0)]
    {
        let backoff = Backoff::exponential(secs(4)).jitter(jitter);
        let layer = BackoffRetryLayer::new().policy(Standard::new().max_attempts(nz!(2)).backoff(backoff)).seed(1);
        let waits = waits_of(layer, CALLS).await;
        let first: Vec<f64> = waits.iter().map(|waits| waits[0].as_secs_f64()).collect();
        assert!(first.iter().all(|wait| (low..=high).contains(wait)), "{jitter:?} leaves {low}..={high}");
        let distance = kolmogorov_smirnov(first.clone(), low, high);
        assert!(distance < limit, "{jitter:?}: {distance} is not below {limit}");
        // The statistic tells them apart: the same waits are not another distribution's.
        assert!(kolmogorov_smirnov(first, low, high * 1.1) > limit);
    }
}

/// Each later wait is spread over its own range, which the one before it gives: from the first wait to three times that.
#[tokio::test(start_paused = true)]
async fn decorrelated_waits_are_spread_between_the_first_and_three_times_the_last() {
    const CALLS: usize = 10_000;
    let limit = 1.95 / (CALLS as f64).sqrt();
    let backoff = Backoff::exponential(secs(1)).cap(secs(1000)).jitter(Jitter::Decorrelated);
    let layer = BackoffRetryLayer::new().max_wait(secs(1000));
    let layer = layer.policy(Standard::new().max_attempts(nz!(4)).backoff(backoff)).seed(1);
    let waits: Vec<Vec<f64>> = waits_of(layer, CALLS)
        .await
        .into_iter()
        .map(|waits| waits.into_iter().map(|wait| wait.as_secs_f64()).collect())
        .collect();
    let first: Vec<f64> = waits.iter().map(|waits| waits[0]).collect();
    assert!(kolmogorov_smirnov(first.clone(), 1.0, 3.0) < limit);
    assert!(kolmogorov_smirnov(first, 1.0, 3.3) > limit);
    for retry in [1, 2] {
        let share = |waits: &Vec<f64>| (waits[retry] - 1.0) / (waits[retry - 1] * 3.0 - 1.0);
        let shares: Vec<f64> = waits.iter().map(share).collect();
        let distance = kolmogorov_smirnov(shares, 0.0, 1.0);
        assert!(distance < limit, "retry {retry}: {distance} is not below {limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_spread_upwards_only() {
    let script = Script::new().otherwise(status(429).retry_after(60));
    let layer = BackoffRetryLayer::new().policy(Standard::new().max_attempts(nz!(2))).budget(Budget::unlimited());
    for _ in 0..1000 {
        let script = script.clone();
        let _ = layer.layer(script).oneshot(post()).await;
    }
    let waits: Vec<Duration> = script.waits().into_iter().step_by(2).collect();
    assert_eq!(waits.len(), 1000);
    assert!(waits.iter().all(|wait| (secs(60)..=secs(66)).contains(wait)));
    // No herd: a thousand clients that were told the same second come back over six.
    let in_first_second = waits.iter().filter(|wait| **wait < secs(61)).count();
    assert!((120..=220).contains(&in_first_second), "{in_first_second}");
}

#[tokio::test(start_paused = true)]
async fn no_two_requests_share_a_sequence() {
    let layer = BackoffRetryLayer::new().policy(Standard::new().max_attempts(nz!(4)));
    let all = waits_of(layer, 10_000).await;
    assert!(all.iter().all(|waits| waits.len() == 3));
    let sequences: HashSet<&Vec<Duration>> = all.iter().collect();
    assert_eq!(sequences.len(), all.len());
    // Neither begins one where another goes on.
    let pairs: HashSet<(Duration, Duration)> = all.iter().flat_map(|waits| [(waits[0], waits[1])]).collect();
    assert!(all.iter().filter(|waits| pairs.contains(&(waits[1], waits[2]))).count() == 0);
}

#[tokio::test(start_paused = true)]
async fn two_layers_and_two_runs_differ_unless_they_are_seeded() {
    let layer = || BackoffRetryLayer::new().policy(Standard::new());
    let (one, other) = (waits_of(layer(), 20).await, waits_of(layer(), 20).await);
    assert_ne!(one, other);
    let (one, other) = (waits_of(layer().seed(9), 20).await, waits_of(layer().seed(9), 20).await);
    assert_eq!(one, other);
}

/// So many calls a second, all failing, for so many seconds: what the server gets, as a multiple.
async fn load_at_total_failure(layer: &BackoffRetryLayer, per_second: u32, seconds: u32) -> f64 {
    let script = Script::new().otherwise(status(503));
    let service = layer.layer(script.clone());
    let mut calls = JoinSet::new();
    for _ in 0..per_second * seconds {
        calls.spawn(service.clone().oneshot(post()));
        sleep(Duration::from_secs(1) / per_second).await;
    }
    while calls.join_next().await.is_some() {}
    script.count() as f64 / f64::from(per_second * seconds)
}

#[tokio::test(start_paused = true)]
async fn at_total_failure_the_budget_keeps_the_load_at_one_and_a_tenth() {
    let layer = BackoffRetryLayer::new().repeat(Repeat::All);
    let unlimited = load_at_total_failure(&layer.clone().budget(Budget::unlimited()), 100, 20).await;
    assert_eq!(unlimited, 3.0);
    let layer = layer.budget(Budget::share_of_traffic(0.1).floor(0.0));
    let load = load_at_total_failure(&layer, 100, 60).await;
    assert!((1.08..=1.1).contains(&load), "{load}");
}

/// What is allowed without traffic comes before the tenth, and not on top of it: ten retries, and one every ten seconds.
#[tokio::test(start_paused = true)]
async fn at_total_failure_the_default_is_a_tenth_from_the_hundredth_call_on() {
    for (per_second, seconds) in [(1, 60), (10, 10), (10, 60), (100, 1), (100, 60)] {
        let load = load_at_total_failure(&BackoffRetryLayer::new().repeat(Repeat::All), per_second, seconds).await;
        let calls = f64::from(per_second * seconds);
        let most = 1.0 + (0.1 * calls).max(10.0 + 0.1 * f64::from(seconds)) / calls;
        assert!(
            (most - 0.02..=most + 1e-9).contains(&load),
            "{load} of {most} at {per_second} a second for {seconds} s"
        );
    }
}

/// Ten minutes of success are no licence: what is allowed at once is a tenth of the last ten seconds, which makes it two
/// tenths in the first ten seconds of the outage, and one from then on.
#[tokio::test(start_paused = true)]
async fn an_outage_after_long_success_is_no_worse() {
    for (seconds, least, most) in [(10, 1.15, 1.2), (100, 1.08, 1.11)] {
        let layer = BackoffRetryLayer::new().repeat(Repeat::All).budget(Budget::share_of_traffic(0.1).floor(0.0));
        let good = layer.layer(Script::new().otherwise(status(200)));
        for _ in 0..600 * 10 {
            let _ = good.clone().oneshot(post()).await;
            sleep(Duration::from_millis(100)).await;
        }
        let load = load_at_total_failure(&layer, 10, seconds).await;
        assert!((least..=most).contains(&load), "{load} over {seconds} s");
    }
}
