//! `openai_sdk()` beside openai-python 3.3: its constants, and its cases for `retry-after`.

use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method, Request, Response};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_outbound::{
    ApiError, ErrorClassifyLayer, RetryHint,
    backoff_retry::{BackoffRetryLayer, Decision::Stop, RetryReport, StopReason},
    mock::{Rehearsal, Script, dropped, ok, status, waits},
    provider::OpenAi,
};

use super::{ms, post, request, secs};

/// Fri, 29 Sep 2023 16:26:37 GMT.
const NOW: Duration = Duration::from_secs(1_696_004_797);

enum Wait {
    /// Exactly so long: the server's own word.
    Exactly(Duration),
    /// The SDK's backoff, 0.5 s at the first retry; its own tests allow 0.4375 of that to either side.
    Backoff,
    /// None: it would be too long. The SDK backs off here for a date, and so comes back too early.
    Ends(Duration),
}

use Wait::{Backoff, Ends, Exactly};

const CASES: [(&str, Wait); 21] = [
    ("20", Exactly(secs(20))),
    ("60", Exactly(secs(60))),
    ("61", Exactly(secs(61))),
    ("120", Exactly(secs(120))),
    ("121", Ends(secs(121))),
    ("0", Backoff),
    ("-10", Backoff),
    ("", Backoff),
    ("inf", Backoff),
    ("nan", Backoff),
    ("1e400", Backoff),
    ("99999999999999999999999999999999999", Backoff),
    ("Fri, 29 Sep 2023 16:26:57 GMT", Exactly(secs(20))),
    ("Fri, 29 Sep 2023 16:27:37 GMT", Exactly(secs(60))),
    ("Fri, 29 Sep 2023 16:28:37 GMT", Exactly(secs(120))),
    ("Fri, 29 Sep 2023 16:28:38 GMT", Ends(secs(121))),
    ("Fri, 29 Sep 2023 16:26:37 GMT", Backoff),
    ("Fri, 29 Sep 2023 16:26:27 GMT", Backoff),
    ("Zun, 29 Sep 2023 16:26:27 GMT", Backoff),
    ("Fri, 29 Sep 100000 16:26:57 GMT", Backoff),
    ("soon", Backoff),
];

/// The SDK's stack over a script, at the time of the cases.
fn stack(
    layer: BackoffRetryLayer,
    script: &Script,
) -> impl Service<Request<String>, Response = Response<impl http_body::Body>, Error = BoxError> {
    ServiceBuilder::new()
        .layer(layer)
        .layer(ErrorClassifyLayer::new(OpenAi).wall_clock(|| SystemTime::UNIX_EPOCH + NOW))
        .service(script.clone())
}

#[tokio::test(start_paused = true)]
async fn waits_for_retry_after_as_openai_python_does() {
    for (value, expected) in CASES {
        for random in [0.0, 0.4, 1.0] {
            let script = Script::new().then(status(429).retry_after(value)).then(ok(""));
            let stack = stack(BackoffRetryLayer::openai_sdk().hold_jitter(random), &script);
            let response = stack.oneshot(post()).await.unwrap();
            let waits = script.waits();
            match expected {
                Exactly(wait) => assert_eq!(waits, [wait], "{value}"),
                Backoff => {
                    assert_eq!(waits.len(), 1, "{value}");
                    let off = (waits[0].as_secs_f64() - 0.5).abs() / 0.5;
                    assert!(off <= 0.4375, "{value}: {waits:?}");
                    // Tokio's timers have whole milliseconds, rounded up.
                    let ours = Duration::from_secs_f64(0.5 * (1.0 - 0.25 * random));
                    assert!((ours..=ours + ms(1)).contains(&waits[0]), "{value}: {waits:?}");
                }
                Ends(hint) => {
                    assert_eq!(waits, [], "{value}");
                    assert_eq!(response.status(), 429);
                    let error = response.extensions().get::<ApiError>().expect("classified");
                    assert_eq!(error.retry(), RetryHint::After(hint), "{value}");
                    let report = response.extensions().get::<RetryReport>().expect("a report");
                    assert_eq!((report.attempts, report.stopped), (1, Some(StopReason::WaitTooLong)));
                }
            }
        }
    }
}

/// The same without ErrorClassify: then the time of the server's own `Date` is that of its dates.
#[test]
fn waits_for_retry_after_alone_as_well() {
    let layer = BackoffRetryLayer::openai_sdk();
    for (value, expected) in CASES {
        let step = status(429).retry_after(value).header("date", "Fri, 29 Sep 2023 16:26:37 GMT");
        let waits = waits(&layer, [step]);
        match expected {
            Exactly(wait) => assert_eq!(waits, [wait], "{value}"),
            Backoff => assert_eq!(waits, [ms(375)], "{value}"),
            Ends(_) => assert_eq!(waits, [], "{value}"),
        }
    }
}

#[test]
fn milliseconds_come_before_seconds() {
    let layer = BackoffRetryLayer::openai_sdk();
    let after = |millis: &str| waits(&layer, [status(429).retry_after_ms(millis).retry_after(7)]);
    assert_eq!(after("1500"), [ms(1500)]);
    assert_eq!(after("12.5"), [Duration::from_micros(12_500)]);
    assert_eq!(after("120000"), [secs(120)]);
    for unusable in ["0", "-1", "nan", "soon"] {
        assert_eq!(after(unusable), [secs(7)], "{unusable}");
    }
}

#[test]
fn half_a_second_doubles_to_eight_less_up_to_a_quarter() {
    let layer = BackoffRetryLayer::openai_sdk();
    let failures = || vec![status(500); 9];
    let rehearsal = Rehearsal::of(&layer);
    assert_eq!(rehearsal.clone().random(0.0).waits(failures()), [ms(500), ms(1000)]);
    assert_eq!(rehearsal.random(1.0).waits(failures()), [ms(375), ms(750)]);
}

#[test]
fn the_statuses_of_the_sdk_are_sent_again_and_no_others() {
    let layer = BackoffRetryLayer::openai_sdk();
    // Named in the preset's docs: what passes by itself, and what is the same tomorrow.
    let (more, fewer) = ([423, 425], [501, 505, 508, 510, 511]);
    for code in 400..600 {
        let by_sdk = matches!(code, 408 | 409 | 429 | 500..);
        let expected = (by_sdk || more.contains(&code)) && !fewer.contains(&code);
        assert_eq!(waits(&layer, [status(code)]).len(), usize::from(expected), "{code}");
    }
    for code in [200, 204, 301, 304] {
        assert_eq!(Rehearsal::of(&layer).decisions([status(code)]), [], "{code}");
    }
    assert_eq!(waits(&layer, [dropped()]).len(), 1);
}

#[test]
fn x_should_retry_overrules_the_status_where_it_is_exact() {
    let layer = BackoffRetryLayer::openai_sdk();
    let told = |code, value: &str| waits(&layer, [status(code).header("x-should-retry", value)]).len();
    assert_eq!((told(400, "true"), told(500, "false"), told(429, "false")), (1, 0, 0));
    assert_eq!((told(400, "yes"), told(500, "no"), told(500, "")), (0, 1, 1));
    // A hint that is too long ends the call before that.
    let step = status(429).header("x-should-retry", "true").retry_after(121);
    assert_eq!(Rehearsal::of(&layer).decisions([step]), [Stop(StopReason::WaitTooLong)]);
}

#[tokio::test(start_paused = true)]
async fn the_count_of_retries_goes_with_every_attempt() {
    let script = Script::new().then_times(3, status(503));
    let response = stack(BackoffRetryLayer::openai_sdk(), &script).oneshot(post()).await.unwrap();
    assert_eq!(response.status(), 503);
    script.assert_done();
    script.assert_header("x-stainless-retry-count", [Some("0"), Some("1"), Some("2")]);
    script.assert_bodies(["please"; 3]);
}

#[tokio::test(start_paused = true)]
async fn every_method_is_sent_again_as_the_sdk_does() {
    for method in [Method::GET, Method::POST, Method::PATCH, Method::DELETE] {
        let script = Script::new().then(dropped()).then(status(500)).then(ok(""));
        let response = stack(BackoffRetryLayer::openai_sdk(), &script).oneshot(request(method)).await.unwrap();
        assert_eq!(response.status(), 200);
        script.assert_done();
    }
}

/// Where we differ: the SDK sends it again, like any 429, and can only fail.
#[tokio::test(start_paused = true)]
async fn a_spent_quota_is_not_sent_again() {
    let spent = serde_json::json!({ "error": {
        "message": "You exceeded your current quota.", "type": "insufficient_quota", "param": null, "code": "insufficient_quota",
    } });
    let script = Script::new().then(status(429).json(&spent));
    let response = stack(BackoffRetryLayer::openai_sdk(), &script).oneshot(post()).await.unwrap();
    script.assert_done();
    let report = response.extensions().get::<RetryReport>().expect("a report");
    assert_eq!(report.stopped, Some(StopReason::NotRetryable));
}

#[test]
fn bytes_that_are_no_text_are_no_hint() {
    let value = HeaderValue::from_bytes(b"\xff\xfe2").unwrap();
    let mut response = Response::builder().status(429).body(()).unwrap();
    response.headers_mut().insert("retry-after", value);
    let error = ApiError::from_head(response.status(), response.headers()).expect("a failure");
    assert_eq!(error.retry(), RetryHint::Backoff);
}

/// The kit decides as the layer does: with a key of ours, a POST may go again.
#[tokio::test(start_paused = true)]
async fn the_rehearsal_puts_on_the_key_that_the_layer_does() {
    let layer = BackoffRetryLayer::new().budget(tower_outbound::backoff_retry::Budget::unlimited());
    for (layer, sent) in [(layer.clone(), 1), (layer.idempotency_keys(), 3)] {
        let script = Script::new().otherwise(status(500));
        tower::Layer::layer(&layer, script.clone()).oneshot(post()).await.unwrap();
        script.assert_sent(sent);
        let request = Request::post("/").body(()).unwrap();
        let decisions = Rehearsal::of(&layer).request(request).decisions(vec![status(500); 9]);
        assert_eq!(decisions.len(), sent, "{decisions:?}");
        assert_eq!(decisions.iter().filter(|decision| matches!(decision, Stop(_))).count(), 1);
    }
}

/// What a test has set on its layer is what the list is made with.
#[test]
fn the_lists_hold_the_jitter_where_the_layer_does() {
    let layer = BackoffRetryLayer::openai_sdk();
    let failures = || vec![status(500); 9];
    assert_eq!(waits(&layer, failures()), [ms(375), ms(750)]);
    let held = layer.hold_jitter(0.0);
    assert_eq!(waits(&held, failures()), [ms(500), ms(1000)]);
    assert_eq!(Rehearsal::of(&held).random(1.0).waits(failures()), [ms(375), ms(750)]);
}
