//! What each cell of the grid must keep to.

use crate::scenario::Figures;

pub(crate) const SPREAD: &str = "p99/p50";
/// The most that it may be where it is bound by the rate.
const MOST_SPREAD: f64 = 1.15;
/// By so much it may be more than [the ideal line](crate::ideal) comes to, where that is beyond [`MOST_SPREAD`] itself.
///
/// With 8 workers at 60 a minute an item takes 8 s from one grant of its worker to the next, and is longer by what its
/// own answer takes more than the last one's did: two times from 0.5 to 1.5 s, whose difference is beyond 0.86 s in one
/// item of a hundred, which is 1.11 already. Each of the 1 % that fail moves the 7 behind it by another second, 9 s and
/// more for 8 % of all items: 1.19 of a long run, and up to 1.26 of the 532 items of a seed.
const BEYOND_IDEAL: f64 = 1.05;

/// The most that each figure may be; what is not promised is infinite.
pub(crate) struct Bounds {
    pub(crate) ratio: f64,
    pub(crate) wasted: f64,
    pub(crate) spread: f64,
}

impl Bounds {
    pub(crate) fn of(server: &str, requests: u64, workers: usize) -> Self {
        let open = (f64::INFINITY, f64::INFINITY);
        let (ratio, wasted) = match server {
            "headers" | "429s do not count" => (1.012, 0.0),
            "token-bound" => (1.02, 0.005),
            _ if requests < 500 => open,
            "retry-after only" | "nothing" => (1.03, 0.005),
            "hidden limit a second" => (1.04, 0.002),
            "headers, two processes" => (1.05, 0.005),
            "headers, four processes" => (1.1, 0.01),
            _ => open,
        };
        // Bound by the rate, all wait alike.
        let is_rate_bound = workers as u64 * 60 >= requests * 7;
        Self { ratio, wasted, spread: if is_rate_bound { MOST_SPREAD } else { f64::INFINITY } }
    }

    /// The same, where the best that there can be is known.
    pub(crate) fn beside(self, ideal: Figures) -> Self {
        Self {
            spread: self.spread.max(if ideal.spread > MOST_SPREAD { ideal.spread * BEYOND_IDEAL } else { 0.0 }),
            ..self
        }
    }

    /// What is missed, if anything.
    pub(crate) fn missed(&self, figures: &Figures) -> Vec<&'static str> {
        let Figures { ratio, wasted, failed, spread } = *figures;
        [
            ("ratio", ratio > self.ratio),
            ("429s", wasted > self.wasted),
            ("failed", failed > 0),
            (SPREAD, spread > self.spread),
        ]
        .into_iter()
        .filter_map(|(what, is_missed)| is_missed.then_some(what))
        .collect()
    }
}

/// Where the spread is known to be larger, and what is known of why.
pub(crate) fn known(server: &str, requests: u64, workers: usize) -> Option<&'static str> {
    match (server, requests, workers) {
        ("nothing, two processes", ..) => Some("nothing is promised of processes that hear nothing of each other"),
        ("retry-after only" | "nothing", 60, 8) => {
            Some("it takes some ten 429s in the first half minute to find the rate, and 6 % of the items see them")
        }
        _ => None,
    }
}
