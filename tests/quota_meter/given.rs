//! Limits that the caller names: never early, and exactly on time.

use std::num::NonZeroU64;

use proptest::prelude::*;
use tokio::time::Instant;
use tower_outbound::{QuotaMeterLayer, nz, quota_meter::Quota};

use super::{Office, costing, meter, refusal};
use crate::common::{secs, settled};

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_early_and_exactly_on_time(
        amount in 1_u64..2_000, unit in 0_usize..4, burst in 1_u64..50, share in 0.05..1.0_f64, calls in 1_usize..30,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let amount_ = NonZeroU64::new(amount).unwrap();
            let make = [Quota::per_second, Quota::per_minute, Quota::per_hour, Quota::per_day][unit];
            let period = [1.0, 60.0, 3_600.0, 86_400.0][unit];
            let quota = make(amount_).burst(NonZeroU64::new(burst).unwrap()).share(share);
            let capacity = (amount as f64 * share).max(1.0).min(burst as f64).max(1.0);
            let refill = amount as f64 * share / period;
            let office = Office::new(QuotaMeterLayer::new().quota(quota));
            let start = Instant::now();
            let all = office.many(calls);
            let due = |place: usize| ((place as f64 + 1.0 - capacity) / refill).max(0.0);
            // Timers tick in milliseconds, and what flows in past the brim meanwhile is lost.
            let late = |place: usize| if capacity < 1.0 + 0.001 * refill { 0.001 * (place as f64 + 2.0) } else { 0.002 };
            tokio::time::sleep(secs(due(calls - 1) + late(calls))).await;
            let times = office.desk.times(start);
            prop_assert_eq!(times.len(), calls);
            for (place, time) in times.iter().enumerate() {
                let (time, due, late) = (time.as_secs_f64(), due(place), late(place));
                prop_assert!(time >= due - 1e-6 && time < due + late + due * 1e-9, "{} at {}, due {}", place, time, due);
            }
            drop(all);
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn a_senseless_share_is_held_within_bounds() {
    for (share, expected) in [(f64::NAN, 60.0), (7.0, 60.0), (0.5, 30.0), (-1.0, 1.0), (f64::INFINITY, 60.0)] {
        let level = meter().quota(Quota::per_minute(nz!(60)).share(share)).snapshot().requests.unwrap();
        assert_eq!(level.limit, expected, "{share}");
    }
}

#[tokio::test(start_paused = true)]
async fn more_tokens_than_are_given_are_refused() {
    let quota = Quota::learned().tokens_per_minute(nz!(1_000));
    let office = Office::new(meter().quota(quota));
    let answer = office.send(costing("whale", 1_001)).await.unwrap();
    assert!(matches!(refusal(&answer).1, tower_outbound::quota_meter::Refusal::TooLarge { .. }));
    let _fits = office.send(costing("fish", 1_000));
    settled().await;
    assert_eq!(office.desk.open(), ["fish"]);
}
