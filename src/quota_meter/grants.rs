//! Who was let go and has not come for it yet, in order.

use std::collections::VecDeque;

use super::{core::WaiterId, flights::FlightId, moment::Moment};

/// One that was let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) waiter: WaiterId,
    pub(super) flight: FlightId,
    pub(super) at: Moment,
}

/// Grants in order. One that is taken stays until all before it are, or their time is over.
#[derive(Debug, Default)]
pub(super) struct Grants(VecDeque<Grant>);

impl Grants {
    pub(super) fn push(&mut self, grant: Grant) {
        self.0.push_back(grant);
    }

    /// The first that still is one.
    pub(super) fn first(&mut self, is_untaken: impl Fn(Grant) -> bool) -> Option<Grant> {
        while let Some(grant) = self.0.front() {
            if is_untaken(*grant) {
                return Some(*grant);
            }
            self.0.pop_front();
        }
        None
    }
}
