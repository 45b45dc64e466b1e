//! A server dies and comes back, and nobody notices: `cargo run --example fallback`.
//!
//! Two mock APIs over loopback TCP. Every call goes to the first; while it is down the second answers, and the breaker keeps
//! calls from knocking at a closed door. A line each half second tells who answered.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::time::{Instant, sleep, sleep_until};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};
use tower_outbound::{
    ErrorClassifyLayer,
    fallback::{Breaker, FallbackLayer, FallbackReport},
    mock::MockApi,
    provider::OpenAi,
};

const HELLO: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello"}]}"#;
const LINE: Duration = Duration::from_millis(500);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let (api, standby) = (MockApi::default(), MockApi::default());
    let (first, second) = (api.serve().await?, standby.serve().await?);
    let (addr, url) = (first.addr(), format!("{}/v1/chat/completions", first.url()));
    let standby_uri: Uri = format!("{}/v1/chat/completions", second.url()).parse()?;

    let client = Client::builder(TokioExecutor::new()).build_http();
    let classify = ErrorClassifyLayer::new(OpenAi);
    let breaker = Breaker::new().window(LINE).open_for(LINE);
    let fallback = FallbackLayer::new().breaker(breaker.clone()).rewritten(
        "standby",
        classify.layer(client.clone()),
        move |mut request: Request<Full<Bytes>>| {
            *request.uri_mut() = standby_uri.clone();
            request
        },
    );
    let mut service = ServiceBuilder::new().layer(fallback).service(classify.layer(client));

    println!("   time  first  standby  failed  breaker   the last fallback");
    let begun = Instant::now();
    let mut server = Some(first);
    let (mut lost, mut stood_in, mut came_back) = (0, 0, 0);
    for line in 1..=12u32 {
        match line {
            4 => {
                println!("         the first server dies");
                if let Some(server) = server.take() {
                    server.shutdown().await;
                }
            }
            8 => {
                println!("         the first server is back");
                server = Some(api.serve_on(addr).await?);
            }
            _ => {}
        }
        let (mut by_first, mut by_standby, mut failed, mut why) = (0, 0, 0, String::new());
        while begun.elapsed() < LINE * line {
            let request = Request::post(&url)
                .header("content-type", "application/json")
                .header("authorization", "Bearer sk-test-0123456789")
                .body(Full::from(HELLO))?;
            match service.ready().await?.call(request).await {
                Ok(response) if response.status().is_success() => {
                    match response.extensions().get::<FallbackReport>() {
                        Some(report) => {
                            by_standby += 1;
                            why = report.why.to_string();
                        }
                        None => by_first += 1,
                    }
                    response.into_body().collect().await?;
                }
                _ => failed += 1,
            }
            sleep(Duration::from_millis(2)).await;
        }
        let state = breaker.snapshot().first().map(|host| format!("{:?}", host.state)).unwrap_or_default();
        println!("{:6.1}s  {by_first:5}  {by_standby:7}  {failed:6}  {state:8}  {why}", begun.elapsed().as_secs_f64());
        lost += failed;
        stood_in += by_standby;
        came_back += if line > 8 { by_first } else { 0 };
        sleep_until(begun + LINE * line).await;
    }
    drop(server);
    if lost > 0 || stood_in == 0 || came_back == 0 {
        let seen = format!("{lost} lost, {stood_in} by the standby, {came_back} by the first once it was back");
        return Err(format!("that is not what was to be seen: {seen}").into());
    }
    Ok(())
}
