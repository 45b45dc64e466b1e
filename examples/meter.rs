//! A meter at work: two APIs under load, and what their quotas are like, ten times a second.
//!
//!     cargo run --release --example meter
//!     cargo run --release --example meter -- --seconds 30 --workers 200 --budget 0.05

use std::{
    io::{IsTerminal, Write, stdout},
    time::Duration,
};

use bytes::Bytes;
use clap::Parser;
use http::Request;
use http_body_util::{BodyExt, Full};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_outbound::{
    BackoffRetryLayer, ErrorClassifyLayer, Priority, QuotaMeterLayer,
    mock::{Limits, MockApi},
    provider::OpenAi,
    quota_meter::{Measure, MeterHandle, Price, Snapshot, Threshold},
};

#[derive(Parser)]
#[command(about = "Shows the quotas of two mock APIs while many workers call them")]
struct Options {
    /// How long the load lasts
    #[arg(long, default_value_t = 10, value_name = "N")]
    seconds: u64,
    /// Calls at once
    #[arg(long, default_value_t = 60, value_name = "N")]
    workers: usize,
    /// Money for a day, past which calls are refused
    #[arg(long, default_value_t = 1.0, value_name = "MONEY")]
    budget: f64,
}

/// The hosts, with what each allows in a minute.
const APIS: [(&str, u64, u64); 2] = [("small.example", 120, 200_000), ("large.example", 1_200, 600_000)];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let options = Options::parse();
    let apis = APIS.map(|(host, requests, tokens)| {
        let limits = Limits::per_minute(requests, tokens);
        (host, MockApi::builder().limits(limits).realistic_latency().build())
    });
    let client = service_fn(move |request: Request<Full<Bytes>>| {
        let host = request.uri().host().unwrap_or_default();
        let api = apis.iter().find(|(name, _)| *name == host);
        api.map_or_else(MockApi::default, |(_, api)| api.clone()).oneshot(request)
    });
    let layer = QuotaMeterLayer::new()
        .price("", Price::per_million(0.15, 0.60))
        .budget_per_day(options.budget)
        .threshold(Threshold::per_day(Measure::Money, options.budget).at(0.8));
    let meter = layer.handle();
    let service = ServiceBuilder::new()
        .layer(BackoffRetryLayer::new())
        .layer(layer)
        .layer(ErrorClassifyLayer::new(OpenAi))
        .service(client);

    let mut work = JoinSet::new();
    for worker in 0..options.workers {
        let mut service = service.clone();
        work.spawn(async move {
            let (host, ..) = APIS[worker % APIS.len()];
            while let Ok(response) = service.call(ask(host, worker)).await {
                let _ = response.into_body().collect().await;
            }
        });
    }
    watch(&meter, Instant::now() + Duration::from_secs(options.seconds)).await?;
    drop(work);
    println!("\nTo be saved, so that the day's budget outlives a restart:");
    println!("{}", serde_json::to_string_pretty(&meter.totals())?);
    Ok(())
}

/// Each third worker is one for whom somebody waits.
fn ask(host: &str, worker: usize) -> Request<Full<Bytes>> {
    let body = r#"{"model":"gpt-4o-mini","max_tokens":200,"messages":[{"role":"user","content":"Say something."}]}"#;
    let mut request = Request::new(Full::new(Bytes::from_static(body.as_bytes())));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = format!("https://{host}/v1/chat/completions").parse().unwrap_or_default();
    request.headers_mut().insert("authorization", http::HeaderValue::from_static("Bearer sk-example"));
    request.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    request.extensions_mut().insert(if worker.is_multiple_of(3) { Priority::Interactive } else { Priority::Batch });
    request
}

/// Draws the scopes when something changed, and no more than ten times a second.
async fn watch(meter: &MeterHandle, end: Instant) -> Result<(), BoxError> {
    let (mut changes, mut alerts) = (meter.subscribe(), meter.alerts());
    let is_live = stdout().is_terminal();
    let mut drawn = 0;
    loop {
        let goes_on = timeout_at(end, async {
            changes.changed().await;
            sleep(Duration::from_millis(100)).await;
        });
        let is_over = goes_on.await.is_err();
        let mut lines = vec![HEADINGS.to_owned()];
        let mut scopes = meter.scopes();
        scopes.sort_by(|one, other| one.scope.cmp(&other.scope));
        lines.extend(scopes.iter().map(line));
        if let Ok(Some(reached)) = timeout_at(Instant::now(), alerts.next()).await {
            println!("80 % of the day's money are spent: {:.4}\n", reached.today.money);
            drawn = 0;
        }
        if is_live || is_over {
            // Over what was drawn before.
            let up = if drawn > 0 { format!("\x1b[{drawn}A\x1b[J") } else { String::new() };
            println!("{up}{}", lines.join("\n"));
            stdout().flush()?;
            drawn = lines.len();
        }
        if is_over {
            return Ok(());
        }
    }
}

const HEADINGS: &str = "scope                                 requests left      tokens left  in flight  waiting     wait   sent  429s  tokens in/out        money";

fn line(scope: &Snapshot) -> String {
    let level = |level: Option<tower_outbound::quota_meter::Level>| match level {
        Some(level) => format!("{:.0} of {:.0}", level.remaining, level.limit),
        None => "?".to_owned(),
    };
    format!(
        "{:36} {:>14} {:>16} {:>10} {:>8} {:>8.1?} {:>6} {:>5} {:>14} {:>12.5}",
        scope.scope.to_string(),
        level(scope.requests),
        level(scope.tokens),
        scope.in_flight,
        scope.waiting,
        scope.expected_wait.unwrap_or_default(),
        scope.used.requests,
        scope.counts.limited,
        format!("{}/{}", scope.used.input_tokens, scope.used.output_tokens),
        scope.used.money,
    )
}
