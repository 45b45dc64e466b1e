//! The least that a reverse proxy of axum and hyper does, to measure the gateway by.
//!
//! `cargo run --release -p gateway --example forwarder -- 127.0.0.1:8081 127.0.0.1:9000`

use axum::{Router, body::Body, extract::State, response::Response};
use http::{
    Request, StatusCode, Uri,
    header::{CONNECTION, HOST},
    uri::Scheme,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::net::TcpListener;
use tower::BoxError;

#[derive(Clone)]
struct Forwarder {
    client: Client<HttpConnector, Body>,
    upstream: http::uri::Authority,
}

async fn forward(State(forwarder): State<Forwarder>, mut request: Request<Body>) -> Response {
    let place = request.uri().path_and_query().cloned();
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(forwarder.upstream);
    let Ok(uri) = uri.path_and_query(place.unwrap_or_else(|| "/".parse().expect("a path"))).build() else {
        return failed(StatusCode::BAD_REQUEST);
    };
    *request.uri_mut() = uri;
    request.headers_mut().remove(HOST);
    request.headers_mut().remove(CONNECTION);
    match forwarder.client.request(request).await {
        Ok(mut response) => {
            response.headers_mut().remove(CONNECTION);
            response.map(Body::new)
        }
        Err(_) => failed(StatusCode::BAD_GATEWAY),
    }
}

fn failed(status: StatusCode) -> Response {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream] = &arguments[..] else { return Err("usage: forwarder LISTEN UPSTREAM".into()) };
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
    let router = Router::new().fallback(forward).with_state(Forwarder { client, upstream: upstream.parse()? });
    let listener = axum::serve::ListenerExt::tap_io(TcpListener::bind(listen).await?, |stream| {
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}
