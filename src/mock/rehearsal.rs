//! What a policy would do, as a list: [`waits`] and [`Rehearsal`].

use std::time::Duration;

use http::Request;
use tokio::time::Instant;
use tower::{BoxError, timeout::error::Elapsed};

use super::{Retries, Sent, Step, retries::Chance};
use crate::backoff_retry::Decision;

/// The waits between these failures, with the random number of each held at 1, or where the layer holds it
/// ([`hold_jitter`](crate::backoff_retry::BackoffRetryLayer::hold_jitter)).
///
/// It needs no runtime, and takes no time. A list that is shorter than the failures says that it stopped there;
/// [`Rehearsal`] says why, and holds the random number elsewhere.
///
/// ```
/// use std::time::Duration;
/// use tower_outbound::{backoff_retry::{Backoff, Standard}, mock::{dropped, status, waits}, nz};
///
/// let policy = Standard::new().max_attempts(nz!(4)).backoff(Backoff::exponential(Duration::from_secs(1)));
/// let waits = waits(&policy, [status(503), dropped(), status(500), status(500)]);
/// assert_eq!(waits, [1, 2, 4].map(Duration::from_secs));
/// ```
pub fn waits(retries: &impl Retries, failures: impl IntoIterator<Item = Step>) -> Vec<Duration> {
    Rehearsal::of(retries).waits(failures)
}

/// Plays one call through failures, and lists what a policy, or a whole layer, decides.
///
/// The failures are a [`Script`](super::Script)'s: [`status`](super::status) with its headers, [`dropped`](super::dropped),
/// and [`never`](super::never) for an attempt that ran into its time limit. A success ends the call. A layer is asked
/// with all its limits, and its budget is drawn on; of a policy alone, the server's hint is a floor as it is in a layer.
///
/// ```
/// use std::time::Duration;
/// use http::{Method, Request};
/// use tower_outbound::{
///     backoff_retry::{BackoffRetryLayer, Decision::{Retry, Stop}, StopReason},
///     mock::{Rehearsal, status},
/// };
/// # fn main() -> Result<(), http::Error> {
/// let layer = BackoffRetryLayer::new();
/// let post = Request::post("http://api.example/v1/orders").body(())?;
/// let decisions = Rehearsal::of(&layer).request(post).random(0.0).decisions([
///     status(429).retry_after(3),
///     status(500),
/// ]);
/// // A 429 was not processed; a 500 may have been, and a POST is not sent twice.
/// assert_eq!(decisions, [Retry(Duration::from_secs(3)), Stop(StopReason::NotIdempotent)]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is played before its decisions are asked for"]
pub struct Rehearsal<'a, R> {
    retries: &'a R,
    chance: Chance,
    request: Request<()>,
}

impl<'a, R: Retries> Rehearsal<'a, R> {
    /// Of this policy or layer, for a GET without headers, with the random number held at 1, or where the layer holds it.
    pub fn of(retries: &'a R) -> Self {
        Self { retries, chance: Chance::AsItHolds, request: Request::new(()) }
    }

    /// Holds the random number of every decision at this one, in 0..=1.
    pub fn random(self, random: f64) -> Self {
        Self { chance: Chance::Held(random), ..self }
    }

    /// Draws the random numbers from this seed, unless the layer holds them.
    pub fn seed(self, seed: u64) -> Self {
        Self { chance: Chance::seeded(seed), ..self }
    }

    /// The request that is sent: a layer looks at its method, headers and extensions.
    pub fn request(self, request: Request<()>) -> Self {
        Self { request, ..self }
    }

    /// What was decided after each failure, up to the first [`Decision::Stop`].
    #[must_use]
    pub fn decisions(self, failures: impl IntoIterator<Item = Step>) -> Vec<Decision> {
        let Self { retries, chance, mut request } = self;
        let mut client = retries.client(chance, false);
        let mut now = Instant::now();
        let mut course = client.begin(&mut request, now);
        let sent = Sent::of(&request);
        let mut decisions = Vec::new();
        for step in failures {
            let step = step.settle(&sent);
            now = now.checked_add(step.wait()).unwrap_or(now);
            let result = match step.result() {
                Some(result) => result.map(|response| response.map(|_| ())).map_err(BoxError::from),
                None => Err(Elapsed::new().into()),
            };
            let Some(decision) = client.judge(&mut course, &request, &result, now) else { break };
            decisions.push(decision);
            match decision {
                Decision::Retry(wait) => now = now.checked_add(wait).unwrap_or(now),
                Decision::Stop(_) => break,
            }
        }
        decisions
    }

    /// The waits alone.
    #[must_use]
    pub fn waits(self, failures: impl IntoIterator<Item = Step>) -> Vec<Duration> {
        let decisions = self.decisions(failures).into_iter();
        decisions
            .filter_map(|decision| match decision {
                Decision::Retry(wait) => Some(wait),
                Decision::Stop(_) => None,
            })
            .collect()
    }
}
