//! What a body says, gathered from all the shapes that APIs give their errors, in one pass and mostly without a copy.

mod visit;

use std::{borrow::Cow, time::Duration};

/// The usual members of an error, as they stand in one object.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a> {
    pub(crate) code: Option<Cow<'a, str>>,
    /// Whether there was a `code`, were it `null`: then its type is no substitute.
    pub(crate) has_code: bool,
    pub(crate) number: Option<i64>,
    pub(crate) error_type: Option<Cow<'a, str>>,
    pub(crate) param: Option<Cow<'a, str>>,
    pub(crate) message: Option<Cow<'a, str>>,
}

/// All that a body says of a failure.
#[derive(Debug, Default)]
pub(crate) struct Facts<'a> {
    /// At the top level.
    pub(crate) top: Fields<'a>,
    /// In `error`, or what stands for it.
    pub(crate) error: Fields<'a>,
    /// `error.status`, as Google has it.
    pub(crate) status_word: Option<Cow<'a, str>>,
    /// `error.details[].reason`, as Google has it; `incomplete_details.reason`, as OpenAI has it.
    pub(crate) reason: Option<Cow<'a, str>>,
    /// `error.innererror.code`, as Azure has it.
    pub(crate) inner_code: Option<Cow<'a, str>>,
    /// Anthropic's `details.error_code`.
    pub(crate) detail_code: Option<Cow<'a, str>>,
    /// OpenRouter's `metadata.limit_source`.
    pub(crate) limit_source: Option<Cow<'a, str>>,
    /// AWS's `__type`.
    pub(crate) aws_type: Option<Cow<'a, str>>,
    /// `title` of RFC 9457, a message where there is no `detail`.
    pub(crate) title: Option<Cow<'a, str>>,
    pub(crate) request_id: Option<Cow<'a, str>>,
    /// Google's `retryDelay`, and a plain `retry_after`.
    pub(crate) retry_delay: Option<Duration>,
    /// Google's `quotaResetDelay`.
    pub(crate) reset_delay: Option<Duration>,
    /// A reset inside the body, spelled as in a header.
    pub(crate) reset: Option<Cow<'a, str>>,
    /// Google: a quota by the day was violated.
    pub(crate) per_day: bool,
    /// Google: the quota that was violated is 0, so no wait helps.
    pub(crate) zero_quota: bool,
    /// OpenRouter: moderation gave its reasons.
    pub(crate) flagged: bool,
    /// What the top-level object is, and its `status`, for failures inside a 200.
    pub(crate) object: Option<Cow<'a, str>>,
    pub(crate) state: Option<Cow<'a, str>>,
    /// The error is a run's `last_error`.
    pub(crate) from_run: bool,
    /// The error comes from a list, `errors`, which may stand beside a result.
    pub(crate) from_list: bool,
    /// The status of a response inside the body.
    pub(crate) nested_status: Option<u16>,
}

impl<'a> Facts<'a> {
    /// Reads what it can. A body that ends too early, or goes wrong in the middle, gives what stood before.
    pub(crate) fn of(body: &'a [u8]) -> Self {
        let mut facts = Self::default();
        let text = body.trim_ascii_start();
        if text.starts_with(b"{") || text.starts_with(b"[") {
            visit::read(text, &mut facts);
        } else if !text.starts_with(b"<") {
            // A proxy's plain text: its first line is a message. HTML is for nobody.
            let line = text.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
            facts.top.message = std::str::from_utf8(line).ok().filter(|line| !line.is_empty()).map(Cow::from);
        }
        facts
    }

    /// Whether there is an `error` that says anything; `null`, `false` and `""` do not.
    pub(crate) fn has_error(&self) -> bool {
        let error = &self.error;
        error.code.is_some() || error.number.is_some() || error.error_type.is_some() || error.message.is_some()
    }

    pub(crate) fn message(&self) -> Option<&str> {
        self.error.message.as_deref().or(self.top.message.as_deref()).or(self.title.as_deref())
    }

    pub(crate) fn error_type(&self) -> Option<&str> {
        self.error.error_type.as_deref().or(self.top_type())
    }

    pub(crate) fn param(&self) -> Option<&str> {
        self.error.param.as_deref().or(self.top.param.as_deref())
    }

    /// AWS's shape name, without the namespace before it.
    pub(crate) fn aws_type(&self) -> Option<&str> {
        let name = self.aws_type.as_deref()?;
        Some(name.rsplit_once('#').map_or(name, |(_, name)| name))
    }

    /// A top-level `type` that names an error, and not just that this is one.
    fn top_type(&self) -> Option<&str> {
        let name = self.top.error_type.as_deref()?;
        (!matches!(name, "error" | "about:blank" | "response.failed")).then_some(name)
    }

    /// The identifiers, the most telling first.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        [
            self.detail_code.as_deref(),
            self.limit_source.as_deref(),
            self.error.code.as_deref(),
            self.inner_code.as_deref(),
            self.reason.as_deref(),
            self.aws_type(),
            self.top.code.as_deref(),
            self.error.error_type.as_deref(),
            self.status_word.as_deref(),
            self.top_type(),
        ]
        .into_iter()
        .flatten()
    }

    /// What to report as the code: the code; where it is a mere number Google's status word, else the number; where
    /// the API has no `code` at all, its type.
    pub(crate) fn code(&self) -> Option<Cow<'_, str>> {
        let number = |number: Option<i64>| number.map(|number| Cow::Owned(number.to_string()));
        let error = self
            .detail_code
            .as_deref()
            .or(self.error.code.as_deref())
            .or(self.status_word.as_deref())
            .map(Cow::Borrowed);
        if let Some(code) = error.or_else(|| number(self.error.number)) {
            return Some(code);
        }
        if self.error.has_code {
            return None;
        }
        let rest = self.error.error_type.as_deref().or(self.top.code.as_deref()).map(Cow::Borrowed);
        if let Some(code) = rest.or_else(|| number(self.top.number)) {
            return Some(code);
        }
        if self.top.has_code {
            return None;
        }
        self.aws_type().or(self.top_type()).map(Cow::Borrowed)
    }
}
