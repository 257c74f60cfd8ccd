//! How connections end: gracefully, at once, or with somebody else.

use std::os::fd::OwnedFd;

use meinheld_protocol::Buffer;

use crate::client::{Client, Interest, NEVER, Phase};
use crate::drain::Lifecycle;
use crate::event::{ConnId, Event};
use crate::peer::Peer;
use crate::reactor::Reactor;
use crate::sys;
use crate::window::Window;

/// A connection that left the reactor, with [`Reactor::detach`].
#[derive(Debug)]
pub struct Detached {
    /// The socket, non-blocking.
    pub socket: OwnedFd,
    /// Octets that the client had sent behind its request, to be read before the socket.
    pub leftover: Vec<u8>,
}

impl Reactor {
    /// Ends a connection whose answer failed after its head had left: by a reset, so that no
    /// client takes what it has for complete.
    pub fn abort(&mut self, id: ConnId) {
        // Answers to the requests before it are whole.
        self.send_waiting(id);
        if let Some(client) = self.client(id) {
            client.transport.reset();
            self.drop_client(id);
        }
    }

    /// Answers a request with `answer` in the place of whoever has it, to whom its client has gone.
    /// Only before a head has left.
    pub fn deny(&mut self, id: ConnId, answer: &[u8]) {
        self.count_answer(id, answer);
        if let Some(id) = self.rename(id) {
            self.begin_answer(id);
            self.write(id, &[answer]);
            self.finish(id, false);
        }
    }

    /// Finishes an answer that is complete in the place of whoever has it, to whom its client has
    /// gone.
    pub fn dismiss(&mut self, id: ConnId) {
        if let Some(id) = self.rename(id) {
            self.finish(id, false);
        }
    }

    /// Gives a connection another name, so that nobody knows it until it is closed.
    fn rename(&mut self, id: ConnId) -> Option<ConnId> {
        self.send_waiting(id);
        let generation = self.next_generation();
        let client = self.client(id)?;
        client.generation = generation;
        // Timers know it by its old name, and so does the selector.
        client.scheduled = NEVER;
        client.deadline = NEVER;
        let known = std::mem::replace(&mut client.interest, Interest::Unregistered);
        if known != Interest::Unregistered {
            let client = &self.clients[id.index as usize];
            let _ = self.selector.remove(&client.transport);
        }
        let id = ConnId { generation, ..id };
        self.update_interest(id);
        Some(id)
    }

    /// Gives the connection away: the reactor forgets it, and no answer is written.
    pub fn detach(&mut self, id: ConnId) -> Option<Detached> {
        self.send_waiting(id);
        let mut client = self.forget(id)?;
        // What it becomes is the application's affair: something else than HTTP, mostly.
        if let Some(tally) = self.tally {
            tally.answer(b"HTTP/1.1 101");
        }
        if client.interest != Interest::Unregistered {
            let _ = self.selector.remove(&client.transport);
        }
        let raw = client.protocol.detach(&mut client.input);
        let mut leftover = client.window().map_or_else(Vec::new, Window::take_raw);
        leftover.extend_from_slice(&raw);
        Some(Detached {
            socket: client.transport.into_fd(),
            leftover,
        })
    }

    /// Takes back the socket of a connection that was [given away](Self::detach), and of which
    /// others may have copies, to end it as any other: FIN, then reading until the client's own.
    pub fn end_detached(&mut self, socket: OwnedFd) {
        // Closing is never to wait, whatever its holders have set.
        let _ = socket2::SockRef::from(&socket).set_linger(None);
        // Nothing will be said of it any more, so its name does not matter.
        let id = self.enrol(socket, Peer::from_any(None), 0);
        if let Some(client) = self.client(id) {
            client.shared = true;
            self.close(id);
        }
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
        self.send_waiting(id);
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
            self.emit(Event::Gone(id));
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
        let client = self.clients.try_remove(id.index as usize);
        if let Some(tally) = self.tally {
            tally.open(-1);
        }
        if self.lifecycle() == Lifecycle::Gone {
            self.rouse();
        }
        client
    }

    pub(crate) fn drop_client(&mut self, id: ConnId) {
        let Some(client) = self.forget(id) else {
            return;
        };
        // A child may hold a copy of the descriptor.
        if client.shared || sys::has_forked() {
            // Closing ours would end nothing, and the selector would go on reporting it.
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
}
