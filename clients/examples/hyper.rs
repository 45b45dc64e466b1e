//! A question over hyper-util's client: HTTP/1 or HTTP/2, with TLS where the URL says so.

use bytes::Bytes;
use clients::endpoint;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_outbound::stack;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let api = endpoint().await?;
    let connector = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_all_versions().build();
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let stack = stack::openai().base_url(&api.base_url).api_key(&api.key).checked()?;
    let mut openai = ServiceBuilder::new().layer(stack).service(client);

    let question = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]});
    let request = Request::post("/chat/completions")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(question.to_string())))?;
    let response = openai.ready().await?.call(request).await?;
    let status = response.status();
    let answer: Value = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
    println!("{status}: {}", answer["choices"][0]["message"]["content"]);
    Ok(())
}
