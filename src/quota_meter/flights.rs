//! The calls that were let go, by number.

use super::{cost::Cost, moment::Moment};

/// A call that was let go, by its place.
pub(super) type FlightId = u32;

/// A call that was let go.
#[derive(Clone, Copy, Debug)]
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
}

impl Flight {
    #[inline]
    pub(super) fn new(cost: Cost, epoch: u64, left: Option<Moment>, mark: Cost) -> Self {
        Self { cost, epoch, left, mark, probe: false, looks: false, anew: false }
    }
}

/// Places are used again, so that a call costs no allocation. Who holds a number takes it out once.
#[derive(Debug, Default)]
pub(super) struct Flights {
    places: Vec<Flight>,
    free: Vec<FlightId>,
}

impl Flights {
    #[inline]
    pub(super) fn add(&mut self, flight: Flight) -> FlightId {
        if let Some(id) = self.free.pop()
            && let Some(place) = self.places.get_mut(id as usize)
        {
            *place = flight;
            return id;
        }
        self.places.push(flight);
        // There are never more of them than the window, which is a u32.
        (self.places.len() - 1) as FlightId
    }

    #[inline]
    pub(super) fn take(&mut self, id: FlightId) -> Option<Flight> {
        let flight = *self.places.get(id as usize)?;
        self.free(id);
        Some(flight)
    }

    /// It has ended.
    #[inline]
    pub(super) fn free(&mut self, id: FlightId) {
        self.free.push(id);
    }

    pub(super) fn get(&self, id: FlightId) -> Option<&Flight> {
        self.places.get(id as usize)
    }

    pub(super) fn get_mut(&mut self, id: FlightId) -> Option<&mut Flight> {
        self.places.get_mut(id as usize)
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
