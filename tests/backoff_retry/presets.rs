//! The presets, against the sources they are taken from.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tower_outbound::{
    ErrorKind, RetryHint,
    backoff_retry::{BackoffRetryLayer, Budget, StopReason},
    mock::{Script, dropped, ok},
};

use super::{limited, overloaded, send};
use crate::common::{post, report, secs, told};

type Waits = Arc<Mutex<Vec<Duration>>>;

fn noting(layer: BackoffRetryLayer) -> (BackoffRetryLayer, Waits) {
    let waits = Waits::default();
    let noted = waits.clone();
    (layer.on_retry(move |_, wait| noted.lock().unwrap().push(wait)), waits)
}

#[tokio::test(start_paused = true)]
async fn openai_three_attempts_half_a_second_doubling_less_up_to_a_quarter() {
    for seed in 0..100 {
        let (layer, waits) = noting(BackoffRetryLayer::openai_sdk().seed(seed));
        let script = Script::new().otherwise(overloaded());
        send(&layer, &script, post()).await.unwrap();
        script.assert_header("x-stainless-retry-count", [Some("0"), Some("1"), Some("2")]);
        let waits = waits.lock().unwrap();
        assert!((secs(0.375)..=secs(0.5)).contains(&waits[0]), "{waits:?}");
        assert!((secs(0.75)..=secs(1.0)).contains(&waits[1]), "{waits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn openai_waits_for_a_hint_exactly() {
    for hint in [1.0, 20.0, 60.0, 61.0, 120.0] {
        let script = Script::new().then(limited(secs(hint))).then(ok("done"));
        send(&BackoffRetryLayer::openai_sdk(), &script, post()).await.unwrap();
        script.assert_waits([secs(hint)]);
    }
    let script = Script::new().then(limited(secs(121.0)));
    let response = send(&BackoffRetryLayer::openai_sdk(), &script, post()).await.unwrap();
    assert_eq!(report(&response).stopped, Some(StopReason::WaitTooLong));
}

#[tokio::test(start_paused = true)]
async fn openai_repeats_a_post_whose_answer_got_lost() {
    let script = Script::new().then(dropped()).then(ok("done"));
    send(&BackoffRetryLayer::openai_sdk(), &script, post()).await.unwrap();
    script.assert_done();
}

#[tokio::test(start_paused = true)]
async fn openai_otherwise_than_the_sdk_gives_up_at_once_on_a_spent_quota() {
    let script = Script::new().then(told(429, ErrorKind::QuotaExhausted, RetryHint::Never));
    send(&BackoffRetryLayer::openai_sdk(), &script, post()).await.unwrap();
    script.assert_done();
}

fn timed_out() -> tower_outbound::mock::Step {
    told(408, ErrorKind::Timeout, RetryHint::Backoff)
}

/// aws-smithy's own cases: tokens left after each, with a bucket that is shared by all calls.
#[tokio::test(start_paused = true)]
async fn aws_takes_five_tokens_a_retry_and_gives_back_what_the_last_took() {
    let budget = Arc::new(Budget::retry_tokens(500));
    let layer = BackoffRetryLayer::aws_standard().budget(budget.clone());
    let script = Script::new().then_times(2, overloaded()).then(ok("on the third try"));
    send(&layer, &script, post()).await.unwrap();
    assert_eq!(budget.tokens_left(), Some(495));

    let budget = Arc::new(Budget::retry_tokens(500));
    let layer = BackoffRetryLayer::aws_standard().budget(budget.clone());
    let script = Script::new().otherwise(overloaded());
    let response = send(&layer, &script, post()).await.unwrap();
    assert_eq!((budget.tokens_left(), script.count()), (Some(490), 3));
    assert_eq!(report(&response).stopped, Some(StopReason::AttemptsUsed));
}

#[tokio::test(start_paused = true)]
async fn aws_stops_when_the_bucket_is_empty() {
    let budget = Arc::new(Budget::retry_tokens(5));
    let layer = BackoffRetryLayer::aws_standard().budget(budget.clone());
    let script = Script::new().otherwise(overloaded());
    let response = send(&layer, &script, post()).await.unwrap();
    assert_eq!((budget.tokens_left(), script.count()), (Some(0), 2));
    assert_eq!(report(&response).stopped, Some(StopReason::BudgetUsed));
}

#[tokio::test(start_paused = true)]
async fn aws_takes_ten_tokens_after_a_timeout_and_gets_one_for_a_success_at_once() {
    let budget = Arc::new(Budget::retry_tokens(500));
    let layer = BackoffRetryLayer::aws_standard().budget(budget.clone());
    let script = Script::new().then_times(2, timed_out()).then(overloaded()).otherwise(ok("done"));
    send(&layer, &script, post()).await.unwrap();
    assert_eq!(budget.tokens_left(), Some(480));
    for left in [481, 482, 483] {
        send(&layer, &script, post()).await.unwrap();
        assert_eq!(budget.tokens_left(), Some(left));
    }
}

#[tokio::test(start_paused = true)]
async fn aws_doubles_from_a_second_and_spreads_it_all() {
    let mut most = [Duration::ZERO; 2];
    let mut least = [Duration::MAX; 2];
    for seed in 0..300 {
        let (layer, waits) = noting(BackoffRetryLayer::aws_standard().seed(seed));
        send(&layer, &Script::new().otherwise(overloaded()), post()).await.unwrap();
        for (i, wait) in waits.lock().unwrap().iter().enumerate() {
            most[i] = most[i].max(*wait);
            least[i] = least[i].min(*wait);
        }
    }
    assert!(most[0] <= secs(1.0) && most[0] > secs(0.95) && least[0] < secs(0.05), "{least:?} {most:?}");
    assert!(most[1] <= secs(2.0) && most[1] > secs(1.9) && least[1] < secs(0.1), "{least:?} {most:?}");
}
