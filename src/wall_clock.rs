//! The one place that asks for the wall clock. Dates in headers need it; nothing else does.

use std::{fmt, sync::Arc, time::SystemTime};

/// The system's clock, or one given in its place.
#[derive(Clone, Default)]
pub(crate) struct WallClock(Option<Arc<dyn Fn() -> SystemTime + Send + Sync>>);

impl WallClock {
    #[cfg(any(feature = "error-classify", feature = "quota-meter"))]
    pub(crate) fn new(clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(clock)))
    }

    #[allow(clippy::disallowed_methods, reason = "this is the seam")]
    pub(crate) fn now(&self) -> SystemTime {
        match &self.0 {
            Some(clock) => clock(),
            None => SystemTime::now(),
        }
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "WallClock(given)" } else { "WallClock(system)" })
    }
}
