//! From answers to the wire, and what becomes of the connection afterwards.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::time::Duration;

use meinheld_protocol::{Awaits, encode};

use crate::client::{Client, Incoming, Interest, NEVER, Phase};
use crate::drain::Lifecycle;
use crate::event::{ConnId, Event, Rejection};
use crate::outbox::Segment;
use crate::reactor::Reactor;
use crate::selector::Token;
use crate::sys;

/// How far an answer has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The kernel has taken all that was given, or so much of it as was
    /// [wanted](Reactor::want_room).
    Accepted,
    /// Some of it waits for the client.
    Pending,
    /// The client has gone, or its connection was taken over.
    Gone,
}

/// What a client has of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing: another answer can still take its place.
    Awaited,
    /// Its head, or that waits to leave.
    Begun,
    /// It was [finished](Reactor::finish).
    Finished,
    /// There is no client any more, or its socket was given away.
    Gone,
}

/// Pieces that are offered to the kernel at once, at most.
const PARTS: usize = 4;

impl Reactor {
    /// Writes what the kernel takes at once, if nothing is queued before it; says how many octets
    /// it took. `None` when the client is gone.
    pub fn try_write(&mut self, id: ConnId, slices: &[IoSlice<'_>]) -> Option<usize> {
        self.send_waiting(id);
        let client = self.client(id)?;
        if !client.outbox.is_empty() {
            return Some(0);
        }
        match client.transport.write(slices) {
            Ok(taken) => {
                if let Some(tally) = self.tally {
                    tally.sent(taken as u64);
                }
                Some(taken)
            }
            Err(_) => {
                // What has left already must not look like the whole.
                self.vanish(id, true);
                None
            }
        }
    }

    /// Queues a piece of an answer; [`flush`](Self::flush) sends it.
    pub fn queue_segment(&mut self, id: ConnId, segment: Segment) {
        self.send_waiting(id);
        if let Some(client) = self.client(id) {
            client.outbox.push(segment);
        }
    }

    /// Writes `parts`, and queues a copy of what the kernel does not take.
    pub fn write(&mut self, id: ConnId, parts: &[&[u8]]) -> Progress {
        let mut slices = [IoSlice::new(&[]); PARTS];
        let count = parts.len().min(PARTS);
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
        }
        let Some(mut taken) = self.try_write(id, &slices[..count]) else {
            return Progress::Gone;
        };
        if taken == parts.iter().map(|part| part.len()).sum() {
            return Progress::Accepted;
        }
        for part in parts {
            let skip = taken.min(part.len());
            taken -= skip;
            self.queue_segment(id, Segment::Bytes(part[skip..].to_vec()));
        }
        self.flush(id)
    }

    /// Sends what is queued, as far as the kernel takes it, and watches for room for the rest.
    pub fn flush(&mut self, id: ConnId) -> Progress {
        let (send, tally) = (self.options.timeouts.send, self.tally);
        self.send_waiting(id);
        let Some(client) = self.client(id) else {
            return Progress::Gone;
        };
        if client.outbox.is_empty() {
            return Progress::Accepted;
        }
        let Client {
            outbox, transport, ..
        } = client;
        let flushed = outbox.flush(transport);
        if let (Some(tally), Ok(taken)) = (tally, &flushed) {
            tally.sent(*taken);
        }
        match flushed {
            Err(error) => {
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    let peer = client.who();
                    self.emit(Event::FileShrank { peer });
                }
                self.vanish(id, true);
                Progress::Gone
            }
            Ok(taken) if !client.outbox.is_empty() => {
                // While the caller waits for the client's body, that deadline holds.
                if (taken > 0 || client.deadline == NEVER) && !client.is_awaited() {
                    // The client's time begins now, not when the caller's turn began.
                    client.unsent = sys::unsent(&client.transport);
                    self.clock.advance();
                    self.credit(id, taken, send);
                }
                self.report_room(id);
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
                if !client.is_awaited() {
                    self.clear_deadline(id);
                }
                self.report_room(id);
                self.update_interest(id);
            }
            Phase::Flushing { keep } => self.answered(id, keep),
            Phase::Receiving | Phase::Discarding { .. } | Phase::Lingering { .. } => {
                self.update_interest(id);
            }
        }
    }

    /// Gives the client its time to take what waits for it, if anything does.
    pub(crate) fn await_reader(&mut self, id: ConnId) {
        let send = self.options.timeouts.send;
        if let Some(client) = self.client(id).filter(|client| !client.outbox.is_empty()) {
            client.unsent = sys::unsent(&client.transport);
            self.set_deadline(id, send);
        }
    }

    /// How far the answer on `id` has got. While more than `ahead` octets of it wait it is pending,
    /// and [`Event::Room`] comes once it is not.
    pub fn want_room(&mut self, id: ConnId, ahead: usize) -> Progress {
        match self.client(id) {
            None => Progress::Gone,
            Some(client) if client.outbox.fits(ahead) => Progress::Accepted,
            Some(client) => {
                client.room_wanted = Some(ahead);
                Progress::Pending
            }
        }
    }

    fn report_room(&mut self, id: ConnId) {
        let Some(client) = self.client(id) else {
            return;
        };
        if let Some(ahead) = client.room_wanted
            && client.outbox.fits(ahead)
        {
            client.room_wanted = None;
            self.emit(Event::Room(id));
        }
    }

    /// Whether the client is still there.
    pub fn is_connected(&mut self, id: ConnId) -> bool {
        self.client(id).is_some()
    }

    /// What the client on `id` has of its answer.
    pub fn stage(&mut self, id: ConnId) -> Stage {
        match self.client(id) {
            None => Stage::Gone,
            Some(client) if client.phase != Phase::Answering => Stage::Finished,
            Some(client) if client.head_left => Stage::Begun,
            Some(_) => Stage::Awaited,
        }
    }

    /// The head of the answer on `id` leaves now. Says whether it may promise that another request
    /// can follow.
    pub fn begin_answer(&mut self, id: ConnId) -> bool {
        if let Some(client) = self.client(id) {
            client.head_left = true;
        }
        !self.crowded && self.lifecycle == Lifecycle::Serving && self.body_permits(id)
    }

    /// The answer is complete. With `keep` (which its head has promised) another request may
    /// follow; without, the connection ends gracefully.
    pub fn finish(&mut self, id: ConnId, keep: bool) {
        // What follows is measured from now, not from when the caller began its answer.
        self.clock.glance();
        self.finish_at_last_look(id, keep);
    }

    /// As [`finish`](Self::finish), by the time at which the clock was last looked at.
    pub(crate) fn finish_at_last_look(&mut self, id: ConnId, keep: bool) {
        let keep = keep && self.body_permits(id);
        if !keep {
            self.send_waiting(id);
        }
        let Some(client) = self.client(id) else {
            return;
        };
        client.protocol.responded();
        client.room_wanted = None;
        if client.outbox.is_empty() {
            return self.answered(id, keep);
        }
        client.phase = Phase::Flushing { keep };
        self.await_reader(id);
        self.update_interest(id);
    }

    pub(crate) fn answered(&mut self, id: ConnId, keep: bool) {
        if keep && self.begin_discarding(id) {
            return;
        }
        let patience = self.idle_patience();
        let now = self.clock.now();
        let Some(client) = self.client(id) else {
            return;
        };
        client.incoming = None;
        // One whose answer has [waited](crate::together) has turned to the next request already.
        if !keep || !(client.is_renewed() || client.protocol.next_request()) {
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
            if !self.hold_back(id) {
                self.advance(id);
            }
        } else {
            if let Some(storage) = client.input.take_storage() {
                self.return_buffer(storage);
            }
            self.settle_idle(id);
            self.update_interest(id);
        }
    }

    pub(crate) fn idle_patience(&self) -> Duration {
        let timeouts = &self.options.timeouts;
        if self.lifecycle == Lifecycle::Serving {
            timeouts.keep_alive
        } else {
            timeouts.keep_alive.min(timeouts.drain_idle)
        }
    }

    /// The socket of a connection, duplicated, for looking at its options and addresses.
    ///
    /// # Errors
    ///
    /// When the process has no descriptors left, or the connection is gone (`NotConnected`).
    pub fn duplicate(&mut self, id: ConnId) -> std::io::Result<OwnedFd> {
        use std::os::fd::AsFd;
        match self.client(id) {
            Some(client) => {
                client.shared = true;
                client.transport.as_fd().try_clone_to_owned()
            }
            None => Err(std::io::ErrorKind::NotConnected.into()),
        }
    }

    /// The number of a connection's descriptor, which stays the reactor's; the caller may make
    /// copies of it, or write to it: what comes before that leaves first.
    pub fn descriptor(&mut self, id: ConnId) -> Option<std::os::fd::RawFd> {
        use std::os::fd::{AsFd, AsRawFd};
        self.send_waiting(id);
        self.client(id).map(|client| {
            client.shared = true;
            client.transport.as_fd().as_raw_fd()
        })
    }

    /// Answers a request that the application never gets to see.
    pub(crate) fn reject(&mut self, id: ConnId, cause: Rejection) {
        self.send_waiting(id);
        let status = cause.status();
        let date = self.clock.date();
        let (server, tally) = (self.options.server, self.tally);
        let Some(client) = self.client(id) else {
            return;
        };
        let status = match (client.phase, status) {
            (Phase::Receiving, Some(status)) => status,
            // A client that left in the middle of its request is not told anything.
            (Phase::Receiving, None) => return self.vanish(id, false),
            // The application has the request: it decides what its client is told.
            (Phase::Answering | Phase::Flushing { .. }, _) => return self.fail_body(id, cause),
            // The answer is whole.
            (Phase::Discarding { .. } | Phase::Lingering { .. }, _) => return self.close(id),
        };
        let line = cause.line();
        let to_head = matches!(client.incoming.as_deref(),
            Some(Incoming::Whole { head, .. }) if head.method() == b"HEAD");
        let answer = encode::error_answer(status, &line, server, &date, to_head);
        let peer = client.who();
        client.incoming = None;
        client.phase = Phase::Flushing { keep: false };
        if let Some(tally) = tally {
            tally.answer(&answer);
        }
        client.outbox.push(Segment::Bytes(answer));
        self.settle_idle(id);
        self.emit(Event::Rejected { peer, cause });
        self.set_deadline(id, self.options.timeouts.send);
        self.flush(id);
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
