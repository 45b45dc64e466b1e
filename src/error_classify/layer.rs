use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tower_layer::Layer;

use super::{ErrorClassify, IntoErrorsLayer};
use crate::{
    body::peek::Limits,
    provider::{Generic, Providers},
    wall_clock::WallClock,
};

/// What a layer and all its services share.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) providers: Providers,
    pub(super) failure: Limits,
    pub(super) stream: Limits,
    /// Whether any success is looked into: the one question on the path of a success.
    pub(super) successes: bool,
    pub(super) json: bool,
    pub(super) incomplete: bool,
    pub(super) streams: bool,
    pub(super) grpc: bool,
    pub(super) clock: WallClock,
}

/// Makes [`ErrorClassify`]. See the [module](super).
#[derive(Clone, Debug)]
pub struct ErrorClassifyLayer {
    settings: Arc<Settings>,
}

impl ErrorClassifyLayer {
    /// For this provider, or for a set of them chosen by host: [`Providers::by_host`].
    #[must_use]
    pub fn new(providers: impl Into<Providers>) -> Self {
        let settings = Settings {
            providers: providers.into(),
            failure: Limits { bytes: 64 * 1024, time: Duration::from_secs(2) },
            stream: Limits { bytes: 16 * 1024, time: Duration::from_secs(5) },
            successes: false,
            json: false,
            incomplete: false,
            streams: false,
            grpc: false,
            clock: WallClock::default(),
        };
        Self { settings: Arc::new(settings) }
    }

    fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        let settings = Arc::make_mut(&mut self.settings);
        change(settings);
        settings.successes = settings.json || settings.streams || settings.grpc;
        self
    }

    /// How much of a failure's body is read, in bytes. The default is 64 KiB: errors are a few hundred bytes,
    /// an error that echoes the prompt some ten thousand.
    #[must_use]
    pub fn max_body(self, bytes: usize) -> Self {
        self.set(|settings| settings.failure.bytes = bytes)
    }

    /// How long a failure's body is waited for, once its head is there. The default is 2 s; nearly always it comes with the head.
    #[must_use]
    pub fn max_wait(self, time: Duration) -> Self {
        self.set(|settings| settings.failure.time = time)
    }

    /// Looks for failures in successes whose body is JSON, as far as [`max_body`](Self::max_body) and [`max_wait`](Self::max_wait) go: an OpenAI response, run
    /// or batch that failed, a batch's line that did, OpenRouter's 200 with an `error`. Off by default, for it reads every such success.
    #[must_use]
    pub fn failures_in_successes(self, look: bool) -> Self {
        self.set(|settings| settings.json = look)
    }

    /// Whether an OpenAI response or run that is `incomplete` is a failure as well. Off by default: half an answer was
    /// paid for, and may do. Counts only with [`failures_in_successes`](Self::failures_in_successes).
    #[must_use]
    pub fn incomplete_is_failure(self, is: bool) -> Self {
        self.set(|settings| settings.incomplete = is)
    }

    /// Looks for failures in event streams. Off by default.
    ///
    /// The head is held back until the first event of the answer, so that an error before it is found like any other
    /// failure, and the call can be sent again; at most as long and as far as [`first_event`](Self::first_event) says. Later errors are
    /// seen as they pass, the bytes unchanged, and reported to the [`StreamErrors`](super::StreamErrors) in the response's extensions.
    #[must_use]
    pub fn failures_in_streams(self, look: bool) -> Self {
        self.set(|settings| settings.streams = look)
    }

    /// Looks for a failed `grpc-status` in the heads of successes, where gRPC puts it if there is nothing else to answer;
    /// with the provider [`Grpc`](crate::provider::Grpc). Off by default. Trailers are not waited for.
    #[must_use]
    pub fn failures_in_grpc_heads(self, look: bool) -> Self {
        self.set(|settings| settings.grpc = look)
    }

    /// How many bytes of a stream are read for its first event, and for how long after the head. The defaults are 16 KiB and
    /// 5 s; with a model that thinks for longer, the stream is handed on and its error comes to the handle.
    #[must_use]
    pub fn first_event(self, bytes: usize, time: Duration) -> Self {
        self.set(|settings| settings.stream = Limits { bytes, time })
    }

    /// Another clock than the system's, for dates in hints. Only asked where the server sends no `Date` of its own.
    #[must_use]
    pub fn wall_clock(self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.set(|settings| settings.clock = WallClock::new(clock))
    }

    /// Failures as `Err(ApiError)`, those of the transport too.
    #[must_use]
    pub fn into_errors(self) -> IntoErrorsLayer<Self> {
        IntoErrorsLayer::over(self)
    }
}

/// For [`Generic`].
impl Default for ErrorClassifyLayer {
    fn default() -> Self {
        Self::new(Generic)
    }
}

impl<S> Layer<S> for ErrorClassifyLayer {
    type Service = ErrorClassify<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ErrorClassify { inner, settings: self.settings.clone() }
    }
}
