//! The batch that goes in: a file in the format of OpenAI's Batch API, or one made up.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tower_outbound::mock::token_cost;

use crate::temp;

/// The longest line that is read, in bytes without its end.
pub(crate) const MAX_LINE: usize = 16 << 20;

/// Where the items come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    File(PathBuf),
    /// What came from a pipe, kept in a file without a name: it is read more than once.
    Spooled(Arc<File>),
    Made {
        items: u64,
        seed: u64,
    },
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
    /// What the API will count for it, where that can be told; see [`reckon`](Self::reckon).
    pub(crate) tokens: Option<u64>,
}

impl Item {
    pub(crate) fn reckon(&mut self) {
        let body = serde_json::from_slice(&self.body).ok();
        self.tokens = body.and_then(|body| token_cost(&self.path, &body, DEFAULT_COMPLETION));
    }

    /// The model it asks; empty where it names none.
    pub(crate) fn model(&self) -> String {
        #[derive(Deserialize)]
        struct Ask {
            model: String,
        }
        serde_json::from_slice(&self.body).map_or(String::new(), |ask: Ask| ask.model)
    }
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

impl Malformed {
    /// A line whose custom_id was used before, on the line `first`.
    pub(crate) fn twice(line: u64, custom_id: String, first: u64) -> Self {
        let message = format!("custom_id {custom_id:?} was used before, on line {first}");
        Self { line, custom_id: Some(custom_id), code: "duplicate_custom_id", message }
    }
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

#[derive(Deserialize)]
struct Streamed {
    stream: Option<Value>,
}

impl Source {
    /// The file at this place, or all that comes from the pipe or device there.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let kind = file.metadata()?.file_type();
        if kind.is_file() {
            return Ok(Self::File(path.to_owned()));
        }
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let (place, mut spool) = temp::create(&std::env::temp_dir(), "tower-outbound-batch-input")?;
        let copied = io::copy(&mut file, &mut spool);
        // It lives as long as it is open. Where that cannot be, it is left behind.
        let _ = std::fs::remove_file(place);
        copied?;
        Ok(Self::Spooled(Arc::new(spool)))
    }

    /// The items, one by one: nothing but the line at hand is in memory. Of a spooled input, one reader at a time.
    pub(crate) fn items(&self) -> io::Result<Box<dyn Iterator<Item = io::Result<Line>>>> {
        match self {
            Self::File(path) => Ok(lines(File::open(path)?)),
            Self::Spooled(file) => {
                let mut file = file.try_clone()?;
                file.rewind()?;
                Ok(lines(file))
            }
            Self::Made { items, seed } => {
                let seed = *seed;
                Ok(Box::new((1..=*items).map(move |line| Ok(parse(line, made(seed, line).as_bytes())))))
            }
        }
    }
}

fn lines(file: File) -> Box<dyn Iterator<Item = io::Result<Line>>> {
    let lines = Lines { reader: BufReader::with_capacity(1 << 16, file), line: 0 };
    Box::new(lines.map(|line| line.map(|(line, text)| parse(line, &text))))
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
            let read = (&mut self.reader).take(MAX_LINE as u64 + 2).read_until(b'\n', &mut text);
            match read {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
            self.line += 1;
            if text.last() == Some(&b'\n') {
                text.pop();
            } else if text.len() > MAX_LINE
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
    if text.strip_suffix(b"\r").unwrap_or(text).len() > MAX_LINE {
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
    // An answer in pieces is none that a line can hold.
    if serde_json::from_str(body).is_ok_and(|body: Streamed| body.stream == Some(Value::Bool(true))) {
        return Err(malformed(id(), "invalid_body", "body has \"stream\": true, which a batch does not take".into()));
    }
    Ok(Item { line, custom_id, path, body: Bytes::copy_from_slice(body.as_bytes()), tokens: None })
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
