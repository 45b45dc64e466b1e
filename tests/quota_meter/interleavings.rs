//! Whatever order things happen in: nothing is lost, order is kept, everything ends.

use std::{collections::HashMap, pin::Pin};

use proptest::prelude::*;
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service};
use tower_outbound::{QuotaMeterLayer, Refused, TokenCost, find_cause};

use super::{Answer, limits};
use crate::common::{Desk, Reply, ms, named, reply, secs, with};

#[derive(Clone, Debug)]
enum Act {
    /// A call of so many tokens arrives; it runs as a task, or is held and polled by hand.
    Arrive {
        tokens: u32,
        held: bool,
    },
    /// The nth call under way is answered.
    Answer {
        nth: usize,
        how: How,
    },
    /// The nth call that has not ended is given up.
    Cancel {
        nth: usize,
    },
    /// The nth held call is polled once.
    Poll {
        nth: usize,
    },
    Pass {
        ms: u64,
    },
}

#[derive(Clone, Copy, Debug)]
enum How {
    Fine,
    Limited,
    Failed,
    Broken,
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0_u32..2_000, prop::bool::weighted(0.2)).prop_map(|(tokens, held)| Act::Arrive { tokens, held }),
        6 => (0_usize..20, prop_oneof![8 => Just(How::Fine), 2 => Just(How::Limited), 1 => Just(How::Failed), 1 => Just(How::Broken)])
            .prop_map(|(nth, how)| Act::Answer { nth, how }),
        1 => (0_usize..20).prop_map(|nth| Act::Cancel { nth }),
        2 => (0_usize..20).prop_map(|nth| Act::Poll { nth }),
        3 => prop_oneof![1_u64..50, 100_u64..3_000].prop_map(|ms| Act::Pass { ms }),
    ]
}

type Call = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// The server: a bucket of requests and one of tokens, which never lie.
struct Server {
    requests: f64,
    tokens: f64,
    at: Instant,
}

const REQUESTS: f64 = 120.0;
const TOKENS: f64 = 12_000.0;

impl Server {
    fn pass(&mut self) {
        let elapsed = self.at.elapsed().as_secs_f64();
        self.requests = (self.requests + elapsed * REQUESTS / 60.0).min(REQUESTS);
        self.tokens = (self.tokens + elapsed * TOKENS / 60.0).min(TOKENS);
        self.at = Instant::now();
    }

    fn told(&self, status: u16) -> Reply {
        let reset = |limit: f64, left: f64| format!("{:.3}s", 60.0 * (limit - left.floor()) / limit);
        let reply = limits(reply(status), "requests", REQUESTS, self.requests.floor(), &reset(REQUESTS, self.requests));
        limits(reply, "tokens", TOKENS, self.tokens.floor(), &reset(TOKENS, self.tokens))
    }
}

struct World {
    layer: QuotaMeterLayer,
    desk: Desk,
    server: Server,
    tasks: HashMap<u32, tokio::task::JoinHandle<Answer>>,
    held: Vec<(u32, Call)>,
    arrived: u32,
    costs: HashMap<u32, u32>,
    /// Sent calls of which the server has been charged.
    charged: usize,
    cancelled: usize,
    ended: usize,
}

impl World {
    fn arrive(&mut self, tokens: u32, held: bool) {
        let (name, mut service) = (self.arrived, self.layer.layer(self.desk.clone()));
        self.arrived += 1;
        self.costs.insert(name, tokens);
        let call = Box::pin(service.call(with(named(&name.to_string()), TokenCost(tokens))));
        if held {
            self.held.push((name, call));
        } else {
            self.tasks.insert(name, tokio::spawn(call));
        }
    }

    fn charge(&mut self) {
        self.server.pass();
        if self.desk.count() == self.charged {
            return;
        }
        for name in self.desk.sent().into_iter().skip(self.charged) {
            self.charged += 1;
            let tokens = self.costs[&name.parse::<u32>().unwrap()];
            self.server.requests -= 1.0;
            self.server.tokens -= f64::from(tokens);
        }
    }

    fn answer(&mut self, nth: usize, how: How) {
        let open = self.desk.open();
        let Some(name) = open.get(nth % open.len().max(1)) else { return };
        match how {
            How::Fine => drop(self.desk.answer(name, self.server.told(200))),
            How::Limited => drop(self.desk.answer(name, self.server.told(429))),
            How::Failed => drop(self.desk.answer(name, reply(500))),
            How::Broken => drop(self.desk.break_off(name)),
        }
    }

    async fn cancel(&mut self, nth: usize) {
        if nth.is_multiple_of(2) && !self.held.is_empty() {
            drop(self.held.swap_remove(nth % self.held.len()));
            self.cancelled += 1;
            return;
        }
        let mut names: Vec<u32> = self.tasks.keys().copied().collect();
        names.sort_unstable();
        let Some(name) = names.get(nth % names.len().max(1)) else { return };
        let task = self.tasks.remove(name).unwrap();
        task.abort();
        match task.await {
            Ok(answer) => self.note(answer),
            Err(_) => self.cancelled += 1,
        }
    }

    fn poll(&mut self, nth: usize) {
        if self.held.is_empty() {
            return;
        }
        let nth = nth % self.held.len();
        if let std::task::Poll::Ready(answer) = crate::common::poll_once(&mut self.held[nth].1) {
            drop(self.held.swap_remove(nth));
            self.note(answer);
        }
    }

    fn note(&mut self, answer: Answer) {
        if let Err(error) = answer {
            assert!(find_cause::<Refused>(&*error).is_none(), "nothing here is refused: {error}");
        }
        self.ended += 1;
    }

    /// What the meter thinks is left, of requests and of tokens, and how many answers it has heard.
    fn left(&self) -> ([f64; 2], u64) {
        let now = self.layer.snapshot();
        let left = [now.requests, now.tokens].map(|level| level.map_or(f64::INFINITY, |level| level.remaining));
        (left, now.counts.succeeded + now.counts.limited)
    }

    async fn act(&mut self, act: &Act) {
        let (before, heard) = self.left();
        match *act {
            Act::Arrive { tokens, held } => self.arrive(tokens, held),
            Act::Answer { nth, how } => self.answer(nth, how),
            Act::Cancel { nth } => self.cancel(nth).await,
            Act::Poll { nth } => self.poll(nth),
            Act::Pass { ms: time } => sleep(ms(time)).await,
        }
        // Paused time passes only once everybody has done what they can.
        sleep(ms(1)).await;
        self.charge();
        let now = self.layer.snapshot();
        assert!(now.in_flight <= now.window as usize || now.counts.limited > 0, "{now:?}");
        // Only what a server says takes a level below zero, never a call that is let go.
        let (after, heard_now) = self.left();
        if heard_now == heard {
            for (before, after) in before.into_iter().zip(after) {
                assert!(after >= before.min(0.0) - 1e-6, "from {before} to {after} by {act:?}: {now:?}");
            }
        }
    }

    /// All that is left runs to its end.
    async fn finish(mut self) -> (Desk, Result<(), String>) {
        for (name, call) in std::mem::take(&mut self.held) {
            self.tasks.insert(name, tokio::spawn(call));
        }
        let quiet = async {
            while !self.tasks.values().all(|task| task.is_finished()) {
                self.charge();
                let told = self.server.told(200);
                drop(self.desk.answer_all(|| told_again(&told)));
                sleep(ms(200)).await;
            }
        };
        let stalled = timeout(secs(7200.0), quiet).await.is_err();
        let now = self.layer.snapshot();
        let verdict = if stalled {
            Err(format!("stalled: {now:?}"))
        } else if (now.in_flight, now.waiting) != (0, 0) {
            Err(format!("something is left behind: {now:?}"))
        } else if self.ended + self.cancelled + self.tasks.len() != self.arrived as usize {
            Err(format!("lost: {} of {}", self.ended + self.cancelled + self.tasks.len(), self.arrived))
        } else {
            Ok(())
        };
        (self.desk, verdict)
    }
}

fn told_again(reply: &Reply) -> Reply {
    let mut again = Reply::default();
    *again.headers_mut() = reply.headers().clone();
    again
}

fn run(acts: &[Act], seed: u64) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut world = World {
            layer: QuotaMeterLayer::new().seed(seed),
            desk: Desk::default(),
            server: Server { requests: REQUESTS, tokens: TOKENS, at: Instant::now() },
            tasks: HashMap::new(),
            held: Vec::new(),
            arrived: 0,
            costs: HashMap::new(),
            charged: 0,
            cancelled: 0,
            ended: 0,
        };
        let are_none_held = !acts.iter().any(|act| matches!(act, Act::Arrive { held: true, .. }));
        for act in acts {
            world.act(act).await;
        }
        let (desk, verdict) = world.finish().await;
        verdict.map_err(TestCaseError::fail)?;
        if are_none_held {
            let numbers: Vec<u32> = desk.sent().iter().map(|name| name.parse().unwrap()).collect();
            prop_assert!(numbers.is_sorted(), "out of order: {numbers:?}");
        }
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_everything_ends(acts in prop::collection::vec(any_act(), 1..120), seed in any::<u64>()) {
        run(&acts, seed)?;
    }

    /// All polled as their own tasks: then they leave in the order in which they came.
    #[test]
    fn order_is_kept(acts in prop::collection::vec(any_act(), 1..120), seed in any::<u64>()) {
        let acts: Vec<Act> = acts.into_iter().map(|act| match act {
            Act::Arrive { tokens, .. } => Act::Arrive { tokens, held: false },
            other => other,
        }).collect();
        run(&acts, seed)?;
    }
}
