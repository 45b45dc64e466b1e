//! The last minutes, a sample a second: what the charts draw.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};
use tower_outbound::QuotaMeterLayer;

use crate::{
    metrics::{Metrics, Totals},
    quota::{least_of, overall},
};

/// The time between two samples.
const STEP: Duration = Duration::from_secs(1);
/// How many are kept: five minutes.
const KEPT: usize = 300;

/// One second.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Sample {
    /// Its number, from 1.
    n: u64,
    in_flight: u64,
    waiting: usize,
    good: u64,
    failed: u64,
    limited: u64,
    again: u64,
    /// What is left of the quota, from 0 to 1: of the limit that is nearest to its end.
    requests: Option<f64>,
    tokens: Option<f64>,
}

#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Samples>);

#[derive(Debug, Default)]
struct Samples {
    kept: VecDeque<Sample>,
    last: Totals,
    n: u64,
}

impl History {
    /// The samples after that number, oldest first.
    pub(crate) fn since(&self, n: u64) -> Vec<Sample> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.kept.iter().filter(|sample| sample.n > n).cloned().collect()
    }

    /// Takes samples for as long as it is polled.
    pub(crate) async fn record(self: Arc<Self>, metrics: Arc<Metrics>, meter: QuotaMeterLayer) {
        let mut ticks = interval(STEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let (totals, quota) = (metrics.totals(), overall(&meter));
            let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let last = std::mem::replace(&mut samples.last, totals);
            samples.n += 1;
            let sample = Sample {
                n: samples.n,
                in_flight: totals.in_flight.saturating_sub(quota.waiting as u64),
                waiting: quota.waiting,
                good: totals.good.saturating_sub(last.good),
                failed: totals.failed.saturating_sub(last.failed),
                limited: totals.limited.saturating_sub(last.limited),
                again: (totals.retries + totals.resends).saturating_sub(last.retries + last.resends),
                requests: least_of(&quota, true),
                tokens: least_of(&quota, false),
            };
            if samples.kept.len() == KEPT {
                samples.kept.pop_front();
            }
            samples.kept.push_back(sample);
        }
    }
}
