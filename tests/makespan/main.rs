//! What the stack promises of a whole batch, in virtual time, so exact. The whole grid: `cargo bench --bench makespan`.

#[path = "../../benches/makespan/scenario.rs"]
mod scenario;

use scenario::{HEADERS, Scenario};
use tower::BoxError;

/// The worst of these seeds, each in a virtual time of its own.
fn assert_within(
    scenario: Scenario,
    seeds: impl IntoIterator<Item = u64>,
    ratio: f64,
    wasted: f64,
) -> Result<(), BoxError> {
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let figures = runtime.block_on(scenario.run(seed))?;
        let cell = format!("{} a minute, {} workers, seed {seed}: {figures:?}", scenario.requests, scenario.workers);
        assert_eq!(figures.failed, 0, "{cell}");
        assert!(figures.ratio <= ratio, "{cell}");
        assert!(figures.wasted <= wasted, "{cell}");
        // Bound by the rate, all wait alike.
        if scenario.workers as u64 * 60 >= scenario.requests * 7 {
            assert!(figures.spread <= 1.15, "{cell}");
        }
    }
    Ok(())
}

#[test]
fn limits_learned_from_headers_are_used_up_and_no_call_is_wasted() -> Result<(), BoxError> {
    for (requests, workers) in [(60, 64), (500, 8), (500, 64), (500, 512)] {
        assert_within(Scenario { requests, workers, ..HEADERS }, 1..=2, 1.012, 0.0)?;
    }
    Ok(())
}

/// Seed 1 is the worst of many: the first four calls all take long, and a call of the last second fails.
#[test]
fn large_limits_are_used_from_the_start() -> Result<(), BoxError> {
    assert_within(Scenario { requests: 10_000, workers: 512, ..HEADERS }, [1], 1.012, 0.0)
}

#[test]
fn bound_by_tokens_that_are_a_tenth_off_the_estimate() -> Result<(), BoxError> {
    assert_within(Scenario { requests: 600, tokens: 18_000, workers: 64, ..HEADERS }, 1..=3, 1.02, 0.005)
}

#[test]
fn without_headers_the_rate_is_learned_from_refusals() -> Result<(), BoxError> {
    assert_within(Scenario { headers: false, ..HEADERS }, [1], 1.03, 0.005)?;
    assert_within(Scenario { headers: false, retry_after: false, ..HEADERS }, [2], 1.03, 0.005)?;
    // A few calls a second tell little: each refusal makes the guess a better one.
    assert_within(Scenario { requests: 60, headers: false, ..HEADERS }, 1..=3, 1.015, 0.03)
}

#[test]
fn a_hidden_limit_is_found() -> Result<(), BoxError> {
    assert_within(Scenario { hidden: true, ..HEADERS }, 1..=2, 1.04, 0.002)
}

#[test]
fn two_processes_share_what_is_there_in_equal_parts() -> Result<(), BoxError> {
    assert_within(Scenario { requests: 60, processes: 2, ..HEADERS }, 1..=2, 1.05, 0.005)?;
    assert_within(Scenario { processes: 2, ..HEADERS }, 1..=2, 1.05, 0.005)?;
    assert_within(Scenario { workers: 512, processes: 2, ..HEADERS }, [1], 1.05, 0.005)
}

#[test]
fn four_processes_find_their_parts_too() -> Result<(), BoxError> {
    assert_within(Scenario { workers: 512, processes: 4, ..HEADERS }, [1], 1.1, 0.01)?;
    // Of the three that come late, none takes the first one's burst for its rate.
    assert_within(Scenario { requests: 60, processes: 4, ..HEADERS }, 1..=4, 1.005, 0.0)
}
