//! A service that answers with what it asks elsewhere, through the stack. It asks itself once, and ends.

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use bytes::Bytes;
use clients::endpoint;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::json;
use tower::{BoxError, Layer, ServiceExt};
use tower_http::trace::TraceLayer;
use tower_outbound::stack::{self, StackService};

type Outbound = StackService<Client<HttpsConnector<HttpConnector>, Full<Bytes>>>;

async fn hello(State(outbound): State<Outbound>) -> axum::response::Response {
    let question = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]});
    let request = Request::post("/chat/completions")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(question.to_string())));
    let Ok(request) = request else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    match outbound.oneshot(request).await {
        Ok(response) => response.map(axum::body::Body::new),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let api = endpoint().await?;
    let stack = stack::openai().base_url(&api.base_url).api_key(&api.key).checked()?;
    let connector = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().build();
    let outbound = stack.layer(Client::builder(TokioExecutor::new()).build(connector));
    let router = Router::new().route("/hello", get(hello)).layer(TraceLayer::new_for_http()).with_state(outbound);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/hello", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });

    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(Request::get(url).body(Full::<Bytes>::default())?).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    println!("{status}: {}", String::from_utf8_lossy(&body));
    Ok(())
}
