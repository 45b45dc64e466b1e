//! gRPC: failures in the head of a 200, where the answer is trailers only.

use std::time::Duration;

use super::{Failure, Provider, Verdict};
use crate::ErrorKind;

/// gRPC's statuses, with the delay that [`google.rpc.RetryInfo`] asks for.
///
/// It is found where the answer is trailers only, as it is when a server refuses a call: `grpc-status` then stands in
/// the head. Set up with [`failures_in_grpc_heads`](crate::ErrorClassifyLayer::failures_in_grpc_heads).
///
/// `UNAVAILABLE`, `RESOURCE_EXHAUSTED` and `ABORTED` may succeed later, and so may `DEADLINE_EXCEEDED`; the others not.
/// Source: <https://google.aip.dev/194> and <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>.
///
/// [`google.rpc.RetryInfo`]: https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto
#[derive(Clone, Copy, Debug, Default)]
pub struct Grpc;

/// Whether a head says by itself that the call failed.
#[cfg(feature = "error-classify")]
pub(crate) fn head_fails(headers: &http::HeaderMap) -> bool {
    headers.get("grpc-status").is_some_and(|status| status.as_bytes() != b"0")
}

impl Provider for Grpc {
    fn name(&self) -> &str {
        "grpc"
    }

    fn judge(&self, failure: &Failure<'_>) -> Option<Verdict> {
        let code: u8 = failure.header("grpc-status")?.parse().ok()?;
        let (name, kind, passes) = status(code)?;
        let message = failure.header("grpc-message").map(unescape);
        // Also what gRPC libraries say of a message too large, which it will be next time.
        let too_large = code == 8 && message.as_deref().is_some_and(|message| message.contains("larger than max"));
        let verdict = match (too_large, passes) {
            (true, _) => Verdict::new(ErrorKind::RequestTooLarge).never(),
            (_, false) => Verdict::new(kind).never(),
            (_, true) => match failure.header("grpc-status-details-bin").and_then(retry_delay) {
                Some(delay) => Verdict::new(kind).after(delay),
                None => Verdict::new(kind).may_succeed(),
            },
        };
        let verdict = verdict.with_code(name);
        Some(match message {
            Some(message) => verdict.with_message(message),
            None => verdict,
        })
    }
}

/// The name of a status, what it is here, and whether it may pass.
fn status(code: u8) -> Option<(&'static str, ErrorKind, bool)> {
    use ErrorKind as Kind;
    Some(match code {
        1 => ("CANCELLED", Kind::Unknown, false),
        2 => ("UNKNOWN", Kind::Unknown, false),
        3 => ("INVALID_ARGUMENT", Kind::InvalidRequest, false),
        4 => ("DEADLINE_EXCEEDED", Kind::Timeout, true),
        5 => ("NOT_FOUND", Kind::NotFound, false),
        6 => ("ALREADY_EXISTS", Kind::Conflict, false),
        7 => ("PERMISSION_DENIED", Kind::Permission, false),
        8 => ("RESOURCE_EXHAUSTED", Kind::RateLimit, true),
        9 => ("FAILED_PRECONDITION", Kind::InvalidRequest, false),
        10 => ("ABORTED", Kind::Conflict, true),
        11 => ("OUT_OF_RANGE", Kind::InvalidRequest, false),
        12 => ("UNIMPLEMENTED", Kind::NotFound, false),
        13 => ("INTERNAL", Kind::Server, false),
        14 => ("UNAVAILABLE", Kind::Unavailable, true),
        15 => ("DATA_LOSS", Kind::Server, false),
        16 => ("UNAUTHENTICATED", Kind::Authentication, false),
        _ => return None,
    })
}

/// `grpc-message` is percent-encoded UTF-8. What is not, stays.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        let byte = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The delay in a `google.rpc.Status`: `details` (3) of type `RetryInfo`, its `retry_delay` (1).
fn retry_delay(header: &str) -> Option<Duration> {
    let status = base64(header)?;
    fields(&status).filter_map(|(number, value)| (number == 3).then_some(value)?.bytes()).find_map(|detail| {
        let field = |wanted| fields(detail).find_map(|(number, value)| (number == wanted).then_some(value)?.bytes());
        if !field(1)?.ends_with(b"/google.rpc.RetryInfo") {
            return None;
        }
        let delay = fields(field(2)?).find_map(|(number, value)| (number == 1).then_some(value)?.bytes())?;
        let number = |wanted| {
            fields(delay).find_map(|(number, value)| (number == wanted).then_some(value)?.number()).unwrap_or(0)
        };
        // Negative ones are as large as it gets here, and no wait.
        let (seconds, nanos) = (i64::try_from(number(1)).ok()?, u32::try_from(number(2)).ok()?);
        let nanos = (nanos < 1_000_000_000).then_some(nanos)?;
        Some(Duration::new(seconds.unsigned_abs(), nanos))
    })
}

/// The value of a field in protobuf's wire format.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn number(self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Bytes(_) => None,
        }
    }

    fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Number(_) => None,
        }
    }
}

/// The fields of a message, until its end or the first that is malformed.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    std::iter::from_fn(move || {
        let tag = varint(&mut message)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut message)?),
            1 => Value::Bytes(take(&mut message, 8)?),
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                Value::Bytes(take(&mut message, length)?)
            }
            5 => Value::Bytes(take(&mut message, 4)?),
            _ => return None,
        };
        Some((tag >> 3, value))
    })
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = *take(message, 1)? else { return None };
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// RFC 4648, with or without padding, as binary headers come.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut held, mut bits) = (0_u32, 0);
    for character in text.trim_end_matches('=').bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        held = (held << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Status { code: 8, details: [RetryInfo { retry_delay: 2.5 s }] }`, after a detail of another type.
    const DETAILS: &str = "CAgaLQordHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlF1b3RhRmFpbHVyZRo2Cih0eXBlLmdvb2dsZWFwaXMuY29tL2dvb2dsZS5ycGMuUmV0cnlJbmZvEgoKCAgCEIDKte4B";

    #[test]
    fn the_delay_is_found_among_the_details() {
        assert_eq!(retry_delay(DETAILS), Some(Duration::from_millis(2500)));
        for end in 0..DETAILS.len() {
            let _ = retry_delay(&DETAILS[..end]);
        }
        assert_eq!(retry_delay("CAg="), None);
        assert_eq!(retry_delay("no base64 \u{e9}"), None);
    }

    #[test]
    fn a_message_is_unescaped_and_survives_nonsense() {
        assert_eq!(unescape("zu viel%3A 5%25 %C3%BC"), "zu viel: 5% ü");
        assert_eq!(unescape("100% %zz %"), "100% %zz %");
    }
}
