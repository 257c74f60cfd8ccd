//! Who leaves when: a worker that is told to go stays until those who come instead are ready.
//!
//! On HUP gunicorn forks the new workers first and tells the old ones to go at once, ready or not
//! (`Arbiter.reload`). On a stop it tells all of them, and is not inside a reload then.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::clock::uptime;
use crate::scoreboard::{Seat, Slot, Standing};

/// What becomes of a worker that was told to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It accepts on: its successor is not ready.
    Stay,
    /// It goes.
    Leave,
    /// It serves on as if it had not been told: its successor has died, and nobody told that one to.
    Resume,
}

impl Seat {
    /// The arbiter tells the worker to leave; that it does so again and again changes nothing. A
    /// signal handler may call this.
    pub fn dismiss(self) -> Verdict {
        let slot = self.slot();
        let header = self.board().header();
        header.dismissed.fetch_max(slot.age(), Relaxed);
        if slot.step(Standing::Booting, Standing::Dismissed) || !self.is_old(slot) {
            return Verdict::Leave;
        }
        if slot.standing() == Standing::Ready {
            let forked = header.newest.load(Relaxed) + 1 - header.reload.load(Relaxed);
            slot.expected.store(forked, Relaxed);
            slot.told_at.store(uptime(), Relaxed);
            slot.stand(Standing::Staying);
        }
        match self.weigh() {
            Verdict::Leave => Verdict::Leave,
            // That it serves on is found by the next look.
            Verdict::Stay | Verdict::Resume => Verdict::Stay,
        }
    }

    /// What a worker that [stays](Standing::Staying) does next, with `patience` for its successor.
    pub fn verdict(self, patience: Duration) -> Verdict {
        let slot = self.slot();
        let verdict = self.weigh();
        match verdict {
            Verdict::Leave => {}
            Verdict::Resume => {
                let first = self.board().header().reload.load(Relaxed);
                slot.since.store(first, Relaxed);
                slot.stand(Standing::Ready);
            }
            Verdict::Stay => {
                let waited = uptime().saturating_sub(slot.told_at.load(Relaxed));
                if u128::from(waited) >= patience.as_millis() {
                    return Verdict::Leave;
                }
            }
        }
        verdict
    }

    /// The oldest leaves when one of the new workers is ready, the next when two are, and so on: as
    /// many accept all the time as will in the end.
    fn weigh(self) -> Verdict {
        let slot = self.slot();
        let needed = slot.rank.load(Relaxed).min(slot.expected.load(Relaxed));
        let header = self.board().header();
        let new = || {
            let first = header.reload.load(Relaxed);
            self.others().filter(move |other| other.age() >= first)
        };
        let standing = |wanted| new().filter(|other| other.standing() == wanted).count() as u64;
        let ready = standing(Standing::Ready);
        if slot.standing() != Standing::Staying || ready >= needed {
            Verdict::Leave
        } else if ready + standing(Standing::Booting) >= needed {
            Verdict::Stay
        } else if header.dismissed.load(Relaxed) >= header.newest.load(Relaxed) {
            // Somebody who tells everybody also tells the youngest of all.
            Verdict::Leave
        } else if new().count() as u64 >= needed {
            // One was told to leave, and has not gone yet: others may be about to be told.
            Verdict::Stay
        } else {
            Verdict::Resume
        }
    }

    /// Whether a reload has brought workers that come instead of this one.
    pub(crate) fn is_old(self, slot: &Slot) -> bool {
        slot.since.load(Relaxed) < self.board().header().reload.load(Relaxed)
    }

    /// Whether it is there only because those who were to come instead died.
    pub(crate) fn has_resumed(self) -> bool {
        self.slot().since.load(Relaxed) != self.slot().age()
    }
}
