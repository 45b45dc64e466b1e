//! Over real sockets, the layer alone on a client: a failed response's connection is used again, and an upload that was
//! answered too early goes again whole.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http::{Request, Response, Uri};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_outbound::{
    backoff_retry::{Backoff, BackoffRetryLayer, Budget, Jitter, Standard},
    body::ReplayBody,
    mock::{Script, ok, status},
};

use crate::common::{ms, report};

/// A client that counts its connections, under a retry that waits a millisecond: the pool gets a connection back when
/// the client's own tasks have run.
fn client<B>(
    attempts: u32,
) -> (impl Service<Request<B>, Response = Response<Incoming>, Error = BoxError, Future: Send> + Clone, Arc<AtomicUsize>)
where
    B: Body<Data: Send, Error: Into<BoxError>> + tower_outbound::body::Resend + Send + Unpin + 'static,
{
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let connector = service_fn(move |uri: Uri| {
        count.fetch_add(1, Ordering::Relaxed);
        HttpConnector::new().oneshot(uri)
    });
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let backoff = Backoff::constant(ms(1)).jitter(Jitter::None);
    let policy = Standard::new().max_attempts(attempts.try_into().expect("not zero")).backoff(backoff);
    (BackoffRetryLayer::new().policy(policy).budget(Budget::unlimited()).layer(client), connections)
}

fn get(url: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("{url}/v1/models")).body(Empty::new()).unwrap()
}

/// A body that takes several reads.
fn sorry() -> tower_outbound::mock::Step {
    status(503).body(vec![b'x'; 40_000])
}

#[tokio::test]
async fn a_hundred_retries_take_one_connection() {
    let server = Script::new().then_times(100, sorry()).then(ok("done")).serve().await.unwrap();
    let (client, connections) = client(101);
    let response = client.oneshot(get(&server.url())).await.unwrap();
    assert_eq!((response.status().as_u16(), report(&response).attempts), (200, 101));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "done");
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn fifty_calls_with_error_bodies_take_one_connection() {
    let script = (0..50).fold(Script::new(), |script, _| script.then(sorry()).then(ok("done")));
    let server = script.serve().await.unwrap();
    let (client, connections) = client(2);
    for _ in 0..50 {
        let response = client.clone().oneshot(get(&server.url())).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "done");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    script.assert_done();
}

/// Reads until `end` has come.
async fn read_to(socket: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    while !read.windows(end.len()).any(|window| window == end) {
        assert!(socket.read_buf(&mut read).await.unwrap() > 0, "closed after {:?}", String::from_utf8_lossy(&read));
    }
    read
}

/// The first half is sent, the 429 comes, and only then is there a second half to send.
#[tokio::test]
async fn a_429_before_the_upload_ended_loses_none_of_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/files", listener.local_addr().unwrap());
    let (go_on, rest) = oneshot::channel();
    let server = tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        read_to(&mut first, b"the first half").await;
        first.write_all(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 4\r\n\r\nwait").await.unwrap();
        let (mut second, _) = listener.accept().await.unwrap();
        let again = read_to(&mut second, b"the first half").await;
        go_on.send(()).unwrap();
        let end = read_to(&mut second, b"0\r\n\r\n").await;
        second.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        // The first connection is open to the end: its upload goes on beside the other.
        drop(first);
        [again, end].concat()
    });

    let halves = stream::iter(["the first half"]).chain(rest.map(|_| ", and the second").into_stream());
    let frames = halves.map(|half| Ok::<_, std::io::Error>(Frame::data(Bytes::from(half))));
    let (client, connections) = client(2);
    let request = Request::post(url).body(ReplayBody::new(StreamBody::new(frames), 1000)).unwrap();
    let response = client.oneshot(request).await.unwrap();

    assert_eq!((response.status().as_u16(), report(&response).attempts), (200, 2));
    let received = String::from_utf8(server.await.unwrap()).unwrap();
    assert!(received.contains("the first half\r\n10\r\n, and the second\r\n0\r\n"), "{received}");
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}
