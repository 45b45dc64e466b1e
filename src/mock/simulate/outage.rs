//! A server with a capacity that fails for a while: [`Outage`].

use std::time::Duration;

use http::{Request, Response, StatusCode};
use tokio::time::Instant;
use tower::{BoxError, timeout::error::Elapsed};

use super::{
    agenda::{Agenda, Dice, Network, seconds},
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

/// Clients that call a server all the time, and an outage in the middle: what it costs, and whether the server comes
/// back once it is over.
///
/// Each client is a process of its own, with a budget of its own, and begins calls at random times. The server works on
/// one attempt after the other, at its capacity; those that wait stand in a queue, and one that finds the queue full is
/// answered 503 at once. A client gives an attempt up after its time limit. The server does not know, and works on it all the same:
/// that is how retries keep a server down after what felled it is over.
///
/// By default: 20 clients that make 10 calls a second each, a capacity of 300 a second, a queue of 600, a time limit of 1 s, and from
/// second 30 to second 50 of 120 every attempt is answered 503.
///
/// ```
/// use std::time::Duration;
/// use tower_outbound::{backoff_retry::{BackoffRetryLayer, Budget}, mock::simulate::Outage};
///
/// let outage = Outage::new().silent();
/// let greedy = outage.run(&BackoffRetryLayer::new().budget(Budget::unlimited()), 1);
/// let modest = outage.run(&BackoffRetryLayer::new(), 1);
///
/// assert_eq!(greedy.recovered, None, "seventy seconds later it is still down");
/// assert!(modest.recovered.unwrap() < Duration::from_secs(10));
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing happens before it is run"]
pub struct Outage {
    clients: u32,
    rate: f64,
    capacity: f64,
    queue: u32,
    time_limit: Duration,
    begin: Duration,
    end: Duration,
    length: Duration,
    silent: bool,
    retry_after: Option<Duration>,
    network: Network,
}

/// Slots of a second.
const SLOT: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// An attempt that took no time, with no wait after it, would be made forever at one moment: then this much passes.
const AT_LEAST: Duration = Duration::from_millis(10);
/// Rates are brought into what can be simulated.
const RATES: (f64, f64) = (1e-6, 1e6);

impl Default for Outage {
    fn default() -> Self {
        Self::new()
    }
}

impl Outage {
    /// With what is said above.
    pub fn new() -> Self {
        Self {
            clients: 20,
            rate: 10.0,
            capacity: 300.0,
            queue: 600,
            time_limit: Duration::from_secs(1),
            begin: Duration::from_secs(30),
            end: Duration::from_secs(50),
            length: Duration::from_secs(120),
            silent: false,
            retry_after: None,
            network: Network::default(),
        }
    }

    /// How many clients, and how many calls each makes a second.
    pub fn clients(mut self, clients: u32, calls_per_second: f64) -> Self {
        self.clients = clients;
        self.rate = sound(calls_per_second);
        self
    }

    /// How many attempts the server can work on in a second, and how many may wait.
    pub fn capacity(mut self, per_second: f64, queue: u32) -> Self {
        self.capacity = sound(per_second);
        self.queue = queue;
        self
    }

    /// After which time a client gives an attempt up.
    pub fn time_limit(mut self, time_limit: Duration) -> Self {
        self.time_limit = time_limit;
        self
    }

    /// When the outage begins, and how long it lasts.
    pub fn outage(mut self, begin: Duration, lasts: Duration) -> Self {
        self.begin = begin;
        self.end = begin.saturating_add(lasts);
        self
    }

    /// How long it is watched; a day at the most. Calls that are under way then are not counted as ended.
    pub fn length(mut self, length: Duration) -> Self {
        self.length = length.min(DAY);
        self
    }

    /// During the outage the server does not refuse, but stands still: attempts pile up in its queue.
    pub fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    /// The server's 503s say when to come back.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// How long a message takes. Default: 10 ± 2 ms. Where that is none, an attempt that takes no time at all is not
    /// followed by another before 10 ms.
    pub fn network(mut self, mean: Duration, deviation: Duration) -> Self {
        self.network = Network { mean, deviation };
        self
    }

    /// Runs it with a policy, or with a layer for each client. The same seed gives the same run.
    pub fn run(&self, retries: &impl Retries, seed: u64) -> Run {
        let mut dice = Dice::new(seed);
        let clients = (0..self.clients).map(|_| retries.client(Chance::seeded(dice.seed()), true)).collect();
        World::new(self, dice, clients).run()
    }

    /// When the outage begins and ends, in seconds, for a [`Chart`](super::Chart).
    #[must_use]
    pub fn span(&self) -> (f64, f64) {
        (self.begin.as_secs_f64(), self.end.as_secs_f64())
    }
}

fn sound(rate: f64) -> f64 {
    if rate.is_nan() { RATES.0 } else { rate.clamp(RATES.0, RATES.1) }
}

#[derive(Debug)]
enum Event {
    /// A client begins a call.
    Begin { client: usize },
    /// An attempt leaves the client.
    Send { call: usize },
    /// It reaches the server; its client gives it up at `limit`.
    Arrive { call: usize, limit: Duration },
    /// The client learns how it ended, or gives up.
    End { call: usize, how: Ending },
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Served,
    Refused,
    TimedOut,
}

struct Call {
    client: usize,
    course: Course,
    /// When its last attempt left.
    sent: Duration,
}

struct World<'a> {
    setting: &'a Outage,
    dice: Dice,
    clients: Vec<Client<'a>>,
    agenda: Agenda<Event>,
    /// Those under way, and the places of those that have ended.
    calls: Vec<Call>,
    free: Vec<usize>,
    /// When the server has done all that it has.
    idle: Duration,
    start: Instant,
    request: Request<()>,
    refusal: Result<Response<()>, BoxError>,
    run: Run,
}

impl<'a> World<'a> {
    fn new(setting: &'a Outage, dice: Dice, clients: Vec<Client<'a>>) -> Self {
        let mut refusal = Response::new(());
        *refusal.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        let hint = setting.retry_after.map_or(RetryHint::Backoff, RetryHint::After);
        let error = ApiError::new(ErrorKind::Overloaded, hint).with_status(refusal.status());
        refusal.extensions_mut().insert(error);
        Self {
            setting,
            dice,
            clients,
            agenda: Agenda::new(),
            calls: Vec::new(),
            free: Vec::new(),
            idle: Duration::ZERO,
            start: Instant::now(),
            request: Request::new(()),
            refusal: Ok(refusal),
            run: Run::new(SLOT),
        }
    }

    fn run(mut self) -> Run {
        for client in 0..self.clients.len() {
            let at = self.dice.gap(self.setting.rate);
            self.agenda.put(at, Event::Begin { client });
        }
        while let Some((now, event)) = self.agenda.take(self.setting.length) {
            match event {
                Event::Begin { client } => self.begin(now, client),
                Event::Send { call } => self.send(now, call),
                Event::Arrive { call, limit } => self.arrive(now, call, limit),
                Event::End { call, how } => self.end(now, call, how),
            }
        }
        self.run.recovered = self.run.recovery(self.setting.end);
        self.run
    }

    fn begin(&mut self, now: Duration, client: usize) {
        let at = now.saturating_add(self.dice.gap(self.setting.rate));
        self.agenda.put(at, Event::Begin { client });
        let course = self.clients[client].begin(&mut self.request, self.start + now);
        let call = Call { client, course, sent: now };
        let place = match self.free.pop() {
            Some(place) => {
                self.calls[place] = call;
                place
            }
            None => {
                self.calls.push(call);
                self.calls.len() - 1
            }
        };
        self.run.calls += 1;
        self.run.at(now).calls += 1;
        self.send(now, place);
    }

    fn send(&mut self, now: Duration, call: usize) {
        self.calls[call].sent = now;
        let limit = now.saturating_add(self.setting.time_limit);
        let at = now.saturating_add(self.dice.way(self.setting.network));
        self.agenda.put(at, Event::Arrive { call, limit });
    }

    /// The queue is in order and its work all alike: so the time of the answer is known on arrival.
    fn arrive(&mut self, now: Duration, call: usize, limit: Duration) {
        let Outage { begin, end, .. } = *self.setting;
        self.run.attempts += 1;
        self.run.at(now).attempts += 1;
        let down = (begin..end).contains(&now);
        let work = 1.0 / self.setting.capacity;
        let stands = if down && self.setting.silent { end - now } else { Duration::ZERO };
        let backlog = self.idle.saturating_sub(now.saturating_add(stands)).as_secs_f64() / work;
        let back = self.dice.way(self.setting.network);
        let (answer, how) = if (down && !self.setting.silent) || backlog > f64::from(self.setting.queue) {
            (now.saturating_add(back), Ending::Refused)
        } else {
            let mut begins = self.idle.max(now);
            if self.setting.silent && (begin..end).contains(&begins) {
                begins = end;
            }
            self.idle = begins.saturating_add(seconds(work));
            (self.idle.saturating_add(back), Ending::Served)
        };
        let in_time = answer <= limit;
        self.run.wasted += u64::from(!in_time && matches!(how, Ending::Served));
        let (at, how) = if in_time { (answer, how) } else { (limit, Ending::TimedOut) };
        self.agenda.put(at.max(now), Event::End { call, how });
    }

    fn end(&mut self, now: Duration, call: usize, how: Ending) {
        let slot = self.run.at(now);
        let result = match how {
            Ending::Served => {
                slot.served += 1;
                &Ok(Response::new(()))
            }
            Ending::Refused => {
                slot.refused += 1;
                &self.refusal
            }
            Ending::TimedOut => {
                slot.timed_out += 1;
                &Err(Elapsed::new().into())
            }
        };
        let Call { client, course, sent } = &mut self.calls[call];
        match self.clients[*client].judge(course, &self.request, result, self.start + now) {
            Some(Decision::Retry(wait)) => {
                let at = now.saturating_add(wait);
                let at = if at > *sent { at } else { at.saturating_add(AT_LEAST) };
                self.agenda.put(at, Event::Send { call });
            }
            decision => {
                self.run.succeeded += u64::from(decision.is_none());
                self.run.failed += u64::from(decision.is_some());
                self.run.finished = now;
                self.free.push(call);
            }
        }
    }
}
