//! Simulates what a retry policy does to a server, and to its callers, when many clients have it.
//!
//! A policy that is right for one call may be wrong for a thousand: waits that are the same for all bring all back at
//! once, and retries that nobody limits are the load that keeps a server down. Here is where to see that before it happens:
//!
//! - [`Contention`]: clients that contend for one record, the model of AWS's study of backoff and jitter;
//! - [`Outage`]: clients of a server with a capacity, which fails for a while.
//!
//! Both run any [`Policy`](crate::backoff_retry::Policy), and any [`BackoffRetryLayer`](crate::backoff_retry::BackoffRetryLayer) with its
//! limits and a budget for each client. Time is virtual and chance is seeded: a run takes milliseconds, needs no runtime, and comes out the
//! same every time. What it came to is a [`Run`], several are a [`Mean`], and [`Table`] and [`Chart`] show them.
//!
//! ```
//! use tower_outbound::{
//!     backoff_retry::{BackoffRetryLayer, Budget},
//!     mock::simulate::{Chart, Mean, Outage, Table},
//! };
//!
//! let outage = Outage::new().silent();
//! let policies = [
//!     ("no budget", BackoffRetryLayer::openai_sdk()),
//!     ("a tenth", BackoffRetryLayer::openai_sdk().budget(Budget::share_of_traffic(0.1))),
//! ];
//!
//! let runs = policies.map(|(name, layer)| (name, outage.run(&layer, 1)));
//! println!("{}", Table::of(runs.iter().map(|(name, run)| (*name, Mean::from_iter([run])))));
//!
//! let (begin, end) = outage.span();
//! let chart = Chart::new("Load on the server", "seconds", "attempts a call").band("outage", begin, end);
//! let svg = runs.iter().fold(chart, |chart, (name, run)| chart.line(*name, run.load_over_time())).svg();
//! # assert!(svg.contains("no budget"));
//! ```

mod agenda;
mod axis;
mod chart;
mod contention;
mod outage;
mod run;
mod table;

pub use chart::{Chart, page};
pub use contention::Contention;
pub use outage::Outage;
pub use run::{Mean, Run, Slot};
pub use table::Table;
