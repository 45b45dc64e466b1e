//! Limits that change while it runs.

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::ServiceExt;
use tower_outbound::{
    QuotaMeterLayer,
    mock::{Limits, MockApi},
};

use super::{Office, costing, limits, meter, refusal, told};
use crate::common::{Text, ms, named, reply, secs, settled};

fn embed() -> http::Request<Text> {
    let mut request = named("embed");
    *request.uri_mut() = "http://api.example/v1/embeddings".parse().unwrap();
    *request.method_mut() = http::Method::POST;
    *request.body_mut() = r#"{"model":"m","input":"hi"}"#.into();
    request.headers_mut().insert("authorization", "Bearer sk-any".parse().unwrap());
    request
}

/// Calls under a retry, as many at once as there are workers, until all are answered.
async fn batch(api: &MockApi, layer: &QuotaMeterLayer, calls: usize) {
    let stack =
        tower::ServiceBuilder::new().layer(tower_outbound::BackoffRetryLayer::new()).layer(layer).service(api.clone());
    let answers: JoinSet<_> = (0..calls).map(|_| stack.clone().oneshot(embed())).collect();
    for answer in answers.join_all().await {
        assert_eq!(answer.unwrap().status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn down_is_followed_at_once() {
    let api = MockApi::builder().limits(Limits::per_minute(600, 1_000_000)).service_time(ms(100)..=ms(100)).build();
    let layer = meter();
    let calls = tokio::spawn({
        let (api, layer) = (api.clone(), layer.clone());
        async move { batch(&api, &layer, 900).await }
    });
    sleep(secs(10.0)).await;
    api.set_limits(Limits::per_minute(60, 1_000_000));
    sleep(secs(5.0)).await;
    let level = layer.snapshot().requests.unwrap();
    assert_eq!((level.limit, level.refill_per_second), (60.0, 1.0));
    let (start, admitted) = (Instant::now(), api.counters().admitted);
    sleep(secs(100.0)).await;
    let rate = (api.counters().admitted - admitted) as f64 / start.elapsed().as_secs_f64();
    assert!((0.97..=1.03).contains(&rate), "{rate} a second, and 1 is allowed");
    assert!(api.counters().rejected <= 2, "{}", api.counters().rejected);
    calls.abort();
}

#[tokio::test(start_paused = true)]
async fn up_is_followed_too() {
    let api = MockApi::builder().limits(Limits::per_minute(60, 1_000_000)).service_time(ms(100)..=ms(100)).build();
    let layer = meter();
    let calls = tokio::spawn({
        let (api, layer) = (api.clone(), layer.clone());
        async move { batch(&api, &layer, 2_000).await }
    });
    sleep(secs(30.0)).await;
    api.set_limits(Limits::per_minute(600, 1_000_000));
    sleep(secs(10.0)).await;
    let (start, admitted) = (Instant::now(), api.counters().admitted);
    sleep(secs(60.0)).await;
    let rate = (api.counters().admitted - admitted) as f64 / start.elapsed().as_secs_f64();
    assert!(rate > 9.5, "{rate} a second, and 10 are allowed");
    assert_eq!(api.counters().rejected, 0);
    calls.abort();
}

#[tokio::test(start_paused = true)]
async fn who_waits_and_fits_no_more_is_refused() {
    let office = Office::new(meter());
    let _call = office.call("0");
    settled().await;
    office.desk.answer("0", limits(reply(200), "tokens", 6_000, 0, "60s")).await;
    let (_next, whale) = (office.send(costing("1", 0)), office.send(costing("whale", 5_000)));
    settled().await;
    office.desk.answer("1", limits(reply(200), "tokens", 1_000, 0, "60s")).await;
    let answer = whale.await.unwrap();
    assert!(matches!(refusal(&answer).1, tower_outbound::quota_meter::Refusal::TooLarge { .. }));
}

/// A limit below what every call costs, told once: else no call leaves, and nobody ever hears that it is up again.
#[tokio::test(start_paused = true)]
async fn a_limit_too_low_for_every_call_is_not_forever() {
    let office = Office::new(meter());
    let _call = office.call("0");
    settled().await;
    office.desk.answer("0", limits(reply(200), "tokens", 1, 1, "0s")).await;
    let mut sent = false;
    for _ in 0..100 {
        let call = office.send(costing("call", 500));
        settled().await;
        sent |= !call.is_finished();
        call.abort();
        sleep(secs(60.0)).await;
    }
    assert!(sent, "for more than an hour no call looked whether the limit is still so low");
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_flickers_stalls_nobody() {
    let office = Office::new(meter());
    let start = Instant::now();
    for n in 0..200_u32 {
        let call = office.call("call");
        sleep(ms(1_100)).await;
        assert_eq!(office.desk.open(), ["call"], "after {n} calls");
        let (limit, left) = [(60, 30), (60_000, 1), (60, 0), (600, 300)][n as usize % 4];
        office.desk.answer("call", told(200, limit, left)).await;
        call.await.unwrap().unwrap();
    }
    assert!(start.elapsed() < secs(300.0));
}
