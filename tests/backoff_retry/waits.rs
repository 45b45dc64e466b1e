//! How long it waits: a hint of the server's is a floor, and jitter only adds to it.

use std::time::Duration;

use tokio::time::Instant;
use tower_outbound::{
    backoff_retry::{Attempt, BackoffRetryLayer, Decision, StopReason},
    mock::{Script, ok},
};

use super::{attempts, every_second, limited, overloaded, send};
use crate::common::{get, ms, report, secs, with};

#[tokio::test(start_paused = true)]
async fn without_a_hint_it_waits_its_backoff() {
    let script = Script::new().then_times(2, overloaded()).then(ok("at last"));
    let response = send(&every_second(), &script, get()).await.unwrap();
    assert_eq!(response.status(), 200);
    script.assert_waits([secs(1.0), secs(1.0)]);
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_a_floor_and_jitter_only_adds() {
    let hint = secs(20.0);
    let mut waits = Vec::new();
    for seed in 0..200 {
        let script = Script::new().then(limited(hint)).then(ok("at last"));
        send(&BackoffRetryLayer::new().seed(seed), &script, get()).await.unwrap();
        waits.extend(script.waits());
    }
    assert_eq!(waits.len(), 200);
    let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    assert!(*least >= hint, "{least:?} is before the server said");
    assert!(*most <= hint + secs(2.0) + ms(1), "{most:?}");
    assert!(*most - *least > secs(1.5), "all come back at nearly the same time: {least:?} to {most:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hint_below_a_millisecond_is_not_rounded_down() {
    for hint in ["0.0004", "0.0015", "1.0001"] {
        let script = Script::new().then(told_429(hint)).then(ok("at last"));
        send(&every_second(), &script, get()).await.unwrap();
        let hint = secs(hint.parse().unwrap());
        assert!(script.waits()[0] >= hint, "{:?} for {hint:?}", script.waits());
    }
}

/// With the header alone, unclassified.
fn told_429(retry_after: &str) -> tower_outbound::mock::Step {
    tower_outbound::mock::status(429).retry_after(retry_after)
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_would_come_back_early_is_held_to_the_hint() {
    let hasty = |_: &Attempt<'_>| Decision::Retry(ms(1));
    let script = Script::new().then(limited(secs(7.0))).then(overloaded()).then(ok("at last"));
    send(&every_second().policy(hasty), &script, get()).await.unwrap();
    script.assert_waits([secs(7.0), ms(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_hint_of_nothing_means_a_backoff() {
    let script = Script::new().then(limited(Duration::ZERO)).then(ok("at last"));
    send(&every_second(), &script, get()).await.unwrap();
    script.assert_waits([secs(1.0)]);
}

#[tokio::test(start_paused = true)]
async fn a_hint_past_the_longest_wait_ends_the_call_now() {
    let script = Script::new().then(limited(secs(121.0)).header("x-request-id", "req_1").body("slow down"));
    let start = Instant::now();
    let response = send(&every_second(), &script, get()).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!((response.status().as_u16(), &response.headers()["x-request-id"]), (429, &"req_1".parse().unwrap()));
    assert_eq!(report(&response).stopped, Some(StopReason::WaitTooLong));
    assert_eq!(report(&response).waited, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_hint_past_the_deadline_ends_the_call_now() {
    let script = Script::new().then(limited(secs(11.0)));
    let start = Instant::now();
    let response = send(&every_second().max_elapsed(secs(10.0)), &script, get()).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(report(&response).stopped, Some(StopReason::PastDeadline));
}

/// Whether a hint is honoured must hang on the hint, not on chance.
#[tokio::test(start_paused = true)]
async fn a_hint_up_to_the_longest_wait_is_waited_for_whatever_the_jitter() {
    for seed in 0..50 {
        for hint in [secs(115.0), secs(120.0)] {
            let script = Script::new().then(limited(hint)).then(ok("at last"));
            let response = send(&BackoffRetryLayer::new().seed(seed), &script, get()).await.unwrap();
            assert_eq!(response.status(), 200, "a hint of {hint:?}, and 120 s are accepted");
            assert!((hint..=secs(120.0)).contains(&script.waits()[0]), "{:?}", script.waits());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_up_to_the_deadline_is_waited_for_whatever_the_jitter() {
    for seed in 0..50 {
        let script = Script::new().then(limited(secs(58.0))).then(ok("at last"));
        let layer = BackoffRetryLayer::new().max_elapsed(secs(60.0)).seed(seed);
        let response = send(&layer, &script, get()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!((secs(58.0)..=secs(60.0)).contains(&script.waits()[0]), "{:?}", script.waits());
    }
}

/// 1e400 seconds, the year 100000, a policy's own slip: an endless wait must not become none.
#[tokio::test(start_paused = true)]
async fn a_wait_past_all_time_is_not_begun() {
    // The last can be reckoned with, so that it is begun; it is as good as endless.
    for (wait, is_begun) in [(Duration::MAX, false), (Duration::MAX / 2, false), (secs(1e18), true)] {
        let start = Instant::now();
        let layer = every_second().max_wait(Duration::MAX).policy(move |_: &Attempt<'_>| Decision::Retry(wait));
        let script = Script::new().then(overloaded());
        let sent = tokio::time::timeout(secs(1e6), send(&layer, &script, get())).await;
        script.assert_sent(1);
        assert_eq!(sent.is_err(), is_begun, "{wait:?}");
        if let Ok(response) = sent {
            assert_eq!(report(&response.unwrap()).stopped, Some(StopReason::WaitTooLong));
            assert_eq!(start.elapsed(), Duration::ZERO);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn senseless_hints_do_no_harm() {
    let senseless = [
        "",
        " ",
        "0",
        "-1",
        "-0",
        "NaN",
        "inf",
        "-inf",
        "1e400",
        "1e-400",
        "soon",
        "0x10",
        "99999999999999999999999999",
        "Zun, 29 Sep 2023 16:26:27 GMT",
        "Fri, 29 Sep 100000 16:26:57 GMT",
        "Fri, 29 Sep 1700 16:26:57 GMT",
        "1,5",
        "٣",
    ];
    for hint in senseless {
        let script = Script::new().then(tower_outbound::mock::status(503).retry_after(hint)).then(ok("at last"));
        let response = send(&every_second(), &script, get()).await.unwrap();
        assert_eq!((response.status().as_u16(), script.count()), (200, 2), "{hint:?}");
        script.assert_waits([secs(1.0)]);
    }
}

/// An absolute schedule: waits are counted from the answer, and nothing is added between them.
#[tokio::test(start_paused = true)]
async fn waits_do_not_drift() {
    let script = Script::new().then_times(9, overloaded().delay(ms(300))).then(ok("at last"));
    send(&attempts(10), &script, get()).await.unwrap();
    script.assert_waits([secs(1.0); 9]);
    assert_eq!(script.times()[9], ms(9 * 1300));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_long_past_means_no_further_attempt() {
    let call = tower_outbound::Call::now().with_deadline(Instant::now());
    tokio::time::advance(secs(60.0)).await;
    let script = Script::new().then(overloaded());
    let response = send(&every_second(), &script, with(get(), call)).await.unwrap();
    assert_eq!(report(&response).stopped, Some(StopReason::PastDeadline));
}

/// A policy's own wait that does not fit is not made to fit: it would come back before the policy said.
#[tokio::test(start_paused = true)]
async fn what_a_policy_asks_for_is_not_cut_short_because_there_is_a_hint() {
    let patient = |_: &Attempt<'_>| Decision::Retry(secs(60.0));
    for (layer, reason) in [
        (every_second().policy(patient).max_wait(secs(20.0)), StopReason::WaitTooLong),
        (every_second().policy(patient).max_elapsed(secs(20.0)), StopReason::PastDeadline),
    ] {
        for step in [limited(secs(1.0)), overloaded()] {
            let script = Script::new().then(step);
            let response = send(&layer, &script, get()).await.unwrap();
            script.assert_sent(1);
            assert_eq!((report(&response).stopped, report(&response).waited), (Some(reason), Duration::ZERO));
        }
    }
}
