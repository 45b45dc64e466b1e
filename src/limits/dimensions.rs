//! Limits beyond the usual two.

use std::borrow::Cow;

use super::{Limit, Unit};

/// Policies and dimensions beyond the usual two that are kept of one answer.
pub(crate) const MORE: usize = 6;
/// So many are held in place.
const FEW: usize = 2;
/// Names that need not be copied.
const USUAL: [&str; 4] = ["project-requests", "project-tokens", "input-tokens", "output-tokens"];

/// One more limit than the usual two.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Dimension {
    /// The server's own name for it: `input-tokens`, `project-tokens`, a policy's.
    pub name: Cow<'static, str>,
    /// What it counts.
    pub unit: Unit,
    /// What the answer says of it.
    pub limit: Limit,
}

/// The limits beyond the usual two that one answer tells of; at most 6. The two that OpenAI and Anthropic send take no
/// allocation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dimensions {
    few: [Option<Dimension>; FEW],
    rest: Vec<Dimension>,
}

impl Dimensions {
    /// In the order in which the answer named them.
    pub fn iter(&self) -> impl Iterator<Item = &Dimension> {
        self.few.iter().flatten().chain(&self.rest)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.few[0].is_none()
    }

    /// The one of this name, made where it is not there yet; `None` past the most.
    pub(super) fn named(&mut self, name: &str, unit: Unit) -> Option<&mut Limit> {
        let is_it = |place: &Option<Dimension>| place.as_ref().is_none_or(|one| one.name == name);
        let Some(place) = self.few.iter().position(is_it) else { return self.beyond_few(name, unit) };
        let place = self.few.get_mut(place)?;
        Some(&mut place.get_or_insert_with(|| Dimension::new(name, unit)).limit)
    }

    #[cold]
    fn beyond_few(&mut self, name: &str, unit: Unit) -> Option<&mut Limit> {
        let place = self.rest.iter().position(|one| one.name == name).unwrap_or(self.rest.len());
        if place == self.rest.len() && place < MORE - FEW {
            self.rest.push(Dimension::new(name, unit));
        }
        self.rest.get_mut(place).map(|one| &mut one.limit)
    }
}

impl Dimension {
    fn new(name: &str, unit: Unit) -> Self {
        let usual = USUAL.into_iter().find(|usual| *usual == name);
        let name = usual.map_or_else(|| Cow::Owned(name.to_owned()), Cow::Borrowed);
        Self { name, unit, limit: Limit::default() }
    }
}
