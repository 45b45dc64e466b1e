//! The calls that were let go, by number.

use super::{cost::Cost, moment::Moment};

/// A call that was let go, by its place.
pub(super) type FlightId = u32;

/// No place.
const NONE: FlightId = FlightId::MAX;

/// A call that was let go. In whole cache lines, so that two threads do not write to the same one.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Flight {
    pub(super) cost: Cost,
    /// The gate's epoch when it left: a 429 closes the gate only if nothing closed it since.
    pub(super) epoch: u64,
    /// `None` if nobody looked at the clock.
    pub(super) left: Option<Moment>,
    /// What had been sent in all when it left, itself included: all that the server can have counted by then.
    pub(super) mark: Cost,
    pub(super) probe: bool,
    /// It left to look whether a quota that was used up is back.
    pub(super) looks: bool,
    /// It left to look whether the limits are still what they were.
    pub(super) anew: bool,
    /// Once it has ended, the free place after this one.
    next: FlightId,
}

impl Flight {
    #[inline]
    pub(super) fn new(cost: Cost, epoch: u64, left: Option<Moment>, mark: Cost) -> Self {
        Self { cost, epoch, left, mark, probe: false, looks: false, anew: false, next: NONE }
    }
}

/// Places are used again, so that a call costs no allocation. Who holds a number frees it once.
#[derive(Debug)]
pub(super) struct Flights {
    places: Vec<Flight>,
    /// The free place that was used last: it lies nearest.
    free: FlightId,
    len: u32,
}

impl Default for Flights {
    fn default() -> Self {
        Self { places: Vec::new(), free: NONE, len: 0 }
    }
}

impl Flights {
    #[inline(always)]
    pub(super) fn add(&mut self, flight: Flight) -> FlightId {
        if self.free == NONE {
            self.grow();
        }
        self.len += 1;
        let id = self.free;
        if let Some(place) = self.places.get_mut(id as usize) {
            self.free = place.next;
            *place = flight;
        }
        id
    }

    /// Makes one free place.
    #[cold]
    fn grow(&mut self) {
        // There are never more of them than the window, which is a u32.
        self.free = self.places.len() as FlightId;
        self.places.push(Flight::new(Cost::ZERO, 0, None, Cost::ZERO));
    }

    #[inline(always)]
    pub(super) fn take(&mut self, id: FlightId) -> Option<Flight> {
        let flight = *self.get(id)?;
        self.free(id);
        Some(flight)
    }

    /// It has ended.
    #[inline]
    pub(super) fn free(&mut self, id: FlightId) {
        if let Some(place) = self.places.get_mut(id as usize) {
            place.next = self.free;
            self.free = id;
            self.len -= 1;
        }
    }

    pub(super) fn get(&self, id: FlightId) -> Option<&Flight> {
        self.places.get(id as usize)
    }

    pub(super) fn get_mut(&mut self, id: FlightId) -> Option<&mut Flight> {
        self.places.get_mut(id as usize)
    }

    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}
