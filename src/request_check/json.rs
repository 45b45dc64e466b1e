//! A walk over the bytes of a JSON text (RFC 8259): what it is made of, and where it is none. Nothing is copied.
//!
//! By hand and not by `serde_json`, because the kind of a value is to be seen before it is read, and most values are to be
//! passed over without being decoded. It takes exactly what `serde_json` takes; a property test holds it to that.

use std::borrow::Cow;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    Text,
    Number,
    Bool,
    Null,
}

/// Where the text stops being JSON, and what would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syntax {
    pub(super) at: usize,
    pub(super) expected: &'static str,
}

/// A string as it is written, without its quotes.
///
/// Nothing more is in it, so that it fits into registers: whether it has escapes is asked where that matters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a>(pub(super) &'a [u8]);

impl<'a> Text<'a> {
    pub(super) fn is_escaped(self) -> bool {
        self.0.contains(&b'\\')
    }

    /// What it says. A lone surrogate, which is no character, leaves it as written.
    pub(super) fn decoded(self) -> Cow<'a, str> {
        if self.is_escaped() {
            let quoted = [b"\"", self.0, b"\""].concat();
            if let Ok(text) = serde_json::from_slice(&quoted) {
                return Cow::Owned(text);
            }
        }
        String::from_utf8_lossy(self.0)
    }
}

/// The bytes of the text, and where it stops being JSON.
///
/// Positions are arguments and results, not state: a cursor in memory makes each byte wait for the one before it.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    /// As far as it is UTF-8.
    json: &'a [u8],
    /// Whether more follows, which is no UTF-8.
    is_cut: bool,
    fault: Option<Syntax>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(json: &'a [u8]) -> Self {
        // All at once, as many times faster than string by string; where it ends is seldom asked.
        let sound = match simdutf8::basic::from_utf8(json) {
            Ok(text) => text.len(),
            Err(_) => std::str::from_utf8(json).map_or_else(|error| error.valid_up_to(), str::len),
        };
        Self { json: json.get(..sound).unwrap_or(json), is_cut: sound < json.len(), fault: None }
    }

    /// Where it is no JSON, after a `None`.
    pub(super) fn fault(&self) -> Option<Syntax> {
        self.fault
    }

    /// As written.
    pub(super) fn between(&self, start: usize, end: usize) -> &'a [u8] {
        self.json.get(start..end).unwrap_or_default()
    }

    #[cold]
    pub(super) fn expected<T>(&mut self, at: usize, expected: &'static str) -> Option<T> {
        self.fault = Some(Syntax { at, expected });
        None
    }

    /// The byte there; 0, which JSON has nowhere, at the end.
    #[inline(always)]
    fn here(&self, at: usize) -> u8 {
        self.json.get(at).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn after_space(&self, mut at: usize) -> usize {
        while matches!(self.here(at), b' ' | b'\n' | b'\r' | b'\t') {
            at += 1;
        }
        at
    }

    /// The kind of the next value, and where it begins.
    #[inline(always)]
    pub(super) fn kind(&mut self, at: usize) -> Option<(Kind, usize)> {
        let at = self.after_space(at);
        let kind = match self.here(at) {
            b'"' => Kind::Text,
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b'-' | b'0'..=b'9' => Kind::Number,
            b't' | b'f' => Kind::Bool,
            b'n' => Kind::Null,
            _ => return self.expected(at, "a value"),
        };
        Some((kind, at))
    }

    /// Nothing may follow.
    pub(super) fn end(&mut self, at: usize) -> Option<()> {
        let at = self.after_space(at);
        if at == self.json.len() && !self.is_cut { Some(()) } else { self.expected(at, "the end") }
    }

    /// In an object or array: where it goes on, and whether it does, with one more member; else it has ended there.
    /// `first`: nothing has come yet.
    #[inline(always)]
    fn more(&mut self, at: usize, first: bool, close: u8, expected: &'static str) -> Option<(bool, usize)> {
        let at = self.after_space(at);
        match self.here(at) {
            byte if byte == close => Some((false, at + 1)),
            b',' if !first => Some((true, at + 1)),
            _ if first => Some((true, at)),
            _ => self.expected(at, expected),
        }
    }

    /// In an array, whether there is one more item, which then begins there.
    #[inline(always)]
    pub(super) fn item(&mut self, at: usize, first: bool) -> Option<(bool, usize)> {
        self.more(at, first, b']', "`,` or `]`")
    }

    /// In an object, whether there is one more [name](Self::name), which then begins there.
    #[inline(always)]
    pub(super) fn member(&mut self, at: usize, first: bool) -> Option<(bool, usize)> {
        self.more(at, first, b'}', "`,` or `}`")
    }

    /// A name, after which its value begins.
    #[inline(always)]
    pub(super) fn name(&mut self, at: usize) -> Option<(Text<'a>, usize)> {
        let at = self.after_space(at);
        if self.here(at) != b'"' {
            return self.expected(at, "a name in quotes");
        }
        let (name, at) = self.text(at)?;
        let at = self.after_space(at);
        if self.here(at) != b':' {
            return self.expected(at, "`:`");
        }
        Some((name, at + 1))
    }

    /// `true`, `false` or `null`, and the end of it.
    pub(super) fn word(&mut self, at: usize) -> Option<usize> {
        let word: &[u8] = match self.here(at) {
            b't' => b"true",
            b'f' => b"false",
            _ => b"null",
        };
        let rest = self.json.get(at..).unwrap_or_default();
        if !rest.starts_with(word) {
            let same = rest.iter().zip(word).take_while(|(found, wanted)| found == wanted).count();
            return self.expected(at + same, "`true`, `false` or `null`");
        }
        Some(at + word.len())
    }

    #[inline]
    fn digits(&mut self, mut at: usize) -> Option<usize> {
        if !self.here(at).is_ascii_digit() {
            return self.expected(at, "a digit");
        }
        while self.here(at).is_ascii_digit() {
            at += 1;
        }
        Some(at)
    }

    /// A number of a few digits and no more, which most are, if it is one of these, and the end of it.
    #[inline(always)]
    pub(super) fn few_digits(&self, at: usize, (least, most): (f64, f64)) -> Option<(u64, usize)> {
        /// With the byte that ends it.
        const MOST: usize = 10;
        let at = self.after_space(at);
        if !matches!(self.here(at), b'1'..=b'9') {
            return None;
        }
        let mut value = 0;
        for (count, byte) in self.json.get(at..)?.iter().take(MOST).enumerate() {
            match byte {
                b'0'..=b'9' => value = value * 10 + u64::from(byte - b'0'),
                b'.' | b'e' | b'E' => return None,
                _ if (least..=most).contains(&(value as f64)) => return Some((value, at + count)),
                _ => return None,
            }
        }
        None
    }

    /// The end of the number that begins there.
    pub(super) fn number(&mut self, mut at: usize) -> Option<usize> {
        if self.here(at) == b'-' {
            at += 1;
        }
        if self.here(at) == b'0' {
            at += 1;
            if self.here(at).is_ascii_digit() {
                return self.expected(at, "a number without leading zeros");
            }
        } else {
            at = self.digits(at)?;
        }
        if self.here(at) == b'.' {
            at = self.digits(at + 1)?;
        }
        if matches!(self.here(at), b'e' | b'E') {
            at += 1;
            if matches!(self.here(at), b'+' | b'-') {
                at += 1;
            }
            at = self.digits(at)?;
        }
        Some(at)
    }

    /// The string that begins there, and the end of it.
    #[inline(always)]
    pub(super) fn text(&mut self, at: usize) -> Option<(Text<'a>, usize)> {
        let start = at + 1;
        // Most are short, and end before anything else comes.
        let rest = self.json.get(start..).unwrap_or_default();
        if let Some(block) = rest.first_chunk()
            && let Some((raw, [b'"', ..])) = rest.split_at_checked(plain_bytes(*block))
        {
            return Some((Text(raw), start + raw.len() + 1));
        }
        let raw = self.long_text(start)?;
        Some((Text(raw), start + raw.len() + 1))
    }

    #[inline(never)]
    fn long_text(&mut self, start: usize) -> Option<&'a [u8]> {
        let json = self.json;
        let mut at = start;
        loop {
            at += plain(json.get(at..).unwrap_or_default());
            match json.get(at) {
                Some(b'"') => return Some(self.between(start, at)),
                Some(b'\\') => at = self.escape(at + 1)?,
                Some(_) => return self.expected(at, "no control character in a string"),
                None if self.is_cut => return self.expected(at, "UTF-8"),
                None => return self.expected(at, "`\"` at the end of a string"),
            }
        }
    }

    /// The end of the escape, whose backslash stands before `at`.
    #[inline(always)]
    fn escape(&mut self, at: usize) -> Option<usize> {
        match self.here(at) {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 1),
            b'u' => {
                for at in at + 1..at + 5 {
                    if !self.here(at).is_ascii_hexdigit() {
                        return self.expected(at, "four hexadecimal digits after `\\u`");
                    }
                }
                Some(at + 5)
            }
            _ => self.expected(at, "an escape such as `\\n` or `\\u00e9`"),
        }
    }
}

/// How many bytes come before the next quote, backslash or control character.
#[inline(always)]
fn plain(text: &[u8]) -> usize {
    let mut done = 0;
    // Most of what stands between escapes is short.
    for _ in 0..2 {
        let Some(block) = text.get(done..).and_then(|rest| rest.first_chunk()) else { break };
        let plain = plain_bytes(*block);
        done += plain;
        if plain < 8 {
            return done;
        }
    }
    done + skip_long(text.get(done..).unwrap_or_default())
}

/// The same in a block; 8 if there is none.
#[inline(always)]
fn plain_bytes(block: [u8; 8]) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES << 7;
    /// The highest bit of each byte that is less. Only the lowest of the bits is sure, and only that one is used.
    const fn less(bytes: u64, than: u8) -> u64 {
        bytes.wrapping_sub(ONES * than as u64) & !bytes
    }
    let bytes = u64::from_le_bytes(block);
    let quote = less(bytes ^ (ONES * b'"' as u64), 1);
    let backslash = less(bytes ^ (ONES * b'\\' as u64), 1);
    ((less(bytes, 0x20) | quote | backslash) & HIGH).trailing_zeros() as usize / 8
}

/// The same, for text of any length.
#[inline(never)]
fn skip_long(text: &[u8]) -> usize {
    let is_special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    let mut done = 0;
    // By 32 bytes; the compiler makes vectors of this.
    while let Some(block) = text.get(done..).and_then(|rest| rest.first_chunk::<32>()) {
        if block.iter().fold(false, |any, byte| any | (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\')) {
            break;
        }
        done += 32;
    }
    while let Some(block) = text.get(done..).and_then(|rest| rest.first_chunk()) {
        let plain = plain_bytes(*block);
        done += plain;
        if plain < 8 {
            return done;
        }
    }
    done + text.get(done..).unwrap_or_default().iter().take_while(|byte| !is_special(byte)).count()
}
