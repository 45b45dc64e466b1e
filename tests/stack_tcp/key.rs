//! A key that is refused for a while, in the middle of it all.

use std::sync::atomic::Ordering::Relaxed;

use tokio::time::{Instant, sleep};
use tower_outbound::mock::{Faults, Limit, Limits, MockApi};

use super::{End, KEY, ms, run, wire::Account};

const WORKERS: usize = 32;

fn server() -> MockApi {
    MockApi::builder()
        .seed(5)
        .faults(Faults::each(0.02))
        .limits(Limits::none().requests(Limit::per(400, ms(2_000))))
        .service_time(ms(1)..=ms(20))
        .build()
}

/// Those in the air when it died, and one look in a while: no others are sent with it.
#[tokio::test]
async fn while_it_is_refused_one_call_in_a_while_looks() {
    let (api, account) = (server(), Account::new(true));
    let spoil = async {
        while api.counters().admitted < 150 {
            sleep(ms(1)).await;
        }
        api.revoke_key(KEY);
        let died = Instant::now();
        sleep(ms(700)).await;
        api.restore_key(KEY);
        died.elapsed()
    };
    let (ends, dead_for) = tokio::join!(run(&api, &account, 500, WORKERS), spoil);
    account.assert_agrees_with(&api);
    let failed = ends.iter().filter(|end| **end != End::Answered).count() as u64;
    assert!(failed <= api.counters().broken, "{failed} failed otherwise: {ends:?}");
    // All workers ask every 20 ms; the server hears little of it.
    let refused = account.refused.load(Relaxed);
    assert!(refused > 2 * WORKERS as u64, "{refused}");
    let looks = dead_for.as_millis() as u64 / 200 + 1;
    assert!(api.counters().refused <= WORKERS as u64 + looks, "{:?} in {dead_for:?}", api.counters());
}
