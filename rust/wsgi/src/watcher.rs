//! The thread that calls back when a client disconnects while its request is in flight.
//!
//! It is there from the first registration on, and sleeps in the kernel until a client has closed
//! its side or gone: registering and forgetting do not wake it. Callbacks are called one after another,
//! attached to the interpreter, which the thread is at no other time.
//!
//! The process ends without it. Once the loop has ended it attaches no more, so that only a callback
//! that is still running could be in the way of an interpreter that is being taken down.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use foldhash::fast::RandomState;
use meinheld_reactor::block_signals;
use pyo3::prelude::*;
use rustix::event::epoll;

use crate::exchange::Exchange;

/// Clients that are reported at once, at most.
const BATCH: usize = 16;

/// One request, and who wants to know of its client's end.
pub(crate) struct Watched {
    /// A duplicate: the connection may be closed meanwhile, and its number be another's.
    socket: OwnedFd,
    exchange: Arc<Exchange>,
    callbacks: Vec<Py<PyAny>>,
}

/// The name of a [`Watched`]; never used again.
pub(crate) type WatchId = u64;

/// The name of none.
pub(crate) const NOBODY: WatchId = 0;

#[derive(Default)]
struct Watch {
    /// `None` before the first registration.
    epoll: Option<Arc<OwnedFd>>,
    requests: HashMap<WatchId, Watched, RandomState>,
    last: WatchId,
    /// The thread is attached, or about to be.
    calls: bool,
    /// Nothing is called any more.
    closed: bool,
}

impl Watch {
    fn take(&mut self, id: WatchId) -> Option<Watched> {
        let watched = self.requests.remove(&id)?;
        if let Some(epoll) = &self.epoll {
            // Closing a duplicate does not end it.
            let _ = epoll::delete(&**epoll, &watched.socket);
        }
        Some(watched)
    }
}

/// What the thread shares with those who register.
#[derive(Default)]
pub(crate) struct Watcher {
    watch: Mutex<Watch>,
    returned: Condvar,
}

impl Watcher {
    /// Never held while Python code may run.
    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `callback` called with those of a request that is watched; gives it back where that is
    /// not.
    pub(crate) fn join(&self, id: WatchId, callback: Py<PyAny>) -> Option<Py<PyAny>> {
        match self.watch().requests.get_mut(&id) {
            Some(watched) => {
                watched.callbacks.push(callback);
                None
            }
            None => Some(callback),
        }
    }

    /// Has `callback` called once `socket` becomes ready for `what`, unless the request of `exchange`
    /// is over by then.
    ///
    /// # Errors
    ///
    /// When no descriptor or thread can be had.
    pub(crate) fn add(
        self: &Arc<Self>,
        socket: OwnedFd,
        what: epoll::EventFlags,
        exchange: &Arc<Exchange>,
        callback: Py<PyAny>,
    ) -> io::Result<WatchId> {
        let mut watch = self.watch();
        if watch.closed {
            return Ok(NOBODY);
        }
        let epoll = match &watch.epoll {
            Some(epoll) => Arc::clone(epoll),
            None => self.start()?,
        };
        watch.epoll = Some(Arc::clone(&epoll));
        let id = watch.last + 1;
        let flags = what | epoll::EventFlags::ONESHOT;
        epoll::add(&*epoll, &socket, epoll::EventData::new_u64(id), flags)?;
        // Still locked: where it is ready already, the thread finds it all the same.
        let watched = Watched {
            socket,
            exchange: Arc::clone(exchange),
            callbacks: vec![callback],
        };
        watch.requests.insert(id, watched);
        watch.last = id;
        Ok(id)
    }

    fn start(self: &Arc<Self>) -> io::Result<Arc<OwnedFd>> {
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let (watcher, watched) = (Arc::clone(self), Arc::clone(&epoll));
        let thread = thread::Builder::new().name("meinheld-gone".into());
        thread.spawn(move || watcher.keep_watch(&watched))?;
        Ok(epoll)
    }

    /// Ends the watch over one request. To be dropped with nothing locked: freeing a callback may run
    /// Python code.
    #[must_use]
    pub(crate) fn forget(&self, id: WatchId) -> Option<Watched> {
        self.watch().take(id)
    }

    /// Calls nothing from now on.
    pub(crate) fn close(&self, _py: Python<'_>) {
        let watched = {
            let mut watch = self.watch();
            watch.closed = true;
            std::mem::take(&mut watch.requests)
        };
        drop(watched);
    }

    /// Whether a callback is running.
    pub(crate) fn calls(&self) -> bool {
        self.watch().calls
    }

    /// Waits until none is, for no longer than that. Not to be called attached.
    pub(crate) fn settle(&self, patience: Duration) {
        let settled = self
            .returned
            .wait_timeout_while(self.watch(), patience, |watch| watch.calls);
        drop(settled.unwrap_or_else(PoisonError::into_inner));
    }

    fn keep_watch(&self, epoll: &OwnedFd) {
        let open = block_signals();
        loop {
            let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; BATCH];
            // Without a limit and with all signals blocked it fails only where the descriptor does.
            let Ok((events, _)) = epoll::wait(epoll, &mut room, None) else {
                return;
            };
            let disconnected: Vec<Watched> = {
                let mut watch = self.watch();
                let ids = events.iter().map(|event| event.data.u64());
                let found: Vec<_> = ids.filter_map(|id| watch.take(id)).collect();
                watch.calls = !found.is_empty();
                found
            };
            if disconnected.is_empty() {
                continue;
            }
            // A child that a callback starts has the mask of this thread.
            let blocked = open.set();
            Python::try_attach(|py| disconnected.into_iter().for_each(|one| one.call(py)));
            blocked.set();
            self.watch().calls = false;
            self.returned.notify_all();
        }
    }
}

impl Watched {
    fn call(self, py: Python<'_>) {
        let gateway = &self.exchange.gateway;
        for callback in &self.callbacks {
            if self.exchange.is_over() {
                return;
            }
            let called = callback.call0(py);
            let ended = gateway.end_forked_child(py, called.as_ref().err());
            if let Err(error) = called.map(drop).and(ended) {
                gateway.face.failed_elsewhere(
                    py,
                    &error,
                    "Error in a callback of meinheld.disconnected",
                );
            }
        }
    }
}
