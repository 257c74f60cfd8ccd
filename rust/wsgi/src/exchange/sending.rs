//! The body of an answer, framed, on its way to the client.

use std::sync::atomic::Ordering::SeqCst;

use meinheld_protocol::encode::{BodyEncoder, Encoded};
use meinheld_reactor::{ConnId, Progress, Reactor};
use pyo3::exceptions::PyAssertionError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{Answer, Exchange, STORAGE, Sending, State};
use crate::failure::Failure;
use crate::ffi::bytes::PinnedBytes;
use crate::gateway::Gateway;
use crate::outgoing;

/// How a block goes out: what precedes it, how many of its octets, what follows.
pub(crate) struct Frame<'a> {
    /// Storage of the exchange's, to be given back.
    pub(crate) lead: &'a mut Vec<u8>,
    pub(crate) length: usize,
    pub(crate) tail: &'static [u8],
    pub(crate) ends: Ends,
}

impl<'a> Frame<'a> {
    /// All of it in one buffer, for a block that is cheaper to copy than to send apart.
    pub(crate) fn merge(self, block: &[u8]) -> &'a [u8] {
        self.lead.extend_from_slice(&block[..self.length]);
        self.lead.extend_from_slice(self.tail);
        self.lead
    }
}

/// What follows octets of a body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    /// More, perhaps.
    No,
    /// The end of the body.
    Block,
    /// The end of the body, and of the request's business with its connection.
    AndOver,
}

/// What ends with a block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// Nothing, or nothing that may [wait](Reactor::write_end).
    Nothing,
    /// The body, inline and on a connection that persists.
    Body,
    /// The request, whose whole answer this is; the flag says whether the connection persists.
    Request(bool),
}

/// How much of an answer has been sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Not the end, as far as is known.
    Part,
    /// All of it, and the exchange is over.
    Whole,
}

/// How an answer ended, for the connection's sake.
pub(crate) enum End {
    /// Regularly; the flag says whether the connection may stay.
    Complete(bool),
    /// With less than its Content-Length: this many octets are missing.
    Short(u64),
}

impl Exchange {
    /// Admits `octets` of body, with the head where that is still owed, and gives their frame to
    /// `give`. If they are the last, the end of the body leaves in the same write. The answer stays
    /// locked: what another thread of the application's sends late must not come between the octets
    /// of the connection's next answer.
    pub(crate) fn framed<T>(
        &self,
        octets: usize,
        last: Last,
        give: impl FnOnce(&mut Reactor, ConnId, Frame<'_>) -> T,
    ) -> Result<T, Failure> {
        let mut state = self.state();
        let state = &mut *state;
        let mut reactor = self.gateway.reactor();
        let (first, mut sending) = self.open(state, &mut reactor)?;
        let (length, tail) = sending
            .body
            .frame(&mut state.storage, octets, last != Last::No);
        sending.sent += length as u64;
        let whole = first && last == Last::AndOver && sending.body.end() == Ok(b"");
        state.answer = match whole {
            true => Answer::Over,
            false => Answer::Sending(sending),
        };
        let inline = self.gateway.way.is_inline();
        let ends = match (whole, sending.persistent) {
            (true, persists) => Ends::Request(persists),
            (false, true) if inline && sending.body.end() == Ok(b"") => Ends::Body,
            (false, _) => Ends::Nothing,
        };
        let frame = Frame {
            lead: &mut state.storage,
            length,
            tail,
            ends,
        };
        let given = give(&mut reactor, state.id, frame);
        if whole && state.storage.capacity() > STORAGE {
            state.storage = Vec::new();
        }
        if reactor.has_waiting() {
            self.gateway.flusher.rouse(&self.gateway, &mut reactor);
        }
        Ok(given)
    }

    /// Sends a block; an empty one is nothing (PEP 3333: headers wait for the first octets).
    pub(crate) fn send(&self, block: &Bound<'_, PyBytes>, last: bool) -> Result<Sent, Failure> {
        let octets = block.as_bytes();
        if octets.is_empty() {
            return Ok(Sent::Part);
        }
        let pinned = PinnedBytes::worthwhile(block);
        let way = &self.gateway.way;
        // Nobody is told of it afterwards, and the iterable has no close(): it can be over at once.
        let over = way.is_inline() && pinned.is_none() && !self.gateway.face.wants_records();
        let last = match (last, over) {
            (false, _) => Last::No,
            (true, false) => Last::Block,
            (true, true) => Last::AndOver,
        };
        let send = || {
            self.framed(octets.len(), last, |reactor, id, frame| {
                let sent = match frame.ends {
                    Ends::Request(_) => Sent::Whole,
                    Ends::Body | Ends::Nothing => Sent::Part,
                };
                let progress = match (pinned, frame.ends) {
                    (Some(pinned), _) => outgoing::send_pinned(reactor, id, frame, pinned),
                    (None, Ends::Request(persists)) => {
                        reactor.answer(id, frame.merge(octets), persists)
                    }
                    (None, Ends::Body) => reactor.write_end(id, frame.merge(octets)),
                    (None, Ends::Nothing) => reactor.write(id, &[frame.merge(octets)]),
                };
                (progress, sent)
            })
        };
        let (progress, sent) = if way.releases(octets.len()) {
            block.py().detach(send)?
        } else {
            send()?
        };
        match progress {
            Progress::Gone => Err(Failure::Gone),
            Progress::Accepted | Progress::Pending => Ok(sent),
        }
    }

    /// Queues a block behind others, to be [flushed](Gateway::flush) together.
    pub(crate) fn queue(&self, block: &Bound<'_, PyBytes>) -> Result<(), Failure> {
        let octets = block.as_bytes();
        if octets.is_empty() {
            return Ok(());
        }
        let pinned = PinnedBytes::worthwhile(block);
        self.framed(octets.len(), Last::No, |reactor, id, frame| {
            outgoing::queue(reactor, id, frame, octets, pinned);
        })
    }

    /// Opens the answer for octets of its body: storage for what precedes them, with the head in it
    /// where this is the first time, which is said.
    fn open(&self, state: &mut State, reactor: &mut Reactor) -> Result<(bool, Sending), Failure> {
        match &mut state.answer {
            Answer::Sending(sending) => {
                state.storage.clear();
                Ok((false, *sending))
            }
            Answer::TakenOver => Err(Failure::TakenOver),
            Answer::Over => Err(Failure::Gone),
            Answer::Awaited => Err(Failure::Raised(PyAssertionError::new_err(
                "the application gave a body before it called start_response()",
            ))),
            begun @ Answer::Begun(_) => {
                let Answer::Begun(begun) = std::mem::replace(begun, Answer::Awaited) else {
                    return Err(Failure::TakenOver);
                };
                let may_stay = reactor.begin_answer(state.id) && self.gateway.may_keep_alive();
                let Encoded {
                    head,
                    body,
                    persistent,
                } = begun.finish(&reactor.date(), may_stay);
                reactor.count_answer(state.id, &head);
                state.storage = head;
                let sending = Sending {
                    body,
                    persistent,
                    sent: 0,
                };
                Ok((true, sending))
            }
        }
    }

    /// Waits until so little of this answer is on its way that the application may give more.
    pub(crate) fn wait_for_room(&self, py: Python<'_>) -> Result<(), Failure> {
        self.wait_for_client(py, self.gateway.way.ahead())
    }

    /// Waits until the kernel has all that was sent so far, answers to earlier requests included.
    pub(crate) fn wait_until_sent(&self, py: Python<'_>) -> Result<(), Failure> {
        self.gateway.flush(py, self.id())?;
        self.wait_for_client(py, 0)
    }

    /// Whether a greenlet may give more. If not, `party` is told when it could.
    pub(crate) fn has_room(&self, party: Py<PyAny>) -> Result<bool, Failure> {
        let id = self.id();
        // Locked to the end: what another thread waits for must not come in between.
        let mut reactor = self.gateway.reactor();
        if self.over.load(SeqCst) {
            return Err(Failure::Gone);
        }
        let progress = reactor.want_room(id, self.gateway.way.ahead());
        match (progress, self.gateway.way.green()) {
            (Progress::Gone, _) => Err(Failure::Gone),
            (Progress::Pending, Some(green)) => {
                green.await_room(id, party);
                Ok(false)
            }
            (Progress::Pending | Progress::Accepted, _) => Ok(true),
        }
    }

    fn wait_for_client(&self, py: Python<'_>, ahead: usize) -> Result<(), Failure> {
        let Gateway { way, .. } = &*self.gateway;
        let id = self.id();
        loop {
            way.before_next_block(&self.gateway, py, id)?;
            let progress = {
                let mut reactor = self.gateway.reactor();
                if self.over.load(SeqCst) {
                    return Err(Failure::Gone);
                }
                let progress = reactor.want_room(id, ahead);
                if progress == Progress::Pending {
                    way.expect(id);
                }
                progress
            };
            match progress {
                Progress::Accepted => return Ok(()),
                Progress::Gone => return Err(Failure::Gone),
                Progress::Pending => way.wait(&self.gateway, py)?,
            }
        }
    }

    /// Ends the answer: sends what is owed, and says what becomes of the connection.
    pub(crate) fn end(&self) -> Result<End, Failure> {
        let mut state = self.state();
        let state = &mut *state;
        if let Answer::Sending(sending) = &mut state.answer
            && let Ok(b"") = sending.body.end()
        {
            // Nothing may follow: not even what close() still writes.
            sending.body = BodyEncoder::Omitted;
            return Ok(End::Complete(sending.persistent));
        }
        match state.answer {
            // Whole already, most often.
            Answer::Over => return Err(Failure::Gone),
            Answer::Awaited => {
                return Err(Failure::Raised(PyAssertionError::new_err(
                    "the application returned without having called start_response()",
                )));
            }
            Answer::Begun(_) | Answer::Sending(_) | Answer::TakenOver => {}
        }
        let mut reactor = self.gateway.reactor();
        let (_, mut sending) = self.open(state, &mut reactor)?;
        let end = match sending.body.end() {
            Ok(last) => {
                state.storage.extend_from_slice(last);
                End::Complete(sending.persistent)
            }
            Err(short) => End::Short(short.missing),
        };
        sending.body = BodyEncoder::Omitted;
        state.answer = Answer::Sending(sending);
        let progress = match &state.storage[..] {
            [] => Progress::Accepted,
            octets => reactor.write(state.id, &[octets]),
        };
        match progress {
            Progress::Gone => Err(Failure::Gone),
            Progress::Accepted | Progress::Pending => Ok(end),
        }
    }
}
