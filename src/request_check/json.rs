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
}

type Scanned<T> = Result<T, Syntax>;

impl<'a> Scan<'a> {
    pub(super) fn new(json: &'a [u8]) -> Self {
        Self { json, at: 0 }
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
        let (mut escaped, mut high) = (false, false);
        loop {
            high |= self.skip_plain();
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
        let raw = self.since(start);
        // Escapes, quotes and all that stands between strings are ASCII.
        if high && let Err(error) = std::str::from_utf8(raw) {
            return Err(Syntax { at: start + error.valid_up_to(), expected: "UTF-8" });
        }
        self.at += 1;
        Ok(Text { raw, escaped })
    }

    /// Goes on to the next quote, backslash or control character; whether something on the way is no ASCII.
    #[inline]
    fn skip_plain(&mut self) -> bool {
        const ONES: u64 = u64::MAX / 0xff;
        const HIGH: u64 = ONES << 7;
        /// The highest bit of each byte that is zero. Only the lowest of the bits is sure, and only that one is used.
        const fn zeros(bytes: u64) -> u64 {
            bytes.wrapping_sub(ONES) & !bytes & HIGH
        }
        let rest = self.json.get(self.at..).unwrap_or_default();
        let (mut done, mut high) = (0, false);
        // Text without anything special goes by 32 bytes; the compiler makes vectors of this.
        while let Some(block) = rest.get(done..).and_then(|rest| rest.first_chunk::<32>()) {
            let (mut special, mut bits) = (false, 0);
            for byte in block {
                special |= (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\');
                bits |= *byte;
            }
            if special {
                break;
            }
            high |= bits >= 0x80;
            done += 32;
        }
        while let Some(block) = rest.get(done..).and_then(|rest| rest.first_chunk::<8>()) {
            let bytes = u64::from_le_bytes(*block);
            let control = bytes.wrapping_sub(ONES * 0x20) & !bytes & HIGH;
            let special = control | zeros(bytes ^ (ONES * b'"' as u64)) | zeros(bytes ^ (ONES * b'\\' as u64));
            high |= bytes & HIGH != 0;
            if special != 0 {
                self.at += done + special.trailing_zeros() as usize / 8;
                return high;
            }
            done += 8;
        }
        for byte in rest.get(done..).unwrap_or_default() {
            if *byte < 0x20 || matches!(byte, b'"' | b'\\') {
                break;
            }
            high |= *byte >= 0x80;
            done += 1;
        }
        self.at += done;
        high
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
