//! A call that is sent again is at the front of the line, by its number alone.

use tokio::{
    task::JoinSet,
    time::{Duration, Instant, sleep},
};
use tower::{ServiceExt, util::BoxCloneService};
use tower_outbound::{
    BackoffRetryLayer,
    backoff_retry::{Budget, Repeat, RetryReport},
    mock::{Faults, Limits, MockApi},
    nz,
};

use super::{Stack, ended, report};
use crate::common::{Text, later, reply, request, secs, settled, told_limit};

#[tokio::test(start_paused = true)]
async fn after_a_429() {
    let stack = Stack::new().with_left(60, 1).await;
    let _rejected = stack.call("rejected");
    settled().await;
    let _calls = ["b", "c", "d"].map(|name| stack.call(name));
    settled().await;
    stack.desk.answer("rejected", told_limit(429, 60, 0)).await;
    sleep(secs(10.0)).await;
    assert_eq!(stack.sent_after(1), ["rejected", "rejected", "b", "c", "d"]);
}

/// Its backoff over, it does not go to the end of a line that has grown since.
#[tokio::test(start_paused = true)]
async fn after_a_500() {
    let stack = Stack::new().with_left(60, 1).await;
    let _failed = stack.call("failed");
    settled().await;
    let _calls = stack.many(20);
    settled().await;
    stack.desk.answer("failed", reply(500)).await;
    sleep(secs(25.0)).await;
    let sent = stack.sent_after(1);
    let again = sent.iter().skip(1).position(|name| name == "failed").unwrap();
    assert!(again <= 1, "within a second, the backoff's: {sent:?}");
}

#[tokio::test(start_paused = true)]
async fn several_come_back_in_their_old_order() {
    let stack = Stack::new();
    let calls: Vec<_> = ["a", "b", "c", "d", "e"].map(|name| stack.call(name)).into();
    settled().await;
    assert_eq!(stack.desk.open(), ["a", "b", "c", "d"]);
    for name in ["c", "a", "d", "b"] {
        stack.desk.answer(name, later("5")).await;
    }
    for name in ["a", "b", "c", "d", "e"] {
        sleep(secs(60.0)).await;
        assert!(stack.desk.open().first().is_some_and(|first| first == name), "{:?}", stack.desk.open());
        stack.desk.answer(name, reply(200)).await;
    }
    for call in calls {
        assert_eq!(ended(call).await.unwrap().status(), 200);
    }
}

/// It had its turn, and was sent; newcomers have filled the line since. It is no newcomer.
#[tokio::test(start_paused = true)]
async fn though_the_line_is_full() {
    let mut stack = Stack::new();
    stack.meter = stack.meter.max_queue(nz!(2));
    let stack = stack.with_left(60, 1).await;
    let rejected = stack.call("rejected");
    settled().await;
    let _line = ["a", "b"].map(|name| stack.call(name));
    settled().await;
    stack.desk.answer("rejected", told_limit(429, 60, 0)).await;
    sleep(secs(5.0)).await;
    assert_eq!(stack.sent_after(2), ["rejected", "a", "b"]);
    stack.desk.answer("rejected", reply(200)).await;
    assert_eq!(report(&ended(rejected).await).resends, 1);
}

/// Bound by the quota, with some answers a 500: every call takes about as long. At the end of the line again, a retried
/// one takes twice that.
#[tokio::test(start_paused = true)]
async fn retried_calls_take_hardly_longer_than_others() {
    let with = tail(|retry| retry).await;
    assert!(with < 1.15, "p99 / p50 is {with:.3}");
    let without = tail(BackoffRetryLayer::without_mark).await;
    assert!(without > 1.8, "p99 / p50 is {without:.3} without a number of arrival: then this test shows nothing");
}

const WORKERS: usize = 128;
const PER_MINUTE: u64 = 500;

/// p99 / p50 of the time that a call takes, 3 % of the attempts being answered with a 500.
async fn tail(change: impl FnOnce(BackoffRetryLayer) -> BackoffRetryLayer) -> f64 {
    let stack = Stack::new().retry(|retry| change(retry.repeat(Repeat::All).budget(Budget::unlimited())));
    let api = MockApi::builder()
        .limits(Limits::per_minute(PER_MINUTE, 1 << 40))
        .faults(Faults::none().server_error(0.03))
        .realistic_latency()
        .build();
    let calls = stack.over(api);
    let mut workers = JoinSet::new();
    // The first full bucket is no measure.
    let measured_from = Instant::now() + secs(60.0);
    for _ in 0..WORKERS {
        workers.spawn(work(calls.clone(), measured_from));
    }
    let mut times: Vec<Duration> = workers.join_all().await.concat();
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 100].as_secs_f64();
    assert!(at(50) > 7.0, "it is bound by the quota");
    at(99) / at(50)
}

async fn work(
    calls: BoxCloneService<http::Request<Text>, http::Response<()>, tower::BoxError>,
    from: Instant,
) -> Vec<Duration> {
    let mut times = Vec::new();
    while from.elapsed() < secs(300.0) {
        let mut embed = request(http::Method::POST, r#"{"model":"m","input":"hi"}"#);
        *embed.uri_mut() = "https://api.example/v1/embeddings".parse().unwrap();
        let start = Instant::now();
        let response = calls.clone().oneshot(embed).await.unwrap();
        assert_eq!(response.status(), 200, "{:?}", response.extensions().get::<RetryReport>());
        if start >= from {
            times.push(start.elapsed());
        }
    }
    times
}
