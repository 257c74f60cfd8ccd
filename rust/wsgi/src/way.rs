//! The one place where the ways of calling an application part: inline on the loop's thread, in
//! greenlets there, or on threads of its own. [`Loop::run`](crate::Loop) takes the turns of the
//! one or the other; the code that serves a request is the same for all.
//!
//! What differs by nature:
//!
//! - Inline a request is handed over with its whole body; with threads at its head, and
//!   `wsgi.input` waits for the octets. So `100 Continue` is sent at the first read that has to
//!   wait, a body that turns out to be wrong, or whose client goes, is an `OSError` of that read
//!   (known before the call, it is refused as inline), and of a body that was not read at most
//!   64 KiB are dropped to keep the connection.
//! - Inline a block is accepted when the kernel has all of it; with threads when no more than
//!   [`AHEAD`] octets of the answer wait.
//! - Inline a wait for a client is spent in turns of the loop; a thread sleeps.
//! - Inline an application that hangs stops the heart; with threads it holds its thread.
//!
//! Greenlets are inline in all of this, but that the loop's turns go on while one waits.

use meinheld_reactor::{BodyPolicy, ConnId, Waker};
use pyo3::prelude::*;

use crate::gateway::{Gateway, Turn};
use crate::green::Green;
use crate::pool::Pool;

/// Octets that an application may be ahead of its client.
const AHEAD: usize = 256 * 1024;
/// Octets that a client may be ahead of the application that reads its body.
const WINDOW: usize = 256 * 1024;
/// Sending more octets than this at once is worth letting other threads run meanwhile.
const LONG_COPY: usize = 64 * 1024;

/// How applications are called.
pub(crate) enum Way {
    /// On the loop's thread, one at a time.
    Inline,
    /// On threads that share the reactor with the loop.
    Threads(Pool),
    /// On the loop's thread, in greenlets that may give it up: floor 4's hub takes the loop's turns.
    Green(Green),
}

/// How bodies reach applications on `threads` threads.
pub(crate) fn body_policy(threads: usize) -> BodyPolicy {
    match threads {
        0 | 1 => BodyPolicy::Whole,
        _ => BodyPolicy::Windowed(WINDOW),
    }
}

impl Way {
    /// The way for gunicorn's `threads`, or that of greenlets; `waker` ends the loop's waits.
    pub(crate) fn new(threads: usize, green: bool, waker: Waker) -> Self {
        match (green, threads) {
            (true, _) => Self::Green(Green::default()),
            (false, 0 | 1) => Self::Inline,
            (false, _) => Self::Threads(Pool::new(threads, waker)),
        }
    }

    /// What greenlets wait for, where there are any.
    pub(crate) fn green(&self) -> Option<&Green> {
        match self {
            Self::Green(green) => Some(green),
            Self::Inline | Self::Threads(_) => None,
        }
    }

    /// Octets of an answer that may wait while the application goes on.
    pub(crate) fn ahead(&self) -> usize {
        match self {
            Self::Inline | Self::Green(_) => 0,
            Self::Threads(_) => AHEAD,
        }
    }

    /// Whether applications are called on the loop's thread, so that what follows an answer follows
    /// at once.
    pub(crate) fn is_inline(&self) -> bool {
        !self.is_threaded()
    }

    /// Whether other threads may want the interpreter.
    pub(crate) fn is_threaded(&self) -> bool {
        matches!(self, Self::Threads(_))
    }

    /// Whether the interpreter is released while this many octets are sent.
    pub(crate) fn releases(&self, octets: usize) -> bool {
        self.is_threaded() && octets > LONG_COPY
    }

    /// Whether no request is with the application, or waits for it.
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            // Asked between two calls.
            Self::Inline => true,
            Self::Threads(pool) => pool.is_quiet(),
            Self::Green(green) => green.is_quiet(),
        }
    }

    /// Before an application gives its next block: inline, what the loop has to do meanwhile. When
    /// the worker may stay no longer, the connection is aborted.
    pub(crate) fn before_next_block(
        &self,
        gateway: &Gateway,
        py: Python<'_>,
        id: ConnId,
    ) -> PyResult<()> {
        if self.is_inline() {
            gateway.tend(py)?;
            if gateway.grace_is_over() {
                gateway.reactor().abort(id);
            }
        }
        Ok(())
    }

    /// Says, with the reactor still locked, that this thread is about to wait for `id`.
    pub(crate) fn expect(&self, id: ConnId) {
        if let Self::Threads(pool) = self {
            pool.expect(id);
        }
    }

    /// Waits for the connection that was [expected](Self::expect), or for nothing: look again.
    /// Inline, in a turn that only moves octets: no application call starts meanwhile.
    pub(crate) fn wait(&self, gateway: &Gateway, py: Python<'_>) -> PyResult<()> {
        match self {
            // A greenlet comes here before it takes a socket over only: what it waits for is that the
            // kernel has what was sent before.
            Self::Inline | Self::Green(_) => gateway.turn(py, Turn::OctetsOnly),
            Self::Threads(_) => {
                py.detach(std::thread::park);
                Ok(())
            }
        }
    }

    /// This thread has answered, and will look for the next request at once.
    pub(crate) fn looks_soon(&self) {
        if let Self::Threads(pool) = self {
            pool.looks_soon();
        }
    }

    /// A request was cut off: its thread may never come back. Inline that is the arbiter's affair.
    pub(crate) fn lose(&self) {
        if let Self::Threads(pool) = self {
            pool.lose();
        }
    }

    /// The request on `id` is over: nothing of it is to wait any longer.
    pub(crate) fn over(&self, id: ConnId) {
        if let Self::Threads(pool) = self {
            pool.tell(id);
        }
    }
}
