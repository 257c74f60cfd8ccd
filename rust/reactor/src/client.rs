//! One connection, as the reactor sees it.

use std::sync::LazyLock;

use meinheld_protocol::{Awaits, Buffer, Connection, Head};
use memchr::memmem::Finder;

use crate::clock::Tick;
use crate::event::ConnId;
use crate::idle::Links;
use crate::outbox::Outbox;
use crate::peer::Peer;
use crate::proxy::Proxying;
use crate::spool::Spool;
use crate::transport::Transport;
use crate::window::Window;

/// Whose turn it is on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A request is awaited or arriving.
    Receiving,
    /// A request is with the caller, or queued for it.
    Answering,
    /// The answer is complete, but the kernel has not taken all of it.
    Flushing {
        /// Whether another request may follow.
        keep: bool,
    },
    /// All is sent, and the connection is to live on; what is left of a body that nobody has read
    /// is read and dropped first.
    Discarding {
        /// Octets dropped so far.
        dropped: u64,
    },
    /// All is sent; what the client still sends is read and dropped, so that a reset does not
    /// destroy the answer on its way (RFC 9112 9.6).
    Lingering {
        /// Octets dropped so far.
        dropped: usize,
    },
}

/// What the selector watches for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Not registered: a connection that is answered at once and closed never needs to be.
    Unregistered,
    /// Registered for these.
    Registered { readable: bool, writable: bool },
}

/// A request body that is arriving.
pub(crate) enum Incoming {
    /// To be complete before the request is handed over.
    Whole {
        /// The head that waits for it.
        head: Box<Head>,
        /// What has come.
        spool: Spool,
    },
    /// Handed over as it arrives.
    Windowed(Window),
}

/// What ends a head.
static HEAD_END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

/// No deadline.
pub(crate) const NEVER: Tick = Tick::MAX;

pub(crate) struct Client {
    pub(crate) generation: u32,
    pub(crate) listener: u32,
    pub(crate) trusted: bool,
    /// The client has sent its FIN.
    pub(crate) half_closed: bool,
    /// The client has announced that its present request is its last.
    pub(crate) last_request: bool,
    /// What the present deadline was set for.
    pub(crate) deadline_for: Awaits,
    /// The connection was closed for a drain while it was idle: a request now comes too late.
    pub(crate) lost_if_late: bool,
    /// The head of the present answer has left, or waits to.
    pub(crate) head_left: bool,
    /// The present request changes nothing (RFC 9110 9.2.1).
    pub(crate) safe: bool,
    /// The end of an answer [waits](crate::together).
    pub(crate) waits: bool,
    /// Others hold its socket, too: to close ours ends nothing.
    pub(crate) shared: bool,
    /// The caller wants to know when no more than this many octets of its answer wait.
    pub(crate) room_wanted: Option<usize>,
    /// It has sent something that is not to be looked at before the reactor is released.
    pub(crate) held: bool,
    pub(crate) phase: Phase,
    pub(crate) interest: Interest,
    pub(crate) transport: Transport,
    pub(crate) peer: Peer,
    pub(crate) proxying: Proxying,
    pub(crate) protocol: Connection,
    pub(crate) input: Buffer,
    pub(crate) incoming: Option<Box<Incoming>>,
    pub(crate) outbox: Outbox,
    /// Octets in the kernel that the client had not taken when its progress was last looked at.
    pub(crate) unsent: u64,
    /// When patience ends, or `NEVER`.
    pub(crate) deadline: Tick,
    /// The earliest timer that was set for this connection, or `NEVER`.
    pub(crate) scheduled: Tick,
    /// When it was accepted, or its last answer was complete.
    pub(crate) quiet_since: Tick,
    /// Its neighbours among the idle connections, while it is one.
    pub(crate) idle: Option<Links>,
}

impl Client {
    /// The name of the connection at `index` in the reactor's table.
    pub(crate) fn id(&self, index: usize) -> ConnId {
        // The table never holds more than there are descriptors.
        ConnId {
            index: index as u32,
            generation: self.generation,
        }
    }

    /// Whether the head of a next request, which may be answered together with the present one,
    /// has come whole: one that is safe (RFC 9110 9.2.1), so that no answer waits for what a
    /// request changes.
    pub(crate) fn pipelines(&self) -> bool {
        let next = self.input.as_slice();
        self.phase == Phase::Answering
            && (next.starts_with(b"GET ") || next.starts_with(b"HEAD "))
            && HEAD_END.find(next).is_some()
    }

    /// Whether it may be closed to make room: it has been quiet for so long that a request is
    /// hardly on its way.
    pub(crate) fn is_expendable(&self, now: Tick, patience: Tick) -> bool {
        self.is_idle() && !self.held && now.saturating_sub(self.quiet_since) >= patience
    }

    /// Whether the connection only waits for a next request: closing it costs nobody an answer.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Receiving && self.is_renewed() && !self.is_introducing()
    }

    /// Whether nothing of a next request has come, which may.
    pub(crate) fn is_renewed(&self) -> bool {
        self.protocol.awaits() == Awaits::Idle
    }
}
