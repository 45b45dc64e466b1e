//! [`Scoping`]: which calls share a quota.

use std::{borrow::Cow, fmt, sync::Arc};

use super::RequestView;

/// The model that a request is for, where its body does not say.
///
/// A request extension. With it the meter need not read the body to know the scope of the request.
///
/// ```
/// use tower_outbound::quota_meter::Model;
///
/// let mut request = http::Request::post("https://api.example/v1/audio/transcriptions").body(()).unwrap();
/// request.extensions_mut().insert(Model::from("whisper-1"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Model(Arc<str>);

impl Model {
    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Model {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for Model {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

/// Which calls share a quota.
///
/// The default tells apart hosts, keys and models: OpenAI and most others limit each model of an organization by itself, and
/// a key belongs to one organization. Two scopes for what is one quota cost a few 429s, as two processes would; one scope for
/// what are two quotas would pace both by the last answer of either.
///
/// ```
/// use tower_outbound::quota_meter::{QuotaMeterLayer, Scoping};
///
/// // Several keys of one organization:
/// let meter = QuotaMeterLayer::new().scoping(Scoping::one().per_host().per_model());
/// // Several customers:
/// let meter = QuotaMeterLayer::new().scoping(Scoping::with(|request| {
///     request.headers().get("x-customer").and_then(|value| value.to_str().ok()).unwrap_or("nobody").into()
/// }));
/// ```
#[derive(Clone)]
pub struct Scoping(pub(super) By);

pub(super) type Choose = dyn for<'a> Fn(&RequestView<'a>) -> Cow<'a, str> + Send + Sync;

#[derive(Clone)]
pub(super) enum By {
    Parts(Parts),
    Function(Arc<Choose>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) host: bool,
    pub(super) key: bool,
    pub(super) model: bool,
    /// GitHub's resource, in the model's place.
    pub(super) github: bool,
}

impl Scoping {
    /// One quota for everything. Nothing is looked up.
    #[must_use]
    pub const fn one() -> Self {
        Self(By::Parts(Parts { host: false, key: false, model: false, github: false }))
    }

    /// Tells apart hosts, with their ports. `API.example` and `api.example:443` over https are the same.
    #[must_use]
    pub fn per_host(self) -> Self {
        self.also(|parts| parts.host = true)
    }

    /// Tells apart keys: those that a `KeyCheck` further out lends, by the [numbers of their leases](crate::Lease::id), so that
    /// a key that is rotated keeps its quota; others by `Authorization`, or else `api-key`, `x-api-key` or `x-goog-api-key`. Of
    /// a key only hashes are kept, one with a random start for each process, and the fingerprint in its
    /// [`ScopeName`](super::ScopeName).
    #[must_use]
    pub fn per_key(self) -> Self {
        self.also(|parts| parts.key = true)
    }

    /// Tells apart models: by the extension [`Model`], or else by the path (Azure, Gemini), or else by `model` in a JSON body in
    /// memory of at most 8 MiB. A name of more than 256 bytes is none.
    #[must_use]
    pub fn per_model(self) -> Self {
        self.also(|parts| parts.model = true)
    }

    /// Tells apart GitHub's resources, each with a limit of its own: `core`, `search`, `code_search`, `graphql` and those of single
    /// endpoints. The path says which one a request takes from; it stands in [`ScopeName::model`](super::ScopeName::model), and no
    /// model is looked for.
    ///
    /// Which they are: <https://docs.github.com/en/rest/rate-limit/rate-limit>. Without this a search that used up its 30 a minute
    /// holds up the calls that have 5,000 an hour.
    ///
    /// ```
    /// use tower_outbound::quota_meter::{QuotaMeterLayer, Scoping};
    ///
    /// let meter = QuotaMeterLayer::new().scoping(Scoping::one().per_host().per_key().per_github_resource());
    /// ```
    #[must_use]
    pub fn per_github_resource(self) -> Self {
        self.also(|parts| parts.github = true)
    }

    /// Tells apart what this function names differently. It is called once for each attempt.
    #[must_use]
    pub fn with(choose: impl for<'a> Fn(&RequestView<'a>) -> Cow<'a, str> + Send + Sync + 'static) -> Self {
        Self(By::Function(Arc::new(choose)))
    }

    fn also(self, set: impl FnOnce(&mut Parts)) -> Self {
        let mut parts = match self.0 {
            By::Parts(parts) => parts,
            By::Function(_) => Parts::default(),
        };
        set(&mut parts);
        Self(By::Parts(parts))
    }
}

impl Default for Scoping {
    fn default() -> Self {
        Self::one().per_host().per_key().per_model()
    }
}

impl fmt::Debug for Scoping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            By::Parts(parts) => fmt::Debug::fmt(parts, f),
            By::Function(_) => f.write_str("Scoping(function)"),
        }
    }
}
