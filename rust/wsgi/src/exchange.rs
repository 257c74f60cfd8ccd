//! One request's answer: how far it has got, and what may still be done to it (PEP 3333).

mod sending;

pub(crate) use sending::{End, Frame, Last, Sent};

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meinheld_protocol::Version;
use meinheld_protocol::encode::{self, BodyEncoder, RequestTraits, ResponseHead};
use meinheld_reactor::{ConnId, Detached, Request};
use pyo3::exceptions::PyAssertionError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use rustix::event::{EventfdFlags, epoll, eventfd};

use crate::failure::Failure;
use crate::ffi::text;
use crate::gateway::Gateway;
use crate::given::{add_field, refused};
use crate::options::SERVER;
use crate::watcher::NOBODY;

/// Set, with the reactor locked, when a request is over: none of its threads begins to wait for its
/// client any more.
pub(crate) type Over = AtomicBool;

/// How far an answer has got. What a state needs, it owns.
enum Answer {
    /// `start_response` was not called yet.
    Awaited,
    /// It was, but the head has not left, so that an error can still replace it.
    Begun(ResponseHead),
    /// The head has left.
    Sending(Sending),
    /// The application took the socket over.
    TakenOver,
    /// The request is over: the connection may be serving another one.
    Over,
}

/// An answer whose head has left.
#[derive(Clone, Copy)]
struct Sending {
    body: BodyEncoder,
    persistent: bool,
    /// Octets of the body, framing apart, that were given to the kernel.
    sent: u64,
}

/// What hooks and the access log want to know of a response.
pub(crate) struct Summary {
    pub(crate) status: Py<PyString>,
    pub(crate) headers: Py<PyList>,
}

/// Octets of storage that are kept for the next request.
const STORAGE: usize = 16 * 1024;

/// What of an exchange changes.
struct State {
    id: ConnId,
    request: RequestTraits,
    answer: Answer,
    summary: Option<Summary>,
    /// For heads and small blocks, used again by the next request.
    storage: Vec<u8>,
}

/// One answer, shared by the objects that the application has of it.
pub(crate) struct Exchange {
    pub(crate) gateway: Arc<Gateway>,
    state: Mutex<State>,
    over: Over,
    /// The [`WatchId`](crate::watcher::WatchId) of the callbacks that were registered.
    watched: AtomicU64,
}

impl Exchange {
    /// An exchange without a request.
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        let state = State {
            id: ConnId::NOBODY,
            request: RequestTraits::default(),
            answer: Answer::Over,
            summary: None,
            storage: Vec::new(),
        };
        Self {
            gateway,
            state: Mutex::new(state),
            over: Over::default(),
            watched: AtomicU64::new(NOBODY),
        }
    }

    /// Begins the answer to `request`, which nobody has seen yet.
    pub(crate) fn renew(&self, request: &Request) {
        let mut state = self.state();
        state.id = request.id;
        state.request = RequestTraits::from(&*request.head);
        if self.gateway.http_10_only {
            state.request.version = state.request.version.min(Version::HTTP_10);
            state.request.keep_alive = false;
        }
        state.answer = Answer::Awaited;
        // Nobody else has it yet.
        self.over.store(false, Relaxed);
    }

    /// Locked for a change of state only, never while Python code may run.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that is answered.
    pub(crate) fn id(&self) -> ConnId {
        self.state().id
    }

    /// Whether the request is over.
    pub(crate) fn over(&self) -> &Over {
        &self.over
    }

    pub(crate) fn head_has_left(&self) -> bool {
        matches!(self.state().answer, Answer::Sending(_))
    }

    pub(crate) fn is_taken_over(&self) -> bool {
        matches!(self.state().answer, Answer::TakenOver)
    }

    /// The application takes the socket over, if the connection is still this request's.
    pub(crate) fn take_over(&self) -> Option<Detached> {
        let mut state = self.state();
        if matches!(state.answer, Answer::Over) {
            return None;
        }
        state.answer = Answer::TakenOver;
        self.gateway.in_flight.taken_over(state.id);
        // Still locked: the connection must not become another request's meanwhile.
        self.gateway.reactor().detach(state.id)
    }

    /// Sends an answer of our own in place of the application's, of which nothing can follow any
    /// more; `false` where it is too late for that.
    pub(crate) fn replace(&self, whole: &[u8]) -> bool {
        let mut state = self.state();
        if !matches!(state.answer, Answer::Awaited | Answer::Begun(_)) {
            return false;
        }
        state.answer = Answer::Over;
        let mut reactor = self.gateway.reactor();
        reactor.begin_answer(state.id);
        reactor.count_answer(state.id, whole);
        reactor.write(state.id, &[whole]);
        true
    }

    /// The request is over: what the application still holds of it does nothing any more. Says
    /// whether it has taken the socket over.
    pub(crate) fn end_for_good(&self) -> bool {
        let mut state = self.state();
        let ended = std::mem::replace(&mut state.answer, Answer::Over);
        if state.storage.capacity() > STORAGE {
            state.storage = Vec::new();
        }
        let summary = state.summary.take();
        // Freeing it may run Python code.
        drop(state);
        drop(summary);
        matches!(ended, Answer::TakenOver)
    }

    /// Whether the request is over: the connection may be serving another one.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state().answer, Answer::Over)
    }

    /// Whether the client has closed its side or gone, or the request is over.
    pub(crate) fn has_disconnected(&self) -> Result<bool, Failure> {
        let state = self.state();
        match state.answer {
            Answer::Over => Ok(true),
            Answer::TakenOver => Err(Failure::TakenOver),
            // Still locked: the connection must not become another request's meanwhile.
            _ => Ok(self.gateway.reactor().has_ended(state.id)),
        }
    }

    /// Has `callback` called when the client disconnects, unless the request is over then.
    pub(crate) fn on_disconnect(self: &Arc<Self>, callback: Py<PyAny>) -> Result<(), Failure> {
        // Locked to the end, so that nothing is registered when the request is over.
        let state = self.state();
        match state.answer {
            Answer::Over => return Ok(()),
            Answer::TakenOver => return Err(Failure::TakenOver),
            Answer::Awaited | Answer::Begun(_) | Answer::Sending(_) => {}
        }
        let raised = |error: io::Error| Failure::Raised(error.into());
        let watcher = &self.gateway.watcher;
        let Some(callback) = watcher.join(self.watched.load(Relaxed), callback) else {
            return Ok(());
        };
        let (socket, what) = match self.gateway.reactor().duplicate(state.id) {
            Ok(socket) => (socket, epoll::EventFlags::RDHUP),
            // It has gone for good: in its place something that is ready at once.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => (
                eventfd(1, EventfdFlags::CLOEXEC).map_err(|error| raised(error.into()))?,
                epoll::EventFlags::IN,
            ),
            Err(error) => return Err(raised(error)),
        };
        let id = watcher.add(socket, what, self, callback).map_err(raised)?;
        self.watched.store(id, Relaxed);
        Ok(())
    }

    /// Nobody is called back any more. Called when the request is over, or its socket taken over.
    #[inline(always)] // A look costs less than a call.
    pub(crate) fn forget_callbacks(&self, py: Python<'_>) {
        // Whoever has registered did so with the state locked, which has been since.
        if self.watched.load(Relaxed) != NOBODY {
            self.forget_watch(py);
        }
    }

    #[cold]
    fn forget_watch(&self, _py: Python<'_>) {
        let watched = self.watched.swap(NOBODY, Relaxed);
        drop(self.gateway.watcher.forget(watched));
    }

    /// Octets of the body that were sent.
    pub(crate) fn sent(&self) -> u64 {
        match &self.state().answer {
            Answer::Sending(sending) => sending.sent,
            _ => 0,
        }
    }

    /// Whether `start_response` may be called: for the first time or, with an error at hand, as
    /// long as no head has left. Gives what a head is begun with.
    pub(crate) fn may_begin(&self, with_error: bool) -> Result<Blank, Refusal> {
        let mut state = self.state();
        match (&state.answer, with_error) {
            (Answer::Sending(_) | Answer::Over, true) => Err(Refusal::TooLate),
            (_, true) | (Answer::Awaited | Answer::TakenOver, false) => Ok(Blank {
                storage: std::mem::take(&mut state.storage),
                request: state.request,
            }),
            (_, false) => Err(Refusal::Twice),
        }
    }

    /// Takes what `start_response` was given.
    pub(crate) fn begin(
        &self,
        blank: Blank,
        status: &Bound<'_, PyString>,
        headers: &Bound<'_, PyList>,
    ) -> PyResult<()> {
        let status_octets = text::octets(status)?;
        let Blank { storage, request } = blank;
        let mut head =
            ResponseHead::start(storage, request, status_octets, SERVER).map_err(refused)?;
        for field in headers {
            add_field(&mut head, &field)?;
        }
        self.summarise(status, headers);
        self.put(head)
    }

    fn summarise(&self, status: &Bound<'_, PyString>, headers: &Bound<'_, PyList>) {
        if self.gateway.face.wants_records() {
            // A copy: the application may go on changing its list.
            let headers = headers.get_slice(0, headers.len()).unbind();
            let summary = Summary {
                status: status.clone().unbind(),
                headers,
            };
            // The one before goes when nothing is locked: freeing it may run Python code.
            let before = self.state().summary.replace(summary);
            drop(before);
        }
    }

    /// What was given last; afterwards nothing.
    pub(crate) fn take_summary(&self) -> Option<Summary> {
        self.state().summary.take()
    }

    /// Puts a head in the place of none, or of one that has not left. While it was being encoded
    /// Python code ran, and another thread may have brought the answer further.
    fn put(&self, head: ResponseHead) -> PyResult<()> {
        let mut state = self.state();
        match &state.answer {
            Answer::Awaited | Answer::Begun(_) => state.answer = Answer::Begun(head),
            Answer::TakenOver => {}
            Answer::Sending(_) | Answer::Over => {
                return Err(PyAssertionError::new_err(
                    "start_response() was called when the headers had been sent",
                ));
            }
        }
        Ok(())
    }

    /// Sends a 103 response (RFC 8297), where the client may get one.
    pub(crate) fn hint(&self, fields: &[(Vec<u8>, Vec<u8>)]) -> PyResult<()> {
        let pairs = fields.iter().map(|(name, value)| (&name[..], &value[..]));
        let hints = encode::early_hints(pairs).map_err(refused)?;
        // Locked, for the reason of `framed`.
        let state = self.state();
        if matches!(state.answer, Answer::Awaited | Answer::Begun(_)) {
            self.gateway.reactor().write(state.id, &[&hints]);
        }
        Ok(())
    }

    /// Whether hints can come before the answer, and its client understands them.
    pub(crate) fn takes_hints(&self) -> bool {
        let state = self.state();
        matches!(state.answer, Answer::Awaited | Answer::Begun(_))
            && state.request.version >= Version::HTTP_11
    }
}

/// What a head is begun with.
pub(crate) struct Blank {
    storage: Vec<u8>,
    request: RequestTraits,
}

/// Why `start_response` is not listened to.
pub(crate) enum Refusal {
    /// Another head has left, or the request is over.
    TooLate,
    /// It was called before, and nothing has gone wrong since.
    Twice,
}
