//! Any status, headers and body through the layer: no panic, and the body as it was.
//!
//! `cargo +nightly fuzz run classify`. The input is a byte for the provider, two for the status, then headers as
//! lines `name: value`, an empty line, and the body, cut into frames of 64 bytes.
#![no_main]

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use libfuzzer_sys::fuzz_target;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_outbound::{ApiError, ErrorClassifyLayer, provider};

const NAMES: [&str; 15] = [
    "generic", "openai", "azure", "anthropic", "gemini", "groq", "mistral", "cohere", "deepseek", "openrouter", "together",
    "xai", "aws", "github", "stripe",
];

fuzz_target!(|input: &[u8]| {
    let [which, high, low, rest @ ..] = input else { return };
    let status = 100 + u16::from_be_bytes([*high, *low]) % 900;
    let cut = rest.windows(2).position(|pair| pair == b"\n\n").unwrap_or(rest.len());
    let (head, body) = rest.split_at(cut);
    let body = body.get(2..).unwrap_or_default();

    let frames: Vec<Bytes> = body.chunks(64).map(Bytes::copy_from_slice).collect();
    let stream = frames.clone().into_iter().map(|data| Ok::<_, Infallible>(http_body::Frame::data(data)));
    let mut response = Response::new(StreamBody::new(Frames(stream)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(line[colon + 1..].trim_ascii()));
        if let (Ok(name), Ok(value)) = (name, value) {
            response.headers_mut().append(name, value);
        }
    }

    let provider = provider::by_name(NAMES[usize::from(*which) % NAMES.len()]).unwrap();
    let layer = ErrorClassifyLayer::new(provider)
        .failures_in_successes(true)
        .incomplete_is_failure(true)
        .failures_in_streams(true)
        .max_body(4096);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut response = Some(response);
        let api = service_fn(|_: Request<()>| std::future::ready(Ok::<_, Infallible>(response.take().unwrap())));
        let response = ServiceBuilder::new().layer(layer).service(api).oneshot(Request::new(())).await.unwrap();
        if let Some(error) = response.extensions().get::<ApiError>() {
            let _ = format!("{error} {error:?}");
        }
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    });
});

/// An iterator as a stream that is always ready.
struct Frames<I>(I);

impl<I: Iterator + Unpin> futures_core::Stream for Frames<I> {
    type Item = I::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<I::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}
