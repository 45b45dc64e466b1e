//! The command line.

use std::{net::SocketAddr, num::NonZeroU64, path::PathBuf};

use clap::value_parser;

/// Sends a batch of requests to OpenAI's API, or one like it, as fast as its quota allows.
///
/// Without arguments it starts an embedded API on a loopback port, makes a batch, and runs it: a demonstration that
/// takes half a minute and costs nothing.
///
/// Input and output are the files of OpenAI's Batch API, one JSON object a line. Each result is written as it comes:
/// run it again with the same files, and only what is missing is sent. A line that is no request, a custom_id used
/// twice and a request that the API refuses become that item's error, with the number of its line; the rest goes on.
/// Such errors are final unless --retry-failed is given. What failed only because the API, the key or the quota was not
/// well is no item's error: it is missing, and the next run sends it. A 500 is an item's error only where others were
/// answered meanwhile, time and again.
///
/// The exit status is 0 if every item has its answer, 1 if some failed or are missing, 2 if nothing could be begun, and
/// 130 after Ctrl-C.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "batch", max_term_width = 100)]
pub(crate) struct Args {
    /// File of requests: {"custom_id", "method", "url", "body"} a line [default: a generated batch]
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,

    /// File of results, continued if it exists [default: INPUT with .results.jsonl at its end, or a temporary file]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// The API, such as https://api.openai.com/v1, with the key in OPENAI_API_KEY [default: an embedded one]
    #[arg(long, value_name = "URL")]
    pub(crate) base_url: Option<String>,

    /// Calls at once, those that wait for quota included; up to 100000
    #[arg(long, value_name = "N", default_value = "64", value_parser = value_parser!(u32).range(1..=100_000))]
    pub(crate) workers: u32,

    /// How long an API that gives nobody an answer is waited for before the run ends
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = value_parser!(u32).range(..=604_800))]
    pub(crate) patience: u32,

    /// Requests a minute that the embedded API allows; the client is not told
    #[arg(long, value_name = "N", default_value = "500", conflicts_with = "base_url")]
    pub(crate) rpm: NonZeroU64,

    /// Tokens a minute that the embedded API allows; the client is not told [default: 400 for each request]
    #[arg(long, value_name = "N", conflicts_with = "base_url")]
    pub(crate) tpm: Option<NonZeroU64>,

    /// Share of calls that the embedded API answers with 500, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0.01", value_parser = share, conflicts_with = "base_url")]
    pub(crate) errors: f64,

    /// Share of calls on which each other fault of the embedded API falls: 502, 503, connections dropped, cut answers
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share, conflicts_with = "base_url")]
    pub(crate) faults: f64,

    /// Only serve the embedded API at this address, such as 127.0.0.1:8080, for others to share: they take --base-url
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["base_url", "input", "output", "compare", "retry_failed"])]
    pub(crate) serve: Option<SocketAddr>,

    /// Items in the generated batch
    #[arg(long, value_name = "N", default_value = "735", conflicts_with = "input")]
    pub(crate) items: NonZeroU64,

    /// Where the chance of the generated batch and of the embedded API comes from
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) seed: u64,

    /// Print the totals as one line of JSON on stdout
    #[arg(long)]
    pub(crate) json: bool,

    /// Then run the whole batch with plain retries as the official SDK does them, and show both; an API that is not the
    /// embedded one gets, and charges for, every item once more
    #[arg(long)]
    pub(crate) compare: bool,

    /// Send items again whose recorded result is an error, instead of leaving them
    #[arg(long)]
    pub(crate) retry_failed: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("not from 0 to 1".into()) }
}
