//! Which provider for which call.

use std::{fmt, sync::Arc};

use http::{Request, header::HOST};

use super::{Generic, Provider, apis};

/// One provider for all calls, or one by the request's host.
///
/// ```
/// use tower_outbound::provider::{OpenAi, Providers};
///
/// // One API behind this client:
/// let one = Providers::from(OpenAi);
/// // Several: those we know by their hosts, a gateway of one's own that copies OpenAI, and Generic for all others.
/// let several = Providers::by_host().host("llm.example.test", OpenAi);
/// ```
#[derive(Clone)]
pub struct Providers {
    hosts: Vec<(String, Arc<dyn Provider>)>,
    otherwise: Arc<dyn Provider>,
}

/// Which of a set: its place in the list, or past the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice(usize);

impl Providers {
    /// The APIs we know, each by its hosts; [`Generic`] for every other.
    #[must_use]
    pub fn by_host() -> Self {
        apis::all().into_iter().fold(Self::from(Generic), |set, provider| set.with(provider))
    }

    /// With this provider for the [hosts](Provider::hosts) that it names itself, before those that are there.
    #[must_use]
    pub fn with(mut self, provider: impl IntoProvider) -> Self {
        let provider = provider.into_provider();
        for host in provider.hosts().iter().rev() {
            self.hosts.insert(0, (host.to_ascii_lowercase(), provider.clone()));
        }
        self
    }

    /// With this provider for one host, before those that are there. `*.example.test` is every host that ends so.
    #[must_use]
    pub fn host(mut self, host: &str, provider: impl IntoProvider) -> Self {
        self.hosts.insert(0, (host.to_ascii_lowercase(), provider.into_provider()));
        self
    }

    /// With this provider for every other host.
    #[must_use]
    pub fn otherwise(mut self, provider: impl IntoProvider) -> Self {
        self.otherwise = provider.into_provider();
        self
    }

    /// Only the provider for this host, chosen once: for a client that calls nobody else.
    ///
    /// ```
    /// use tower_outbound::provider::Providers;
    ///
    /// let one = Providers::by_host().only("api.anthropic.com");
    /// assert_eq!(one.of(&http::Request::new(())).name(), "anthropic");
    /// ```
    #[must_use]
    pub fn only(&self, host: &str) -> Self {
        let found = self.hosts.iter().find(|(pattern, _)| matches(pattern, host));
        Self { hosts: Vec::new(), otherwise: found.map_or(&self.otherwise, |(_, provider)| provider).clone() }
    }

    /// The provider for this request.
    #[must_use]
    pub fn of<B>(&self, request: &Request<B>) -> &dyn Provider {
        self.get(self.choose(request))
    }

    /// Only a number, which a future holds more cheaply than the provider.
    pub(crate) fn choose<B>(&self, request: &Request<B>) -> Choice {
        if self.hosts.is_empty() { Choice(0) } else { self.by_host_of(request) }
    }

    #[inline(never)]
    fn by_host_of<B>(&self, request: &Request<B>) -> Choice {
        let host = request.uri().host().or_else(|| {
            let host = request.headers().get(HOST)?.to_str().ok()?;
            Some(host.rsplit_once(':').map_or(host, |(host, _)| host))
        });
        let fits = |host: &str| self.hosts.iter().position(|(pattern, _)| matches(pattern, host));
        Choice(host.and_then(fits).unwrap_or(self.hosts.len()))
    }

    pub(crate) fn get(&self, choice: Choice) -> &dyn Provider {
        self.hosts.get(choice.0).map_or(&*self.otherwise, |(_, provider)| &**provider)
    }
}

fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => host
            .len()
            .checked_sub(end.len())
            .and_then(|start| host.as_bytes().get(start..))
            .is_some_and(|tail| tail.eq_ignore_ascii_case(end.as_bytes())),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

impl<P: IntoProvider> From<P> for Providers {
    fn from(provider: P) -> Self {
        Self { hosts: Vec::new(), otherwise: provider.into_provider() }
    }
}

/// A [`Provider`], or an `Arc` of one.
pub trait IntoProvider: sealed::Sealed {
    /// As the sets of providers keep it.
    fn into_provider(self) -> Arc<dyn Provider>;
}

impl<P: Provider> IntoProvider for P {
    fn into_provider(self) -> Arc<dyn Provider> {
        Arc::new(self)
    }
}

impl IntoProvider for Arc<dyn Provider> {
    fn into_provider(self) -> Arc<dyn Provider> {
        self
    }
}

mod sealed {
    pub trait Sealed {}
    impl<P: super::Provider> Sealed for P {}
    impl Sealed for std::sync::Arc<dyn super::Provider> {}
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.hosts.iter().map(|(host, provider)| (host.as_str(), provider.name()));
        f.debug_map().entries(hosts).entry(&"otherwise", &self.otherwise.name()).finish()
    }
}
