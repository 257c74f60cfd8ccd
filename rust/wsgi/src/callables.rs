//! What an application calls: `start_response`, `write` and `wsgi.early_hints`.

use std::sync::Arc;

use pyo3::exceptions::{PyAssertionError, PyConnectionResetError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::exchange::{Exchange, Refusal};
use crate::failure::Failure;
use crate::given::{bytes_block, hint_octets, native};

// None of these has weak references: who holds no other one can not come by one any more, which is
// what lets them be [used again](crate::objects).

/// `start_response` of PEP 3333.
#[pyclass(frozen, module = "meinheld_worker._core")]
pub struct StartResponse {
    exchange: Arc<Exchange>,
    /// A [`Write`], or what stands for it where greenlets wait.
    write: Py<PyAny>,
}

impl StartResponse {
    pub(crate) fn new(py: Python<'_>, exchange: &Arc<Exchange>) -> PyResult<Self> {
        let write = Write {
            exchange: Arc::clone(exchange),
        };
        let write = Bound::new(py, write)?;
        let gateway = &exchange.gateway;
        let write = match gateway.way.green() {
            Some(_) => gateway.face.green_write(&write)?,
            None => write.into_any(),
        };
        Ok(Self {
            exchange: Arc::clone(exchange),
            write: write.unbind(),
        })
    }

    /// What it returns.
    pub(crate) fn write(&self) -> &Py<PyAny> {
        &self.write
    }
}

#[pymethods]
impl StartResponse {
    /// `start_response(status, headers, exc_info=None)`; returns `write`.
    #[pyo3(signature = (status, headers, exc_info=None, /))]
    fn __call__(
        &self,
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        exc_info: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let py = status.py();
        self.exchange.gateway.end_forked_child(py, None)?;
        let exc_info = exc_info.filter(|given| !given.is_none());
        let blank = match (self.exchange.may_begin(exc_info.is_some()), exc_info) {
            (Err(Refusal::TooLate), Some(exc_info)) => {
                let error = PyErr::from_value(exc_info.get_item(1)?);
                let traceback = exc_info.get_item(2)?;
                error.set_traceback(py, traceback.cast_into().ok());
                return Err(error);
            }
            (Err(_), _) => {
                return Err(PyAssertionError::new_err(
                    "start_response() was called a second time, without exc_info",
                ));
            }
            (Ok(blank), _) => blank,
        };
        let status = native(status, "the status")?;
        match headers.cast::<PyList>() {
            Ok(list) => self.exchange.begin(blank, status, list)?,
            // Any other iterable is taken too, as gunicorn takes it.
            Err(_) => {
                let fields = headers.try_iter()?.collect::<PyResult<Vec<_>>>()?;
                let list = PyList::new(py, fields)?;
                self.exchange.begin(blank, status, &list)?;
            }
        }
        Ok(self.write.clone_ref(py))
    }
}

/// `wsgi.early_hints`: a 103 response (RFC 8297), where the client may get one.
#[pyclass(frozen, module = "meinheld_worker._core")]
pub struct EarlyHints {
    exchange: Arc<Exchange>,
}

impl EarlyHints {
    pub(crate) fn new(exchange: &Arc<Exchange>) -> Self {
        Self {
            exchange: Arc::clone(exchange),
        }
    }
}

#[pymethods]
impl EarlyHints {
    /// Raises `ValueError` for what is no header.
    #[pyo3(signature = (headers, /))]
    fn __call__(&self, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        self.exchange.gateway.end_forked_child(headers.py(), None)?;
        if !self.exchange.takes_hints() {
            return Ok(());
        }
        let mut fields = Vec::new();
        for field in headers.try_iter()? {
            let (name, value) = field?.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
            fields.push((hint_octets(&name)?, hint_octets(&value)?));
        }
        self.exchange.hint(&fields)
    }
}

/// `write(block)` of PEP 3333: returns once the kernel has accepted all of it, or, with `threads`,
/// all but 256 KiB.
#[pyclass(frozen, module = "meinheld_worker._core")]
pub struct Write {
    exchange: Arc<Exchange>,
}

#[pymethods]
impl Write {
    /// Raises `ConnectionResetError` when the client is gone.
    #[pyo3(signature = (block, /))]
    fn __call__(&self, py: Python<'_>, block: &Bound<'_, PyAny>) -> PyResult<()> {
        self.give(py, block)?;
        self.exchange.wait_for_room(py).map_err(raised)
    }

    /// Sends a block and does not wait.
    ///
    /// Raises as a call does.
    #[pyo3(signature = (block, /))]
    fn give(&self, py: Python<'_>, block: &Bound<'_, PyAny>) -> PyResult<()> {
        self.exchange.gateway.end_forked_child(py, None)?;
        let block = bytes_block(block)?;
        self.exchange.send(&block, false).map_err(raised)?;
        Ok(())
    }

    /// Whether the kernel has all that was given. If not, `party` comes out of the loop's next turns
    /// when it could: look again.
    ///
    /// Raises as a call does.
    #[pyo3(signature = (party, /))]
    fn has_room(&self, party: Py<PyAny>) -> PyResult<bool> {
        self.exchange.has_room(party).map_err(raised)
    }
}

fn raised(failure: Failure) -> PyErr {
    match failure {
        Failure::Raised(error) => error,
        Failure::Gone => PyConnectionResetError::new_err("the client has gone"),
        Failure::TakenOver => {
            PyConnectionResetError::new_err("the application has taken the socket over")
        }
        Failure::Misconfigured(reason) => PyOSError::new_err(reason),
    }
}
