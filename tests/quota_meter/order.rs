//! Order of arrival, over all attempts of a call.

use tokio::time::{Instant, sleep};
use tower::{Layer, Service};
use tower_outbound::{Call, quota_meter::QuotaMeterLayer};

use super::{Office, costing, limits, meter};
use crate::common::{Desk, ms, named, reply, secs, settled, with};

#[tokio::test(start_paused = true)]
async fn calls_leave_in_the_order_in_which_they_came() {
    let office = Office::with_left(meter(), 60, 1).await;
    let _calls = office.calls(["a", "b", "c", "d"]);
    sleep(secs(10.0)).await;
    assert_eq!(office.sent_after(1), ["a", "b", "c", "d"]);
}

/// Where no answer ever named a limit, calls leave and end without a look at the clock: those in line are not forgotten.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_place_has_the_next_that_is_free() {
    let office = Office::new(QuotaMeterLayer::fixed().seed(1));
    for n in 0..100 {
        let call = office.call(&format!("before {n}"));
        settled().await;
        office.desk.answer_all(|| reply(200)).await;
        call.await.unwrap().unwrap();
    }
    let window = office.meter.snapshot().window as usize;
    let _in_flight = office.many(window);
    settled().await;
    let _waiting = office.calls(["a", "b"]);
    settled().await;
    assert_eq!(office.desk.count(), 100 + window);
    let start = Instant::now();
    office.desk.answer("1", reply(200)).await;
    settled().await;
    office.desk.answer("0", reply(200)).await;
    let _late = office.call("c");
    settled().await;
    assert_eq!(office.sent_after(100 + window)[..2], ["a", "b"]);
    assert_eq!(start.elapsed(), ms(0), "at once");
}

/// The number of arrival is drawn where the call is made, and holds through every layer.
#[tokio::test(start_paused = true)]
async fn who_came_earlier_goes_first_whatever_came_in_between() {
    let office = Office::with_left(meter(), 60, 0).await;
    let earliest = Call::now();
    let _calls = office.calls(["b", "c"]);
    settled().await;
    let _early = office.send(with(named("a"), earliest));
    sleep(secs(10.0)).await;
    assert_eq!(office.sent_after(1), ["a", "b", "c"]);
}

/// Two attempts of one call at once, as hedging makes them.
#[tokio::test(start_paused = true)]
async fn two_with_one_number_are_two() {
    let office = Office::with_left(meter(), 60, 0).await;
    let call = Call::now();
    let _other = office.call("b");
    let twice = ["a1", "a2"].map(|name| office.send(with(named(name), call.clone())));
    sleep(secs(10.0)).await;
    assert_eq!(office.sent_after(1), ["a1", "a2", "b"]);
    drop(twice);
}

/// A large one at the head is waited for: else a stream of small ones would keep it there forever.
#[tokio::test(start_paused = true)]
async fn nobody_overtakes_a_large_call() {
    let office = Office::new(meter());
    let _call = office.call("0");
    settled().await;
    office.desk.answer("0", limits(reply(200), "tokens", 6_000, 500, "55s")).await;
    let start = Instant::now();
    let _large = office.send(costing("large", 5_000));
    settled().await;
    let _small = office.send(costing("small", 1));
    sleep(secs(60.0)).await;
    assert_eq!(office.sent_after(1), ["large", "small"]);
    assert!(office.desk.times(start)[1] >= secs(49.9));
}

#[tokio::test(start_paused = true)]
async fn nobody_slips_in_where_others_wait() {
    let office = Office::with_left(meter(), 60, 0).await;
    let _waiting = office.call("a");
    sleep(ms(999)).await;
    let _late = office.call("b");
    sleep(ms(1)).await;
    // It comes when there is room for one, and before the one who waits has looked.
    let _later = office.call("c");
    sleep(secs(5.0)).await;
    assert_eq!(office.sent_after(1), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_retry_every_call_has_a_number_of_its_own() {
    let layer = meter();
    let desk = Desk::default();
    let mut service = layer.layer(desk.clone());
    let _calls: Vec<_> = (0..20).map(|n| tokio::spawn(service.call(named(&n.to_string())))).collect();
    settled().await;
    for n in 0..20 {
        desk.answer(&n.to_string(), reply(200)).await;
    }
    assert_eq!(desk.sent(), (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
}
