//! Whether a client is still there, told without reading: also behind octets that nobody has read.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::event::ConnId;
use crate::reactor::Reactor;

/// Reset or, on a unix socket, closed.
const GONE: PollFlags = PollFlags::HUP.union(PollFlags::ERR);

/// Whether the other end has gone. A FIN alone says only that it will send no more.
pub(crate) fn has_gone(socket: impl AsFd) -> bool {
    shows(socket, GONE)
}

/// Whether the other end of a connection has gone, or will send no more.
fn has_ended(socket: impl AsFd) -> bool {
    shows(socket, GONE.union(PollFlags::RDHUP))
}

fn shows(socket: impl AsFd, flags: PollFlags) -> bool {
    let mut polled = [PollFd::new(&socket, flags)];
    // What cannot be told is not taken for an end.
    let _ = poll(&mut polled, Some(&Timespec::default()));
    polled[0].revents().intersects(flags)
}

impl Reactor {
    /// Whether the client of this connection has closed its side, or gone.
    pub fn has_ended(&mut self, id: ConnId) -> bool {
        self.client(id)
            .is_none_or(|client| has_ended(&client.transport))
    }
}
