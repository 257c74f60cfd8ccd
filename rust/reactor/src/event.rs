//! What the reactor tells its caller, and the names by which things are called back.

use std::io;

use meinheld_protocol::{Error, Head, Status};

use crate::clock::Tick;
use crate::peer::Peer;
use crate::proxy::{Fault, Origin};
use crate::selector::Readiness;
use crate::shed::Queued;
use crate::spool::Body;

/// One connection, for as long as it lives: the generation makes a stale id name nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl ConnId {
    /// The name of no connection: there are never as many.
    pub const NOBODY: Self = Self {
        index: u32::MAX,
        generation: u32::MAX,
    };

    /// A small number, different for connections that are open at the same time.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// A descriptor of the caller's that the reactor watches on its behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ForeignId(pub(crate) u32);

impl ForeignId {
    /// Its number, for callers that keep nothing else.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The descriptor of this number.
    pub fn of(number: u32) -> Self {
        Self(number)
    }
}

/// A timer of the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId(pub(crate) u64);

impl TimerId {
    /// Its number, for callers that keep nothing else.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The timer of this number.
    pub fn of(number: u64) -> Self {
        Self(number)
    }
}

/// A request that waits for its answer.
#[derive(Debug)]
pub struct Request {
    /// The connection to answer on.
    pub id: ConnId,
    /// The request head; give it back with [`Reactor::recycle`](crate::Reactor::recycle).
    pub head: Box<Head>,
    /// The body, whole or arriving: see [`BodyPolicy`](crate::BodyPolicy).
    pub body: Body,
    /// Which listener accepted the connection, as an index into the order they were added.
    pub listener: u32,
    /// Who asks.
    pub peer: Peer,
    /// For whom the peer speaks, if it has said so by the PROXY protocol.
    pub origin: Option<Box<Origin>>,
    /// Since when it waits for the application.
    pub(crate) queued: Queued,
    /// When it was yielded for the application, in milliseconds of [`uptime`](crate::uptime).
    pub(crate) started: Tick,
}

impl Request {
    /// Who asks, for logs: the client that a proxy named, else the peer.
    pub fn who(&self) -> Peer {
        Origin::who(self.origin.as_deref(), &self.peer)
    }
}

/// What happened, from [`Reactor::poll`](crate::Reactor::poll).
#[derive(Debug)]
pub enum Event {
    /// A request is ready for the application.
    Request(Request),
    /// Body octets, or the end of the body, wait in
    /// [`Reactor::take_body`](crate::Reactor::take_body), which had none the last time.
    BodyReady(ConnId),
    /// No more of this answer waits than [`Reactor::want_room`](crate::Reactor::want_room) has named.
    Room(ConnId),
    /// The client vanished while its request was being answered; the id is dead.
    Gone(ConnId),
    /// A request was refused, and answered, without reaching the application.
    Rejected {
        /// Who sent it, as a proxy named it where one did.
        peer: Peer,
        /// What was wrong with it.
        cause: Rejection,
    },
    /// A request that had waited for too long was answered with 503, without reaching the
    /// application.
    Shed(Request),
    /// Accepting stopped for a moment because the process ran out of something.
    AcceptFailed(io::Error),
    /// A file became shorter while it was sent; the answer was aborted.
    FileShrank {
        /// Who got only a part of it.
        peer: Peer,
    },
    /// A timer of the caller's is due.
    Timer(TimerId),
    /// A descriptor of the caller's is ready.
    Foreign(ForeignId, Readiness),
}

/// Why the reactor answered a request by itself.
#[derive(Debug)]
pub enum Rejection {
    /// The bytes were not a request, or one over a limit.
    Protocol(Error),
    /// The PROXY header was malformed, or of one who may not send it.
    Proxy(Fault),
    /// The head or the body did not arrive in time (408).
    Timeout(&'static str),
    /// The body could not be spooled (507).
    Spool(io::Error),
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Protocol(error) => error.fmt(f),
            Self::Proxy(fault) => fault.fmt(f),
            Self::Timeout(what) => write!(f, "the request {what} did not arrive in time"),
            Self::Spool(error) => write!(f, "the request body could not be stored: {error}"),
        }
    }
}

impl Rejection {
    /// What the client is told; `None` where there is nobody left to tell.
    pub(crate) fn status(&self) -> Option<Status> {
        match self {
            Self::Protocol(error) => error.status(),
            Self::Proxy(fault) => Some(fault.status()),
            Self::Timeout(_) => Some(Status::REQUEST_TIMEOUT),
            Self::Spool(_) => Some(Status::INSUFFICIENT_STORAGE),
        }
    }

    /// What is wrong, in one line for the client. What the disk said is for the log.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Spool(_) => "the request body could not be stored".to_owned(),
            told => told.to_string(),
        }
    }
}
