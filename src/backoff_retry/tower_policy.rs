//! The same decisions under tower's own retry: [`TowerPolicy`].

use http::{Request, Response};
use tokio::time::{Instant, Sleep, sleep};
use tower::{BoxError, retry::Policy};

use super::{
    BackoffRetryLayer, Decision,
    course::{Course, Traits},
    future::is_good,
};
use crate::{Call, Refused, body::Resend, find_cause, kept::Kept};

/// The decisions of a [`BackoffRetryLayer`] as a [`tower::retry::Policy`], for stacks that have a `RetryLayer` already.
///
/// It decides the same, draws on the same budget, and begins no wait that would end after the deadline. What tower's retry
/// leaves no room for is missing: the report, the mark, all headers it may add (the count, an `Idempotency-Key`), the
/// protocol with a `QuotaMeter` and a `KeyCheck`; the rest of a failed response is not read, so that its connection is
/// lost; and a service that is late to be ready is called after the deadline all the same.
///
/// A body is asked for before the wait: a [`ReplayBody`](crate::body::ReplayBody) that is used up meanwhile breaks off with an
/// error, and is not sent as an empty one.
///
/// ```
/// use tower::{BoxError, ServiceBuilder, ServiceExt, retry::RetryLayer};
/// use tower_outbound::backoff_retry::BackoffRetryLayer;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), tower::BoxError> {
/// # let client = tower_outbound::mock::Script::new()
/// #     .then(tower_outbound::mock::status(503))
/// #     .then(tower_outbound::mock::ok("done"));
/// // The errors below have to be boxed ones.
/// let retry = RetryLayer::new(BackoffRetryLayer::openai_sdk().tower_policy());
/// let service = ServiceBuilder::new().layer(retry).map_err(BoxError::from).service(client);
/// let response = service.oneshot(http::Request::new("please".to_owned())).await?;
/// assert_eq!(response.status(), 200);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct TowerPolicy {
    layer: BackoffRetryLayer,
    /// Of the call it was cloned for.
    course: Option<Course>,
}

impl BackoffRetryLayer {
    /// The same decisions for tower's own retry.
    #[must_use]
    pub fn tower_policy(&self) -> TowerPolicy {
        TowerPolicy { layer: self.clone(), course: None }
    }
}

impl<B: Resend, RB> Policy<Request<B>, Response<RB>, BoxError> for TowerPolicy {
    type Future = Sleep;

    fn retry(&mut self, request: &mut Request<B>, result: &mut Result<Response<RB>, BoxError>) -> Option<Self::Future> {
        if result.as_ref().is_err_and(|error| find_cause::<Refused>(&**error).is_some()) {
            return None;
        }
        let now = Instant::now();
        let course = self.course.as_mut()?;
        let is_good = result.as_ref().is_ok_and(is_good);
        let body = if is_good { None } else { request.body().resend() };
        let traits = body.as_ref().map(|_| Traits::of(request));
        match course.judge(&self.layer, traits, result, now)? {
            Decision::Retry(wait) => {
                *request.body_mut() = body?;
                Some(sleep(wait))
            }
            Decision::Stop(_) => None,
        }
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        // Tower asks the service's own policy for each new call, and that call's clone for each of its retries, which it
        // then sends.
        if let Some(course) = self.course.as_mut().filter(|course| course.attempts() > 0) {
            course.sent();
        } else {
            let call = request.extensions().get::<Call>();
            if call.is_some_and(Call::is_retried) {
                return None;
            }
            self.course = Some(Course::begin(&self.layer, call, Instant::now()));
        }
        Kept::of(request).map(Kept::into_request)
    }
}
