//! Values of headers: counts, and times until a reset.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use crate::{hint, wall_clock::WallClock};

/// Up to so many digits a count is exact as a float, and cannot overflow on the way.
const DIGITS: usize = 15;

/// A count, perhaps with commas: `30,000` has been seen. What is no count (Azure sends -1) is unknown.
#[inline]
pub(super) fn amount(value: &HeaderValue) -> Option<f64> {
    let bytes = value.as_bytes();
    if bytes.is_empty() || bytes.len() > DIGITS {
        return odd_amount(bytes);
    }
    let (mut number, mut rest) = (0, bytes);
    while let Some((four, after)) = rest.split_first_chunk() {
        let Some(digits) = four_digits(*four) else { return odd_amount(bytes) };
        (number, rest) = (number * 10_000 + u64::from(digits), after);
    }
    for byte in rest {
        match byte.wrapping_sub(b'0') {
            digit @ 0..=9 => number = number * 10 + u64::from(digit),
            _ => return odd_amount(bytes),
        }
    }
    // Signed: that is one instruction.
    Some(number as i64 as f64)
}

/// Four at once, as they lie in one word: first they become two numbers below 100, then one.
#[inline]
fn four_digits(text: [u8; 4]) -> Option<u32> {
    let text = u32::from_le_bytes(text);
    let digits = text ^ 0x3030_3030;
    if (digits | digits.wrapping_add(0x7676_7676)) & 0x8080_8080 != 0 {
        return None;
    }
    let pairs = (digits * 10 + (digits >> 8)) & 0x00ff_00ff;
    Some((pairs & 0xff) * 100 + (pairs >> 16))
}

#[cold]
fn odd_amount(bytes: &[u8]) -> Option<f64> {
    let mut number = None;
    for byte in bytes.trim_ascii() {
        number = match byte {
            b'0'..=b'9' => Some(number.unwrap_or(0u64).checked_mul(10)?.checked_add(u64::from(byte - b'0'))?),
            b',' if number.is_some() => number,
            _ => return None,
        };
    }
    number.map(|number| number as f64)
}

/// A count with what else the older drafts put there: `100, 100;w=60`, of which the first is the limit, and the window is that
/// of the policy that allows as much; `100;w=60` alone is the same.
pub(super) fn amount_of_window(value: &HeaderValue) -> (Option<f64>, Option<Duration>) {
    let first = amount(value);
    if first.is_some() { (first, None) } else { with_policies(value) }
}

#[cold]
fn with_policies(value: &HeaderValue) -> (Option<f64>, Option<Duration>) {
    let text = value.to_str().unwrap_or_default();
    let mut items = text.split(',').map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let number = parts.next().and_then(|number| odd_amount(number.as_bytes()));
        let window = parts.find_map(|part| part.strip_prefix("w=")).and_then(|window| window.parse().ok());
        (number, window.map(Duration::from_secs).and_then(hint::plausible))
    });
    let Some((Some(limit), own)) = items.next() else { return (None, None) };
    let of_policy = || items.find(|(number, window)| *number == Some(limit) && window.is_some())?.1;
    (Some(limit), own.or_else(of_policy))
}

/// A Go duration (`6m0s`, `7.66s`, `120ms`), seconds, or a point in time.
#[inline]
pub(super) fn reset(value: &HeaderValue, headers: &HeaderMap, clock: &WallClock) -> Option<Duration> {
    let (number, unit) = match value.as_bytes() {
        [number @ .., b'm', b's'] => (number, 1_000_000),
        [number @ .., b's'] => (number, 1_000_000_000),
        _ => return odd_reset(value, headers, clock),
    };
    match nanos(number, unit) {
        Some(nanos) => hint::nanos(nanos),
        None => odd_reset(value, headers, clock),
    }
}

/// A short decimal number of so many nanoseconds.
#[inline]
fn nanos(number: &[u8], unit: u64) -> Option<u64> {
    if number.is_empty() || number.len() > 9 {
        return None;
    }
    let (mut value, mut scale) = (0, 0);
    for byte in number {
        match byte.wrapping_sub(b'0') {
            digit @ 0..=9 => {
                value = value * 10 + u64::from(digit);
                scale *= 10;
            }
            _ if *byte == b'.' && scale == 0 => scale = 1,
            _ => return None,
        }
    }
    // At most nine digits times a thousand million: it fits.
    if scale <= 1 { (scale == 0).then(|| value * unit) } else { Some(value * unit / scale) }
}

#[cold]
fn odd_reset(value: &HeaderValue, headers: &HeaderMap, clock: &WallClock) -> Option<Duration> {
    let text = str::from_utf8(value.as_bytes()).ok()?.trim();
    if text.ends_with('s') {
        return hint::go_duration(text);
    }
    hint::when(text, || hint::server_now(headers, || clock.now()))
}
