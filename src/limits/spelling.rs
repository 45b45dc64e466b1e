//! Names of headers: which limit each tells of, and what of it.

use super::Unit;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Limit,
    Remaining,
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot<'a> {
    Requests,
    Tokens,
    /// Requests in a window, for the spellings that have only one limit.
    Window,
    Named(&'a str, Unit),
    /// The IETF draft's structured fields.
    Ietf,
}

/// What a header of this name, in lower case, tells of; mostly nothing.
#[inline]
pub(super) fn of(name: &str) -> Option<(Slot<'_>, Field)> {
    // OpenAI's six: first by length, then each in a few words.
    match name {
        "x-ratelimit-limit-requests" => return Some((Slot::Requests, Field::Limit)),
        "x-ratelimit-limit-tokens" => return Some((Slot::Tokens, Field::Limit)),
        "x-ratelimit-remaining-requests" => return Some((Slot::Requests, Field::Remaining)),
        "x-ratelimit-remaining-tokens" => return Some((Slot::Tokens, Field::Remaining)),
        "x-ratelimit-reset-requests" => return Some((Slot::Requests, Field::Reset)),
        "x-ratelimit-reset-tokens" => return Some((Slot::Tokens, Field::Reset)),
        _ => {}
    }
    // Most names end here.
    match name.as_bytes().first() {
        Some(b'a') => anthropic(name.strip_prefix("anthropic-ratelimit-")?),
        Some(b'x') => match name.strip_prefix("x-ratelimit-") {
            Some(rest) => generic(rest),
            None => azure(name.strip_prefix("x-rate-limit-")?),
        },
        Some(b'r') => ietf(name.strip_prefix("ratelimit")?),
        _ => None,
    }
}

fn generic(rest: &str) -> Option<(Slot<'_>, Field)> {
    let (field, rest) = field_first(rest)?;
    match rest {
        "" => Some((Slot::Window, field)),
        other => Some((named(other.strip_prefix('-')?)?, field)),
    }
}

#[inline]
fn field_first(rest: &str) -> Option<(Field, &str)> {
    if let Some(rest) = rest.strip_prefix("limit") {
        Some((Field::Limit, rest))
    } else if let Some(rest) = rest.strip_prefix("remaining") {
        Some((Field::Remaining, rest))
    } else {
        Some((Field::Reset, rest.strip_prefix("reset")?))
    }
}

#[cold]
fn anthropic(rest: &str) -> Option<(Slot<'_>, Field)> {
    let (name, field) = rest.rsplit_once('-')?;
    let (field, "") = field_first(field)? else { return None };
    let slot = match name {
        "requests" => Slot::Requests,
        "tokens" => Slot::Tokens,
        other => named(other)?,
    };
    Some((slot, field))
}

/// An older spelling of Azure's.
#[cold]
fn azure(rest: &str) -> Option<(Slot<'_>, Field)> {
    let (field, rest) = field_first(rest)?;
    match rest {
        "-requests" => Some((Slot::Requests, field)),
        "-tokens" => Some((Slot::Tokens, field)),
        "" => Some((Slot::Window, field)),
        _ => None,
    }
}

#[cold]
fn ietf(rest: &str) -> Option<(Slot<'_>, Field)> {
    match rest {
        "" | "-policy" => Some((Slot::Ietf, Field::Limit)),
        _ => match field_first(rest.strip_prefix('-')?)? {
            (field, "") => Some((Slot::Window, field)),
            _ => None,
        },
    }
}

/// A limit with a name of its own, where the name says what it counts.
fn named(name: &str) -> Option<Slot<'_>> {
    let unit = if name.ends_with("input-tokens") {
        Unit::InputTokens
    } else if name.ends_with("output-tokens") {
        Unit::OutputTokens
    } else if name.ends_with("tokens") {
        Unit::Tokens
    } else if name.ends_with("requests") {
        Unit::Requests
    } else {
        return None;
    };
    Some(Slot::Named(name, unit))
}
