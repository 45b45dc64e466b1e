//! What belongs to one connection and not to the message.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE},
};

/// RFC 9110, section 7.6.1. `Trailer` is not among them: trailers go through.
static HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Takes out what is for this hop alone, what `Connection` names included.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // One walk finds out which are there: each removal by name costs as much, there or not.
    let there = headers.keys().filter_map(hop_by_hop).fold(0_u8, |there, place| there | 1 << place);
    if there == 0 {
        return;
    }
    // Of two lengths the chunks' own is the one that was read by.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    for name in connection_options(headers) {
        headers.remove(name);
    }
    for (place, name) in HOP_BY_HOP.iter().enumerate() {
        if there & 1 << place != 0 {
            headers.remove(name);
        }
    }
}

/// Its place among them, if it is one. By the length first: of the others hardly any is compared.
fn hop_by_hop(name: &HeaderName) -> Option<usize> {
    Some(match name.as_str() {
        "connection" => 0,
        "keep-alive" => 1,
        "proxy-connection" => 2,
        "proxy-authenticate" => 3,
        "proxy-authorization" => 4,
        "te" => 5,
        "transfer-encoding" => 6,
        "upgrade" => 7,
        _ => return None,
    })
}

/// The headers that `Connection` names. Nearly always it says `keep-alive` or `close` alone.
fn connection_options(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|option| !option.eq_ignore_ascii_case(b"keep-alive") && !option.eq_ignore_ascii_case(b"close"))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .collect()
}

/// Whether the caller takes trailers: to be said anew on the next hop.
pub(crate) fn takes_trailers(headers: &HeaderMap) -> bool {
    let is_trailers = |option: &[u8]| option.trim_ascii().eq_ignore_ascii_case(b"trailers");
    headers.get_all(TE).iter().any(|value| value.as_bytes().split(|byte| *byte == b',').any(is_trailers))
}

/// Says on the next hop that trailers are taken.
pub(crate) fn take_trailers(headers: &mut HeaderMap) {
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONNECTION, HeaderValue::from_static("te"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_known_by_its_name() {
        for (place, name) in HOP_BY_HOP.iter().enumerate() {
            assert_eq!(hop_by_hop(name), Some(place), "{name}");
        }
        assert_eq!(hop_by_hop(&HeaderName::from_static("trailer")), None);
    }

    #[test]
    fn only_what_is_for_the_hop_goes() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-One"),
            ("connection", "x-two,,\u{e9}"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("x-three", "4"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "secret"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("trailer", "x-sum"),
        ] {
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        strip_hop_by_hop(&mut headers);
        let left: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(left, [("x-three", &b"3"[..]), ("x-three", b"4"), ("trailer", b"x-sum")]);
    }
}
