use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, advance, sleep};
use tower_outbound::mock::{KeyPrint, Limit, Limits, MockApi, Outcome, token_cost};

use super::{answer, bytes, chat, ms, post, secs, send, value};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test(start_paused = true)]
async fn the_request_bucket_is_exact() {
    let api = MockApi::builder().limits(Limits::none().requests(Limit::per_minute(500))).rejected_count(false).build();
    for n in 0..500 {
        let response = send(&api, post(CHAT, &chat("x", 1))).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(value(response.headers(), "x-ratelimit-limit-requests"), "500");
        assert_eq!(value(response.headers(), "x-ratelimit-remaining-requests"), (499 - n).to_string());
    }
    let rejected = send(&api, post(CHAT, &chat("x", 1))).await.unwrap();
    assert_eq!(rejected.status(), 429);
    assert_eq!(value(rejected.headers(), "retry-after"), "1");
    assert_eq!(value(rejected.headers(), "x-ratelimit-reset-requests"), "1m0s");
    // 120 ms refill one request.
    advance(Duration::from_nanos(119_999_999)).await;
    assert_eq!(send(&api, post(CHAT, &chat("x", 1))).await.unwrap().status(), 429);
    advance(Duration::from_nanos(1)).await;
    assert_eq!(send(&api, post(CHAT, &chat("x", 1))).await.unwrap().status(), 200);
    assert_eq!(send(&api, post(CHAT, &chat("x", 1))).await.unwrap().status(), 429);

    let counters = api.counters();
    assert_eq!((counters.calls, counters.admitted, counters.rejected), (504, 501, 3));
    assert_eq!(counters.over_requests, 3);
    assert_eq!(counters.by_status, [(200, 501), (429, 3)].into());
    assert_eq!(counters.last_admission, Some(ms(120)));
}

#[tokio::test(start_paused = true)]
async fn rejected_calls_cost_a_request_unless_told_otherwise() {
    let api = MockApi::builder().limits(Limits::none().requests(Limit::per_minute(60))).build();
    for _ in 0..60 {
        send(&api, post(CHAT, &chat("x", 1))).await.unwrap();
    }
    // Who asks twice a second keeps the bucket at zero.
    for _ in 0..100 {
        advance(ms(500)).await;
        assert_eq!(send(&api, post(CHAT, &chat("x", 1))).await.unwrap().status(), 429);
    }
    advance(ms(1000)).await;
    assert_eq!(send(&api, post(CHAT, &chat("x", 1))).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn tokens_are_counted_at_admission_as_the_caller_counts_them() {
    let api = MockApi::builder().limits(Limits::none().tokens(Limit::per_minute(6_000))).build();
    let body = chat(&"x".repeat(401), 899);
    assert_eq!(token_cost(CHAT, &body, 256), Some(1_000));
    for left in [5_000, 4_000, 3_000, 2_000, 1_000, 0] {
        let response = send(&api, post(CHAT, &body)).await.unwrap();
        assert_eq!(value(response.headers(), "x-ratelimit-limit-tokens"), "6000");
        assert_eq!(value(response.headers(), "x-ratelimit-remaining-tokens"), left.to_string());
        assert_eq!(value(response.headers(), "x-ratelimit-limit-requests"), "");
    }
    advance(ms(7_660)).await;
    let response = send(&api, post(CHAT, &body)).await.unwrap();
    assert_eq!(value(response.headers(), "x-ratelimit-remaining-tokens"), "766");
    assert_eq!(value(response.headers(), "x-ratelimit-reset-tokens"), "52.34s");
    assert_eq!(value(response.headers(), "retry-after"), "3");
    let error: Value = serde_json::from_slice(&bytes(response).await.unwrap()).unwrap();
    assert_eq!(
        error,
        json!({ "error": {
            "message": "Rate limit reached for gpt-4o-mini in organization org-mock on tokens per min (TPM): Limit 6000, \
                        Used 5234, Requested 1000. Please try again in 2.34s. Visit \
                        https://platform.openai.com/account/rate-limits to learn more.",
            "type": "tokens", "param": null, "code": "rate_limit_exceeded",
        } })
    );
    assert_eq!(api.counters().tokens, 6_000);
}

#[tokio::test(start_paused = true)]
async fn one_call_larger_than_the_limit_never_fits() {
    let api = MockApi::builder().limits(Limits::per_minute(500, 30_000)).build();
    let response = send(&api, post(CHAT, &chat("", 30_601))).await.unwrap();
    assert_eq!(response.status(), 429);
    assert_eq!(value(response.headers(), "retry-after"), "");
    let text = String::from_utf8(bytes(response).await.unwrap().to_vec()).unwrap();
    assert!(
        text.contains("Request too large for gpt-4o-mini in organization org-mock on tokens per min (TPM): Limit 30000, Requested 30601. The input or output tokens must be reduced"),
        "{text}"
    );
    assert_eq!(api.counters().never_fits, 1);
    assert_eq!(api.counters().rejected, 0);
}

#[tokio::test(start_paused = true)]
async fn a_hidden_limit_rejects_while_the_headers_show_room() {
    let limits = Limits::none().requests(Limit::per_minute(600)).hidden(Limit::per_second(10));
    let api = MockApi::builder().limits(limits).build();
    for _ in 0..10 {
        assert_eq!(send(&api, post(CHAT, &chat("x", 1))).await.unwrap().status(), 200);
    }
    let response = send(&api, post(CHAT, &chat("x", 1))).await.unwrap();
    assert_eq!(response.status(), 429);
    assert_eq!(value(response.headers(), "x-ratelimit-remaining-requests"), "589");
    assert_eq!(value(response.headers(), "retry-after"), "1");
    assert_eq!(api.records().last().unwrap().outcome, Outcome::OverHidden);
    advance(ms(100)).await;
    assert_eq!(send(&api, post(CHAT, &chat("x", 1))).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn headers_can_be_left_out() {
    let of = |api: MockApi| async move {
        for _ in 0..2 {
            send(&api, post(CHAT, &chat("x", 1))).await.unwrap();
        }
        let response = send(&api, post(CHAT, &chat("x", 1))).await.unwrap();
        assert_eq!(response.status(), 429);
        ["x-ratelimit-limit-requests", "retry-after", "retry-after-ms"]
            .map(|name| value(response.headers(), name).to_owned())
    };
    let limited = || MockApi::builder().limits(Limits::none().requests(Limit::per_minute(2)));
    assert_eq!(of(limited().build()).await, ["2", "30", ""]);
    assert_eq!(of(limited().retry_after_ms(true).build()).await, ["2", "30", "30000"]);
    assert_eq!(of(limited().rate_headers(false).build()).await, ["", "30", ""]);
    assert_eq!(of(limited().rate_headers(false).retry_after(false).build()).await, ["", "", ""]);
}

#[tokio::test(start_paused = true)]
async fn limits_change_while_it_runs() {
    let api = MockApi::builder().limits(Limits::none().requests(Limit::per_minute(60))).build();
    for _ in 0..60 {
        send(&api, post(CHAT, &chat("x", 1))).await.unwrap();
    }
    api.set_limits(Limits::none().requests(Limit::per_second(100)));
    advance(ms(10)).await;
    let response = send(&api, post(CHAT, &chat("x", 1))).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(value(response.headers(), "x-ratelimit-limit-requests"), "100");
    api.set_limits(Limits::none());
    let response = send(&api, post(CHAT, &chat("x", 1))).await.unwrap();
    assert!(!response.headers().contains_key("x-ratelimit-limit-requests"));
}

#[tokio::test(start_paused = true)]
async fn headers_are_a_snapshot_of_the_admission() {
    let api = MockApi::builder()
        .limits(Limits::none().requests(Limit::per_minute(60)))
        .network(ms(20)..=ms(20))
        .service_time(ms(960)..=ms(960))
        .build();
    let start = Instant::now();
    let response = send(&api, post(CHAT, &chat("x", 1))).await.unwrap();
    assert_eq!(start.elapsed(), secs(1), "20 ms there, 960 ms of work, 20 ms back");
    assert_eq!(value(response.headers(), "x-ratelimit-remaining-requests"), "59");
    assert_eq!(api.records()[0].at, ms(20));
    assert_eq!(api.counters().first_admission, Some(ms(20)));
}

#[tokio::test(start_paused = true)]
async fn keys_are_looked_at() {
    let api = MockApi::builder().keys(["sk-good-0123456789", "sk-other-0123456789"]).build();
    let with = |key: &str| {
        let mut request = post(CHAT, &chat("x", 1));
        request.headers_mut().insert("authorization", key.parse().unwrap());
        request
    };
    assert_eq!(send(&api, with("Bearer sk-good-0123456789")).await.unwrap().status(), 200);
    for missing in ["", "Bearer ", "Basic abc", "sk-good-0123456789"] {
        let (status, body) = answer(&api, with(missing)).await;
        assert_eq!(status, 401);
        assert!(body["error"]["message"].as_str().unwrap().starts_with("You didn't provide an API key."));
        assert_eq!(body["error"]["code"], Value::Null);
    }
    let (status, body) = answer(&api, with("Bearer sk-wrong-secret-abcd")).await;
    assert_eq!((status, &body["error"]["code"]), (401, &json!("invalid_api_key")));
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("Incorrect API key provided: sk-"), "{message}");
    assert!(message.contains("****abcd.") && !message.contains("secret"), "{message}");

    api.revoke_key("sk-good-0123456789");
    assert_eq!(send(&api, with("Bearer sk-good-0123456789")).await.unwrap().status(), 401);
    api.restore_key("sk-good-0123456789");
    api.spend_key("sk-good-0123456789");
    let (status, body) = answer(&api, with("Bearer sk-good-0123456789")).await;
    assert_eq!((status, &body["error"]["type"]), (429, &json!("insufficient_quota")));
    assert_eq!(send(&api, with("Bearer sk-other-0123456789")).await.unwrap().status(), 200);
    assert_eq!(api.records().last().unwrap().key, Some(KeyPrint::of("sk-other-0123456789")));
    assert!(!format!("{:?} {api:?}", api.records()).contains("sk-wrong"));
}

#[tokio::test(start_paused = true)]
async fn the_money_runs_out() {
    let api = MockApi::builder().credit(2).build();
    for expected in [200, 200, 429, 429] {
        assert_eq!(send(&api, post(CHAT, &chat("x", 1))).await.unwrap().status(), expected);
    }
    let (_, body) = answer(&api, post(CHAT, &chat("x", 1))).await;
    assert_eq!(body["error"]["code"], "insufficient_quota");
    assert_eq!((api.counters().quota_exhausted, api.counters().rejected), (3, 0));
    api.set_credit(None);
    assert_eq!(send(&api, post(CHAT, &chat("x", 1))).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn the_record_tells_calls_apart_and_has_a_bound() {
    let api = MockApi::builder().record_cap(3).build();
    for n in 0..5 {
        let mut request = post(CHAT, &chat("x", 1));
        request.headers_mut().insert("x-request-tag", format!("item-{n}").parse().unwrap());
        request.headers_mut().insert("idempotency-key", format!("once-{n}").parse().unwrap());
        request.headers_mut().insert("x-stainless-retry-count", n.into());
        send(&api, request).await.unwrap();
        sleep(secs(1)).await;
    }
    let records = api.records();
    assert_eq!(records.len(), 3);
    let call = &records[0];
    assert_eq!((call.number, call.at), (2, secs(2)));
    assert_eq!((&call.method, call.path.as_str(), call.tokens), (&Method::POST, CHAT, 2));
    assert_eq!(call.tag.as_deref(), Some("item-2"));
    assert_eq!(call.idempotency_key.as_deref(), Some("once-2"));
    assert_eq!(call.retry_count.as_deref(), Some("2"));
    assert_eq!(api.counters().calls, 5);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_is_no_longer_in_flight() {
    let api = MockApi::builder().realistic_latency().build();
    let call = tokio::spawn({
        let api = api.clone();
        async move { send(&api, post(CHAT, &chat("x", 1))).await.map(|_| ()) }
    });
    sleep(ms(300)).await;
    assert_eq!(api.counters().in_flight, 1);
    call.abort();
    let _ = call.await;
    assert_eq!((api.counters().in_flight, api.counters().max_in_flight, api.counters().admitted), (0, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_cost_may_be_off_the_estimate() {
    let api = MockApi::builder().cost_error(0.1).build();
    for _ in 0..100 {
        send(&api, post(CHAT, &chat("", 1_000))).await.unwrap();
    }
    let costs: Vec<u64> = api.records().iter().map(|call| call.tokens).collect();
    assert!(costs.iter().all(|cost| (900..=1_100).contains(cost)));
    assert!(costs.iter().any(|cost| *cost < 950) && costs.iter().any(|cost| *cost > 1_050));
}

/// An ideal client, which knows the limits, reaches the physical limit and does not beat it.
#[tokio::test(start_paused = true)]
async fn the_physical_limit_can_be_reached() {
    let api = MockApi::builder()
        .limits(Limits::none().requests(Limit::per_minute(60)))
        .network(ms(20)..=ms(20))
        .service_time(secs(1)..=secs(1))
        .build();
    let start = Instant::now();
    let calls = (0..180_u64).map(|n| {
        let api = api.clone();
        tokio::spawn(async move {
            sleep(secs(n.saturating_sub(59))).await;
            send(&api, post(CHAT, &chat("x", 1))).await.unwrap().status()
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), 200);
    }
    assert_eq!(start.elapsed(), secs(120) + ms(1_040));
    assert_eq!(api.physical_limit(64), secs(120) + ms(1_040));
}
