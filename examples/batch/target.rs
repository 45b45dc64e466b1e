//! Where the calls go: to an API in the same process, or to one elsewhere.

use std::time::Duration;

use http::{HeaderValue, Uri};
use tower_outbound::{
    key_check::{ApiKey, Origin},
    mock::{Faults, Limits, MockApi, MockServer},
};

use crate::args::Args;

/// The key that the embedded API gets; it takes any.
pub(crate) const MOCK_KEY: &str = "sk-mock-0123456789abcdef";

/// The variable that holds the key of a real API.
const KEY_VARIABLE: &str = "OPENAI_API_KEY";

pub(crate) struct Target {
    pub(crate) base: String,
    pub(crate) origin: Origin,
    pub(crate) key: ApiKey,
    /// The same key for who has no `KeyCheck`.
    pub(crate) bearer: HeaderValue,
    /// The embedded API, if it is that.
    pub(crate) mock: Option<(MockApi, MockServer)>,
}

impl Target {
    pub(crate) async fn of(args: &Args) -> Result<Self, String> {
        let Some(url) = &args.base_url else {
            let api = embedded(args);
            let server = api.serve().await.map_err(|error| format!("no port for the embedded API: {error}"))?;
            return Self::new(&server.url(), ApiKey::new(MOCK_KEY), MOCK_KEY, Some((api, server)));
        };
        let key = std::env::var(KEY_VARIABLE).unwrap_or_default();
        Self::new(url, ApiKey::from_env(KEY_VARIABLE), &key, None)
    }

    fn new(
        url: &str,
        key: Result<ApiKey, impl std::fmt::Display>,
        plain: &str,
        mock: Option<(MockApi, MockServer)>,
    ) -> Result<Self, String> {
        let url = url.trim();
        let origin = Origin::parse(url).map_err(|error| format!("--base-url {url}: {error}"))?;
        // The items' paths are put behind it.
        if url.contains('#') || url.parse::<Uri>().is_ok_and(|uri| uri.query().is_some()) {
            return Err("--base-url: it has a query or a fragment, and the items' paths have no place behind it".into());
        }
        let key = key.map_err(|error| format!("{error} (the API at {url} needs a key)"))?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {plain}"))
            .map_err(|_| format!("the key in {KEY_VARIABLE} cannot stand in a header"))?;
        bearer.set_sensitive(true);
        // The items' paths begin with /v1 themselves.
        let base = url.trim_end_matches('/');
        let base = base.strip_suffix("/v1").unwrap_or(base).to_owned();
        Ok(Self { base, origin, key, bearer, mock })
    }
}

pub(crate) fn embedded(args: &Args) -> MockApi {
    let (ms, rpm) = (Duration::from_millis, args.rpm.get());
    let faults = Faults::none()
        .server_error(args.errors)
        .bad_gateway(args.faults)
        .unavailable(args.faults)
        .dropped(args.faults)
        .cut(args.faults)
        .truncated(args.faults)
        .html_429(args.faults);
    MockApi::builder()
        .seed(args.seed)
        .limits(Limits::per_minute(rpm, args.tpm.map_or(rpm.saturating_mul(400), u64::from)))
        .network(ms(15)..=ms(35))
        .service_time(ms(100)..=ms(300))
        .faults(faults)
        .record_cap(0)
        .build()
}
