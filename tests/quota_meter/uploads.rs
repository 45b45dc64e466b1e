//! Files and forms: long, and no prompts.

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::Full;
use tower::{Layer, Service, service_fn};
use tower_outbound::{
    QuotaMeterLayer, TokenCost, nz,
    quota_meter::{Estimate, Price, Quota, Scoping},
};

use super::{Office, meter, usage::whole};
use crate::common::{Reply, Text, limits, named, reply, settled, with};

const FORM: &str = "multipart/form-data; boundary=x";

/// 2 MiB of this type.
fn upload(name: &str, kind: Option<&'static str>) -> Request<Text> {
    let mut request = named(name).map(|_| Full::new(Bytes::from(vec![b'-'; 2 << 20])));
    if let Some(kind) = kind {
        request.headers_mut().insert("content-type", HeaderValue::from_static(kind));
    }
    request
}

fn json(body: &str) -> Reply {
    let mut answer = reply(200);
    *answer.body_mut() = Full::new(body.to_owned().into());
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    answer
}

/// Both ways in which a meter looks at a request, and both sights.
fn meters() -> [QuotaMeterLayer; 2] {
    [meter(), meter().scoping(Scoping::one()).estimate(Estimate::by_length())]
}

#[tokio::test(start_paused = true)]
async fn waits_for_no_tokens() {
    for layer in meters() {
        let office = Office::new(layer.quota(Quota::learned().tokens_per_minute(nz!(90_000))));
        let _uploads: Vec<_> = (0..4).map(|n| office.send(upload(&n.to_string(), Some(FORM)))).collect();
        settled().await;
        assert_eq!(office.desk.count(), 4);
        assert_eq!(office.meter.snapshot().tokens.unwrap().remaining, 90_000.0);
    }
}

/// The one that was learned.
#[tokio::test(start_paused = true)]
async fn takes_nothing_of_a_limit_that_the_server_names() {
    for layer in meters() {
        let office = Office::new(layer);
        whole(&office, named("first"), limits(json("{}"), "tokens", 60_000, 60_000, "0s")).await;
        let _upload = office.send(upload("a", Some(FORM)));
        settled().await;
        assert_eq!(office.meter.snapshot().tokens.unwrap().remaining, 60_000.0);
    }
}

#[tokio::test(start_paused = true)]
async fn costs_nothing_unless_its_answer_says_so() {
    for layer in meters() {
        let office = Office::new(layer.price("", Price::per_million(10.0, 10.0)).budget_per_day(20.0));
        for n in 0..3 {
            whole(&office, upload(&n.to_string(), Some(FORM)), json(r#"{"id":"file-1"}"#)).await;
        }
        assert_eq!(office.meter.handle().totals().of_today().money, 0.0);
        let transcript = r#"{"text":"Hello","usage":{"input_tokens":400000,"output_tokens":100000}}"#;
        whole(&office, upload("said", Some(FORM)), json(transcript)).await;
        assert_eq!(office.meter.handle().totals().of_today().money, 5.0);
    }
}

#[tokio::test(start_paused = true)]
async fn takes_what_its_caller_says() {
    for layer in meters() {
        let office = Office::new(layer.quota(Quota::learned().tokens_per_minute(nz!(90_000))));
        let _call = office.send(with(upload("a", Some(FORM)), TokenCost(500)));
        settled().await;
        assert_eq!(office.meter.snapshot().tokens.unwrap().remaining, 89_500.0);
    }
}

/// How many bytes a token has is learned from prompts.
#[tokio::test(start_paused = true)]
async fn teaches_nothing_of_the_length_of_a_token() {
    let one = || meter().scoping(Scoping::one()).quota(Quota::learned().tokens_per_minute(nz!(90_000)));
    let left = |office: &Office| office.meter.snapshot().tokens.unwrap().remaining.round();
    for cost in [None, Some(TokenCost(10))] {
        let office = Office::new(one());
        let request = upload("a", Some(FORM));
        let request = match cost {
            Some(cost) => with(request, cost),
            None => request,
        };
        whole(&office, request, json(r#"{"usage":{"input_tokens":10,"output_tokens":0}}"#)).await;
        let before = left(&office);
        let _prompt = office.send(named("b").map(|_| Full::new("x".repeat(4_000).into())));
        settled().await;
        assert_eq!(before - left(&office), 1_000.0);
    }
}

#[tokio::test(start_paused = true)]
async fn is_told_by_its_type() {
    for (kind, is_prompt) in [
        (None, true),
        (Some("application/json"), true),
        (Some("Application/JSON; charset=utf-8"), true),
        (Some("application/vnd.api+json"), true),
        (Some("application/jsonl"), false),
        (Some("application/octet-stream"), false),
        (Some("multipart/form-data; boundary=application/json"), false),
        (Some(""), false),
    ] {
        for layer in meters() {
            let office = Office::new(layer.quota(Quota::learned().tokens_per_minute(nz!(900_000))));
            let _call = office.send(upload("a", kind));
            settled().await;
            let took = 900_000.0 - office.meter.snapshot().tokens.unwrap().remaining;
            assert_eq!(took, if is_prompt { 524_288.0 } else { 0.0 }, "{kind:?}");
        }
    }
}

/// Some clients call all that they send text.
#[tokio::test(start_paused = true)]
async fn is_not_what_has_a_prompt_in_it() {
    let office = Office::new(meter().quota(Quota::learned().tokens_per_minute(nz!(90_000))));
    let mut request = named("a").map(|_| Full::new(format!("{:4000}", r#"{"max_tokens":500}"#).into()));
    request.headers_mut().insert("content-type", HeaderValue::from_static("text/plain;charset=UTF-8"));
    let _call = office.send(request);
    settled().await;
    assert_eq!(office.meter.snapshot().tokens.unwrap().remaining, 88_500.0);
}

/// By its head alone, as a proxy sees it.
#[tokio::test(start_paused = true)]
async fn is_told_without_its_body() {
    let layer = meter().quota(Quota::learned().tokens_per_minute(nz!(90_000)));
    let mut service =
        layer.clone().any_body().layer(service_fn(|_: Request<Text>| async { Ok::<_, tower::BoxError>(json("{}")) }));
    for (kind, left) in [(FORM, 90_000.0), ("application/json", 80_000.0)] {
        let mut request = upload("a", Some(kind));
        request.headers_mut().insert("content-length", HeaderValue::from_static("40000"));
        service.call(request).await.unwrap();
        assert_eq!(layer.snapshot().tokens.unwrap().remaining, left);
    }
}
