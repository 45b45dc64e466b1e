//! Over real sockets: redirects, a key that is rotated under load, one that dies of three.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::task::JoinSet;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, util::BoxCloneService};
use tower_outbound::{
    ErrorClassifyLayer,
    backoff_retry::BackoffRetryLayer,
    key_check::{Elsewhere, KeyCheckLayer, KeySource, KeyState, Origin, Placement},
    mock::{MockApi, Script, ok, status},
    provider::OpenAi,
};

use super::{KEY, folder::Folder, key, named_key, rejected};
use crate::common::Text;

type Http = Client<HttpConnector, Text>;

fn client() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Follows redirects as a client's own layer does: the same request to the new place.
async fn follow<S>(service: &mut S, mut request: Request<Text>) -> Result<Response<Incoming>, BoxError>
where
    S: Service<Request<Text>, Response = Response<Incoming>, Error = BoxError>,
{
    loop {
        let response = service.ready().await?.call(request.clone()).await?;
        if !response.status().is_redirection() {
            return Ok(response);
        }
        *request.uri_mut() = response.headers()["location"].to_str()?.parse()?;
    }
}

#[tokio::test]
async fn a_redirect_to_another_port_gets_no_key() {
    for placement in
        [Placement::bearer(), Placement::header(http::HeaderName::from_static("x-api-key")), Placement::query("key")]
    {
        let thief = Script::new().otherwise(ok("caught"));
        let there = thief.serve().await.unwrap();
        let script = Script::new().otherwise(status(307).header("location", format!("{}/stolen", there.url())));
        let here = script.serve().await.unwrap();
        let key = key().with_organization("org-1").unwrap();
        let layer = KeyCheckLayer::new(key, Origin::parse(&here.url()).unwrap()).placement(placement);
        let request = || Request::get(format!("{}/v1/models", here.url())).body(Text::default()).unwrap();

        let mut service = ServiceBuilder::new().layer(&layer).service(client());
        assert_eq!(follow(&mut service, request()).await.unwrap().status(), 200);
        let first = script.calls().remove(0);
        let carried = first.headers.values().any(|value| value.to_str().is_ok_and(|value| value.contains(KEY)));
        assert!(carried || first.uri.to_string().contains(KEY), "the first host has it");
        let caught = thief.calls().remove(0);
        for name in ["authorization", "x-api-key", "openai-organization"] {
            assert!(!caught.headers.contains_key(name), "{name}");
        }
        assert_eq!(caught.uri.to_string(), "/stolen");

        let mut strict = ServiceBuilder::new().layer(layer.elsewhere(Elsewhere::Refuse)).service(client());
        assert!(follow(&mut strict, request()).await.is_err());
        thief.assert_sent(1);
    }
}

fn chat(base: &str) -> Request<Text> {
    const BODY: &str = r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"hi"}]}"#;
    let uri: Uri = format!("{base}/v1/chat/completions").parse().unwrap();
    Request::post(uri).header("content-type", "application/json").body(Full::from(BODY)).unwrap()
}

type Stack = BoxCloneService<Request<Text>, u16, BoxError>;

/// Retry, keys and classifier over a client; each answer is read to its end.
fn stack(layer: &KeyCheckLayer) -> Stack {
    ServiceBuilder::new()
        .layer(BackoffRetryLayer::new())
        .layer(layer)
        .layer(ErrorClassifyLayer::new(OpenAi))
        .service(client())
        .and_then(read)
        .boxed_clone()
}

async fn read<B: Body>(response: Response<B>) -> Result<u16, BoxError> {
    let (head, body) = response.into_parts();
    body.collect().await.map_err(|_| "the body broke off")?;
    Ok(head.status.as_u16())
}

/// Calls by 16 workers until they are told to stop; how many did not succeed, and how many did.
fn load(stack: &Stack, base: &str, stop: &Arc<AtomicBool>) -> JoinSet<(usize, usize)> {
    (0..16)
        .map(|_| {
            let (mut stack, base, stop) = (stack.clone(), base.to_owned(), Arc::clone(stop));
            async move {
                let (mut failed, mut answered) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    match stack.ready().await.unwrap().call(chat(&base)).await {
                        Ok(200) => answered += 1,
                        _ => failed += 1,
                    }
                }
                (failed, answered)
            }
        })
        .collect()
}

async fn done(load: JoinSet<(usize, usize)>) -> (usize, usize) {
    load.join_all().await.into_iter().fold((0, 0), |(f, a), (failed, answered)| (f + failed, a + answered))
}

/// Waits for so many calls more to have been answered.
async fn answered(api: &MockApi, more: u64) {
    let goal = api.counters().calls + more;
    while api.counters().calls < goal {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_file_is_rotated_under_load_and_no_call_fails() {
    let folder = Folder::new();
    let path = folder.write("key", b"sk-rotated-0\n");
    let api = MockApi::builder().keys((0..4).map(|number| format!("sk-rotated-{number}"))).build();
    let server = api.serve().await.unwrap();
    let layer = KeyCheckLayer::new(KeySource::file(&path).unwrap(), Origin::parse(&server.url()).unwrap());
    let (stack, stop) = (stack(&layer), Arc::new(AtomicBool::new(false)));
    let load = load(&stack, &server.url(), &stop);
    for number in 1..4 {
        answered(&api, 200).await;
        folder.write("key", format!("sk-rotated-{number}\n").as_bytes());
        // At once: what is in the air, and what is in the next second, goes with a key that is no more.
        api.revoke_key(&format!("sk-rotated-{}", number - 1));
    }
    answered(&api, 200).await;
    stop.store(true, Ordering::Relaxed);
    let (failed, answered) = done(load).await;
    assert_eq!(failed, 0, "of {answered}");
    assert!(api.counters().refused <= 3 * 16, "at most those in the air: {}", api.counters().refused);
    assert_eq!(layer.snapshot()[0].fingerprint, Some(named_key("sk-rotated-3").fingerprint()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_three_dies_under_load_and_no_call_fails() {
    let keys = ["sk-pool-a", "sk-pool-b", "sk-pool-c"];
    let api = MockApi::builder().keys(keys).build();
    let server = api.serve().await.unwrap();
    let [a, b, c] = keys.map(named_key);
    let layer = KeyCheckLayer::new(a, Origin::parse(&server.url()).unwrap()).with_key(b).with_key(c);
    let (stack, stop) = (stack(&layer), Arc::new(AtomicBool::new(false)));
    let load = load(&stack, &server.url(), &stop);
    answered(&api, 200).await;
    api.revoke_key("sk-pool-b");
    answered(&api, 500).await;
    stop.store(true, Ordering::Relaxed);
    let (failed, answered) = done(load).await;
    assert_eq!(failed, 0, "of {answered}");
    assert!(api.counters().refused <= 16, "at most those in the air: {}", api.counters().refused);
    let states: Vec<_> = layer.snapshot().iter().map(|key| (key.state, key.outstanding)).collect();
    assert_eq!(states, [(KeyState::Sound, 0), (KeyState::Rejected, 0), (KeyState::Sound, 0)]);
}

/// A server that knows no key at all: one call each is sent, and all others are refused at once.
#[tokio::test]
async fn keys_that_are_all_dead_are_tried_once_each() {
    let api = MockApi::builder().keys(["sk-known"]).build();
    let server = api.serve().await.unwrap();
    let layer = KeyCheckLayer::new(key(), Origin::parse(&server.url()).unwrap()).with_key(named_key("sk-other"));
    let mut stack = stack(&layer);
    let refused = AtomicUsize::new(0);
    for _ in 0..50 {
        match stack.ready().await.unwrap().call(chat(&server.url())).await {
            Ok(status) => assert_eq!(status, 401),
            Err(error) => {
                rejected(&error);
                refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    assert_eq!((api.counters().refused, refused.into_inner()), (2, 49));
}
