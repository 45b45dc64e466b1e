//! Waits in prose: "Please try again in 9.816s", "Please retry after 86400 seconds".
//!
//! Texts are for people and echo what was sent, so this is asked only of rate limits and overload, last of what the
//! body says, and only a number with a unit right behind one of a few fixed phrases counts.

use std::time::Duration;

use super::{
    duration::{SECOND, part},
    plausible,
};

const PHRASES: [&str; 8] = [
    "try again in",
    "retry in",
    "retry after",
    "try again after",
    "reset after",
    "resets in",
    "reset in",
    "retry your request after",
];

/// The wait that the first such phrase in the text gives.
pub(crate) fn in_message(text: &str) -> Option<Duration> {
    // All of them end in "in" or "after", with a blank and a digit behind; digits are rare.
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(next) = bytes.get(from..)?.iter().position(u8::is_ascii_digit) {
        let digit = from + next;
        from = digit + 1;
        let Some(before) = digit.checked_sub(1) else { continue };
        if let [.., b'n' | b'N' | b'r' | b'R', b' '] = bytes.get(..digit)? {
            let phrase = PHRASES.iter().any(|phrase| ends_with(text.get(..before).unwrap_or_default(), phrase));
            if let Some(wait) = phrase.then(|| prose(text.get(digit..)?)).flatten() {
                return Some(wait);
            }
        }
    }
    None
}

fn ends_with(text: &str, end: &str) -> bool {
    let start = text.len().checked_sub(end.len());
    start.and_then(|start| text.as_bytes().get(start..)).is_some_and(|tail| tail.eq_ignore_ascii_case(end.as_bytes()))
}

/// `9m38.016s`, `1 hour 5 minutes`, `2 minutes and 3 seconds`, from the front of a sentence.
fn prose(text: &str) -> Option<Duration> {
    let (mut total, mut rest) = part(text, word)?;
    loop {
        let next = [", and ", ", ", " and ", " "].iter().find_map(|gap| rest.strip_prefix(gap)).unwrap_or(rest);
        match part(next, word) {
            Some((more, after)) => (total, rest) = (total.checked_add(more)?, after),
            None => return plausible(total),
        }
    }
}

fn word(unit: &str) -> Option<u64> {
    const UNITS: [(&[&str], u64); 5] = [
        (&["s", "sec", "secs", "second", "seconds"], SECOND),
        (&["ms", "msec", "millisecond", "milliseconds"], SECOND / 1_000),
        (&["m", "min", "mins", "minute", "minutes"], 60 * SECOND),
        (&["h", "hr", "hrs", "hour", "hours"], 3600 * SECOND),
        (&["d", "day", "days"], 86400 * SECOND),
    ];
    UNITS.iter().find(|(names, _)| names.iter().any(|name| name.eq_ignore_ascii_case(unit))).map(|(_, unit)| *unit)
}
