//! Inbound services that call out through the stack, and tower's and tower-http's layers among ours.

use std::{convert::Infallible, time::Duration};

use axum::{Router, extract::State, response::IntoResponse, routing::post};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt, buffer::BufferLayer, limit::ConcurrencyLimitLayer,
    service_fn, timeout::TimeoutLayer, util::BoxCloneService,
};
use tower_http::trace::TraceLayer;
use tower_outbound::{
    body::ReplayBody,
    mock::{Faults, Limits, MockApi, MockBody},
    stack::{self, StackService},
};

const QUESTION: &str = r#"{"model":"m","messages":[{"role":"user","content":"Hello"}]}"#;

type Outbound = StackService<Client<HttpConnector, Full<Bytes>>>;

async fn answer(State(outbound): State<Outbound>, question: Bytes) -> axum::response::Response {
    let request = Request::post("/chat/completions")
        .header("content-type", "application/json")
        .body(Full::new(question))
        .unwrap();
    match outbound.oneshot(request).await {
        Ok(response) => response.map(axum::body::Body::new),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// Serves the router, and asks it through its socket.
async fn asked(router: Router, times: usize) -> Vec<StatusCode> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/ask", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let client = Client::builder(TokioExecutor::new()).build_http();
    let calls = (0..times).map(|_| {
        let request = Request::post(&url)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from_static(QUESTION.as_bytes())))
            .unwrap();
        client.request(request)
    });
    let statuses = join_all(calls).await.into_iter().map(|response| response.unwrap().status()).collect();
    server.abort();
    statuses
}

#[tokio::test]
async fn a_handler_calls_out() {
    let api = MockApi::builder().keys([clients::MOCK_KEY]).faults(Faults::none().server_error(0.2)).build();
    let endpoint = clients::mock(api.clone()).await.unwrap();
    let stack = stack::openai().base_url(&endpoint.base_url).api_key(&endpoint.key);
    let meter = stack.quota_meter().clone();
    let outbound = stack.layer(Client::builder(TokioExecutor::new()).build_http());
    let router = Router::new().route("/ask", post(answer)).layer(TraceLayer::new_for_http()).with_state(outbound);
    let statuses = asked(router, 20).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(meter.snapshot().counts.sent, api.counters().calls, "every handler's clone has the one meter");
}

/// A proxy of a few lines, with the layer applied anew for each request, as a router may: what it knows is shared.
#[tokio::test]
async fn a_layer_applied_for_each_request_keeps_what_it_knows() {
    let api = MockApi::builder().keys([clients::MOCK_KEY]).build();
    let endpoint = clients::mock(api.clone()).await.unwrap();
    let stack = stack::openai().base_url(&endpoint.base_url).api_key(&endpoint.key);
    let meter = stack.quota_meter().clone();
    let client = Client::builder(TokioExecutor::new()).build_http::<ReplayBody<axum::body::Body>>();
    let proxy = service_fn(move |request: axum::extract::Request| {
        let outbound = stack.layer(client.clone());
        async move {
            let (mut parts, body) = request.into_parts();
            parts.uri = "/chat/completions".parse().unwrap();
            let request = Request::from_parts(parts, ReplayBody::new(body, 64 * 1024));
            Ok::<_, Infallible>(match outbound.oneshot(request).await {
                Ok(response) => response.map(axum::body::Body::new),
                Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
            })
        }
    });
    let statuses = asked(Router::new().route_service("/ask", proxy), 10).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!((meter.snapshot().counts.sent, api.counters().calls), (10, 10));
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;
type Boxed = BoxCloneService<Request<Full<Bytes>>, Answer, BoxError>;

/// One layer of a tower of boxes.
fn put_over<L>(layer: L) -> Box<dyn Fn(Boxed) -> Boxed>
where
    L: Layer<Boxed> + 'static,
    L::Service: Service<Request<Full<Bytes>>, Response: IntoBoxed, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static,
{
    Box::new(move |inner| {
        let service = layer.layer(inner).map_err(Into::into).map_response(IntoBoxed::into_boxed);
        BoxCloneService::new(service)
    })
}

trait IntoBoxed {
    fn into_boxed(self) -> Answer;
}

impl<B> IntoBoxed for Response<B>
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    fn into_boxed(self) -> Answer {
        self.map(|body| body.map_err(Into::into).boxed_unsync())
    }
}

/// Every order of the layers with these numbers.
fn orders(layers: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![vec![]];
    for layer in 0..layers {
        let into = |order: &Vec<usize>, place: usize| {
            let mut order = order.clone();
            order.insert(place, layer);
            order
        };
        orders = orders.iter().flat_map(|order| (0..=order.len()).map(move |place| into(order, place))).collect();
    }
    orders
}

#[tokio::test(start_paused = true)]
async fn any_order_of_layers_answers_every_call() {
    for order in orders(5) {
        let faults = Faults::none().unavailable(0.1);
        let api = MockApi::builder()
            .limits(Limits::per_minute(600, 1_000_000))
            .service_time(Duration::from_millis(100)..=Duration::from_millis(300))
            .faults(faults)
            .build();
        let bottom = ServiceBuilder::new()
            .map_err(BoxError::from)
            .map_response(|response: Response<MockBody>| response.into_boxed())
            .service(api.clone());
        let layers = [
            put_over(stack::openai().base_url("https://api.test").api_key(clients::MOCK_KEY)),
            put_over(TraceLayer::new_for_http()),
            put_over(TimeoutLayer::new(Duration::from_secs(120))),
            put_over(ServiceBuilder::new().layer(BufferLayer::new(8)).into_inner()),
            put_over(ConcurrencyLimitLayer::new(2)),
        ];
        let service = order.iter().fold(BoxCloneService::new(bottom), |inner, layer| layers[*layer](inner));
        let calls = (0..6).map(|_| {
            let body = Full::new(Bytes::from_static(QUESTION.as_bytes()));
            let request = Request::post("https://api.test/v1/chat/completions")
                .header("content-type", "application/json")
                .body(body)
                .unwrap();
            service.clone().oneshot(request)
        });
        for result in join_all(calls).await {
            match result {
                Ok(response) => assert_eq!(response.status(), 200, "{order:?}"),
                Err(error) => panic!("{order:?}: {error}"),
            }
        }
        assert!(api.counters().calls >= 6);
    }
}
