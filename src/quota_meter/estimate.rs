//! [`Estimate`]: how many tokens a request will take, where its caller does not say.

use std::{fmt, sync::Arc};

use super::{
    RequestView, TokenCost,
    content::Content,
    demand::{Demand, Tokens},
};

/// How the meter reckons the tokens of a request that has no [`TokenCost`].
///
/// The length of a body counts where it is JSON, or has no `Content-Type`: a file or a form is no prompt, however long it is,
/// and takes no tokens unless its answer says so.
#[derive(Clone, Debug, Default)]
pub struct Estimate(How);

type Reckon = dyn Fn(&RequestView<'_>) -> Option<TokenCost> + Send + Sync;

#[derive(Clone, Default)]
enum How {
    Length,
    #[default]
    Body,
    #[cfg(feature = "tiktoken")]
    Tokens,
    Function(Arc<Reckon>),
}

impl Estimate {
    /// By the length of the body alone: so many bytes for a token, learned from `usage` for each scope; 4 before the first.
    /// The body is not looked at.
    #[must_use]
    pub fn by_length() -> Self {
        Self(How::Length)
    }

    /// By the length, and, of JSON in memory, the most that the answer may be: `max_completion_tokens`,
    /// `max_output_tokens` or `max_tokens`, times `n`. The default.
    #[must_use]
    pub fn by_body() -> Self {
        Self(How::Body)
    }

    /// By the tokenizer of the model, with the most that the answer may be, as [`by_body`](Self::by_body); by the body where the model's
    /// tokenizer is not known, or the body has more than 256 KiB. Exact for the text of OpenAI's models; images count as
    /// nothing, and tools and calls of them as their JSON. It takes about a millisecond for each 10 KB, in the calling
    /// task, and for each attempt.
    #[cfg(feature = "tiktoken")]
    #[must_use]
    pub fn by_tokens() -> Self {
        Self(How::Tokens)
    }

    /// By this function; by the body where it answers `None`.
    #[must_use]
    pub fn with(reckon: impl Fn(&RequestView<'_>) -> Option<TokenCost> + Send + Sync + 'static) -> Self {
        Self(How::Function(Arc::new(reckon)))
    }

    pub(super) fn reads_body(&self) -> bool {
        !matches!(self.0, How::Length)
    }

    /// `length` is that of the body, where it is known and tells of tokens.
    pub(super) fn of(&self, request: &RequestView<'_>, content: Option<&Content<'_>>, length: Option<u64>) -> Demand {
        if let How::Function(reckon) = &self.0
            && let Some(cost) = reckon(request)
        {
            return Demand::given(cost, length);
        }
        let bytes = Demand::bytes(length);
        #[cfg(feature = "tiktoken")]
        if let (How::Tokens, Some(body)) = (&self.0, request.body())
            && let Some(model) = super::parts::named_outside(request).or_else(|| content?.model())
            && let Some(prompt) = super::tokens::of_prompt(body, model)
        {
            return Demand { tokens: Tokens::Apart(prompt, content.map_or(0, Content::most_output)), bytes };
        }
        Demand { tokens: Tokens::Output(content.map_or(0, Content::most_output)), bytes }
    }
}

impl fmt::Debug for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "by length",
            Self::Body => "by body",
            #[cfg(feature = "tiktoken")]
            Self::Tokens => "by tokens",
            Self::Function(_) => "by function",
        })
    }
}
