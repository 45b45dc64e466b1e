//! URI, headers and sizes.

use http::{HeaderValue, Request};
use http_body_util::Full;
use tower_outbound::{
    ErrorKind,
    request_check::{Fault, Place, RequestCheckLayer},
};

use crate::{common::get, json, kind, send};

fn faults(uri: &str) -> Option<Vec<String>> {
    let mut request = get();
    *request.uri_mut() = uri.parse().unwrap();
    send(&RequestCheckLayer::new(), request)
}

#[test]
fn a_uri_has_a_scheme_and_a_host() {
    assert_eq!(faults("https://api.example/v1"), None);
    assert_eq!(faults("http://127.0.0.1:8080"), None);
    assert_eq!(faults("ftp://api.example/v1").unwrap(), ["URI: found the scheme ftp, allowed is http or https"]);
    let both = ["URI: found no scheme, allowed is http or https", "URI: found no host, allowed is a host"];
    assert_eq!(faults("/v1/models").unwrap(), both);
    assert_eq!(faults("api.example:443").unwrap().len(), 1);
}

#[test]
fn headers_of_more_than_any_server_takes_are_refused() {
    let layer = RequestCheckLayer::new();
    let with = |sizes: &[usize]| {
        let mut request = get();
        for (index, size) in sizes.iter().enumerate() {
            let name: http::HeaderName = format!("x-{index}").parse().unwrap();
            request.headers_mut().insert(name, HeaderValue::from_bytes(&vec![b'a'; *size]).unwrap());
        }
        send(&layer, request)
    };
    assert_eq!(with(&[100_000]), None);
    let one = "header x-0: found 140007 bytes, allowed is 131072 bytes at most for all headers";
    assert_eq!(with(&[140_000]).unwrap(), [one]);
    let all = "headers: found 140014 bytes, allowed is 131072 bytes at most for all headers";
    assert_eq!(with(&[70_000, 70_000]).unwrap(), [all]);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_at_once() {
    let layer = RequestCheckLayer::new().max_body(10);
    let body = |bytes| Request::post("http://api.example").body(Full::from(vec![b' '; bytes])).unwrap();
    assert_eq!(send(&layer, body(10)), None);
    assert_eq!(send(&layer, body(11)).unwrap(), ["body: found 11 bytes, allowed is 10 bytes at most"]);
    assert_eq!(kind(&layer, body(11)).await, Some(ErrorKind::RequestTooLarge));
}

#[test]
fn a_content_length_that_is_not_the_bodys_is_refused() {
    let layer = RequestCheckLayer::new();
    let with = |length: &str| {
        let request = Request::post("http://api.example").header("content-length", length);
        send(&layer, request.body(Full::from("12345")).unwrap())
    };
    assert_eq!(with("5"), None);
    for wrong in ["4", "6", "-5", "five", "+5", "", "99999999999999999999"] {
        assert_eq!(with(wrong).unwrap().len(), 1, "{wrong}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let layer = RequestCheckLayer::new().max_body(2).check(|request| {
        assert_eq!(request.body.map(|body| body.len()), Some(3));
        vec![Fault::new(Place::Headers, "no x-tenant", "a tenant")]
    });
    let told = send(&layer, json("/v1", "{,}")).unwrap();
    assert_eq!(
        told,
        [
            "URI: found no scheme, allowed is http or https",
            "URI: found no host, allowed is a host",
            "body: found 3 bytes, allowed is 2 bytes at most",
            "body, line 1 column 2 (byte 1): found `,`, allowed is a name in quotes",
            "headers: found no x-tenant, allowed is a tenant",
        ]
    );
}
