//! What the errors of a real client mean, over loopback.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::BoxError;
use tower_outbound::{ApiError, ErrorKind, RetryHint};

/// A server that reads the request, says this, and closes. Gives its address.
async fn server(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{address}/")
}

async fn get(url: &str) -> Result<Bytes, BoxError> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let request = Request::get(url).body(Empty::new())?;
    let response = tokio::time::timeout(Duration::from_secs(10), client.request(request)).await??;
    Ok(response.into_body().collect().await?.to_bytes())
}

async fn meaning(url: &str) -> (ErrorKind, RetryHint, bool) {
    let error = get(url).await.unwrap_err();
    let error = ApiError::from_error(&*error);
    (error.kind(), error.retry(), error.may_have_reached_server())
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(meaning(&url).await, (ErrorKind::Unavailable, RetryHint::Backoff, false));
}

#[tokio::test]
async fn closed_without_a_word() {
    let url = server("").await;
    assert_eq!(meaning(&url).await, (ErrorKind::Unavailable, RetryHint::Backoff, true));
}

#[tokio::test]
async fn closed_in_the_middle() {
    let url = server("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
    assert_eq!(meaning(&url).await, (ErrorKind::Unavailable, RetryHint::Backoff, true));
}

#[tokio::test]
async fn no_http_at_all() {
    let url = server("SSH-2.0-OpenSSH_9.6\r\n").await;
    assert_eq!(meaning(&url).await, (ErrorKind::Unavailable, RetryHint::Backoff, true));
}
