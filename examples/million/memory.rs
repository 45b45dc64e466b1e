//! What the process holds, to the byte: whether a million calls leave anything behind.

use std::sync::{Arc, Mutex, PoisonError};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// What may remain of a run: the runtime's and the formatter's own.
const REMAINS: usize = 256 * 1024;

/// Bytes allocated and not released.
pub(crate) fn held() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// What was held before a run, and at its tenths.
#[derive(Clone)]
pub(crate) struct Watch {
    before: usize,
    tenths: Arc<Mutex<Vec<usize>>>,
}

impl Watch {
    pub(crate) fn begin() -> Self {
        Self { before: held(), tenths: Arc::default() }
    }

    /// Another tenth is over: what is held now.
    pub(crate) fn look(&self) -> usize {
        let now = held();
        self.tenths.lock().unwrap_or_else(PoisonError::into_inner).push(now);
        now
    }

    /// What is wrong with it, once all is over: it must not grow on the way, and nothing may be left.
    pub(crate) fn fault(&self) -> Option<String> {
        let left = held().saturating_sub(self.before);
        let tenths = self.tenths.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (early, late) = tenths.split_at(tenths.len() / 2);
        let most = |part: &[usize]| part.iter().max().map_or(0, |most| most.saturating_sub(self.before));
        if left > REMAINS {
            return Some(format!("{left} bytes are left"));
        }
        let (early, late) = (most(early), most(late));
        (late > early + early / 2 + REMAINS).then(|| format!("the memory grew from {early} to {late} bytes"))
    }
}
