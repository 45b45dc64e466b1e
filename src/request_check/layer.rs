//! [`RequestCheckLayer`]: what is checked.

use std::{fmt, sync::Arc};

use bytes::Bytes;
#[cfg(feature = "schema")]
use http::Method;
use http::{Request, header::CONTENT_TYPE};
use http_body::Body;
use tower_layer::Layer;

#[cfg(feature = "schema")]
use super::schema::{AtPath, Schema};
use super::{
    BadRequest, Checked, Fault, Place, RequestCheck,
    endpoints::Endpoint,
    head::{Headers, check_headers, check_uri},
    rule::ANY,
    tokens::TokenLimits,
    walk::{Look, Measure, Size, walk},
};
#[cfg(feature = "stack")]
use crate::Refused;
use crate::body::Resend;

/// Default for [`RequestCheckLayer::max_body`].
const MAX_BODY: u64 = 512 << 20;
/// Default for [`RequestCheckLayer::max_headers`].
const MAX_HEADERS: usize = 128 << 10;
/// Default for [`RequestCheckLayer::max_depth`]; it is what `serde_json` and many servers take at most.
const MAX_DEPTH: u8 = 127;

/// Makes [`RequestCheck`]s that check alike. See the [module](super) for an example.
#[derive(Clone, Debug)]
pub struct RequestCheckLayer {
    settings: Arc<Settings>,
}

type Check = Arc<dyn Fn(&Checked<'_>) -> Vec<Fault> + Send + Sync>;

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) max_body: u64,
    max_headers: usize,
    look: Look,
    openai: bool,
    tokens: TokenLimits,
    checks: Vec<Check>,
    #[cfg(feature = "schema")]
    schemas: Vec<AtPath>,
}

impl RequestCheckLayer {
    /// Checks what holds for every server: URI, sizes, and JSON that is JSON.
    #[must_use]
    pub fn new() -> Self {
        Self {
            settings: Arc::new(Settings {
                max_body: MAX_BODY,
                max_headers: MAX_HEADERS,
                look: Look { max_depth: MAX_DEPTH, unique_names: false, measure: Measure::Bytes },
                openai: false,
                tokens: TokenLimits::default(),
                checks: Vec::new(),
                #[cfg(feature = "schema")]
                schemas: Vec::new(),
            }),
        }
    }

    fn change(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }

    /// Checks what OpenAI asks of the bodies of `POST …/chat/completions`, `…/responses` and `…/embeddings`, and knows the
    /// context of some of its models. Default: off, for other servers have their own mind.
    ///
    /// A path of Azure OpenAI that names a deployment needs no `model` in the body.
    #[must_use]
    pub fn openai(self) -> Self {
        self.change(|settings| {
            settings.openai = true;
            settings.tokens.add_openai();
        })
    }

    /// The most bytes of a body, known or found out while it is sent. Default: 512 MiB, the largest file that OpenAI takes.
    /// Source: <https://platform.openai.com/docs/api-reference/files/create>.
    #[must_use]
    pub fn max_body(self, bytes: u64) -> Self {
        self.change(|settings| settings.max_body = bytes)
    }

    /// The most bytes of all headers together, names and values. Default: 128 KiB. AWS's load balancers take 64 KiB, Fastly
    /// 69 kB, nginx 32 KiB as it comes.
    #[must_use]
    pub fn max_headers(self, bytes: usize) -> Self {
        self.change(|settings| settings.max_headers = bytes)
    }

    /// How deep arrays and objects in a JSON body may stand in one another. Default, and most: 127, as deep as `serde_json`
    /// reads.
    #[must_use]
    pub fn max_depth(self, depth: u8) -> Self {
        self.change(|settings| settings.look.max_depth = depth.min(MAX_DEPTH))
    }

    /// Refuses objects with one name twice, of which servers take the first, or the last, or neither. Default: off; it costs
    /// a set of names for each object.
    #[must_use]
    pub fn unique_names(self) -> Self {
        self.change(|settings| settings.look.unique_names = true)
    }

    /// The context of this model, in tokens: a prompt that is certainly longer is refused, where
    /// [`openai`](Self::openai) knows the endpoint. Tokens are reckoned low, from the characters of the texts; of
    /// embeddings each input counts by itself.
    #[must_use]
    pub fn context(self, model: impl Into<String>, tokens: u64) -> Self {
        self.change(|settings| settings.tokens.set_context(model.into(), tokens))
    }

    /// The limit of tokens a minute: a request that alone asks for more never fits, and is refused, where
    /// [`openai`](Self::openai) knows the endpoint. It asks for its `TokenCost`, if it has one, else for the larger of its
    /// prompt and its `max_completion_tokens`. Default: none.
    #[must_use]
    pub fn tokens_per_minute(self, tokens: u64) -> Self {
        self.change(|settings| settings.tokens.per_minute = Some(tokens))
    }

    /// How many characters of a prompt make a token, for the limits in tokens. Default: 6, which is more than any language
    /// has on average, so that no request is refused that would fit.
    #[must_use]
    pub fn chars_per_token(self, chars: f64) -> Self {
        self.change(|settings| settings.tokens.chars_per_token = chars)
    }

    /// A check of one's own, on every request; what it returns is wrong with it.
    ///
    /// ```
    /// use tower_outbound::request_check::{Fault, Place, RequestCheckLayer};
    ///
    /// let layer = RequestCheckLayer::new().check(|request| match request.headers.get("x-tenant") {
    ///     Some(_) => vec![],
    ///     None => vec![Fault::new(Place::Headers, "no x-tenant", "the tenant's name")],
    /// });
    /// ```
    #[must_use]
    pub fn check(self, check: impl Fn(&Checked<'_>) -> Vec<Fault> + Send + Sync + 'static) -> Self {
        self.change(|settings| settings.checks.push(Arc::new(check)))
    }

    /// Holds JSON bodies in memory, of requests whose path ends so, against a JSON Schema. It reads them into a tree.
    #[cfg(feature = "schema")]
    #[must_use]
    pub fn schema(self, path: impl Into<String>, schema: Schema) -> Self {
        self.change(|settings| settings.schemas.push(AtPath { path: path.into(), schema }))
    }
}

impl RequestCheckLayer {
    /// Why this request is not to be sent, if anything is wrong with it.
    #[cfg(feature = "stack")]
    pub(crate) fn refusal<B: Body + Resend>(&self, request: &Request<B>) -> Option<Refused> {
        self.settings.check(request).map(|bad| (*bad).into())
    }
}

impl Settings {
    /// All that is wrong with a request; `None` for nothing.
    pub(super) fn check<B: Body + Resend>(&self, request: &Request<B>) -> Option<Box<BadRequest>> {
        let mut faults = Vec::new();
        let headers = Headers::of(request.headers());
        check_uri(request.uri(), &mut faults);
        check_headers(request.headers(), headers.bytes, self.max_headers, &mut faults);
        headers.check_length(&request.body().size_hint(), self.max_body, &mut faults);

        let endpoint = if self.openai { Endpoint::of(request.method(), request.uri().path()) } else { None };
        let is_json = headers.is_json();
        if endpoint.is_some() && !is_json && !headers.is_encoded {
            let found = headers.content_type.and_then(|value| value.to_str().ok()).unwrap_or("nothing");
            let found: String = found.chars().take(64).collect();
            faults.push(Fault::new(Place::Header(CONTENT_TYPE), found, "application/json"));
        }
        let body = if is_json || !self.checks.is_empty() { request.body().in_memory() } else { None };
        if is_json && let Some(body) = &body {
            self.check_json(request, endpoint, body, &mut faults);
        }
        for check in &self.checks {
            faults.extend(check(&Checked::of(request, body.as_ref())));
        }
        if faults.is_empty() { None } else { Some(Box::new(BadRequest::new(faults))) }
    }

    fn check_json<B>(
        &self,
        request: &Request<B>,
        endpoint: Option<&'static Endpoint>,
        body: &Bytes,
        faults: &mut Vec<Fault>,
    ) {
        // Some clients name the type of a body that they do not send.
        if body.is_empty() && endpoint.is_none() && !self.asks_for_body(request) {
            return;
        }
        let size = walk(body, endpoint.map_or(&ANY, |endpoint| &endpoint.rule), self.look, faults);
        if let Some(endpoint) = endpoint {
            self.check_tokens(endpoint, body, &size, told_cost(request), faults);
        }
        #[cfg(feature = "schema")]
        super::schema::check(&self.schemas, request.uri().path(), body, faults);
    }

    /// `size` has texts by their bytes: only of a request that is too large in these are the characters counted.
    #[inline]
    fn check_tokens(
        &self,
        endpoint: &Endpoint,
        body: &Bytes,
        size: &Size<'_>,
        cost: Option<u64>,
        faults: &mut Vec<Fault>,
    ) {
        if !self.tokens.check(endpoint, size, cost).is_empty() {
            let look = Look { measure: Measure::Chars, ..self.look };
            let size = walk(body, &endpoint.rule, look, &mut Vec::new());
            faults.extend(self.tokens.check(endpoint, &size, cost));
        }
    }
}

impl Settings {
    /// Whether there is a schema for the body that the request should have.
    #[cfg(feature = "schema")]
    fn asks_for_body<B>(&self, request: &Request<B>) -> bool {
        let path = request.uri().path();
        matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH)
            && self.schemas.iter().any(|schema| schema.is_for(path))
    }

    #[cfg(not(feature = "schema"))]
    fn asks_for_body<B>(&self, _: &Request<B>) -> bool {
        false
    }
}

/// What the caller says that the request takes.
#[cfg(feature = "quota-meter")]
fn told_cost<B>(request: &Request<B>) -> Option<u64> {
    request.extensions().get::<crate::TokenCost>().map(|cost| u64::from(cost.0))
}

#[cfg(not(feature = "quota-meter"))]
fn told_cost<B>(_: &Request<B>) -> Option<u64> {
    None
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("max_body", &self.max_body)
            .field("max_headers", &self.max_headers)
            .field("look", &self.look)
            .field("openai", &self.openai)
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}

impl Default for RequestCheckLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for RequestCheckLayer {
    type Service = RequestCheck<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestCheck::new(inner, Arc::clone(&self.settings))
    }
}
