//! The script as a service.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tower::BoxError;
use tower_service::Service;

use super::{
    super::{
        api::until,
        body::{MockBody, MockError, MockErrorKind},
        intake::Intake,
    },
    MAX_SENT, Script, Sent, Step,
};

/// The longest request body that is taken.
const MAX_BODY: usize = 1 << 20;

impl<B> Service<Request<B>> for Script
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Response = Response<MockBody>;
    type Error = MockError;
    type Future = ScriptFuture<B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let delay = {
            let shared = self.shared();
            let reached = |calls: Option<usize>| calls.is_some_and(|calls| shared.count >= calls);
            if reached(shared.open_calls) {
                return Poll::Ready(Err(MockErrorKind::Closed.into()));
            }
            if reached(shared.ready_calls) {
                return Poll::Pending;
            }
            shared.ready_delay
        };
        if !self.ready && !delay.is_zero() {
            ready!(self.sleep.get_or_insert_with(|| Box::pin(sleep(delay))).as_mut().poll(cx));
            self.sleep = None;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let ready = std::mem::take(&mut self.ready);
        let sent = Sent::of(&request);
        let body = request.into_body();
        let begun = Instant::now();
        let (index, step) = self.begin(begun, ready, &sent);
        ScriptFuture {
            script: self.clone(),
            index,
            begun,
            step: Some(step),
            sent,
            state: State::Reading { body: Intake::new(body, MAX_BODY) },
        }
    }
}

impl Script {
    /// Notes the call, and takes the answer that is its own.
    fn begin(&self, now: Instant, ready: bool, sent: &Sent) -> (usize, Result<Step, MockError>) {
        let mut shared = self.shared();
        let (index, at) = (shared.count, shared.since_first(now));
        shared.count += 1;
        if shared.sent.len() < MAX_SENT {
            shared.sent.push(Sent { at, ..sent.clone() });
        }
        let what = format!("call {index} ({} {})", sent.method, sent.uri.path());
        let kind = if shared.strict && !ready {
            MockErrorKind::NotReady
        } else if let Some(step) = shared.next(sent.uri.path()) {
            return (index, Ok(step));
        } else {
            MockErrorKind::ScriptEnded
        };
        let error = MockError::new(kind, what);
        shared.note_wrong(error.to_string());
        (index, Err(error))
    }

    fn note(&self, index: usize, change: impl FnOnce(&mut Sent)) {
        if let Some(sent) = self.shared().sent.get_mut(index) {
            change(sent);
        }
    }
}

pin_project! {
    /// The answer of a [`Script`], on its way.
    #[must_use = "futures do nothing unless polled"]
    pub struct ScriptFuture<B> {
        script: Script,
        index: usize,
        begun: Instant,
        step: Option<Result<Step, MockError>>,
        sent: Sent,
        #[pin]
        state: State<B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<B> {
        Reading { #[pin] body: Intake<B> },
        Answering { #[pin] sleep: Sleep, result: Option<Result<Response<MockBody>, MockError>> },
        Never,
    }
}

impl<B> fmt::Debug for ScriptFuture<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptFuture").field("index", &self.index).finish_non_exhaustive()
    }
}

impl<B> Future for ScriptFuture<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<MockBody>, MockError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Reading { body } => {
                    let body = ready!(body.poll(cx));
                    let (wait, result) = match (body, this.step.take()) {
                        (_, Some(Err(error))) => (Default::default(), Some(Err(error))),
                        (Err(error), _) => (Default::default(), Some(Err(error))),
                        (Ok(None), _) => {
                            let error = MockError::new(MockErrorKind::BadScript, "a request's body of more than 1 MiB");
                            (Default::default(), Some(Err(error)))
                        }
                        (Ok(Some(body)), Some(Ok(step))) => {
                            this.sent.body = body;
                            this.script.note(*this.index, |sent| sent.body = this.sent.body.clone());
                            let step = step.settle(this.sent);
                            (step.wait(), step.result())
                        }
                        (Ok(Some(_)), None) => (Default::default(), None),
                    };
                    let next = match result {
                        Some(result) => {
                            if let Err(error) = &result
                                && error.kind() == MockErrorKind::BadScript
                            {
                                let Sent { method, uri, .. } = this.sent;
                                let wrong = format!("{error}: call {} ({method} {})", this.index, uri.path());
                                this.script.shared().note_wrong(wrong);
                            }
                            this.begun.checked_add(wait).map(|at| (at, result))
                        }
                        None => None,
                    };
                    let next = match next {
                        Some((at, result)) => State::Answering { sleep: sleep_until(at), result: Some(result) },
                        None => State::Never,
                    };
                    this.state.set(next);
                }
                StateProj::Answering { sleep, result } => {
                    ready!(until(sleep, cx));
                    let result = result.take();
                    this.state.set(State::Never);
                    let Some(result) = result else { continue };
                    let now = Instant::now();
                    let answered = this.script.shared().since_first(now);
                    this.script.note(*this.index, |sent| sent.answered = Some(answered));
                    return Poll::Ready(result);
                }
                StateProj::Never => return Poll::Pending,
            }
        }
    }
}
