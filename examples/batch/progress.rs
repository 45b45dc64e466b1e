//! What the user sees while it runs.

use std::{
    io::IsTerminal,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, interval};
use tower_outbound::quota_meter::{MeterHandle, Snapshot};

use crate::{quota, say::say, tally::Tally, wire::Counts};

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Of so many quotas it is shown what is left: those used last.
const MOST_SCOPES: usize = 3;

/// Shows how far a run is.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    title: &'static str,
    bar: ProgressBar,
    total: u64,
    tally: Arc<Tally>,
    counts: Arc<Counts>,
    /// Where there is one, it knows the quota.
    meter: Option<MeterHandle>,
    start: Instant,
}

impl Progress {
    pub(crate) fn new(
        title: &'static str,
        total: u64,
        tally: Arc<Tally>,
        counts: Arc<Counts>,
        meter: Option<MeterHandle>,
    ) -> Self {
        let target =
            if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} done, {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(title);
        Self { title, bar, total, tally, counts, meter, start: Instant::now() }
    }

    /// Shows it until dropped.
    pub(crate) async fn show(&self) {
        let lines = self.bar.is_hidden();
        let mut tick = interval(if lines { LINE_EVERY } else { Duration::from_millis(100) });
        tick.tick().await;
        loop {
            tick.tick().await;
            if lines {
                say(format_args!(
                    "{}: {}/{} done, {}, {}",
                    self.title,
                    self.tally.done(),
                    self.total,
                    self.left(),
                    self.state()
                ));
            } else {
                self.bar.set_position(self.tally.done());
                // Two lines: one would not fit into 80 columns.
                self.bar.set_message(format!("{}\n  {}", self.left(), self.state()));
            }
        }
    }

    /// Says something without disturbing the bar.
    pub(crate) fn say(&self, text: &str) {
        self.bar.suspend(|| say(text));
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn state(&self) -> String {
        let mut parts = vec![format!("{} in flight", self.counts.in_flight.load(Relaxed))];
        let scopes = self.meter.as_ref().map(MeterHandle::scopes);
        if let Some(scopes) = &scopes {
            parts.push(format!("{} waiting on quota", scopes.iter().map(|scope| scope.waiting).sum::<usize>()));
        }
        parts.push(format!("{} 429s", self.counts.rejected.load(Relaxed)));
        let failed = self.tally.failed.load(Relaxed);
        if failed > 0 {
            parts.push(format!("{failed} failed"));
        }
        let scopes = scopes.unwrap_or_default();
        let is_one = scopes.len() == 1;
        parts.extend(scopes.iter().take(MOST_SCOPES).flat_map(|scope| levels(scope, is_one)));
        if scopes.len() > MOST_SCOPES {
            parts.push(format!("and {} other quotas", scopes.len() - MOST_SCOPES));
        }
        parts.join(", ")
    }

    fn left(&self) -> String {
        self.time_left().map_or("starting".into(), |left| format!("{left} s to go"))
    }

    /// As the quota says, where it is known, and as the speed so far says.
    fn time_left(&self) -> Option<u64> {
        let done = self.tally.done();
        let left = self.total.saturating_sub(done) as f64;
        let here = done.saturating_sub(self.tally.skipped);
        if here == 0 {
            return None;
        }
        let by_speed = left * self.start.elapsed().as_secs_f64() / here as f64;
        let by_quota = self.meter.as_ref().and_then(|meter| {
            let to_send = (left - self.counts.in_flight.load(Relaxed) as f64).max(0.0);
            Some(quota::time_for(to_send, meter, &self.tally)? + self.counts.mean_latency().as_secs_f64())
        });
        // While a full bucket is being emptied, the speed promises what the quota will not keep; and the quota what a slow
        // server, or too few workers, will not.
        let seconds = by_quota.map_or(by_speed, |by_quota| by_quota.max(by_speed));
        seconds.is_finite().then_some(seconds.ceil() as u64)
    }
}

/// What is left of a quota, with its model where there are several.
fn levels(scope: &Snapshot, is_one: bool) -> impl Iterator<Item = String> {
    let model = if is_one { String::new() } else { format!("{} ", scope.scope.model()) };
    let levels = [("requests", scope.requests), ("tokens", scope.tokens)];
    levels.into_iter().filter_map(move |(what, level)| {
        let level = level?;
        Some(format!("{model}{what} left {}/{}", short(level.remaining), short(level.limit)))
    })
}

/// 499, 9999, 130k: what fits.
fn short(amount: f64) -> String {
    let amount = amount.max(0.0);
    if amount < 10_000.0 { format!("{amount:.0}") } else { format!("{:.0}k", amount / 1_000.0) }
}
