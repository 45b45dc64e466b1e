//! async-openai with the layers in its `with_http_service`.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use async_openai::{
    Client,
    config::OpenAIConfig,
    error::OpenAIError,
    types::{
        InputSource,
        chat::{ChatCompletionRequestUserMessageArgs, CreateChatCompletionRequest, CreateChatCompletionRequestArgs},
        embeddings::CreateEmbeddingRequestArgs,
        files::{CreateFileRequestArgs, FileInput, FilePurpose},
    },
};
use bytes::Bytes;
use clients::{Endpoint, MOCK_KEY, Server};
use futures_util::StreamExt;
use http::Response;
use http_body_util::{BodyExt, Full};
use tower_outbound::{
    ApiError, ApiKey, ErrorKind, KeyCheckLayer, Origin, bridge::reqwest::ReqwestService, find_cause, mock::MockApi,
    stack,
};

use crate::passage::layers;

fn http() -> ReqwestService {
    clients::use_ring();
    ReqwestService::build(reqwest::Client::builder().no_proxy()).unwrap()
}

fn config(base_url: &str) -> OpenAIConfig {
    // It makes a client of its own before it is given ours.
    clients::use_ring();
    OpenAIConfig::new().with_api_base(base_url).with_api_key(MOCK_KEY)
}

/// With a quick retry over this server.
fn client(base_url: &str) -> Client<OpenAIConfig> {
    Client::with_config(config(base_url)).with_http_service(http().layered(layers()))
}

async fn mock() -> (Endpoint, Client<OpenAIConfig>) {
    let endpoint = clients::mock(MockApi::builder().keys([MOCK_KEY]).models(["m"]).build()).await.unwrap();
    let stack = stack::openai().base_url(&endpoint.base_url).api_key(MOCK_KEY);
    let client = Client::with_config(config(&endpoint.base_url)).with_http_service(http().layered(stack));
    (endpoint, client)
}

fn chat(model: &str) -> CreateChatCompletionRequest {
    let message = ChatCompletionRequestUserMessageArgs::default().content("Hello").build().unwrap();
    CreateChatCompletionRequestArgs::default().model(model).messages([message.into()]).build().unwrap()
}

#[tokio::test]
async fn chat_plain_and_streamed() {
    let (_endpoint, client) = mock().await;
    let answer = client.chat().create(chat("m")).await.unwrap();
    assert!(answer.choices[0].message.content.as_ref().is_some_and(|content| !content.is_empty()));

    let mut stream = client.chat().create_stream(chat("m")).await.unwrap();
    let mut pieces = 0;
    while let Some(piece) = stream.next().await {
        pieces += u32::from(piece.unwrap().choices.first().is_some_and(|choice| choice.delta.content.is_some()));
    }
    assert!(pieces > 0);
}

/// As its client is made without `OPENAI_API_KEY`.
#[tokio::test]
async fn an_empty_key_of_its_own_is_none() {
    let endpoint = clients::mock(MockApi::builder().keys([MOCK_KEY]).models(["m"]).build()).await.unwrap();
    let stack = stack::openai().base_url(&endpoint.base_url).api_key(MOCK_KEY);
    let config = config(&endpoint.base_url).with_api_key("");
    let client = Client::with_config(config).with_http_service(http().layered(stack));
    assert!(!client.chat().create(chat("m")).await.unwrap().choices.is_empty());
}

/// A key that it has goes before the stack's, unless the stack's own way of giving keys says otherwise.
#[tokio::test]
async fn a_key_of_its_own_gives_way_where_it_shall() {
    let endpoint = clients::mock(MockApi::builder().keys([MOCK_KEY]).models(["m"]).build()).await.unwrap();
    let ours = KeyCheckLayer::new(ApiKey::new(MOCK_KEY).unwrap(), Origin::parse(&endpoint.base_url).unwrap());
    for replace in [false, true] {
        let stack = stack::openai().key_check(ours.clone().replace_callers_key(replace)).base_url(&endpoint.base_url);
        let config = config(&endpoint.base_url).with_api_key("sk-another-0123456789");
        let client = Client::with_config(config).with_http_service(http().layered(stack));
        assert_eq!(client.chat().create(chat("m")).await.is_ok(), replace);
    }
}

#[tokio::test]
async fn embeddings() {
    let (_endpoint, client) = mock().await;
    let request = CreateEmbeddingRequestArgs::default().model("m").input("some words").build().unwrap();
    let answer = client.embeddings().create(request).await.unwrap();
    assert!(!answer.data[0].embedding.is_empty());
}

#[tokio::test]
async fn an_upload_reads_its_source_anew_for_each_sending() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    let server = Server::start(move |request: http::Request<hyper::body::Incoming>| {
        let kept = kept.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let mut kept = kept.lock().unwrap();
            kept.push((parts.headers["content-type"].to_str().unwrap().to_owned(), body));
            let file =
                r#"{"id":"file-1","object":"file","bytes":7,"created_at":1,"filename":"a.jsonl","purpose":"batch"}"#;
            let (status, body) = if kept.len() == 1 { (503, "") } else { (200, file) };
            Response::builder().status(status).body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap()
        }
    });
    let server = server.await.unwrap();
    let path = std::env::temp_dir().join(format!("tower-outbound-{}.jsonl", std::process::id()));
    std::fs::write(&path, "{\"a\":1}").unwrap();
    let request = CreateFileRequestArgs::default()
        .file(FileInput { source: InputSource::Path { path: path.clone() } })
        .purpose(FilePurpose::Batch)
        .build()
        .unwrap();
    let file = client(&server.url("/v1")).files().create(request).await;
    std::fs::remove_file(path).unwrap();
    assert_eq!(file.unwrap().id, "file-1");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    for (content_type, body) in &*seen {
        let boundary = content_type.split("boundary=").nth(1).unwrap();
        let body = std::str::from_utf8(body).unwrap();
        assert!(body.starts_with(&format!("--{boundary}")) && body.contains("{\"a\":1}"), "{content_type}: {body}");
    }
}

#[tokio::test]
async fn its_own_errors_come_out() {
    let (_endpoint, client) = mock().await;
    match client.chat().create(chat("another")).await {
        Err(OpenAIError::ApiError(error)) => {
            assert_eq!(error.status_code, 404);
            assert_eq!(error.api_error.code.as_deref(), Some("model_not_found"));
        }
        other => panic!("{other:?}"),
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    match self::client(&format!("http://{closed}/v1")).chat().create(chat("m")).await {
        Err(OpenAIError::Boxed(error)) => {
            assert_eq!(find_cause::<ApiError>(&*error).map(ApiError::kind), Some(ErrorKind::Unavailable));
            assert!(find_cause::<reqwest::Error>(&*error).unwrap().is_connect());
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn only_our_retry_retries() {
    for (status, times) in [(500, 3), (429, 3), (400, 1)] {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        let server = Server::start(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            let body = r#"{"error":{"message":"no","type":null,"param":null,"code":null}}"#;
            let response = Response::builder().status(status).body(Full::new(Bytes::from_static(body.as_bytes())));
            async move { response.unwrap() }
        });
        let server = server.await.unwrap();
        let error = client(&server.url("/v1")).chat().create(chat("m")).await.unwrap_err();
        assert!(matches!(error, OpenAIError::ApiError(error) if error.status_code == status));
        assert_eq!(calls.load(Ordering::Relaxed), times, "{status}");
    }
}
