//! The time a batch takes, by the least that its quota allows, and the 429s it costs: `cargo bench --bench makespan`,
//! with `-- --json` as JSON lines, with `-- --trace` where in time each loss and each 429 is. Words choose cells:
//! `-- "headers, 500, 64"`. Virtual time, three seeds a cell, or those of `-- --seeds 4-11`; each shows the worst beside
//! what it may be, and a bound that is missed is a failure. Where the latencies are spread more than they may be, so
//! are those of the ideal line looked at, on the same servers and seeds.

mod bounds;
mod grid;
mod ideal;
mod scenario;
mod trace;

use std::process::ExitCode;

use bounds::{Bounds, SPREAD};
use scenario::{Figures, Scenario};
use tower::BoxError;

struct Cell {
    server: &'static str,
    requests: u64,
    workers: usize,
    scenario: Scenario,
}

fn main() -> Result<ExitCode, BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let seeds = grid::seeds(&arguments)?;
    let is_value = |at: usize| at > 0 && arguments[at - 1] == "--seeds";
    let words = arguments.iter().enumerate().filter(|(at, word)| !word.starts_with("--") && !is_value(*at));
    let wanted: Vec<&str> = words.map(|(_, word)| word.as_str()).collect();
    // `cargo test` runs benches too, without this word: then one cell is enough.
    let sizes = if has("--bench") { &grid::SIZES[..] } else { &grid::SMALL };
    let cells = grid::SERVERS.iter().flat_map(|&(server, scenario)| {
        sizes.iter().map(move |&(requests, workers)| Cell {
            server,
            requests,
            workers,
            scenario: grid::cell(scenario, requests, workers),
        })
    });
    let is_wanted = |cell: &Cell| wanted.is_empty() || wanted.iter().any(|word| cell.name().contains(word));
    let cells: Vec<Cell> = cells.filter(is_wanted).collect();
    if has("--trace") {
        for cell in &cells {
            println!("{}", cell.name());
            for seed in seeds.clone() {
                grid::alone(trace::run(cell.scenario, seed))?;
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let effort = |cell: &Cell| cell.scenario.items();
    let figures = grid::worst(&cells, seeds.clone(), effort, |cell, seed| grid::alone(cell.scenario.run(seed)))?;
    let mut misses = 0;
    for (cell, figures) in cells.iter().zip(figures) {
        if has("--json") {
            println!("{}", cell.json(figures));
            continue;
        }
        let mut bounds = Bounds::of(cell.server, cell.requests, cell.workers);
        if figures.spread > bounds.spread {
            let ideal = |cell: &&Cell, seed| grid::alone(ideal::run(cell.scenario, seed));
            let ideal = grid::worst(&[cell], seeds.clone(), |_| 0, ideal)?;
            bounds = bounds.beside(ideal[0]);
        }
        if !cell.show(figures, &bounds) {
            misses += 1;
        }
    }
    if misses > 0 {
        println!("{misses} cells miss what they must keep to");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

impl Cell {
    fn name(&self) -> String {
        format!("{}, {}, {}", self.server, self.requests, self.workers)
    }

    fn json(&self, Figures { ratio, wasted, failed, spread }: Figures) -> String {
        let Self { server, requests, workers, .. } = self;
        format!(
            r#"{{"server":"{server}","requests_per_minute":{requests},"workers":{workers},"ratio":{ratio:.4},"rejected_per_item":{wasted:.5},"failed":{failed},"p99_by_p50":{spread:.3}}}"#
        )
    }

    /// `false` if it misses a bound.
    fn show(&self, figures: Figures, bounds: &Bounds) -> bool {
        let Figures { ratio, wasted, failed, spread } = figures;
        print!(
            "{:<36} ratio {ratio:.4}{} | 429s {:.2} %{} | failed {failed} | p99/p50 ",
            self.name(),
            at_most(bounds.ratio, "", 1.0),
            100.0 * wasted,
            at_most(bounds.wasted, " %", 100.0),
        );
        // Of as many workers as there are items, all are served from what was saved up.
        if spread > 0.0 {
            print!("{spread:.3}{}", at_most(bounds.spread, "", 1.0));
        } else {
            print!("of too few items");
        }
        match (&bounds.missed(&figures)[..], bounds::known(self.server, self.requests, self.workers)) {
            ([], _) => println!(),
            ([SPREAD], Some(why)) => println!("  known: {why}"),
            (missed, _) => {
                println!("  MISSED: {}", missed.join(", "));
                return false;
            }
        }
        true
    }
}

fn at_most(bound: f64, unit: &str, scale: f64) -> String {
    if bound.is_finite() { format!(" <= {}{unit}", (bound * scale * 1e4).round() / 1e4) } else { String::new() }
}
