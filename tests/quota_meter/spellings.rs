//! The limits in every spelling, buckets and windows: all that there is is used, and no call is wasted.

use tokio::time::Instant;
use tower::{ServiceBuilder, ServiceExt};
use tower_outbound::{
    BackoffRetryLayer, QuotaMeterLayer, TokenCost,
    mock::{Limit, Limits, MockApi, Spelling, token_cost},
    nz,
    quota_meter::Quota,
};

use super::meter;
use crate::common::{Text, ms, named};

fn embed() -> http::Request<Text> {
    const BODY: &str = r#"{"model":"m","input":"hi"}"#;
    let tokens = token_cost("/v1/embeddings", &serde_json::from_str(BODY).unwrap(), 0).unwrap();
    let mut request = crate::common::with(named("embed"), TokenCost(tokens.try_into().unwrap()));
    *request.uri_mut() = "http://api.example/v1/embeddings".parse().unwrap();
    *request.method_mut() = http::Method::POST;
    *request.body_mut() = BODY.into();
    request.headers_mut().insert("authorization", "Bearer sk-any".parse().unwrap());
    request
}

/// So many calls, sixty-four at once; how long they took.
async fn batch(api: &MockApi, layer: &QuotaMeterLayer, calls: usize) -> f64 {
    let stack = ServiceBuilder::new().layer(BackoffRetryLayer::new()).layer(layer).service(api.clone());
    let start = Instant::now();
    let workers: tokio::task::JoinSet<_> = (0..64)
        .map(|worker| {
            let stack = stack.clone();
            async move {
                for _ in (worker..calls).step_by(64) {
                    assert_eq!(stack.clone().oneshot(embed()).await.unwrap().status(), 200);
                }
            }
        })
        .collect();
    workers.join_all().await;
    start.elapsed().as_secs_f64()
}

fn api(limits: Limits, spelling: Spelling) -> MockApi {
    let ms_100 = ms(100)..=ms(100);
    MockApi::builder().limits(limits).spelling(spelling).service_time(ms_100).build()
}

#[tokio::test(start_paused = true)]
async fn buckets() {
    for spelling in [Spelling::OpenAi, Spelling::Anthropic] {
        let api = api(Limits::per_minute(300, 1_000_000), spelling);
        let took = batch(&api, &meter(), 1_500).await;
        let limit = api.physical_limit(64).as_secs_f64();
        assert!(took <= limit * 1.03, "{spelling:?}: {took} s where {limit} s are possible");
        assert!(api.counters().rejected <= 1, "{spelling:?}: {:?}", api.counters());
    }
}

/// Groq: requests by the day and tokens by the minute, in one answer.
#[tokio::test(start_paused = true)]
async fn a_day_and_a_minute() {
    let limits = Limits::none().requests(Limit::per_day(14_400)).tokens(Limit::per_minute(600));
    let api = api(limits, Spelling::OpenAi);
    let took = batch(&api, &meter(), 1_200).await;
    let limit = api.physical_limit(64).as_secs_f64();
    assert!(took <= limit * 1.03, "{took} s where {limit} s are possible");
    assert!(api.counters().rejected <= 1, "{:?}", api.counters());
}

/// Windows of a minute: five of them, and the fifth begins after four minutes.
#[tokio::test(start_paused = true)]
async fn windows() {
    for spelling in [Spelling::GitHub, Spelling::Ietf] {
        let api = api(Limits::none().requests(Limit::per_minute(300).in_windows()), spelling);
        let took = batch(&api, &meter(), 1_500).await;
        // 64 at once, 0.1 s each.
        let limit = 240.0 + 0.5;
        assert!(took <= limit * 1.03, "{spelling:?}: {took} s where {limit} s are possible");
        assert!(api.counters().rejected <= 15, "{spelling:?}: {:?}", api.counters());
    }
}

#[tokio::test(start_paused = true)]
async fn given_limits_need_no_headers() {
    let limits = Limits::none().hidden(Limit::per_minute(300));
    let api = MockApi::builder().limits(limits).rate_headers(false).service_time(ms(100)..=ms(100)).build();
    let took = batch(&api, &meter().quota(Quota::per_minute(nz!(300))), 1_500).await;
    assert_eq!(api.counters().rejected, 0);
    assert!((240.0..=240.2).contains(&took), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn a_share_is_a_share_of_what_is_learned() {
    let api = api(Limits::per_minute(300, 1_000_000), Spelling::OpenAi);
    let took = batch(&api, &meter().quota(Quota::learned().share(0.5)), 900).await;
    // Half of 300 at once, and then 2.5 a second.
    assert!((297.0..=309.0).contains(&took), "{took} s");
    assert_eq!(api.counters().rejected, 0);
}
