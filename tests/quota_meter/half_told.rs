//! Servers that tell but a part of their limit: the period without what is left, or what is left without the limit.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::future::join_all;
use http::{HeaderMap, Request};
use tokio::time::{Instant, sleep, timeout};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_outbound::{
    BackoffRetryLayer, ErrorClassifyLayer, QuotaMeterLayer, nz, provider::Generic, quota_meter::Quota,
};

use super::{Office, costing, meter};
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
            assert!(
                run.seconds <= 33.0 && run.rejected <= 3,
                "begun {begun} s before: {run:?} where 30 s are possible"
            );
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
        if let Some(left) = left {
            put(reply.headers_mut(), "ratelimit", left);
        }
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

/// What is left of the first window is not the limit of the others.
#[tokio::test(start_paused = true)]
async fn a_limit_that_nobody_names_is_no_less_than_what_is_left() {
    let ietf: Spell = |left, wait, headers| put(headers, "ratelimit", &format!(r#""default";r={left};t={wait}"#));
    let older: Spell = |left, wait, headers| {
        put(headers, "x-ratelimit-remaining", &left.to_string());
        put(headers, "x-ratelimit-reset", &wait.to_string());
    };
    for spell in [ietf, older] {
        // Two of the first hundred are left for 40 s, and 300 calls take three windows more.
        let run = Server { begun: 20.0, used: 98, ..Server::new(100, 60.0, spell) }.run(&meter(), 300).await;
        assert!(run.seconds <= 164.0 && run.rejected <= 12, "{run:?} where 160 s are possible");
        assert_eq!(run.level, 100.0 - 1.0, "the most that was ever left");
    }
}

/// Nothing left, and when there is more: that is waited for.
#[tokio::test(start_paused = true)]
async fn nothing_left_until_a_reset_is_believed_without_a_limit() {
    let office = Office::new(meter());
    let told = |left: u32, wait: u32| {
        let mut reply = reply(200);
        put(reply.headers_mut(), "ratelimit", &format!(r#""default";r={left};t={wait}"#));
        reply
    };
    let first = office.call("first");
    settled().await;
    office.desk.answer("first", told(0, 30)).await;
    first.await.unwrap().unwrap();
    let _calls = office.many(10);
    sleep(secs(29.0)).await;
    assert_eq!(office.desk.open(), [""; 0]);
    sleep(secs(2.0)).await;
    assert_eq!(office.desk.open(), ["0"]);
    office.desk.answer("0", told(7, 30)).await;
    assert_eq!(office.desk.open().len(), 7);
}

/// Azure's good answers: what is left, and nothing else.
#[tokio::test(start_paused = true)]
async fn what_is_left_alone_keeps_calls_from_running_into_429s() {
    let azure: Spell = |left, _, headers| put(headers, "x-ratelimit-remaining-requests", &left.to_string());
    for given in [None, Some(Quota::per_minute(nz!(1_000)))] {
        let layer = given.map_or_else(meter, |quota| meter().quota(quota));
        let run = Server::new(100, 60.0, azure).run(&layer, 300).await;
        assert!(run.seconds <= 150.0 && run.rejected <= 6, "{given:?}: {run:?} where 120 s are possible");
    }
}

/// A call may take more tokens than were ever said to be left: that refuses nobody, and holds nobody up for long.
#[tokio::test(start_paused = true)]
async fn nobody_is_too_large_for_a_limit_that_is_but_guessed() {
    let office = Office::new(meter());
    let told = |left: u32| {
        let mut reply = reply(200);
        put(reply.headers_mut(), "x-ratelimit-remaining-tokens", &left.to_string());
        reply
    };
    let first = office.call("first");
    settled().await;
    office.desk.answer("first", told(10)).await;
    first.await.unwrap().unwrap();
    let _whale = office.send(costing("whale", 5_000));
    settled().await;
    assert_eq!(office.desk.open(), ["whale"]);
    let _next = office.send(costing("next", 500));
    settled().await;
    assert_eq!(office.desk.open(), ["whale"]);
    // It says nothing of what is left.
    office.desk.answer("whale", reply(500)).await;
    sleep(secs(61.0)).await;
    assert_eq!(office.desk.open(), ["next"]);
    office.desk.answer("next", told(80_000)).await;
    let _more = [office.send(costing("1", 40_000)), office.send(costing("2", 30_000))];
    settled().await;
    assert_eq!(office.desk.open(), ["1", "2"]);
}
