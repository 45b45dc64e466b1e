//! What a value in a body may be, as data.

use std::fmt;

use super::json::{Kind, Text};

/// What a value may be, and what it says of the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    kinds: u8,
    /// If there are any, a text is one of these.
    pub(super) words: &'static [&'static str],
    pub(super) filled: bool,
    pub(super) range: Option<(f64, f64)>,
    pub(super) whole: bool,
    /// How many items an array has.
    pub(super) count: Option<(usize, usize)>,
    pub(super) item: &'static Rule,
    pub(super) fields: &'static [Field],
    /// Which of the fields are asked for, by their bits.
    pub(super) needed: u64,
    /// For each word of the first field, which fields must be there along with it, by their bits.
    pub(super) by_first: &'static [u64],
    pub(super) says: Says,
}

/// A field of an object. One that has no rule may be anything.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    hint: u32,
    pub(super) need: Need,
    pub(super) rule: Rule,
}

/// By which most names are told apart: length, first and last letter.
const fn hint(name: &[u8]) -> u32 {
    match name {
        [first, .., last] => (name.len() as u32) << 16 | (*first as u32) << 8 | *last as u32,
        _ => name.len() as u32,
    }
}

/// Bits of the fields that must be there along with each of `words`; `asked` names them by word.
pub(super) const fn needs<const N: usize>(words: &[&str; N], fields: &[Field], asked: &[(&str, &[&str])]) -> [u64; N] {
    const fn is_same(one: &str, other: &str) -> bool {
        let (one, other) = (one.as_bytes(), other.as_bytes());
        let mut index = 0;
        while index < one.len() && index < other.len() && one[index] == other[index] {
            index += 1;
        }
        index == one.len() && index == other.len()
    }
    const fn has(names: &[&str], name: &str) -> bool {
        let mut rest = names;
        while let [first, others @ ..] = rest {
            if is_same(first, name) {
                return true;
            }
            rest = others;
        }
        false
    }
    let mut bits = [0; N];
    let mut word = 0;
    while word < N {
        let mut rest = asked;
        while let [(asks, names), others @ ..] = rest {
            let mut field = 0;
            while field < fields.len() {
                if is_same(asks, words[word]) && has(names, fields[field].name) {
                    bits[word] |= 1 << field;
                }
                field += 1;
            }
            rest = others;
        }
        word += 1;
    }
    bits
}

/// Whether a field must be there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Need {
    No,
    Yes,
    /// Unless one of these is.
    Unless(&'static [&'static str]),
}

/// What a value says of the request's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    Nothing,
    /// Text that the model reads.
    Prompt,
    /// Which model.
    Model,
    /// The most tokens of the answer.
    Answer,
}

/// Anything at all.
pub(super) static ANY: Rule = Rule::of(&[Kind::Object, Kind::Array, Kind::Text, Kind::Number, Kind::Bool, Kind::Null]);

const fn bit(kind: Kind) -> u8 {
    1 << kind as u8
}

impl Rule {
    pub(super) const fn of(kinds: &[Kind]) -> Self {
        let (mut set, mut rest) = (0, kinds);
        while let [kind, others @ ..] = rest {
            set |= bit(*kind);
            rest = others;
        }
        Self {
            kinds: set,
            words: &[],
            filled: false,
            range: None,
            whole: false,
            count: None,
            item: &ANY,
            fields: &[],
            needed: 0,
            by_first: &[],
            says: Says::Nothing,
        }
    }

    pub(super) const fn text() -> Self {
        Self::of(&[Kind::Text])
    }

    pub(super) const fn filled_text() -> Self {
        Self { filled: true, ..Self::text() }
    }

    pub(super) const fn one_of(words: &'static [&'static str]) -> Self {
        Self { words, ..Self::text() }
    }

    pub(super) const fn bool() -> Self {
        Self::of(&[Kind::Bool])
    }

    pub(super) const fn number(least: f64, most: f64) -> Self {
        Self { range: Some((least, most)), ..Self::of(&[Kind::Number]) }
    }

    pub(super) const fn whole(least: f64, most: f64) -> Self {
        Self { whole: true, ..Self::number(least, most) }
    }

    /// Or a whole number like this.
    pub(super) const fn or_whole(self, least: f64, most: f64) -> Self {
        Self { whole: true, range: Some((least, most)), ..self.or(Kind::Number) }
    }

    pub(super) const fn object(fields: &'static [Field]) -> Self {
        assert!(fields.len() <= 64, "a bit for each");
        let (mut needed, mut index) = (0, 0);
        while index < fields.len() {
            if !matches!(fields[index].need, Need::No) {
                needed |= 1 << index;
            }
            index += 1;
        }
        Self { fields, needed, ..Self::of(&[Kind::Object]) }
    }

    /// With what the words of the first field ask for: see [`needs`].
    pub(super) const fn by_first(self, by_first: &'static [u64]) -> Self {
        Self { by_first, ..self }
    }

    pub(super) const fn list(item: &'static Self, least: usize, most: usize) -> Self {
        Self { item, count: Some((least, most)), ..Self::of(&[Kind::Array]) }
    }

    /// Or an array like this.
    pub(super) const fn or_list(self, item: &'static Self, least: usize, most: usize) -> Self {
        Self { kinds: self.kinds | bit(Kind::Array), item, count: Some((least, most)), ..self }
    }

    pub(super) const fn or_null(self) -> Self {
        self.or(Kind::Null)
    }

    pub(super) const fn or(self, kind: Kind) -> Self {
        Self { kinds: self.kinds | bit(kind), ..self }
    }

    pub(super) const fn says(self, says: Says) -> Self {
        Self { says, ..self }
    }

    /// The field of this name, and its number.
    #[inline(always)]
    pub(super) fn field(&self, name: Text<'_>) -> Option<(usize, &'static Field)> {
        let hint = hint(name.0);
        let mut fields = self.fields.iter().enumerate();
        // What has an escape is equal to none of them as written.
        let field = fields.find(|(_, field)| field.hint == hint && field.name.as_bytes() == name.0);
        if field.is_some() || self.fields.is_empty() {
            return field;
        }
        self.escaped_field(name)
    }

    #[inline(never)]
    fn escaped_field(&self, name: Text<'_>) -> Option<(usize, &'static Field)> {
        if !name.is_escaped() {
            return None;
        }
        let name = name.decoded();
        self.fields.iter().enumerate().find(|(_, field)| field.name == name)
    }

    /// Which of the words it is.
    pub(super) fn word(&self, text: Text<'_>) -> Option<usize> {
        let as_written = self.words.iter().position(|word| word.as_bytes() == text.0);
        as_written.or_else(|| {
            let text = text.is_escaped().then(|| text.decoded())?;
            self.words.iter().position(|word| *word == text)
        })
    }

    pub(super) const fn has(&self, kind: Kind) -> bool {
        self.kinds & bit(kind) != 0
    }
}

impl Field {
    const fn new(name: &'static str, need: Need, rule: Rule) -> Self {
        Self { name, hint: hint(name.as_bytes()), need, rule }
    }

    pub(super) const fn may(name: &'static str, rule: Rule) -> Self {
        Self::new(name, Need::No, rule)
    }

    pub(super) const fn must(name: &'static str, rule: Rule) -> Self {
        Self::new(name, Need::Yes, rule)
    }

    pub(super) const fn unless(others: &'static [&'static str], name: &'static str, rule: Rule) -> Self {
        Self::new(name, Need::Unless(others), rule)
    }
}

/// What is allowed, in words.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for kind in [Kind::Text, Kind::Number, Kind::Bool, Kind::Array, Kind::Object, Kind::Null] {
            if !self.has(kind) {
                continue;
            }
            f.write_str(if first { "" } else { " or " })?;
            first = false;
            match kind {
                Kind::Text => self.show_text(f)?,
                Kind::Number => self.show_number(f)?,
                Kind::Bool => f.write_str("true or false")?,
                Kind::Array => self.show_count(f)?,
                Kind::Object => f.write_str("an object")?,
                Kind::Null => f.write_str("null")?,
            }
        }
        Ok(())
    }
}

impl Rule {
    fn show_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.words.is_empty() {
            return f.write_str(if self.filled { "a string that is not empty" } else { "a string" });
        }
        f.write_str("one of ")?;
        for (index, word) in self.words.iter().enumerate() {
            write!(f, "{}{word:?}", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }

    fn show_number(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.whole { "a whole number" } else { "a number" })?;
        match self.range {
            Some((least, f64::INFINITY)) => write!(f, " of at least {least}"),
            Some((least, most)) => write!(f, " in {least}..={most}"),
            None => Ok(()),
        }
    }

    fn show_count(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            Some((0, usize::MAX)) | None => f.write_str("an array"),
            Some((least, usize::MAX)) => write!(f, "an array of at least {least}"),
            Some((least, most)) => write!(f, "an array of {least} to {most}"),
        }
    }
}
