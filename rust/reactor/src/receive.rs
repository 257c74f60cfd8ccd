//! From readiness to requests.

use std::io;

use meinheld_protocol::{Awaits, Framing, Head, Received, encode};

use crate::client::{Incoming, Interest, Phase};
use crate::deadline::bought;
use crate::event::{ConnId, Event, Rejection, Request};
use crate::options::BodyPolicy;
use crate::reactor::{BUFFER, Reactor};
use crate::spool::{Body, Spool};
use crate::transport::Read;
use crate::window::{Rest, Window};

/// Octets that wait for more in a buffer of just that size: ten thousand clients that stop in the
/// middle must not hold ten thousand full buffers.
const WAITING: usize = 512;
/// Octets received straight into a body at once.
const BODY_READ: usize = 256 * 1024;
/// Octets of a closed connection that are read and dropped, at most: gunicorn's bound.
const LINGER_OCTETS: usize = 64 * 1024;

/// What reading from the socket calls for next.
enum Next {
    /// Something has come, so many octets; more may be there, because they filled all the room.
    Parse { octets: usize, full: bool },
    /// Nothing has come.
    Nothing,
}

impl Reactor {
    pub(crate) fn read_ready(&mut self, id: ConnId, hangup: bool) {
        let Some(client) = self.client(id) else {
            return;
        };
        if client.half_closed {
            // All was read already, so this is the client leaving for good.
            if hangup {
                self.vanish(id, false);
            }
            return;
        }
        match client.phase {
            Phase::Lingering { dropped } => self.linger_read(id, dropped),
            Phase::Receiving | Phase::Discarding { .. } => self.receive(id, hangup),
            Phase::Answering | Phase::Flushing { .. } => self.read_ahead(id, hangup),
        }
    }

    fn receive(&mut self, id: ConnId, hangup: bool) {
        let mut received = 0;
        loop {
            match self.fill(id) {
                Ok(Next::Parse { octets, full }) => {
                    self.advance(id);
                    received += octets;
                    // The rest of a body is read while the memory is at hand, up to a turn's share.
                    if !full || received >= BODY_READ || !self.awaits_body(id) {
                        return;
                    }
                }
                // The selector would report the same for ever.
                Ok(Next::Nothing) if hangup => return self.vanish(id, false),
                Ok(Next::Nothing) => return self.after_parsing(id),
                Err(_) => return self.vanish(id, false),
            }
        }
    }

    /// Whether a body has begun to come, and is to be complete before its request is handed over.
    fn awaits_body(&mut self, id: ConnId) -> bool {
        self.client(id).is_some_and(|client| {
            client.phase == Phase::Receiving && client.protocol.awaits() == Awaits::Body
        })
    }

    /// While a request is being answered: goes on with its body as far as there is room for it,
    /// notices a client that leaves, and keeps what it sends early, as far as one buffer holds it.
    fn read_ahead(&mut self, id: ConnId, hangup: bool) {
        let limit = self.window_limit();
        let Some(client) = self.client(id) else {
            return;
        };
        let room = client.window().and_then(|window| window.room(limit));
        let read = match room {
            Some(0) => Ok(Next::Nothing),
            _ => self.fill(id),
        };
        match read {
            Ok(Next::Nothing) if hangup => self.vanish(id, false),
            Ok(_) if room.is_some() => self.advance(id),
            Ok(_) => self.update_interest(id),
            Err(_) => self.vanish(id, false),
        }
    }

    /// One receive, into the body where one is being read, else into the connection's buffer.
    fn fill(&mut self, id: ConnId) -> io::Result<Next> {
        let (read, room) = match self.fill_body(id)? {
            Some(read) => read,
            None => self.fill_buffer(id)?,
        };
        match read {
            Read::Octets(count) => {
                if let Some(tally) = self.tally {
                    tally.received(count);
                }
                let patience = self.options.timeouts.body;
                match self.client(id) {
                    Some(client) if client.deadline_for == Awaits::Body => {
                        self.credit(id, count as u64, patience);
                    }
                    Some(client) => {
                        if let Some(window) = client.window() {
                            window.credit(bought(count as u64), patience);
                        }
                    }
                    None => {}
                }
                let full = count == room;
                Ok(Next::Parse {
                    octets: count,
                    full,
                })
            }
            Read::Later => Ok(Next::Nothing),
            Read::Ended => {
                if let Some(client) = self.client(id) {
                    client.half_closed = true;
                    client.protocol.input_ended();
                }
                Ok(Next::Parse {
                    octets: 0,
                    full: false,
                })
            }
        }
    }

    /// Receives straight into a body of known length, which spares a copy; `None` where octets
    /// have to be parsed first. Also says how much room there was.
    fn fill_body(&mut self, id: ConnId) -> io::Result<Option<(Read, usize)>> {
        let window_limit = self.window_limit();
        let Some(client) = self.client(id).filter(|client| client.input.is_empty()) else {
            return Ok(None);
        };
        let Some(left) = client.protocol.body_remaining() else {
            return Ok(None);
        };
        let (storage, room) = match client.incoming.as_deref_mut() {
            Some(Incoming::Whole { spool, .. }) => (spool.memory(), BODY_READ),
            Some(Incoming::Windowed(window)) => {
                let room = window.room(window_limit).unwrap_or(0);
                (&mut window.octets, room)
            }
            None => return Ok(None),
        };
        let limit = usize::try_from(left).unwrap_or(usize::MAX).min(room);
        let (read, room) = client.transport.read_append(storage, limit)?;
        if let Read::Octets(count) = read {
            client.protocol.body_received(count as u64);
        }
        Ok(Some((read, room)))
    }

    fn fill_buffer(&mut self, id: ConnId) -> io::Result<(Read, usize)> {
        if self
            .client(id)
            .is_some_and(|client| client.input.capacity() <= WAITING)
        {
            let storage = self.lend_buffer();
            if let Some(client) = self.client(id) {
                client.input.move_to(storage);
            }
        }
        let Some(client) = self.client(id) else {
            return Ok((Read::Later, 0));
        };
        if client.input.room().is_empty() {
            if client.protocol.awaits() == Awaits::Nothing {
                // One buffer of early requests is enough; the rest waits in the kernel.
                return Ok((Read::Later, 0));
            }
            // Only a long head or trailer fills a buffer, and floor 1 bounds it.
            let capacity = client.input.capacity();
            client.input.grow(capacity * 2);
        }
        let room = client.input.room();
        let size = room.len();
        let read = client.transport.read(room)?;
        if let Read::Octets(count) = read {
            client.input.filled(count);
        }
        Ok((read, size))
    }

    /// Parses what has come, up to a request or to the need for more.
    pub(crate) fn advance(&mut self, id: ConnId) {
        if !self.settle_proxying(id) {
            return self.after_parsing(id);
        }
        loop {
            let Some(client) = self.clients.get_mut(id.index as usize) else {
                return;
            };
            if client.generation != id.generation {
                return;
            }
            let received = client.protocol.receive(
                &self.options.policy,
                client.trusted,
                &mut client.input,
                &mut self.heads,
            );
            match received {
                Ok(Received::NeedMore) => break,
                Ok(Received::Head(head)) => self.head_arrived(id, head),
                Ok(Received::Data(octets)) => {
                    let kept = match client.incoming.as_deref_mut() {
                        Some(Incoming::Whole { spool, .. }) => spool.append(octets, &self.spooling),
                        Some(Incoming::Windowed(window)) => {
                            window.octets.extend_from_slice(octets);
                            Ok(())
                        }
                        None => {
                            let count = octets.len() as u64;
                            if !client.drop_octets(count) {
                                return self.close(id);
                            }
                            Ok(())
                        }
                    };
                    if let Err(error) = kept {
                        return self.reject(id, Rejection::Spool(error));
                    }
                }
                Ok(Received::End) if matches!(client.phase, Phase::Discarding { .. }) => {
                    return self.answered(id, true);
                }
                Ok(Received::End) => self.body_arrived(id),
                Err(error) => return self.reject(id, Rejection::Protocol(error)),
            }
        }
        self.after_parsing(id);
    }

    fn after_parsing(&mut self, id: ConnId) {
        let Some(client) = self.clients.get_mut(id.index as usize) else {
            return;
        };
        if let Some(Incoming::Whole { spool, .. }) = client.incoming.as_deref_mut()
            && let Err(error) = spool.settle(&self.spooling)
        {
            return self.reject(id, Rejection::Spool(error));
        }
        let (held, capacity) = (client.input.len(), client.input.capacity());
        let waits = client.phase == Phase::Receiving;
        if let Some(storage) = client.input.take_storage() {
            self.return_buffer(storage);
        } else if waits && held <= WAITING && capacity > WAITING {
            let storage = client.input.move_to(vec![0; WAITING]);
            self.return_buffer(storage);
        } else if waits && held <= BUFFER / 2 && capacity > BUFFER {
            // What a long head has left behind.
            client.input.move_to(vec![0; BUFFER]);
        }
        self.settle_idle(id);
        self.announce_window(id);
        let Some(client) = self.client(id) else {
            return;
        };
        match client.phase {
            Phase::Receiving if client.half_closed && client.protocol.awaits() == Awaits::Idle => {
                self.close(id);
            }
            Phase::Receiving => self.await_client(id),
            // Answered at once, it never needs to be watched.
            Phase::Answering if client.interest == Interest::Unregistered => {}
            _ => self.update_interest(id),
        }
    }

    fn head_arrived(&mut self, id: ConnId, head: Box<Head>) {
        if let Some(client) = self.client(id) {
            client.last_request = head.closes_explicitly();
            client.head_left = false;
            client.safe = matches!(head.method(), b"GET" | b"HEAD");
        }
        let expected = match head.framing() {
            Framing::None => return self.hand_over(id, head, Body::Empty),
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        };
        match self.options.body {
            BodyPolicy::Whole => {
                let spool = Spool::new(expected, &self.spooling);
                let Some(client) = self.client(id) else {
                    return;
                };
                client.incoming = Some(Box::new(Incoming::Whole { head, spool }));
                // The body is read on the caller's behalf, so it is asked for on its behalf too.
                self.send_continue(id);
            }
            BodyPolicy::Windowed(_) => {
                let window = Window::new(expected.is_none(), self.options.timeouts.body);
                let Some(client) = self.client(id) else {
                    return;
                };
                client.incoming = Some(Box::new(Incoming::Windowed(window)));
                self.hand_over(id, head, Body::Arriving);
            }
        }
    }

    /// Sends `100 Continue` (RFC 9110 10.1.1) if the client waits for it, and for no answer of its
    /// request yet: a windowed body is asked for when it is first read, a whole one at once.
    pub(crate) fn send_continue(&mut self, id: ConnId) {
        let Some(client) = self.client(id) else {
            return;
        };
        if client.protocol.continue_due() && client.input.is_empty() && !client.head_left {
            client.protocol.continue_sent();
            self.queue_segment(id, crate::Segment::Bytes(encode::CONTINUE.to_vec()));
            self.flush(id);
        }
    }

    fn body_arrived(&mut self, id: ConnId) {
        let Some(client) = self.client(id) else {
            return;
        };
        if let Some(window) = client.window() {
            window.rest = Rest::Complete;
            return;
        }
        if let Some(Incoming::Whole { head, spool }) = client.incoming.take().map(|boxed| *boxed) {
            match spool.finish(&self.spooling) {
                Ok(body) => self.hand_over(id, head, body),
                Err(error) => self.reject(id, Rejection::Spool(error)),
            }
        }
    }

    fn hand_over(&mut self, id: ConnId, head: Box<Head>, body: Body) {
        self.clear_deadline(id);
        let Some(client) = self.client(id) else {
            return;
        };
        client.phase = Phase::Answering;
        client.deadline_for = Awaits::Nothing;
        if client.interest == Interest::Unregistered {
            self.unwatched.push(id);
        }
        let queued = self.queued_now();
        let Some(client) = self.client(id) else {
            return;
        };
        let request = Request {
            id,
            head,
            body,
            listener: client.listener,
            peer: client.peer.clone(),
            origin: client.proxying.origin().copied().map(Box::new),
            queued,
            started: 0,
        };
        self.enqueue(id, Event::Request(request));
    }

    /// Waits for what the protocol awaits, as long as that may take.
    fn await_client(&mut self, id: ConnId) {
        let timeouts = self.options.timeouts;
        let Some(client) = self.client(id) else {
            return;
        };
        match client.protocol.awaits() {
            // The whole head has one deadline, from its first octet on; a body earns its own.
            awaited if awaited == client.deadline_for => {}
            Awaits::Head => {
                client.deadline_for = Awaits::Head;
                self.set_deadline(id, timeouts.head);
            }
            Awaits::Body => {
                client.deadline_for = Awaits::Body;
                self.set_deadline(id, timeouts.body);
            }
            Awaits::Idle | Awaits::Nothing => {}
        }
        self.update_interest(id);
    }

    /// Whether a read is wanted on this connection.
    pub(crate) fn wants_read(&mut self, id: ConnId) -> bool {
        let limit = self.window_limit();
        let Some(client) = self.client(id) else {
            return false;
        };
        if client.half_closed {
            return false;
        }
        match client.phase {
            Phase::Receiving => !client.held,
            Phase::Discarding { .. } | Phase::Lingering { .. } => true,
            Phase::Answering | Phase::Flushing { .. } => {
                match client.window().and_then(|window| window.room(limit)) {
                    Some(room) => room > 0,
                    None => !client.input.has_storage() || !client.input.room().is_empty(),
                }
            }
        }
    }

    fn linger_read(&mut self, id: ConnId, dropped: usize) {
        let mut sink = self.lend_buffer();
        let tally = self.tally;
        let Some(client) = self.client(id) else {
            return;
        };
        let read = client.transport.read(&mut sink);
        let mut finished = true;
        if let Ok(Read::Octets(count)) = read {
            client.phase = Phase::Lingering {
                dropped: dropped + count,
            };
            finished = dropped + count > LINGER_OCTETS;
            if let Some(tally) = tally {
                tally.received(count);
            }
            if dropped == 0 && client.lost_if_late {
                self.late += 1;
            }
        } else if let Ok(Read::Later) = read {
            finished = false;
        }
        self.return_buffer(sink);
        if finished {
            self.drop_client(id);
        }
    }
}
