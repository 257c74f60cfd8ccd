//! The requests that are with the application, for whoever has to name them when it hangs.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::{self, Tick};
use crate::event::{ConnId, Request};
use crate::figures::Tally;
use crate::peer::Peer;

/// Octets of a method and of a target that a record keeps: enough to recognise them by.
const METHOD: usize = 16;
const TARGET: usize = 200;

/// Text cut to a fixed room, so that a record never allocates.
#[derive(Clone, Copy)]
struct Excerpt<const N: usize> {
    octets: [u8; N],
    length: usize,
}

impl<const N: usize> Excerpt<N> {
    const EMPTY: Self = Self {
        octets: [0; N],
        length: 0,
    };

    fn set(&mut self, text: &[u8]) {
        self.length = text.len().min(N);
        self.octets[..self.length].copy_from_slice(&text[..self.length]);
    }
}

impl<const N: usize> fmt::Display for Excerpt<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.octets[..self.length].escape_ascii().fmt(f)
    }
}

/// One request in flight.
#[derive(Clone)]
pub struct Record {
    id: ConnId,
    started: Tick,
    peer: Peer,
    method: Excerpt<METHOD>,
    target: Excerpt<TARGET>,
}

impl Record {
    fn is(&self, other: &Self) -> bool {
        self.id == other.id && self.started == other.started
    }

    /// Its connection.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// Whether its answer has no body (RFC 9110 9.3.2).
    pub fn is_head(&self) -> bool {
        self.method.octets[..self.method.length] == *b"HEAD"
    }

    /// When the application got it, in milliseconds of [`uptime`](crate::uptime).
    pub fn started(&self) -> u64 {
        self.started
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = clock::uptime().saturating_sub(self.started) as f64 / 1000.0;
        write!(
            f,
            "{} {} from {} for {seconds:.1} s",
            self.method, self.target, self.peer
        )
    }
}

/// Whose request is in a slot, and whether its client still waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fate {
    /// Nobody's.
    Over = 0,
    /// The application has it.
    Open = 1,
    /// The application has answered it, and has not come back from `close()`.
    Answered = 2,
    /// The application has taken its socket over, and may keep it.
    TakenOver = 3,
    /// The application has it still, but an answer of ours has left.
    Denied = 4,
    /// The application has it still, but its connection was ended.
    Ended = 5,
}

impl Fate {
    fn of(value: u8) -> Self {
        match value {
            1 => Self::Open,
            2 => Self::Answered,
            3 => Self::TakenOver,
            4 => Self::Denied,
            5 => Self::Ended,
            _ => Self::Over,
        }
    }

    /// Whether the request was taken from the application, which may never come back.
    pub fn is_cut(self) -> bool {
        matches!(self, Self::Denied | Self::Ended)
    }
}

/// A place for one request: its record is written over by the next.
struct Slot {
    fate: AtomicU8,
    record: Mutex<Record>,
}

impl Slot {
    fn fate(&self) -> Fate {
        Fate::of(self.fate.load(SeqCst))
    }

    fn step(&self, from: Fate, to: Fate) -> bool {
        let (from, to) = (from as u8, to as u8);
        self.fate.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }
}

/// One slot for each request that can be with the application at once. Any thread may read it,
/// without the GIL.
#[derive(Clone)]
pub struct InFlight {
    slots: Arc<[Slot]>,
    tally: Option<Tally>,
}

impl InFlight {
    /// `slots`: how many requests can be with the application at once. With `tally` they are counted.
    pub fn new(slots: usize, tally: Option<Tally>) -> Self {
        let empty = || Slot {
            fate: AtomicU8::new(Fate::Over as u8),
            record: Mutex::new(Record {
                id: ConnId::NOBODY,
                started: 0,
                peer: Peer::Unix(Box::default()),
                method: Excerpt::EMPTY,
                target: Excerpt::EMPTY,
            }),
        };
        Self {
            slots: (0..slots).map(|_| empty()).collect(),
            tally,
        }
    }

    /// How many slots there are.
    pub fn places(&self) -> usize {
        self.slots.len()
    }

    /// Notes that the application gets `request` in slot `slot` now.
    #[inline(always)] // Greenlets are its second caller, and must not cost the first one a call.
    pub fn enter(&self, slot: usize, request: &Request) {
        if let Some(place) = self.slots.get(slot) {
            let started = match self.tally {
                Some(tally) => tally.begin(slot, request.queued.since()),
                None => request.started,
            };
            let mut record = lock(&place.record);
            record.id = request.id;
            record.started = started;
            record.peer = request.who();
            record.method.set(request.head.method());
            record.target.set(request.head.target());
            place.fate.store(Fate::Open as u8, SeqCst);
        }
    }

    /// Notes that the request in `slot` is over; says what had become of it until then.
    pub fn leave(&self, slot: usize) -> Fate {
        let Some(place) = self.slots.get(slot) else {
            return Fate::Over;
        };
        if let Some(tally) = self.tally {
            tally.end(slot);
        }
        Fate::of(place.fate.swap(Fate::Over as u8, SeqCst))
    }

    /// What has become of the request in `slot`.
    pub fn fate(&self, slot: usize) -> Fate {
        self.slots.get(slot).map_or(Fate::Over, Slot::fate)
    }

    /// Notes that the request in `slot` was answered, unless it was taken from the application.
    pub fn answered(&self, slot: usize) {
        if let Some(place) = self.slots.get(slot) {
            place.step(Fate::Open, Fate::Answered);
        }
    }

    /// Notes that the request on `id` has become something else than HTTP.
    pub fn taken_over(&self, id: ConnId) {
        for slot in &*self.slots {
            let record = lock(&slot.record);
            if record.id == id && slot.step(Fate::Open, Fate::TakenOver) {
                return;
            }
        }
    }

    /// What has become of `request`. A later one of the same connection began later, unless this
    /// one took no time.
    pub fn fate_of(&self, request: &Record) -> Fate {
        let mut slots = self.slots.iter();
        let found = slots.find(|slot| lock(&slot.record).is(request));
        found.map_or(Fate::Over, Slot::fate)
    }

    /// Notes that `request`, which is as `from` says, is as `to` says; `false` where it is not.
    pub fn step(&self, request: &Record, from: Fate, to: Fate) -> bool {
        self.slots
            .iter()
            .any(|slot| lock(&slot.record).is(request) && slot.step(from, to))
    }

    /// The requests in flight now, oldest first.
    pub fn snapshot(&self) -> Vec<Record> {
        let taken = |slot: &Slot| {
            let record = lock(&slot.record);
            (slot.fate() != Fate::Over).then(|| record.clone())
        };
        let mut records: Vec<_> = self.slots.iter().filter_map(taken).collect();
        records.sort_by_key(|record| record.started);
        records
    }
}

/// A panic elsewhere leaves a record whole enough to be shown: it is only ever written over.
fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}
