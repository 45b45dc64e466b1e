//! A gigabyte in each direction through the whole stack, and the memory that it took.
//!
//! `cargo run --release -p clients --example gigabyte`; an argument is another number of megabytes.

use std::convert::Infallible;

use bytes::Bytes;
use clients::{MOCK_KEY, Server, use_ring};
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use reqwest_middleware::ClientBuilder;
use tokio::time::Instant;
use tower::{BoxError, Layer, ServiceExt};
use tower_outbound::{
    body::ReplayBody,
    bridge::{
        reqwest::{ReqwestService, same_origin},
        reqwest_middleware::TowerMiddleware,
    },
    stack,
};

const CHUNK: usize = 64 * 1024;
/// For the sockets' buffers, the runtime and the one megabyte of a stream that is kept.
const MOST_GROWTH: u64 = 32 << 20;

fn chunks(bytes: usize) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
    let chunk = Bytes::from(vec![7; CHUNK]);
    stream::iter(0..bytes / CHUNK).map(move |_| Ok(chunk.clone()))
}

/// Counts what comes, and sends as much back.
async fn mirror(
    request: Request<Incoming>,
) -> Response<StreamBody<impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>>>> {
    let mut body = request.into_body();
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
    Response::new(StreamBody::new(chunks(bytes).map(|chunk| chunk.map(Frame::data))))
}

/// The most memory this process has had, in bytes. Linux tells; elsewhere it is not known.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

async fn count<B>(mut body: B) -> usize
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug> + Unpin,
{
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.ok().and_then(|frame| frame.into_data().ok()).map_or(0, |data| data.len());
    }
    bytes
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    use_ring();
    let megabytes: usize = std::env::args().nth(1).map_or(Ok(1024), |argument| argument.parse())?;
    let size = megabytes << 20;
    let server = Server::start(mirror).await?;
    let stack = stack::openai().base_url(&server.url("/")).api_key(MOCK_KEY).checked()?;
    let before = peak();

    for http2 in [false, true] {
        let start = Instant::now();
        let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http();
        let body = ReplayBody::new(StreamBody::new(chunks(size).map(|chunk| chunk.map(Frame::data))), 1 << 20);
        let request = Request::post(server.url("/")).body(body)?;
        let back = count(stack.layer(client).oneshot(request).await?.into_body()).await;
        report("hyper", http2, (size, back), start, before)?;

        let start = Instant::now();
        let builder = reqwest::Client::builder().no_proxy();
        let builder = if http2 { builder.http2_prior_knowledge() } else { builder };
        let client = ReqwestService::build(builder)?.layered(stack.clone());
        let response = client.post(server.url("/")).body(reqwest::Body::wrap_stream(chunks(size))).send().await?;
        let back = count(reqwest::Body::from(response)).await;
        report("reqwest", http2, (size, back), start, before)?;

        let start = Instant::now();
        let builder = reqwest::Client::builder().no_proxy().redirect(same_origin());
        let builder = if http2 { builder.http2_prior_knowledge() } else { builder };
        let client = ClientBuilder::new(builder.build()?).with(TowerMiddleware::new(stack.clone())).build();
        let response = client.post(server.url("/")).body(reqwest::Body::wrap_stream(chunks(size))).send().await?;
        let back = count(reqwest::Body::from(response)).await;
        report("reqwest-middleware", http2, (size, back), start, before)?;
    }
    Ok(())
}

fn report(
    client: &str,
    http2: bool,
    (sent, back): (usize, usize),
    start: Instant,
    before: Option<u64>,
) -> Result<(), BoxError> {
    let version = if http2 { "HTTP/2" } else { "HTTP/1" };
    let growth = peak().zip(before).map(|(now, before)| now.saturating_sub(before));
    let (sent, back, seconds) = (sent >> 20, back >> 20, start.elapsed().as_secs_f64());
    println!(
        "{client}, {version}: {sent} MB out and {back} MB back in {seconds:.1} s, memory +{} MB",
        growth.map_or_else(|| "?".to_owned(), |bytes| (bytes >> 20).to_string())
    );
    if sent != back {
        return Err("not all of it came back".into());
    }
    if growth.is_some_and(|growth| growth > MOST_GROWTH) {
        return Err("the memory grew with the streams".into());
    }
    Ok(())
}
