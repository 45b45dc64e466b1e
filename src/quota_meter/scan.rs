//! Finds the objects of `usage` in JSON that comes in pieces, without keeping the rest.

use memchr::memchr2;

use super::{
    members::Members,
    reported::{Name, Reported},
};

/// Longer ones are passed over; they have some 500 bytes.
const LONGEST: usize = 8 << 10;
const LONGEST_NAME: usize = "usageMetadata".len();

/// Reads JSON byte by byte. `usage` counts in the outermost object, in a `response` or `message` in it, and in each object of an
/// outermost array; what is deeper, or in a string, is somebody's content.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    depth: u32,
    is_in_string: bool,
    is_escaped: bool,
    /// The current string, as far as it may be a name that matters.
    text: Text,
    /// The string that ended last, and the name of the value that comes.
    last: Name,
    name: Name,
    /// What the answer is wrapped in, if it is what is two deep.
    wrapper: Name,
    is_array: bool,
    /// `[DONE]`, which is no JSON, ends streams.
    is_done: bool,
    /// The depth at which the object that is copied began.
    copied_from: Option<u32>,
    copy: Vec<u8>,
    pub(super) reported: Reported,
}

#[derive(Debug, Default)]
struct Text {
    bytes: [u8; LONGEST_NAME],
    len: usize,
}

impl Text {
    fn push(&mut self, bytes: &[u8]) {
        match self.bytes.get_mut(self.len..self.len.saturating_add(bytes.len())) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.spoil(),
        }
    }

    /// It is no name that matters.
    fn spoil(&mut self) {
        self.len = LONGEST_NAME + 1;
    }

    fn end(&mut self, bytes: &[u8]) -> Name {
        self.push(bytes);
        self.bytes.get(..self.len).map_or(Name::Other, Name::of)
    }
}

impl Scanner {
    pub(super) fn feed(&mut self, data: &[u8]) {
        let (mut at, mut copy_from) = (0, 0);
        while let Some(&byte) = data.get(at) {
            if self.is_in_string {
                at += self.string(&data[at..]);
                continue;
            }
            at += 1;
            match byte {
                b'"' => {
                    self.is_in_string = true;
                    self.text.len = 0;
                }
                b':' => self.name = std::mem::take(&mut self.last),
                b',' => self.name = Name::Other,
                b'{' | b'[' => copy_from = if self.open(byte) { at - 1 } else { copy_from },
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.copied_from == Some(self.depth) {
                        self.keep(&data[copy_from..at]);
                        self.end_copy();
                    }
                }
                b'D' if self.depth == 1 && self.is_array => self.is_done = true,
                _ => {}
            }
        }
        self.keep(data.get(copy_from..).unwrap_or_default());
    }

    /// Whether it is in the midst of something.
    pub(super) fn has_begun(&self) -> bool {
        self.depth > 0 || self.is_in_string || self.is_array
    }

    /// A new text begins.
    pub(super) fn reset(&mut self) {
        let copy = std::mem::take(&mut self.copy);
        *self = Self { reported: self.reported, is_done: self.is_done, copy, ..Self::default() };
        self.copy.clear();
    }

    /// Goes on in a string; answers how many bytes of it that were.
    fn string(&mut self, data: &[u8]) -> usize {
        if self.is_escaped {
            self.is_escaped = false;
            return 1;
        }
        let end = memchr2(b'"', b'\\', data).unwrap_or(data.len());
        let (text, rest) = data.split_at(end);
        match rest.first() {
            None => {
                self.text.push(text);
                return end;
            }
            Some(b'\\') => {
                self.is_escaped = true;
                self.text.spoil();
            }
            // Mostly in one piece, which need not be copied.
            Some(_) => {
                self.is_in_string = false;
                self.last = if self.text.len == 0 { Name::of(text) } else { self.text.end(text) };
            }
        }
        end + 1
    }

    /// Whether a copy begins here.
    fn open(&mut self, byte: u8) -> bool {
        let name = std::mem::take(&mut self.name);
        match self.depth {
            0 => self.is_array = byte == b'[',
            1 => self.wrapper = name,
            _ => {}
        }
        let is_in_answer = self.is_array || matches!(self.wrapper, Name::Response | Name::Message);
        let is_place = self.depth == 1 && !self.is_array || self.depth == 2 && is_in_answer;
        let begins = byte == b'{' && name == Name::Usage && is_place && self.copied_from.is_none();
        if begins {
            self.copied_from = Some(self.depth);
        }
        self.depth = self.depth.saturating_add(1);
        begins
    }

    /// Copies, if that is what is done here.
    fn keep(&mut self, data: &[u8]) {
        if self.copied_from.is_none() {
            return;
        }
        if self.copy.len() + data.len() > LONGEST {
            self.copied_from = None;
            self.copy = Vec::new();
        } else {
            self.copy.extend_from_slice(data);
        }
    }

    fn end_copy(&mut self) {
        // Too long, where it is `None` by now.
        if let Some(depth) = self.copied_from.take() {
            let place = if depth == 2 { self.wrapper } else { Name::Other };
            if let Some(mut usage) = Members::of(&self.copy) {
                self.reported.take_in(&mut usage, place);
            }
            self.copy.clear();
        }
    }

    /// Whether nothing is to come that says more, though the body has not ended. `is_stream`: of events.
    pub(super) fn has_last_word(&self, is_stream: bool) -> bool {
        self.is_done || self.reported.is_last || !is_stream && !self.is_array
    }
}

#[cfg(test)]
mod tests {
    use super::{super::reported::says_nothing, *};

    /// Tokens in and out.
    type InOut = (Option<u64>, Option<u64>);

    fn reported(pieces: &[&[u8]]) -> InOut {
        let mut scanner = Scanner::default();
        pieces.iter().for_each(|piece| scanner.feed(piece));
        (scanner.reported.input, scanner.reported.output)
    }

    const ANSWERS: &[(&str, InOut)] = &[
        (r#"{"id":"x","usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}"#, (Some(9), Some(12))),
        (r#"{"usage":{"prompt_tokens":8,"total_tokens":8},"data":[]}"#, (Some(8), None)),
        (r#"{"usage":{"input_tokens":3,"output_tokens":4,"cache_creation_input_tokens":5}}"#, (Some(8), Some(4))),
        (r#"{"response":{"a":[{}],"usage":{"input_tokens":36,"output_tokens":87}}}"#, (Some(36), Some(87))),
        (r#"{"message":{"usage":{"input_tokens":25,"output_tokens":1}}}"#, (Some(25), Some(1))),
        (
            r#"{"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":5,"thoughtsTokenCount":6}}"#,
            (Some(4), Some(11)),
        ),
        (r#"[{"a":1},{"usageMetadata":{"promptTokenCount":4,"x":[{}]}}]"#, (Some(4), None)),
        (r#"{"usage" : { "prompt_tokens" : 1, "details": {"cached_tokens": 9} } }"#, (Some(1), None)),
        (r#"{"choices":[{"usage":{"prompt_tokens":1}}]}"#, (None, None)),
        (r#"{"text":"\"usage\":{\"prompt_tokens\":1}"}"#, (None, None)),
        (r#"{"args":{"usage":{"prompt_tokens":1}}}"#, (None, None)),
        (r#"{"usage":null,"x":{"prompt_tokens":1}}"#, (None, None)),
        (r#"{"usage":{"prompt_tokens":1,"completion_tokens":1e300}}"#, (None, None)),
        (r#"{"usage":{"prompt_tokens":-1,"completion_tokens":1}}"#, (None, None)),
        (r#"{"usage":{"prompt_tokens":1e7,"completion_tokens":10000000.5}}"#, (None, None)),
        (r#"{"usage":{"prompt_tokens":10000000,"completion_tokens":0}}"#, (Some(10_000_000), Some(0))),
        (r#"}}}]]{"usage":{"prompt_tokens":1}}"#, (Some(1), None)),
    ];

    #[test]
    fn every_spelling_is_read_however_it_is_cut() {
        for &(json, expected) in ANSWERS {
            let bytes = json.as_bytes();
            assert_eq!(reported(&[bytes]), expected, "{json}");
            for cut in 0..bytes.len() {
                assert_eq!(reported(&[&bytes[..cut], &bytes[cut..]]), expected, "{json} cut at {cut}");
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(reported(&single), expected, "{json} byte by byte");
        }
    }

    #[test]
    fn a_glance_shows_the_same_or_nothing() {
        for &(json, expected) in ANSWERS {
            for json in [json.to_owned(), format!(" {json}\n"), json.replace(':', "\n: ")] {
                let glance = Reported::at_a_glance(json.as_bytes());
                let glance = glance.map(|reported| (reported.input, reported.output));
                assert!(glance.is_none_or(|glance| glance == expected), "{json}: {glance:?}");
                let is_plain = json.trim_start().starts_with(r#"{"usage"#) && expected != (None, None);
                assert!(glance.is_some() || !is_plain, "{json}");
            }
        }
        let long = r#"{"id":"x","choices":[{"text":"\"usage\":{}}]"}],"usage":{"prompt_tokens":9},"x":"y"}"#;
        let glance = Reported::at_a_glance(long.as_bytes());
        assert_eq!(glance.and_then(|reported| reported.input), Some(9));
    }

    #[test]
    fn an_event_may_say_nothing() {
        for (event, expected) in [
            (r#"{"choices":[]}"#, true),
            (r#" {"choices":[],"usage":null}"#, false),
            (" [DONE]", false),
            (r#""usage""#, false),
        ] {
            assert_eq!(says_nothing(event.as_bytes()), expected, "{event}");
        }
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        let mut scanner = Scanner::default();
        scanner.feed(br#"{"usage":{"x":""#);
        for _ in 0..1000 {
            scanner.feed(&[b'x'; 1000]);
            assert!(scanner.copy.capacity() <= 2 * LONGEST);
        }
        scanner.feed(br#""},"usage":{"prompt_tokens":5}}"#);
        assert_eq!(scanner.reported.input, Some(5));
    }
}
