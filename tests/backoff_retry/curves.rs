//! Backoff curves and jitter, as plain functions: constants, bounds, and no overflow anywhere.

use std::time::Duration;

use proptest::prelude::*;
use tower_outbound::backoff_retry::{Backoff, Jitter};

use crate::common::{ms, secs};

fn waits(backoff: &Backoff, random: f64) -> Vec<Duration> {
    let mut last = Duration::ZERO;
    (1..=8)
        .map(|retry| {
            last = backoff.wait(retry, last, random);
            last
        })
        .collect()
}

fn in_ms(waits: impl IntoIterator<Item = Duration>) -> Vec<u128> {
    waits.into_iter().map(|wait| wait.as_millis()).collect()
}

#[test]
fn the_curves() {
    let plain = |backoff: Backoff| in_ms(waits(&backoff.jitter(Jitter::None), 0.5));
    assert_eq!(plain(Backoff::exponential(ms(500))), [500, 1000, 2000, 4000, 8000, 8000, 8000, 8000]);
    assert_eq!(plain(Backoff::exponential(ms(1000)).cap(secs(20.0)))[3..], [8000, 16_000, 20_000, 20_000, 20_000]);
    assert_eq!(plain(Backoff::constant(ms(1500))), [1500; 8]);
    assert_eq!(plain(Backoff::constant(ms(15_000))), [15_000; 8], "the cap is for what grows");
    assert_eq!(plain(Backoff::fibonacci(ms(100))), [100, 100, 200, 300, 500, 800, 1300, 2100]);
    assert_eq!(plain(Backoff::from_fn(|retry| ms(7) * retry)), [7, 14, 21, 28, 35, 42, 49, 56]);
}

#[test]
fn the_jitters_at_their_ends() {
    let at = |jitter, random| in_ms(waits(&Backoff::exponential(ms(1000)).jitter(jitter), random))[..3].to_vec();
    assert_eq!(at(Jitter::Full, 0.0), [0, 0, 0]);
    assert_eq!(at(Jitter::Full, 1.0), [1000, 2000, 4000]);
    assert_eq!(at(Jitter::Equal, 0.0), [500, 1000, 2000]);
    assert_eq!(at(Jitter::Equal, 1.0), [1000, 2000, 4000]);
    assert_eq!(at(Jitter::Proportional(0.25), 0.0), [1000, 2000, 4000]);
    assert_eq!(at(Jitter::Proportional(0.25), 1.0), [750, 1500, 3000]);
    // Between the first wait and three times the last.
    assert_eq!(at(Jitter::Decorrelated, 0.0), [1000, 1000, 1000]);
    assert_eq!(at(Jitter::Decorrelated, 1.0), [3000, 8000, 8000]);
    assert_eq!(at(Jitter::Decorrelated, 0.5), [2000, 3500, 5750]);
}

#[test]
fn retries_are_counted_from_one_and_naught_is_as_the_first() {
    let backoff = Backoff::exponential(secs(1.0)).jitter(Jitter::None);
    assert_eq!(backoff.wait(0, Duration::ZERO, 0.0), secs(1.0));
    assert_eq!(backoff.wait(1, Duration::ZERO, 0.0), secs(1.0));
    assert_eq!(backoff.wait(u32::MAX, Duration::ZERO, 0.0), secs(8.0));
}

#[test]
fn nothing_waits_for_nothing() {
    for backoff in [Backoff::exponential, Backoff::constant, Backoff::fibonacci] {
        for retry in [1, 2, 1000, u32::MAX] {
            assert_eq!(backoff(Duration::ZERO).wait(retry, Duration::ZERO, 1.0), Duration::ZERO);
        }
    }
}

/// Without a cap the longest wait there is, not a panic and not nothing.
#[test]
fn growth_past_all_bounds_saturates() {
    for backoff in [Backoff::exponential(secs(1.0)), Backoff::fibonacci(Duration::MAX / 2)] {
        let backoff = backoff.cap(Duration::MAX).jitter(Jitter::None);
        assert_eq!(backoff.wait(u32::MAX, Duration::ZERO, 1.0), Duration::MAX);
    }
    let unit = Duration::from_nanos(1);
    let last = Backoff::fibonacci(unit).cap(Duration::MAX).jitter(Jitter::None).wait(u32::MAX, Duration::ZERO, 0.0);
    assert_eq!(last, unit * u32::MAX);
}

#[test]
fn chance_that_is_no_share_is_made_one() {
    let backoff = Backoff::constant(secs(1.0));
    for (random, expected) in [(-1.0, 0.0), (2.0, 1.0), (f64::NAN, 1.0), (f64::INFINITY, 1.0), (f64::NEG_INFINITY, 1.0)]
    {
        assert_eq!(backoff.wait(1, Duration::ZERO, random), secs(expected), "{random}");
    }
    for share in [-1.0, 0.0, 3.0, f64::NAN, f64::INFINITY] {
        let wait = backoff.clone().jitter(Jitter::Proportional(share)).wait(1, Duration::ZERO, 0.5);
        assert!(wait <= secs(1.0), "{share}: {wait:?}");
    }
}

fn any_jitter() -> impl Strategy<Value = Jitter> {
    prop_oneof![
        Just(Jitter::None),
        Just(Jitter::Full),
        Just(Jitter::Equal),
        Just(Jitter::Decorrelated),
        any::<f64>().prop_map(Jitter::Proportional),
    ]
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        3 => (0_u64..100_000).prop_map(Duration::from_millis),
        1 => (any::<u64>(), 0_u32..1_000_000_000).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
        1 => Just(Duration::MAX),
        1 => Just(Duration::ZERO),
    ]
}

fn any_curve() -> impl Strategy<Value = Backoff> {
    prop_oneof![
        any_duration().prop_map(Backoff::exponential),
        any_duration().prop_map(Backoff::constant),
        any_duration().prop_map(Backoff::fibonacci),
        any_duration().prop_map(|wait| Backoff::from_fn(move |_| wait)),
    ]
}

proptest! {
    /// Whatever comes in: never a panic, and never more than the cap.
    #[test]
    fn no_wait_is_over_the_cap(
        curve in any_curve(), jitter in any_jitter(), cap in any_duration(),
        retry in any::<u32>(), last in any_duration(), random in any::<f64>(),
    ) {
        let wait = curve.cap(cap).jitter(jitter).wait(retry, last, random);
        // Seconds as a float have 15 digits.
        prop_assert!(wait.as_secs_f64() <= cap.as_secs_f64() * (1.0 + 1e-15) + 1e-9, "{wait:?}");
    }

    /// Each jitter keeps to the range in its docs, and within it grows with chance.
    #[test]
    fn jitter_keeps_to_its_range(retry in 1_u32..20, last in 0_u64..100_000, low in 0.0..1.0, high in 0.0..1.0, share in 0.0..1.0) {
        let (low, high) = if low < high { (low, high) } else { (high, low) };
        let backoff = Backoff::exponential(ms(500)).cap(secs(60.0));
        let last = ms(last);
        let full = backoff.clone().jitter(Jitter::None).wait(retry, last, 0.0);
        let of = |jitter, random| backoff.clone().jitter(jitter).wait(retry, last, random);
        let hair = Duration::from_nanos(2);
        prop_assert!(of(Jitter::Full, high) <= full);
        prop_assert!(of(Jitter::Full, low) <= of(Jitter::Full, high));
        prop_assert!(of(Jitter::Equal, low) + hair >= full / 2 && of(Jitter::Equal, high) <= full);
        let least = full.mul_f64(1.0 - share);
        prop_assert!(of(Jitter::Proportional(share), high) + hair >= least);
        prop_assert!(of(Jitter::Proportional(share), low) <= full + hair);
        let far = (last.max(ms(500)) * 3).min(secs(60.0));
        prop_assert!(of(Jitter::Decorrelated, low) >= ms(500) && of(Jitter::Decorrelated, high) <= far + hair);
    }

    #[test]
    fn waits_never_shrink_from_retry_to_retry(retry in 1_u32..60, fibonacci in any::<bool>()) {
        let backoff = if fibonacci { Backoff::fibonacci(ms(10)) } else { Backoff::exponential(ms(10)) };
        let backoff = backoff.cap(Duration::MAX).jitter(Jitter::None);
        prop_assert!(backoff.wait(retry, ms(0), 0.0) <= backoff.wait(retry + 1, ms(0), 0.0));
    }
}
