//! What is wrong with a key, and where.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
};

use http::HeaderName;

use super::placeholder;

/// A key that cannot be right: what is wrong, and in which variable or file. It never shows the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError {
    fault: KeyFault,
    place: Place,
}

/// Where the value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Given,
    Variable(String),
    File(PathBuf),
    /// What goes along with a key.
    Header(HeaderName),
}

impl KeyError {
    pub(super) fn new(fault: KeyFault, place: Place) -> Self {
        Self { fault, place }
    }

    /// What is wrong.
    #[must_use]
    pub fn fault(&self) -> &KeyFault {
        &self.fault
    }

    /// The environment variable it came from.
    #[must_use]
    pub fn variable(&self) -> Option<&str> {
        match &self.place {
            Place::Variable(variable) => Some(variable),
            _ => None,
        }
    }

    /// The file it came from.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.place {
            Place::File(path) => Some(path),
            _ => None,
        }
    }

    /// The header that was to go along with the key, where not the key itself is wrong.
    #[must_use]
    pub fn header(&self) -> Option<&HeaderName> {
        match &self.place {
            Place::Header(name) => Some(name),
            _ => None,
        }
    }
}

/// What is wrong with a key. Positions count characters from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyFault {
    /// The variable does not exist.
    NotSet,
    /// The variable's or the file's content is not UTF-8.
    NotUnicode,
    /// There is no such file.
    NoFile,
    /// It is a directory: a secret's mount point, not the file in it.
    Directory,
    /// The file cannot be read.
    Unreadable(io::ErrorKind),
    /// The file is longer than a key can be: 64 KiB.
    TooLarge,
    /// It begins with a byte order mark, as some editors write it.
    ByteOrderMark,
    /// There is nothing in it.
    Empty,
    /// There is nothing but white space in it.
    Blank,
    /// It is wrapped in quotes, as `docker --env-file` and Windows' `set` leave them.
    Quoted,
    /// It begins with `Bearer `, which is put before it anyway.
    Bearer,
    /// It is the word that a script writes for "no value": `undefined`, `null`, `None` …
    NoValue,
    /// It is an example from a manual, not a key.
    Placeholder,
    /// It begins with white space.
    LeadingSpace,
    /// It ends in white space or a line end.
    TrailingSpace {
        /// Where that begins.
        position: usize,
    },
    /// It has white space within it.
    InnerSpace {
        /// Where.
        position: usize,
    },
    /// It has a character that no header may carry.
    ControlCharacter {
        /// Where.
        position: usize,
    },
    /// It has a character outside ASCII, such as a typographic quote or dash.
    NotAscii {
        /// Where.
        position: usize,
        /// Which.
        character: char,
    },
}

/// What scripts write where a value is missing.
const NO_VALUES: [&str; 6] = ["undefined", "null", "nil", "none", "(null)", "nan"];

/// The first thing wrong with a key, the most telling first.
pub(super) fn fault(key: &str) -> Option<KeyFault> {
    if key.is_empty() {
        return Some(KeyFault::Empty);
    }
    let trimmed = key.trim();
    if trimmed.is_empty() {
        return Some(KeyFault::Blank);
    }
    if key.starts_with('\u{feff}') {
        return Some(KeyFault::ByteOrderMark);
    }
    let position = |byte: usize| key[..byte].chars().count() + 1;
    if let Some((at, character)) = key.char_indices().find(|(_, c)| !c.is_ascii()) {
        return Some(KeyFault::NotAscii { position: position(at), character });
    }
    if ['"', '\'', '`'].into_iter().any(|quote| trimmed.starts_with(quote) || trimmed.ends_with(quote)) {
        return Some(KeyFault::Quoted);
    }
    if trimmed.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("bearer "))
        || trimmed.eq_ignore_ascii_case("bearer")
    {
        return Some(KeyFault::Bearer);
    }
    if NO_VALUES.iter().any(|word| trimmed.eq_ignore_ascii_case(word)) {
        return Some(KeyFault::NoValue);
    }
    if placeholder::is_one(trimmed) {
        return Some(KeyFault::Placeholder);
    }
    if key.trim_start().len() < key.len() {
        return Some(KeyFault::LeadingSpace);
    }
    if trimmed.len() < key.len() {
        return Some(KeyFault::TrailingSpace { position: position(trimmed.len()) });
    }
    key.char_indices().find_map(|(at, c)| match c {
        ' ' | '\t' | '\r' | '\n' => Some(KeyFault::InnerSpace { position: position(at) }),
        c if c.is_ascii_control() => Some(KeyFault::ControlCharacter { position: position(at) }),
        _ => None,
    })
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Given => f.write_str("the key ")?,
            Place::Variable(variable) => write!(f, "the key in {variable} ")?,
            Place::File(path) => write!(f, "the key in the file {} ", path.display())?,
            Place::Header(name) => write!(f, "the value of {name} ")?,
        }
        match &self.fault {
            KeyFault::NotSet => f.write_str("is missing: the variable is not set"),
            KeyFault::NotUnicode => f.write_str("is not text"),
            KeyFault::NoFile => f.write_str("is missing: there is no such file"),
            KeyFault::Directory => f.write_str("is missing: that is a directory, name the file in it"),
            KeyFault::Unreadable(kind) => write!(f, "cannot be read: {kind}"),
            KeyFault::TooLarge => f.write_str("is longer than 64 KiB: that is no key"),
            KeyFault::ByteOrderMark => {
                f.write_str("begins with a byte order mark (character 1, U+FEFF): save it without one")
            }
            KeyFault::Empty => f.write_str("is empty"),
            KeyFault::Blank => f.write_str("is blank: nothing but white space"),
            KeyFault::Quoted => f.write_str("has quotes around it: remove them"),
            KeyFault::Bearer => f.write_str("begins with `Bearer`, which is added anyway: give the key alone"),
            KeyFault::NoValue => f.write_str("is a script's word for \"no value\" (undefined, null …), not a key"),
            KeyFault::Placeholder => f.write_str("is a placeholder from a manual, not a key"),
            KeyFault::LeadingSpace => f.write_str("begins with white space (character 1): trim it"),
            KeyFault::TrailingSpace { position } => {
                write!(f, "ends in white space or a line end (character {position}): trim it")
            }
            KeyFault::InnerSpace { position } => {
                write!(f, "has white space in it (character {position}): are these two values?")
            }
            KeyFault::ControlCharacter { position } => {
                write!(f, "has a control character in it (character {position})")
            }
            KeyFault::NotAscii { position, character } => write!(
                f,
                "has a character outside ASCII (character {position}, U+{:04X}): was it pasted from formatted text?",
                u32::from(*character)
            ),
        }
    }
}

impl Error for KeyError {}
