//! The servers and sizes that are gone through, three seeds each. Used by this bench, and by the one with the peers.

use tower::BoxError;

use crate::scenario::{Figures, HEADERS, Scenario};

const SEEDS: u64 = 3;

/// Requests a minute, workers. The longest first, so that threads end together.
pub(crate) const SIZES: [(u64, usize); 9] =
    [(10_000, 512), (10_000, 64), (10_000, 8), (500, 512), (500, 64), (500, 8), (60, 512), (60, 64), (60, 8)];

pub(crate) const SERVERS: [(&str, Scenario); 9] = [
    ("headers", HEADERS),
    ("429s do not count", Scenario { rejected_count: false, ..HEADERS }),
    ("token-bound", Scenario { tokens: 0, ..HEADERS }),
    ("retry-after only", Scenario { headers: false, ..HEADERS }),
    ("nothing", Scenario { headers: false, retry_after: false, ..HEADERS }),
    ("hidden limit a second", Scenario { hidden: true, ..HEADERS }),
    ("headers, two processes", Scenario { processes: 2, ..HEADERS }),
    ("headers, four processes", Scenario { processes: 4, ..HEADERS }),
    ("nothing, two processes", Scenario { headers: false, retry_after: false, processes: 2, ..HEADERS }),
];

/// Bound by tokens: twice the requests, and tokens for a quarter of what is sent.
pub(crate) fn cell(scenario: Scenario, requests: u64, workers: usize) -> Scenario {
    match scenario.tokens {
        0 => Scenario { requests: requests * 2, tokens: requests * 300, workers, ..scenario },
        _ => Scenario { requests, workers, ..scenario },
    }
}

/// The worst of all seeds in each figure, each run in a virtual time of its own.
pub(crate) fn worst(run: impl AsyncFn(u64) -> Result<Figures, BoxError>) -> Result<Figures, BoxError> {
    let mut worst = Figures::default();
    for seed in 1..=SEEDS {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let figures = runtime.block_on(run(seed))?;
        worst = Figures {
            ratio: worst.ratio.max(figures.ratio),
            wasted: worst.wasted.max(figures.wasted),
            failed: worst.failed.max(figures.failed),
            spread: worst.spread.max(figures.spread),
        };
    }
    Ok(worst)
}
