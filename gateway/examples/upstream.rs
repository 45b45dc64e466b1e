//! An API that answers at once, to measure proxies with: `GET /bytes/N` is N bytes, `POST /count` counts what is sent,
//! and everything else is the same small answer.
//!
//! `cargo run --release -p gateway --example upstream -- 127.0.0.1:9000`

use axum::{
    Router,
    body::Body,
    extract::{Path, Request},
    routing::{get, post},
};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tower::BoxError;

const ANSWER: &str = concat!(
    r#"{"id":"chatcmpl-0123456789","object":"chat.completion","created":1780000000,"model":"m","choices":[{"index":0,"#,
    r#""message":{"role":"assistant","content":"An answer of a few words, as a small model gives it."},"#,
    r#""finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":12,"total_tokens":24}}"#
);
const CHUNK: Bytes = Bytes::from_static(&[b'x'; 16 << 10]);

/// So many bytes, made as they are sent.
struct Many(u64);

impl http_body::Body for Many {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let length = self.0.min(CHUNK.len() as u64);
        self.0 -= length;
        let chunk = CHUNK.slice(..usize::try_from(length).unwrap_or_default());
        std::task::Poll::Ready((!chunk.is_empty()).then(|| Ok(http_body::Frame::data(chunk))))
    }
}

async fn many(Path(bytes): Path<u64>) -> Body {
    Body::new(Many(bytes))
}

async fn counted(request: Request) -> String {
    let (mut body, mut bytes) = (request.into_body(), 0);
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
    bytes.to_string()
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listen = std::env::args().nth(1).ok_or("usage: upstream LISTEN")?;
    let router = Router::new()
        .route("/bytes/{bytes}", get(many))
        .route("/count", post(counted))
        .fallback(async || ([(CONTENT_TYPE, "application/json")], ANSWER));
    let listener = axum::serve::ListenerExt::tap_io(TcpListener::bind(listen).await?, |stream| {
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}
