//! A server's side of one HTTP/1 connection, without the connection.

use crate::buffer::Buffer;
use crate::chunked::{Chunked, Decoded};
use crate::error::Error;
use crate::framing::Framing;
use crate::grammar::is_tchar;
use crate::head::{Head, HeadPool};
use crate::limits::Policy;
use crate::parse::{parse, parse_again};
use crate::scan::Scanner;
use crate::section::LastSection;
use crate::state::{Decoder, Move, Reading, State, Writing};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// What a connection waits for its client to send; each has a deadline of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaits {
    /// The first octet of a next request.
    Idle,
    /// The rest of a request head.
    Head,
    /// The rest of a request body.
    Body,
    /// Nothing: the request is complete, or nothing is read any more.
    Nothing,
}

/// What was found in the input.
#[derive(Debug)]
pub enum Received<'a> {
    /// Nothing more before more octets are received, or before the pending request is answered.
    NeedMore,
    /// A request begins.
    Head(Box<Head>),
    /// Octets of its body, never none; they are no longer in the buffer.
    Data(&'a [u8]),
    /// The request is complete.
    End,
}

/// Whether `100 Continue` is still to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Continue {
    Due,
    Settled,
}

/// The state of one connection: small, because most connections are idle.
#[derive(Debug)]
pub struct Connection {
    state: State,
    proceed: Continue,
    input_ended: bool,
    /// Whether a request may follow the present one.
    persists: bool,
    last_section: LastSection,
}

impl Default for Connection {
    fn default() -> Self {
        Self::new()
    }
}

impl Connection {
    /// A connection on which nothing has been received.
    pub const fn new() -> Self {
        Self {
            state: State::new(),
            proceed: Continue::Settled,
            input_ended: false,
            persists: true,
            last_section: LastSection::NONE,
        }
    }

    /// Pulls the next event out of `input`.
    ///
    /// `trusted` says whether the peer may set forwarding and scheme fields. After [`Received::Head`] without a body
    /// the next call yields [`Received::End`]; while a complete request is unanswered, octets of the next one stay in
    /// the buffer. When the buffer is full and more is needed, it has to [grow](Buffer::grow), at most to
    /// [`Limits::max_head`].
    ///
    /// # Errors
    ///
    /// Anything illegal, once: afterwards nothing is read any more and every call yields [`Received::NeedMore`].
    /// [`Error::Truncated`] if the client [ended its side](Self::input_ended) within a head or body.
    pub fn receive<'a>(
        &mut self,
        policy: &Policy,
        trusted: bool,
        input: &'a mut Buffer,
        heads: &mut HeadPool,
    ) -> Result<Received<'a>, Error> {
        let outcome = self.step(policy, trusted, input, heads);
        match outcome {
            Ok(Step::NeedMore) => match self.awaits() {
                awaits @ (Awaits::Head | Awaits::Body) if self.input_ended => {
                    self.state.make(Move::Fail);
                    Err(Error::Truncated(awaits))
                }
                _ => Ok(Received::NeedMore),
            },
            Ok(Step::Head(head)) => Ok(Received::Head(head)),
            Ok(Step::Data(n)) => Ok(Received::Data(input.take(n))),
            Ok(Step::End) => Ok(Received::End),
            Err(error) => {
                self.state.make(Move::Fail);
                Err(error)
            }
        }
    }

    fn step(
        &mut self,
        policy: &Policy,
        trusted: bool,
        input: &mut Buffer,
        heads: &mut HeadPool,
    ) -> Result<Step, Error> {
        if let Reading::Idle { skipped_line } = &mut self.state.reading {
            if !begins(skipped_line, input)? {
                return Ok(Step::NeedMore);
            }
            self.state.make(Move::Begin);
        }
        match &mut self.state.reading {
            Reading::Head(scanner) => {
                let Some(head) = scan_head(
                    scanner,
                    policy,
                    trusted,
                    input,
                    &mut self.last_section,
                    heads,
                )?
                else {
                    return Ok(Step::NeedMore);
                };
                let decoder = match head.framing() {
                    Framing::None => None,
                    Framing::Length(length) => Some(Decoder::Length(length)),
                    Framing::Chunked => Some(Decoder::Chunked(Chunked::new())),
                };
                // Without a body there is nothing to hold back (RFC 9110 section 10.1.1).
                if head.expects_continue() && decoder.is_some() {
                    self.proceed = Continue::Due;
                }
                self.persists = head.keep_alive();
                self.state.make(Move::HeadEnd(decoder));
                Ok(Step::Head(head))
            }
            Reading::Body(decoder) => {
                if !input.is_empty() {
                    self.proceed = Continue::Settled;
                }
                let (step, end) = decode_body(decoder, policy, input)?;
                if end {
                    let told = matches!(step, Step::End);
                    self.state.make(Move::BodyEnd { told });
                    self.proceed = Continue::Settled;
                }
                Ok(step)
            }
            Reading::Complete { told } if !*told => {
                *told = true;
                Ok(Step::End)
            }
            _ => Ok(Step::NeedMore),
        }
    }

    /// What the client is expected to send next.
    pub fn awaits(&self) -> Awaits {
        match self.state.reading {
            Reading::Idle { .. } => Awaits::Idle,
            Reading::Head(_) => Awaits::Head,
            Reading::Body(_) => Awaits::Body,
            Reading::Complete { .. } | Reading::Failed | Reading::Detached => Awaits::Nothing,
        }
    }

    /// Whether every octet of the present request has been received; so already after a head without a body.
    pub fn request_complete(&self) -> bool {
        matches!(self.state.reading, Reading::Complete { .. })
    }

    /// Octets that are missing of a body with a Content-Length, while one is being read.
    ///
    /// When the buffer is empty, the caller may receive up to that many into storage of its own and report them with
    /// [`body_received`](Self::body_received).
    pub fn body_remaining(&self) -> Option<u64> {
        match self.state.reading {
            Reading::Body(Decoder::Length(left)) => Some(left),
            _ => None,
        }
    }

    /// `n` octets of the body were received past the buffer. With the last of them the request is complete and the
    /// next [`receive`](Self::receive) yields [`Received::End`].
    pub fn body_received(&mut self, n: u64) {
        if let Reading::Body(Decoder::Length(left)) = &mut self.state.reading
            && n > 0
        {
            debug_assert!(
                n <= *left,
                "octets behind the body were taken for a part of it"
            );
            self.proceed = Continue::Settled;
            *left = left.saturating_sub(n);
            if *left == 0 {
                self.state.make(Move::BodyEnd { told: false });
            }
        }
    }

    /// Whether the client waits for `100 Continue`: it asked for it, it has not been sent, and no octet of the body
    /// has been seen.
    pub fn continue_due(&self) -> bool {
        self.proceed == Continue::Due
    }

    /// `100 Continue`, or a final response in its place, was sent.
    pub fn continue_sent(&mut self) {
        self.proceed = Continue::Settled;
    }

    /// The final response is complete.
    pub fn responded(&mut self) {
        self.state.make(Move::Answered);
        self.proceed = Continue::Settled;
    }

    /// Turns to the next request, if there may be one: the present one is complete and answered, and its client did
    /// not ask to close. Otherwise false, and the caller closes.
    #[must_use]
    pub fn next_request(&mut self) -> bool {
        self.persists && self.state.make(Move::Renew)
    }

    /// The client ended its side: no more octets will come than are in the buffer.
    pub fn input_ended(&mut self) {
        self.input_ended = true;
    }

    /// Gives the connection up to another protocol and returns the octets that are not read yet. Nothing is ever
    /// received from it again.
    pub fn detach(&mut self, input: &mut Buffer) -> Vec<u8> {
        self.state.make(Move::Detach);
        self.proceed = Continue::Settled;
        input.take(input.len()).to_vec()
    }

    /// Whether a final response is due: a request, or an error, is unanswered.
    pub fn response_due(&self) -> bool {
        self.state.writing == Writing::Owed
    }
}

/// [`Received`], before the octets leave the buffer.
enum Step {
    NeedMore,
    Head(Box<Head>),
    Data(usize),
    End,
}

/// Whether a request begins at the front of `input`. One empty line before it is dropped (RFC 9112 section 2.2).
fn begins(skipped_line: &mut bool, input: &mut Buffer) -> Result<bool, Error> {
    loop {
        match input.as_slice() {
            [] | [b'\r'] => return Ok(false),
            [b'\r', b'\n', ..] if *skipped_line => return Err(Error::EmptyLines),
            [b'\r', b'\n', ..] => {
                *skipped_line = true;
                input.consume(2);
            }
            [b'\r', ..] => return Err(Error::BareCarriageReturn),
            [b'\n', ..] => return Err(Error::BareLineFeed),
            [first, ..] if is_tchar(*first) => return Ok(true),
            // Such as a TLS handshake, which has no line end that could be waited for.
            [first, ..] => return Err(Error::Method([*first][..].into())),
        }
    }
}

fn scan_head(
    scanner: &mut Scanner,
    policy: &Policy,
    trusted: bool,
    input: &mut Buffer,
    last: &mut LastSection,
    heads: &mut HeadPool,
) -> Result<Option<Box<Head>>, Error> {
    let octets = input.as_slice();
    let Some(line) = scanner.scan_request_line(octets, policy)? else {
        return Ok(None);
    };
    if scanner.is_before_fields()
        && let Some((head, len)) = parse_again(policy, trusted, octets, line, *last, heads)?
    {
        input.consume(len);
        return Ok(Some(head));
    }
    let Some(extent) = scanner.scan(octets, policy)? else {
        return Ok(None);
    };
    let octets = octets.get(..extent.len).unwrap_or_default();
    let head = parse(policy, trusted, octets, extent, last, heads)?;
    input.consume(extent.len);
    Ok(Some(head))
}

/// The next piece of a body, and whether it is the last.
fn decode_body(
    decoder: &mut Decoder,
    policy: &Policy,
    input: &mut Buffer,
) -> Result<(Step, bool), Error> {
    match decoder {
        Decoder::Length(left) => {
            let here = usize::try_from(*left)
                .unwrap_or(usize::MAX)
                .min(input.len());
            *left -= here as u64;
            match here {
                0 => Ok((Step::NeedMore, false)),
                _ => Ok((Step::Data(here), *left == 0)),
            }
        }
        Decoder::Chunked(chunked) => Ok(match chunked.decode(policy, input)? {
            Decoded::NeedMore => (Step::NeedMore, false),
            Decoded::Data(here) => (Step::Data(here), false),
            Decoded::End => (Step::End, true),
        }),
    }
}
