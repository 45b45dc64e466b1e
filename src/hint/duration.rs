//! Durations as Go prints them (`6m0s`, `2m59.56s`, `12ms`), which most APIs copied.

use std::time::Duration;

use super::plausible;

const MILLISECOND: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000 * MILLISECOND;

/// A duration in Go's spelling; a fraction may stand in any part.
pub(crate) fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (part, after) = part(rest, |unit| {
            Some(match unit {
                "s" => SECOND,
                "ms" => MILLISECOND,
                "m" => 60 * SECOND,
                "h" => 3600 * SECOND,
                "d" => 86400 * SECOND,
                "us" | "µs" | "μs" => 1_000,
                "ns" => 1,
                _ => return None,
            })
        })?;
        total = total.checked_add(part)?;
        rest = after;
    }
    plausible(total)
}

/// One number and its unit from the front, and what follows. `unit` says what a unit is in nanoseconds.
///
/// In whole numbers, which is a third of the cost of floating ones: it is asked for with every answer.
pub(super) fn part(text: &str, unit: impl FnOnce(&str) -> Option<u64>) -> Option<(Duration, &str)> {
    let mut number = Decimal::default();
    let mut length = 0;
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' => number.push(byte - b'0')?,
            b'.' if number.scale.is_none() => number.scale = Some(1),
            _ => break,
        }
        length += 1;
    }
    // "5.": a full stop, not a fraction. No unit follows it, so it fails here as it should.
    let (digits, rest) = text.split_at_checked(length)?;
    if digits.trim_start_matches('.').is_empty() {
        return None;
    }
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let (name, rest) = rest.split_at_checked(letters)?;
    Some((number.times(unit(name)?)?, rest))
}

/// Digits before and behind a point.
#[derive(Default)]
struct Decimal {
    number: u64,
    /// Behind the point: by what `number` is too large.
    scale: Option<u64>,
}

impl Decimal {
    fn push(&mut self, digit: u8) -> Option<()> {
        /// Nine digits behind the point are nanoseconds of a second; the rest is dropped.
        const FINEST: u64 = 1_000_000_000;
        match &mut self.scale {
            Some(scale) if *scale >= FINEST => return Some(()),
            Some(scale) => *scale *= 10,
            None => {}
        }
        self.number = self.number.checked_mul(10)?.checked_add(u64::from(digit))?;
        Some(())
    }

    fn times(&self, unit: u64) -> Option<Duration> {
        let nanos = u128::from(self.number) * u128::from(unit) / u128::from(self.scale.unwrap_or(1));
        u64::try_from(nanos).ok().map(Duration::from_nanos)
    }
}
