//! reqwest's URL goes along with a request through the layers: where one of them rewrites the URI, that is where it goes.

use std::sync::{Arc, Mutex};

use http::{Request, Response, Uri};
use http_body_util::Empty;
use reqwest_middleware::ClientBuilder;
use tower::{ServiceBuilder, util::MapRequestLayer};
use tower_outbound::bridge::{
    reqwest::{Body, ReqwestService, same_origin},
    reqwest_middleware::TowerMiddleware,
};

use crate::passage::layers;

type Seen = Arc<Mutex<Vec<String>>>;

/// Says no once, so that each call goes twice, and keeps where it was to go.
async fn server() -> (clients::Server, Seen) {
    let seen = Seen::default();
    let keeps = seen.clone();
    let server = clients::Server::start(move |request: Request<hyper::body::Incoming>| {
        let mut seen = keeps.lock().unwrap();
        let host = request.headers()["host"].to_str().unwrap();
        seen.push(format!("{host}{}", request.uri()));
        let status = if seen.len() % 2 == 1 { 503 } else { 200 };
        std::future::ready(Response::builder().status(status).body(Empty::new()).unwrap())
    });
    (server.await.unwrap(), seen)
}

#[tokio::test]
async fn a_request_goes_where_a_layer_rewrote_it_to() {
    let (server, seen) = server().await;
    let url = server.url("/one?x=1");
    let elsewhere = url.replace("127.0.0.1", "localhost");
    let rewritten = ["/one?x=2", "/one?x=1&y", "/one?x", "/one", "/two?x=1", "/"].map(|path| server.url(path));
    for to in rewritten.into_iter().chain([elsewhere, url.clone()]) {
        let uri: Uri = to.parse().unwrap();
        let rewrite = MapRequestLayer::new(move |mut request: Request<Body>| {
            request.uri_mut().clone_from(&uri);
            request
        });
        let layers = ServiceBuilder::new().layer(layers()).layer(rewrite);
        clients::use_ring();
        let http = || reqwest::Client::builder().no_proxy().redirect(same_origin());
        let client = ReqwestService::build(http()).unwrap().layered(layers.clone());
        client.get(&url).send().await.unwrap();
        let client = ClientBuilder::new(http().build().unwrap()).with(TowerMiddleware::new(layers)).build();
        client.get(&url).send().await.unwrap();
        let expected = to.trim_start_matches("http://");
        assert_eq!(*seen.lock().unwrap(), [expected; 4], "reqwest twice, reqwest-middleware twice");
        seen.lock().unwrap().clear();
    }
}
