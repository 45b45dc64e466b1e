//! What an answer's `usage` says, in every API's spelling.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::{
    members::{Members, closed, is_space, number, space},
    usage::Cache,
};

/// No model takes so many in one call. An answer that says more, or less than none, is not believed at all: a limit that
/// was given would be charged for it, and stall for days.
const MOST: f64 = 10_000_000.0;

/// What the names begin with.
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"usage"));

/// What the answers so far say was used; a later word counts more than an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reported {
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
    pub(super) cache: Cache,
    /// Whether it is the last word: an answer in events begins with a first one, or says it over and over.
    pub(super) is_last: bool,
}

/// Every API's spelling of it.
#[derive(Default)]
struct Spelling {
    prompt_tokens: Option<f64>,
    completion_tokens: Option<f64>,
    input_tokens: Option<f64>,
    output_tokens: Option<f64>,
    /// Anthropic counts these beside `input_tokens`; what is read from the cache counts against no limit.
    cache_creation_input_tokens: Option<f64>,
    cache_read_input_tokens: Option<f64>,
    /// Of what is counted in the input: OpenAI's, in its details, or Gemini's.
    cached: Option<f64>,
    gemini_prompt: Option<f64>,
    gemini_candidates: Option<f64>,
    gemini_thoughts: Option<f64>,
}

impl Spelling {
    /// `None` if a number is none.
    fn read(usage: &mut Members<'_>) -> Option<Self> {
        let mut said = Self::default();
        for (name, value) in usage.by_ref() {
            let place = match name {
                b"prompt_tokens" => &mut said.prompt_tokens,
                b"completion_tokens" => &mut said.completion_tokens,
                b"input_tokens" => &mut said.input_tokens,
                b"output_tokens" => &mut said.output_tokens,
                b"cache_creation_input_tokens" => &mut said.cache_creation_input_tokens,
                b"cache_read_input_tokens" => &mut said.cache_read_input_tokens,
                b"cachedContentTokenCount" => &mut said.cached,
                b"prompt_tokens_details" | b"input_tokens_details" => {
                    said.cached = cached(value);
                    continue;
                }
                b"promptTokenCount" => &mut said.gemini_prompt,
                b"candidatesTokenCount" => &mut said.gemini_candidates,
                b"thoughtsTokenCount" => &mut said.gemini_thoughts,
                _ => continue,
            };
            *place = number(value).ok()?;
        }
        usage.rest().map(|_| said)
    }

    /// What is read from a cache beside the input, within it, and written to it.
    fn cache(&self) -> [f64; 3] {
        let is_anthropics = self.input_tokens.is_some();
        let anthropics = |tokens: Option<f64>| tokens.filter(|_| is_anthropics);
        let [beside, written] = [self.cache_read_input_tokens, self.cache_creation_input_tokens].map(anthropics);
        [beside, self.cached, written].map(|tokens| tokens.unwrap_or(0.0))
    }
}

fn cached(details: &[u8]) -> Option<f64> {
    let (_, tokens) = Members::of(details)?.find(|(name, _)| *name == b"cached_tokens")?;
    number(tokens).ok()?
}

impl Reported {
    /// Of a whole answer in which `usage` stands in the outermost object: looks from there on only. `None` if it has to be
    /// read from its beginning.
    pub(super) fn at_a_glance(json: &[u8]) -> Option<Self> {
        if json.get(space(json, 0)) != Some(&b'{') {
            return None;
        }
        // In JSON a quote in a string is escaped: one that is not, before a letter, begins a string.
        let begin = USAGE.find_iter(json).last().filter(|at| *at > 0 && json.get(at - 1) != Some(&b'\\'))?;
        let name =
            [&b"usage\""[..], b"usageMetadata\""].into_iter().find(|name| json[begin + 1..].starts_with(name))?;
        let colon = space(json, begin + 1 + name.len());
        let mut usage = Members::of(json.get(colon..)?.strip_prefix(b":")?)?;
        let mut reported = Self::default();
        reported.take_in(&mut usage, Name::Other);
        // The next end, of what it is in, is also the last.
        let rest = usage.rest()?;
        let behind = rest.get(closed(rest, 0)?..)?;
        behind.iter().all(|byte| is_space(*byte)).then_some(reported)
    }

    pub(super) fn take_in(&mut self, usage: &mut Members<'_>, place: Name) {
        let Some(said) = Spelling::read(usage) else { return };
        let sum = |one: Option<f64>, more: Option<f64>| Some(one? + more.unwrap_or(0.0));
        let input = sum(said.input_tokens, said.cache_creation_input_tokens);
        let input = input.or(said.prompt_tokens).or(said.gemini_prompt);
        let output = said.output_tokens.or(said.completion_tokens);
        let output = output.or_else(|| sum(said.gemini_candidates, said.gemini_thoughts)).or(said.gemini_thoughts);
        let cache = said.cache();
        if input.into_iter().chain(output).chain(cache).any(|tokens| !(0.0..=MOST).contains(&tokens)) {
            return;
        }
        if input.is_some() {
            let [beside, within, written] = cache.map(|tokens| tokens as u64);
            self.cache = Cache { within, beside, written };
        }
        self.input = input.map(|tokens| tokens as u64).or(self.input);
        self.output = output.map(|tokens| tokens as u64).or(self.output);
        // OpenAI's last event has it in `response`. Anthropic's first has it in `message`, its last in neither.
        let is_anthropics_last = place == Name::Other && said.output_tokens.is_some();
        self.is_last = place == Name::Response || is_anthropics_last;
    }
}

/// Whether a whole object of an event says nothing that is looked for.
pub(super) fn says_nothing(json: &[u8]) -> bool {
    json.get(space(json, 0)) == Some(&b'{') && USAGE.find(json).is_none()
}

/// The names that matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Name {
    #[default]
    Other,
    Usage,
    /// What a stream's events wrap the answer in.
    Response,
    Message,
}

impl Name {
    #[inline]
    pub(super) fn of(text: &[u8]) -> Self {
        match text {
            b"usage" | b"usageMetadata" => Self::Usage,
            b"response" => Self::Response,
            b"message" => Self::Message,
            _ => Self::Other,
        }
    }
}
