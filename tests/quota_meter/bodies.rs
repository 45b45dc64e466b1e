//! The meter over request bodies of every sort.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_outbound::{
    QuotaMeterLayer, TokenCost,
    body::Resend,
    quota_meter::{Contents, Model, Sight},
};

use super::{limits, meter};
use crate::common::{Text, reply};

/// One of somebody else's: a body, and nothing more.
struct Foreign(Option<Bytes>);

impl Body for Foreign {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|data| Ok(Frame::data(data))))
    }
}

/// One of one's own that says what it has.
struct Mine(Bytes);

impl Resend for Mine {
    fn resend(&self) -> Option<Self> {
        None
    }

    fn in_memory(&self) -> Option<Bytes> {
        Some(self.0.clone())
    }
}

impl Body for Mine {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let data = std::mem::take(&mut self.0);
        Poll::Ready((!data.is_empty()).then(|| Ok(Frame::data(data))))
    }
}

const ASK: &str = r#"{"model":"a","max_tokens":500}"#;

fn ask<B>(body: B) -> Request<B> {
    Request::post("https://api.example/v1/chat/completions").body(body).unwrap()
}

/// The model under which a call is metered.
async fn model_of<V: Sight<B>, B>(layer: QuotaMeterLayer<V>, request: Request<B>) -> String {
    let mut service = layer.layer(service_fn(|_: Request<B>| async { Ok::<_, BoxError>(reply(200)) }));
    service.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(layer.snapshot().counts.sent, 1);
    layer.snapshot().scope.model().to_owned()
}

#[tokio::test(start_paused = true)]
async fn one_in_memory_is_read() {
    assert_eq!(model_of(meter(), ask(Full::<Bytes>::from(ASK))).await, "a");
    assert_eq!(model_of(meter(), ask(Mine(ASK.into()))).await, "a");
}

#[tokio::test(start_paused = true)]
async fn one_that_shows_nothing_passes() {
    assert_eq!(model_of(meter(), ask(Full::<Bytes>::from(ASK).boxed())).await, "");
    assert_eq!(model_of(meter(), ask(Full::<Bytes>::from(ASK).boxed_unsync())).await, "");
    assert_eq!(model_of(meter().any_body(), ask(Foreign(Some(ASK.into())))).await, "");
}

/// Not even a body it need be.
#[tokio::test(start_paused = true)]
async fn by_the_head_alone_every_type_passes() {
    struct Anything;
    let mut request = ask(Anything);
    request.extensions_mut().insert(Model::from("b"));
    assert_eq!(model_of(meter().any_body(), request).await, "b");
    let azure = Request::post("https://api.example/openai/deployments/c/chat/completions").body(Anything).unwrap();
    assert_eq!(model_of(meter().any_body(), azure).await, "c");
    // What is in memory is not looked at either.
    assert_eq!(model_of(meter().any_body(), ask(Text::from(ASK))).await, "");
}

#[tokio::test(start_paused = true)]
async fn by_the_head_alone_the_length_is_that_of_its_header() {
    let layer = meter().any_body();
    let handle = layer.handle();
    let mut service = layer.layer(service_fn(|_: Request<Foreign>| async {
        Ok::<_, BoxError>(limits(reply(200), "tokens", 60_000, 60_000, "0s"))
    }));
    service.call(ask(Foreign(None))).await.unwrap();
    let mut long = ask(Foreign(None));
    long.headers_mut().insert("content-length", http::HeaderValue::from_static("4000"));
    let permit = handle.try_acquire(&long).unwrap();
    assert_eq!(60_000.0 - handle.snapshot().tokens.unwrap().remaining, 1_000.0);
    drop(permit);
    for senseless in ["-1", "many", "99999999999999999999999"] {
        long.headers_mut().insert("content-length", http::HeaderValue::from_static(senseless));
        let _permit = handle.try_acquire(&long).unwrap();
        assert_eq!(60_000.0 - handle.snapshot().tokens.unwrap().remaining, 0.0, "{senseless}");
    }
    long.extensions_mut().insert(TokenCost(7));
    let _permit = handle.try_acquire(&long).unwrap();
    assert_eq!(60_000.0 - handle.snapshot().tokens.unwrap().remaining, 7.0);
}

/// A proxy hands on what comes in as it is, with either way to look.
#[tokio::test]
async fn what_a_server_gets_is_handed_on() {
    async fn echo(request: Request<Incoming>) -> Result<Response<Incoming>, BoxError> {
        Ok(Response::new(request.into_body()))
    }
    async fn through<V: Sight<Incoming> + Send + 'static>(layer: QuotaMeterLayer<V>) {
        let (near, far) = tokio::io::duplex(4096);
        let service = hyper::service::service_fn({
            let layer = layer.clone();
            move |request| layer.layer(service_fn(echo)).oneshot(request)
        });
        let server =
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service));
        let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
        let client_task = tokio::spawn(connection);
        let mut request = ask(Full::<Bytes>::from(ASK));
        *request.uri_mut() = "/v1/chat/completions".parse().unwrap();
        request.headers_mut().insert("host", http::HeaderValue::from_static("api.example"));
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), ASK);
        let snapshot = layer.snapshot();
        assert_eq!((snapshot.counts.sent, snapshot.scope.to_string().as_str()), (1, "api.example"));
        drop(client);
        client_task.await.unwrap().unwrap();
        server.await.unwrap().unwrap();
    }
    through::<Contents>(QuotaMeterLayer::new()).await;
    through(QuotaMeterLayer::new().any_body()).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_a_body_too() {
    assert_eq!(model_of(meter(), ask(Empty::<Bytes>::new())).await, "");
}
