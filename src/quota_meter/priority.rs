//! [`Priority`]: who goes first where calls wait.

/// How urgent a request is.
///
/// A request extension; without it a request is [`Normal`](Self::Normal). Where calls wait, the most urgent go first, and
/// among equals those that came first. None starves: while calls of a class wait, at least each tenth turn is theirs,
/// so that a flood of urgent ones slows the others down to a tenth of the quota, and no further. A class in turn is waited for,
/// however large its call.
///
/// ```
/// use tower_outbound::quota_meter::Priority;
///
/// # fn main() -> Result<(), http::Error> {
/// let mut request = http::Request::post("https://api.example/v1/chat/completions").body(())?;
/// request.extensions_mut().insert(Priority::Batch);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Priority {
    /// Somebody waits for the answer.
    Interactive,
    /// What is said of most calls: nothing.
    #[default]
    Normal,
    /// It is enough to have the answer some time.
    Batch,
}

impl Priority {
    pub(super) const fn class(self) -> u8 {
        match self {
            Self::Interactive => 0,
            Self::Normal => 1,
            Self::Batch => 2,
        }
    }
}

/// How many classes there are.
const CLASSES: usize = 3;
/// How many turns go to others while one of a class waits; the next is its own.
const PASSED_OVER: u8 = 9;

/// How many turns went to others since each class had one, while one of it waited.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turns([u8; CLASSES]);

impl Turns {
    /// The classes below `class` that must not be passed over any more.
    pub(super) fn due_below(&self, class: u8) -> impl Iterator<Item = u8> + '_ {
        (class.saturating_add(1)..CLASSES as u8).filter(|below| self.0[usize::from(*below)] >= PASSED_OVER)
    }

    /// Whether others have gone before this class.
    pub(super) fn owed(&self, class: u8) -> bool {
        self.0.get(usize::from(class)).is_some_and(|passed| *passed > 0)
    }

    /// One of `class` has its turn; `waits` says of which other classes one waits.
    pub(super) fn taken(&mut self, class: u8, waits: impl Fn(u8) -> bool) {
        for (other, passed) in (0..).zip(&mut self.0) {
            *passed = if other == class || !waits(other) { 0 } else { passed.saturating_add(1) };
        }
    }
}
