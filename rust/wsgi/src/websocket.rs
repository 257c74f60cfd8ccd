//! One end of a WebSocket (RFC 6455) behind its handshake, for `meinheld.endpoint`. Nothing here
//! waits: who calls is told what is still to be done, and waits for the descriptor.

use std::io::{ErrorKind, Write};
use std::os::fd::{IntoRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyBrokenPipeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::sync::MutexExt;
use pyo3::types::{PyBytes, PyString};
use rustix::io::Errno;
use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, FrameHeader};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Bytes, Message, Utf8Bytes};

use crate::ffi::descriptor;
use crate::websocket_channel::Channel;

/// What a connection keeps to receive into, between messages too.
const READ_BUFFER: usize = 4096;
/// Of a close frame: its payload has 125 octets (RFC 6455 5.5), and two of them are the code.
const LONGEST_REASON: usize = 123;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Messages go both ways.
    Open,
    /// We have begun to close; the peer has not answered.
    Closing,
    /// All is said: only what waits for the socket has still to leave.
    Ending,
    /// Nothing more can be sent or received.
    Over,
}

struct Connection {
    protocol: tungstenite::WebSocket<Channel>,
    state: State,
    max_pending: usize,
    /// Of what waits, at most: octets that the request itself has sent, and waits for.
    own: usize,
    /// Likewise: octets of answers to pings.
    answers: usize,
}

/// A connection whose handshake is answered. Its descriptor is a duplicate, and a later connection
/// never gets its number before [`detach`](WebSocket::detach).
#[pyclass(frozen, module = "meinheld_worker._core")]
pub struct WebSocket(Mutex<Option<Connection>>);

impl Connection {
    fn channel(&mut self) -> &mut Channel {
        self.protocol.get_mut()
    }

    /// The next message of the peer's; `None` where none is there yet, or none comes any more.
    fn receive(&mut self) -> Option<Message> {
        self.channel().begin_turn();
        while matches!(self.state, State::Open | State::Closing) {
            let before = self.channel().pending();
            let read = self.protocol.read();
            self.answers += self.channel().pending() - before;
            match read {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                    // What crosses our close frame is for nobody.
                    if self.state == State::Open {
                        return Some(message);
                    }
                }
                // Both are answered by the next read.
                Ok(Message::Close(_) | Message::Ping(_)) => {}
                Ok(Message::Pong(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => self.fail(&error),
            }
            // Answers to pings that nobody reads are not kept without end, either.
            self.bound(|connection| connection.answers);
        }
        self.flush();
        None
    }

    /// Fails the connection (RFC 6455 7.1.7), or notes its end.
    fn fail(&mut self, error: &Error) {
        let code = match error {
            Error::ConnectionClosed | Error::AlreadyClosed => {
                self.state = State::Ending;
                return;
            }
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_) => {
                return self.drop_peer();
            }
            Error::Utf8(_) => CloseCode::Invalid,
            Error::Capacity(_) => CloseCode::Size,
            _ => CloseCode::Protocol,
        };
        if self.state == State::Open {
            self.begin_close(code, Utf8Bytes::default());
        }
        if self.state == State::Closing {
            self.state = State::Ending;
        }
    }

    fn begin_close(&mut self, code: CloseCode, reason: Utf8Bytes) {
        self.state = State::Closing;
        if self
            .protocol
            .close(Some(CloseFrame { code, reason }))
            .is_err()
        {
            self.drop_peer();
        }
    }

    /// Queues a message or, unless it is the request's own, drops a peer that does not take what
    /// others have sent already.
    fn send(&mut self, opcode: Data, payload: &[u8], own: bool) {
        self.flush();
        if !own {
            self.bound(|connection| connection.channel().pending() - connection.own);
        }
        if self.state != State::Open {
            return;
        }
        let header = FrameHeader {
            opcode: OpCode::Data(opcode),
            ..FrameHeader::default()
        };
        let channel = self.protocol.get_mut();
        let before = channel.pending();
        // Not by way of tungstenite, which would keep the memory of the largest one. What it sends
        // itself is in the channel before any of its calls returns, so frames keep their order.
        let queued = header.format(payload.len() as u64, channel).is_ok()
            && channel.write_all(payload).is_ok();
        if own {
            self.own += channel.pending() - before;
        }
        if !queued {
            self.drop_peer();
        }
        self.flush();
    }

    fn flush(&mut self) {
        if self.state == State::Over {
            return;
        }
        if self.channel().flush_queue().is_err() {
            return self.drop_peer();
        }
        let pending = self.channel().pending();
        self.own = self.own.min(pending);
        self.answers = self.answers.min(pending);
        // The connection is ours to close, at once (RFC 6455 7.1.1), whatever the application does.
        if self.state == State::Ending && pending == 0 {
            self.state = State::Over;
            self.channel().end_writing();
        }
    }

    /// Drops a peer for which more waits than it may, of what `count` counts.
    fn bound(&mut self, count: impl Fn(&mut Self) -> usize) {
        if count(self) > self.max_pending {
            self.flush();
            if count(self) > self.max_pending {
                self.drop_peer();
            }
        }
    }

    fn drop_peer(&mut self) {
        self.state = State::Over;
        self.channel().forget_queue();
        self.own = 0;
        self.answers = 0;
        self.channel().end_writing();
    }
}

impl WebSocket {
    /// Locked for a change of state only, never while Python code may run.
    fn locked<'py>(&'py self, py: Python<'py>) -> MutexGuard<'py, Option<Connection>> {
        self.0
            .lock_py_attached(py)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What `ask` says of the connection or, once that is detached, `otherwise`.
    fn ask<T>(&self, py: Python<'_>, otherwise: T, ask: impl FnOnce(&mut Connection) -> T) -> T {
        self.locked(py).as_mut().map_or(otherwise, ask)
    }
}

#[pymethods]
impl WebSocket {
    /// `response` is sent before anything else; `leftover` was received before anything else.
    #[new]
    #[pyo3(signature = (descriptor, *, response, leftover, max_message, max_pending))]
    fn new(
        descriptor: i32,
        response: PyBackedBytes,
        leftover: PyBackedBytes,
        max_message: usize,
        max_pending: usize,
    ) -> PyResult<Self> {
        let channel = Channel::new(descriptor::own(descriptor)?, response.to_vec());
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_frame_size(Some(max_message))
            .max_message_size(Some(max_message));
        let protocol = tungstenite::WebSocket::from_partially_read(
            channel,
            leftover.to_vec(),
            Role::Server,
            Some(config),
        );
        let connection = Connection {
            protocol,
            state: State::Open,
            max_pending,
            own: 0,
            answers: 0,
        };
        Ok(Self(Mutex::new(Some(connection))))
    }

    /// The next message: `str` or `bytes`; `None` where none is there yet, or none comes any more.
    fn receive<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        // Python's objects are made with nothing locked: that may run others' code.
        match self.ask(py, None, Connection::receive)? {
            Message::Text(text) => Some(PyString::new(py, &text).into_any()),
            Message::Binary(octets) => Some(PyBytes::new(py, &octets).into_any()),
            _ => None,
        }
    }

    /// Sends a message, text or binary as its type says, or queues it. `own`: the caller waits for
    /// the peer. Whether all has left; not where something waits, or the peer was dropped.
    #[pyo3(signature = (message, *, own))]
    fn send(&self, message: &Bound<'_, PyAny>, own: bool) -> PyResult<bool> {
        let py = message.py();
        // Looked at with nothing locked: others' code may run.
        let (opcode, payload): (Data, PyBackedBytes) = match message.cast::<PyString>() {
            Ok(text) => (Data::Text, text.encode_utf8()?.extract()?),
            Err(_) => (Data::Binary, message.extract()?),
        };
        let sent = self.ask(py, None, |connection| {
            if connection.state != State::Open {
                return None;
            }
            connection.send(opcode, &payload, own);
            Some(connection.state == State::Open && connection.channel().pending() == 0)
        });
        sent.ok_or_else(|| {
            PyBrokenPipeError::new_err((Errno::PIPE.raw_os_error(), "the WebSocket is closed"))
        })
    }

    /// Sends what waits, as far as the socket takes it.
    fn flush(&self, py: Python<'_>) {
        self.ask(py, (), Connection::flush);
    }

    fn ping(&self, py: Python<'_>) {
        self.ask(py, (), |connection| {
            if connection.state == State::Open {
                if connection
                    .protocol
                    .send(Message::Ping(Bytes::new()))
                    .is_err()
                {
                    connection.drop_peer();
                }
                connection.flush();
            }
        });
    }

    /// Begins the close handshake, unless it has begun.
    fn close(&self, py: Python<'_>, code: u16, reason: PyBackedStr) -> PyResult<()> {
        let known = CloseCode::from(code);
        if !known.is_allowed() {
            let refused = format!("close code {code}: not one that an endpoint may send");
            return Err(PyValueError::new_err(refused));
        }
        if reason.len() > LONGEST_REASON {
            let refused = format!(
                "close reason: {} octets of UTF-8, and only {LONGEST_REASON} are allowed",
                reason.len()
            );
            return Err(PyValueError::new_err(refused));
        }
        let reason = Utf8Bytes::from(&*reason);
        self.ask(py, (), |connection| {
            if connection.state == State::Open {
                connection.begin_close(known, reason);
                connection.flush();
            }
        });
        Ok(())
    }

    /// Gives the peer up: nothing more is sent to it, or read from it.
    fn abandon(&self, py: Python<'_>) {
        self.ask(py, (), Connection::drop_peer);
    }

    /// Octets that wait for the socket.
    #[getter]
    fn pending(&self, py: Python<'_>) -> usize {
        self.ask(py, 0, |connection| connection.channel().pending())
    }

    /// Octets that have come, and octets that the socket has taken, since the beginning.
    #[getter]
    fn traffic(&self, py: Python<'_>) -> (u64, u64) {
        self.ask(py, (0, 0), |connection| connection.channel().traffic())
    }

    /// Whether messages go both ways.
    #[getter]
    fn is_open(&self, py: Python<'_>) -> bool {
        self.ask(py, false, |connection| connection.state == State::Open)
    }

    /// Whether the peer may still say something that is listened to.
    #[getter]
    fn is_heard(&self, py: Python<'_>) -> bool {
        self.ask(py, false, |connection| {
            matches!(connection.state, State::Open | State::Closing)
        })
    }

    /// The descriptor that becomes ready; -1 once it is detached.
    fn fileno(&self, py: Python<'_>) -> RawFd {
        self.ask(py, -1, |connection| connection.channel().as_raw_fd())
    }

    /// Gives the descriptor away, the caller's from now on; -1 where it was given away before.
    /// Afterwards this object does nothing.
    fn detach(&self, py: Python<'_>) -> RawFd {
        let connection = self.locked(py).take();
        connection.map_or(-1, |connection| {
            connection.protocol.into_inner().into_socket().into_raw_fd()
        })
    }
}
