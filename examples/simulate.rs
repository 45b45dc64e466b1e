//! What retry policies do to a server: AWS's study of backoff and jitter, and two outages.
//!
//!     cargo run --release --example simulate
//!     cargo run --release --example simulate -- --svg retries.svg

use std::{error::Error, path::PathBuf, time::Duration};

use clap::Parser;
use tower_outbound::{
    backoff_retry::{Backoff, BackoffRetryLayer, Budget, Jitter, Standard},
    mock::simulate::{Chart, Contention, Mean, Outage, Run, Table, page},
    nz,
};

#[derive(Parser)]
#[command(about = "Simulates retry policies against a contended record, and against a server that fails for a while")]
struct Options {
    /// Draw the results, too, and write them here
    #[arg(long, value_name = "PATH")]
    svg: Option<PathBuf>,
    /// Runs of which the mean is shown
    #[arg(long, default_value_t = 100, value_name = "N")]
    runs: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let runs = options.runs.clamp(1, 10_000);
    let mut charts = study(runs);
    for (outage, title) in [
        (Outage::new(), "An outage of 20 s in which the server refuses"),
        (Outage::new().silent(), "An outage of 20 s in which the server stands still"),
    ] {
        charts.push(outages(&outage, title, runs.min(3)));
    }
    if let Some(path) = options.svg {
        std::fs::write(&path, page(&charts))?;
        println!("drawn in {}", path.display());
    }
    Ok(())
}

/// The study's five policies: a base of 5 ms, of which the first wait is the double, up to 2 s, and no end of attempts.
fn jitters() -> [(&'static str, Standard); 5] {
    let exponential =
        |base, jitter| Backoff::exponential(Duration::from_millis(base)).cap(Duration::from_secs(2)).jitter(jitter);
    [
        ("none", Backoff::constant(Duration::ZERO)),
        ("exponential", exponential(10, Jitter::None)),
        ("equal", exponential(10, Jitter::Equal)),
        ("decorrelated", exponential(5, Jitter::Decorrelated)),
        ("full", exponential(10, Jitter::Full)),
    ]
    .map(|(name, backoff)| (name, Standard::new().max_attempts(nz!(u32::MAX)).backoff(backoff)))
}

fn study(runs: u64) -> Vec<Chart> {
    println!("N clients write one record under an optimistic lock: calls made / time to finish, mean of {runs} runs\n");
    let policies = jitters();
    let mut table = Table::new(["clients"].into_iter().chain(policies.iter().map(|(name, _)| *name)));
    let mut points = vec![Vec::new(); policies.len()];
    for clients in [10, 20, 50, 100, 150, 190] {
        let mut row = vec![clients.to_string()];
        for ((_, policy), points) in policies.iter().zip(&mut points) {
            let mean: Mean = (0..runs).map(|seed| Contention::new(clients).run(policy, seed)).collect();
            row.push(mean.to_string());
            points.push((f64::from(clients), mean));
        }
        table.row(row);
    }
    println!("{table}");
    let chart = |title: &str, y: &str, value: fn(&Mean) -> f64| {
        let chart = Chart::new(title, "clients", y).log_y();
        policies.iter().zip(&points).fold(chart, |chart, ((name, _), points)| {
            chart.line(*name, points.iter().map(|(clients, mean)| (*clients, value(mean))))
        })
    };
    vec![
        chart("N clients, one record: calls made", "calls", |mean| mean.attempts),
        chart("N clients, one record: time to finish", "seconds", |mean| mean.finished.as_secs_f64()),
    ]
}

fn outages(outage: &Outage, title: &str, runs: u64) -> Chart {
    println!("{title}: 20 clients make 200 calls a second, the server can do 300; mean of {runs} runs\n");
    let standard = BackoffRetryLayer::new;
    let every_second = Standard::new()
        .max_attempts(nz!(u32::MAX))
        .backoff(Backoff::constant(Duration::from_secs(1)).jitter(Jitter::None));
    let policies = [
        ("no retry", standard().policy(Standard::new().max_attempts(nz!(1)))),
        ("every second", standard().policy(every_second).budget(Budget::unlimited())),
        ("openai_sdk", BackoffRetryLayer::openai_sdk()),
        ("aws_standard", BackoffRetryLayer::aws_standard()),
        ("default", standard()),
        ("a tenth, floor 10", standard().budget(Budget::share_of_traffic(0.1).floor(10.0))),
    ];
    let results = policies.map(|(name, layer)| {
        let results: Vec<Run> = (0..runs).map(|seed| outage.run(&layer, seed)).collect();
        (name, results)
    });
    println!("{}", Table::of(results.iter().map(|(name, runs)| (*name, runs.iter().collect()))));
    let (begin, end) = outage.span();
    let chart = Chart::new(format!("{title}: load"), "seconds", "attempts a call").band("outage", begin, end).log_y();
    results.iter().fold(chart, |chart, (name, runs)| match runs.first() {
        Some(run) => chart.line(*name, run.load_over_time()),
        None => chart,
    })
}
