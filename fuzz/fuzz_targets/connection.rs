//! A connection and a caller that does everything a caller may do, in any order.
//!
//! The plan is the caller: one operation an octet, over and over until the wire is delivered.
//!
//! Invariants:
//! - the requests, their bodies and the error are those of a caller that delivers everything at once and answers each
//!   request at its end: order and size of the operations change nothing but how far the connection gets;
//! - what the connection says of itself (awaits, complete, remaining, due) is what a model of its life says;
//! - every octet that went in was consumed or is left, data is the piece of the wire at its place, and a body never
//!   exceeds its Content-Length;
//! - after an error, after a detach and behind a last request nothing is consumed and no head comes;
//! - a buffer that may grow to `Limits::max_head` is never full while octets are awaited.

#![no_main]

use libfuzzer_sys::fuzz_target;
use meinheld_fuzz::Input;
use meinheld_fuzz::peer::{Request, Transcript, converse};
use meinheld_protocol::{Awaits, Buffer, Connection, Error, Framing, HeadPool, Received};

/// Rounds of a plan; one that delivers nothing would never end.
const ROUNDS: usize = 64;

fuzz_target!(|octets: &[u8]| {
    let Some(input) = Input::read(octets) else {
        return;
    };
    let mut caller = Caller::new(&input);
    for &operation in input.plan.iter().cycle().take(ROUNDS * input.plan.len()) {
        caller.perform(operation);
        caller.assert_consistent();
        if caller.delivered == input.wire.len() {
            break;
        }
    }
    caller.pull_all();
    caller.assert_consistent();
    caller.assert_is_start_of(&converse(&input.policy, input.trusted, [input.wire], false));
});

/// Where the life of the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    BeforeHead,
    /// This much of a body is missing, where a length was declared.
    Body(Option<u64>),
    Complete {
        told: bool,
    },
    Failed,
    Detached,
}

struct Caller<'a> {
    given: &'a Input<'a>,
    connection: Connection,
    buffer: Buffer,
    heads: HeadPool,
    /// Octets of the wire that went in.
    delivered: usize,
    ended: bool,
    // The model.
    phase: Phase,
    response_due: bool,
    continue_possible: bool,
    requests: Vec<Request>,
    error: Option<Error>,
}

impl<'a> Caller<'a> {
    fn new(given: &'a Input<'a>) -> Self {
        Self {
            given,
            connection: Connection::new(),
            buffer: Buffer::with_storage(vec![0; 1 + usize::from(given.plan[0])]),
            heads: HeadPool::default(),
            delivered: 0,
            ended: false,
            phase: Phase::BeforeHead,
            response_due: false,
            continue_possible: false,
            requests: Vec::new(),
            error: None,
        }
    }

    fn perform(&mut self, operation: u8) {
        let argument = usize::from(operation >> 3);
        match operation & 7 {
            0 | 1 => self.deliver(1 + argument),
            2 => self.deliver(8 << (argument & 7)),
            3 => drop(self.pull()),
            4 => self.pull_all(),
            5 => self.respond(),
            6 => self.turn_to_next(),
            _ => match argument {
                0 => self.detach(),
                1 => {
                    self.connection.input_ended();
                    self.ended = true;
                }
                2..=4 => {
                    self.connection.continue_sent();
                    self.continue_possible = false;
                }
                _ => self.receive_past_the_buffer(1 << (argument & 15)),
            },
        }
    }

    /// What comes next of the wire, as far as there is room.
    fn deliver(&mut self, most: usize) {
        if self.ended {
            return;
        }
        let next = &self.given.wire[self.delivered..];
        let room = self.buffer.room();
        let n = room.len().min(most).min(next.len());
        room[..n].copy_from_slice(&next[..n]);
        self.buffer.filled(n);
        self.delivered += n;
    }

    /// Octets that have left the buffer, or never were in it.
    fn consumed(&self) -> usize {
        self.delivered - self.buffer.len()
    }

    /// One event; false if there was none.
    fn pull(&mut self) -> bool {
        let Input {
            policy,
            trusted,
            wire,
            ..
        } = self.given;
        let before = self.consumed();
        let buffered = self.buffer.len();
        let received = self
            .connection
            .receive(policy, *trusted, &mut self.buffer, &mut self.heads);
        match received {
            Ok(Received::NeedMore) => {
                if !matches!(self.phase, Phase::BeforeHead | Phase::Body(None)) {
                    assert_eq!(self.consumed(), before, "{:?}", self.phase);
                }
                self.make_room();
                return false;
            }
            Ok(Received::Head(head)) => {
                assert_eq!(self.phase, Phase::BeforeHead);
                let request = Request::new(&head, self.connection.continue_due());
                self.phase = match head.framing() {
                    Framing::None => Phase::Complete { told: false },
                    Framing::Length(length) => Phase::Body(Some(length)),
                    Framing::Chunked => Phase::Body(None),
                };
                self.continue_possible = head.expects_continue() && head.framing() != Framing::None;
                assert_eq!(request.continue_due, self.continue_possible);
                self.response_due = true;
                self.requests.push(request);
                self.heads.give_back(head);
            }
            Ok(Received::Data(data)) => {
                let n = data.len();
                let request = self.requests.last_mut().expect("a head comes first");
                request.body.extend_from_slice(data);
                let after = self.delivered - self.buffer.len();
                assert!(n > 0 && n <= buffered);
                assert!(request.body.ends_with(&wire[after - n..after]));
                self.take_data(n);
            }
            Ok(Received::End) => {
                assert!(matches!(
                    self.phase,
                    Phase::Body(None) | Phase::Complete { told: false }
                ));
                self.phase = Phase::Complete { told: true };
                self.continue_possible = false;
            }
            Err(error) => {
                assert!(matches!(self.phase, Phase::BeforeHead | Phase::Body(_)));
                assert_eq!(
                    matches!(error, Error::Truncated(_)),
                    error.status().is_none()
                );
                assert!(self.ended || !matches!(error, Error::Truncated(_)));
                self.response_due |= self.phase == Phase::BeforeHead;
                self.phase = Phase::Failed;
                self.error = Some(error);
            }
        }
        true
    }

    fn take_data(&mut self, n: usize) {
        self.continue_possible = false;
        if let Phase::Body(Some(left)) = &mut self.phase {
            *left = left
                .checked_sub(n as u64)
                .expect("within the declared length");
            if *left == 0 {
                self.phase = Phase::Complete { told: false };
            }
        }
    }

    fn pull_all(&mut self) {
        while self.pull() {}
    }

    /// As the caller must, when more is awaited and the buffer is full.
    fn make_room(&mut self) {
        if self.connection.awaits() != Awaits::Nothing && self.buffer.room().is_empty() {
            let largest = self.given.policy.limits.max_head();
            let capacity = self.buffer.capacity();
            assert!(capacity < largest, "full, and more is awaited");
            self.buffer.grow((capacity * 2).min(largest));
        }
    }

    fn respond(&mut self) {
        self.connection.responded();
        self.response_due = false;
        self.continue_possible = false;
    }

    fn turn_to_next(&mut self) {
        let complete = matches!(self.phase, Phase::Complete { .. });
        let persists = self
            .requests
            .last()
            .is_some_and(|request| request.keep_alive);
        let turns = complete && persists && !self.response_due;
        assert_eq!(self.connection.next_request(), turns);
        if turns {
            self.phase = Phase::BeforeHead;
        }
    }

    fn receive_past_the_buffer(&mut self, most: usize) {
        let Some(left) = self.connection.body_remaining() else {
            self.connection.body_received(0);
            return;
        };
        if !self.buffer.is_empty() || self.ended {
            return;
        }
        let next = &self.given.wire[self.delivered..];
        let n = next
            .len()
            .min(most)
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        self.connection.body_received(n as u64);
        if n > 0 {
            let request = self.requests.last_mut().expect("a head comes first");
            request.body.extend_from_slice(&next[..n]);
            self.delivered += n;
            self.take_data(n);
        }
    }

    fn detach(&mut self) {
        let left = self.given.wire[self.consumed()..self.delivered].to_vec();
        assert_eq!(self.connection.detach(&mut self.buffer), left);
        assert!(self.buffer.is_empty());
        self.phase = Phase::Detached;
        self.response_due = false;
        self.continue_possible = false;
    }

    fn assert_consistent(&self) {
        let awaits = self.connection.awaits();
        match self.phase {
            Phase::BeforeHead => assert!(matches!(awaits, Awaits::Idle | Awaits::Head)),
            Phase::Body(_) => assert_eq!(awaits, Awaits::Body),
            Phase::Complete { .. } | Phase::Failed | Phase::Detached => {
                assert_eq!(awaits, Awaits::Nothing);
            }
        }
        let complete = matches!(self.phase, Phase::Complete { .. });
        assert_eq!(self.connection.request_complete(), complete);
        let remaining = match self.phase {
            Phase::Body(Some(left)) => Some(left),
            _ => None,
        };
        assert_eq!(self.connection.body_remaining(), remaining);
        assert_eq!(self.connection.response_due(), self.response_due);
        assert!(self.continue_possible || !self.connection.continue_due());
        // Octets only leave at the front, in order.
        let left = &self.given.wire[self.consumed()..self.delivered];
        if self.phase != Phase::Detached {
            assert_eq!(self.buffer.as_slice(), left);
        }
    }

    fn assert_is_start_of(&self, whole: &Transcript) {
        assert!(self.requests.len() <= whole.requests.len());
        let last = self.requests.len().saturating_sub(1);
        for (at, (found, expected)) in self.requests.iter().zip(&whole.requests).enumerate() {
            let body_complete = at < last || matches!(self.phase, Phase::Complete { .. });
            if body_complete {
                assert_eq!(found.body, expected.body);
            }
            assert!(expected.body.starts_with(&found.body));
            assert!(!body_complete || expected.complete);
            let expected = Request {
                body: found.body.clone(),
                complete: found.complete,
                ..expected.clone()
            };
            assert_eq!(*found, expected);
        }
        match &self.error {
            None => {}
            Some(Error::Truncated(_)) => assert!(self.ended),
            error => assert_eq!(*error, whole.error),
        }
    }
}
