//! What it came to.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use serde::Serialize;

/// The totals of one run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// In the batch, every line that is not blank.
    pub(crate) items: u64,
    /// Answered, in this run or before.
    pub(crate) ok: u64,
    /// Recorded as an error, in this run or before.
    pub(crate) failed: u64,
    /// Without a result, because the run ended early.
    pub(crate) missing: u64,
    /// Of those that have a result, how many had it before.
    pub(crate) skipped: u64,
    /// Sent, each attempt counted.
    pub(crate) calls: u64,
    /// 429s.
    pub(crate) rejected: u64,
    pub(crate) elapsed_s: f64,
    /// The least time that the quota allows for the calls that were admitted; null where the quota is not known.
    pub(crate) limit_s: Option<f64>,
    pub(crate) ratio: Option<f64>,
    /// Reckoned from the limits that the server told of, and from the calls of this program alone.
    #[serde(skip)]
    pub(crate) limit_is_learned: bool,
    /// Items that failed in this run, by kind.
    pub(crate) failed_by_kind: BTreeMap<&'static str, u64>,
    /// The most memory the process has had, in MiB; null where the system does not tell, and for the second of two runs in
    /// one process, which cannot know its own.
    pub(crate) peak_mib: Option<f64>,
}

impl Report {
    pub(crate) fn timed(mut self, elapsed: Duration, limit: Option<Duration>) -> Self {
        self.elapsed_s = rounded(elapsed.as_secs_f64(), 1e3);
        self.limit_s = limit.map(|limit| rounded(limit.as_secs_f64(), 1e3));
        self.ratio = limit
            .filter(|limit| !limit.is_zero())
            .map(|limit| rounded(elapsed.as_secs_f64() / limit.as_secs_f64(), 1e4));
        self
    }
}

/// The most memory this process has had so far, in MiB.
pub(crate) fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(rounded(kib / 1024.0, 10.0))
}

/// To so many parts of one.
pub(crate) fn rounded(number: f64, parts: f64) -> f64 {
    (number * parts).round() / parts
}

/// One line of JSON: the totals, and beside them those of the SDK's way, if it was run too.
pub(crate) fn json(ours: &Report, sdk: Option<&Report>) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        #[serde(flatten)]
        ours: &'a Report,
        #[serde(skip_serializing_if = "Option::is_none")]
        sdk: Option<&'a Report>,
    }
    // Numbers and names always serialize; were it otherwise, the line would be empty.
    serde_json::to_string(&Line { ours, sdk }).unwrap_or_default()
}

/// A table with a column for each run.
pub(crate) fn table(columns: &[(&str, &Report)]) -> String {
    let mut text = String::new();
    let mut row = |name: &str, cell: &dyn Fn(&Report) -> String| {
        let _ = write!(text, "  {name:<28}");
        for (_, report) in columns {
            let _ = write!(text, "{:>16}", cell(report));
        }
        text.push('\n');
    };
    if columns.len() > 1 {
        let titles = std::cell::RefCell::new(columns.iter().map(|(title, _)| (*title).to_owned()));
        row("", &|_| titles.borrow_mut().next().unwrap_or_default());
    }
    // What else draws on the quota is not known here, unless the API is.
    let is_learned = columns.iter().any(|(_, report)| report.limit_is_learned);
    let best = if is_learned { "at best, alone on the quota" } else { "at best, by the quota" };
    row("items", &|report| report.items.to_string());
    row("answered", &|report| share(report.ok, report.items));
    row("failed", &|report| share(report.failed, report.items));
    let kinds: std::collections::BTreeSet<&str> =
        columns.iter().flat_map(|(_, report)| report.failed_by_kind.keys().copied()).collect();
    for kind in kinds {
        row(&format!("  {kind}"), &|report| report.failed_by_kind.get(kind).map_or(String::new(), u64::to_string));
    }
    if columns.iter().any(|(_, report)| report.missing > 0) {
        row("missing", &|report| report.missing.to_string());
    }
    if columns.iter().any(|(_, report)| report.skipped > 0) {
        row("there before", &|report| report.skipped.to_string());
    }
    row("calls", &|report| report.calls.to_string());
    row("429s", &|report| share(report.rejected, report.items));
    row("time", &|report| format!("{:.1} s", report.elapsed_s));
    row(best, &|report| report.limit_s.map_or("unknown".into(), |limit| format!("{limit:.1} s")));
    row("ratio", &|report| report.ratio.map_or("unknown".into(), |ratio| format!("{ratio:.3}")));
    if columns.iter().any(|(_, report)| report.peak_mib.is_some()) {
        row("peak memory", &|report| report.peak_mib.map_or(String::new(), |mib| format!("{mib:.0} MiB")));
    }
    // The last line ends where it is said.
    text.truncate(text.trim_end().len());
    text
}

/// A number, and what share of the items it is, where it is one worth showing.
fn share(part: u64, items: u64) -> String {
    if part == 0 || part == items {
        return part.to_string();
    }
    format!("{part} ({:.1} %)", part as f64 / items.max(1) as f64 * 100.0)
}
