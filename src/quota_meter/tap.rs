//! The look at `usage` as an answer's body passes.

use std::{io::IoSlice, sync::Arc};

use bytes::Buf;
use memchr::memchr;

use super::{
    members::Members,
    reported::{Reported, says_nothing},
    scan::Scanner,
    scope::Scope,
    usage::{Pending, Usage},
};
use crate::body::media::Media;

/// A body's parts that are looked at in one go; one in more parts is not read.
const PARTS: usize = 16;

/// Reads along, and settles what the call used when the body ends, or is dropped.
#[derive(Debug)]
pub(super) struct Tap {
    scanner: Scanner,
    /// `None` for JSON; else where in an event stream the next byte stands.
    line: Option<Line>,
    scope: Arc<Scope>,
    pending: Option<Pending>,
    /// What is to come need not be looked at.
    has_seen_all: bool,
    has_ended: bool,
}

#[derive(Clone, Copy, Debug)]
enum Line {
    /// So many bytes of `data:` were read.
    Start(usize),
    Data,
    Other,
}

const DATA: &[u8] = b"data:";

impl Tap {
    pub(super) fn new(media: Media, scope: Arc<Scope>, pending: Pending) -> Self {
        let line = match media {
            Media::Json => None,
            Media::Events => Some(Line::Start(0)),
        };
        Self { scanner: Scanner::default(), line, scope, pending: Some(pending), has_seen_all: false, has_ended: false }
    }

    /// Whether it could be read. `is_last`: it is known that nothing follows.
    pub(super) fn read(&mut self, data: &impl Buf, is_last: bool) -> bool {
        let mut parts = [IoSlice::new(&[]); PARTS];
        let count = data.chunks_vectored(&mut parts);
        let parts = parts.get(..count).unwrap_or_default();
        let is_whole = parts.iter().map(|part| part.len()).sum::<usize>() == data.remaining();
        if is_whole {
            parts.iter().for_each(|part| self.feed(part, is_last && count == 1));
        }
        is_whole
    }

    /// The body has ended: what was read is all there was.
    pub(super) fn end(&mut self) {
        self.has_ended = true;
    }

    fn feed(&mut self, data: &[u8], is_last: bool) {
        match self.line {
            None => self.json(data, is_last),
            Some(line) => self.line = Some(self.events(line, data)),
        }
    }

    fn json(&mut self, data: &[u8], is_last: bool) {
        if self.has_seen_all {
            return;
        }
        // Mostly it is all there at once.
        let is_all = !self.scanner.has_begun() && (is_last || Members::are_all_of(data));
        match is_all.then(|| Reported::at_a_glance(data)).flatten() {
            Some(reported) => (self.scanner.reported, self.has_seen_all) = (reported, true),
            None => self.scanner.feed(data),
        }
    }

    fn events(&mut self, mut line: Line, mut data: &[u8]) -> Line {
        while let Some((&first, rest)) = data.split_first() {
            if let Line::Start(matched) = line {
                data = rest;
                line = match first {
                    // An empty line ends an event.
                    b'\n' => {
                        if matched == 0 {
                            self.scanner.reset();
                        }
                        Line::Start(0)
                    }
                    b'\r' if matched == 0 => line,
                    _ if DATA.get(matched) != Some(&first) => Line::Other,
                    _ if matched + 1 == DATA.len() => Line::Data,
                    _ => Line::Start(matched + 1),
                };
                continue;
            }
            let end = memchr(b'\n', data);
            let (of_line, rest) = data.split_at(end.unwrap_or(data.len()));
            let is_whole = matches!(rest, [b'\n', b'\n', ..] | [b'\n', b'\r', b'\n', ..]);
            if matches!(line, Line::Data) && !(is_whole && !self.scanner.has_begun() && says_nothing(of_line)) {
                self.scanner.feed(of_line);
            }
            let Some(end) = end else { return line };
            data = rest.get(1..).unwrap_or_default();
            debug_assert_eq!(end, of_line.len());
            line = Line::Start(0);
        }
        line
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if let Some(pending) = self.pending.take() {
            let Reported { input, output, cache, .. } = self.scanner.reported;
            let is_whole = self.has_ended || self.scanner.has_last_word(self.line.is_some());
            self.scope.settle_usage(pending, &Usage { input, output, cache, is_whole });
        }
    }
}
