//! Those who are asked: services, functions, and what they get to see.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use tokio::time::Instant;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_outbound::{
    Call, ErrorKind,
    body::Once,
    failure,
    fallback::{FallbackError, FallbackLayer, FallbackReport},
    find_cause,
    mock::{MockBody, MockError, Script, dropped, ok, status},
};

use super::{Fallback, ask, report, send};
use crate::common::{Text, Told, get, post, secs, with};

#[tokio::test(start_paused = true)]
async fn a_chain_is_asked_in_order_until_one_answers() {
    let scripts: [Script; 3] = [status(500), ok("third"), ok("fourth")].map(|step| Script::new().strict().then(step));
    let [one, two, three] = scripts.clone();
    let layer = Fallback::new().service("one", Told(one)).service("two", Told(two)).service("three", Told(three));
    let response = send(&layer, &Script::new().then(status(503)), post()).await.unwrap();
    assert_eq!(response.body(), "third");
    let report = report(&response);
    assert_eq!(report.by.as_deref(), Some("two"));
    let failed: Vec<_> = report.failed.iter().map(|failed| (&*failed.by, failed.error.kind())).collect();
    assert_eq!(failed, [("one", ErrorKind::Server)]);
    assert_eq!(scripts.map(|script| script.count()), [1, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_the_first_response_comes_out_with_the_others_listed() {
    let layer = Fallback::new()
        .service("one", Told(Script::new().otherwise(status(401))))
        .service("two", Told(Script::new().otherwise(dropped())))
        .function("three", |_| None);
    let response = send(&layer, &Script::new().then(status(503).body("first")), get()).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.body()[..]), (503, &b"first"[..]));
    let report = report(&response);
    assert_eq!(report.by, None);
    let kinds: Vec<_> = report.failed.iter().map(|failed| (&*failed.by, failed.error.kind())).collect();
    assert_eq!(
        kinds,
        [("one", ErrorKind::Authentication), ("two", ErrorKind::Unavailable), ("three", ErrorKind::Unavailable)]
    );
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_the_first_error_comes_out_with_the_others_listed() {
    let layer = Fallback::new().service("one", Told(Script::new().otherwise(status(500))));
    let error = send(&layer, &Script::new().then(dropped()), get()).await.unwrap_err();
    assert!(find_cause::<MockError>(&*error).is_some(), "the first error is to be found");
    let kind = failure(&Err::<Response<()>, _>(error)).map(|error| error.kind());
    assert_eq!(kind, Some(ErrorKind::Unavailable));

    let error = send(&layer, &Script::new().then(dropped()), get()).await.unwrap_err();
    let error: &FallbackError = find_cause(&*error).expect("the whole of it");
    assert_eq!(error.report().failed.len(), 1);
    assert!(error.to_string().contains("; one: 500 server"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn another_gets_the_same_request_rewritten() {
    let script = Script::new().strict().otherwise(ok("second"));
    let layer = Fallback::new().rewritten("eu", Told(script.clone()), |mut request| {
        *request.uri_mut() = "https://eu.example/v1/things".parse().unwrap();
        request.headers_mut().insert("api-key", HeaderValue::from_static("other"));
        request.map(|_| Full::from("another model"))
    });
    let mut request = post();
    request.headers_mut().insert("x-mine", HeaderValue::from_static("1"));
    assert_eq!(send(&layer, &Script::new().then(status(503)), request).await.unwrap().body(), "second");
    let sent = &script.calls()[0];
    assert_eq!((sent.method.as_str(), sent.uri.host(), &*sent.text()), ("POST", Some("eu.example"), "another model"));
    assert_eq!((sent.header("api-key"), sent.header("x-mine")), (Some("other"), Some("1")));
}

/// What other layers noted of the first call would mislead those under the second: its lease, its place, its owner.
#[tokio::test(start_paused = true)]
async fn another_gets_no_call_of_the_first_but_its_deadline() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let calls = Arc::clone(&seen);
    let second = service_fn(move |request: Request<Text>| {
        calls.lock().unwrap().push(request.extensions().get::<Call>().cloned());
        async { Ok::<_, BoxError>(Response::new(Text::from("second"))) }
    });
    let layer = FallbackLayer::<Text, Text>::new().service("second", second);
    let first = || service_fn(|_: Request<Text>| async { Ok::<_, BoxError>(crate::common::reply(503)) });
    let call = Call::now();
    let deadline = Instant::now() + secs(5.0);
    layer.layer(first()).oneshot(with(get(), call.clone())).await.unwrap();
    layer.layer(first()).oneshot(with(get(), call.clone().with_deadline(deadline))).await.unwrap();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert!(seen[0].is_none());
    let second = seen[1].as_ref().expect("a call of its own");
    assert_eq!(second.deadline(), Some(deadline));
    assert!(second.seq() != call.seq() && !second.is_retried() && second.lease().is_none());
    // After it, nobody is asked.
    let late = with(get(), call.with_deadline(Instant::now()));
    assert_eq!(layer.layer(first()).oneshot(late).await.unwrap().status(), 503);
}

#[tokio::test(start_paused = true)]
async fn a_function_sees_the_request_and_why_it_failed() {
    let layer = Fallback::new().function("canned", |covered| {
        assert_eq!((covered.method.as_str(), covered.uri.path()), ("GET", "/v1/things"));
        Some(Response::new(Bytes::from(format!("sorry: {}", covered.error.kind()))))
    });
    assert_eq!(ask(&layer, &Script::new().then(status(504))).await, "sorry: timeout");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_goes_only_once_is_not_sent_to_another() {
    let layer = FallbackLayer::<Once<Text>, MockBody>::new()
        .service("second", Script::new())
        .function("canned", |_| Some(Response::new(Bytes::from_static(b"canned"))));
    let first = Script::new().then(status(503));
    let response = layer.layer(Told(first)).oneshot(post().map(Once::new)).await.unwrap();
    let report: &FallbackReport = response.extensions().get().unwrap();
    assert_eq!(report.by.as_deref(), Some("canned"));
    assert_eq!(report.failed[0].error.message(), Some("the request's body can go only once"));
}

/// The query of some APIs has the key in it.
#[tokio::test(start_paused = true)]
async fn the_report_shows_no_query() {
    let (layer, _) = super::second();
    let mut request = get();
    *request.uri_mut() = "https://api.example/v1?key=secret".parse().unwrap();
    let response = send(&layer, &Script::new().then(status(503)), request).await.unwrap();
    assert!(!format!("{:?} {}", report(&response), report(&response)).contains("secret"));
}
