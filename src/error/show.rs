//! An error as one line that a person can act on.

use std::{fmt, time::Duration};

use super::{ApiError, ErrorKind, RetryHint, text::cut};

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(status) = self.status() {
            write!(f, "{} ", status.as_u16())?;
        }
        f.write_str(self.kind().words())?;
        if let Some(detail) = self.detail() {
            write!(f, " ({})", OneLine(detail))?;
        }
        f.write_str(": ")?;
        self.advice(f)?;
        match self.request_id() {
            Some(id) => write!(f, " · {}", OneLine(id)),
            None => Ok(()),
        }
    }
}

impl ApiError {
    /// What narrows the kind down: the limit that was hit, or the provider's code.
    fn detail(&self) -> Option<&str> {
        let limit = self.error_type().filter(|_| self.kind() == ErrorKind::RateLimit);
        limit
            .filter(|limit| matches!(*limit, "tokens" | "requests" | "input_tokens" | "output_tokens"))
            .or_else(|| self.code())
            .or_else(|| self.error_type())
    }

    fn advice(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self.retry() {
            RetryHint::After(wait) => return write!(f, "wait {}", Wait(wait)),
            RetryHint::Backoff if kind == ErrorKind::RateLimit => return f.write_str("send more slowly"),
            RetryHint::Backoff if !self.may_have_reached_server() => {
                f.write_str("not sent, may succeed later")?;
            }
            RetryHint::Backoff => f.write_str("may succeed later")?,
            RetryHint::Never => f.write_str(match kind {
                ErrorKind::QuotaExhausted => "credit or spending limit is used up, see the provider's billing page",
                ErrorKind::Authentication => "check the key",
                ErrorKind::Permission => "the key may not do this",
                ErrorKind::ContextLength => "shorten the prompt, or take a model with a longer context",
                ErrorKind::RequestTooLarge => "make the request smaller, it never fits",
                ErrorKind::ContentPolicy => "refused for its content",
                ErrorKind::NotFound => "check the path and the model's name",
                ErrorKind::InvalidRequest | ErrorKind::Unprocessable => "the request must be changed",
                _ => "not worth sending again",
            })?,
        }
        // Of a passing failure nobody needs the words; of the others they say what to change.
        match self.message() {
            Some(message)
                if !matches!(kind, ErrorKind::QuotaExhausted | ErrorKind::RateLimit | ErrorKind::Overloaded) =>
            {
                let short = cut(message, 200);
                write!(f, ": {}{}", OneLine(short), if short.len() < message.len() { "…" } else { "" })
            }
            _ => Ok(()),
        }
    }
}

/// Text from a server, without line ends or anything else that a terminal would act on.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = self.0.trim().split(char::is_control);
        f.write_str(parts.next().unwrap_or_default())?;
        parts.try_for_each(|part| write!(f, " {part}"))
    }
}

/// A wait as people say it: `28 ms`, `9.8 s`, `9 min 38 s`, `24.0 h`.
struct Wait(Duration);

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0 => write!(f, "{} ms", self.0.as_micros().div_ceil(1000)),
            1..120 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            120..7200 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            _ => write!(f, "{:.1} h", self.0.as_secs_f64() / 3600.0),
        }
    }
}
