//! The URL under which an API's paths stand.

use http::{Uri, uri};

use crate::key_check::{Origin, OriginError};

/// A base URL and its origin.
#[derive(Clone, Debug)]
pub(super) struct Base {
    uri: Uri,
    pub(super) origin: Origin,
}

impl Base {
    pub(super) fn parse(url: &str) -> Result<Self, OriginError> {
        let origin = Origin::parse(url)?;
        let uri = url.trim().parse().map_err(|_| OriginError::NotAUrl)?;
        Ok(Self { uri, origin })
    }

    /// The path of a request put after the base URL's own; `None` for a URL that is whole already, or cannot be made so.
    pub(super) fn complete(&self, path: &Uri) -> Option<Uri> {
        if path.authority().is_some() {
            return None;
        }
        let path = path.path_and_query()?.as_str();
        if !path.starts_with('/') {
            return None;
        }
        let mut parts = uri::Parts::from(self.uri.clone());
        parts.path_and_query = [self.uri.path().trim_end_matches('/'), path].concat().try_into().ok();
        Uri::from_parts(parts).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_goes_after_the_base_and_a_whole_url_stays() {
        let complete = |base, path: &str| {
            let uri = Base::parse(base).unwrap().complete(&path.parse().unwrap());
            uri.map(|uri| uri.to_string())
        };
        let models = Some("https://api.openai.com/v1/models?limit=2".to_owned());
        assert_eq!(complete("https://api.openai.com/v1", "/models?limit=2"), models);
        assert_eq!(complete("https://api.openai.com/v1/", "/models?limit=2"), models);
        assert_eq!(complete("http://127.0.0.1:8080", "/models").as_deref(), Some("http://127.0.0.1:8080/models"));
        assert_eq!(complete("https://api.openai.com/v1", "https://elsewhere.test/models"), None);
        assert_eq!(complete("https://api.openai.com/v1", "*"), None);
    }
}
