//! One pass over a body: whether it is JSON, and what of it breaks the rules.

use std::{borrow::Cow, collections::HashSet, fmt::Write as _};

use super::{
    fault::{Fault, MAX_FAULTS, Place},
    json::{Kind, Scan, Syntax, Text},
    rule::{ANY, Field, Need, Rule, Says},
};

/// How a body is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) max_depth: u8,
    pub(super) unique_names: bool,
    /// Whether the size of prompts is asked for.
    pub(super) measure: bool,
}

/// How large the request is for the model.
#[derive(Debug, Default)]
pub(super) struct Size<'a> {
    pub(super) model: Option<Text<'a>>,
    /// Characters and tokens of all prompts.
    pub(super) all: (u64, u64),
    /// Of the largest prompt.
    pub(super) largest: (u64, u64),
    /// The most tokens of the answer.
    pub(super) answer: u64,
}

/// Looks at `json`, and adds what is wrong to `faults`.
pub(super) fn walk<'a>(json: &'a [u8], rule: &Rule, look: Look, faults: &mut Vec<Fault>) -> Size<'a> {
    let mut walk = Walk { scan: Scan::new(json), look, faults, size: Size::default() };
    let end = match walk.value(rule, &Path::Top, 0) {
        Ok(()) => walk.scan.end().map_err(Stop::Syntax),
        Err(stop) => Err(stop),
    };
    let size = walk.size;
    if let Err(Stop::Syntax(syntax)) = end {
        faults.push(syntax_fault(json, syntax));
    }
    size
}

/// Why the walk ends early.
enum Stop {
    Syntax(Syntax),
    /// Told already.
    TooDeep,
}

impl From<Syntax> for Stop {
    fn from(syntax: Syntax) -> Self {
        Self::Syntax(syntax)
    }
}

/// Where the walk is: only when something is wrong does it become a pointer.
enum Path<'p, 'a> {
    Top,
    Name(&'p Path<'p, 'a>, Text<'a>),
    Item(&'p Path<'p, 'a>, usize),
}

impl Path<'_, '_> {
    fn pointer(&self) -> String {
        match self {
            Self::Top => String::new(),
            Self::Name(parent, name) => {
                let mut pointer = parent.pointer();
                push_name(&mut pointer, &name.decoded());
                pointer
            }
            Self::Item(parent, index) => {
                let mut pointer = parent.pointer();
                // Writing into a string cannot fail.
                let _ = write!(pointer, "/{index}");
                pointer
            }
        }
    }
}

/// Names are the caller's, and may be of any length.
fn push_name(pointer: &mut String, name: &str) {
    const MAX_NAME: usize = 64;
    pointer.push('/');
    for letter in name.chars().take(MAX_NAME) {
        match letter {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            letter if letter.is_control() => pointer.push('�'),
            letter => pointer.push(letter),
        }
    }
    if name.chars().nth(MAX_NAME).is_some() {
        pointer.push('…');
    }
}

struct Walk<'a, 'f> {
    scan: Scan<'a>,
    look: Look,
    faults: &'f mut Vec<Fault>,
    size: Size<'a>,
}

impl<'a> Walk<'a, '_> {
    #[cold]
    fn fault(&mut self, path: &Path<'_, 'a>, found: impl Into<String>, allowed: impl Into<Cow<'static, str>>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault::at(path.pointer(), found, allowed));
        }
    }

    #[cold]
    fn wrong(&mut self, kind: Kind, raw: &[u8], rule: &Rule, path: &Path<'_, 'a>) {
        self.fault(path, shown(kind, raw), rule.to_string());
    }

    #[cold]
    fn too_deep(&mut self, path: &Path<'_, 'a>) -> Stop {
        self.fault(path, "an array or object", format!("{} of them in one another", self.look.max_depth));
        Stop::TooDeep
    }

    /// Inlined, for the tokens of an embedding: a call for each costs more than reading it.
    #[inline(always)]
    fn value(&mut self, asked: &Rule, path: &Path<'_, 'a>, depth: u8) -> Result<(), Stop> {
        let before = self.scan.clone();
        if let Some((least, most)) = asked.range
            && let Some(number) = self.scan.few_digits()
            && (least..=most).contains(&(number as f64))
        {
            if asked.says == Says::Answer {
                self.size.answer = self.size.answer.max(number);
            }
            return Ok(());
        }
        self.scan = before;
        let kind = self.scan.kind()?;
        let start = self.scan.at();
        let rule = if asked.has(kind) { asked } else { &ANY };
        match kind {
            Kind::Text => {
                let text = self.scan.text()?;
                if rule.filled || !rule.words.is_empty() || rule.says != Says::Nothing {
                    self.text(text, rule, path);
                }
            }
            Kind::Number => {
                let number = self.scan.number()?;
                if let Some(range) = rule.range {
                    self.number(number, range, rule, path);
                }
            }
            Kind::Bool | Kind::Null => self.scan.word()?,
            Kind::Array | Kind::Object if depth >= self.look.max_depth => return Err(self.too_deep(path)),
            Kind::Array => self.array(rule, path, depth)?,
            Kind::Object => self.object(rule, path, depth)?,
        }
        if !asked.has(kind) {
            self.wrong(kind, self.scan.since(start), asked, path);
        }
        Ok(())
    }

    fn text(&mut self, text: Text<'a>, rule: &Rule, path: &Path<'_, 'a>) {
        if rule.filled && text.raw.is_empty() {
            self.fault(path, "an empty string", rule.to_string());
        }
        if !rule.words.is_empty() && !rule.words.iter().any(|word| text.is(word)) {
            self.fault(path, quoted(text), rule.to_string());
        }
        match rule.says {
            Says::Prompt if self.look.measure => self.size.prompt((chars(text), 0)),
            Says::Model if self.look.measure => self.size.model = Some(text),
            _ => {}
        }
    }

    fn number(&mut self, number: &'a [u8], (least, most): (f64, f64), rule: &Rule, path: &Path<'_, 'a>) {
        // A number of JSON is one of Rust's.
        let value: f64 = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok()).unwrap_or(f64::NAN);
        if !(least..=most).contains(&value) || (rule.whole && value.fract() != 0.0) {
            self.wrong(Kind::Number, number, rule, path);
        } else if rule.says == Says::Answer {
            self.size.answer = self.size.answer.max(value as u64);
        }
    }

    #[inline(never)]
    fn array(&mut self, rule: &Rule, path: &Path<'_, 'a>, depth: u8) -> Result<(), Stop> {
        self.scan.enter();
        let mut count = 0;
        let before = self.size.all;
        while self.scan.item(count == 0)? {
            self.value(rule.item, &Path::Item(path, count), depth + 1)?;
            count += 1;
        }
        if let Some((least, most)) = rule.count
            && !(least..=most).contains(&count)
        {
            self.fault(path, format!("an array of {count}"), rule.to_string());
        }
        // Numbers where texts may stand are tokens, and the whole array is one prompt.
        if self.look.measure
            && rule.item.says != Says::Nothing
            && rule.item.has(Kind::Number)
            && before == self.size.all
        {
            self.size.prompt((0, count as u64));
        }
        Ok(())
    }

    #[inline(never)]
    fn object(&mut self, rule: &Rule, path: &Path<'_, 'a>, depth: u8) -> Result<(), Stop> {
        self.scan.enter();
        let (mut seen, mut word) = (0u64, None);
        let mut names = self.look.unique_names.then(HashSet::new);
        let mut first = true;
        while let Some(name) = self.scan.name(first)? {
            first = false;
            let at = Path::Name(path, name);
            if let Some(names) = &mut names
                && !names.insert(name.decoded())
            {
                self.fault(&at, "the same name a second time", "each name once");
            }
            match rule.field(name) {
                Some(index) => {
                    seen |= 1 << index;
                    let start = self.scan.at();
                    self.value(&rule.fields[index].rule, &at, depth + 1)?;
                    if index == 0 && !rule.by_first.is_empty() {
                        word = text_of(self.scan.since(start));
                    }
                }
                None => self.value(&ANY, &at, depth + 1)?,
            }
        }
        if seen & rule.needed != rule.needed {
            for (_, field) in rule.fields.iter().enumerate().filter(|(index, _)| seen & (1 << index) == 0) {
                self.missing(field, rule.fields, seen, path);
            }
        }
        if let Some(word) = word
            && let Some((_, needed)) = rule.by_first.iter().find(|(known, _)| word.is(known))
        {
            for (index, field) in rule.fields.iter().enumerate() {
                if seen & (1 << index) == 0 && needed.contains(&field.name) {
                    self.lacks(field, path);
                }
            }
        }
        Ok(())
    }

    #[cold]
    fn missing(&mut self, field: &Field, all: &[Field], seen: u64, path: &Path<'_, 'a>) {
        let is_there = |name: &&str| {
            let index = all.iter().position(|field| field.name == *name);
            index.is_some_and(|index| seen & (1 << index) != 0)
        };
        let is_needed = match field.need {
            Need::No => false,
            Need::Yes => true,
            Need::Unless(others) => !others.iter().any(is_there),
        };
        if is_needed {
            self.lacks(field, path);
        }
    }

    #[cold]
    fn lacks(&mut self, field: &Field, path: &Path<'_, 'a>) {
        if self.faults.len() < MAX_FAULTS {
            let mut pointer = path.pointer();
            push_name(&mut pointer, field.name);
            self.faults.push(Fault::at(pointer, "nothing", field.rule.to_string()));
        }
    }
}

impl Size<'_> {
    fn prompt(&mut self, (chars, tokens): (u64, u64)) {
        self.all = (self.all.0 + chars, self.all.1 + tokens);
        self.largest = (self.largest.0.max(chars), self.largest.1.max(tokens));
    }
}

/// A string that has just been read, if it is one.
fn text_of(raw: &[u8]) -> Option<Text<'_>> {
    let inner = raw.trim_ascii_start().strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    Some(Text { raw: inner, escaped: inner.contains(&b'\\') })
}

/// How many characters a string has: bytes that begin one, and an escape is one.
fn chars(text: Text<'_>) -> u64 {
    // By blocks whose count fits into a byte, so that the compiler makes vectors of it.
    let begins = |block: &[u8]| usize::from(block.iter().map(|byte| u8::from(*byte & 0xc0 != 0x80)).sum::<u8>());
    let begins: usize = text.raw.chunks(128).map(begins).sum();
    let spare = if text.escaped { spare(text.raw) } else { 0 };
    begins.saturating_sub(spare) as u64
}

/// How many bytes escapes have beyond one for each character.
fn spare(mut raw: &[u8]) -> usize {
    let mut spare = 0;
    while let Some(at) = raw.iter().position(|byte| *byte == b'\\') {
        let escape = raw.get(at + 1..).unwrap_or_default();
        let (length, more) = match escape {
            // The first half of a pair, which is one character with the second.
            [b'u', b'd' | b'D', b'8'..=b'9' | b'a'..=b'b' | b'A'..=b'B', ..] => (5, 6),
            [b'u', ..] => (5, 5),
            _ => (1, 1),
        };
        spare += more;
        raw = escape.get(length..).unwrap_or_default();
    }
    spare
}

/// A value as a message may show it: of a text no more than the start, of what has members only what it is.
fn shown(kind: Kind, raw: &[u8]) -> String {
    match kind {
        Kind::Object => "an object".into(),
        Kind::Array => "an array".into(),
        Kind::Text => {
            let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
            quoted(Text { raw: inner, escaped: inner.contains(&b'\\') })
        }
        Kind::Number | Kind::Bool | Kind::Null => shortened(&String::from_utf8_lossy(raw)),
    }
}

/// The most characters of a value that are shown.
const MAX_SHOWN: usize = 32;

fn quoted(text: Text<'_>) -> String {
    format!("{:?}", shortened(&text.decoded()))
}

pub(super) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_SHOWN).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        short.push('…');
    }
    short
}

#[cold]
fn syntax_fault(json: &[u8], syntax: Syntax) -> Fault {
    let before = json.get(..syntax.at).unwrap_or(json);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    let found = match json.get(syntax.at) {
        None => "the end".into(),
        Some(byte @ 0x20..0x7f) => format!("`{}`", char::from(*byte)),
        Some(byte) => format!("the byte {byte:#04x}"),
    };
    Fault::new(Place::Position { line, column, offset: syntax.at }, found, syntax.expected)
}
