//! The servers and sizes that are gone through, some seeds each. Used by this bench, and by the one with the peers.

use std::{
    ops::RangeInclusive,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use tower::BoxError;

use crate::scenario::{Figures, HEADERS, Scenario, TOKENS};

/// What `--seeds` says otherwise, as in `--seeds 4-11`.
const SEEDS: RangeInclusive<u64> = 1..=3;

/// Requests a minute, workers.
pub(crate) const SIZES: [(u64, usize); 9] =
    [(60, 8), (60, 64), (60, 512), (500, 8), (500, 64), (500, 512), (10_000, 8), (10_000, 64), (10_000, 512)];
/// The one that is gone through where one is enough.
pub(crate) const SMALL: [(u64, usize); 1] = [(60, 64)];

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
        0 => Scenario { requests: requests * 2, tokens: requests * TOKENS, workers, ..scenario },
        _ => Scenario { requests, workers, ..scenario },
    }
}

/// The seeds that the arguments ask for.
///
/// # Errors
/// Something else than two numbers with a `-` between them after `--seeds`.
pub(crate) fn seeds(arguments: &[String]) -> Result<RangeInclusive<u64>, BoxError> {
    let Some(seeds) = arguments.iter().skip_while(|argument| *argument != "--seeds").nth(1) else { return Ok(SEEDS) };
    let (first, last) = seeds.split_once('-').ok_or("--seeds wants two numbers, as in 4-11")?;
    Ok(first.parse()?..=last.parse()?)
}

/// In a virtual time of its own.
///
/// # Errors
/// Those of the run.
pub(crate) fn alone<R>(run: impl Future<Output = Result<R, BoxError>>) -> Result<R, BoxError> {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(run)
}

/// The worst of all seeds in each figure, cell by cell. On as many threads as there are cores, what takes the longest
/// first, so that they end together.
///
/// # Errors
/// Those of the runs.
pub(crate) fn worst<C: Sync>(
    cells: &[C],
    seeds: RangeInclusive<u64>,
    effort: impl Fn(&C) -> u64,
    run: impl Fn(&C, u64) -> Result<Figures, BoxError> + Sync,
) -> Result<Vec<Figures>, BoxError> {
    let mut jobs: Vec<(usize, u64)> =
        (0..cells.len()).flat_map(|cell| seeds.clone().map(move |seed| (cell, seed))).collect();
    jobs.sort_by_key(|(cell, _)| std::cmp::Reverse(effort(&cells[*cell])));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(&(cell, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((cell, run(&cells[cell], seed)?));
        }
        Ok::<_, BoxError>(done)
    };
    let mut worst = vec![Figures::default(); cells.len()];
    thread::scope(|scope| {
        let threads: Vec<_> = (0..thread::available_parallelism()?.get()).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            for (cell, figures) in thread.join().map_err(|_| "a thread panicked")?? {
                worst[cell] = worst[cell].worst(figures);
            }
        }
        Ok(worst)
    })
}
