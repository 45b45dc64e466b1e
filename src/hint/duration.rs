//! Durations as Go prints them (`6m0s`, `2m59.56s`, `12ms`), which most APIs copied.

use std::time::Duration;

use super::plausible;

/// A duration in Go's spelling; a fraction may stand in any part.
pub(crate) fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (part, after) = part(rest, |unit| {
            Some(match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return None,
            })
        })?;
        total = total.checked_add(part)?;
        rest = after;
    }
    plausible(total)
}

/// One number and its unit from the front, and what follows. `unit` says what a unit is in seconds.
pub(super) fn part(text: &str, unit: impl FnOnce(&str) -> Option<f64>) -> Option<(Duration, &str)> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    // "5.": a full stop, not a fraction. No unit follows it, so it fails here as it should.
    let number: f64 = number.parse().ok()?;
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(letters);
    let part = Duration::try_from_secs_f64(number * unit(name)?).ok()?;
    Some((part, rest))
}
