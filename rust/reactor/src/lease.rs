//! Leaving of one's own accord, one worker at a time: the next may when the replacement of the last
//! is ready (gunicorn's `max_requests`, `reload`).

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::clock::uptime;
use crate::scoreboard::{Seat, Standing};

/// Milliseconds in which an arbiter forks the replacement of a worker that it has reaped, if it wants
/// one.
const FORKS_WITHIN: u64 = 2000;

impl Seat {
    /// Whether the worker may leave now, though nobody told it to. Who may holds the lease.
    pub fn take_leave(self) -> bool {
        let age = self.slot().age();
        let header = self.board().header();
        let holder = header.lease.load(Acquire);
        if holder == age {
            return true;
        }
        let somebody_boots = self.others().any(|s| s.standing() == Standing::Booting);
        if somebody_boots || (holder != 0 && !self.is_over(holder)) {
            return false;
        }
        let taken = header.lease.compare_exchange(holder, age, AcqRel, Relaxed);
        taken.is_ok()
    }

    /// Whether the lease of a worker that has no replacement has run out.
    fn is_over(self, holder: u64) -> bool {
        let owed_since = self.board().header().owed_since.load(Relaxed);
        self.is_gone(holder) && uptime().saturating_sub(owed_since) >= FORKS_WITHIN
    }

    fn is_gone(self, age: u64) -> bool {
        self.board().taken().all(|slot| slot.age() != age)
    }

    /// The worker has been reaped: if it had the lease, its replacement frees it.
    pub(crate) fn owe(self) {
        let header = self.board().header();
        if header.lease.load(Relaxed) == self.slot().age() {
            header.owed_since.store(uptime(), Relaxed);
        }
    }

    /// The worker is ready: if it replaces the one with the lease, the next may have it.
    pub(crate) fn replace(self) {
        let header = self.board().header();
        let holder = header.lease.load(Acquire);
        if holder != 0 && self.is_gone(holder) {
            let _ = header.lease.compare_exchange(holder, 0, Release, Relaxed);
        }
    }
}
