//! [`ApiKey`]: a key that is sound, and never shown.

use std::{
    error::Error,
    fmt,
    hash::{DefaultHasher, Hasher},
};

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

/// An API key, checked when it is made, kept as the header value that carries it.
///
/// Neither `Debug` nor `Display` shows it; its memory is wiped when the last clone is dropped.
#[derive(Clone)]
pub struct ApiKey {
    bearer: HeaderValue,
    fingerprint: u32,
}

impl ApiKey {
    /// A key given by the program.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong with it and where, and never shows it.
    pub fn new(key: &str) -> Result<Self, KeyError> {
        Self::sound(key, None)
    }

    /// The key in an environment variable.
    ///
    /// # Errors
    /// [`KeyError`] names the variable, and says what is wrong with its value, which it never shows.
    pub fn from_env(variable: &str) -> Result<Self, KeyError> {
        let error = |fault| KeyError { fault, variable: Some(variable.to_owned()) };
        match std::env::var(variable) {
            Ok(key) => Self::sound(&Zeroizing::new(key), Some(variable)),
            Err(std::env::VarError::NotPresent) => Err(error(KeyFault::NotSet)),
            Err(std::env::VarError::NotUnicode(value)) => {
                drop(Zeroizing::new(value.into_encoded_bytes()));
                Err(error(KeyFault::NotUnicode))
            }
        }
    }

    fn sound(key: &str, variable: Option<&str>) -> Result<Self, KeyError> {
        let error = |fault| KeyError { fault, variable: variable.map(str::to_owned) };
        if let Some(fault) = fault(key) {
            return Err(error(fault));
        }
        let header = Zeroizing::new(["Bearer ", key].concat().into_bytes());
        let mut bearer = HeaderValue::from_maybe_shared(Bytes::from_owner(header))
            .map_err(|_| error(KeyFault::ControlCharacter { position: 1 }))?;
        bearer.set_sensitive(true);
        let mut hasher = DefaultHasher::new();
        hasher.write(key.as_bytes());
        Ok(Self { bearer, fingerprint: hasher.finish() as u32 })
    }

    /// `Bearer …`, marked sensitive; a clone is one reference count.
    pub(super) fn bearer(&self) -> &HeaderValue {
        &self.bearer
    }

    /// Eight hex digits that tell keys apart and give nothing of them away.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("{:08x}", self.fingerprint)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({:08x})", self.fingerprint)
    }
}

/// A key that cannot be right: what is wrong, and in which variable. It never shows the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError {
    fault: KeyFault,
    variable: Option<String>,
}

impl KeyError {
    /// What is wrong.
    #[must_use]
    pub fn fault(&self) -> &KeyFault {
        &self.fault
    }

    /// The environment variable it came from.
    #[must_use]
    pub fn variable(&self) -> Option<&str> {
        self.variable.as_deref()
    }
}

/// What is wrong with a key. Positions count characters from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyFault {
    /// The variable does not exist.
    NotSet,
    /// The variable's value is not Unicode.
    NotUnicode,
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
/// What manuals write where a key goes; compared without case and separators.
const PLACEHOLDERS: [&str; 13] = [
    "yourapikey",
    "yourapikeyhere",
    "youropenaiapikey",
    "yourkey",
    "yourkeyhere",
    "yourtoken",
    "apikey",
    "myapikey",
    "skyourkey",
    "skyourapikey",
    "skyourkeyhere",
    "changeme",
    "openaiapikey",
];

/// The first thing wrong with a key, the most telling first.
fn fault(key: &str) -> Option<KeyFault> {
    if key.is_empty() {
        return Some(KeyFault::Empty);
    }
    let trimmed = key.trim();
    if trimmed.is_empty() {
        return Some(KeyFault::Blank);
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
    if is_placeholder(trimmed) {
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

fn is_placeholder(key: &str) -> bool {
    let bare: String = key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let is_bracketed = key.starts_with('<') && key.ends_with('>')
        || key.starts_with('{') && key.ends_with('}')
        || key.starts_with("${")
        || key.starts_with("$(");
    let rest = key.trim_start_matches("sk-").trim_start_matches("proj-");
    let is_filler = rest.len() >= 3 && rest.chars().all(|c| matches!(c, '.' | '*' | 'x' | 'X'));
    is_bracketed || is_filler || PLACEHOLDERS.contains(&bare.as_str())
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.variable {
            Some(variable) => write!(f, "the key in {variable} ")?,
            None => f.write_str("the key ")?,
        }
        match &self.fault {
            KeyFault::NotSet => f.write_str("is missing: the variable is not set"),
            KeyFault::NotUnicode => f.write_str("is not text"),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_fault_has_its_own_error() {
        for (key, expected) in [
            ("", KeyFault::Empty),
            (" \t\n", KeyFault::Blank),
            ("\"sk-abcdef\"", KeyFault::Quoted),
            ("'sk-abcdef'", KeyFault::Quoted),
            ("sk-abcdef\n", KeyFault::TrailingSpace { position: 10 }),
            ("sk-abcdef\r\n", KeyFault::TrailingSpace { position: 10 }),
            ("sk-abcdef ", KeyFault::TrailingSpace { position: 10 }),
            (" sk-abcdef", KeyFault::LeadingSpace),
            ("Bearer sk-abcdef", KeyFault::Bearer),
            ("bearer sk-abcdef", KeyFault::Bearer),
            ("Bearer ", KeyFault::Bearer),
            ("undefined", KeyFault::NoValue),
            ("None", KeyFault::NoValue),
            ("YOUR_API_KEY", KeyFault::Placeholder),
            ("<your key>", KeyFault::Placeholder),
            ("sk-...", KeyFault::Placeholder),
            ("sk-xxxxxxxx", KeyFault::Placeholder),
            ("${OPENAI_API_KEY}", KeyFault::Placeholder),
            ("sk-abc—def", KeyFault::NotAscii { position: 7, character: '—' }),
            ("\u{201d}sk-abcdef", KeyFault::NotAscii { position: 1, character: '\u{201d}' }),
            ("sk-abc def", KeyFault::InnerSpace { position: 7 }),
            ("sk-abc\ndef", KeyFault::InnerSpace { position: 7 }),
            ("sk-abc\u{7f}def", KeyFault::ControlCharacter { position: 7 }),
        ] {
            assert_eq!(ApiKey::new(key).unwrap_err().fault(), &expected, "{key:?}");
        }
        for key in ["sk-abcdef", "x", "LM Studio".replace(' ', "-").as_str(), "sk-ant-api03-xyz", "none-of-these"] {
            assert!(ApiKey::new(key).is_ok(), "{key:?}");
        }
    }

    #[test]
    fn a_missing_variable_is_named() {
        let error = ApiKey::from_env("TOWER_OUTBOUND_NO_SUCH_KEY").unwrap_err();
        assert_eq!(error.fault(), &KeyFault::NotSet);
        assert!(error.to_string().contains("TOWER_OUTBOUND_NO_SUCH_KEY"));
    }

    proptest! {
        #[test]
        fn no_key_is_ever_shown(key in "[!-~]{8,40}", broken in any::<bool>()) {
            let given = if broken { format!("{key}\n") } else { key.clone() };
            match ApiKey::new(&given) {
                Ok(made) => {
                    let expected = format!("Bearer {key}");
                    prop_assert_eq!(made.bearer().as_bytes(), expected.as_bytes());
                    prop_assert!(made.bearer().is_sensitive());
                    let shown = format!("{made:?}");
                    prop_assert!(!shown.contains(&key));
                }
                Err(error) => {
                    let shown = format!("{error} {error:?}");
                    prop_assert!(!shown.contains(&key));
                }
            }
        }

        #[test]
        fn any_text_gets_an_answer(key in any::<String>()) {
            let _ = ApiKey::new(&key);
        }
    }
}
