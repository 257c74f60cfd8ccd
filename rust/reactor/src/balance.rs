//! An even share of the connections for each worker.
//!
//! The kernel gives a new connection to the first of the workers that wait, always in the same order.
//! So a worker that has more connections than another lets go of the listeners for a moment, and comes
//! back behind the others. It never declines what it was woken for: nobody else was.

use std::time::Duration;

use crate::accept::Accepting;
use crate::reactor::Reactor;
use crate::scoreboard::{FULL, Seat};
use crate::timers::TimerKey;

/// Connections that a worker may have more than the one with the fewest.
const LEAD: u64 = 1;
/// How long it lets the others come first.
const STAND_BACK: Duration = Duration::from_millis(5);

impl Reactor {
    /// The connections are to be shared evenly with the workers on the same board, which accept from
    /// the same listeners.
    pub fn sit(&mut self, seat: Seat) {
        self.seat = Some(seat);
    }

    /// Whether another worker had better take the next connection.
    pub(crate) fn leads(&self) -> bool {
        let own = self.clients.len() as u64;
        let fewest = self.seat.and_then(|seat| seat.fewest(self.clock.uptime()));
        fewest.is_some_and(|fewest| own > fewest + LEAD)
    }

    /// Lets the others come first.
    pub(crate) fn stand_back(&mut self) {
        self.unwatch_listeners();
        self.accepting = Accepting::StandingBack;
        self.back_at = self.clock.after(STAND_BACK);
        self.schedule(self.back_at, TimerKey::Accept);
    }

    /// Tells the others how much this worker has to do.
    pub(crate) fn show_load(&self) {
        if let Some(seat) = self.seat {
            seat.holds(match self.accepting {
                Accepting::Open | Accepting::StandingBack => self.clients.len() as u64,
                Accepting::Idle | Accepting::Paused => FULL,
            });
        }
    }

    /// Tells the others whether this worker waits.
    pub(crate) fn show_work(&self, works: bool) {
        if let Some(seat) = self.seat {
            seat.works(works.then(|| self.clock.uptime()));
        }
    }
}
