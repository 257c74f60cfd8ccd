//! From readiness to requests.

use std::io;

use meinheld_protocol::{Awaits, Framing, Head, Received, encode};

use crate::client::{Incoming, Interest, Phase};
use crate::event::{ConnId, Event, Rejection, Request};
use crate::reactor::{BUFFER, BodyPolicy, Reactor};
use crate::spool::{Body, Spool};
use crate::transport::Read;

/// Octets that wait for more in a buffer of just that size: ten thousand clients that stop in the
/// middle must not hold ten thousand full buffers.
const WAITING: usize = 512;
/// Octets received straight into a body at once.
const BODY_READ: usize = 256 * 1024;
/// Octets of a closed connection that are read and dropped, at most: gunicorn's bound.
const LINGER_OCTETS: usize = 64 * 1024;

/// A piece of a windowed body, from [`Reactor::take_body`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Octets in order.
    pub octets: Vec<u8>,
    /// Nothing follows these.
    pub complete: bool,
}

/// What reading from the socket calls for next.
enum Next {
    Parse,
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
            Phase::Receiving => self.receive(id, hangup),
            Phase::Answering | Phase::Flushing { .. } => self.read_ahead(id, hangup),
        }
    }

    fn receive(&mut self, id: ConnId, hangup: bool) {
        match self.fill(id) {
            Ok(Next::Parse) => self.advance(id),
            // The selector would report the same for ever.
            Ok(Next::Nothing) if hangup => self.vanish(id, false),
            Ok(Next::Nothing) => self.after_parsing(id),
            Err(_) => self.vanish(id, false),
        }
    }

    /// While a request is being answered: notices a client that leaves, and keeps what it sends
    /// early, as far as one buffer holds it.
    fn read_ahead(&mut self, id: ConnId, hangup: bool) {
        let Some(client) = self.client(id) else {
            return;
        };
        let windowed = client.incoming.is_some();
        let read = if windowed && self.window_is_full(id) {
            Ok(Next::Nothing)
        } else {
            self.fill(id)
        };
        match read {
            Ok(Next::Nothing) if hangup => self.vanish(id, false),
            Ok(_) if windowed => self.advance(id),
            Ok(_) => self.update_interest(id),
            Err(_) => self.vanish(id, false),
        }
    }

    /// One receive, into the body where one is being read, else into the connection's buffer.
    fn fill(&mut self, id: ConnId) -> io::Result<Next> {
        let read = match self.fill_body(id)? {
            Some(read) => read,
            None => self.fill_buffer(id)?,
        };
        match read {
            Read::Octets(count) => {
                let patience = self.options.timeouts.body;
                if self
                    .client(id)
                    .is_some_and(|client| client.deadline_for == Awaits::Body)
                {
                    self.credit(id, count as u64, patience);
                }
                Ok(Next::Parse)
            }
            Read::Later => Ok(Next::Nothing),
            Read::Ended => {
                if let Some(client) = self.client(id) {
                    client.half_closed = true;
                    client.protocol.input_ended();
                }
                Ok(Next::Parse)
            }
        }
    }

    /// Receives straight into a body of known length, which spares a copy; `None` where octets
    /// have to be parsed first.
    fn fill_body(&mut self, id: ConnId) -> io::Result<Option<Read>> {
        let Some(client) = self.client(id).filter(|client| client.input.is_empty()) else {
            return Ok(None);
        };
        let Some(left) = client.protocol.body_remaining() else {
            return Ok(None);
        };
        let Some(Incoming::Whole { spool, .. }) = client.incoming.as_deref_mut() else {
            return Ok(None);
        };
        let limit = usize::try_from(left).unwrap_or(usize::MAX).min(BODY_READ);
        let read = client.transport.read_append(spool.memory(), limit)?;
        if let Read::Octets(count) = read {
            client.protocol.body_received(count as u64);
        }
        Ok(Some(read))
    }

    fn fill_buffer(&mut self, id: ConnId) -> io::Result<Read> {
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
            return Ok(Read::Later);
        };
        if client.input.room().is_empty() {
            if client.phase != Phase::Receiving {
                // One buffer of early requests is enough; the rest waits in the kernel.
                return Ok(Read::Later);
            }
            // Only a long head fills a buffer, and floor 1 bounds it.
            let capacity = client.input.capacity();
            client.input.grow(capacity * 2);
        }
        let read = client.transport.read(client.input.room())?;
        if let Read::Octets(count) = read {
            client.input.filled(count);
        }
        Ok(read)
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
                Ok(Received::Head(head)) => {
                    client.last_request = head.closes_explicitly();
                    self.head_arrived(id, head);
                }
                Ok(Received::Data(octets)) => {
                    let kept = match client.incoming.as_deref_mut() {
                        Some(Incoming::Whole { spool, .. }) => spool.append(octets, &self.spooling),
                        Some(Incoming::Windowed(window)) => {
                            window.octets.extend_from_slice(octets);
                            Ok(())
                        }
                        None => Ok(()),
                    };
                    if let Err(error) = kept {
                        return self.reject(id, Rejection::Spool(error));
                    }
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
        if client.phase == Phase::Receiving {
            if client.half_closed && client.protocol.awaits() == Awaits::Idle {
                return self.close(id);
            }
            self.await_client(id);
        } else if client.incoming.is_some() {
            self.update_interest(id);
        }
    }

    fn head_arrived(&mut self, id: ConnId, head: Head) {
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
                let Some(client) = self.client(id) else {
                    return;
                };
                client.incoming = Some(Box::new(Incoming::Windowed(Window::default())));
                self.hand_over(id, head, Body::Arriving);
            }
        }
    }

    /// Sends `100 Continue` (RFC 9110 10.1.1) if the client waits for it: at the caller's command
    /// for windowed bodies, by itself for whole ones.
    pub fn send_continue(&mut self, id: ConnId) {
        let Some(client) = self.client(id) else {
            return;
        };
        if client.protocol.continue_due() && client.input.is_empty() {
            client.protocol.continue_sent();
            self.queue_segment(id, crate::Segment::Bytes(encode::CONTINUE.to_vec()));
            self.flush(id);
        }
    }

    fn body_arrived(&mut self, id: ConnId) {
        let Some(client) = self.client(id) else {
            return;
        };
        match client.incoming.take().map(|boxed| *boxed) {
            Some(Incoming::Whole { head, spool }) => match spool.finish(&self.spooling) {
                Ok(body) => self.hand_over(id, head, body),
                Err(error) => self.reject(id, Rejection::Spool(error)),
            },
            Some(Incoming::Windowed(mut window)) => {
                window.complete = true;
                client.incoming = Some(Box::new(Incoming::Windowed(window)));
            }
            None => {}
        }
    }

    fn hand_over(&mut self, id: ConnId, head: Head, body: Body) {
        self.clear_deadline(id);
        let Some(client) = self.client(id) else {
            return;
        };
        client.phase = Phase::Answering;
        client.deadline_for = Awaits::Nothing;
        if client.interest == Interest::Unregistered {
            self.unwatched.push(id);
        }
        let Some(client) = self.client(id) else {
            return;
        };
        let request = Request {
            id,
            head,
            body,
            listener: client.listener as usize,
            peer: client.peer.clone(),
            origin: client.proxying.origin().copied().map(Box::new),
        };
        self.queue.push_back(Event::Request(request));
    }

    /// Takes the octets of a windowed body that have come; empty while none have. Room in the
    /// window lets the client go on.
    pub fn take_body(&mut self, id: ConnId) -> Option<Window> {
        let client = self.client(id)?;
        let Some(Incoming::Windowed(window)) = client.incoming.as_deref_mut() else {
            return None;
        };
        let taken = std::mem::replace(
            window,
            Window {
                octets: Vec::new(),
                complete: window.complete,
            },
        );
        self.advance(id);
        self.update_interest(id);
        Some(taken)
    }

    fn window_is_full(&mut self, id: ConnId) -> bool {
        let BodyPolicy::Windowed(limit) = self.options.body else {
            return false;
        };
        match self
            .client(id)
            .and_then(|client| client.incoming.as_deref())
        {
            Some(Incoming::Windowed(window)) => window.complete || window.octets.len() >= limit,
            _ => false,
        }
    }

    fn announce_window(&mut self, id: ConnId) {
        let waiting = match self
            .client(id)
            .and_then(|client| client.incoming.as_deref())
        {
            Some(Incoming::Windowed(window)) => window.complete || !window.octets.is_empty(),
            _ => false,
        };
        if waiting {
            self.queue.push_back(Event::BodyReady(id));
        }
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
        let full = self.window_is_full(id);
        let Some(client) = self.client(id) else {
            return false;
        };
        if client.half_closed {
            return false;
        }
        match client.phase {
            Phase::Receiving | Phase::Lingering { .. } => true,
            Phase::Answering | Phase::Flushing { .. } if client.incoming.is_some() => !full,
            Phase::Answering | Phase::Flushing { .. } => {
                !client.input.has_storage() || !client.input.room().is_empty()
            }
        }
    }

    fn linger_read(&mut self, id: ConnId, dropped: usize) {
        let mut sink = self.lend_buffer();
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
