//! [`KeyCheckLayer`]: the key, and what its services know of it.

use std::{sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{ApiKey, KeyCheck, Origin, health::Shared};

/// Default for [`KeyCheckLayer::recheck`].
const RECHECK: Duration = Duration::from_secs(60);

/// Makes [`KeyCheck`]s that share one key and what is known of it.
///
/// Clones share it too. See the [module](super) for an example.
#[derive(Clone, Debug)]
pub struct KeyCheckLayer {
    shared: Arc<Shared>,
}

impl KeyCheckLayer {
    /// Sends `key` as `Authorization: Bearer …` to `origin`, and nowhere else.
    #[must_use]
    pub fn new(key: ApiKey, origin: Origin) -> Self {
        Self { shared: Arc::new(Shared::new(key, origin, RECHECK)) }
    }

    /// After a 401, how long calls are refused before one looks whether the key is well again. Default: 60 s;
    /// [`Duration::MAX`] for never.
    #[must_use]
    pub fn recheck(self, recheck: Duration) -> Self {
        Self { shared: Arc::new(Shared::new(self.shared.key.clone(), self.shared.origin.clone(), recheck)) }
    }
}

impl<S> Layer<S> for KeyCheckLayer {
    type Service = KeyCheck<S>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyCheck::new(inner, Arc::clone(&self.shared))
    }
}
