//! What is booked for calls of which nobody heard what they used.

use std::io::{Error, ErrorKind::ConnectionRefused};

use http_body_util::BodyExt;
use tokio::time::timeout;
use tower::{Layer, Service, limit::ConcurrencyLimitLayer, timeout::TimeoutLayer};
use tower_outbound::{
    Again, ApiError, ErrorKind, Gate, QuotaMeterLayer, RetryHint, find_cause,
    quota_meter::{Price, Refusal, Used},
};

use super::{
    Office,
    handle::{asking, clock, priced},
    later, refusal,
};
use crate::common::{Desk, poll_once, ready, reply, secs, settled};

/// So many tokens of output cost 1.
const ONE: u32 = 125_000;

fn office(budget: f64) -> Office {
    Office::new(clock(priced().budget_per_day(budget)).0)
}

fn today(layer: &QuotaMeterLayer) -> Used {
    layer.handle().totals().of_today()
}

fn is_about(money: f64, expected: f64) -> bool {
    (money - expected).abs() < 0.001
}

/// Given up by their callers, ended by a time limit below, or broken off: the server may have worked on each.
#[tokio::test(start_paused = true)]
async fn calls_that_leave_and_are_given_up_are_paid_for() {
    for way in ["dropped", "timed out", "broken off"] {
        let office = office(2.01);
        let mut direct = office.meter.layer(office.desk.clone());
        let mut limited = office.meter.layer(TimeoutLayer::new(secs(1.0)).layer(office.desk.clone()));
        let mut over = 0;
        for _ in 0..50 {
            let answer = match way {
                "dropped" => timeout(secs(1.0), direct.call(asking("a", ONE))).await.ok(),
                "timed out" => Some(limited.call(asking("a", ONE)).await),
                _ => {
                    let call = office.send(asking("a", ONE));
                    settled().await;
                    if !call.is_finished() {
                        office.desk.break_off("a").await;
                    }
                    Some(call.await.unwrap())
                }
            };
            let error = answer.and_then(Result::err);
            over += usize::from(error.is_some_and(|error| find_cause::<Refusal>(&*error).is_some()));
        }
        assert_eq!((office.desk.count(), over), (2, 48), "{way}");
        let used = today(&office.meter);
        assert!(is_about(used.money, 2.0), "{way}: {used:?}");
        assert_eq!((used.requests, used.output_tokens), (2, 250_000), "{way}");
        assert_eq!(office.meter.snapshot().in_flight, 0);
    }
}

/// The answer is an error, or it is certain that the server did nothing.
#[tokio::test(start_paused = true)]
async fn what_came_to_nothing_costs_nothing() {
    let office = office(1.5);
    let failures: [(&str, tower::BoxError); 4] = [
        ("refused", Error::from(ConnectionRefused).into()),
        ("shed", tower::load_shed::error::Overloaded::new().into()),
        ("turned", Again { by: Gate::Key, not_before: tokio::time::Instant::now() }.into()),
        (
            "failed",
            ApiError::new(ErrorKind::Server, RetryHint::Backoff).with_status(http::StatusCode::BAD_GATEWAY).into(),
        ),
    ];
    for (name, error) in failures {
        let call = office.send(asking(name, ONE));
        settled().await;
        office.desk.fail(name, error).await;
        assert!(call.await.unwrap().is_err());
        assert_eq!(today(&office.meter).money, 0.0, "{name}");
    }
    for status in [400, 401, 500, 503] {
        let call = office.send(asking("answered", ONE));
        settled().await;
        office.desk.answer("answered", reply(status)).await;
        call.await.unwrap().unwrap();
        assert_eq!(today(&office.meter).money, 0.0, "{status}");
    }
    assert_eq!(today(&office.meter).tokens(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_never_left_costs_nothing() {
    let office = office(1.5);
    let limited = office.send(asking("limited", ONE));
    settled().await;
    office.desk.answer("limited", later("10")).await;
    limited.await.unwrap().unwrap();
    let waits = office.send(asking("waits", ONE));
    settled().await;
    waits.abort();
    settled().await;
    assert_eq!(today(&office.meter).money, 0.0);
    // Its turn comes while its service is not ready.
    let mut inner = ConcurrencyLimitLayer::new(1).layer(Desk::default());
    let mut stack = office.meter.layer(inner.clone());
    let held = ready(&mut inner).await.clone();
    let mut granted = Box::pin(stack.call(asking("granted", ONE)));
    assert!(poll_once(&mut granted).is_pending());
    tokio::time::sleep(secs(20.0)).await;
    assert!(poll_once(&mut granted).is_pending());
    assert_eq!(office.meter.snapshot().in_flight, 1);
    drop(granted);
    assert_eq!((today(&office.meter).money, office.meter.snapshot().in_flight), (0.0, 0));
    drop(held);
    let _goes = office.send(asking("goes", ONE));
    settled().await;
    assert_eq!(office.desk.open(), ["goes"]);
    assert!(matches!(refusal(&office.answer_of(asking("over", ONE)).await).1, Refusal::OverBudget { .. }));
}

/// At 10 for a million tokens of input and 50 of output.
#[tokio::test(start_paused = true)]
async fn what_a_cache_had_has_a_price_of_its_own() {
    let plain = Price::per_million(10.0, 50.0);
    let own = plain.cached(1.0).cache_write(20.0);
    let json = |usage: &str| format!(r#"{{"usage":{{{usage}}}}}"#);
    let chat =
        json(r#""prompt_tokens":1000000,"completion_tokens":100000,"prompt_tokens_details":{"cached_tokens":600000}"#);
    let responses =
        json(r#""input_tokens":1000000,"input_tokens_details":{"cached_tokens":600000},"output_tokens":100000"#);
    let claude = r#""input_tokens":100000,"cache_creation_input_tokens":200000,"cache_read_input_tokens":3000000"#;
    let whole = json(&format!(r#"{claude},"output_tokens":100000"#));
    let begins =
        format!("data: {{\"type\":\"message_start\",\"message\":{{\"usage\":{{{claude},\"output_tokens\":1}}}}}}\n\n");
    let events = format!("{begins}data: {{\"type\":\"message_delta\",\"usage\":{{\"output_tokens\":100000}}}}\n\n");
    let gemini = r#"{"usageMetadata":{"promptTokenCount":1000000,"cachedContentTokenCount":600000,"candidatesTokenCount":100000}}"#;
    let (is_json, are_events) = ("application/json", "text/event-stream");
    for (answer, kind, by_default, by_own) in [
        (&*chat, is_json, 15.0, 9.6),
        (&*responses, is_json, 15.0, 9.6),
        (gemini, is_json, 15.0, 9.6),
        (&*whole, is_json, 1.0 + 2.5 + 3.0 + 5.0, 1.0 + 4.0 + 3.0 + 5.0),
        (&*events, are_events, 1.0 + 2.5 + 3.0 + 5.0, 1.0 + 4.0 + 3.0 + 5.0),
    ] {
        for (price, expected) in [(plain, by_default), (own, by_own)] {
            let office = Office::new(clock(priced().price("gpt-x-mini", price)).0);
            let call = office.send(asking("a", 1));
            settled().await;
            let mut reply = reply(200);
            *reply.body_mut() = answer.to_owned().into();
            reply.headers_mut().insert("content-type", http::HeaderValue::from_static(kind));
            office.desk.answer("a", reply).await;
            call.await.unwrap().unwrap().into_body().collect().await.unwrap();
            assert!(is_about(today(&office.meter).money, expected), "{answer}: {:?}", today(&office.meter));
        }
    }
}

/// Sums that overflow are as much as can be, and not nothing.
#[test]
fn more_money_than_there_is_leaves_none() {
    let saved = |money| {
        let mut used = Used::default();
        used.money = money;
        used
    };
    assert_eq!((saved(f64::MAX) + saved(f64::MAX)).money, f64::MAX);
    assert_eq!((saved(3.0) + saved(f64::NAN)).money, 3.0);
    assert_eq!((saved(3.0) + saved(f64::INFINITY)).money, 3.0);
}
