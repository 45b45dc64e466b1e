//! [`MeterHandle`]: the meter as one sees it from outside.

use std::{
    fmt,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::Request;
use tokio::sync::{broadcast, watch};

use super::{
    Contents, Reached, ScopeName, Sight, Snapshot, Totals,
    guards::Flight,
    permits,
    scope::Scope,
    scopes::{Foreseen, Purpose},
    shared::Shared,
};
use crate::Refused;

/// The meter as one sees it from outside: what is left, what was used, what a call would have to wait.
///
/// From [`QuotaMeterLayer::handle`](super::QuotaMeterLayer::handle). Clones see the same.
///
/// ```
/// use http_body_util::Full;
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
/// use tower_outbound::quota_meter::{Price, QuotaMeterLayer};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower::BoxError> {
/// # use http_body_util::BodyExt;
/// let client = service_fn(|_: http::Request<Full<bytes::Bytes>>| async {
///     let answer = http::Response::builder().header("content-type", "application/json");
///     let body = r#"{"choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":500}}"#;
///     Ok::<_, tower::BoxError>(answer.body(Full::<bytes::Bytes>::from(body))?)
/// });
/// let layer = QuotaMeterLayer::new().price("gpt-4o-mini", Price::per_million(0.15, 0.60));
/// let meter = layer.handle();
/// let mut service = ServiceBuilder::new().layer(layer).service(client);
///
/// let request = http::Request::post("https://api.example/v1/chat/completions");
/// let request = request.body(Full::from(r#"{"model":"gpt-4o-mini","messages":[]}"#))?;
/// let response = service.ready().await?.call(request).await?;
/// response.into_body().collect().await?;
///
/// let snapshot = &meter.scopes()[0];
/// assert_eq!(snapshot.scope.to_string(), "api.example gpt-4o-mini");
/// assert_eq!((snapshot.used.input_tokens, snapshot.used.output_tokens), (1000, 500));
/// assert_eq!(snapshot.used.money, 0.00045);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct MeterHandle<V = Contents>(Arc<Shared>, PhantomData<V>);

impl<V> Clone for MeterHandle<V> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.0))
    }
}

impl<V> MeterHandle<V> {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared, PhantomData)
    }

    /// The scope used last. Before the first call, one that nobody has used.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.0.scopes.latest().snapshot()
    }

    /// All scopes in use, the one used last first.
    #[must_use]
    pub fn scopes(&self) -> Vec<Snapshot> {
        self.0.scopes.all().iter().map(|scope| scope.snapshot()).collect()
    }

    /// To hear of changes: of a call that came, left, ended or was settled. Nothing is paid for it while nobody listens.
    #[must_use]
    pub fn subscribe(&self) -> Changes {
        Changes(self.0.book.subscribe())
    }

    /// To hear of the thresholds reached from now on.
    #[must_use]
    pub fn alerts(&self) -> Alerts {
        Alerts(self.0.book.alerts())
    }

    /// What was used so far, to be saved.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.0.scopes.all().iter().for_each(|scope| scope.book_calls());
        self.0.book.totals()
    }

    /// Adds what an earlier process used: ever, and today if it is of today. Once, before the first call.
    pub fn restore(&self, saved: Totals) {
        self.0.book.restore(saved);
    }

    /// How long this request would wait if it came now; `None` while no limit is known. It is not sent, and takes nothing.
    ///
    /// The request is looked at as it is. Where a `KeyCheck` would have given it a key before it came to the meter, or a stack
    /// the host, the scope is one with the same host and model: that with the least wait, if there are several.
    /// [`Stack::expected_wait`](crate::stack::Stack::expected_wait) knows host and key.
    pub fn expected_wait<B>(&self, request: &Request<B>) -> Option<Duration>
    where
        V: Sight<B>,
    {
        self.expected_wait_as(request, request)
    }

    /// The same for a request that looks so (`head`) when it comes to the meter.
    pub(crate) fn expected_wait_as<H, B>(&self, head: &Request<H>, request: &Request<B>) -> Option<Duration>
    where
        V: Sight<B>,
    {
        let (foreseen, demand) = self.0.foresee::<V, B, H>(head, request, Purpose::Look);
        let wait = |scope: &Arc<Scope>| scope.expected_wait(Shared::class(request), demand);
        match foreseen {
            Foreseen::In(scope) => wait(&scope),
            // One of which nothing is known may hold up nobody.
            Foreseen::OneOf(scopes) => scopes.iter().map(wait).min().flatten(),
            Foreseen::New(name) => wait(&self.0.scopes.apart(name)),
        }
    }

    /// Takes what this request needs, if it could leave now, for those who would rather do something else than wait.
    ///
    /// Put the permit into the request's extensions, and send it: it leaves at once, unless a 429 came in between. A permit
    /// that is dropped, itself or with its request, gives back what it took; so does one that is kept for longer than
    /// [`permit_time`](super::QuotaMeterLayer::permit_time), and is worth nothing then.
    ///
    /// The scope is that of [`expected_wait`](Self::expected_wait). Of several keys a `KeyCheck` lends the call the one that
    /// the permit is for, if it is still sound. A call of another scope than the permit's cannot use it: it goes at once where
    /// its own scope has room, and else it is refused, with [`Refusal::OtherPermit`](super::Refusal::OtherPermit); it never
    /// waits. So do calls with permits that were had before the meter had seen one like them, and knew whose quota it is.
    ///
    /// # Errors
    /// [`Refused`] with a [`Refusal`](super::Refusal) as its cause, and the time it would have taken.
    pub fn try_acquire<B>(&self, request: &Request<B>) -> Result<Permit, Refused>
    where
        V: Sight<B>,
    {
        self.try_acquire_as(request, request)
    }

    /// The same for a request that looks so (`head`) when it comes to the meter.
    pub(crate) fn try_acquire_as<H, B>(&self, head: &Request<H>, request: &Request<B>) -> Result<Permit, Refused>
    where
        V: Sight<B>,
    {
        let (foreseen, demand) = self.0.foresee::<V, B, H>(head, request, Purpose::Permit);
        let class = Shared::class(request);
        let apart = |name| self.0.scopes.apart(name);
        let scope = match foreseen {
            Foreseen::In(scope) => scope,
            Foreseen::OneOf(scopes) => {
                let least = scopes.into_iter().min_by_key(|scope| scope.expected_wait(class, demand));
                least.unwrap_or_else(|| apart(ScopeName::default()))
            }
            Foreseen::New(name) => apart(name),
        };
        let permit = Permit(scope.try_acquire(class, demand)?);
        // Whoever goes with it has been handed it by something that orders this before.
        ARE_GIVEN.store(true, Ordering::Relaxed);
        Ok(permit)
    }
}

/// Leave for one call, from [`MeterHandle::try_acquire`]; a request extension.
///
/// Its clones are one permit: the first call that goes with it takes it.
#[derive(Clone)]
pub struct Permit(permits::Permit);

/// Whether any was ever given in this process: most programs need not look for one in each request.
static ARE_GIVEN: AtomicBool = AtomicBool::new(false);

impl Permit {
    /// That which a request goes with.
    #[inline]
    pub(crate) fn of<B>(request: &Request<B>) -> Option<&Self> {
        if ARE_GIVEN.load(Ordering::Relaxed) { request.extensions().get() } else { None }
    }

    /// The flight, if it is of this scope and nobody took it.
    pub(super) fn take(&self, scope: &Arc<Scope>) -> Option<Flight> {
        permits::take(&self.0, scope)
    }

    /// Gives back what it took, of whichever scope; of which that was, if it still was worth anything.
    pub(super) fn revoke(&self) -> Option<ScopeName> {
        permits::revoke(&self.0)
    }

    /// The number of the key whose quota it is of.
    #[cfg(feature = "key-check")]
    pub(crate) fn key(&self) -> Option<u32> {
        permits::key(&self.0)
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// Changes of a meter, from [`MeterHandle::subscribe`].
#[derive(Clone, Debug)]
pub struct Changes(watch::Receiver<()>);

impl Changes {
    /// Waits until something changed since the last time; `false` once the meter is gone. Many changes may be one here.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

/// Thresholds as they are reached, from [`MeterHandle::alerts`].
#[derive(Debug)]
pub struct Alerts(broadcast::Receiver<Reached>);

impl Alerts {
    /// The next; `None` once the meter is gone. Who is more than 64 behind misses the oldest.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn next(&mut self) -> Option<Reached> {
        loop {
            match self.0.recv().await {
                Ok(reached) => return Some(reached),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl futures_util::Stream<Item = Reached> + Send {
        futures_util::stream::unfold(self, |mut alerts| async move { Some((alerts.next().await?, alerts)) })
    }
}
