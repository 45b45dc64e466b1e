//! [`Stack`]: the settings of a whole stack, as one layer.

use std::{
    error::Error,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::Request;
use tower::util::option_layer;
use tower_layer::Layer;

use super::{StackService, base::Base, front::Front};
use crate::{
    BackoffRetryLayer, ErrorClassifyLayer, FallbackLayer, KeyCheckLayer, QuotaMeterLayer, Refused, RequestCheckLayer,
    key_check::{ApiKey, KeyError, OriginError},
    provider::OpenAi,
    quota_meter::{Contents, Permit, Sight},
};

/// As the official SDKs have it.
const OPENAI_BASE_URL: &str = "https://api.openai.com/v1";

/// A stack for OpenAI's API, and for any that copies it: key and base URL from `OPENAI_API_KEY` and `OPENAI_BASE_URL`,
/// limits learned from the answers, retries as [`BackoffRetryLayer::openai_sdk`] does them; what OpenAI would refuse is not
/// sent.
///
/// **A POST sent twice is billed twice**, as with those SDKs: see [`BackoffRetryLayer::openai_sdk`].
#[must_use]
pub fn openai() -> Stack {
    let url = std::env::var("OPENAI_BASE_URL").ok().filter(|url| !url.trim().is_empty());
    Stack {
        key: ApiKey::from_env("OPENAI_API_KEY"),
        base: Base::parse(url.as_deref().unwrap_or(OPENAI_BASE_URL)).map(Arc::new),
        request_check: RequestCheckLayer::new().openai(),
        key_check: None,
        own_key_check: false,
        retry: BackoffRetryLayer::openai_sdk(),
        max_elapsed: None,
        quota: QuotaMeterLayer::new(),
        classify: ErrorClassifyLayer::new(OpenAi),
        front: OnceLock::new(),
    }
    .renewed()
}

/// All layers as one, in their recommended order; [`fallback`](Self::fallback) goes on last. See the [module](super) for an
/// example. In what order the settings are made does not matter.
///
/// Its clones, and all services it makes, share one key, one quota and one budget.
#[derive(Clone, Debug)]
pub struct Stack {
    key: Result<ApiKey, KeyError>,
    base: Result<Arc<Base>, OriginError>,
    request_check: RequestCheckLayer,
    /// `None` while something is wrong with key or base URL.
    key_check: Option<KeyCheckLayer>,
    /// Whether that was given, and not made of key and base URL.
    own_key_check: bool,
    retry: BackoffRetryLayer,
    /// Given by itself: it holds for any retry.
    max_elapsed: Option<Duration>,
    quota: QuotaMeterLayer,
    classify: ErrorClassifyLayer,
    /// Made once for all services: a client may layer anew for each call.
    front: OnceLock<Arc<Front>>,
}

impl Stack {
    /// To be called by whatever changes what the front is made of.
    fn changed(self) -> Self {
        Self { front: OnceLock::new(), ..self }
    }

    fn renewed(mut self) -> Self {
        if !self.own_key_check {
            self.key_check = match (&self.key, &self.base) {
                (Ok(key), Ok(base)) => Some(KeyCheckLayer::new(key.clone(), base.origin.clone())),
                _ => None,
            };
        }
        self.changed()
    }

    /// This key. Default: that in `OPENAI_API_KEY`. What is wrong with it, [`checked`](Self::checked) says. With a
    /// [`key_check`](Self::key_check) it is not asked for.
    #[must_use]
    pub fn api_key(mut self, key: &str) -> Self {
        self.key = ApiKey::new(key);
        self.renewed()
    }

    /// Where the API is. Default: `OPENAI_BASE_URL`, or else `https://api.openai.com/v1`.
    ///
    /// The key goes to this origin only; those of a [`key_check`](Self::key_check) go to its own. A request with no more than
    /// a path, such as `/models`, is sent under this URL.
    #[must_use]
    pub fn base_url(mut self, url: &str) -> Self {
        self.base = Base::parse(url).map(Arc::new);
        self.renewed()
    }

    /// The time after which no further attempt of a call begins, its waiting for the quota included. Default: none, or that
    /// of a [`retry`](Self::retry) of one's own; this goes before it.
    #[must_use]
    pub fn max_elapsed(mut self, max_elapsed: Duration) -> Self {
        self.max_elapsed = Some(max_elapsed);
        self.retry = self.retry.max_elapsed(max_elapsed);
        self
    }

    /// Another check of requests: [`RequestCheckLayer::new`] for an API that takes what OpenAI's does not.
    ///
    /// A stream is held to the size limit as far as it tells its size beforehand: held to it on its way, it would be a
    /// [`CheckedBody`](crate::request_check::CheckedBody), which every client under the stack would have to take. Who wants
    /// that puts a [`RequestCheckLayer`] of one's own over the stack, and whole URLs into its requests.
    #[must_use]
    pub fn request_check(mut self, request_check: RequestCheckLayer) -> Self {
        self.request_check = request_check;
        self.changed()
    }

    /// Another retry.
    #[must_use]
    pub fn retry(mut self, retry: BackoffRetryLayer) -> Self {
        self.retry = match self.max_elapsed {
            Some(max_elapsed) => retry.max_elapsed(max_elapsed),
            None => retry,
        };
        self
    }

    /// Another way of giving keys, for another header or several keys, or to put them in the place of the callers' own. It
    /// takes the place of [`api_key`](Self::api_key), and its keys go to its own origin, whatever the base URL.
    #[must_use]
    pub fn key_check(mut self, key_check: KeyCheckLayer) -> Self {
        (self.key_check, self.own_key_check) = (Some(key_check), true);
        self.changed()
    }

    /// Another meter: one shared with other stacks, or with limits of its own.
    #[must_use]
    pub fn quota(mut self, quota: QuotaMeterLayer) -> Self {
        self.quota = quota;
        self.changed()
    }

    /// Another reading of failures, for another provider or for streams.
    #[must_use]
    pub fn classify(mut self, classify: ErrorClassifyLayer) -> Self {
        self.classify = classify;
        self
    }

    /// The meter, to look at its [`snapshot`](QuotaMeterLayer::snapshot).
    #[must_use]
    pub fn quota_meter(&self) -> &QuotaMeterLayer {
        &self.quota
    }

    /// How long this request would wait for the quota if it came now; `None` while no limit is known. It is not sent, and
    /// takes nothing.
    ///
    /// Unlike the meter's own [`expected_wait`](crate::quota_meter::MeterHandle::expected_wait) it knows the whole URL of a path,
    /// and the key that the request would be lent.
    ///
    /// ```
    /// use http_body_util::Full;
    /// use std::time::Duration;
    /// use tower::{ServiceBuilder, ServiceExt};
    /// use tower_outbound::{mock::{Limits, MockApi}, stack};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), tower::BoxError> {
    /// let stack = stack::openai().api_key("sk-test-0123456789").checked()?;
    /// let api = MockApi::builder().limits(Limits::per_minute(60, 100_000)).build();
    /// let openai = ServiceBuilder::new().layer(stack.clone()).service(api);
    /// let body = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello"}]}"#;
    /// let ask = || {
    ///     let request = http::Request::post("/chat/completions").header("content-type", "application/json");
    ///     request.body(Full::new(bytes::Bytes::from(body)))
    /// };
    ///
    /// openai.clone().oneshot(ask()?).await?;
    /// assert_eq!(stack.expected_wait(&ask()?), Some(Duration::ZERO));
    /// let permit = stack.try_acquire(&ask()?)?;
    /// let mut request = ask()?;
    /// request.extensions_mut().insert(permit);
    /// assert_eq!(openai.oneshot(request).await?.status(), 200);
    /// # Ok(()) }
    /// ```
    pub fn expected_wait<B>(&self, request: &Request<B>) -> Option<Duration>
    where
        Contents: Sight<B>,
    {
        self.front().expected_wait(request)
    }

    /// Takes what this request needs of the quota, if it could leave now, for those who would rather do something else than
    /// wait: see [`MeterHandle::try_acquire`](crate::quota_meter::MeterHandle::try_acquire). It knows the whole URL of a path, and
    /// the key that the request would be lent; with the permit, the call is lent that one.
    ///
    /// # Errors
    /// [`Refused`] with a [`Refusal`](crate::quota_meter::Refusal) as its cause, and the time it would have taken; or with a
    /// [`StackFault`].
    pub fn try_acquire<B>(&self, request: &Request<B>) -> Result<Permit, Refused>
    where
        Contents: Sight<B>,
    {
        self.front().try_acquire(request)
    }

    /// Itself, if key and base URL are sound; without this, each call is refused that needs them.
    ///
    /// # Errors
    /// [`StackFault`] says what is wrong.
    pub fn checked(self) -> Result<Self, StackFault> {
        self.fault().map_or(Ok(self), Err)
    }

    /// Puts a fallback over it, after all else is set.
    ///
    /// It sees requests as they come: one with no more than a path goes with that path to the other services too, and
    /// another stack puts it under its own base URL.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http_body_util::Full;
    /// use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
    /// use tower_outbound::{fallback::{FallbackLayer, FallbackReport}, mock::MockApi, stack};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), tower::BoxError> {
    /// let down = service_fn(|_: http::Request<Full<Bytes>>| async {
    ///     Ok::<_, tower::BoxError>(http::Response::builder().status(503).body(Default::default())?)
    /// });
    /// let stack = |region| stack::openai().base_url(region).api_key("sk-test-0123456789");
    /// let eu = stack("https://eu.api.example/v1").checked()?.layer(MockApi::builder().build());
    /// let us = stack("https://us.api.example/v1").checked()?.fallback(FallbackLayer::new().service("eu", eu));
    /// let service = ServiceBuilder::new().layer(us).service(down);
    ///
    /// let response = service.oneshot(http::Request::get("/models").body(Full::default())?).await?;
    /// let by = response.extensions().get::<FallbackReport>().and_then(|report| report.by.as_deref());
    /// assert_eq!((response.status().as_u16(), by), (200, Some("eu")));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn fallback<B, RB>(self, fallback: FallbackLayer<B, RB>) -> tower_layer::Stack<Self, FallbackLayer<B, RB>> {
        tower_layer::Stack::new(self, fallback)
    }

    fn front(&self) -> &Arc<Front> {
        self.front.get_or_init(|| {
            Arc::new(Front {
                base: self.base.clone().ok(),
                fault: self.fault(),
                request_check: self.request_check.clone(),
                keys: self.key_check.clone(),
                meter: self.quota.handle(),
            })
        })
    }

    fn fault(&self) -> Option<StackFault> {
        match (&self.base, &self.key_check, &self.key) {
            (Err(error), ..) => Some(StackFault::BaseUrl(*error)),
            (_, None, Err(error)) => Some(StackFault::Key(error.clone())),
            _ => None,
        }
    }
}

impl<S: Clone> Layer<S> for Stack {
    type Service = StackService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let metered = self.quota.layer(self.classify.layer(inner));
        let keyed = option_layer(self.key_check.clone()).layer(metered);
        StackService { inner: self.retry.layer(keyed), front: Arc::clone(self.front()) }
    }
}

/// What is wrong with the settings of a [`Stack`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StackFault {
    /// The key.
    Key(KeyError),
    /// The base URL.
    BaseUrl(OriginError),
}

impl fmt::Display for StackFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(error) => error.fmt(f),
            Self::BaseUrl(error) => error.fmt(f),
        }
    }
}

impl Error for StackFault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(match self {
            Self::Key(error) => error,
            Self::BaseUrl(error) => error,
        })
    }
}
