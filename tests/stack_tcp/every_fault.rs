//! Every fault at once, over servers that say more or less of their limits.

use tower_outbound::{
    ErrorKind,
    mock::{Faults, Limit, Limits, MockApi, MockApiBuilder},
};

use super::{End, is_stream, ms, run, wire::Account};

const ITEMS: usize = 160;

fn server(seed: u64) -> MockApiBuilder {
    // The short one under it is what the calls run into, on a slow machine too: its bucket holds two.
    let limits = Limits::none().requests(Limit::per(500, ms(2_000))).hidden(Limit::per(2, ms(12)));
    MockApi::builder()
        .seed(seed)
        .faults(Faults::each(0.04).html_429(0.5))
        .limits(limits)
        .network(ms(0)..=ms(3))
        .service_time(ms(1)..=ms(30))
}

async fn nothing_is_lost(api: MockApi, whole: bool) {
    let account = Account::new(whole);
    let ends = run(&api, &account, ITEMS, 48).await;
    account.assert_agrees_with(&api);

    // A body that breaks off after a good head is its caller's, who has seen a part of it, and nobody else's.
    let mut broken = 0;
    for (item, end) in ends.iter().enumerate() {
        match end {
            End::Answered => {}
            End::Failed(ErrorKind::Unavailable) if is_stream(item) || !whole => broken += 1,
            End::Failed(kind) => panic!("item {item} failed: {kind:?}"),
        }
    }
    let counters = api.counters();
    assert!(broken <= counters.broken, "{broken} of {counters:?}");
    // Nothing of what can go wrong has not gone wrong.
    for status in [200, 429, 500, 502, 503] {
        assert!(counters.by_status.contains_key(&status), "no {status}: {counters:?}");
    }
    assert!(counters.dropped > 0 && counters.broken > 0, "{counters:?}");
    assert!(account.calls() >= counters.calls);
}

#[tokio::test]
async fn with_headers_and_hints_and_429s_that_count() {
    nothing_is_lost(server(1).retry_after_ms(true).build(), true).await;
}

#[tokio::test]
async fn without_any_word_of_limits() {
    nothing_is_lost(server(2).rate_headers(false).retry_after(false).build(), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_two_threads_with_429s_that_do_not_count() {
    nothing_is_lost(server(3).retry_after_ms(true).rejected_count(false).build(), true).await;
}

#[tokio::test]
async fn with_bodies_that_stream_through() {
    nothing_is_lost(server(4).rate_headers(false).retry_after_ms(true).build(), false).await;
}
