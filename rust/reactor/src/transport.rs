//! One connection's bytes, as system calls.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use crate::spool;
use crate::sys;

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// This many octets, more than none.
    Octets(usize),
    /// The client sends no more.
    Ended,
    /// Nothing yet.
    Later,
}

/// A connected, non-blocking stream socket.
pub(crate) struct Transport {
    fd: OwnedFd,
}

impl Transport {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Receives into `room`, which must not be empty.
    pub(crate) fn read(&self, room: &mut [u8]) -> io::Result<Read> {
        Self::classify(rustix::net::recv(&self.fd, room, RecvFlags::DONTWAIT).map(|(n, _)| n))
    }

    /// Appends up to `limit` octets to `out`; also says how many there was room for.
    pub(crate) fn read_append(&self, out: &mut Vec<u8>, limit: usize) -> io::Result<(Read, usize)> {
        let room = spool::make_room(out, limit);
        let read = Self::classify(sys::receive_append(&self.fd, out, room))?;
        Ok((read, room))
    }

    fn classify(result: Result<usize, Errno>) -> io::Result<Read> {
        match result {
            Ok(0) => Ok(Read::Ended),
            Ok(n) => Ok(Read::Octets(n)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Read::Later),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what the kernel takes; `Ok(0)` means that it takes nothing now.
    pub(crate) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        // One buffer, which most answers are, is cheaper to hand over alone.
        match slices {
            [octets] => self.send(octets, SendFlags::empty()),
            _ => Self::taken(rustix::io::writev(&self.fd, slices)),
        }
    }

    /// As [`write`](Self::write), for octets that a file or the end follows at once: they leave in
    /// one packet with what follows.
    pub(crate) fn write_more(&self, octets: &[u8]) -> io::Result<usize> {
        self.send(octets, SendFlags::MORE)
    }

    fn send(&self, octets: &[u8], flags: SendFlags) -> io::Result<usize> {
        let flags = SendFlags::NOSIGNAL | flags;
        Self::taken(rustix::net::send(&self.fd, octets, flags))
    }

    /// Sends from a file by `sendfile(2)`; moves `offset` on.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the file is shorter than was promised.
    pub(crate) fn write_file(
        &self,
        file: BorrowedFd<'_>,
        offset: &mut u64,
        count: usize,
    ) -> io::Result<usize> {
        match rustix::fs::sendfile(&self.fd, file, Some(offset), count) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            result => Self::taken(result),
        }
    }

    fn taken(result: Result<usize, Errno>) -> io::Result<usize> {
        match result {
            Ok(n) => Ok(n),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Says that nothing more will be sent, and goes on receiving.
    pub(crate) fn end_writing(&self) {
        let _ = rustix::net::shutdown(&self.fd, Shutdown::Write);
    }

    /// Ends both directions at once, for every process that holds the socket.
    pub(crate) fn end(&self) {
        let _ = rustix::net::shutdown(&self.fd, Shutdown::Both);
    }

    /// Ends the connection by a reset, for every process that holds it: the client must not take
    /// what it has for complete.
    pub(crate) fn reset(&self) {
        // Disconnecting sends the reset at once (tcp_disconnect); SO_LINGER would leave it to the
        // last close, which may be a child's.
        if rustix::net::connect_unspec(&self.fd).is_err() {
            let _ = socket2::SockRef::from(&self.fd).set_linger(Some(Duration::ZERO));
        }
    }

    /// Whether the client has sent nothing that was not read: closing then destroys no answer on
    /// its way.
    pub(crate) fn has_nothing_to_read(&self) -> bool {
        let mut octet = [0];
        let peeked = rustix::net::recv(&self.fd, &mut octet, RecvFlags::PEEK);
        matches!(peeked, Err(Errno::AGAIN) | Ok((_, 0)))
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
