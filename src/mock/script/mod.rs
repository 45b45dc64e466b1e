//! [`Script`]: a service that answers as it was told.

mod asserts;
mod sent;
mod service;
mod step;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

pub use sent::Sent;
pub use service::ScriptFuture;
pub use step::{Step, answer, dropped, never, ok, status};

/// Calls remembered, the first ones; further calls are still answered and counted.
const MAX_SENT: usize = 100_000;
/// Wrongs remembered, the first ones.
const MAX_WRONGS: usize = 100;

/// A service that answers as it was told, call by call, and remembers what it was sent.
///
/// Clones share the script and the memory; only their readiness is their own. Every clone starts *unready*, and a
/// [`strict`](Self::strict) script fails each call on a clone that was not polled ready before. Times are tokio's, so a
/// paused test takes no time.
///
/// Past its end a script fails the call with [`MockErrorKind::ScriptEnded`](super::MockErrorKind::ScriptEnded), unless it
/// has an answer for [`otherwise`](Self::otherwise), and every assertion on it panics and says so.
///
/// ```
/// use std::time::Duration;
///
/// use http::Request;
/// use tower::{Service, ServiceExt};
/// use tower_outbound::mock::{Script, dropped, ok, status};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// let script = Script::new()
///     .then(status(429).retry_after(2))
///     .then(dropped())
///     .then(ok("at last"));
///
/// // What is to be tested, here by hand: wait as told, then try again.
/// let mut waits = [Duration::from_secs(2), Duration::from_millis(500)].into_iter();
/// let body = loop {
///     match script.clone().oneshot(Request::post("http://api/v1/x").body("please".to_owned()).unwrap()).await {
///         Ok(response) if response.status() == 200 => break response.into_body(),
///         _ => tokio::time::sleep(waits.next().unwrap()).await,
///     }
/// };
///
/// script.assert_done();
/// script.assert_sent(3);
/// script.assert_waits([Duration::from_secs(2), Duration::from_millis(500)]);
/// script.assert_bodies(["please"; 3]);
/// # }
/// ```
///
/// A path can have a script of its own:
///
/// ```
/// use tower_outbound::mock::{Script, ok, status};
///
/// let script = Script::new()
///     .on("/v1/embeddings", [status(503), ok("[]")])
///     .otherwise(status(404));
/// ```
pub struct Script {
    shared: Arc<Mutex<Shared>>,
    /// Whether this very clone has said that it is ready.
    ready: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug, Default)]
struct Shared {
    steps: VecDeque<Step>,
    paths: HashMap<String, VecDeque<Step>>,
    otherwise: Option<Step>,
    strict: bool,
    ready_delay: Duration,
    ready_calls: Option<usize>,
    open_calls: Option<usize>,
    count: usize,
    sent: Vec<Sent>,
    wrongs: Vec<String>,
    first: Option<Instant>,
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for Script {
    /// The same script; a clone that has yet to be polled ready.
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), ready: false, sleep: None }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.shared();
        f.debug_struct("Script")
            .field("ready", &self.ready)
            .field("count", &shared.count)
            .field("left", &shared.left())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn left(&self) -> usize {
        self.steps.len() + self.paths.values().map(VecDeque::len).sum::<usize>()
    }

    fn next(&mut self, path: &str) -> Option<Step> {
        let steps = self.paths.get_mut(path).unwrap_or(&mut self.steps);
        steps.pop_front().or_else(|| self.otherwise.clone())
    }

    fn note_wrong(&mut self, wrong: String) {
        if self.wrongs.len() < MAX_WRONGS {
            self.wrongs.push(wrong);
        }
    }

    fn since_first(&mut self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.first.get_or_insert(now))
    }
}

impl Script {
    /// A script without answers.
    #[must_use]
    pub fn new() -> Self {
        Self { shared: Arc::default(), ready: false, sleep: None }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(self, change: impl FnOnce(&mut Shared)) -> Self {
        change(&mut self.shared());
        self
    }

    /// Then this answer, once.
    #[must_use]
    pub fn then(self, step: Step) -> Self {
        self.then_times(1, step)
    }

    /// Then this answer, so many times.
    #[must_use]
    pub fn then_times(self, times: usize, step: Step) -> Self {
        self.set(|shared| shared.steps.extend(std::iter::repeat_n(step, times)))
    }

    /// This answer whenever the script, or the path's own script, has come to its end.
    #[must_use]
    pub fn otherwise(self, step: Step) -> Self {
        self.set(|shared| shared.otherwise = Some(step))
    }

    /// For requests with exactly this path, these answers instead of the others. Given again, they are added.
    #[must_use]
    pub fn on(self, path: &str, steps: impl IntoIterator<Item = Step>) -> Self {
        self.set(|shared| shared.paths.entry(path.to_owned()).or_default().extend(steps))
    }

    /// Fails each call on a clone that has not said `Ready` since it was made or last called: with
    /// [`MockErrorKind::NotReady`](super::MockErrorKind::NotReady), and in every assertion.
    #[must_use]
    pub fn strict(self) -> Self {
        self.set(|shared| shared.strict = true)
    }

    /// Takes so long to become ready, on each clone, before each call.
    #[must_use]
    pub fn ready_after(self, delay: Duration) -> Self {
        self.set(|shared| shared.ready_delay = delay)
    }

    /// Is never ready again after so many calls: `poll_ready` is pending forever.
    #[must_use]
    pub fn never_ready_after(self, calls: usize) -> Self {
        self.set(|shared| shared.ready_calls = Some(calls))
    }

    /// After so many calls, `poll_ready` fails with [`MockErrorKind::Closed`](super::MockErrorKind::Closed).
    #[must_use]
    pub fn closed_after(self, calls: usize) -> Self {
        self.set(|shared| shared.open_calls = Some(calls))
    }

    /// What was sent so far, in order; of more than 100,000 calls the first.
    #[must_use]
    pub fn calls(&self) -> Vec<Sent> {
        self.shared().sent.clone()
    }

    /// How many calls there were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared().count
    }

    /// How many answers are left, those of paths included.
    #[must_use]
    pub fn left(&self) -> usize {
        self.shared().left()
    }

    /// When each call was sent, counted from the first.
    #[must_use]
    pub fn times(&self) -> Vec<Duration> {
        self.shared().sent.iter().map(|sent| sent.at).collect()
    }

    /// How long the client waited before each call but the first: from the answer before it, or from the call before it
    /// where that had no answer.
    #[must_use]
    pub fn waits(&self) -> Vec<Duration> {
        let shared = self.shared();
        shared.sent.windows(2).map(|pair| pair[1].at.saturating_sub(pair[0].answered.unwrap_or(pair[0].at))).collect()
    }

    /// What went against the rules: calls past the end of the script, calls without readiness, and answers that cannot be
    /// given. The first 100 of them.
    #[must_use]
    pub fn wrongs(&self) -> Vec<String> {
        self.shared().wrongs.clone()
    }
}
