//! A line of the output, in the format of OpenAI's Batch API.

use std::hash::{DefaultHasher, Hasher};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::input::Malformed;

/// What every line of ours begins with.
pub(crate) const BEGINNING: &[u8] = br#"{"id":"batch_req_"#;

/// A line of the output.
#[derive(Serialize)]
pub(crate) struct Record<'a> {
    pub(crate) id: String,
    pub(crate) custom_id: Option<&'a str>,
    pub(crate) response: Option<Answer<'a>>,
    pub(crate) error: Option<Failure<'a>>,
}

#[derive(Serialize)]
pub(crate) struct Answer<'a> {
    pub(crate) status_code: u16,
    pub(crate) request_id: &'a str,
    pub(crate) body: Box<RawValue>,
}

#[derive(Serialize)]
pub(crate) struct Failure<'a> {
    pub(crate) code: &'a str,
    pub(crate) message: &'a str,
    pub(crate) line: u64,
}

impl Record<'_> {
    /// As a line, with its end.
    pub(crate) fn to_line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}

/// The record of a line that is no request.
pub(crate) fn malformed(bad: &Malformed) -> Record<'_> {
    let custom_id = bad.custom_id.as_deref();
    Record {
        id: record_id(custom_id.unwrap_or(""), bad.line),
        custom_id,
        response: None,
        error: Some(Failure { code: bad.code, message: &bad.message, line: bad.line }),
    }
}

/// An id for a record, the same in every run.
pub(crate) fn record_id(custom_id: &str, line: u64) -> String {
    format!("batch_req_{:032x}", fingerprint(&format!("{line} {custom_id}")))
}

/// 128 bits of SipHash: no two ids of one batch share them.
pub(crate) fn fingerprint(id: &str) -> u128 {
    let hash = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        hasher.write(id.as_bytes());
        u128::from(hasher.finish())
    };
    hash(1) << 64 | hash(2)
}

/// JSON without white space between its parts, so that it fits on a line; everything else stays as it is. What is no
/// JSON, such as a gateway's page, becomes a string.
pub(crate) fn on_one_line(body: &[u8]) -> Box<RawValue> {
    let text = String::from_utf8_lossy(body);
    let raw = match serde_json::from_str::<&RawValue>(&text) {
        Ok(raw) => squeezed(raw.get()),
        // A string always serializes; were it otherwise, nothing would be told of the body.
        Err(_) => serde_json::to_string(&text).unwrap_or_default(),
    };
    RawValue::from_string(raw).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn squeezed(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    json.chars()
        .filter(|c| {
            if in_string {
                in_string = *c != '"' || escaped;
                escaped = *c == '\\' && !escaped;
                return true;
            }
            in_string = *c == '"';
            !matches!(c, ' ' | '\n' | '\r' | '\t')
        })
        .collect()
}

/// A line of the output that was read, as far as it matters.
#[derive(Deserialize)]
pub(crate) struct Recorded {
    pub(crate) custom_id: Option<String>,
    response: Option<RecordedAnswer>,
    error: Option<RecordedError>,
}

#[derive(Deserialize)]
struct RecordedAnswer {
    status_code: u16,
}

#[derive(Deserialize)]
struct RecordedError {
    code: Option<String>,
    line: Option<u64>,
}

/// Codes of errors that belong to a line and not to a custom_id: the id's own item may still be answered.
const OF_LINES: [&str; 4] = ["invalid_json_line", "invalid_custom_id", "duplicate_custom_id", "line_too_long"];

impl Recorded {
    pub(crate) fn is_ok(&self) -> bool {
        self.error.is_none() && self.response.as_ref().is_some_and(|answer| (200..300).contains(&answer.status_code))
    }

    /// Whether this can be a result of a batch.
    pub(crate) fn is_result(&self) -> bool {
        self.response.is_some() || self.error.is_some()
    }

    /// The line that it is the error of, if it is a line's and no item's.
    pub(crate) fn of_line(&self) -> Option<u64> {
        let error = self.error.as_ref()?;
        OF_LINES.contains(&error.code.as_deref()?).then_some(error.line)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_keep_all_but_their_white_space() {
        for (body, line) in [
            ("{\n  \"b\": 1.0,\n  \"a\": \"x  \\\" \\\\\" , \"c\": [ ]\n}", r#"{"b":1.0,"a":"x  \" \\","c":[]}"#),
            ("<html>\n\"", r#""<html>\n\"""#),
            ("", r#""""#),
        ] {
            assert_eq!(on_one_line(body.as_bytes()).get(), line);
        }
    }
}
