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
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    pub(super) raw: &'a [u8],
    pub(super) escaped: bool,
}

impl<'a> Text<'a> {
    /// What it says. A lone surrogate, which is no character, leaves it as written.
    pub(super) fn decoded(self) -> Cow<'a, str> {
        if self.escaped {
            let quoted = [b"\"", self.raw, b"\""].concat();
            if let Ok(text) = serde_json::from_slice(&quoted) {
                return Cow::Owned(text);
            }
        }
        String::from_utf8_lossy(self.raw)
    }

    pub(super) fn is(self, name: &str) -> bool {
        if self.escaped { self.decoded() == name } else { self.raw == name.as_bytes() }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Scan<'a> {
    json: &'a [u8],
    at: usize,
    /// Up to here it is UTF-8.
    sound: usize,
}

type Scanned<T> = Result<T, Syntax>;

impl<'a> Scan<'a> {
    pub(super) fn new(json: &'a [u8]) -> Self {
        // All at once, as many times faster than string by string; where it ends is seldom asked.
        let sound = match simdutf8::basic::from_utf8(json) {
            Ok(text) => text.len(),
            Err(_) => std::str::from_utf8(json).map_or_else(|error| error.valid_up_to(), str::len),
        };
        Self { json, at: 0, sound }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// From there to here, as written.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        self.json.get(start..self.at).unwrap_or_default()
    }

    fn expected<T>(&self, expected: &'static str) -> Scanned<T> {
        Err(Syntax { at: self.at, expected })
    }

    #[inline]
    fn here(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    #[inline]
    fn skip_space(&mut self) -> Option<u8> {
        loop {
            let byte = self.here()?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// The kind of the value that begins here.
    #[inline]
    pub(super) fn kind(&mut self) -> Scanned<Kind> {
        Ok(match self.skip_space() {
            Some(b'"') => Kind::Text,
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => return self.expected("a value"),
        })
    }

    /// Nothing may follow.
    pub(super) fn end(&mut self) -> Scanned<()> {
        match self.skip_space() {
            None => Ok(()),
            Some(_) => self.expected("the end"),
        }
    }

    /// After a `{` or `[`: whether a member follows, and not the end. `first`: nothing has come yet.
    #[inline]
    fn more(&mut self, first: bool, close: u8, expected: &'static str) -> Scanned<bool> {
        match self.skip_space() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(_) if first => Ok(true),
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            _ => self.expected(expected),
        }
    }

    /// Goes into the object or array that begins here.
    #[inline]
    pub(super) fn enter(&mut self) {
        self.at += 1;
    }

    /// In an array, whether there is one more item, which then begins here.
    #[inline]
    pub(super) fn item(&mut self, first: bool) -> Scanned<bool> {
        self.more(first, b']', "`,` or `]`")
    }

    /// In an object, the next name, after which its value begins.
    #[inline]
    pub(super) fn name(&mut self, first: bool) -> Scanned<Option<Text<'a>>> {
        if !self.more(first, b'}', "`,` or `}`")? {
            return Ok(None);
        }
        if self.skip_space() != Some(b'"') {
            return self.expected("a name in quotes");
        }
        let name = self.text()?;
        if self.skip_space() != Some(b':') {
            return self.expected("`:`");
        }
        self.at += 1;
        Ok(Some(name))
    }

    /// `true`, `false` or `null`.
    pub(super) fn word(&mut self) -> Scanned<()> {
        let word: &[u8] = match self.here() {
            Some(b't') => b"true",
            Some(b'f') => b"false",
            _ => b"null",
        };
        let rest = self.json.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            self.at += rest.iter().zip(word).take_while(|(found, wanted)| found == wanted).count();
            return self.expected("`true`, `false` or `null`");
        }
        self.at += word.len();
        Ok(())
    }

    fn digits(&mut self) -> Scanned<()> {
        if !matches!(self.here(), Some(b'0'..=b'9')) {
            return self.expected("a digit");
        }
        while matches!(self.here(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    /// A number of a few digits and no more, which most are: passed over as it is read. Anything else is left where it is.
    #[inline]
    pub(super) fn few_digits(&mut self) -> Option<u64> {
        /// With the byte that ends it.
        const MOST: usize = 10;
        let first = self.skip_space()?;
        if !matches!(first, b'1'..=b'9') {
            return None;
        }
        let mut value = 0;
        for (count, byte) in self.json.get(self.at..)?.iter().take(MOST).enumerate() {
            match byte {
                b'0'..=b'9' => value = value * 10 + u64::from(byte - b'0'),
                b'.' | b'e' | b'E' => return None,
                _ => {
                    self.at += count;
                    return Some(value);
                }
            }
        }
        None
    }

    /// A number, as written.
    pub(super) fn number(&mut self) -> Scanned<&'a [u8]> {
        let start = self.at;
        if self.here() == Some(b'-') {
            self.at += 1;
        }
        if self.here() == Some(b'0') {
            self.at += 1;
            if matches!(self.here(), Some(b'0'..=b'9')) {
                return self.expected("a number without leading zeros");
            }
        } else {
            self.digits()?;
        }
        if self.here() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.here(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.here(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(self.since(start))
    }

    /// The string that begins here.
    #[inline]
    pub(super) fn text(&mut self) -> Scanned<Text<'a>> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.skip_plain();
            match self.here() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.expected("no control character in a string"),
                None => return self.expected("`\"` at the end of a string"),
            }
        }
        // Elsewhere, what is no ASCII is no JSON.
        if self.at > self.sound {
            return Err(Syntax { at: self.sound, expected: "UTF-8" });
        }
        let raw = self.since(start);
        self.at += 1;
        Ok(Text { raw, escaped })
    }

    /// Goes on to the next quote, backslash or control character.
    #[inline]
    fn skip_plain(&mut self) {
        let rest = self.json.get(self.at..).unwrap_or_default();
        let mut done = 0;
        // Most strings are short.
        for _ in 0..2 {
            let Some(block) = rest.get(done..).and_then(|rest| rest.first_chunk()) else { break };
            let plain = plain_bytes(*block);
            done += plain;
            if plain < 8 {
                self.at += done;
                return;
            }
        }
        self.at += done + skip_long(rest.get(done..).unwrap_or_default());
    }

    #[inline]
    fn escape(&mut self) -> Scanned<()> {
        self.at += 1;
        match self.here() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.here().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return self.expected("four hexadecimal digits after `\\u`");
                    }
                    self.at += 1;
                }
            }
            _ => return self.expected("an escape such as `\\n` or `\\u00e9`"),
        }
        Ok(())
    }
}

/// How many bytes come before the first that is special in a string.
#[inline]
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
