//! What is asked when the first has failed: one after the other, until one has an answer.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use tokio::time::Instant;
use tower::BoxError;
use tower_service::Service;

use super::{FallbackError, FallbackReport, LastGood, ResponseBody, layer::Settings};
use crate::{ApiError, Call, ErrorKind, RetryHint, body::Resend, failure, kept::Kept};

/// A failed call, as a function that answers in its place sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Covered<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// Its URI.
    pub uri: &'a Uri,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Why the first failed.
    pub error: &'a ApiError,
}

type Answer<RB> = Result<Response<RB>, BoxError>;
type Sending<RB> = Pin<Box<dyn Future<Output = Answer<RB>> + Send>>;
type Function = dyn Fn(&Covered<'_>) -> Option<Response<Bytes>> + Send + Sync;

/// One that may answer.
pub(super) enum Way<B, RB> {
    Service { name: Arc<str>, service: Box<dyn Target<B, RB>> },
    LastGood { name: Arc<str>, answers: LastGood },
    Function { name: Arc<str>, function: Box<Function> },
}

impl<B, RB> Way<B, RB> {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Service { name, .. } | Self::LastGood { name, .. } | Self::Function { name, .. } => name,
        }
    }
}

/// A service of any type, made ready and called.
pub(super) trait Target<B, RB>: Send + Sync {
    fn send(&self, request: Request<B>) -> Sending<RB>;
}

/// A service to clone from, and what is changed about its requests.
pub(super) struct Rewritten<S, F> {
    pub(super) spare: Mutex<S>,
    pub(super) rewrite: F,
}

impl<S, F, B, RB> Target<B, RB> for Rewritten<S, F>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    F: Fn(Request<B>) -> Request<B> + Send + Sync,
    B: Send + 'static,
{
    fn send(&self, request: Request<B>) -> Sending<RB> {
        let mut service = self.spare.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let request = (self.rewrite)(request);
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
            service.call(request).await.map_err(Into::into)
        })
    }
}

/// What came of a call, and what was kept to ask others.
pub(super) struct Fallen<B, RB> {
    pub(super) settings: Arc<Settings<B, RB>>,
    pub(super) kept: Kept<Option<B>>,
    pub(super) first: Answer<RB>,
    pub(super) error: ApiError,
}

impl<B: Resend, RB> Fallen<B, RB> {
    /// Asks one after the other.
    pub(super) async fn ask(mut self) -> Answer<ResponseBody<RB>> {
        let mut report = FallbackReport::new(&self.kept.method, &self.kept.uri, self.error.clone());
        // The call of the first is no concern of the others but for its deadline: its place in line, its lease and its
        // owner were there.
        let deadline = self.kept.extensions.remove::<Call>().and_then(|call| call.deadline());
        if let Some(deadline) = deadline {
            self.kept.extensions.insert(Call::now().with_deadline(deadline));
        }
        let settings = Arc::clone(&self.settings);
        for way in &settings.ways {
            let answer = match &**way {
                Way::Service { name, service } => {
                    let answer = good(self.sending(&**service, deadline)).await;
                    answer.map(|answer| (name, answer)).map_err(|error| (name, error))
                }
                Way::LastGood { name, answers } => {
                    let found = LastGood::key(&self.kept).and_then(|key| answers.answer(&key, &self.kept.headers));
                    let found = found.map(|(answer, age)| {
                        report.age = Some(age);
                        (name, answer.map(ResponseBody::whole))
                    });
                    found.ok_or_else(|| (name, none("no good answer is kept")))
                }
                Way::Function { name, function } => {
                    let Kept { method, uri, headers, .. } = &self.kept;
                    let made = function(&Covered { method, uri, headers, error: &self.error });
                    made.map(|answer| (name, answer.map(ResponseBody::whole))).ok_or_else(|| (name, none("no answer")))
                }
            };
            match answer {
                Ok((name, mut answer)) => {
                    report.by = Some(Arc::clone(name));
                    answer.extensions_mut().insert(report);
                    return Ok(answer);
                }
                Err((name, error)) => report.fail(name, error),
            }
        }
        match self.first {
            Ok(mut response) => {
                response.extensions_mut().insert(report);
                Ok(response.map(ResponseBody::own))
            }
            Err(error) => Err(FallbackError::new(error, report).into()),
        }
    }

    /// The request on its way to another, if it can go there.
    fn sending(&self, service: &dyn Target<B, RB>, deadline: Option<Instant>) -> Result<Sending<RB>, ApiError> {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(none("the deadline has passed"));
        }
        let body = self.kept.body.as_ref().and_then(Resend::resend);
        let body = body.ok_or_else(|| none("the request's body can go only once"))?;
        Ok(service.send(self.kept.again(body)))
    }
}

/// What a service answered, if it is good.
async fn good<RB>(sending: Result<Sending<RB>, ApiError>) -> Result<Response<ResponseBody<RB>>, ApiError> {
    let result = sending?.await;
    match failure(&result) {
        Some(error) => Err(error),
        None => result.map(|answer| answer.map(ResponseBody::own)).map_err(|error| ApiError::from_error(&*error)),
    }
}

/// There is none to be had.
fn none(why: &str) -> ApiError {
    ApiError::new(ErrorKind::Unavailable, RetryHint::Never).with_may_have_reached_server(false).with_message(why)
}
