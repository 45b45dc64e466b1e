//! [`ApiKey`]: a key that is sound, and never shown.

use std::{fmt, path::Path};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::{
    KeyError, KeyFault,
    fault::{Place, fault},
    file,
};
use crate::fingerprint::fingerprint;

const BEARER: &str = "Bearer ";
pub(super) const ORGANIZATION: HeaderName = HeaderName::from_static("openai-organization");
pub(super) const PROJECT: HeaderName = HeaderName::from_static("openai-project");

/// An API key, checked when it is made.
///
/// Neither `Debug` nor `Display` shows it, and it is masked where servers and clients repeat it, if it has six characters
/// or more: a shorter one is found in all sorts of words, and is no secret. Its memory is wiped, by the crate `zeroize`, when
/// the last clone, and the last request that carries it, is dropped.
///
/// ```
/// use tower_outbound::ApiKey;
///
/// let key = ApiKey::new("sk-test-0123456789")?.with_organization("org-0123456789")?;
/// assert!(!format!("{key:?}").contains("0123456789"));
///
/// let error = ApiKey::new("“sk-test-0123456789”").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "the key has a character outside ASCII (character 1, U+201C): was it pasted from formatted text?"
/// );
/// # Ok::<_, tower_outbound::key_check::KeyError>(())
/// ```
#[derive(Clone)]
pub struct ApiKey {
    /// `Bearer …`; the key alone is a part of the same buffer, so that there is one to wipe.
    bearer: Bytes,
    fingerprint: u32,
    beside: Beside,
}

impl ApiKey {
    /// A key given by the program.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong with it and where, and never shows it.
    pub fn new(key: &str) -> Result<Self, KeyError> {
        Self::sound(key, Place::Given)
    }

    /// The key in an environment variable.
    ///
    /// # Errors
    /// [`KeyError`] names the variable, and says what is wrong with its value, which it never shows.
    pub fn from_env(variable: &str) -> Result<Self, KeyError> {
        let place = Place::Variable(variable.into());
        match std::env::var(variable) {
            Ok(key) => Self::sound(&Zeroizing::new(key), place),
            Err(std::env::VarError::NotPresent) => Err(KeyError::new(KeyFault::NotSet, place)),
            Err(std::env::VarError::NotUnicode(value)) => {
                drop(Zeroizing::new(value.into_encoded_bytes()));
                Err(KeyError::new(KeyFault::NotUnicode, place))
            }
        }
    }

    /// The key in a file, such as a mounted secret, of at most 64 KiB.
    ///
    /// Line ends after the key are no part of it: editors and `echo` write them, and a shell's `$(cat file)` takes them
    /// off as well. All else that is wrong with a key is wrong in a file, too.
    ///
    /// [`KeySource::file`](super::KeySource::file) reads it again when it changes.
    ///
    /// # Errors
    /// [`KeyError`] names the file, and says what is wrong with it or with its content, which it never shows.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let place = Place::File(path.into());
        match file::read(path) {
            Ok(text) => Self::sound(text.trim_end_matches(['\r', '\n']), place),
            Err(fault) => Err(KeyError::new(fault, place)),
        }
    }

    fn sound(key: &str, place: Place) -> Result<Self, KeyError> {
        if let Some(fault) = fault(key) {
            return Err(KeyError::new(fault, place));
        }
        let bearer = wiped(Zeroizing::new([BEARER, key].concat().into_bytes()));
        Ok(Self { bearer, fingerprint: fingerprint(key.as_bytes()), beside: Beside::default() })
    }

    /// Sends this organization (`OpenAI-Organization`) along with the key.
    ///
    /// # Errors
    /// [`KeyError`] if that can be no organization: `null`, empty, with spaces …
    pub fn with_organization(self, organization: &str) -> Result<Self, KeyError> {
        self.with_header(ORGANIZATION, organization)
    }

    /// Sends this project (`OpenAI-Project`) along with the key.
    ///
    /// # Errors
    /// [`KeyError`] if that can be no project: `null`, empty, with spaces …
    pub fn with_project(self, project: &str) -> Result<Self, KeyError> {
        self.with_header(PROJECT, project)
    }

    /// Sends this header along with the key, and nowhere else: `x-goog-user-project`, `anthropic-workspace-id` …
    ///
    /// One that the request has already is left as it is.
    ///
    /// # Errors
    /// [`KeyError`] as for a key.
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Result<Self, KeyError> {
        self.beside.put(name, value)?;
        Ok(self)
    }

    /// Eight hex digits that tell keys apart and give nothing of them away: the same on every machine and in every version.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("{:08x}", self.fingerprint)
    }

    /// What tells its quota apart from others, on every machine: its fingerprint, or another one if there is something that
    /// goes along with it, for a key may have a quota in each of several organizations.
    pub(super) fn number(&self) -> u32 {
        if self.beside.0.is_empty() {
            return self.fingerprint;
        }
        let mut whole = Zeroizing::new(self.expose().as_bytes().to_vec());
        let mut beside: Vec<_> = self.beside.0.iter().collect();
        beside.sort_by_key(|(name, _)| name.as_str());
        for (name, value) in beside {
            for part in [name.as_str().as_bytes(), value.as_bytes()] {
                whole.push(0);
                whole.extend_from_slice(part);
            }
        }
        fingerprint(&whole)
    }

    /// `Bearer …`, marked sensitive; a clone is one reference count, and so is this.
    pub(super) fn bearer(&self) -> HeaderValue {
        sensitive(self.bearer.clone())
    }

    /// The key alone, marked sensitive.
    pub(super) fn alone(&self) -> HeaderValue {
        sensitive(self.bearer.slice(BEARER.len()..))
    }

    /// The key's own characters; what is made of them is to be wiped.
    pub(super) fn expose(&self) -> &str {
        self.bearer.get(BEARER.len()..).and_then(|key| str::from_utf8(key).ok()).unwrap_or_default()
    }

    /// What goes along with it.
    pub(super) fn beside(&self) -> &[(HeaderName, HeaderValue)] {
        &self.beside.0
    }

    /// With this along, as far as it has none of the same name itself.
    pub(super) fn with_beside(mut self, beside: &Beside) -> Self {
        for (name, value) in &beside.0 {
            if !self.beside.has(name) {
                self.beside.0.push((name.clone(), value.clone()));
            }
        }
        self
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.bearer == other.bearer
    }
}

/// Headers that go along with a key.
#[derive(Clone, Debug, Default)]
pub(super) struct Beside(Vec<(HeaderName, HeaderValue)>);

impl Beside {
    pub(super) fn put(&mut self, name: HeaderName, value: &str) -> Result<(), KeyError> {
        let unsound = |fault| KeyError::new(fault, Place::Header(name.clone()));
        if let Some(fault) = fault(value) {
            return Err(unsound(fault));
        }
        let value = HeaderValue::from_str(value).map_err(|_| unsound(KeyFault::ControlCharacter { position: 1 }))?;
        self.0.retain(|(known, _)| *known != name);
        self.0.push((name, value));
        Ok(())
    }

    fn has(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }
}

/// Bytes in a buffer that is wiped once the last clone is dropped; whatever has a key in it is made here.
///
/// With `zeroize` alone: a secret of the crate `secrecy`, which is built on it, could not be shared with a header's value.
pub(super) fn wiped(buffer: impl AsRef<[u8]> + ZeroizeOnDrop + Send + 'static) -> Bytes {
    Bytes::from_owner(buffer)
}

fn sensitive(bytes: Bytes) -> HeaderValue {
    // A sound key is visible ASCII throughout.
    let mut value = HeaderValue::from_maybe_shared(bytes).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({:08x})", self.fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use zeroize::Zeroize;

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
            ("\u{feff}sk-abcdef", KeyFault::ByteOrderMark),
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

    /// A buffer that tells when it is wiped, and what is in it then.
    struct Watched(Box<[u8]>, Arc<Mutex<Option<Vec<u8>>>>);

    impl AsRef<[u8]> for Watched {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Watched {
        fn drop(&mut self) {
            self.0.zeroize();
            *self.1.lock().unwrap() = Some(self.0.to_vec());
        }
    }

    impl ZeroizeOnDrop for Watched {}

    /// Neither sooner nor later than with the last request that carries it; header values copy nothing.
    #[test]
    fn a_key_is_wiped_with_its_last_clone() {
        let left = Arc::new(Mutex::new(None));
        let bearer = wiped(Watched(b"Bearer sk-abcdef"[..].into(), Arc::clone(&left)));
        let key = ApiKey { bearer, ..ApiKey::new("sk-abcdef").unwrap() };
        let address = key.bearer.as_ptr();
        let (bearer, alone) = (key.bearer(), key.alone());
        assert_eq!((bearer.as_bytes(), alone.as_bytes()), (&b"Bearer sk-abcdef"[..], &b"sk-abcdef"[..]));
        assert_eq!((bearer.as_bytes().as_ptr(), alone.as_bytes().as_ptr()), (address, address.wrapping_add(7)));
        let credential = crate::key_check::Placement::bearer().credential(&key);
        let mut request = http::Request::new(());
        assert!(credential.put(&mut request, &crate::key_check::Placement::bearer()).is_some());
        for held in
            [Box::new((key.clone(), key)) as Box<dyn std::any::Any>, Box::new(credential), Box::new((bearer, alone))]
        {
            drop(held);
            assert_eq!(*left.lock().unwrap(), None, "it is still in use");
        }
        drop(request);
        assert_eq!(left.lock().unwrap().as_deref(), Some(&[0; 16][..]));
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
                    let (bearer, alone) = (made.bearer(), made.alone());
                    prop_assert_eq!(bearer.as_bytes(), expected.as_bytes());
                    prop_assert_eq!(alone.as_bytes(), key.as_bytes());
                    prop_assert_eq!(made.expose(), &key);
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
