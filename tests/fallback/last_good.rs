//! The last good answer.

use http::{HeaderName, HeaderValue, Method, Request, header::AUTHORIZATION};
use tokio::time::advance;
use tower_outbound::{
    fallback::LastGood,
    mock::{Script, Step, ok, status},
};

use super::{Fallback, report, send};
use crate::common::{Text, Told, get, request, secs};

/// One good answer to `good`, then what a failing server gives to `asked`.
async fn kept(answers: &LastGood, step: Step, good: Request<Text>, asked: Request<Text>) -> Option<String> {
    let layer = Fallback::new().last_good(answers.clone());
    let first = Script::new().then(step).otherwise(status(503));
    let _ = send(&layer, &first, good).await;
    let response = send(&layer, &first, asked).await.unwrap();
    response.status().is_success().then(|| String::from_utf8_lossy(response.body()).into_owned())
}

#[tokio::test(start_paused = true)]
async fn it_is_given_again_with_its_age() {
    let layer = Fallback::new().last_good(LastGood::new());
    let first = Script::new().then(ok("good").header("x-a", 1)).otherwise(status(503));
    assert_eq!(send(&layer, &first, get()).await.unwrap().body(), "good");
    advance(secs(60.0)).await;
    let response = send(&layer, &first, get()).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.body()[..]), (200, &b"good"[..]));
    assert_eq!(response.headers()["x-a"], "1");
    assert_eq!(report(&response).age, Some(secs(60.0)));
}

#[tokio::test(start_paused = true)]
async fn it_is_for_the_same_request_only() {
    let answers = LastGood::new();
    let post = |body| request(Method::POST, body);
    assert_eq!(kept(&answers, ok("good"), post("a"), post("a")).await.as_deref(), Some("good"));
    assert_eq!(kept(&answers, ok("good"), post("a"), post("b")).await, None);
    assert_eq!(kept(&answers, ok("good"), post("a"), request(Method::PUT, "a")).await, None);
    let mut other = post("a");
    *other.uri_mut() = "https://api.example/v1/things?x=1".parse().unwrap();
    assert_eq!(kept(&answers, ok("good"), post("a"), other).await, None);
    let mut other = post("a");
    other.headers_mut().insert(AUTHORIZATION, "Bearer another".parse().unwrap());
    assert_eq!(kept(&answers, ok("good"), post("a"), other).await, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_whole_good_answer_is_not_kept() {
    for step in [
        status(204).header("cache-control", "private, No-Store"),
        status(206).body("part"),
        status(302),
        status(404).body("none"),
        ok("broken off").cut(),
        ok("too short").truncated(),
    ] {
        let answers = LastGood::new();
        assert_eq!(kept(&answers, step, get(), get()).await, None);
        assert!(answers.is_empty());
    }
    // An empty one is an answer, too.
    assert_eq!(kept(&LastGood::new(), status(204), get(), get()).await.as_deref(), Some(""));
}

#[tokio::test(start_paused = true)]
async fn it_grows_too_old() {
    let layer = Fallback::new().last_good(LastGood::new().max_age(secs(10.0)));
    let first = Script::new().then(ok("good")).otherwise(status(503));
    send(&layer, &first, get()).await.unwrap();
    advance(secs(10.0)).await;
    assert_eq!(send(&layer, &first, get()).await.unwrap().body(), "good");
    advance(secs(0.1)).await;
    assert_eq!(send(&layer, &first, get()).await.unwrap().status(), 503);
}

#[tokio::test(start_paused = true)]
async fn it_keeps_no_more_than_its_bound() {
    let answers = LastGood::new().max_bytes(3_000).max_answer(1_000);
    let layer = Fallback::new().last_good(answers.clone());
    let long = Script::new().otherwise(ok(vec![b'x'; 1_001]));
    assert_eq!(send(&layer, &long, get()).await.unwrap().body().len(), 1_001);
    assert!(answers.is_empty(), "too long to be kept");

    let first = Script::new().otherwise(ok(vec![b'x'; 900]));
    let uri = |number: usize| {
        let mut request = get();
        *request.uri_mut() = format!("https://api.example/{number}").parse().unwrap();
        request
    };
    for number in 0..100 {
        send(&layer, &first, uri(number)).await.unwrap();
        // The same again takes no more room.
        send(&layer, &first, uri(number)).await.unwrap();
        assert!(answers.len() <= 3);
    }
    let failing = Script::new().otherwise(status(503));
    assert_eq!(send(&layer, &failing, uri(99)).await.unwrap().status(), 200);
    assert_eq!(send(&layer, &failing, uri(96)).await.unwrap().status(), 503, "the oldest goes first");
    answers.clear();
    assert_eq!(send(&layer, &failing, uri(99)).await.unwrap().status(), 503);
}

#[tokio::test(start_paused = true)]
async fn another_that_answers_is_not_kept_for_the_first() {
    let answers = LastGood::new();
    let layer = Fallback::new()
        .service("second", Told(Script::new().then(ok("second")).otherwise(status(503))))
        .last_good(answers.clone());
    let first = Script::new().otherwise(status(503));
    assert_eq!(send(&layer, &first, get()).await.unwrap().body(), "second");
    assert_eq!(send(&layer, &first, get()).await.unwrap().status(), 503);
    assert!(answers.is_empty());
}

/// The same request, with one header more.
fn asked(name: &'static str, value: &'static str) -> Request<Text> {
    let mut request = get();
    request.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    request
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_an_answer_that_was_for_another() {
    for name in [
        "authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "cookie",
        "x-auth-token",
        "x-session-token",
        "openai-organization",
        "x-tenant-key",
        "accept",
        "accept-language",
    ] {
        let answers = LastGood::new();
        let ask = async |good, again| kept(&answers, ok("mine"), good, again).await;
        assert_eq!(ask(asked(name, "one"), asked(name, "another")).await, None, "{name}");
        assert_eq!(ask(asked(name, "one"), get()).await, None, "{name}");
        assert_eq!(ask(asked(name, "one"), asked(name, "one")).await.as_deref(), Some("mine"), "{name}");
    }
    // Headers of no matter, and of another name for each request, make none another.
    for name in ["x-request-id", "idempotency-key", "user-agent"] {
        let answer = kept(&LastGood::new(), ok("mine"), asked(name, "1"), asked(name, "2")).await;
        assert_eq!(answer.as_deref(), Some("mine"), "{name}");
    }
    // One of any name, if its caller says that it is a secret.
    let secret = |value| {
        let mut request = asked("x-me", value);
        request.headers_mut().values_mut().for_each(|value| value.set_sensitive(true));
        request
    };
    assert_eq!(kept(&LastGood::new(), ok("mine"), secret("1"), secret("2")).await, None);
}

#[tokio::test(start_paused = true)]
async fn what_the_answer_varies_by_tells_requests_apart() {
    let varies = |names: &'static str| ok("one").header("vary", "origin").header("vary", names);
    for names in ["X-Plan, Accept", "x-plan"] {
        let answers = LastGood::new();
        assert_eq!(kept(&answers, varies(names), asked("x-plan", "a"), asked("x-plan", "b")).await, None);
        assert_eq!(kept(&answers, varies(names), asked("x-plan", "a"), get()).await, None);
        let same = kept(&answers, varies(names), asked("x-plan", "a"), asked("x-plan", "a")).await;
        assert_eq!(same.as_deref(), Some("one"));
    }
    for unclear in ["*", "Accept, *", "no name"] {
        let answers = LastGood::new();
        assert_eq!(kept(&answers, ok("one").header("vary", unclear), get(), get()).await, None);
        assert!(answers.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_of_one_session_is_not_kept() {
    let answers = LastGood::new();
    let layer = Fallback::new().last_good(answers.clone());
    let first =
        Script::new().then(ok("good").header("set-cookie", "session=1").header("x-a", 1)).otherwise(status(503));
    assert!(send(&layer, &first, get()).await.unwrap().headers().contains_key("set-cookie"));
    let again = send(&layer, &first, get()).await.unwrap();
    assert_eq!((again.status().as_u16(), again.headers().contains_key("set-cookie")), (200, false));
    assert_eq!(kept(&LastGood::new(), ok("x"), asked("cache-control", "no-store"), get()).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_told_of_an_error_is_not_kept() {
    let stream = |last: &str| {
        let text = format!("data: {{\"text\":\"Hel\"}}\n\n{last}\n\n");
        ok(text).header("content-type", "text/event-stream")
    };
    for error in ["event: error\ndata: overloaded", "data: {\"error\":{\"message\":\"overloaded\"}}"] {
        let answers = LastGood::new();
        assert_eq!(kept(&answers, stream(error), get(), get()).await, None);
        assert!(answers.is_empty());
    }
    assert!(kept(&LastGood::new(), stream("data: [DONE]"), get(), get()).await.is_some());
}

/// Answers of nothing take room, too.
#[tokio::test(start_paused = true)]
async fn many_small_answers_are_bounded_too() {
    let uri = |number: usize| {
        let mut request = get();
        *request.uri_mut() = format!("https://api.example/{number}").parse().unwrap();
        request
    };
    for answers in [LastGood::new().max_bytes(10_000), LastGood::new().max_answers(15), LastGood::new().max_answers(0)]
    {
        let layer = Fallback::new().last_good(answers.clone());
        for number in 0..200 {
            send(&layer, &Script::new().otherwise(status(204)), uri(number)).await.unwrap();
            assert!(answers.len() <= 20, "{}", answers.len());
        }
    }
}

/// What hyper reads, headers and bodies are slices of: a small answer must not keep a large buffer.
#[tokio::test(start_paused = true)]
async fn nothing_of_the_connections_buffers_is_held() {
    use bytes::Bytes;
    use http_body_util::Full;
    use tower::{Layer, ServiceExt};
    let answers = LastGood::new();
    let layer = tower_outbound::fallback::FallbackLayer::new().last_good(answers.clone());
    let buffer = Bytes::from(vec![b'x'; 64 * 1024]);
    let value = HeaderValue::from_maybe_shared(buffer.slice(..10)).unwrap();
    let mut asked = Request::new(Full::new(buffer.slice(20..30)));
    asked.headers_mut().insert("x-api-key", value.clone());
    *asked.uri_mut() = "https://api.example/".parse().unwrap();
    let content = buffer.slice(10..20);
    let service = tower::service_fn(move |_: Request<Text>| {
        let mut response = http::Response::new(Full::new(content.clone()));
        response.headers_mut().insert("x-a", value.clone());
        std::future::ready(Ok::<_, tower::BoxError>(response))
    });
    let response = layer.layer(service).oneshot(asked).await.unwrap();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    assert_eq!(body, "xxxxxxxxxx");
    drop((body, layer));
    assert_eq!(answers.len(), 1);
    assert!(buffer.is_unique(), "something still refers to it");
}
