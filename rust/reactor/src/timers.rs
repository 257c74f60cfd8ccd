//! Timers: a heap of what is due, cancelled lazily.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

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
    /// Those of the caller's that were not cancelled.
    wanted: HashSet<TimerId>,
    last: u64,
}

impl Timers {
    /// A name for a timer of the caller's, which it wants until it cancels it or it is due.
    pub(crate) fn name(&mut self) -> TimerId {
        self.last += 1;
        let id = TimerId(self.last);
        self.wanted.insert(id);
        id
    }

    /// The caller does not want its timer any more; whether it did.
    pub(crate) fn cancel(&mut self, id: TimerId) -> bool {
        self.wanted.remove(&id)
    }

    /// Whether the caller wants this timer.
    pub(crate) fn is_wanted(&self, id: TimerId) -> bool {
        self.wanted.contains(&id)
    }

    /// How many timers the caller wants.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted.len()
    }

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

    /// Drops the entries that no longer count; a connection's are judged by `counts`.
    pub(crate) fn retain(&mut self, counts: impl Fn(Tick, ConnId) -> bool) {
        let wanted = &self.wanted;
        self.heap.retain(|Reverse((at, key))| match key {
            TimerKey::Client(id) => counts(*at, *id),
            TimerKey::User(id) => wanted.contains(id),
            TimerKey::Accept => true,
        });
    }

    pub(crate) fn next(&self) -> Option<Tick> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}
