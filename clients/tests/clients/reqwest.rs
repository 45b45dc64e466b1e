//! reqwest, under the layers and over them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use clients::Server;
use futures_util::stream;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use reqwest::{ClientBuilder, multipart};
use serde_json::{Value, json};
use tower_outbound::{
    ApiError, ApiKey, ErrorKind, KeyCheckLayer, Origin, TokenCost,
    bridge::{
        reqwest::{Client, ReqwestService},
        reqwest_middleware::TowerMiddleware,
    },
    fallback::{FallbackLayer, FallbackReport, LastGood},
    find_cause,
    key_check::Placement,
    mock::MockApi,
    stack,
};

use crate::passage::{self, Stacked, echo, layers, passes};

fn plain() -> ClientBuilder {
    clients::use_ring();
    ClientBuilder::new().no_proxy()
}

fn client(builder: ClientBuilder) -> Client<Stacked<ReqwestService>> {
    ReqwestService::build(builder).unwrap().layered(layers())
}

#[tokio::test]
async fn http1_with_a_stream_and_trailers() {
    passes(ReqwestService::build(plain()).unwrap(), Version::HTTP_11).await;
}

#[tokio::test]
async fn http2_with_a_stream_and_trailers() {
    passes(ReqwestService::build(plain().http2_prior_knowledge()).unwrap(), Version::HTTP_2).await;
}

/// The same through reqwest's own types, in both directions.
#[tokio::test]
async fn its_own_types_with_a_stream_and_trailers() {
    for (builder, version) in [(plain(), Version::HTTP_11), (plain().http2_prior_knowledge(), Version::HTTP_2)] {
        let (server, calls) = echo().await;
        let url = server.url("/echo?x=%20");
        let body = reqwest::Body::wrap(passage::stream());
        let mut request = reqwest::Request::new(reqwest::Method::POST, url.parse().unwrap());
        *request.headers_mut() = passage::headers();
        *request.version_mut() = version;
        *request.body_mut() = Some(body);
        let response = client(builder).execute(request).await.unwrap();
        assert_eq!(response.url().as_str(), url);
        passage::check(Response::<reqwest::Body>::from(response), version).await;
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}

#[tokio::test]
async fn it_reads_as_before() {
    let endpoint = clients::mock(MockApi::builder().keys([clients::MOCK_KEY]).build()).await.unwrap();
    let layer = stack::openai().base_url(&endpoint.base_url).api_key(&endpoint.key);
    let meter = layer.quota_meter().clone();
    let client = ReqwestService::build(plain()).unwrap().layered(layer);
    let url = format!("{}/chat/completions", endpoint.base_url);
    let question = json!({"model": "m", "messages": [{"role": "user", "content": "Hello"}]});
    let response = client.post(&url).json(&question).extension(TokenCost(5)).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.url().as_str()), (200, &*url));
    assert!(response.remote_addr().is_some());
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(meter.snapshot().counts.sent, 1);

    // Its own header is its own affair.
    let response = client.post(&url).bearer_auth("sk-another").json(&question).send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.extensions().get::<ApiError>().map(ApiError::kind), Some(ErrorKind::Authentication));
}

/// A server that refuses the first sending, and keeps what came.
async fn fails_once() -> (Server, Arc<Mutex<Vec<(HeaderMap, Bytes)>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    let server = Server::start(move |request: Request<hyper::body::Incoming>| {
        let kept = kept.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let mut kept = kept.lock().unwrap();
            kept.push((parts.headers, body));
            Response::builder().status(if kept.len() == 1 { 500 } else { 200 }).body(Full::<Bytes>::default()).unwrap()
        }
    });
    (server.await.unwrap(), seen)
}

fn form() -> multipart::Form {
    // A stream: a part of known content would make a body in memory of it, and need no factory.
    let file = reqwest::Body::wrap_stream(stream::iter([Ok::<_, std::io::Error>("line 1\n"), Ok("line 2\n")]));
    multipart::Form::new().text("purpose", "batch").part("file", multipart::Part::stream(file).file_name("a.jsonl"))
}

#[tokio::test]
async fn a_form_is_made_anew() {
    let (server, seen) = fails_once().await;
    let url = server.url("/v1/files");
    let response = client(plain()).remake(move |http| http.post(&url).multipart(form())).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let seen = seen.lock().unwrap();
    let boundaries: Vec<_> = seen
        .iter()
        .map(|(headers, body)| {
            let boundary = headers["content-type"].to_str().unwrap().split("boundary=").nth(1).unwrap().to_owned();
            let body = std::str::from_utf8(body).unwrap();
            // Each goes with the boundary that its header names.
            assert!(body.contains("line 1\nline 2\n") && body.starts_with(&format!("--{boundary}")), "{body}");
            boundary
        })
        .collect();
    assert_eq!(boundaries.len(), 2);
    assert_ne!(boundaries[0], boundaries[1]);
}

#[tokio::test]
async fn a_stream_goes_again_as_far_as_it_is_kept() {
    for (max_replay, status, sent) in [(64, 200, 2), (4, 500, 1)] {
        let (server, seen) = fails_once().await;
        let body = reqwest::Body::wrap_stream(stream::iter([Ok::<_, std::io::Error>("some"), Ok(" words")]));
        let client = client(plain()).max_replay(max_replay);
        let response = client.put(server.url("/")).body(body).send().await.unwrap();
        assert_eq!(response.status(), status);
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), sent);
        assert!(seen.iter().all(|(_, body)| body == "some words"));
    }
}

const KEY_HEADERS: [&str; 4] = ["x-api-key", "api-key", "x-goog-api-key", "authorization"];

#[tokio::test]
async fn no_key_follows_a_redirect_to_another_host() {
    let (elsewhere, strayed) = fails_once().await;
    let target = elsewhere.url("/stolen");
    let here = Server::start(move |request: Request<hyper::body::Incoming>| {
        let location = match request.uri().path() {
            "/within" => "/here".to_owned(),
            _ => target.clone(),
        };
        let has_keys = KEY_HEADERS.iter().all(|name| request.headers().contains_key(*name));
        let status = if request.uri().path() == "/here" && has_keys { 200 } else { 307 };
        let answer = Response::builder().status(status).header("location", location);
        async move { answer.body(Full::<Bytes>::default()).unwrap() }
    });
    let here = here.await.unwrap();
    let ask = |path: &str| {
        let request = client(plain()).post(here.url(path));
        KEY_HEADERS.iter().fold(request, |request, name| request.header(*name, "sk-secret-0123456789")).send()
    };
    let within = ask("/within").await.unwrap();
    assert_eq!((within.status().as_u16(), within.url().path()), (200, "/here"));
    assert_eq!(ask("/without").await.unwrap().status(), 307);
    assert!(strayed.lock().unwrap().is_empty(), "nothing was sent there");
}

#[tokio::test]
async fn no_error_shows_a_key_in_its_url() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let with_key = client(plain()).get(format!("http://{closed}/v1beta/models?key=AIzaSyA0123456789abcdef"));
    let error = with_key.send().await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("AIza"), "{error:?}");
    assert!(find_cause::<reqwest::Error>(&*error).unwrap().is_connect());
    assert_eq!(find_cause::<ApiError>(&*error).map(ApiError::kind), Some(ErrorKind::Unavailable));

    let without = client(plain()).get(format!("http://{closed}/v1/models")).send().await.unwrap_err();
    let url = find_cause::<reqwest::Error>(&*without).and_then(reqwest::Error::url).unwrap();
    assert_eq!(url.path(), "/v1/models");
}

/// What the caller wrote, `response.url()` tells, whatever it looks like.
#[tokio::test]
async fn a_response_has_the_url_that_the_caller_wrote() {
    let (server, _) = fails_once().await;
    let client = client(plain());
    for query in ["key=AIzaSyA0123456789abcdef", "key=next-page-0123456789&page=2", "page=2&api_key=&x"] {
        let url = server.url(&format!("/models?{query}"));
        let response = client.get(&url).send().await.unwrap();
        assert_eq!(response.url().as_str(), url);
        // It may show in the URL, and nowhere else.
        assert_eq!(response.status(), 200);
    }
}

#[tokio::test]
async fn of_several_bodies_the_last_is_sent() {
    let server = Server::start(|request: Request<hyper::body::Incoming>| async move {
        let media = request.headers().get_all("content-type").iter().map(|media| media.to_str().unwrap().to_owned());
        let media = media.collect::<Vec<_>>().join(", ");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::builder().header("x-media", media).body(Full::new(body)).unwrap()
    });
    let server = server.await.unwrap();
    let url = server.url("/");
    let client = client(plain());
    let json = "application/json";
    for (request, body, media) in [
        (client.post(&url).json(&1).body("2"), "2", json),
        (client.post(&url).body("1").json(&2), "2", json),
        (client.post(&url).json(&1).json(&2), "2", json),
        (client.post(&url).header("content-type", "text/x").json(&2), "2", "text/x"),
        (client.post(&url).body("2"), "2", ""),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["x-media"], media);
        assert_eq!(response.text().await.unwrap(), body);
    }
    let error = client.post(&url).json(&f64_map()).body("2").send().await.unwrap_err();
    assert!(find_cause::<serde_json::Error>(&*error).is_some());
}

/// As `KeyCheck` puts it where an API takes it nowhere else.
#[tokio::test]
async fn no_response_shows_a_key_in_its_url() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    let server = Server::start(move |request: Request<hyper::body::Incoming>| {
        kept.lock().unwrap().push(request.uri().to_string());
        let response = Response::builder().status(if request.uri().path() == "/away" { 307 } else { 400 });
        let response = response.header("location", "/here?key=AIzaSyA0123456789abcdef&page=3");
        async move { response.body(Full::<Bytes>::default()).unwrap() }
    });
    let server = server.await.unwrap();
    // The second is one that nothing would take for a key.
    for (parameter, key) in [("key", "AIzaSyA0123456789abcdef"), ("who", "just-me-and-myself")] {
        let origin = Origin::parse(&server.url("")).unwrap();
        let key_check = KeyCheckLayer::new(ApiKey::new(key).unwrap(), origin).placement(Placement::query(parameter));
        let client = ReqwestService::build(plain()).unwrap().layered(key_check.clone());
        for path in ["/models", "/models?page=2"] {
            let response = client.get(server.url(path)).send().await.unwrap();
            assert!(asked.lock().unwrap().last().unwrap().contains(key), "it was sent");
            assert_eq!(response.url().as_str(), server.url(path));
            let error = response.error_for_status().unwrap_err();
            assert!(!format!("{error} {error:?}").contains(key), "{error:?}");

            let middleware = reqwest_middleware::ClientBuilder::new(plain().build().unwrap());
            let middleware = middleware.with(TowerMiddleware::new(key_check.clone())).build();
            let response = middleware.get(server.url(path)).send().await.unwrap();
            assert_eq!(response.url().as_str(), server.url(path));
        }
        let away = client.get(server.url("/away")).send().await.unwrap();
        assert_eq!(away.url().as_str(), server.url("/here?page=3"));
    }
}

#[tokio::test]
async fn an_answer_that_was_kept_has_the_url_that_was_asked_for() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let server = Server::start(move |_| {
        let status = if counted.fetch_add(1, Ordering::Relaxed) == 0 { 200 } else { 503 };
        let response = Response::builder().status(status).body(Full::new(Bytes::from_static(b"{}"))).unwrap();
        async move { response }
    });
    let server = server.await.unwrap();
    let fallback = FallbackLayer::new().last_good(LastGood::new());
    let client = ReqwestService::build(plain()).unwrap().layered(fallback);
    for by in [None, Some("last good answer")] {
        let response = client.get(server.url("/models?page=2")).send().await.unwrap();
        let report = response.extensions().get::<FallbackReport>();
        assert_eq!(report.and_then(|report| report.by.as_deref()), by);
        assert_eq!(response.url().as_str(), server.url("/models?page=2"));
        assert_eq!(response.text().await.unwrap(), "{}");
    }
}

#[tokio::test]
async fn a_time_limit_of_its_own_is_kept() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let server = Server::start(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<Response<Full<Bytes>>>()
    });
    let url = server.await.unwrap();
    let error = client(plain()).get(url.url("/")).timeout(Duration::from_millis(200)).send().await.unwrap_err();
    assert_eq!(find_cause::<ApiError>(&*error).map(ApiError::kind), Some(ErrorKind::Timeout));
    assert_eq!(calls.load(Ordering::Relaxed), 3, "each sending has it");
}

#[tokio::test]
async fn what_cannot_be_sent_says_so_and_is_not_sent_again() {
    let error = client(plain()).post("no url").send().await.unwrap_err();
    assert!(find_cause::<reqwest::Error>(&*error).unwrap().is_builder());
    let error = client(plain()).post("http://127.0.0.1:1/").json(&f64_map()).send().await.unwrap_err();
    assert!(find_cause::<serde_json::Error>(&*error).is_some());
}

/// JSON has no such keys.
fn f64_map() -> std::collections::BTreeMap<Option<Vec<u8>>, u8> {
    [(Some(vec![1]), 1)].into()
}
