//! The meter from outside: what was used, what it cost, who hears of it.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use http::Request;
use http_body_util::{BodyExt, Full};
use tokio::time::{sleep, timeout};
use tower_outbound::{
    QuotaMeterLayer, TokenCost,
    quota_meter::{Measure, MeterHandle, Price, Reached, Refusal, Threshold, Totals},
};

use super::{Office, later, meter, refusal};
use crate::common::{Text, named, reply, secs, settled, with};

const NOON: u64 = 20_000 * 86_400 + 43_200;

/// A clock that tests set.
pub(super) fn clock(layer: QuotaMeterLayer) -> (QuotaMeterLayer, Arc<AtomicU64>) {
    let seconds = Arc::new(AtomicU64::new(NOON));
    let now = Arc::clone(&seconds);
    (layer.clock(move || UNIX_EPOCH + Duration::from_secs(now.load(Ordering::Relaxed))), seconds)
}

fn ask(name: &str) -> Request<Text> {
    let body = r#"{"model":"gpt-x-mini","messages":[]}"#;
    named(name).map(|_| Full::new(body.into()))
}

/// A call that uses a million tokens of input and half of that of output.
async fn million(office: &Office) {
    let call = office.send(with(ask("m"), TokenCost(0)));
    settled().await;
    let mut answer = reply(200);
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    *answer.body_mut() = Full::new(r#"{"usage":{"prompt_tokens":1000000,"completion_tokens":500000}}"#.into());
    office.desk.answer("m", answer).await;
    call.await.unwrap().unwrap().into_body().collect().await.unwrap();
}

/// Whether an answer can be read or not, and whether anybody reads it: what it used was paid for.
#[tokio::test(start_paused = true)]
async fn the_budget_holds_for_answers_that_are_not_read() {
    let plain = |_: &mut crate::common::Reply| {};
    let json = |answer: &mut crate::common::Reply| {
        answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    };
    let gzip = |answer: &mut crate::common::Reply| {
        answer.headers_mut().insert("content-encoding", http::HeaderValue::from_static("gzip"));
    };
    let binary = |answer: &mut crate::common::Reply| {
        answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/octet-stream"));
    };
    type Change = fn(&mut crate::common::Reply);
    let cases: [(bool, &[Change]); 5] =
        [(true, &[plain]), (true, &[json, gzip]), (true, &[binary]), (false, &[json]), (false, &[plain])];
    for (reads, changes) in cases {
        let (layer, _) = clock(priced().usage(reads).budget_per_day(10.0));
        let office = Office::new(layer);
        for n in 1..=4 {
            let call = office.send(asking("m", 300_000));
            settled().await;
            let mut answer = reply(200);
            changes.iter().for_each(|change| change(&mut answer));
            office.desk.answer("m", answer).await;
            call.await.unwrap().unwrap().into_body().collect().await.unwrap();
            let money = office.meter.handle().totals().of_today().money;
            assert!((money - 2.4 * f64::from(n)).abs() < 0.01, "{money}");
        }
        let over = office.answer_of(asking("over", 300_000)).await;
        assert!(matches!(refusal(&over).1, Refusal::OverBudget { .. }));
    }
}

/// As documented: who gives the empty name a price has one for all.
#[tokio::test(start_paused = true)]
async fn a_model_without_a_price_costs_nothing() {
    let unpriced = |name| named(name).map(|_| Full::new(r#"{"model":"other","max_tokens":9000000}"#.into()));
    let (layer, _) = clock(priced().budget_per_day(10.0));
    let office = Office::new(layer);
    let _goes = office.send(unpriced("a"));
    settled().await;
    assert_eq!(office.desk.open(), ["a"]);
    let (layer, _) = clock(priced().price("", Price::per_million(2.0, 8.0)).budget_per_day(10.0));
    let office = Office::new(layer);
    assert!(matches!(refusal(&office.answer_of(unpriced("a")).await).1, Refusal::OverBudget { .. }));
}

pub(super) fn priced() -> QuotaMeterLayer {
    meter().price("gpt-x", Price::per_million(100.0, 100.0)).price("gpt-x-mini", Price::per_million(2.0, 8.0))
}

#[tokio::test(start_paused = true)]
async fn each_scope_shows_what_it_used_and_what_that_cost() {
    let office = Office::new(priced());
    million(&office).await;
    million(&office).await;
    let used = office.meter.snapshot().used;
    assert_eq!((used.requests, used.input_tokens, used.output_tokens, used.money), (2, 2_000_000, 1_000_000, 12.0));
}

#[tokio::test(start_paused = true)]
async fn past_the_budget_calls_are_refused_until_the_next_day() {
    let (layer, seconds) = clock(priced().budget_per_day(10.0));
    let office = Office::new(layer);
    million(&office).await;
    assert_eq!(office.meter.handle().totals().of_today().money, 6.0);
    million(&office).await;
    let answer = office.answer_of(ask("over")).await;
    let (refused, reason) = refusal(&answer);
    assert!(matches!(reason, Refusal::OverBudget { spent: 12.0, budget: 10.0, .. }), "{reason:?}");
    assert_eq!(refused.wait(), Some(secs(43_200.0)));
    assert_eq!(office.meter.snapshot().counts.refused, 1);
    assert!(office.meter.handle().try_acquire(&ask("x")).is_err());
    seconds.fetch_add(43_200, Ordering::Relaxed);
    let _goes = office.send(ask("tomorrow"));
    settled().await;
    assert_eq!(office.desk.open(), ["tomorrow"]);
}

/// The money went while it waited.
#[tokio::test(start_paused = true)]
async fn who_waits_when_the_budget_is_spent_does_not_leave() {
    let (layer, _) = clock(priced().budget_per_day(10.0));
    let office = Office::new(layer);
    million(&office).await;
    let slow = office.send(with(ask("m"), TokenCost(0)));
    let limited = office.send(ask("limited"));
    settled().await;
    office.desk.answer("limited", later("10")).await;
    limited.await.unwrap().unwrap();
    let waits = office.send(ask("waits"));
    settled().await;
    let mut answer = reply(200);
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    *answer.body_mut() = Full::new(r#"{"usage":{"prompt_tokens":9000000}}"#.into());
    office.desk.answer("m", answer).await;
    slow.await.unwrap().unwrap().into_body().collect().await.unwrap();
    sleep(secs(30.0)).await;
    assert!(matches!(refusal(&waits.await.unwrap()).1, Refusal::OverBudget { .. }));
    assert_eq!((office.meter.snapshot().in_flight, office.meter.snapshot().counts.refused), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_threshold_is_told_of_once_a_day() {
    let told: Arc<Mutex<Vec<Reached>>> = Arc::default();
    let note = Arc::clone(&told);
    let threshold = Threshold::per_day(Measure::Tokens, 3_000_000.0).at(0.8);
    let (layer, seconds) = clock(meter().on_threshold(threshold, move |reached| note.lock().unwrap().push(*reached)));
    let layer = layer.threshold(Threshold::per_day(Measure::Requests, 3.0));
    let office = Office::new(layer);
    let mut alerts = office.meter.handle().alerts();
    million(&office).await;
    assert!(told.lock().unwrap().is_empty());
    million(&office).await;
    million(&office).await;
    assert_eq!(told.lock().unwrap().len(), 1);
    let first = alerts.next().await.unwrap();
    assert_eq!((first.threshold, first.today.tokens()), (threshold, 3_000_000));
    assert_eq!(alerts.next().await.unwrap().threshold.measure(), Measure::Requests);
    seconds.fetch_add(86_400, Ordering::Relaxed);
    for _ in 0..3 {
        million(&office).await;
    }
    assert_eq!(told.lock().unwrap().len(), 2);
}

/// Answers that say nothing of tokens count as calls all the same.
#[tokio::test(start_paused = true)]
async fn a_threshold_on_calls_needs_no_usage() {
    let office = Office::new(meter().threshold(Threshold::per_day(Measure::Requests, 2.0)));
    let mut alerts = std::pin::pin!(office.meter.handle().alerts().into_stream());
    for name in ["a", "b"] {
        let call = office.call(name);
        settled().await;
        office.desk.answer(name, reply(500)).await;
        drop(call);
    }
    let reached = timeout(secs(1.0), futures_util::StreamExt::next(&mut alerts)).await.unwrap().unwrap();
    assert_eq!(reached.today.requests, 2);
}

#[tokio::test(start_paused = true)]
async fn totals_outlive_a_restart_and_a_day_ends() {
    let (layer, seconds) = clock(priced().budget_per_day(10.0));
    let office = Office::new(layer);
    million(&office).await;
    let saved = serde_json::to_string(&office.meter.handle().totals()).unwrap();

    let (layer, _) = clock(priced().budget_per_day(10.0));
    let next = Office::new(layer);
    next.meter.handle().restore(serde_json::from_str(&saved).unwrap());
    assert_eq!(next.meter.handle().totals().of_today().money, 6.0);
    million(&next).await;
    assert!(matches!(refusal(&next.answer_of(ask("over")).await).1, Refusal::OverBudget { .. }));
    let totals = next.meter.handle().totals();
    assert_eq!(totals.ever["api.example gpt-x-mini"].requests, 2);

    seconds.fetch_add(86_400, Ordering::Relaxed);
    let tomorrow =
        Office::new(priced().clock(move || UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::Relaxed))));
    tomorrow.meter.handle().restore(totals);
    let totals = tomorrow.meter.handle().totals();
    assert_eq!((totals.of_today().requests, totals.of_ever().requests), (0, 2));
    assert_eq!(serde_json::from_str::<Totals>("{}").unwrap(), Totals::default());
}

/// They were told of in the process that reached them.
#[tokio::test(start_paused = true)]
async fn what_was_reached_before_a_restart_is_not_told_of_again() {
    let thresholds = |layer: QuotaMeterLayer| {
        let at = |share| Threshold::per_day(Measure::Tokens, 10_000_000.0).at(share);
        clock(layer.threshold(at(0.1)).threshold(at(0.3)))
    };
    let office = Office::new(thresholds(meter()).0);
    million(&office).await;
    let totals = office.meter.handle().totals();

    let (layer, seconds) = thresholds(meter());
    let next = Office::new(layer);
    let mut alerts = next.meter.handle().alerts();
    next.meter.handle().restore(totals);
    million(&next).await;
    // Three millions together: the second is reached, and the first was.
    let level = |reached: Reached| reached.threshold.level();
    assert_eq!(level(alerts.next().await.unwrap()), 3_000_000.0);
    assert!(timeout(secs(1.0), alerts.next()).await.is_err());
    seconds.fetch_add(86_400, Ordering::Relaxed);
    million(&next).await;
    assert_eq!(level(alerts.next().await.unwrap()), 1_000_000.0);
}

/// What a scope used on one day is not brought into the next by whoever looks at it then.
#[tokio::test(start_paused = true)]
async fn tokens_count_for_the_day_on_which_they_were_used() {
    let (layer, seconds) = clock(meter());
    let office = Office::new(layer);
    million(&office).await;
    seconds.fetch_add(86_400, Ordering::Relaxed);
    million(&office).await;
    let totals = office.meter.handle().totals();
    assert_eq!((totals.of_today().tokens(), totals.of_ever().tokens()), (1_500_000, 3_000_000));
    assert_eq!(totals.ever["api.example gpt-x-mini"].requests, 2);
}

/// A clock of somebody's own may look at the meter: it is asked under no lock.
#[tokio::test(start_paused = true)]
async fn a_clock_may_look_at_the_meter() {
    let seen: Arc<OnceLock<MeterHandle>> = Arc::default();
    let handle = Arc::clone(&seen);
    let layer = priced().budget_per_day(10.0).clock(move || {
        let _ = handle.get().map(|meter| (meter.scopes().len(), meter.snapshot().waiting));
        UNIX_EPOCH + Duration::from_secs(NOON)
    });
    let office = Office::new(layer);
    seen.set(office.meter.handle()).unwrap();
    million(&office).await;
    let _permit = office.meter.handle().try_acquire(&ask("x")).unwrap();
    let limited = office.send(ask("limited"));
    settled().await;
    office.desk.answer("limited", later("1")).await;
    limited.await.unwrap().unwrap();
    let _waits = office.send(ask("waits"));
    sleep(secs(5.0)).await;
    assert_eq!(office.desk.open(), ["waits"]);
    assert_eq!(office.meter.handle().totals().of_today().money, 6.0);
}

/// From the line, too: when it is let go, when it is refused there, and when it leaves.
#[tokio::test(start_paused = true)]
async fn who_subscribes_hears_of_a_call_that_leaves_the_line() {
    let office = Office::with_left(meter().max_wait(secs(30.0)), 60, 0).await;
    let handle = office.meter.handle();
    let mut changes = handle.subscribe();
    let _leaves = office.call("leaves");
    settled().await;
    assert!(changes.changed().await);
    assert!(timeout(secs(0.9), changes.changed()).await.is_err(), "it waits");
    assert!(timeout(secs(0.2), changes.changed()).await.unwrap());
    assert_eq!((office.desk.open().len(), handle.snapshot().waiting), (1, 0));
    // The gate stays closed for longer than anybody may wait.
    let waits = office.call("waits");
    settled().await;
    office.desk.answer("leaves", later("60")).await;
    settled().await;
    changes.changed().await;
    assert!(timeout(secs(29.0), changes.changed()).await.is_err(), "it waits");
    assert!(timeout(secs(2.0), changes.changed()).await.unwrap());
    assert!(matches!(refusal(&waits.await.unwrap()).1, Refusal::TooLong { .. }));
}

#[tokio::test(start_paused = true)]
async fn who_subscribes_hears_of_changes_and_not_of_its_own_look() {
    let office = Office::new(meter());
    let handle = office.meter.handle();
    let mut changes = handle.subscribe();
    let _call = office.call("a");
    assert!(changes.changed().await);
    settled().await;
    let _ = (handle.snapshot(), handle.scopes(), handle.expected_wait(&named("x")));
    assert!(timeout(secs(100.0), changes.changed()).await.is_err());
    office.desk.answer("a", reply(200)).await;
    assert!(timeout(secs(1.0), changes.changed()).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_wait_of_a_request_can_be_asked_for() {
    let office = Office::with_left(meter(), 60, 1).await;
    let handle = office.meter.handle();
    assert_eq!(handle.expected_wait(&named("x")), Some(secs(0.0)));
    let _calls = office.many(3);
    settled().await;
    let wait = handle.expected_wait(&named("x")).unwrap();
    assert!(wait > secs(2.9) && wait < secs(3.1), "{wait:?}");
    assert_eq!(office.meter.snapshot().waiting, 2);
}

pub(super) fn asking(name: &str, most: u32) -> Request<Text> {
    named(name).map(|_| Full::new(format!(r#"{{"model":"gpt-x-mini","max_tokens":{most}}}"#).into()))
}

/// At 8 for a million tokens of output.
#[tokio::test(start_paused = true)]
async fn calls_under_way_count_against_the_budget() {
    let (layer, _) = clock(priced().budget_per_day(10.0));
    let office = Office::new(layer);
    let mut calls: Vec<_> = (0..50).map(|n| office.send(asking(&n.to_string(), 300_000))).collect();
    settled().await;
    // 2.40 each, so that four are under way, or one by one.
    assert_eq!(office.desk.count(), 4);
    let fifth = calls.remove(4).await.unwrap();
    let (refused, reason) = refusal(&fifth);
    assert!(matches!(reason, Refusal::OverBudget { spent: 0.0, under_way, .. } if *under_way > 9.5), "{reason:?}");
    assert_eq!(refused.wait(), None, "what is under way may cost less");
    // What is under way and comes to nothing is free again; what is answered counts as what it used.
    office.desk.answer("0", reply(500)).await;
    office.desk.answer("1", reply(500)).await;
    let mut answer = reply(200);
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    *answer.body_mut() = Full::new(r#"{"usage":{"prompt_tokens":0,"completion_tokens":50000}}"#.into());
    office.desk.answer("2", answer).await;
    calls.remove(2).await.unwrap().unwrap().into_body().collect().await.unwrap();
    assert_eq!(office.meter.handle().totals().of_today().money, 0.4);
    let sent = office.desk.count();
    let _more: Vec<_> = (0..9).map(|_| office.send(asking("more", 300_000))).collect();
    settled().await;
    // 0.40 are spent and 2.40 under way: two more, and not quite three.
    assert_eq!(office.desk.count() - sent, 2);
}

#[tokio::test(start_paused = true)]
async fn a_permit_holds_its_money_and_gives_it_back() {
    let (layer, _) = clock(priced().budget_per_day(10.0));
    let handle = layer.handle();
    let permits =
        [handle.try_acquire(&asking("a", 600_000)).unwrap(), handle.try_acquire(&asking("b", 600_000)).unwrap()];
    assert!(handle.try_acquire(&asking("c", 600_000)).is_err());
    drop(permits);
    assert!(handle.try_acquire(&asking("c", 1_200_000)).is_ok());
    assert!(handle.try_acquire(&asking("c", 1_250_000)).is_err(), "more than there is");
}
