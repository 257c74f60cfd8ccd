//! Who leaves when: a worker that is told to go stays until those who come instead are ready.
//!
//! On HUP gunicorn forks the new workers first and tells the old ones to go at once, ready or not
//! (`Arbiter.reload`). On a stop it tells all of them.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::clock::uptime;
use crate::scoreboard::{Seat, Slot, Standing};

/// What becomes of a worker that was told to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It accepts on: its successors are not ready.
    Stay,
    /// It goes.
    Leave,
    /// It serves on as if it had not been told: all its successors have died, and nobody told them
    /// to.
    Resume,
}

/// The workers that come instead, as far as nobody has told them to leave.
#[derive(Default)]
struct Successors {
    booting: usize,
    ready: usize,
}

impl Seat {
    /// The arbiter tells the worker to leave; that it does so again and again changes nothing. A
    /// signal handler may call this. What has to be done at once: stay or leave.
    pub fn dismiss(self) -> Verdict {
        let slot = self.slot();
        let header = self.board().header();
        header.dismissed.fetch_max(slot.age(), Relaxed);
        if slot.step(Standing::Booting, Standing::Dismissed) {
            return Verdict::Leave;
        }
        if slot.standing() == Standing::Ready {
            // Where the arbiter was told to have one more worker and then one less (TTIN, TTOU), the
            // one more is of this generation.
            let horizon = self.younger().filter(|s| s.standing() == Standing::Booting);
            let horizon = horizon.map(Slot::age).min();
            slot.horizon.store(horizon.unwrap_or(u64::MAX), Relaxed);
            slot.told_at.store(uptime(), Relaxed);
            slot.stand(Standing::Staying);
        }
        let Successors { booting, ready } = self.successors();
        if slot.standing() != Standing::Staying || booting + ready == 0 {
            return Verdict::Leave;
        }
        self.weigh(booting)
    }

    /// What a worker that [stays](Standing::Staying) does next, with `patience` for its successors.
    pub fn verdict(self, patience: Duration) -> Verdict {
        let slot = self.slot();
        let Successors { booting, ready } = self.successors();
        if booting + ready == 0 {
            let header = self.board().header();
            // On a stop the youngest of all is told.
            if header.dismissed.load(Relaxed) >= header.newest.load(Relaxed) {
                return Verdict::Leave;
            }
            slot.step(Standing::Staying, Standing::Ready);
            return Verdict::Resume;
        }
        let waited = uptime().saturating_sub(slot.told_at.load(Relaxed));
        if u128::from(waited) >= patience.as_millis() {
            return Verdict::Leave;
        }
        self.weigh(booting)
    }

    /// The oldest leaves when one successor is ready, the next when two are, and so on: as many
    /// accept all the time as will in the end.
    fn weigh(self, booting: usize) -> Verdict {
        let after = self
            .younger()
            .filter(|slot| slot.standing().accepts() && !self.is_successor(slot));
        if booting <= after.count() {
            Verdict::Leave
        } else {
            Verdict::Stay
        }
    }

    fn successors(self) -> Successors {
        let mut successors = Successors::default();
        for slot in self.younger().filter(|slot| self.is_successor(slot)) {
            match slot.standing() {
                Standing::Booting => successors.booting += 1,
                Standing::Ready => successors.ready += 1,
                _ => {}
            }
        }
        successors
    }

    fn is_successor(self, other: &Slot) -> bool {
        let slot = self.slot();
        let told = matches!(
            other.standing(),
            Standing::Dismissed | Standing::Staying | Standing::Leaving
        );
        let comes_instead =
            other.generation() > slot.generation() || other.age() >= slot.horizon.load(Relaxed);
        !told && comes_instead
    }

    fn younger(self) -> impl Iterator<Item = &'static Slot> {
        let age = self.slot().age();
        self.others().filter(move |slot| slot.age() > age)
    }
}
