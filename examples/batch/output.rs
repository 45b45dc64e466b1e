//! The results that come out, in the format of OpenAI's Batch API: what is there already, and what is added.

use std::{
    collections::{HashMap, HashSet},
    fs::{File, OpenOptions},
    hash::{DefaultHasher, Hasher},
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::input::Malformed;

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

/// Codes of errors that belong to a line and not to a custom_id: the id's own item may still be answered.
const OF_LINES: [&str; 4] = ["invalid_json_line", "invalid_custom_id", "duplicate_custom_id", "line_too_long"];

/// What the output holds, and what the input has had so far. An id takes 16 bytes of it, however long it is.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    ids: HashMap<u128, Entry>,
    lines: HashSet<u64>,
    pub(crate) ok: u64,
    pub(crate) failed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where the id stands in the input; 0 as long as it has not been read there.
    line: u64,
    recorded: bool,
}

/// What to do with a custom_id that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It is to be sent.
    New,
    /// Its result is there.
    Recorded,
    /// It was used before, on this line.
    Twice(u64),
}

impl Ledger {
    pub(crate) fn see(&mut self, custom_id: &str, line: u64) -> Seen {
        let entry = self.ids.entry(fingerprint(custom_id)).or_insert(Entry { line: 0, recorded: false });
        match entry.line {
            0 => {
                entry.line = line;
                if entry.recorded { Seen::Recorded } else { Seen::New }
            }
            first => Seen::Twice(first),
        }
    }

    /// Whether the error of this line is there.
    pub(crate) fn has_line(&self, line: u64) -> bool {
        self.lines.contains(&line)
    }

    fn note(&mut self, record: &Recorded) -> bool {
        let of_line = record
            .error
            .as_ref()
            .and_then(|error| OF_LINES.contains(&error.code.as_deref()?).then_some(error.line).flatten());
        let new = match (&record.custom_id, of_line) {
            (_, Some(line)) => self.lines.insert(line),
            (Some(id), None) => self.ids.insert(fingerprint(id), Entry { line: 0, recorded: true }).is_none(),
            (None, None) => return false,
        };
        if new {
            if record.is_ok() { self.ok += 1 } else { self.failed += 1 }
        }
        true
    }
}

/// 128 bits of SipHash: no two ids of one batch share them.
fn fingerprint(id: &str) -> u128 {
    let hash = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        hasher.write(id.as_bytes());
        u128::from(hasher.finish())
    };
    hash(1) << 64 | hash(2)
}

/// A line of the output, as far as it matters here.
#[derive(Deserialize)]
struct Recorded {
    custom_id: Option<String>,
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

impl Recorded {
    fn is_ok(&self) -> bool {
        self.error.is_none() && self.response.as_ref().is_some_and(|answer| (200..300).contains(&answer.status_code))
    }

    /// Whether this can be a result of a batch.
    fn is_result(&self) -> bool {
        self.response.is_some() || self.error.is_some()
    }
}

/// An output that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    /// At its end, ready for more.
    pub(crate) file: File,
    pub(crate) ledger: Ledger,
    /// What was done to it, for the user.
    pub(crate) note: Option<String>,
}

/// Opens the output, reads what is there, and repairs its end: a run that was killed may have left half a line.
///
/// With `retry_failed`, errors are taken out of it first, so that their items are missing again.
pub(crate) fn open(path: &Path, retry_failed: bool) -> Result<Opened, String> {
    let shown = path.display();
    let cannot = |what: &str, error: io::Error| format!("cannot {what} the output {shown}: {error}");
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).open(path).map_err(|error| cannot("write", error))?;
    let mut ledger = Ledger::default();
    let mut note = None;
    if !file.metadata().map_err(|error| cannot("read", error))?.is_file() {
        // A pipe or a device holds no results, and may have no end.
        return Ok(Opened { file, ledger, note });
    }
    let mut reader = BufReader::with_capacity(1 << 16, &file);
    let (mut end, mut number, mut text) = (0_u64, 0_u64, Vec::new());
    loop {
        text.clear();
        let read = reader.read_until(b'\n', &mut text).map_err(|error| cannot("read", error))?;
        if read == 0 {
            break;
        }
        number += 1;
        let whole = text.last() == Some(&b'\n');
        if text.trim_ascii().is_empty() && whole {
            end += read as u64;
            continue;
        }
        match serde_json::from_slice::<Recorded>(&text) {
            Ok(record) if record.is_result() && ledger.note(&record) => {
                end += read as u64;
                if !whole {
                    file.write_all(b"\n").map_err(|error| cannot("repair", error))?;
                    break;
                }
            }
            _ if !whole => {
                file.set_len(end).map_err(|error| cannot("repair", error))?;
                note = Some(format!("{shown}: took away a half-written line {number} ({read} bytes)"));
                break;
            }
            _ => {
                return Err(format!(
                    "line {number} of the output {shown} is no result of a batch: is it the right file? Nothing was \
                     changed"
                ));
            }
        }
    }
    if retry_failed && ledger.failed > 0 {
        let taken = ledger.failed;
        drop(file);
        without_errors(path).map_err(|error| cannot("rewrite", error))?;
        let opened = open(path, false)?;
        return Ok(Opened {
            note: Some(format!("{shown}: took out {taken} errors, to send their items again")),
            ..opened
        });
    }
    Ok(Opened { file, ledger, note })
}

/// Writes the results without the errors beside the file, and puts them in its place at once.
fn without_errors(path: &Path) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let mut reader = BufReader::new(File::open(path)?);
    let mut writer = BufWriter::new(File::create(&beside)?);
    let mut text = Vec::new();
    while reader.read_until(b'\n', &mut text)? > 0 {
        if serde_json::from_slice::<Recorded>(&text).is_ok_and(|record| record.is_ok()) {
            writer.write_all(&text)?;
        }
        text.clear();
    }
    writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    std::fs::rename(beside, path)
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
