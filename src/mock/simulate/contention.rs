//! Clients that contend for one record: [`Contention`].

use std::time::Duration;

use http::{Request, Response, StatusCode};
use tokio::time::Instant;
use tower::BoxError;

use super::{
    agenda::{Agenda, Dice, Network},
    run::Run,
};
use crate::{
    ApiError, ErrorKind, RetryHint,
    backoff_retry::{Course, Decision},
    mock::{
        Retries,
        retries::{Chance, Client},
    },
};

/// Clients that each write one record once, under an optimistic lock: each reads the record's version, then writes, and
/// the write fails (409) if another came between. All begin at once.
///
/// This is the model of AWS's study of backoff and jitter, and has its constants: a message takes 10 ± 2 ms, normally
/// distributed. Source: <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/> and the simulator
/// published with it. An attempt is a write, with the read before it.
///
/// ```
/// use std::time::Duration;
/// use tower_outbound::{backoff_retry::{Backoff, Decision, Jitter}, mock::simulate::Contention};
///
/// let study = Contention::new(50);
/// let with = |jitter| {
///     let backoff = Backoff::exponential(Duration::from_millis(10)).cap(Duration::from_secs(2)).jitter(jitter);
///     move |attempt: &tower_outbound::backoff_retry::Attempt<'_>| {
///         Decision::Retry(backoff.wait(attempt.number, attempt.last_wait, attempt.random))
///     }
/// };
/// let (none, full) = (study.run(&with(Jitter::None), 1), study.run(&with(Jitter::Full), 1));
/// assert_eq!((none.succeeded, full.succeeded), (50, 50));
/// assert!(full.attempts < none.attempts && full.finished < none.finished);
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing happens before it is run"]
pub struct Contention {
    clients: u32,
    network: Network,
    longest: Duration,
}

#[derive(Debug)]
enum Event {
    /// A client's question for the version reaches the server.
    Read,
    /// Its write does, with the version it was told.
    Write { version: u64 },
    /// The client learns what came of it.
    Told { is_written: bool },
}

/// Slots of a tenth of a second: a run takes a few.
const SLOT: Duration = Duration::from_millis(100);
/// Default for [`Contention::longest`].
const LONGEST: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

impl Contention {
    /// So many clients.
    pub fn new(clients: u32) -> Self {
        Self { clients, network: Network::default(), longest: LONGEST }
    }

    /// How long a message takes. Default: 10 ± 2 ms.
    pub fn network(mut self, mean: Duration, deviation: Duration) -> Self {
        self.network = Network { mean, deviation };
        self
    }

    /// Breaks the run off after this time. Default: an hour; a day at the most.
    pub fn longest(mut self, longest: Duration) -> Self {
        self.longest = longest.min(DAY);
        self
    }

    /// Runs it with a policy, or with a layer for each client, which then have a budget each. The same seed gives the
    /// same run.
    pub fn run(&self, retries: &impl Retries, seed: u64) -> Run {
        let (start, mut request) = (Instant::now(), Request::new(()));
        let outcomes = [conflict(), Ok(Response::new(()))];
        let mut dice = Dice::new(seed);
        let mut clients: Vec<(Client<'_>, Course)> = Vec::new();
        let (mut agenda, mut run) = (Agenda::new(), Run::new(SLOT));
        for number in 0..self.clients {
            let client = retries.client(Chance::seeded(dice.seed()), true);
            let course = client.begin(&mut request, start);
            clients.push((client, course));
            agenda.put(dice.way(self.network), (number, Event::Read));
            run.calls += 1;
            run.at(Duration::ZERO).calls += 1;
        }
        let mut version = 0;
        while let Some((now, (number, event))) = agenda.take(self.longest) {
            let next = match event {
                Event::Read => {
                    // The answer goes to the client, and its write comes back.
                    let ways = dice.way(self.network).saturating_add(dice.way(self.network));
                    Some((now.saturating_add(ways), Event::Write { version }))
                }
                Event::Write { version: read } => {
                    run.attempts += 1;
                    run.at(now).attempts += 1;
                    let is_written = read == version;
                    version += u64::from(is_written);
                    Some((now.saturating_add(dice.way(self.network)), Event::Told { is_written }))
                }
                Event::Told { is_written } => {
                    let slot = run.at(now);
                    slot.served += u64::from(is_written);
                    slot.refused += u64::from(!is_written);
                    let Some((client, course)) = clients.get_mut(number as usize) else { continue };
                    let Some(instant) = start.checked_add(now) else { continue };
                    let decision = client.judge(course, &request, &outcomes[usize::from(is_written)], instant);
                    match decision {
                        Some(Decision::Retry(wait)) => {
                            let at = now.saturating_add(wait).saturating_add(dice.way(self.network));
                            Some((at, Event::Read))
                        }
                        decision => {
                            run.succeeded += u64::from(decision.is_none());
                            run.failed += u64::from(decision.is_some());
                            run.finished = now;
                            None
                        }
                    }
                }
            };
            if let Some((at, event)) = next {
                agenda.put(at, (number, event));
            }
        }
        run
    }
}

/// What a client is told whose write came too late. It was not processed.
fn conflict() -> Result<Response<()>, BoxError> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::CONFLICT;
    let error = ApiError::new(ErrorKind::Conflict, RetryHint::Backoff).with_status(StatusCode::CONFLICT);
    response.extensions_mut().insert(error);
    Ok(response)
}
