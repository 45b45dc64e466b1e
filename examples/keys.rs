//! Keys: what is wrong with one, a pool that loses one, a key file that is rotated, and what the errors look like.
//!
//! `cargo run --release --example keys`: against a mock API in the same process, over TCP; it takes a second or two.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::task::JoinSet;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_outbound::{
    ApiKey, BackoffRetryLayer, ErrorClassifyLayer, KeyCheckLayer, Origin,
    key_check::{KeySource, Token},
    mock::MockApi,
    provider::OpenAi,
};

type Http = Client<HttpConnector, Full<Bytes>>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    unsound_keys();
    let api = MockApi::builder().keys(["sk-alpha-01", "sk-beta-02", "sk-gamma-03", "sk-delta-04"]).build();
    let server = api.serve().await?;
    pool(&api, &server.url()).await?;
    rotation(&api, &server.url()).await?;
    tokens(&api, &server.url()).await?;
    none_left(&server.url()).await
}

/// Each is found where it is made, and none is shown.
fn unsound_keys() {
    println!("Keys that cannot be right:");
    for key in ["sk-alpha-01\n", "\"sk-alpha-01\"", "Bearer sk-alpha-01", "undefined", "YOUR_API_KEY", "sk-al—pha-01"]
    {
        if let Err(error) = ApiKey::new(key) {
            println!("  {error}");
        }
    }
    for error in [ApiKey::from_env("NO_SUCH_VARIABLE").err(), ApiKey::from_file("/run/secrets/no_such_file").err()] {
        println!("  {}", error.map(|error| error.to_string()).unwrap_or_default());
    }
    let strict = Origin::parse("https://api.openai.com/v1")
        .map_err(BoxError::from)
        .and_then(|origin| Ok(KeyCheckLayer::new(ApiKey::new("sk-ant-api03-0123456789")?, origin).deny_warnings()?));
    println!("  {}\n", strict.err().map(|warning| warning.to_string()).unwrap_or_default());
}

/// One key of three is revoked while 300 calls are made.
async fn pool(api: &MockApi, url: &str) -> Result<(), BoxError> {
    let keys = KeyCheckLayer::new(ApiKey::new("sk-alpha-01")?, Origin::parse(url)?)
        .with_key(ApiKey::new("sk-beta-02")?)
        .with_key(ApiKey::new("sk-gamma-03")?);
    println!("A pool of three; the second key is revoked on the way:");
    let before = api.counters();
    let first = calls(&keys, url, 150).await;
    api.revoke_key("sk-beta-02");
    let answered = first + calls(&keys, url, 150).await;
    let after = api.counters();
    println!("  {answered} of 300 answered; {} refused on the way and sent again", after.refused - before.refused);
    show(&keys);
    Ok(())
}

/// The key file is replaced, and the old key is revoked at once.
async fn rotation(api: &MockApi, url: &str) -> Result<(), BoxError> {
    let path = std::env::temp_dir().join(format!("tower-outbound-example-key-{}", std::process::id()));
    std::fs::write(&path, "sk-gamma-03\n")?;
    let keys = KeyCheckLayer::new(KeySource::file(&path)?, Origin::parse(url)?);
    println!("A key file that is rotated:");
    let first = calls(&keys, url, 100).await;
    show(&keys);
    std::fs::write(&path, "sk-delta-04\n")?;
    api.revoke_key("sk-gamma-03");
    let second = calls(&keys, url, 100).await;
    println!("  {} of 200 answered", first + second);
    show(&keys);
    std::fs::remove_file(&path)?;
    Ok(())
}

/// A token is asked for once for all who wait for it.
async fn tokens(api: &MockApi, url: &str) -> Result<(), BoxError> {
    let source = KeySource::function(|| async {
        println!("  (signing in)");
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok::<_, BoxError>(Token::new(ApiKey::new("sk-delta-04")?).expires_in(Duration::from_secs(3600)))
    });
    let keys = KeyCheckLayer::new(source, Origin::parse(url)?);
    println!("Short-lived tokens, for 100 calls at once:");
    let before = api.counters().calls;
    println!("  {} of 100 answered by {} calls\n", calls(&keys, url, 100).await, api.counters().calls - before);
    Ok(())
}

/// Nothing is sent with a key that is known to be dead.
async fn none_left(url: &str) -> Result<(), BoxError> {
    let keys = KeyCheckLayer::new(ApiKey::new("sk-alpha-99")?, Origin::parse(url)?);
    println!("A key that the server does not know:");
    for _ in 0..2 {
        match call(keys.clone(), url.to_owned()).await {
            Ok(response) => println!("  sent, and answered {}", response.status()),
            Err(error) => println!("  not sent: {error}"),
        }
    }
    let moved = KeyCheckLayer::new(ApiKey::new("sk-alpha-01")?, Origin::parse("https://api.openai.com")?)
        .elsewhere(tower_outbound::key_check::Elsewhere::Refuse);
    let error = call(moved, url.to_owned()).await.err();
    println!("A request for another host than the key's, where that is to be refused:");
    println!("  not sent: {}", error.as_ref().map(|error| outermost(&**error)).unwrap_or_default());
    Ok(())
}

fn outermost(error: &(dyn Error + 'static)) -> String {
    error.to_string()
}

fn show(keys: &KeyCheckLayer) {
    for key in keys.snapshot() {
        println!("  {key}");
    }
    println!();
}

/// So many calls, 16 at a time; how many were answered.
async fn calls(keys: &KeyCheckLayer, url: &str, calls: usize) -> usize {
    let mut answered = 0;
    let mut under_way = JoinSet::new();
    for number in 0..calls {
        under_way.spawn(call(keys.clone(), url.to_owned()));
        if number >= 16 {
            answered += usize::from(is_answered(under_way.join_next().await));
        }
    }
    while let Some(joined) = under_way.join_next().await {
        answered += usize::from(is_answered(Some(joined)));
    }
    answered
}

type Joined<T> = Option<Result<Result<T, BoxError>, tokio::task::JoinError>>;

fn is_answered<B>(joined: Joined<Response<B>>) -> bool {
    matches!(joined, Some(Ok(Ok(response))) if response.status().is_success())
}

async fn call(keys: KeyCheckLayer, url: String) -> Result<Response<()>, BoxError> {
    let client: Http = Client::builder(TokioExecutor::new()).build_http();
    let mut stack = ServiceBuilder::new()
        .layer(BackoffRetryLayer::new())
        .layer(keys)
        .layer(ErrorClassifyLayer::new(OpenAi))
        .service(client);
    let body = r#"{"model":"m","max_tokens":8,"messages":[{"role":"user","content":"Hello"}]}"#;
    let request = Request::post(format!("{url}/v1/chat/completions"))
        .header("content-type", "application/json")
        .body(Full::from(body))?;
    Ok(stack.ready().await?.call(request).await?.map(drop))
}
