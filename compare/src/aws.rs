//! The AWS SDK's adaptive mode: its own runtime, with another API behind it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use aws_smithy_async::{rt::sleep::TokioSleep, time::TimeSource};
use aws_smithy_runtime::client::{orchestrator::operation::Operation, retries::classifiers::HttpStatusCodeClassifier};
use aws_smithy_runtime_api::{
    client::{
        behavior_version::BehaviorVersion,
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        interceptors::context::InterceptorContext,
        orchestrator::{HttpRequest, HttpResponse, OrchestratorError},
        result::ConnectorError,
        retries::classifiers::{ClassifyRetry, RetryAction},
        stalled_stream_protection::StalledStreamProtectionConfig,
    },
    http::StatusCode,
};
use aws_smithy_types::{body::SdkBody, retry::RetryConfig, timeout::TimeoutConfig};
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::{BoxError, Service, ServiceExt};

/// What the SDK asks of the service under it.
pub trait Wire:
    Service<Request<SdkBody>, Response = Response<Self::Body>, Error: Into<BoxError>, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
    /// The body of an answer.
    type Body;
}

impl<S, RB> Wire for S
where
    S: Service<Request<SdkBody>, Response = Response<RB>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Body = RB;
}

/// A client in adaptive mode: three attempts, retry tokens, and the rate limiter that begins with the first 429.
///
/// A 429 is a throttling error to it, as an SDK made for this API would have it. `Retry-After` it does not know: AWS
/// sends `x-amz-retry-after`. Of an answer it keeps the status.
#[derive(Clone, Debug)]
pub struct AwsAdaptive(Operation<Request<SdkBody>, StatusCode, Failed>);

impl AwsAdaptive {
    /// A client over this service, with tokens and a rate limiter of its own; only in a runtime.
    #[must_use]
    pub fn new<S: Wire>(service: S) -> Self {
        // The runtime shares both among all operations of a service by its name.
        static CLIENTS: AtomicU64 = AtomicU64::new(0);
        let name = format!("client {}", CLIENTS.fetch_add(1, Ordering::Relaxed));
        let connector = SharedHttpConnector::new(Connector(service));
        let operation = Operation::builder()
            .service_name(name)
            .operation_name("call")
            .behavior_version(BehaviorVersion::latest())
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .endpoint_url("http://api.test")
            .no_auth()
            .standard_retry(&RetryConfig::adaptive())
            .retry_classifier(HttpStatusCodeClassifier::default())
            .retry_classifier(Throttled)
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .sleep_impl(TokioSleep::new())
            .time_source(Clock(Instant::now()))
            .serializer(|request: Request<SdkBody>| Ok(HttpRequest::try_from(request)?))
            .deserializer(|response: &HttpResponse| match response.status() {
                status if status.is_success() => Ok(status),
                status => Err(OrchestratorError::operation(Failed(status))),
            })
            .build();
        Self(operation)
    }
}

impl<B> Service<Request<B>> for AwsAdaptive
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<()>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let operation = self.0.clone();
        Box::pin(async move {
            // What it is to send again must be in memory.
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(Into::into)?.to_bytes();
            let request = Request::from_parts(parts, SdkBody::from(body));
            operation.invoke(request).await?;
            Ok(Response::new(()))
        })
    }
}

/// A status that is no success, after all attempts.
#[derive(Debug)]
struct Failed(StatusCode);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.0)
    }
}

impl std::error::Error for Failed {}

#[derive(Debug)]
struct Throttled;

impl ClassifyRetry for Throttled {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        match context.response() {
            Some(response) if response.status().as_u16() == 429 => RetryAction::throttling_error(),
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "429"
    }
}

struct Connector<S>(S);

impl<S> fmt::Debug for Connector<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl<S: Wire> HttpConnector for Connector<S> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let service = self.0.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let response = service.oneshot(request).await.map_err(|error| ConnectorError::io(error.into()))?;
            Ok(HttpResponse::new(response.status().into(), SdkBody::empty()))
        })
    }
}

/// tokio's clock, paused where that is.
#[derive(Debug)]
struct Clock(Instant);

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        // Where an epoch begins: the rate limiter counts in half seconds of it.
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000) + self.0.elapsed()
    }
}
