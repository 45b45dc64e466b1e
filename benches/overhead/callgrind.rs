//! Instructions, counted by callgrind: this program runs itself again under valgrind, and each row's calls are counted
//! apart from all else.

use std::{env, fs, path::Path, process::Command};

use crate::harness::Case;

/// Set in the run under valgrind.
const MARK: &str = "OVERHEAD_UNDER_CALLGRIND";
const CALLS: u32 = 100;

pub(crate) fn is_on() -> bool {
    env::var_os(MARK).is_some()
}

/// What callgrind counts, and after which it writes a file: it goes by the name.
const WINDOW: &str = concat!(module_path!(), "::counted_window");

#[inline(never)]
fn counted_window(case: &mut Case) {
    (case.run)(CALLS);
}

/// In the run under valgrind: makes the calls.
pub(crate) fn make_calls(cases: &mut [Case]) {
    for case in cases {
        (case.run)(CALLS);
        counted_window(case);
    }
}

/// Instructions of one call of each row, in the order in which the run under valgrind makes them.
///
/// # Errors
/// Why they could not be counted.
pub(crate) fn instructions(rows: usize, wanted: &[&String]) -> Result<Vec<f64>, String> {
    let folder = env::temp_dir().join(format!("tower-outbound-overhead-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let counts = count(rows, wanted, &folder);
    let _ = fs::remove_dir_all(&folder);
    counts
}

fn count(rows: usize, wanted: &[&String], folder: &Path) -> Result<Vec<f64>, String> {
    let out = folder.join("out");
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let run = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(format!("--toggle-collect={WINDOW}"))
        .arg(format!("--dump-after={WINDOW}"))
        .arg(program)
        .arg("--bench")
        .args(wanted)
        .env(MARK, "1")
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    if !run.status.success() {
        return Err(format!("valgrind: {}: {}", run.status, String::from_utf8_lossy(&run.stderr)));
    }
    (1..=rows)
        .map(|row| {
            let file = out.with_extension(row.to_string());
            let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            let total = text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
            let total: f64 = total.and_then(|total| total.trim().parse().ok()).ok_or("callgrind wrote no total")?;
            Ok(total / f64::from(CALLS))
        })
        .collect()
}
