//! What is counted.

use std::{
    fmt::{self, Display, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::StatusCode;
use tokio::time::Instant;
use tower_outbound::quota_meter::{Level, Snapshot};

use crate::quota::{counts, levels};

/// Counts since the start.
#[derive(Debug)]
pub(crate) struct Metrics {
    start: Instant,
    in_flight: AtomicU64,
    /// What callers got, the gateway's own answers included.
    answers: Statuses,
    /// Calls whose caller went away before there was an answer.
    abandoned: AtomicU64,
    /// Of the answers, those that the gateway made itself.
    own: AtomicU64,
    /// What the API answered, to every attempt.
    upstream: Statuses,
    /// Attempts without an answer.
    upstream_errors: AtomicU64,
    retries: AtomicU64,
    resends: AtomicU64,
    until_head: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            in_flight: AtomicU64::default(),
            answers: Statuses::default(),
            abandoned: AtomicU64::default(),
            own: AtomicU64::default(),
            upstream: Statuses::default(),
            upstream_errors: AtomicU64::default(),
            retries: AtomicU64::default(),
            resends: AtomicU64::default(),
            until_head: Histogram::default(),
        }
    }
}

/// What the status page shows of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) in_flight: u64,
    pub(crate) good: u64,
    pub(crate) failed: u64,
    pub(crate) own: u64,
    pub(crate) limited: u64,
    pub(crate) retries: u64,
    pub(crate) resends: u64,
}

impl Metrics {
    /// A call has come; it is in flight until what this returns is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight { metrics: Arc::clone(self), start: Instant::now(), is_answered: false }
    }

    pub(crate) fn answered_upstream(&self, status: Option<StatusCode>) {
        match status {
            Some(status) => self.upstream.count(status),
            None => drop(self.upstream_errors.fetch_add(1, Relaxed)),
        }
    }

    pub(crate) fn retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(crate) fn resent(&self, times: u32) {
        self.resends.fetch_add(times.into(), Relaxed);
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn totals(&self) -> Totals {
        let answers =
            self.answers.all().fold(
                (0, 0),
                |(good, failed), (status, count)| {
                    if status < 400 { (good + count, failed) } else { (good, failed + count) }
                },
            );
        Totals {
            in_flight: self.in_flight.load(Relaxed),
            good: answers.0,
            failed: answers.1,
            own: self.own.load(Relaxed),
            limited: self.upstream.get(StatusCode::TOO_MANY_REQUESTS),
            retries: self.retries.load(Relaxed),
            resends: self.resends.load(Relaxed),
        }
    }

    /// All of it, and the meter's, of each scope and of all of them, as Prometheus reads it.
    pub(crate) fn render(&self, quota: &Snapshot, scopes: &[Snapshot]) -> String {
        let mut text = Text(String::with_capacity(4096));
        text.one("uptime_seconds", "gauge", "Time since the start.", self.uptime().as_secs_f64());
        text.statuses("calls", "Calls answered, by status.", &self.answers);
        text.count("calls_abandoned", "Calls whose caller went away before the answer.", &self.abandoned);
        text.count("calls_refused", "Calls answered by the gateway itself.", &self.own);
        text.one("calls_in_flight", "gauge", "Calls whose answer is not yet out.", self.in_flight.load(Relaxed));
        text.statuses("upstream_responses", "Answers of the API to each attempt, by status.", &self.upstream);
        text.count("upstream_errors", "Attempts that the API did not answer.", &self.upstream_errors);
        text.count("retries", "Attempts beyond the first of a call.", &self.retries);
        text.count("resends", "Times a call was sent again for free after a 429.", &self.resends);
        self.until_head.render(&mut text);

        let levels: Vec<_> =
            scopes.iter().flat_map(|scope| levels(scope).map(move |limit| (label(&scope.scope), limit))).collect();
        let mut level = |name, help, value: fn(&Level) -> f64| {
            text.head(name, "gauge", help);
            for (scope, limit) in &levels {
                let (kind, counts) = (label(&limit.name), counts(limit.unit));
                let line = format_args!("{name}{{kind=\"{kind}\",counts=\"{counts}\",scope=\"{scope}\"}}");
                text.line(line, value(&limit.level));
            }
        };
        level("quota_limit", "The quota of a period, as the API announces it.", |level| level.limit);
        level("quota_remaining", "What of it may be sent now.", |level| level.remaining);
        level("quota_refill_per_second", "What comes back in a second.", |level| level.refill_per_second);
        text.head("tokens_used_total", "counter", "Tokens that the answers say were used.");
        for scope in scopes {
            let (name, used) = (label(&scope.scope), &scope.used);
            for (direction, tokens) in [("input", used.input_tokens), ("output", used.output_tokens)] {
                text.line(format_args!("tokens_used_total{{direction=\"{direction}\",scope=\"{name}\"}}"), tokens);
            }
        }
        text.one("quota_waiting", "gauge", "Calls that wait in line.", quota.waiting);
        text.one("quota_in_flight", "gauge", "Calls sent and not yet answered.", quota.in_flight);
        text.head("quota_window", "gauge", "The most that may be in flight.");
        for scope in scopes {
            let window = format_args!("quota_window{{scope=\"{}\"}}", label(&scope.scope));
            text.line(window, scope.window);
        }
        let wait = |wait: Option<Duration>| wait.unwrap_or_default().as_secs_f64();
        text.one("quota_expected_wait_seconds", "gauge", "How long a new call would wait.", wait(quota.expected_wait));
        text.one("quota_gate_opens_seconds", "gauge", "Until calls go on after a 429.", wait(quota.gate_opens_in));
        text.one("quota_spent", "gauge", "Whether a quota is used up.", u8::from(quota.spent.is_some()));
        text.0
    }
}

/// A value in Prometheus' text: a caller may have chosen the name of its model to be anything.
fn label(name: &impl Display) -> String {
    name.to_string().replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

/// A call between its coming and the end of its answer.
#[derive(Debug)]
pub(crate) struct InFlight {
    metrics: Arc<Metrics>,
    start: Instant,
    is_answered: bool,
}

impl InFlight {
    /// The head of the answer is there.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.is_answered = true;
        self.metrics.answers.count(status);
        self.metrics.until_head.observe(self.start.elapsed());
    }

    /// The gateway has answered it itself.
    pub(crate) fn refused(&mut self, status: StatusCode) {
        self.metrics.own.fetch_add(1, Relaxed);
        self.answered(status);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.metrics.in_flight.fetch_sub(1, Relaxed);
        if !self.is_answered {
            self.metrics.abandoned.fetch_add(1, Relaxed);
        }
    }
}

/// A count for each status from 100 to 599; what is beyond counts as the last.
#[derive(Debug)]
struct Statuses([AtomicU64; 500]);

impl Default for Statuses {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; 500])
    }
}

impl Statuses {
    fn of(&self, status: StatusCode) -> &AtomicU64 {
        &self.0[usize::from(status.as_u16()).saturating_sub(100).min(self.0.len() - 1)]
    }

    fn count(&self, status: StatusCode) {
        self.of(status).fetch_add(1, Relaxed);
    }

    fn get(&self, status: StatusCode) -> u64 {
        self.of(status).load(Relaxed)
    }

    fn all(&self) -> impl Iterator<Item = (u16, u64)> {
        (100..).zip(&self.0).map(|(status, count)| (status, count.load(Relaxed))).filter(|(_, count)| *count > 0)
    }
}

/// Times in buckets from 5 ms to 10 minutes: what a call to a model, and a wait for quota, may take.
const BOUNDS: [(f64, u64); 14] = [
    (0.005, 5_000),
    (0.01, 10_000),
    (0.025, 25_000),
    (0.05, 50_000),
    (0.1, 100_000),
    (0.25, 250_000),
    (0.5, 500_000),
    (1.0, 1_000_000),
    (2.5, 2_500_000),
    (5.0, 5_000_000),
    (10.0, 10_000_000),
    (30.0, 30_000_000),
    (120.0, 120_000_000),
    (600.0, 600_000_000),
];

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    fn observe(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|(_, bound)| *bound < micros);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.micros.fetch_add(micros, Relaxed);
    }

    fn render(&self, text: &mut Text) {
        let name = "response_seconds";
        text.head(name, "histogram", "From a call's coming to the head of its answer.");
        let mut sum = 0;
        let mut bounds = BOUNDS.iter().map(|(bound, _)| bound.to_string());
        for bucket in &self.buckets {
            sum += bucket.load(Relaxed);
            let bound = bounds.next().unwrap_or("+Inf".to_owned());
            text.line(format_args!("{name}_bucket{{le=\"{bound}\"}}"), sum);
        }
        text.line(format_args!("{name}_sum"), self.micros.load(Relaxed) as f64 / 1e6);
        text.line(format_args!("{name}_count"), sum);
    }
}

/// Prometheus' text format, version 0.0.4.
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP gateway_{name} {help}\n# TYPE gateway_{name} {kind}\n"));
    }

    fn line(&mut self, name: fmt::Arguments<'_>, value: impl Display) {
        self.write(format_args!("gateway_{name} {value}\n"));
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.line(format_args!("{name}"), value);
    }

    fn count(&mut self, name: &str, help: &str, count: &AtomicU64) {
        self.one(&format!("{name}_total"), "counter", help, count.load(Relaxed));
    }

    fn statuses(&mut self, name: &str, help: &str, counts: &Statuses) {
        self.head(&format!("{name}_total"), "counter", help);
        for (status, count) in counts.all() {
            self.line(format_args!("{name}_total{{status=\"{status}\"}}"), count);
        }
    }

    fn write(&mut self, text: fmt::Arguments<'_>) {
        // A string takes whatever is written to it.
        let _ = self.0.write_fmt(text);
    }
}
