//! The same batch through this crate's layers and through what others would send it with, on the same server:
//! `cargo bench -p compare --bench makespan`, with `-- --json` as JSON lines, with `-- --svg ../docs/makespan.svg` drawn
//! too. Words choose cells by server, client and size: `-- R500 K64` (all of them must be in its name).
//!
//! Virtual time, three seeds a cell; each figure is the worst of them: time by the least that the quota allows, 429s by
//! items, items failed. A batch is given up after twelve times that least time, or a hundred calls an item.

#[path = "../../../benches/makespan/grid.rs"]
mod grid;
mod peers;
#[path = "../../../benches/makespan/scenario.rs"]
mod scenario;
mod strips;

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use peers::{PEERS, Peer};
use scenario::{Figures, Scenario};
use tower::BoxError;
use tower_outbound::mock::simulate::Table;

/// One client with one batch.
pub(crate) struct Cell {
    server: &'static str,
    client: &'static str,
    peer: Peer,
    requests: u64,
    workers: usize,
    scenario: Scenario,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}; R{} K{}", self.server, self.client, self.requests, self.workers)
    }
}

/// A cell, and what came of it.
pub(crate) struct Row {
    cell: Cell,
    figures: Figures,
}

fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let svg = arguments.iter().skip_while(|argument| *argument != "--svg").nth(1);
    let wanted = arguments.iter().filter(|argument| !argument.starts_with("--") && Some(*argument) != svg);
    let wanted: Vec<&String> = wanted.collect();
    // `cargo test` runs benches too, without this word: then one cell is enough.
    let sizes = if has("--bench") { &grid::SIZES[..] } else { &grid::SIZES[7..8] };

    let mut rows = Vec::new();
    for (server, scenario) in grid::SERVERS {
        let cells = sizes.iter().flat_map(|&(requests, workers)| {
            PEERS.map(|(client, peer)| {
                let scenario = grid::cell(scenario, requests, workers);
                Cell { server, client, peer, requests, workers, scenario }
            })
        });
        let is_wanted = |cell: &Cell| wanted.iter().all(|word| cell.to_string().contains(word.as_str()));
        let cells = cells.filter(is_wanted);
        let measured = measure(cells.collect())?;
        if has("--json") {
            measured.iter().for_each(|row| println!("{}", row.json()));
        } else if !measured.is_empty() {
            println!("{}", table(server, &measured));
        }
        rows.extend(measured);
    }
    if let Some(path) = svg {
        std::fs::write(path, strips::svg(&rows))?;
    }
    Ok(())
}

/// All cells, on as many threads as there are cores.
fn measure(cells: Vec<Cell>) -> Result<Vec<Row>, BoxError> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(cell) = cells.get(number) else { return Ok(done) };
            done.push((number, grid::worst(async |seed| cell.peer.run(cell.scenario, seed).await)?));
        }
    };
    let mut done = thread::scope(|scope| {
        let threads: Vec<_> = (0..thread::available_parallelism()?.get()).map(|_| scope.spawn(work)).collect();
        let done = threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")?);
        Ok::<_, BoxError>(done.collect::<Result<Vec<_>, BoxError>>()?.concat())
    })?;
    done.sort_by_key(|(number, _)| *number);
    Ok(cells.into_iter().zip(done).map(|(cell, (_, figures))| Row { cell, figures }).collect())
}

fn table(server: &str, rows: &[Row]) -> Table {
    let mut sizes: Vec<_> = rows.iter().map(|row| (row.cell.requests, row.cell.workers)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let headings = sizes.iter().map(|(requests, workers)| format!("R{requests} K{workers}"));
    let mut table = Table::new(std::iter::once(server.to_owned()).chain(headings));
    for (client, _) in PEERS {
        let of =
            |size| rows.iter().find(|row| row.cell.client == client && (row.cell.requests, row.cell.workers) == size);
        if rows.iter().any(|row| row.cell.client == client) {
            let cells = sizes.iter().map(|size| of(*size).map(Row::to_string).unwrap_or_default());
            table.row(std::iter::once(client.to_owned()).chain(cells));
        }
    }
    table
}

impl Row {
    fn failed(&self) -> f64 {
        self.figures.failed as f64 / self.cell.scenario.items() as f64
    }

    /// None for a batch that was given up, and for one of which over half the items failed: it says nothing then.
    fn ratio(&self) -> Option<f64> {
        Some(self.figures.ratio).filter(|ratio| ratio.is_finite() && self.failed() <= 0.5)
    }

    fn is_done(&self) -> bool {
        self.figures.ratio.is_finite()
    }

    fn json(&self) -> String {
        let Cell { server, client, requests, workers, scenario, .. } = &self.cell;
        let Figures { wasted, failed, spread, .. } = self.figures;
        let number = |value: f64| if value.is_finite() { format!("{value:.4}") } else { "null".to_owned() };
        format!(
            r#"{{"server":"{server}","requests_per_minute":{requests},"workers":{workers},"client":"{client}","items":{},"ratio":{},"rejected_per_item":{wasted:.5},"failed":{failed},"p99_by_p50":{}}}"#,
            scenario.items(),
            number(self.figures.ratio),
            number(spread),
        )
    }
}

/// As in `1.003 / 0.1 % / 0`.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_done() {
            return f.write_str("not done");
        }
        let ratio = self.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
        write!(f, "{ratio} / {} / {}", percent(self.figures.wasted), percent(self.failed()))
    }
}

fn percent(share: f64) -> String {
    match 100.0 * share {
        0.0 => "0".to_owned(),
        percent if percent < 0.995 => format!("{percent:.2} %"),
        percent if percent < 9.95 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}
