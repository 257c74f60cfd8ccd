//! Floor 4, as the gateway sees it: an object that beats, logs and runs the configured hooks.

use meinheld_protocol::Head;
use pyo3::exceptions::{PyException, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use crate::callables::Write;
use crate::facts::Fields;

/// The Python object behind the gateway (`Face` in `_core.pyi`). What is not configured is `None`
/// there, and costs nothing here.
pub(crate) struct Face {
    object: Py<PyAny>,
    beat: Py<PyAny>,
    record: Py<PyAny>,
    wants_records: bool,
    pre_request: Option<Py<PyAny>>,
    log_access: Option<Py<PyAny>>,
    log_line: Option<Py<PyAny>>,
    post_request: Option<Py<PyAny>>,
    page: Option<Py<PyAny>>,
}

/// What the access log and the `post_request` hook are told of a request that is over.
pub(crate) struct Told<'py> {
    pub(crate) request: Bound<'py, PyAny>,
    pub(crate) environ: Bound<'py, PyAny>,
    pub(crate) response: Bound<'py, PyAny>,
}

/// Of an answer that is over: status, headers, octets sent, whether the head has left, seconds.
pub(crate) type AnswerFacts<'py> = (Bound<'py, PyString>, Bound<'py, PyList>, u64, bool, f64);

impl Face {
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let optional = |name: &str| -> PyResult<Option<Py<PyAny>>> {
            let attribute = object.getattr(name)?;
            Ok(if attribute.is_none() {
                None
            } else {
                Some(attribute.unbind())
            })
        };
        let pre_request = optional("pre_request")?;
        let log_access = optional("log_access")?;
        let post_request = optional("post_request")?;
        Ok(Self {
            beat: object.getattr("beat")?.unbind(),
            record: object.getattr("record")?.unbind(),
            wants_records: pre_request.is_some() || log_access.is_some() || post_request.is_some(),
            pre_request,
            log_access,
            log_line: optional("log_line")?,
            post_request,
            page: optional("page")?,
            object: object.clone().unbind(),
        })
    }

    /// Beats the heart; `false` when the worker is to leave.
    pub(crate) fn beat(&self, py: Python<'_>) -> PyResult<bool> {
        self.beat.call0(py)?.extract(py)
    }

    /// Whether a signal handler has begun to end the process.
    fn exiting(&self, py: Python<'_>) -> bool {
        self.object
            .getattr(py, "exiting")
            .and_then(|exiting| exiting.extract(py))
            .unwrap_or(false)
    }

    /// Whether anybody looks at requests and responses: a hook or an access log.
    pub(crate) fn wants_records(&self) -> bool {
        self.wants_records
    }

    /// Whether anybody looks at more of a request than its line in the access log shows.
    pub(crate) fn wants_request(&self) -> bool {
        let access_is_called = self.log_access.is_some() && !self.writes_lines();
        self.pre_request.is_some() || self.post_request.is_some() || access_is_called
    }

    /// Whether a request that got an `environ` is logged by [`log_line`](Self::log_line).
    pub(crate) fn writes_lines(&self) -> bool {
        self.log_line.is_some()
    }

    /// The request as the hooks and the access log see it.
    pub(crate) fn record<'py>(
        &self,
        py: Python<'py>,
        facts: Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.record.bind(py).call1(facts)
    }

    /// Calls the `pre_request` hook; what it raises is an error of this request.
    pub(crate) fn pre_request(&self, request: &Bound<'_, PyAny>) -> PyResult<()> {
        self.pre_request.as_ref().map_or(Ok(()), |hook| {
            hook.bind(request.py()).call1((request,)).map(drop)
        })
    }

    /// Writes the access record.
    pub(crate) fn log_access(&self, told: &Told<'_>) -> PyResult<()> {
        self.tell(self.log_access.as_ref(), told)
    }

    /// Writes a line of the access log from what it is made of.
    pub(crate) fn log_line(
        &self,
        py: Python<'_>,
        fields: Fields,
        environ: &Bound<'_, PyDict>,
        facts: &AnswerFacts<'_>,
    ) -> PyResult<()> {
        let Some(log_line) = &self.log_line else {
            return Ok(());
        };
        let (status, headers, sent, _, elapsed) = facts;
        let arguments = (fields, environ, status, headers, sent, elapsed);
        self.survive(py, log_line.call1(py, arguments))
    }

    /// Whether anything is logged of requests.
    pub(crate) fn logs_access(&self) -> bool {
        self.log_access.is_some()
    }

    /// Calls the `post_request` hook.
    pub(crate) fn post_request(&self, told: &Told<'_>) -> PyResult<()> {
        self.tell(self.post_request.as_ref(), told)
    }

    fn tell(&self, listener: Option<&Py<PyAny>>, told: &Told<'_>) -> PyResult<()> {
        let Some(listener) = listener else {
            return Ok(());
        };
        let py = told.request.py();
        let arguments = (&told.request, &told.environ, &told.response);
        self.survive(py, listener.call1(py, arguments))
    }

    /// A client was refused.
    pub(crate) fn rejected(&self, py: Python<'_>, peer: String, reason: String) -> PyResult<()> {
        self.survive(py, self.object.call_method1(py, "rejected", (peer, reason)))
    }

    /// The application failed.
    pub(crate) fn failed(&self, py: Python<'_>, error: &PyErr, head: &Head) -> PyResult<()> {
        let arguments = (
            // With its traceback, which a borrowed value does not have before Python 3.12.
            error.clone_ref(py).into_value(py),
            head.method().escape_ascii().to_string(),
            head.target().escape_ascii().to_string(),
        );
        self.survive(py, self.object.call_method1(py, "failed", arguments))
    }

    /// What the client is told of an error, where that is not the usual line.
    pub(crate) fn page(&self, py: Python<'_>, error: &PyErr) -> PyResult<Option<String>> {
        let Some(page) = &self.page else {
            return Ok(None);
        };
        let text = page.call1(py, (error.clone_ref(py).into_value(py),));
        match text.and_then(|text| text.extract(py)) {
            Ok(text) => Ok(Some(text)),
            Err(error) => self.survive::<()>(py, Err(error)).map(|()| None),
        }
    }

    /// So many requests had waited for too long.
    pub(crate) fn shed(&self, py: Python<'_>, count: u64) -> PyResult<()> {
        self.survive(py, self.object.call_method1(py, "shed", (count,)))
    }

    /// What the application does outside of a request has failed, on a thread of ours.
    pub(crate) fn failed_elsewhere(&self, py: Python<'_>, error: &PyErr, place: &str) {
        if let Err(error) = self.tell_elsewhere(py, error, place) {
            error.write_unraisable(py, None);
        }
    }

    /// A signal handler has raised, while nothing of the application ran: that is no reason to end
    /// what waits, unless it is meant as one.
    #[cold]
    pub(crate) fn handler_failed(&self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        if !error.is_instance_of::<PyException>(py) || self.exiting(py) {
            return Err(error);
        }
        self.survive(
            py,
            self.tell_elsewhere(py, &error, "Error in a signal handler"),
        )
    }

    fn tell_elsewhere(&self, py: Python<'_>, error: &PyErr, place: &str) -> PyResult<()> {
        let error = error.clone_ref(py).into_value(py);
        let told = self
            .object
            .call_method1(py, "failed_elsewhere", (error, place));
        told.map(drop)
    }

    /// Something hangs: greenlets that are suspended may be what it waits for.
    pub(crate) fn tell_greenlets(&self, py: Python<'_>) {
        if let Err(error) = self.object.call_method0(py, "tell_greenlets") {
            error.write_unraisable(py, None);
        }
    }

    pub(crate) fn warn(&self, py: Python<'_>, message: String) -> PyResult<()> {
        self.survive(py, self.object.call_method1(py, "warn", (message,)))
    }

    /// The last request before `max_requests` restarts the worker is being served; whether it may
    /// leave at once.
    pub(crate) fn spent(&self, py: Python<'_>) -> PyResult<bool> {
        self.ask(py, "spent", true)
    }

    /// A thread is stuck in the application: another one is to take its place. Whether it does.
    pub(crate) fn replace_thread(&self, py: Python<'_>) -> PyResult<bool> {
        self.ask(py, "replace_thread", false)
    }

    /// Too many threads are stuck: the worker is to leave; whether it may at once.
    pub(crate) fn overwhelmed(&self, py: Python<'_>) -> PyResult<bool> {
        self.ask(py, "overwhelmed", true)
    }

    /// What a method without arguments says, or, where it fails, `otherwise`.
    fn ask(&self, py: Python<'_>, method: &str, otherwise: bool) -> PyResult<bool> {
        let said = self.object.call_method0(py, method);
        match said.and_then(|said| said.extract(py)) {
            Ok(said) => Ok(said),
            Err(error) => self.survive::<()>(py, Err(error)).map(|()| otherwise),
        }
    }

    /// The worker accepts no more connections.
    pub(crate) fn draining(&self, py: Python<'_>) -> PyResult<()> {
        self.survive(py, self.object.call_method0(py, "draining"))
    }

    /// A log or a hook that fails must not end the worker; what ends it on purpose must.
    pub(crate) fn survive<T>(&self, py: Python<'_>, called: PyResult<T>) -> PyResult<()> {
        match called {
            Ok(_) => Ok(()),
            Err(error) if self.ends_worker(py, &error) => Err(error),
            Err(error) => {
                error.write_unraisable(py, None);
                Ok(())
            }
        }
    }

    /// Whether `error` is a signal handler's `SystemExit`, raised wherever Python code happened to
    /// run. A `SystemExit` of the application's own is an error like any other.
    pub(crate) fn ends_worker(&self, py: Python<'_>, error: &PyErr) -> bool {
        error.is_instance_of::<PySystemExit>(py) && self.exiting(py)
    }

    /// A child that the application forked has come back out of it.
    #[cold]
    pub(crate) fn forked(&self, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()> {
        let error = error.map(|error| error.value(py));
        self.object.call_method1(py, "forked", (error,)).map(drop)
    }

    /// Makes the socket object of an application that takes its connection over.
    pub(crate) fn take_over<'py>(
        &self,
        py: Python<'py>,
        descriptor: i32,
        leftover: Vec<u8>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let leftover = pyo3::types::PyBytes::new(py, &leftover);
        self.object
            .bind(py)
            .call_method1("take_over", (descriptor, leftover))
    }

    /// A real socket object over a duplicate of the connection, for looking only.
    pub(crate) fn observe<'py>(
        &self,
        py: Python<'py>,
        descriptor: i32,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.object.bind(py).call_method1("observe", (descriptor,))
    }

    /// What stands for `write`, where a greenlet waits for its client.
    pub(crate) fn green_write<'py>(
        &self,
        write: &Bound<'py, Write>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let face = self.object.bind(write.py());
        face.call_method1("green_write", (write,))
    }

    /// The response as the hooks and the access log see it.
    pub(crate) fn response<'py>(
        &self,
        py: Python<'py>,
        request: &Bound<'py, PyAny>,
        facts: AnswerFacts<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (status, headers, sent, head_has_left, elapsed) = facts;
        let arguments = (request, status, headers, sent, head_has_left, elapsed);
        self.object.bind(py).call_method1("response", arguments)
    }
}
