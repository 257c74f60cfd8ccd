//! Timers: a heap of what is due, cancelled lazily.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::clock::Tick;
use crate::event::{ConnId, TimerId};

/// What a due timer concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKey {
    /// A connection's deadline; the connection knows whether it still holds.
    Client(ConnId),
    /// Accepting may be tried again.
    Accept,
    /// A timer of the caller's.
    User(TimerId),
}

/// An entry is never removed before it is due: whoever set it says then whether it still counts.
/// So moving a keep-alive deadline on at each request costs nothing here.
#[derive(Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Tick, TimerKey)>>,
}

impl Timers {
    pub(crate) fn insert(&mut self, at: Tick, key: TimerKey) {
        self.heap.push(Reverse((at, key)));
    }

    /// The earliest entry, if it is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Tick) -> Option<(Tick, TimerKey)> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// How many entries there are, stale ones included.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Drops the entries that no longer count.
    pub(crate) fn retain(&mut self, counts: impl Fn(Tick, TimerKey) -> bool) {
        self.heap.retain(|Reverse((at, key))| counts(*at, *key));
    }

    pub(crate) fn next(&self) -> Option<Tick> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}
