//! One request's answer: `start_response`, `write` and the rules of PEP 3333 between them.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meinheld_protocol::Version;
use meinheld_protocol::encode::{self, BodyEncoder, Encoded, RequestTraits, ResponseHead};
use meinheld_reactor::{ConnId, Detached, Progress};
use pyo3::exceptions::{PyAssertionError, PyConnectionResetError, PyOSError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use crate::failure::Failure;
use crate::ffi::bytes::PinnedBytes;
use crate::ffi::text;
use crate::gateway::Gateway;
use crate::given::{add_field, bytes_block, hint_octets, native, refused};
use crate::options::SERVER;

/// Set, with the reactor locked, when a request is over: none of its threads begins to wait for its
/// client any more.
pub(crate) type Over = Arc<AtomicBool>;

/// How far an answer has got. What a state needs, it owns.
enum Answer {
    /// `start_response` was not called yet.
    Awaited,
    /// It was, but the head has not left, so that an error can still replace it.
    Begun(ResponseHead),
    /// The head has left.
    Sending(Sending),
    /// The application took the socket over.
    TakenOver,
    /// The request is over: the connection may be serving another one.
    Over,
}

/// An answer whose head has left.
#[derive(Clone, Copy)]
struct Sending {
    body: BodyEncoder,
    persistent: bool,
    /// Octets of the body, framing apart, that were given to the kernel.
    sent: u64,
}

/// How a block goes out: what precedes it, how many of its octets, what follows.
pub(crate) struct Frame {
    pub(crate) lead: Vec<u8>,
    pub(crate) length: usize,
    pub(crate) tail: &'static [u8],
}

impl Frame {
    /// All of it in one buffer, for a block that is cheaper to copy than to send apart.
    pub(crate) fn merge(self, block: &[u8]) -> Vec<u8> {
        let mut whole = self.lead;
        whole.extend_from_slice(block);
        whole.extend_from_slice(self.tail);
        whole
    }
}

/// What hooks and the access log want to know of a response.
pub(crate) struct Summary {
    pub(crate) status: Py<PyString>,
    pub(crate) headers: Py<PyList>,
}

/// How an answer ended, for the connection's sake.
pub(crate) enum End {
    /// Regularly; the flag says whether the connection may stay.
    Complete(bool),
    /// With less than its Content-Length: this many octets are missing.
    Short(u64),
}

/// The object whose methods are `start_response`, `write` and `wsgi.early_hints`.
#[pyclass(frozen, module = "meinheld_worker._core")]
pub struct Exchange {
    gateway: Arc<Gateway>,
    pub(crate) id: ConnId,
    request: RequestTraits,
    answer: Mutex<Answer>,
    summary: Mutex<Option<Summary>>,
    over: Over,
}

impl Exchange {
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        id: ConnId,
        request: RequestTraits,
        over: Over,
    ) -> Self {
        let (answer, summary) = (Mutex::new(Answer::Awaited), Mutex::new(None));
        Self {
            gateway,
            id,
            request,
            answer,
            summary,
            over,
        }
    }

    /// Locked for a change of state only, never while Python code may run.
    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn head_has_left(&self) -> bool {
        matches!(*self.answer(), Answer::Sending(_))
    }

    /// Whether no head can be given any more: one has left, or the request is over.
    fn is_past_the_head(&self) -> bool {
        matches!(*self.answer(), Answer::Sending(_) | Answer::Over)
    }

    pub(crate) fn is_taken_over(&self) -> bool {
        matches!(*self.answer(), Answer::TakenOver)
    }

    /// The application takes the socket over, if the connection is still this request's.
    pub(crate) fn take_over(&self) -> Option<Detached> {
        let mut answer = self.answer();
        if matches!(*answer, Answer::Over) {
            return None;
        }
        *answer = Answer::TakenOver;
        // Still locked: the connection must not become another request's meanwhile.
        self.gateway.reactor().detach(self.id)
    }

    /// Sends an answer of our own in place of the application's, of which nothing can follow any
    /// more; `false` where it is too late for that.
    pub(crate) fn replace(&self, whole: Vec<u8>) -> bool {
        let mut answer = self.answer();
        if !matches!(*answer, Answer::Awaited | Answer::Begun(_)) {
            return false;
        }
        *answer = Answer::Over;
        self.gateway.begin_answer(self.id);
        self.gateway.send_octets(self.id, whole);
        true
    }

    /// The request is over: what the application still holds of it does nothing any more.
    pub(crate) fn over(&self) {
        *self.answer() = Answer::Over;
    }

    /// Whether the request is over: the connection may be serving another one.
    pub(crate) fn is_over(&self) -> bool {
        matches!(*self.answer(), Answer::Over)
    }

    pub(crate) fn summary(&self) -> Option<Summary> {
        self.replace_summary(None)
    }

    /// Octets of the body that were sent.
    pub(crate) fn sent(&self) -> u64 {
        match &*self.answer() {
            Answer::Sending(sending) => sending.sent,
            _ => 0,
        }
    }

    /// Checks and encodes what the application gave of a head.
    fn encode(
        &self,
        status: &Bound<'_, PyString>,
        headers: &Bound<'_, PyList>,
    ) -> PyResult<ResponseHead> {
        let date = self.gateway.reactor().date();
        let status = text::octets(status)?;
        let out = Vec::with_capacity(512);
        let mut head =
            ResponseHead::start(out, self.request, &status, SERVER, &date).map_err(refused)?;
        for field in headers {
            add_field(&mut head, &field)?;
        }
        Ok(head)
    }

    fn summarise(&self, status: &Bound<'_, PyString>, headers: &Bound<'_, PyList>) -> PyResult<()> {
        if self.gateway.face.wants_records() {
            // A copy: the application may go on changing its list.
            let headers = headers.get_slice(0, headers.len()).unbind();
            let summary = Summary {
                status: status.clone().unbind(),
                headers,
            };
            // The one before goes when nothing is locked: freeing it may run Python code.
            let before = self.replace_summary(Some(summary));
            drop(before);
        }
        Ok(())
    }

    fn replace_summary(&self, summary: Option<Summary>) -> Option<Summary> {
        let mut place = self.summary.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, summary)
    }

    /// Puts a head in the place of none, or of one that has not left. While it was being encoded
    /// Python code ran, and another thread may have brought the answer further.
    fn begin(&self, head: ResponseHead) -> PyResult<()> {
        let mut answer = self.answer();
        match &*answer {
            Answer::Awaited | Answer::Begun(_) => *answer = Answer::Begun(head),
            Answer::TakenOver => {}
            Answer::Sending(_) | Answer::Over => {
                return Err(PyAssertionError::new_err(
                    "start_response() was called when the headers had been sent",
                ));
            }
        }
        Ok(())
    }

    /// Admits `octets` of body, with the head where that is still owed, and gives their frame to
    /// `give`. `last` says that nothing follows them, so that the end of the body leaves in the
    /// same write. The answer stays locked: what another thread of the application's sends late
    /// must not come between the octets of the connection's next answer.
    pub(crate) fn framed<T>(
        &self,
        octets: usize,
        last: bool,
        give: impl FnOnce(Frame) -> T,
    ) -> Result<T, Failure> {
        let mut answer = self.answer();
        let (mut lead, mut sending) = self.open(&mut answer)?;
        let (length, tail) = sending.body.frame(&mut lead, octets, last);
        sending.sent += length as u64;
        *answer = Answer::Sending(sending);
        Ok(give(Frame { lead, length, tail }))
    }

    /// Sends a block; an empty one is nothing (PEP 3333: headers wait for the first octets).
    pub(crate) fn send(&self, block: &Bound<'_, PyBytes>, last: bool) -> Result<(), Failure> {
        let octets = block.as_bytes();
        if octets.is_empty() {
            return Ok(());
        }
        let pinned = PinnedBytes::worthwhile(block);
        let send = || {
            let give = |frame| self.gateway.send_block(self.id, frame, octets, pinned);
            self.framed(octets.len(), last, give)
        };
        let progress = if self.gateway.way.releases(octets.len()) {
            block.py().detach(send)?
        } else {
            send()?
        };
        match progress {
            Progress::Gone => Err(Failure::Gone),
            Progress::Accepted | Progress::Pending => Ok(()),
        }
    }

    /// Queues a block behind others, to be [flushed](Gateway::flush) together.
    pub(crate) fn queue(&self, block: &Bound<'_, PyBytes>) -> Result<(), Failure> {
        let octets = block.as_bytes();
        if octets.is_empty() {
            return Ok(());
        }
        let pinned = PinnedBytes::worthwhile(block);
        let give = |frame| self.gateway.queue_block(self.id, frame, octets, pinned);
        self.framed(octets.len(), false, give)
    }

    fn open(&self, answer: &mut Answer) -> Result<(Vec<u8>, Sending), Failure> {
        match answer {
            Answer::Sending(sending) => Ok((Vec::new(), *sending)),
            Answer::TakenOver => Err(Failure::TakenOver),
            Answer::Over => Err(Failure::Gone),
            Answer::Awaited => Err(Failure::Raised(PyAssertionError::new_err(
                "the application gave a body before it called start_response()",
            ))),
            begun @ Answer::Begun(_) => {
                let Answer::Begun(begun) = std::mem::replace(begun, Answer::Awaited) else {
                    return Err(Failure::TakenOver);
                };
                let Encoded {
                    head,
                    body,
                    persistent,
                } = begun.finish(self.gateway.begin_answer(self.id));
                Ok((
                    head,
                    Sending {
                        body,
                        persistent,
                        sent: 0,
                    },
                ))
            }
        }
    }

    /// Waits until so little of this answer is on its way that the application may give more.
    pub(crate) fn wait_for_room(&self, py: Python<'_>) -> Result<(), Failure> {
        let Gateway { way, .. } = &*self.gateway;
        loop {
            way.before_next_block(&self.gateway, py, self.id)?;
            let progress = {
                let mut reactor = self.gateway.reactor();
                if self.over.load(SeqCst) {
                    return Err(Failure::Gone);
                }
                let progress = reactor.want_room(self.id, way.ahead());
                if progress == Progress::Pending {
                    way.expect(self.id);
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
        let mut answer = self.answer();
        if matches!(*answer, Answer::Awaited) {
            return Err(Failure::Raised(PyAssertionError::new_err(
                "the application returned without having called start_response()",
            )));
        }
        let (mut lead, mut sending) = self.open(&mut answer)?;
        let end = match sending.body.end() {
            Ok(last) => {
                lead.extend_from_slice(last);
                End::Complete(sending.persistent)
            }
            Err(short) => End::Short(short.missing),
        };
        // Nothing may follow: not even what close() still writes.
        sending.body = BodyEncoder::Omitted;
        *answer = Answer::Sending(sending);
        if !lead.is_empty() && self.gateway.send_octets(self.id, lead) == Progress::Gone {
            return Err(Failure::Gone);
        }
        Ok(end)
    }
}

#[pymethods]
impl Exchange {
    /// `start_response(status, headers, exc_info=None)` of PEP 3333; returns `write`.
    #[pyo3(signature = (status, headers, exc_info=None, /))]
    fn start_response<'py>(
        slf: &Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        this.gateway.end_forked_child(py, None)?;
        match exc_info.filter(|given| !given.is_none()) {
            Some(exc_info) if this.is_past_the_head() => {
                let error = PyErr::from_value(exc_info.get_item(1)?);
                let traceback = exc_info.get_item(2)?;
                error.set_traceback(py, traceback.cast_into().ok());
                return Err(error);
            }
            Some(_) => {}
            None if !matches!(*this.answer(), Answer::Awaited | Answer::TakenOver) => {
                return Err(PyAssertionError::new_err(
                    "start_response() was called a second time, without exc_info",
                ));
            }
            None => {}
        }
        let status = native(status, "the status")?;
        let headers = match headers.cast::<PyList>() {
            Ok(list) => list.clone(),
            // Any other iterable is taken too, as gunicorn takes it.
            Err(_) => PyList::new(py, headers.try_iter()?.collect::<PyResult<Vec<_>>>()?)?,
        };
        let headers = &headers;
        let encoded = this.encode(status, headers)?;
        this.summarise(status, headers)?;
        this.begin(encoded)?;
        slf.getattr(intern!(py, "write"))
    }

    /// `write(block)` of PEP 3333: returns once the kernel has accepted all of it, or, with
    /// `threads`, all but 256 KiB.
    ///
    /// Raises `ConnectionResetError` when the client is gone.
    #[pyo3(signature = (block, /))]
    fn write(&self, py: Python<'_>, block: &Bound<'_, PyAny>) -> PyResult<()> {
        self.gateway.end_forked_child(py, None)?;
        let block = bytes_block(block)?;
        let sent = self
            .send(&block, false)
            .and_then(|()| self.wait_for_room(py));
        sent.map_err(|failure| match failure {
            Failure::Raised(error) => error,
            Failure::Gone => PyConnectionResetError::new_err("the client has gone"),
            Failure::TakenOver => {
                PyConnectionResetError::new_err("the application has taken the socket over")
            }
            Failure::Misconfigured(reason) => PyOSError::new_err(reason),
        })
    }

    /// `wsgi.early_hints(headers)`: a 103 response (RFC 8297), where the client may get one.
    #[pyo3(signature = (headers, /))]
    fn early_hints(&self, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        self.gateway.end_forked_child(headers.py(), None)?;
        let owed = matches!(*self.answer(), Answer::Awaited | Answer::Begun(_));
        if !owed || self.request.version < Version::HTTP_11 {
            return Ok(());
        }
        let mut fields = Vec::new();
        for field in headers.try_iter()? {
            let (name, value) = field?.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
            fields.push((hint_octets(&name)?, hint_octets(&value)?));
        }
        let pairs = fields
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_slice()));
        let hints = encode::early_hints(pairs).map_err(refused)?;
        // Locked, for the reason of `framed`.
        let answer = self.answer();
        if matches!(*answer, Answer::Awaited | Answer::Begun(_)) {
            self.gateway.send_octets(self.id, hints);
        }
        Ok(())
    }
}
