//! One request, from the event to the end of its answer, on one thread.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use meinheld_protocol::encode;
use meinheld_protocol::{Head, Status};
use meinheld_reactor::{Body, BodyFault, ConnId, Progress, Request};
use pyo3::exceptions::{PyBrokenPipeError, PyConnectionResetError, PyOSError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::body;
use crate::environ::Builder;
use crate::exchange::{End, Exchange, Sent};
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::objects::Objects;
use crate::options::SERVER;

/// The application, and what calling it needs.
pub(crate) struct Service {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) application: Py<PyAny>,
    pub(crate) environs: Builder,
    pub(crate) file_wrapper: Py<PyAny>,
    /// Whether an object that nobody else knows can be told, so that it may be used again: without
    /// the GIL it cannot.
    pub(crate) reuses: bool,
}

/// What becomes of the connection.
pub(crate) enum Outcome {
    /// The answer has left whole, and with it the connection: another request may be on its way.
    Over,
    /// The answer is complete; the flag says whether another request may follow.
    Finished { keep: bool },
    /// The answer failed with its head out: the client must see that.
    Broken,
    /// Nothing is left to do: the client has gone, or the socket is the application's.
    Nothing,
}

/// One of the places that requests are served in, one at a time.
pub(crate) struct Slot {
    number: usize,
    /// Those of the last request, if its application has let go of them.
    objects: Option<Objects>,
    /// Its head, to be given back with what next needs the reactor.
    pub(crate) spent: Option<Box<Head>>,
    /// The last request was cut off, and somebody else may have the work of this thread by now.
    pub(crate) lost: bool,
}

impl Slot {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            number,
            objects: None,
            spent: None,
            lost: false,
        }
    }
}

impl Service {
    /// Serves one request in the thread's `slot`.
    ///
    /// # Errors
    ///
    /// What ends the worker: a `SystemExit` of a signal handler.
    pub(crate) fn serve(
        &self,
        py: Python<'_>,
        slot: &mut Slot,
        mut request: Request,
    ) -> PyResult<()> {
        let id = request.id;
        self.gateway.in_flight.enter(slot.number, &request);
        let fault = match request.body {
            Body::Arriving => self.gateway.reactor().body_fault(id),
            Body::Empty | Body::Memory(_) | Body::File { .. } => None,
        };
        let outcome = match fault {
            // Known before the application was called, which then need not be.
            Some(fault) => {
                let send = |answer: &[u8]| {
                    let mut reactor = self.gateway.reactor();
                    reactor.count_answer(id, answer);
                    reactor.write(id, &[answer]) != Progress::Gone
                };
                self.refuse(py, &request, fault, send)
            }
            None => self.answer(py, slot, &mut request),
        };
        slot.lost = self.gateway.in_flight.leave(slot.number).is_cut();
        self.gateway.end_forked_child(py, outcome.as_ref().err())?;
        if outcome.is_ok() && !slot.lost {
            self.gateway.way.looks_soon();
        }
        slot.spent = Some(request.head);
        self.conclude(id, outcome)
    }

    /// Leaves the connection as the outcome says.
    #[inline(always)] // Greenlets are its second caller, and must not cost the first one a call.
    pub(crate) fn conclude(&self, id: ConnId, outcome: PyResult<Outcome>) -> PyResult<()> {
        match outcome {
            Ok(Outcome::Over | Outcome::Nothing) => {}
            Ok(Outcome::Finished { keep }) => self.gateway.reactor().finish(id, keep),
            Ok(Outcome::Broken) => self.gateway.reactor().abort(id),
            Err(error) => {
                self.gateway.reactor().abort(id);
                return Err(error);
            }
        }
        Ok(())
    }

    fn answer(&self, py: Python<'_>, slot: &mut Slot, request: &mut Request) -> PyResult<Outcome> {
        let objects = match slot.objects.take() {
            Some(objects) => objects,
            None => Objects::new(py, &self.gateway)?,
        };
        let body = std::mem::replace(&mut request.body, Body::Empty);
        objects.renew(request, body);
        let (outcome, reported) = self.exchange(py, slot.number, &objects, request)?;
        // Where close() or a hook forked: what follows is the parent's.
        self.gateway.end_forked_child(py, reported.as_ref().err())?;
        slot.objects = self.retire(py, objects, request.id, &outcome);
        reported.and(outcome)
    }

    /// What is done with the objects of a request that is over; they come back if they can be used
    /// again.
    #[inline(always)] // Greenlets are its second caller, and must not cost the first one a call.
    pub(crate) fn retire(
        &self,
        py: Python<'_>,
        objects: Objects,
        id: ConnId,
        outcome: &PyResult<Outcome>,
    ) -> Option<Objects> {
        if !matches!(outcome, Ok(Outcome::Over)) && objects.exchange.end_for_good() {
            objects.socket.get().over(py);
        }
        objects.exchange.forget_callbacks(py);
        if self.reuses && objects.are_free(py) {
            return Some(objects);
        }
        // Locked: another thread of the application's that is about to wait has not looked whether it
        // should, or can be told.
        let _reactor = self.gateway.reactor();
        objects.exchange.over().store(true, SeqCst);
        self.gateway.way.over(id);
        None
    }

    /// From the call of the application to that of `close()` and the last hook. What came of the
    /// answer, and what was raised afterwards.
    fn exchange(
        &self,
        py: Python<'_>,
        slot: usize,
        objects: &Objects,
        request: &Request,
    ) -> PyResult<(PyResult<Outcome>, PyResult<()>)> {
        let exchange = &*objects.exchange;
        let records = self.records(py, slot, request, objects.input.bind(py))?;
        let mut environ = None;
        let mut iterable = None;
        let record = records
            .as_ref()
            .and_then(|records| records.request.as_ref());
        let mut ended = match record {
            Some(record) => self
                .gateway
                .face
                .pre_request(record.bind(py))
                .map(|()| Sent::Part)
                .map_err(Failure::Raised),
            None => Ok(Sent::Part),
        };
        if ended.is_ok() {
            match self.environs.build(py, request, objects) {
                Ok(built) => {
                    (ended, iterable) = self.call(py, objects, &built);
                    environ = Some(built);
                }
                Err(failure) => ended = Err(failure),
            }
        }
        let outcome = self.settle(py, request, exchange, ended);
        if let Ok(Outcome::Finished { .. }) = outcome {
            self.gateway.in_flight.answered(slot);
        }
        let reported = match records {
            Some(records) => self.report(py, records, objects, environ, iterable, request),
            None => self.close(py, iterable, request),
        };
        Ok((outcome, reported))
    }

    /// Calls the application and sends what it returns. The iterable comes back to be closed.
    fn call<'py>(
        &self,
        py: Python<'py>,
        objects: &Objects,
        environ: &Bound<'py, PyDict>,
    ) -> (Result<Sent, Failure>, Option<Bound<'py, PyAny>>) {
        let start_response = objects.start_response.bind(py);
        let called = self.application.bind(py).call1((environ, start_response));
        if let Err(error) = self.gateway.end_forked_child(py, called.as_ref().err()) {
            return (Err(Failure::Raised(error)), None);
        }
        let iterable = match called {
            Ok(iterable) => iterable,
            Err(error) => return (Err(Failure::Raised(error)), None),
        };
        let file_wrapper = self.file_wrapper.bind(py);
        let sent = body::send(&self.gateway, &objects.exchange, &iterable, file_wrapper);
        (sent, Some(iterable))
    }

    /// Brings the answer to its end, or answers for the application that failed.
    #[inline(always)] // Greenlets are its second caller, and must not cost the first one a call.
    pub(crate) fn settle(
        &self,
        py: Python<'_>,
        request: &Request,
        exchange: &Exchange,
        ended: Result<Sent, Failure>,
    ) -> PyResult<Outcome> {
        let ended = match ended {
            Ok(Sent::Whole) => return Ok(Outcome::Over),
            Ok(Sent::Part) => exchange.end(),
            Err(failure) => Err(failure),
        };
        match ended {
            Ok(End::Complete(keep)) => Ok(Outcome::Finished { keep }),
            Ok(End::Short(missing)) => {
                let target = request.head.target().escape_ascii();
                self.gateway.face.warn(
                    py,
                    format!("{target}: the body is {missing} octets shorter than its Content-Length; the connection is aborted"),
                )?;
                Ok(Outcome::Broken)
            }
            Err(Failure::Gone | Failure::TakenOver) => Ok(Outcome::Nothing),
            Err(Failure::Misconfigured(reason)) => {
                exchange.replace(&self.error(request, Status::INTERNAL_SERVER_ERROR, &reason));
                self.gateway
                    .face
                    .rejected(py, request.peer.to_string(), reason)?;
                Ok(Outcome::Finished { keep: false })
            }
            Err(Failure::Raised(error)) => self.raised(py, request, exchange, error),
        }
    }

    fn raised(
        &self,
        py: Python<'_>,
        request: &Request,
        exchange: &Exchange,
        error: PyErr,
    ) -> PyResult<Outcome> {
        let face = &self.gateway.face;
        if face.ends_worker(py, &error) {
            return Err(error);
        }
        let gone = !self.gateway.reactor().is_connected(request.id);
        if error.is_instance_of::<PyStopIteration>(py) {
            // How an application says that the socket was its own affair.
            return Ok(if gone {
                Outcome::Nothing
            } else {
                Outcome::Broken
            });
        }
        let of_input = error.is_instance_of::<PyOSError>(py);
        let fault = self.gateway.reactor().body_fault(request.id);
        let cut = fault.as_ref().is_some_and(|fault| fault.status.is_none());
        if let Some(fault) = fault.filter(|_| of_input && !exchange.head_has_left()) {
            // What was wrong with the body came out as the OSError of a read.
            let send = |answer: &[u8]| exchange.replace(answer);
            return self.refuse(py, request, fault, send);
        }
        // An application that lets the OSError of a lost client through has done nothing wrong. Of a
        // connection that it has taken over only the error itself says whether it was one.
        let of_client = match exchange.is_taken_over() {
            true => {
                error.is_instance_of::<PyBrokenPipeError>(py)
                    || error.is_instance_of::<PyConnectionResetError>(py)
            }
            false => of_input && (gone || cut),
        };
        if !of_client {
            face.failed(py, &error, &request.head)?;
        }
        if gone {
            return Ok(Outcome::Nothing);
        }
        let status = Status::INTERNAL_SERVER_ERROR;
        let told = face.page(py, &error)?;
        let told = told.as_deref().unwrap_or("the application failed");
        let answer = self.error(request, status, told);
        Ok(match exchange.replace(&answer) {
            true => Outcome::Finished { keep: false },
            false => Outcome::Broken,
        })
    }

    /// Answers for an application that was made to give up a request.
    pub(crate) fn cancel(&self, request: &Request, exchange: &Exchange, reason: &str) -> Outcome {
        if !self.gateway.reactor().is_connected(request.id) {
            return Outcome::Nothing;
        }
        let status = Status::SERVICE_UNAVAILABLE;
        let answer = self.error(request, status, reason);
        match exchange.replace(&answer) {
            true => Outcome::Finished { keep: false },
            false => Outcome::Broken,
        }
    }

    /// Answers for a client whose request body is not what it should be. One that has ended its
    /// side in the middle of it is told nothing, and nobody is told of it.
    fn refuse(
        &self,
        py: Python<'_>,
        request: &Request,
        fault: BodyFault,
        send: impl FnOnce(&[u8]) -> bool,
    ) -> PyResult<Outcome> {
        let answer = fault
            .status
            .map(|status| self.error(request, status, &fault.line));
        let told = answer.is_some();
        if !send(answer.as_deref().unwrap_or_default()) {
            return Ok(Outcome::Broken);
        }
        if told {
            let who = request.who().to_string();
            self.gateway.face.rejected(py, who, fault.line)?;
        }
        Ok(Outcome::Finished { keep: false })
    }

    /// An answer of our own.
    fn error(&self, request: &Request, status: Status, line: &str) -> Vec<u8> {
        let date = self.gateway.reactor().date();
        let is_head = request.head.method() == b"HEAD";
        encode::error_answer(status, line, SERVER, &date, is_head)
    }

    /// `close()` of PEP 3333, once, whatever happened.
    pub(crate) fn close(
        &self,
        py: Python<'_>,
        iterable: Option<Bound<'_, PyAny>>,
        request: &Request,
    ) -> PyResult<()> {
        let Some(iterable) = iterable.filter(|iterable| !iterable.is_exact_instance_of::<PyList>())
        else {
            return Ok(());
        };
        let Ok(close) = iterable.getattr(intern!(py, "close")) else {
            return Ok(());
        };
        match close.call0() {
            Ok(_) => Ok(()),
            Err(error) => self.failed(py, error, request),
        }
    }

    /// What `close()` raised is logged, unless it ends the worker.
    pub(crate) fn failed(&self, py: Python<'_>, error: PyErr, request: &Request) -> PyResult<()> {
        match self.gateway.face.ends_worker(py, &error) {
            true => Err(error),
            false => self.gateway.face.failed(py, &error, &request.head),
        }
    }
}
