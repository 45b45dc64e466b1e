//! Measures the rows and prints the tables.

use std::{env, time::Duration};

use serde_json::json;

use crate::{
    callgrind,
    harness::{Case, allocations},
};

/// One table: its name in the JSON, what it shows, and its rows.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) cases: Vec<Case>,
}

struct Row {
    name: &'static str,
    over: Option<usize>,
    future_bytes: usize,
    allocations: f64,
    bytes: f64,
    /// The least and the middle of all rounds.
    nanoseconds: (f64, f64),
    instructions: Option<f64>,
}

/// How often each row is timed, and how many calls are one timing.
struct Effort {
    rounds: usize,
    calls: u32,
}

/// Runs a bench of these tables: the one whose calls need no wait, then, in the same process, the one in paused time.
///
/// `--bench`, as `cargo bench` gives it, measures; without it, as in `cargo test --benches`, it only looks whether all
/// runs. `--json` prints JSON lines. Anything else on the command line is a part of the names of the rows wanted.
pub(crate) fn main(happy: impl Fn() -> Table, paused: impl Fn() -> Table) {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let is_bench = arguments.iter().any(|argument| argument == "--bench");
    let as_json = arguments.iter().any(|argument| argument == "--json");
    let effort = if is_bench { Effort { rounds: 400, calls: 250 } } else { Effort { rounds: 1, calls: 10 } };
    // Layers with timers want a runtime around them. Its time must not be paused, for the clock of a process that ever
    // paused it is slower: hence the order of the tables.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let context = runtime.enter();
    let wanted: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let mut happy = only(&wanted, happy());
    if callgrind::is_on() {
        callgrind::make_calls(&mut happy.cases);
        drop(context);
        return callgrind::make_calls(&mut only(&wanted, paused()).cases);
    }
    let mut happy_rows = measure(&mut happy, &effort);
    drop(context);
    let mut paused = only(&wanted, paused());
    let mut paused_rows = measure(&mut paused, &effort);
    if is_bench {
        match callgrind::instructions(happy_rows.len() + paused_rows.len(), &wanted) {
            Ok(counts) => {
                let rows = happy_rows.iter_mut().chain(&mut paused_rows);
                rows.zip(counts).for_each(|(row, count)| row.instructions = Some(count));
            }
            Err(reason) => eprintln!("instructions are not counted: {reason}"),
        }
    }
    for (table, rows) in [(happy, happy_rows), (paused, paused_rows)] {
        if as_json { print_json(&table, &rows) } else { print_text(&table, &rows) }
    }
}

/// The rows whose names have one of these in them, and those that they are compared with; all if none is asked for.
fn only(wanted: &[&String], mut table: Table) -> Table {
    let is_wanted = |case: &Case| wanted.is_empty() || wanted.iter().any(|part| case.name.contains(part.as_str()));
    let mut names: Vec<_> = table.cases.iter().filter(|case| is_wanted(case)).map(|case| case.name).collect();
    // What one is compared with may itself be compared.
    let mut next = 0;
    while let Some(name) = names.get(next) {
        names.extend(table.cases.iter().find(|case| case.name == *name).and_then(|case| case.over));
        next += 1;
    }
    table.cases.retain(|case| names.contains(&case.name));
    table
}

fn measure(table: &mut Table, effort: &Effort) -> Vec<Row> {
    let cases = &mut table.cases;
    let mut times = vec![Vec::with_capacity(effort.rounds); cases.len()];
    // Round by round, so that what disturbs the machine disturbs all rows alike.
    for _ in 0..effort.rounds {
        for (case, times) in cases.iter_mut().zip(&mut times) {
            times.push(time(case, effort.calls).as_secs_f64() * 1e9 / f64::from(effort.calls));
        }
    }
    let names: Vec<_> = cases.iter().map(|case| case.name).collect();
    let rows = cases.iter_mut().zip(times).map(|(case, mut times)| {
        let (allocations, bytes) = allocations(case);
        times.sort_by(f64::total_cmp);
        Row {
            name: case.name,
            over: case.over.map(|over| names.iter().position(|name| *name == over).expect("a row to compare with")),
            future_bytes: case.future_bytes,
            allocations,
            bytes,
            nanoseconds: (times[0], times[times.len() / 2]),
            instructions: None,
        }
    });
    rows.collect()
}

#[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
fn time(case: &mut Case, calls: u32) -> Duration {
    let start = std::time::Instant::now();
    (case.run)(calls);
    start.elapsed()
}

fn print_text(table: &Table, rows: &[Row]) {
    println!("\n{}\n", table.title);
    println!(
        "{:44} {:>13} {:>11} {:>13} {:>15} {:>6}",
        "a call", "ns", "allocations", "bytes", "instructions", "future"
    );
    for row in rows {
        let over = |value: fn(&Row) -> f64| match row.over {
            Some(over) => format!("+{:<5.0}", value(row) - value(&rows[over])).replace("+-", "-"),
            None => " ".repeat(6),
        };
        let instructions = match row.instructions {
            Some(count) => format!("{count:>8.0} {}", over(|row| row.instructions.unwrap_or_default())),
            None => "-".to_owned(),
        };
        println!(
            "{:44} {:>6.0} {} {:>4} {} {:>6.0} {} {instructions:>15} {:>6}",
            row.name,
            row.nanoseconds.0,
            over(|row| row.nanoseconds.0),
            (row.allocations * 100.0).round() / 100.0,
            over(|row| row.allocations),
            row.bytes,
            over(|row| row.bytes),
            row.future_bytes,
        );
    }
}

fn print_json(table: &Table, rows: &[Row]) {
    for row in rows {
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        let difference = |value: fn(&Row) -> Option<f64>| Some(tenths(value(row)? - value(&rows[row.over?])?));
        let line = json!({
            "table": table.name,
            "name": row.name,
            "over": row.over.map(|over| rows[over].name),
            "ns": tenths(row.nanoseconds.0),
            "ns_median": tenths(row.nanoseconds.1),
            "ns_over": difference(|row| Some(row.nanoseconds.0)),
            "allocations": row.allocations,
            "allocations_over": difference(|row| Some(row.allocations)),
            "bytes": row.bytes,
            "bytes_over": difference(|row| Some(row.bytes)),
            "instructions": row.instructions.map(tenths),
            "instructions_over": difference(|row| row.instructions),
            "future_bytes": row.future_bytes,
        });
        println!("{line}");
    }
}
