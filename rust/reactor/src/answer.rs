//! From answers to the wire, and what becomes of the connection afterwards.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::time::Duration;

use meinheld_protocol::{Awaits, Buffer, Status, encode};

use crate::client::{Client, Interest, NEVER, Phase};
use crate::drain::Lifecycle;
use crate::event::{ConnId, Event, Rejection};
use crate::outbox::Segment;
use crate::reactor::Reactor;
use crate::selector::Token;
use crate::sys;

/// How far an answer has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The kernel has taken all that was given.
    Accepted,
    /// Some of it waits for the client.
    Pending,
    /// The client has gone, or its connection was taken over.
    Gone,
}

/// A connection that left the reactor, with [`Reactor::detach`].
#[derive(Debug)]
pub struct Detached {
    /// The socket, non-blocking.
    pub socket: OwnedFd,
    /// Octets that the client had sent behind its request, to be read before the socket.
    pub leftover: Vec<u8>,
}

impl Reactor {
    /// Writes what the kernel takes at once, if nothing is queued before it; says how many octets
    /// it took. `None` when the client is gone.
    pub fn try_write(&mut self, id: ConnId, slices: &[IoSlice<'_>]) -> Option<usize> {
        let client = self.client(id)?;
        if !client.outbox.is_empty() {
            return Some(0);
        }
        match client.transport.write(slices) {
            Ok(taken) => Some(taken),
            Err(_) => {
                // What has left already must not look like the whole.
                self.abort(id);
                None
            }
        }
    }

    /// Queues a piece of an answer; [`flush`](Self::flush) sends it.
    pub fn queue_segment(&mut self, id: ConnId, segment: Segment) {
        if let Some(client) = self.client(id) {
            client.outbox.push(segment);
        }
    }

    /// Writes `parts`, and queues a copy of what the kernel does not take.
    pub fn write(&mut self, id: ConnId, parts: &[&[u8]]) -> Progress {
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let Some(mut taken) = self.try_write(id, &slices) else {
            return Progress::Gone;
        };
        for part in parts {
            let skip = taken.min(part.len());
            taken -= skip;
            self.queue_segment(id, Segment::Bytes(part[skip..].to_vec()));
        }
        self.flush(id)
    }

    /// Sends what is queued, as far as the kernel takes it, and watches for room for the rest.
    pub fn flush(&mut self, id: ConnId) -> Progress {
        let send = self.options.timeouts.send;
        let Some(client) = self.client(id) else {
            return Progress::Gone;
        };
        if client.outbox.is_empty() {
            return Progress::Accepted;
        }
        let Client {
            outbox, transport, ..
        } = client;
        match outbox.flush(transport) {
            Err(error) => {
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    let peer = client.who();
                    self.queue.push_back(Event::FileShrank { peer });
                }
                self.vanish(id, true);
                Progress::Gone
            }
            Ok(taken) if !client.outbox.is_empty() => {
                if taken > 0 || client.deadline == NEVER {
                    // The client's time begins now, not when the caller's turn began.
                    client.unsent = sys::unsent(&client.transport);
                    self.clock.advance();
                    self.credit(id, taken, send);
                }
                self.update_interest(id);
                Progress::Pending
            }
            Ok(_) => {
                self.flushed(id);
                Progress::Accepted
            }
        }
    }

    fn flushed(&mut self, id: ConnId) {
        let Some(client) = self.client(id) else {
            return;
        };
        match client.phase {
            Phase::Answering => {
                let wanted = std::mem::take(&mut client.room_wanted);
                self.clear_deadline(id);
                self.update_interest(id);
                if wanted {
                    self.queue.push_back(Event::Room(id));
                }
            }
            Phase::Flushing { keep } => self.answered(id, keep),
            Phase::Receiving | Phase::Lingering { .. } => self.update_interest(id),
        }
    }

    /// Asks for [`Event::Room`] once all that is queued for `id` is on its way.
    pub fn want_room(&mut self, id: ConnId) {
        if let Some(client) = self.client(id) {
            client.room_wanted = true;
        }
    }

    /// How far the answer on `id` has got.
    pub fn progress(&mut self, id: ConnId) -> Progress {
        match self.client(id) {
            None => Progress::Gone,
            Some(client) if client.outbox.is_empty() => Progress::Accepted,
            Some(_) => Progress::Pending,
        }
    }

    /// The answer is complete. With `keep` (which its head has promised) another request may
    /// follow; without, the connection ends gracefully.
    pub fn finish(&mut self, id: ConnId, keep: bool) {
        // What follows is measured from now, not from when the caller began its answer.
        self.clock.advance();
        let send = self.options.timeouts.send;
        let Some(client) = self.client(id) else {
            return;
        };
        client.protocol.responded();
        if client.outbox.is_empty() {
            self.answered(id, keep);
        } else {
            client.phase = Phase::Flushing { keep };
            client.unsent = sys::unsent(&client.transport);
            self.set_deadline(id, send);
            self.update_interest(id);
        }
    }

    fn answered(&mut self, id: ConnId, keep: bool) {
        let patience = self.idle_patience();
        let now = self.clock.now();
        let Some(client) = self.client(id) else {
            return;
        };
        client.incoming = None;
        if !keep || !client.protocol.next_request() {
            return self.close(id);
        }
        client.phase = Phase::Receiving;
        client.quiet_since = now;
        client.deadline_for = Awaits::Idle;
        self.set_deadline(id, patience);
        let Some(client) = self.client(id) else {
            return;
        };
        if !client.input.is_empty() || client.half_closed {
            self.advance(id);
        } else {
            if let Some(storage) = client.input.take_storage() {
                self.return_buffer(storage);
            }
            self.settle_idle(id);
            self.update_interest(id);
        }
    }

    fn idle_patience(&self) -> Duration {
        let timeouts = &self.options.timeouts;
        if self.lifecycle == Lifecycle::Serving {
            timeouts.keep_alive
        } else {
            timeouts.keep_alive.min(timeouts.drain_idle)
        }
    }

    /// Ends a connection whose answer failed after its head had left: by a reset, so that no
    /// client takes what it has for complete.
    pub fn abort(&mut self, id: ConnId) {
        if let Some(client) = self.client(id) {
            client.transport.reset();
            self.drop_client(id);
        }
    }

    /// Gives the connection away: the reactor forgets it, and no answer is written.
    pub fn detach(&mut self, id: ConnId) -> Option<Detached> {
        let mut client = self.forget(id)?;
        if client.interest != Interest::Unregistered {
            let _ = self.selector.remove(&client.transport);
        }
        let leftover = client.protocol.detach(&mut client.input);
        Some(Detached {
            socket: client.transport.into_fd(),
            leftover,
        })
    }

    /// The socket of a connection, duplicated, for looking at its options and addresses.
    ///
    /// # Errors
    ///
    /// When the process has no descriptors left, or the connection is gone (`NotConnected`).
    pub fn duplicate(&mut self, id: ConnId) -> std::io::Result<OwnedFd> {
        use std::os::fd::AsFd;
        match self.client(id) {
            Some(client) => client.transport.as_fd().try_clone_to_owned(),
            None => Err(std::io::ErrorKind::NotConnected.into()),
        }
    }

    /// The number of a connection's descriptor, which stays the reactor's.
    pub fn descriptor(&mut self, id: ConnId) -> Option<std::os::fd::RawFd> {
        use std::os::fd::{AsFd, AsRawFd};
        self.client(id)
            .map(|client| client.transport.as_fd().as_raw_fd())
    }

    /// Answers a request that the application never gets to see.
    pub(crate) fn reject(&mut self, id: ConnId, cause: Rejection) {
        let status = match &cause {
            Rejection::Protocol(error) => error.status(),
            Rejection::Proxy(fault) => Some(fault.status()),
            Rejection::Timeout(_) => Some(Status::REQUEST_TIMEOUT),
            Rejection::Spool(_) => Some(Status::INSUFFICIENT_STORAGE),
        };
        let date = self.clock.date();
        let server = self.options.server;
        let Some(client) = self.client(id) else {
            return;
        };
        let (Some(status), Phase::Receiving) = (status, client.phase) else {
            // A client that left in the middle of its request is not told anything.
            let answering = client.phase != Phase::Receiving;
            return self.vanish(id, answering);
        };
        let line = match &cause {
            // What the disk said is for the log.
            Rejection::Spool(_) => "the request body could not be stored".to_owned(),
            told => told.to_string(),
        };
        let answer = encode::error_answer(status, &line, server, &date, false);
        let peer = client.who();
        client.incoming = None;
        client.phase = Phase::Flushing { keep: false };
        client.outbox.push(Segment::Bytes(answer));
        self.settle_idle(id);
        self.queue.push_back(Event::Rejected { peer, cause });
        self.set_deadline(id, self.options.timeouts.send);
        self.flush(id);
    }

    /// Closes a connection that only waits for a next request.
    pub(crate) fn retire(&mut self, id: ConnId) {
        let draining = self.lifecycle != Lifecycle::Serving;
        if let Some(client) = self.client(id) {
            client.lost_if_late = draining;
            self.close(id);
        }
    }

    /// Ends a connection after its last answer: FIN, then reading until the client's own
    /// (RFC 9112 9.6), unless the client has nothing more to say.
    pub(crate) fn close(&mut self, id: ConnId) {
        let linger = self.options.timeouts.linger;
        let Some(client) = self.client(id) else {
            return;
        };
        let said_all = client.last_request
            && client.input.is_empty()
            && client.protocol.request_complete()
            && client.transport.has_nothing_to_read();
        if client.half_closed || said_all {
            return self.drop_client(id);
        }
        client.transport.end_writing();
        client.phase = Phase::Lingering { dropped: 0 };
        let input = std::mem::take(&mut client.input);
        self.discard(input);
        self.settle_idle(id);
        self.set_deadline(id, linger);
        self.update_interest(id);
    }

    /// Forgets a connection whose client has gone; with `reset`, one that must not look complete.
    pub(crate) fn vanish(&mut self, id: ConnId, reset: bool) {
        let Some(client) = self.client(id) else {
            return;
        };
        if client.phase == Phase::Answering {
            self.queue.push_back(Event::Gone(id));
        }
        if let Some(client) = self.client(id).filter(|_| reset) {
            client.transport.reset();
        }
        self.drop_client(id);
    }

    /// Takes a connection out of the table.
    fn forget(&mut self, id: ConnId) -> Option<Client> {
        self.client(id)?;
        self.unlink_idle(id.index);
        self.clients.try_remove(id.index as usize)
    }

    pub(crate) fn drop_client(&mut self, id: ConnId) {
        let Some(client) = self.forget(id) else {
            return;
        };
        if sys::has_forked() {
            // A child may hold a copy of the descriptor: closing ours would end nothing, and the
            // selector would go on reporting it.
            if client.interest != Interest::Unregistered {
                let _ = self.selector.remove(&client.transport);
            }
            client.transport.end();
        }
        self.discard(client.input);
    }

    /// Drops what was read and never parsed, and keeps the storage.
    fn discard(&mut self, mut input: Buffer) {
        input.consume(input.len());
        if let Some(storage) = input.take_storage() {
            self.return_buffer(storage);
        }
    }

    /// Tells the selector what is wanted of this connection, if that has changed.
    pub(crate) fn update_interest(&mut self, id: ConnId) {
        let readable = self.wants_read(id);
        let Some(client) = self.clients.get_mut(id.index as usize) else {
            return;
        };
        if client.generation != id.generation {
            return;
        }
        let writable = !client.outbox.is_empty();
        let wanted = Interest::Registered { readable, writable };
        let told = match client.interest {
            Interest::Unregistered => {
                self.selector
                    .add(&client.transport, Token::Client(id), readable, writable)
            }
            now if now == wanted => return,
            Interest::Registered { .. } => {
                self.selector
                    .modify(&client.transport, Token::Client(id), readable, writable)
            }
        };
        match told {
            Ok(()) => client.interest = wanted,
            // Unwatched, the connection would hang for ever.
            Err(_) => self.vanish(id, true),
        }
    }
}
