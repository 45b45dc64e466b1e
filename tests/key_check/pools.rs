//! Several keys: which a call takes, and what one that fails costs.

use std::time::Duration;

use tokio::{task::JoinSet, time::sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_outbound::{
    ErrorKind, RetryHint,
    backoff_retry::BackoffRetryLayer,
    key_check::{KeyCheckLayer, KeyState},
    mock::{Script, answer, ok, status},
    quota_meter::QuotaMeterLayer,
};

use super::{ask, named_key, origin, rejected, send};
use crate::common::{Desk, Told, get, named, ready, reply, secs, settled, told};

const KEYS: [&str; 3] = ["sk-key-a", "sk-key-b", "sk-key-c"];

fn three() -> KeyCheckLayer {
    let [a, b, c] = KEYS.map(named_key);
    KeyCheckLayer::new(a, origin()).with_key(b).with_key(c)
}

fn states(layer: &KeyCheckLayer) -> [KeyState; 3] {
    let states: Vec<_> = layer.snapshot().iter().map(|key| key.state).collect();
    states.try_into().unwrap()
}

/// Answers by key: what the function says for the last letter of the key.
fn by_key(judge: impl Fn(char) -> tower_outbound::mock::Step + Send + Sync + 'static) -> Script {
    Script::new().otherwise(answer(move |sent| {
        judge(sent.header("authorization").and_then(|value| value.chars().last()).unwrap_or('?'))
    }))
}

fn used(script: &Script) -> String {
    let last = |value: &str| value.chars().last();
    script.calls().iter().filter_map(|sent| last(sent.header("authorization")?)).collect()
}

#[tokio::test(start_paused = true)]
async fn keys_of_equal_merit_take_turns() {
    let (layer, script) = (three(), by_key(|_| ok("done")));
    for _ in 0..9 {
        assert_eq!(ask(&layer, &script).await, Ok(200));
    }
    assert_eq!(used(&script), "abcabcabc");
}

#[tokio::test(start_paused = true)]
async fn the_fewest_calls_outstanding_goes_first() {
    let (layer, desk) = (three(), Desk::default());
    let mut calls = JoinSet::new();
    for name in ["1", "2", "3", "4", "5"] {
        calls.spawn(layer.layer(desk.clone()).oneshot(named(name)));
        settled().await;
    }
    let outstanding = || layer.snapshot().iter().map(|key| key.outstanding).collect::<Vec<_>>();
    assert_eq!(outstanding(), [2, 2, 1]);
    desk.answer("2", reply(200)).await;
    desk.answer("5", reply(200)).await;
    assert_eq!(outstanding(), [2, 0, 1]);
    for name in ["6", "7"] {
        calls.spawn(layer.layer(desk.clone()).oneshot(named(name)));
        settled().await;
    }
    assert_eq!(outstanding(), [2, 1, 2], "of equals, the one that was lent the longest ago");
    calls.shutdown().await;
    assert_eq!(outstanding(), [0, 0, 0], "a call that is dropped holds its key no more");
}

#[tokio::test(start_paused = true)]
async fn a_cooling_key_is_spared_and_never_refused() {
    let layer = three();
    let script = by_key(|key| match key {
        'a' => told(429, ErrorKind::RateLimit, RetryHint::After(secs(10.0))),
        _ => ok("done"),
    });
    for _ in 0..5 {
        let _ = ask(&layer, &script).await;
    }
    assert_eq!((used(&script).as_str(), states(&layer)[0]), ("abcbc", KeyState::Cooling));
    assert_eq!(layer.snapshot()[0].back_in, Some(secs(10.0)));
    sleep(secs(10.0)).await;
    assert_eq!(states(&layer)[0], KeyState::Sound);
    assert_eq!(ask(&layer, &script).await, Ok(429));

    let all = by_key(|_| status(429));
    for _ in 0..30 {
        assert_eq!(ask(&layer, &all).await, Ok(429), "all are cooling, and none refuses");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_that_cools_off_goes_first() {
    let layer = three();
    let script = by_key(|key| {
        let wait = match key {
            'a' => 30.0,
            'b' => 10.0,
            _ => 20.0,
        };
        told(429, ErrorKind::RateLimit, RetryHint::After(secs(wait)))
    });
    for _ in 0..4 {
        assert_eq!(ask(&layer, &script).await, Ok(429));
    }
    assert_eq!(used(&script), "abcb");
}

/// With a retry further out, one spent key of three, or a dead one, costs no failed request.
#[tokio::test(start_paused = true)]
async fn one_key_that_is_out_of_use_costs_no_request() {
    for (code, kind, state) in
        [(429, ErrorKind::QuotaExhausted, KeyState::Spent), (401, ErrorKind::Authentication, KeyState::Rejected)]
    {
        let layer = three();
        let script = by_key(move |key| if key == 'b' { told(code, kind, RetryHint::Never) } else { ok("done") });
        let mut stack =
            ServiceBuilder::new().layer(BackoffRetryLayer::new()).layer(&layer).service(Told(script.clone()));
        for _ in 0..30 {
            let mut post = crate::common::post();
            *post.uri_mut() = "https://api.example/v1".parse().unwrap();
            assert_eq!(ready(&mut stack).await.call(post).await.unwrap().status(), 200);
        }
        assert_eq!(used(&script).matches('b').count(), 1, "{kind}");
        assert_eq!(states(&layer), [KeyState::Sound, state, KeyState::Sound]);
        sleep(secs(60.0)).await;
        for _ in 0..30 {
            assert_eq!(ready(&mut stack).await.call(get()).await.unwrap().status(), 200);
        }
        assert_eq!(used(&script).matches('b').count(), 2, "one looks each minute");
    }
}

/// Nobody sends it again, so nobody but a call that has no choice looks.
#[tokio::test(start_paused = true)]
async fn without_a_retry_a_dead_key_is_let_be_while_others_are_sound() {
    let layer = three();
    let script = by_key(|key| if key == 'b' { status(401) } else { ok("done") });
    let mut failed = 0;
    for _ in 0..100 {
        failed += usize::from(ask(&layer, &script).await != Ok(200));
        sleep(secs(10.0)).await;
    }
    assert_eq!(failed, 1);
}

#[tokio::test(start_paused = true)]
async fn with_none_sound_the_refusal_tells_of_each_key() {
    let layer = three();
    let script = by_key(|key| match key {
        'a' => status(401),
        'b' => told(429, ErrorKind::QuotaExhausted, RetryHint::After(secs(3600.0))),
        _ => told(429, ErrorKind::QuotaExhausted, RetryHint::Never),
    });
    for _ in 0..3 {
        ask(&layer, &script).await.unwrap();
    }
    sleep(secs(20.0)).await;
    let error = send(&layer, &script, get()).await.unwrap_err();
    let (refused, reason) = rejected(&error);
    assert_eq!(refused.wait(), Some(secs(40.0)), "when the first is back");
    let waits: Vec<_> = reason.keys().iter().map(|key| key.back_in).collect();
    assert_eq!(waits, [40.0, 3580.0, 40.0].map(|wait| Some(secs(wait))));
    let text = error.to_string();
    for (key, state) in KEYS.iter().zip(["was refused by the server", "has used up its quota", "has used up its quota"])
    {
        assert!(text.contains(&format!("the key {} {state}", named_key(key).fingerprint())), "{text}");
    }
    script.assert_sent(3);
}

#[tokio::test(start_paused = true)]
async fn a_spent_key_is_used_again_once_a_call_with_it_succeeds() {
    let layer = KeyCheckLayer::new(named_key(KEYS[0]), origin()).spent_recheck(secs(5.0));
    let script = Script::new()
        .then(told(429, ErrorKind::QuotaExhausted, RetryHint::Never))
        .then(status(400))
        .otherwise(ok("filled up"));
    assert_eq!(ask(&layer, &script).await, Ok(429));
    assert_eq!(ask(&layer, &script).await, Err(()));
    sleep(secs(5.0)).await;
    assert_eq!(ask(&layer, &script).await, Ok(400), "says nothing of the money");
    assert_eq!(layer.snapshot()[0].state, KeyState::Spent);
    assert_eq!(ask(&layer, &script).await, Ok(200));
    assert_eq!(layer.snapshot()[0].state, KeyState::Sound);
}

/// Of 60 calls in line behind three keys, those with the key that dies are turned to another, before they are sent.
#[tokio::test(start_paused = true)]
async fn calls_in_line_are_turned_to_another_key() {
    let (layer, meter) = (three().recheck(Duration::MAX), QuotaMeterLayer::new().seed(1));
    let is_revoked = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let revoked = std::sync::Arc::clone(&is_revoked);
    let script = by_key(move |key| {
        if key == 'b' && revoked.load(std::sync::atomic::Ordering::Relaxed) {
            return status(401).delay(secs(0.1));
        }
        ok("done")
            .header("x-ratelimit-limit-requests", 60)
            .header("x-ratelimit-remaining-requests", 0)
            .header("x-ratelimit-reset-requests", "60s")
            .delay(secs(0.1))
    });
    let stack =
        ServiceBuilder::new().layer(BackoffRetryLayer::new()).layer(&layer).layer(&meter).service(Told(script.clone()));
    stack.clone().oneshot(get()).await.unwrap();
    let calls: JoinSet<_> = (0..60).map(|_| stack.clone().oneshot(get())).collect();
    sleep(secs(2.5)).await;
    is_revoked.store(true, std::sync::atomic::Ordering::Relaxed);
    let before = script.calls().len();
    for response in calls.join_all().await {
        assert_eq!(response.unwrap().status(), 200);
    }
    let after: String = used(&script).chars().skip(before).collect();
    assert_eq!(after.matches('b').count(), 1, "but the one that found it dead: {after}");
}

/// Many services of one layer, many calls: each key carries its share.
#[tokio::test(start_paused = true)]
async fn the_pool_is_shared_by_clones() {
    let layer = three();
    let desk = Desk::default();
    let mut calls = JoinSet::new();
    for number in 0..30 {
        calls.spawn(layer.clone().layer(desk.clone()).oneshot(named(&number.to_string())));
    }
    settled().await;
    assert_eq!(layer.snapshot().iter().map(|key| key.outstanding).collect::<Vec<_>>(), [10, 10, 10]);
    desk.answer_all(|| reply(200)).await;
    assert_eq!(layer.layer(desk).snapshot().iter().map(|key| key.outstanding).sum::<usize>(), 0);
}
