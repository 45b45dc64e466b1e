//! Says what recorded responses mean: `cargo run --example classify -- [FILE]`, or from standard input.
//!
//! Each line is a JSON object `{"id", "provider", "status", "headers", "body", "now_unix_ms"?}`; more members are
//! ignored, and a provider that is not known is judged as `generic`. For each it prints `{"id", "kind", "retry", "retry_after_ms", "code"}`, where `kind` is `ok` for no failure.
//! For a line that cannot be read it prints `{"line", "error"}` and goes on; the exit status is 1 then.
//!
//! Every response goes through the layer itself, with the looks into successes and streams switched on.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use clap::Parser;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_outbound::{ApiError, ErrorClassifyLayer, RetryHint, provider};

/// Says what recorded responses mean.
#[derive(Parser)]
struct Args {
    /// JSON lines; standard input where it is left out or `-`.
    file: Option<std::path::PathBuf>,
}

#[derive(Deserialize)]
struct Recorded {
    id: Value,
    provider: String,
    status: u16,
    #[serde(default)]
    headers: serde_json::Map<String, Value>,
    body: Option<Value>,
    now_unix_ms: Option<u64>,
}

#[derive(Serialize)]
struct Judged {
    id: Value,
    kind: &'static str,
    retry: bool,
    retry_after_ms: Option<u64>,
    code: Option<String>,
}

#[derive(Serialize)]
struct Bad {
    line: usize,
    error: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("classify: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether every line could be read.
async fn run(args: Args) -> Result<bool, BoxError> {
    let input: Box<dyn BufRead> = match args.file {
        Some(path) if path.as_os_str() != "-" => {
            let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            Box::new(BufReader::new(file))
        }
        _ => Box::new(io::stdin().lock()),
    };
    let mut output = io::BufWriter::new(io::stdout().lock());
    let mut all_good = true;
    // By bytes: a line that is not UTF-8 is a bad line, not the end of the file.
    for (at, line) in input.split(b'\n').enumerate() {
        let line = line?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let judged = match judge(&line).await {
            Ok(judged) => serde_json::to_string(&judged)?,
            Err(error) => {
                all_good = false;
                serde_json::to_string(&Bad { line: at + 1, error: error.to_string() })?
            }
        };
        match writeln!(output, "{judged}") {
            // Whoever reads this has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(all_good),
            result => result?,
        }
    }
    match output.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(all_good),
    }
}

async fn judge(line: &[u8]) -> Result<Judged, BoxError> {
    let recorded: Recorded = serde_json::from_slice(line)?;
    // What the provider is when it runs a batch, or is copied, is what it is otherwise.
    let name = recorded.provider.trim_end_matches("-batch").trim_end_matches("-compatible");
    let provider = provider::by_name(name).unwrap_or_else(|| std::sync::Arc::new(provider::Generic));
    let mut layer = ErrorClassifyLayer::new(provider).failures_in_successes(true).failures_in_streams(true);
    if let Some(now) = recorded.now_unix_ms {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(now);
        layer = layer.wall_clock(move || now);
    }

    let mut response = Response::new(Full::new(body(recorded.body)));
    *response.status_mut() = StatusCode::from_u16(recorded.status)?;
    *response.headers_mut() = headers(&recorded.headers)?;
    let mut response = Some(response);
    let api = service_fn(|_: Request<()>| {
        let response = response.take().ok_or_else(|| BoxError::from("one call, one response"));
        std::future::ready(response)
    });
    let response = ServiceBuilder::new().layer(layer).service(api).oneshot(Request::new(())).await?;

    let error = response.extensions().get::<ApiError>();
    let retry = error.map_or(RetryHint::Never, ApiError::retry);
    Ok(Judged {
        id: recorded.id,
        kind: error.map_or("ok", |error| error.kind().as_str()),
        retry: retry.may_succeed(),
        // Rounded up: a wait that is too short is a call thrown away.
        retry_after_ms: retry.wait().map(|wait| u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)),
        code: error.and_then(ApiError::code).map(str::to_owned),
    })
}

fn body(body: Option<Value>) -> Bytes {
    match body {
        None | Some(Value::Null) => Bytes::new(),
        Some(Value::String(text)) => text.into(),
        Some(json) => json.to_string().into(),
    }
}

fn headers(recorded: &serde_json::Map<String, Value>) -> Result<HeaderMap, BoxError> {
    let mut headers = HeaderMap::new();
    for (name, value) in recorded {
        let name = HeaderName::from_bytes(name.as_bytes())?;
        let values = match value {
            Value::Array(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        for value in values {
            let value = match value {
                Value::String(text) => HeaderValue::from_bytes(text.as_bytes())?,
                other => HeaderValue::from_str(&other.to_string())?,
            };
            headers.append(name.clone(), value);
        }
    }
    Ok(headers)
}
