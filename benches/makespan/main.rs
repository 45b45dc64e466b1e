//! The time a batch takes, by the least that its quota allows, and the 429s it costs: `cargo bench --bench makespan`,
//! with `-- --json` as JSON lines. Virtual time, three seeds a cell; each shows the worst.

mod scenario;

use scenario::{Figures, HEADERS, Scenario};
use tower::BoxError;

const SEEDS: u64 = 3;

fn main() -> Result<(), BoxError> {
    let json = std::env::args().any(|argument| argument == "--json");
    // `cargo test` runs benches too, without this word: then one cell is enough.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let whole = std::env::args().any(|argument| argument == "--bench");
    if !json {
        println!(
            "{:<40} {:>10} {:>10} {:>8} {:>8}",
            "server, requests a minute, workers", "ratio", "429s/item", "failed", "p99/p50"
        );
    }
    for (name, scenario) in servers() {
        for (requests, workers) in [(60, 64), (500, 8), (500, 64), (500, 512), (10_000, 512)] {
            let cell_name = format!("{name}, {requests}, {workers}");
            if !wanted.is_empty() && !wanted.iter().any(|wanted| cell_name.contains(wanted.as_str())) {
                continue;
            }
            let Figures { ratio, wasted, failed, spread } = worst(cell(scenario, requests, workers))?;
            if json {
                println!(
                    r#"{{"server":"{name}","requests_per_minute":{requests},"workers":{workers},"ratio":{ratio:.4},"rejected_per_item":{wasted:.5},"failed":{failed},"p99_by_p50":{spread:.3}}}"#
                );
            } else {
                println!("{cell_name:<40} {ratio:>10.4} {:>8.2} % {failed:>8} {spread:>8.3}", 100.0 * wasted);
            }
            if !whole {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn servers() -> [(&'static str, Scenario); 7] {
    [
        ("headers", HEADERS),
        ("token-bound", Scenario { tokens: 0, ..HEADERS }),
        ("retry-after only", Scenario { headers: false, ..HEADERS }),
        ("nothing", Scenario { headers: false, retry_after: false, ..HEADERS }),
        ("hidden limit a second", Scenario { hidden: true, ..HEADERS }),
        ("headers, two processes", Scenario { processes: 2, ..HEADERS }),
        ("headers, four processes", Scenario { processes: 4, ..HEADERS }),
    ]
}

/// Bound by tokens: ten times the requests, and tokens for half as many as are sent.
fn cell(scenario: Scenario, requests: u64, workers: usize) -> Scenario {
    match scenario.tokens {
        0 => Scenario { requests: requests * 10, tokens: requests * 300, workers, ..scenario },
        _ => Scenario { requests, workers, ..scenario },
    }
}

fn worst(scenario: Scenario) -> Result<Figures, BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let mut worst = Figures::default();
    for seed in 1..=SEEDS {
        let figures = runtime.block_on(scenario.run(seed))?;
        worst = Figures {
            ratio: worst.ratio.max(figures.ratio),
            wasted: worst.wasted.max(figures.wasted),
            failed: worst.failed.max(figures.failed),
            spread: worst.spread.max(figures.spread),
        };
    }
    Ok(worst)
}
