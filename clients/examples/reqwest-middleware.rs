//! The layers as one middleware among others of reqwest-middleware.

use clients::{endpoint, use_ring};
use reqwest_middleware::ClientBuilder;
use reqwest_tracing::TracingMiddleware;
use serde_json::{Value, json};
use tower::BoxError;
use tower_outbound::{
    bridge::{reqwest::same_origin, reqwest_middleware::TowerMiddleware},
    stack,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    use_ring();
    let api = endpoint().await?;
    let stack = stack::openai().base_url(&api.base_url).api_key(&api.key).checked()?;
    let http = reqwest::Client::builder().redirect(same_origin()).build()?;
    // A span for each call, and one for each attempt.
    let client = ClientBuilder::new(http)
        .with(TracingMiddleware::default())
        .with(TowerMiddleware::new(stack))
        .with(TracingMiddleware::default())
        .build();

    let question = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]});
    let response = client.post(format!("{}/chat/completions", api.base_url)).json(&question).send().await?;
    let status = response.status();
    let answer: Value = response.json().await?;
    println!("{status}: {}", answer["choices"][0]["message"]["content"]);
    Ok(())
}
