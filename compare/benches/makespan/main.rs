//! The same batch through this crate's layers and through what others would send it with, on the same server:
//! `cargo bench -p compare --bench makespan`, with `-- --json` as JSON lines, with `-- --svg ../docs/makespan.svg` drawn
//! too. Words choose cells by server, client and size: `-- R500 K64` (all of them must be in its name).
//!
//! Virtual time, three seeds a cell, or those of `-- --seeds 4-11`; each figure is the worst of them: time by the least that the quota allows, 429s by
//! items, items failed. A batch is given up after twelve times that least time, or a hundred calls an item.

#[path = "../../../benches/makespan/grid.rs"]
mod grid;
mod peers;
#[path = "../../../benches/makespan/scenario.rs"]
mod scenario;
mod strips;

use std::fmt;

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
    let is_value = |at: usize| at > 0 && ["--svg", "--seeds"].contains(&arguments[at - 1].as_str());
    let words = arguments.iter().enumerate().filter(|(at, word)| !word.starts_with("--") && !is_value(*at));
    let wanted: Vec<&String> = words.map(|(_, word)| word).collect();
    // `cargo test` runs benches too, without this word: then one cell is enough.
    let sizes = if has("--bench") { &grid::SIZES[..] } else { &grid::SMALL };

    let cells = grid::SERVERS.iter().flat_map(|&(server, scenario)| {
        sizes.iter().flat_map(move |&(requests, workers)| {
            PEERS.map(|(client, peer)| {
                let scenario = grid::cell(scenario, requests, workers);
                Cell { server, client, peer, requests, workers, scenario }
            })
        })
    });
    let is_wanted = |cell: &Cell| wanted.iter().all(|word| cell.to_string().contains(word.as_str()));
    let cells: Vec<Cell> = cells.filter(is_wanted).collect();
    let run = |cell: &Cell, seed| grid::alone(cell.peer.run(cell.scenario, seed));
    let figures = grid::worst(&cells, grid::seeds(&arguments)?, Cell::effort, run)?;
    let rows: Vec<Row> = cells.into_iter().zip(figures).map(|(cell, figures)| Row { cell, figures }).collect();
    if has("--json") {
        rows.iter().for_each(|row| println!("{}", row.json()));
    } else {
        for of_server in rows.chunk_by(|a, b| a.cell.server == b.cell.server) {
            println!("{}", table(of_server[0].cell.server, of_server));
        }
    }
    if let Some(path) = svg {
        std::fs::write(path, strips::svg(&rows))?;
    }
    Ok(())
}

impl Cell {
    /// Roughly the calls it makes: a client that asks again and again makes up to a hundred an item.
    fn effort(&self) -> u64 {
        let is_endless = matches!(self.peer, Peer::Sdk { max_retries: u32::MAX });
        self.scenario.items() * if is_endless && self.requests < 10_000 { 100 } else { 1 }
    }
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
