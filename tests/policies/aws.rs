//! `aws_standard()` beside aws-smithy-runtime 1.14's standard mode: delays, with jitter held at 1, and the token bucket.

use std::sync::{Arc, Mutex};

use tokio::time::sleep;
use tower::{BoxError, ServiceBuilder, ServiceExt, timeout::TimeoutLayer};
use tower_outbound::{
    backoff_retry::{
        Backoff, BackoffRetryLayer, Budget,
        Decision::{Retry, Stop},
        Standard, StopReason,
    },
    mock::{Rehearsal, Script, Step, dropped, never, ok, status, waits},
    nz,
};

use super::{ms, played, post, secs};

fn aws() -> BackoffRetryLayer {
    BackoffRetryLayer::aws_standard().hold_jitter(1.0)
}

/// Plays a call, and notes the wait and what is left of the bucket at each retry.
async fn play(layer: &BackoffRetryLayer, steps: &[Step]) -> (Vec<(u64, u64)>, u16) {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let (seen, bucket) = (Arc::clone(&notes), layer.clone());
    let layer = layer.clone().on_retry(move |_, wait| {
        let left = bucket.tokens_left().expect("a bucket");
        seen.lock().expect("no panic").push((wait.as_secs(), left));
    });
    let script = steps.iter().cloned().fold(Script::new(), Script::then);
    let stack = ServiceBuilder::new().layer(layer).map_err(BoxError::from).service(script.clone());
    let (_, status) = played(stack, post(), &script).await;
    let notes = notes.lock().expect("no panic").clone();
    assert_eq!(script.waits(), notes.iter().map(|(wait, _)| secs(*wait)).collect::<Vec<_>>());
    (notes, status.map_or(0, |status| status.as_u16()))
}

#[tokio::test(start_paused = true)]
async fn success_on_the_third_try_gives_back_what_the_last_retry_took() {
    let layer = aws();
    let played = play(&layer, &[status(500), status(500), ok("")]).await;
    assert_eq!(played, (vec![(1, 495), (2, 490)], 200));
    assert_eq!(layer.tokens_left(), Some(495));
}

#[tokio::test(start_paused = true)]
async fn three_attempts_are_all() {
    let layer = aws();
    let played = play(&layer, &[status(500), status(500), status(500)]).await;
    assert_eq!(played, (vec![(1, 495), (2, 490)], 500));
    assert_eq!(layer.tokens_left(), Some(490));
}

#[tokio::test(start_paused = true)]
async fn a_bucket_of_five_is_one_retry() {
    let layer = aws().budget(Budget::retry_tokens(5));
    let played = play(&layer, &[status(500), status(502)]).await;
    assert_eq!(played, (vec![(1, 0)], 502));
    assert_eq!(Rehearsal::of(&layer).decisions([status(500)]), [Stop(StopReason::BudgetUsed)]);
}

#[tokio::test(start_paused = true)]
async fn the_cap_holds() {
    let backoff = Backoff::exponential(secs(1)).cap(secs(3));
    let layer = aws().policy(Standard::new().max_attempts(nz!(5)).backoff(backoff));
    let played = play(&layer, &vec![status(500); 5]).await;
    assert_eq!(played, (vec![(1, 495), (2, 490), (3, 485), (3, 480)], 500));
    assert_eq!(layer.tokens_left(), Some(480));
}

#[tokio::test(start_paused = true)]
async fn success_on_the_first_try_gives_one_back() {
    let layer = aws();
    play(&layer, &vec![status(500); 3]).await;
    for left in [491, 492, 493] {
        play(&layer, &[ok("")]).await;
        assert_eq!(layer.tokens_left(), Some(left));
    }
    // Never more than it held at first.
    for _ in 0..20 {
        play(&layer, &[ok("")]).await;
    }
    assert_eq!(layer.tokens_left(), Some(500));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_costs_twice_as_much() {
    let layer = aws();
    let script = Script::new().then(never()).then(ok(""));
    let stack = ServiceBuilder::new()
        .layer(layer.clone().on_retry({
            let bucket = layer.clone();
            move |_, _| assert_eq!(bucket.tokens_left(), Some(490))
        }))
        .layer(TimeoutLayer::new(secs(3)))
        .service(script.clone());
    assert_eq!(stack.oneshot(post()).await.unwrap().status(), 200);
    // No answer to the first attempt: from the one to the other it was the time limit, and the wait.
    script.assert_waits([secs(3 + 1)]);
    assert_eq!(layer.tokens_left(), Some(500));
}

#[test]
fn twenty_seconds_at_the_most_and_the_jitter_after_the_cap() {
    let layer = BackoffRetryLayer::aws_standard();
    let backoff = Backoff::exponential(secs(1)).cap(secs(20));
    let longer = Standard::new().max_attempts(nz!(8)).backoff(backoff);
    assert_eq!(waits(&longer, vec![status(503); 8]), [1, 2, 4, 8, 16, 20, 20].map(secs));
    let half = Rehearsal::of(&longer).random(0.5).waits(vec![status(503); 8]);
    assert_eq!(half, [500, 1000, 2000, 4000, 8000, 10_000, 10_000].map(ms));
    let decisions = Rehearsal::of(&layer).random(0.5).decisions([dropped(), status(503), status(503)]);
    assert_eq!(decisions, [Retry(ms(500)), Retry(ms(1000)), Stop(StopReason::AttemptsUsed)]);
}

/// One bucket for the clones of a layer, for what it is laid over, and for what was made from it by a change.
#[tokio::test(start_paused = true)]
async fn the_bucket_is_shared() {
    let layer = aws().budget(Budget::retry_tokens(20));
    let changed = layer.clone().max_elapsed(secs(60));
    play(&layer, &vec![status(500); 3]).await;
    sleep(secs(1)).await;
    let (notes, _) = play(&changed, &vec![status(500); 3]).await;
    assert_eq!(notes, [(1, 5), (2, 0)]);
    let (notes, _) = play(&layer.clone(), &[status(500)]).await;
    assert_eq!(notes, []);
}
