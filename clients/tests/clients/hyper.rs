//! hyper-util's client: nothing between it and the layers.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tower::{Layer, ServiceExt};
use tower_outbound::{
    ErrorKind,
    body::ReplayBody,
    find_cause,
    mock::MockApi,
    stack::{self, StackService},
};

use crate::passage::{Stream, passes};

#[tokio::test]
async fn http1_with_a_stream_and_trailers() {
    passes(Client::builder(TokioExecutor::new()).build_http::<ReplayBody<Stream>>(), Version::HTTP_11).await;
}

#[tokio::test]
async fn http2_with_a_stream_and_trailers() {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<ReplayBody<Stream>>();
    passes(client, Version::HTTP_2).await;
}

/// Over TLS, with a certificate that was made for this: which HTTP is spoken is agreed upon there.
#[tokio::test]
async fn over_tls_with_either_http() {
    for (alpn, version) in [("http/1.1", Version::HTTP_11), ("h2", Version::HTTP_2)] {
        let (url, trusted) = tls_server(alpn).await;
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let tls = tls.with_safe_default_protocol_versions().unwrap().with_root_certificates(trusted);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls.with_no_client_auth()).https_only();
        let connector = connector.enable_all_versions().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let stack = stack::openai().base_url(&url).api_key(clients::MOCK_KEY).checked().unwrap();
        let request = Request::get("/models").body(Full::<Bytes>::default()).unwrap();
        let response = stack.layer(client).oneshot(request).await.unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (200, version));
        let key = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(key, format!("Bearer {}", clients::MOCK_KEY));
    }
}

/// Gives back the key of each request, over this protocol alone.
async fn tls_server(alpn: &str) -> (String, RootCertStore) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let mut trusted = RootCertStore::empty();
    trusted.add(certificate.clone()).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let tls = tls.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut tls = tls.with_single_cert(vec![certificate], key).unwrap();
    tls.alpn_protocols = vec![alpn.into()];
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(tls)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let url = format!("https://localhost:{}/v1", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        let stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        let service = service_fn(async |request: Request<Incoming>| {
            let key = request.headers()["authorization"].as_bytes().to_vec();
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(key))))
        });
        let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
    });
    (url, trusted)
}

/// The type can be written down, and holds no box.
#[tokio::test]
async fn the_stack_has_a_name() {
    let endpoint = clients::mock(MockApi::builder().keys([clients::MOCK_KEY]).build()).await.unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let layer = stack::openai().base_url(&endpoint.base_url).api_key(&endpoint.key);
    let stack: StackService<Client<HttpConnector, Full<Bytes>>> = layer.layer(client);
    let body = r#"{"model":"m","messages":[{"role":"user","content":"Hello"}]}"#;
    let request = Request::post("/chat/completions").header("content-type", "application/json");
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let response = stack.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.unwrap().to_bytes().starts_with(b"{"));
}

#[tokio::test]
async fn who_is_not_there_is_told_of_as_such() {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let request = Request::get(format!("http://{closed}/")).body(Full::default()).unwrap();
    let error = crate::passage::layers().service(client).oneshot(request).await.unwrap_err();
    let error = find_cause::<tower_outbound::ApiError>(&*error).unwrap();
    assert_eq!((error.kind(), error.may_have_reached_server()), (ErrorKind::Unavailable, false));
}
