//! What the layers may cost where it can be told exactly: allocations, and the size of futures. The rest is in
//! `cargo bench --bench overhead`, whose rows these are.

#[path = "../../benches/overhead/checks.rs"]
mod checks;
#[path = "../../benches/overhead/harness.rs"]
mod harness;
#[path = "../../benches/overhead/line.rs"]
#[allow(dead_code, reason = "the rows themselves are the bench's")]
mod line;
#[path = "../../benches/overhead/ours.rs"]
mod ours;

use std::collections::HashMap;

use harness::allocations;

/// The list of headers that a retry keeps.
const KEPT_HEADERS: f64 = 1.0;
/// The first extension: the map's box, its table, and the value's box.
const FIRST_EXTENSION: f64 = 3.0;
/// A header more than fit.
const HEADER_GROWTH: f64 = 1.0;

/// What passing over nested JSON takes.
const NESTED_JSON: f64 = 1.0;

// One test: the counts are of all threads.
#[test]
fn the_path_that_does_not_wait_costs_no_more_than_allowed() {
    let rows: HashMap<_, _> = ours::happy()
        .into_iter()
        .chain(checks::cases())
        .map(|mut case| {
            let (allocations, _) = allocations(&mut case);
            (case.name, (case.over, allocations, case.future_bytes))
        })
        .collect();

    for (name, most) in [
        (ours::RETRY, KEPT_HEADERS + FIRST_EXTENSION),
        (ours::RETRY_UNMARKED, KEPT_HEADERS),
        // Beside a header put in by hand, which makes the map grow just so.
        (ours::KEY, FIRST_EXTENSION),
        (ours::KEY_UNMARKED, 0.0),
        (ours::KEY_CALL, 0.0),
        (ours::METER, 0.0),
        (ours::METER_6, 0.0),
        (ours::METER_12, 0.0),
        (ours::METER_SCOPED, NESTED_JSON),
        (ours::CLASSIFY, 0.0),
        (ours::CLASSIFY_429, 8.0),
        (ours::STACK, KEPT_HEADERS + FIRST_EXTENSION + HEADER_GROWTH),
        (ours::STACK_6, KEPT_HEADERS + FIRST_EXTENSION + HEADER_GROWTH),
        (ours::STACK_12, KEPT_HEADERS + FIRST_EXTENSION + HEADER_GROWTH),
    ] {
        let (over, allocations, future_bytes) = rows[name];
        let more = allocations - rows[over.expect("a row to compare with")].1;
        assert!(more <= most, "{name}: {more} allocations more than without it, and {most} are allowed");
        assert!(future_bytes < 512, "{name}: a future of {future_bytes} bytes");
    }

    // A body in memory is read where it lies.
    let checked: Vec<_> = rows.iter().filter(|(name, _)| name.starts_with("RequestCheck")).collect();
    assert!(checked.len() >= 6, "{}", checked.len());
    for (name, (over, allocations, future_bytes)) in checked {
        let more = allocations - rows[over.expect("a row to compare with")].1;
        assert!(more <= 0.0, "{name}: {more} allocations more than without it");
        assert!(*future_bytes < 512, "{name}: a future of {future_bytes} bytes");
    }

    for mut case in ours::one_retry() {
        let (allocations, _) = allocations(&mut case);
        assert!(allocations <= 22.0, "{}: {allocations} allocations", case.name);
    }

    let bytes = line::bytes_each();
    assert!(bytes < 400.0, "one that waits takes {bytes} bytes beside its future");
}
