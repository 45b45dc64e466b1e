//! What the stack promises of a whole batch, in virtual time, so exact. The whole grid: `cargo bench --bench makespan`.

#[path = "../../benches/makespan/scenario.rs"]
mod scenario;

use scenario::{HEADERS, Scenario};
use tower::BoxError;

async fn assert_within(scenario: Scenario, ratio: f64, wasted: f64) -> Result<(), BoxError> {
    let figures = scenario.run(1).await?;
    assert_eq!(figures.failed, 0, "{figures:?}");
    assert!(figures.ratio <= ratio, "{figures:?}");
    assert!(figures.wasted <= wasted, "{figures:?}");
    // Bound by the rate, all wait alike.
    if scenario.workers as u64 * 2 >= scenario.requests {
        assert!(figures.spread <= 1.15, "{figures:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn limits_learned_from_headers_are_used_up_and_no_call_is_wasted() -> Result<(), BoxError> {
    for (requests, workers) in [(60, 64), (500, 8), (500, 64), (500, 512)] {
        assert_within(Scenario { requests, workers, ..HEADERS }, 1.012, 0.0).await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn bound_by_tokens_that_are_a_tenth_off_the_estimate() -> Result<(), BoxError> {
    assert_within(Scenario { requests: 600, tokens: 18_000, workers: 64, ..HEADERS }, 1.02, 0.005).await
}

#[tokio::test(start_paused = true)]
async fn without_headers_the_rate_is_learned_from_refusals() -> Result<(), BoxError> {
    assert_within(Scenario { headers: false, ..HEADERS }, 1.03, 0.005).await?;
    assert_within(Scenario { headers: false, retry_after: false, ..HEADERS }, 1.03, 0.005).await
}

#[tokio::test(start_paused = true)]
async fn a_hidden_limit_is_found() -> Result<(), BoxError> {
    assert_within(Scenario { hidden: true, ..HEADERS }, 1.04, 0.004).await
}
