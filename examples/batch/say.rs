//! What is said to the user. Whether anybody listens makes no difference to the batch: whoever reads along may go away at
//! any time (`2>&1 | head -1`), and `eprintln!` would panic.

use std::{
    fmt::Display,
    io::{ErrorKind, Write, stderr, stdout},
};

/// A line on stderr.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(stderr().lock(), "{text}");
}

/// A line on stdout: what was asked for with `--json`.
pub(crate) fn give(text: impl Display) {
    match writeln!(stdout().lock(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => say(format_args!("stdout takes nothing: {error}")),
        _ => {}
    }
}
