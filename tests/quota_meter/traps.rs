//! Servers and callers that mislead: what is said is not taken for more than it says.

use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_outbound::{
    BackoffRetryLayer, TokenCost,
    mock::{Limit, Limits, MockApi},
    nz,
    quota_meter::{Quota, Refusal},
};

use super::{Office, costing, later, limits, meter, named, refusal, settled};
use crate::common::{Reply, ms, poll_once, reply, secs, with};

/// A window in GitHub's spelling; `resets` is in seconds from now.
fn window(limit: u32, left: u32, resets: Option<u64>) -> Reply {
    let mut reply = reply(200);
    let resets = resets.map(|resets| ("reset", resets));
    for (name, value) in [("limit", u64::from(limit)), ("remaining", left.into())].into_iter().chain(resets) {
        reply.headers_mut().insert(format!("x-ratelimit-{name}").parse::<http::HeaderName>().unwrap(), value.into());
    }
    reply
}

async fn after(office: &Office, first: Reply) {
    let call = office.call("first");
    settled().await;
    office.desk.answer("first", first).await;
    call.await.unwrap().unwrap();
}

/// The day's limit is told, the minute's is not: what the first refills says nothing of the second.
#[tokio::test(start_paused = true)]
async fn a_minute_hidden_under_a_day() {
    let api = MockApi::builder()
        .limits(Limits::none().requests(Limit::per_day(10_000)).hidden(Limit::per_minute(60)))
        .service_time(ms(500)..=ms(500))
        .build();
    let stack = ServiceBuilder::new().layer(BackoffRetryLayer::new()).layer(meter()).service(api.clone());
    let workers: tokio::task::JoinSet<_> = (0..16)
        .map(|_| {
            let stack = stack.clone();
            async move {
                for _ in 0..1_000 {
                    let mut request = with(named("embed"), TokenCost(5));
                    *request.uri_mut() = "http://api.example/v1/embeddings".parse().unwrap();
                    *request.method_mut() = http::Method::POST;
                    *request.body_mut() = r#"{"model":"m","input":"hi"}"#.into();
                    request.headers_mut().insert("authorization", "Bearer sk-any".parse().unwrap());
                    let _ = stack.clone().oneshot(request).await;
                }
            }
        })
        .collect();
    sleep(secs(1_200.0)).await;
    drop(workers);
    let (admitted, rejected) = (api.counters().admitted, api.counters().rejected);
    assert!(admitted >= 1_200, "{admitted} of the 1,260 that 20 minutes allow");
    assert!(rejected <= admitted / 20, "{rejected} of {admitted}");
}

#[tokio::test(start_paused = true)]
async fn a_window_is_as_long_as_it_says() {
    let office = Office::new(meter().quota(Quota::learned().share(0.5)));
    after(&office, window(100, 99, Some(3_600))).await;
    let _calls = office.many(60);
    for minute in 0..30 {
        let left = 99_u32.saturating_sub(office.desk.count() as u32);
        office.desk.answer_all(|| window(100, left, Some(3_600 - 60 * minute))).await;
        sleep(secs(60.0)).await;
    }
    let half_hour = office.desk.count();
    assert!((48..=51).contains(&half_hour), "{half_hour} where half of a hundred may go in an hour");
}

#[tokio::test(start_paused = true)]
async fn a_window_without_an_end_is_paced_all_the_same() {
    let office = Office::new(meter());
    after(&office, window(60, 0, None)).await;
    let _calls = office.many(10);
    settled().await;
    assert_eq!(office.desk.open(), [""; 0]);
    sleep(secs(2.5)).await;
    assert_eq!(office.desk.open(), ["0", "1"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_until_a_reset_is_paced_without_a_limit() {
    let office = Office::new(meter());
    let told = |left: u32| {
        let mut reply = reply(200);
        reply.headers_mut().insert("ratelimit", format!(r#""default";r={left};t=30"#).parse().unwrap());
        reply
    };
    after(&office, told(3)).await;
    let _calls = office.many(10);
    sleep(secs(20.0)).await;
    assert_eq!(office.desk.open(), ["0", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn under_a_share_too_a_limit_too_low_for_every_call_is_not_forever() {
    let office = Office::new(meter().quota(Quota::learned().share(0.8)));
    after(&office, limits(reply(200), "tokens", 10, 10, "0s")).await;
    let answer = office.answer_of(costing("call", 100)).await;
    assert!(matches!(refusal(&answer).1, Refusal::TooLarge { .. }), "{answer:?}");
    sleep(secs(61.0)).await;
    let _call = office.send(costing("again", 100));
    settled().await;
    assert_eq!(office.desk.open(), ["again"]);
}

/// Input and output apart: either may be the one that never fits.
#[tokio::test(start_paused = true)]
async fn a_share_is_taken_of_every_limit() {
    let office = Office::new(meter().quota(Quota::learned().share(0.5)));
    let mut told = reply(200);
    for (name, value) in [("limit", "1000"), ("remaining", "1000")] {
        let name: http::HeaderName = format!("anthropic-ratelimit-input-tokens-{name}").parse().unwrap();
        told.headers_mut().insert(name, value.parse().unwrap());
    }
    after(&office, told).await;
    let _fits = office.send(costing("fits", 400));
    let _waits = office.send(costing("waits", 400));
    settled().await;
    assert_eq!(office.desk.open(), ["fits"]);
}

/// Turned away, a call took no tokens.
#[tokio::test(start_paused = true)]
async fn a_429_takes_no_tokens_of_what_is_given() {
    let office = Office::new(meter().quota(Quota::learned().tokens_per_minute(nz!(1_000))));
    let first = office.send(costing("first", 900));
    settled().await;
    office.desk.answer("first", later("1")).await;
    assert_eq!(first.await.unwrap().unwrap().status(), 429);
    sleep(secs(2.0)).await;
    let _second = office.send(costing("second", 900));
    settled().await;
    assert_eq!(office.desk.open(), ["second"]);
}

/// A server's word is a floor, for hours too.
#[tokio::test(start_paused = true)]
async fn nobody_looks_before_the_time_that_the_server_named() {
    let office = Office::new(meter());
    let start = Instant::now();
    let first = office.call("first");
    settled().await;
    office.desk.answer("first", later("7200")).await;
    first.await.unwrap().unwrap();
    let _waits = office.call("waits");
    sleep(secs(7_199.0)).await;
    assert_eq!(office.sent_after(1), [""; 0], "after {:?}", start.elapsed());
    sleep(secs(2_000.0)).await;
    assert_eq!(office.sent_after(1), ["waits"]);
}

/// The one that looks is on its way and nobody polls it: in the end another looks.
#[tokio::test(start_paused = true)]
async fn a_probe_that_is_held_is_not_the_last() {
    let office = Office::new(meter());
    let first = office.call("first");
    settled().await;
    office.desk.answer("first", reply(429)).await;
    first.await.unwrap().unwrap();
    let mut service = office.meter.layer(office.desk.clone());
    sleep(secs(5.0)).await;
    let mut held = Box::pin(service.call(named("held")));
    assert!(poll_once(&mut held).is_pending());
    assert_eq!(office.desk.open(), ["held"]);
    let _next = office.call("next");
    sleep(secs(500.0)).await;
    assert_eq!(office.desk.open(), ["held"], "an answer may still come");
    sleep(secs(200.0)).await;
    assert_eq!(office.desk.open(), ["held", "next"]);
}
