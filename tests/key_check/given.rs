//! Who gets the key, and how.

use http::{HeaderValue, Request};
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_outbound::{
    Call,
    backoff_retry::BackoffRetryLayer,
    key_check::{KeyCheckLayer, Origin},
    mock::{Script, ok, status},
};

use super::{KEY, key, layer, send};
use crate::common::{Text, Told, get};

fn to(uri: &str) -> Request<Text> {
    let mut request = get();
    *request.uri_mut() = uri.parse().unwrap();
    request
}

#[tokio::test]
async fn its_origin_gets_it_and_no_other() {
    for (uri, is_given) in [
        ("https://api.example/", true),
        ("https://api.example/other?a=b", true),
        ("https://api.example:443/", true),
        ("https://API.Example/", true),
        ("https://user@api.example/", true),
        ("http://api.example/", false),
        ("http://api.example:443/", false),
        ("https://api.example:444/", false),
        ("https://api.example./", false),
        ("https://www.api.example/", false),
        ("https://example/", false),
        ("https://api.example.evil.example/", false),
        ("https://api.example@evil.example/", false),
        ("https://evil.example/https://api.example/", false),
        ("https://evil.example/?host=api.example", false),
        ("wss://api.example/", false),
        ("//api.example/", false),
        ("/v1/models", false),
        ("api.example:443", false),
        ("*", false),
    ] {
        let Ok(uri) = uri.parse::<http::Uri>() else { continue };
        let script = Script::new().then(ok("done"));
        send(&layer(), &script, to(&uri.to_string())).await.unwrap();
        let expected = is_given.then(|| format!("Bearer {KEY}"));
        assert_eq!(script.calls()[0].header("authorization"), expected.as_deref(), "{uri}");
    }
}

/// What a request says its host is decides nothing: it goes where its URI says.
#[tokio::test]
async fn a_host_header_fools_nobody() {
    let script = Script::new().then(ok("done"));
    let mut request = to("https://evil.example/");
    request.headers_mut().insert("host", "api.example".parse().unwrap());
    send(&layer(), &script, request).await.unwrap();
    script.assert_header("authorization", [None]);
}

#[tokio::test]
async fn an_origin_by_address_is_told_apart_by_port() {
    let layer = KeyCheckLayer::new(key(), Origin::parse("http://127.0.0.1:8080").unwrap());
    let script = Script::new().otherwise(ok("done"));
    for uri in ["http://127.0.0.1:8080/", "http://127.0.0.1:8081/", "http://127.0.0.1/", "http://localhost:8080/"] {
        send(&layer, &script, to(uri)).await.unwrap();
    }
    let bearer = format!("Bearer {KEY}");
    script.assert_header("authorization", [Some(&*bearer), None, None, None]);
}

#[tokio::test]
async fn the_header_is_marked_sensitive_so_that_nobody_prints_it() {
    let script = Script::new().then(ok("done"));
    send(&layer(), &script, get()).await.unwrap();
    let value: HeaderValue = script.calls()[0].headers["authorization"].clone();
    assert!(value.is_sensitive());
    assert!(!format!("{:?}", script.calls()[0].headers).contains(KEY));
}

#[tokio::test]
async fn a_key_that_the_caller_gives_is_left_alone() {
    for own in ["Bearer sk-own", "Basic dXNlcjpwYXNz", ""] {
        let script = Script::new().then(ok("done"));
        let mut request = get();
        request.headers_mut().insert("authorization", own.parse().unwrap());
        send(&layer(), &script, request).await.unwrap();
        assert_eq!(script.calls()[0].headers.get_all("authorization").iter().collect::<Vec<_>>(), [own]);
    }
}

#[tokio::test]
async fn nothing_else_of_the_request_is_touched() {
    let script = Script::new().then(ok("done"));
    let mut request = crate::common::request(http::Method::PUT, "the body");
    request.headers_mut().insert("x-one", "1".parse().unwrap());
    send(&layer(), &script, request).await.unwrap();
    let sent = &script.calls()[0];
    assert_eq!((sent.method.as_str(), sent.uri.to_string()), ("PUT", "https://api.example/v1/things".into()));
    assert_eq!((sent.headers.len(), sent.header("x-one")), (2, Some("1")));
    script.assert_bodies(["the body"]);
}

/// The lease is lent in the `Call`, which keeps all else that it says.
#[tokio::test(start_paused = true)]
async fn the_lease_goes_into_the_call() {
    let deadline = tokio::time::Instant::now() + crate::common::secs(5.0);
    let call = Call::now().with_deadline(deadline);
    let seq = call.seq();
    let seen = tower::service_fn(move |request: Request<Text>| {
        let call = request.extensions().get::<Call>().expect("a Call");
        assert!(call.lease().is_some_and(tower_outbound::Lease::is_alive));
        if call.deadline().is_some() {
            assert_eq!((call.seq(), call.deadline()), (seq, Some(deadline)));
        }
        assert!(!call.is_retried(), "nobody retries it");
        std::future::ready(Ok::<_, tower::BoxError>(http::Response::new(String::new())))
    });
    layer().layer(seen).oneshot(crate::common::with(get(), call)).await.unwrap();
    layer().layer(seen).oneshot(get()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_attempt_gets_it_anew() {
    let script = Script::new().then_times(2, status(503)).then(ok("done"));
    let stack = ServiceBuilder::new().layer(BackoffRetryLayer::new()).layer(layer()).service(Told(script.clone()));
    stack.oneshot(get()).await.unwrap();
    let bearer = format!("Bearer {KEY}");
    script.assert_header("authorization", [Some(&*bearer); 3]);
    for sent in script.calls() {
        assert_eq!(sent.headers.get_all("authorization").iter().count(), 1);
    }
}
