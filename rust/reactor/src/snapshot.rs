//! The whole fleet at one moment, as any of its processes can read it.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::fence;
use std::time::Duration;

use crate::figures::{Doing, Figures, Totals};
use crate::scoreboard::{Scoreboard, Standing};

/// Looks at the board before it is taken as it is: the arbiter may have been stopped while it moved
/// a worker's totals.
const LOOKS: usize = 1000;

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Where it is.
    pub standing: Standing,
    /// What it is doing.
    pub doing: Doing,
}

impl Worker {
    /// Whether its loop turns: what gunicorn's `timeout` asks of its heart; `None` is for ever.
    fn turns(&self, timeout: Option<Duration>) -> bool {
        let serves = self.standing.accepts() || self.standing == Standing::Leaving;
        let in_time = |limit: Duration| u128::from(self.doing.silent) <= limit.as_millis();
        serves && timeout.is_none_or(in_time)
    }
}

/// The fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Of all workers there have been.
    pub totals: Totals<u64>,
    /// How many there have been.
    pub started: u64,
    /// Those that there are, the oldest first.
    pub workers: Vec<Worker>,
}

impl Snapshot {
    /// Whether the loop of any worker turns.
    pub fn is_alive(&self, timeout: Option<Duration>) -> bool {
        self.workers.iter().any(|worker| worker.turns(timeout))
    }

    /// Whether any worker takes new connections.
    pub fn is_ready(&self, timeout: Option<Duration>) -> bool {
        let takes = |worker: &Worker| worker.standing.accepts() && worker.turns(timeout);
        self.workers.iter().any(takes)
    }
}

impl Scoreboard {
    /// The fleet now. What only grows does so from one snapshot to the next.
    pub fn snapshot(self) -> Snapshot {
        let moves = &self.header().moves;
        for _ in 0..LOOKS {
            let before = moves.load(Acquire);
            if before.is_multiple_of(2) {
                let snapshot = self.read();
                fence(Acquire);
                if moves.load(Relaxed) == before {
                    return snapshot;
                }
            }
            std::thread::yield_now();
        }
        self.read()
    }

    fn read(self) -> Snapshot {
        let mut totals = Totals::default();
        self.ended().add_to(&mut totals);
        let mut workers = Vec::new();
        for (slot, figures) in self.taken_with_figures() {
            figures.totals.add_to(&mut totals);
            if let Some(doing) = figures.doing(slot.forked_at.load(Relaxed)) {
                let standing = slot.standing();
                workers.push((slot.age(), Worker { standing, doing }));
            }
        }
        workers.sort_by_key(|(age, _)| *age);
        Snapshot {
            totals,
            started: self.header().started.load(Relaxed),
            workers: workers.into_iter().map(|(_, worker)| worker).collect(),
        }
    }

    /// A worker has ended: what it has counted stays. For the arbiter, which has one thread.
    pub(crate) fn keep_totals(self, figures: &Figures) {
        if figures.are_new() {
            return;
        }
        let moves = &self.header().moves;
        let before = moves.load(Relaxed);
        moves.store(before.wrapping_add(1), Relaxed);
        fence(Release);
        figures.totals.move_to(self.ended());
        figures.forget();
        moves.store(before.wrapping_add(2), Release);
    }
}
