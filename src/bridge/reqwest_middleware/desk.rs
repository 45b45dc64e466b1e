//! [`Desk`]: where the layers hand in what they want sent, for the middleware to send.

use std::{
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{Extensions, Request, Response};
use reqwest_middleware::{Error as MiddlewareError, Next};
use tower::BoxError;
use tower_service::Service;

use super::whole::refilled;
use crate::bridge::reqwest::{
    Body,
    body::Outgoing,
    future::{put_in, to_reqwest, with_url, without_key},
};

pub(super) type Answer = Result<Response<reqwest::Body>, BoxError>;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Of one call. Its attempts are sent in the middleware's own future, which holds the extensions that they borrow: there they
/// need no box.
#[derive(Default)]
pub(super) struct Desk {
    place: Mutex<Place>,
    /// Of attempts that were made apart.
    left: Mutex<Extensions>,
}

#[derive(Default)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for a call, and a box would be an allocation for each attempt"
)]
enum Place {
    #[default]
    Free,
    Asked(Request<Body>, Option<Waker>),
    Sent(Option<Waker>),
    Answered(Answer),
}

impl Desk {
    /// What the layers want sent. To be polled after them, as they alone hand it in: it wakes nobody.
    pub(super) fn asked(&self) -> impl Future<Output = Request<Body>> + Unpin {
        poll_fn(|_| {
            let mut place = lock(&self.place);
            if !matches!(*place, Place::Asked(..)) {
                return Poll::Pending;
            }
            let Place::Asked(request, waker) = mem::take(&mut *place) else { return Poll::Pending };
            *place = Place::Sent(waker);
            Poll::Ready(request)
        })
    }

    /// When the layers no longer want what was sent last. To be polled after them, too.
    pub(super) fn given_up(&self) -> impl Future<Output = ()> + Unpin {
        poll_fn(|_| if matches!(*lock(&self.place), Place::Sent(_)) { Poll::Pending } else { Poll::Ready(()) })
    }

    pub(super) fn answer(&self, answer: Answer) {
        let before = mem::replace(&mut *lock(&self.place), Place::Answered(answer));
        if let Place::Sent(Some(waker)) = before {
            waker.wake();
        }
    }

    /// What attempts made apart have left for the middlewares.
    pub(super) fn take_left(&self) -> Extensions {
        mem::take(&mut *lock(&self.left))
    }
}

fn lock<T>(place: &Mutex<T>) -> MutexGuard<'_, T> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The middlewares that follow, and the client, as a service.
#[derive(Clone)]
pub struct NextService<'a> {
    pub(super) desk: &'a Desk,
    pub(super) next: Next<'a>,
    pub(super) timeout: Option<Duration>,
}

impl<'a> Service<Request<Body>> for NextService<'a> {
    type Response = Response<reqwest::Body>;
    type Error = BoxError;
    type Future = Attempt<'a>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut place = lock(&self.desk.place);
        if let Place::Free = *place {
            *place = Place::Asked(request, None);
            return Attempt { state: State::AtDesk(self.desk) };
        }
        drop(place);
        let Self { desk, next, timeout } = self.clone();
        Attempt {
            state: State::Apart(Box::pin(async move {
                let mut extensions = Extensions::new();
                let answer = send(next, request, None, timeout, &mut extensions).await;
                lock(&desk.left).extend(extensions);
                answer
            })),
        }
    }
}

impl fmt::Debug for NextService<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NextService").finish_non_exhaustive()
    }
}

/// One sending of a request through the middlewares that follow.
#[must_use = "futures do nothing unless polled"]
pub struct Attempt<'a> {
    state: State<'a>,
}

enum State<'a> {
    AtDesk(&'a Desk),
    /// Beside another one, as a hedge sends it.
    Apart(Boxed<'a, Answer>),
    Done,
}

impl Future for Attempt<'_> {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let answer = match &mut self.state {
            State::Done => return Poll::Pending,
            State::Apart(sending) => match sending.as_mut().poll(cx) {
                Poll::Ready(answer) => answer,
                Poll::Pending => return Poll::Pending,
            },
            State::AtDesk(desk) => {
                let mut place = lock(&desk.place);
                match &mut *place {
                    Place::Asked(_, waker) | Place::Sent(waker) => {
                        *waker = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                    Place::Free | Place::Answered(_) => match mem::take(&mut *place) {
                        Place::Answered(answer) => answer,
                        _ => return Poll::Pending,
                    },
                }
            }
        };
        self.state = State::Done;
        Poll::Ready(answer)
    }
}

/// Its place at the desk is free again.
impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let State::AtDesk(desk) = self.state {
            let given_up = mem::take(&mut *lock(&desk.place));
            drop(given_up);
        }
    }
}

impl fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").finish_non_exhaustive()
    }
}

/// Sends it, in what is left of the request that it came as, if that is still there.
pub(super) async fn send(
    next: Next<'_>,
    request: Request<Body>,
    shell: Option<reqwest::Request>,
    timeout: Option<Duration>,
    extensions: &mut Extensions,
) -> Answer {
    let (parts, body) = request.into_parts();
    let mut request = match body.into_outgoing() {
        Outgoing::Now(body, _) => Request::from_parts(parts, body),
        Outgoing::Later(making) => put_in(parts, making.await?),
    };
    let known = mem::take(request.extensions_mut());
    if extensions.is_empty() {
        *extensions = known;
    } else {
        extensions.extend(known);
    }
    let request = match shell.filter(|shell| *request.uri() == *shell.url().as_str()) {
        Some(shell) => refilled(shell, request),
        None => {
            let mut request = to_reqwest(request, None)?;
            if timeout.is_some() {
                *request.timeout_mut() = timeout;
            }
            request
        }
    };
    next.run(request, extensions).await.map(with_url).map_err(from_middleware)
}

/// What failed further in, without the enum around it, which hides it.
fn from_middleware(error: MiddlewareError) -> BoxError {
    match error {
        MiddlewareError::Reqwest(error) => without_key(error).into(),
        MiddlewareError::Middleware(error) => error.into(),
    }
}
