//! The same decisions under tower's own retry.

use std::sync::Arc;

use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, retry::RetryLayer};
use tower_outbound::{
    backoff_retry::{BackoffRetryLayer, Budget},
    mock::{Script, ok},
};

use super::{attempts, every_second, limited, overloaded};
use crate::common::{Told, get, post, ready, secs};

fn under_tower(
    layer: &BackoffRetryLayer,
    script: &Script,
) -> tower::retry::Retry<tower_outbound::backoff_retry::TowerPolicy, Told> {
    RetryLayer::new(layer.tower_policy()).layer(Told(script.clone()))
}

#[tokio::test(start_paused = true)]
async fn it_waits_and_stops_as_the_layer_does() {
    let script = Script::new().then(overloaded()).then(limited(secs(7.0))).then(overloaded());
    let response = under_tower(&attempts(3).policy(no_spread(3)), &script).oneshot(get()).await.unwrap();
    assert_eq!(response.status(), 503);
    script.assert_waits([secs(1.0), secs(7.0)]);
}

fn no_spread(attempts: u32) -> tower_outbound::backoff_retry::Standard {
    use tower_outbound::backoff_retry::{Backoff, Jitter, Standard};
    let attempts = attempts.try_into().expect("not zero");
    let backoff = Backoff::constant(secs(1.0)).jitter(Jitter::None);
    Standard::new().max_attempts(attempts).backoff(backoff).hint_spread(0.0)
}

#[tokio::test(start_paused = true)]
async fn a_post_that_may_have_been_processed_is_not_repeated() {
    let failed = crate::common::told(500, tower_outbound::ErrorKind::Server, tower_outbound::RetryHint::Backoff);
    let script = Script::new().then(failed).otherwise(ok("twice"));
    under_tower(&every_second(), &script).oneshot(post()).await.unwrap();
    script.assert_sent(1);
}

/// One service, many calls: each has its own attempts and its own time.
#[tokio::test(start_paused = true)]
async fn each_call_has_its_own_time_and_attempts() {
    let script = Script::new()
        .then(ok("long ago"))
        .then_times(2, overloaded())
        .then(ok("done"))
        .then_times(2, overloaded())
        .then(ok("done"));
    let mut service = under_tower(&every_second().max_elapsed(secs(10.0)), &script);
    ready(&mut service).await.call(get()).await.unwrap();
    for _ in 0..2 {
        tokio::time::sleep(secs(60.0)).await;
        let start = Instant::now();
        let response = ready(&mut service).await.call(get()).await.unwrap();
        assert_eq!((response.status().as_u16(), start.elapsed()), (200, secs(2.0)));
    }
    script.assert_done();
}

/// Every call counts as traffic, not only a service's first.
#[tokio::test(start_paused = true)]
async fn each_call_earns_its_share_of_the_budget() {
    let budget = Arc::new(Budget::share_of_traffic(0.1).floor(0.0));
    let script = Script::new().then_times(20, ok("done")).then(overloaded()).then(ok("done"));
    let mut service = under_tower(&every_second().budget(budget), &script);
    for _ in 0..21 {
        let response = ready(&mut service).await.call(get()).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    script.assert_done();
}
