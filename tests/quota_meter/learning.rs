//! What it learns from answers, and that its level is exact.

use proptest::prelude::*;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt};
use tower_outbound::{
    mock::{Limit, Limits, MockApi, Outcome},
    quota_meter::QuotaMeterLayer,
};

use super::{Office, costing, limits, meter, told};
use crate::common::{Text, ms, named, reply, request, secs, settled};

#[tokio::test(start_paused = true)]
async fn of_unknown_limits_it_starts_with_four_in_flight_and_more_with_each_success() {
    let office = Office::new(meter());
    let _calls = office.many(40);
    settled().await;
    assert_eq!(office.desk.count(), 4);
    for (n, in_flight) in [(0, 6), (1, 8), (2, 10)] {
        office.desk.answer(&n.to_string(), reply(200)).await;
        assert_eq!(office.desk.open().len(), in_flight);
    }
    office.desk.answer("3", reply(500)).await;
    assert_eq!(office.desk.open().len(), 10, "a failure says nothing of the quota");
}

/// A refusal comes soon; who is silent has let them in.
#[tokio::test(start_paused = true)]
async fn while_nothing_is_heard_one_more_leaves_each_tenth_of_a_second() {
    let office = Office::new(meter());
    let _calls = office.many(40);
    settled().await;
    for more in 1..=8 {
        sleep(ms(99)).await;
        assert_eq!(office.desk.count(), 3 + more);
        sleep(ms(1)).await;
        settled().await;
        assert_eq!(office.desk.count(), 4 + more);
    }
    sleep(secs(60.0)).await;
    assert_eq!(office.desk.count(), 12, "and no more: a small limit is not to be run into unheard");
}

/// Answers that take longer than it would to use up the limit, one call after another.
#[test]
fn slow_answers_of_a_small_limit_are_waited_for() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let api = MockApi::builder().limits(Limits::per_minute(20, 1_000)).service_time(secs(5.0)..=secs(10.0)).build();
        assert_eq!(run(&api, &meter(), 40, 1).await.2, 0);
    });
}

#[tokio::test(start_paused = true)]
async fn the_first_limit_lifts_that_to_a_seconds_worth_or_eight() {
    for (limit, window) in [(60, 8), (6_000, 100)] {
        let office = Office::new(meter());
        let _calls = office.many(200);
        settled().await;
        office.desk.answer("0", told(200, limit, limit - 1)).await;
        assert_eq!(office.desk.open().len(), window.min(limit as usize - 1), "{limit} a minute");
    }
}

/// One answer gives the limit, what is left and how fast it refills, for the buckets that there are.
#[tokio::test(start_paused = true)]
async fn one_answer_tells_the_whole_bucket() {
    for (limit, left, reset, per_second) in [
        ("500", "499", "120ms", 500.0 / 60.0),
        ("500", "400", "12s", 500.0 / 60.0),
        ("10000", "9999", "8.64s", 10_000.0 / 86_400.0),
        ("1000", "500", "30m0s", 1000.0 / 3600.0),
        ("50", "25", "500ms", 50.0),
        ("60", "59", "1s", 1.0),
        ("60", "59", "1", 1.0),
        ("30,000", "15,000", "30s", 500.0),
        // Rounding hides the refill: by the minute, until an answer says otherwise.
        ("10000", "9999", "6ms", 10_000.0 / 60.0),
        ("500", "500", "0s", 500.0 / 60.0),
        // An odd period, told plainly.
        ("100", "50", "100s", 0.5),
    ] {
        let office = Office::new(meter());
        let _call = office.call("0");
        settled().await;
        office.desk.answer("0", limits(reply(200), "requests", limit, left, reset)).await;
        let level = office.meter.snapshot().requests.unwrap_or_else(|| panic!("{limit} {left} {reset}"));
        let number = |text: &str| text.replace(',', "").parse::<f64>().unwrap();
        assert_eq!((level.limit, level.remaining), (number(limit), number(left)), "{limit} {left} {reset}");
        assert!((level.refill_per_second / per_second - 1.0).abs() < 0.001, "{limit} {left} {reset}: {level:?}");
    }
}

/// OpenAI's own example says `6m0s` for what takes 0.9 s; a later answer that fits is believed.
#[tokio::test(start_paused = true)]
async fn one_odd_reset_is_not_believed_for_long() {
    let office = Office::new(meter());
    let _calls = office.many(2);
    settled().await;
    office.desk.answer("0", limits(reply(200), "tokens", 150_000, 149_984, "6m0s")).await;
    office.desk.answer("1", limits(reply(200), "tokens", 150_000, 140_000, "4s")).await;
    let tokens = office.meter.snapshot().tokens.unwrap();
    assert!((tokens.refill_per_second / 2_500.0 - 1.0).abs() < 0.01, "{tokens:?}");
}

/// What is in flight has been taken off already: the server's count was made before those left.
#[tokio::test(start_paused = true)]
async fn an_answer_is_reconciled_with_what_left_since() {
    let office = Office::with_left(meter(), 6_000, 5_000).await;
    let _calls = office.many(20);
    settled().await;
    assert_eq!(office.meter.snapshot().requests.unwrap().remaining, 4_980.0);
    // The server had seen this one and those before it, and no more.
    office.desk.answer("4", told(200, 6_000, 4_995)).await;
    assert_eq!(office.meter.snapshot().requests.unwrap().remaining, 4_980.0);
}

#[tokio::test(start_paused = true)]
async fn less_than_reckoned_is_believed_at_once_and_more_by_and_by() {
    let office = Office::with_left(meter(), 6_000, 5_000).await;
    let _calls = office.many(2);
    settled().await;
    office.desk.answer("0", told(200, 6_000, 3_001)).await;
    assert_eq!(office.meter.snapshot().requests.unwrap().remaining, 3_000.0);
    office.desk.answer("1", told(200, 6_000, 5_000)).await;
    assert_eq!(office.meter.snapshot().requests.unwrap().remaining, 3_100.0, "a twentieth of the way");
}

#[tokio::test(start_paused = true)]
async fn it_refills_as_time_goes_by_and_never_over_the_limit() {
    let office = Office::with_left(meter(), 60, 10).await;
    for (passed, expected) in [(0.0, 10.0), (5.0, 15.0), (45.0, 60.0), (3600.0, 60.0)] {
        sleep(secs(passed)).await;
        let level = office.meter.snapshot().requests.unwrap();
        assert!((level.remaining - expected).abs() < 0.01, "{level:?} after {passed} s more");
    }
}

/// Not early, and within a timer's tick of on time.
#[tokio::test(start_paused = true)]
async fn a_call_leaves_when_there_is_room_for_it_to_the_millisecond() {
    let office = Office::with_left(meter(), 60, 0).await;
    let start = Instant::now();
    let _calls = office.many(8);
    sleep(secs(10.0)).await;
    let times = &office.desk.times(start)[1..];
    assert_eq!(times.len(), 8);
    for (n, time) in times.iter().enumerate() {
        let due = secs(n as f64 + 1.0);
        assert!(*time >= due && *time < due + ms(2), "{times:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_are_taken_as_told_with_a_tenth_to_spare() {
    let office = Office::new(meter());
    let _call = office.call("0");
    settled().await;
    office.desk.answer("0", limits(reply(200), "tokens", 6_000, 1_000, "50s")).await;
    let start = Instant::now();
    // 1.1 times 900 are there at once; then 1.1 times 800 once 100 a second have come back.
    let _one = office.send(costing("1", 900));
    settled().await;
    assert_eq!(office.meter.snapshot().tokens.unwrap().remaining, 100.0);
    let _two = office.send(costing("2", 800));
    sleep(secs(20.0)).await;
    let times = office.desk.times(start);
    assert!(times[2] >= secs(7.8) && times[2] <= secs(7.802), "{times:?}");
}

/// A quarter of the body's bytes, where nothing else is known; nothing for a body of unknown length.
#[tokio::test(start_paused = true)]
async fn without_a_cost_it_reckons_from_the_body() {
    let office = Office::new(meter());
    let _call = office.call("0");
    settled().await;
    office.desk.answer("0", limits(reply(200), "tokens", 6_000, 1_000, "50s")).await;
    let _one = office.send(request(http::Method::POST, "a body of forty bytes, or a few more ..."));
    settled().await;
    assert_eq!(office.meter.snapshot().tokens.unwrap().remaining, 990.0);
}

/// A chat of about so many tokens.
fn chat(tokens: u32) -> http::Request<Text> {
    let body = format!(r#"{{"model":"m","max_tokens":{tokens},"messages":[{{"role":"user","content":"hi"}}]}}"#);
    let mut request = crate::common::with(named("chat"), tower_outbound::TokenCost(tokens + 1));
    *request.body_mut() = body.into();
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = "http://api.example/v1/chat/completions".parse().unwrap();
    request.headers_mut().insert("authorization", "Bearer sk-any".parse().unwrap());
    request
}

/// All calls at once against an API; how long they took, when the quota allows them, and how many were rejected.
async fn run(api: &MockApi, layer: &QuotaMeterLayer, calls: usize, tokens: u32) -> (f64, f64, u64) {
    let start = Instant::now();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..calls {
        all.spawn(layer.layer(api.clone()).oneshot(chat(tokens)));
    }
    let failed =
        all.join_all().await.iter().filter(|answer| !answer.as_ref().is_ok_and(|it| it.status() == 200)).count();
    assert_eq!(failed as u64, api.counters().rejected);
    (start.elapsed().as_secs_f64(), api.physical_limit(calls).as_secs_f64(), api.counters().rejected)
}

#[tokio::test(start_paused = true)]
async fn against_an_exact_bucket_it_takes_all_there_is_and_not_one_too_many() {
    for (requests, tokens, cost) in [(60, 1_000_000, 10), (600, 1_000_000, 10), (6_000, 60_000, 600)] {
        let service = ms(500)..=ms(1500);
        let api = MockApi::builder().limits(Limits::per_minute(requests, tokens)).service_time(service).build();
        let (took, limit, rejected) = run(&api, &meter(), 400, cost).await;
        assert_eq!(rejected, 0, "{requests} and {tokens} a minute");
        // The window opens step by step: that costs some round trips at first.
        assert!(took <= limit * 1.02 + 6.0, "{took} s where {limit} s are possible");
    }
}

/// Requests overtake each other on the way, so the server's count is sometimes a little older than it looks.
#[tokio::test(start_paused = true)]
async fn over_a_network_one_in_a_hundred_may_be_too_many_in_the_first_rush() {
    for seed in 0..5 {
        let limits = Limits::per_minute(6_000, 60_000);
        let api = MockApi::builder().seed(seed).limits(limits).realistic_latency().build();
        let (_, _, rejected) = run(&api, &meter(), 400, 600).await;
        assert!(rejected <= 4, "{rejected} of 400");
    }
}

/// `limit-requests: 10000, reset 8.64s` is the bucket of the day.
#[tokio::test(start_paused = true)]
async fn a_bucket_by_the_day_is_not_taken_for_one_by_the_minute() {
    let day = Limits::none().requests(Limit::per_day(200));
    let api = MockApi::builder().limits(day).service_time(ms(500)..=ms(500)).build();
    let (took, limit, rejected) = run(&api, &meter(), 230, 10).await;
    assert_eq!(rejected, 0);
    assert!(took <= limit * 1.02, "{took} s where {limit} s are possible");
}

#[tokio::test(start_paused = true)]
async fn one_layer_is_one_quota_however_often_it_is_applied() {
    let office = Office::with_left(meter(), 60, 1).await;
    let other = Office { meter: office.meter.clone(), desk: office.desk.clone() };
    let (one, two) = (office.call("one"), other.call("two"));
    settled().await;
    assert_eq!(office.sent_after(1), ["one"]);
    drop((one, two));
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_counts() {
    let office = Office::with_left(meter(), 60, 2).await;
    let calls = office.many(5);
    settled().await;
    let now = office.meter.snapshot();
    assert_eq!((now.in_flight, now.waiting, now.counts.sent, now.counts.succeeded), (2, 3, 3, 1));
    let expected = now.expected_wait.unwrap().as_secs_f64();
    assert!((expected - 4.0).abs() < 0.01, "three before it: {expected}");
    drop(calls);
}

/// What those ahead take of the tokens, whoever comes next waits for.
#[tokio::test(start_paused = true)]
async fn the_expected_wait_counts_the_tokens_of_those_ahead() {
    let office = Office::new(meter());
    let _call = office.call("0");
    settled().await;
    office.desk.answer("0", limits(reply(200), "tokens", 6_000, 0, "60s")).await;
    let _waiting = office.send(costing("1", 3_000));
    settled().await;
    let expected = office.meter.snapshot().expected_wait.unwrap();
    assert!(expected >= secs(30.0), "{expected:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever limits, latency and load: an exact bucket of which one knows all is never overdrawn by more than what an
    /// estimate or a header's rounding may be off.
    #[test]
    fn no_429_whatever_the_limits(
        requests in 20_u64..5_000, tokens in 1_000_u64..1_000_000, cost in 1_u32..100,
        calls in 10_usize..150, latency in 1_u64..3_000, seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let api = MockApi::builder()
                .seed(seed)
                .limits(Limits::per_minute(requests, tokens))
                .service_time(ms(latency)..=ms(2 * latency))
                .build();
            let (took, limit, rejected) = run(&api, &QuotaMeterLayer::new().seed(seed), calls, cost).await;
            prop_assert_eq!(rejected, 0);
            // The window opens step by step: that costs some round trips at first.
            let opening = 12.0 * 2.4 * latency as f64 / 1000.0;
            prop_assert!(took <= 1.15 * limit + opening + 1.0, "{} s where {} s are possible", took, limit);
            prop_assert!(api.records().iter().all(|record| record.outcome == Outcome::Admitted));
            Ok(())
        })?;
    }
}
