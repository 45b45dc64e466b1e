//! Keys: what is wrong with one, a pool that loses one, a key file that is rotated, and what the errors look like.
//!
//! `cargo run --release --example keys`: against a mock API in the same process, over TCP; it takes a second or two.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

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
    unsound_keys()?;
    let api = MockApi::builder().keys(["sk-alpha-01", "sk-beta-02", "sk-gamma-03", "sk-delta-04"]).build();
    let server = api.serve().await?;
    pool(&api, &server.url()).await?;
    rotation(&api, &server.url()).await?;
    tokens(&api, &server.url()).await?;
    none_left(&server.url()).await
}

/// What is claimed here holds, or the example ends with an error.
fn holds(claim: bool, what: &str) -> Result<(), BoxError> {
    if claim { Ok(()) } else { Err(format!("that does not hold: {what}").into()) }
}

/// Each is found where it is made, and none is shown.
fn unsound_keys() -> Result<(), BoxError> {
    println!("Keys that cannot be right:");
    for key in ["sk-alpha-01\n", "\"sk-alpha-01\"", "Bearer sk-alpha-01", "undefined", "YOUR_API_KEY", "sk-al—pha-01"]
    {
        let error = ApiKey::new(key).err();
        holds(error.is_some(), "each of these is unsound")?;
        println!("  {}", error.map(|error| error.to_string()).unwrap_or_default());
    }
    for error in [ApiKey::from_env("NO_SUCH_VARIABLE").err(), ApiKey::from_file("/run/secrets/no_such_file").err()] {
        println!("  {}", error.map(|error| error.to_string()).unwrap_or_default());
    }
    let strict = Origin::parse("https://api.openai.com/v1")
        .map_err(BoxError::from)
        .and_then(|origin| Ok(KeyCheckLayer::new(ApiKey::new("sk-ant-api03-0123456789")?, origin).deny_warnings()?));
    holds(strict.is_err(), "another provider's key is found")?;
    println!("  {}\n", strict.err().map(|warning| warning.to_string()).unwrap_or_default());
    Ok(())
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
    holds(answered == 300, "a revoked key of three costs no call")
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
    holds(first + second == 200, "a rotated key costs no call")
}

/// A token is asked for once for all who wait for it.
async fn tokens(api: &MockApi, url: &str) -> Result<(), BoxError> {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let source = KeySource::function(move || {
        count.fetch_add(1, Ordering::Relaxed);
        sign_in()
    });
    let keys = KeyCheckLayer::new(source, Origin::parse(url)?);
    println!("Short-lived tokens, for 100 calls at once:");
    let before = api.counters().calls;
    let answered = calls(&keys, url, 100).await;
    println!("  {answered} of 100 answered by {} calls\n", api.counters().calls - before);
    holds(answered == 100 && asked.load(Ordering::Relaxed) == 1, "a token is asked for once")
}

async fn sign_in() -> Result<Token, BoxError> {
    println!("  (signing in)");
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(Token::new(ApiKey::new("sk-delta-04")?).expires_in(Duration::from_secs(3600)))
}

/// Nothing is sent with a key that is known to be dead.
async fn none_left(url: &str) -> Result<(), BoxError> {
    let keys = KeyCheckLayer::new(ApiKey::new("sk-alpha-99")?, Origin::parse(url)?);
    println!("A key that the server does not know:");
    for is_first in [true, false] {
        let answer = call(keys.clone(), url.to_owned()).await;
        match &answer {
            Ok(response) => println!("  sent, and answered {}", response.status()),
            Err(error) => println!("  not sent: {error}"),
        }
        holds(answer.is_ok() == is_first, "it is sent once and no more")?;
    }
    let moved = KeyCheckLayer::new(ApiKey::new("sk-alpha-01")?, Origin::parse("https://api.openai.com")?)
        .elsewhere(tower_outbound::key_check::Elsewhere::Refuse);
    let error = call(moved, url.to_owned()).await.err();
    println!("A request for another host than the key's, where that is to be refused:");
    println!("  not sent: {}", error.as_ref().map(|error| outermost(&**error)).unwrap_or_default());
    holds(error.is_some(), "nothing goes to another host")
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
