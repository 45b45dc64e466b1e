//! Classes: the urgent first, and none starves.

use tokio::time::{Instant, sleep};
use tower_outbound::Priority;

use super::{Office, costing, limits, meter};
use crate::common::{named, reply, secs, settled, with};

fn classed(name: &str, priority: Priority) -> http::Request<crate::common::Text> {
    with(named(name), priority)
}

#[tokio::test(start_paused = true)]
async fn the_urgent_go_first_and_equals_in_order_of_arrival() {
    let office = Office::with_left(meter(), 60, 0).await;
    let _calls = [
        ("b1", Priority::Batch),
        ("n1", Priority::Normal),
        ("b2", Priority::Batch),
        ("i1", Priority::Interactive),
        ("i2", Priority::Interactive),
    ]
    .map(|(name, priority)| office.send(classed(name, priority)));
    let _unmarked = office.call("n2");
    sleep(secs(10.0)).await;
    assert_eq!(office.sent_after(1), ["i1", "i2", "n1", "n2", "b1", "b2"]);
}

/// However many come, and though more come than may leave: each tenth turn is for each class that waits.
#[tokio::test(start_paused = true)]
async fn a_flood_of_urgent_calls_leaves_each_tenth_turn_to_others() {
    let office = Office::with_left(meter(), 60, 0).await;
    let _normal: Vec<_> = (0..20).map(|_| office.send(classed("n", Priority::Normal))).collect();
    let _batch: Vec<_> = (0..20).map(|_| office.send(classed("b", Priority::Batch))).collect();
    let mut flood = Vec::new();
    for _ in 0..100 {
        flood.extend((0..2).map(|_| office.send(classed("i", Priority::Interactive))));
        sleep(secs(1.0)).await;
        office.desk.answer_all(|| reply(200)).await;
    }
    let sent = office.sent_after(1);
    for window in sent.windows(11) {
        assert!(["n", "b"].iter().all(|class| window.iter().any(|name| name == class)), "{window:?}");
    }
    let share = |class: &str| sent.iter().filter(|name| *name == class).count();
    assert!((8..=12).contains(&share("n")) && (8..=12).contains(&share("b")), "{sent:?}");
}

/// Small urgent calls would each fit, and keep the tokens from ever being enough for a large one.
#[tokio::test(start_paused = true)]
async fn a_large_batch_call_is_waited_for_when_it_is_due() {
    let office = Office::new(meter());
    let _call = office.call("0");
    settled().await;
    office.desk.answer("0", limits(reply(200), "tokens", 6_000, 500, "55s")).await;
    let start = Instant::now();
    let _large = office.send(with(costing("large", 5_000), Priority::Batch));
    let mut small = Vec::new();
    while !office.desk.sent().iter().any(|name| name == "large") {
        assert!(start.elapsed() < secs(120.0), "it starves: {:?}", office.meter.snapshot());
        small.push(office.send(with(costing("small", 20), Priority::Interactive)));
        sleep(secs(1.0)).await;
        office.desk.answer_all(|| reply(200)).await;
    }
    // What came after nine had passed it waits for it.
    let (sent, times) = (office.desk.sent(), office.desk.times(start));
    let left = times[sent.iter().position(|name| name == "large").unwrap()];
    assert_eq!(times[1..].iter().filter(|time| **time < left).count(), 9, "{sent:?}");
}

/// A line of calls that nobody is in a hurry for keeps no urgent one waiting.
#[tokio::test(start_paused = true)]
async fn an_urgent_call_passes_a_long_line_of_batch_calls() {
    let office = Office::with_left(meter(), 60, 0).await;
    let _batch: Vec<_> = (0..500).map(|_| office.send(classed("b", Priority::Batch))).collect();
    sleep(secs(3.5)).await;
    let start = Instant::now();
    let _urgent = office.send(classed("i", Priority::Interactive));
    sleep(secs(1.0)).await;
    assert_eq!(office.sent_after(1).last().map(String::as_str), Some("i"), "{:?}", start.elapsed());
}
