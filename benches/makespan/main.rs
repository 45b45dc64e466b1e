//! The time a batch takes, by the least that its quota allows, and the 429s it costs: `cargo bench --bench makespan`,
//! with `-- --json` as JSON lines, with `-- --trace` where in time each loss and each 429 is. Words choose cells:
//! `-- "headers, 500, 64"`. Virtual time, three seeds a cell; each shows the worst beside what it may be, and a bound
//! that is missed is a failure.

mod bounds;
mod grid;
mod scenario;
mod trace;

use std::process::ExitCode;

use bounds::{Bounds, SPREAD};
use scenario::Figures;
use tower::BoxError;

fn main() -> Result<ExitCode, BoxError> {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    // `cargo test` runs benches too, without this word: then one cell is enough.
    let sizes = if has("--bench") { &grid::SIZES[..] } else { &grid::SIZES[7..8] };
    let mut misses = 0;
    for (name, scenario) in grid::SERVERS {
        for &(requests, workers) in sizes.iter().rev() {
            let cell_name = format!("{name}, {requests}, {workers}");
            if !wanted.is_empty() && !wanted.iter().any(|wanted| cell_name.contains(wanted.as_str())) {
                continue;
            }
            let cell = grid::cell(scenario, requests, workers);
            if has("--trace") {
                println!("{cell_name}");
                grid::worst(async |seed| trace::run(cell, seed).await)?;
                continue;
            }
            let figures = grid::worst(async |seed| cell.run(seed).await)?;
            let Figures { ratio, wasted, failed, spread } = figures;
            if has("--json") {
                println!(
                    r#"{{"server":"{name}","requests_per_minute":{requests},"workers":{workers},"ratio":{ratio:.4},"rejected_per_item":{wasted:.5},"failed":{failed},"p99_by_p50":{spread:.3}}}"#
                );
                continue;
            }
            let bounds = Bounds::of(name, requests, workers);
            let missed = bounds.missed(&figures);
            print!(
                "{cell_name:<36} ratio {ratio:.4}{} | 429s {:.2} %{} | failed {failed} | p99/p50 {spread:.3}{}",
                at_most(bounds.ratio, "", 1.0),
                100.0 * wasted,
                at_most(bounds.wasted, " %", 100.0),
                at_most(bounds.spread, "", 1.0),
            );
            match (&missed[..], bounds::known(name, requests, workers)) {
                ([], _) => println!(),
                ([SPREAD], Some(why)) => println!("  known: {why}"),
                _ => {
                    misses += 1;
                    println!("  MISSED: {}", missed.join(", "));
                }
            }
        }
    }
    if misses > 0 {
        println!("{misses} cells miss what they must keep to");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn at_most(bound: f64, unit: &str, scale: f64) -> String {
    if bound.is_finite() { format!(" <= {}{unit}", (bound * scale * 1e6).round() / 1e6) } else { String::new() }
}
