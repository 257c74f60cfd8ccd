//! What the access log and the hooks are told of a request, in gunicorn's order.

use std::time::Instant;

use meinheld_reactor::{Fate, Request};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use crate::exchange::Summary;
use crate::face::{AnswerFacts, Told};
use crate::facts::{self, Fields};
use crate::input::Input;
use crate::objects::Objects;
use crate::serve::Service;

/// What logs and hooks are told of requests that an answer of ours has ended.
pub(crate) const UNAVAILABLE: &str = "503 Service Unavailable";

/// What the hooks and the access log are told, where there are any.
pub(crate) struct Records {
    /// Not where there are no hooks, and a line is all that is logged.
    pub(crate) request: Option<Py<PyAny>>,
    started: Instant,
    /// The place of the request.
    slot: usize,
    /// The answer is a 503 of ours.
    pub(crate) denied: bool,
}

impl Service {
    /// Tells the access log and the hooks, in gunicorn's order: log, `close()`, `post_request`.
    pub(crate) fn report<'py>(
        &self,
        py: Python<'py>,
        records: Records,
        objects: &Objects,
        environ: Option<Bound<'py, PyDict>>,
        iterable: Option<Bound<'py, PyAny>>,
        request: &Request,
    ) -> PyResult<()> {
        let (logged, told) = self.log(py, records, objects, environ, request);
        // Whatever the log said, the application gets its close() and the hook its call.
        let closed = self.close(py, iterable, request);
        let posted = match told {
            Some(told) => self.gateway.face.post_request(&told),
            None => Ok(()),
        };
        logged.and(closed).and(posted)
    }

    /// Tells the access log; what comes back is for the `post_request` hook.
    pub(crate) fn log<'py>(
        &self,
        py: Python<'py>,
        records: Records,
        objects: &Objects,
        environ: Option<Bound<'py, PyDict>>,
        request: &Request,
    ) -> (PyResult<()>, Option<Told<'py>>) {
        let face = &self.gateway.face;
        let exchange = &*objects.exchange;
        let summary = exchange.take_summary().filter(|_| exchange.head_has_left());
        let denied = records.denied || self.gateway.in_flight.fate(records.slot) == Fate::Denied;
        let (status, headers) = match (summary, denied) {
            (_, true) => (PyString::new(py, UNAVAILABLE), PyList::empty(py)),
            (Some(Summary { status, headers }), _) => {
                (status.into_bound(py), headers.into_bound(py))
            }
            (None, _) => (
                PyString::new(py, "500 Internal Server Error"),
                PyList::empty(py),
            ),
        };
        let elapsed = records.started.elapsed().as_secs_f64();
        let facts = (
            status,
            headers,
            exchange.sent(),
            exchange.head_has_left(),
            elapsed,
        );
        // Of an `environ` that the application has emptied, the log is told as of one that there
        // never was.
        let line = environ
            .as_ref()
            .filter(|environ| face.writes_lines() && !environ.is_empty());
        let logged = match exchange.is_taken_over() {
            true => Some(Ok(())),
            false => line.map(|environ| face.log_line(py, Fields::of(request), environ, &facts)),
        };
        let logged = match (logged, &records.request) {
            (Some(logged), None) => return (logged, None),
            (logged, _) => logged,
        };
        match self.told(py, records.request, facts, environ, objects, request) {
            Ok(told) => (logged.unwrap_or_else(|| face.log_access(&told)), Some(told)),
            Err(error) => (face.survive::<()>(py, Err(error)), None),
        }
    }

    /// The objects that a logger of somebody's own and the `post_request` hook are given.
    fn told<'py>(
        &self,
        py: Python<'py>,
        record: Option<Py<PyAny>>,
        facts: AnswerFacts<'py>,
        environ: Option<Bound<'py, PyDict>>,
        objects: &Objects,
        request: &Request,
    ) -> PyResult<Told<'py>> {
        let face = &self.gateway.face;
        let request = match record {
            Some(record) => record.into_bound(py),
            None => face.record(
                py,
                facts::of_request(py, request, Some(objects.input.bind(py)))?,
            )?,
        };
        Ok(Told {
            response: face.response(py, &request, facts)?,
            request,
            environ: environ.unwrap_or_else(|| PyDict::new(py)).into_any(),
        })
    }

    #[inline(always)] // Greenlets are its second caller, and must not cost the first one a call.
    pub(crate) fn records(
        &self,
        py: Python<'_>,
        slot: usize,
        request: &Request,
        input: &Bound<'_, Input>,
    ) -> PyResult<Option<Records>> {
        let face = &self.gateway.face;
        if !face.wants_records() {
            return Ok(None);
        }
        let request = match face.wants_request() {
            true => {
                let facts = facts::of_request(py, request, Some(input))?;
                Some(face.record(py, facts)?.unbind())
            }
            false => None,
        };
        Ok(Some(Records {
            request,
            started: Instant::now(),
            slot,
            denied: false,
        }))
    }
}
