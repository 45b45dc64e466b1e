//! The batch that goes in: a file in the format of OpenAI's Batch API, or one made up.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::PathBuf,
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tower_outbound::mock::token_cost;

/// The longest line that is read.
pub(crate) const MAX_LINE: usize = 16 << 20;

/// Where the items come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    File(PathBuf),
    Made { items: u64, seed: u64 },
}

/// One request of the batch.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) line: u64,
    pub(crate) custom_id: String,
    /// `/v1/chat/completions` and the like.
    pub(crate) path: String,
    /// The body, byte for byte as it stands in the file: the order of fields matters to some.
    pub(crate) body: Bytes,
    /// What the API will count for it, where that can be told.
    pub(crate) tokens: Option<u64>,
}

/// A line that is no request.
#[derive(Debug)]
pub(crate) struct Malformed {
    pub(crate) line: u64,
    /// Its custom_id, where it has one.
    pub(crate) custom_id: Option<String>,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// Tokens that OpenAI reserves for an answer whose request sets no limit.
const DEFAULT_COMPLETION: u64 = 256;

/// A line that was read: a request, or why it is none.
pub(crate) type Line = Result<Item, Malformed>;

#[derive(Deserialize)]
struct Fields {
    custom_id: Option<Value>,
    method: Option<Value>,
    url: Option<Value>,
    body: Option<Box<RawValue>>,
}

impl Source {
    /// How many items there are. Reads the file once, so that what cannot be read is known before anything is sent.
    pub(crate) fn count(&self) -> io::Result<u64> {
        let path = match self {
            Self::Made { items, .. } => return Ok(*items),
            Self::File(path) => path,
        };
        let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
        let (mut items, mut blank) = (0, true);
        loop {
            let buffer = reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(items + u64::from(!blank));
            }
            for byte in buffer {
                match byte {
                    b'\n' => {
                        items += u64::from(!blank);
                        blank = true;
                    }
                    byte => blank &= byte.is_ascii_whitespace(),
                }
            }
            let length = buffer.len();
            reader.consume(length);
        }
    }

    /// The items, one by one: nothing but the line at hand is in memory.
    pub(crate) fn items(&self) -> io::Result<Box<dyn Iterator<Item = io::Result<Line>>>> {
        match self {
            Self::File(path) => {
                let lines = Lines { reader: BufReader::with_capacity(1 << 16, File::open(path)?), line: 0 };
                Ok(Box::new(lines.map(|line| line.map(|(line, text)| parse(line, &text)))))
            }
            Self::Made { items, seed } => {
                let seed = *seed;
                Ok(Box::new((1..=*items).map(move |line| Ok(parse(line, made(seed, line).as_bytes())))))
            }
        }
    }
}

/// Lines that are not blank, with their numbers from 1; of one past the cap, the first bytes past the cap.
struct Lines<R> {
    reader: R,
    line: u64,
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<(u64, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut text = Vec::new();
            let read = (&mut self.reader).take(MAX_LINE as u64 + 1).read_until(b'\n', &mut text);
            match read {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
            self.line += 1;
            if text.len() > MAX_LINE
                && text.last() != Some(&b'\n')
                && let Err(error) = self.reader.skip_until(b'\n')
            {
                return Some(Err(error));
            }
            if self.line == 1 && text.starts_with(b"\xef\xbb\xbf") {
                text.drain(..3);
            }
            if !text.trim_ascii().is_empty() {
                return Some(Ok((self.line, text)));
            }
        }
    }
}

fn parse(line: u64, text: &[u8]) -> Line {
    let malformed = |custom_id: Option<String>, code, message: String| Malformed { line, custom_id, code, message };
    if text.len() > MAX_LINE {
        return Err(malformed(None, "line_too_long", format!("the line is longer than {MAX_LINE} bytes")));
    }
    let parsed: Fields = serde_json::from_slice(text).map_err(|error| {
        malformed(None, "invalid_json_line", format!("the line is no JSON object of a batch: {error}"))
    })?;
    let custom_id = match parsed.custom_id {
        Some(Value::String(id)) if !id.is_empty() => id,
        _ => return Err(malformed(None, "invalid_custom_id", "custom_id is missing, empty or no string".into())),
    };
    let id = || Some(custom_id.clone());
    match parsed.method {
        Some(Value::String(method)) if method == "POST" => {}
        _ => return Err(malformed(id(), "invalid_method", "method is not \"POST\"".into())),
    }
    let path = match parsed.url {
        Some(Value::String(url)) if url.starts_with('/') && url.parse::<http::uri::PathAndQuery>().is_ok() => url,
        _ => return Err(malformed(id(), "invalid_url", "url is no path such as \"/v1/chat/completions\"".into())),
    };
    let body = match &parsed.body {
        Some(body) if body.get().starts_with('{') => body.get(),
        _ => return Err(malformed(id(), "invalid_body", "body is missing or no object".into())),
    };
    let tokens = serde_json::from_str(body).ok().and_then(|body| token_cost(&path, &body, DEFAULT_COMPLETION));
    Ok(Item { line, custom_id, path, body: Bytes::copy_from_slice(body.as_bytes()), tokens })
}

/// A question for the embedded API, the same for the same seed and line.
fn made(seed: u64, line: u64) -> String {
    // Any spread will do; the multiplier is SplitMix64's.
    let spread = (seed ^ line).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    json!({
        "custom_id": format!("item-{line}"),
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "gpt-4o-mini",
            "messages": [
                { "role": "system", "content": "You are a helpful assistant." },
                { "role": "user", "content": format!("Question {line}: what is {spread} times {line}?") },
            ],
            "max_tokens": 100 + spread % 200,
        },
    })
    .to_string()
}
