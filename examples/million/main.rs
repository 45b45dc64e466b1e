//! A million requests through BackoffRetry, over a service that fails at random in every way: statuses, hints, errors,
//! silence, bodies that break off, readiness that fails. Each is answered exactly once, and the memory stays flat.
//!
//!     cargo run --release --example million

mod bodies;
mod memory;
mod run;
mod server;

use std::error::Error;

use clap::Parser;

#[derive(Parser)]
#[command(about = "A million requests through BackoffRetry, over a service that fails at random in every way")]
struct Options {
    /// How many requests
    #[arg(long, default_value_t = 1_000_000)]
    requests: u64,
    /// How many at once
    #[arg(long, default_value_t = 1_000)]
    workers: usize,
    /// The same seed, the same run
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    // Virtual time: a wait is over as soon as nothing else is to be done.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    #[allow(clippy::disallowed_methods, reason = "tokio's clock is paused, and this is the real one")]
    let start = std::time::Instant::now();
    let requests = options.requests;
    let watch = memory::Watch::begin();
    let seen = watch.clone();
    let totals = runtime.block_on(run::run(requests, options.workers.max(1), options.seed, move |totals| {
        println!(
            "{:>9} answered, {:>9} sent, {:>5.1} s, {:.2} MiB held",
            totals.answered,
            totals.sent,
            start.elapsed().as_secs_f64(),
            seen.look() as f64 / f64::from(1 << 20),
        );
    }));

    println!();
    for (ending, count) in &totals.endings {
        println!("{count:>9} {ending}");
    }
    for wrong in &totals.wrongs {
        println!("wrong: {wrong}");
    }
    println!(
        "\n{} requests, {} answered, each once, {} more dropped on the way; sent {:.2} times each; {} left open, {} in flight; \
         {} wrongs; {:.0} s of virtual time in {:.1} s",
        requests,
        totals.answered,
        totals.dropped,
        totals.sent as f64 / (totals.answered + totals.dropped).max(1) as f64,
        totals.open,
        totals.in_flight,
        totals.wrongs.len(),
        totals.took.as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
    drop(runtime);
    if let Some(fault) = watch.fault() {
        return Err(fault.into());
    }
    let sound = totals.answered == requests && totals.open + totals.in_flight == 0 && totals.wrongs.is_empty();
    if sound { Ok(()) } else { Err("not every request was answered exactly once, by the rules".into()) }
}
