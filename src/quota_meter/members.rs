//! The members of a JSON object in memory, found without taking apart or checking what they hold.

use memchr::memchr2;

/// Goes over the names and values of an object, both as they are written. Ends early, without its end, where that is no JSON.
#[derive(Clone, Debug)]
pub(super) struct Members<'a> {
    json: &'a [u8],
    at: usize,
    has_ended: bool,
}

impl<'a> Members<'a> {
    /// Those of the object that this begins with; `None` if it begins with none.
    pub(super) fn of(json: &'a [u8]) -> Option<Self> {
        let at = space(json, 0);
        (json.get(at) == Some(&b'{')).then_some(Self { json, at: at + 1, has_ended: false })
    }

    /// What comes after the object, once all members have been gone over; `None` if it has no end.
    pub(super) fn rest(&self) -> Option<&'a [u8]> {
        self.json.get(self.at..).filter(|_| self.has_ended)
    }

    /// Whether this is one object and nothing else.
    pub(super) fn are_all_of(json: &[u8]) -> bool {
        let Some(mut members) = Members::of(json).filter(|_| json.trim_ascii_end().ends_with(b"}")) else {
            return false;
        };
        members.by_ref().for_each(drop);
        members.ends_all()
    }

    /// Whether nothing comes after the object, once all members have been gone over.
    pub(super) fn ends_all(&self) -> bool {
        self.rest().is_some_and(|rest| rest.iter().all(|byte| is_space(*byte)))
    }

    fn member(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let json = self.json;
        let mut at = space(json, self.at);
        if json.get(at) == Some(&b',') {
            at = space(json, at + 1);
        }
        if json.get(at) == Some(&b'}') {
            (self.at, self.has_ended) = (at + 1, true);
            return None;
        }
        let name = at + 1;
        let behind = (json.get(at) == Some(&b'"')).then(|| string(json, name)).flatten()?;
        at = space(json, behind);
        let begin = (json.get(at) == Some(&b':')).then(|| space(json, at + 1))?;
        let end = match json.get(begin)? {
            b'"' => string(json, begin + 1)?,
            b'{' | b'[' => closed(json, begin + 1)?,
            _ => begin + json.get(begin..)?.iter().position(|byte| ends_word(*byte))?,
        };
        self.at = end;
        Some((json.get(name..behind - 1)?, json.get(begin..end)?))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended { None } else { self.member() }
    }
}

/// Where no space is, from here on.
#[inline]
pub(super) fn space(json: &[u8], mut at: usize) -> usize {
    while json.get(at).is_some_and(|byte| is_space(*byte)) {
        at += 1;
    }
    at
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

fn ends_word(byte: u8) -> bool {
    matches!(byte, b',' | b'}' | b']') || is_space(byte)
}

/// Behind the string that this is in.
#[inline]
fn string(json: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let rest = json.get(at..)?;
        let end = match rest.first_chunk().map(mark_of) {
            Some(Some(end)) => end,
            _ => memchr2(b'"', b'\\', rest)?,
        };
        if rest.get(end) == Some(&b'"') {
            return Some(at + end + 1);
        }
        at += end + 2;
    }
}

/// Where the first quote or backslash of these is, as most names have one near: all eight in one go.
#[inline]
fn mark_of(bytes: &[u8; 8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let word = u64::from_le_bytes(*bytes);
    // The lowest bit of these that is set is right.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let marks = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
    (marks != 0).then_some((marks.trailing_zeros() / 8) as usize)
}

/// Behind the object or array that this is in.
pub(super) fn closed(json: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 1_usize;
    loop {
        let byte = *json.get(at)?;
        at += 1;
        match byte {
            b'"' => at = string(json, at)?,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
}

/// The number that a member holds, `None` for `null`.
///
/// # Errors
/// If it is something else.
pub(super) fn number(value: &[u8]) -> Result<Option<f64>, NoNumber> {
    // So many digits always fit.
    if value.len() <= 15 && value.iter().all(u8::is_ascii_digit) && !value.is_empty() {
        return Ok(Some(value.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0')) as f64));
    }
    serde_json::from_slice(value).map_err(|_| NoNumber)
}

/// A member that should be a number is none.
#[derive(Debug)]
pub(super) struct NoNumber;

#[cfg(test)]
mod tests {
    use super::*;

    fn members(json: &str) -> (Vec<(&str, &str)>, Option<&str>) {
        let mut members = Members::of(json.as_bytes()).expect(json);
        let text = |bytes| str::from_utf8(bytes).unwrap();
        let all = members.by_ref().map(|(name, value)| (text(name), text(value))).collect();
        (all, members.rest().map(text))
    }

    #[test]
    fn each_is_found_as_it_is_written() {
        let long = "x".repeat(50);
        for (value, also) in [
            (r#""""#, r#""a\"b\\""#),
            ("12", "-1.5e3"),
            ("null", r#"[{"b":"]}"},[]]"#),
            (r#"{"c":{"d":"\\\""}}"#, &format!(r#""{long}\"{long}""#)),
        ] {
            for json in [
                format!(r#"{{"a":{value},"b{long}":{also}}}"#),
                format!(" {{ \"a\" :\t{value} ,\n\"b{long}\": {also} }} x"),
            ] {
                let (all, rest) = members(&json);
                assert_eq!(all, [("a", value), (&*format!("b{long}"), also)], "{json}");
                assert_eq!(rest.map(str::trim), Some(if json.ends_with('x') { "x" } else { "" }));
            }
        }
        assert_eq!(members("{}"), (vec![], Some("")));
    }

    #[test]
    fn what_breaks_off_has_no_end() {
        let json = r#"{"a":"\"","b":[{"c":1}],"d":12}"#;
        assert!(members(json).1.is_some());
        for cut in 1..json.len() {
            assert_eq!(members(&json[..cut]).1, None, "{}", &json[..cut]);
            assert!(!Members::are_all_of(&json.as_bytes()[..cut]));
        }
        assert!(Members::are_all_of(format!(" {json}\n").as_bytes()));
        assert!(!Members::are_all_of(format!("{json}}}").as_bytes()));
        for json in ["", " ", "[]", "1", "no"] {
            assert!(Members::of(json.as_bytes()).is_none(), "{json}");
        }
    }

    #[test]
    fn numbers_are_read_as_json_has_them() {
        for (text, expected) in [("0", 0.0), ("123456789012345", 123_456_789_012_345.0), ("-1", -1.0), ("1e300", 1e300)]
        {
            assert_eq!(number(text.as_bytes()).unwrap(), Some(expected), "{text}");
        }
        assert_eq!(number(b"null").unwrap(), None);
        for text in ["", "x", "\"1\"", "{}", "+1", ".5", "inf", "1e400"] {
            assert!(number(text.as_bytes()).is_err(), "{text}");
        }
    }
}
