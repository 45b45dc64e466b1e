//! The embedded API by itself, for others: several processes that share one quota.

use std::{net::SocketAddr, time::Duration};

use serde::Serialize;
use tower_outbound::mock::MockApi;

use crate::{
    report,
    say::{give, say},
    target::MOCK_KEY,
};

/// What the API saw of all its clients together.
#[derive(Serialize)]
struct Account {
    calls: u64,
    admitted: u64,
    rejected: u64,
    /// From the first call to the end of the last.
    elapsed_s: f64,
    /// The least time that the quota allows for the calls that were admitted.
    limit_s: f64,
    ratio: f64,
}

/// Serves until `end`, then says what came.
pub(crate) async fn serve(
    api: MockApi,
    addr: SocketAddr,
    end: impl Future<Output = ()>,
    json: bool,
) -> Result<(), String> {
    let server = api.serve_on(addr).await.map_err(|error| format!("cannot serve at {addr}: {error}"))?;
    let url = server.url();
    say(format_args!("an API at {url}, until Ctrl-C; from elsewhere, once or many times at once:"));
    say(format_args!("  OPENAI_API_KEY={MOCK_KEY} cargo run --release --example batch -- --base-url {url}"));
    end.await;
    server.shutdown().await;
    let counters = api.counters();
    let mean = counters.latency.checked_div(u32::try_from(counters.admitted).unwrap_or(u32::MAX)).unwrap_or_default();
    let elapsed = counters.last_admission.map_or(Duration::ZERO, |last| last.saturating_add(mean)).as_secs_f64();
    let limit = api.physical_limit(usize::MAX).as_secs_f64();
    let account = Account {
        calls: counters.calls,
        admitted: counters.admitted,
        rejected: counters.rejected,
        elapsed_s: report::rounded(elapsed, 1e3),
        limit_s: report::rounded(limit, 1e3),
        ratio: report::rounded(if limit > 0.0 { elapsed / limit } else { 0.0 }, 1e4),
    };
    if json {
        give(serde_json::to_string(&account).unwrap_or_default());
    } else {
        let Account { calls, rejected, elapsed_s, limit_s, ratio, .. } = account;
        say(format_args!(
            "{calls} calls, {rejected} 429s, {elapsed_s:.1} s; at best, by the quota, {limit_s:.1} s: ratio {ratio:.3}"
        ));
    }
    Ok(())
}
