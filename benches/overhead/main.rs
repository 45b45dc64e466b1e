//! What the layers cost: `cargo bench --bench overhead`, with `-- --json` as JSON lines.
//!
//! Bare service, each layer alone and the stack in one run: nanoseconds (the least of 400 interleaved rounds),
//! allocations and bytes, instructions where valgrind is installed, and the size of the future; of a whole call, with
//! what it is more than the bare service's. Nanoseconds drift with the machine; the rest repeats.

mod callgrind;
mod checks;
mod harness;
mod line;
mod ours;
mod report;

fn main() {
    if !callgrind::is_on() {
        line::print();
    }
    report::main(
        || report::Table {
            name: "happy",
            title: "Calls that need no wait",
            cases: [ours::happy(), checks::cases(), line::cases()].into_iter().flatten().collect(),
        },
        || report::Table { name: "retry", title: "One retry, whole call, in paused time", cases: ours::one_retry() },
    );
}
