//! The time a batch takes, by the least that its quota allows, and the 429s it costs: `cargo bench --bench makespan`,
//! with `-- --json` as JSON lines. Virtual time, three seeds a cell; each shows the worst.

mod grid;
mod scenario;
mod trace;

use scenario::Figures;
use tower::BoxError;

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
    for (name, scenario) in grid::SERVERS {
        for (requests, workers) in [(60, 64), (500, 8), (500, 64), (500, 512), (10_000, 512)] {
            let cell_name = format!("{name}, {requests}, {workers}");
            if !wanted.is_empty() && !wanted.iter().any(|wanted| cell_name.contains(wanted.as_str())) {
                continue;
            }
            if std::env::args().any(|argument| argument == "--trace") {
                let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
                for seed in seed.map_or(vec![1, 2, 3], |s| vec![s]) {
                    println!("{cell_name}");
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
                    runtime.block_on(trace::run(grid::cell(scenario, requests, workers), seed))?;
                }
                continue;
            }
            let Figures { ratio, wasted, failed, spread } =
                grid::worst(async |seed| grid::cell(scenario, requests, workers).run(seed).await)?;
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
