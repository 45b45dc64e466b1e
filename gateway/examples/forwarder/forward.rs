//! What a connection of a caller takes.

use http::{
    Request, Response, Uri,
    header::{CONNECTION, HOST},
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::net::TcpStream;
use tower::BoxError;

/// Where it listens, and what it sends to.
///
/// # Errors
/// Other arguments than these two.
pub(crate) fn arguments() -> Result<(String, Authority), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream] = &arguments[..] else { return Err("usage: LISTEN UPSTREAM".into()) };
    Ok((listen.clone(), upstream.parse()?))
}

pub(crate) fn client() -> Client<HttpConnector, Incoming> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector)
}

async fn forward(
    client: Client<HttpConnector, Incoming>,
    upstream: Authority,
    mut request: Request<Incoming>,
) -> Result<Response<Incoming>, BoxError> {
    let place = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::builder().scheme(Scheme::HTTP).authority(upstream).path_and_query(place).build()?;
    request.headers_mut().remove(HOST);
    request.headers_mut().remove(CONNECTION);
    let mut response = client.request(request).await?;
    response.headers_mut().remove(CONNECTION);
    Ok(response)
}

pub(crate) async fn serve(stream: TcpStream, client: Client<HttpConnector, Incoming>, upstream: Authority) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| forward(client.clone(), upstream.clone(), request));
    // It ends with an error where either side goes away.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
