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

/// A limit as the test keeps it: what it holds, what comes back in a second, whether of tokens.
#[derive(Clone, Copy, Debug)]
struct Kept(f64, f64, bool);

impl Kept {
    fn cost(self, tokens: u32) -> f64 {
        if self.2 { f64::from(tokens) } else { 1.0 }
    }
}

/// When each call left, held against every limit: at that moment there was room, and no more than a tick before there was
/// none, or the call before it left then.
fn held_against(limits: &[Kept], costs: &[u32], times: &[f64]) -> Result<(), TestCaseError> {
    let mut levels: Vec<f64> = limits.iter().map(|limit| limit.0).collect();
    let mut last = 0.0;
    for (place, (&time, &cost)) in times.iter().zip(costs).enumerate() {
        let mut due = last;
        for (limit, level) in limits.iter().zip(&mut levels) {
            let Kept(whole, refill, _) = *limit;
            due = f64::max(due, last + (limit.cost(cost) - *level) / refill);
            *level = (*level + refill * (time - last)).min(whole) - limit.cost(cost);
            prop_assert!(*level >= -1e-6 * whole, "{} at {}: {} of {:?}", place, time, level, limit);
        }
        prop_assert!(time <= due + 0.002 + due * 1e-9, "{} at {}, due {}", place, time, due);
        last = time;
    }
    Ok(())
}

/// When the calls would leave if no timer were late.
fn last_due(limits: &[Kept], costs: &[u32]) -> f64 {
    let sum = |limit: &Kept| costs.iter().map(|cost| limit.cost(*cost)).sum::<f64>() / limit.1;
    limits.iter().map(sum).sum()
}

async fn are_kept_to(quota: Quota, limits: &[Kept], costs: &[u32]) -> Result<(), TestCaseError> {
    let office = Office::new(QuotaMeterLayer::new().quota(quota));
    let start = Instant::now();
    let all: Vec<_> = costs.iter().enumerate().map(|(n, cost)| office.send(costing(&n.to_string(), *cost))).collect();
    tokio::time::sleep(secs(last_due(limits, costs) + 1.0)).await;
    let times: Vec<f64> = office.desk.times(start).iter().map(std::time::Duration::as_secs_f64).collect();
    prop_assert_eq!(times.len(), costs.len());
    drop(all);
    held_against(limits, costs, &times)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn several_at_once_are_each_kept_to(
        requests in (1_u64..30, 1_u64..40), tokens in (100_u64..2_000, 100_u64..4_000),
        costs in prop::collection::vec(1_u32..100, 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let nz = |amount| NonZeroU64::new(amount).unwrap();
        let quota = Quota::per_minute(nz(requests.0)).requests_per_day(nz(requests.1))
            .tokens_per_minute(nz(tokens.0)).tokens_per_day(nz(tokens.1));
        let kept = |amount: u64, period: f64, is_tokens| Kept(amount as f64, amount as f64 / period, is_tokens);
        let limits = [kept(requests.0, 60.0, false), kept(requests.1, 86_400.0, false),
            kept(tokens.0, 60.0, true), kept(tokens.1, 86_400.0, true)];
        runtime.block_on(are_kept_to(quota, &limits, &costs))?;
    }
}

/// As a free tier has it: 15 requests and 2,000 tokens a minute, and 40 requests a day.
#[tokio::test(start_paused = true)]
async fn a_free_tiers_triple_is_kept_to() {
    let quota = Quota::per_minute(nz!(15)).tokens_per_minute(nz!(2_000)).requests_per_day(nz!(40));
    let limits = [Kept(15.0, 0.25, false), Kept(2_000.0, 2_000.0 / 60.0, true), Kept(40.0, 40.0 / 86_400.0, false)];
    // The requests of a minute, then the tokens, then the day.
    let costs: Vec<u32> = [10; 20].into_iter().chain([500; 10]).chain([10; 15]).collect();
    are_kept_to(quota, &limits, &costs).await.unwrap();

    let office = Office::new(meter().quota(quota));
    let start = Instant::now();
    let _calls: Vec<_> = costs.iter().map(|cost| office.send(costing("a", *cost))).collect();
    let sent_by = |seconds: f64| office.desk.times(start).iter().filter(|time| **time <= secs(seconds)).count();
    tokio::time::sleep(secs(86_400.0)).await;
    assert_eq!([sent_by(0.5), sent_by(20.5), sent_by(600.0)], [15, 20, 40]);
}

/// However they are put.
#[tokio::test(start_paused = true)]
async fn none_is_dropped_for_another() {
    let quota = Quota::learned().tokens_per_minute(nz!(9)).tokens_per_day(nz!(7)).tokens_per_hour(nz!(8));
    let office = Office::new(meter().quota(quota));
    let answer = office.answer_of(costing("whale", 8)).await;
    assert!(matches!(refusal(&answer).1, tower_outbound::quota_meter::Refusal::TooLarge { limit: 7, .. }));
    let quota = Quota::per_day(nz!(100)).requests_per_second(nz!(2)).requests_per_hour(nz!(5)).burst(nz!(1));
    let office = Office::new(meter().quota(quota));
    let start = Instant::now();
    let _calls = office.many(7);
    tokio::time::sleep(secs(800.0)).await;
    // What leaves at once is a matter of the shortest.
    let times: Vec<u64> = office.desk.times(start).iter().map(|time| time.as_millis() as u64 / 10).collect();
    assert_eq!(times, [0, 50, 100, 150, 200, 72_000]);
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
