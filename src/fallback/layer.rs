//! [`FallbackLayer`]: what is covered, and who is asked.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Breaker, Covered, Failure, Fallback, LastGood,
    chain::{Rewritten, Way},
};

/// Default for [`FallbackLayer::ready_within`].
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Makes [`Fallback`]s. See the [module](super) for an example.
///
/// Who is asked when the first has failed is added one by one, and asked in that order. With nobody added, but a
/// [`breaker`](Self::breaker), it fails fast.
///
/// `B` is the body of requests, `RB` that of responses, of the first service and the others alike.
#[must_use = "a layer does nothing until it is applied"]
pub struct FallbackLayer<B, RB> {
    settings: Arc<Settings<B, RB>>,
}

type Cover = dyn Fn(&Failure<'_>) -> bool + Send + Sync;

pub(super) struct Settings<B, RB> {
    pub(super) ways: Vec<Arc<Way<B, RB>>>,
    pub(super) last_good: Option<LastGood>,
    pub(super) breaker: Option<Breaker>,
    pub(super) ready_within: Duration,
    cover: Option<Arc<Cover>>,
}

impl<B, RB> Clone for Settings<B, RB> {
    fn clone(&self) -> Self {
        Self {
            ways: self.ways.clone(),
            last_good: self.last_good.clone(),
            breaker: self.breaker.clone(),
            ready_within: self.ready_within,
            cover: self.cover.clone(),
        }
    }
}

impl<B, RB> FallbackLayer<B, RB> {
    /// Nobody to ask yet.
    pub fn new() -> Self {
        let (ways, last_good, breaker, cover) = (Vec::new(), None, None, None);
        Self { settings: Arc::new(Settings { ways, last_good, breaker, ready_within: READY_WITHIN, cover }) }
    }

    fn change(mut self, change: impl FnOnce(&mut Settings<B, RB>)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }

    /// Asks this service next, with the same request: another region behind a service that knows where.
    pub fn service<S>(self, name: &str, service: S) -> Self
    where
        S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Send + 'static,
    {
        self.rewritten(name, service, |request| request)
    }

    /// Asks this service next, with the request rewritten: another host, another key, another model. A body whose length
    /// changes wants its `Content-Length` changed, too.
    pub fn rewritten<S>(
        self,
        name: &str,
        service: S,
        rewrite: impl Fn(Request<B>) -> Request<B> + Send + Sync + 'static,
    ) -> Self
    where
        S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Send + 'static,
    {
        let service = Box::new(Rewritten { spare: Mutex::new(service), rewrite });
        self.change(|settings| settings.ways.push(Arc::new(Way::Service { name: name.into(), service })))
    }

    /// Gives the last good answer to the same request next. Good answers of the first service are copied as they pass.
    pub fn last_good(self, answers: LastGood) -> Self {
        self.change(|settings| {
            settings.last_good = Some(answers.clone());
            settings.ways.push(Arc::new(Way::LastGood { name: "last good answer".into(), answers }));
        })
    }

    /// Asks this function next; `None`: it has no answer. What takes time is a [`service`](Self::service), of
    /// `tower::service_fn`.
    pub fn function(
        self,
        name: &str,
        function: impl Fn(&Covered<'_>) -> Option<Response<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let function = Box::new(function);
        self.change(|settings| settings.ways.push(Arc::new(Way::Function { name: name.into(), function })))
    }

    /// Says which failures are covered. Default: [`Failure::is_covered_by_default`]. A service that fails to get ready, and
    /// an open breaker of this layer, always are.
    ///
    /// ```
    /// use tower_outbound::{ErrorKind, fallback::FallbackLayer};
    /// # use bytes::Bytes; use http_body_util::Full;
    /// let layer = FallbackLayer::<Full<Bytes>, Full<Bytes>>::new()
    ///     .cover(|failure| failure.is_covered_by_default() || failure.error().kind() == ErrorKind::ContextLength);
    /// ```
    pub fn cover(self, cover: impl Fn(&Failure<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.change(|settings| settings.cover = Some(Arc::new(cover)))
    }

    /// Leaves a host alone that fails too often. Default: none.
    pub fn breaker(self, breaker: Breaker) -> Self {
        self.change(|settings| settings.breaker = Some(breaker))
    }

    /// How long the first service may take to get ready, before others are asked in its place; from then on it is not waited
    /// for until it is ready once more. Default: 30 s; [`Duration::MAX`] to wait for ever. With nobody to ask it is waited for.
    pub fn ready_within(self, ready_within: Duration) -> Self {
        self.change(|settings| settings.ready_within = ready_within)
    }
}

impl<B, RB> Settings<B, RB> {
    pub(super) fn covers(&self, failure: &Failure<'_>) -> bool {
        match &self.cover {
            Some(cover) => cover(failure),
            None => failure.is_covered_by_default(),
        }
    }
}

impl<B, RB> Default for FallbackLayer<B, RB> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B, RB> Clone for FallbackLayer<B, RB> {
    fn clone(&self) -> Self {
        Self { settings: Arc::clone(&self.settings) }
    }
}

impl<B, RB> fmt::Debug for FallbackLayer<B, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackLayer").field("settings", &self.settings).finish()
    }
}

impl<B, RB> fmt::Debug for Settings<B, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.ways.iter().map(|way| way.name()).collect();
        f.debug_struct("Settings")
            .field("ways", &names)
            .field("last_good", &self.last_good)
            .field("breaker", &self.breaker)
            .field("ready_within", &self.ready_within)
            .finish_non_exhaustive()
    }
}

impl<S, B, RB> Layer<S> for FallbackLayer<B, RB> {
    type Service = Fallback<S, B, RB>;

    fn layer(&self, inner: S) -> Self::Service {
        Fallback::new(inner, Arc::clone(&self.settings))
    }
}
