//! One pass over a body: whether it is JSON, and what of it breaks the rules.

use std::{borrow::Cow, collections::HashSet, fmt::Write as _};

use super::{
    fault::{Fault, MAX_FAULTS, Place},
    json::{Kind, Scan, Syntax, Text},
    number::value_of,
    rule::{ANY, Field, Need, Rule, Says},
};

/// How a body is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) max_depth: u8,
    pub(super) unique_names: bool,
    /// In what the size of prompts is told.
    pub(super) measure: Measure,
}

/// In what the size of a text is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// The bytes that it is written in: never less than its characters, and known without a look at it.
    Bytes,
    Chars,
}

/// How large the request is for the model.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size<'a> {
    pub(super) model: Option<Text<'a>>,
    pub(super) all: Amount,
    /// Of the largest prompt.
    pub(super) largest: Amount,
    /// The most tokens of the answer.
    pub(super) answer: u64,
}

/// Of prompts: of texts what [`Measure`] says, and tokens where they are given as such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) text: u64,
    pub(super) tokens: u64,
}

/// Looks at `json`, and adds what is wrong to `faults`.
pub(super) fn walk<'a>(json: &'a [u8], rule: &Rule, look: Look, faults: &mut Vec<Fault>) -> Size<'a> {
    let mut walk = Walk { scan: Scan::new(json), look, faults, size: Size::default(), word: None };
    let end = walk.value(rule, &Path::Top, 0, 0);
    let whole = end.and_then(|end| walk.scan.end(end));
    let (size, fault) = (walk.size, walk.scan.fault());
    // What was too deep has been told already.
    if whole.is_none()
        && let Some(syntax) = fault
    {
        faults.push(syntax_fault(json, syntax));
    }
    size
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
    /// Which of the words that its rule has the last text was.
    word: Option<usize>,
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
    fn too_deep(&mut self, path: &Path<'_, 'a>) -> Option<usize> {
        self.fault(path, "an array or object", format!("{} of them in one another", self.look.max_depth));
        None
    }

    /// Reads the value at `at`, and says where it ends; `None` if there the walk ends.
    ///
    /// Inlined, for the tokens of an embedding: a call for each costs more than reading it.
    #[inline(always)]
    fn value(&mut self, asked: &Rule, path: &Path<'_, 'a>, depth: u8, at: usize) -> Option<usize> {
        if let Some(range) = asked.range
            && let Some((number, end)) = self.scan.few_digits(at, range)
        {
            if asked.says == Says::Answer {
                self.size.answer = self.size.answer.max(number);
            }
            return Some(end);
        }
        let (kind, start) = self.scan.kind(at)?;
        let rule = if asked.has(kind) { asked } else { &ANY };
        let end = match kind {
            Kind::Text => {
                let (text, end) = self.scan.text(start)?;
                if rule.filled || !rule.words.is_empty() || rule.says != Says::Nothing {
                    self.text(text, rule, path);
                }
                end
            }
            Kind::Number => {
                let end = self.scan.number(start)?;
                if let Some(range) = rule.range {
                    self.number(self.scan.between(start, end), range, rule, path);
                }
                end
            }
            Kind::Bool | Kind::Null => self.scan.word(start)?,
            Kind::Array | Kind::Object if depth >= self.look.max_depth => return self.too_deep(path),
            Kind::Array => self.array(rule, path, depth, start)?,
            Kind::Object => self.object(rule, path, depth, start)?,
        };
        if !asked.has(kind) {
            self.wrong(kind, self.scan.between(start, end), asked, path);
        }
        Some(end)
    }

    fn text(&mut self, text: Text<'a>, rule: &Rule, path: &Path<'_, 'a>) {
        if rule.filled && text.0.is_empty() {
            self.fault(path, "an empty string", rule.to_string());
        }
        if !rule.words.is_empty() {
            self.word = rule.word(text);
            if self.word.is_none() {
                self.fault(path, quoted(text), rule.to_string());
            }
        }
        match rule.says {
            Says::Prompt => {
                let size = match self.look.measure {
                    Measure::Bytes => text.0.len() as u64,
                    Measure::Chars => chars(text),
                };
                self.size.prompt(Amount { text: size, tokens: 0 });
            }
            Says::Model => self.size.model = Some(text),
            Says::Answer | Says::Nothing => {}
        }
    }

    fn number(&mut self, number: &'a [u8], (least, most): (f64, f64), rule: &Rule, path: &Path<'_, 'a>) {
        let value = value_of(number);
        if !(least..=most).contains(&value) || (rule.whole && value.fract() != 0.0) {
            self.wrong(Kind::Number, number, rule, path);
        } else if rule.says == Says::Answer {
            self.size.answer = self.size.answer.max(value as u64);
        }
    }

    #[inline(never)]
    fn array(&mut self, rule: &Rule, path: &Path<'_, 'a>, depth: u8, start: usize) -> Option<usize> {
        let mut count = 0;
        let before = self.size.all;
        let mut at = start + 1;
        loop {
            let (more, next) = self.scan.item(at, count == 0)?;
            at = next;
            if !more {
                break;
            }
            at = self.value(rule.item, &Path::Item(path, count), depth + 1, at)?;
            count += 1;
        }
        if let Some((least, most)) = rule.count
            && !(least..=most).contains(&count)
        {
            self.fault(path, format!("an array of {count}"), rule.to_string());
        }
        // Numbers where texts may stand are tokens, and the whole array is one prompt.
        if rule.item.says != Says::Nothing && rule.item.has(Kind::Number) && before == self.size.all {
            self.size.prompt(Amount { text: 0, tokens: count as u64 });
        }
        Some(at)
    }

    #[inline(never)]
    fn object(&mut self, rule: &Rule, path: &Path<'_, 'a>, depth: u8, start: usize) -> Option<usize> {
        // Bits for the fields that are there, and for those that the word of the first asks for.
        let (mut seen, mut asked) = (0u64, 0);
        let mut names = self.look.unique_names.then(HashSet::new);
        let mut first = true;
        let mut at = start + 1;
        loop {
            let (more, next) = self.scan.member(at, first)?;
            if !more {
                at = next;
                break;
            }
            first = false;
            let (name, value) = self.scan.name(next)?;
            let here = Path::Name(path, name);
            if let Some(names) = &mut names
                && !names.insert(name.decoded())
            {
                self.fault(&here, "the same name a second time", "each name once");
            }
            let field = rule.field(name);
            self.word = None;
            at = self.value(field.map_or(&ANY, |(_, field)| &field.rule), &here, depth + 1, value)?;
            if let Some((index, _)) = field {
                seen |= 1 << index;
                if index == 0
                    && let Some(needs) = self.word.and_then(|word| rule.by_first.get(word))
                {
                    asked = *needs;
                }
            }
        }
        if seen & rule.needed != rule.needed {
            for (_, field) in rule.fields.iter().enumerate().filter(|(index, _)| seen & (1 << index) == 0) {
                self.missing(field, rule.fields, seen, path);
            }
        }
        if asked & !seen != 0 {
            for (_, field) in rule.fields.iter().enumerate().filter(|(index, _)| asked & !seen & (1 << index) != 0) {
                self.lacks(field, path);
            }
        }
        Some(at)
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
    fn prompt(&mut self, prompt: Amount) {
        let Amount { text, tokens } = prompt;
        self.all = Amount { text: self.all.text + text, tokens: self.all.tokens + tokens };
        self.largest = Amount { text: self.largest.text.max(text), tokens: self.largest.tokens.max(tokens) };
    }
}

/// How many characters a string has: bytes that begin one, and an escape is one.
fn chars(text: Text<'_>) -> u64 {
    // By blocks whose count fits into a byte, so that the compiler makes vectors of it.
    let begins = |block: &[u8]| usize::from(block.iter().map(|byte| u8::from(*byte & 0xc0 != 0x80)).sum::<u8>());
    let begins: usize = text.0.chunks(128).map(begins).sum();
    begins.saturating_sub(spare(text.0)) as u64
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
            quoted(Text(inner))
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
