//! What is known of the keys at one moment, and the refusal when none of them is sound.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use crate::ApiError;

/// How a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyState {
    /// Fit for calls.
    Sound,
    /// The server asked for a pause: other keys go first, but it is used where there is no other.
    Cooling,
    /// The server refused it.
    Rejected,
    /// Its quota is used up.
    Spent,
    /// Its source has given none yet, or one that has expired.
    Missing,
}

/// One key at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeySnapshot {
    /// Which: see [`ApiKey::fingerprint`](super::ApiKey::fingerprint). `None` while its source has given none.
    pub fingerprint: Option<String>,
    /// What names its quota to a meter, as [`ScopeName::key`](crate::quota_meter::ScopeName::key) shows it: the fingerprint of the
    /// first key here, with what goes along with it, or of the [name](super::KeySource::named) of its source.
    pub quota: Option<String>,
    /// How it is.
    pub state: KeyState,
    /// Calls with it that have not been answered.
    pub outstanding: usize,
    /// When it is looked at again, or spared no longer; `None` where it need not be, or nobody can know.
    pub back_in: Option<Duration>,
    /// The answer that put it out of use.
    pub error: Option<ApiError>,
    /// What its source said when it last failed to give a key, with what looks like a key masked.
    pub source_error: Option<Arc<str>>,
}

impl fmt::Display for KeySnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fingerprint {
            Some(fingerprint) => write!(f, "the key {fingerprint} ")?,
            None => f.write_str("a key ")?,
        }
        f.write_str(match self.state {
            KeyState::Sound => "is sound",
            KeyState::Cooling => "is cooling",
            KeyState::Rejected => "was refused by the server",
            KeyState::Spent => "has used up its quota",
            KeyState::Missing => "is not there yet, or has expired",
        })?;
        if let Some(error) = &self.error {
            write!(f, " ({error})")?;
        }
        if let Some(error) = &self.source_error {
            write!(f, " [its source: {error}]")?;
        }
        match self.back_in {
            Some(wait) => write!(f, ", looked at again in {wait:.1?}"),
            None => Ok(()),
        }
    }
}

/// No key is fit for the call; the cause of a [`Refused`](crate::Refused).
///
/// It tells each key's state by fingerprint. [`Refused::wait`](crate::Refused::wait) is when the first is back.
#[derive(Clone, Debug)]
pub struct NoSoundKey {
    pub(super) keys: Vec<KeySnapshot>,
}

impl NoSoundKey {
    /// The keys, in the order in which they were given.
    #[must_use]
    pub fn keys(&self) -> &[KeySnapshot] {
        &self.keys
    }
}

impl fmt::Display for NoSoundKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, key) in self.keys.iter().enumerate() {
            write!(f, "{}{key}", if number > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl Error for NoSoundKey {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let error = self.keys.iter().find_map(|key| key.error.as_ref())?;
        Some(error)
    }
}
