//! A batch of requests through a rate-limited API, at the speed that the quota allows: `--help` says all.
//!
//! `cargo run --release --example batch` shows it against an API in the same process. The layers are put together in
//! `stack.rs`; the rest is a program around them: `input.rs` and `output.rs` for the files, `run.rs`
//! and `worker.rs` for what happens between them.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod flaw;
mod input;
mod ledger;
mod outage;
mod output;
mod progress;
mod quota;
mod record;
mod report;
mod run;
mod say;
mod sdk;
mod serve;
mod stack;
mod tally;
mod target;
mod temp;
mod wire;
mod worker;

use std::{
    process::ExitCode,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use clap::Parser;
use tower_outbound::quota_meter::QuotaMeterLayer;

use crate::{
    args::Args,
    input::Source,
    ledger::{Ledger, Survey},
    outage::Outage,
    output::{Opened, Output},
    progress::Progress,
    report::Report,
    run::Plan,
    say::{give, say},
    tally::{Stop, Tally, Why},
    target::{Target, embedded},
    wire::{Counts, Wire},
    worker::Care,
};

#[tokio::main]
async fn main() -> ExitCode {
    match batch(Args::parse()).await {
        Ok(status) => status,
        Err(message) => {
            say(format_args!("error: {message}"));
            ExitCode::from(2)
        }
    }
}

async fn batch(args: Args) -> Result<ExitCode, String> {
    if let Some(addr) = args.serve {
        serve::serve(embedded(&args), addr, interrupt(), args.json).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let cannot_read = |error: std::io::Error| match &args.input {
        Some(path) => format!("cannot read the input {}: {error}", path.display()),
        None => error.to_string(),
    };
    let source = match &args.input {
        Some(path) => Source::open(path).map_err(cannot_read)?,
        None => Source::Made { items: args.items.get(), seed: args.seed },
    };
    if matches!(source, Source::Spooled(_)) && args.output.is_none() {
        return Err("an input that is no file needs an --output".into());
    }
    let target = Target::of(&args).await?;
    let output = Output::of(&args)?;
    let mut opened = output::open(&output.path)?;
    let mut survey = opened.ledger.survey(&source).map_err(cannot_read)?;
    opened.note.iter().for_each(say);
    if args.retry_failed && survey.failed > 0 {
        opened = opened.without_errors()?;
        opened.note.iter().for_each(say);
        survey.failed = 0;
    }
    let there = survey.ok + survey.failed;
    say(format_args!(
        "{} items{}, {} workers, to {}, results in {}",
        survey.items,
        if there > 0 { format!(", {there} of them there already") } else { String::new() },
        args.workers,
        if target.mock.is_some() { "the embedded API" } else { &target.base },
        output.path.display(),
    ));
    if args.compare && target.mock.is_none() {
        say("--compare sends every item once more, without the layers; what that costs is counted there, too");
    }

    let stop = Stop::new();
    let (ours, tally) = ours(&args, &source, &survey, &target, opened, &stop).await;
    let mut sdk = Ok(None);
    if args.compare && stop.why().is_none() {
        // An equal API, fresh: the first run has used the quota of the other.
        sdk = theirs(&args, &source, &survey, target, &stop).await.map(Some);
    }
    // What came of the batch is told whatever became of the comparison.
    let beside = sdk.as_ref().ok().and_then(Option::as_ref);
    tell(&args, &ours, beside, &tally, &survey, &stop);
    sdk?;
    Ok(match stop.why() {
        Some(Why::Interrupted) => ExitCode::from(130),
        Some(Why::Hopeless(_)) => ExitCode::FAILURE,
        None if ours.failed > 0 || ours.missing > 0 => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    })
}

/// The table, the line of JSON, and what is left to do.
fn tell(args: &Args, ours: &Report, sdk: Option<&Report>, tally: &Tally, survey: &Survey, stop: &Stop) {
    match sdk {
        Some(sdk) => say(report::table(&[("these layers", ours), ("the SDK's way", sdk)])),
        None => say(report::table(&[("", ours)])),
    }
    if args.json {
        give(report::json(ours, sdk));
    }
    if let Some(Why::Hopeless(why)) = stop.why() {
        say(format_args!("ended early: {why}"));
    }
    for (kind, left) in tally.left() {
        say(format_args!("{} items have no result for {kind}: {}", left.items, left.why));
    }
    if ours.missing > 0 {
        say(format_args!("{} items are missing: run it again with the same files to send them.", ours.missing));
    }
    if ours.failed > 0 {
        let before = match survey.failed {
            0 => String::new(),
            failed => format!(" ({failed} of them before this run)"),
        };
        say(format_args!("{} items failed{before}; --retry-failed sends them again.", ours.failed));
    }
}

/// The batch through the layers.
async fn ours(
    args: &Args,
    source: &Source,
    survey: &Survey,
    target: &Target,
    opened: Opened,
    stop: &Stop,
) -> (Report, Arc<Tally>) {
    let wire = Wire::new(args.workers as usize);
    let (counts, meter, tally) = (wire.counts(), QuotaMeterLayer::new(), Arc::new(Tally::new(survey)));
    let handle = meter.handle();
    let progress = Progress::new("batch", survey.items, Arc::clone(&tally), Arc::clone(&counts), Some(handle.clone()));
    let care = Care {
        outage: Arc::new(Outage::new(Duration::from_secs(args.patience.into()))),
        meter: handle.clone(),
        models: survey.models,
    };
    let plan = Plan {
        source: source.clone(),
        file: opened.file,
        ledger: opened.ledger,
        base: target.base.clone(),
        workers: args.workers as usize,
        care: Some(care),
    };
    let service = stack::stack(wire, target.key.clone(), target.origin.clone(), &meter);
    let elapsed = watched(run::run(plan, service, Arc::clone(&tally), stop.clone()), &progress, stop).await;
    let limit = match &target.mock {
        Some((api, _)) => Some(api.physical_limit(args.workers as usize)),
        None => quota::least_time(&handle, &counts, &tally),
    };
    let report = Report { limit_is_learned: target.mock.is_none(), ..totals(survey.items, &tally, &counts) };
    (report.timed(elapsed, limit), tally)
}

/// The same batch with plain retries; what comes of it is counted and thrown away.
async fn theirs(args: &Args, source: &Source, survey: &Survey, target: Target, stop: &Stop) -> Result<Report, String> {
    let target = if target.mock.is_some() { Target::of(args).await? } else { target };
    let output = Output::temporary()?;
    let wire = Wire::new(args.workers as usize);
    let (counts, tally) = (wire.counts(), Arc::new(Tally::default()));
    let progress = Progress::new("the SDK's way", survey.items, Arc::clone(&tally), Arc::clone(&counts), None);
    let plan = Plan {
        source: source.clone(),
        file: output::open(&output.path)?.file,
        ledger: Ledger::default(),
        base: target.base.clone(),
        workers: args.workers as usize,
        care: None,
    };
    let service = sdk::sdk(wire, target.bearer.clone());
    let elapsed = watched(run::run(plan, service, Arc::clone(&tally), stop.clone()), &progress, stop).await;
    let limit = target.mock.as_ref().map(|(api, _)| api.physical_limit(args.workers as usize));
    // The peak is that of both runs.
    Ok(Report { peak_mib: None, ..totals(survey.items, &tally, &counts) }.timed(elapsed, limit))
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
        skipped: tally.skipped,
        calls: counts.calls.load(Relaxed),
        rejected: counts.rejected.load(Relaxed),
        elapsed_s: 0.0,
        limit_s: None,
        ratio: None,
        limit_is_learned: false,
        failed_by_kind: tally.kinds(),
        peak_mib: report::peak_mib(),
    }
}
