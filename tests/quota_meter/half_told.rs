//! Servers that tell but a part of their limit: the period without what is left, or what is left without the limit.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::future::join_all;
use http::{HeaderMap, Request};
use tokio::time::{Instant, sleep, timeout};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_outbound::{BackoffRetryLayer, ErrorClassifyLayer, QuotaMeterLayer, provider::Generic};

use super::{Office, meter};
use crate::common::{Text, get, ms, reply, secs, settled};

/// What is left, and the seconds until there is more, as the server spells it.
type Spell = fn(u64, u64, &mut HeaderMap);

/// A server that lets so many in, in each window.
#[derive(Clone, Copy)]
struct Server {
    limit: u64,
    window: f64,
    /// So far the first window is over, in seconds, and so much of it was used by somebody.
    begun: f64,
    used: u64,
    spell: Spell,
}

#[derive(Debug)]
struct Run {
    seconds: f64,
    rejected: u64,
    level: f64,
}

impl Server {
    fn new(limit: u64, window: f64, spell: Spell) -> Self {
        Self { limit, window, begun: 0.0, used: 0, spell }
    }

    /// So many calls, sixteen at once.
    async fn run(self, meter: &QuotaMeterLayer, calls: usize) -> Run {
        let start = Instant::now();
        let used = Arc::new((AtomicU64::new(0), AtomicU64::new(self.used), AtomicU64::new(0)));
        let count = Arc::clone(&used);
        let server = service_fn(move |_: Request<Text>| {
            let count = Arc::clone(&count);
            async move {
                sleep(ms(20)).await;
                let now = start.elapsed().as_secs_f64() + self.begun;
                let window = (now / self.window) as u64;
                if count.0.swap(window, Ordering::Relaxed) != window {
                    count.1.store(0, Ordering::Relaxed);
                }
                let is_in = count.1.load(Ordering::Relaxed) < self.limit;
                let used = count.1.fetch_add(u64::from(is_in), Ordering::Relaxed) + u64::from(is_in);
                let wait = ((window + 1) as f64 * self.window - now).ceil() as u64;
                let mut answer = reply(if is_in { 200 } else { 429 });
                (self.spell)(self.limit - used, wait, answer.headers_mut());
                if !is_in {
                    count.2.fetch_add(1, Ordering::Relaxed);
                    answer.headers_mut().insert("retry-after", wait.into());
                }
                Ok::<_, BoxError>(answer)
            }
        });
        let stack = ServiceBuilder::new()
            .layer(BackoffRetryLayer::new())
            .layer(meter)
            .layer(ErrorClassifyLayer::new(Generic))
            .service(server);
        let workers = (0..16).map(|worker| {
            let stack = stack.clone();
            async move {
                for _ in (worker..calls).step_by(16) {
                    assert_eq!(stack.clone().oneshot(get()).await.unwrap().status(), 200);
                }
            }
        });
        let all = timeout(secs(36_000.0), join_all(workers)).await;
        assert!(all.is_ok(), "stalled: {:?}", meter.snapshot());
        let level = meter.snapshot().requests.map_or(0.0, |level| level.limit);
        Run { seconds: start.elapsed().as_secs_f64(), rejected: used.2.load(Ordering::Relaxed), level }
    }
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    headers.insert(name, value.parse().unwrap());
}

/// The period is the one that is named, though nobody says what is left.
#[tokio::test(start_paused = true)]
async fn a_policy_alone_is_paced_by_its_own_period() {
    let policy: Spell = |_, _, headers| put(headers, "ratelimit-policy", r#""default";q=10;w=1"#);
    let older: Spell = |_, _, headers| put(headers, "ratelimit-limit", "10, 10;w=1");
    for spell in [policy, older] {
        for begun in [0.0, 0.3, 0.7] {
            let run = Server { begun, ..Server::new(10, 1.0, spell) }.run(&meter(), 300).await;
            assert!(run.seconds <= 33.0 && run.rejected <= 3, "begun {begun} s before: {run:?} where 30 s are possible");
        }
    }
}

/// Nobody knows when a day ends: it is not waited for, nor is the day's limit taken for the minute's.
#[tokio::test(start_paused = true)]
async fn a_policy_by_the_day_alone_is_a_bucket_until_its_end_is_told() {
    let office = Office::new(meter());
    let told = |left: Option<&str>| {
        let mut reply = reply(200);
        put(reply.headers_mut(), "ratelimit-policy", r#""default";q=1000;w=86400"#);
        left.inspect(|left| put(reply.headers_mut(), "ratelimit", left));
        reply
    };
    let _calls = office.many(2);
    settled().await;
    office.desk.answer("0", told(None)).await;
    let level = office.meter.snapshot().requests.unwrap();
    assert_eq!((level.limit, level.remaining, level.resets_in), (1_000.0, 998.0, None));
    assert!((level.refill_per_second * 86_400.0 - 1_000.0).abs() < 1e-6, "{level:?}");
    office.desk.answer("1", told(Some(r#""default";r=600;t=7200"#))).await;
    let level = office.meter.snapshot().requests.unwrap();
    assert_eq!((level.remaining, level.refill_per_second), (600.0, 0.0));
    assert_eq!(level.resets_in.map(|resets| resets.as_secs()), Some(7_200));
}
