//! Leaving of one's own accord, one worker at a time: the next may when the replacement of the last
//! is ready (gunicorn's `max_requests`, `reload`).

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use crate::clock::uptime;
use crate::scoreboard::{Seat, Slot, Standing};

impl Seat {
    /// Whether the worker may leave now, though nobody told it to. Who may holds the lease. The
    /// arbiter forks a replacement within `patience`, if it wants one.
    pub fn take_leave(self, patience: Duration) -> bool {
        let age = self.slot().age();
        let header = self.board().header();
        let holder = header.lease.load(Acquire);
        if holder == age {
            return true;
        }
        // What would replace it is known not to load.
        if self.has_resumed() {
            return false;
        }
        // Inside a reload the arbiter forks nobody else.
        let in_between = |slot: &Slot| slot.standing() == Standing::Booting || self.is_old(slot);
        if self.others().any(in_between) || (holder != 0 && !self.is_over(holder, patience)) {
            return false;
        }
        let taken = header.lease.compare_exchange(holder, age, AcqRel, Relaxed);
        taken.is_ok()
    }

    /// Whether the lease of a worker that is not replaced has run out.
    fn is_over(self, holder: u64, patience: Duration) -> bool {
        // In this order: its worker is gone when the time is right.
        let gone = self.is_gone(holder);
        let owed_since = self.board().header().owed_since.load(Acquire);
        let owed_for = uptime().saturating_sub(owed_since);
        gone && u128::from(owed_for) >= patience.as_millis()
    }

    fn is_gone(self, age: u64) -> bool {
        self.board().taken().all(|slot| slot.age() != age)
    }

    /// The worker has been reaped. If it had the lease, or was to replace who had, the arbiter owes
    /// a worker from now on.
    pub(crate) fn owe(self) {
        let header = self.board().header();
        let had_lease = header.lease.load(Acquire) == self.slot().age();
        if had_lease || self.standing() == Standing::Booting {
            header.owed_since.store(uptime(), Release);
        }
    }

    /// The worker is ready: if it replaces the one with the lease, the next may have it.
    pub(crate) fn replace(self) {
        let header = self.board().header();
        let holder = header.lease.load(Acquire);
        if holder != 0 && self.is_gone(holder) {
            let _ = header.lease.compare_exchange(holder, 0, AcqRel, Relaxed);
        }
    }
}
