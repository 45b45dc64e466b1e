//! Asks a source for a key, in a task of its own: many calls wait for one answer, and none of them carries it.

use std::sync::Arc;

use tower::BoxError;

use super::{KeyError, KeySource, Token, file::Stamp, pool::Pool, source::Fetched};
use crate::{ApiError, find_cause};

pub(super) type Given = (Token, Option<Stamp>);

/// Starts asking; the pool is told what comes of it, whatever that is.
pub(super) fn start(pool: Arc<Pool>, slot: usize, source: KeySource, stamp: Option<Stamp>) {
    let report = Report { pool, slot, result: Some(Err("it was broken off".into())) };
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return report.tell(Err("there is no tokio runtime to ask it in".into()));
    };
    let limit = report.pool.settings.source_timeout;
    runtime.spawn(async move {
        report.tell(match tokio::time::timeout(limit, source.fetch(stamp)).await {
            Ok(Ok(Fetched::Unchanged)) => Ok(None),
            Ok(Ok(Fetched::Key(token, _))) if token.lifetime.is_some_and(|left| left.is_zero()) => {
                Err("it gave a token that has expired already".into())
            }
            Ok(Ok(Fetched::Key(token, stamp))) => Ok(Some((token, stamp))),
            Ok(Err(error)) => Err(words(&error)),
            Err(_) => Err(format!("no answer within {limit:?}").into()),
        });
    });
}

/// Told when it is dropped, so that a panic in a source, or the end of its runtime, leaves nobody waiting.
struct Report {
    pool: Arc<Pool>,
    slot: usize,
    result: Option<Result<Option<Given>, Arc<str>>>,
}

impl Report {
    fn tell(mut self, result: Result<Option<Given>, Arc<str>>) {
        self.result = Some(result);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if let Some(result) = self.result.take() {
            self.pool.fetched(self.slot, result);
        }
    }
}

/// The error's words, with what looks like a key masked. Ours show none.
fn words(error: &BoxError) -> Arc<str> {
    match find_cause::<KeyError>(&**error) {
        Some(known) => known.to_string().into(),
        None => ApiError::from_error(&**error).message().unwrap_or("it failed").into(),
    }
}
