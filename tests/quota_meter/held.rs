//! Futures that are held and not polled: they stall nobody.

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service};
use tower_outbound::mock::{Limits, MockApi};

use super::{Office, meter};
use crate::common::{named, poll_once, reply, secs, settled};

#[tokio::test(start_paused = true)]
async fn a_grant_that_nobody_takes_goes_to_the_next_after_a_second() {
    let office = Office::with_left(meter(), 60, 0).await;
    let mut service = office.meter.layer(office.desk.clone());
    let mut held: Vec<_> = (0..10).map(|n| Box::pin(service.call(named(&format!("held {n}"))))).collect();
    for call in &mut held {
        assert!(poll_once(call).is_pending());
    }
    let _next = office.call("next");
    sleep(secs(30.0)).await;
    assert_eq!(office.sent_after(1), ["next"], "ten are held before it, and none of them polled");
}

#[tokio::test(start_paused = true)]
async fn where_the_window_is_full_of_them_too() {
    let office = Office::new(meter());
    let first = office.many(4);
    settled().await;
    let mut service = office.meter.layer(office.desk.clone());
    let mut held: Vec<_> = (0..4).map(|n| Box::pin(service.call(named(&format!("held {n}"))))).collect();
    for call in &mut held {
        assert!(poll_once(call).is_pending());
    }
    let _next = office.call("next");
    settled().await;
    office.desk.answer_all(|| reply(200)).await;
    sleep(secs(5.0)).await;
    assert!(office.desk.sent().contains(&"next".to_owned()), "{:?}", office.desk.sent());
    drop(first);
}

/// Polled again, it is where it was: before those who came later.
#[tokio::test(start_paused = true)]
async fn who_was_held_has_lost_a_turn_and_not_its_place() {
    let office = Office::with_left(meter(), 60, 0).await;
    let mut service = office.meter.layer(office.desk.clone());
    let mut held = Box::pin(service.call(named("held")));
    assert!(poll_once(&mut held).is_pending());
    let _calls = office.many(6);
    sleep(secs(3.0)).await;
    let before = office.desk.count();
    let _held = tokio::spawn(held);
    sleep(secs(2.5)).await;
    let after = office.sent_after(before);
    assert_eq!(after.first().map(String::as_str), Some("held"), "{after:?}");
}

/// `buffer_unordered` polls nothing while its consumer works on an item.
#[tokio::test(start_paused = true)]
async fn a_slow_consumer_of_a_buffered_stream_stalls_no_other() {
    let api = MockApi::builder().limits(Limits::per_minute(600, 1_000_000)).build();
    let layer = meter();
    let call = |layer: &tower_outbound::QuotaMeterLayer, name: &str| {
        let mut request = named(name);
        *request.uri_mut() = "http://api.example/v1/embeddings".parse().unwrap();
        *request.method_mut() = http::Method::POST;
        *request.body_mut() = r#"{"model":"m","input":"hi"}"#.into();
        request.headers_mut().insert("authorization", "Bearer sk-any".parse().unwrap());
        layer.layer(api.clone()).call(request)
    };
    let slow = tokio::spawn({
        let calls: Vec<_> = (0..700).map(|n| call(&layer, &n.to_string())).collect();
        async move {
            let mut calls = stream::iter(calls).buffer_unordered(50);
            while let Some(answer) = calls.next().await {
                assert_eq!(answer.unwrap().status(), 200);
                sleep(secs(5.0)).await;
            }
        }
    });
    sleep(secs(1.0)).await;
    let start = Instant::now();
    for n in 0..20 {
        let one = timeout(secs(600.0), call(&layer, &n.to_string())).await.expect("it has its turn").unwrap();
        assert_eq!(one.status(), 200);
    }
    assert!(start.elapsed() < secs(300.0), "{:?} for twenty calls", start.elapsed());
    slow.abort();
}
