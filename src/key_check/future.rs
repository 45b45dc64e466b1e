//! The future of a call with a key.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;
use tower::BoxError;

use super::health::Loan;
use crate::{Again, ApiError, ErrorKind, Gate, Refused, find_cause};

pin_project! {
    /// The response of a [`KeyCheck`](super::KeyCheck).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProj]
    enum State<F> {
        // Without a loan the request carries no key of ours.
        Sent { #[pin] future: F, loan: Option<Loan> },
        Refused { refused: Option<Refused> },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn sent(future: F, loan: Option<Loan>) -> Self {
        Self { state: State::Sent { future, loan } }
    }

    pub(super) fn refused(refused: Refused) -> Self {
        Self { state: State::Refused { refused: Some(refused) } }
    }
}

impl<F, RB, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<RB>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<RB>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Sent { future, loan } => {
                let mut result = ready!(future.poll(cx)).map_err(Into::into);
                if let Some(loan) = loan {
                    learn(loan, &mut result);
                }
                Poll::Ready(result)
            }
            StateProj::Refused { refused } => {
                refused.take().map_or(Poll::Pending, |refused| Poll::Ready(Err(refused.into())))
            }
        }
    }
}

/// Tells the loan what the answer says of its key.
fn learn<RB>(loan: &mut Loan, result: &mut Result<Response<RB>, BoxError>) {
    match result {
        Ok(response) => {
            // A proxy on the way, or a network that wants a login, knows nothing of the key.
            let is_of_the_way = matches!(response.status().as_u16(), 407 | 511);
            match ApiError::of(response) {
                _ if is_of_the_way => {}
                Some(error) if error.kind() == ErrorKind::Authentication => loan.rejected(error),
                _ if response.status().is_server_error() => {}
                _ => loan.accepted(),
            }
        }
        // Turned back while it waited, because its key died.
        Err(error) if find_cause::<Again>(&**error).is_some_and(|again| again.by == Gate::Key) => {
            if let Some(refusal) = loan.refusal() {
                *error = refusal.into();
            }
        }
        Err(_) => {}
    }
}
