//! What the layers allocate for one call over clients that are no reqwest, and over async-openai, counted.
//!
//! `cargo test -p clients -- allocations --nocapture` prints it, and reqwest's.

use allocation_counter::measure;
use async_openai::{
    Client as OpenAi,
    config::OpenAIConfig,
    types::chat::{ChatCompletionRequestUserMessageArgs, CreateChatCompletionRequestArgs},
};
use bytes::Bytes;
use clients::{
    MOCK_KEY,
    grpc::{self, Plain},
};
use http::{Request, Response, uri::PathAndQuery};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tonic::{body::Body, client::Grpc, transport::Endpoint};
use tower::{BoxError, Layer, Service, ServiceBuilder, layer::util::Identity};
use tower_outbound::{
    BackoffRetryLayer, ErrorClassifyLayer, QuotaMeterLayer,
    bridge::{reqwest::ReqwestService, tonic::GrpcService},
    provider,
};

use crate::allocations::{STACK, http, least, on_a_thread, runtime, server, stack};

/// The most that the way into the layers and out of them takes, with async-openai.
const OPENAI: u64 = 8;
/// And with tonic.
const TONIC: u64 = 8;

fn over_hyper<S, B>(url: &reqwest::Url, mut service: S) -> u64
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Into<BoxError>>,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    let runtime = runtime();
    least(|| {
        let body = Full::new(Bytes::from_static(br#"{"model":"m","messages":[{"role":"user","content":""}]}"#));
        let request = Request::post(url.as_str()).header("content-type", "application/json").body(body).unwrap();
        let mut response = None;
        let counted = measure(|| response = runtime.block_on(service.call(request)).map_err(Into::into).ok());
        let body = runtime.block_on(response.unwrap().into_body().collect());
        assert!(body.is_ok());
        counted.count_total
    })
}

#[test]
fn allocations_over_hyper() {
    let url = reqwest::Url::parse(&server()).unwrap();
    let client = || Client::builder(TokioExecutor::new()).build_http();
    let (bare, whole) = (over_hyper(&url, client()), over_hyper(&url, stack(&url).layer(client())));
    println!("hyper: bare {bare}, with the stack +{}", whole - bare);
    assert!(whole - bare <= STACK, "{whole} over {bare}");
}

fn over_openai(client: &OpenAi<OpenAIConfig>) -> u64 {
    let message = ChatCompletionRequestUserMessageArgs::default().content("Hello").build().unwrap();
    let question = CreateChatCompletionRequestArgs::default().model("m").messages([message.into()]).build().unwrap();
    let runtime = runtime();
    least(|| {
        let question = question.clone();
        measure(|| assert!(runtime.block_on(client.chat().create(question)).is_ok())).count_total
    })
}

#[test]
fn allocations_over_async_openai() {
    let url = reqwest::Url::parse(&server()).unwrap();
    let base = url.as_str().trim_end_matches("/chat/completions").to_owned();
    clients::use_ring();
    let config = || OpenAIConfig::new().with_api_base(&base).with_api_key(MOCK_KEY);
    let bare = over_openai(&OpenAi::with_config(config()).with_http_client(http().build().unwrap()));
    let service = || ReqwestService::build(http()).unwrap();
    let alone = over_openai(&OpenAi::with_config(config()).with_http_service(service().layered(Identity::new())));
    let whole = over_openai(&OpenAi::with_config(config()).with_http_service(service().layered(stack(&url))));
    println!(
        "async-openai: bare {bare}, the bridge alone {:+}, with the stack {:+}",
        i128::from(alone) - i128::from(bare),
        i128::from(whole) - i128::from(bare)
    );
    assert!(alone <= bare + OPENAI, "{alone} over {bare}");
    assert!(whole <= alone + STACK, "{whole} over {alone}");
}

/// The channel needs a runtime from the start.
fn over_tonic<S>(service: impl FnOnce() -> S) -> u64
where
    S: tonic::client::GrpcService<Body>,
    S::ResponseBody: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let runtime = runtime();
    let mut client = {
        let _entered = runtime.enter();
        Grpc::new(service())
    };
    least(|| {
        let question = tonic::Request::new(Bytes::from_static(b"hello"));
        let call = async {
            client.ready().await.ok()?;
            client.unary(question, PathAndQuery::from_static("/test.Echo/Say"), Plain).await.ok()
        };
        measure(|| assert!(runtime.block_on(call).is_some())).count_total
    })
}

#[test]
fn allocations_over_tonic() {
    let url = on_a_thread(async || Ok(grpc::server(0, "14").await?.0), "");
    let layers = || {
        ServiceBuilder::new()
            .layer(BackoffRetryLayer::new())
            .layer(QuotaMeterLayer::new())
            .layer(ErrorClassifyLayer::new(provider::Grpc).failures_in_grpc_heads(true))
    };
    let endpoint = Endpoint::from_shared(url).unwrap();
    let bare = over_tonic(|| endpoint.connect_lazy());
    let alone = over_tonic(|| GrpcService::new(endpoint.connect_lazy(), Identity::new()));
    let whole = over_tonic(|| GrpcService::new(endpoint.connect_lazy(), layers()));
    println!("tonic: bare {bare}, the bridge alone +{}, with three layers +{}", alone - bare, whole - bare);
    assert!(alone - bare <= TONIC, "{alone} over {bare}");
    assert!(whole - alone <= STACK, "{whole} over {alone}");
}
