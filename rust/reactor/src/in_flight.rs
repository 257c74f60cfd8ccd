//! The requests that are with the application, for whoever has to name them when it hangs.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::{self, Tick};
use crate::event::{ConnId, Request};
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
    /// Its connection.
    pub fn id(&self) -> ConnId {
        self.id
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

/// A place for one request: its record is written over by the next.
struct Slot {
    taken: AtomicBool,
    record: Mutex<Record>,
}

/// One slot for each request that can be with the application at once. Any thread may read it,
/// without the GIL.
#[derive(Clone)]
pub struct InFlight {
    slots: Arc<[Slot]>,
}

impl InFlight {
    /// `slots`: how many requests can be with the application at once.
    pub fn new(slots: usize) -> Self {
        let empty = || Slot {
            taken: AtomicBool::new(false),
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
        }
    }

    /// Notes that the application gets `request` in slot `slot` now.
    pub fn enter(&self, slot: usize, request: &Request) {
        if let Some(place) = self.slots.get(slot) {
            let mut record = lock(&place.record);
            record.id = request.id;
            record.started = clock::uptime();
            record.peer = request.who();
            record.method.set(request.head.method());
            record.target.set(request.head.target());
            place.taken.store(true, Relaxed);
        }
    }

    /// Notes that the request in `slot` is over.
    pub fn leave(&self, slot: usize) {
        if let Some(place) = self.slots.get(slot) {
            place.taken.store(false, Relaxed);
        }
    }

    /// Whether this request is still in flight. A later one of the same connection began later,
    /// unless this one took no time.
    pub fn holds(&self, request: &Record) -> bool {
        self.slots.iter().any(|slot| {
            let record = lock(&slot.record);
            let is_same = record.id == request.id && record.started == request.started;
            is_same && slot.taken.load(Relaxed)
        })
    }

    /// The requests in flight now, oldest first.
    pub fn snapshot(&self) -> Vec<Record> {
        let taken = |slot: &Slot| {
            let record = lock(&slot.record);
            slot.taken.load(Relaxed).then(|| record.clone())
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
