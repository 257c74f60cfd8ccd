//! What the workers of one arbiter know of each other: a slot for each in memory that they share.
//!
//! The arbiter makes the board before it forks, and a slot before each fork; it frees a slot when it
//! has reaped the worker, so that one killed at any instruction leaves nothing behind. There are
//! atomics only. While a worker lives it alone writes to its slot, but for its rank, which is the
//! arbiter's to give.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::clock::uptime;
use crate::figures::{Counter, Figures, Totals};
use crate::sys;

/// Workers that there can be at once, those that leave included. A worker beyond has a board of its
/// own.
const CAPACITY: usize = 1024;

/// The number of connections of a worker that takes no more.
pub(crate) const FULL: u64 = u64::MAX;
/// Milliseconds after which a worker that has not looked again is stuck in its application.
const STUCK: u64 = 10;

/// Where a worker is between its fork and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Standing {
    /// Nobody's slot. Zero, as fresh memory is.
    Free = 0,
    /// Forked, or about to be; it loads its application.
    Booting = 1,
    /// Told to leave while it was booting: it will never be ready.
    Dismissed = 2,
    /// It accepts.
    Ready = 3,
    /// Told to leave; it accepts until its successors do.
    Staying = 4,
    /// It accepts no more.
    Leaving = 5,
}

impl Standing {
    fn of(value: u32) -> Self {
        match value {
            1 => Self::Booting,
            2 => Self::Dismissed,
            3 => Self::Ready,
            4 => Self::Staying,
            5 => Self::Leaving,
            _ => Self::Free,
        }
    }

    /// Whether it takes new connections.
    pub fn accepts(self) -> bool {
        matches!(self, Self::Ready | Self::Staying)
    }
}

/// A line of the processor's cache, and the one that it fetches along, belong to one worker.
#[repr(C, align(128))]
pub(crate) struct Slot {
    standing: AtomicU32,
    /// gunicorn's number of the worker: each is greater than all before it.
    age: AtomicU64,
    /// When it was forked, in milliseconds since the machine began.
    pub(crate) forked_at: AtomicU64,
    /// Workers from this age on came with the settings that this one serves with: its own age, or
    /// that of the first of a reload which failed.
    pub(crate) since: AtomicU64,
    /// Its place, from 1, among those that the last reload found.
    pub(crate) rank: AtomicU64,
    /// How many workers the reload brings that it was told to leave for.
    pub(crate) expected: AtomicU64,
    /// When it was told to leave, in milliseconds since the machine began.
    pub(crate) told_at: AtomicU64,
    /// Connections that it has; [`FULL`] while it takes no more.
    connections: AtomicU64,
    /// When its loop last began to do something, in milliseconds since the machine began; 0 while it
    /// waits.
    busy_since: AtomicU64,
}

impl Slot {
    pub(crate) fn standing(&self) -> Standing {
        Standing::of(self.standing.load(Ordering::Acquire))
    }

    pub(crate) fn stand(&self, standing: Standing) {
        self.standing.store(standing as u32, Ordering::Release);
    }

    /// Whether it stood `from`, and stands `to` now.
    pub(crate) fn step(&self, from: Standing, to: Standing) -> bool {
        let (from, to) = (from as u32, to as u32);
        self.standing
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    pub(crate) fn age(&self) -> u64 {
        self.age.load(Ordering::Relaxed)
    }

    /// Its connections, if it would take another one soon.
    fn open_to(&self, now: u64) -> Option<u64> {
        let since = self.busy_since.load(Ordering::Relaxed);
        let connections = self.connections.load(Ordering::Relaxed);
        let looks = since == 0 || now.saturating_sub(since) <= STUCK;
        (looks && connections != FULL && self.standing().accepts()).then_some(connections)
    }
}

/// What belongs to all.
#[repr(C, align(128))]
pub(crate) struct Header {
    /// Slots that were ever taken are before this one.
    used: AtomicU64,
    /// The age of the first worker of the last reload, or of the start.
    pub(crate) reload: AtomicU64,
    /// The age of the youngest worker there has been.
    pub(crate) newest: AtomicU64,
    /// The age of the youngest that was told to leave.
    pub(crate) dismissed: AtomicU64,
    /// The age of the worker that leaves of its own accord, until its replacement is ready; or 0.
    pub(crate) lease: AtomicU64,
    /// When the worker with the lease was reaped, in milliseconds since the machine began.
    pub(crate) owed_since: AtomicU64,
    /// Workers that there have been.
    pub(crate) started: AtomicU64,
    /// Odd while the arbiter moves the totals of a worker that has ended.
    pub(crate) moves: AtomicU64,
}

/// The shared memory. It is all zero at first, which means that every slot is free.
#[repr(C)]
pub(crate) struct Memory {
    pub(crate) header: Header,
    slots: [Slot; CAPACITY],
    /// What the workers have counted that there are no more.
    ended: Totals<Counter>,
    /// Those of the worker that has the slot of the same number.
    figures: [Figures; CAPACITY],
}

/// The board of one arbiter.
#[derive(Clone, Copy)]
pub struct Scoreboard {
    memory: &'static Memory,
}

impl Scoreboard {
    /// Makes a board that is shared with every process forked from now on, and is there until they
    /// all have ended.
    ///
    /// # Errors
    ///
    /// When there is no memory for it.
    pub fn new() -> io::Result<Self> {
        let memory = sys::shared_memory()?;
        Ok(Self { memory })
    }

    /// The arbiter has read its settings: the workers from `age` on come with them. For the arbiter,
    /// which has one thread.
    pub fn reload(self, age: u64) {
        let mut old: Vec<&Slot> = self
            .taken()
            .filter(|slot| slot.standing() != Standing::Leaving)
            .collect();
        old.sort_unstable_by_key(|slot| slot.age());
        for (index, slot) in old.into_iter().enumerate() {
            slot.rank.store(index as u64 + 1, Ordering::Relaxed);
        }
        self.header().newest.fetch_max(age, Ordering::Relaxed);
        self.header().reload.store(age, Ordering::Relaxed);
    }

    /// A seat for the worker that is about to be forked. For the arbiter. `age` must be more than 0.
    ///
    /// # Errors
    ///
    /// When no seat is free, and there is no memory for another board.
    pub fn enrol(self, age: u64) -> io::Result<Seat> {
        let slots = &self.memory.slots;
        let Some(index) = slots.iter().position(|s| s.standing() == Standing::Free) else {
            return Self::new()?.enrol(age);
        };
        let slot = &slots[index];
        slot.age.store(age, Ordering::Relaxed);
        slot.since.store(age, Ordering::Relaxed);
        slot.connections.store(0, Ordering::Relaxed);
        slot.busy_since.store(0, Ordering::Relaxed);
        slot.forked_at.store(uptime(), Ordering::Relaxed);
        let header = &self.memory.header;
        header.newest.fetch_max(age, Ordering::Relaxed);
        header.used.fetch_max(index as u64 + 1, Ordering::Relaxed);
        header.started.fetch_add(1, Ordering::Relaxed);
        slot.stand(Standing::Booting);
        Ok(Seat { board: self, index })
    }

    pub(crate) fn header(self) -> &'static Header {
        &self.memory.header
    }

    pub(crate) fn ended(self) -> &'static Totals<Counter> {
        &self.memory.ended
    }

    /// The slots that somebody has.
    pub(crate) fn taken(self) -> impl Iterator<Item = &'static Slot> {
        self.taken_with_figures().map(|(slot, _)| slot)
    }

    /// As [`taken`](Self::taken), with the figures of each.
    pub(crate) fn taken_with_figures(
        self,
    ) -> impl Iterator<Item = (&'static Slot, &'static Figures)> {
        let used = self.memory.header.used.load(Ordering::Relaxed) as usize;
        let slots = self.memory.slots.iter().zip(&self.memory.figures);
        slots
            .take(used)
            .filter(|(slot, _)| slot.standing() != Standing::Free)
    }
}

/// One worker's place on the board.
#[derive(Clone, Copy)]
pub struct Seat {
    board: Scoreboard,
    index: usize,
}

impl Seat {
    pub(crate) fn slot(self) -> &'static Slot {
        &self.board.memory.slots[self.index]
    }

    pub(crate) fn figures(self) -> &'static Figures {
        &self.board.memory.figures[self.index]
    }

    pub(crate) fn board(self) -> Scoreboard {
        self.board
    }

    /// Where the worker is.
    pub fn standing(self) -> Standing {
        self.slot().standing()
    }

    /// The worker accepts from now on. `false` when it was told to leave before: then it must not.
    pub fn ready(self) -> bool {
        let ready = self.slot().step(Standing::Booting, Standing::Ready);
        if ready {
            self.replace();
        }
        ready
    }

    /// The worker accepts no more.
    pub fn leaving(self) {
        self.slot().stand(Standing::Leaving);
    }

    /// The arbiter has reaped the worker.
    pub fn vacate(self) {
        self.owe();
        self.board.keep_totals(self.figures());
        self.slot().stand(Standing::Free);
    }

    /// The other workers.
    pub(crate) fn others(self) -> impl Iterator<Item = &'static Slot> {
        let own = self.slot();
        let taken = self.board.taken();
        taken.filter(move |slot| !std::ptr::eq(*slot, own))
    }

    /// The worker has so many connections, or is [`FULL`].
    pub(crate) fn holds(self, connections: u64) {
        self.slot()
            .connections
            .store(connections, Ordering::Relaxed);
    }

    /// The worker's loop waits, or is at work `since` so many milliseconds.
    pub(crate) fn works(self, since: Option<u64>) {
        let since = since.unwrap_or(0);
        self.slot().busy_since.store(since, Ordering::Relaxed);
    }

    /// The fewest connections that another worker has, of those that would take one more soon.
    pub(crate) fn fewest(self, now: u64) -> Option<u64> {
        self.others().filter_map(|slot| slot.open_to(now)).min()
    }

    /// Whether another worker accepts.
    pub fn has_company(self) -> bool {
        self.others().any(|slot| slot.standing().accepts())
    }
}
