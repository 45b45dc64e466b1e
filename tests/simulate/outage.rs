//! What must hold of every run, and what an outage shows.

use std::time::Duration;

use tower_outbound::{
    backoff_retry::{Attempt, Backoff, BackoffRetryLayer, Budget, Decision, Standard, StopReason},
    mock::simulate::{Contention, Mean, Outage, Run},
    nz,
};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn no_retry() -> BackoffRetryLayer {
    BackoffRetryLayer::new().policy(Standard::new().max_attempts(nz!(1)))
}

/// Every attempt ended in one way, but for the few that were under way at the end.
fn assert_counts(run: &Run) {
    let sum = |part: fn(&tower_outbound::mock::simulate::Slot) -> u64| run.slots.iter().map(part).sum::<u64>();
    assert_eq!((sum(|slot| slot.calls), sum(|slot| slot.attempts)), (run.calls, run.attempts));
    assert_eq!(sum(|slot| slot.served), run.succeeded);
    let ended = sum(|slot| slot.served + slot.refused + slot.timed_out);
    assert!(ended <= run.attempts, "{ended} of {}", run.attempts);
    assert!(run.succeeded + run.failed <= run.calls);
    assert!(run.peak_load() >= run.load() * 0.99 || run.slots.len() < 2);
}

/// And as to the few: with a time limit of a slot, none is older than the last three.
fn assert_ended(run: &Run) {
    assert_counts(run);
    let ended = run.slots.iter().map(|slot| slot.served + slot.refused + slot.timed_out).sum::<u64>();
    let late = run.slots.iter().rev().take(3).map(|slot| slot.attempts).sum::<u64>();
    assert!(run.attempts - ended <= late, "{} of {} never ended, {late} may", run.attempts - ended, run.attempts);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let outage = Outage::new().length(secs(60)).retry_after(secs(2));
    let layer = BackoffRetryLayer::new();
    let run = outage.run(&layer, 7);
    assert_ended(&run);
    assert_eq!(run, outage.run(&layer, 7));
    assert_ne!(run, outage.run(&layer, 8));
    assert_eq!(Contention::new(20).run(&layer, 7), Contention::new(20).run(&layer, 7));
}

#[test]
fn a_server_that_is_well_serves_all() {
    let outage = Outage::new().outage(secs(500), secs(1));
    let run = outage.run(&BackoffRetryLayer::openai_sdk(), 1);
    assert_ended(&run);
    assert!((run.calls as f64 / (200.0 * 120.0) - 1.0).abs() < 0.05, "{}", run.calls);
    assert_eq!((run.failed, run.wasted, run.recovered), (0, 0, None));
    assert!(run.calls - run.succeeded < 20 && run.attempts <= run.calls);
}

#[test]
fn without_a_budget_retries_keep_a_server_down() {
    let outage = Outage::new().silent();
    let unlimited = BackoffRetryLayer::new().budget(Budget::unlimited());
    let shared = BackoffRetryLayer::new();
    let mean = |layer: &BackoffRetryLayer| -> Mean {
        let runs: Vec<Run> = (0..3).map(|seed| outage.run(layer, seed)).collect();
        runs.iter().for_each(assert_ended);
        runs.iter().collect()
    };
    let (unlimited, shared, bare) = (mean(&unlimited), mean(&shared), mean(&no_retry()));
    // Full jitter and all: seventy seconds after the outage nearly everything is still worked on in vain.
    assert_eq!(unlimited.recovered, None);
    assert!(unlimited.success() < 0.3 && unlimited.load() > 2.0);
    assert!(shared.recovered.is_some_and(|after| after < secs(10)), "{shared:?}");
    assert!(shared.load() < 1.05);
    assert!((shared.success() / bare.success() - 1.0).abs() < 0.05);
}

/// What a process may retry however little it sends, many processes add up.
#[test]
fn the_default_floor_lets_a_server_of_many_quiet_clients_come_back() {
    let outage = Outage::new().clients(200, 1.0).silent();
    let floor = |per_second| BackoffRetryLayer::new().budget(Budget::share_of_traffic(0.1).floor(per_second));
    let run = outage.run(&BackoffRetryLayer::new(), 1);
    assert!(run.recovered.is_some_and(|after| after < secs(10)) && run.load() < 1.12, "{:?}", run.recovered);
    assert_eq!(outage.run(&floor(1.0), 1).recovered, None);
}

#[test]
fn each_client_has_a_budget_of_its_own() {
    // One retry in the life of each of 30 clients, and no more.
    let layer = BackoffRetryLayer::new().budget(Budget::retry_tokens(5));
    let run = Outage::new().clients(30, 2.0).outage(secs(0), secs(200)).length(secs(60)).run(&layer, 1);
    assert_eq!(run.succeeded, 0);
    assert!((run.attempts as i64 - run.calls as i64 - 30).abs() < 10, "{} of {}", run.attempts, run.calls);
    // The layer's own budget is untouched.
    assert_eq!(layer.tokens_left(), Some(5));
}

#[test]
fn a_hint_is_kept_to() {
    let policy = Standard::new().backoff(Backoff::constant(secs(1)));
    let outage = Outage::new().capacity(1000.0, 600).outage(secs(10), secs(20)).length(secs(60));
    let (told, untold) = (outage.clone().retry_after(secs(25)).run(&policy, 1), outage.run(&policy, 1));
    // Told to wait longer than it lasts, none comes back while it does.
    let during = |run: &Run| run.slots[15..30].iter().map(|slot| slot.attempts).sum::<u64>();
    assert!(during(&told) < during(&untold) / 2);
    assert!(told.succeeded > untold.succeeded);
}

#[test]
fn a_policy_that_gives_up_has_failures() {
    let stop = |_: &Attempt<'_>| Decision::Stop(StopReason::Policy);
    let run = Contention::new(30).run(&stop, 1);
    assert_counts(&run);
    assert_eq!((run.calls, run.attempts, run.succeeded + run.failed), (30, 30, 30));
    assert!(run.failed > 0);
}

#[test]
fn absurd_settings_do_no_harm() {
    let never = |_: &Attempt<'_>| Decision::Retry(Duration::MAX);
    let run = Contention::new(10).longest(Duration::MAX).run(&never, 1);
    assert!(run.succeeded > 0 && run.succeeded + run.failed < 10);
    assert_eq!(Contention::new(0).run(&never, 1).calls, 0);
    for number in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300] {
        let outage = Outage::new()
            .clients(2, if number > 1.0 { 100.0 } else { number })
            .capacity(number, u32::MAX)
            .outage(Duration::MAX, Duration::MAX)
            .time_limit(Duration::MAX)
            .network(Duration::MAX, Duration::MAX)
            .length(secs(20));
        assert_counts(&outage.clone().run(&never, 1));
        let outage = outage.outage(secs(1), Duration::MAX).time_limit(Duration::ZERO).network(secs(0), secs(0));
        assert_counts(&outage.silent().run(&BackoffRetryLayer::new(), 1));
    }
    assert_eq!(Outage::new().length(Duration::ZERO).run(&never, 1).calls, 0);
}

/// A server that answers in no time, and a policy that comes back in none: the clock must go on.
#[test]
fn attempts_that_take_no_time_do_not_stand_at_one_moment() {
    let at_once = |_: &Attempt<'_>| Decision::Retry(Duration::ZERO);
    let outage = Outage::new().clients(2, 1.0).network(secs(0), secs(0)).outage(secs(2), secs(2)).length(secs(6));
    for outage in [outage.clone(), outage.clone().time_limit(Duration::ZERO), outage.silent()] {
        assert_counts(&outage.run(&at_once, 1));
    }
    let run = Contention::new(20).network(secs(0), secs(0)).run(&at_once, 1);
    assert_eq!(run.succeeded, 20);
}
