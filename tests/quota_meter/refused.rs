//! Calls that would wait too long, or for ever: refused at once, with the time it would have taken.

use tokio::time::{Instant, sleep};
use tower_outbound::{Call, nz, quota_meter::Refusal};

use super::{Office, costing, later, limits, meter, refusal};
use crate::common::{ms, named, reply, secs, settled, with};

#[tokio::test(start_paused = true)]
async fn past_the_longest_wait_with_the_time() {
    let office = Office::with_left(meter().max_wait(secs(3.5)), 60, 0).await;
    let _calls = office.many(3);
    settled().await;
    let start = Instant::now();
    let answer = office.answer_to("fourth").await;
    assert_eq!(start.elapsed().as_nanos(), 0);
    let (refused, reason) = refusal(&answer);
    let Refusal::TooLong { expected, limit, .. } = reason else { panic!("{reason}") };
    assert_eq!(refused.wait(), Some(*expected));
    assert!(*expected >= secs(4.0) && *expected < secs(4.01), "{expected:?}");
    assert_eq!(*limit, secs(3.5));
    assert_eq!(answer.unwrap_err().to_string(), "refused by the quota meter: would wait 4.0s, and 3.5s are allowed");
    // The three in line are not touched by it, and each leaves in its time.
    sleep(secs(4.0)).await;
    assert_eq!(office.sent_after(1), ["0", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn past_its_deadline_with_the_time() {
    let office = Office::with_left(meter(), 60, 0).await;
    let _calls = office.many(3);
    settled().await;
    let soon = Call::now().with_deadline(Instant::now() + secs(3.5));
    let answer = office.answer_of(with(named("soon"), soon)).await;
    let Refusal::TooLong { expected, limit, .. } = refusal(&answer).1 else { panic!() };
    assert!(*expected > *limit && *limit == secs(3.5));
    let late = Call::now().with_deadline(Instant::now() + secs(4.5));
    let late = office.send(with(named("late"), late));
    sleep(secs(5.0)).await;
    assert_eq!(office.desk.open().last().map(String::as_str), Some("late"));
    drop(late);
}

/// While no limit is known nobody can say how long: but not "at once", or who does as the refusal says spins.
#[tokio::test(start_paused = true)]
async fn without_a_wait_while_nothing_is_known() {
    let office = Office::new(meter().max_wait(secs(0.0)));
    let _calls = office.many(4);
    settled().await;
    let answer = office.answer_to("fifth").await;
    let (refused, _) = refusal(&answer);
    assert_eq!(refused.wait(), Some(secs(1.0)));
    assert_eq!(answer.unwrap_err().to_string(), "refused by the quota meter: would wait 1.0s, and may not wait at all");
}

#[tokio::test(start_paused = true)]
async fn a_closed_gate_counts_as_waiting() {
    let office = Office::new(meter().max_wait(secs(5.0)));
    let _call = office.call("limited");
    settled().await;
    office.desk.answer("limited", later("10")).await;
    let answer = office.answer_to("next").await;
    assert!(refusal(&answer).0.wait().unwrap() >= secs(10.0));
    sleep(secs(7.5)).await;
    let _next = office.call("next");
    sleep(secs(5.1)).await;
    assert_eq!(office.desk.open(), ["next"]);
}

#[tokio::test(start_paused = true)]
async fn when_so_many_wait_already() {
    let office = Office::with_left(meter().max_queue(nz!(3)), 60, 0).await;
    let mut calls = office.many(3);
    settled().await;
    let answer = office.answer_to("one too many").await;
    let (refused, reason) = refusal(&answer);
    assert!(matches!(reason, Refusal::QueueFull { waiting: 3, .. }), "{reason:?}");
    let wait = refused.wait().unwrap();
    assert!(wait > secs(3.9) && wait < secs(4.1), "{wait:?}");
    // A place that is given up can be had.
    calls.pop().unwrap().abort();
    settled().await;
    let _now = office.call("now");
    sleep(secs(5.0)).await;
    assert_eq!(office.sent_after(1), ["0", "1", "now"]);
}

#[tokio::test(start_paused = true)]
async fn larger_than_the_whole_quota() {
    let office = Office::new(meter());
    let _call = office.call("0");
    settled().await;
    office.desk.answer("0", limits(reply(200), "tokens", 1_000, 1_000, "0s")).await;
    let answer = office.answer_of(costing("whale", 1_001)).await;
    let (refused, reason) = refusal(&answer);
    assert!(matches!(reason, Refusal::TooLarge { tokens: 1_001, limit: 1_000, .. }), "{reason:?}");
    assert_eq!(refused.wait(), None, "no wait would help");
    // As large as the whole quota fits, whatever the margin.
    let _whole = office.send(costing("whole", 1_000));
    settled().await;
    assert_eq!(office.desk.open(), ["whole"]);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_counted_and_take_nothing() {
    let office = Office::with_left(meter().max_wait(ms(1)), 60, 0).await;
    for _ in 0..10 {
        refusal(&office.answer_to("refused").await);
    }
    let now = office.meter.snapshot();
    assert_eq!((now.counts.refused, now.counts.sent, now.waiting, now.in_flight), (10, 1, 0, 0));
    assert_eq!(now.requests.unwrap().remaining, 0.0);
}

#[tokio::test(start_paused = true)]
async fn what_may_leave_at_once_leaves_though_its_deadline_is_now() {
    let office = Office::with_left(meter().max_wait(secs(0.0)), 60, 5).await;
    let now = Call::now().with_deadline(Instant::now());
    let _call = office.send(with(named("now"), now));
    settled().await;
    assert_eq!(office.desk.open(), ["now"]);
}

/// Its time was reckoned when it came, and turned out longer: it is not sent after its deadline.
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_is_refused_when_its_deadline_comes() {
    let office = Office::with_left(meter(), 60, 1).await;
    let _first = office.call("limited");
    settled().await;
    let call = Call::now().with_deadline(Instant::now() + secs(5.0));
    let waits = office.send(with(named("waits"), call));
    settled().await;
    let start = Instant::now();
    office.desk.answer("limited", later("60")).await;
    let answer = tokio::time::timeout(secs(3600.0), waits).await.expect("it ends").unwrap();
    assert!(matches!(refusal(&answer).1, Refusal::TooLong { .. }));
    assert!(start.elapsed() <= secs(5.1), "{:?}", start.elapsed());
    assert_eq!(office.meter.snapshot().waiting, 0);
}

/// Of limits that nobody knows yet no wait can be reckoned, but it can be ended.
#[tokio::test(start_paused = true)]
async fn the_longest_wait_holds_where_nothing_is_known_too() {
    let office = Office::new(meter().max_wait(secs(5.0)));
    let _in_flight = office.many(5);
    settled().await;
    // Where nothing at all is heard, calls leave one after another.
    sleep(ms(50)).await;
    office.desk.answer("0", reply(500)).await;
    settled().await;
    let start = Instant::now();
    let answer = tokio::time::timeout(secs(3600.0), office.call("fifth")).await.expect("it ends").unwrap();
    assert!(matches!(refusal(&answer).1, Refusal::TooLong { .. }));
    assert_eq!(start.elapsed().as_secs(), 5);
}
