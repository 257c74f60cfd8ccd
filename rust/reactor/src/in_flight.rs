//! The requests that are with the application, for whoever has to name them when it hangs.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::event::ConnId;
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
    fn new(text: &[u8]) -> Self {
        let length = text.len().min(N);
        let mut octets = [0; N];
        octets[..length].copy_from_slice(&text[..length]);
        Self { octets, length }
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
    /// Its connection.
    pub id: ConnId,
    /// When the application got it.
    pub started: Instant,
    /// Who asked.
    pub peer: Peer,
    method: Excerpt<METHOD>,
    target: Excerpt<TARGET>,
}

impl Record {
    /// A record of a request that the application gets now.
    pub fn new(id: ConnId, peer: Peer, method: &[u8], target: &[u8]) -> Self {
        Self {
            id,
            started: Instant::now(),
            peer,
            method: Excerpt::new(method),
            target: Excerpt::new(target),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.started.elapsed().as_secs_f64();
        write!(
            f,
            "{} {} from {} for {seconds:.1} s",
            self.method, self.target, self.peer
        )
    }
}

/// One slot for each request that can be with the application at once. Any thread may read it,
/// without the GIL.
#[derive(Clone)]
pub struct InFlight {
    slots: Arc<[Mutex<Option<Record>>]>,
}

impl InFlight {
    /// `slots`: how many requests can be with the application at once.
    pub fn new(slots: usize) -> Self {
        Self {
            slots: (0..slots).map(|_| Mutex::new(None)).collect(),
        }
    }

    /// Notes that the application got `record`'s request in slot `slot`.
    pub fn enter(&self, slot: usize, record: Record) {
        if let Some(place) = self.slots.get(slot) {
            *lock(place) = Some(record);
        }
    }

    /// Notes that the request in `slot` is over.
    pub fn leave(&self, slot: usize) {
        if let Some(place) = self.slots.get(slot) {
            *lock(place) = None;
        }
    }

    /// The requests in flight now, oldest first.
    pub fn snapshot(&self) -> Vec<Record> {
        let mut records: Vec<_> = self
            .slots
            .iter()
            .filter_map(|slot| lock(slot).clone())
            .collect();
        records.sort_by_key(|record| record.started);
        records
    }
}

/// A panic elsewhere leaves a record whole: it is only ever replaced.
fn lock(slot: &Mutex<Option<Record>>) -> MutexGuard<'_, Option<Record>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
