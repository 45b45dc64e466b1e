//! A worker: takes one item after another, sends it, and sees to what comes of it.

use std::{
    fmt::Write,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::{
    sync::{Mutex, mpsc},
    time::sleep,
};
use tower::{BoxError, Service, ServiceExt};
use tower_outbound::{
    ApiError, ErrorKind, TokenCost, find_cause,
    key_check::NoSoundKey,
    quota_meter::{MeterHandle, Refusal},
};

use crate::{
    flaw,
    input::Item,
    outage::{Course, Next, Outage},
    record::{self, Answer, Failure, Record},
    run::{Job, Written},
    tally::{Stop, Tally, Why},
    wire::{Caller, Out},
};

/// What is done about failures that are no item's own: a server that is down, a key that is dead, a quota that is spent.
/// Their items are left without a result, so that the next run sends them.
#[derive(Clone, Debug)]
pub(crate) struct Care {
    pub(crate) outage: Arc<Outage>,
    pub(crate) meter: MeterHandle,
    /// How many the items ask. When the quota of each is spent, there is nothing more to do.
    pub(crate) models: usize,
}

#[derive(Clone)]
pub(crate) struct Worker {
    service: Caller,
    base: Arc<str>,
    write: mpsc::Sender<Written>,
    tally: Arc<Tally>,
    stop: Stop,
    care: Option<Care>,
}

/// What is to be done about an answer, or about none.
enum Verdict {
    /// It is the item's result.
    Record,
    /// It is nobody's fault, as far as is known, and may be well soon.
    Later,
    /// Others may still be answered.
    Leave,
    /// Nobody will be answered.
    End,
}

type Outcome = Result<Response<Bytes>, BoxError>;

impl Worker {
    pub(crate) fn new(
        service: Caller,
        base: String,
        write: mpsc::Sender<Written>,
        tally: Arc<Tally>,
        stop: Stop,
        care: Option<Care>,
    ) -> Self {
        Self { service, base: base.into(), write, tally, stop, care }
    }

    pub(crate) async fn work(mut self, jobs: Arc<Mutex<mpsc::Receiver<Job>>>) {
        loop {
            let next = async { jobs.lock().await.recv().await };
            let (item, _room) = tokio::select! {
                biased;
                () = self.stop.stopped() => return,
                job = next => match job {
                    Some(job) => job,
                    None => return,
                },
            };
            if !self.item(&item).await {
                return;
            }
        }
    }

    /// Sends one item and records what came of it, or leaves it without a result. Says whether to go on.
    async fn item(&mut self, item: &Item) -> bool {
        let mut course = Course::default();
        loop {
            let out = Out::default();
            let request = match self.request(item, &out) {
                Ok(request) => request,
                Err(error) => return self.failed(item, "invalid_url", &error.to_string()).await,
            };
            if let Some(care) = &self.care {
                care.outage.sent(&mut course);
            }
            let Some(result) = self.send(request, &out).await else { return false };
            let failure = match &result {
                Ok(response) => match ApiError::of(response).or_else(|| flaw::of(response)) {
                    Some(failure) => failure,
                    None => return self.good(item, response).await,
                },
                Err(error) => ApiError::from_error(&**error),
            };
            let kind = failure.kind().as_str();
            match self.judge(&result, &failure) {
                Verdict::Record => return self.own(item, &result, &failure).await,
                Verdict::Leave => {
                    self.tally.leave(kind, words(&result, &failure));
                    return true;
                }
                Verdict::End => {
                    self.stop.stop(Why::Hopeless(words(&result, &failure)));
                    return false;
                }
                Verdict::Later => match self.care.as_ref().map(|care| care.outage.failed(&mut course)) {
                    Some(Next::Pause(pause)) => {
                        tokio::select! {
                            () = self.stop.stopped() => return false,
                            () = sleep(pause) => {}
                        }
                    }
                    Some(Next::End(lasted)) => {
                        let why = words(&result, &failure);
                        self.stop.stop(Why::Hopeless(format!("no good answer from the API for {lasted:.0?}: {why}")));
                        return false;
                    }
                    // The server failed at it, time and again, and not at others.
                    Some(Next::Leave) if failure.kind() == ErrorKind::Server => {
                        return self.own(item, &result, &failure).await;
                    }
                    Some(Next::Leave) | None => {
                        self.tally.leave(kind, words(&result, &failure));
                        return true;
                    }
                },
            }
        }
    }

    fn request(&self, item: &Item, out: &Out) -> http::Result<Request<Full<Bytes>>> {
        let mut request = Request::post(format!("{}{}", self.base, item.path))
            .header("content-type", "application/json")
            .body(Full::new(item.body.clone()))?;
        request.extensions_mut().insert(out.clone());
        if let Some(tokens) = item.tokens {
            request.extensions_mut().insert(TokenCost(u32::try_from(tokens).unwrap_or(u32::MAX)));
        }
        Ok(request)
    }

    /// The whole answer; `None` if the run was stopped and the request was not out.
    async fn send(&mut self, request: Request<Full<Bytes>>, out: &Out) -> Option<Outcome> {
        let service = &mut self.service;
        let call = async move {
            let (head, body) = service.ready().await?.call(request).await?.into_parts();
            Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
        };
        tokio::pin!(call);
        tokio::select! {
            result = &mut call => return Some(result),
            () = self.stop.stopped() => {}
        }
        // What is out is paid for, and may come back; what waits for quota or for a retry is left.
        while out.is_out() {
            tokio::select! {
                result = &mut call => return Some(result),
                () = sleep(Duration::from_millis(20)) => {}
            }
        }
        None
    }

    /// Whether a failure says something of the item, or of the API, the key or the quota.
    fn judge(&self, result: &Outcome, failure: &ApiError) -> Verdict {
        let kind = failure.kind();
        let Some(care) = &self.care else { return Verdict::Record };
        if let Ok(response) = result {
            care.outage.reached();
            if response.status().is_redirection() {
                return Verdict::End;
            }
        } else if !failure.may_have_reached_server() && !care.outage.was_reached() && kind == ErrorKind::Unavailable {
            // A wrong address, most likely.
            return Verdict::End;
        }
        if let Err(error) = result {
            if find_cause::<NoSoundKey>(&**error).is_some() {
                return Verdict::End;
            }
            match find_cause::<Refusal>(&**error) {
                Some(Refusal::TooLarge { .. }) => return Verdict::Record,
                Some(Refusal::Spent { .. }) if care.is_spent() => return Verdict::End,
                Some(Refusal::Spent { .. } | Refusal::OverBudget { .. }) => return Verdict::Leave,
                Some(_) => return Verdict::Later,
                None => {}
            }
        }
        match kind {
            // Of the key and the quota, and not of the item. Whether others are refused, too, the gates will say.
            ErrorKind::Authentication | ErrorKind::QuotaExhausted => Verdict::Leave,
            ErrorKind::Unavailable
            | ErrorKind::Overloaded
            | ErrorKind::Timeout
            | ErrorKind::RateLimit
            | ErrorKind::Server => Verdict::Later,
            _ => {
                care.outage.answered();
                Verdict::Record
            }
        }
    }

    async fn good(&mut self, item: &Item, response: &Response<Bytes>) -> bool {
        if let Some(care) = &self.care {
            care.outage.reached();
            care.outage.answered();
        }
        self.tally.answered.fetch_add(1, Relaxed);
        self.tally.tokens.fetch_add(item.tokens.unwrap_or(0), Relaxed);
        self.record(&answered(item, response, None), None).await
    }

    /// A failure becomes the item's result.
    async fn own(&mut self, item: &Item, result: &Outcome, failure: &ApiError) -> bool {
        let code = failure.kind().as_str();
        let response = match result {
            Ok(response) => response,
            Err(error) => return self.failed(item, code, &with_causes(&**error)).await,
        };
        let message = failure.message().unwrap_or("see the response");
        let error = Failure { code, message, line: item.line };
        self.record(&answered(item, response, Some(error)), Some(code)).await
    }

    async fn failed(&mut self, item: &Item, code: &'static str, message: &str) -> bool {
        let record = Record {
            id: record::record_id(&item.custom_id, item.line),
            custom_id: Some(&item.custom_id),
            response: None,
            error: Some(Failure { code, message, line: item.line }),
        };
        self.record(&record, Some(code)).await
    }

    async fn record(&mut self, record: &Record<'_>, failed: Option<&'static str>) -> bool {
        match record.to_line() {
            // It fails when the writer has ended, which has then said why.
            Ok(text) => self.write.send(Written { text, failed }).await.is_ok(),
            Err(error) => {
                self.stop.stop(Why::Hopeless(format!("a result cannot be written as JSON: {error}")));
                false
            }
        }
    }
}

impl Care {
    /// Whether the quota of every model is spent.
    fn is_spent(&self) -> bool {
        self.meter.scopes().iter().filter(|scope| scope.spent.is_some()).count() >= self.models.max(1)
    }
}

fn answered<'a>(item: &'a Item, response: &'a Response<Bytes>, error: Option<Failure<'a>>) -> Record<'a> {
    Record {
        id: record::record_id(&item.custom_id, item.line),
        custom_id: Some(&item.custom_id),
        response: Some(Answer {
            status_code: response.status().as_u16(),
            request_id: response.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or(""),
            body: record::on_one_line(response.body()),
        }),
        error,
    }
}

/// What was said, for the user.
fn words(result: &Outcome, failure: &ApiError) -> String {
    match result {
        Ok(response) => {
            format!("the API answered {}: {}", response.status(), failure.message().unwrap_or("no word why"))
        }
        Err(error) => with_causes(&**error),
    }
}

fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |error| error.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            let _ = write!(text, ": {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests;
