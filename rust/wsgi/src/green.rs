//! What greenlets wait for. Floor 4's hub drives the loop and switches between them; here is only kept
//! who is to be told of what. So no frame of ours ever sleeps on a stack that is switched away.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use meinheld_reactor::{ConnId, ForeignId, TimerId};
use pyo3::prelude::*;

/// Python objects, by what they wait for.
type Waiting<K> = HashMap<K, Py<PyAny>, RandomState>;

/// Who waits for what, and how many requests have begun.
#[derive(Default)]
pub(crate) struct Green {
    waits: Mutex<Waits>,
    open: AtomicUsize,
}

/// Each is handed back to the hub, once, when what it waits for has come.
#[derive(Default)]
struct Waits {
    rooms: HashMap<ConnId, Vec<Py<PyAny>>, RandomState>,
    /// Who is to know when a client goes.
    ends: Waiting<ConnId>,
    timers: Waiting<TimerId>,
    descriptors: Waiting<ForeignId>,
    /// What they wait for has come, or never will.
    arrived: VecDeque<Py<PyAny>>,
}

impl Green {
    /// Never held while Python code may run: what is freed is freed after it.
    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no request is with the application.
    pub(crate) fn is_quiet(&self) -> bool {
        self.open.load(Relaxed) == 0
    }

    pub(crate) fn begin_request(&self) {
        self.open.fetch_add(1, Relaxed);
    }

    pub(crate) fn end_request(&self) {
        self.open.fetch_sub(1, Relaxed);
    }

    /// `party` waits for room in the answer on `id`, or for its end. There may be several.
    pub(crate) fn await_room(&self, id: ConnId, party: Py<PyAny>) {
        self.waits().rooms.entry(id).or_default().push(party);
    }

    /// `party` is to know when the client goes.
    pub(crate) fn await_end(&self, id: ConnId, party: Py<PyAny>) {
        let before = self.waits().ends.insert(id, party);
        drop(before);
    }

    /// Nobody is to know that any more.
    pub(crate) fn forget_end(&self, id: ConnId) {
        let before = self.waits().ends.remove(&id);
        drop(before);
    }

    pub(crate) fn await_timer(&self, id: TimerId, party: Py<PyAny>) {
        let before = self.waits().timers.insert(id, party);
        drop(before);
    }

    pub(crate) fn await_descriptor(&self, id: ForeignId, party: Py<PyAny>) {
        let before = self.waits().descriptors.insert(id, party);
        drop(before);
    }

    /// There is room in the answer on `id`.
    pub(crate) fn has_room(&self, id: ConnId) {
        let waits = &mut *self.waits();
        waits
            .arrived
            .extend(waits.rooms.remove(&id).into_iter().flatten());
    }

    /// The client of `id` has gone.
    pub(crate) fn has_gone(&self, id: ConnId) {
        self.has_room(id);
        let waits = &mut *self.waits();
        waits.arrived.extend(waits.ends.remove(&id));
    }

    /// The request on `id` is over: whoever waits for room looks once more.
    pub(crate) fn is_over(&self, id: ConnId) {
        self.forget_end(id);
        self.has_room(id);
    }

    /// The next of those that what they waited for has come for.
    pub(crate) fn arrived(&self) -> Option<Py<PyAny>> {
        self.waits().arrived.pop_front()
    }

    /// Whether there are any.
    pub(crate) fn has_arrived(&self) -> bool {
        !self.waits().arrived.is_empty()
    }

    /// Who waits for this timer, if anybody does.
    pub(crate) fn timer(&self, id: TimerId) -> Option<Py<PyAny>> {
        self.waits().timers.remove(&id)
    }

    /// Who waits for this descriptor, if anybody does.
    pub(crate) fn descriptor(&self, id: ForeignId) -> Option<Py<PyAny>> {
        self.waits().descriptors.remove(&id)
    }

    /// Nobody waits any more; gives those who waited for room, which other threads may.
    pub(crate) fn forget(&self) -> Vec<Py<PyAny>> {
        let mut waits = std::mem::take(&mut *self.waits());
        waits
            .arrived
            .drain(..)
            .chain(waits.rooms.drain().flat_map(|(_, all)| all))
            .collect()
    }
}
