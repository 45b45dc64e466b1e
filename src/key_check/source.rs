//! [`KeySource`]: where a key comes from, and how another is had.

use std::{
    fmt,
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use http::HeaderName;
use tower::BoxError;

use super::{
    ApiKey, KeyError,
    file::{self, Stamp},
    key::{Beside, ORGANIZATION, PROJECT},
};
use crate::fingerprint::fingerprint;

/// Where a key comes from: a value, an environment variable, a file, or an async function.
///
/// An [`ApiKey`] is one, too, which never gives another.
///
/// ```
/// use std::time::Duration;
/// use tower_outbound::{ApiKey, KeyCheckLayer, Origin, key_check::{KeySource, Token}};
///
/// async fn sign_in() -> Result<Token, tower::BoxError> {
///     // Asks an identity provider.
///     Ok(Token::new(ApiKey::new("eyJ-a-short-lived-token")?).expires_in(Duration::from_secs(3600)))
/// }
///
/// let layer = KeyCheckLayer::new(KeySource::function(sign_in), Origin::parse("https://api.example")?);
/// # Ok::<_, tower::BoxError>(())
/// ```
#[derive(Clone)]
pub struct KeySource {
    kind: Kind,
    beside: Beside,
    /// The number of its name.
    number: Option<u32>,
}

#[derive(Clone)]
enum Kind {
    Value(ApiKey),
    Variable { name: Arc<str>, first: ApiKey },
    File { path: PathBuf, first: ApiKey, stamp: Option<Stamp> },
    Function(Arc<Function>),
}

type Function = dyn Fn() -> Pin<Box<dyn Future<Output = Result<Token, BoxError>> + Send>> + Send + Sync;

/// A key that an async function gives, and how long it is good for.
#[derive(Clone, Debug)]
pub struct Token {
    pub(super) key: ApiKey,
    pub(super) lifetime: Option<Duration>,
}

impl Token {
    /// A key that is good until the server refuses it.
    #[must_use]
    pub fn new(key: ApiKey) -> Self {
        Self { key, lifetime: None }
    }

    /// A key that is good for this long from now. The next is asked for a fifth of that before, a minute at the most.
    #[must_use]
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }
}

impl From<ApiKey> for Token {
    fn from(key: ApiKey) -> Self {
        Self::new(key)
    }
}

/// What a source said when it was asked again.
pub(super) enum Fetched {
    Unchanged,
    Key(Token, Option<Stamp>),
}

impl KeySource {
    /// The key in an environment variable, which is read again when the server refuses the key.
    ///
    /// # Errors
    /// As [`ApiKey::from_env`].
    pub fn env(variable: &str) -> Result<Self, KeyError> {
        Ok(Kind::Variable { name: variable.into(), first: ApiKey::from_env(variable)? }.into())
    }

    /// The key in a file, which is read again when it changes and when the server refuses the key.
    ///
    /// Whether it has changed (length, time of change, inode) is looked at once a second at the most, while calls are
    /// made, on a thread that may block. Calls meanwhile go with the key that is known; a file that cannot be read, or
    /// holds no sound key, leaves it in force.
    ///
    /// # Errors
    /// As [`ApiKey::from_file`].
    pub fn file(path: impl Into<PathBuf>) -> Result<Self, KeyError> {
        let path = path.into();
        // Before it is read: a change in between is then seen at the next look.
        let stamp = file::stamp(&path);
        let first = ApiKey::from_file(&path)?;
        Ok(Kind::File { path, first, stamp }.into())
    }

    /// The key that an async function gives: for short-lived tokens.
    ///
    /// It is called when the first call needs the key, ahead of its expiry, and when the server refuses it; once at a
    /// time, however many calls wait for it, in a task of its own. What it gives is kept. After a failure the next
    /// try comes 1 s later, then 2, 4 … 60 s; until it succeeds, calls without a key are refused, with its error.
    pub fn function<F, Fut, T, E>(function: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Token>,
        E: Into<BoxError>,
    {
        Kind::Function(Arc::new(move || {
            let token = function();
            Box::pin(async move { token.await.map(Into::into).map_err(Into::into) })
        }))
        .into()
    }

    /// Names what its keys' quota belongs to: a meter, and a store that meters on several machines share, tell keys apart by
    /// their names.
    ///
    /// Without it, the first key that the source gives in this process names it, by its fingerprint. That is the same on all
    /// machines while the key is; where keys are rotated, or each machine has one of its own for the same quota, give a name.
    /// Several sources of one name share one quota. The name itself is shown nowhere, only its fingerprint.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.number = Some(fingerprint(name.as_bytes()));
        self
    }

    /// The number of its name, or else of this key, the first one.
    pub(super) fn number(&self, first: &ApiKey) -> u32 {
        self.number.unwrap_or_else(|| first.number())
    }

    /// Sends this organization along with each key: see [`ApiKey::with_organization`].
    ///
    /// # Errors
    /// [`KeyError`] if that can be no organization.
    pub fn with_organization(self, organization: &str) -> Result<Self, KeyError> {
        self.with_header(ORGANIZATION, organization)
    }

    /// Sends this project along with each key: see [`ApiKey::with_project`].
    ///
    /// # Errors
    /// [`KeyError`] if that can be no project.
    pub fn with_project(self, project: &str) -> Result<Self, KeyError> {
        self.with_header(PROJECT, project)
    }

    /// Sends this header along with each key: see [`ApiKey::with_header`].
    ///
    /// # Errors
    /// [`KeyError`] as for a key.
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Result<Self, KeyError> {
        self.beside.put(name, value)?;
        Ok(self)
    }

    /// The key that is there from the start.
    pub(super) fn first(&self) -> Option<(ApiKey, Option<Stamp>)> {
        match &self.kind {
            Kind::Value(key) | Kind::Variable { first: key, .. } => Some((self.dressed(key.clone()), None)),
            Kind::File { first, stamp, .. } => Some((self.dressed(first.clone()), *stamp)),
            Kind::Function(_) => None,
        }
    }

    /// Whether it can give another key than it gave.
    pub(super) fn can_change(&self) -> bool {
        !matches!(self.kind, Kind::Value(_))
    }

    /// Whether it is to be looked at now and then, though all is well.
    pub(super) fn is_watched(&self) -> bool {
        matches!(self.kind, Kind::File { .. })
    }

    fn dressed(&self, key: ApiKey) -> ApiKey {
        key.with_beside(&self.beside)
    }

    /// Asks for the key; of a file that looks as it did at `known`, it is not read.
    pub(super) async fn fetch(&self, known: Option<Stamp>) -> Result<Fetched, BoxError> {
        let fetched = match &self.kind {
            Kind::Value(_) => Fetched::Unchanged,
            Kind::Variable { name, .. } => Fetched::Key(ApiKey::from_env(name)?.into(), None),
            Kind::File { path, .. } => {
                let path = path.clone();
                tokio::task::spawn_blocking(move || read(&path, known)).await??
            }
            Kind::Function(function) => Fetched::Key(function().await?, None),
        };
        Ok(match fetched {
            Fetched::Key(token, stamp) => Fetched::Key(Token { key: self.dressed(token.key), ..token }, stamp),
            Fetched::Unchanged => Fetched::Unchanged,
        })
    }
}

fn read(path: &Path, known: Option<Stamp>) -> Result<Fetched, KeyError> {
    let stamp = file::stamp(path);
    if stamp.is_some() && stamp == known {
        return Ok(Fetched::Unchanged);
    }
    Ok(Fetched::Key(ApiKey::from_file(path)?.into(), stamp))
}

impl From<Kind> for KeySource {
    fn from(kind: Kind) -> Self {
        Self { kind, beside: Beside::default(), number: None }
    }
}

impl From<ApiKey> for KeySource {
    fn from(key: ApiKey) -> Self {
        Kind::Value(key).into()
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Value(key) => write!(f, "KeySource({key:?})"),
            Kind::Variable { name, .. } => write!(f, "KeySource(variable {name})"),
            Kind::File { path, .. } => write!(f, "KeySource(file {})", path.display()),
            Kind::Function(_) => f.write_str("KeySource(function)"),
        }
    }
}
