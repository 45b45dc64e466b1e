//! A batch of requests through a rate-limited API, at the speed that the quota allows: `--help` says all.
//!
//! `cargo run --release --example batch` shows it against an API in the same process. The layers are put together in
//! `stack.rs`; the rest is a program around them: `input.rs` and `output.rs` for the files, `run.rs` for the workers.

mod args;
mod input;
mod output;
mod progress;
mod report;
mod run;
mod sdk;
mod serve;
mod stack;
mod wire;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use clap::Parser;
use http::HeaderValue;
use tower_outbound::{
    key_check::{ApiKey, Origin},
    mock::{Faults, Limits, MockApi, MockServer},
    quota_meter::QuotaMeterLayer,
};

use crate::{
    args::Args,
    input::Source,
    output::{Ledger, Opened},
    progress::Progress,
    report::Report,
    run::{Plan, Stop, Tally, Why},
    wire::{Counts, Wire},
};

/// The key that the embedded API gets; it takes any.
const MOCK_KEY: &str = "sk-mock-0123456789abcdef";

/// The variable that holds the key of a real API.
const KEY_VARIABLE: &str = "OPENAI_API_KEY";

#[tokio::main]
async fn main() -> ExitCode {
    match batch(Args::parse()).await {
        Ok(status) => status,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

/// Where the calls go.
struct Target {
    base: String,
    origin: Origin,
    key: ApiKey,
    /// The same key for who has no `KeyCheck`.
    bearer: HeaderValue,
    /// The embedded API, if it is that.
    mock: Option<(MockApi, MockServer)>,
}

impl Target {
    async fn of(args: &Args) -> Result<Self, String> {
        let Some(url) = &args.base_url else {
            let api = embedded(args);
            let server = api.serve().await.map_err(|error| format!("no port for the embedded API: {error}"))?;
            return Self::new(&server.url(), ApiKey::new(MOCK_KEY), MOCK_KEY, Some((api, server)));
        };
        let key = std::env::var(KEY_VARIABLE).unwrap_or_default();
        Self::new(url, ApiKey::from_env(KEY_VARIABLE), &key, None)
    }

    fn new(
        url: &str,
        key: Result<ApiKey, impl std::fmt::Display>,
        plain: &str,
        mock: Option<(MockApi, MockServer)>,
    ) -> Result<Self, String> {
        let origin = Origin::parse(url).map_err(|error| format!("--base-url {url}: {error}"))?;
        let key = key.map_err(|error| format!("{error} (the API at {url} needs a key)"))?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {plain}"))
            .map_err(|_| format!("the key in {KEY_VARIABLE} cannot stand in a header"))?;
        bearer.set_sensitive(true);
        // The items' paths begin with /v1 themselves.
        let base = url.trim().trim_end_matches('/');
        let base = base.strip_suffix("/v1").unwrap_or(base).to_owned();
        Ok(Self { base, origin, key, bearer, mock })
    }
}

fn embedded(args: &Args) -> MockApi {
    let (ms, rpm) = (Duration::from_millis, args.rpm.get());
    let faults = Faults::none()
        .server_error(args.errors)
        .bad_gateway(args.faults)
        .unavailable(args.faults)
        .dropped(args.faults)
        .cut(args.faults)
        .truncated(args.faults)
        .html_429(args.faults);
    MockApi::builder()
        .seed(args.seed)
        .limits(Limits::per_minute(rpm, args.tpm.map_or(rpm.saturating_mul(400), u64::from)))
        .network(ms(15)..=ms(35))
        .service_time(ms(100)..=ms(300))
        .faults(faults)
        .record_cap(0)
        .build()
}

async fn batch(args: Args) -> Result<ExitCode, String> {
    if let Some(addr) = args.serve {
        serve::serve(embedded(&args), addr, interrupt(), args.json).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let source = match &args.input {
        Some(path) => Source::File(path.clone()),
        None => Source::Made { items: args.items.get(), seed: args.seed },
    };
    let items = source.count().map_err(|error| match &args.input {
        Some(path) => format!("cannot read the input {}: {error}", path.display()),
        None => error.to_string(),
    })?;
    let target = Target::of(&args).await?;
    let output = Output::of(&args)?;
    let opened = output::open(&output.path, args.retry_failed)?;
    if let Some(note) = &opened.note {
        eprintln!("{note}");
    }
    let there = opened.ledger.ok + opened.ledger.failed;
    eprintln!(
        "{items} items{}, {} workers, to {}, results in {}",
        if there > 0 { format!(", {there} of them there already") } else { String::new() },
        args.workers,
        if target.mock.is_some() { "the embedded API" } else { &target.base },
        output.path.display(),
    );

    let stop = Stop::new();
    let (ours, failed_before) = ours(&args, &source, items, &target, opened, &stop).await;
    let mut sdk = None;
    if args.compare && stop.why().is_none() {
        // An equal API, fresh: the first run has used the quota of the other.
        let fresh = if target.mock.is_some() { Target::of(&args).await? } else { target };
        sdk = Some(theirs(&args, &source, items, &fresh, &stop).await?);
    }

    match &sdk {
        Some(sdk) => eprint!("{}", report::table(&[("these layers", &ours), ("the SDK's way", sdk)])),
        None => eprint!("{}", report::table(&[("", &ours)])),
    }
    if args.json {
        println!("{}", report::json(&ours, sdk.as_ref()));
    }
    if let Some(Why::Hopeless(why)) = stop.why() {
        eprintln!("ended early: {why}\nRun it again with the same files to send what is missing.");
    }
    if ours.failed > 0 {
        let before =
            if failed_before > 0 { format!(" ({failed_before} of them before this run)") } else { String::new() };
        eprintln!("{} items failed{before}; --retry-failed sends them again.", ours.failed);
    }
    Ok(match stop.why() {
        Some(Why::Interrupted) => ExitCode::from(130),
        Some(Why::Hopeless(_)) => ExitCode::FAILURE,
        None if ours.failed > 0 || ours.missing > 0 => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    })
}

/// The batch through the layers. Also returns how many items had failed before.
async fn ours(args: &Args, source: &Source, items: u64, target: &Target, opened: Opened, stop: &Stop) -> (Report, u64) {
    let wire = Wire::new(args.workers.get());
    let (counts, meter, tally) = (wire.counts(), QuotaMeterLayer::new(), Arc::new(Tally::default()));
    let failed_before = opened.ledger.failed;
    let progress = Progress::new("batch", items, Arc::clone(&tally), Arc::clone(&counts), Some(meter.clone()));
    let plan = Plan {
        source: source.clone(),
        file: opened.file,
        ledger: opened.ledger,
        base: target.base.clone(),
        workers: args.workers.get(),
    };
    let service = stack::stack(wire, target.key.clone(), target.origin.clone(), &meter);
    let elapsed = watched(run::run(plan, service, Arc::clone(&tally), stop.clone()), &progress, stop).await;
    let limit = match &target.mock {
        Some((api, _)) => Some(api.physical_limit(args.workers.get())),
        None => limit_as_learned(&meter, &counts, &tally),
    };
    let report = Report { limit_is_learned: target.mock.is_none(), ..totals(items, &tally, &counts) };
    (report.timed(elapsed, limit), failed_before)
}

/// The same batch with plain retries; what comes of it is counted and thrown away.
async fn theirs(args: &Args, source: &Source, items: u64, target: &Target, stop: &Stop) -> Result<Report, String> {
    let output = Output::temporary("sdk");
    let wire = Wire::new(args.workers.get());
    let (counts, tally) = (wire.counts(), Arc::new(Tally::default()));
    let progress = Progress::new("the SDK's way", items, Arc::clone(&tally), Arc::clone(&counts), None);
    let plan = Plan {
        source: source.clone(),
        file: output::open(&output.path, false)?.file,
        ledger: Ledger::default(),
        base: target.base.clone(),
        workers: args.workers.get(),
    };
    let service = sdk::sdk(wire, target.bearer.clone());
    let elapsed = watched(run::run(plan, service, Arc::clone(&tally), stop.clone()), &progress, stop).await;
    let limit = target.mock.as_ref().map(|(api, _)| api.physical_limit(args.workers.get()));
    Ok(totals(items, &tally, &counts).timed(elapsed, limit))
}

/// Waits for a run, shows how far it is, and stops it on Ctrl-C; a second one ends the program.
async fn watched(run: impl Future<Output = Duration>, progress: &Progress, stop: &Stop) -> Duration {
    tokio::pin!(run);
    let interrupted = async {
        interrupt().await;
        progress.say("stopping: waiting for the calls that are out (once more to quit at once)");
        stop.stop(Why::Interrupted);
        interrupt().await;
        progress.finish();
        std::process::exit(130);
    };
    tokio::select! {
        elapsed = &mut run => {
            progress.finish();
            elapsed
        }
        () = progress.show() => Duration::ZERO,
        () = interrupted => Duration::ZERO,
    }
}

/// Ctrl-C, or a request to terminate.
async fn interrupt() {
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            pressed = tokio::signal::ctrl_c() => if pressed.is_ok() { return },
            _ = terminate.recv() => return,
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        // Without signals there is nothing to wait for.
        std::future::pending::<()>().await;
    }
}

fn totals(items: u64, tally: &Tally, counts: &Counts) -> Report {
    Report {
        items,
        ok: tally.ok.load(Relaxed),
        failed: tally.failed.load(Relaxed),
        missing: items.saturating_sub(tally.done()),
        skipped: tally.skipped.load(Relaxed),
        calls: counts.calls.load(Relaxed),
        rejected: counts.rejected.load(Relaxed),
        elapsed_s: 0.0,
        limit_s: None,
        ratio: None,
        limit_is_learned: false,
        failed_by_kind: tally.kinds(),
    }
}

/// The least time for the calls that were admitted, by the limits that the meter has learned.
fn limit_as_learned(meter: &QuotaMeterLayer, counts: &Counts, tally: &Tally) -> Option<Duration> {
    let snapshot = meter.snapshot();
    let over = |level: Option<tower_outbound::quota_meter::Level>, used: u64| {
        let level = level?;
        Some(((used as f64 - level.limit) / level.refill_per_second).max(0.0))
    };
    let waits = [over(snapshot.requests, counts.admitted()), over(snapshot.tokens, tally.tokens.load(Relaxed))];
    let longest = waits.into_iter().flatten().reduce(f64::max)?;
    Some(Duration::try_from_secs_f64(longest).ok()?.saturating_add(counts.mean_latency()))
}

/// Where results go; a temporary one is removed in the end.
struct Output {
    path: PathBuf,
    temporary: bool,
}

impl Output {
    fn of(args: &Args) -> Result<Self, String> {
        let path = match (&args.output, &args.input) {
            (Some(path), _) => path.clone(),
            (None, Some(input)) => input.with_extension("results.jsonl"),
            (None, None) => return Ok(Self::temporary("results")),
        };
        if args.input.as_deref().is_some_and(|input| is_same(input, &path)) {
            return Err(format!("the input and the output are the same file, {}", path.display()));
        }
        Ok(Self { path, temporary: false })
    }

    fn temporary(what: &str) -> Self {
        let name = format!("tower-outbound-batch-{}-{what}.jsonl", std::process::id());
        Self { path: std::env::temp_dir().join(name), temporary: true }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.temporary {
            // It may be gone already, and then that is that.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    matches!((fs::canonicalize(one), fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}
