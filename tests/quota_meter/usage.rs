//! What calls cost: estimated, learned, and settled from what the answers say.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tower::{Layer, Service, service_fn};
use tower_outbound::{
    QuotaMeterLayer, TokenCost, nz,
    quota_meter::{Estimate, Quota, Refusal, Scoping},
};

use super::{Office, costing, limits, meter, refusal};
use crate::common::{Reply, Text, named, reply, secs, settled, with};

pub(crate) fn one() -> QuotaMeterLayer {
    meter().scoping(Scoping::one())
}

async fn with_tokens(meter: QuotaMeterLayer) -> Office {
    let office = Office::new(meter);
    let first = office.send(costing("first", 0));
    settled().await;
    office.desk.answer("first", limits(reply(200), "tokens", 60_000, 60_000, "0s")).await;
    first.await.unwrap().unwrap();
    office
}

fn left(office: &Office) -> f64 {
    60_000.0 - office.meter.snapshot().tokens.unwrap().remaining
}

fn posting(name: &str, body: &str) -> Request<Text> {
    named(name).map(|_| Full::new(body.to_owned().into()))
}

fn answer(body: &str, kind: &'static str) -> Reply {
    let mut answer = reply(200);
    *answer.body_mut() = Full::new(body.to_owned().into());
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static(kind));
    answer
}

/// Sends, answers, and reads the answer.
pub(crate) async fn whole(office: &Office, request: Request<Text>, reply: Reply) {
    let name = request.headers()["x-name"].to_str().unwrap().to_owned();
    let call = office.send(request);
    settled().await;
    office.desk.answer(&name, reply).await;
    call.await.unwrap().unwrap().into_body().collect().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_most_that_the_answer_may_be_is_reserved() {
    let office = with_tokens(one()).await;
    let body = format!(r#"{{"max_tokens":500,"n":3,"x":"{}"}}"#, "x".repeat(400));
    let _call = office.send(posting("a", &body));
    settled().await;
    assert_eq!(left(&office), 1500.0 + body.len() as f64 / 4.0);
}

#[tokio::test(start_paused = true)]
async fn who_says_what_it_costs_is_believed() {
    let office = with_tokens(one()).await;
    let _call = office.send(with(posting("a", r#"{"max_tokens":500}"#), TokenCost(70)));
    settled().await;
    assert_eq!(left(&office), 70.0);
}

#[tokio::test(start_paused = true)]
async fn a_function_may_reckon_and_may_pass() {
    let estimate = Estimate::with(|request| {
        let body = request.body()?;
        body.starts_with(b"mine").then(|| TokenCost(body.len() as u32 * 10))
    });
    let office = with_tokens(one().estimate(estimate)).await;
    let _calls = [office.send(posting("a", "mine!")), office.send(posting("b", r#"{"n":2,"max_tokens":5}  "#))];
    settled().await;
    assert_eq!(left(&office), 50.0 + 10.0 + 6.0);
}

#[tokio::test(start_paused = true)]
async fn by_length_nothing_is_read() {
    let office = with_tokens(one().estimate(Estimate::by_length())).await;
    let _call = office.send(posting("a", r#"{"max_tokens":50000}"#));
    settled().await;
    assert_eq!(left(&office), 5.0);
}

#[tokio::test(start_paused = true)]
async fn what_can_never_fit_is_refused_by_its_body_alone() {
    let office = with_tokens(one()).await;
    let answer = office.answer_of(posting("a", r#"{"max_tokens":70000}"#)).await;
    assert!(matches!(refusal(&answer).1, Refusal::TooLarge { .. }));
}

/// A picture is long, and costs little: the length tells nothing for certain.
#[tokio::test(start_paused = true)]
async fn nobody_is_refused_for_the_length_of_a_body() {
    let office = with_tokens(one()).await;
    let picture = format!(r#"{{"max_tokens":500,"url":"data:image/png;base64,{}"}}"#, "A".repeat(1_000_000));
    let call = office.send(posting("picture", &picture));
    // It waits for as much as there ever is, and no longer.
    tokio::time::sleep(secs(61.0)).await;
    assert_eq!(office.desk.open(), ["picture"], "{:?}", office.meter.snapshot());
    let next = office.send(posting("next", "{}"));
    settled().await;
    let usage = r#"{"usage":{"prompt_tokens":1100,"completion_tokens":40}}"#;
    office.desk.answer("picture", answer(usage, "application/json")).await;
    call.await.unwrap().unwrap();
    settled().await;
    assert_eq!(office.desk.open(), ["next"], "what it did not take is free again");
    drop(next);
}

/// The limit falls while it waits.
#[tokio::test(start_paused = true)]
async fn nobody_in_line_is_refused_for_a_length() {
    let office = with_tokens(one()).await;
    let (_all, under_way) = (office.send(costing("all", 55_000)), office.send(costing("small", 10)));
    settled().await;
    let long = office.send(posting("long", &"A".repeat(100_000)));
    let sure = office.send(costing("sure", 25_000));
    settled().await;
    assert_eq!(office.desk.open(), ["all", "small"]);
    office.desk.answer("small", limits(reply(200), "tokens", 20_000, 10_000, "30s")).await;
    under_way.await.unwrap().unwrap();
    tokio::time::sleep(secs(40.0)).await;
    assert!(!long.is_finished(), "{:?}", long.await);
    assert!(matches!(refusal(&sure.await.unwrap()).1, Refusal::TooLarge { limit: 20_000, .. }));
    assert_eq!(office.desk.open(), ["all", "long"]);
}

#[tokio::test(start_paused = true)]
async fn usage_settles_what_was_reserved() {
    let office = with_tokens(one()).await;
    let usage = r#"{"id":"x","usage":{"prompt_tokens":300,"completion_tokens":40}}"#;
    whole(&office, costing("a", 1_000), answer(usage, "application/json")).await;
    assert_eq!(left(&office), 340.0);
    whole(&office, costing("b", 10), answer(usage, "application/json; charset=utf-8")).await;
    assert_eq!(left(&office), 680.0);
    let used = office.meter.snapshot().used;
    assert_eq!((used.requests, used.input_tokens, used.output_tokens), (3, 600, 80));
}

/// A server that says what is left has counted the call in its own way.
#[tokio::test(start_paused = true)]
async fn where_the_server_counts_its_word_stands() {
    let office = with_tokens(one()).await;
    let usage = r#"{"usage":{"prompt_tokens":300,"completion_tokens":40}}"#;
    let told = limits(answer(usage, "application/json"), "tokens", 60_000, 59_000, "1s");
    whole(&office, costing("a", 1_000), told).await;
    assert_eq!(left(&office), 1_000.0);
    assert_eq!(office.meter.snapshot().used.tokens(), 340);
}

#[tokio::test(start_paused = true)]
async fn the_length_of_a_token_is_learned() {
    let office = with_tokens(one()).await;
    let body = "x".repeat(1_000);
    whole(&office, posting("a", &body), answer(r#"{"usage":{"prompt_tokens":100}}"#, "application/json")).await;
    assert_eq!(left(&office), 100.0);
    let _call = office.send(posting("b", &body));
    settled().await;
    assert_eq!(left(&office), 200.0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_dropped_leaves_the_estimate() {
    let office = with_tokens(one()).await;
    let call = office.send(posting("a", r#"{"max_tokens":500}  "#));
    settled().await;
    office.desk.answer("a", answer(r#"{"usage":{"prompt_tokens":1}}"#, "application/json")).await;
    drop(call.await.unwrap().unwrap());
    assert_eq!(left(&office), 505.0);
    let used = office.meter.snapshot().used;
    assert_eq!((used.input_tokens, used.output_tokens), (5, 500));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_asked_for_is_not_read_and_what_cannot_be_counts_as_reckoned() {
    let usage = r#"{"usage":{"prompt_tokens":300}}"#;
    let office = with_tokens(one().usage(false)).await;
    whole(&office, costing("a", 10), answer(usage, "application/json")).await;
    assert_eq!((left(&office), office.meter.snapshot().used.tokens()), (10.0, 0));

    let office = with_tokens(one()).await;
    whole(&office, costing("a", 10), answer(usage, "text/plain")).await;
    let mut compressed = answer(usage, "application/json");
    compressed.headers_mut().insert("content-encoding", http::HeaderValue::from_static("gzip"));
    whole(&office, costing("b", 10), compressed).await;
    let mut failed = answer(usage, "application/json");
    *failed.status_mut() = http::StatusCode::BAD_REQUEST;
    whole(&office, costing("c", 10), failed).await;
    // What failed is not paid for.
    assert_eq!((left(&office), office.meter.snapshot().used.tokens()), (30.0, 20));
}

/// No answer charges a limit that was given with what no model takes: the estimate stands.
#[tokio::test(start_paused = true)]
async fn a_senseless_usage_is_not_believed() {
    for usage in ["1e300", "18446744073709551615", "1000000000", "-1"] {
        let office = Office::new(one().quota(Quota::per_minute(nz!(600)).tokens_per_minute(nz!(1_000))));
        for said in [
            format!(r#"{{"usage":{{"prompt_tokens":{usage},"completion_tokens":1}}}}"#),
            format!(r#"{{"usage":{{"prompt_tokens":1,"completion_tokens":{usage}}}}}"#),
        ] {
            whole(&office, costing("a", 10), answer(&said, "application/json")).await;
        }
        let now = office.meter.snapshot();
        assert_eq!((now.used.tokens(), now.tokens.unwrap().remaining), (20, 980.0), "{usage}");
    }
}

/// Each API's stream, dropped after its first words: how long the answer was going to be nobody knows by then.
#[tokio::test(start_paused = true)]
async fn a_stream_dropped_midway_counts_as_reckoned() {
    const ANTHROPIC: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n";
    let last = "data: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":15}}\n\n";
    let each = "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}\n\n";
    let done = format!("{each}data: [DONE]\n\n");
    for (seen, is_over, expected) in [
        (ANTHROPIC.to_owned(), false, (25, 500)),
        (ANTHROPIC.to_owned(), true, (25, 1)),
        (format!("{ANTHROPIC}{last}"), false, (25, 15)),
        (
            "data: {\"usageMetadata\":{\"promptTokenCount\":4,\"candidatesTokenCount\":1}}\n\n".to_owned(),
            false,
            (4, 500),
        ),
        (each.to_owned(), false, (9, 500)),
        (done, false, (9, 1)),
        (each.replace("\"completion_tokens\":1", "\"completion_tokens\":700"), false, (9, 700)),
        ("data: {\"response\":{\"usage\":{\"input_tokens\":36,\"output_tokens\":87}}}\n\n".to_owned(), false, (36, 87)),
        ("data: {\"choices\":[{}]}\n\n".to_owned(), false, (5, 500)),
    ] {
        let layer = one();
        let first = seen.clone();
        let mut service = layer.layer(service_fn(move |_: Request<Text>| {
            let first = Frame::data(Bytes::from(first.clone()));
            let body = StreamBody::new(stream::iter([Ok::<_, Infallible>(first)]));
            let body = BodyExt::boxed_unsync(body);
            let answer = Response::builder().header("content-type", "text/event-stream").body(body);
            async move { answer.map_err(tower::BoxError::from) }
        }));
        let mut body = service.call(posting("a", r#"{"max_tokens":500}  "#)).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        if is_over {
            assert!(body.frame().await.is_none());
        }
        drop(body);
        let used = layer.snapshot().used;
        assert_eq!((used.input_tokens, used.output_tokens), expected, "{seen} {is_over}");
    }
}

/// Anthropic limits them apart.
#[tokio::test(start_paused = true)]
async fn input_is_taken_of_the_limit_of_input_and_output_of_its_own() {
    let apart = |mut answer: Reply| {
        for (name, amount) in [("input-tokens", "1000"), ("output-tokens", "1000")] {
            for field in ["limit", "remaining"] {
                let name = format!("anthropic-ratelimit-{name}-{field}");
                answer.headers_mut().insert(http::HeaderName::try_from(name).unwrap(), amount.parse().unwrap());
            }
        }
        answer
    };
    let asking = |name: &str, most: u32| posting(name, &format!("{:400}", format!(r#"{{"max_tokens":{most}}}"#)));
    let office = Office::new(one());
    whole(&office, costing("first", 0), apart(reply(200))).await;
    let first = office.send(asking("a", 900));
    // 100 of input each; of output 100 are left.
    let _calls = [office.send(asking("b", 50)), office.send(asking("c", 400))];
    settled().await;
    assert_eq!(office.sent_after(1), ["a", "b"]);
    // It took 10 of its 900: 990 - 50 are left now.
    let usage = r#"{"usage":{"input_tokens":100,"output_tokens":10}}"#;
    office.desk.answer("a", answer(usage, "application/json")).await;
    first.await.unwrap().unwrap().into_body().collect().await.unwrap();
    settled().await;
    assert_eq!(office.sent_after(3), ["c"]);
    // Of 1,000 tokens in all that somebody named, the body tells how many are input.
    let _goes = office.send(with(asking("d", 0), TokenCost(480)));
    settled().await;
    assert_eq!(office.sent_after(4), ["d"]);
}

/// One's own limit knows only what the meter counts.
#[tokio::test(start_paused = true)]
async fn a_limit_that_was_given_is_settled_whatever_the_server_says() {
    let quota = Quota::learned().tokens_per_minute(nz!(2_000));
    let office = with_tokens(one().quota(quota)).await;
    let usage = r#"{"usage":{"prompt_tokens":100,"completion_tokens":40}}"#;
    let told = limits(answer(usage, "application/json"), "tokens", 60_000, 59_000, "1s");
    whole(&office, costing("a", 2_000), told).await;
    let _goes = office.send(costing("b", 1_850));
    settled().await;
    assert_eq!(office.sent_after(2), ["b"]);
}
