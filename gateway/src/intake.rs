//! How request bodies are taken in, and how much of them is kept.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tower_outbound::body::ReplayBody;

use crate::{
    body::{Rest, Share, Upload},
    limit::Limit,
};

/// A body of JSON that is not whole by then goes on as a stream.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What request bodies may take of the memory.
#[derive(Debug)]
pub(crate) struct Intake {
    /// Of one, in bytes.
    most: usize,
    /// Of all, in bytes.
    room: Arc<Semaphore>,
}

impl Intake {
    /// At most so many bytes of each body, and of all at once.
    pub(crate) fn new(most: usize, of_all: usize) -> Self {
        // A share is counted in 32 bits.
        let most = most.min(u32::MAX as usize);
        let room = Arc::new(Semaphore::new(of_all.min(Semaphore::MAX_PERMITS)));
        Self { most, room }
    }

    /// The body as it goes on. JSON is read before: by what is in it the meter tells quotas apart and reckons the cost,
    /// and only of a caller whose request has been read to its end can one see that it goes away. What is longer than is
    /// kept, or finds no room, is streamed and goes once.
    ///
    /// # Errors
    /// If it broke off while it was read.
    pub(crate) async fn take(
        &self,
        mut body: Incoming,
        is_json: bool,
        patience: &Arc<Limit>,
    ) -> Result<Upload, hyper::Error> {
        if body.is_end_stream() {
            return Ok(Upload::empty());
        }
        let Some((most, share)) = self.share(&body) else {
            return Ok(streamed(Bytes::new(), body, 0, None));
        };
        if !is_json {
            return Ok(streamed(Bytes::new(), body, most, Some(share)));
        }
        let mut read = Read::default();
        let end = tokio::select! {
            biased;
            end = read.fill(&mut body, most) => Some(end?),
            () = patience.begin() => None,
        };
        let content = read.content();
        Ok(match end {
            Some(End::Whole(trailers)) => {
                let trailers = trailers.map(Box::new);
                Upload::Whole { share: Some(shrunk(share, content.len())), content, trailers }
            }
            Some(End::TooLong) | None => streamed(content, body, most, Some(share)),
        })
    }

    /// How much of this body is kept, and the room for that; `None` if it is too long, or the room is taken.
    fn share(&self, body: &Incoming) -> Option<(usize, Share)> {
        let hint = body.size_hint();
        let least = usize::try_from(hint.lower()).ok().filter(|least| *least <= self.most)?;
        let most = hint.upper().and_then(|upper| usize::try_from(upper).ok()).unwrap_or(self.most);
        let most = most.clamp(least, self.most);
        let permit = Arc::clone(&self.room).try_acquire_many_owned(u32::try_from(most).ok()?).ok()?;
        Some((most, Arc::new(permit)))
    }
}

fn streamed(read: Bytes, body: Incoming, most: usize, share: Option<Share>) -> Upload {
    Upload::Streamed { body: Box::new(ReplayBody::new(Rest { read, body }, most)), share }
}

/// The share of a body that came to so many bytes.
fn shrunk(mut share: Share, bytes: usize) -> Share {
    if let Some(permit) = Arc::get_mut(&mut share) {
        drop(permit.split(permit.num_permits().saturating_sub(bytes)));
    }
    share
}

/// What has been read of a body: copied only if it comes in several pieces.
#[derive(Default)]
struct Read {
    first: Bytes,
    all: BytesMut,
}

enum End {
    Whole(Option<HeaderMap>),
    TooLong,
}

impl Read {
    /// Reads on until its end, or until it is longer than `most`.
    ///
    /// # Cancel safety
    /// What has been read is kept.
    async fn fill(&mut self, body: &mut Incoming, most: usize) -> Result<End, hyper::Error> {
        while let Some(frame) = body.frame().await {
            match frame?.into_data() {
                Ok(data) => self.push(data),
                Err(frame) => return Ok(End::Whole(frame.into_trailers().ok())),
            }
            if self.first.len().max(self.all.len()) > most {
                return Ok(End::TooLong);
            }
        }
        Ok(End::Whole(None))
    }

    fn push(&mut self, data: Bytes) {
        if self.first.is_empty() && self.all.is_empty() {
            self.first = data;
            return;
        }
        self.all.extend_from_slice(&std::mem::take(&mut self.first));
        self.all.extend_from_slice(&data);
    }

    fn content(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}

/// Whether a body is said to be JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|media| media_type(media).eq_ignore_ascii_case(b"application/json"))
}

/// Without its parameters.
fn media_type(media: &HeaderValue) -> &[u8] {
    media.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_known_however_it_is_written() {
        for (media, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json;", true),
            ("application/jsonl", false),
            ("multipart/form-data; boundary=application/json", false),
            ("", false),
        ] {
            let headers = [(CONTENT_TYPE, HeaderValue::from_static(media))].into_iter().collect();
            assert_eq!(is_json(&headers), expected, "{media}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }

    #[test]
    fn pieces_become_one() {
        for pieces in [&[][..], &["one"], &["", "one", "", "two", "three"]] {
            let mut read = Read::default();
            pieces.iter().for_each(|piece| read.push(Bytes::from_static(piece.as_bytes())));
            assert_eq!(read.content(), pieces.concat());
        }
    }
}
