//! [`ScopeName`]: what a quota belongs to.

use std::{fmt, sync::Arc};

/// What a quota belongs to.
///
/// Shown as what tells it apart: `api.openai.com gpt-4o key #e1c0ea12`. A key is in it as a fingerprint alone: 32 bits of a
/// hash of its text, which is the same on every machine and in every version, and that `ApiKey::fingerprint` shows, too.
/// A key from a `KeyCheck` that has headers of its own (an organization, a project) has another with each set of them; one
/// that was rotated keeps that of the first key that its source gave in this process, and one with a name
/// (`KeySource::named`) has that of its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeName {
    host: Arc<str>,
    model: Arc<str>,
    own: Arc<str>,
    key: Option<u32>,
}

impl ScopeName {
    /// The host in lower case, with its port where the URI names an unusual one; empty if hosts are not told apart.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The model; empty if the request named none, or models are not told apart.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// What the function of [`Scoping::with`](super::Scoping::with) named it; else empty.
    #[must_use]
    pub fn own(&self) -> &str {
        &self.own
    }

    /// The fingerprint of the key, as eight hex digits; `None` if the request had none, or keys are not told apart.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        self.key.map(|key| format!("{key:08x}"))
    }

    pub(super) fn new(host: &str, model: &str, own: &str, key: Option<u32>) -> Self {
        Self { host: host.into(), model: model.into(), own: own.into(), key }
    }

    pub(super) fn overflow() -> Self {
        Self { own: "(all others)".into(), ..Self::default() }
    }

    /// The number of the key.
    pub(super) fn key_number(&self) -> Option<u32> {
        self.key
    }

    /// The name under which it is counted: the same after a key was rotated.
    pub(super) fn label(&self) -> String {
        Self { key: None, ..self.clone() }.to_string()
    }
}

impl fmt::Display for ScopeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&*self.host, &*self.model, &*self.own].into_iter().filter(|part| !part.is_empty());
        let mut is_empty = true;
        for part in parts {
            write!(f, "{}{part}", if is_empty { "" } else { " " })?;
            is_empty = false;
        }
        match self.key {
            Some(key) => write!(f, "{}key #{key:08x}", if is_empty { "" } else { " " }),
            None if is_empty => f.write_str("(everything)"),
            None => Ok(()),
        }
    }
}
