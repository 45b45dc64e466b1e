//! What happens next: virtual time, and the chance in it.

use std::{cmp::Ordering, collections::BinaryHeap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// Events in the order of their times; those of one time in the order they were put in. O(log n) each.
#[derive(Debug)]
pub(super) struct Agenda<E> {
    heap: BinaryHeap<Entry<E>>,
    next: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Duration,
    place: u64,
    event: E,
}

impl<E> Agenda<E> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), next: 0 }
    }

    pub(super) fn put(&mut self, at: Duration, event: E) {
        self.heap.push(Entry { at, place: self.next, event });
        self.next += 1;
    }

    /// The next event that is not after `end`.
    pub(super) fn take(&mut self, end: Duration) -> Option<(Duration, E)> {
        if self.heap.peek()?.at > end {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }
}

// A heap has the greatest on top: the earliest is made that.
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.place).cmp(&(self.at, self.place))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

/// The way of a message: normally distributed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network {
    pub(super) mean: Duration,
    pub(super) deviation: Duration,
}

/// Of the AWS study.
impl Default for Network {
    fn default() -> Self {
        Self { mean: Duration::from_millis(10), deviation: Duration::from_millis(2) }
    }
}

/// The chance of one run.
#[derive(Debug)]
pub(super) struct Dice(SmallRng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    pub(super) fn seed(&mut self) -> u64 {
        self.0.random()
    }

    /// How long a message takes.
    pub(super) fn way(&mut self, network: Network) -> Duration {
        // Box and Muller; the logarithm's argument is never 0.
        let (one, other): (f64, f64) = (1.0 - self.0.random::<f64>(), self.0.random());
        let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos();
        seconds((network.mean.as_secs_f64() + normal * network.deviation.as_secs_f64()).abs())
    }

    /// The time to the next of events that come at random, so many a second.
    pub(super) fn gap(&mut self, per_second: f64) -> Duration {
        let one: f64 = 1.0 - self.0.random::<f64>();
        seconds(-one.ln() / per_second)
    }
}

/// That many seconds: none below 0 and for what is no number, the longest above what fits.
pub(super) fn seconds(seconds: f64) -> Duration {
    if seconds > 0.0 { Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_order() {
        let mut agenda = Agenda::new();
        for (at, event) in [(3, 'd'), (1, 'b'), (0, 'a'), (1, 'c'), (9, 'e')] {
            agenda.put(Duration::from_secs(at), event);
        }
        let taken: String =
            std::iter::from_fn(|| agenda.take(Duration::from_secs(3))).map(|(_, event)| event).collect();
        assert_eq!(taken, "abcd");
    }

    #[test]
    fn ways_and_gaps_have_their_mean_and_deviation() {
        let mut dice = Dice::new(1);
        let ways: Vec<f64> = (0..20_000).map(|_| dice.way(Network::default()).as_secs_f64() * 1e3).collect();
        let mean = ways.iter().sum::<f64>() / ways.len() as f64;
        let variance = ways.iter().map(|way| (way - mean).powi(2)).sum::<f64>() / ways.len() as f64;
        assert!((mean - 10.0).abs() < 0.1 && (variance.sqrt() - 2.0).abs() < 0.1, "{mean} ± {}", variance.sqrt());
        let gaps: f64 = (0..20_000).map(|_| dice.gap(50.0).as_secs_f64()).sum();
        assert!((gaps / 20_000.0 - 0.02).abs() < 0.001);
    }
}
