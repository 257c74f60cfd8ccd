//! Bodies that are handed over as they arrive: a window, whose fullness stops the client.

use std::time::Duration;

use meinheld_protocol::{Awaits, Status};

use crate::client::{Client, Incoming, Phase};
use crate::clock::Tick;
use crate::event::{ConnId, Event, Rejection};
use crate::options::BodyPolicy;
use crate::reactor::Reactor;

/// Octets of a body that nobody has read, which are read and dropped after its answer so that the
/// connection lives on, at most: gunicorn's bound (`parser.finish_body`).
const DISCARDED: u64 = 64 * 1024;

/// What has come of a body, and what is to be expected of the rest.
pub(crate) struct Window {
    pub(crate) octets: Vec<u8>,
    pub(crate) rest: Rest,
    chunked: bool,
    /// The caller was told [`BodyPart::Later`], and waits.
    wanted: bool,
    /// Milliseconds that the caller will still wait for the client.
    patience: Tick,
}

/// The rest of a body.
pub(crate) enum Rest {
    /// It arrives.
    Arriving,
    /// There is none.
    Complete,
    /// It will never come, or was never legal.
    Failed(Rejection),
}

/// A piece of a body, from [`Reactor::take_body`].
#[derive(Debug)]
pub enum BodyPart {
    /// Octets in order, never none.
    Octets(Vec<u8>),
    /// Nothing has come yet: [`Event::BodyReady`] follows.
    Later,
    /// The body is complete.
    End,
    /// The rest will not come.
    Failed(BodyFault),
    /// The client is gone.
    Gone,
}

/// Why the rest of a body will not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyFault {
    /// What the client is to be told, if nothing was sent yet; nothing where it has ended its side.
    pub status: Option<Status>,
    /// What is wrong, in one line.
    pub line: String,
}

impl Window {
    pub(crate) fn new(chunked: bool, patience: Duration) -> Self {
        Self {
            octets: Vec::new(),
            rest: Rest::Arriving,
            chunked,
            wanted: false,
            patience: u64::try_from(patience.as_millis()).unwrap_or(Tick::MAX),
        }
    }

    /// How many octets more may come before `limit` wait; `None` where no more are to come.
    pub(crate) fn room(&self, limit: usize) -> Option<usize> {
        matches!(self.rest, Rest::Arriving).then(|| limit.saturating_sub(self.octets.len()))
    }

    /// What waits, as it was on the wire; of chunks nothing, which cannot be put together again.
    pub(crate) fn take_raw(&mut self) -> Vec<u8> {
        let octets = std::mem::take(&mut self.octets);
        if self.chunked { Vec::new() } else { octets }
    }

    /// What the client has sent while nobody waited for it lengthens the next wait.
    pub(crate) fn credit(&mut self, bought: Tick, full: Duration) {
        let full = u64::try_from(full.as_millis()).unwrap_or(Tick::MAX);
        self.patience = self.patience.saturating_add(bought).min(full);
    }
}

impl Client {
    pub(crate) fn window(&mut self) -> Option<&mut Window> {
        match self.incoming.as_deref_mut() {
            Some(Incoming::Windowed(window)) => Some(window),
            _ => None,
        }
    }

    /// Counts octets of a body that nobody wanted; `false` once they are too many.
    pub(crate) fn drop_octets(&mut self, count: u64) -> bool {
        match &mut self.phase {
            Phase::Discarding { dropped } => {
                *dropped += count;
                *dropped <= DISCARDED
            }
            _ => true,
        }
    }

    /// Whether the caller waits for octets of the body.
    pub(crate) fn is_awaited(&mut self) -> bool {
        self.window().is_some_and(|window| window.wanted)
    }
}

impl Reactor {
    /// Octets that wait in a window, at most.
    pub(crate) fn window_limit(&self) -> usize {
        match self.options.body {
            BodyPolicy::Windowed(limit) => limit,
            BodyPolicy::Whole => 0,
        }
    }

    /// All of a body of which nothing is missing any more; `None` while something is.
    pub fn take_whole_body(&mut self, id: ConnId) -> Option<Vec<u8>> {
        let window = self.client(id)?.window()?;
        matches!(window.rest, Rest::Complete).then(|| std::mem::take(&mut window.octets))
    }

    /// The next octets of a windowed body. Where none have come it asks for them, with
    /// `100 Continue` if the client waits for that (RFC 9110 10.1.1), and gives the client
    /// what is left of its patience to send some: at first [`Timeouts::body`](crate::Timeouts), which
    /// octets earn back.
    pub fn take_body(&mut self, id: ConnId) -> BodyPart {
        let part = self.arrived_part(id);
        if !matches!(part, BodyPart::Later) {
            return part;
        }
        self.send_continue(id);
        // What has arrived since the last turn spares the caller a wait.
        self.read_ready(id, false);
        let part = self.arrived_part(id);
        if matches!(part, BodyPart::Later) {
            self.await_body(id);
        }
        part
    }

    fn arrived_part(&mut self, id: ConnId) -> BodyPart {
        let Some(client) = self.client(id) else {
            return BodyPart::Gone;
        };
        let Some(window) = client.window() else {
            return BodyPart::End;
        };
        if !window.octets.is_empty() {
            let octets = std::mem::take(&mut window.octets);
            self.update_interest(id);
            return BodyPart::Octets(octets);
        }
        match &window.rest {
            Rest::Arriving => BodyPart::Later,
            Rest::Complete => BodyPart::End,
            Rest::Failed(cause) => BodyPart::Failed(BodyFault::of(cause)),
        }
    }

    /// What is wrong with the body of the request on `id`, if anything is.
    pub fn body_fault(&mut self, id: ConnId) -> Option<BodyFault> {
        match &self.client(id)?.window()?.rest {
            Rest::Failed(cause) => Some(BodyFault::of(cause)),
            Rest::Arriving | Rest::Complete => None,
        }
    }

    fn await_body(&mut self, id: ConnId) {
        self.clock.advance();
        let Some(window) = self.client(id).and_then(Client::window) else {
            return;
        };
        window.wanted = true;
        let patience = Duration::from_millis(window.patience);
        if let Some(client) = self.client(id) {
            client.deadline_for = Awaits::Body;
        }
        self.set_deadline(id, patience);
        self.update_interest(id);
    }

    /// Tells a caller that waits that something has come, or that nothing more will.
    pub(crate) fn announce_window(&mut self, id: ConnId) {
        let now = self.clock.now();
        let Some(client) = self.client(id) else {
            return;
        };
        let deadline = client.deadline;
        let Some(window) = client.window().filter(|window| window.wanted) else {
            return;
        };
        if window.octets.is_empty() && matches!(window.rest, Rest::Arriving) {
            return;
        }
        window.wanted = false;
        window.patience = deadline.saturating_sub(now);
        client.deadline_for = Awaits::Nothing;
        self.clear_deadline(id);
        self.await_reader(id);
        self.emit(Event::BodyReady(id));
    }

    /// The body is not what it should be; what has come of it can still be taken.
    pub(crate) fn fail_body(&mut self, id: ConnId, cause: Rejection) {
        if let Some(window) = self.client(id).and_then(Client::window) {
            window.rest = Rest::Failed(cause);
            self.announce_window(id);
            self.update_interest(id);
        }
    }

    /// The time for the octets that the caller waits for is over, unless they lie in the kernel.
    pub(crate) fn give_up_body(&mut self, id: ConnId) {
        self.read_ready(id, false);
        let now = self.clock.now();
        if self
            .client(id)
            .is_some_and(|client| client.is_awaited() && client.deadline <= now)
        {
            self.fail_body(id, Rejection::Timeout("body"));
        }
    }

    /// Whether the connection can outlive the present request as far as its body is concerned: it
    /// has come, or what is missing of it is so little that it can be dropped.
    pub(crate) fn body_permits(&mut self, id: ConnId) -> bool {
        let Some(client) = self.client(id) else {
            return false;
        };
        let (due, left) = (
            client.protocol.continue_due(),
            client.protocol.body_remaining(),
        );
        match client.window().map(|window| &window.rest) {
            None | Some(Rest::Complete) => true,
            Some(Rest::Failed(_)) => false,
            // A client that was never told to continue may send the body, or its next request.
            Some(Rest::Arriving) => !due && left.is_none_or(|left| left <= DISCARDED),
        }
    }

    /// After an answer, reads on to the end of a body that nobody wanted; `false` where there is
    /// nothing to be dropped.
    pub(crate) fn begin_discarding(&mut self, id: ConnId) -> bool {
        let patience = self.options.timeouts.body;
        let Some(client) = self.client(id) else {
            return false;
        };
        let incoming = client.incoming.take();
        if incoming.is_none() || client.protocol.awaits() != Awaits::Body {
            return false;
        }
        client.phase = Phase::Discarding { dropped: 0 };
        client.deadline_for = Awaits::Body;
        self.set_deadline(id, patience);
        self.advance(id);
        true
    }
}

impl BodyFault {
    fn of(cause: &Rejection) -> Self {
        Self {
            status: cause.status(),
            line: cause.line(),
        }
    }
}
