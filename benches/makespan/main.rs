//! The time a batch takes, by the least that its quota allows, and the 429s it costs: `cargo bench --bench makespan`,
//! with `-- --json` as JSON lines. Virtual time, three seeds a cell; each shows the worst.

mod scenario;

use scenario::{HEADERS, Scenario};
use tower::BoxError;

const SEEDS: u64 = 3;

fn main() -> Result<(), BoxError> {
    let json = std::env::args().any(|argument| argument == "--json");
    // `cargo test` runs benches too, without this word: then one cell is enough.
    let whole = std::env::args().any(|argument| argument == "--bench");
    if !json {
        println!("{:<40} {:>10} {:>10} {:>8}", "server, requests a minute, workers", "ratio", "429s/item", "failed");
    }
    for (name, scenario) in servers() {
        for (requests, workers) in [(60, 64), (500, 8), (500, 64), (500, 512), (10_000, 512)] {
            let (ratio, wasted, failed) = worst(cell(scenario, requests, workers))?;
            if json {
                println!(
                    r#"{{"server":"{name}","requests_per_minute":{requests},"workers":{workers},"ratio":{ratio:.4},"rejected_per_item":{wasted:.5},"failed":{failed}}}"#
                );
            } else {
                let cell = format!("{name}, {requests}, {workers}");
                println!("{cell:<40} {ratio:>10.4} {:>8.2} % {failed:>8}", 100.0 * wasted);
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

fn worst(scenario: Scenario) -> Result<(f64, f64, u64), BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let mut worst = (0.0f64, 0.0f64, 0);
    for seed in 1..=SEEDS {
        let figures = runtime.block_on(scenario.run(seed))?;
        worst = (worst.0.max(figures.ratio), worst.1.max(figures.wasted), worst.2.max(figures.failed));
    }
    Ok(worst)
}
