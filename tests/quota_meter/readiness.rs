//! Services that are not always ready.

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt,
    buffer::BufferLayer,
    limit::{ConcurrencyLimit, ConcurrencyLimitLayer},
};
use tower_outbound::{
    ApiKey, Call, Gate, KeyCheckLayer, Origin, QuotaMeter, QuotaMeterLayer, Refused, find_cause,
    mock::{Limits, MockApi, MockError, MockErrorKind, Script, ok},
    quota_meter::{Refusal, Scoping},
};

use super::{Answer, Office, is_over, later, meter, refusal, told};
use crate::common::{Desk, Text, Told, get, ms, named, ready, reply, secs, settled, with};

#[tokio::test(start_paused = true)]
async fn every_call_is_made_on_a_clone_that_said_it_is_ready() {
    let script = Script::new()
        .strict()
        .ready_after(ms(5))
        .then(ok("").header("x-ratelimit-limit-requests", 60).header("x-ratelimit-remaining-requests", 1))
        .otherwise(ok("done"));
    let stack = meter().layer(Told(script.clone()));
    stack.clone().oneshot(get()).await.unwrap();
    for answer in join_all((0..10).map(|_| stack.clone().oneshot(get()))).await {
        answer.unwrap();
    }
    script.assert_sent(11);
}

/// A call in line keeps no permit: those that carry another key, or go elsewhere, are not kept out.
#[tokio::test(start_paused = true)]
async fn over_a_limit_of_one_a_call_in_line_lets_others_through() {
    let office = Office::with_left(meter(), 60, 0).await;
    let limited = ConcurrencyLimitLayer::new(1).layer(office.desk.clone());
    let mut metered = office.meter.layer(limited.clone());
    let waiting = tokio::spawn(ready(&mut metered).await.call(named("waiting")));
    settled().await;
    let mut other = limited.clone();
    let _unmetered =
        tokio::spawn(timeout(ms(1), ready(&mut other)).await.expect("the permit is free").call(named("other")));
    settled().await;
    assert_eq!(office.sent_after(1), ["other"]);
    office.desk.answer("other", reply(200)).await;
    sleep(secs(2.0)).await;
    assert_eq!(office.sent_after(1), ["other", "waiting"]);
    drop(waiting);
}

#[tokio::test(start_paused = true)]
async fn over_a_limit_of_one_many_calls_all_end() {
    let api = MockApi::builder().limits(Limits::per_minute(120, 1_000_000)).service_time(ms(100)..=ms(100)).build();
    let stack = ServiceBuilder::new().layer(meter()).layer(ConcurrencyLimitLayer::new(1)).service(api.clone());
    let calls = join_all((0..200).map(|_| stack.clone().oneshot(embed())));
    for answer in timeout(secs(3600.0), calls).await.expect("no deadlock") {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!((api.counters().max_in_flight, api.counters().rejected), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn over_a_buffer_many_calls_all_end() {
    let api = MockApi::builder().limits(Limits::per_minute(120, 1_000_000)).service_time(ms(100)..=ms(100)).build();
    let stack = ServiceBuilder::new().layer(meter()).layer(BufferLayer::new(2)).service(api.clone());
    let calls = join_all((0..200).map(|_| stack.clone().oneshot(embed())));
    for answer in timeout(secs(3600.0), calls).await.expect("no deadlock") {
        assert_eq!(answer.unwrap().status(), 200);
    }
}

fn embed() -> http::Request<Text> {
    let mut request = named("embed");
    *request.uri_mut() = "http://api.example/v1/embeddings".parse().unwrap();
    *request.method_mut() = http::Method::POST;
    *request.body_mut() = r#"{"model":"m","input":"hi"}"#.into();
    request.headers_mut().insert("authorization", "Bearer sk-any".parse().unwrap());
    request
}

/// Let go by the meter, and waiting for a permit, when a 429 closes the gate: it does not leave through a closed gate.
#[tokio::test(start_paused = true)]
async fn who_has_not_left_when_the_gate_closes_does_not_leave() {
    let layer = meter();
    let desk = Desk::default();
    let stack = ServiceBuilder::new().layer(&layer).layer(ConcurrencyLimitLayer::new(1)).service(desk.clone());
    let first = tokio::spawn(stack.clone().oneshot(named("first")));
    settled().await;
    desk.answer("first", told(200, 60, 0)).await;
    first.await.unwrap().unwrap();
    let calls: Vec<_> = (0..6).map(|n| tokio::spawn(stack.clone().oneshot(named(&n.to_string())))).collect();
    sleep(secs(30.0)).await;
    assert_eq!(desk.open(), ["0"], "the others wait for the permit");
    let start = Instant::now();
    desk.answer("0", later("20")).await;
    sleep(secs(19.0)).await;
    assert_eq!(desk.count(), 2, "{:?} left through the closed gate", desk.sent());
    for n in 1..6 {
        sleep(secs(10.0)).await;
        desk.answer(&n.to_string(), reply(200)).await;
    }
    for (n, call) in calls.into_iter().enumerate() {
        let status = if n == 0 { 429 } else { 200 };
        assert_eq!(call.await.unwrap().unwrap().status(), status);
    }
    assert!(desk.times(start)[2] >= secs(20.0));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_closes_while_calls_wait_ends_them() {
    let script = Script::new()
        .closed_after(1)
        .then(ok("").header("x-ratelimit-limit-requests", 60).header("x-ratelimit-remaining-requests", 0));
    let layer = meter();
    let stack = layer.layer(Told(script));
    let mut others: Vec<_> = (0..3).map(|_| stack.clone()).collect();
    for other in &mut others {
        ready(other).await;
    }
    stack.oneshot(get()).await.unwrap();
    let calls: Vec<_> = others.iter_mut().map(|other| other.call(get())).collect();
    for answer in timeout(secs(60.0), join_all(calls)).await.expect("they end") {
        let error = answer.unwrap_err();
        assert_eq!(find_cause::<MockError>(&*error).unwrap().kind(), MockErrorKind::Closed);
    }
    let now = layer.snapshot();
    assert_eq!((now.in_flight, now.waiting), (0, 0), "what they held is given back");
}

type Limited = QuotaMeter<ConcurrencyLimit<Desk>>;

/// Under a meter, a service whose only permit a call holds: who comes now is let go after a second, and cannot leave.
async fn held_up(layer: &QuotaMeterLayer) -> (Desk, Limited) {
    let desk = Desk::default();
    let stack = ServiceBuilder::new().layer(layer).layer(ConcurrencyLimitLayer::new(1)).service(desk.clone());
    let first = tokio::spawn(stack.clone().oneshot(named("first")));
    settled().await;
    desk.answer("first", told(200, 60, 1)).await;
    first.await.unwrap().unwrap();
    tokio::spawn(stack.clone().oneshot(named("holder")));
    settled().await;
    assert_eq!(desk.open(), ["holder"]);
    (desk, stack)
}

/// Ready at first, and without a permit once it is in line.
fn line_up(stack: &Limited, request: http::Request<Text>) -> JoinHandle<Answer> {
    // As a caller does whose service was made ready before the permit was gone.
    let mut stack = stack.clone();
    tokio::spawn(stack.call(request))
}

#[tokio::test(start_paused = true)]
async fn who_was_let_go_and_cannot_leave_gives_up_when_its_time_is_over() {
    for has_deadline in [false, true] {
        let layer = if has_deadline { meter() } else { meter().max_wait(secs(10.0)) };
        let (desk, stack) = held_up(&layer).await;
        let due = Call::now().with_deadline(Instant::now() + secs(10.0));
        let request = if has_deadline { with(named("late"), due) } else { named("late") };
        let late = line_up(&stack, request);
        sleep(secs(5.0)).await;
        let now = layer.snapshot();
        assert_eq!((now.waiting, now.in_flight, desk.count()), (0, 2, 2), "it was let go");
        sleep(secs(4.9)).await;
        assert!(!is_over(&late).await);
        sleep(secs(0.2)).await;
        assert!(is_over(&late).await);
        let answer = late.await.unwrap();
        let Refusal::TooLong { expected, limit } = refusal(&answer).1 else { panic!("{answer:?}") };
        assert!(*limit == secs(10.0) && *expected >= *limit, "{expected:?} {limit:?}");
        let now = layer.snapshot();
        assert_eq!((now.in_flight, now.counts.refused, now.counts.sent), (1, 1, 2));
        // Ten were refilled and one was there; that which it had taken is among them again.
        assert!((8.9..=10.2).contains(&now.requests.unwrap().remaining), "{now:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_let_go_and_cannot_leave_turns_back_when_its_key_dies() {
    let layer = meter().scoping(Scoping::one());
    let (_desk, stack) = held_up(&layer).await;
    let key = ApiKey::new("sk-test-0123456789abcdef").unwrap();
    let keys = KeyCheckLayer::new(key, Origin::parse("https://api.example").unwrap());
    let call = tokio::spawn(keys.layer(stack).call(named("dead")));
    sleep(secs(5.0)).await;
    assert_eq!((layer.snapshot().waiting, call.is_finished()), (0, false), "it was let go");
    // Another call, past the meter, hears that the key is no good.
    let desk = Desk::default();
    let other = tokio::spawn(keys.layer(desk.clone()).call(named("other")));
    settled().await;
    desk.answer("other", reply(401)).await;
    assert!(is_over(&call).await && other.is_finished());
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(find_cause::<Refused>(&*error).unwrap().by(), Gate::Key);
    assert_eq!((layer.snapshot().in_flight, layer.snapshot().counts.sent), (1, 2));
}
