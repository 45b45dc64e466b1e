//! What each bridge allocates for one call over its bare client, counted.
//!
//! `cargo test -p clients -- allocations --nocapture` prints the table.

use std::{hint::black_box, sync::mpsc, thread};

use allocation_counter::measure;
use bytes::Bytes;
use clients::{MOCK_KEY, Server};
use http::Response;
use http_body_util::Full;
use reqwest::ResponseBuilderExt;
use reqwest_middleware::ClientBuilder;
use reqwest_retry::{RetryTransientMiddleware, policies::ExponentialBackoff};
use tokio::runtime::Runtime;
use tower::{Service, layer::util::Identity};
use tower_outbound::{
    bridge::{
        reqwest::{Client, ReqwestService, same_origin},
        reqwest_middleware::TowerMiddleware,
    },
    stack,
};

/// The most that the layers of a stack may take by themselves, as over hyper.
pub(crate) const STACK: u64 = 5;

/// The most that the way into the layers and out of them takes, as a middleware: its box 1, the `Uri` 1, and of the response
/// the way into http's types 1, its URL and the mark for that 2, and back 2.
const MIDDLEWARE: u64 = 7;

/// What async-openai takes for an answer.
const ANSWER: &[u8] = br#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[]}"#;

/// A server on a thread of its own: what it allocates is not counted. It ends with the process. Its URL with this path.
pub(crate) fn on_a_thread<F>(start: impl FnOnce() -> F + Send + 'static, path: &'static str) -> String
where
    F: Future<Output = std::io::Result<Server>>,
{
    let (tell, url) = mpsc::channel();
    thread::spawn(move || {
        runtime().block_on(async {
            let server = start().await.unwrap();
            tell.send(server.url(path)).unwrap();
            std::future::pending::<()>().await;
        });
    });
    url.recv().unwrap()
}

pub(crate) fn server() -> String {
    let answer = |_| std::future::ready(Response::new(Full::new(Bytes::from_static(ANSWER))));
    on_a_thread(move || Server::start(answer), "/v1/chat/completions")
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Allocations of one call on a warm connection: the least of many, for a read that comes in two parts costs more.
pub(crate) fn least(mut one: impl FnMut() -> u64) -> u64 {
    (0..20).map(|_| one()).min().unwrap()
}

fn request(url: &reqwest::Url) -> reqwest::Request {
    let mut request = reqwest::Request::new(reqwest::Method::POST, url.clone());
    request.headers_mut().insert("content-type", "application/json".parse().unwrap());
    *request.body_mut() =
        Some(reqwest::Body::from(Bytes::from_static(br#"{"model":"m","messages":[{"role":"user","content":""}]}"#)));
    request
}

fn count<F, E>(url: &reqwest::Url, call: impl Fn(reqwest::Request) -> F) -> u64
where
    F: Future<Output = Result<reqwest::Response, E>>,
    E: std::fmt::Debug,
{
    let runtime = runtime();
    least(|| {
        let request = request(url);
        let mut response = None;
        let counted = measure(|| response = Some(runtime.block_on(call(request)).unwrap()));
        // The body is read, so that the connection is there for the next.
        runtime.block_on(black_box(response).unwrap().bytes()).unwrap();
        counted.count_total
    })
}

pub(crate) fn stack(url: &reqwest::Url) -> stack::Stack {
    stack::openai().base_url(url.as_str()).api_key(MOCK_KEY)
}

fn execute<S>(client: Client<S>) -> impl Fn(reqwest::Request) -> <Client<S> as Service<reqwest::Request>>::Future
where
    Client<S>: Service<reqwest::Request> + Clone,
{
    move |request| client.clone().call(request)
}

pub(crate) fn http() -> reqwest::ClientBuilder {
    clients::use_ring();
    reqwest::Client::builder().no_proxy().redirect(same_origin())
}

/// Of one call with reqwest alone, and through the bridge without a layer: each in a runtime and with a client of its own.
fn bare_and_bridge(url: &reqwest::Url) -> (u64, u64) {
    let bare = http().build().unwrap();
    let bare = count(url, |request| bare.execute(request));
    let bridge = count(url, execute(ReqwestService::build(http()).unwrap().layered(Identity::new())));
    (bare, bridge)
}

#[test]
fn a_call_costs_little_more_than_with_the_bare_client() {
    let url = &reqwest::Url::parse(&server()).unwrap();
    let (bare, bridge) = bare_and_bridge(url);
    let stacked = count(url, execute(ReqwestService::build(http()).unwrap().layered(stack(url))));
    println!("reqwest: bare {bare}, the bridge alone +{}, with the stack +{}", bridge - bare, stacked - bare);

    let middleware = |builder: ClientBuilder| {
        let client = &builder.build();
        count(url, |request| client.execute(request))
    };
    let builder = || ClientBuilder::new(http().build().unwrap());
    let none = middleware(builder());
    let backoff = ExponentialBackoff::builder().build_with_max_retries(2);
    let peer = middleware(builder().with(RetryTransientMiddleware::new_with_policy(backoff)));
    let alone = middleware(builder().with(TowerMiddleware::new(Identity::new())));
    let whole = middleware(builder().with(TowerMiddleware::new(stack(url))));
    println!(
        "reqwest-middleware: none {none}, reqwest-retry +{}, the bridge alone +{}, with the stack +{}",
        peer - none,
        alone - none,
        whole - none
    );

    assert!(bridge - bare <= 8, "{bridge} over {bare}");
    assert!(stacked - bridge <= STACK, "{stacked} over {bridge}");
    assert!(whole - none <= peer - none + STACK, "{whole} over {none}, reqwest-retry {peer}");
    assert!(alone - none <= MIDDLEWARE, "{alone} over {none}");
    // One for the box around the layers' body.
    assert!(whole - alone <= STACK + 1, "{whole} over {alone}");
}

/// Where they come from: reqwest's own conversions, of which a call through its types needs each once, but for the one of the
/// request's URL, which goes along as it is.
#[test]
fn each_allocation_has_its_place() {
    let url = reqwest::Url::parse(&server()).unwrap();
    let (bare, bridge) = bare_and_bridge(&url);
    let counted = |call: &mut dyn FnMut()| measure(call).count_total;
    let (mut given, mut taken) = (Some(request(&url)), None);
    let into_http = counted(&mut || taken = http::Request::try_from(given.take().unwrap()).ok());
    let clone = counted(&mut || drop(black_box(url.clone())));
    let mut answer = Some(reqwest::Response::from(Response::new(reqwest::Body::from("{}"))));
    let mut response = None;
    let out = counted(&mut || response = answer.take().map(Response::<reqwest::Body>::from));
    let mark = Response::builder().url(url.clone()).body(()).unwrap().into_parts().0.extensions;
    let mut answer = response.map(|mut response| {
        response.extensions_mut().extend(mark);
        response
    });
    let mut whole = None;
    let again = counted(&mut || whole = answer.take().map(reqwest::Response::from));
    println!(
        "request into http {into_http}, its URL {clone}; response's URL {clone} and its mark 1; \
         response into http {out}, back {again}"
    );
    assert_eq!(bridge - bare, into_http + clone + clone + 1 + out + again, "{bridge} over {bare}");
    assert!(taken.is_some() && whole.is_some());
}
