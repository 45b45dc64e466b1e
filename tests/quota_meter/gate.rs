//! One gate for all: what a 429 closes, when it opens, and how calls leave after it.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower::ServiceExt;
use tower_outbound::{Again, Gate, mock::MockApi, quota_meter::QuotaMeterLayer};

use super::{Answer, Office, is_over, later, limits, meter, told};
use crate::common::{Text, ms, named, reply, secs, settled};

/// When the meter says that a rejected call may go again.
#[track_caller]
fn again(answer: Answer) -> Duration {
    let response = answer.unwrap();
    assert_eq!(response.status(), 429);
    let again: &Again = response.extensions().get().expect("an Again");
    assert_eq!(again.by, Gate::Quota);
    again.not_before.saturating_duration_since(Instant::now())
}

#[tokio::test(start_paused = true)]
async fn a_429_closes_it_for_everybody_and_not_a_moment_shorter_than_the_server_said() {
    for seed in 0..50 {
        let office = Office::new(QuotaMeterLayer::new().seed(seed));
        let first = office.call("first");
        settled().await;
        office.desk.answer("first", later("10")).await;
        let wait = again(first.await.unwrap());
        assert!(wait >= secs(10.0) && wait <= secs(12.5), "{wait:?}");
        let start = Instant::now();
        let _next = office.call("next");
        sleep(secs(20.0)).await;
        assert!(office.desk.times(start)[1] >= wait, "{:?} before {wait:?}", office.desk.times(start));
    }
}

#[tokio::test(start_paused = true)]
async fn all_429s_of_one_epoch_are_one() {
    let office = Office::with_left(meter(), 6_000, 1_000).await;
    let mut calls = office.many(20);
    settled().await;
    office.desk.answer("0", later("10")).await;
    let opens = Instant::now() + again(calls.remove(0).await.unwrap());
    let snapshot = office.meter.snapshot();
    assert_eq!(snapshot.gate_opens_in, Some(opens - Instant::now()));
    for n in 1..20 {
        sleep(ms(300)).await;
        office.desk.answer(&n.to_string(), later("10")).await;
        let same = Instant::now() + again(calls.remove(0).await.unwrap());
        assert_eq!(same, opens, "the {n}th neither moves the gate nor doubles it");
    }
    assert_eq!(office.meter.snapshot().counts.limited, 20);
}

#[tokio::test(start_paused = true)]
async fn nobody_leaves_while_it_is_closed() {
    let office = Office::with_left(meter(), 6_000, 1_000).await;
    let _first = office.call("first");
    settled().await;
    office.desk.answer("first", later("30")).await;
    let sent = office.desk.count();
    let _calls = office.many(100);
    for _ in 0..29 {
        sleep(secs(1.0)).await;
        assert_eq!(office.desk.count(), sent);
    }
}

#[tokio::test(start_paused = true)]
async fn each_429_after_a_gate_doubles_the_next() {
    let office = Office::new(meter());
    for doubled in [1, 2, 4, 8, 16, 32] {
        let call = office.call("call");
        settled().await;
        office.desk.answer("call", reply(429)).await;
        let (wait, least) = (again(call.await.unwrap()), secs(f64::from(doubled)));
        assert!(wait >= least && wait <= least.mul_f64(1.25), "{wait:?} for {least:?}");
        sleep(wait).await;
    }
    for _ in 0..20 {
        let call = office.call("call");
        settled().await;
        office.desk.answer("call", reply(429)).await;
        let wait = again(call.await.unwrap());
        assert!(wait <= secs(60.0), "a minute at the most: {wait:?}");
        sleep(wait).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_the_doubling_but_not_one_from_before_the_gate() {
    let office = Office::new(meter());
    let (_old, call) = (office.call("old"), office.call("call"));
    settled().await;
    office.desk.answer("call", reply(429)).await;
    let wait = again(call.await.unwrap());
    office.desk.answer("old", reply(200)).await;
    sleep(wait).await;
    let call = office.call("call");
    settled().await;
    office.desk.answer("call", reply(429)).await;
    let wait = again(call.await.unwrap());
    assert!(wait >= secs(2.0), "{wait:?}");
    sleep(wait).await;

    let call = office.call("call");
    settled().await;
    office.desk.answer("call", reply(200)).await;
    call.await.unwrap().unwrap();
    let call = office.call("call");
    settled().await;
    office.desk.answer("call", reply(429)).await;
    let wait = again(call.await.unwrap());
    assert!(wait <= secs(1.25), "{wait:?}");
}

/// Without known limits: one call at a time, until one succeeds.
#[tokio::test(start_paused = true)]
async fn after_it_one_probe_is_out_until_a_success() {
    let office = Office::new(meter());
    let _calls = office.many(10);
    settled().await;
    for n in 0..4 {
        office.desk.answer(&n.to_string(), reply(429)).await;
    }
    sleep(secs(2.0)).await;
    assert_eq!(office.desk.open(), ["4"]);
    sleep(secs(100.0)).await;
    assert_eq!(office.desk.open(), ["4"], "however long it takes");
    office.desk.answer("4", reply(200)).await;
    sleep(secs(5.0)).await;
    assert!(office.desk.open().len() > 1, "{:?}", office.desk.open());
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_otherwise_leaves_its_chance_to_the_next() {
    let office = Office::new(meter());
    let mut calls = office.many(10);
    settled().await;
    for n in 0..4 {
        office.desk.answer(&n.to_string(), reply(429)).await;
    }
    sleep(secs(2.0)).await;
    office.desk.answer("4", reply(500)).await;
    sleep(secs(2.0)).await;
    assert_eq!(office.desk.open(), ["5"]);
    office.desk.break_off("5").await;
    sleep(secs(2.0)).await;
    assert_eq!(office.desk.open(), ["6"]);
    calls.remove(6).abort();
    sleep(secs(2.0)).await;
    assert_eq!(office.desk.open(), ["7"]);
}

/// Releasing all who wait when it opens is a thundering herd of one's own making.
#[tokio::test(start_paused = true)]
async fn after_it_calls_leave_at_the_rate_of_the_refill() {
    let office = Office::with_left(meter(), 60, 1).await;
    let _first = office.call("first");
    settled().await;
    let mut reply = told(429, 60, 0);
    reply.headers_mut().insert("retry-after", "20".parse().unwrap());
    office.desk.answer("first", reply).await;
    let opens = Instant::now() + office.meter.snapshot().gate_opens_in.unwrap();
    let _calls = office.many(30);
    tokio::time::sleep_until(opens + ms(5500)).await;
    let left = office.desk.count() - 2;
    assert!((5..=6).contains(&left), "{left} calls in 5.5 s at one a second");
}

/// A good answer takes longer than a 429, and says of the last gate that it was long enough only once the next is closed.
#[tokio::test(start_paused = true)]
async fn gates_do_not_double_while_calls_succeed_between_them() {
    let office = Office::with_left(meter(), 6_000, 1_000).await;
    for n in 0..6 {
        let (slow, quick) = (format!("slow{n}"), format!("quick{n}"));
        let (_slow, quick_call) = (office.call(&slow), office.call(&quick));
        sleep(ms(100)).await;
        office.desk.answer(&quick, later("1")).await;
        let wait = again(quick_call.await.unwrap());
        assert!(wait <= secs(2.5), "{wait:?} after {n} gates");
        office.desk.answer(&slow, reply(200)).await;
        sleep(wait).await;
    }
}

/// The server said that nothing is left, and when there is room for one.
#[tokio::test(start_paused = true)]
async fn as_it_opens_one_leaves_and_the_next_a_refill_later() {
    let office = Office::with_left(meter(), 60, 1).await;
    let _first = office.call("first");
    settled().await;
    let mut reply = told(429, 60, 0);
    reply.headers_mut().insert("retry-after", "2".parse().unwrap());
    office.desk.answer("first", reply).await;
    let opens = Instant::now() + office.meter.snapshot().gate_opens_in.unwrap();
    let _calls = office.many(5);
    for left in 1..4 {
        tokio::time::sleep_until(opens + secs(f64::from(left - 1)) + ms(10)).await;
        assert_eq!(office.desk.count() - 2, left as usize, "{:?}", office.meter.snapshot());
    }
}

/// Answers of calls that left before the 429 come in while the gate is closed; they let nobody out at once either.
#[tokio::test(start_paused = true)]
async fn late_answers_do_not_undo_the_slow_release() {
    let office = Office::with_left(meter(), 60, 8).await;
    let _calls = office.many(8);
    settled().await;
    let mut limited = told(429, 60, 0);
    limited.headers_mut().insert("retry-after", "20".parse().unwrap());
    office.desk.answer("7", limited).await;
    let opens = Instant::now() + office.meter.snapshot().gate_opens_in.unwrap();
    for n in 0..7 {
        sleep(ms(200)).await;
        office.desk.answer(&n.to_string(), told(200, 60, 7 - n)).await;
    }
    let _waiting: Vec<_> = (100..130).map(|n| office.call(&n.to_string())).collect();
    tokio::time::sleep_until(opens + ms(5500)).await;
    let left = office.desk.count() - 9;
    assert!((4..=6).contains(&left), "{left} calls in 5.5 s at one a second");
}

/// The 429 says that it is the tokens that ran out: requests go on as they are.
#[tokio::test(start_paused = true)]
async fn only_what_ran_out_is_held_back() {
    let office = Office::new(meter());
    let _call = office.call("0");
    settled().await;
    let told = |status, requests: u32, tokens: u32| {
        let reply = limits(reply(status), "requests", 6_000, requests, &format!("{}ms", 10 * (6_000 - requests)));
        limits(reply, "tokens", 60_000, tokens, &format!("{}ms", 60_000 - tokens))
    };
    office.desk.answer("0", told(200, 5_000, 10_000)).await;
    let _call = office.send(super::costing("1", 5_000));
    settled().await;
    office.desk.answer("1", told(429, 4_999, 10)).await;
    let now = office.meter.snapshot();
    assert!(now.requests.unwrap().remaining > 4_900.0, "{now:?}");
    assert!(now.tokens.unwrap().remaining < 6_000.0, "{now:?}");
}

/// With a 429 that no header explains the rate is learned, and nobody waits forever.
#[tokio::test(start_paused = true)]
async fn a_limit_that_nothing_tells_of_is_found() {
    let hidden = tower_outbound::mock::Limits::none().hidden(tower_outbound::mock::Limit::per_second(5));
    let api = MockApi::builder().limits(hidden).service_time(ms(200)..=ms(200)).build();
    let layer = meter();
    let start = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let stack = tower::ServiceBuilder::new()
            .layer(tower_outbound::BackoffRetryLayer::new())
            .layer(&layer)
            .service(api.clone());
        calls.spawn(stack.oneshot(models()));
    }
    for answer in calls.join_all().await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert!(start.elapsed() < secs(600.0), "{:?} for 300 calls at 5 a second", start.elapsed());
    assert!(api.counters().rejected < 30, "{} of 300 calls were rejected", api.counters().rejected);
}

fn models() -> http::Request<Text> {
    let mut request = named("m");
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = "http://api.example/v1/embeddings".parse().unwrap();
    *request.body_mut() = r#"{"model":"m","input":"hi"}"#.into();
    request.headers_mut().insert("authorization", "Bearer sk-any".parse().unwrap());
    request
}

/// A 429 with senseless hints: the gate is as if there were none, or as long as it may be; it opens.
#[tokio::test(start_paused = true)]
async fn a_senseless_hint_closes_it_for_a_while_and_no_longer() {
    for hint in ["", "0", "-5", "NaN", "inf", "-inf", "1e400", "soon", "Fri, 29 Sep 1700 00:00:00 GMT"] {
        let office = Office::new(meter());
        let first = office.call("first");
        settled().await;
        office.desk.answer("first", later(hint)).await;
        let wait = again(first.await.unwrap());
        assert!(wait >= secs(1.0), "{hint:?}: {wait:?}");
        if wait <= secs(60.0) {
            let next = office.call("next");
            sleep(secs(61.0)).await;
            assert_eq!(office.desk.open(), ["next"], "{hint:?}");
            office.desk.answer("next", reply(200)).await;
            assert!(is_over(&next).await);
        }
    }
}

/// A hint that no clock can hold must not become a short one: a server's hint is a floor.
#[tokio::test(start_paused = true)]
async fn an_endless_hint_stays_an_endless_one() {
    for hint in ["10000000000", "18446744073709551615", "99999999999999999999999999"] {
        let office = Office::new(meter());
        let first = office.call("first");
        settled().await;
        office.desk.answer("first", later(hint)).await;
        let response = first.await.unwrap().unwrap();
        let hint_read = tower_outbound::ApiError::of(&response).unwrap().retry();
        if let tower_outbound::RetryHint::After(floor) = hint_read {
            let wait = again(Ok(response));
            assert!(wait >= floor.min(secs(1e8)), "{hint}: {wait:?} where the server said {floor:?}");
        }
    }
}
