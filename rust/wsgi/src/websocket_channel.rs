//! The stream under a WebSocket: a socket that never waits, and what it has not taken yet.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

/// Octets received in one turn: then it is another connection's.
const TURN: usize = 64 * 1024;
/// What an empty queue may keep of its memory: sockets are many, and most are quiet.
const KEPT: usize = 4096;

/// Reads come from the socket, at most so much a [turn](Self::begin_turn). Writes are queued, and
/// always succeed: [`flush_queue`](Self::flush_queue) sends what the socket takes.
pub(crate) struct Channel {
    socket: OwnedFd,
    queue: Vec<u8>,
    /// Octets of `queue` that have left.
    sent: usize,
    /// Octets that may still be received in this turn.
    budget: usize,
    received: u64,
    taken: u64,
}

impl Channel {
    /// `queue` is to be sent before anything else.
    pub(crate) fn new(socket: OwnedFd, queue: Vec<u8>) -> Self {
        Self {
            socket,
            queue,
            sent: 0,
            budget: TURN,
            received: 0,
            taken: 0,
        }
    }

    pub(crate) fn begin_turn(&mut self) {
        self.budget = TURN;
    }

    /// Octets that wait for the socket.
    pub(crate) fn pending(&self) -> usize {
        self.queue.len() - self.sent
    }

    /// Octets that have come, and octets that the socket has taken, since the beginning.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.received, self.taken)
    }

    /// Sends what the socket takes now.
    pub(crate) fn flush_queue(&mut self) -> io::Result<()> {
        while self.pending() > 0 {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::send(&self.socket, &self.queue[self.sent..], flags) {
                Ok(count) => {
                    self.sent += count;
                    self.taken += count as u64;
                }
                Err(Errno::AGAIN) => {
                    self.compact();
                    return Ok(());
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.forget_queue();
        Ok(())
    }

    /// Moves the rest to the front, once that is less work than was done for it.
    fn compact(&mut self) {
        if self.sent > self.queue.len() / 2 {
            self.queue.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Nothing that waits will be sent.
    pub(crate) fn forget_queue(&mut self) {
        self.queue.clear();
        self.queue.shrink_to(KEPT);
        self.sent = 0;
    }

    /// Sends a FIN, behind what the socket has taken.
    pub(crate) fn end_writing(&self) {
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
    }

    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub(crate) fn into_socket(self) -> OwnedFd {
        self.socket
    }
}

impl Read for Channel {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.budget == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // The same error for a signal: the socket is still ready.
        let received = rustix::net::recv(&self.socket, &mut *room, RecvFlags::DONTWAIT);
        let (count, _) = received.map_err(|error| match error {
            Errno::INTR => io::ErrorKind::WouldBlock.into(),
            error => io::Error::from(error),
        })?;
        self.budget = self.budget.saturating_sub(count);
        self.received += count as u64;
        Ok(count)
    }
}

impl Write for Channel {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.queue.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
