//! How many tokens a byte of a request is, learned from what the answers say.

use super::{
    cost::Cost,
    demand::{Demand, Tokens},
};

/// A byte of JSON is about a quarter of a token of English text; held until an answer says otherwise.
/// Source: <https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them>.
const FIRST: f64 = 0.25;
/// What is kept of all earlier answers when a new one comes: the last 20 count most.
const KEPT: f64 = 0.95;
/// A token a byte is the most that any text has; of what is mostly an image there are few.
const MOST: f64 = 1.0;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    tokens: f64,
    bytes: f64,
}

impl Rate {
    pub(super) fn tokens(self, bytes: u32) -> f64 {
        let rate = if self.bytes > 0.0 { (self.tokens / self.bytes).min(MOST) } else { FIRST };
        f64::from(bytes) * rate
    }

    pub(super) fn cost(self, demand: Demand) -> Cost {
        let reckoned = self.tokens(demand.bytes);
        match demand.tokens {
            Tokens::Output(most) => Cost::of_tokens(reckoned, f64::from(most)),
            Tokens::Apart(input, output) => Cost::of_tokens(f64::from(input), f64::from(output)),
            Tokens::Together(all) if demand.bytes == 0 => Cost::of_either(f64::from(all)),
            Tokens::Together(all) => {
                let input = reckoned.min(f64::from(all));
                Cost::of_tokens(input, f64::from(all) - input)
            }
        }
    }

    /// A body of so many bytes was so many tokens.
    pub(super) fn learn(&mut self, bytes: u32, tokens: u64) {
        if bytes > 0 {
            self.tokens = self.tokens * KEPT + tokens as f64;
            self.bytes = self.bytes * KEPT + f64::from(bytes);
        }
    }
}
