//! The words of an error, in one buffer.

use std::sync::OnceLock;

use super::mask::mask_into;

/// Which of the texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Code,
    Type,
    Param,
    Message,
    RequestId,
}

const FIELDS: usize = 5;

impl Field {
    /// The longest text that is kept, in bytes. Messages echo what was sent; the rest are identifiers.
    const fn limit(self) -> usize {
        match self {
            Self::Message => 2048,
            _ => 256,
        }
    }
}

/// All texts one behind the other, and where each lies.
///
/// Identifiers are masked as they come in. The message is masked when somebody first looks at it: that is most of the
/// work, and of the failures that are only waited out nobody reads one. Until then it is out of reach.
#[derive(Clone, Default)]
pub(crate) struct Text {
    all: String,
    spans: [Option<(u16, u16)>; FIELDS],
    /// The message with its keys masked; `None` inside where it has none.
    masked: OnceLock<Option<Box<str>>>,
}

impl Text {
    /// Copies of these, in one allocation.
    pub(crate) fn of(texts: &[(Field, Option<&str>)]) -> Self {
        let mut text = Self::default();
        text.all
            .reserve(texts.iter().filter_map(|(field, text)| Some(kept(text.as_ref()?, field.limit()).len())).sum());
        for (field, value) in texts {
            if let Some(value) = value {
                text.push(*field, value);
            }
        }
        text
    }

    pub(crate) fn set(&mut self, field: Field, value: &str) {
        // Written anew, so that setting a field often does not grow the buffer.
        let old = std::mem::take(self);
        for other in [Field::Code, Field::Type, Field::Param, Field::Message, Field::RequestId] {
            if let Some(kept) = if other == field { Some(value) } else { old.raw(other) } {
                self.push(other, kept);
            }
        }
    }

    fn push(&mut self, field: Field, value: &str) {
        let start = self.all.len();
        let value = kept(value, field.limit());
        if field == Field::Message {
            self.all.push_str(value);
        } else {
            mask_into(&mut self.all, value, false);
        }
        if let (Ok(start), Ok(end)) = (u16::try_from(start), u16::try_from(self.all.len())) {
            self.spans[field as usize] = Some((start, end));
        }
    }

    fn raw(&self, field: Field) -> Option<&str> {
        let (start, end) = self.spans[field as usize]?;
        self.all.get(usize::from(start)..usize::from(end))
    }

    pub(crate) fn get(&self, field: Field) -> Option<&str> {
        let raw = self.raw(field)?;
        if field != Field::Message {
            return Some(raw);
        }
        let masked = self.masked.get_or_init(|| {
            let mut masked = String::with_capacity(raw.len());
            mask_into(&mut masked, raw, true);
            (masked != raw).then(|| masked.into_boxed_str())
        });
        Some(masked.as_deref().unwrap_or(raw))
    }
}

/// At most `limit` bytes from the front, with no word broken off: half a key is not seen to be one, and shows half of it.
/// What has no end for so long that a key would be found in it by its length stays.
fn kept(text: &str, limit: usize) -> &str {
    const LONGEST: usize = 512;
    let short = cut(text, limit);
    let is_whole = text.get(short.len()..).is_none_or(|rest| rest.is_empty() || rest.starts_with(ends_word));
    let end = short.rfind(ends_word).map_or(0, |at| at + 1);
    if is_whole || short.len() - end > LONGEST || end == 0 { short } else { short.get(..end).unwrap_or(short) }
}

/// Characters that are in no key, as it is or encoded.
fn ends_word(c: char) -> bool {
    c.is_ascii_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>')
}

/// At most `limit` bytes from the front, no character split.
pub(super) fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    // `str::floor_char_boundary` is younger than our oldest compiler.
    (0..=limit).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}
