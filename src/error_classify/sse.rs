//! Event streams, cut into events. <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>

/// The longest line and the most data of one event that are kept, in bytes; what goes past is left out. An error is shorter.
const MOST: usize = 64 * 1024;

/// Takes the bytes as they come, in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The line begun.
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    /// The last byte was a carriage return: a line feed right behind it ends no second line.
    after_return: bool,
    begun: bool,
}

impl Events {
    /// Sees some bytes, and hands on each event that they complete, by name and data.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut event: impl FnMut(&[u8], &[u8])) {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                bytes = bytes.get(1..).unwrap_or_default();
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let Some((line, rest)) = end.and_then(|end| bytes.split_at_checked(end)) else {
                return append(&mut self.line, bytes);
            };
            self.after_return = rest.first() == Some(&b'\r');
            bytes = rest.get(1..).unwrap_or_default();
            if self.line.is_empty() {
                self.line(line, &mut event);
            } else {
                let mut whole = std::mem::take(&mut self.line);
                append(&mut whole, line);
                self.line(&whole, &mut event);
                // Kept for the next, so that a stream cut at odd places does not allocate for each.
                whole.clear();
                self.line = whole;
            }
        }
    }

    /// The end: an event that lacks only its blank line is one nevertheless, for servers that give up in an error.
    pub(super) fn end(&mut self, mut event: impl FnMut(&[u8], &[u8])) {
        let line = std::mem::take(&mut self.line);
        self.line(&line, &mut event);
        self.line(&[], &mut event);
    }

    fn line(&mut self, line: &[u8], event: &mut impl FnMut(&[u8], &[u8])) {
        let line = if self.begun { line } else { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) };
        self.begun = true;
        if line.is_empty() {
            if !self.data.is_empty() {
                event(&self.name, &self.data);
            }
            self.name.clear();
            self.data.clear();
            return;
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':').and_then(|at| line.split_at_checked(at)) {
            Some((field, value)) => (field, value.get(1..).unwrap_or_default()),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => {
                self.name.clear();
                append(&mut self.name, value);
            }
            b"data" => {
                if !self.data.is_empty() {
                    append(&mut self.data, b"\n");
                }
                append(&mut self.data, value);
            }
            _ => {}
        }
    }
}

fn append(to: &mut Vec<u8>, bytes: &[u8]) {
    let room = MOST.saturating_sub(to.len());
    to.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut events = Events::default();
        let mut seen = Vec::new();
        let mut see = |name: &[u8], data: &[u8]| {
            seen.push((String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(data).into_owned()));
        };
        pieces.iter().for_each(|piece| events.feed(piece, &mut see));
        events.end(&mut see);
        seen
    }

    #[test]
    fn the_cut_makes_no_difference() {
        for text in [
            "\u{feff}: hello\nevent: a\ndata: 1\ndata:2\n\nid: 7\ndata: {}\n\n",
            "\u{feff}: hello\r\nevent: a\r\ndata: 1\r\ndata:2\r\n\r\nid: 7\r\ndata: {}",
            "\u{feff}: hello\revent: a\rdata: 1\rdata:2\r\rid: 7\rdata: {}\r\r",
        ] {
            let expected = [("a".to_owned(), "1\n2".to_owned()), (String::new(), "{}".to_owned())];
            assert_eq!(events(&[text.as_bytes()]), expected);
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(events(&bytes), expected);
            for cut in 0..text.len() {
                let (head, rest) = text.as_bytes().split_at(cut);
                assert_eq!(events(&[head, rest]), expected, "{cut}");
            }
        }
    }

    #[test]
    fn a_line_without_end_has_a_bound() {
        let mut events = Events::default();
        for _ in 0..100 {
            events.feed(&[b'x'; 4096], |_, _| panic!("no event"));
        }
        assert!(events.line.len() <= MOST);
    }
}
