//! [`Breaker`]: a host that fails is left alone for a while.

use std::{
    collections::HashMap,
    error::Error,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{HeaderMap, Uri};
use tokio::time::Instant;

use super::{host, window::Window};
use crate::{ApiError, Gate, Refused};

/// The longest that a server's own hint keeps a breaker open.
const MAX_HINT: Duration = Duration::from_secs(600);
/// A probe that has had no answer for so long no longer keeps others from probing.
const MAX_PROBE: Duration = Duration::from_secs(60);
/// No setting is longer.
const MAX_SETTING: Duration = Duration::from_secs(24 * 3600);

/// After enough failures of a host, its calls are not made for a while; then one call at a time looks whether it is well again.
///
/// What counts is whether the server was there: unavailable, overloaded, broken, timed out. A client's mistake never trips
/// it, nor does a rate limit. A hint of the server (`Retry-After`) keeps it open as long, up to 10 minutes.
///
/// Clones share what they know.
///
/// ```
/// use std::time::Duration;
/// use tower_outbound::fallback::Breaker;
///
/// let breaker = Breaker::new().failures(10).open_for(Duration::from_secs(2));
/// assert!(breaker.snapshot().is_empty());
/// ```
#[derive(Clone)]
pub struct Breaker {
    settings: Settings,
    hosts: Arc<Mutex<HashMap<Box<str>, Arc<Host>>>>,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    failures: u32,
    share: f64,
    window: Duration,
    open_for: Duration,
    max_hosts: usize,
}

impl Breaker {
    /// Opens after 5 failures within 10 s, if they are half of the calls; for 5 s; knows 1,024 hosts.
    #[must_use]
    pub fn new() -> Self {
        let settings = Settings {
            failures: 5,
            share: 0.5,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(5),
            max_hosts: 1024,
        };
        Self { settings, hosts: Arc::default() }
    }

    fn change(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.settings;
        change(&mut settings);
        Self { settings, hosts: Arc::default() }
    }

    /// The fewest failures in the window that open it. Default: 5.
    #[must_use]
    pub fn failures(self, failures: u32) -> Self {
        self.change(|settings| settings.failures = failures.max(1))
    }

    /// The share of calls in the window that must have failed, 0 to 1. Default: 0.5.
    #[must_use]
    pub fn share(self, share: f64) -> Self {
        self.change(|settings| settings.share = share)
    }

    /// How long a failure counts. Default: 10 s; at most a day.
    #[must_use]
    pub fn window(self, window: Duration) -> Self {
        self.change(|settings| settings.window = window.min(MAX_SETTING))
    }

    /// How long it stays open before a call looks again. Default: 5 s; at most a day.
    #[must_use]
    pub fn open_for(self, open_for: Duration) -> Self {
        self.change(|settings| settings.open_for = open_for.min(MAX_SETTING))
    }

    /// How many hosts are told apart; of more, those that are well are forgotten first, and new ones are not watched while
    /// all the others are down. Default: 1,024.
    #[must_use]
    pub fn max_hosts(self, max_hosts: usize) -> Self {
        self.change(|settings| settings.max_hosts = max_hosts)
    }

    /// What is known of each host, by name.
    #[must_use]
    pub fn snapshot(&self) -> Vec<HostSnapshot> {
        let hosts: Vec<_> = self.hosts().iter().map(|(name, host)| (name.clone(), Arc::clone(host))).collect();
        let now = Instant::now();
        let mut list: Vec<_> = hosts.into_iter().map(|(name, host)| host.core().snapshot(&name, now)).collect();
        list.sort_by(|one, other| one.host.cmp(&other.host));
        list
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Host>>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call to this host go, or not. `None`: nobody watches it.
    pub(super) fn admit(&self, uri: &Uri, headers: &HeaderMap) -> Result<Option<Pass>, BreakerOpen> {
        let name = host::host(uri, headers);
        let now = Instant::now();
        let Some(host) = self.host(&name, now) else { return Ok(None) };
        let admitted = host.core().admit(now);
        match admitted {
            Ok(probe) => Ok(Some(Pass { host, settings: self.settings, probe, is_reported: false })),
            Err(wait) => Err(BreakerOpen { host: name.into_owned(), wait }),
        }
    }

    fn host(&self, name: &str, now: Instant) -> Option<Arc<Host>> {
        let mut hosts = self.hosts();
        if let Some(host) = hosts.get(name) {
            return Some(Arc::clone(host));
        }
        if hosts.len() >= self.settings.max_hosts {
            let spare = hosts.iter().find(|(_, host)| host.core().state == State::Closed).map(|(name, _)| name.clone());
            hosts.remove(&spare?);
        }
        let host = Arc::new(Host(Mutex::new(Core::new(now, self.settings.window))));
        hosts.insert(name.into(), Arc::clone(&host));
        Some(host)
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Host(Mutex<Core>);

impl Host {
    fn core(&self) -> MutexGuard<'_, Core> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One host's state; time is told to it.
#[derive(Debug)]
struct Core {
    window: Window,
    state: State,
    /// Counts probes: one that was given up for lost has no say in what the next one finds.
    probes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    Probing { since: Instant, number: u64 },
}

/// What a call said of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Well,
    /// And how long to stay away, if the server told.
    Down(Option<Duration>),
    /// It was never asked.
    Nothing,
}

impl Core {
    fn new(now: Instant, window: Duration) -> Self {
        Self { window: Window::new(now, window), state: State::Closed, probes: 0 }
    }

    /// The number of the probe that the call is, if it is one; or no call, and how long until there may be one.
    fn admit(&mut self, now: Instant) -> Result<Option<u64>, Option<Duration>> {
        match self.state {
            State::Closed => return Ok(None),
            State::Open { until } if now < until => return Err(Some(until - now)),
            State::Probing { since, .. } if now.saturating_duration_since(since) < MAX_PROBE => return Err(None),
            State::Open { .. } | State::Probing { .. } => {}
        }
        self.probes += 1;
        self.state = State::Probing { since: now, number: self.probes };
        Ok(Some(self.probes))
    }

    fn report(&mut self, now: Instant, said: Said, probe: Option<u64>, settings: &Settings) {
        let is_probing = matches!(self.state, State::Probing { number, .. } if Some(number) == probe);
        let until = |hint: Option<Duration>| now + settings.open_for.max(hint.unwrap_or_default().min(MAX_HINT));
        match said {
            Said::Well if is_probing => {
                *self = Self { probes: self.probes, ..Self::new(now, settings.window) };
            }
            Said::Down(hint) if is_probing => self.state = State::Open { until: until(hint) },
            Said::Nothing if is_probing => self.state = State::Open { until: now },
            Said::Nothing => {}
            // What was sent before it opened, and comes late.
            _ if self.state != State::Closed => {}
            Said::Well => self.window.add(now, false),
            Said::Down(hint) => {
                self.window.add(now, true);
                let (good, failed) = self.window.counts(now);
                let share = failed as f64 / (good + failed) as f64;
                if failed >= u64::from(settings.failures) && share >= settings.share {
                    self.state = State::Open { until: until(hint) };
                }
            }
        }
    }

    fn snapshot(&mut self, name: &str, now: Instant) -> HostSnapshot {
        let (good, failed) = self.window.counts(now);
        let (state, wait) = match self.state {
            State::Closed => (BreakerState::Closed, None),
            State::Open { until } => (BreakerState::Open, Some(until.saturating_duration_since(now))),
            State::Probing { .. } => (BreakerState::Probing, None),
        };
        HostSnapshot { host: name.to_string(), state, good, failed, wait }
    }
}

/// A call that was let go. Dropped without a word, it said nothing of its host.
#[derive(Debug)]
pub(super) struct Pass {
    host: Arc<Host>,
    settings: Settings,
    probe: Option<u64>,
    is_reported: bool,
}

impl Pass {
    pub(super) fn report(mut self, said: Said) {
        self.tell(said);
    }

    fn tell(&mut self, said: Said) {
        self.is_reported = true;
        self.host.core().report(Instant::now(), said, self.probe, &self.settings);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe.is_some() && !self.is_reported {
            self.tell(Said::Nothing);
        }
    }
}

impl Said {
    /// Of the outcome of a call; `None` for a good one.
    pub(super) fn of(error: Option<&ApiError>) -> Self {
        let Some(error) = error else { return Self::Well };
        match error.status() {
            _ if super::cover::is_availability(error.kind()) => Self::Down(error.retry().wait()),
            // It answered.
            Some(_) => Self::Well,
            None => Self::Nothing,
        }
    }
}

/// Whether calls to a host go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// They do.
    Closed,
    /// They do not.
    Open,
    /// One is under way, to see whether it is well again; the others do not.
    Probing,
}

/// What a [`Breaker`] knows of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostSnapshot {
    /// Its name in lower case, and its port where that is not the scheme's own; from the `Host` header where the URI is a
    /// path alone, and `(unnamed)` where that says nothing either.
    pub host: String,
    /// Whether calls go through.
    pub state: BreakerState,
    /// Calls in the window that it answered.
    pub good: u64,
    /// Calls in the window that failed because of it.
    pub failed: u64,
    /// How long until one call looks again.
    pub wait: Option<Duration>,
}

/// The breaker of a host is open; the cause of a [`Refused`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerOpen {
    host: String,
    wait: Option<Duration>,
}

impl BreakerOpen {
    /// The host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl fmt::Display for BreakerOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed too often", self.host)?;
        match self.wait {
            Some(wait) => write!(f, ", one call looks again in {wait:.1?}"),
            None => f.write_str(", one call is looking again"),
        }
    }
}

impl Error for BreakerOpen {}

impl From<BreakerOpen> for Refused {
    fn from(open: BreakerOpen) -> Self {
        Self::new(Gate::Breaker, open.wait, open)
    }
}
